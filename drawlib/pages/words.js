// Type a name, and watch a model read it and write it again: the page of
// drawlib/pages/words.py, around the models of web_models.js. A run of eight steps takes
// a millisecond, so each change of a letter is answered at once.
(() => {
"use strict";

const { range, sum, loadModel, noise } = window.drawlib;
const { fixed, element, surface, SPEEDS, timeline, compared } = window.drawlib.parts;

const ROW = 30, LEFT = 26; // CSS pixels: a step's height, room for its number

const STYLE = `
:host { max-width: min(720px, 100%); margin: 0 auto; }
input[type=text] { font: inherit; font-size: 1.2em; letter-spacing: 0.08em; min-height: 40px;
  padding: 4px 10px; color: var(--text); background: var(--field);
  border: 1px solid var(--edge); border-radius: 4px; }
input[aria-invalid=true] { border: 2px solid var(--vermillion); }
.verdict { min-height: 1.6em; margin: 8px 0 2px; }
.tools { display: flex; flex-wrap: wrap; align-items: center; gap: 8px; margin: 8px 0; }
figure.word { flex-basis: 100%; max-width: none; }
details { border-top: 1px solid var(--rule); }
summary { padding: 9px 2px; cursor: pointer; font-weight: 600; }
`;

// ---- Colours: the shade of a certainty, and letters that can be read on it

const parts = (hex) => [1, 3, 5].map((k) => parseInt(hex.trim().slice(k, k + 2), 16));
const mixed = (from, to, share) => from.map((v, k) => v + share * (to[k] - v));
const css = (colour) => `rgb(${colour.map(Math.round).join(" ")})`;
function luminance(colour) {
  const [r, g, b] = colour.map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
const letterOn = (colour) => luminance(colour) > 0.179 ? "#000000" : "#ffffff";

// ---- The page

function wordsPage(page, host, data) {
  page.body.parentNode.append(element("style", {}, STYLE));
  const { alphabet, places, letters: [least, most], models, what } = data, end = alphabet.length;
  const loaded = models.map(({ json }) => loadModel(json));
  let seed = 0, word = data.examples[0];

  const input = element("input", {
    type: "text", value: word, autocomplete: "off", autocapitalize: "characters",
    spellcheck: "false", "aria-describedby": "told" });
  page.labelled(`a ${what}, ${least} to ${most} letters`, input);
  page.inputs.push(() => {}); // it shows itself; the next control gets the next id
  const which = page.choice("model", Object.fromEntries(models.map(({ label }, k) => [k, label])));
  const grid = page.picture("word", 1);
  page.told.id = "told";
  page.told.className = "verdict";
  page.told.setAttribute("aria-live", "polite");
  const steps = timeline(page, host, 1, () => speed()), { step, playing, label } = steps;
  const tools = element("div", { class: "tools", role: "group", "aria-label": "Begin with" });
  tools.append("or read", ...data.examples.map((text) => page.button(text, () => {
    input.value = text;
    page.update();
  })), page.button("New sample", () => { seed++; page.update(); }));
  page.body.append(page.told, tools);
  const box = element("details", {}, element("summary", {}, "About this model"));
  const about = element("p");
  page.body.append(box);
  page.inside(box);
  page.row("controls");
  const speed = page.choice("speed", { 1: "1 step a second", ...SPEEDS });
  speed.select.value = "3";
  box.append(about);
  input.addEventListener("input", () => page.update());

  // What is wrong with what was typed, in one line; empty, where nothing is.
  function refused(text) {
    const foreign = [...text].find((sign) => !/[A-Za-z]/.test(sign));
    if (foreign) return `The model knows the letters A to Z, and no “${foreign}”: leave it out, please.`;
    if (text.length > most) return `${text.length} letters are too many: the model knows words of at most ${most}.`;
    if (text.length < least) return `A little more, please: ${least} to ${most} letters.`;
    return "";
  }

  // One 1 among the channels of each place: a letter's, or behind the word the end's
  function imageOf(text) {
    const image = new Float32Array((end + 1) * places);
    range(places, (i) => {
      const k = i < text.length ? alphabet.indexOf(text[i]) : end;
      image[k * places + i] = 1;
    });
    return image;
  }

  // The likeliest sign at each place, and how likely it is; a word ends where the end comes.
  function likeliest(canvas) {
    const signs = range(places, (i) => {
      const of = range(end + 1, (k) => canvas[k * places + i]), sure = Math.max(...of);
      return { k: of.indexOf(sure), sure };
    });
    const ended = signs.findIndex(({ k }) => k === end);
    const text = signs.slice(0, ended < 0 ? places : ended).map(({ k }) => alphabet[k]).join("");
    return { signs, text };
  }

  function drawRow({ pen, width, colour }, row, name, signs, marked) {
    const each = (width - LEFT) / places, top = row * ROW;
    const [paper, ink] = [parts(colour("page")), parts(colour("blue"))];
    const ended = signs.findIndex(({ k }) => k === end);
    pen.textBaseline = "middle";
    pen.textAlign = "center";
    pen.fillStyle = colour("text");
    pen.fillText(name, LEFT / 2 - 2, top + ROW / 2);
    signs.forEach(({ k, sure }, i) => {
      const shade = mixed(paper, ink, sure), behind = ended >= 0 && i > ended;
      pen.fillStyle = css(shade);
      pen.fillRect(LEFT + i * each + 1, top + 1, each - 2, ROW - 2);
      if (behind && k === end) return; // one dot says that the word is over
      pen.fillStyle = letterOn(shade);
      pen.font = `${behind ? "" : "600 "}${Math.min(17, 0.62 * each)}px system-ui, sans-serif`;
      pen.fillText(k === end ? "·" : alphabet[k], LEFT + (i + 0.5) * each, top + ROW / 2 + 1);
    });
    pen.font = "13px system-ui, sans-serif";
    if (!marked) return;
    pen.strokeStyle = colour("vermillion");
    pen.lineWidth = 3;
    pen.strokeRect(LEFT, top + 1.5, width - LEFT - 1.5, ROW - 3);
  }

  function drawGrid(written, t) {
    grid.canvas.style.aspectRatio = "auto";
    grid.canvas.style.height = `${(written.length + 1.4) * ROW}px`;
    const place = surface(grid.canvas);
    const typed = range(places, (i) => ({ k: i < word.length ? alphabet.indexOf(word[i]) : end, sure: 1 }));
    drawRow(place, 0, "x", typed, false);
    written.slice(0, t).forEach(({ signs }, k) => drawRow(place, k + 1.4, `${k + 1}`, signs, k + 1 === t));
    const { signs, text } = written[t - 1];
    const told = signs.slice(0, text.length).map(({ k, sure }) => `${alphabet[k]} ${Math.round(100 * sure)} %`);
    grid.tell(`You typed ${word}. After step ${t} the model writes ${text || "nothing"}: ${told.join(", ")}.`,
      `x is ${word}; after step ${t} the model writes ${text || "nothing"}.`);
  }

  let run = null, asked = "";
  function look(model, k) {
    const key = [word, seed, k].join();
    if (key === asked) return;
    const image = imageOf(word), eps = noise(seed, model.T * model.z), done = model.run(image, eps);
    const stops = model.stops(done, image);
    const negElbo = sum(stops.map((value, t) => model.pi[t] * value));
    const written = done.map(({ canvas }) => likeliest(canvas));
    if (Number(step.input.max) !== model.T) {
      step.input.max = model.T;
      step.input.value = model.T; // the whole drawing first
    }
    asked = key;
    run = { image, noise: eps, canvases: done.map(({ canvas }) => canvas), kl: done.map(({ kl }) => kl),
      stops, negElbo, written };
  }

  page.start(host, () => {
    label();
    const text = input.value.trim(), wrong = refused(text), k = Number(which());
    if (!wrong) word = text.toUpperCase();
    input.setAttribute("aria-invalid", String(wrong !== ""));
    const model = loaded[k];
    look(model, k);
    const t = step();
    drawGrid(run.written, t);
    steps.draw(run.kl, run.stops);
    const { costs } = model.live;
    const mean = model.pi[model.T - 1] < 1 ? ", a mean over all its stops" : "";
    const told = wrong || `−ELBO ${fixed(run.negElbo, 1)} nats${mean}` +
      (costs ? `, ${compared(run.negElbo, costs)}.` : ".");
    if (page.told.textContent !== told) page.told.textContent = told;
    about.textContent = model.live.about;
    return { model: models[k].label, word, wrong, t, T: model.T, playing: playing(), ...run,
      written: run.written.map((one) => one.text) };
  });
}

Object.assign(window.drawlib.kinds, { words: [wordsPage, "Write a name."] });
window.drawlib.mountAll();
})();
