// Several models draw the same image, and one slider leads through all of their drawings:
// the page of drawlib/pages/side_by_side.py, which has computed every picture. It comes
// after explorer_maths.js and explorer_parts.js, and needs nothing else.
(() => {
"use strict";

const { range, sum } = window.drawlib;
const { fixed, element, surface, picked, bytes } = window.drawlib.parts;
const { drawImage, drawBars, drawTrack, SPEEDS, timeline } = window.drawlib.parts;

// Each model's line is known by its dashes as well as by its colour.
const LINES = [
  { hue: "blue" }, { hue: "vermillion", dash: [9, 4] }, { hue: "green", dash: [3, 3] },
  { hue: "orange", dash: [12, 3, 3, 3] }, { hue: "quiet", dash: [18, 6] },
];

const STYLE = `
.pictures { display: grid; gap: 14px 12px;
  grid-template-columns: repeat(auto-fit, minmax(min(29%, 130px), 1fr)); }
.pictures figure { max-width: 230px; display: flex; flex-direction: column; gap: 4px; }
.pictures .title { order: -1; margin: 0; font-weight: 600; line-height: 1.25; min-height: 2.5em; }
.pictures .line { display: block; width: 40px; height: 8px; }
.pictures .bars { height: 46px; }
.pictures figcaption { white-space: pre-line; line-height: 1.35; }
`;

function sideBySide(page, host, data) {
  page.body.parentNode.append(element("style", {}, STYLE));
  const { shape, labels, models } = data, [, height, width] = shape;
  const which = page.choice("image", Object.fromEntries(labels.map((name, k) => [k, name])));
  const speed = page.choice("speed", SPEEDS);
  speed.select.value = "8";
  const [n, stack] = [labels.length, bytes(data.images)];

  function titled(text, ...more) {
    const picture = page.picture("", height / width);
    picture.figure.prepend(element("p", { class: "title" }, text, ...more));
    return picture;
  }
  const x = titled("x");
  const drawn = models.map(({ label, kl, stops, images }, k) => {
    const line = element("canvas", { class: "line", "aria-hidden": true });
    const picture = titled(label, line), bars = element("canvas", { class: "bars", role: "img" });
    picture.canvas.after(bars);
    return { label, kl, stops, line, picture, bars, stack: bytes(images), T: kl[0].length, ...LINES[k] };
  });
  // One position for each step of the model that has the most.
  const K = Math.max(...drawn.map(({ T }) => T));
  const steps = timeline(page, host, K, speed, "done"), { step, playing, label } = steps;
  steps.row.classList.add("stops");
  steps.note.textContent = "Lines: −ELBO of each model if its drawing stopped there, in nats, from 0 " +
    "at the bottom. Bars: KL of each step, for each model on a scale of its own.";

  function drawLine({ line, hue, dash = [] }) {
    const { pen, width: long, height: high, colour } = surface(line);
    pen.strokeStyle = colour(hue);
    pen.lineWidth = 3;
    pen.setLineDash(dash);
    pen.beginPath();
    pen.moveTo(0, high / 2);
    pen.lineTo(long, high / 2);
    pen.stroke();
  }

  function drawModel(one, share, k) {
    const t = Math.ceil(share * one.T - 1e-9), [kl, stops] = [one.kl[k], one.stops[k]];
    const at = { t, klStep: kl[t - 1], klSoFar: sum(kl.slice(0, t)), stop: stops[t - 1] };
    drawLine(one);
    drawImage(one.picture.canvas, picked(one.stack, (t - 1) * n + k, shape));
    const place = surface(one.bars);
    drawBars(place, kl, t, place.height, place.height);
    const cost = `${fixed(at.klStep)} nats, ${fixed(at.klSoFar, 1)} so far`;
    one.bars.setAttribute("aria-label",
      `KL of each step of ${one.label}, at most ${fixed(Math.max(...kl))} nats`);
    one.picture.tell(`${one.label}, its picture after step ${t} of ${one.T}`,
      `step ${t} of ${one.T}\n${cost}\nstop: −ELBO ${fixed(at.stop, 1)}`);
    return at;
  }

  page.start(host, () => {
    label();
    const [k, share] = [Number(which()), step() / K];
    drawImage(x.canvas, picked(stack, k, shape));
    x.tell(`x, ${labels[k]}`, labels[k]);
    const found = drawn.map((one) => drawModel(one, share, k));
    drawTrack(steps.bars, [], step(), drawn.map((one) => ({ ...one, values: one.stops[k] })), K);
    const done = `${Math.round(100 * share)} % of each drawing`;
    steps.step.output.textContent = done;
    steps.step.input.setAttribute("aria-valuetext", done);
    steps.bars.setAttribute("aria-label", "−ELBO if the drawing stopped there: " + drawn.map(
      ({ label: name, stops }) => `${name} from ${fixed(stops[k][0], 1)} to ` +
        `${fixed(stops[k][stops[k].length - 1], 1)} nats`).join(", "));
    return { k, position: step(), K, models: found, playing: playing() };
  });
}

Object.assign(window.drawlib.kinds, { "side-by-side": [sideBySide, "Side by side."] });
window.drawlib.mountAll();
})();
