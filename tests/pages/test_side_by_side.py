"""Several models side by side: their drawings against the models, and their page.

Without a Chromium the page's tests are skipped and say so.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_explorer import Opened
from test_pages import PHONE, WIDE, axe, written_to

from drawlib import (
    DRAW,
    GLAS,
    VAE,
    ConvDRAW,
    ConvDRAWConfig,
    Diffusion,
    DiffusionConfig,
    DRAWConfig,
    GLASConfig,
    LadderConfig,
    LadderVAE,
    VAEConfig,
)
from drawlib.pages import explorer
from drawlib.pages.side_by_side import drawing

pytestmark = pytest.mark.filterwarnings("default")
in_a_browser = pytest.mark.browser
MAKERS: dict[str, Any] = {
    "DRAW": lambda: DRAW(DRAWConfig.preset("tiny", attention="gaussian")),
    "GLAS": lambda: GLAS(GLASConfig.preset("tiny")),
    "ConvDRAW": lambda: ConvDRAW(ConvDRAWConfig.preset("tiny")),
    "ladder": lambda: LadderVAE(LadderConfig.preset("tiny")),
    "diffusion": lambda: Diffusion(DiffusionConfig.preset("tiny")),
}


def some_model(kind: str) -> Any:
    """A model in double precision of which no weight is left at zero."""
    torch.manual_seed(0)
    model = MAKERS[kind]()
    with torch.no_grad():
        for value in model.parameters():
            value += 0.1 * torch.randn_like(value)
    return model.double().eval()


def some_bits(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(n, 1, 28, 28, generator=generator) < 0.2).double()


def noise_of(model: Any, n: int) -> Any:
    return model.noise(n, torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", MAKERS)
def test_the_last_stop_of_a_drawing_is_the_models_own_bound(kind):
    model, x = some_model(kind), some_bits(5)
    noise = noise_of(model, 5)
    made, bound = drawing(model, x, noise), model.bound(x, noise)
    assert torch.allclose(made.stops[:, -1], -bound.elbo)
    kl = bound.kl.flip(1) if kind == "ladder" else bound.kl  # from the top down
    assert torch.allclose(made.kl, kl)
    assert made.images.shape == (kl.shape[1], *x.shape)
    # Each stop is paid for its own steps, and scored on its own picture.
    ink = made.images.clamp(1e-15, 1 - 1e-15)
    score = -(x * ink.log() + (1 - x) * (-ink).log1p()).flatten(2).sum(2).mT
    assert torch.allclose(made.stops, score + made.kl.cumsum(1), atol=1e-4)


def test_each_model_sees_the_images_in_its_own_type():
    x = some_bits(2)
    same = explorer.side_by_side({"a": some_model("DRAW").float()}, x.float())
    mixed = explorer.side_by_side({"a": some_model("DRAW").float()}, x)
    assert repr(mixed.data) == repr(same.data)


@pytest.mark.parametrize("kind", ["DRAW", "GLAS", "ConvDRAW"])
def test_a_recurrent_models_drawing_is_its_trace(kind):
    model, x = some_model(kind), some_bits(3)
    noise = noise_of(model, 3)
    made, seen = drawing(model, x, noise), model.trace(x, noise=noise)
    assert torch.equal(made.images, seen.canvases)
    log_likelihood, kl = model.at_every_step(x, noise)
    assert torch.allclose(made.stops, kl.cumsum(1) - log_likelihood)


@torch.no_grad()
def test_a_ladders_layers_below_are_their_priors_means():
    model, x = some_model("ladder"), some_bits(4)
    noise = noise_of(model, 4)
    bottom, top = model.infer(x, noise)
    images = drawing(model, x, noise).images
    z_1 = model.prior(0, top.z).mu
    first, last = (model.likelihood.mean(model.decode(z)) for z in (z_1, bottom.z))
    assert torch.allclose(images, torch.stack([first, last]))
    # The running statistics, also of a model in training.
    model.train()
    assert torch.equal(drawing(model, x, noise).images, images)
    assert model.training


@torch.no_grad()
def test_a_diffusions_drawing_is_the_guess_at_each_level():
    model, x = some_model("diffusion"), some_bits(4)
    noise = noise_of(model, 4)
    images = drawing(model, x, noise).images
    # z_T straight from x; the rest of the chain as the bound has it.
    T = model.config.T
    q = model.diffused(2 * x - 1, model.level(T, x))
    for down, eps in enumerate(noise.unbind(1)):
        t = model.level(T - down, x)
        guess = (1 + model.guess(model.canvas(z := q.sample(eps), t))) / 2
        assert torch.allclose(images[down], guess)
        if down < T:
            q = model.step_down(z, t, 2 * x - 1)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"models": {}}, ValueError, "0 models; allowed: 1 to 5"),
        ({"models": {"v": VAE(VAEConfig.preset("tiny"))}}, TypeError, "in one step"),
        ({"x": some_bits(1)[..., :9]}, ValueError, "(1, 1, 28, 9)"),
        ({"x": some_bits(0)}, ValueError, "0 labels for 0 images"),
        ({"labels": ["a", "b"]}, ValueError, "2 labels for 1 images"),
        ({"x": some_bits(200)}, ValueError, "take fewer images"),
    ],
)
def test_wrong_input_is_refused_in_one_line(change, error, said):
    given = {"models": {"DRAW": some_model("DRAW")}, "x": some_bits(1), **change}
    with pytest.raises(error) as caught:
        explorer.side_by_side(given.pop("models"), given.pop("x"), **given)
    assert said in str(caught.value)
    assert "allowed" in str(caught.value) and "\n" not in str(caught.value)


# The page


def all_models() -> dict[str, Any]:
    return {kind: some_model(kind) for kind in MAKERS}


@pytest.fixture(scope="module")
def page() -> explorer.LivePage:
    return explorer.side_by_side(
        all_models(), some_bits(2), labels=["a 5", '"<b>'], seed=4
    )


def test_page_is_one_text_that_asks_for_nothing_and_carries_the_drawings(page):
    text = page._repr_html_()
    again = explorer.side_by_side(
        all_models(), some_bits(2), labels=["a 5", '"<b>'], seed=4
    )
    assert text == again._repr_html_()
    assert repr(page) == "<side-by-side explorer>"
    for forbidden in ("http:", "https:", "@import", "url(", "fetch(", "import("):
        assert forbidden not in text
    assert text.count("</script") == text.count("<script") == 1
    data = json.loads(html.unescape(re.search(r'data-payload="([^"]*)"', text)[1]))
    assert [part["label"] for part in data["models"]] == list(MAKERS)
    for part, model in zip(data["models"], all_models().values(), strict=True):
        noise = model.noise(2, torch.Generator().manual_seed(4))
        made = drawing(model, some_bits(2), noise)
        np.testing.assert_allclose(part["kl"], made.kl.numpy(), atol=6e-5)
        np.testing.assert_allclose(part["stops"], made.stops.numpy(), atol=6e-5)
        sent = np.frombuffer(base64.b64decode(part["images"]), np.uint8)
        assert abs(sent - 255 * made.images.numpy().ravel()).max() <= 0.501


class Beside(Opened):
    def read(self) -> dict[str, Any]:
        return self.numbers("side-by-side")


@pytest.fixture(scope="module")
def written(page, tmp_path_factory) -> Path:
    return written_to(tmp_path_factory.mktemp("beside"), page)


@pytest.fixture(scope="module", params=[WIDE, PHONE], ids=["wide", "phone"])
def beside(browser, written, request) -> Iterator[Beside]:
    opened = Beside(browser, written, request.param)
    yield opened
    opened.context.close()


@in_a_browser
def test_one_slider_leads_through_all_drawings_and_tells_their_nats(beside, page):
    host = beside.host("side-by-side")
    slider = host.get_by_role("slider")
    slider.focus()
    for image in (0, 1):
        host.get_by_label("image", exact=True).select_option(str(image))
        for key, position in (("Home", 1), ("ArrowRight", 2), ("End", 5)):
            slider.press(key)
            found = beside.read()
            assert (found["position"], found["K"], found["k"]) == (position, 5, image)
            figures = host.locator("figcaption").all_inner_texts()[1:]
            for one, part, told in zip(
                found["models"], page.data["models"], figures, strict=True
            ):
                kl, stops = part["kl"][image], part["stops"][image]
                # Every step is shown, the last one at the end.
                t = -(-position * len(kl) // 5)
                assert one["t"] == t
                assert one["klSoFar"] == pytest.approx(sum(kl[:t]))
                assert one["stop"] == stops[t - 1]
                assert f"step {t} of {len(kl)}" in told
                assert f"{kl[t - 1]:.2f} nats, {sum(kl[:t]):.1f} so far" in told
                assert f"stop: −ELBO {stops[t - 1]:.1f}" in told
    # The ladder's last picture: as dark as its frame is, at one pixel of it.
    frames = np.frombuffer(base64.b64decode(page.data["models"][3]["images"]), np.uint8)
    ink = frames.reshape(2, 2, 28, 28)[1, 1, 10, 4]
    shade = (
        host.locator("figure > canvas[role=img]:not(.bars)")
        .nth(4)
        .evaluate(
            """canvas => canvas.getContext("2d").getImageData(
          4.5 * canvas.width / 28, 10.5 * canvas.height / 28, 1, 1).data[0]"""
        )
    )
    assert abs(shade - (255 - int(ink))) < 2


@in_a_browser
def test_drawings_play_and_less_motion_means_one_step_a_press(beside):
    host = beside.host("side-by-side")
    host.get_by_label("speed").select_option("20")
    host.get_by_role("button", name="Play").press("Enter")
    beside.page.wait_for_function(
        """() => { const n = document.querySelector("[data-drawlib]").numbers;
          return n.position === n.K; }"""
    )
    host.get_by_role("button", name="Play").wait_for()
    beside.page.emulate_media(reduced_motion="reduce")
    for position in (1, 2):
        host.get_by_role("button", name="Next step").click()
        assert beside.read()["position"] == position
    bars = host.locator(".timeline canvas")
    bars.scroll_into_view_if_needed()
    box = bars.bounding_box()
    bars.click(position={"x": 0.7 * box["width"], "y": box["height"] / 2})
    assert beside.read()["position"] == 4
    beside.page.emulate_media(reduced_motion="no-preference")


@in_a_browser
def test_page_is_accessible_and_fits_the_screen(beside):
    for scheme in ("dark", "light"):
        beside.page.emulate_media(color_scheme=scheme)
        beside.page.wait_for_selector(f"[data-drawlib][data-look={scheme}]")
        assert axe(beside.page) == []
    sticking_out = beside.page.evaluate(
        """() => [...document.querySelector("[data-drawlib]").shadowRoot
          .querySelectorAll("*")].filter(e => e.getBoundingClientRect().right
            > document.documentElement.clientWidth).length"""
    )
    assert sticking_out == 0
    names = beside.page.evaluate(
        """() => [...document.querySelector("[data-drawlib]").shadowRoot
          .querySelectorAll("canvas[role=img]")].map(c => c.ariaLabel)"""
    )
    assert all(names) and len(set(names)) == len(names)
    assert beside.troubles == []
