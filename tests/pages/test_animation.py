"""Animations: their frames, windows, words and sizes, and one line for each mistake."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_runs import toy_data, use_toy_data

from drawlib.__main__ import main
from drawlib.conv_draw import ConvDRAW, ConvDRAWConfig
from drawlib.data.sets import stratified_subset
from drawlib.draw import DRAW, DRAWConfig
from drawlib.glas import GLAS, GLASConfig
from drawlib.ladder import LadderConfig, LadderVAE
from drawlib.pages import animation, explorer
from drawlib.plots import PALETTE
from drawlib.trace import Trace, Windows
from drawlib.vae import VAE, VAEConfig

BLUE, VERMILLION, GREEN = (
    tuple(bytes.fromhex(PALETTE[name][1:])) for name in ("blue", "vermillion", "green")
)
SVG = "{http://www.w3.org/2000/svg}"


def tiny(**changes: object) -> DRAW:
    torch.manual_seed(0)
    return DRAW(DRAWConfig.preset("tiny", **{"attention": "gaussian", **changes}))


def opened(made: animation.Animation) -> list[tuple[np.ndarray, int]]:
    """The frames of a GIF as it is read back, and how long each stands, in ms."""
    film = Image.open(io.BytesIO(made.gif()))
    frames = []
    for k in range(film.n_frames):
        film.seek(k)
        frames.append((np.array(film.convert("RGB")), film.info["duration"]))
    assert film.info["loop"] == 0
    return frames


def coloured(picture: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    """Rows and columns of the pixels of one colour."""
    return np.argwhere((picture == colour).all(-1))


def one_window(T: int = 2, low: float = 8, high: float = 19, sigma: float = 1) -> Trace:
    """A trace whose read window is known; the write window lies 2 pixels lower."""
    images = torch.zeros(1, 1, 28, 28)
    mu = torch.tensor([low, high]).expand(T, 1, 2)
    wide = torch.full((T, 1), sigma)
    read, write = Windows(mu, mu, wide, wide), Windows(mu, mu + 2, wide, wide)
    canvases = images.expand(T, 1, 1, 28, 28)
    return Trace(images, read, write, None, None, canvases, canvases, torch.ones(1, T))


# What is seen


@pytest.mark.parametrize("dream", [True, False])
def test_gif_has_a_frame_a_step_and_a_pause_before_it_begins_anew(dream):
    model = tiny(T=6)
    seen = model.trace(torch.ones(3, 1, 28, 28))
    made = explorer.animation(model if dream else seen, 3, fps=5)
    durations = [duration for _, duration in opened(made)]
    assert durations == [200] * 5 + [2200]
    assert made.steps == (1, 2, 3, 4, 5, 6)


def test_steps_in_which_nothing_changes_are_frames_too():
    """Pillow joins equal frames; the number of the step keeps them apart."""
    frames = opened(explorer.animation(one_window(T=12)))
    assert len(frames) == 12
    first = frames[0][0][20:]  # below the number nothing changes
    assert all(np.array_equal(frame[20:], first) for frame, _ in frames)


def test_windows_lie_where_the_trace_has_them():
    made = explorer.animation(one_window(), scale=4)
    for picture, _ in opened(made):
        x, canvas = (coloured(picture, c) for c in (BLUE, VERMILLION))
        cells = made.sheet([0]).cells
        for found, cell, lower in ((x, cells[0], 0), (canvas, cells[1], 2)):
            corners = np.array([found.min(0), found.max(0)]) - (cell.top, cell.left)
            # Centres 8 and 19 are the middles of those pixels, 4 × 4 on the screen;
            # the line, 2 thick, runs along them.
            expected = 4 * (np.array([[8, 8], [19, 19]]) + 0.5) + (4 * lower, 0)
            assert abs(corners - expected).max() <= 1.5, (corners, expected)


def test_line_is_thicker_where_the_filters_are_wider():
    thick = []
    for sigma in (0.5, 2.0, 40.0):
        made = explorer.animation(one_window(sigma=sigma), scale=4)
        thick.append(made.sheet([0]).cells[0].thick)
    assert thick == [2, 4, 6]


def test_window_is_cut_where_its_picture_ends():
    made = explorer.animation(one_window(low=-9, high=14), scale=4)
    cell = made.sheet([0]).cells[0]
    found = coloured(opened(made)[0][0], BLUE)
    assert len(found)
    assert found.min(0)[0] >= cell.top and found.min(0)[1] >= cell.left


def test_model_without_attention_has_no_windows():
    model = tiny(attention="none")
    for source in (model, model.trace(torch.ones(2, 1, 28, 28))):
        made = explorer.animation(source, 2)
        for picture, _ in opened(made):
            assert not len(coloured(picture, BLUE)) + len(coloured(picture, VERMILLION))
        assert "window" not in made.alt


def test_dream_is_what_the_model_generates():
    model = tiny()
    made = explorer.animation(model, 2, seed=3, scale=1)
    noise = model.noise(2, torch.Generator().manual_seed(3))
    expected = model.generate_steps(2, noise=noise)
    torch.testing.assert_close(made.rows[0].images, expected)
    states = list(model.dream(noise))
    where = torch.stack([model.write_window(s.h_dec).mu_x for s in states])
    torch.testing.assert_close(made.rows[0].windows.mu_x, where)


def test_conv_draw_is_shown_growing_and_without_windows():
    model = ConvDRAW(ConvDRAWConfig.preset("tiny"))
    made = explorer.animation(model, 2, seed=3, scale=1)
    noise = model.noise(2, torch.Generator().manual_seed(3))
    expected = model.generate_steps(2, noise=noise)
    torch.testing.assert_close(made.rows[0].images, expected)
    assert made.rows[0].windows is None and len(opened(made)) == model.config.T


def test_glas_shows_its_latent_space_as_large_as_the_images():
    model = GLAS(GLASConfig.preset("tiny"))
    made = animation.redrawing_of(model, toy_data(side=28), 2)
    cells = made.sheet([0]).cells
    assert [c.size for c in cells[:3]] == [(112, 112), (112, 112), (108, 108)]
    space = made.rows[2].images[0, 0, 0]
    assert (space.min(), space.max()) == (0, 1)
    assert "a green window shows where it is read" in made.alt
    assert any(len(coloured(picture, GREEN)) for picture, _ in opened(made))
    plain = GLAS(GLASConfig.preset("tiny", latent_attention="none"))
    assert len(animation.redrawing_of(plain, toy_data(side=28), 2).rows) == 2


def test_colour_images_keep_their_colours():
    model = tiny(image_shape=(3, 20, 36), likelihood="discretised-logistic")
    x = torch.zeros(2, 3, 20, 36)
    x[0, 0], x[1, 2] = 0.9, 0.9
    made = explorer.animation(model.trace(x), scale=3)
    picture, _ = opened(made)[0]
    for k, colour in ((0, (230, 0, 0)), (1, (0, 0, 230))):
        cell = made.sheet([0]).cells[2 * k]
        assert cell.size == (108, 60)
        middle = picture[cell.top + 50, cell.left + 100].astype(int)
        assert abs(middle - colour).max() < 12


@pytest.mark.parametrize(
    ("shape", "scale"), [((28, 28), 4), ((6, 6), 19), ((20, 200), 1)]
)
def test_size_is_sensible_where_none_is_given(shape, scale):
    made = explorer.animation(tiny(image_shape=(1, *shape), read=2, write=3), 3)
    width, height = made.sheet([0]).size
    assert made.scale == scale
    assert made.sheet([0]).cells[0].size == (shape[1] * scale, shape[0] * scale)
    assert width % 2 == height % 2 == 0  # as a film needs them


def test_fewer_frames_hold_the_first_and_the_last_step():
    model = tiny(T=10)
    assert explorer.animation(model, frames=4).steps == (1, 4, 7, 10)
    assert explorer.animation(model, frames=1).steps == (10,)


# In words


def test_description_says_what_there_is_to_see():
    model, data = tiny(), toy_data(side=28)
    made = animation.redrawing_of(model, data, 3, name="mine")
    chosen = stratified_subset(data.test, 3, 0)
    labels = ", ".join(str(int(label)) for label in data.test.labels[chosen])
    assert made.alt.startswith(
        f"mine looks at 3 test images of mnist-dynamic (labels {labels}) and draws "
        "them again in 4 steps. Above stands x; a blue window shows where it is read. "
        "Below, the canvas is seen growing; a vermillion window shows where it is "
        "written. The KL of all steps is "
    )
    x = data.binarise(data.test.images[chosen], split="test")
    torch.testing.assert_close(made.rows[0].images[0], x)
    kl = model(x, generator=torch.Generator().manual_seed(0)).kl.sum(1).mean()
    nats = re.search(r"KL of all steps is ([\d.]+) nats per image", made.alt)
    assert nats and float(nats[1]) == pytest.approx(float(kl.detach()), abs=0.051)
    assert explorer.animation(model, 1).alt.startswith("The model draws 1 image of")


def test_description_names_images_of_one_s_own_by_their_folder_alone():
    data = replace(toy_data(side=28), name="folder:a (28x28 grey, seed 0, 4f26c3ae)")
    made = animation.redrawing_of(tiny(), data, 1)
    start = r"The model looks at 1 test image of folder:a \(label [01]\) and draws it "
    assert re.match(start, made.alt)


def test_notebook_shows_an_image_with_its_words_and_a_still_for_no_motion():
    made = explorer.animation(tiny(), 2, name='"a" <b>')
    text = made._repr_html_()
    assert 'alt="&quot;a&quot; &lt;b&gt; draws 2 images' in text
    assert "<b>" not in text and "http" not in text
    assert 'media="(prefers-reduced-motion: reduce)" srcset="data:image/png' in text
    assert "data:image/gif;base64," in text
    assert repr(made) == "<animation of 4 steps>"


# Files


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run directory of a small DRAW, trained for one epoch."""
    run = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        use_toy_data(patch.setattr, side=28)
        small = ["--train.epochs", "1", "--train.batch-size", "32", "--model.T", "10"]
        window = ["--model.attention", "gaussian", "--run-dir", str(run)]
        assert main(["train", "draw:tiny", *small, *window]) == 0
    return run


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A folder to write into, with the run in it and toy data under every name."""
    use_toy_data(monkeypatch.setattr, side=28)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path


def test_command_writes_the_same_bytes_for_the_same_seed_and_says_what_they_show(
    run, capsys
):
    for name in ("a.gif", "b.gif"):
        assert main(["animate", "run", "--out", name, "--n", "2"]) == 0
    told = capsys.readouterr().out
    assert (run / "a.gif").read_bytes() == (run / "b.gif").read_bytes()
    alt = (run / "a.gif.txt").read_text(encoding="utf-8")
    assert alt.startswith("run looks at 2 test images of mnist-dynamic (labels ")
    assert alt in told and "these words stand in a.gif.txt" in told
    assert main(["animate", "run", "--out", "c.gif", "--n", "2", "--seed", "1"]) == 0
    assert (run / "a.gif").read_bytes() != (run / "c.gif").read_bytes()
    with Image.open(run / "a.gif") as film:
        assert film.n_frames == 10


def test_strips_have_a_column_a_step_and_a_line_an_image(run, capsys):
    for name, more in (("s.png", []), ("s.svg", []), ("t.svg", ["--frames", "3"])):
        command = ["animate", "run", "--out", name, "--images", "2", "--scale", "2"]
        assert main([*command, *more]) == 0
    root = ET.parse(run / "s.svg").getroot()
    assert root.find(f"{SVG}title").text + "\n" == (run / "s.svg.txt").read_text(
        "utf-8"
    )
    images = root.findall(f".//{SVG}image")
    assert len(images) == 8 * 2 * 2  # steps, images, x and canvas
    assert len(ET.parse(run / "t.svg").getroot().findall(f".//{SVG}image")) == 3 * 4
    strokes = [r.get("stroke") for r in root.findall(f".//{SVG}rect")]
    for name in ("blue", "vermillion"):
        assert strokes.count(PALETTE[name]) == 8 * 2
    with Image.open(run / "s.png") as strip:
        picture = np.array(strip)
    assert picture.shape[1] == int(root.get("width")) == 6 + 8 * (6 + 2 * 28)
    assert picture.shape[0] == int(root.get("height"))
    assert len(coloured(picture, BLUE)) and len(coloured(picture, VERMILLION))


FAKE = """#!{python}
import sys
from pathlib import Path
read = sys.stdin.buffer.read()
Path({beside!r}).write_text(" ".join(sys.argv[1:]) + f" {{len(read)}}")
Path(sys.argv[-1]).write_bytes(b"film")
{end}
"""


def fake_ffmpeg(folder: Path, monkeypatch, end: str = "") -> Path:
    """A program of this name that notes what it was given."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "ffmpeg"
    given = folder / "given"
    program.write_text(FAKE.format(python=sys.executable, beside=str(given), end=end))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"))
    return given


@pytest.mark.skipif(os.name == "nt", reason="a script is no program there")
def test_film_gets_every_frame_and_the_pause(tmp_path, monkeypatch):
    given = fake_ffmpeg(tmp_path, monkeypatch)
    made = explorer.animation(tiny(), 2, fps=5)
    animation.save(made, tmp_path / "a.MP4")
    assert (tmp_path / "a.MP4").read_bytes() == b"film"
    width, height = made.sheet([0]).size
    told = given.read_text()
    assert f"-s {width}x{height} -r 5 " in told
    assert int(told.split()[-1]) == (4 + 2 * 5) * width * height * 3


@pytest.mark.skipif(os.name == "nt", reason="a script is no program there")
def test_what_ffmpeg_complains_of_is_told_in_one_line(tmp_path, monkeypatch):
    end = "sys.stderr.write('no such codec\\nmore'); sys.exit(3)"
    fake_ffmpeg(tmp_path, monkeypatch, end)
    with pytest.raises(ValueError, match="^ffmpeg failed: no such codec; a .gif needs"):
        animation.save(explorer.animation(tiny(), 2), tmp_path / "a.mp4")
    assert not (tmp_path / "a.mp4").exists()


@pytest.mark.skipif(os.name == "nt", reason="a script is no program there")
@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("#!/bin/sh\nexit 1\n", "exit status 1"),
        ("#!/bin/sh\nkill -9 $$\n", "exit status -9"),
        ("#!/bin/sh\nexit 0\n", "it wrote no file"),
        ("no program", "exec format error"),
        ("#!/no/such/shell\n", "no such file"),
        ("#!/bin/sh\nsleep 20\n", "it did not end"),
    ],
)
def test_an_ffmpeg_that_is_there_and_does_not_work_is_told(
    script, told, tmp_path, monkeypatch
):
    fake_ffmpeg(tmp_path, monkeypatch)
    (tmp_path / "bin" / "ffmpeg").write_text(script)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    monkeypatch.setattr(animation, "PATIENCE", 1.0)
    with pytest.raises(ValueError) as error:
        animation.save(explorer.animation(tiny(), 2), tmp_path / "a.mp4")
    assert str(error.value).startswith("ffmpeg failed: ") and told in str(error.value)
    assert str(error.value).endswith("; a .gif needs no ffmpeg")
    assert "\n" not in str(error.value) and not (tmp_path / "a.mp4").exists()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg was found")
def test_film_of_a_real_ffmpeg_is_one(tmp_path):
    made = explorer.animation(tiny(), 2)
    first, second = made.mp4(), made.mp4()
    assert first == second and first[4:8] == b"ftyp"


# One line for every mistake


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "no record 'nowhere'; with weights: "),
        (["run", "--out", "a.webp"], "a name that ends in .gif, .mp4, .png, .svg"),
        (["run", "--out", "a"], "a name that ends in .gif"),
        (["run", "--out", "no/a.gif"], "no/a.gif: there is no folder no"),
        (["run", "--out", "a.mp4"], "needs ffmpeg, which is not found; allowed: .gif"),
        (
            ["mnist-dynamic/vae-source-0"],
            "a VAE, which adds to no canvas; allowed: DRAW",
        ),
        (["mnist-dynamic/diffusion-0"], "a Diffusion, which adds to no canvas; "),
        (["run", "--n", "0"], "a subset of 0 asked for, allowed: 1 to 20"),
        (["run", "--n", "21"], "a subset of 21 asked for, allowed: 1 to 20"),
        (["run", "--dream", "--n", "0"], "noise for 0 images was asked for"),
        (
            ["run", "--dream", "--n", "300"],
            "300 images at scale 4 in 10 frames are too",
        ),
        (["run", "--frames", "0"], "frames is 0; allowed: 1 to 10"),
        (["run", "--frames", "11"], "frames is 11; allowed: 1 to 10"),
        (["run", "--scale", "0"], "scale is 0; allowed: 1 or more"),
        (["run", "--fps", "0"], "fps is 0; allowed: 1 to 50"),
        (["run", "--fps", "51"], "fps is 51; allowed: 1 to 50"),
        (["run", "--seed", "-1"], "seed is -1"),
        (["run", "--dream", "--data", "mnist-fixed"], "for a dream; allowed: none"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_no_file(
    run, capsys, monkeypatch, arguments, told
):
    monkeypatch.setenv("PATH", "")
    assert main(["animate", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("drawlib: ") and said.count("\n") == 1, said
    assert told in said.replace("\\\\", "/")
    assert [path.name for path in run.iterdir()] == ["run"]


def test_other_models_are_told_what_is_allowed():
    for model in (
        VAE(VAEConfig.preset("tiny")),
        LadderVAE(LadderConfig.preset("tiny")),
    ):
        with pytest.raises(ValueError, match="adds to no canvas; allowed: DRAW, GLAS"):
            explorer.animation(model)


def test_a_gif_too_large_for_a_notebook_is_refused(monkeypatch):
    monkeypatch.setattr(explorer, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="bytes; allowed: at most 1,000, take fewer"):
        explorer.animation(tiny(), 2)


def test_images_of_another_likelihood_are_refused():
    model = tiny(likelihood="discretised-logistic")
    with pytest.raises(ValueError, match="likelihood"):
        animation.redrawing_of(model, toy_data(side=28), 2)


def test_a_model_of_another_type_looks_at_images_of_its_type():
    model = tiny().double()
    made = animation.redrawing_of(model, toy_data(side=28), 1)
    assert made.rows[1].images.dtype == torch.float64
