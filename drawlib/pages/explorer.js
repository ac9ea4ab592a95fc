// The book's live pages: the filters, a bound in one dimension, the merge of two
// Gaussians, and a player for a trained model's steps. A classic script without any
// dependency; drawlib/pages/embedded.py puts it into a page, after explorer_maths.js and
// explorer_parts.js. It may stand in a page many times: each run mounts only the hosts
// that are not mounted yet.
(() => {
"use strict";

const { range, sum, largest, filterbank, read, write, MISTAKES } = window.drawlib;
const { density, gaussianKL, merge, posterior, bound } = window.drawlib;
const { BLUE, GREEN, VERMILLION } = window.drawlib.parts;
const { fixed, ends, element, surface, inked, picked, bytes } = window.drawlib.parts;
const { drawBitmap, drawImage, drawGrid, SPEEDS, timeline, Pad } = window.drawlib.parts;

// ---- Matrices and curves

// A filter matrix, darker where the weight is larger, with a bar for each row's sum.
function drawMatrix(canvas, rows) {
  const { pen, width, height, colour } = surface(canvas);
  const room = 70;
  drawBitmap(pen, inked(rows, largest(rows) || 1), 0, 0, width - room, height - 18);
  const each = (height - 18) / rows.length;
  const unit = (room - 22) / 1.2;
  pen.fillStyle = colour("blue");
  rows.forEach((row, i) => {
    const long = Math.min(sum(row), 1.2) * unit;
    pen.fillRect(width - room + 8, i * each + 0.15 * each, long, 0.7 * each);
  });
  pen.fillStyle = colour("text");
  pen.fillRect(width - room + 8 + unit, 0, 1, height - 18);
  pen.fillText("1", width - room + 4 + unit, height - 4);
  pen.fillText("Σ", width - room + 4, height - 4);
  pen.fillText("pixel →", 0, height - 4);
}

// Curves over one axis; each has a sign (its dashes) beside its colour's name.
function drawCurves(canvas, [low, high], curves) {
  const { pen, width, height, colour } = surface(canvas);
  const [left, base, points] = [6, height - 22, 300];
  const z = range(points, (k) => low + ((high - low) * k) / (points - 1));
  const x = (at) => left + ((at - low) / (high - low)) * (width - 2 * left);
  const heights = curves.map(({ value }) => z.map(value));
  const top = Math.max(...heights.flat()) * 1.1;
  const y = (at) => base - (at / top) * (base - 24 * curves.length);
  pen.fillStyle = colour("quiet");
  pen.fillRect(left, base, width - 2 * left, 1);
  for (let tick = Math.ceil(low); tick <= high; tick += high - low > 8 ? 2 : 1) {
    pen.fillRect(x(tick), base, 1, 5);
    pen.textAlign = "center";
    pen.fillText(fixed(tick, 0), x(tick), base + 18);
  }
  pen.textAlign = "left";
  curves.forEach(({ name, hue, dash = [], filled }, k) => {
    pen.beginPath();
    z.forEach((at, i) => pen.lineTo(x(at), y(heights[k][i])));
    pen.strokeStyle = pen.fillStyle = colour(hue);
    pen.lineWidth = 2.5;
    pen.setLineDash(dash);
    pen.stroke();
    if (filled) { pen.globalAlpha = 0.2; pen.fill(); pen.globalAlpha = 1; }
    pen.beginPath();
    pen.moveTo(left, 13 + 22 * k);
    pen.lineTo(left + 34, 13 + 22 * k);
    pen.stroke();
    pen.setLineDash([]);
    pen.fillStyle = colour("text");
    pen.fillText(name, left + 42, 17 + 22 * k);
  });
}

// ---- Chapter 8: the filters

function filterbankExplorer(page, host, data) {
  const size = data.size;
  const [height, width] = size;
  const images = data.images.map((text) => {
    const values = bytes(text);
    return range(height, (b) => range(width, (a) => values[b * width + a] / 255));
  });
  const sources = Object.fromEntries(data.labels.map((label, k) => [k, label]));
  const source = page.choice("image", { ...sources, own: "draw your own" });
  const kernel = page.choice("kernel", { gaussian: "Gaussian", cauchy: "Cauchy" });
  const entries = Object.entries(MISTAKES);
  const mistake = page.choice("public mistake, switched on",
    Object.fromEntries(entries.map(([name, { label }]) => [name, label])));
  const gX = page.slider("g̃_X, centre across", [-1.5, 1.5, 0.01, 0]);
  const gY = page.slider("g̃_Y, centre down", [-1.5, 1.5, 0.01, 0]);
  const logDelta = page.slider("δ̃, stride", [-3, 1, 0.05, -0.4], (v) => fixed(Math.exp(v)));
  const third = page.slider("σ² (Cauchy: s²), width in pixels²", [-6, 6, 0.1, 0],
    (v) => fixed(Math.exp(v), v < 0 ? 3 : 1));
  const logGamma = page.slider("γ, intensity", [-2, 2, 0.1, 0], (v) => fixed(Math.exp(v)));
  const N = page.slider("N, filters on each axis", [1, 28, 1, 7], (v) => `${v} × ${v}`);
  const note = element("p", { "aria-live": "polite" });
  page.controls.after(note);

  const pad = new Pad(page, size, () => page.update());
  const margin = 7;
  const ratio = (height + 2 * margin) / (width + 2 * margin);
  const whole = page.picture("large", ratio);
  const patchPicture = page.picture("", 1);
  const rightPicture = page.picture("", 1);
  const back = page.picture("", height / width);
  const matrices = { X: page.picture("matrix", 0.5), Y: page.picture("matrix", 0.5) };

  function drawWhole(image, filters, right, isWrong) {
    const place = drawImage(whole.canvas, inked(image), margin);
    if (isWrong) drawGrid(place, right.muX, right.muY, BLUE, true);
    drawGrid(place, filters.muX, filters.muY, VERMILLION);
    const inside = (mu, length) => mu.filter((m) => m >= 0 && m <= length - 1).length;
    const outside = filters.muX.length ** 2 - inside(filters.muX, width) * inside(filters.muY, height);
    const where = `Centres across ${ends(filters.muX)}, down ${ends(filters.muY)}; ` +
      `${outside} of ${filters.muX.length ** 2} outside of the image.`;
    const should = ` Without the mistake (dashed): ${ends(right.muX)}, ${ends(right.muY)}.`;
    whole.tell(`The image and the grid on it. ${where}`, where + (isWrong ? should : ""));
  }

  function drawPatch(picture, name, patch, top) {
    drawImage(picture.canvas, inked(patch, top));
    picture.tell(`${name}, largest value ${fixed(largest(patch), 3)}`);
  }

  // As dark as what is right would be: written ink is thin, for it is spread out.
  function drawBack(written, rightWritten) {
    drawImage(back.canvas, inked(written ?? [[0]], largest(rightWritten) || 1));
    back.tell(written
      ? `The patch written back; γ cancels. Largest value ${fixed(largest(written), 3)}`
      : `Nothing is written back: ${height} × N times N × N times ${width} × N does not fit.`);
  }

  page.start(host, () => {
    const own = source() === "own";
    pad.picture.figure.hidden = !own;
    const image = own ? pad.image : images[Number(source())];
    const raw = [gX(), gY(), third(), logDelta(), logGamma()];
    const { note: text, wrong, normalise = "exact" } = MISTAKES[mistake()];
    const isWrong = mistake() !== "none";
    const options = { kernel: kernel(), normalise, wrong };
    const filters = filterbank(raw, size, N(), options);
    const right = filterbank(raw, size, N(), { kernel: kernel() });
    const [patch, rightPatch] = [read(filters, image), read(right, image)];
    const written = write(filters, patch, wrong);
    rightPicture.figure.hidden = !isWrong;
    if (own) pad.draw();
    drawWhole(image, filters, right, isWrong);
    drawPatch(patchPicture, `The ${N()} × ${N()} patch that is read`, patch, filters.gamma);
    drawPatch(rightPicture, "Without the mistake", rightPatch, filters.gamma);
    drawBack(written, write(right, rightPatch));
    const rowSums = { X: filters.Fx.map(sum), Y: filters.Fy.map(sum) };
    for (const [axis, rows] of [["X", filters.Fx], ["Y", filters.Fy]]) {
      drawMatrix(matrices[axis].canvas, rows);
      const [least, most] = [Math.min(...rowSums[axis]), Math.max(...rowSums[axis])];
      matrices[axis].tell(`F_${axis}, one filter per row. Rows sum to ${fixed(least, 3)} … ${fixed(most, 3)}`);
    }
    const gap = largest(patch.map((row, j) => row.map((v, i) => Math.abs(v - rightPatch[j][i]))));
    note.textContent = isWrong
      ? `${text} Largest difference in the patch: ${fixed(gap, 3)}.` : text;
    page.told.textContent = `Stride δ = ${fixed(filters.delta)} pixels, filter width ` +
      `${kernel() === "cauchy" ? "s" : "σ"} = ${fixed(Math.sqrt(filters.width))} pixels.`;
    return { raw, N: N(), ...filters, image, patch, rightPatch, written, rowSums };
  });
}

// ---- Chapter 2: the bound in one dimension

function elboExplorer(page, host, data) {
  const [low, high, points] = data.grid;
  const z = range(points, (k) => low + ((high - low) * k) / (points - 1));
  const logLikelihood = [...new Float64Array(bytes(data.log_likelihood).buffer)];
  const exact = posterior(z, logLikelihood);
  function exactAt(at) {
    const place = ((at - low) / (high - low)) * (points - 1);
    const [below, part] = [Math.floor(place), place % 1];
    const [a, b] = exact.logPosterior.slice(below, below + 2);
    return Math.exp((1 - part) * a + part * b);
  }
  const mu = page.slider("μ, mean of q", [-3, 3, 0.01, 0]);
  const sigma = page.slider("σ, standard deviation of q", [0.1, 1.5, 0.01, 1]);
  const curves = page.picture("wide curves", 0.5);
  const gap = page.picture("wide gap", 0.16);
  const fill = page.table(["E_q[log p(x|z)]", "− KL(q ‖ prior)", "= ELBO",
    "+ KL(q ‖ posterior)", "= ELBO + KL", "log p(x), by quadrature"]);
  page.told.textContent = "All in nats. log p(x) does not depend on q: what the ELBO gains, the KL loses.";

  function drawGap({ logP, elbo, klPosterior }) {
    const { pen, width, height, colour } = surface(gap.canvas);
    const scale = (width - 24) / Math.max(2, 1.1 * klPosterior);
    const edge = width - 12;
    pen.fillStyle = colour("orange");
    pen.fillRect(edge - klPosterior * scale, 22, klPosterior * scale, height - 42);
    pen.fillStyle = colour("blue");
    pen.fillRect(0, 22, edge - klPosterior * scale, height - 42);
    pen.fillStyle = colour("text");
    pen.fillRect(edge, 16, 2, height - 30);
    pen.textAlign = "right";
    pen.fillText(`log p(x) = ${fixed(logP)}`, edge, 12);
    const text = `ELBO = ${fixed(elbo)}`;
    pen.fillText(text, Math.max(pen.measureText(text).width, edge - klPosterior * scale), height - 4);
    gap.tell(`The ELBO, ${fixed(elbo, 3)} nats, ends below log p(x), ${fixed(logP, 3)}.`,
      `Blue: the ELBO. Orange: what is missing to log p(x), KL(q ‖ posterior) = ${fixed(klPosterior, 3)} nats.`);
  }

  page.start(host, () => {
    const q = { mu: mu(), sigma: sigma() };
    const found = bound(z, logLikelihood, q);
    drawCurves(curves.canvas, [-4, 4], [
      { name: "posterior p(z|x)", hue: "blue", value: exactAt, filled: true },
      { name: "q(z) = N(μ, σ²)", hue: "vermillion", dash: [8, 4], value: (at) => density(at, q.mu, q.sigma) },
      { name: "prior p(z) = N(0, 1)", hue: "quiet", dash: [2, 3], value: (at) => density(at, 0, 1) },
    ]);
    curves.tell(`Posterior, prior, and q with mean ${fixed(q.mu)} and standard deviation ${fixed(q.sigma)}.`);
    drawGap(found);
    const { reconstruction, klPrior, elbo, klPosterior, logP } = found;
    const total = elbo + klPosterior;
    fill([reconstruction, -klPrior, elbo, klPosterior, total, logP].map((v) => fixed(v, 4)));
    return { ...found, q };
  });
}

// ---- Chapter 6: the merge of two Gaussians

function mergeExplorer(page, host) {
  const deviation = [-2.5, 1, 0.05];
  const shown = (v) => fixed(Math.exp(v));
  const muHat = page.slider("μ̂, bottom-up mean", [-3, 3, 0.05, 1.5]);
  const logHat = page.slider("σ̂, bottom-up deviation", [...deviation, -0.5], shown);
  const muP = page.slider("μ_p, top-down mean", [-3, 3, 0.05, -1]);
  const logP = page.slider("σ_p, top-down deviation", [...deviation, 0], shown);
  const curves = page.picture("wide curves", 0.5);
  const fill = page.table(["precision σ̂⁻²", "precision σ_p⁻²", "precision of q, their sum",
    "weight of μ̂", "μ_q", "σ_q", "KL(q ‖ p) (nats)"]);

  page.start(host, () => {
    const qHat = { mu: muHat(), sigma: Math.exp(logHat()) };
    const p = { mu: muP(), sigma: Math.exp(logP()) };
    const q = merge(qHat, p);
    const kl = gaussianKL(q, p);
    const curve = (name, of, hue, dash, filled) =>
      ({ name, hue, dash, filled, value: (at) => density(at, of.mu, of.sigma) });
    drawCurves(curves.canvas, [-5, 5], [
      curve("N(μ̂, σ̂²), from the data", qHat, "blue", [8, 4]),
      curve("N(μ_p, σ_p²), from above", p, "green", [2, 3]),
      curve("q, their product, normalised", q, "vermillion", [], true),
    ]);
    curves.tell(`Two Gaussians and their normalised product, with mean ${fixed(q.mu)} and deviation ${fixed(q.sigma)}.`);
    page.told.textContent = `q stands at ${fixed(q.share)} · μ̂ + ${fixed(1 - q.share)} · μ_p, nearer to the ` +
      `surer of the two, and is narrower than both.`;
    fill([q.bottom, q.top, q.bottom + q.top, q.share, q.mu, q.sigma, kl].map((v) => fixed(v, 4)));
    return { qHat, p, q, kl };
  });
}

// ---- Chapters 9 and 12: a trained model's steps

function player(page, host, data) {
  const { T, n, kl, shape, stops } = data;
  const [channels, height, width] = shape;
  const names = Object.fromEntries(range(n, (k) => [k, `image ${k + 1}`]));
  const which = page.choice("image", names);
  const speed = page.choice("speed", SPEEDS);
  const stacks = Object.fromEntries(["images", "canvases", "patches"].map(
    (name) => [name, data[name] ? bytes(data[name]) : null]));
  const x = page.picture("", height / width);
  const patch = stacks.patches ? page.picture("", 1) : null;
  const canvas = page.picture("", height / width);
  const L = data.latent && data.memory;
  const latent = L ? page.picture("", L.size[0] / L.size[1]) : null;
  const memory = L ? picked(bytes(L.values), 0, [1, ...L.size]) : null;
  const { step, playing, label, draw } = timeline(page, host, T, speed);
  page.body.append(page.told);

  function drawWindowed(picture, image, windows, t, k, colour, text) {
    const place = drawImage(picture.canvas, image);
    if (!windows) return picture.tell(text);
    const [muX, muY] = [windows.mu_x[t - 1][k], windows.mu_y[t - 1][k]];
    drawGrid(place, muX, muY, colour);
    const { sigma, gamma } = windows;
    const numbers = `filter width ${fixed(sigma[t - 1][k])}, γ ${fixed(gamma[t - 1][k])}`;
    picture.tell(`${text}, window across ${ends(muX)}, down ${ends(muY)}, ${numbers}`,
      `${text}; ${numbers}`);
  }

  page.start(host, () => {
    label();
    const [t, k] = [step(), Number(which())];
    const at = (t - 1) * n + k;
    drawWindowed(x, picked(stacks.images, k, shape), data.read, t, k, BLUE, `x${data.read ? ", and where it is read" : ""}`);
    if (patch) {
      const side = data.read.mu_x[0][0].length;
      drawImage(patch.canvas, picked(stacks.patches, at, [channels, side, side]));
      patch.tell("what is read of x, divided by γ");
    }
    drawWindowed(canvas, picked(stacks.canvases, at, shape), data.write, t, k, VERMILLION,
      `canvas after step ${t}${data.write ? ", and where it was written" : ""}`);
    if (latent) drawWindowed(latent, memory, data.latent, t, k, GREEN, "latent space, and where it is read");
    draw(kl[k], stops?.[k]);
    const [klStep, klSoFar, klTotal] = [kl[k][t - 1], sum(kl[k].slice(0, t)), sum(kl[k])];
    page.told.textContent = `KL so far: ${fixed(klSoFar)} of ${fixed(klTotal)} nats.`;
    return { t, k, klStep, klSoFar, klTotal, stops: stops?.[k] ?? null, playing: playing() };
  });
}

Object.assign(window.drawlib.kinds, {
  filterbank: [filterbankExplorer, "The filters."],
  elbo: [elboExplorer, "The bound in one dimension."],
  merge: [mergeExplorer, "The merge of two Gaussians."],
  player: [player, "Step by step."],
});
window.drawlib.mountAll();
})();
