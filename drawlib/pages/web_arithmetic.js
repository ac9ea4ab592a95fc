// The arithmetic below web_models.js, on typed arrays: an exported file's numbers, the
// product of a matrix and a vector (four numbers at a time where the browser can), the
// LSTM's memory, and eqs. (27) and (29).
(() => {
"use strict";

// ---- The file's numbers

function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// A float16: sign, five bits of exponent, ten of fraction.
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, rest = bits & 1023;
  if (exponent === 31) return rest ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 25) * (1024 + rest) : 2 ** -24 * rest);
}

function tensor(bytes, { shape, format, at }) {
  const size = shape.reduce((a, b) => a * b, 1), view = new DataView(bytes.buffer);
  const values = new Float32Array(size);
  if (format === "float32") {
    for (let i = 0; i < size; i++) values[i] = view.getFloat32(at + 4 * i, true);
  } else if (format === "float16") {
    for (let i = 0; i < size; i++) values[i] = half(view.getUint16(at + 2 * i, true));
  } else {
    // int8: first the scale of each row, then the rows.
    const [rows] = shape, columns = size / rows, first = at + 4 * rows;
    for (let r = 0, i = 0; r < rows; r++) {
      const scale = view.getFloat32(at + 4 * r, true);
      for (let end = i + columns; i < end; i++) {
        values[i] = scale * view.getInt8(first + i);
      }
    }
  }
  return values;
}

// ---- Arithmetic

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

// out = bias + W v, for the columns of W from `from` on; row by row in memory. Eight rows
// share each element of v, which is the fastest of the loops that were measured.
function affine(out, bias, W, stride, from, v) {
  const rows = out.length, columns = v.length, whole = rows - (rows % 8);
  let r = 0;
  // Whole numbers for certain: with an offset held as a float the loop is half as fast.
  stride |= 0;
  from |= 0;
  for (; r < whole; r += 8) {
    const i = r * stride + from, j = i + stride, k = j + stride, l = k + stride;
    const m = l + stride, n = m + stride, o = n + stride, p = o + stride;
    let a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0;
    for (let q = 0; q < columns; q++) {
      const x = v[q];
      a += W[i + q] * x; b += W[j + q] * x; c += W[k + q] * x; d += W[l + q] * x;
      e += W[m + q] * x; f += W[n + q] * x; g += W[o + q] * x; h += W[p + q] * x;
    }
    out[r] = bias[r] + a; out[r + 1] = bias[r + 1] + b;
    out[r + 2] = bias[r + 2] + c; out[r + 3] = bias[r + 3] + d;
    out[r + 4] = bias[r + 4] + e; out[r + 5] = bias[r + 5] + f;
    out[r + 6] = bias[r + 6] + g; out[r + 7] = bias[r + 7] + h;
  }
  for (; r < rows; r++) {
    let a = 0;
    for (let q = 0, i = r * stride + from; q < columns; q++) a += W[i + q] * v[q];
    out[r] = bias[r] + a;
  }
  return out;
}

// The same product with WebAssembly's vectors of four float32, assembled here: for each
// group of four rows W, W + stride, …, the four sums over k ≡ 0, 1, 2, 3 (mod 4) of
// W[k] v[k], sixteen numbers a group at `out`. All arguments count bytes but `groups`.
// The page assembles it itself, so whoever exports one needs no assembler. `affine` has one
// sum in float64, and differs by rounding: loops that round to float32 are far slower.
function assemble() {
  const [W, stride, groups, bytes, v, out, q, row, x, sums] = [0, 1, 2, 3, 4, 5, 6, 7, 12, 8];
  const I32 = 0x7f, V128 = 0x7b, LOOP = [0x03, 0x40], AGAIN = [0x0d, 0], END = 0x0b;
  const get = (k) => [0x20, k], set = (k) => [0x21, k], number = (n) => [0x41, n];
  const ADD = 0x6a, SUBTRACT = 0x6b, LESS = 0x49;
  const LOAD = [0xfd, 0x00, 2, 0], STORE = [0xfd, 0x0b, 2];
  const TIMES = [0xfd, 0xe6, 1], PLUS = [0xfd, 0xe4, 1];
  const ZERO = [0xfd, 0x0c, ...new Array(16).fill(0)];
  const four = (make) => [0, 1, 2, 3].flatMap(make);
  const step = (at, by) => [get(at), by, ADD, set(at)];
  const code = [
    LOOP,
    four((k) => [ZERO, set(sums + k)]),
    number(0), set(q),
    LOOP, // over the columns, four at a time
    get(v), get(q), ADD, LOAD, set(x),
    get(W), get(q), ADD, set(row),
    four((k) => [get(row), LOAD, get(x), TIMES, get(sums + k), PLUS, set(sums + k),
      step(row, get(stride))]),
    step(q, number(16)),
    get(q), get(bytes), LESS, AGAIN, END,
    four((k) => [get(out), get(sums + k), STORE, 16 * k]),
    step(out, [0x41, 0xc0, 0]), // 64
    four(() => step(W, get(stride))),
    get(groups), number(1), SUBTRACT, set(groups), get(groups), AGAIN, END,
  ].flat(Infinity);
  // A section: its number, its length in two bytes, its content.
  const sized = (content) => [(content.length & 127) | 128, content.length >> 7, ...content];
  const section = (id, ...content) => [id, ...sized(content.flat(Infinity))];
  const text = (name) => [name.length, ...new TextEncoder().encode(name)];
  return new WebAssembly.Module(Uint8Array.from([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(1, 1, 0x60, 6, new Array(6).fill(I32), 0),
    ...section(2, 1, text("page"), text("memory"), 2, 0, 1),
    ...section(3, 1, 0),
    ...section(7, 1, text("sums"), 0, 0),
    ...section(10, 1, sized([2, 2, I32, 5, V128, ...code, END])),
  ]));
}

const upTo4 = (n) => n + 3 & ~3;

// The matrices of a model, row by row in memory, each padded with zeros to multiples of
// four; `times` is `affine` with the matrix called `name`.
class Matrices {
  constructor(weights, biases) {
    this.of = {};
    let end = 0, longest = 0, most = 0;
    for (const [name, weight] of Object.entries(weights)) {
      const rows = biases[name].length, columns = weight.length / rows;
      const stride = upTo4(columns);
      this.of[name] = { weight, bias: biases[name], rows, columns, stride, at: end };
      end += stride * upTo4(rows);
      longest = Math.max(longest, stride);
      most = Math.max(most, rows);
    }
    // What follows the last row is read where a product begins inside of a row.
    [this.v, this.out] = [end + 4, end + 8 + longest];
    const pages = Math.ceil((4 * (this.out + 4 * upTo4(most))) / 65536);
    try {
      const memory = new WebAssembly.Memory({ initial: pages });
      Matrices.module ??= assemble();
      const page = { memory };
      this.sums = new WebAssembly.Instance(Matrices.module, { page }).exports.sums;
      this.room = new Float32Array(memory.buffer);
    } catch {
      return; // a browser without vectors, or a page that forbids them: affine does it
    }
    for (const { weight, rows, columns, stride, at } of Object.values(this.of)) {
      for (let r = 0; r < rows; r++) {
        this.room.set(weight.subarray(r * columns, (r + 1) * columns), at + r * stride);
      }
    }
  }

  times(name, v, out, from = 0, bias = this.of[name].bias) {
    const { weight, rows, columns, stride, at } = this.of[name], { room } = this;
    if (!this.sums) return affine(out, bias, weight, columns, from, v);
    room.set(v, this.v);
    for (let q = v.length; q < upTo4(v.length); q++) room[this.v + q] = 0;
    this.sums(4 * (at + from), 4 * stride, upTo4(rows) / 4, 4 * v.length, 4 * this.v,
      4 * this.out);
    for (let r = 0, k = this.out; r < rows; r++, k += 4) {
      out[r] = bias[r] + room[k] + room[k + 1] + room[k + 2] + room[k + 3];
    }
    return out;
  }
}

// c' = σ(f) c + σ(i) tanh(g), h' = σ(o) tanh(c'), in place
function memory(gates, h, c) {
  const n = h.length;
  for (let k = 0; k < n; k++) {
    const kept = sigmoid(gates[n + k]) * c[k];
    c[k] = kept + sigmoid(gates[k]) * Math.tanh(gates[2 * n + k]);
    h[k] = sigmoid(gates[3 * n + k]) * Math.tanh(c[k]);
  }
}

// Where a filter's weights are worth a multiplication: below 1e-16 they are lost in a
// float32, and products of them would be so small that processors take a slow path.
function reach(weights) {
  let first = 0, end = weights.length;
  while (first < end && weights[first] < 1e-16) first++;
  while (end > first && weights[end - 1] < 1e-16) end--;
  return [first, end];
}

// Eq. (27), γ F_Y x F_Xᵀ, of the image that begins at `at` in `values`
function readPatch({ Fx, Fy, gamma }, values, at, out, to) {
  const N = Fx.length, width = Fx[0].length, row = new Float64Array(width);
  const columns = Fx.map(reach);
  for (let j = 0; j < N; j++) {
    const [top, bottom] = reach(Fy[j]);
    row.fill(0);
    for (let b = top, k = at + top * width; b < bottom; b++) {
      const weight = Fy[j][b];
      for (let a = 0; a < width; a++, k++) row[a] += weight * values[k];
    }
    for (let i = 0; i < N; i++) {
      const weights = Fx[i], [left, right] = columns[i];
      let total = 0;
      for (let a = left; a < right; a++) total += row[a] * weights[a];
      out[to + j * N + i] = gamma * total;
    }
  }
}

// Eq. (29), (1/γ) F_Yᵀ w F_X, added to the image that begins at `at` in `values`
function writePatch({ Fx, Fy, gamma }, patch, from, values, at) {
  const N = Fx.length, width = Fx[0].length, row = new Float64Array(width);
  const columns = Fx.map(reach);
  for (let j = 0; j < N; j++) {
    const [top, bottom] = reach(Fy[j]);
    row.fill(0);
    for (let i = 0; i < N; i++) {
      const weights = Fx[i], [left, right] = columns[i];
      const w = patch[from + j * N + i] / gamma;
      for (let a = left; a < right; a++) row[a] += w * weights[a];
    }
    for (let b = top, k = at + top * width; b < bottom; b++) {
      const weight = Fy[j][b];
      for (let a = 0; a < width; a++, k++) values[k] += weight * row[a];
    }
  }
}

function softmax(values) {
  const top = Math.max(...values), weights = values.map((v) => Math.exp(v - top));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / total);
}

function normalised(values) {
  const length = Math.max(Math.hypot(...values), 1e-6);
  return values.map((v) => v / length);
}

const arithmetic = {
  bytesOf, tensor, sigmoid, Matrices, memory, readPatch, writePatch, softmax, normalised,
};
window.drawlib = Object.assign(window.drawlib ?? {}, { arithmetic });
})();
