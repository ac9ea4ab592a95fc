// DRAW and GLAS in the page itself: the step of drawlib/recurrent.py, eqs. (3) to (8), on
// typed arrays. It needs explorer_maths.js before it, whose filters it uses, then
// web_arithmetic.js, and a file that `python -m drawlib export-web` wrote. The tests
// compare the two number by number.
//
// A step takes less than a millisecond, so it runs in the page's own thread: `play` gives the
// page its turn every few milliseconds. A Worker would have to be made from a string of
// this text, and copy every canvas, to gain nothing that a reader can see.
(() => {
"use strict";

const { filterbank } = window.drawlib;
const { bytesOf, tensor, sigmoid, Matrices, memory } = window.drawlib.arithmetic;
const { readPatch, writePatch, softmax, normalised } = window.drawlib.arithmetic;

function demand(name, values, size) {
  if (!values || values.length !== size) {
    throw new Error(`${name} has ${values ? values.length : "no"} numbers; allowed: ${size}`);
  }
}

// ---- The model

class Model {
  constructor(json) {
    if (json.schema !== "drawlib-web-1") {
      throw new Error(`schema is ${json.schema}; allowed: drawlib-web-1`);
    }
    const bytes = bytesOf(json.data), config = json.config;
    const w = Object.fromEntries(
      Object.entries(json.tensors).map(([name, about]) => [name, tensor(bytes, about)]));
    Object.assign(this, { name: json.name, kind: json.kind, measured: json.measured });
    this.live = json.live ?? null; // what drawlib/pages/pad.py adds for the live page
    Object.assign(this, { config, w, T: config.T, z: config.z, shape: config.image_shape });
    const [channels, height, width] = this.shape, hidden = config.hidden;
    this.pixels = channels * height * width;
    this.attends = config.attention !== "none";
    this.pi = stopPrior(config.stop ?? "last", config.T);
    this.patchSize = channels * config.read * config.read;
    this.inference = this.generative = false;
    if (this.kind === "glas" && config.latent_attention !== "none") {
      this.generative = config.memory === "generative";
      this.inference = !this.generative;
      this.L = "mask" in w ? w.L.map((v, k) => v * w.mask[k]) : w.L;
    }
    // Room for what a step computes; states hold all that lasts longer.
    this.gates = new Float32Array(4 * hidden);
    const seen = this.attends ? 2 * this.patchSize : this.pixels;
    this.encoderInput = new Float32Array(seen + 2 * hidden);
    this.decoderInput = new Float32Array(w["decoder.weight"].length / (4 * hidden));
    if (!this.attends) this.hoist();
    const named = (end) => Object.fromEntries(Object.keys(w)
      .filter((name) => name.endsWith(".weight"))
      .map((name) => [name.slice(0, -7), w[name.slice(0, -7) + end]]));
    this.matrices = new Matrices(named(".weight"), named(".bias"));
  }

  // W₁x + W₂x̂ = (W₁ + W₂) x + W₂ (0 − σ(c)): the first product is the same at each step.
  // Here one row a pixel, so that an empty pixel costs nothing.
  hoist() {
    const weight = this.w["encoder.weight"], P = this.pixels, rows = this.gates.length;
    const stride = weight.length / rows;
    this.ofPixels = new Float32Array(P * rows);
    for (let r = 0; r < rows; r++) {
      for (let p = 0; p < P; p++) {
        this.ofPixels[p * rows + r] = weight[r * stride + p] + weight[r * stride + P + p];
      }
    }
  }

  head(name, v) {
    return this.matrices.times(name, v, new Float32Array(this.w[name + ".bias"].length));
  }

  gaussian(name, h) {
    const both = this.head(name, h);
    return { mu: both.slice(0, this.z), logSigma: both.slice(this.z) };
  }

  // h_0 and c_0; what `step` and `dream` change as they go
  start() {
    const begin = (name, size) =>
      this.w["start_" + name]?.slice() ?? new Float32Array(size);
    const { hidden } = this.config, state = { t: 0, seen: null, fixed: null };
    for (const name of ["h_enc", "c_enc", "h_dec", "c_dec"]) state[name] = begin(name, hidden);
    state.logits = begin("canvas", this.pixels);
    state.canvas = this.mean(state.logits);
    return state;
  }

  window(raw, size, N, options) {
    const filters = filterbank(Array.from(raw), size, N, options);
    return { ...filters, sigma: Math.exp(raw[2] / 2) };
  }

  imageWindow(name, h, N) {
    const options = { kernel: this.config.attention };
    return this.window(this.head(name, h), this.shape.slice(1), N, options);
  }

  // What GLAS sees in L from `features`, and where it looked
  attend(features) {
    const { M, N, rows, grid, latent_attention: kind } = this.config, L = this.L;
    const head = this.head("latent_head", features);
    if (kind === "gaussian" || kind === "cauchy") {
      const wrong = grid === "legacy" ? { bracket: true, oneBased: true } : {};
      const window = this.window(head, [M, M], N, { kernel: kind, normalise: rows, wrong });
      const cells = new Float32Array(N * N);
      readPatch(window, L, 0, cells, 0);
      return { cells, window };
    }
    if (kind !== "content") {
      const scaled = kind === "scaled-softmax";
      const gates = kind === "sigmoid" ? head.map(sigmoid)
        : softmax(scaled ? head.subarray(1) : head);
      if (scaled) for (let k = 0; k < M; k++) gates[k] *= Math.exp(head[0]);
      return { cells: L.map((v, k) => v * gates[k % M]), window: null };
    }
    const key = normalised(head.subarray(1)), cells = L.slice();
    for (let r = 0; r < M; r++) cells.set(normalised(L.subarray(r * M, r * M + M)), r * M);
    const matches = Float64Array.from({ length: M }, (_, r) =>
      head[0] * key.reduce((total, v, k) => total + v * cells[r * M + k], 0));
    const weights = softmax(matches);
    return { cells: cells.map((v, k) => v * weights[Math.floor(k / M)]), window: null };
  }

  // The product with x, brought up to date for the pixels that changed since last time
  fixedFor(state, image) {
    const rows = this.gates.length;
    state.fixed ??= this.w["encoder.bias"].slice();
    state.seen ??= new Float32Array(this.pixels);
    for (let p = 0; p < this.pixels; p++) {
      const change = image[p] - state.seen[p];
      if (change === 0) continue;
      state.seen[p] = image[p];
      const at = p * rows;
      for (let r = 0; r < rows; r++) state.fixed[r] += change * this.ofPixels[at + r];
    }
    return state.fixed;
  }

  encode(state, image, result) {
    const v = this.encoderInput, P = this.pixels;
    const { canvas } = state, error = new Float32Array(P);
    let bias = this.w["encoder.bias"], read = P, from = P;
    for (let p = 0; p < P; p++) error[p] = image[p] - canvas[p]; // Eq. (3)
    if (this.attends) {
      const { read: N } = this.config, [channels, height, width] = this.shape;
      result.read = this.imageWindow("read_head", state.h_dec, N);
      for (let c = 0; c < channels; c++) {
        const at = c * height * width;
        readPatch(result.read, image, at, v, c * N * N); // Eqs. (4), (27)
        readPatch(result.read, error, at, v, this.patchSize + c * N * N);
      }
      read = 2 * this.patchSize;
      from = 0;
      result.patch = v.slice(0, read);
    } else {
      for (let p = 0; p < P; p++) v[p] = -canvas[p];
      bias = this.fixedFor(state, image);
    }
    result.error = error;
    v.set(state.h_dec, read);
    v.set(state.h_enc, read + state.h_dec.length);
    this.matrices.times("encoder", v, this.gates, from, bias); // Eq. (5)
    memory(this.gates, state.h_enc, state.c_enc);
  }

  decode(state, z, result) {
    const v = this.decoderInput;
    let seen = z;
    if (this.generative) {
      const { cells, window } = this.attend(z);
      [seen, result.latent] = [cells, window];
    }
    v.set(seen);
    v.set(state.h_dec, seen.length);
    this.matrices.times("decoder", v, this.gates);
    memory(this.gates, state.h_dec, state.c_dec); // Eqs. (7), (14)
    const w = this.head("writer", state.h_dec), { logits } = state; // Eqs. (18), (28)
    if (this.attends) {
      const { write: N } = this.config, [channels, height, width] = this.shape;
      result.write = this.imageWindow("write_head", state.h_dec, N);
      for (let c = 0; c < channels; c++) {
        writePatch(result.write, w, c * N * N, logits, c * height * width); // Eq. (29)
      }
    } else {
      for (let p = 0; p < logits.length; p++) logits[p] += w[p];
    }
    state.canvas = this.mean(logits);
    state.t += 1;
    // Eqs. (8), (15); a copy, which no later step changes
    return { ...result, z, logits: logits.slice(), canvas: state.canvas };
  }

  prior(state) {
    if (this.config.prior === "learned") return this.gaussian("prior_head", state.h_dec);
    return { mu: new Float32Array(this.z), logSigma: new Float32Array(this.z) };
  }

  blank() {
    return { error: null, patch: null, read: null, write: null, latent: null };
  }

  // One step of inference: eqs. (3) to (8). `image` in [0, 1], `eps` from N(0, 1).
  step(state, image, eps) {
    demand("image", image, this.pixels);
    demand("eps", eps, this.z);
    const result = this.blank(), p = this.prior(state);
    this.encode(state, image, result);
    let features = state.h_enc;
    if (this.inference) {
      const { cells, window } = this.attend(features);
      [features, result.latent] = [cells, window];
    }
    const { mu, logSigma } = this.gaussian("q_head.linear", features); // Eqs. (1), (2)
    const z = mu.map((m, k) => m + Math.exp(logSigma[k]) * eps[k]); // Eq. (6)
    let kl = 0;
    for (let k = 0; k < z.length; k++) {
      const gap = 2 * (logSigma[k] - p.logSigma[k]);
      const distance = (mu[k] - p.mu[k]) * Math.exp(-p.logSigma[k]);
      kl += 0.5 * (Math.exp(gap) - gap - 1 + distance * distance);
    }
    return { ...this.decode(state, z, result), mu, logSigma, kl };
  }

  // One step of generation: eqs. (13) to (15), z from the prior.
  dream(state, eps) {
    demand("eps", eps, this.z);
    const { mu, logSigma } = this.prior(state);
    const z = mu.map((m, k) => m + Math.exp(logSigma[k]) * eps[k]);
    return { ...this.decode(state, z, this.blank()), mu, logSigma, kl: null };
  }

  // All T steps; `noise` holds T times z numbers, step by step.
  run(image, noise) {
    return this.all(noise, (state, eps) => this.step(state, image, eps));
  }

  generate(noise) {
    return this.all(noise, (state, eps) => this.dream(state, eps));
  }

  all(noise, one) {
    demand("noise", noise, this.T * this.z);
    const state = this.start(), steps = [];
    for (let t = 0; t < this.T; t++) {
      steps.push(one(state, noise.slice(t * this.z, (t + 1) * this.z)));
    }
    return steps;
  }

  // `run`, or without an image `generate`, in slices: the page has its turn whenever
  // `budget` milliseconds are spent, and after each `onStep` that returns a promise.
  // Ends early where `signal`, an AbortSignal, says so; the steps that were done.
  async play({ image = null, noise, onStep = () => {}, budget = 8, signal = null }) {
    demand("noise", noise, this.T * this.z);
    const state = this.start(), steps = [];
    let since = performance.now();
    for (let t = 0; t < this.T && !signal?.aborted; t++) {
      const eps = noise.slice(t * this.z, (t + 1) * this.z);
      steps.push(image ? this.step(state, image, eps) : this.dream(state, eps));
      const asked = onStep(steps[t], t);
      const spent = performance.now() - since > budget;
      if (asked) await asked;
      else if (spent) await new Promise((done) => setTimeout(done, 0));
      if (asked || spent) since = performance.now();
    }
    return steps;
  }

  // The mean of D(X given the canvas), from its logits
  mean(logits) {
    if (this.config.likelihood !== "categorical") return logits.map(sigmoid);
    const means = new Float32Array(this.pixels);
    eachPlace(logits, this.shape[0], (own, place) => softmax(own).forEach(
      (v, k) => { means[place(k)] = v; }));
    return means;
  }

  // −ELBO of `image` for a drawing that stops after each of its `steps`, in nats:
  // −log D(x given c_t) + Σ_{s≤t} KL_s (drawlib/stops.py)
  stops(steps, image) {
    let paid = 0;
    return steps.map(({ kl, logits }) => (paid += kl) - this.logLikelihood(logits, image));
  }

  // Eq. (9), log p(x given c) in nats: of bits, of 8-bit levels, or of letters
  logLikelihood(logits, image) {
    const { likelihood } = this.config;
    if (likelihood === "bernoulli") return ofBits(logits, image);
    if (likelihood === "categorical") return ofLetters(logits, image, this.shape[0]);
    return ofLevels(logits, image, this.w["likelihood.log_scale"]);
  }
}

// π_1 … π_T, the probability of each step to be the last one
function stopPrior(stop, T) {
  if (Array.isArray(stop)) return stop;
  return Array.from({ length: T }, (_, t) => stop === "uniform" ? 1 / T : Number(t === T - 1));
}

const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

// Σ x c − softplus(c)
function ofBits(logits, image) {
  let total = 0;
  for (let p = 0; p < logits.length; p++) total += image[p] * logits[p] - softplus(logits[p]);
  return total;
}

// Calls `each` with the numbers of all channels at one place, and where they stand.
function eachPlace(values, channels, each) {
  const places = values.length / channels;
  for (let i = 0; i < places; i++) {
    const place = (k) => k * places + i;
    each(Float64Array.from({ length: channels }, (_, k) => values[place(k)]), place);
  }
}

// Σ over places and their channels, x log softmax(c)
function ofLetters(logits, image, channels) {
  let total = 0;
  eachPlace(logits, channels, (own, place) => {
    const top = Math.max(...own);
    const all = top + Math.log(own.reduce((sum, v) => sum + Math.exp(v - top), 0));
    own.forEach((v, k) => { total += image[place(k)] * (v - all); });
  });
  return total;
}

// Σ log(Λ((x + ½Δ − m)/s) − Λ((x − ½Δ − m)/s)), m = σ(c), Δ = 1/255, s of each channel; the
// outermost bins take the tails. As in drawlib/likelihood.py, which says why in this form.
function ofLevels(logits, image, logScale) {
  const channel = logits.length / logScale.length, half = 0.5 / 255;
  let total = 0;
  for (let p = 0; p < logits.length; p++) {
    const inverse = Math.exp(-logScale[Math.floor(p / channel)]);
    const x = image[p], gap = x - sigmoid(logits[p]);
    const above = -softplus(-(gap + half) * inverse), below = -softplus((gap - half) * inverse);
    if (x < half) total += above;
    else if (x > 1 - half) total += below;
    else total += above + below + Math.log(-Math.expm1(-inverse / 255));
  }
  return total;
}

const loadModel = (json) => new Model(json);

// The model called `name` of an exported file, which is loaded when it is first asked for:
// by a script element, since a page from a file may load nothing in any other way.
const waiting = {};
function fetchModel(url, name) {
  waiting[url] ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = done;
    script.onerror = () => failed(new Error(`${url} cannot be loaded`));
    document.head.append(script);
  }).catch((error) => {
    delete waiting[url];
    throw error;
  });
  return waiting[url].then(() => {
    const json = window.drawlibModels?.[name];
    if (!json) throw new Error(`${url} holds no model ${name}`);
    return loadModel(json);
  });
}

// Standard-normal numbers from a seed (mulberry32, Box and Muller): the same everywhere
// to the last digits of log and cos.
function noise(seed, count) {
  let a = seed >>> 0;
  const uniform = () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return Float32Array.from({ length: count }, () =>
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()));
}

// Added to what is there: the live pages' scripts may stand before and after.
window.drawlib = Object.assign(window.drawlib, { loadModel, fetchModel, noise });
})();
