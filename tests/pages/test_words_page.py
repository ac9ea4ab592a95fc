"""The page on which a reader types a name: its numbers and the library's, its manners.

Without a Chromium the page's tests are skipped and say so.
"""

from __future__ import annotations

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

from drawlib import DRAW, GLAS, VAE, DRAWConfig, GLASConfig, VAEConfig, load_pretrained
from drawlib.data.words import codes_of, images_of, words_of
from drawlib.pages import explorer, web
from drawlib.stops import elbo_at_stops

pytestmark = pytest.mark.filterwarnings("default")
in_a_browser = pytest.mark.browser
SIZES = {"image_shape": (27, 1, 13), "likelihood": "categorical"}
NAMES = ["LEE", "RICHARDSON", "GARCIA", "OMALLEY", "KIM"] * 12
RECORD = "surnames/draw-0"


def some_model(kind: Any = DRAW, config: Any = DRAWConfig, **changes: Any) -> Any:
    """A small model of words of which no weight is left at zero."""
    torch.manual_seed(0)
    model = kind(config.preset("tiny", **{**SIZES, **changes}))
    with torch.no_grad():
        for value in model.state_dict().values():
            value += 0.2 * torch.randn_like(value)
    return model.eval()


def models() -> dict[str, Any]:
    """The shipped one; one that may stop, with a window; one that reads a memory."""
    return {
        RECORD: load_pretrained(RECORD),
        "window": some_model(attention="gaussian", stop="uniform", hidden=64),
        "memory": some_model(GLAS, GLASConfig),
    }


def test_page_carries_the_models_what_they_cost_and_asks_for_nothing():
    page = explorer.words(models(), NAMES)
    assert repr(page) == "<words explorer>"
    text = page._repr_html_()
    assert text == explorer.words(models(), NAMES)._repr_html_()
    for forbidden in ("http:", "https:", "@import", "url(", "fetch(", "import("):
        assert forbidden not in text
    assert text.count("</script") == text.count("<script") == 1
    data = json.loads(html.unescape(re.search(r'data-payload="([^"]*)"', text)[1]))
    assert (data["letters"], data["places"]) == ([2, 13], 13)
    first = data["models"][0]["json"]
    assert first["measured"]["loss"] <= web.MOST_LOSS
    assert first["live"]["costs"]["of"] == "60 given names"
    assert f"{first['measured']['quantised']:.2f} nats" in first["live"]["about"]
    bare = explorer.words({"a": some_model()})
    assert "costs" not in bare.data["models"][0]["json"]["live"]


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: explorer.words({}), ValueError, "0 models"),
        (
            lambda: explorer.words({"a": VAE(VAEConfig.preset("tiny"))}),
            TypeError,
            "'vae'",
        ),
        (
            lambda: explorer.words({"a": DRAW(DRAWConfig.preset("tiny"))}),
            ValueError,
            "a draws images of (1, 28, 28); allowed: words",
        ),
        (
            lambda: explorer.words({"a": some_model(image_shape=(27, 1, 9))}),
            ValueError,
            "(27, 1, 9)",
        ),
        (lambda: explorer.words({"a": some_model()}, ["O'HARA"]), Exception, "O'HARA"),
        (
            lambda: explorer.words({"a": some_model()}, examples=[]),
            ValueError,
            "0 examples",
        ),
        (lambda: explorer.pad(some_model()), ValueError, "words() takes"),
    ],
)
def test_wrong_input_is_refused_in_one_line(make, error, said):
    with pytest.raises(error) as caught:
        make()
    assert said in str(caught.value)
    assert "allowed" in str(caught.value) and "\n" not in str(caught.value)


@torch.no_grad()
def test_short_names_cost_least_and_no_name_costs_most_as_the_chapter_says():
    model = load_pretrained(RECORD)
    cost = {}
    for word in ("LEE", "RICHARDSON", "XQZVKJW"):
        x = torch.from_numpy(images_of(codes_of([word]))).float().repeat(50, 1, 1, 1)
        noise = model.noise(50, torch.Generator().manual_seed(0))
        cost[word] = -model.bound(x, noise).elbo.mean().item()
    written = words_of(model.reconstruct(x, noise=noise))
    assert cost["LEE"] + 5 < cost["RICHARDSON"] < cost["XQZVKJW"] - 5
    assert all(set(w) - set("XQZVKJW") for w in written)  # a name all the same


# The page


READ = """() => {
  const n = document.querySelector("[data-drawlib=words]").numbers;
  return {...n, image: Array.from(n.image), noise: Array.from(n.noise),
          canvases: n.canvases.map(one => Array.from(one))};
}"""


class Written(Opened):
    def read(self) -> dict[str, Any]:
        return self.page.evaluate(READ)

    @property
    def field(self) -> Any:
        return self.host("words").get_by_role("textbox")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    page = explorer.words(models(), NAMES)
    return written_to(tmp_path_factory.mktemp("words"), page)


@pytest.fixture(scope="module", params=[WIDE, PHONE], ids=["wide", "phone"])
def opened(browser, written, request) -> Iterator[Written]:
    one = Written(browser, written, request.param)
    yield one
    one.context.close()


@torch.no_grad()
def assert_is_the_librarys(found: dict[str, Any], given: Any) -> None:
    """Letters, certainties, KL and −ELBO at each stop, with the page's own noise."""
    model = web.as_in_page(given, "int8").double()
    x = torch.from_numpy(images_of(codes_of([found["word"]]))).double()
    assert found["image"] == x.flatten().tolist()
    noise = torch.tensor(found["noise"]).double().view(1, model.config.T, -1)
    seen = model.trace(x, noise=noise)
    canvases = seen.canvases.flatten(1).numpy()
    assert abs(np.array(found["canvases"]) - canvases).max() < 1e-3
    assert found["written"] == words_of(seen.canvases[:, 0])
    assert abs(np.array(found["kl"]) - seen.kl[0].numpy()).max() < 1e-3
    stops = -elbo_at_stops(*model.at_every_step(x, noise))[0].numpy()
    assert abs(np.array(found["stops"]) - stops).max() < 1e-2
    bound = -model.bound(x, noise).elbo.item()
    assert found["negElbo"] == pytest.approx(bound, abs=1e-2)


@in_a_browser
@pytest.mark.parametrize("name", [RECORD, "window", "memory"])
def test_a_typed_name_is_read_and_written_as_the_library_does(name, opened):
    opened.host("words").get_by_label("model", exact=True).select_option(label=name)
    for text in ("nguyen", "LEE", "Featherstoneh"):
        opened.field.fill("")
        opened.field.press_sequentially(text)
        found = opened.read()
        assert (found["model"], found["word"]) == (name, text.upper())
        assert_is_the_librarys(found, models()[name])
        shown = opened.host("words").locator("figure.word canvas")
        last = found["written"][found["t"] - 1]
        label = shown.get_attribute("aria-label")
        assert f"You typed {text.upper()}. After step {found['t']}" in label
        assert f"writes {last or 'nothing'}" in label
    told = opened.host("words").locator(".verdict").inner_text()
    assert f"−ELBO {found['negElbo']:.1f} nats" in told
    assert ("a mean over all its stops" in told) == (name == "window")
    assert opened.troubles == []


@in_a_browser
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("O'HARA", "knows the letters A to Z, and no “'”"),
        ("NÚÑEZ", "no “Ú”"),
        ("VAN DYKE", "no “ ”"),
        ("straße", "no “ß”"),
        ("CHRISTOPHERSON", "14 letters are too many: the model knows words of at"),
        ("X", "2 to 13 letters"),
        ("  ", "2 to 13 letters"),
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused_in_one_kind_line(text, said, opened):
    opened.field.fill("GARCIA")
    before = opened.read()
    opened.field.fill(text)
    told = opened.host("words").locator(".verdict").inner_text()
    assert said in told and "\n" not in told
    assert opened.field.get_attribute("aria-invalid") == "true"
    assert opened.field.get_attribute("aria-describedby") == "told"
    after = opened.read()
    assert (after["word"], after["written"]) == ("GARCIA", before["written"])
    with pytest.raises(Exception, match="allowed"):
        codes_of([text.strip()])
    opened.field.fill(" garcia ")
    assert opened.field.get_attribute("aria-invalid") == "false"
    assert opened.read()["stops"] == before["stops"]


@in_a_browser
def test_steps_are_scrubbed_by_key_and_finger_and_a_sample_can_be_drawn_anew(opened):
    host = opened.host("words")
    host.get_by_label("model", exact=True).select_option(label=RECORD)
    host.get_by_role("button", name="RICHARDSON").click()
    slider = host.get_by_role("slider", name="step t")
    slider.focus()
    for key in ("Home", "ArrowRight"):
        slider.press(key)
    found = opened.read()
    assert (found["t"], found["T"], found["word"]) == (2, 8, "RICHARDSON")
    stop = host.locator(".stop").inner_text()
    assert f"Stop here: −ELBO {found['stops'][1]:.1f} nats" in stop
    caption = host.locator("figure.word figcaption").inner_text()
    assert f"after step 2 the model writes {found['written'][1]}" in caption
    host.locator(".timeline canvas").tap(position={"x": 4, "y": 20})
    assert opened.read()["t"] == 1
    host.get_by_role("button", name="New sample").click()
    again = opened.read()
    assert again["noise"] != found["noise"] and again["stops"] != found["stops"]
    opened.page.emulate_media(reduced_motion="reduce")
    host.get_by_role("button", name="Next step").click()
    assert opened.read()["t"] == 2
    opened.page.emulate_media(reduced_motion="no-preference")
    host.get_by_role("button", name="Play").press("Enter")
    opened.page.wait_for_function(
        "() => document.querySelector('[data-drawlib]').numbers.t === 8"
    )


@in_a_browser
def test_page_is_accessible_and_fits_the_screen(opened):
    opened.host("words").locator("summary").click()
    for text in ("LEE", "O'HARA"):
        opened.field.fill(text)
        for scheme in ("dark", "light"):
            opened.page.emulate_media(color_scheme=scheme)
            opened.page.wait_for_selector(f"[data-drawlib][data-look={scheme}]")
            assert axe(opened.page) == []
    sticking_out = opened.page.evaluate(
        """() => [...document.querySelector("[data-drawlib]").shadowRoot
          .querySelectorAll("*")].filter(e => e.getBoundingClientRect().right
            > document.documentElement.clientWidth).length"""
    )
    assert sticking_out == 0
    assert opened.troubles == []


# For the tiles of a letter in the steps before the last: the pixel that stands out most
# from the tile's ground, in the least favourable tile and in the middle one.
CONTRAST = """host => {
  const canvas = host.shadowRoot.querySelector("figure.word canvas");
  const { width, clientWidth } = canvas, scale = width / clientWidth;
  const pen = canvas.getContext("2d"), each = (clientWidth - 26) / 13;
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + [0.2126, 0.7152, 0.0722][k] * v, 0);
  const found = [];
  host.numbers.written.slice(0, -1).forEach((word, t) => [...word].forEach((_, i) => {
    const at = [26 + i * each + 2, (t + 1.4) * 30 + 3, each - 4, 24];
    const { data } = pen.getImageData(...at.map(v => Math.round(v * scale)));
    const all = Array.from({ length: data.length / 4 }, (_, p) =>
      light(data.subarray(4 * p, 4 * p + 3)));
    const ground = all[0];
    found.push(Math.max(...all.map(v =>
      (Math.max(v, ground) + 0.05) / (Math.min(v, ground) + 0.05))));
  }));
  found.sort((a, b) => a - b);
  return [found[0], found[found.length >> 1]];
}"""


@in_a_browser
def test_letters_can_be_read_on_every_shade_in_both_themes(opened):
    """The contrast of each letter with its tile: 4.5 as for words, less its edges."""
    opened.host("words").get_by_label("model", exact=True).select_option(label=RECORD)
    opened.field.fill("RICHARDSON")
    for scheme in ("dark", "light"):
        opened.page.emulate_media(color_scheme=scheme)
        opened.page.wait_for_selector(f"[data-drawlib][data-look={scheme}]")
        worst = opened.host("words").evaluate(CONTRAST)
        assert 3.5 < worst[0] and 4.5 <= worst[1]
    opened.page.emulate_media(color_scheme="light")
