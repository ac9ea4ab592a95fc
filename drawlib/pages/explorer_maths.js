// The arithmetic of the live pages: DRAW's filters, the public mistakes in them, and
// Gaussians. Pure functions on numbers and arrays, added to the one name that all scripts
// of the pages share, `window.drawlib`.
// The equations are those of drawlib/filters.py and drawlib/gaussian.py, and the tests
// compare the two number by number. A matrix is an array of rows.
(() => {
"use strict";

// ---- Small arithmetic

const range = (n, make) => Array.from({ length: n }, (_, i) => make(i));
const sum = (values) => values.reduce((total, value) => total + value, 0);
const transpose = (rows) => rows[0].map((_, i) => rows.map((row) => row[i]));
const product = (a, b) => {
  const columns = transpose(b);
  return a.map((row) => columns.map((column) => sum(row.map((v, k) => v * column[k]))));
};
const scaled = (rows, factor) => rows.map((row) => row.map((value) => value * factor));
const largest = (rows) => Math.max(...rows.map((row) => Math.max(...row)));

// ---- The filters. `wrong` names the public mistakes to make; empty, nothing is wrong.

// Eqs. (22), (23), moved to pixels from 0.
function centre(g, length, wrong) {
  if (wrong.halfPixel) return ((g + 1) / 2) * length;
  if (wrong.oneBased) return ((length + 1) / 2) * (g + 1);
  return (length - 1) / 2 + ((length + 1) / 2) * g;
}

// Eq. (24); with a single filter the stride has no effect.
function stride(logDelta, size, n, wrong) {
  const gaps = Math.max(n - 1, 1);
  const longest = Math.max(...size);
  const whole = wrong.bracket ? longest - 1 / gaps : (longest - 1) / gaps;
  return whole * Math.exp(wrong.inverted ? -logDelta : logDelta);
}

// Eqs. (19), (20): `raw` = [g̃_X, g̃_Y, third, log δ̃, log γ], `size` = [height, width].
function grid(raw, size, n, wrong = {}) {
  const delta = stride(raw[3], size, n, wrong);
  const middle = wrong.oneBased ? (n + 1) / 2 : (n - 1) / 2;
  const place = (g, length) =>
    range(n, (i) => centre(g, length, wrong) + (i - middle) * delta);
  return { muX: place(raw[0], size[1]), muY: place(raw[1], size[0]), delta };
}

// Eqs. (25), (26) before they are normalised; `width` is σ² or s².
function logWeight(d, width, kernel, wrong) {
  if (kernel === "cauchy") return -Math.log1p((d * d) / width);
  return wrong.exponent ? -((d / (2 * width)) ** 2) : (-d * d) / (2 * width);
}

function leastWidth(kernel, normalise, floor) {
  if (kernel === "cauchy") return floor ** 2;
  return normalise === "floor" ? floor / 2 : 1e-12;
}

// One row a filter, one column a pixel. "exact" is a softmax, whose rows sum to 1.
function filterMatrix(mu, givenWidth, length, options = {}) {
  const { kernel = "gaussian", normalise = "exact", floor = 1e-3, wrong = {} } = options;
  const width = Math.max(givenWidth, leastWidth(kernel, normalise, floor));
  const logs = mu.map((m) => range(length, (a) => logWeight(a - m, width, kernel, wrong)));
  if (wrong.wholeMatrix) {
    const weights = logs.map((row) => row.map(Math.exp));
    return scaled(weights, 1 / sum(weights.map(sum)));
  }
  const peak = kernel === "cauchy" ? 1 / (Math.PI * Math.sqrt(width)) : 1;
  return logs.map((row) => {
    const top = normalise === "floor" ? 0 : Math.max(...row);
    const weights = row.map((e) => Math.exp(e - top) * (normalise === "floor" ? peak : 1));
    const total = sum(weights);
    return weights.map((w) => w / (normalise === "floor" ? Math.max(total, floor) : total));
  });
}

function filterbank(raw, size, n, options = {}) {
  const { muX, muY, delta } = grid(raw, size, n, options.wrong);
  const width = Math.exp(raw[2]);
  const Fx = filterMatrix(muX, width, size[1], options);
  const Fy = filterMatrix(muY, width, size[0], options);
  return { Fx, Fy, gamma: Math.exp(raw[4]), muX, muY, delta, width };
}

// Eq. (27): γ F_Y x F_Xᵀ
const read = (filters, image) =>
  scaled(product(product(filters.Fy, image), transpose(filters.Fx)), filters.gamma);

// Eq. (29): (1/γ) F_Yᵀ w F_X; null where a mistake leaves shapes that do not fit.
function write(filters, patch, wrong = {}) {
  const { Fx, Fy, gamma } = filters;
  if (wrong.transpose && Fx.length !== Fx[0].length) return null;
  const right = wrong.transpose ? transpose(Fx) : Fx;
  return scaled(product(product(transpose(Fy), patch), right), 1 / gamma);
}

// What public sources do instead; the book's page "Paper against code" tells the rest.
const MISTAKES = {
  none: { label: "none", note: "The equations as they should be.", wrong: {} },
  exponent: {
    label: "exponent −(d/2σ²)²", wrong: { exponent: true },
    note: "In Hui's article. A Gaussian still, but of variance 2σ⁴: too narrow below σ² = ½, too wide above. A Cauchy kernel is not concerned.",
  },
  inverted: {
    label: "stride divided by δ̃", wrong: { inverted: true },
    note: "In Hui's article. To zoom in zooms out, and the other way round.",
  },
  oneBased: {
    label: "counting from 0 and 1 mixed", wrong: { oneBased: true },
    note: "In Hui's article and in the code of simonamtoft and GLAS. Filters and pixels count from 0, in formulas that count from 1: the grid moves by one pixel minus one stride.",
  },
  halfPixel: {
    label: "centre half a pixel off", wrong: { halfPixel: true },
    note: "In jbornschein's code. The centre is (g̃+1)/2 · A: at g̃ = 0 it is 14 in an image whose middle is 13.5.",
  },
  bracket: {
    label: "missing bracket in the stride", wrong: { bracket: true },
    note: "In the code of GLAS. max − 1/(N−1) stands where (max − 1)/(N−1) is meant: most filters lie outside of the image.",
  },
  glas: {
    label: "both defects of the GLAS grid", wrong: { bracket: true, oneBased: true },
    note: "The missing bracket, and counting from 0 and 1 mixed: the grid that the GLAS code computes.",
  },
  wholeMatrix: {
    label: "whole matrix normalised", wrong: { wholeMatrix: true },
    note: "In simonamtoft's code. All the weights together sum to 1, not each row: rows sum to about 1/N, and the patch is about N² times too faint.",
  },
  floor: {
    label: "rows divided by max(Σ, 0.001)", wrong: {}, normalise: "floor",
    note: "In the code of GLAS. Near the image nothing changes. A Gaussian row far outside fades to 0, and its gradient with it; an exact row still sums to 1.",
  },
  transpose: {
    label: "one transpose too many in write", wrong: { transpose: true },
    note: "In Khanian's notes. F_Yᵀ w F_Xᵀ multiplies N columns with A rows: the shapes fit only where N = A, and then the result is another one.",
  },
};

// ---- Gaussians, in nats

const HALF_LOG_2PI = 0.5 * Math.log(2 * Math.PI);
const logProb = (z, mu, sigma) =>
  -0.5 * ((z - mu) / sigma) ** 2 - Math.log(sigma) - HALF_LOG_2PI;
const density = (z, mu, sigma) => Math.exp(logProb(z, mu, sigma));

// KL(q ‖ p) = log σ_p − log σ_q + (σ_q² + (μ_q − μ_p)²) / (2σ_p²) − ½
const gaussianKL = (q, p = { mu: 0, sigma: 1 }) =>
  Math.log(p.sigma / q.sigma) +
  (q.sigma ** 2 + (q.mu - p.mu) ** 2) / (2 * p.sigma ** 2) - 0.5;

// Ladder VAE, eqs. 17 to 19: `share` is the bottom-up part of the precision.
function merge(qHat, p) {
  const [bottom, top] = [qHat.sigma ** -2, p.sigma ** -2];
  const share = bottom / (bottom + top);
  return {
    mu: share * qHat.mu + (1 - share) * p.mu, sigma: (bottom + top) ** -0.5,
    share, bottom, top,
  };
}

// The trapezoid rule: for smooth functions that vanish at both ends there is no better.
const trapezoid = (values, step) =>
  step * (sum(values) - (values[0] + values[values.length - 1]) / 2);

// log p(x) and the posterior of a latent with prior N(0, 1), by quadrature over `z`.
function posterior(z, logLikelihood) {
  const joint = z.map((at, k) => logLikelihood[k] + logProb(at, 0, 1));
  const top = Math.max(...joint);
  const step = z[1] - z[0];
  const logP = top + Math.log(trapezoid(joint.map((v) => Math.exp(v - top)), step));
  return { logP, logPosterior: joint.map((v) => v - logP) };
}

function bound(z, logLikelihood, q) {
  const { logP, logPosterior } = posterior(z, logLikelihood);
  const step = z[1] - z[0];
  const weights = z.map((at) => density(at, q.mu, q.sigma));
  const reconstruction = trapezoid(weights.map((w, k) => w * logLikelihood[k]), step);
  const klPrior = gaussianKL(q);
  const gaps = weights.map((w, k) => w * (logProb(z[k], q.mu, q.sigma) - logPosterior[k]));
  const klPosterior = trapezoid(gaps, step);
  const elbo = reconstruction - klPrior;
  return { logP, logPosterior, reconstruction, klPrior, elbo, klPosterior };
}

window.drawlib = Object.assign(window.drawlib ?? {}, {
  range, sum, transpose, product, scaled, largest,
  centre, stride, grid, filterMatrix, filterbank, read, write, MISTAKES,
  logProb, density, gaussianKL, merge, trapezoid, posterior, bound,
});
})();
