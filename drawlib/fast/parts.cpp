// What a step of DRAW does between its matrix products, forwards and backwards.
//
// drawlib.fastparts compiles this file at first use, once for each pair of
//   real   the numbers that are added up: float or double,
//   low    the numbers that products read and write: bf16, or real itself.
// A vector V holds 16 neighbours of one image, or the same number of 16 images; the
// images of attention lie 16 side by side, so that no sum runs along a vector. Equations
// are those of the DRAW paper. A null pointer stands for what a step does not have.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

typedef std::int64_t Int;
typedef REAL real;
constexpr Int LANES = 16;
#define VECTOR(type) __attribute__((vector_size(LANES * sizeof(type)), may_alias))
typedef real V VECTOR(real);
typedef std::vector<V> Vs;

// Vectors of fewer than 16 numbers are filled up with zeros.

static V load(const real* from, Int count = LANES) {
    V v = {};
    if (count >= LANES) std::memcpy(&v, from, sizeof v);
    else std::memcpy(&v, from, count * sizeof *from);
    return v;
}

static void store(real* to, V v, Int count = LANES) {
    if (count >= LANES) std::memcpy(to, &v, sizeof v);
    else std::memcpy(to, &v, count * sizeof *to);
}

#ifdef BF16
struct low { std::uint16_t upper; };  // the upper half of a float
typedef std::uint16_t Halves VECTOR(std::uint16_t);
typedef std::uint32_t Bits VECTOR(std::uint32_t);

static V load(const low* from, Int count = LANES) {
    Halves halves = {};
    if (count >= LANES) std::memcpy(&halves, from, sizeof halves);
    else std::memcpy(&halves, from, count * sizeof *from);
    return (V)(__builtin_convertvector(halves, Bits) << 16);
}

static void store(low* to, V v, Int count = LANES) {
    Bits bits = (Bits)v;
    bits += 0x7fff + ((bits >> 16) & 1);  // to the nearest, ties to even
    Halves halves = __builtin_convertvector(bits >> 16, Halves);
    if (count >= LANES) std::memcpy(to, &halves, sizeof halves);
    else std::memcpy(to, &halves, count * sizeof *to);
}
#else
typedef real low;
#endif

// One number of each of `count` images, `row` apart.

template <class T> static V gather(const T* from, Int row, Int count) {
    T side[LANES] = {};
    for (Int l = 0; l < count; ++l) side[l] = from[l * row];
    return load(side);
}

template <class T> static void scatter(T* to, Int row, Int count, V v) {
    T side[LANES];
    store(side, v);
    for (Int l = 0; l < count; ++l) to[l * row] = side[l];
}

static V clamp(V x, real least, real most) {
    V low = V{} + least, high = V{} + most;
    x = x < low ? low : x;  // a NaN stays one
    return x > high ? high : x;
}

static real sum(V v) {
    real total = 0;
    for (Int l = 0; l < LANES; ++l) total += v[l];
    return total;
}

// Adding and subtracting it rounds to whole numbers.
constexpr real WHOLE = sizeof(real) == 4 ? 0x1.8p23 : 0x1.8p52;

static V exp(V x) {
    if (sizeof(real) == 8) {
        for (Int l = 0; l < LANES; ++l) x[l] = std::exp(x[l]);
        return x;
    }
    // 2^k e^r with |r| at most ln 2 / 2, where six terms of the series are enough.
    typedef std::int32_t Ints VECTOR(std::int32_t);
    x = clamp(x, -87, 88);
    V shifted = x * real(1.44269504) + WHOLE, k = shifted - WHOLE;
    V r = x - k * real(0x1.62e4p-1) - k * real(1.42860677e-6);  // ln 2 in two parts
    V series = V{} + real(1. / 720);
    for (real factorial : {120, 24, 6, 2, 1, 1}) series = series * r + 1 / factorial;
    union { V v; Ints bits; } power = {shifted};
    power.bits = (power.bits << 23) + (127 << 23);
    return series * power.v;
}

static V inverse(V x) {
#if defined __AVX512F__ && defined SINGLE
    // A division takes as long as half an exponential. Newton's step doubles the digits.
    V near = (V)_mm512_rcp14_ps((__m512)x);
    return near * (2 - x * near);
#else
    return 1 / x;
#endif
}

static V sigmoid(V x) { return inverse(1 + exp(-x)); }
static V tanh(V x) { return 2 * sigmoid(2 * x) - 1; }

// An LSTM after its product y: (i, f, g, o) = y + b, c' = σ(f) c + σ(i) tanh(g),
// h' = σ(o) tanh(c'). What the gates became takes the place of y.

extern "C" void gates(Int n, Int hidden, const low* y, const real* b, Int b_row, real* c,
                      low* kept, low* c_kept, real* h, low* h_low, Int h_row) {
#pragma omp parallel for
    for (Int s = 0; s < n; ++s)
        for (Int j = 0; j < hidden; j += LANES) {
            Int left = hidden - j, at = s * hidden + j;
            const low* gate = y + 4 * s * hidden + j;
            low* to = kept + 4 * s * hidden + j;
            const real* bias = b + s * b_row + j;
            V p[4];
            for (Int k = 0; k < 4; ++k)
                p[k] = load(gate + k * hidden, left) + load(bias + k * hidden, left);
            V i = sigmoid(p[0]), f = sigmoid(p[1]), g = tanh(p[2]), o = sigmoid(p[3]);
            V made = f * load(c + at, left) + i * g, out = o * tanh(made);
            store(to, i, left);
            store(to + hidden, f, left);
            store(to + 2 * hidden, g, left);
            store(to + 3 * hidden, o, left);
            store(c + at, made, left);
            store(c_kept + at, made, left);
            store(h_low + s * h_row + j, out, left);
            if (h) store(h + at, out, left);
        }
}

// ∂h' is a sum of up to three; δ = ∂y; ∂c takes the place of ∂c'.

extern "C" void gates_back(Int n, Int hidden, const low* kept, const low* c,
                           const low* c_new, const low* d_1, Int row_1, const low* d_2,
                           Int row_2, const low* d_3, Int row_3, real* d_c, low* delta) {
#pragma omp parallel for
    for (Int s = 0; s < n; ++s)
        for (Int j = 0; j < hidden; j += LANES) {
            Int left = hidden - j, at = s * hidden + j;
            const low* gate = kept + 4 * s * hidden + j;
            V i = load(gate, left), f = load(gate + hidden, left);
            V g = load(gate + 2 * hidden, left), o = load(gate + 3 * hidden, left);
            V d_h = load(d_1 + s * row_1 + j, left), t = tanh(load(c_new + at, left));
            if (d_2) d_h += load(d_2 + s * row_2 + j, left);
            if (d_3) d_h += load(d_3 + s * row_3 + j, left);
            V d_made = load(d_c + at, left) + d_h * o * (1 - t * t);
            low* to = delta + 4 * s * hidden + j;
            store(to, d_made * g * i * (1 - i), left);
            store(to + hidden, d_made * load(c + at, left) * f * (1 - f), left);
            store(to + 2 * hidden, d_made * i * (1 - g * g), left);
            store(to + 3 * hidden, d_h * t * o * (1 - o), left);
            store(d_c + at, d_made * f, left);
        }
}

// z = μ + σ ε, eq. (6), with (μ, log σ) = y + b; and of p = N(μ_p, σ_p²), or N(0, I), and
// q the terms of KL(q ‖ p), eq. (11), and log p(z) − log q(z), where log q has ε² / 2.

struct Draw {
    V mu, log_sigma, sigma, eps, z, narrow, gap, far, wide, off;

    Draw(Int Z, Int left, const low* y, const real* b, const real* prior, const real* e) {
        V centre = {}, log_p = {};
        if (prior) centre = load(prior, left), log_p = load(prior + Z, left);
        mu = load(y, left) + load(b, left), log_sigma = load(y + Z, left) + load(b + Z, left);
        sigma = exp(log_sigma), eps = load(e, left), z = mu + sigma * eps;
        narrow = prior ? exp(-log_p) : V{} + 1, gap = log_sigma - log_p, far = (mu - centre) * narrow;
        wide = sigma * narrow, off = (z - centre) * narrow;
    }
};

extern "C" void sample(Int n, Int Z, const low* y, const real* b, const real* prior,
                       Int prior_row, const real* eps, Int eps_row, low* z, Int z_row,
                       real* kl, real* log_ratio) {
#pragma omp parallel for
    for (Int s = 0; s < n; ++s) {
        V nats = {}, ratio = {};
        for (Int j = 0; j < Z; j += LANES) {
            const real* p = prior ? prior + s * prior_row + j : nullptr;
            Draw q(Z, Z - j, y + 2 * s * Z + j, b + j, p, eps + s * eps_row + j);
            nats += q.wide * q.wide - 2 * q.gap - 1 + q.far * q.far;
            ratio += q.eps * q.eps + 2 * q.gap - q.off * q.off;
            store(z + s * z_row + j, q.z, Z - j);
        }
        kl[s] = sum(nats) / 2, log_ratio[s] = sum(ratio) / 2;
    }
}

extern "C" void sample_back(Int n, Int Z, const low* y, const real* b, const real* prior,
                            Int prior_row, const real* eps, Int eps_row, const low* d_z,
                            Int z_row, const real* d_kl, const real* d_ratio, low* delta,
                            low* d_prior, Int d_prior_row) {
#pragma omp parallel for
    for (Int s = 0; s < n; ++s)
        for (Int j = 0; j < Z; j += LANES) {
            Int left = Z - j;
            const real* p = prior ? prior + s * prior_row + j : nullptr;
            Draw q(Z, left, y + 2 * s * Z + j, b + j, p, eps + s * eps_row + j);
            V wide = q.wide * q.wide, far = d_kl[s] * q.far * q.narrow;
            V off = d_ratio[s] * q.off * q.narrow, d = load(d_z + s * z_row + j, left) - off;
            low* to = delta + 2 * s * Z + j;
            store(to, far + d, left);
            store(to + Z, d_kl[s] * (wide - 1) + d_ratio[s] + d * q.sigma * q.eps, left);
            if (!prior) continue;
            V log_p = d_kl[s] * (1 - wide - q.far * q.far) + d_ratio[s] * (q.off * q.off - 1);
            store(d_prior + s * d_prior_row + j, off - far, left);
            store(d_prior + s * d_prior_row + Z + j, log_p, left);
        }
}

// Windows. Images have `size` numbers, of 16 images side by side.

struct Shape { Int channels, height, width, patch, cauchy, legacy; };

// One axis of 16 windows: N rows of weights over its pixels, eqs. (19), (20), (25), (26).

struct Axis {
    Int N, length;
    bool cauchy;
    real shift;
    V precision;
    Vs mu, F;

    // The largest weight is that of the pixel m nearest to μ. Divided by it, no row is 0/0.
    V nearest(Int i) const { return clamp(mu[i], 0, length - 1) + WHOLE - WHOLE; }

    Axis(const Shape& shape, Int length, V g, V delta, V precision)
        : N(shape.patch), length(length), cauchy(shape.cauchy),
          shift(real(N - 1) / 2 + shape.legacy), precision(precision), mu(N), F(N * length) {
        real middle = real(shape.legacy ? length + 1 : length - 1) / 2;
        for (Int i = 0; i < N; ++i) {
            mu[i] = middle + real(length + 1) / 2 * g + (real(i) - shift) * delta;
            V m = nearest(i), Z = {}, *row = &F[i * length];
            for (Int a = 0; a < length; ++a) {
                V d = real(a) - mu[i], near = m - mu[i];
                if (cauchy) row[a] = (1 + near * near * precision) / (1 + d * d * precision);
                // (m − μ)² − (a − μ)², as a product, since μ may be large
                else row[a] = exp((near - d) * (m + real(a) - 2 * mu[i]) * precision / 2);
                Z += row[a];
            }
            Z = 1 / Z;
            for (Int a = 0; a < length; ++a) row[a] *= Z;
        }
    }

    // F is a softmax, so the gradient of its exponents e is F (∂F − Σ F ∂F).
    void back(const Vs& d_F, V& d_g, V& d_delta, V& d_precision) const {
        for (Int i = 0; i < N; ++i) {
            const V *row = &F[i * length], *d_row = &d_F[i * length];
            V m = nearest(i), mean = {}, d_mu = {};
            for (Int a = 0; a < length; ++a) mean += row[a] * d_row[a];
            for (Int a = 0; a < length; ++a) {
                V d_e = row[a] * (d_row[a] - mean), d = real(a) - mu[i];
                if (cauchy) {
                    d_e /= 1 + d * d * precision;
                    d_mu += 2 * d_e * d * precision;
                    d_precision -= d_e * d * d;
                } else {
                    d_mu += d_e * (real(a) - m) * precision;
                    d_precision += d_e * (m - real(a)) * (m + real(a) - 2 * mu[i]) / 2;
                }
            }
            d_g += real(length + 1) / 2 * d_mu;
            d_delta += (real(i) - shift) * d_mu;
        }
    }
};

// Both axes of 16 windows from five numbers each, eqs. (21) to (24), and what is done
// with them: T = F_y I (N × width), the patch T F_xᵀ, Q = G F_x, and I + F_yᵀ Q.

struct Window {
    Int N, height, width;
    V width2, least, precision, delta, gamma;
    Axis x, y;
    Vs T, Q, d_x, d_y;

    static V stride(const Shape& s, V log_delta) {
        Int longest = s.height > s.width ? s.height : s.width, gaps = s.patch > 1 ? s.patch - 1 : 1;
        return (s.legacy ? longest - 1 / real(gaps) : (longest - 1) / real(gaps)) * exp(log_delta);
    }

    Window(const Shape& s, const real* raw, Int row, Int count)
        : N(s.patch), height(s.height), width(s.width), width2(exp(gather(raw + 2, row, count))),
          least(V{} + real(s.cauchy ? 1e-6 : 1e-12)),
          precision(1 / (width2 < least ? least : width2)),
          delta(stride(s, gather(raw + 3, row, count))), gamma(exp(gather(raw + 4, row, count))),
          x(s, width, gather(raw, row, count), delta, precision),
          y(s, height, gather(raw + 1, row, count), delta, precision),
          T(N * width), Q(N * width), d_x(N * width), d_y(N * height) {}

    void rows(const V* image) {
        std::fill(T.begin(), T.end(), V{});
        Int b = 0;
        for (; b + 4 <= height; b += 4)  // four rows of pixels at a time, for each store
            for (Int i = 0; i < N; ++i) {
                const V *f = &y.F[i * height + b], *p = image + b * width;
                V f_0 = f[0], f_1 = f[1], f_2 = f[2], f_3 = f[3], *t = &T[i * width];
                for (Int a = 0; a < width; ++a)
                    t[a] += f_0 * p[a] + f_1 * p[a + width] + f_2 * p[a + 2 * width] + f_3 * p[a + 3 * width];
            }
        for (; b < height; ++b)
            for (Int i = 0; i < N; ++i)
                for (Int a = 0; a < width; ++a)
                    T[i * width + a] += y.F[i * height + b] * image[b * width + a];
    }

    V patch(Int i, Int j) const {
        V total = {};
        for (Int a = 0; a < width; ++a) total += T[i * width + a] * x.F[j * width + a];
        return total;
    }

    void spread(const Vs& G) {
        for (Int i = 0; i < N; ++i)
            for (Int a = 0; a < width; ++a) {
                V total = {};
                for (Int j = 0; j < N; ++j) total += G[i * N + j] * x.F[j * width + a];
                Q[i * width + a] = total;
            }
    }

    V added(Int b, Int a) const {
        V total = {};
        for (Int i = 0; i < N; ++i) total += y.F[i * height + b] * Q[i * width + a];
        return total;
    }

    // ∂F_x and ∂F_y of Σ G (F_y I F_xᵀ), after `rows` and `spread`
    void pull(const V* image, const Vs& G) {
        for (Int i = 0; i < N; ++i)
            for (Int j = 0; j < N; ++j)
                for (Int a = 0; a < width; ++a)
                    d_x[j * width + a] += G[i * N + j] * T[i * width + a];
        for (Int b = 0; b < height; ++b)
            for (Int i = 0; i < N; ++i) {
                V total = {};
                for (Int a = 0; a < width; ++a) total += image[b * width + a] * Q[i * width + a];
                d_y[i * height + b] += total;
            }
    }

    // ∂raw, after all that is pulled
    void back(V d_log_gamma, low* to, Int row, Int count) const {
        V g_x = {}, g_y = {}, d_delta = {}, d_precision = {};
        x.back(d_x, g_x, d_delta, d_precision);
        y.back(d_y, g_y, d_delta, d_precision);
        V third = width2 < least ? V{} : -precision * d_precision;
        V all[] = {g_x, g_y, third, d_delta * delta, d_log_gamma};
        for (Int k = 0; k < 5; ++k) scatter(to + k, row, count, all[k]);
    }
};

#define BLOCKS(n) _Pragma("omp parallel for") for (Int block = 0; block < (n + LANES - 1) / LANES; ++block)
#define COUNT(n) (n - block * LANES < LANES ? n - block * LANES : LANES)

// r_t of x and of x̂ = x − σ(c), eqs. (3), (4), (27); σ(c) is kept.

extern "C" void look(const Shape* s, Int n, const real* raw, Int row, const real* x,
                     const real* canvas, low* mean, low* r, Int r_row) {
    BLOCKS(n) {
        Int first = block * LANES, count = COUNT(n), size = s->height * s->width, N2 = s->patch * s->patch;
        Window w(*s, raw + first * row, row, count);
        Vs kept(size);
        for (Int c = 0; c < s->channels; ++c) {
            Int at = (block * s->channels + c) * size;
            const V *image = (const V*)x + at, *logits = (const V*)canvas + at;
            for (Int p = 0; p < size; ++p) {
                kept[p] = sigmoid(logits[p]);
                store(mean + (at + p) * LANES, kept[p]);
            }
            low* to = r + first * r_row + c * N2;
            Vs seen(N2);
            w.rows(image);
            for (Int k = 0; k < N2; ++k) {
                seen[k] = w.gamma * w.patch(k / w.N, k % w.N);
                scatter(to + k, r_row, count, seen[k]);
            }
            w.rows(&kept[0]);
            for (Int k = 0; k < N2; ++k) {
                V error = seen[k] - w.gamma * w.patch(k / w.N, k % w.N);
                scatter(to + s->channels * N2 + k, r_row, count, error);
            }
        }
    }
}

extern "C" void look_back(const Shape* s, Int n, const real* raw, Int row, const real* x,
                          const low* mean, const low* d_r, Int r_row, real* d_canvas,
                          low* d_raw, Int d_row) {
    BLOCKS(n) {
        Int first = block * LANES, count = COUNT(n), size = s->height * s->width, N2 = s->patch * s->patch;
        Window w(*s, raw + first * row, row, count);
        V d_log_gamma = {};
        Vs kept(size);
        for (Int c = 0; c < s->channels; ++c) {
            Int at = (block * s->channels + c) * size;
            const V* image = (const V*)x + at;
            for (Int p = 0; p < size; ++p) kept[p] = load(mean + (at + p) * LANES);
            V* d = (V*)d_canvas + at;
            const low* from = d_r + first * r_row + c * N2;
            Vs both(N2), less(N2);
            for (Int k = 0; k < N2; ++k) {
                V error = gather(from + s->channels * N2 + k, r_row, count);
                both[k] = w.gamma * (gather(from + k, r_row, count) + error);
                less[k] = -w.gamma * error;
            }
            w.rows(image);
            for (Int k = 0; k < N2; ++k) d_log_gamma += both[k] * w.patch(k / w.N, k % w.N);
            w.spread(both);
            w.pull(image, both);
            w.rows(&kept[0]);
            for (Int k = 0; k < N2; ++k) d_log_gamma += less[k] * w.patch(k / w.N, k % w.N);
            w.spread(less);
            w.pull(&kept[0], less);
            for (Int b = 0, p = 0; b < s->height; ++b)
                for (Int a = 0; a < s->width; ++a, ++p)
                    d[p] += w.added(b, a) * kept[p] * (1 - kept[p]);
        }
        w.back(d_log_gamma, d_raw + first * d_row, d_row, count);
    }
}

// c_t = c_{t−1} + (1/γ) F_yᵀ w F_x, eqs. (8), (29); y holds five numbers, then w.

extern "C" void paint(const Shape* s, Int n, const real* y, Int row, real* canvas) {
    BLOCKS(n) {
        Int first = block * LANES, count = COUNT(n), size = s->height * s->width, N2 = s->patch * s->patch;
        Window w(*s, y + first * row, row, count);
        for (Int c = 0; c < s->channels; ++c) {
            V* image = (V*)canvas + (block * s->channels + c) * size;
            Vs G(N2);
            for (Int k = 0; k < N2; ++k)
                G[k] = gather(y + first * row + 5 + c * N2 + k, row, count) / w.gamma;
            w.spread(G);
            for (Int b = 0, p = 0; b < s->height; ++b)
                for (Int a = 0; a < s->width; ++a, ++p) image[p] += w.added(b, a);
        }
    }
}

extern "C" void paint_back(const Shape* s, Int n, const real* y, Int row,
                           const real* d_canvas, low* delta, Int d_row) {
    BLOCKS(n) {
        Int first = block * LANES, count = COUNT(n), size = s->height * s->width, N2 = s->patch * s->patch;
        Window w(*s, y + first * row, row, count);
        V d_log_gamma = {};
        for (Int c = 0; c < s->channels; ++c) {
            const V* d = (const V*)d_canvas + (block * s->channels + c) * size;
            Vs G(N2);
            for (Int k = 0; k < N2; ++k)
                G[k] = gather(y + first * row + 5 + c * N2 + k, row, count) / w.gamma;
            w.rows(d);
            for (Int k = 0; k < N2; ++k) {
                V read = w.patch(k / w.N, k % w.N);
                d_log_gamma -= G[k] * read;
                scatter(delta + first * d_row + 5 + c * N2 + k, d_row, count, read / w.gamma);
            }
            w.spread(G);
            w.pull(d, G);
        }
        w.back(d_log_gamma, delta + first * d_row, d_row, count);
    }
}

// Without attention: c += y + b where there is a y, and u = 0 − σ(c) where one is asked.

extern "C" void dense(Int n, Int size, const low* y, Int row, const real* b, real* canvas,
                      low* u, Int u_row) {
#pragma omp parallel for
    for (Int s = 0; s < n; ++s)
        for (Int j = 0; j < size; j += LANES) {
            Int left = size - j;
            V c = load(canvas + s * size + j, left);
            if (y) c += load(y + s * row + j, left) + load(b + j, left);
            if (y) store(canvas + s * size + j, c, left);
            if (u) store(u + s * u_row + j, -sigmoid(c), left);
        }
}

extern "C" void dense_back(Int n, Int size, const low* u, Int u_row, const low* d_u,
                           Int d_row, real* d_canvas) {
#pragma omp parallel for
    for (Int s = 0; s < n; ++s)
        for (Int j = 0; j < size; j += LANES) {
            Int left = size - j;
            V m = load(u + s * u_row + j, left), d = load(d_u + s * d_row + j, left);
            real* at = d_canvas + s * size + j;
            store(at, load(at, left) + d * m * (1 + m), left);
        }
}

// GLAS: a = γ vec(F_y L F_xᵀ) of one L for all images; ∂L is summed up lane by lane.

extern "C" void attend(const Shape* s, Int n, const real* raw, Int row, const real* L,
                       low* a, Int a_row) {
    BLOCKS(n) {
        Int first = block * LANES, count = COUNT(n);
        Window w(*s, raw + first * row, row, count);
        w.rows((const V*)L);
        for (Int k = 0; k < w.N * w.N; ++k)
            scatter(a + first * a_row + k, a_row, count, w.gamma * w.patch(k / w.N, k % w.N));
    }
}

extern "C" void attend_back(const Shape* s, Int n, const real* raw, Int row, const real* L,
                            const low* d_a, Int a_row, real* d_L, low* d_raw, Int d_row) {
    BLOCKS(n) {
        Int first = block * LANES, count = COUNT(n), size = s->height * s->width;
        Window w(*s, raw + first * row, row, count);
        V d_log_gamma = {}, *d = (V*)d_L + block * size;
        Vs G(w.N * w.N);
        w.rows((const V*)L);
        for (Int k = 0; k < w.N * w.N; ++k) {
            G[k] = w.gamma * gather(d_a + first * a_row + k, a_row, count);
            d_log_gamma += G[k] * w.patch(k / w.N, k % w.N);
        }
        w.spread(G);
        w.pull((const V*)L, G);
        for (Int b = 0, p = 0; b < w.height; ++b)
            for (Int i = 0; i < w.width; ++i, ++p) d[p] += w.added(b, i);
        w.back(d_log_gamma, d_raw + first * d_row, d_row, count);
    }
}
