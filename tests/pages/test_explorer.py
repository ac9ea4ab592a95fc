"""The live pages, in a real Chromium: their numbers, their controls, their manners.

One page with all of them is opened from a file. Their arithmetic is compared with the
library's in float64, to 1e-6 and mostly to 1e-9. Without a Chromium these tests are
skipped and say so; what needs no browser is tested before.
"""

from __future__ import annotations

import base64
import html as html_module
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_pages import PHONE, WIDE, axe

from drawlib.filters import Filters, filterbank
from drawlib.gaussian import Gaussian, merge, standard
from drawlib.pages import embedded, explorer
from drawlib.stops import elbo_at_stops
from drawlib.trace import Trace, Windows

pytestmark = pytest.mark.filterwarnings("default")
in_a_browser = pytest.mark.browser
SIZE = (28, 28)
F64 = torch.float64


def some_digits() -> np.ndarray:
    """Two images of 28 × 28 without any symmetry."""
    a, b = np.meshgrid(np.arange(28), np.arange(28))
    one = 255 * (np.hypot(a - 10, b - 16) < 7) * (np.hypot(a - 11, b - 15) > 3)
    two = 9 * b * (abs(a - 12 - b / 6) < 2)
    return np.stack([one, two]).astype(np.uint8)


def some_trace(T: int = 6, n: int = 3, N: int = 3) -> Trace:
    """A made-up trace: the shapes of a model's, with numbers that can be told apart."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    def windows(last: float) -> Windows:
        first, step = draw(T, n, 1) * last / 3, 1 + draw(T, n, 1) * last / 4
        mu = first + step * torch.arange(N)
        return Windows(mu, mu.flip(1), 0.5 + draw(T, n), 0.5 + draw(T, n))

    read = windows(28)
    kl = 5 * draw(n, T)
    canvases = draw(T, n, 1, 28, 28).cumsum(0) / T
    patches = draw(T, n, 2, N, N) * read.gamma[:, :, None, None, None]
    images, log_likelihood = draw(n, 1, 28, 28).round(), -200 * draw(n, T)
    errors = images - canvases
    return Trace(
        images, read, windows(28), windows(9), patches, errors, canvases, kl,
        log_likelihood,
    )  # fmt: skip


def all_pages(trace: Trace) -> list[explorer.LivePage]:
    return [
        explorer.filterbank_explorer(some_digits()),
        explorer.elbo_1d(),
        explorer.merge_gaussians(),
        explorer.player(trace, images=(2, 0), memory=torch.rand(9, 9)),
    ]


def payload(page: explorer.LivePage) -> dict[str, Any]:
    """What the browser will find in the page's text."""
    found = re.search(r'data-payload="([^"]*)"', page._repr_html_())
    assert found is not None
    return json.loads(html_module.unescape(found[1]))


# Python's side


def test_page_is_the_same_text_in_every_run_and_asks_nothing_of_the_network():
    trace = some_trace()
    for first, second in zip(all_pages(trace)[:3], all_pages(trace)[:3], strict=True):
        text = first._repr_html_()
        assert text == second._repr_html_()
        assert repr(first) == f"<{first.kind} explorer>"
        for forbidden in ("http:", "https:", "@import", "url(", "fetch(", "import("):
            assert forbidden not in text
        # One element and one script, which nothing inside can close early.
        assert text.count("</script") == text.count("<script") == 1
        assert "<!--" not in embedded.script()


def test_digits_arrive_as_they_are_whatever_holds_them():
    digits = some_digits()
    for given in (digits, list(digits), torch.tensor(digits)[:, None]):
        data = payload(explorer.filterbank_explorer(given, labels=['"a" <b>', "c'"]))
        assert data["size"] == [28, 28]
        assert data["labels"] == ['"a" <b>', "c'"]
        for text, digit in zip(data["images"], digits, strict=True):
            assert base64.b64decode(text) == digit.tobytes()
    bits = payload(explorer.filterbank_explorer(digits // 128))
    assert base64.b64decode(bits["images"][1]) == (digits[1] // 128 * 255).tobytes()


def pages_of(*digits: Any) -> explorer.LivePage:
    return explorer.filterbank_explorer(*digits)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: pages_of(np.zeros((1, 28, 28))), TypeError, "torch.float64"),
        (lambda: pages_of(some_digits()[0]), ValueError, "(28, 28)"),
        (lambda: pages_of(np.zeros((13, 8, 8), "u1")), ValueError, "(13, 8, 8)"),
        (lambda: pages_of(np.zeros((1, 8, 65), "u1")), ValueError, "(1, 8, 65)"),
        (lambda: pages_of(np.zeros((0, 8, 8), "u1")), ValueError, "(0, 8, 8)"),
        (lambda: pages_of(some_digits(), ["a"]), ValueError, "1 labels"),
        (lambda: explorer.elbo_1d(lambda z: z.sum()), ValueError, "(1201,)"),
        (lambda: explorer.elbo_1d(lambda z: z.log()), ValueError, "finite: False"),
        (lambda: explorer.player(some_trace(), images=()), ValueError, "0 to 2"),
        (lambda: explorer.player(some_trace(), images=(3,)), ValueError, "[3]"),
        (lambda: explorer.player(some_trace(1500)), ValueError, "fewer images"),
        (lambda: explorer.remembered(torch.zeros(9)), ValueError, "(9,)"),
    ],
)
def test_wrong_input_is_refused_in_one_line(make, error, said):
    with pytest.raises(error) as caught:
        make()
    assert said in str(caught.value)
    assert "allowed" in str(caught.value) and "\n" not in str(caught.value)


def test_player_sends_what_the_trace_holds():
    trace = some_trace()
    data = payload(explorer.player(trace, images=(2, 0)))
    assert (data["T"], data["n"], data["shape"]) == (6, 2, [1, 28, 28])
    np.testing.assert_allclose(data["kl"], trace.kl[[2, 0]].numpy(), atol=1e-6)
    sent = np.frombuffer(base64.b64decode(data["canvases"]), np.uint8)
    expected = 255 * trace.canvases[:, [2, 0]].numpy().ravel()
    assert abs(sent - expected).max() <= 0.501
    read = trace.read.mu_x[:, [2, 0]].numpy()
    np.testing.assert_allclose(data["read"]["mu_x"], read, atol=0.00501)
    assert data["memory"] is None


def test_player_of_a_model_without_attention_has_no_windows():
    seen = some_trace()
    bare = Trace(
        seen.images, None, None, None, None, seen.errors, seen.canvases, seen.kl
    )
    data = payload(explorer.player(bare))
    missing = ("read", "write", "latent", "patches", "stops")
    assert [data[name] for name in missing] == [None] * 5


# The browser's side


class Opened:
    """The page with all explorers in one window, and everything it complained of."""

    def __init__(self, browser: Any, path: Path, size: tuple[int, int]) -> None:
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            has_touch=True,
            reduced_motion="no-preference",
        )
        self.page = self.context.new_page()
        self.troubles: list[str] = []
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("console", lambda m: self.troubles.append(m.text))
        own = path.as_uri()
        self.page.on(
            "request",
            lambda r: None if r.url == own else self.troubles.append(r.url),
        )
        self.page.goto(own)

    def host(self, kind: str) -> Any:
        return self.page.locator(f"[data-drawlib={kind}]").first

    def numbers(self, kind: str) -> dict[str, Any]:
        return self.host(kind).evaluate("host => host.numbers")

    def set(self, kind: str, label: str, value: float) -> None:
        """Move a slider as a hand does: its value and the event that tells of it."""
        self.host(kind).get_by_label(label).evaluate(
            "(input, value) => { input.value = value;"
            " input.dispatchEvent(new Event('input')); }",
            value,
        )


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A page with all explorers, and the first of them twice."""
    pages = [page._repr_html_() for page in all_pages(some_trace())]
    path = tmp_path_factory.mktemp("live") / "all.html"
    path.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<title>All explorers</title></head><body><main><h1>All explorers</h1>"
        + "\n".join(pages + pages[:1])
        + "</main></body></html>",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def wide(browser, written) -> Iterator[Opened]:
    opened = Opened(browser, written, WIDE)
    yield opened
    opened.context.close()


@pytest.fixture(scope="module")
def phone(browser, written) -> Iterator[Opened]:
    opened = Opened(browser, written, PHONE)
    yield opened
    opened.context.close()


def raws(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return 3 * torch.rand(count, 5, generator=generator, dtype=F64) - 1.5


def assert_same(found: Any, expected: Any, tolerance: float = 1e-9) -> None:
    if isinstance(expected, torch.Tensor):
        expected = expected.numpy()
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


FILTER_SCRIPT = """cases => cases.map(([raw, size, n, options, image, patch]) => {
  const filters = drawlib.filterbank(raw, size, n, options);
  return {...filters, read: drawlib.read(filters, image),
          write: drawlib.write(filters, patch)};
})"""


@in_a_browser
def test_eqs_19_to_29_are_the_librarys_number_by_number(wide):
    generator = torch.Generator().manual_seed(5)
    cases, expected = [], []
    sizes = [((28, 28), 5), ((12, 20), 2), ((9, 7), 1), ((28, 28), 12)]
    for kernel in ("gaussian", "cauchy"):
        for normalise in ("exact", "floor"):
            for legacy in (False, True):
                for (size, n), raw in zip(sizes, raws(len(sizes)), strict=True):
                    image = torch.rand(1, 1, *size, generator=generator, dtype=F64)
                    patch = torch.rand(1, 1, n, n, generator=generator, dtype=F64)
                    wrong = {"bracket": True, "oneBased": True} if legacy else {}
                    options = {"kernel": kernel, "normalise": normalise, "wrong": wrong}
                    two = [image[0, 0].tolist(), patch[0, 0].tolist()]
                    cases.append([raw.tolist(), list(size), n, options, *two])
                    filters = filterbank(
                        raw[None], size, n, kernel, legacy=legacy, normalise=normalise
                    )
                    seen, drawn = filters.read(image), filters.write(patch)
                    expected.append((filters, seen, drawn))
    found = wide.page.evaluate(FILTER_SCRIPT, cases)
    for one, (filters, read, write) in zip(found, expected, strict=True):
        assert_same(one["muX"], filters.mu_x[0])
        assert_same(one["muY"], filters.mu_y[0])
        assert_same(one["Fx"], filters.F_x[0])
        assert_same(one["Fy"], filters.F_y[0])
        assert_same(one["gamma"], filters.gamma[0])
        assert_same(one["read"], read[0, 0])
        assert_same(one["write"], write[0, 0])


def centres(raw: torch.Tensor, n: int, length: int, wrong: str) -> torch.Tensor:
    """Faulty centres, straight from their sources' formulas, for a square image."""
    g, log_delta = raw[0], raw[3]
    i = torch.arange(n, dtype=F64)
    delta = (length - 1) / (n - 1) * log_delta.exp()
    right = (length + 1) / 2 * (g + 1) - 1
    middle = i - (n - 1) / 2
    if wrong == "inverted":
        return right + middle * (length - 1) / ((n - 1) * log_delta.exp())
    if wrong == "oneBased":
        return (length + 1) / 2 * (g + 1) + (i - n / 2 - 0.5) * delta
    if wrong == "halfPixel":
        return (g + 1) / 2 * length + (i - n / 2 + 0.5) * delta
    if wrong == "bracket":
        return right + middle * (length - 1 / (n - 1)) * log_delta.exp()
    return right + middle * delta


@in_a_browser
def test_public_mistakes_are_those_of_their_sources(wide):
    n, names = 5, list(wide.page.evaluate("() => Object.keys(drawlib.MISTAKES)"))
    raw = raws(2)[1]
    mu = centres(raw, n, 28, "none")
    variance = raw[2].exp()
    d = torch.arange(28, dtype=F64) - mu[:, None]
    script = """([names, raw, n]) => names.map(name => {
      const {wrong, normalise} = drawlib.MISTAKES[name];
      return drawlib.filterbank(raw, [28, 28], n, {wrong, normalise});
    })"""
    found = wide.page.evaluate(script, [names, raw.tolist(), n])
    found = dict(zip(names, found, strict=True))
    for name in ("none", "inverted", "oneBased", "halfPixel", "bracket"):
        assert_same(found[name]["muX"], centres(raw, n, 28, name))
        if name != "none":
            moved = np.subtract(found[name]["muX"], found["none"]["muX"])
            assert abs(moved).max() > 0.1
    # Hui's exponent: a Gaussian of variance 2σ⁴.
    weights = torch.exp(-((d / (2 * variance)) ** 2))
    assert_same(found["exponent"]["Fx"], weights / weights.sum(1, keepdim=True))
    weights = torch.exp(-(d**2) / (2 * variance))
    assert_same(found["wholeMatrix"]["Fx"], weights / weights.sum())
    # GLAS at the start, as its code computes it: only one filter of five is inside.
    start = wide.page.evaluate(
        "() => drawlib.grid([0,0,0,0,0], [9,9], 5, drawlib.MISTAKES.glas.wrong).muX"
    )
    assert_same(start, [-21.25, -12.5, -3.75, 5, 13.75])
    # One transpose too many: shapes that do not fit, except where N = A.
    filters = Filters.from_centres(
        *[torch.linspace(0, 26, 28, dtype=F64)[None]] * 2,
        *[torch.ones(1, dtype=F64)] * 2,
        SIZE,
    )
    F, w = filters.F_x[0], torch.rand(28, 28, dtype=F64)
    both = wide.page.evaluate(
        """([F, w]) => {
          const filters = {Fx: F, Fy: F, gamma: 1}, thin = {...filters, Fx: F.slice(1)};
          return [drawlib.write(filters, w, {transpose: true}),
                  drawlib.write(thin, w, {transpose: true})];
        }""",
        [F.tolist(), w.tolist()],
    )
    assert_same(both[0], F.mT @ w @ F.mT)
    assert both[1] is None


@in_a_browser
def test_gaussians_are_the_librarys(wide):
    generator = torch.Generator().manual_seed(7)
    four = 2 * torch.rand(20, 4, generator=generator, dtype=F64) - 1
    found = wide.page.evaluate(
        """rows => rows.map(([m, s, n, t]) => {
          const q = {mu: m, sigma: Math.exp(s)}, p = {mu: n, sigma: Math.exp(t)};
          const both = drawlib.merge(q, p);
          return [drawlib.gaussianKL(q, p), drawlib.gaussianKL(q), both.mu, both.sigma,
                  drawlib.logProb(0.3, q.mu, q.sigma)];
        })""",
        four.tolist(),
    )
    q, p = Gaussian(four[:, :1], four[:, 1:2]), Gaussian(four[:, 2:3], four[:, 3:])
    both = merge(q, p)
    columns = [q.kl(p), q.kl(), both.mu[:, 0], both.sigma[:, 0]]
    columns.append(q.log_prob(torch.full((20, 1), 0.3, dtype=F64)))
    assert_same(found, torch.stack(columns, 1))


@in_a_browser
@pytest.mark.parametrize("mu", [-3, 0, 3])
@pytest.mark.parametrize("sigma", [0.1, 0.7, 1.5])
def test_elbo_plus_kl_is_log_p_of_x_to_the_corners_of_the_sliders(wide, mu, sigma):
    wide.set("elbo", "μ, mean of q", mu)
    wide.set("elbo", "σ, standard deviation of q", sigma)
    found = wide.numbers("elbo")
    assert found["q"] == {"mu": mu, "sigma": sigma}
    # Another rule, Gauss and Hermite's, of whose nodes none is a point of the page's.
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = torch.tensor(weights / math.sqrt(2 * math.pi))
    at = torch.tensor(nodes)
    log_p = (weights * explorer.three_pixels(at).exp()).sum().log()
    q = Gaussian(torch.tensor([mu], dtype=F64), torch.tensor([math.log(sigma)]))
    expected = (weights * explorer.three_pixels(mu + sigma * at)).sum() - q.kl()
    assert_same(found["logP"], log_p, 1e-6)
    assert_same(found["elbo"], expected, 1e-6)
    assert_same(found["elbo"] + found["klPosterior"], found["logP"], 1e-6)
    assert found["klPosterior"] > 0.001
    shown = wide.host("elbo").locator("td").all_inner_texts()
    assert shown[4] == shown[5] == f"{found['logP']:.4f}".replace("-", "−")


@in_a_browser
def test_merge_page_shows_the_librarys_product(wide):
    values = {
        "μ̂, bottom-up mean": -0.75,
        "σ̂, bottom-up deviation": 0.4,
        "μ_p, top-down mean": 2.05,
        "σ_p, top-down deviation": -1.2,
    }
    for label, value in values.items():
        wide.set("merge", label, value)
    four = torch.tensor(list(values.values()), dtype=F64).reshape(4, 1)
    q = merge(Gaussian(four[0], four[1]), Gaussian(four[2], four[3]))
    found = wide.numbers("merge")
    assert_same(found["q"]["mu"], q.mu[0])
    assert_same(found["q"]["sigma"], q.sigma[0])
    assert_same(found["kl"], q.kl(Gaussian(four[2], four[3])))
    assert f"{q.mu.item():.4f}" in wide.host("merge").locator("td").all_inner_texts()


@in_a_browser
def test_filter_page_by_keyboard_shows_the_librarys_numbers(wide):
    host = wide.host("filterbank")
    for label, key, times in [
        ("g̃_X", "ArrowRight", 20), ("g̃_Y", "ArrowLeft", 7), ("δ̃", "ArrowLeft", 3),
        ("σ²", "ArrowRight", 5), ("γ", "ArrowRight", 4), ("N", "ArrowLeft", 2),
    ]:  # fmt: skip
        host.get_by_label(re.compile(f"^{re.escape(label)}")).focus()
        for _ in range(times):
            wide.page.keyboard.press(key)
    host.get_by_label("kernel").select_option("cauchy")
    found = wide.numbers("filterbank")
    expected_raw = [0.2, -0.07, 0.5, -0.55, 0.4]
    assert_same(found["raw"], expected_raw)
    assert found["N"] == 5
    raw = torch.tensor([found["raw"]], dtype=F64)
    digit = torch.tensor(some_digits()[:1]).double()[None] / 255
    right = filterbank(raw, SIZE, 5, "cauchy")
    patch = right.read(digit)
    assert_same(found["Fx"], right.F_x[0])
    assert_same(found["patch"], patch[0, 0])
    assert_same(found["written"], right.write(patch)[0, 0])
    assert_same(found["rowSums"]["Y"], np.ones(5))
    # A mistake is switched on, and told beside what is right.
    host.get_by_label("public mistake").select_option("glas")
    found = wide.numbers("filterbank")
    wrong = filterbank(raw, SIZE, 5, "cauchy", legacy=True)
    assert_same(found["patch"], wrong.read(digit)[0, 0])
    assert_same(found["rightPatch"], patch[0, 0])
    label = host.locator("figure.large canvas").last.get_attribute("aria-label")
    assert f"{wrong.mu_x[0, 0]:.2f}".replace("-", "−") in label
    # The second copy on the same page has not moved.
    second = wide.page.locator("[data-drawlib=filterbank]").nth(1)
    assert second.evaluate("host => [host.id, host.numbers.N]") == ["", 7]
    host.get_by_label("public mistake").select_option("none")


def ink(opened: Opened) -> np.ndarray:
    return np.array(opened.numbers("filterbank")["image"])


@in_a_browser
def test_own_digit_is_drawn_with_mouse_keys_and_a_finger(wide, phone):
    for opened in (wide, phone):
        host = opened.host("filterbank")
        host.get_by_label("image", exact=True).select_option("own")
        pad = host.locator("canvas.pad")
        pad.scroll_into_view_if_needed()
        box = pad.bounding_box()
        start, end = [
            (box["x"] + across * box["width"], box["y"] + down * box["height"])
            for across, down in ((0.25, 0.5), (0.75, 0.5))
        ]
        assert ink(opened).sum() == 0
        if opened is wide:
            opened.page.mouse.move(*start)
            opened.page.mouse.down()
            opened.page.mouse.move(*end, steps=3)
            opened.page.mouse.up()
            opened.page.mouse.move(start[0], start[1] + 40)
        else:
            session = opened.context.new_cdp_session(opened.page)
            for kind, points in (("Start", [start]), ("Move", [end]), ("End", [])):
                touches = [{"x": x, "y": y} for x, y in points]
                session.send(
                    "Input.dispatchTouchEvent",
                    {"type": f"touch{kind}", "touchPoints": touches},
                )
        drawn = ink(opened)
        # A line across the middle half, two to three pixels thick, and nothing else.
        assert (drawn[13:15, 8:20] > 0.5).all()
        assert drawn[:11].sum() == drawn[17:].sum() == 0
        assert drawn.max() <= 1

        host.get_by_role("button", name="Clear the pad").click()
        assert ink(opened).sum() == 0
        pad.focus()
        for key in ["ArrowUp", "ArrowLeft", " ", *["ArrowDown"] * 5, " ", "ArrowDown"]:
            opened.page.keyboard.press(key)
        drawn = ink(opened)
        assert (drawn[13:19, 13] == 1).all() and drawn[21:].sum() == 0
        assert "row 19, column 13, pen up" in pad.get_attribute("aria-label")
        opened.page.keyboard.press("ArrowUp")
        opened.page.keyboard.press("Delete")
        assert ink(opened)[17:20, 12:15].sum() == 0


class Hand:
    """Mouse, pen and fingers on the pad; places are shares of its width and height."""

    def __init__(self, opened: Opened) -> None:
        self.opened, self.mouse = opened, opened.page.mouse
        host = opened.host("filterbank")
        host.get_by_label("image", exact=True).select_option("own")
        host.get_by_role("button", name="Clear the pad").click()
        self.pad = host.locator("canvas.pad")
        self.pad.scroll_into_view_if_needed()
        self.session = opened.context.new_cdp_session(opened.page)

    def at(self, across: float, down: float) -> tuple[float, float]:
        box = self.pad.bounding_box()
        return box["x"] + across * box["width"], box["y"] + down * box["height"]

    def fingers(self, kind: str, *places: tuple[float, float]) -> None:
        points = [
            dict(zip("xy", self.at(*place), strict=True), id=k)
            for k, place in enumerate(places)
        ]
        event = {"type": f"touch{kind}", "touchPoints": points}
        self.session.send("Input.dispatchTouchEvent", event)

    def pen(self, kind: str, place: tuple[float, float], buttons: int) -> None:
        x, y = self.at(*place)
        names = {0: "none", 1: "left", 2: "right"}
        event = {"type": f"mouse{kind}", "x": x, "y": y, "pointerType": "pen"}
        event |= {"button": names[buttons], "buttons": buttons, "clickCount": 1}
        self.session.send("Input.dispatchMouseEvent", event)

    def ink(self) -> np.ndarray:
        return ink(self.opened)


def only(drawn: np.ndarray, rows: slice, columns: slice) -> bool:
    """Whether there is ink here, and nowhere else."""
    rest = drawn.copy()
    rest[rows, columns] = 0
    return bool(drawn.sum() > 0 and rest.sum() == 0)


@in_a_browser
def test_a_second_finger_draws_nothing_and_leads_no_line_astray(phone):
    hand = Hand(phone)
    hand.fingers("Start", (0.2, 0.2))
    hand.fingers("Start", (0.2, 0.2), (0.8, 0.8))
    hand.fingers("Move", (0.3, 0.2), (0.9, 0.8))
    assert only(hand.ink(), slice(3, 8), slice(3, 11))
    hand.fingers("End")
    # Whichever comes first may draw; and the next one begins a line of its own.
    hand.fingers("Start", (0.8, 0.8))
    hand.fingers("End")
    drawn = hand.ink()
    assert drawn[20:25, 20:25].sum() > 1 and drawn[9:19].sum() == 0
    # A mouse beside the finger is a second pointer too.
    hand = Hand(phone)
    hand.fingers("Start", (0.2, 0.2))
    hand.mouse.move(*hand.at(0.8, 0.8))
    hand.mouse.down()
    hand.mouse.move(*hand.at(0.8, 0.9))
    hand.fingers("Move", (0.3, 0.2))
    hand.mouse.up()
    hand.fingers("End")
    assert only(hand.ink(), slice(3, 8), slice(3, 11))


@in_a_browser
def test_only_the_first_button_draws_and_only_where_it_was_pressed_on_the_pad(wide):
    hand = Hand(wide)
    for button in ("right", "middle"):
        hand.mouse.move(*hand.at(0.2, 0.2))
        hand.mouse.down(button=button)
        hand.mouse.move(*hand.at(0.8, 0.8), steps=3)
        hand.mouse.up(button=button)
    # With the control key a Mac's first button is the right one.
    wide.page.keyboard.down("Control")
    hand.mouse.move(*hand.at(0.2, 0.2))
    hand.mouse.down()
    hand.mouse.move(*hand.at(0.8, 0.8), steps=3)
    hand.mouse.up()
    wide.page.keyboard.up("Control")
    assert hand.ink().sum() == 0
    # Pressed elsewhere and dragged across the pad.
    hand.mouse.move(*hand.at(0.5, -0.1))
    hand.mouse.down()
    hand.mouse.move(*hand.at(0.5, 0.9), steps=3)
    hand.mouse.up()
    assert hand.ink().sum() == 0
    # The right one comes beside the left one, and stays when that one goes up.
    hand.mouse.move(*hand.at(0.2, 0.2))
    hand.mouse.down()
    hand.mouse.down(button="right")
    hand.mouse.move(*hand.at(0.3, 0.2))
    hand.mouse.up()
    hand.mouse.move(*hand.at(0.8, 0.8), steps=3)
    hand.mouse.up(button="right")
    assert only(hand.ink(), slice(3, 8), slice(3, 11))


@in_a_browser
def test_a_pens_tip_draws_and_neither_its_shadow_nor_its_barrel(wide):
    hand = Hand(wide)
    hand.pen("Moved", (0.2, 0.2), 0)
    hand.pen("Moved", (0.8, 0.2), 0)
    hand.pen("Pressed", (0.8, 0.8), 2)
    hand.pen("Moved", (0.2, 0.8), 2)
    hand.pen("Released", (0.2, 0.8), 2)
    assert hand.ink().sum() == 0
    hand.pen("Pressed", (0.2, 0.2), 1)
    hand.pen("Moved", (0.3, 0.2), 1)
    hand.pen("Released", (0.3, 0.2), 1)
    hand.pen("Moved", (0.8, 0.8), 0)
    assert only(hand.ink(), slice(3, 8), slice(3, 11))


@in_a_browser
def test_a_pointer_that_is_taken_away_ends_its_line(wide, phone):
    hand = Hand(phone)
    hand.fingers("Start", (0.2, 0.2))
    hand.fingers("Cancel")
    hand.fingers("Start", (0.8, 0.8))
    hand.fingers("End")
    drawn = hand.ink()
    assert drawn[3:8, 3:8].sum() > 1 and drawn[9:19].sum() == 0
    assert drawn[20:25, 20:25].sum() > 1
    hand = Hand(wide)
    hand.pad.evaluate(
        """canvas => canvas.addEventListener("pointerdown",
             e => { window.pointer = e.pointerId; }, { once: true })"""
    )
    hand.mouse.move(*hand.at(0.2, 0.2))
    hand.mouse.down()
    hand.pad.evaluate("canvas => canvas.releasePointerCapture(window.pointer)")
    hand.mouse.move(*hand.at(0.2, 0.25))
    hand.mouse.move(*hand.at(0.8, 0.8), steps=3)
    hand.mouse.up()
    assert only(hand.ink(), slice(3, 9), slice(3, 8))


@in_a_browser
def test_a_mouse_that_another_window_took_holds_up_neither_fingers_nor_keys(wide):
    hand = Hand(wide)
    hand.pad.focus()
    hand.mouse.move(*hand.at(0.2, 0.2))
    hand.mouse.down()
    # It goes up over the other window, and nobody says so.
    wide.page.evaluate("() => dispatchEvent(new Event('blur'))")
    hand.fingers("Start", (0.8, 0.8))
    hand.fingers("End")
    drawn = hand.ink()
    assert drawn[3:8, 3:8].sum() > 1 and drawn[20:25, 20:25].sum() > 1
    assert drawn[9:19].sum() == 0
    hand.pad.press(" ")
    assert "pen down" in hand.pad.get_attribute("aria-label")
    hand.pad.press(" ")
    drawn = hand.ink()
    hand.mouse.move(*hand.at(0.8, 0.2), steps=3)
    hand.mouse.up()
    assert (hand.ink() == drawn).all()


@in_a_browser
def test_where_the_whole_page_is_selected_the_pad_still_draws(wide):
    """The browser dragged the selection away and took the pointer with it."""
    hand = Hand(wide)
    wide.page.keyboard.press("Control+A")
    assert wide.page.evaluate("() => getSelection().type === 'Range'")
    hand.mouse.move(*hand.at(0.2, 0.2))
    hand.mouse.down()
    for across in (0.4, 0.6, 0.8):
        hand.mouse.move(*hand.at(across, 0.2), steps=4)
    hand.mouse.up()
    wide.page.evaluate("() => getSelection().removeAllRanges()")
    drawn = hand.ink()
    assert (drawn[3:8, 5:23].max(0) > 0).all() and drawn[9:].sum() == 0


@in_a_browser
def test_of_keys_and_pointer_one_draws_at_a_time(wide):
    hand = Hand(wide)
    hand.pad.focus()
    hand.pad.press(" ")  # the keys' pen goes down
    assert "pen down" in hand.pad.get_attribute("aria-label")
    hand.mouse.move(*hand.at(0.2, 0.2))
    hand.mouse.down()
    assert "pen up" in hand.pad.get_attribute("aria-label")
    drawn = hand.ink()
    for key in (" ", "ArrowDown", "Delete"):
        hand.pad.press(key)
    assert (hand.ink() == drawn).all()
    hand.mouse.move(*hand.at(0.3, 0.2))
    hand.mouse.up()
    assert (hand.ink() - drawn)[9:].sum() == 0
    assert (hand.ink() >= drawn).all() and hand.ink().sum() > drawn.sum()


@in_a_browser
def test_keys_kept_down_and_keys_of_the_browser_change_nothing(wide):
    hand = Hand(wide)
    hand.pad.focus()
    before = hand.pad.get_attribute("aria-label")
    assert "pen up" in before
    for key in ("Alt+ArrowLeft", "Control+ArrowUp", "Meta+ArrowDown", "Control+Delete"):
        wide.page.keyboard.press(key)
        assert hand.pad.get_attribute("aria-label") == before, key
    for _ in range(2):  # the second one repeats the first
        wide.page.keyboard.down(" ")
    wide.page.keyboard.up(" ")
    assert "pen down" in hand.pad.get_attribute("aria-label")
    hand.pad.press(" ")


@in_a_browser
def test_a_pad_that_is_hidden_below_the_pointer_draws_nothing(wide):
    """Its place was 0 pixels wide, and a line to infinity an error of the page's."""
    hand = Hand(wide)
    source = wide.host("filterbank").get_by_label("image", exact=True)
    hand.mouse.move(*hand.at(0.2, 0.2))
    hand.mouse.down()
    source.select_option("0")
    for place in ((300, 300), (-5, 10), (700, 20)):
        hand.mouse.move(*place)
    source.select_option("own")
    hand.mouse.move(*hand.at(0.8, 0.8))
    hand.mouse.up()
    assert only(hand.ink(), slice(3, 8), slice(3, 8))
    assert wide.troubles == []


@in_a_browser
def test_a_page_that_moves_below_the_pointer_draws_no_bar(wide):
    hand = Hand(wide)
    box = hand.pad.bounding_box()
    x, y = hand.at(0.2, 0.2)
    hand.mouse.move(x, y)
    hand.mouse.down()
    wide.page.evaluate("far => scrollBy(0, far)", round(0.6 * box["height"]))
    moved = box["y"] - hand.pad.bounding_box()["y"]
    hand.mouse.move(x + 1, y)
    hand.mouse.up()
    drawn = hand.ink()
    assert abs(moved - 0.6 * box["height"]) < 2
    assert drawn[20:25].sum() > 1 and drawn[3:8].sum() > 1 and drawn[9:19].sum() == 0
    # A window of another size, with the pointer where it was.
    hand = Hand(wide)
    hand.mouse.move(*hand.at(0.2, 0.2))
    hand.mouse.down()
    wide.page.set_viewport_size({"width": 700, "height": 900})
    wide.page.wait_for_function("() => document.documentElement.clientWidth <= 700")
    hand.mouse.move(*hand.at(0.8, 0.8))
    hand.mouse.up()
    drawn = hand.ink()
    wide.page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    assert drawn[3:8, 3:8].sum() > 1 and drawn[9:19].sum() == 0


@in_a_browser
def test_a_page_that_is_zoomed_is_drawn_anew_as_sharp_as_the_screen(wide):
    """A host as wide as it may be stays so, and what was drawn became coarse."""
    hand = Hand(wide)
    host = wide.host("filterbank")
    host.evaluate("host => { host.style.maxWidth = '400px'; }")
    wide.page.wait_for_function(
        "host => host.clientWidth <= 400", arg=host.element_handle()
    )
    zoomed = {"width": 900, "height": 700, "deviceScaleFactor": 2, "mobile": False}
    hand.session.send("Emulation.setDeviceMetricsOverride", zoomed)
    sharp = "pad => pad.width === Math.round(2 * pad.clientWidth)"
    wide.page.wait_for_function(sharp, arg=hand.pad.element_handle())
    hand.session.send("Emulation.clearDeviceMetricsOverride")
    host.evaluate("host => { host.style.maxWidth = ''; }")
    wide.page.wait_for_function("() => devicePixelRatio === 1")


@in_a_browser
def test_player_scrubs_plays_and_adds_up_the_kl(wide):
    trace, host = some_trace(), wide.host("player")
    host.get_by_label("step t").focus()
    for key in ("End", "ArrowLeft", "ArrowLeft"):
        wide.page.keyboard.press(key)
    for choice, k in enumerate((2, 0)):
        host.get_by_label("image", exact=True).select_option(str(choice))
        found = wide.numbers("player")
        assert found["t"] == 4
        assert_same(found["klStep"], trace.kl[k, 3], 1e-6)
        assert_same(found["klSoFar"], trace.kl[k, :4].sum(), 1e-6)
        assert_same(found["klTotal"], trace.kl[k].sum(), 1e-6)
        here = -elbo_at_stops(trace.log_likelihood, trace.kl)[k]
        assert_same(found["stops"], here, 1e-4)
        told = host.locator(".stop").inner_text()
        assert f"Stop here: −ELBO {here[3]:.1f} nats" in told
        assert f"{here[-1]:.1f} after the last step." in told
    # Ink in the canvas of step 4: as dark as in the trace, at a pixel of it.
    shade = (
        host.locator("canvas")
        .nth(2)
        .evaluate(
            """canvas => {
          const at = 2.5 * canvas.width / 28;
          return canvas.getContext("2d").getImageData(at, at, 1, 1).data[0];
        }"""
        )
    )
    assert abs(shade - 255 * (1 - trace.canvases[3, 0, 0, 2, 2].item())) < 2

    host.get_by_label("speed").select_option("8")
    host.get_by_role("button", name="Play").click()
    wide.page.wait_for_function(
        "() => document.querySelector('[data-drawlib=player]').numbers.t === 6"
    )
    host.get_by_role("button", name="Play").click()
    host.get_by_role("button", name="Pause").press(" ")
    assert wide.numbers("player")["t"] < 6
    # Who asked for less motion is shown one step for each press.
    wide.page.emulate_media(reduced_motion="reduce")
    before = wide.numbers("player")["t"]
    host.get_by_role("button", name="Next step").click()
    assert wide.numbers("player")["t"] == before + 1
    assert host.get_by_role("button", name="Pause").count() == 0


@in_a_browser
def test_output_put_into_a_notebook_comes_alive_once(wide):
    # As JupyterLab does: the markup first, then each script anew; here once before and
    # once after the output stands in the document.
    found = wide.page.evaluate(
        """text => [true, false].map(early => {
          const area = document.createElement("div");
          area.innerHTML = text;
          const renew = () => area.querySelectorAll("script").forEach(old => {
            const script = document.createElement("script");
            script.textContent = old.textContent;
            old.replaceWith(script);
          });
          if (early) renew();
          document.body.append(area);
          if (!early) renew();
          drawlib.mountAll();
          const host = area.firstElementChild;
          const parts = host.shadowRoot.querySelectorAll("[role=group]").length;
          const result = [parts, host.numbers.q.mu, host.dataset.lmSuppressShortcuts];
          area.remove();
          return result;
        })""",
        explorer.merge_gaussians()._repr_html_(),
    )
    one = torch.tensor([[1.5], [-0.5], [-1.0], [0.0]], dtype=F64)
    q = merge(Gaussian(one[0], one[1]), standard(one[2])._replace(mu=one[2]))
    for parts, mu, suppressed in found:
        assert (parts, suppressed) == (1, "true")
        assert_same(mu, q.mu[0])


@in_a_browser
@pytest.mark.parametrize("size", ["wide", "phone"])
def test_pages_are_accessible_and_fit_the_screen(size, request):
    opened = request.getfixturevalue(size)
    for mistake in ("none", "transpose"):
        select = opened.host("filterbank").get_by_label("public mistake")
        select.select_option(mistake)
    room, taken, sticking_out = opened.page.evaluate(
        """() => {
          const room = document.documentElement.clientWidth;
          const inside = [...document.querySelectorAll("[data-drawlib]")]
            .flatMap(host => [...host.shadowRoot.querySelectorAll("*")]);
          return [room, document.documentElement.scrollWidth, inside
            .filter(e => e.getBoundingClientRect().right > room)
            .map(e => e.outerHTML.slice(0, 120))];
        }"""
    )
    assert (taken, sticking_out) == (room, [])
    for scheme in ("dark", "light"):
        opened.page.emulate_media(color_scheme=scheme)
        opened.page.wait_for_selector(f"[data-drawlib=elbo][data-look={scheme}]")
        assert axe(opened.page) == []
    assert opened.troubles == []


# How many pixels of the curves' picture have the colour of the words in each theme.
WORDS = """host => {
  const canvas = host.shadowRoot.querySelector("figure.curves canvas");
  const pen = canvas.getContext("2d");
  const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
  const count = shade => data.reduce((n, v, k) => n + (k % 4 === 0 && v === shade
    && data[k + 1] === shade && data[k + 2] === shade && data[k + 3] === 255), 0);
  return { light: count(27), dark: count(232) };
}"""


@in_a_browser
@pytest.mark.parametrize("kind", ["elbo", "merge"])
def test_theme_is_that_of_the_page_around_or_else_the_systems(wide, kind):
    page, host = wide.page, wide.host(kind)

    def is_drawn(look: str) -> bool:
        page.wait_for_function(
            f"() => document.querySelector('[data-drawlib={kind}]').dataset.look"
            f" === '{look}'"
        )
        seen = host.evaluate(WORDS)
        other = {"light": "dark", "dark": "light"}[look]
        return seen[look] > 20 and seen[other] == 0

    def say(element: str, name: str, value: str) -> None:
        page.evaluate(
            "([element, name, value]) => value"
            " ? document[element].setAttribute(name, value)"
            " : document[element].removeAttribute(name)",
            [element, name, value],
        )

    assert is_drawn("light")
    page.emulate_media(color_scheme="dark")
    assert is_drawn("dark")
    for element, name, values in (
        ("documentElement", "data-theme", ("light", "dark")),
        ("body", "data-jp-theme-light", ("true", "false")),
    ):
        say(element, name, values[0])
        assert is_drawn("light")
        page.emulate_media(color_scheme="light")
        say(element, name, values[1])
        assert is_drawn("dark")
        say(element, name, "")
        assert is_drawn("light")
        page.emulate_media(color_scheme="dark")
        assert is_drawn("dark")
    # Paper is light, with no buttons on it, and the screen comes back.
    page.emulate_media(media="print")
    assert is_drawn("light")
    ground = host.evaluate("host => getComputedStyle(host).backgroundColor")
    assert ground == "rgb(255, 255, 255)"
    assert not wide.host("player").get_by_role("button", name="Play").is_visible()
    page.emulate_media(media="screen")
    assert is_drawn("dark")
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    assert is_drawn("light")
    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert is_drawn("dark")
    page.emulate_media(color_scheme="light")
