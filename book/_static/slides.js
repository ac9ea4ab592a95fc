// Slides by the keyboard: on and back, first and last, notes. Without this script the
// slides are a page to scroll; nothing is fetched and nothing is kept.
(() => {
"use strict";

addEventListener("DOMContentLoaded", () => {
  const slides = [...document.querySelectorAll(".slide")];
  const place = document.querySelector("#place");
  let here = 0;

  function show(number) {
    place.textContent = `${number + 1} of ${slides.length}`;
    here = number;
  }
  // The heading takes the focus, so that a screen reader says where one is.
  function go(number) {
    const slide = slides[Math.max(0, Math.min(number, slides.length - 1))];
    history.replaceState(null, "", `#${slide.id}`);
    slide.scrollIntoView();
    slide.querySelector("h1, h2, h3").focus({ preventScroll: true });
    show(slides.indexOf(slide));
  }
  function notes() {
    const box = slides[here].querySelector(".notes");
    if (box) box.open = !box.open;
  }

  // A slide that is taller than the screen is shown smaller. Not on a phone, and not
  // where somebody has enlarged the page to read it: there one scrolls.
  const bar = document.querySelector("nav"), fitted = new Map();
  function fit(shown) {
    if (shown.querySelector("details[open]")) return;  // who opens an answer scrolls
    const height = () => shown.getBoundingClientRect().height;
    const set = (share) => shown.style.setProperty("--fit", share);
    const before = shown.style.getPropertyValue("--fit");
    set(1);
    if (innerWidth < 1000 || innerHeight < 600) return fitted.delete(shown);
    const { top } = shown.closest(".slide").getBoundingClientRect();
    const room = bar.getBoundingClientRect().top - (shown.getBoundingClientRect().top - top);
    const whole = height(), known = `${room} ${whole}`;
    if (fitted.get(shown) === known) return set(before);
    fitted.set(shown, known);
    if (whole <= room) return;
    // Smaller text needs fewer lines, so a larger share than this one may fit.
    let [low, high] = [room / whole, 1];
    for (let k = 0; k < 4; k++) {
      set((low + high) / 2);
      if (height() <= room) low = (low + high) / 2; else high = (low + high) / 2;
    }
    set(low);
  }
  // Formulas and live parts get their size late.
  const sized = new ResizeObserver((entries) => entries.forEach((e) => fit(e.target)));
  const all = document.querySelectorAll(".shown");
  all.forEach((shown) => sized.observe(shown));
  addEventListener("resize", () => all.forEach(fit));

  const keys = {
    ArrowRight: () => go(here + 1), PageDown: () => go(here + 1), " ": () => go(here + 1),
    ArrowLeft: () => go(here - 1), PageUp: () => go(here - 1),
    Home: () => go(0), End: () => go(slides.length - 1), n: notes, N: notes,
  };
  // What has keys of its own keeps them: fields, folded answers, live parts, wide boxes.
  const own = "input, select, textarea, button, summary, a, pre, table, [data-drawlib]";
  addEventListener("keydown", (event) => {
    const { key, ctrlKey, metaKey, altKey, target } = event;
    if (!keys[key] || ctrlKey || metaKey || altKey || target.closest?.(own)) return;
    event.preventDefault();
    keys[key]();
  });
  for (const button of document.querySelectorAll("nav button"))
    button.addEventListener("click", () => go(here + Number(button.dataset.step)));

  // Who scrolls is where the middle of the screen is now. (What the observer found is
  // told a little later: a key may have been pressed since.)
  const seen = new IntersectionObserver(() => {
    const middle = innerHeight / 2;
    const number = slides.findIndex((slide) => {
      const { top, bottom } = slide.getBoundingClientRect();
      return top <= middle && middle < bottom;
    });
    if (number >= 0) show(number);
  }, { rootMargin: "-50% 0px -50% 0px" });
  slides.forEach((slide) => seen.observe(slide));
  const named = slides.findIndex((slide) => `#${slide.id}` === location.hash);
  show(Math.max(0, named));
});

const all = "details.notes:not([open]), details.answer:not([open])";
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll(all)];
  for (const box of opened) box.open = true;
});
addEventListener("afterprint", () => {
  for (const box of opened) box.open = false;
});
})();
