// The arithmetic below web_models.js, on typed arrays: an exported file's numbers, the
// product of a matrix and a vector, the LSTM's memory, and eqs. (27) and (29).
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
  bytesOf, tensor, sigmoid, affine, memory, readPatch, writePatch, softmax, normalised,
};
window.drawlib = Object.assign(window.drawlib ?? {}, { arithmetic });
})();
