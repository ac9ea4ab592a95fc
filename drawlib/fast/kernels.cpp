// What a step of DRAW or GLAS does between its products of matrices, and the way back.
//
// Equations are those of the DRAW paper (arXiv:1502.04623). Each kernel does one step t
// for all images. `kernels.py` writes LANES and `struct Loop`, which holds sizes and
// tensors, in front of this file; `native.py` calls the kernels, and makes the products
// between them.
//
// F is the precision of the state, L that of the products. A vector has LANES numbers:
// neighbours in a gate's row, or the same pixel of LANES images (a block), so that
// vectors are always full and no sum runs along one.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

template <class F>
struct Vectors;
template <>
struct Vectors<float> {
  typedef float V __attribute__((vector_size(LANES * sizeof(float))));
  typedef int32_t I __attribute__((vector_size(LANES * sizeof(int32_t))));
  static constexpr int MANTISSA = 23, TERMS = 7;
  static constexpr float LEAST = -87, MOST = 88, HALF = 43, MAGIC = 0x1.8p23f;
  static constexpr float LN2 = 0x1.62e4p-1f, LN2_REST = 0x1.7f7d1cp-20f;
};
template <>
struct Vectors<double> {
  typedef double V __attribute__((vector_size(LANES * sizeof(double)), aligned(64)));
  typedef int64_t I __attribute__((vector_size(LANES * sizeof(int64_t)), aligned(64)));
  static constexpr int MANTISSA = 52, TERMS = 13;
  static constexpr double LEAST = -708, MOST = 709, HALF = 354, MAGIC = 0x1.8p52;
  static constexpr double LN2 = 0x1.62e42feep-1, LN2_REST = 0x1.a39ef35793c76p-33;
};
template <class F>
using V = typename Vectors<F>::V;

// Loading and storing n ≤ LANES numbers; bfloat16 is the upper half of a float, rounded to
// the nearest, ties to even.

struct bf16 {
  uint16_t bits;
};
typedef uint16_t Half __attribute__((vector_size(LANES * sizeof(uint16_t))));
typedef uint32_t Word __attribute__((vector_size(LANES * sizeof(uint32_t))));

template <class T>
inline V<T> load(const T* from, int64_t n) {
  V<T> v = {};
  if (n == LANES)
    std::memcpy(&v, from, sizeof v);
  else
    std::memcpy(&v, from, n * sizeof(T));
  return v;
}
inline V<float> load(const bf16* from, int64_t n) {
  Half half = {};
  if (n == LANES)
    std::memcpy(&half, from, sizeof half);
  else
    std::memcpy(&half, from, n * sizeof(bf16));
  Word word = __builtin_convertvector(half, Word) << 16;
  V<float> v;
  std::memcpy(&v, &word, sizeof v);
  return v;
}
template <class T>
inline void store(T* to, V<T> v, int64_t n) {
  if (n == LANES)
    std::memcpy(to, &v, sizeof v);
  else
    std::memcpy(to, &v, n * sizeof(T));
}
inline void store(bf16* to, V<float> v, int64_t n) {
  Word word;
  std::memcpy(&word, &v, sizeof word);
  Word rounded = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
  rounded = v == v ? rounded : (Word{} + 0x7fc0);  // what is no number stays none
  Half half = __builtin_convertvector(rounded, Half);
  if (n == LANES)
    std::memcpy(to, &half, sizeof half);
  else
    std::memcpy(to, &half, n * sizeof(bf16));
}
template <class F>
inline void clear(V<F>* from, int64_t count) {
  std::memset(static_cast<void*>(from), 0, count * sizeof(V<F>));
}
template <class F>
inline F sum(V<F> v) {
  F total = 0;
  for (int64_t l = 0; l < LANES; l++) total += v[l];
  return total;
}
template <class F>
inline V<F> within(V<F> v, F least, F most) {
  v = v < least ? V<F>{} + least : v;
  return v > most ? V<F>{} + most : v;
}

constexpr double INVERSE[] = {  // 1 / k!
    1,           1,           1. / 2,        1. / 6,         1. / 24,
    1. / 120,    1. / 720,    1. / 5040,     1. / 40320,     1. / 362880,
    1. / 3628800, 1. / 39916800, 1. / 479001600, 1. / 6227020800};

// eˣ = 2ⁿ eʳ with |r| ≤ ln 2 / 2, and eʳ by its series. Adding 1.5 · 2²³ (2⁵²) rounds to
// whole numbers, and leaves n in the lowest bits.
template <class F>
inline V<F> exp(V<F> x, F most = Vectors<F>::MOST) {
  using N = Vectors<F>;
  x = within<F>(x, std::max(-most, N::LEAST), most);
  V<F> shifted = x * F(1.4426950408889634) + N::MAGIC, n = shifted - N::MAGIC;
  V<F> r = x - n * N::LN2 - n * N::LN2_REST;
  V<F> series = {};
  for (int k = N::TERMS; k >= 0; k--) series = series * r + F(INVERSE[k]);
  typename N::I power, bits;
  std::memcpy(&power, &shifted, sizeof power);
  std::memcpy(&bits, &series, sizeof bits);
  bits += power << N::MANTISSA;
  std::memcpy(&series, &bits, sizeof bits);
  return series;
}
template <class F>
inline V<F> sigmoid(V<F> x) {
  return 1 / (1 + exp<F>(-x));
}
template <class F>
inline V<F> tanh(V<F> x) {
  return 2 * sigmoid<F>(2 * x) - 1;
}
// Two logistic functions for one division; what they lose is below 1e-18.
template <class F>
inline void sigmoids(V<F>& a, V<F>& b) {
  V<F> da = 1 + exp<F>(-a, Vectors<F>::HALF), db = 1 + exp<F>(-b, Vectors<F>::HALF);
  V<F> both = 1 / (da * db);
  a = both * db;
  b = both * da;
}

// ---------------------------------------------------------------- the filters

template <class F>
V<F>* scratch(int which, int64_t size) {
  struct Freed {
    void* at = nullptr;
    int64_t size = 0;
    ~Freed() { std::free(at); }
  };
  thread_local Freed kept[12];
  Freed& mine = kept[which];
  int64_t bytes = size * sizeof(V<F>);
  if (mine.size < bytes) {
    std::free(mine.at);
    mine.at = std::aligned_alloc(128, (bytes + 127) / 128 * 128);
    mine.size = bytes;
  }
  return static_cast<V<F>*>(mine.at);
}

// The five numbers of 16 images, or what is to be added to them.
template <class F>
struct Raw {
  V<F> g_x, g_y, third, log_delta, log_gamma;
};
template <class F>
Raw<F> gather(const F* rows, int64_t stride, int64_t n) {
  V<F> v[5] = {};
  for (int64_t l = 0; l < n; l++)
    for (int k = 0; k < 5; k++) v[k][l] = rows[l * stride + k];
  return {v[0], v[1], v[2], v[3], v[4]};
}
template <class F, class T>
void scatter(T* rows, int64_t stride, int64_t n, const Raw<F>& raw) {
  const V<F> v[5] = {raw.g_x, raw.g_y, raw.third, raw.log_delta, raw.log_gamma};
  for (int k = 0; k < 5; k++) {
    T lanes[LANES];
    store(lanes, v[k], LANES);
    for (int64_t l = 0; l < n; l++) rows[l * stride + k] = lanes[l];
  }
}

struct Grid {
  int64_t height, width, patch;
  bool cauchy, legacy;
};

// F_X, F_Y of 16 images, eqs. (19) to (26); rows sum to one.
template <class F>
struct Window {
  Grid g;
  V<F>*f_x, *f_y, *mu_x, *mu_y;
  V<F> delta, precision, open, gamma;

  Window(const Raw<F>& raw, const Grid& grid, int where) : g(grid) {
    const int64_t N = g.patch, A = g.width, B = g.height;
    f_x = scratch<F>(where, N * (A + B) + 2 * N);
    f_y = f_x + N * A, mu_x = f_y + N * B, mu_y = mu_x + N;
    const F longest = std::max(A, B), gaps = std::max<int64_t>(N - 1, 1);
    const F first = (F(N) - 1) / 2 + (g.legacy ? 1 : 0);
    delta = (g.legacy ? longest - 1 / gaps : (longest - 1) / gaps) * exp<F>(raw.log_delta);
    const F zero = g.legacy ? F(1) : 0;  // the code counts pixels from 1
    V<F> c_x = (A + F(1)) / 2 * (raw.g_x + 1) - 1 + zero;
    V<F> c_y = (B + F(1)) / 2 * (raw.g_y + 1) - 1 + zero;
    const F least = g.cauchy ? F(1e-6) : F(1e-12);
    V<F> width = exp<F>(raw.third);
    open = width > least ? V<F>{} + 1 : V<F>{};
    precision = 1 / (width > least ? width : V<F>{} + least);
    gamma = exp<F>(raw.log_gamma);
    for (int64_t i = 0; i < N; i++) {
      mu_x[i] = c_x + (i - first) * delta;
      mu_y[i] = c_y + (i - first) * delta;
      row(f_x + i * A, mu_x[i], A);
      row(f_y + i * B, mu_y[i], B);
    }
  }

  // Relative to the pixel m nearest to μ, so that no row is 0/0.
  static V<F> nearest(V<F> mu, int64_t length) {
    V<F> m = within<F>(mu, 0, length - 1) + Vectors<F>::MAGIC;
    return m - Vectors<F>::MAGIC;
  }
  void row(V<F>* f, V<F> mu, int64_t length) const {
    V<F> m = nearest(mu, length), Z = {};
    V<F> peak = 1 + (m - mu) * (m - mu) * precision;
    for (int64_t k = 0; k < length; k++) {
      const F a = F(k);
      if (g.cauchy)
        f[k] = peak / (1 + (a - mu) * (a - mu) * precision);
      else  // (m − μ)² − (a − μ)², as a product
        f[k] = exp<F>((m - a) * (m + a - 2 * mu) * (precision / 2));
      Z += f[k];
    }
    for (int64_t k = 0; k < length; k++) f[k] /= Z;
  }

  // Of d, the gradient of the patch's number k, those of F_X and of the rows F_Y x are
  // added, and that of log γ is given.
  V<F> patch_back(V<F>* d_x, V<F>* d_rows, const V<F>* rows, int64_t k, V<F> d) const {
    const int64_t column = k % g.patch * g.width, line = k / g.patch * g.width;
    const V<F>*f = f_x + column, *row = rows + line;
    V<F>*d_f = d_x + column, *d_row = d_rows + line, patch = {};
    d *= gamma;
    for (int64_t a = 0; a < g.width; a++) {
      patch += f[a] * row[a];
      d_f[a] += d * row[a];
      d_row[a] += d * f[a];
    }
    return d * patch;
  }

  // Of gradients of the filters, those of the five numbers.
  Raw<F> back(const V<F>* d_x, const V<F>* d_y, V<F> d_log_gamma) const {
    Raw<F> d = {};
    d.log_gamma = d_log_gamma;
    const F first = (F(g.patch) - 1) / 2 + (g.legacy ? 1 : 0);
    for (int64_t i = 0; i < g.patch; i++) {
      V<F> x = row_back(d_x + i * g.width, f_x + i * g.width, mu_x[i], g.width, d.third);
      V<F> y = row_back(d_y + i * g.height, f_y + i * g.height, mu_y[i], g.height, d.third);
      d.g_x += x * ((g.width + F(1)) / 2);
      d.g_y += y * ((g.height + F(1)) / 2);
      d.log_delta += (x + y) * ((i - first) * delta);
    }
    d.third *= open;
    return d;
  }
  // Adds to the gradient of the width, gives that of μ. A row's gradients sum to zero,
  // so constants may be taken from what they are multiplied with: m for μ, 1 for 1 − q.
  V<F> row_back(const V<F>* d, const V<F>* f, V<F> mu, int64_t length, V<F>& third) const {
    V<F> m = nearest(mu, length), mean = {}, d_mu = {};
    for (int64_t k = 0; k < length; k++) mean += d[k] * f[k];
    for (int64_t k = 0; k < length; k++) {
      const F a = F(k);
      V<F> d_e = f[k] * (d[k] - mean);
      if (g.cauchy) {
        V<F> q = 1 / (1 + (a - mu) * (a - mu) * precision);
        d_mu += d_e * (a - mu) * q * (2 * precision);
        third -= d_e * q;
      } else {
        d_mu += d_e * (a - m) * precision;
        third -= d_e * (m - a) * (m + a - 2 * mu) * (precision / 2);
      }
    }
    return d_mu;
  }
};

// An image of which each of 16 images has its own pixels, and one that all share.
template <class F>
struct Own {
  const V<F>* pixels;
  V<F> operator[](int64_t p) const { return pixels[p]; }
};
template <class F>
struct Shared {
  const F* pixels;
  V<F> operator[](int64_t p) const { return V<F>{} + pixels[p]; }
};

// out[i, a] = Σ_b f[i, b] image[b, a] and out[i, b] = Σ_a f[i, a] image[b, a], K rows
// at a time, as many as stay in registers.
template <class F, int K, class Image>
void down(V<F>* out, const V<F>* f, Image image, int64_t B, int64_t A) {
  for (int64_t a = 0; a < A; a++) {
    V<F> total[K] = {};
    for (int64_t b = 0; b < B; b++) {
      V<F> pixel = image[b * A + a];
      for (int k = 0; k < K; k++) total[k] += f[k * B + b] * pixel;
    }
    for (int k = 0; k < K; k++) out[k * A + a] = total[k];
  }
}
template <class F, int K, class Image>
void along(V<F>* out, const V<F>* f, Image image, int64_t B, int64_t A) {
  for (int64_t b = 0; b < B; b++) {
    V<F> total[K] = {};
    for (int64_t a = 0; a < A; a++) {
      V<F> pixel = image[b * A + a];
      for (int k = 0; k < K; k++) total[k] += f[k * A + a] * pixel;
    }
    for (int k = 0; k < K; k++) out[k * B + b] += total[k];
  }
}
// image[b, a] = old[b, a] + Σ_i f[i, b] rows[i, a]
template <class F, int K>
void spread(V<F>* image, const V<F>* old, const V<F>* f, const V<F>* rows, int64_t B, int64_t A) {
  for (int64_t b = 0; b < B; b++) {
    V<F> each[K];
    for (int k = 0; k < K; k++) each[k] = f[k * B + b];
    for (int64_t a = 0; a < A; a++) {
      V<F> total = old[b * A + a];
      for (int k = 0; k < K; k++) total += each[k] * rows[k * A + a];
      image[b * A + a] = total;
    }
  }
}
template <class F>
void spread_all(V<F>* image, const V<F>* old, const V<F>* f, const V<F>* rows, int64_t N,
                int64_t B, int64_t A) {
  for (; N >= 5; N -= 5, f += 5 * B, rows += 5 * A, old = image)
    spread<F, 5>(image, old, f, rows, B, A);
  if (N == 4) spread<F, 4>(image, old, f, rows, B, A);
  if (N == 3) spread<F, 3>(image, old, f, rows, B, A);
  if (N == 2) spread<F, 2>(image, old, f, rows, B, A);
  if (N == 1) spread<F, 1>(image, old, f, rows, B, A);
}
template <class F, class Image>
void down_all(V<F>* out, const V<F>* f, Image image, int64_t N, int64_t B, int64_t A) {
  for (; N >= 5; N -= 5, out += 5 * A, f += 5 * B) down<F, 5>(out, f, image, B, A);
  if (N == 4) down<F, 4>(out, f, image, B, A);
  if (N == 3) down<F, 3>(out, f, image, B, A);
  if (N == 2) down<F, 2>(out, f, image, B, A);
  if (N == 1) down<F, 1>(out, f, image, B, A);
}
template <class F, class Image>
void along_all(V<F>* out, const V<F>* f, Image image, int64_t N, int64_t B, int64_t A) {
  for (; N >= 5; N -= 5, out += 5 * B, f += 5 * A) along<F, 5>(out, f, image, B, A);
  if (N == 4) along<F, 4>(out, f, image, B, A);
  if (N == 3) along<F, 3>(out, f, image, B, A);
  if (N == 2) along<F, 2>(out, f, image, B, A);
  if (N == 1) along<F, 1>(out, f, image, B, A);
}
// a[i] · b[k] for rows of A numbers.
template <class F>
V<F> dot(const V<F>* a, const V<F>* b, int64_t A) {
  V<F> total = {};
  for (int64_t k = 0; k < A; k++) total += a[k] * b[k];
  return total;
}

// ---------------------------------------------------------------- the mean of D(X|c)

// σ(c), or the softmax over channels of letters; `inner` numbers per channel.
template <class F>
void mean_of(V<F>* mean, const V<F>* canvas, int64_t channels, int64_t inner, bool letters) {
  if (!letters) {
    for (int64_t p = 0; p < channels * inner; p++) mean[p] = sigmoid<F>(canvas[p]);
    return;
  }
  for (int64_t p = 0; p < inner; p++) {
    V<F> top = canvas[p], total = {};
    for (int64_t c = 1; c < channels; c++) {
      V<F> other = canvas[c * inner + p];
      top = other > top ? other : top;
    }
    for (int64_t c = 0; c < channels; c++)
      total += mean[c * inner + p] = exp<F>(canvas[c * inner + p] - top);
    for (int64_t c = 0; c < channels; c++) mean[c * inner + p] /= total;
  }
}
template <class F>
void mean_back(V<F>* d_canvas, const V<F>* d, const V<F>* mean, int64_t channels, int64_t inner,
               bool letters) {
  if (!letters) {
    for (int64_t p = 0; p < channels * inner; p++)
      d_canvas[p] += d[p] * mean[p] * (1 - mean[p]);
    return;
  }
  for (int64_t p = 0; p < inner; p++) {
    V<F> total = {};
    for (int64_t c = 0; c < channels; c++) total += d[c * inner + p] * mean[c * inner + p];
    for (int64_t c = 0; c < channels; c++)
      d_canvas[c * inner + p] += mean[c * inner + p] * (d[c * inner + p] - total);
  }
}

// ---------------------------------------------------------------- the step

template <class F, class L>
struct Step {
  const Loop& p;
  int64_t t;
  const int64_t n = p.images, h = p.hidden, z = p.z;
  const int64_t pixels = p.height * p.width, numbers = p.channels * pixels;
  const int64_t blocks = (n + LANES - 1) / LANES, spot = p.channels * p.write * p.write;
  const int64_t seen = p.attention ? 2 * p.channels * p.read * p.read : numbers;
  const int64_t drawn = p.attention ? 5 + spot : numbers;
  const int64_t in_e = seen + 2 * h, in_d = z + h;
  // What h_dec says of the next step: the window that reads, and the prior.
  const int64_t heads = (p.attention ? 5 : 0) + (p.learned ? 2 * z : 0);
  const int64_t kept = p.attention ? drawn + heads : heads;  // of the heads' numbers

  Step(const Loop& loop, int64_t step) : p(loop), t(step) {}

  template <class T>
  static T* at(void* tensor, int64_t slot, int64_t size) {
    return static_cast<T*>(tensor) + slot * size;
  }
  int64_t now() const { return t % p.slots; }
  int64_t next() const { return (t + 1) % p.slots; }
  int64_t some() const { return (p.first + t) % p.deltas; }
  // The canvas lies in blocks of 16 images with attention, else image by image.
  int64_t canvas_size() const { return p.attention ? blocks * LANES * numbers : n * numbers; }
  V<F>* block_of(void* tensor, int64_t slot, int64_t b) const {
    return reinterpret_cast<V<F>*>(at<F>(tensor, slot, canvas_size()) + b * LANES * numbers);
  }
  F* canvas(int64_t which) const {
    return at<F>(p.canvas, (p.canvas_first + which) % p.canvases, canvas_size());
  }
  F* said(int64_t slot) const { return at<F>(p.said, slot, n * kept); }
  const F* window_numbers(int64_t slot) const { return said(slot) + drawn; }
  const F* prior_of(int64_t i) const {
    return p.learned ? said(now()) + (i + 1) * kept - 2 * z : nullptr;
  }
  int64_t lanes_of(int64_t b) const { return std::min(LANES, n - b * LANES); }
  Grid reading() const { return {p.height, p.width, p.read, p.attention == 2, false}; }
  Grid writing() const { return {p.height, p.width, p.write, p.attention == 2, false}; }
  Grid latent() const { return {p.M, p.M, p.N, p.latent == 2, p.legacy != 0}; }

  template <class Body>
  void each(int64_t count, Body body) const {
#pragma omp parallel for num_threads(p.threads) if (p.threads > 1) schedule(static)
    for (int64_t i = 0; i < count; i++) body(i);
  }

  // An LSTM after its product y, for one image; h goes to several places.
  void gates(const L* y, const F* rows, const F* c, F* c_new, L* kept, F* exact, L* to[3]) const {
    for (int64_t j = 0; j < h; j += LANES) {
      const int64_t m = std::min(LANES, h - j);
      V<F> i = load(y + j, m) + load(rows + j, m);
      V<F> f = load(y + h + j, m) + load(rows + h + j, m);
      V<F> g = load(y + 2 * h + j, m) + load(rows + 2 * h + j, m);
      V<F> o = load(y + 3 * h + j, m) + load(rows + 3 * h + j, m);
      g *= 2;
      sigmoids<F>(i, g);
      sigmoids<F>(f, o);
      g = 2 * g - 1;
      V<F> now = f * load(c + j, m) + i * g;
      V<F> out = o * tanh<F>(now);
      store(c_new + j, now, m);
      if (kept) {
        store(kept + j, i, m);
        store(kept + h + j, f, m);
        store(kept + 2 * h + j, g, m);
        store(kept + 3 * h + j, o, m);
      }
      if (exact) store(exact + j, out, m);
      for (int k = 0; k < 3; k++)
        if (to[k]) store(to[k] + j, out, m);
    }
  }
  void gates_back(const L* from[3], F* d_c, const L* kept, const F* c, const F* c_new,
                  L* delta) const {
    for (int64_t j = 0; j < h; j += LANES) {
      const int64_t m = std::min(LANES, h - j);
      V<F> d_h = {};
      for (int k = 0; k < 3; k++)
        if (from[k]) d_h += load(from[k] + j, m);
      V<F> i = load(kept + j, m), f = load(kept + h + j, m);
      V<F> g = load(kept + 2 * h + j, m), o = load(kept + 3 * h + j, m);
      V<F> squashed = tanh<F>(load(c_new + j, m));
      V<F> d = load(d_c + j, m) + d_h * o * (1 - squashed * squashed);
      store(delta + j, d * g * i * (1 - i), m);
      store(delta + h + j, d * load(c + j, m) * f * (1 - f), m);
      store(delta + 2 * h + j, d * i * (1 - g * g), m);
      store(delta + 3 * h + j, d_h * squashed * o * (1 - o), m);
      store(d_c + j, d * f, m);
    }
  }

  // r_t, eqs. (3), (4), (27): of x, and of x̂ = x − σ(c), which is linear in both.
  void look() const {
    if (!p.attention) return look_at_all();
    each(blocks, [&](int64_t b) {
      const int64_t N = p.read, A = p.width, many = lanes_of(b);
      Window<F> w(gather(window_numbers(now()) + b * LANES * kept, kept, many), reading(), 0);
      V<F>*mean = scratch<F>(1, numbers), *rows = scratch<F>(2, N * A);
      V<F>* r = scratch<F>(3, seen);
      mean_of<F>(mean, reinterpret_cast<V<F>*>(canvas(t) + b * LANES * numbers), p.channels,
                 pixels, p.letters);
      const V<F>* x = block_of(p.x, 0, b);
      for (int64_t c = 0; c < p.channels; c++)
        for (int second = 0; second < 2; second++) {
          Own<F> image{(second ? mean : x) + c * pixels};
          down_all<F>(rows, w.f_y, image, N, p.height, A);
          for (int64_t k = 0; k < N * N; k++) {
            V<F> patch = w.gamma * dot<F>(rows + k / N * A, w.f_x + k % N * A, A);
            if (second)
              r[seen / 2 + c * N * N + k] = r[c * N * N + k] - patch;
            else
              r[c * N * N + k] = patch;
          }
        }
      L* u = at<L>(p.u_e, now(), n * in_e) + b * LANES * in_e;
      for (int64_t k = 0; k < seen; k++) {
        L lanes[LANES];
        store(lanes, r[k], LANES);
        for (int64_t l = 0; l < many; l++) u[l * in_e + k] = lanes[l];
      }
    });
  }
  void look_back() const {
    if (!p.attention) return look_at_all_back();
    each(blocks, [&](int64_t b) {
      const int64_t N = p.read, A = p.width, B = p.height, many = lanes_of(b);
      Window<F> w(gather(window_numbers(now()) + b * LANES * kept, kept, many), reading(), 0);
      V<F>*mean = scratch<F>(1, numbers), *d_mean = scratch<F>(4, numbers);
      mean_of<F>(mean, reinterpret_cast<V<F>*>(canvas(t) + b * LANES * numbers), p.channels,
                 pixels, p.letters);
      V<F>* r = scratch<F>(3, seen);
      const L* u = static_cast<L*>(p.d_u_e) + b * LANES * in_e;
      for (int64_t k = 0; k < seen; k++) {
        L lanes[LANES] = {};
        for (int64_t l = 0; l < many; l++) lanes[l] = u[l * in_e + k];
        r[k] = load(lanes, LANES);
      }
      V<F>*rows = scratch<F>(2, N * A), *d_rows = scratch<F>(5, N * A);
      V<F>*d_x = scratch<F>(6, N * (A + B)), *d_y = d_x + N * A, d_gamma = {};
      clear<F>(d_x, N * (A + B));
      const V<F>* x = block_of(p.x, 0, b);
      for (int64_t c = 0; c < p.channels; c++)
        for (int second = 0; second < 2; second++) {
          Own<F> image{(second ? mean : x) + c * pixels};
          const V<F>*d_1 = r + c * N * N, *d_2 = d_1 + seen / 2;
          down_all<F>(rows, w.f_y, image, N, B, A);
          clear<F>(d_rows, N * A);
          for (int64_t k = 0; k < N * N; k++)
            d_gamma += w.patch_back(d_x, d_rows, rows, k, second ? -d_2[k] : d_1[k] + d_2[k]);
          along_all<F>(d_y, d_rows, image, N, B, A);
          if (second) {
            V<F>* d = d_mean + c * pixels;
            clear<F>(d, pixels);
            spread_all<F>(d, d, w.f_y, d_rows, N, B, A);
          }
        }
      V<F>* d_canvas = reinterpret_cast<V<F>*>(static_cast<F*>(p.d_canvas) + b * LANES * numbers);
      mean_back<F>(d_canvas, d_mean, mean, p.channels, pixels, p.letters);
      F* d_said = static_cast<F*>(p.d_ahead) + b * LANES * heads;
      scatter(d_said, heads, many, w.back(d_x, d_y, d_gamma));
    });
  }
  // Without attention: −σ(c), since what x gives is in the encoder's rows.
  void look_at_all() const {
    each(n, [&](int64_t i) {
      const F* c = canvas(t) + i * numbers;
      L* u = at<L>(p.u_e, now(), n * in_e) + i * in_e;
      flat(c, [&](int64_t k, int64_t m, V<F> mean) { store(u + k, -mean, m); });
    });
  }
  void look_at_all_back() const {
    each(n, [&](int64_t i) {
      const F* c = canvas(t) + i * numbers;
      const L* d = static_cast<L*>(p.d_u_e) + i * in_e;
      F* d_c = static_cast<F*>(p.d_canvas) + i * numbers;
      if (p.letters) return letters_back(c, d, d_c);
      flat(c, [&](int64_t k, int64_t m, V<F> mean) {
        store(d_c + k, load(d_c + k, m) - load(d + k, m) * mean * (1 - mean), m);
      });
    });
  }
  template <class Body>
  void flat(const F* c, Body body) const {
    if (p.letters) {
      V<F>*logits = scratch<F>(1, numbers), *mean = scratch<F>(2, numbers);
      for (int64_t k = 0; k < numbers; k++) logits[k] = V<F>{} + c[k];
      mean_of<F>(mean, logits, p.channels, pixels, true);
      for (int64_t k = 0; k < numbers; k++) body(k, 1, mean[k]);
      return;
    }
    for (int64_t k = 0; k < numbers; k += LANES) {
      const int64_t m = std::min(LANES, numbers - k);
      body(k, m, sigmoid<F>(load(c + k, m)));
    }
  }
  void letters_back(const F* c, const L* d, F* d_c) const {
    V<F>*wide = scratch<F>(3, numbers), *d_wide = scratch<F>(4, numbers);
    V<F>* mean = scratch<F>(5, numbers);
    flat(c, [&](int64_t k, int64_t, V<F> each) {
      mean[k] = each;
      wide[k] = -(V<F>{} + load(d + k, 1)[0]);
      d_wide[k] = V<F>{};
    });
    mean_back<F>(d_wide, wide, mean, p.channels, pixels, true);
    for (int64_t k = 0; k < numbers; k++) d_c[k] += d_wide[k][0];
  }

  // h_enc_t, eq. (5).
  void encode() const {
    each(n, [&](int64_t i) {
      L* u = at<L>(p.u_e, next(), n * in_e) + i * in_e + seen + h;
      L* last = p.latent ? at<L>(p.u_l, now(), n * h) + i * h : at<L>(p.u_q, now(), n * h) + i * h;
      L* to[3] = {u, last, nullptr};
      F* exact = p.latent ? static_cast<F*>(p.exact) + i * h : nullptr;
      gates(static_cast<L*>(p.y) + i * 4 * h, static_cast<F*>(p.b_e) + i * p.own_rows * 4 * h,
            at<F>(p.c_e, now(), n * h) + i * h, at<F>(p.c_e, next(), n * h) + i * h,
            p.g_e ? at<L>(p.g_e, now(), 4 * n * h) + i * 4 * h : nullptr, exact, to);
    });
  }
  void encode_back() const {
    each(n, [&](int64_t i) {
      const L* from[3] = {static_cast<L*>(p.latent ? p.d_u_l : p.d_u_q) + i * h,
                          static_cast<L*>(p.d_u_e) + i * in_e + seen + h, nullptr};
      gates_back(from, static_cast<F*>(p.d_c_e) + i * h, at<L>(p.g_e, now(), 4 * n * h) + i * 4 * h,
                 at<F>(p.c_e, now(), n * h) + i * h, at<F>(p.c_e, next(), n * h) + i * h,
                 at<L>(p.delta_e, some(), 4 * n * h) + i * 4 * h);
    });
  }

  // GLAS: a_t = γ vec(F_Y L F_Xᵀ), the window from five numbers of h_enc_t.
  void attend() const {
    const int64_t N = p.N, M = p.M;
    each(blocks, [&](int64_t b) {
      const int64_t many = lanes_of(b);
      F* raw = at<F>(p.raw, now(), n * 5) + b * LANES * 5;
      for (int64_t l = 0; l < many; l++)
        for (int k = 0; k < 5; k++) raw[l * 5 + k] += static_cast<F*>(p.b_l)[k];
      Window<F> w(gather(raw, 5, many), latent(), 0);
      V<F>* rows = scratch<F>(2, N * M);
      down_all<F>(rows, w.f_y, Shared<F>{static_cast<F*>(p.L)}, N, M, M);
      L* u = at<L>(p.u_q, now(), n * N * N) + b * LANES * N * N;
      for (int64_t k = 0; k < N * N; k++) {
        L lanes[LANES];
        store(lanes, w.gamma * dot<F>(rows + k / N * M, w.f_x + k % N * M, M), LANES);
        for (int64_t l = 0; l < many; l++) u[l * N * N + k] = lanes[l];
      }
    });
  }
  void attend_back() const {
    const int64_t N = p.N, M = p.M, share = (blocks + p.threads - 1) / p.threads;
    each(p.threads, [&](int64_t thread) {
      V<F>* d_L = static_cast<V<F>*>(p.d_L) + thread * M * M;
      const int64_t last = std::min(blocks, (thread + 1) * share);
      for (int64_t b = thread * share; b < last; b++) {
        const int64_t many = lanes_of(b);
        const F* raw = at<F>(p.raw, now(), n * 5) + b * LANES * 5;
        Window<F> w(gather(raw, 5, many), latent(), 0);
        Shared<F> image{static_cast<F*>(p.L)};
        V<F>*rows = scratch<F>(2, N * M), *d_rows = scratch<F>(5, N * M);
        V<F>*d_x = scratch<F>(6, 2 * N * M), *d_y = d_x + N * M, d_gamma = {};
        clear<F>(d_x, 2 * N * M);
        clear<F>(d_rows, N * M);
        down_all<F>(rows, w.f_y, image, N, M, M);
        const L* u = static_cast<L*>(p.d_u_q) + b * LANES * N * N;
        for (int64_t k = 0; k < N * N; k++) {
          L lanes[LANES] = {};
          for (int64_t l = 0; l < many; l++) lanes[l] = u[l * N * N + k];
          d_gamma += w.patch_back(d_x, d_rows, rows, k, load(lanes, LANES));
        }
        along_all<F>(d_y, d_rows, image, N, M, M);
        for (int64_t i = 0; i < N; i++)
          for (int64_t y = 0; y < M; y++)
            for (int64_t x = 0; x < M; x++)
              d_L[y * M + x] += w.f_y[i * M + y] * d_rows[i * M + x];
        L* delta = at<L>(p.delta_l, some(), n * 5) + b * LANES * 5;
        scatter(delta, 5, many, w.back(d_x, d_y, d_gamma));
      }
    });
  }

  // z_t, eq. (6), and its nats, eq. (11); at z = μ + σ ε the form of log q is ε² / 2.
  void sample() const {
    each(n, [&](int64_t i) {
      const L* y = static_cast<L*>(p.y_q) + i * 2 * z;
      const F *b = static_cast<F*>(p.b_q), *eps = at<F>(p.eps, p.first + t, n * z) + i * z;
      F* q = at<F>(p.q, now(), 2 * n * z) + i * 2 * z;
      L* u = at<L>(p.u_d, now(), n * in_d) + i * in_d;
      const F* prior = prior_of(i);
      V<F> nats = {}, ratio = {};
      for (int64_t j = 0; j < z; j += LANES) {
        const int64_t m = std::min(LANES, z - j);
        V<F> mu = load(y + j, m) + load(b + j, m);
        V<F> log_sigma = load(y + z + j, m) + load(b + z + j, m);
        store(q + j, mu, m);
        store(q + z + j, log_sigma, m);
        V<F> sigma = exp<F>(log_sigma), e = load(eps + j, m), drawn = mu + sigma * e;
        store(u + j, drawn, m);
        V<F> gap = log_sigma, far = mu, wide = sigma, off = drawn;
        if (p.learned) {
          V<F> mu_p = load(prior + j, m), log_p = load(prior + z + j, m);
          V<F> narrow = exp<F>(-log_p);
          gap -= log_p, far = (mu - mu_p) * narrow;
          wide = sigma * narrow, off = (drawn - mu_p) * narrow;
        }
        V<F> kl = (wide * wide - 2 * gap - 1 + far * far) / 2;
        V<F> log_ratio = (e * e - off * off) / 2 + gap;
        nats += kl, ratio += log_ratio;
      }
      at<F>(p.kl, p.first + t, n)[i] = sum<F>(nats);
      at<F>(p.log_ratio, p.first + t, n)[i] = sum<F>(ratio);
    });
  }
  void sample_back() const {
    each(n, [&](int64_t i) {
      const F *q = at<F>(p.q, now(), 2 * n * z) + i * 2 * z;
      const F* eps = at<F>(p.eps, p.first + t, n * z) + i * z;
      const F* prior = prior_of(i);
      const L* d_u = static_cast<L*>(p.d_u_d) + i * in_d;
      const F g_kl = at<F>(p.d_kl, p.first + t, n)[i];
      const F g_ratio = at<F>(p.d_log_ratio, p.first + t, n)[i];
      L* delta = at<L>(p.delta_q, some(), 2 * n * z) + i * 2 * z;
      F* d_prior = p.learned ? static_cast<F*>(p.d_ahead) + (i + 1) * heads - 2 * z : nullptr;
      for (int64_t j = 0; j < z; j += LANES) {
        const int64_t m = std::min(LANES, z - j);
        V<F> mu = load(q + j, m), log_sigma = load(q + z + j, m), e = load(eps + j, m);
        V<F> sigma = exp<F>(log_sigma), off = mu + sigma * e, far = mu, wide = sigma;
        V<F> narrow = V<F>{} + 1;
        if (p.learned) {
          V<F> mu_p = load(prior + j, m);
          narrow = exp<F>(-load(prior + z + j, m));
          far = (mu - mu_p) * narrow, off = (off - mu_p) * narrow, wide = sigma * narrow;
          store(d_prior + j, (g_ratio * off - g_kl * far) * narrow, m);
          V<F> d_log_p = g_kl * (1 - wide * wide - far * far) + g_ratio * (off * off - 1);
          store(d_prior + z + j, d_log_p, m);
        }
        V<F> d_z = load(d_u + j, m) - g_ratio * off * narrow;
        store(delta + j, d_z + g_kl * far * narrow, m);
        store(delta + z + j, d_z * sigma * e + g_kl * (wide * wide - 1) + g_ratio, m);
        if (p.d_eps)
          store(at<F>(p.d_eps, p.first + t, n * z) + i * z + j, d_z * sigma + g_ratio * e, m);
      }
    });
  }
  // In a generation z_t comes from the prior, eq. (13).
  void dream() const {
    each(n, [&](int64_t i) {
      const F *eps = at<F>(p.eps, p.first + t, n * z) + i * z;
      const F* prior = prior_of(i);
      L* u = at<L>(p.u_d, now(), n * in_d) + i * in_d;
      for (int64_t j = 0; j < z; j += LANES) {
        const int64_t m = std::min(LANES, z - j);
        V<F> drawn = load(eps + j, m);
        if (p.learned)
          drawn = load(prior + j, m) + exp<F>(load(prior + z + j, m)) * drawn;
        store(u + j, drawn, m);
      }
    });
  }

  // h_dec_t, eq. (7).
  void decode() const {
    each(n, [&](int64_t i) {
      L* to[3] = {at<L>(p.u_h, now(), n * h) + i * h,
                  at<L>(p.u_d, next(), n * in_d) + i * in_d + z,
                  p.u_e ? at<L>(p.u_e, next(), n * in_e) + i * in_e + seen : nullptr};
      F* exact = p.attention ? static_cast<F*>(p.exact) + i * h : nullptr;
      gates(static_cast<L*>(p.y) + i * 4 * h, static_cast<F*>(p.b_d),
            at<F>(p.c_d, now(), n * h) + i * h, at<F>(p.c_d, next(), n * h) + i * h,
            p.g_d ? at<L>(p.g_d, now(), 4 * n * h) + i * 4 * h : nullptr, exact, to);
    });
  }
  void decode_back() const {
    each(n, [&](int64_t i) {
      const L* from[3] = {static_cast<L*>(p.d_u_h) + i * h,
                          static_cast<L*>(p.d_u_d) + i * in_d + z,
                          static_cast<L*>(p.d_u_e) + i * in_e + seen};
      gates_back(from, static_cast<F*>(p.d_c_d) + i * h, at<L>(p.g_d, now(), 4 * n * h) + i * 4 * h,
                 at<F>(p.c_d, now(), n * h) + i * h, at<F>(p.c_d, next(), n * h) + i * h,
                 at<L>(p.delta_d, some(), 4 * n * h) + i * 4 * h);
    });
  }

  // c_t, eqs. (8), (18), (29), of all that is affine in h_dec_t.
  void draw() const {
    if (!p.attention) return draw_all();
    const int64_t N = p.write, A = p.width, B = p.height;
    each(blocks, [&](int64_t b) {
      const int64_t many = lanes_of(b);
      const F* y = static_cast<F*>(p.y_h) + b * LANES * kept;
      F* s = said(next()) + b * LANES * kept;
      for (int64_t l = 0; l < many; l++)
        for (int64_t k = 0; k < kept; k += LANES) {
          const int64_t m = std::min(LANES, kept - k);
          store(s + l * kept + k,
                load(y + l * kept + k, m) + load(static_cast<F*>(p.b_h) + k, m), m);
        }
      Window<F> w(gather(s, kept, many), writing(), 0);
      V<F>* rows = scratch<F>(2, N * A);
      const V<F>* old = reinterpret_cast<V<F>*>(canvas(t) + b * LANES * numbers);
      V<F>* fresh = reinterpret_cast<V<F>*>(canvas(t + 1) + b * LANES * numbers);
      for (int64_t c = 0; c < p.channels; c++, old += pixels, fresh += pixels) {
        patch_rows(rows, s + 5 + c * N * N, w, many);
        spread_all<F>(fresh, old, w.f_y, rows, N, B, A);
      }
    });
  }
  // (1/γ) w F_X of one channel.
  void patch_rows(V<F>* rows, const F* s, const Window<F>& w, int64_t many) const {
    const int64_t N = p.write, A = p.width;
    clear<F>(rows, N * A);
    for (int64_t k = 0; k < N * N; k++) {
      V<F> each = column(s + k, many) / w.gamma;
      for (int64_t a = 0; a < A; a++) rows[k / N * A + a] += each * w.f_x[k % N * A + a];
    }
  }
  V<F> column(const F* s, int64_t many) const {
    V<F> v = {};
    for (int64_t l = 0; l < many; l++) v[l] = s[l * kept];
    return v;
  }
  void draw_back() const {
    if (!p.attention) return draw_all_back();
    const int64_t N = p.write, A = p.width, B = p.height;
    each(blocks, [&](int64_t b) {
      const int64_t many = lanes_of(b);
      const F* s = said(next()) + b * LANES * kept;
      Window<F> w(gather(s, kept, many), writing(), 0);
      V<F>*rows = scratch<F>(2, N * A), *sums = scratch<F>(3, N * A);
      V<F>*d_x = scratch<F>(6, N * (A + B)), *d_y = d_x + N * A, d_gamma = {};
      clear<F>(d_x, N * (A + B));
      L* delta = at<L>(p.delta_h, some(), n * kept) + b * LANES * kept;
      const V<F>* d_c = reinterpret_cast<V<F>*>(static_cast<F*>(p.d_canvas) + b * LANES * numbers);
      for (int64_t c = 0; c < p.channels; c++, d_c += pixels) {
        const F* patch = s + 5 + c * N * N;
        patch_rows(rows, patch, w, many);
        down_all<F>(sums, w.f_y, Own<F>{d_c}, N, B, A);
        along_all<F>(d_y, rows, Own<F>{d_c}, N, B, A);
        for (int64_t k = 0; k < N * N; k++) {
          V<F> each = column(patch + k, many) / w.gamma;
          const V<F>*f = w.f_x + k % N * A, *total = sums + k / N * A;
          V<F>*d_f = d_x + k % N * A, d = {};
          for (int64_t a = 0; a < A; a++) {
            d += total[a] * f[a];
            d_f[a] += each * total[a];
          }
          d_gamma -= each * d;
          L lanes[LANES];
          store(lanes, d / w.gamma, LANES);
          for (int64_t l = 0; l < many; l++) delta[l * kept + 5 + c * N * N + k] = lanes[l];
        }
      }
      scatter(delta, kept, many, w.back(d_x, d_y, d_gamma));
      const F* d_ahead = static_cast<F*>(p.d_ahead) + b * LANES * heads;
      for (int64_t l = 0; l < many; l++) copy(delta + l * kept + drawn, d_ahead + l * heads, heads);
    });
  }
  void copy(L* to, const F* from, int64_t count) const {
    for (int64_t k = 0; k < count; k += LANES) {
      const int64_t m = std::min(LANES, count - k);
      store(to + k, load(from + k, m), m);
    }
  }
  void draw_all() const {
    each(n, [&](int64_t i) {
      const L* y = static_cast<L*>(p.y_h) + i * (numbers + heads);
      const F *b = static_cast<F*>(p.b_h), *old = canvas(t) + i * numbers;
      F *fresh = canvas(t + 1) + i * numbers, *s = said(next()) + i * kept;
      for (int64_t k = 0; k < numbers; k += LANES) {
        const int64_t m = std::min(LANES, numbers - k);
        store(fresh + k, load(old + k, m) + load(y + k, m) + load(b + k, m), m);
      }
      for (int64_t k = 0; k < heads; k += LANES) {
        const int64_t m = std::min(LANES, heads - k);
        store(s + k, load(y + numbers + k, m) + load(b + numbers + k, m), m);
      }
    });
  }
  void draw_all_back() const {
    each(n, [&](int64_t i) {
      L* delta = at<L>(p.delta_h, some(), n * (numbers + heads)) + i * (numbers + heads);
      copy(delta, static_cast<F*>(p.d_canvas) + i * numbers, numbers);
      copy(delta + numbers, static_cast<F*>(p.d_ahead) + i * heads, heads);
    });
  }
};

#define KERNEL(name)                                                            \
  extern "C" void name##_f(const Loop* p, int64_t t) { Step<float, float>(*p, t).name(); }  \
  extern "C" void name##_b(const Loop* p, int64_t t) { Step<float, bf16>(*p, t).name(); }   \
  extern "C" void name##_d(const Loop* p, int64_t t) { Step<double, double>(*p, t).name(); }
KERNEL(look)
KERNEL(encode)
KERNEL(attend)
KERNEL(sample)
KERNEL(dream)
KERNEL(decode)
KERNEL(draw)
KERNEL(look_back)
KERNEL(encode_back)
KERNEL(attend_back)
KERNEL(sample_back)
KERNEL(decode_back)
KERNEL(draw_back)
