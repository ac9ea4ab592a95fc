// Draw a digit, and watch a trained model look at it and redraw it: the page of
// drawlib/pages/pad.py, around the models of web_models.js. The model runs in slices in the
// page's own thread, and always on the newest image, so the pen never waits for it.
(() => {
"use strict";

const { range, loadModel, fetchModel, noise } = window.drawlib;
const { BLUE, GREEN, VERMILLION, PAPER } = window.drawlib.parts;
const { fixed, ends, element, bitmap, bytes, surface } = window.drawlib.parts;
const { drawImage, drawGrid, drawBars, transport, drag, Pad } = window.drawlib.parts;

const SPEEDS = { 3: "3 steps / s", 8: "8 steps / s", 20: "20 steps / s" };
const BUDGET = 12; // milliseconds of work between two turns of the page
const FARTHEST = 4; // standard deviations of the prior, at a slider's ends

const STYLE = `
.columns { display: flex; flex-wrap: wrap; gap: 8px 24px; margin-top: 8px; }
.seen { flex: 3 1 400px; min-width: 0; }
.dreamt { flex: 1 1 190px; min-width: 0; }
figure.pair { flex: 1 1 130px; max-width: 300px; }
figure.small { flex: 1 1 90px; max-width: 140px; }
figure.bars canvas { min-height: 90px; cursor: ew-resize; touch-action: pan-y; }
figure button { margin: 4px 6px 0 0; }
.transport { grid-template-columns: repeat(auto-fit, minmax(min(100%, 130px), 1fr));
  gap: 4px 14px; margin-top: 8px; align-items: end; }
.transport > :has(input) { grid-column: 1 / -1; order: -1; }
.transport > .both { grid-column: span 2; }
.dreamt .controls { margin-top: 10px; }
.seen > [aria-live] { min-height: 3em; }
.starts { display: flex; flex-wrap: wrap; align-items: center; gap: 6px; margin: 8px 0; }
.starts canvas { width: 34px; height: 34px; image-rendering: pixelated; }
.starts button.digit { padding: 2px; background: ${PAPER}; }
button[aria-pressed=true] { outline: 2px solid var(--blue); }
table { width: 100%; }
`;

// ---- Pictures

const MISSING = [213, 94, 0], TOO_MUCH = [0, 114, 178];

// White is 0; ink that is missing is orange, ink that is too much is blue.
function signed(values, [height, width], top = 1) {
  return bitmap(height, width, (row, column, channel) => {
    const value = Math.max(-1, Math.min(1, values[row * width + column] / top));
    const full = (value > 0 ? MISSING : TOO_MUCH)[channel];
    return 255 + Math.abs(value) * (full - 255);
  });
}

const greyed = (values, [height, width], at = 0, top = 1) =>
  bitmap(height, width, (row, column) =>
    255 * (1 - Math.min(1, Math.max(0, values[at + row * width + column] / top))));

// L from its smallest value, white, to its largest.
function memoryOf(L, size) {
  const least = L.reduce((a, b) => Math.min(a, b)), most = L.reduce((a, b) => Math.max(a, b));
  return greyed(L.map((v) => v - least), size, 0, Math.max(most - least, 1e-12));
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

function drawWindowed(picture, image, window, colour, t, text, margin = 0) {
  const place = drawImage(picture.canvas, image, margin);
  if (!window) return picture.tell(`Step ${t}: ${text}`, text);
  drawGrid(place, window.muX, window.muY, colour);
  picture.tell(`Step ${t}: ${text}, window across ${ends(window.muX)}, down ${ends(window.muY)}, ` +
    `filter width ${fixed(window.sigma)}, γ ${fixed(window.gamma)}`, text);
}

// ---- The pad: bits, as the models were trained on

class BitPad extends Pad {
  constructor(page, size, changed) {
    super(page, size, changed, "pair");
    this.rubs = false;
    this.version = 0;
    const { canvas, figure } = this.picture;
    const rubber = page.button("Rub out", () => {
      this.rubs = !this.rubs;
      rubber.setAttribute("aria-pressed", this.rubs);
    });
    rubber.setAttribute("aria-pressed", false);
    figure.append(rubber);
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, changed);
  }

  dab(row, column) {
    this.version++;
    if (!this.rubs) return super.dab(row, column);
    this.image.forEach((line, b) => line.forEach((_, a) => {
      if (Math.hypot(b - row, a - column) < 1.8) line[a] = 0;
    }));
  }

  key(event) {
    if (["Backspace", "Delete"].includes(event.key)) this.version++;
    super.key(event);
  }

  // Every pixel anew: `ink(row, column)` is 0 or 1.
  fill(ink) {
    this.version++;
    this.image.forEach((line, b) => line.forEach((_, a) => { line[a] = ink(b, a); }));
    this.changed();
  }

  clear() {
    this.fill(() => 0);
  }

  scribble() {
    this.fill(() => 0);
    const [height, width] = this.size;
    const corner = (k) => [height * (0.1 + 0.16 * k), width * (k % 2 ? 0.9 : 0.1)];
    for (let k = 1; k <= 5; k++) this.stroke(corner(k - 1), corner(k));
  }

  bits() {
    return Float32Array.from(this.image.flat(), (ink) => (ink >= 0.5 ? 1 : 0));
  }

  draw(window = null) {
    const { canvas } = this.picture, [height, width] = this.size;
    const place = drawImage(canvas, greyed(this.bits(), [height, width]));
    if (window) drawGrid(place, window.muX, window.muY, BLUE);
    const { pen, scale } = place, [row, column] = this.cursor;
    const state = `Cursor in row ${row}, column ${column}, pen ${this.penDown ? "down" : "up"}.`;
    const active = canvas.getRootNode().activeElement === canvas;
    if (active) {
      pen.strokeStyle = VERMILLION;
      pen.lineWidth = this.penDown ? 4 : 2;
      pen.strokeRect(column * scale, row * scale, scale, scale);
    }
    const where = window ? ` The model reads across ${ends(window.muX)}, down ${ends(window.muY)}.` : "";
    this.picture.tell(`Pad to draw on. ${state} Arrow keys move, space lowers or lifts the pen, delete rubs out.${where}`,
      `x: draw here${window ? "; blue, where it reads" : ""}. Keys: arrows, space for the pen, delete.${active ? ` ${state}` : ""}`);
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

// How a −ELBO compares with those of some digits, of which `values` are percentiles.
function compared(total, costs) {
  const below = costs.values.filter((v) => v < total).length;
  if (below === 0) return `less than any of ${costs.of}`;
  if (below < costs.values.length) return `more than ${below - 1} in 100 of ${costs.of}`;
  return `more than any of ${costs.of}: the model was trained on nothing like it`;
}

// ---- The page

function padPage(page, host, data) {
  page.body.parentNode.append(element("style", {}, STYLE));
  const digits = data.digits ?? window.drawlibDigits ?? { images: [], labels: [] };
  const [height, width] = data.size, size = data.size;
  const loaded = {};
  const now = { model: null, name: null, seen: null, dreamt: null, trouble: "" };
  let seed = 0, dreamSeed = 0, directions = [], base = null, frame = null;
  let asked = "", dreamAsked = "", telling = null;
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

  // What is there to choose, from top to bottom and from left to right.
  const which = page.choice("model", Object.fromEntries(
    data.models.map(({ label }, k) => [k, label])));
  const starts = element("div", { class: "starts", role: "group", "aria-label": "Begin with" });
  page.controls.after(starts);
  const columns = element("div", { class: "columns" });
  page.pictures.replaceWith(columns);
  const column = (kind, name, text) => {
    const box = element("div", { class: kind, role: "group", "aria-label": name },
      element("p", {}, element("strong", {}, name), ` ${text}`));
    columns.append(box);
    page.inside(box);
    return box;
  };

  const seenBox = column("seen", "It looks and draws.", "");
  page.row("pictures");
  const pad = new BitPad(page, size, later);
  const canvas = page.picture("pair", height / width);
  seenBox.append(page.told);
  page.told.setAttribute("aria-live", "polite");
  page.row("controls").classList.add("transport");
  const { step, playing, label, show } = transport(page, host, 1, { speeds: SPEEDS });
  page.controls.append(page.button("New sample", () => { seed++; page.update(); }));
  const mean = page.choice("z of each step", {
    sample: "a sample of the posterior", mean: "the mean of the posterior" });
  mean.select.parentNode.classList.add("both");
  page.row("pictures");
  const error = page.picture("small", height / width);
  const patch = page.picture("small", 1);
  const errorPatch = page.picture("small", 1);
  const memory = page.picture("pair", 1);
  page.row("pictures");
  const bars = page.picture("wide bars", 0.2);
  const fill = page.table(["KL of this step, in nats", "KL up to this step",
    "KL of all steps", "−log p(x | z), after the last", "−ELBO, these two together"]);

  column("dreamt", "It dreams.", "z from the prior: no image is looked at.");
  page.row("pictures");
  const dream = page.picture("pair", height / width);
  for (const one of [canvas, error, patch, errorPatch, memory, bars, dream])
    one.canvas.setAttribute("aria-label", "not there yet"); // until the model has come
  page.row("controls");
  const sliders = range(4, (k) => page.slider(`direction ${k + 1}`,
    [-FARTHEST, FARTHEST, 0.05, 0], (v) => `${fixed(v, 1)} σ`));
  page.controls.append(page.button("New dream", () => {
    dreamSeed++;
    settle();
    page.update();
  }));
  const about = element("p");
  columns.after(about);

  digits.images.forEach((text, k) => {
    const values = bytes(text), name = `test digit ${digits.labels[k]}`;
    const button = page.button("", () => pad.fill((b, a) => values[b * width + a]));
    button.className = "digit";
    button.setAttribute("aria-label", `Begin with a ${name}`);
    button.append(greyed(values, size));
    starts.append(button);
  });
  starts.append(page.button("Full pad", () => pad.fill(() => 1)),
    page.button("Scribble", () => pad.scribble()));

  const scrub = (event) => {
    const box = bars.canvas.getBoundingClientRect();
    const t = Math.ceil(((event.clientX - box.left) / box.width) * step.input.max);
    show(Math.min(Number(step.input.max), Math.max(1, t)));
  };
  drag(bars.canvas, { begin: scrub, move: scrub });

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
      const [shape, wanted] = [model.shape, [1, height, width]].map((one) => one.join(" × "));
      if (shape !== wanted) throw new Error(`${model.name} draws ${shape}; allowed: ${wanted}`);
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
    memory.image = model.L && memoryOf(model.L, [model.config.M, model.config.M]);
    about.textContent = model.live?.about ?? "";
    settle();
    asked = dreamAsked = "";
    page.update();
  }

  const look = newest(async () => {
    const { model } = now, image = pad.bits(), begun = performance.now();
    const chosen = mean() === "mean";
    const eps = chosen ? new Float32Array(model.T * model.z)
      : noise(seed, model.T * model.z);
    const steps = await model.play({ image, noise: eps, budget: BUDGET });
    if (model !== now.model) return; // another model was chosen meanwhile
    const kl = steps.map((s) => s.kl), klTotal = kl.reduce((a, b) => a + b, 0);
    const nll = -model.logLikelihood(steps[model.T - 1].logits, image);
    const took = performance.now() - begun;
    const negElbo = nll + klTotal;
    now.seen = {
      image, noise: eps, steps, kl, klTotal, nll, negElbo, took, fixed: chosen,
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

  // Asks for what is not computed yet, or no longer.
  function ask() {
    const key = JSON.stringify([now.name, pad.version, seed, mean()]);
    if (key !== asked) { asked = key; look(); }
    const dreamKey = JSON.stringify([now.name, dreamSeed, ...sliders.map((s) => s())]);
    if (dreamKey !== dreamAsked) { dreamAsked = dreamKey; imagine(); }
  }

  function drawSeen(t) {
    const { model, seen } = now, one = seen.steps[t - 1];
    pad.draw(one.read);
    drawWindowed(canvas, greyed(one.canvas, size), one.write, VERMILLION, t,
      `its canvas${one.write ? "; orange, where it writes" : ""}`);
    drawImage(error.canvas, signed(one.error, size));
    error.tell("error image: orange lacks ink, blue has too much");
    if (one.patch) {
      const N = model.config.read, half = one.patch.length / 2;
      drawImage(patch.canvas, greyed(one.patch, [N, N], 0, one.read.gamma));
      patch.tell(`the ${N} × ${N} patch read of x`);
      drawImage(errorPatch.canvas, signed(one.patch.subarray(half), [N, N], one.read.gamma));
      errorPatch.tell(`and of the error image`);
    }
    if (memory.image) {
      const { M } = model.config;
      drawWindowed(memory, memory.image, one.latent, GREEN, t,
        `L, ${M} × ${M}${one.latent ? "; green, where it reads, also beyond L" : ""}`,
        seen.margin);
    }
    drawBars(bars.canvas, seen.kl, t);
    const soFar = seen.kl.slice(0, t).reduce((a, b) => a + b, 0);
    bars.tell(`KL of step ${t}: ${fixed(seen.kl[t - 1])} nats of ${fixed(seen.klTotal)}.`,
      "What each step spends on z. Press on a bar to go to its step.");
    fill([seen.kl[t - 1], soFar, seen.klTotal, seen.nll, seen.negElbo].map((v) => fixed(v)));
  }

  // Said when the numbers have come to rest, not at each move of the pen.
  function tell() {
    clearTimeout(telling);
    telling = setTimeout(() => {
      const { model, seen, trouble } = now;
      const costs = model?.live?.costs;
      let text = trouble || "Loading the model…";
      if (!trouble && seen) {
        text = `−ELBO ${fixed(seen.negElbo, 1)} nats` +
          (costs ? `, ${compared(seen.negElbo, costs)}.` : ".");
        if (seen.fixed) text += " With z at its mean this is no estimate of the bound.";
      }
      if (page.told.textContent !== text) page.told.textContent = text;
    }, page.told.textContent ? 400 : 0);
  }

  page.start(host, () => {
    label();
    load();
    const { model, seen, dreamt, trouble } = now, t = step();
    patch.figure.hidden = errorPatch.figure.hidden = !model?.attends;
    memory.figure.hidden = !memory.image || !model;
    if (model) ask();
    if (model && seen) drawSeen(t);
    else {
      pad.draw();
      for (const one of [canvas, error, bars]) emptied(one, "not there yet");
    }
    if (model && dreamt) {
      const one = dreamt.steps[t - 1];
      drawWindowed(dream, greyed(one.canvas, size), one.write, VERMILLION, t,
        `its canvas${one.write ? "; orange, where it writes" : ""}`);
    } else emptied(dream, "not there yet");
    tell();
    return {
      model: model?.name ?? null, t, T: model?.T ?? null, playing: playing(), seed, trouble,
      x: pad.bits(), seen, dreamt, coordinates: sliders.map((s) => s()),
      get waiting() { return frame !== null || look.busy() || imagine.busy(); },
    };
  });
  const given = starts.querySelectorAll("button.digit");
  (given[5] ?? given[0])?.click();
}

Object.assign(window.drawlib.kinds, { pad: [padPage, "Draw a digit."] });
window.drawlib.mountAll();
})();
