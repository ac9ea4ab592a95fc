// What the book's pages do beyond their theme: on paper they are light, with their answers
// open; a formula wider than its line can be scrolled; a page from a file fetches nothing.
(() => {
"use strict";

// From file:// a browser refuses to fetch: results of a search then come without the
// words around what was found.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

// ---- Paper

// Hints, solutions, answers, and where a table's number comes from; not a chapter's
// plumbing, which says on paper that it is folded.
const ANSWERS = ".tag_exercise-solution details:not([open]), "
  + "details.provenance:not([open]), details.answer:not([open])";
let undo = null; // while the page is on paper: what makes it a screen's again

function toPaper() {
  if (undo) return;
  const { dataset } = document.documentElement, { theme } = dataset;
  const closed = [...document.querySelectorAll(ANSWERS)];
  if (theme) dataset.theme = "light";
  for (const box of closed) box.open = true;
  undo = () => {
    if (theme) dataset.theme = theme;
    for (const box of closed) box.open = false;
    undo = null;
  };
}

const paper = matchMedia("print");
paper.addEventListener("change", () => (paper.matches ? toPaper() : undo?.()));
addEventListener("beforeprint", toPaper);
addEventListener("afterprint", () => undo?.());

// ---- Questions at a chapter's end

// A choice opens by itself. Before the answer to a question for a number stands a field
// that checks one. Nothing is kept: a page that is left forgets what was written.
function field(answer, number) {
  const form = document.createElement("form");
  form.className = "check-number";
  form.innerHTML = `<label for="number-${number}">Your number</label>
    <input id="number-${number}" inputmode="decimal" autocomplete="off" size="9">
    <button>Check</button> <output for="number-${number}"></output>`;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const told = form.querySelector("output");
    const text = form.querySelector("input").value.trim();
    const value = Number(text.replace("\u2212", "-").replace(",", "."));
    const { answer: right, within } = answer.dataset;
    if (!text || Number.isNaN(value)) told.textContent = "A number, please, such as 0.5.";
    else if (Math.abs(value - right) <= Number(within) + 1e-9) told.textContent = "Right.";
    else told.textContent = "Not yet. Try again, or open the answer.";
  });
  answer.before(form);
}

addEventListener("DOMContentLoaded", () =>
  document.querySelectorAll("details.answer[data-answer]").forEach(field));

// ---- Formulas in a line of text

// Those wider than their line get a line of their own, which scrolls and takes the focus.
function fit() {
  const formulas = [...document.querySelectorAll("span.math")];
  const wide = formulas.map((span) => {
    const set = span.querySelector("mjx-math"), line = span.parentElement.closest(
      "p, li, dd, dt, td, th, summary, figcaption, h1, h2, h3, h4, div");
    return !!set && set.getBoundingClientRect().width > roomOf(line);
  });
  formulas.forEach((span, k) => {
    if (wide[k] === span.classList.contains("wide-formula")) return;
    span.classList.toggle("wide-formula", wide[k]);
    const about = { tabindex: "0", role: "group", "aria-label": "Formula" };
    for (const [name, value] of Object.entries(about)) {
      if (wide[k]) span.setAttribute(name, value);
      else span.removeAttribute(name);
    }
  });
}

function roomOf(box) {
  const { paddingLeft, paddingRight } = getComputedStyle(box);
  return box.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
}

addEventListener("load", async () => {
  const article = document.querySelector(".bd-article");
  if (!article || !document.querySelector("span.math")) return;
  await window.MathJax?.startup?.promise;
  new ResizeObserver(fit).observe(article);
});
})();
