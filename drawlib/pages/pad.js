// Draw, and watch a trained model look at it and draw it again: the page of
// drawlib/pages/pad.py, around the models of web_models.js. The model runs in slices in the
// page's own thread, and always on the newest image, so the pen never waits for it.
(() => {
"use strict";

const { range, sum, loadModel, fetchModel, noise } = window.drawlib;
const { BLUE, GREEN, VERMILLION, PAPER } = window.drawlib.parts;
const { fixed, ends, element, bitmap, bytes, surface } = window.drawlib.parts;
const { drawImage, drawGrid, drawTrack, SPEEDS, timeline, Pad, compared } =
  window.drawlib.parts;

const BUDGET = 12; // milliseconds of work between two turns of the page
const FARTHEST = 4; // standard deviations of the prior, at a slider's ends
const GLANCE = 3.2; // seconds in which the page shows once what it can do
const TALLEST = 440, BARS = 156; // CSS pixels of a picture, and of the saved time line

const STYLE = `
:host { max-width: min(880px, 100%); margin: 0 auto; }
.head { display: flex; flex-wrap: wrap; gap: 4px 24px; align-items: center; }
.head > p { flex: 1 1 260px; margin: 0; }
.head .controls { flex: 0 1 auto; min-width: 0; max-width: 100%; }
.head .control { grid-template-columns: auto minmax(0, 1fr); gap: 8px; }
.head select { grid-column: auto; }
.stage { display: grid; gap: 12px 20px; margin-top: 14px;
  place-items: start center;
  grid-template-columns: repeat(auto-fit, minmax(min(46%, 200px), 1fr)); }
.stage figure { position: relative; width: 100%; max-width: none; display: flex;
  flex-direction: column; gap: 4px; }
.stage figcaption { order: -1; min-height: 1.45em; color: var(--quiet); }
.stage .title { order: -2; margin: 0; font-weight: 600; }
.stage canvas { border-radius: 3px; }
.key::before { content: ""; display: inline-block; width: 0.62em; height: 0.62em;
  margin-right: 0.4em; border: 2px solid var(--key); }
.key.read { --key: var(--blue); }
.key.write { --key: var(--vermillion); }
.key.latent { --key: var(--green); }
.invitation { position: absolute; max-width: 100%; bottom: 6px; left: 50%; padding: 3px 14px;
  transform: translateX(-50%); white-space: nowrap; pointer-events: none; color: #ffffff;
  background: ${BLUE}; border-radius: 99px; font-size: 0.93em; animation: nudge 1.5s ease-in-out 3; }
@keyframes nudge { 50% { transform: translate(-50%, -9px) rotate(-2deg); } }
@media (prefers-reduced-motion: reduce) { .invitation { animation: none; } }
@media print { .invitation { display: none; } }
.verdict { min-height: 1.9em; margin: 8px 0 2px; }
.verdict strong { font-size: 1.25em; font-variant-numeric: tabular-nums; }
.tools { display: flex; flex-wrap: wrap; align-items: center; gap: 8px; margin: 8px 0; }
.tools canvas { width: 36px; height: 36px; object-fit: contain; image-rendering: pixelated; }
.tools button.example { padding: 1px; line-height: 0; background: ${PAPER}; }
.tools input[type=color] { width: 44px; height: 34px; padding: 2px; background: var(--field);
  border: 1px solid var(--edge); border-radius: 4px; }
.tools label { display: flex; align-items: center; gap: 8px; }
.tools .apart { margin-left: auto; }
button[aria-pressed=true] { outline: 2px solid var(--blue); }
details { border-top: 1px solid var(--rule); }
summary { padding: 9px 2px; cursor: pointer; font-weight: 600; }
details > :last-child { margin-bottom: 14px; }
figure.small { flex: 1 1 84px; max-width: 190px; }
details > .pictures { margin-top: 4px; }
figure.dream { flex: 1 1 200px; max-width: 300px; }
.dreams { display: flex; flex-wrap: wrap; gap: 4px 24px; }
.dreams > .pictures { flex: 1 1 200px; margin-top: 0; }
.dreams > .controls { flex: 2 1 260px; align-content: start; }
.dreams button { justify-self: start; margin-top: 6px; }
table { width: 100%; max-width: 480px; }
`;

// ---- Pictures. One channel is ink on white paper, three are colours.

const MISSING = [213, 94, 0], TOO_MUCH = [0, 114, 178];
const within = (value, least) => Math.min(1, Math.max(least, value));

function shown(values, [channels, height, width], at = 0, top = 1) {
  return bitmap(height, width, (row, column, channel) => {
    if (channels === 1) return 255 * (1 - within(values[at + row * width + column] / top, 0));
    return 255 * within(values[at + (channel * height + row) * width + column] / top, 0);
  });
}

// White is 0; ink that is missing is orange, ink that is too much is blue. In colour, 0 is
// a middle grey in each channel.
function signed(values, [channels, height, width], top = 1) {
  return bitmap(height, width, (row, column, channel) => {
    const place = (channels === 1 ? row : channel * height + row) * width + column;
    const value = within(values[place] / top, -1);
    if (channels > 1) return 127.5 * (1 + value);
    const full = (value > 0 ? MISSING : TOO_MUCH)[channel];
    return 255 + Math.abs(value) * (full - 255);
  });
}

// L from its smallest value, white, to its largest.
function memoryOf(L, M) {
  const least = L.reduce((a, b) => Math.min(a, b)), most = L.reduce((a, b) => Math.max(a, b));
  return shown(L.map((v) => v - least), [1, M, M], 0, Math.max(most - least, 1e-12));
}

// How many cells around L its windows need, at most as many as L has.
function outside(steps, M) {
  const most = steps.map(({ latent }) => latent ? Math.max(0, ...[latent.muX, latent.muY]
    .flatMap((mu) => [-mu[0], mu[mu.length - 1] - M + 1])) : 0);
  return Math.min(M, Math.ceil(Math.max(...most)));
}

function emptied(picture, text) {
  const { pen, width, height, colour } = surface(picture.canvas);
  pen.strokeStyle = colour("quiet");
  pen.strokeRect(0, 0, width, height);
  picture.tell(text);
}

const windowed = (window) => window ? `, window across ${ends(window.muX)}, down ` +
  `${ends(window.muY)}, filter width ${fixed(window.sigma)}, γ ${fixed(window.gamma)}` : "";

// A picture of the stage: its title, and below it what its window's colour means.
function titled(page, kind, title) {
  const picture = page.picture("", 1);
  picture.figure.prepend(element("p", { class: "title" }, title));
  const caption = picture.figure.querySelector("figcaption"), { tell } = picture;
  picture.tell = (label, text, window) => {
    tell(label, text);
    caption.className = window ? `key ${kind}` : "";
  };
  return picture;
}

function proportioned({ canvas, figure }, height, width) {
  canvas.style.aspectRatio = `${width} / ${height}`;
  figure.style.maxWidth = height > width ? `${(TALLEST * width) / height}px` : "";
}

// ---- The pad: an image as the model was trained on, bits or colours

class PixelPad extends Pad {
  constructor(page, changed) {
    super(page, [1, 1], changed, "");
    const { canvas, figure } = this.picture;
    this.clearing = figure.querySelector("button"); // it will stand with the others
    figure.prepend(element("p", { class: "title" }, "You draw: x"));
    this.invitation = element("span", { class: "invitation", "aria-hidden": true }, "Draw here");
    figure.append(this.invitation);
    this.rubs = false;
    this.rubber = page.button("Rub out", () => {
      this.rubs = !this.rubs;
      this.rubber.setAttribute("aria-pressed", this.rubs);
    });
    this.rubber.setAttribute("aria-pressed", false);
    this.version = 0;
    this.reshape([1, 1, 1]);
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, changed);
  }

  reshape(shape) {
    const [channels, height, width] = shape;
    Object.assign(this, { shape, size: [height, width], penDown: false });
    this.cursor = [Math.floor(height / 2), Math.floor(width / 2)];
    this.blank = channels === 1 ? 0 : 1; // paper: no ink, or white
    this.paint = new Array(channels).fill(1 - this.blank);
    this.values = new Float32Array(channels * height * width).fill(this.blank);
    this.reach = Math.max(1, Math.min(height, width) / 28); // a pen of the same look
    proportioned(this.picture, height, width);
  }

  set(row, column, ink) {
    const [channels, height, width] = this.shape;
    for (let c = 0; c < channels; c++) {
      this.values[(c * height + row) * width + column] = ink ? this.paint[c] : this.blank;
    }
  }

  // Every pixel of which `wanted(row, column)` is true or false, not undefined.
  each(wanted) {
    const [height, width] = this.size;
    this.version++;
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const ink = wanted(row, column);
        if (ink !== undefined) this.set(row, column, ink);
      }
    }
  }

  dab(row, column) {
    const radius = (this.rubs ? 1.8 : 1.1) * this.reach;
    this.each((b, a) => Math.hypot(b - row, a - column) < radius ? !this.rubs : undefined);
  }

  rub(row, column) {
    this.each((b, a) => Math.max(Math.abs(b - row), Math.abs(a - column)) < 2 ? false : undefined);
  }

  fill(ink) {
    this.each(() => ink);
    this.changed();
  }

  clear() {
    this.fill(false);
  }

  put(values) {
    this.version++;
    this.values.set(values);
    this.changed();
  }

  scribble() {
    this.clear();
    const [height, width] = this.size;
    const corner = (k) => [height * (0.1 + 0.16 * k), width * (k % 2 ? 0.9 : 0.1)];
    for (let k = 1; k <= 5; k++) this.stroke(corner(k - 1), corner(k));
  }

  draw(window = null, how = "it looks at the whole of x") {
    const { canvas, figure } = this.picture;
    const place = drawImage(canvas, shown(this.values, this.shape));
    if (window) drawGrid(place, window.muX, window.muY, BLUE);
    const { pen, scale } = place, [row, column] = this.cursor;
    const state = `Cursor in row ${row}, column ${column}, pen ${this.penDown ? "down" : "up"}.`;
    if (canvas.matches(":focus-visible")) {
      pen.strokeStyle = VERMILLION;
      pen.lineWidth = this.penDown ? 4 : 2;
      pen.strokeRect(column * scale, row * scale, scale, scale);
    }
    const where = window ? ` The model reads across ${ends(window.muX)}, down ${ends(window.muY)}.` : "";
    this.picture.tell(`Pad to draw on. ${state} Arrow keys move, space lowers or lifts the pen, delete rubs out.${where}`,
      window ? "where it looks" : how);
    figure.querySelector("figcaption").className = window ? "key read" : "";
  }
}

// ---- Work

// `work`, now or as soon as the last one is done; of many requests meanwhile only the
// newest counts.
function newest(work, failed) {
  let asked = false, running = false;
  const go = async () => {
    asked = true;
    if (running) return;
    running = true;
    while (asked) {
      asked = false;
      await work().catch(failed);
    }
    running = false;
  };
  return Object.assign(go, { busy: () => running });
}

const dot = (a, b) => a.reduce((total, v, k) => total + v * b[k], 0);

// The directions in z, all steps together; they are orthonormal.
function directionsOf(model) {
  const { live } = model, size = model.T * model.z;
  if (!live?.directions) return [];
  const all = new Float32Array(bytes(live.directions).buffer);
  return range(all.length / size, (k) => all.subarray(k * size, (k + 1) * size));
}

// ---- The page

function padPage(page, host, data) {
  page.body.parentNode.append(element("style", {}, STYLE));
  const examples = data.examples ?? window.drawlibExamples ?? [];
  const now = { model: null, name: null, seen: null, dreamt: null, trouble: "" };
  const loaded = {};
  let seed = 0, dreamSeed = 0, directions = [], base = null, frame = null;
  let asked = "", dreamAsked = "", telling = "", timer = null, touched = false, runs = 0;
  const later = () => {
    frame ??= requestAnimationFrame(() => {
      frame = null;
      page.update();
    });
  };
  const failed = (error) => {
    now.trouble = `Something went wrong: ${error.message}.`;
    later();
  };

  // What there is, from top to bottom.
  const body = page.body, head = element("div", { class: "head" });
  head.append(body.firstChild, page.controls);
  body.prepend(head);
  const which = page.choice("model", Object.fromEntries(
    data.models.map(({ label }, k) => [k, label])));

  page.pictures.className = "stage";
  const pad = new PixelPad(page, later);
  const canvas = titled(page, "write", "Its canvas");
  const memory = titled(page, "latent", "Its memory: L");
  const steps = timeline(page, host, 1, () => speed());
  const { step, playing, label } = steps;

  page.told.className = "verdict";
  page.told.setAttribute("aria-live", "polite");
  const starts = element("div", { class: "tools", role: "group", "aria-label": "Begin with" });
  const tools = element("div", { class: "tools", role: "group", "aria-label": "Tools" });
  const pen = element("input", { type: "color", value: "#000000" });
  const penBox = element("label", {}, "pen's colour", pen);
  const save = page.button("Save as a picture", () => savePicture());
  save.className = "apart";
  const again = page.button("New sample", () => { seed++; page.update(); });
  tools.append(penBox, pad.clearing, pad.rubber, again, save);
  body.append(page.told, tools, starts);
  pen.addEventListener("input", () => {
    pad.paint = [1, 3, 5].map((k) => parseInt(pen.value.slice(k, k + 2), 16) / 255);
  });

  const folded = (name) => {
    const box = element("details", {}, element("summary", {}, name));
    box.addEventListener("toggle", () => page.update());
    body.append(box);
    page.inside(box);
    return box;
  };
  const closer = folded("What it sees, and what is still wrong");
  page.row("pictures");
  const error = page.picture("small", 1);
  const patch = page.picture("small", 1);
  const errorPatch = page.picture("small", 1);

  folded("Numbers, speed and noise");
  const fill = page.table(["KL of this step, in nats", "KL up to this step",
    "−log p(x | c) of the canvas at this step", "−ELBO if it stops here, these two together",
    "−ELBO of the model"]);
  page.row("controls");
  const speed = page.choice("speed", SPEEDS);
  speed.select.value = "8";
  const mean = page.choice("z of each step", {
    sample: "a sample of the posterior", mean: "the mean of the posterior" });

  const dreams = folded("It dreams: z from the prior, no image is looked at");
  const columns = element("div", { class: "dreams" });
  dreams.append(columns);
  page.inside(columns);
  page.row("pictures");
  const dream = page.picture("dream", 1);
  page.row("controls");
  const sliders = range(4, (k) => page.slider(`direction ${k + 1}`,
    [-FARTHEST, FARTHEST, 0.05, 0], (v) => `${fixed(v, 1)} σ`));
  page.controls.append(page.button("New dream", () => {
    dreamSeed++;
    settle();
    page.update();
  }));

  const about = element("p");
  folded("About this model").append(about);
  for (const one of [canvas, memory, error, patch, errorPatch, dream])
    one.canvas.setAttribute("aria-label", "not there yet"); // until the model has come

  const fitting = (shape) => (one) => String(one.shape) === String(shape);

  // What an example of this shape is called and looks like, and what begins with it.
  function offer(shape) {
    const fits = examples.filter(fitting(shape));
    const buttons = fits.flatMap(({ images, labels, levels, what }) =>
      images.map((text, k) => {
        const values = Float32Array.from(bytes(text), (v) => v / levels);
        const button = page.button("", () => pad.put(values));
        button.className = "example";
        button.setAttribute("aria-label", `Begin with ${what} ${labels[k]}`);
        button.append(shown(values, shape));
        return button;
      }));
    starts.replaceChildren(buttons.length ? "or begin with" : "Try", ...buttons,
      page.button("Full pad", () => pad.fill(true)),
      page.button("Scribble", () => pad.scribble()));
    return buttons[5] ?? buttons[0];
  }

  function reshape(shape) {
    const [channels, height, width] = shape;
    pad.reshape(shape);
    pad.reach = examples.find(fitting(shape))?.pen ?? pad.reach;
    for (const one of [canvas, error, dream]) proportioned(one, height, width);
    penBox.hidden = channels === 1;
    offer(shape)?.click();
  }

  // The dream's z where its seed put it, on the sliders too.
  function settle() {
    base = noise(1_000_003 + dreamSeed, now.model.T * now.model.z);
    directions.forEach((d, k) => { sliders[k].input.value = dot(base, d); });
  }

  // Each coordinate along a direction as its slider says, everything else as it was.
  function dreamNoise() {
    const z = base.slice();
    directions.forEach((d, k) => {
      const gap = sliders[k]() - dot(z, d);
      for (let i = 0; i < z.length; i++) z[i] += gap * d[i];
    });
    return z;
  }

  async function load() {
    const name = which();
    if (name === now.name) return;
    now.name = name;
    const { json, url, name: called } = data.models[name];
    now.trouble = "";
    loaded[name] ??= json ? loadModel(json) : fetchModel(url, called);
    try {
      const model = await loaded[name];
      if (which() !== name) return load();
      begin(model);
    } catch (trouble) {
      delete loaded[name];
      now.model = null; // tried again when it is chosen again
      failed(trouble);
    }
  }

  function begin(model) {
    const atEnd = !now.model || step() >= Number(step.input.max);
    Object.assign(now, { model, seen: null, dreamt: null });
    directions = directionsOf(model);
    sliders.forEach(({ input }, k) => { input.parentNode.hidden = k >= directions.length; });
    step.input.max = model.T;
    step.input.value = atEnd ? model.T : Math.min(step(), model.T);
    memory.image = model.L && memoryOf(model.L, model.config.M);
    about.textContent = model.live?.about ?? "";
    settle();
    asked = dreamAsked = "";
    if (String(pad.shape) !== String(model.shape)) reshape(model.shape);
    page.update();
  }

  const look = newest(async () => {
    const { model } = now, image = pad.values.slice();
    const chosen = mean() === "mean";
    const eps = chosen ? new Float32Array(model.T * model.z)
      : noise(seed, model.T * model.z);
    runs++;
    const steps = await model.play({ image, noise: eps, budget: BUDGET });
    if (model !== now.model) return; // another model was chosen meanwhile
    const kl = steps.map((s) => s.kl), stops = model.stops(steps, image);
    now.seen = {
      image, noise: eps, steps, kl, stops, negElbo: dot(model.pi, stops), fixed: chosen,
      margin: model.L ? outside(steps, model.config.M) : 0,
    };
    later();
  }, failed);

  const imagine = newest(async () => {
    const { model } = now, z = dreamNoise();
    const steps = await model.play({ noise: z, budget: BUDGET });
    if (model !== now.model) return;
    now.dreamt = { noise: z, steps };
    later();
  }, failed);

  // Asks for what is not computed yet, or no longer; for a dream where it can be seen.
  function ask() {
    const key = JSON.stringify([now.name, pad.version, seed, mean()]);
    if (key !== asked) { asked = key; look(); }
    if (!dreams.open) return;
    const dreamKey = JSON.stringify([now.name, dreamSeed, ...sliders.map((s) => s())]);
    if (dreamKey !== dreamAsked) { dreamAsked = dreamKey; imagine(); }
  }

  function drawCanvas(picture, { canvas: values, write }, t) {
    const place = drawImage(picture.canvas, shown(values, now.model.shape));
    if (write) drawGrid(place, write.muX, write.muY, VERMILLION);
    picture.tell(`Step ${t}: its canvas${windowed(write)}`,
      write ? "where it writes" : "it writes on the whole of it", write);
  }

  function drawMemory(picture, { latent }, t) {
    const place = drawImage(picture.canvas, memory.image, now.seen.margin);
    if (latent) drawGrid(place, latent.muX, latent.muY, GREEN);
    picture.tell(`Step ${t}: L${windowed(latent)}`,
      latent ? "where it reads L" : "", latent);
  }

  function drawCloser({ patch: read, read: window, error: wrong }) {
    const { shape, config, attends } = now.model, [channels] = shape;
    drawImage(error.canvas, signed(wrong, shape));
    error.tell(channels === 1 ? "the error image: orange lacks ink, blue has too much"
      : "the error image: grey where nothing is missing");
    if (!attends) return;
    const N = config.read, square = [channels, N, N], half = read.length / 2;
    drawImage(patch.canvas, shown(read, square, 0, window.gamma));
    patch.tell(`the ${N} × ${N} patch read of x`);
    drawImage(errorPatch.canvas, signed(read.subarray(half), square, window.gamma));
    errorPatch.tell("and of the error image");
  }

  function drawSeen(t) {
    const { seen } = now, one = seen.steps[t - 1];
    pad.draw(one.read, memory.image && "it sees all of x, through L");
    drawCanvas(canvas, one, t);
    if (memory.image) drawMemory(memory, one, t);
    if (closer.open) drawCloser(one);
    steps.draw(seen.kl, seen.stops);
    const soFar = sum(seen.kl.slice(0, t)), here = seen.stops[t - 1];
    fill([seen.kl[t - 1], soFar, here - soFar, here, seen.negElbo].map((v) => fixed(v)));
  }

  // Nats, and bits per dimension where a pixel has 256 levels.
  function price(nats) {
    const { config, pixels } = now.model;
    if (config.likelihood === "bernoulli") return "";
    return ` (${fixed(nats / (pixels * Math.LN2))} bits per dimension)`;
  }

  // Said when the numbers have come to rest, not at each move of the pen.
  function tell() {
    const { model, seen, trouble } = now;
    const costs = model?.live?.costs;
    let first = "", rest = trouble || "Loading the model…";
    if (!trouble && seen) {
      first = `−ELBO ${fixed(seen.negElbo, 1)} nats`;
      if (model.pi[model.T - 1] < 1) rest = `, a mean over all its stops${price(seen.negElbo)}`;
      else rest = price(seen.negElbo);
      rest += (costs ? `, ${compared(seen.negElbo, costs)}.` : ".");
      if (seen.fixed) rest += " With z at its mean this is no estimate of the bound.";
    }
    if (first + rest === telling) return;
    const wait = telling.startsWith("−ELBO") ? 400 : 0; // the first number at once
    telling = first + rest;
    clearTimeout(timer);
    timer = setTimeout(
      () => page.told.replaceChildren(element("strong", {}, first), rest), wait);
  }

  // x, the canvas and the time line as they stand, in one PNG.
  async function savePicture() {
    const { model, seen } = now, t = step();
    if (!seen) return;
    const one = seen.steps[t - 1], [, height, width] = model.shape;
    const side = 480, tall = Math.round((side * height) / width), gap = 24;
    const parts = model.L ? ["x", "canvas", "L"] : ["x", "canvas"];
    const room = element("div", { style: "position: absolute; left: -9999px; top: 0" });
    page.body.append(room);
    const picture = (w, h) => {
      const made = element("canvas", { style: `width: ${w}px; height: ${h}px` });
      room.append(made);
      return { canvas: made, tell() {} };
    };
    const [x, L, drawn] = [picture(side, tall), picture(side, side), picture(side, tall)];
    const place = drawImage(x.canvas, shown(seen.image, model.shape));
    if (one.read) drawGrid(place, one.read.muX, one.read.muY, BLUE);
    drawCanvas(drawn, one, t);
    if (model.L) drawMemory(L, one, t);
    const long = parts.length * (side + gap) - gap, bars = picture(long, BARS);
    drawTrack(bars.canvas, seen.kl, t, [{ values: seen.stops, hue: "green" }]);
    const high = Math.max(tall, model.L ? side : 0);
    const whole = picture(long + 2 * gap, high + BARS + 5 * gap);
    const { pen: ink, width: w, height: h, colour } = surface(whole.canvas);
    ink.fillStyle = colour("page");
    ink.fillRect(0, 0, w, h);
    const names = { x: [x, tall], L: [L, side], canvas: [drawn, tall] };
    ink.fillStyle = colour("text");
    ink.font = "18px system-ui, sans-serif";
    parts.forEach((name, k) => {
      const [{ canvas: from }, to] = names[name], left = gap + k * (side + gap);
      ink.fillText(name, left, 1.4 * gap);
      ink.drawImage(from, left, 2 * gap, side, to);
    });
    ink.drawImage(bars.canvas, gap, high + 3 * gap, long, BARS);
    ink.fillText(`${model.name}: stopped after step ${t} of ${model.T}, ` +
      `−ELBO ${fixed(seen.stops[t - 1], 1)} nats`, gap, h - 0.6 * gap);
    room.remove();
    const blob = await new Promise((done) => whole.canvas.toBlob(done, "image/png"));
    const link = element("a", { href: URL.createObjectURL(blob), download: "drawing.png" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  // Until the first touch the page moves once, by itself, from the first step to the last;
  // not for somebody who asked for less motion.
  function touch(event) {
    if (touched) return;
    touched = true;
    pad.invitation.remove();
    if (!playing() || steps.row.contains(event.target)) return;
    steps.pause();
    steps.show(Number(step.input.max)); // whoever draws sees the whole drawing
  }
  for (const name of ["pointerdown", "keydown"])
    host.shadowRoot.addEventListener(name, touch, { capture: true });
  function glance() {
    const eye = new IntersectionObserver((entries) => {
      if (!entries.some((one) => one.isIntersecting)) return;
      eye.disconnect();
      if (!touched && !steps.calm.matches)
        steps.play(() => Math.max(8, Number(step.input.max) / GLANCE));
    }, { threshold: 0.5 });
    eye.observe(canvas.canvas);
  }

  page.start(host, () => {
    label();
    load();
    const { model, seen, dreamt, trouble } = now, t = step();
    patch.figure.hidden = errorPatch.figure.hidden = !model?.attends;
    memory.figure.hidden = !memory.image || !model;
    if (model) ask();
    if (model && seen) {
      drawSeen(t);
      if (!now.glanced) { now.glanced = true; glance(); }
    } else {
      pad.draw();
      steps.draw([], []);
      for (const one of [canvas, error]) emptied(one, "not there yet");
    }
    if (model && dreamt && dreams.open) drawCanvas(dream, dreamt.steps[t - 1], t);
    else emptied(dream, "not there yet");
    tell();
    return {
      model: model?.name ?? null, t, T: model?.T ?? null, playing: playing(), seed, trouble,
      x: pad.values, seen, dreamt, coordinates: sliders.map((s) => s()), runs,
      get waiting() { return frame !== null || look.busy() || imagine.busy(); },
    };
  });
  reshape(data.shape); // a picture is there before the model is
}

Object.assign(window.drawlib.kinds, { pad: [padPage, "Draw."] });
window.drawlib.mountAll();
})();
