"""The page "Draw a digit": what a model carries along, the files, and the page itself.

The page is opened from a file with the shipped models beside it, as in the built book,
and driven with mouse, finger and keys in a real Chromium without a network. What it
shows is compared with PyTorch. Without a Chromium these tests are skipped and say so.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_pages import PATIENCE, PHONE, WIDE, axe, written_to

from drawlib import DRAW, GLAS, VAE, DRAWConfig, GLASConfig, VAEConfig, load_data
from drawlib.pages import draw_a_digit, explorer, pad, web
from drawlib.results.turns import distances
from drawlib.results.zoo import records
from drawlib.stops import elbo_at_stops

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("default")
in_a_browser = pytest.mark.browser
CLOSE = 1e-3
ATTENTION, EARLY, WITHOUT, GLAS_L, PAIRS = draw_a_digit.MODELS.values()
OF_ONE_DIGIT = [ATTENTION, EARLY, WITHOUT, GLAS_L]


def tiny(**changes: Any) -> DRAW:
    """A model of which every number matters, in no time."""
    torch.manual_seed(0)
    model = DRAW(DRAWConfig.preset("tiny", **changes))
    with torch.no_grad():
        for value in model.state_dict().values():
            value += 0.2 * torch.randn_like(value)
    return model.eval()


def some_bits(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(n, 1, 28, 28, generator=generator) < 0.2).float()


# What a model carries along


@pytest.mark.parametrize("prior", ["standard", "learned"])
def test_directions_are_the_principal_components_of_the_posterior_means(prior):
    model, x = tiny(prior=prior), some_bits(60)
    found, shares = pad.directions(model, x, 3)
    assert torch.allclose(found @ found.T, torch.eye(3), atol=1e-5)
    # The means again, from the model's own steps, and a plain SVD of them.
    state, rows = model.start(60), []
    with torch.no_grad():
        for _ in range(model.config.T):
            p = model.prior(state.h_dec)
            zero = torch.zeros(60, model.config.z)
            state, _, _ = model.step(state, x, zero, model.fixed(x))
            q = model.posterior(state.h_enc)
            rows.append((q.mu - p.mu) / p.sigma)
    means = torch.stack(rows, 1).flatten(1).numpy()
    centred = means - means.mean(0)
    _, values, vectors = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(shares, (values**2 / (values**2).sum())[:3], rtol=1e-3)
    assert abs(abs((found.numpy() * vectors[:3]).sum(1)) - 1).max() < 1e-3
    assert (found.gather(1, found.abs().argmax(1, keepdim=True)) > 0).all()


def test_images_that_are_all_alike_have_directions_of_no_length_and_no_nan():
    found, shares = pad.directions(tiny(), torch.zeros(60, 1, 28, 28))
    assert found.eq(0).all() and shares.eq(0).all()


def test_costs_are_percentiles_of_one_sample_bounds():
    model, x = tiny(), some_bits(30)
    values = pad.costs(model, x, seed=4)
    generator = torch.Generator().manual_seed(4)
    each = -model.bound(x, model.noise(30, generator)).elbo.detach().double()
    assert values[0] == each.min() and values[100] == each.max()
    assert values[50].item() == pytest.approx(each.quantile(0.5).item())
    assert (values.diff() >= 0).all()


def test_pad_measures_the_rounding_on_the_given_images_and_says_so():
    model, x = tiny(hidden=64), some_bits(60)
    page = explorer.pad(model, x[:, 0].numpy().astype("u1"), list(range(10)) * 6)
    assert repr(page) == "<pad explorer>"
    (one,) = page.data["models"]
    measured, live = one["json"]["measured"], one["json"]["live"]
    noise = model.noise(60, torch.Generator().manual_seed(0))
    shipped = -model.bound(x, noise).elbo.mean().item()
    assert measured["shipped"] == pytest.approx(shipped, abs=2e-3)
    assert measured["loss"] and abs(measured["loss"]) < 0.2
    assert f"{measured['quantised']:.2f} nats" in live["about"]
    assert live["costs"]["of"] == "60 given pictures"
    size = 4 * pad.DIRECTIONS * model.config.T * model.config.z
    assert len(base64.b64decode(live["directions"])) == size
    assert page.data["examples"][0]["labels"] == [str(k) for k in range(10)]
    first = base64.b64decode(page.data["examples"][0]["images"][3])
    assert first == x[3].byte().numpy().tobytes()
    text = page._repr_html_()
    assert text == explorer.pad(model, x, list(range(10)) * 6)._repr_html_()
    assert text.count("</script") == text.count("<script") == 1
    for forbidden in ("http:", "https:", "@import", "url(", "fetch(", "import("):
        assert forbidden not in text
    # Too few digits for percentiles and directions: then there are none.
    few = explorer.pad(model, x[:9]).data["models"][0]["json"]["live"]
    assert list(few) == ["about"]
    bare = explorer.pad(GLAS(GLASConfig.preset("tiny"))).data
    assert bare["examples"] == []


COLOUR = {"image_shape": (3, 9, 14), "likelihood": "discretised-logistic"}
GREY = {"image_shape": (1, 30, 20), "likelihood": "discretised-logistic"}


class Changed(DRAW):
    """Somebody's own step, which the page's script does not know."""


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: explorer.pad(VAE(VAEConfig.preset("tiny"))), TypeError, "'vae'"),
        (lambda: explorer.pad(tiny(image_shape=(2, 8, 8))), ValueError, "(2, 8, 8)"),
        (lambda: explorer.pad(tiny(image_shape=(1, 65, 8))), ValueError, "at most 64"),
        (
            lambda: explorer.pad(tiny(**GREY), torch.zeros(2, 30, 20)),
            ValueError,
            "torch.float32; allowed: torch.uint8",
        ),
        (lambda: explorer.pad(Changed(tiny().config)), ValueError, "a Changed"),
        (lambda: explorer.pad(tiny(), some_bits(2)[0, 0]), ValueError, "(28, 28)"),
        (lambda: explorer.pad(tiny(), some_bits(2) / 2), ValueError, "0 to 0.5"),
        (lambda: explorer.pad(tiny(), some_bits(2), [1]), ValueError, "1 labels"),
    ],
)
def test_wrong_input_is_refused_in_one_line(make, error, said):
    with pytest.raises(error) as caught:
        make()
    assert said in str(caught.value)
    assert "allowed" in str(caught.value) and "\n" not in str(caught.value)


def test_after_five_steps_the_line_has_come_down_most_of_its_way_as_the_page_says():
    (record,) = [r for r in records() if r.name == EARLY]
    stops = record["every_stop"]["neg_elbo"]
    assert stops[0] - stops[4] > 0.7 * (stops[0] - stops[-1])
    assert "go to\nits fifth step" in (ROOT / "book/live-draw.md").read_text("utf-8")


# The book's files


@pytest.fixture(scope="module")
def assets(tmp_path_factory: Any, mnist_dynamic: Any) -> Path:
    """A folder with the page as the book has it, measured on few digits."""
    folder = tmp_path_factory.mktemp("live-draw")
    draw_a_digit.write_assets(folder / "live", images=60)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<title>Draw a digit</title></head><body><main><h1>Draw a digit</h1>"
        f"{draw_a_digit.page_html('live/')}</main></body></html>"
    )
    (folder / "page.html").write_text(page, encoding="utf-8")
    return folder


def test_book_exports_lose_at_most_a_fifth_of_a_nat_and_take_at_most_4_megabytes(
    assets,
):
    for name in draw_a_digit.MODELS.values():
        path = assets / "live" / draw_a_digit.file_of(name)
        assert path.stat().st_size <= web.MOST_BYTES
        read = web.read_export(path)  # what stands below the model is no hindrance
        protocol, what, _ = draw_a_digit.source_of(name)
        assert (read.name, read.measured["protocol"]) == (name, protocol)
        assert read.measured["images"] == 60
        assert read.measured["loss"] <= web.MOST_LOSS
        # The weights ship as float16: only int8 is a rounding.
        assert (read.measured["loss_se"] > 0) == (read.format == "int8")
        assert read.measured["loss_se"] < 0.5
        text = path.read_text(encoding="utf-8")
        assert f"a loss of {web.loss_of(read.measured)} nats" in text.splitlines()[0]
        live = json.loads(text.splitlines()[2].partition("].live = ")[2][:-1])
        assert live["costs"]["of"] == f"60 {what}"
        assert f"{read.measured['quantised']:.1f} nats" in live["about"]


def test_digits_to_begin_with_are_genuine_test_digits_one_of_each_class(
    assets, mnist_dynamic
):
    text = (assets / "live" / "digits.js").read_text(encoding="utf-8")
    (digits,) = json.loads(text.partition(" = ")[2].rstrip()[:-1])
    assert digits["labels"] == [str(k) for k in range(10)]
    test = mnist_dynamic.test
    for label, image in zip(digits["labels"], digits["images"], strict=True):
        bits = np.frombuffer(base64.b64decode(image), np.uint8).reshape(28, 28)
        same = test.images[test.labels == int(label)][:, 0].numpy()
        assert (same == bits).all((1, 2)).sum() == 1


def test_directives_write_the_files_that_their_pages_name(tmp_path, monkeypatch):
    """A book of two pages, in which only the making of the models is left out.

    It begins before the first page is written: the longest part of a build.
    """
    pytest.importorskip("myst_parser")
    from sphinx.application import Sphinx

    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    # Another process would not know what is replaced here.
    monkeypatch.setattr("draw_a_digit.ProcessPoolExecutor", ThreadPoolExecutor)
    made = []

    def write(folder, images):
        made.append((images, (out / "index.html").exists()))
        folder.mkdir(parents=True)
        for name in ("digits.js", *pad.SCRIPTS):
            (folder / name).write_text("// here\n")

    monkeypatch.setattr(draw_a_digit, "write_assets", write)
    monkeypatch.setattr(
        draw_a_digit, "picture", lambda p: p.write_bytes(b"x") and 'a "5"'
    )
    monkeypatch.setenv("DRAWLIB_LIVE_IMAGES", "7")
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "book").mkdir(parents=True)
    (source / "index.md").write_text(
        "# Front\n\n```{toctree}\nbook/live-draw\n```\n\n"
        "```{draw-a-digit-picture} book/live-draw\n```\n"
    )
    (source / "book" / "live-draw.md").write_text("# Page\n\n```{draw-a-digit}\n```\n")
    settings = {"extensions": ["myst_parser", "draw_a_digit"], "html_theme": "basic"}
    app = Sphinx(
        str(source), None, str(out), str(tmp_path / "trees"), "html",
        confoverrides=settings, status=None, freshenv=True,
    )  # fmt: skip
    app.build()
    assert made == [(7, False)]
    front = (out / "index.html").read_text(encoding="utf-8")
    assert 'href="book/live-draw.html"' in front and 'alt="a &quot;5&quot;"' in front
    page = (out / "book" / "live-draw.html").read_text(encoding="utf-8")
    scripts = re.findall(r'<script src="(\.\./_static/live/[^"]*)"', page)
    assert len(scripts) == 6
    for address in [*scripts, "../_static/live/picture.png"]:
        assert (out / "book" / address).exists(), address
    for name in draw_a_digit.MODELS.values():
        assert f"../_static/live/{draw_a_digit.file_of(name)}" in page


def test_picture_of_the_front_page_is_made_with_its_alternative_text(
    tmp_path, mnist_dynamic
):
    alt = draw_a_digit.picture(tmp_path / "a" / "picture.png")
    assert "handwritten 5" in alt and '"' not in alt and len(alt) > 80
    assert (tmp_path / "a" / "picture.png").stat().st_size > 5000


# The page


HOST = "document.querySelector('[data-drawlib=pad]')"
# Everything that was asked for is computed, and of the newest image.
AT_REST = f"""model => {{
  const n = {HOST}?.numbers;
  return n && n.seen && !n.trouble && (!model || n.model === model)
    && n.seen.image.every((v, k) => v === n.x[k]) && !n.waiting;
}}"""
READ = f"""() => {{
  const n = {HOST}.numbers, s = n.seen;
  return {{
    model: n.model, t: n.t, T: n.T, playing: n.playing, seed: n.seed,
    x: Array.from(n.x), coordinates: n.coordinates,
    z: n.dreamt && Array.from(n.dreamt.noise),
    eps: Array.from(s.noise), kl: s.kl, stops: s.stops, negElbo: s.negElbo,
    canvases: s.steps.map(one => Array.from(one.canvas)),
    dreams: n.dreamt && n.dreamt.steps.map(one => Array.from(one.canvas)),
    reads: s.steps[0].read !== null, looksAtL: s.steps[0].latent !== null,
  }};
}}"""


class Opened:
    """The page in one window, with what it asked for and what it complained of."""

    def __init__(
        self, browser: Any, path: Path, size: tuple[int, int], motion: Any = "reduce"
    ) -> None:
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            has_touch=True,
            reduced_motion=motion,
        )
        self.context.set_offline(True)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.troubles: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    @property
    def host(self) -> Any:
        return self.page.locator("[data-drawlib=pad]")

    def unfold(self, name: str) -> None:
        """Open one of the sections below the pictures, if it is not."""
        box = self.host.locator("details", has=self.page.get_by_text(name))
        if not box.evaluate("box => box.open"):
            box.locator("summary").click()

    def press(self, name: str) -> None:
        self.host.get_by_role("button", name=name, exact=True).click()

    def choose(self, name: str) -> None:
        labels = {model: label for label, model in draw_a_digit.MODELS.items()}
        select = self.host.get_by_label("model", exact=True)
        select.select_option(label=labels[name])

    def numbers(self, model: str | None = None) -> dict[str, Any]:
        self.page.wait_for_function(AT_REST, arg=model)
        return self.page.evaluate(READ)

    def set(self, label: str, value: float) -> None:
        self.host.get_by_label(label).evaluate(
            "(input, value) => { input.value = value;"
            " input.dispatchEvent(new Event('input')); }",
            value,
        )

    def stroke(self, points: list[tuple[float, float]]) -> None:
        """With the mouse, through points in pixels of the image (column, row)."""
        canvas = self.host.locator("canvas.pad")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        at = [
            (box["x"] + a * box["width"] / 28, box["y"] + b * box["height"] / 28)
            for a, b in points
        ]
        self.page.mouse.move(*at[0])
        self.page.mouse.down()
        for one in at[1:]:
            self.page.mouse.move(*one, steps=3)
        self.page.mouse.up()


@pytest.fixture(scope="module")
def wide(browser, assets) -> Iterator[Opened]:
    opened = Opened(browser, assets / "page.html", WIDE)
    yield opened
    opened.context.close()


@pytest.fixture(scope="module")
def phone(browser, assets) -> Iterator[Opened]:
    opened = Opened(browser, assets / "page.html", PHONE)
    yield opened
    opened.context.close()


@pytest.fixture(scope="module")
def library(assets) -> dict[str, Any]:
    """The models with the weights of the exported files, in float64."""
    folder = assets / "live"
    return {
        name: web.read_export(folder / draw_a_digit.file_of(name)).build().double()
        for name in draw_a_digit.MODELS.values()
    }


def image_of(values: list[float], shape: tuple[int, ...] = (1, 28, 28)) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, *shape)


@torch.no_grad()
def assert_is_the_librarys(found: dict[str, Any], model: Any) -> None:
    """Canvases, KL, −ELBO, also at each stop, and the dream: for the page's noise."""
    T, z = model.config.T, model.config.z
    x = image_of(found["x"], model.image_shape)
    noise = torch.tensor(found["eps"], dtype=torch.float64).view(1, T, z)
    seen, bound = model.trace(x, noise=noise), model.bound(x, noise)
    canvases = seen.canvases.flatten(1).numpy()
    assert abs(np.array(found["canvases"]) - canvases).max() < CLOSE
    assert abs(np.array(found["kl"]) - seen.kl[0].numpy()).max() < CLOSE
    assert found["negElbo"] == pytest.approx(-bound.elbo.item(), abs=CLOSE * T)
    stops = -elbo_at_stops(*model.at_every_step(x, noise))[0].numpy()
    assert abs(np.array(found["stops"]) - stops).max() < CLOSE * T
    if found["z"] is None:  # its section is folded
        return
    dreamt = torch.tensor(found["z"], dtype=torch.float64).view(1, T, z)
    last = torch.tensor([T])  # where the model may stop earlier, too
    image = model.generate(1, noise=dreamt, stops=last).flatten().numpy()
    assert abs(np.array(found["dreams"][-1]) - image).max() < CLOSE


@in_a_browser
def test_page_opens_with_a_digit_and_loads_one_model_only(wide):
    found = wide.numbers(ATTENTION)
    assert (found["t"], found["T"]) == (len(found["kl"]), len(found["kl"]))
    models = [r for r in wide.requests if re.search(r"(draw|glas).*-\d\.js", r)]
    assert [Path(r).name for r in models] == [draw_a_digit.file_of(ATTENTION)]
    assert all(r.startswith("file://") for r in wide.requests)
    assert 20 < sum(found["x"]) < 250 and set(found["x"]) == {0, 1}
    told = wide.host.locator(".verdict")
    told.filter(has_text=f"−ELBO {found['negElbo']:.1f} nats").wait_for()
    assert wide.troubles == []


@in_a_browser
@pytest.mark.parametrize("name", OF_ONE_DIGIT)
def test_models_can_be_switched_and_show_what_the_library_computes(name, wide, library):
    wide.choose(name)
    wide.press("Begin with the test digit 3")
    found = wide.numbers(name)
    assert_is_the_librarys(found, library[name])
    assert found["reads"] == (name in (ATTENTION, EARLY))
    assert found["looksAtL"] == (name == GLAS_L)
    wide.unfold("What it sees")
    wide.unfold("It dreams")
    assert_is_the_librarys(wide.numbers(name), library[name])
    shown = wide.host.locator("figure:visible figcaption").all_inner_texts()
    assert any("patch" in text for text in shown) == found["reads"]
    assert any("where it reads L" in text for text in shown) == found["looksAtL"]
    windows = wide.host.locator("figure:visible .key").all_inner_texts()
    assert ("where it looks" in windows) == found["reads"]
    wide.choose(ATTENTION)
    wide.numbers(ATTENTION)


@in_a_browser
def test_stop_here_tells_what_each_step_is_worth_and_only_one_model_is_whole_early(
    wide, library
):
    wide.press("Begin with the test digit 3")
    gained = {}
    for name in (WITHOUT, EARLY):
        wide.choose(name)
        found = wide.numbers(name)
        model, T = library[name], found["T"]
        # The sum of the model's own bound: all at the last step, or a mean over stops.
        mean = float(np.dot(model.config.stops, found["stops"]))
        assert found["negElbo"] == pytest.approx(mean)
        assert_is_the_librarys(found, model)
        wide.set("step t", 8)
        here, end = found["stops"][7], found["stops"][T - 1]
        paid = sum(found["kl"][:8])
        wide.host.locator(".stop").filter(
            has_text=f"Stop here: −ELBO {here:.1f} nats = {paid:.1f} for z + "
            f"{here - paid:.1f} for what is still wrong; {end:.1f} after the last step."
        ).wait_for()
        gained[name] = here - end
        wide.set("step t", T)
        last = wide.host.locator(".stop").filter(has_text="After the last step: −ELBO")
        last.wait_for()
        means = wide.host.locator(".verdict").filter(has_text="a mean over all its")
        means.wait_for(state="attached" if name == EARLY else "detached")
    assert gained[EARLY] < 0.5 * gained[WITHOUT]


@in_a_browser
def test_two_digits_are_drawn_on_a_larger_sheet_with_the_pen_of_one(wide, library):
    wide.choose(PAIRS)
    found = wide.numbers(PAIRS)
    assert wide.host.locator("button.example").count() == 5
    assert (len(found["x"]), found["reads"]) == (3600, True)
    assert_is_the_librarys(found, library[PAIRS])
    # A genuine pair of the test set, as the library draws it.
    test = load_data("mnist-two").test
    same = test.images[:, 0].numpy() == np.reshape(found["x"], (60, 60))
    (k,) = same.all((1, 2)).nonzero()[0]
    assert distances(test.parts[k][None]) >= 26  # far apart, as the page says
    # The pen is that of one digit: two pixels, not five.
    wide.press("Clear the pad")
    canvas = wide.host.locator("canvas.pad")
    canvas.focus()
    for key in (" ", *["ArrowRight"] * 9):
        wide.page.keyboard.press(key)
    x = image_of(wide.numbers(PAIRS)["x"], (1, 60, 60))[0, 0]
    rows = (x.sum(1) > 0).sum().item()
    assert rows == 3 and x[:, 30:40].sum(0).max() <= 3
    # What the page says: the window takes in the whole sheet, and narrows.
    wide.press("Begin with the pair of test digits 2")
    wide.numbers(PAIRS)
    long = wide.page.evaluate(
        f"() => {HOST}.numbers.seen.steps.map(s => s.write.muX[7] - s.write.muX[0])"
    )
    assert long[0] > 50 and long[-1] < 0.6 * long[0]
    wide.choose(ATTENTION)
    back = wide.numbers(ATTENTION)
    assert len(back["x"]) == 784 and 20 < sum(back["x"])


@in_a_browser
def test_redraw_follows_a_stroke_of_the_mouse(wide, library):
    wide.choose(ATTENTION)
    wide.press("Clear the pad")
    empty = wide.numbers(ATTENTION)
    assert sum(empty["x"]) == 0
    wide.stroke([(14, 5), (14, 23)])
    found = wide.numbers(ATTENTION)
    x, canvas = image_of(found["x"])[0, 0], image_of(found["canvases"][-1])[0, 0]
    assert (x[7:21, 13:15] == 1).all() and x[:, :11].sum() == x[:, 17:].sum() == 0
    # A stroke like a 1 appears where the pen was, and where nothing was drawn before.
    before = image_of(empty["canvases"][-1])[0, 0]
    assert canvas[x == 1].mean() > 0.5 > 0.2 > canvas[x == 0].mean()
    assert canvas[x == 1].mean() > before[x == 1].mean() + 0.3
    assert_is_the_librarys(found, library[ATTENTION])
    # Rubbing out, and a second press to draw again.
    wide.press("Rub out")
    wide.stroke([(10, 10), (18, 10)])
    rubbed = image_of(wide.numbers()["x"])[0, 0]
    assert rubbed[9:11].sum() == 0 and 0 < rubbed.sum() < x.sum()
    wide.press("Rub out")


@in_a_browser
def test_finger_draws_on_a_phone(phone):
    phone.numbers(ATTENTION)
    phone.press("Clear the pad")
    phone.numbers()
    canvas = phone.host.locator("canvas.pad")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box["width"] > 140
    session = phone.context.new_cdp_session(phone.page)
    y = box["y"] + box["height"] / 2
    for kind, across in (("Start", 0.25), ("Move", 0.75), ("End", None)):
        points = (
            [] if across is None else [{"x": box["x"] + across * box["width"], "y": y}]
        )
        session.send(
            "Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points}
        )
    x = image_of(phone.numbers()["x"])[0, 0]
    assert (x[13:15, 8:20] == 1).all() and x[:11].sum() == x[17:].sum() == 0


@in_a_browser
def test_keys_draw_scrub_and_play(wide):
    wide.press("Clear the pad")
    wide.numbers()
    canvas = wide.host.locator("canvas.pad")
    canvas.focus()
    for key in ["ArrowUp", " ", *["ArrowDown"] * 5, " ", "ArrowDown"]:
        wide.page.keyboard.press(key)
    x = image_of(wide.numbers()["x"])[0, 0]
    assert (x[13:19, 14] == 1).all() and x[21:].sum() == x[:11].sum() == 0
    assert "row 19, column 14, pen up" in canvas.get_attribute("aria-label")
    wide.page.keyboard.press("ArrowUp")
    wide.page.keyboard.press("Delete")
    assert image_of(wide.numbers()["x"])[0, 0][17:20, 13:16].sum() == 0

    wide.unfold("Numbers")
    slider = wide.host.get_by_role("slider", name="step t")
    slider.focus()
    for key in ("Home", "ArrowRight", "ArrowRight"):
        wide.page.keyboard.press(key)
    found = wide.numbers()
    assert found["t"] == 3
    told = f"3 of {found['T']}: KL {found['kl'][2]:.2f} nats"
    told += f"; stopped here, −ELBO {found['stops'][2]:.1f} nats"
    assert slider.get_attribute("aria-valuetext") == told
    cells = wide.host.locator("td").all_inner_texts()
    paid, here = sum(found["kl"][:3]), found["stops"][2]
    expected = [found["kl"][2], paid, here - paid, here, found["negElbo"]]
    assert [float(c.replace("−", "-")) for c in cells] == pytest.approx(
        expected, abs=0.00501
    )
    wide.page.emulate_media(reduced_motion="no-preference")
    wide.host.get_by_role("button", name="Play").press("Enter")
    wide.host.get_by_role("button", name="Pause").press("Enter")
    assert 3 <= wide.numbers()["t"] < found["T"]
    wide.host.get_by_label("speed").select_option("20")
    wide.host.get_by_role("button", name="Play").press("Enter")
    wide.page.wait_for_function(f"() => {HOST}.numbers.t === {HOST}.numbers.T")
    wide.host.get_by_role("button", name="Play").wait_for()
    wide.page.emulate_media(reduced_motion="reduce")


@in_a_browser
def test_bars_lead_to_their_steps_and_less_motion_means_one_step_a_press(wide):
    T = wide.numbers()["T"]
    bars = wide.host.locator(".timeline canvas")
    bars.scroll_into_view_if_needed()
    box = bars.bounding_box()
    bars.click(position={"x": box["width"] * 4.5 / T, "y": box["height"] - 4})
    assert wide.numbers()["t"] == 5
    # The keys go on from where the pointer was.
    wide.page.keyboard.press("ArrowLeft")
    assert wide.numbers()["t"] == 4
    wide.page.keyboard.press("ArrowRight")
    wide.press("Next step")
    assert wide.numbers()["t"] == 6
    assert wide.host.get_by_role("button", name="Pause").count() == 0


@in_a_browser
def test_bars_follow_one_pointer_and_its_first_button(wide, phone):
    T = wide.numbers()["T"]
    bars = wide.host.locator(".timeline canvas")
    bars.scroll_into_view_if_needed()
    box = bars.bounding_box()
    y = box["y"] + box["height"] - 4
    wide.set("step t", 1)
    for button in ("right", "middle"):
        wide.page.mouse.move(box["x"] + 0.5 * box["width"], y)
        wide.page.mouse.down(button=button)
        wide.page.mouse.move(box["x"] + 0.7 * box["width"], y)
        wide.page.mouse.up(button=button)
    assert wide.numbers()["t"] == 1
    wide.page.mouse.move(box["x"] + 0.5 * box["width"], y)
    wide.page.mouse.down()
    wide.page.mouse.move(box["x"] + box["width"] * 6.5 / T, y)
    # Also beyond the picture, while it is held.
    assert wide.numbers()["t"] == 7
    wide.page.mouse.move(box["x"] + box["width"] + 20, y + 90)
    assert wide.numbers()["t"] == T
    wide.page.mouse.up()
    wide.page.mouse.move(box["x"] + 0.5 * box["width"], y)
    assert wide.numbers()["t"] == T

    phone.numbers()
    bars = phone.host.locator(".timeline canvas")
    bars.scroll_into_view_if_needed()
    box = bars.bounding_box()
    y = box["y"] + box["height"] - 4
    one, two = [
        {"x": box["x"] + box["width"] * (t - 0.5) / T, "y": y, "id": t} for t in (4, 40)
    ]
    session = phone.context.new_cdp_session(phone.page)
    for kind, points in (("Start", [one]), ("Start", [one, two]), ("End", [])):
        event = {"type": f"touch{kind}", "touchPoints": points}
        session.send("Input.dispatchTouchEvent", event)
        assert phone.numbers()["t"] == 4
    phone.press("Scribble")


@in_a_browser
def test_a_scribble_below_the_finger_bends_no_line(phone):
    phone.numbers(ATTENTION)
    phone.press("Scribble")
    alone = image_of(phone.numbers()["x"])
    canvas = phone.host.locator("canvas.pad")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    session = phone.context.new_cdp_session(phone.page)

    def finger(kind: str, *across: float) -> None:
        y = box["y"] + 0.95 * box["height"]
        points = [{"x": box["x"] + a * box["width"], "y": y} for a in across]
        event = {"type": f"touch{kind}", "touchPoints": points}
        session.send("Input.dispatchTouchEvent", event)

    finger("Start", 0.1)
    phone.host.get_by_role("button", name="Scribble").dispatch_event("click")
    finger("Move", 0.15)
    finger("End")
    more = image_of(phone.numbers()["x"])[0, 0] - alone[0, 0]
    assert more[24:, :7].sum() > 0 and more.sum() == more[24:, :7].sum()


@in_a_browser
def test_a_new_sample_differs_and_the_mean_has_nothing_random(wide, library):
    wide.press("Begin with the test digit 8")
    first = wide.numbers()
    wide.press("New sample")
    wide.page.wait_for_function(f"() => {HOST}.numbers.seed === {first['seed'] + 1}")
    second = wide.numbers()
    assert second["eps"] != first["eps"] and second["negElbo"] != first["negElbo"]
    assert_is_the_librarys(second, library[second["model"]])
    wide.unfold("Numbers")
    wide.host.get_by_label("z of each step").select_option("mean")
    mean = wide.numbers()
    assert set(mean["eps"]) == {0}
    assert_is_the_librarys(mean, library[mean["model"]])
    told = wide.host.locator(".verdict")
    told.filter(has_text="no estimate of the bound").wait_for()
    wide.press("New sample")
    assert wide.numbers()["negElbo"] == mean["negElbo"]
    wide.host.get_by_label("z of each step").select_option("sample")


@in_a_browser
def test_dreams_move_along_the_directions_alone(wide, library, assets):
    wide.unfold("It dreams")
    before = wide.numbers(ATTENTION)
    live = (assets / "live" / draw_a_digit.file_of(ATTENTION)).read_text("utf-8")
    live = json.loads(live.splitlines()[2].partition("].live = ")[2][:-1])
    d = np.frombuffer(base64.b64decode(live["directions"]), "<f4")
    d = d.reshape(pad.DIRECTIONS, -1).astype(float)
    along = d @ np.array(before["z"])
    np.testing.assert_allclose(along, before["coordinates"], atol=1e-4)
    wide.set("direction 2", 3.0)
    after = wide.numbers()
    moved = np.subtract(after["z"], before["z"])
    np.testing.assert_allclose(moved, (3 - along[1]) * d[1], atol=1e-4)
    gap = np.subtract(after["dreams"][-1], before["dreams"][-1])
    assert abs(gap).max() > 0.1
    assert_is_the_librarys(after, library[ATTENTION])
    assert after["negElbo"] == before["negElbo"]  # nothing of it touches x
    wide.press("New dream")
    dreamt = wide.numbers()
    assert abs(np.subtract(dreamt["z"], after["z"])).max() > 1
    assert dreamt["coordinates"] != after["coordinates"]


@in_a_browser
@pytest.mark.parametrize("name", OF_ONE_DIGIT)
def test_empty_full_and_scribbled_pads_have_finite_prices_and_are_told_apart(
    name, wide, library
):
    wide.choose(name)
    told = wide.host.locator(".verdict")
    price = {}
    for button in (
        "Clear the pad",
        "Full pad",
        "Scribble",
        "Begin with the test digit 1",
    ):
        wide.press(button)
        found = wide.numbers(name)
        assert_is_the_librarys(found, library[name])
        assert np.isfinite([found["negElbo"], *found["kl"]]).all()
        price[button] = found["negElbo"]
        if button in ("Full pad", "Scribble"):
            told.filter(has_text="more than any of 60 test digits").wait_for()
    known = price.pop("Begin with the test digit 1")
    assert price["Full pad"] > price["Scribble"] > 2 * known
    wide.choose(ATTENTION)


@in_a_browser
@pytest.mark.parametrize("size", ["wide", "phone"])
def test_page_is_accessible_and_fits_the_screen(size, request):
    opened = request.getfixturevalue(size)
    for name in (ATTENTION, GLAS_L):
        opened.choose(name)
        opened.numbers(name)
        room, taken, sticking_out = opened.page.evaluate(
            f"""() => {{
              const room = document.documentElement.clientWidth;
              return [room, document.documentElement.scrollWidth,
                [...{HOST}.shadowRoot.querySelectorAll("*")]
                  .filter(e => e.getBoundingClientRect().right > room)
                  .map(e => e.outerHTML.slice(0, 120))];
            }}"""
        )
        assert (taken, sticking_out) == (room, [])
        assert axe(opened.page) == []
    opened.page.emulate_media(color_scheme="dark")
    opened.page.wait_for_selector("[data-drawlib=pad][data-look=dark]")
    assert axe(opened.page) == []
    opened.page.emulate_media(color_scheme="light")
    opened.choose(ATTENTION)
    assert opened.troubles == []


@in_a_browser
def test_a_model_that_is_not_there_is_told_and_the_others_go_on(
    browser, assets, tmp_path
):
    folder = tmp_path / "live"
    folder.mkdir()
    for path in (assets / "live").iterdir():
        if path.name != draw_a_digit.file_of(ATTENTION):
            (folder / path.name).symlink_to(path)
    page = tmp_path / "page.html"
    page.write_text((assets / "page.html").read_text("utf-8"), encoding="utf-8")
    opened = Opened(browser, page, WIDE)
    told = opened.host.locator(".verdict")
    told.filter(
        has_text=f"{draw_a_digit.file_of(ATTENTION)} cannot be loaded"
    ).wait_for()
    opened.choose(GLAS_L)
    assert opened.numbers(GLAS_L)["negElbo"] > 0
    opened.context.close()


def levels_of(n: int, shape: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (n, *shape), dtype=torch.uint8, generator=generator)


@in_a_browser
@pytest.mark.parametrize("changes", [COLOUR, GREY], ids=["colour", "grey"])
def test_models_of_levels_are_drawn_for_and_priced_as_the_library_does(
    changes, browser, tmp_path
):
    model = tiny(attention="gaussian", **changes)
    given = levels_of(60, model.image_shape)
    path = written_to(tmp_path, explorer.pad(model, given, [k % 3 for k in range(60)]))
    opened = Opened(browser, path, PHONE)
    rounded = web.as_in_page(model, "int8").double()
    opened.unfold("It dreams")
    opened.unfold("What it sees")
    first = opened.numbers("your model")
    assert first["x"] == pytest.approx((given[0].flatten() / 255).tolist())
    assert_is_the_librarys(first, rounded)
    bits = first["negElbo"] / (math.prod(model.image_shape) * math.log(2))
    said = f"({bits:.2f} bits per dimension)".replace("-", "−")
    opened.host.locator(".verdict").filter(has_text=said).wait_for()
    # White paper, and on it the pen's colour.
    colour = opened.host.get_by_label("pen's colour")
    channels = model.image_shape[0]
    assert colour.is_visible() == (channels == 3)
    if channels == 3:
        colour.fill("#ff3300")
    opened.press("Clear the pad")
    blank = opened.numbers()["x"]
    assert set(blank) == {channels == 3}
    opened.press("Scribble")
    found = opened.numbers()
    colours = {tuple(one) for one in np.reshape(found["x"], (channels, -1)).T.round(3)}
    white, pen = (1.0, 1.0, 1.0), (1.0, 0.2, 0.0)
    assert colours == ({white, pen} if channels == 3 else {(0.0,), (1.0,)})
    assert_is_the_librarys(found, rounded)
    assert opened.troubles == []
    opened.context.close()


@in_a_browser
def test_models_of_other_shapes_bring_their_own_pads(browser, tmp_path):
    page = explorer.pad(tiny(), some_bits(2))
    small = tiny(image_shape=(1, 12, 20))
    page.data["models"].append(
        {"label": "small", "name": "small", "json": web.contents(small, "small")}
    )
    opened = Opened(browser, written_to(tmp_path, page), PHONE)
    first = opened.numbers("your model")
    model = opened.host.get_by_label("model", exact=True)
    model.select_option(label="small")
    opened.press("Scribble")
    found = opened.numbers("small")
    assert len(found["x"]) == 240 and 10 < sum(found["x"]) < 200
    assert_is_the_librarys(found, web.as_in_page(small, "int8").double())
    assert opened.host.locator("button.example").count() == 0
    model.select_option(label="your model")
    assert opened.numbers("your model")["kl"] == first["kl"]
    assert opened.troubles == []
    opened.context.close()


@in_a_browser
def test_a_model_of_another_shape_that_comes_below_the_finger_bends_no_line(
    browser, tmp_path
):
    """The line's last point was counted in the old sheet's pixels."""
    page = explorer.pad(tiny())
    large = tiny(image_shape=(1, 56, 56))
    page.data["models"].append(
        {"label": "large", "name": "large", "json": web.contents(large, "large")}
    )
    opened = Opened(browser, written_to(tmp_path, page), PHONE)
    opened.numbers("your model")
    canvas = opened.host.locator("canvas.pad")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    session = opened.context.new_cdp_session(opened.page)

    def finger(kind: str, *places: float) -> None:
        points = [
            {"x": box["x"] + p * box["width"], "y": box["y"] + p * box["height"]}
            for p in places
        ]
        event = {"type": f"touch{kind}", "touchPoints": points}
        session.send("Input.dispatchTouchEvent", event)

    finger("Start", 0.8)
    model = opened.host.get_by_label("model", exact=True)
    model.evaluate("e => { e.value = '1'; e.dispatchEvent(new Event('change')); }")
    opened.numbers("large")
    finger("Move", 0.82)
    finger("End")
    drawn = np.reshape(opened.numbers("large")["x"], (56, 56))
    assert drawn[42:, 42:].sum() > 0 and drawn.sum() == drawn[42:, 42:].sum()
    assert opened.troubles == []
    opened.context.close()


@in_a_browser
def test_page_of_the_built_book_is_alive(browser):
    path = ROOT / "_build" / "html" / "book" / "live-draw.html"
    if not path.exists():
        pytest.skip("the book is not built: make book")
    opened = Opened(browser, path, PHONE)
    found = opened.numbers(ATTENTION)
    assert len(found["kl"]) == found["T"]
    opened.press("Scribble")
    assert opened.numbers()["negElbo"] > 2 * found["negElbo"]
    assert all(r.startswith(("file://", "data:")) for r in opened.requests)
    opened.context.close()


@in_a_browser
def test_page_of_an_own_model_stands_in_one_output_and_is_the_librarys(
    browser, tmp_path
):
    model, x = tiny(attention="gaussian"), some_bits(60)
    path = written_to(tmp_path, explorer.pad(model, x, [k % 3 for k in range(60)]))
    opened = Opened(browser, path, PHONE)
    found = opened.numbers("your model")
    assert_is_the_librarys(found, web.as_in_page(model, "int8").double())
    assert not opened.host.get_by_label("model", exact=True).is_visible()
    assert opened.host.locator("button.example").count() == 3
    assert opened.requests == [path.as_uri()] and opened.troubles == []
    opened.context.close()


@in_a_browser
def test_the_first_models_file_is_asked_for_before_the_scripts_have_run(wide):
    """It was found by the last script alone, when all the others had come."""
    wide.numbers(ATTENTION)
    asked = [Path(request).name for request in wide.requests]
    assert asked.count(draw_a_digit.file_of(ATTENTION)) == 1
    assert asked.index(draw_a_digit.file_of(ATTENTION)) < asked.index("pad.js")


@in_a_browser
def test_first_picture_takes_one_run_of_the_model_and_no_dream(browser, assets):
    opened = Opened(browser, assets / "page.html", WIDE)
    opened.page.wait_for_function(AT_REST)
    runs, dreamt = opened.page.evaluate(
        f"() => [{HOST}.numbers.runs, {HOST}.numbers.dreamt]"
    )
    assert (runs, dreamt) == (1, None)
    opened.context.close()


@in_a_browser
def test_page_moves_once_until_it_is_touched_and_not_where_motion_is_unwanted(
    browser, assets
):
    path = assets / "page.html"
    opened = Opened(browser, path, WIDE, motion="no-preference")
    opened.page.wait_for_function(f"() => {HOST}.numbers?.playing")
    assert opened.host.locator(".invitation").is_visible()
    # The price is told while the page moves.
    opened.host.locator(".verdict").filter(has_text="−ELBO").wait_for()
    opened.stroke([(14, 5), (14, 23)])
    found = opened.numbers()
    assert (found["playing"], found["t"]) == (False, found["T"])
    assert opened.host.locator(".invitation").count() == 0
    opened.context.close()
    calm = Opened(browser, path, WIDE)
    found = calm.numbers()
    calm.page.wait_for_timeout(300)  # the eye that starts the motion has looked
    assert (calm.numbers()["playing"], found["t"]) == (False, found["T"])
    style = calm.host.locator(".invitation").evaluate(
        "e => getComputedStyle(e).animation"
    )
    assert "none" in style
    calm.context.close()


@in_a_browser
def test_a_stroke_asks_for_no_more_runs_than_it_has_moves(wide):
    before = wide.numbers(ATTENTION)
    count = f"() => {HOST}.numbers.runs"
    runs = wide.page.evaluate(count)
    wide.stroke([(4, 4), (24, 4), (24, 24)])
    assert wide.numbers()["x"] != before["x"]
    # One press and six moves; while the model runs, only the newest of them counts.
    assert 1 <= wide.page.evaluate(count) - runs <= 7


@in_a_browser
@pytest.mark.parametrize("name", [ATTENTION, GLAS_L])
def test_the_drawing_is_saved_as_a_png_of_what_is_shown(name, wide, tmp_path):
    from PIL import Image

    wide.choose(name)
    found = wide.numbers(name)
    with wide.page.expect_download() as download:
        wide.press("Save as a picture")
    assert download.value.suggested_filename == "drawing.png"
    download.value.save_as(tmp_path / "drawing.png")
    picture = np.asarray(Image.open(tmp_path / "drawing.png").convert("RGB"), float)
    parts = 3 if name == GLAS_L else 2
    assert picture.shape[1] == parts * (480 + 24) + 24
    # x, pixel by pixel, but for the window on it: from 24 across and 48 down.
    at = ((np.arange(28) + 0.5) * 480 / 28).astype(int)
    shown = picture[48 + at][:, 24 + at].mean(2) / 255
    x = np.array(found["x"]).reshape(28, 28)
    assert (abs(shown - (1 - x)) < 0.02).mean() > 0.95
    canvas = picture[48 + at][:, 504 + 24 + at].mean(2) / 255
    drawn = np.array(found["canvases"][found["t"] - 1]).reshape(28, 28)
    assert (abs(canvas - (1 - drawn)) < 0.02).mean() > 0.95
    wide.choose(ATTENTION)
