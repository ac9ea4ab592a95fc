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

  // Who scrolls is where the middle of the screen is.
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries)
      if (isIntersecting) show(slides.indexOf(target));
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
