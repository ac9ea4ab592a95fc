"""Exported models: their files, and their steps in a real Chromium against PyTorch.

The page is opened from a file, and loads each model as a page of the book would. The
library computes in float64 with the same dequantised weights and the same noise.
Without a Chromium these tests are skipped and say so; what needs no browser is tested
before.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drawlib import (
    DRAW,
    GLAS,
    VAE,
    Data,
    DRAWConfig,
    GLASConfig,
    Split,
    VAEConfig,
    evaluate,
)
from drawlib.__main__ import main
from drawlib.data.protocols import Protocol
from drawlib.pages import draw_a_digit, web
from drawlib.pages.embedded import script
from drawlib.results import zoo
from drawlib.stops import elbo_at_stops

pytestmark = pytest.mark.filterwarnings("default")
in_a_browser = pytest.mark.browser
CLOSE = 1e-3  # of canvases and of each step's KL: float32 in the page, float64 here
RGB = {"image_shape": (3, 9, 14), "likelihood": "discretised-logistic"}
SMALL: dict[str, Any] = {
    "draw": DRAWConfig.preset("tiny"),
    # No side of a matrix is a multiple of four.
    "draw-odd": DRAWConfig.preset("tiny", image_shape=(1, 9, 13), hidden=33, z=190),
    "draw-attention": DRAWConfig.preset("tiny", attention="gaussian"),
    "draw-cauchy-colour": DRAWConfig.preset("tiny", attention="cauchy", **RGB),
    "draw-anytime": DRAWConfig.preset("tiny", stop="uniform"),
    "draw-listed-stops": DRAWConfig.preset("tiny", stop=(0.1, 0.0, 0.2, 0.7)),
    "draw-learned-prior": DRAWConfig.preset("tiny", prior="learned", canvas="zeros"),
    "glas-cauchy": GLASConfig.preset("tiny"),
    "glas-gaussian": GLASConfig.preset("tiny", latent_attention="gaussian"),
    "glas-legacy": GLASConfig.preset("tiny", grid="legacy", rows="floor", M=12),
    "glas-both-windows": GLASConfig.preset("tiny", attention="gaussian"),
    "glas-generative": GLASConfig.preset("tiny", memory="generative"),
    "glas-generative-gaussian": GLASConfig.preset(
        "tiny", memory="generative", latent_attention="gaussian", space="fixed"
    ),
    "glas-masked": GLASConfig.preset(
        "tiny", latent_attention="sigmoid", space="masked"
    ),
    "glas-softmax": GLASConfig.preset("tiny", latent_attention="softmax"),
    "glas-scaled-softmax": GLASConfig.preset("tiny", latent_attention="scaled-softmax"),
    "glas-content": GLASConfig.preset("tiny", latent_attention="content"),
    "glas-without": GLASConfig.preset("tiny", latent_attention="none"),
}
PAPER: dict[str, Any] = {
    "draw-attention-64": DRAWConfig.preset("paper"),
    "draw-64": DRAWConfig.preset("paper-no-attention"),
    "glas-64": GLASConfig.preset("readme"),
}


def some_model(config: Any, seed: int = 0) -> Any:
    """A model of which every number matters: none is left at zero."""
    torch.manual_seed(seed)
    model = GLAS(config) if isinstance(config, GLASConfig) else DRAW(config)
    with torch.no_grad():
        for value in model.state_dict().values():
            value += 0.1 * torch.randn_like(value)
    model.begin_epoch(0.5)
    return model.eval()


def some_images(n: int, shape: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    grey = torch.rand(n, *shape, generator=generator)
    return (grey < 0.2).float() if shape[0] == 1 else grey


def shipped() -> list[str]:
    return [r.name for r in zoo.records() if r["weights"] and r["kind"] in web.KINDS]


# Python's side


@pytest.mark.parametrize("form", ["int8", "float16"])
def test_quantisation_moves_no_weight_by_more_than_half_a_step(form, tmp_path):
    config = DRAWConfig.preset("tiny", attention="gaussian", hidden=64)
    model = some_model(config)
    with torch.no_grad():
        model.encoder.weight[3] = 0  # a row without a scale
    path = tmp_path / "model.js"
    path.write_text(web.encode(model, "toy", form), encoding="utf-8")
    read = web.read_export(path)
    assert (read.name, read.kind, read.format) == ("toy", "draw", form)
    built = read.build()
    assert built.config == config
    rounded = 0
    for key, value in model.state_dict().items():
        found = read.state[key]
        assert found.dtype == torch.float32 and found.shape == value.shape
        assert torch.equal(built.state_dict()[key], found)
        if value.ndim != 2 or value.numel() <= web.SMALL:
            assert torch.equal(found, value)
            continue
        rounded += 1
        half = value.abs().amax(1, keepdim=True) / 254 if form == "int8" else 2e-3
        assert not torch.equal(found, value)
        assert ((found - value).abs() <= half * (1 + 1e-5)).all()
    assert rounded == 2  # the two LSTMs
    assert (read.state["encoder.weight"][3] == 0).all()


def test_export_is_the_same_text_each_time_and_one_statement_of_a_classic_script():
    text = web.encode(some_model(SMALL["draw"]), "a/b-0")
    assert text == web.encode(some_model(SMALL["draw"]), "a/b-0")
    assert text != web.encode(some_model(SMALL["draw"], seed=1), "a/b-0")
    first, second, nothing = text.split("\n")
    assert first.startswith("// a/b-0: int8") and nothing == ""
    assert second.startswith('(window.drawlibModels ??= {})["a/b-0"] = {')
    for forbidden in ("import ", "http", "fetch", "</"):
        assert forbidden not in text + script(web.SCRIPTS).split("const waiting")[0]


@pytest.mark.parametrize("name", PAPER)
def test_models_of_the_papers_size_take_at_most_4_megabytes(name):
    size = len(web.encode(some_model(PAPER[name]), name).encode())
    assert 1_000_000 < size <= web.MOST_BYTES == 4_000_000


def shipping(monkeypatch, model: Any) -> None:
    """Make ``toy/draw-0`` a shipped model, and four images its test split."""
    bits = some_images(4, (1, 28, 28)).byte()
    part = Split(bits)
    data = Data("toy", Protocol("toy", "Four images."), part, part, part)
    monkeypatch.setattr(web, "load_data", lambda name, root=None: data)
    monkeypatch.setattr(web, "load_pretrained", lambda name, root=None: model)


def test_export_measures_what_the_rounding_costs_and_says_so(
    tmp_path, monkeypatch, capsys
):
    model = some_model(DRAWConfig.preset("tiny", hidden=64))
    shipping(monkeypatch, model)
    paths = [tmp_path / "a.js", tmp_path / "b.js"]
    for path in paths:
        assert (
            main(["export-web", "toy/draw-0", "--out", str(path), "--images", "3"]) == 0
        )
    assert paths[0].read_bytes() == paths[1].read_bytes()
    measured = web.read_export(paths[0]).measured
    assert (measured["protocol"], measured["images"]) == ("toy", 3)
    difference = measured["quantised"] - measured["shipped"]
    assert measured["loss"] == pytest.approx(difference, abs=0.002) and difference
    said = f"a loss of {web.loss_of(measured)} nats"
    assert said in paths[0].read_text("utf-8").splitlines()[0]
    assert said in capsys.readouterr().out


def test_export_goes_on_to_the_next_form_where_one_is_not_good_enough(
    tmp_path, monkeypatch
):
    shipping(monkeypatch, some_model(DRAWConfig.preset("tiny", hidden=64)))
    means = iter([100.0, 100.3, 100.1])
    spread = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    monkeypatch.setattr(web, "neg_elbos", lambda *_: next(means) + spread)
    written = web.export_web("toy/draw-0", tmp_path / "m.js", images=4)
    assert (written.format, written.measured["loss"]) == ("float16", 0.1)
    assert written.measured["loss_se"] == 0


def test_export_measures_what_evaluate_does(monkeypatch):
    model = some_model(DRAWConfig.preset("tiny", hidden=64))
    shipping(monkeypatch, model)
    data = web.load_data("toy")
    each = web.neg_elbos(model, data, 3, seed=5)
    found = evaluate(model, data, "test", samples=1, images=3, seed=5)
    assert each.shape == (3,)
    assert each.mean().item() == pytest.approx(found.neg_elbo, abs=1e-6)


def test_a_model_of_another_type_is_measured_as_the_page_has_it(monkeypatch, tmp_path):
    """In float32, on the CPU, wherever the model at hand is."""
    model = some_model(DRAWConfig.preset("tiny", hidden=64)).double()
    shipping(monkeypatch, model)
    data = web.load_data("toy")
    made = web.export_model(model, data, tmp_path / "a.js", name="a", images=3)
    want = web.neg_elbos(model.float(), data, 3, seed=0).mean().item()
    assert made.measured["shipped"] == pytest.approx(want, abs=1e-3)


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [("MOST_BYTES", 20_000, "int8 takes 0."), ("MOST_LOSS", -1e9, "float16 loses")],
)
def test_export_refuses_what_is_too_large_or_too_lossy(
    limit, value, said, tmp_path, monkeypatch
):
    shipping(monkeypatch, some_model(DRAWConfig.preset("tiny", hidden=64)))
    monkeypatch.setattr(web, limit, value)
    with pytest.raises(ValueError, match="allowed") as caught:
        web.export_web("toy/draw-0", tmp_path / "m.js", images=4)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "m.js").exists()


class Changed(DRAW):
    """Somebody's own step, which the page's script does not know."""


UNSUPPORTED: dict[str, Any] = {
    "too large": (GLASConfig.preset("tiny", image_shape=(1, 20, 65)), "(1, 20, 65)"),
    "two channels": (DRAWConfig.preset("tiny", image_shape=(2, 28, 28)), "(2, 28, 28)"),
    "letters": (
        DRAWConfig.preset("tiny", image_shape=(3, 1, 9), likelihood="categorical"),
        "letters of shape (3, 1, 9)",
    ),
    "too many weights": (DRAWConfig.preset("tiny", hidden=700), "float16 takes "),
}


@pytest.mark.parametrize("kind", [*UNSUPPORTED, "subclass"])
def test_a_model_that_the_page_cannot_run_is_refused_before_anything_is_measured(
    kind, tmp_path, monkeypatch, capsys
):
    config, said = UNSUPPORTED.get(kind, (SMALL["draw"], "toy/draw-0 is a Changed"))
    model = Changed(config) if kind == "subclass" else some_model(config)
    shipping(monkeypatch, model)
    monkeypatch.setattr(web, "load_data", None)
    monkeypatch.setattr(web, "neg_elbos", None)
    out = tmp_path / "m.js"
    assert main(["export-web", "toy/draw-0", "--out", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and "allowed" in line and not out.exists()


def test_every_record_is_exported_or_refused_in_one_line(tmp_path, monkeypatch, capsys):
    """The shipped ones of other kinds, from their own files."""
    monkeypatch.setattr(web, "neg_elbos", None)
    refused = {}
    for record in zoo.records():
        if record["weights"] and record["kind"] not in web.KINDS:
            out = ["--out", str(tmp_path / "m.js")]
            assert main(["export-web", record.name, *out]) == 1
            (refused[record.name],) = capsys.readouterr().err.splitlines()
    assert {name.partition("/")[2].partition("-")[0] for name in refused} == {
        "vae", "ladder", "classifier", "conv", "diffusion",
    }  # fmt: skip
    assert all("allowed" in line and "draw" in line for line in refused.values())


def test_a_model_of_colour_is_exported_and_measured_on_its_own_data(
    tmp_path, monkeypatch
):
    model = some_model(DRAWConfig.preset("tiny", **RGB))
    levels = (255 * some_images(6, model.image_shape)).byte()
    part = Split(levels, visit="scale")
    protocol = Protocol(
        "toy", "Six images.", image_shape=(3, 9, 14), binarisation="none",
        likelihood="discretised-logistic",
    )  # fmt: skip
    data = Data("toy", protocol, part, part, part)
    monkeypatch.setattr(web, "load_data", lambda name, root=None: data)
    monkeypatch.setattr(web, "load_pretrained", lambda name, root=None: model)
    written = web.export_web("toy/draw-0", tmp_path / "m.js", images=6)
    assert written.measured["loss"] <= web.MOST_LOSS
    assert written.build().config == model.config


def test_a_folder_that_is_not_there_is_told_before_anything_is_measured(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(web, "neg_elbos", None)
    shipping(monkeypatch, some_model(DRAWConfig.preset("tiny")))
    out = tmp_path / "none" / "m.js"
    assert main(["export-web", "toy/draw-0", "--out", str(out)]) == 1
    assert capsys.readouterr().err == (
        f"drawlib: {out}: there is no folder {out.parent}\n"
    )


def test_a_run_of_ones_own_is_exported_with_its_own_images(
    tmp_path, monkeypatch, capsys
):
    """As `page` does: the run knows its data, and a small test split is taken whole."""
    numbers = np.random.default_rng(0).integers(0, 256, (40, 12, 9), dtype=np.uint8)
    np.save(tmp_path / "mine.npy", numbers)
    run, out = tmp_path / "mine", tmp_path / "mine.js"
    options = ["--data", f"npy:{tmp_path / 'mine.npy'}", "--run-dir", str(run)]
    options += ["--train.epochs", "1", "--train.batch-size", "8"]
    assert main(["train", "draw:tiny", *options]) == 0
    assert main(["export-web", str(run), "--out", str(out)]) == 0
    made = web.read_export(out)
    assert made.measured["images"] == 4
    assert made.measured["protocol"].startswith("npy:")
    assert str(tmp_path) not in out.read_text("utf-8")
    assert made.build().config.image_shape == (1, 12, 9)
    assert "a loss of" in capsys.readouterr().out.splitlines()[-1]
    # The folder that one stands in has a name, and a page does not run every file.
    monkeypatch.chdir(run)
    assert main(["export-web", ".", "--out", str(out)]) == 0
    assert web.read_export(out).name == "mine"
    capsys.readouterr()
    for other in ("mine.html", "mine"):
        assert main(["export-web", ".", "--out", str(tmp_path / other)]) == 1
        assert "allowed: a name that ends in .js" in capsys.readouterr().err
        assert not (tmp_path / "mine.html").exists()


@pytest.mark.parametrize("name", ["two\nlines", "two\u2028lines"])
def test_a_name_of_two_lines_breaks_no_script(name, tmp_path):
    """What stands behind the comment's first line was no JavaScript."""
    path = tmp_path / "m.js"
    path.write_text(web.encode(some_model(SMALL["draw"]), name), encoding="utf-8")
    comment, *code = path.read_text(encoding="utf-8").splitlines()
    assert comment.startswith("// two lines: ") and code[0].startswith(web.BEGIN)
    assert web.read_export(path).name == name


def test_wrong_input_is_refused_in_one_line(tmp_path, capsys):
    out = ["--out", str(tmp_path / "m.js")]
    assert main(["export-web", "mnist-fixed/nothing-0", *out]) == 1
    assert main(["export-web", "mnist-dynamic/vae-source-0", *out]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "no record 'mnist-fixed/nothing-0'" in said[0]
    assert "is of kind 'vae'; allowed: draw, glas" in said[1]
    assert not (tmp_path / "m.js").exists()
    with pytest.raises(ValueError, match="kind 'vae'"):
        web.encode(VAE(VAEConfig.preset("tiny")), "toy")
    with pytest.raises(ValueError, match="'int4'; allowed: int8, float16"):
        web.encode(some_model(SMALL["draw"]), "toy", "int4")
    broken = some_model(SMALL["draw"])
    with torch.no_grad():
        broken.writer.bias[0] = torch.nan
    with pytest.raises(ValueError, match="writer.bias of toy is not finite"):
        web.encode(broken, "toy")
    path = tmp_path / "cut.js"
    whole = web.encode(some_model(SMALL["draw"]), "toy")
    for text in ("", "window.x = 1;\n", whole[:5000], whole.replace("web-1", "web-9")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="is no whole drawlib-web-1 file"):
            web.read_export(path)


# The browser's side


# Numbers as float32 in base64: a list of a million numbers takes seconds.
TEXT = """const text = values => {
  const bytes = new Uint8Array(Float32Array.from(values).buffer);
  let out = "";
  for (let i = 0; i < bytes.length; i += 32768) {
    out += String.fromCharCode(...bytes.subarray(i, i + 32768));
  }
  return btoa(out);
};"""

# Runs a loaded model and hands back, field by field, the float32 of all steps.
RUN = """async ([name, images, noise, size, count, dreams]) => {
  const floats = text => new Float32Array(
    Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  const m = window.models[name] ??= await drawlib.fetchModel(name + ".js", name);
  const [x, eps] = [floats(images), floats(noise)], each = eps.length / count;
  const found = {};
  const keep = (key, values) => (found[key] ??= []).push(values);
  for (let i = 0; i < count; i++) {
    const mine = eps.slice(i * each, (i + 1) * each);
    const image = x.slice(i * size, (i + 1) * size);
    const steps = dreams ? m.generate(mine) : m.run(image, mine);
    if (!dreams) keep("stops", m.stops(steps, image));
    for (const step of steps) {
      for (const [key, value] of Object.entries(step)) {
        if (value === null) continue;
        if (key === "kl") keep(key, [value]);
        else if (["read", "write", "latent"].includes(key)) {
          keep(key, [...value.muX, ...value.muY, value.sigma, value.gamma]);
        } else keep(key, value);
      }
    }
  }
  return Object.fromEntries(Object.entries(found).map(([key, parts]) => {
    const one = parts[0].length, all = new Float32Array(parts.length * one);
    parts.forEach((part, i) => all.set(part, i * one));
    return [key, text(all)];
  }));
}"""


def as_text(values: torch.Tensor) -> str:
    return base64.b64encode(values.float().contiguous().numpy().tobytes()).decode()


class Opened:
    """A page in a folder, opened from a file; models are files beside it."""

    def __init__(
        self, browser: Any, folder: Path, before: str = "", head: str = ""
    ) -> None:
        self.folder = folder
        page = folder / "page.html"
        page.write_text(
            f"<!doctype html><meta charset=utf-8>{head}<title>Models</title>"
            f"<script>{script(web.SCRIPTS)}\n{TEXT}\nwindow.models = {{}};</script>",
            encoding="utf-8",
        )
        self.context = browser.new_context()
        self.context.add_init_script(before)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.troubles: list[str] = []
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(page.as_uri())

    def add(self, name: str, model: Any, form: str = "int8") -> web.WebModel:
        path = self.folder / f"{name}.js"
        path.write_text(web.encode(model, name, form), encoding="utf-8")
        return web.read_export(path)

    def run(
        self, name: str, x: torch.Tensor, noise: torch.Tensor, dreams: bool = False
    ):
        given = [name, as_text(x), as_text(noise), x[0].numel(), len(x), dreams]
        found = self.page.evaluate(RUN, given)
        return {
            key: np.frombuffer(base64.b64decode(text), "<f4").reshape(
                len(x), noise.shape[1], -1
            )
            for key, text in found.items()
        }


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory) -> Iterator[Opened]:
    one = Opened(browser, tmp_path_factory.mktemp("web"))
    yield one
    one.context.close()


def by_image(values: torch.Tensor) -> np.ndarray:
    """(T, batch, …) of a trace as (batch, T, numbers)."""
    return values.transpose(0, 1).flatten(2).numpy()


def same(found: Any, expected: Any, tolerance: float = CLOSE) -> None:
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@torch.no_grad()
def compare(
    found: dict[str, np.ndarray], model: Any, x: torch.Tensor, noise: torch.Tensor
) -> None:
    """Every field of every step against the library's, in float64."""
    model, x, noise = model.double(), x.double(), noise.double()
    seen = model.trace(x, noise=noise)
    assert abs(found["canvas"] - by_image(seen.canvases)).max() < CLOSE
    assert abs(found["kl"][:, :, 0] - seen.kl.numpy()).max() < CLOSE
    same(found["stops"][:, :, 0], -elbo_at_stops(seen.log_likelihood, seen.kl))
    same(found["error"], by_image(seen.errors))
    for key in ("read", "write", "latent"):
        expected = getattr(seen, key)
        assert (expected is None) == (key not in found)
        if expected is not None:
            width, gamma = expected.sigma[..., None], expected.gamma[..., None]
            four = torch.cat([expected.mu_x, expected.mu_y, width, gamma], 2)
            same(found[key], by_image(four))
    assert (seen.patches is None) == ("patch" not in found)
    if seen.patches is not None:
        same(found["patch"], by_image(seen.patches))
    states = [state for state, _, _ in model.steps(x, noise)]
    posteriors = [model.posterior(state.h_enc) for state in states]
    same(found["mu"], by_image(torch.stack([q.mu for q in posteriors])))
    same(found["logSigma"], by_image(torch.stack([q.log_sigma for q in posteriors])))
    z = [q.sample(eps) for q, eps in zip(posteriors, noise.unbind(1), strict=True)]
    same(found["z"], by_image(torch.stack(z)))
    same(found["logits"], by_image(torch.stack([state.canvas for state in states])))


@in_a_browser
@pytest.mark.parametrize("name", SMALL)
def test_eqs_3_to_8_of_a_step_are_the_librarys_in_every_variant(name, opened):
    config = SMALL[name]
    read = opened.add(name, some_model(config))
    model, x = read.build(), some_images(100, config.image_shape)[:20]
    if name in ("draw", "draw-attention", "glas-cauchy"):
        x = some_images(100, config.image_shape)
    noise = model.noise(len(x), torch.Generator().manual_seed(2))
    found = opened.run(name, x, noise)
    compare(found, model, x, noise)
    dreamt = opened.run(name, x[:20], noise[:20], dreams=True)
    model = model.double()
    states = list(model.dream(noise[:20].double()))
    images = torch.stack([model.mean(state.canvas) for state in states]).detach()
    assert abs(dreamt["canvas"] - by_image(images)).max() < CLOSE
    assert abs(dreamt["canvas"] - found["canvas"][:20]).max() > 0.01
    assert opened.troubles == []


# An old browser, one without vectors, and a site whose policy forbids WebAssembly.
WITHOUT_VECTORS = {
    "missing": {"before": "delete globalThis.WebAssembly"},
    "refused": {
        "before": "WebAssembly.Module = class { constructor() { "
        "throw new WebAssembly.CompileError('invalid opcode 0xfd'); } };"
    },
    "forbidden": {
        "head": "<meta http-equiv=Content-Security-Policy "
        "content=\"script-src 'unsafe-inline' file:\">"
    },
}


@pytest.fixture(scope="module", params=WITHOUT_VECTORS)
def plain(request, browser, tmp_path_factory) -> Iterator[Opened]:
    how = WITHOUT_VECTORS[request.param]
    one = Opened(browser, tmp_path_factory.mktemp("plain"), **how)
    yield one
    one.context.close()


@in_a_browser
@pytest.mark.parametrize(
    "name", ["draw", "draw-attention", "draw-cauchy-colour", "the-books-first"]
)
def test_a_browser_without_vectors_computes_the_same(name, plain, opened, mnist_fixed):
    """One sum in float64 there, four in float32 here; in 64 steps nothing grows."""
    if name in SMALL:
        model, x = some_model(SMALL[name]), some_images(8, SMALL[name].image_shape)
    else:
        model = zoo.load_pretrained(next(iter(draw_a_digit.MODELS.values())))
        x = mnist_fixed.test.images[:8].float()
    noise = model.noise(len(x), torch.Generator().manual_seed(2))
    both = []
    for one, fast in ((plain, False), (opened, True)):
        read = one.add(f"either-{name}", model)
        both.append(one.run(f"either-{name}", x, noise))
        matrices = f"window.models['either-{name}'].matrices.sums"
        assert one.page.evaluate(f"() => {matrices} !== undefined") == fast
    compare(both[0], read.build(), x, noise)
    for key, values in both[0].items():
        same(values, both[1][key], 2e-5)
    assert plain.troubles == []


@in_a_browser
@pytest.mark.parametrize("name", shipped() or ["none shipped"])
def test_shipped_models_draw_digits_as_the_library_does(name, opened, mnist_fixed):
    if name == "none shipped":
        pytest.skip("no DRAW or GLAS ships its weights")
    key = name.replace("/", "-")
    model = opened.add(key, zoo.load_pretrained(name)).build()
    # A hundred for the digits of the book's page; the test's time is bounded.
    digits = model.image_shape == (1, 28, 28)
    count = 100 if digits and name in draw_a_digit.MODELS.values() else 20
    if digits:
        x = mnist_fixed.test.images[:count].float()
    else:
        x = some_images(count, model.image_shape)
    noise = model.noise(count, torch.Generator().manual_seed(2))
    compare(opened.run(key, x, noise), model, x, noise)


@in_a_browser
@pytest.mark.parametrize("form", ["int8", "float16"])
def test_page_computes_with_the_very_weights_that_python_reads(form, opened):
    name = f"weights-{form}"
    model = some_model(DRAWConfig.preset("tiny", hidden=64))
    with torch.no_grad():
        # Zero, subnormal and the largest: the corners of float16.
        model.decoder.weight[0, :4] = torch.tensor([0.0, 3e-6, -6e-5, 65504.0])
    read = opened.add(name, model, form)
    found = opened.page.evaluate(
        """async name => {
          const m = await drawlib.fetchModel(name + ".js", name);
          return Object.fromEntries(
            Object.entries(m.w).map(([key, value]) => [key, text(value)]));
        }""",
        name,
    )
    assert sorted(found) == sorted(read.state)
    for key, values in found.items():
        same_bits = read.state[key].numpy().astype("<f4").tobytes()
        assert base64.b64decode(values) == same_bits, key


@in_a_browser
def test_a_model_is_loaded_from_a_file_when_it_is_asked_for_and_only_once(
    browser, tmp_path
):
    opened = Opened(browser, tmp_path)
    opened.add("lazy", some_model(SMALL["draw"]))
    assert [url for url in opened.requests if url.endswith(".js")] == []
    found = opened.page.evaluate(
        """async () => {
          const ask = () => drawlib.fetchModel("lazy.js", "lazy");
          const both = await Promise.all([ask(), ask()]);
          const again = await ask();
          const failed = [];
          for (const [url, name] of [["none.js", "lazy"], ["lazy.js", "other"]]) {
            await drawlib.fetchModel(url, name).catch(e => failed.push(e.message));
          }
          const model = again, state = model.start();
          const attempts = [
            () => model.run(new Float32Array(3), drawlib.noise(0, 24)),
            () => model.run(new Float32Array(784), drawlib.noise(0, 23)),
            () => model.step(state, new Float32Array(784), [1]),
            () => drawlib.loadModel({schema: "other"}),
          ];
          for (const attempt of attempts) {
            try { attempt(); failed.push(null); } catch (e) { failed.push(e.message); }
          }
          return [both.map(m => m.T), failed, document.scripts.length];
        }"""
    )
    scripts = [url for url in opened.requests if url.endswith("lazy.js")]
    assert len(scripts) == 1 and scripts[0].startswith("file://")
    assert all(url.startswith("file://") for url in opened.requests)
    assert found[0] == [4, 4]
    assert found[1] == [
        "none.js cannot be loaded",
        "lazy.js holds no model other",
        "image has 3 numbers; allowed: 784",
        "noise has 23 numbers; allowed: 24",
        "eps has 1 numbers; allowed: 6",
        "schema is other; allowed: drawlib-web-1",
    ]
    opened.context.close()


@in_a_browser
@pytest.mark.parametrize("name", ["draw", "draw-attention"])
def test_an_image_that_changes_between_steps_is_seen_as_it_is(name, opened):
    read = opened.add(f"changing-{name}", some_model(SMALL[name]))
    model = read.build().double()
    x = some_images(4, (1, 28, 28)).double()
    noise = model.noise(1, torch.Generator().manual_seed(4))
    found = opened.page.evaluate(
        """async ([name, images, noise]) => {
          const m = await drawlib.fetchModel(name + ".js", name), state = m.start();
          const image = new Float32Array(784);  // drawn upon, in place
          return images.map((pixels, t) => {
            image.set(pixels);
            return Array.from(m.step(state, image, noise[t]).canvas);
          });
        }""",
        [f"changing-{name}", x.flatten(1).tolist(), noise[0].tolist()],
    )
    state = model.start(1)
    for t in range(4):
        one = x[t : t + 1]
        state, _, _ = model.step(state, one, noise[:, t], model.fixed(one))
        expected = model.mean(state.canvas).detach().flatten().numpy()
        assert abs(np.array(found[t]) - expected).max() < CLOSE


@in_a_browser
def test_play_gives_the_page_its_turn_and_the_steps_of_run(opened):
    opened.add("played", some_model(SMALL["draw-attention"]))
    found = opened.page.evaluate(
        """async () => {
          const m = await drawlib.fetchModel("played.js", "played");
          const image = new Float32Array(784).fill(1), noise = drawlib.noise(3, 24);
          const last = steps => Array.from(steps[steps.length - 1].canvas);
          const at = [], told = [];
          let turns = 0, going = true;
          const tick = () => { turns++; if (going) setTimeout(tick, 0); };
          setTimeout(tick, 0);
          const played = await m.play({image, noise, budget: -1,
            onStep: (step, t) => { told.push(t); at.push(turns); }});
          going = false;
          const dreamt = await m.play({noise});
          const stop = new AbortController();
          const cut = await m.play({image, noise, signal: stop.signal,
            onStep: (_, t) => { if (t === 1) stop.abort(); }});
          return {same: [last(played), last(m.run(image, noise))], told, at,
                  dreamt: [last(dreamt), last(m.generate(noise))], cut: cut.length};
        }"""
    )
    assert found["same"][0] == found["same"][1]
    assert found["dreamt"][0] == found["dreamt"][1]
    assert (found["told"], found["cut"]) == ([0, 1, 2, 3], 2)
    assert found["at"] == sorted(set(found["at"]))  # others ran between all steps


@in_a_browser
def test_eq_9_and_the_seeded_noise(opened):
    opened.add("bits", some_model(SMALL["draw"]))
    x, logits = some_images(1, (1, 28, 28)), 20 * torch.randn(1, 1, 28, 28)
    found = opened.page.evaluate(
        """async ([x, logits]) => {
          const m = await drawlib.fetchModel("bits.js", "bits");
          return [m.logLikelihood(logits, x), Array.from(drawlib.noise(5, 20000)),
                  Array.from(drawlib.noise(5, 3)), Array.from(drawlib.noise(6, 3))];
        }""",
        [x.flatten().tolist(), logits.flatten().tolist()],
    )
    model = DRAW(SMALL["draw"]).double()
    expected = model.likelihood(logits.double(), x.double()).item()
    assert found[0] == pytest.approx(expected, rel=1e-6)
    # 8-bit levels, from both ends and both tails.
    opened.add("levels", some_model(SMALL["draw-cauchy-colour"]))
    colour = some_model(SMALL["draw-cauchy-colour"]).double()
    x = torch.randint(256, (1, 3, 9, 14)).double() / 255
    x[0, :, 0] = torch.tensor([0.0, 1.0]).repeat(7)
    logits = 8 * torch.randn(1, 3, 9, 14).double()
    priced = opened.page.evaluate(
        """async ([x, logits]) => {
          const m = await drawlib.fetchModel("levels.js", "levels");
          return m.logLikelihood(logits, Float32Array.from(x));
        }""",
        [x.flatten().tolist(), logits.flatten().tolist()],
    )
    expected = colour.likelihood(logits, x).item()
    assert priced == pytest.approx(expected, rel=1e-5)
    eps = np.array(found[1])
    assert abs(eps.mean()) < 0.03 and abs(eps.std() - 1) < 0.02
    assert abs((eps**4).mean() - 3) < 0.3
    assert abs(np.corrcoef(eps[:-1], eps[1:])[0, 1]) < 0.03
    assert found[2] == found[1][:3] and found[2] != found[3]
