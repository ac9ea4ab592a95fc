"""What the 64 steps of the book's first page take in a reader's browser.

The page is opened from a file twice: as it is, and without WebAssembly, where the plain
loops compute. The two take their runs in turn. The image is one that the model dreams
itself, so no data set is needed.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.clock import Times
from drawlib.bound import LatentModel
from drawlib.pages import web
from drawlib.pages.draw_a_digit import MODELS
from drawlib.pages.embedded import script
from drawlib.results.zoo import load_pretrained
from tools.chromium import ARGUMENTS, PATIENCE, find_chromium

__all__ = ["page_steps"]

MODEL = next(iter(MODELS.values()))
ROW: dict[str, Any] = {
    **{"name": "page", "title": "64 steps in the page, Chromium"},
    **{"goal": 25.0, "unit": "ms"},
}
# What each page runs before its scripts.
WAYS = {"as it is": "", "plain loops": "delete globalThis.WebAssembly"}
# The browser compiles what has run often better, so the first runs are not measured.
BEGIN = """runs => {
  const model = drawlib.loadModel(Object.values(drawlibModels)[0]);
  const noise = seed => drawlib.noise(seed, model.T * model.z);
  const image = model.generate(noise(1)).at(-1).canvas.map(Math.round), eps = noise(2);
  window.run = () => model.run(image, eps);
  for (let k = 0; k < runs; k++) run();
  return model.stops(run(), image);
}"""
MILLISECONDS = """runs => Array.from({ length: runs }, () => {
  const since = performance.now();
  run();
  return performance.now() - since;
}).sort((a, b) => a - b)[runs >> 1]"""


def page_steps(turns: int) -> list[dict[str, Any]]:
    """One row, of the book's first model; without a browser, with the reason."""
    executable = find_chromium()
    if executable is None or find_spec("playwright") is None:
        why = "no Chromium was found" if executable is None else "no Playwright is here"
        return [{**ROW, "measured": None, "why": why}]
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=ARGUMENTS, timeout=PATIENCE
        )
        return [measured(browser, load_pretrained(MODEL), turns)]


def measured(
    browser: Any, model: LatentModel, turns: int, runs: int = 20
) -> dict[str, Any]:
    """The row: the median over ``turns`` of the median of ``runs`` runs, in ms.

    A run is all steps of one image, encoded and decoded as when somebody draws.

    Raises:
        AssertionError: where the two ways compute different numbers.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        text = script(web.SCRIPTS) + web.encode(model, MODEL)
        path.write_text(f"<meta charset=utf-8><script>{text}</script>", "utf-8")
        pages = {way: Opened(browser, path, before) for way, before in WAYS.items()}
    found, plain = (page.page.evaluate(BEGIN, runs) for page in pages.values())
    gap = max(abs(a - b) for a, b in zip(found, plain, strict=True))
    assert gap < 1e-3, f"the two ways are {gap} nats apart"
    times = {way: Times() for way in WAYS}
    for _ in range(turns):
        for way, page in pages.items():
            times[way].add(*page.timed(runs))
    for page in pages.values():
        page.context.close()
    rivals = {way: t.summary() for way, t in times.items()}
    first, second = rivals.values()
    row = {**ROW, "measured": 1000 * first["seconds"], "seconds": first["seconds"]}
    row |= {"browser": browser.version, "rivals": rivals}
    if row["measured"] > row["goal"]:
        row["why"] = (
            f"{1000 * first['cpu_seconds']:.1f} ms of them are processor time; plain "
            f"loops take {1000 * second['cpu_seconds']:.1f} ms of it"
        )
    return row


class Opened:
    """A page with a model, and the clock of the thread that runs it."""

    def __init__(self, browser: Any, path: Path, before: str) -> None:
        self.context = browser.new_context()
        self.context.add_init_script(before)
        self.page = self.context.new_page()
        self.page.goto(path.as_uri())
        self.session = self.context.new_cdp_session(self.page)
        self.session.send("Performance.enable")

    def processor(self) -> float:
        """Seconds of the page's own thread so far."""
        metrics = self.session.send("Performance.getMetrics")["metrics"]
        return next(m["value"] for m in metrics if m["name"] == "ThreadTime")

    def timed(self, runs: int) -> tuple[float, float]:
        """Wall and CPU seconds of a run."""
        before = self.processor()
        wall = self.page.evaluate(MILLISECONDS, runs) / 1000
        return wall, (self.processor() - before) / runs
