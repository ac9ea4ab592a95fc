// The book's live pages: the filters, a bound in one dimension, the merge of two
// Gaussians, and a player for a trained model's steps. A classic script without any
// dependency; drawlib/explorer.py puts it into a page, after explorer_maths.js. It may
// stand in a page many times: each run mounts only the hosts that are not mounted yet.
(() => {
"use strict";

const { range, sum, largest, filterbank, read, write, MISTAKES } = window.drawlib;
const { density, gaussianKL, merge, posterior, bound } = window.drawlib;

// ---- Words and pictures

const BLUE = "#0072B2", ORANGE = "#E69F00", GREEN = "#009E73", VERMILLION = "#D55E00";
const TEXT = "#1b1b1b", QUIET = "#595959", PAPER = "#ffffff", DESK = "#e4e4e4";

const fixed = (value, digits = 2) =>
  (Object.is(Number(value.toFixed(digits)), -0) ? 0 : value)
    .toFixed(digits).replace("-", "−");
const ends = (mu) => `${fixed(mu[0])} … ${fixed(mu[mu.length - 1])}`;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// A drawing pen in CSS pixels on a canvas that is sharp on dense screens too.
function surface(canvas) {
  const [width, height] = [canvas.clientWidth || 1, canvas.clientHeight || 1];
  const dense = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * dense);
  canvas.height = Math.round(height * dense);
  const pen = canvas.getContext("2d");
  pen.scale(dense, dense);
  pen.font = "13px system-ui, sans-serif";
  return { pen, width, height };
}

// An image of one canvas pixel a value; `shade(row, column, channel)` is 0 to 255.
function bitmap(height, width, shade) {
  const canvas = element("canvas", { width, height });
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(width, height);
  image.data.forEach((_, k) => {
    const [pixel, channel] = [k >> 2, k & 3];
    const colour = () => shade(Math.floor(pixel / width), pixel % width, channel);
    image.data[k] = channel === 3 ? 255 : colour();
  });
  pen.putImageData(image, 0, 0);
  return canvas;
}

// Ink on paper: 0 is white, `top` and more is black.
const inked = (rows, top = 1) =>
  bitmap(rows.length, rows[0].length, (row, column) =>
    255 * (1 - (rows[row][column] || 0) / top));

function drawBitmap(pen, image, x, y, width, height) {
  pen.imageSmoothingEnabled = false;
  pen.drawImage(image, x, y, width, height);
  pen.strokeStyle = QUIET;
  pen.lineWidth = 1;
  pen.strokeRect(x, y, width, height);
}

// An image with some desk around it, so that centres just outside of it can be seen.
function drawImage(canvas, image, margin = 0) {
  const { pen, width, height } = surface(canvas);
  const scale = width / (image.width + 2 * margin);
  pen.fillStyle = DESK;
  pen.fillRect(0, 0, width, height);
  const edge = margin * scale;
  drawBitmap(pen, image, edge, edge, image.width * scale, image.height * scale);
  // Pixel p covers p to p + 1; its centre, where μ = p, lies half a pixel further.
  return { pen, scale, at: (p) => (p + 0.5 + margin) * scale };
}

function drawGrid({ pen, at, scale }, muX, muY, colour, hollow = false) {
  const [x, y] = [muX.map(at), muY.map(at)];
  const last = x.length - 1;
  // A white line below the coloured one: it must be seen on black ink too.
  for (const [style, thick] of [[PAPER, 5], [colour, 2]]) {
    pen.setLineDash(hollow && style === colour ? [4, 4] : []);
    pen.strokeStyle = pen.fillStyle = style;
    pen.lineWidth = thick;
    pen.strokeRect(x[0], y[0], x[last] - x[0], y[last] - y[0]);
  }
  pen.setLineDash([]);
  const radius = Math.max(1.5, Math.min(3, scale / 3));
  for (const b of y) for (const a of x) {
    pen.beginPath();
    pen.arc(a, b, radius, 0, 2 * Math.PI);
    if (hollow) pen.stroke(); else pen.fill();
  }
}

// A filter matrix, darker where the weight is larger, with a bar for each row's sum.
function drawMatrix(canvas, rows) {
  const { pen, width, height } = surface(canvas);
  const room = 70;
  drawBitmap(pen, inked(rows, largest(rows) || 1), 0, 0, width - room, height - 18);
  const each = (height - 18) / rows.length;
  const unit = (room - 22) / 1.2;
  pen.fillStyle = BLUE;
  rows.forEach((row, i) => {
    const long = Math.min(sum(row), 1.2) * unit;
    pen.fillRect(width - room + 8, i * each + 0.15 * each, long, 0.7 * each);
  });
  pen.fillStyle = TEXT;
  pen.fillRect(width - room + 8 + unit, 0, 1, height - 18);
  pen.fillText("1", width - room + 4 + unit, height - 4);
  pen.fillText("Σ", width - room + 4, height - 4);
  pen.fillText("pixel →", 0, height - 4);
}

// Curves over one axis; each has a sign (its dashes) beside its colour.
function drawCurves(canvas, [low, high], curves) {
  const { pen, width, height } = surface(canvas);
  const [left, base, points] = [6, height - 22, 300];
  const z = range(points, (k) => low + ((high - low) * k) / (points - 1));
  const x = (at) => left + ((at - low) / (high - low)) * (width - 2 * left);
  const heights = curves.map(({ value }) => z.map(value));
  const top = Math.max(...heights.flat()) * 1.1;
  const y = (at) => base - (at / top) * (base - 24 * curves.length);
  pen.fillStyle = QUIET;
  pen.fillRect(left, base, width - 2 * left, 1);
  for (let tick = Math.ceil(low); tick <= high; tick += high - low > 8 ? 2 : 1) {
    pen.fillRect(x(tick), base, 1, 5);
    pen.textAlign = "center";
    pen.fillText(fixed(tick, 0), x(tick), base + 18);
  }
  pen.textAlign = "left";
  curves.forEach(({ name, colour, dash = [], filled }, k) => {
    pen.beginPath();
    z.forEach((at, i) => pen.lineTo(x(at), y(heights[k][i])));
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = 2.5;
    pen.setLineDash(dash);
    pen.stroke();
    if (filled) { pen.globalAlpha = 0.2; pen.fill(); pen.globalAlpha = 1; }
    pen.beginPath();
    pen.moveTo(left, 13 + 22 * k);
    pen.lineTo(left + 34, 13 + 22 * k);
    pen.stroke();
    pen.setLineDash([]);
    pen.fillStyle = TEXT;
    pen.fillText(name, left + 42, 17 + 22 * k);
  });
}

// ---- The parts of a page: controls that are real inputs, pictures that say what they show

const STYLE = `
:host { display: block; box-sizing: border-box; max-width: 100%; padding: 12px;
  color-scheme: light; color: ${TEXT}; background: ${PAPER}; border: 1px solid #767676;
  border-radius: 6px; font: 15px/1.45 system-ui, sans-serif; text-align: left;
  overflow-wrap: anywhere; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
p { margin: 8px 0; }
.controls { display: grid; gap: 2px 20px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 260px), 1fr)); }
.control { display: grid; grid-template-columns: 1fr auto; align-items: center; }
.control > input, .control > select { grid-column: 1 / -1; width: 100%; margin: 0; }
input[type=range] { height: 28px; accent-color: ${BLUE}; }
button { align-self: end; }
select, button { font: inherit; min-height: 34px; padding: 2px 10px; color: ${TEXT};
  background: #f2f2f2; border: 1px solid #6b6b6b; border-radius: 4px; }
output { font-variant-numeric: tabular-nums; }
.pictures { display: flex; flex-wrap: wrap; gap: 14px; margin-top: 12px; }
figure { margin: 0; flex: 1 1 140px; max-width: 210px; min-width: 0; }
figure.large { flex-basis: 240px; max-width: 300px; }
figure.wide { flex-basis: 100%; max-width: 640px; }
figure.curves canvas { min-height: 250px; }
figure.gap canvas { min-height: 84px; }
figure.matrix { flex-basis: 300px; max-width: 460px; }
canvas { display: block; width: 100%; }
canvas.pad { touch-action: none; cursor: crosshair; }
figcaption { font-size: 14px; font-variant-numeric: tabular-nums; }
:focus-visible { outline: 3px solid ${VERMILLION}; outline-offset: 2px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 10px 0; }
th, td { padding: 3px 10px 3px 0; text-align: left; font-weight: normal;
  border-bottom: 1px solid #c8c8c8; }
td { text-align: right; white-space: nowrap; }
`;

class Page {
  constructor(root, name, introduction) {
    this.inputs = [];
    this.controls = element("div", { class: "controls" });
    this.pictures = element("div", { class: "pictures" });
    this.told = element("p");
    this.body = element("div", { role: "group", "aria-label": name },
      element("p", {}, element("strong", {}, name), ` ${introduction}`),
      this.controls, this.pictures, this.told);
    root.append(element("style", {}, STYLE), this.body);
  }

  labelled(text, control, ...more) {
    control.id = `control-${this.inputs.length}`;
    const label = element("label", { for: control.id }, text);
    const box = element("div", { class: "control" }, label, ...more, control);
    this.controls.append(box);
    return box;
  }

  // Returns a function that reads the slider; `shown` puts its value into words.
  slider(text, [min, max, step, value], shown = (v) => fixed(v)) {
    const input = element("input", { type: "range", min, max, step, value });
    const output = element("output", { "aria-live": "off" });
    this.labelled(text, input, output);
    const get = () => Number(input.value);
    this.inputs.push(() => {
      output.textContent = shown(get());
      input.setAttribute("aria-valuetext", output.textContent);
    });
    input.addEventListener("input", () => this.update());
    return Object.assign(get, { input });
  }

  choice(text, options) {
    const entries = Object.entries(options);
    const select = element("select", {},
      ...entries.map(([value, label]) => element("option", { value }, label)));
    const box = this.labelled(text, select);
    box.hidden = entries.length < 2;
    this.inputs.push(() => {});
    select.addEventListener("change", () => this.update());
    return Object.assign(() => select.value, { select });
  }

  button(text, press) {
    const made = element("button", { type: "button" }, text);
    made.addEventListener("click", press);
    return made;
  }

  // `ratio` is height over width.
  picture(kind, ratio) {
    const canvas = element("canvas", { role: "img" });
    canvas.style.aspectRatio = `1 / ${ratio}`;
    const caption = element("figcaption");
    const figure = element("figure", { class: kind }, canvas, caption);
    this.pictures.append(figure);
    const tell = (label, text = label) => {
      canvas.setAttribute("aria-label", label);
      caption.textContent = text;
    };
    return { canvas, figure, tell };
  }

  table(names) {
    const cells = names.map(() => element("td"));
    const rows = names.map((name, k) =>
      element("tr", {}, element("th", { scope: "row" }, name), cells[k]));
    this.body.append(element("table", {}, element("tbody", {}, ...rows)));
    return (values) => values.forEach((value, k) => { cells[k].textContent = value; });
  }

  // `draw` computes, shows, and returns the numbers, for the tests and the curious.
  start(host, draw) {
    this.update = () => {
      this.inputs.forEach((refresh) => refresh());
      host.numbers = draw();
    };
    this.update();
    let before = host.clientWidth;
    new ResizeObserver(() => {
      if (host.clientWidth === before) return;
      before = host.clientWidth;
      requestAnimationFrame(() => this.update());
    }).observe(host);
  }
}

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

// ---- Chapter 8: the filters

// A pad to draw on with mouse, finger or keys; its image is `height` rows of 0 to 1.
class Pad {
  constructor(page, [height, width], changed) {
    this.size = [height, width];
    this.image = range(height, () => new Array(width).fill(0));
    this.cursor = [Math.floor(height / 2), Math.floor(width / 2)];
    this.penDown = false;
    this.changed = changed;
    this.picture = page.picture("large", height / width);
    const { canvas, figure } = this.picture;
    canvas.className = "pad";
    // A screen reader hands its keys over to an application, as to a game.
    canvas.setAttribute("role", "application");
    canvas.tabIndex = 0;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("keydown", (event) => this.key(event));
    figure.append(page.button("Clear the pad", () => this.clear()));
  }

  clear() {
    this.image.forEach((row) => row.fill(0));
    this.changed();
  }

  // A brush of about two pixels: full ink near its middle, less around it.
  dab(row, column) {
    this.image.forEach((line, b) => line.forEach((before, a) => {
      const ink = 1.6 - Math.hypot(b - row, a - column);
      line[a] = Math.max(before, Math.min(1, Math.max(0, ink)));
    }));
  }

  stroke(to) {
    const [from, long] = [this.last, Math.hypot(to[0] - this.last[0], to[1] - this.last[1])];
    const dabs = Math.max(1, Math.ceil(2 * long));
    range(dabs + 1, (k) => this.dab(...from.map((v, i) => v + ((to[i] - v) * k) / dabs)));
    this.last = to;
    this.changed();
  }

  place(event) {
    const box = this.picture.canvas.getBoundingClientRect();
    const row = ((event.clientY - box.top) / box.height) * this.size[0] - 0.5;
    return [row, ((event.clientX - box.left) / box.width) * this.size[1] - 0.5];
  }

  press(event) {
    this.picture.canvas.setPointerCapture(event.pointerId);
    this.last = this.place(event);
    this.stroke(this.last);
  }

  move(event) {
    if (event.buttons && this.last) this.stroke(this.place(event));
  }

  key(event) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const [row, column] = this.cursor;
    if (steps[event.key]) {
      this.cursor = this.cursor.map((v, i) =>
        Math.min(this.size[i] - 1, Math.max(0, v + steps[event.key][i])));
    } else if (event.key === " ") this.penDown = !this.penDown;
    else if (event.key === "Backspace" || event.key === "Delete") {
      for (const b of [row - 1, row, row + 1]) this.image[b]?.fill(0, Math.max(0, column - 1), column + 2);
      this.penDown = false;
    } else return;
    event.preventDefault();
    if (this.penDown) this.dab(...this.cursor);
    this.changed();
  }

  draw() {
    const { pen, scale } = drawImage(this.picture.canvas, inked(this.image));
    const [row, column] = this.cursor;
    pen.strokeStyle = VERMILLION;
    pen.lineWidth = this.penDown ? 4 : 2;
    pen.strokeRect(column * scale, row * scale, scale, scale);
    const state = `Cursor in row ${row}, column ${column}, pen ${this.penDown ? "down" : "up"}.`;
    this.picture.tell(`Pad to draw on. ${state} Arrow keys move, space lowers or lifts the pen, delete rubs out.`,
      `Draw here. Keys: arrows move, space lowers or lifts the pen, delete rubs out. ${state}`);
  }
}

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
      matrices[axis].tell(`F_${axis}, one filter a row. Rows sum to ${fixed(least, 3)} … ${fixed(most, 3)}`);
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
    const { pen, width, height } = surface(gap.canvas);
    const scale = (width - 24) / Math.max(2, 1.1 * klPosterior);
    const edge = width - 12;
    pen.fillStyle = ORANGE;
    pen.fillRect(edge - klPosterior * scale, 22, klPosterior * scale, height - 42);
    pen.fillStyle = BLUE;
    pen.fillRect(0, 22, edge - klPosterior * scale, height - 42);
    pen.fillStyle = TEXT;
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
      { name: "posterior p(z|x)", colour: BLUE, value: exactAt, filled: true },
      { name: "q(z) = N(μ, σ²)", colour: VERMILLION, dash: [8, 4], value: (at) => density(at, q.mu, q.sigma) },
      { name: "prior p(z) = N(0, 1)", colour: QUIET, dash: [2, 3], value: (at) => density(at, 0, 1) },
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
    const curve = (name, of, colour, dash, filled) =>
      ({ name, colour, dash, filled, value: (at) => density(at, of.mu, of.sigma) });
    drawCurves(curves.canvas, [-5, 5], [
      curve("N(μ̂, σ̂²), from the data", qHat, BLUE, [8, 4]),
      curve("N(μ_p, σ_p²), from above", p, GREEN, [2, 3]),
      curve("q, their product, normalised", q, VERMILLION, [], true),
    ]);
    curves.tell(`Two Gaussians and their normalised product, with mean ${fixed(q.mu)} and deviation ${fixed(q.sigma)}.`);
    page.told.textContent = `q stands at ${fixed(q.share)} · μ̂ + ${fixed(1 - q.share)} · μ_p, nearer to the ` +
      `surer of the two, and is narrower than both.`;
    fill([q.bottom, q.top, q.bottom + q.top, q.share, q.mu, q.sigma, kl].map((v) => fixed(v, 4)));
    return { qHat, p, q, kl };
  });
}

// ---- Chapters 9 and 12: a trained model's steps

const SPEEDS = { 1: "1 step a second", 3: "3 steps a second", 8: "8 steps a second" };

// An 8-bit image out of a long array; one channel is ink on paper, three are colours.
function picked(values, index, [channels, height, width]) {
  const start = index * channels * height * width;
  return bitmap(height, width, (row, column, channel) => {
    if (channels === 1) return 255 - values[start + row * width + column];
    return values[start + (channel * height + row) * width + column];
  });
}

function player(page, host, data) {
  const { T, n, kl, shape } = data;
  const [channels, height, width] = shape;
  const names = Object.fromEntries(range(n, (k) => [k, `image ${k + 1}`]));
  const which = page.choice("image", names);
  const speed = page.choice("speed", SPEEDS);
  const step = page.slider("step t", [1, T, 1, 1], (t) => `${t} of ${T}`);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let timer = null;
  const button = page.button("", () => (timer === null ? play() : pause()));
  page.controls.append(button);

  function label() {
    if (timer !== null) button.textContent = "Pause";
    else button.textContent = calm.matches ? "Next step" : "Play";
  }
  function pause() {
    clearTimeout(timer);
    timer = null;
    label();
  }
  function show(t) {
    step.input.value = t;
    page.update();
  }
  function tick() {
    // A page that was taken away must not go on working.
    if (!host.isConnected || step() >= T) return pause();
    show(step() + 1);
    timer = setTimeout(tick, 1000 / Number(speed()));
  }
  function play() {
    // Who asked for less motion gets one step for each press.
    if (step() >= T) show(1);
    else if (calm.matches) show(step() + 1);
    if (calm.matches) return;
    timer = setTimeout(tick, 1000 / Number(speed()));
    label();
  }
  calm.addEventListener("change", pause);

  const stacks = Object.fromEntries(["images", "canvases", "patches"].map(
    (name) => [name, data[name] ? bytes(data[name]) : null]));
  const x = page.picture("", height / width);
  const patch = stacks.patches ? page.picture("", 1) : null;
  const canvas = page.picture("", height / width);
  const L = data.latent && data.memory;
  const latent = L ? page.picture("", L.size[0] / L.size[1]) : null;
  const memory = L ? picked(bytes(L.values), 0, [1, ...L.size]) : null;
  const bars = page.picture("wide", 0.3);

  function drawWindowed(picture, image, windows, t, k, colour, text) {
    const place = drawImage(picture.canvas, image);
    if (!windows) return picture.tell(text);
    const [muX, muY] = [windows.mu_x[t - 1][k], windows.mu_y[t - 1][k]];
    drawGrid(place, muX, muY, colour);
    const { sigma, gamma } = windows;
    const numbers = `width ${fixed(sigma[t - 1][k])}, γ ${fixed(gamma[t - 1][k])}`;
    picture.tell(`${text}, window across ${ends(muX)}, down ${ends(muY)}, ${numbers}`,
      `${text}; window's ${numbers}`);
  }

  function drawBars(values, t) {
    const { pen, width: wide, height: high } = surface(bars.canvas);
    const each = wide / T;
    const top = Math.max(...values, 1e-9);
    values.forEach((value, i) => {
      const tall = (Math.max(value, 0) / top) * (high - 20);
      pen.fillStyle = i === t - 1 ? VERMILLION : i < t ? BLUE : "#9a9a9a";
      pen.fillRect(i * each + 0.1 * each, high - tall, 0.8 * each, tall);
    });
    pen.fillStyle = TEXT;
    pen.fillText(`KL of each step, up to ${fixed(top)} nats`, 0, 12);
  }

  page.start(host, () => {
    label();
    const [t, k] = [step(), Number(which())];
    const at = (t - 1) * n + k;
    drawWindowed(x, picked(stacks.images, k, shape), data.read, t, k, BLUE, "x, and where it is read");
    if (patch) {
      const side = data.read.mu_x[0][0].length;
      drawImage(patch.canvas, picked(stacks.patches, at, [channels, side, side]));
      patch.tell("what is read of x, divided by γ");
    }
    drawWindowed(canvas, picked(stacks.canvases, at, shape), data.write, t, k, VERMILLION,
      `canvas after step ${t}${data.write ? ", and where it was written" : ""}`);
    if (latent) drawWindowed(latent, memory, data.latent, t, k, GREEN, "latent space, and where it is read");
    drawBars(kl[k], t);
    const [klStep, klSoFar, klTotal] = [kl[k][t - 1], sum(kl[k].slice(0, t)), sum(kl[k])];
    const text = `KL of step ${t}: ${fixed(klStep)} nats; so far ${fixed(klSoFar)} of ${fixed(klTotal)}.`;
    bars.tell(text);
    return { t, k, klStep, klSoFar, klTotal, playing: timer !== null };
  });
}

// ---- Mounting

const KINDS = {
  filterbank: [filterbankExplorer, "The filters."],
  elbo: [elboExplorer, "The bound in one dimension."],
  merge: [mergeExplorer, "The merge of two Gaussians."],
  player: [player, "Step by step."],
};

function mount(host) {
  // A shadow root marks what is mounted; it also keeps the page's styles out.
  if (host.shadowRoot) return;
  const data = JSON.parse(host.dataset.payload);
  const [explore, name] = KINDS[host.dataset.drawlib];
  const root = host.attachShadow({ mode: "open" });
  // The same output twice on a page: ids must stay unique.
  if (document.getElementById(host.id) !== host) host.removeAttribute("id");
  // Neither a notebook's shortcuts nor the book's may answer to keys meant for a slider.
  host.setAttribute("data-lm-suppress-shortcuts", "true");
  root.addEventListener("keydown", (event) => event.stopPropagation());
  explore(new Page(root, name, data.introduction), host, data);
}

const mountAll = () => document.querySelectorAll("[data-drawlib]").forEach(mount);

window.drawlib.mountAll = mountAll;
mountAll();
})();
