// What the live pages are made of: pictures, controls that are real inputs, a pad to draw
// on, and the mounting of a page in its place. A classic script without any dependency,
// after explorer_maths.js; explorer.js and pad.js come after it and add the pages.
(() => {
"use strict";

const { range, sum } = window.drawlib;

// ---- Words and pictures

// On an image, which is ink on white paper in the dark theme too. What stands on the page
// itself, charts and words, takes its colours from STYLE.
const BLUE = "#0072B2", GREEN = "#009E73", VERMILLION = "#D55E00";
const QUIET = "#595959", PAPER = "#ffffff";

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

// A drawing pen in CSS pixels on a canvas that is sharp on dense screens too, and the
// theme's colours by their names in STYLE.
function surface(canvas) {
  const [width, height] = [canvas.clientWidth || 1, canvas.clientHeight || 1];
  const dense = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * dense);
  canvas.height = Math.round(height * dense);
  const pen = canvas.getContext("2d");
  pen.scale(dense, dense);
  pen.font = "13px system-ui, sans-serif";
  const style = getComputedStyle(canvas);
  const colour = (name) => style.getPropertyValue(`--${name}`);
  return { pen, width, height, colour };
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
  const { pen, width, height, colour } = surface(canvas);
  const scale = width / (image.width + 2 * margin);
  pen.fillStyle = colour("desk");
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

// An 8-bit image out of a long array; one channel is ink on paper, three are colours.
function picked(values, index, [channels, height, width]) {
  const start = index * channels * height * width;
  return bitmap(height, width, (row, column, channel) => {
    if (channels === 1) return 255 - values[start + row * width + column];
    return values[start + (channel * height + row) * width + column];
  });
}

// −ELBO at each stop, from 0 at the bottom to the largest of all curves: a line, with a
// dot at the stop that comes after this `share` of the steps.
function drawStops({ pen, width, colour }, bottom, curves, share) {
  const top = Math.max(...curves.flatMap(({ values }) => values), 1e-9);
  for (const { values, hue, dash = [] } of curves) {
    const x = (k) => ((k + 0.5) / values.length) * width;
    const y = (k) => 6 + (1 - values[k] / top) * (bottom - 6);
    const at = Math.ceil(share * values.length - 1e-9) - 1;
    pen.strokeStyle = pen.fillStyle = colour(hue);
    pen.lineWidth = 2.5;
    pen.setLineDash(dash);
    pen.beginPath();
    values.forEach((_, k) => pen.lineTo(x(k), y(k)));
    pen.stroke();
    pen.setLineDash([]);
    pen.beginPath();
    pen.arc(Math.min(Math.max(x(at), 5), width - 5), y(at), 5, 0, 2 * Math.PI);
    pen.fill();
  }
}

// One bar a step, on `base` and at most `room` tall: done, the step itself, still to come.
function drawBars({ pen, width, colour }, values, t, base, room) {
  const each = width / Math.max(values.length, 1), top = Math.max(...values, 1e-9);
  values.forEach((value, i) => {
    const tall = Math.max(1, (Math.max(value, 0) / top) * room);
    pen.fillStyle = colour(i === t - 1 ? "vermillion" : i < t ? "blue" : "ahead");
    pen.fillRect((i + 0.1) * each, base - tall, 0.8 * each, tall);
  });
}

// The track of the steps: curves of `drawStops`, bars, and below them the line of a slider
// with its knob.
function drawTrack(canvas, bars, t, curves = [], T = bars.length) {
  const place = surface(canvas), { pen, width, height, colour } = place;
  const each = width / Math.max(T, 1), at = (t - 0.5) * each;
  const base = height - 16, line = height - 7;
  const room = curves.length && bars.length ? 0.42 * base : base;
  if (curves.length) {
    pen.fillStyle = colour("rule");
    pen.fillRect(at - 0.5, 0, 1, base);
    drawStops(place, bars.length ? base - room - 10 : base - 4, curves, t / T);
  }
  drawBars(place, bars, t, base, room);
  pen.fillStyle = colour("rule");
  pen.fillRect(0, line - 2, width, 4);
  if (!T) return;
  pen.fillStyle = colour("blue");
  pen.fillRect(0, line - 2, at, 4);
  pen.beginPath();
  pen.arc(Math.min(Math.max(at, 7), width - 7), line, 6, 0, 2 * Math.PI);
  pen.fillStyle = colour("vermillion");
  pen.fill();
}

// ---- The parts of a page: controls that are real inputs, pictures that say what they show

const STYLE = `
:host { display: block; box-sizing: border-box; max-width: 100%; padding: 14px 18px;
  color: var(--text); background: var(--page); border: 1px solid var(--rule);
  border-radius: 12px; font: max(15px, 0.94rem)/1.45 system-ui, sans-serif; text-align: left;
  overflow-wrap: anywhere;
  color-scheme: light; --text: #1b1b1b; --quiet: #595959; --page: #ffffff;
  --field: #f2f2f2; --edge: #6b6b6b; --rule: #c8c8c8; --desk: #e4e4e4; --ahead: #9a9a9a;
  --blue: #0072b2; --orange: #e69f00; --green: #009e73; --vermillion: #d55e00;
  --on-blue: #ffffff; }
@media screen { :host([data-look=dark]) {
  color-scheme: dark; --text: #e8e8e8; --quiet: #b0b4b8; --page: #1c2127;
  --field: #2d343c; --edge: #8f979f; --rule: #4a525a; --desk: #3a4149; --ahead: #7d858d;
  --blue: #56b4e9; --orange: #f0b04a; --green: #3cc79b; --vermillion: #f08a3c;
  --on-blue: #10161c; } }
@media print { button { display: none; } figure, tr { break-inside: avoid; } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
p { margin: 8px 0; }
.controls { display: grid; gap: 2px 20px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 260px), 1fr)); }
.control { display: grid; grid-template-columns: 1fr auto; align-items: center; }
.control > input, .control > select { grid-column: 1 / -1; width: 100%; margin: 0; }
input[type=range] { height: 28px; accent-color: var(--blue); }
button { align-self: end; cursor: pointer; }
button.main { color: var(--on-blue); background: var(--blue); border-color: transparent;
  font-weight: 600; }
.timeline { display: flex; flex-wrap: wrap; gap: 4px 14px; margin-top: 12px; }
.timeline .control { flex: 1 1 180px; min-width: 0; column-gap: 10px; }
.timeline label { white-space: nowrap; }
.timeline output { text-align: right; }
.timeline > .main { align-self: flex-start; min-width: 76px; min-height: 76px;
  margin-top: 24px; border-radius: 10px; }
.timeline canvas { grid-area: 2 / 1 / 3 / 3; height: 92px; cursor: ew-resize;
  touch-action: pan-y; user-select: none; -webkit-user-select: none; border-radius: 4px; }
.timeline.stops canvas { height: 156px; }
.timeline input { grid-area: 2 / 1 / 3 / 3; height: 100%; opacity: 0; pointer-events: none; }
.timeline .control:has(:focus-visible) canvas { outline: 3px solid var(--vermillion);
  outline-offset: 3px; }
.note, .stop { flex: 1 0 100%; margin: 0; font-variant-numeric: tabular-nums; }
.note { color: var(--quiet); font-size: 0.93em; }
select, button { font: inherit; min-height: 34px; padding: 2px 10px; color: var(--text);
  background: var(--field); border: 1px solid var(--edge); border-radius: 4px; }
output { font-variant-numeric: tabular-nums; }
.pictures { display: flex; flex-wrap: wrap; gap: 14px; margin-top: 12px; }
figure { margin: 0; flex: 1 1 140px; max-width: 210px; min-width: 0; }
figure.large { flex-basis: 240px; max-width: 300px; }
figure.wide { flex-basis: 100%; max-width: 640px; }
figure.curves canvas { min-height: 250px; }
figure.gap canvas { min-height: 84px; }
figure.matrix { flex-basis: 300px; max-width: 460px; }
canvas { display: block; width: 100%; }
canvas.pad { touch-action: none; cursor: crosshair; user-select: none;
  -webkit-user-select: none; -webkit-touch-callout: none; }
figcaption { font-size: 0.93em; font-variant-numeric: tabular-nums; }
:focus-visible { outline: 3px solid var(--vermillion); outline-offset: 2px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 10px 0; }
th, td { padding: 3px 10px 3px 0; text-align: left; font-weight: normal;
  border-bottom: 1px solid var(--rule); }
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

  // Whatever is made from here on goes into `box`, row below row.
  inside(box) {
    this.body = box;
  }

  row(kind) {
    this[kind] = element("div", { class: kind });
    this.body.append(this[kind]);
    return this[kind];
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
    return Object.assign(get, { input, output });
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
    follow(host, () => this.update());
    const size = () => [host.clientWidth, window.devicePixelRatio].join();
    let before = size();
    const fit = () => {
      if (size() === before) return;
      before = size();
      requestAnimationFrame(() => this.update());
    };
    new ResizeObserver(fit).observe(host);
    window.addEventListener("resize", fit); // zoomed, with the host as wide as it may be
  }
}

// `data-look` of a host is light or dark: as the page around it says (the book and Jupyter
// do), or else as the system does, and light on paper. `redraw` comes after each change.
function follow(host, redraw) {
  const dark = matchMedia("(prefers-color-scheme: dark)"), paper = matchMedia("print");
  const [html, body] = [document.documentElement, document.body];
  function isDark() {
    if (html.dataset.theme) return html.dataset.theme === "dark";
    if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false";
    return dark.matches;
  }
  function look(event) {
    const light = paper.matches || event?.type === "beforeprint" || !isDark();
    const wanted = light ? "light" : "dark";
    if (host.dataset.look === wanted) return;
    host.dataset.look = wanted;
    redraw();
  }
  look();
  for (const query of [dark, paper]) query.addEventListener("change", look);
  for (const name of ["beforeprint", "afterprint"]) window.addEventListener(name, look);
  const observer = new MutationObserver(() => look());
  const attributeFilter = ["data-theme", "data-jp-theme-light"];
  for (const one of [html, body]) observer.observe(one, { attributeFilter });
}

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

// ---- Steps of a model, by hand or playing

const SPEEDS = { 3: "3 steps a second", 8: "8 steps a second", 20: "20 steps a second" };

// A slider for the step t, whose track are the bars of the steps' KL and the curve of −ELBO
// at each stop, and the button that plays them. The slider's `max` may change; `speed()` is
// in steps a second.
function timeline(page, host, T, speed, name = "step t") {
  const row = page.row("controls");
  row.classList.add("timeline");
  const button = page.button("", () => (timer === null ? play() : pause()));
  button.className = "main";
  row.append(button);
  const step = page.slider(name, [1, T, 1, 1], (t) => `${t} of ${step.input.max}`);
  const bars = element("canvas", { role: "img", "aria-label": "not there yet" });
  const note = element("p", { class: "note" }), stop = element("p", { class: "stop" });
  step.input.before(bars);
  row.append(stop, note);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const last = () => Number(step.input.max);
  let timer = null;

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
  function play(rate = () => Number(speed())) {
    // Who asked for less motion gets one step for each press.
    if (step() >= last()) show(1);
    else if (calm.matches) show(step() + 1);
    if (calm.matches) return;
    const tick = () => {
      // A page that was taken away must not go on working.
      if (!host.isConnected || step() >= last()) return pause();
      show(step() + 1);
      timer = setTimeout(tick, 1000 / rate());
    };
    timer = setTimeout(tick, 1000 / rate());
    label();
  }
  // `stops`: −ELBO if the drawing ended after each of the steps, where it is known.
  function draw(kl, stops = null) {
    const t = step(), top = fixed(Math.max(...kl, 0));
    row.classList.toggle("stops", stops !== null);
    drawTrack(bars, kl, t, stops?.length ? [{ values: stops, hue: "green" }] : []);
    if (!kl.length) return;
    const [done, nats] = [`${t} of ${last()}`, `${fixed(kl[t - 1])} nats`];
    step.output.textContent = `${done}: ${nats}`;
    let spoken = `${done}: KL ${nats}`, seen = `KL of each step, at most ${top} nats`;
    note.textContent = `${seen}: what it spends on z.`;
    if (stops) {
      const [here, end, paid] = [stops[t - 1], stops[last() - 1], sum(kl.slice(0, t))];
      const price = `−ELBO ${fixed(here, 1)} nats`, isLast = t === last();
      stop.replaceChildren(element("strong", {}, `${isLast ? "After the last step" : "Stop here"}: ${price}`),
        ` = ${fixed(paid, 1)} for z + ${fixed(here - paid, 1)} for what is still wrong` +
        (isLast ? "." : `; ${fixed(end, 1)} after the last step.`));
      spoken += `; stopped here, ${price}`;
      seen += `; −ELBO if it stopped there, from ${fixed(stops[0], 1)} to ${fixed(end, 1)} nats`;
      note.textContent = `Bars: KL of each step, at most ${top} nats, spent on z. ` +
        "Line: −ELBO if the drawing stopped there.";
    }
    step.input.setAttribute("aria-valuetext", spoken);
    bars.setAttribute("aria-label", seen);
  }
  const scrub = (event) => {
    const box = bars.getBoundingClientRect();
    const t = Math.ceil(((event.clientX - box.left) / box.width) * last());
    show(Math.min(last(), Math.max(1, t)));
  };
  bars.addEventListener("mousedown", (event) => event.preventDefault()); // keeps the focus
  drag(bars, {
    begin(event) {
      pause();
      step.input.focus({ preventScroll: true }); // so that the arrow keys go on from here
      scrub(event);
    },
    move: scrub,
  });
  calm.addEventListener("change", pause);
  return { row, step, bars, note, calm, playing: () => timer !== null, play, pause, label, show, draw };
}

// How a −ELBO compares with those of some digits, of which `values` are percentiles.
function compared(total, costs) {
  const below = costs.values.filter((v) => v < total).length;
  if (below === 0) return `less than any of ${costs.of}`;
  if (below < costs.values.length) return `more than ${below - 1} in 100 of ${costs.of}`;
  return `more than any of ${costs.of}: the model was trained on nothing like it`;
}

// ---- A pad

// Calls `begin` and `move` for one pointer at a time, and for its first button alone: the
// mouse's left one, a finger, a pen's tip. Others are not seen until it is let go, leaves
// its button, or is taken away by the browser, which may also be with the whole window:
// where another one takes the mouse, nobody says that it went up. Returns whether one is held.
function drag(canvas, { begin, move }) {
  let held = null;
  const drop = (event) => { if (event.pointerId === held) held = null; };
  canvas.addEventListener("pointerdown", (event) => {
    // With the control key a Mac's mouse asks for the menu.
    if (event.button !== 0 || event.ctrlKey || (held !== null && held !== event.pointerId)) return;
    canvas.setPointerCapture(event.pointerId);
    held = event.pointerId;
    begin(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== held) return;
    // With a second button down, the first one goes up without a word; of a picture that
    // was hidden below the pointer there is no place.
    if (event.buttons & 1 && canvas.clientWidth) move(event);
    else drop(event);
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"])
    canvas.addEventListener(name, drop);
  window.addEventListener("blur", () => { held = null; });
  // What is selected on the page around would be dragged away in place of a line.
  canvas.addEventListener("dragstart", (event) => event.preventDefault());
  return () => held !== null;
}

// A pad to draw on with mouse, finger or keys; its image is `height` rows of 0 to 1.
class Pad {
  constructor(page, [height, width], changed, kind = "large") {
    this.size = [height, width];
    this.image = range(height, () => new Array(width).fill(0));
    this.cursor = [Math.floor(height / 2), Math.floor(width / 2)];
    this.penDown = false;
    this.changed = changed;
    this.picture = page.picture(kind, height / width);
    const { canvas, figure } = this.picture;
    canvas.className = "pad";
    // A screen reader hands its keys over to an application, as to a game.
    canvas.setAttribute("role", "application");
    canvas.tabIndex = 0;
    this.held = drag(canvas, {
      begin: (event) => this.press(event), move: (event) => this.move(event) });
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

  // The nine pixels around one.
  rub(row, column) {
    for (const b of [row - 1, row, row + 1])
      this.image[b]?.fill(0, Math.max(0, column - 1), column + 2);
  }

  stroke(from, to) {
    const dabs = Math.max(1, Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])));
    range(dabs + 1, (k) => this.dab(...from.map((v, i) => v + ((to[i] - v) * k) / dabs)));
    this.changed();
  }

  place(event) {
    const box = this.picture.canvas.getBoundingClientRect();
    this.frame = [box.left, box.top, box.width, box.height, this.size].join();
    const row = ((event.clientY - box.top) / box.height) * this.size[0] - 0.5;
    return [row, ((event.clientX - box.left) / box.width) * this.size[1] - 0.5];
  }

  // Where a pointer draws, the keys' pen is up.
  press(event) {
    this.penDown = false;
    this.last = this.place(event);
    this.stroke(this.last, this.last);
  }

  // Where the pad moved below the pointer (the page scrolled, a phone was turned) or has
  // other pixels (another model came), the line goes on from there: its last point stands
  // somewhere else now.
  move(event) {
    const { frame, last } = this;
    this.last = this.place(event);
    this.stroke(frame === this.frame ? last : this.last, this.last);
  }

  key(event) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const rubs = event.key === "Backspace" || event.key === "Delete";
    const step = steps[event.key];
    if (!step && !rubs && event.key !== " ") return;
    if (event.altKey || event.ctrlKey || event.metaKey) return; // the browser's, as for going back
    event.preventDefault();
    if (this.held()) return; // of pointer and keys one draws at a time
    if (event.key === " " && event.repeat) return; // a key that is kept down is pressed once
    if (step) {
      this.cursor = this.cursor.map((v, i) => Math.min(this.size[i] - 1, Math.max(0, v + step[i])));
    } else this.penDown = !rubs && !this.penDown;
    if (rubs) this.rub(...this.cursor);
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

// ---- Mounting

// What a host's data-drawlib may name: the function that fills a page, and its title.
// Each script adds its own, and may stand in a document many times.
const kinds = window.drawlib.kinds ?? {};

function mount(host) {
  // A shadow root marks what is mounted; it also keeps the page's styles out.
  if (host.shadowRoot || !kinds[host.dataset.drawlib]) return;
  const data = JSON.parse(host.dataset.payload);
  const [explore, name] = kinds[host.dataset.drawlib];
  const root = host.attachShadow({ mode: "open" });
  // The same output twice on a page: ids must stay unique.
  if (document.getElementById(host.id) !== host) host.removeAttribute("id");
  // Neither a notebook's shortcuts nor the book's may answer to keys meant for a slider.
  host.setAttribute("data-lm-suppress-shortcuts", "true");
  root.addEventListener("keydown", (event) => event.stopPropagation());
  explore(new Page(root, data.title ?? name, data.introduction), host, data);
}

const mountAll = () => document.querySelectorAll("[data-drawlib]").forEach(mount);

const parts = {
  BLUE, GREEN, VERMILLION, QUIET, PAPER,
  fixed, ends, element, surface, bitmap, inked, picked, bytes,
  drawBitmap, drawImage, drawGrid, drawBars, drawTrack, SPEEDS, timeline, compared, drag, Page, Pad,
};
Object.assign(window.drawlib, { parts, kinds, mountAll });
})();
