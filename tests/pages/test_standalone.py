"""One HTML file with a model in it: `python -m drawlib page`."""

import re

import numpy as np
import pytest
import torch

from drawlib import DRAW, GLAS, VAE, Data, DRAWConfig, GLASConfig, VAEConfig
from drawlib.__main__ import main
from drawlib.pages.standalone import write_page

BITS = Data.from_arrays(np.random.default_rng(0).random((40, 12, 9)) < 0.3)
COLOUR = Data.from_arrays(
    np.random.default_rng(0).integers(0, 256, (40, 3, 8, 11), dtype=np.uint8)
)
LARGE = Data.from_arrays(np.random.default_rng(0).random((40, 70, 9)) < 0.3)


def draw(data: Data, kind=DRAW, config=DRAWConfig, **sizes):
    torch.manual_seed(0)
    preset = config.preset(
        "tiny", image_shape=data.image_shape, likelihood=data.likelihood, **sizes
    )
    return kind(preset)


@pytest.mark.parametrize(
    ("data", "model", "kinds"),
    [
        (BITS, draw(BITS, attention="gaussian"), ["pad", "player"]),
        (BITS, draw(BITS, GLAS, GLASConfig), ["pad", "player"]),
        (COLOUR, draw(COLOUR, attention="gaussian"), ["pad", "player"]),
        (LARGE, draw(LARGE, attention="gaussian"), ["player"]),
    ],
    ids=["draw", "glas", "colour", "large"],
)
def test_a_page_holds_what_its_model_can_do_and_asks_for_nothing(
    tmp_path, data, model, kinds
):
    out = tmp_path / "a.html"
    write_page(model, data, out, name="Mine & yours", images=2)
    text = out.read_text(encoding="utf-8")
    found = [k for k in ("pad", "player") if f'data-drawlib="{k}"' in text]
    assert found == kinds
    assert "digit" not in re.sub("<script>.*?</script>", "", text, flags=re.S)
    assert "<title>Mine &amp; yours</title>" in text
    assert "no number is comparable with a published one" in text
    for forbidden in ("http:", "https:", "@import", "url(", "fetch("):
        assert forbidden not in text


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (
            {"model": VAE(VAEConfig.preset("tiny"))},
            TypeError,
            "DRAW, GLAS, ConvDRAW",
        ),
        ({"data": COLOUR}, ValueError, "likelihood"),
        ({"images": 0}, ValueError, "images is 0"),
        ({"images": 99}, ValueError, "99"),
    ],
)
def test_what_no_page_can_show_is_refused_in_one_line(tmp_path, change, error, told):
    given = {"model": draw(BITS), "data": BITS, "images": 1, **change}
    with pytest.raises(error, match=told) as caught:
        write_page(
            given.pop("model"),
            given.pop("data"),
            tmp_path / "a.html",
            name="a",
            **given,
        )
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_words_of_your_own_become_a_page_to_type_in(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    towns = [a + b for a in ("ED", "LIN", "WHIT") for b in ("BY", "TON", "FORD", "HAM")]
    (tmp_path / "towns.txt").write_text("\n".join(towns), encoding="utf-8")
    options = ["--data", "words:towns.txt", "--run-dir", "run", "--train.epochs", "1"]
    assert main(["train", "draw:tiny", *options]) == 0
    assert main(["page", "run", "--out", "a.html", "--images", "1"]) == 0
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert text.count("data-drawlib=") == 1 and 'data-drawlib="words"' in text
    assert any(town in text for town in towns)


def test_a_run_of_your_own_images_becomes_a_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (40, 10, 10), dtype=np.uint8)
    np.save("mine.npy", images)
    options = ["--data", "npy:mine.npy", "--run-dir", "run", "--train.epochs", "1"]
    assert main(["train", "draw:tiny", *options]) == 0
    assert main(["page", "run", "--out", "a.html", "--title", "My digits"]) == 0
    assert "open it in a browser" in capsys.readouterr().out
    assert "<h1>My digits</h1>" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert main(["page", "run", "--out", "none/a.html"]) == 1


@pytest.mark.browser
@pytest.mark.parametrize("data", [BITS, COLOUR], ids=["bits", "colour"])
def test_the_page_runs_in_a_browser_without_a_request(browser, tmp_path, data):
    out = tmp_path / "a.html"
    write_page(draw(data, attention="gaussian"), data, out, name="Mine", images=2)
    page = browser.new_page(viewport={"width": 390, "height": 800})
    wrong, asked = [], []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(out.as_uri())
    page.wait_for_function(
        """() => [...document.querySelectorAll("[data-drawlib]")]
          .every(host => host.shadowRoot?.querySelector("canvas"))"""
    )
    assert wrong == [] and asked == [out.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()
