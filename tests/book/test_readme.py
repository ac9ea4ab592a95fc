"""The README and *Running it big*: short, and what they say can be done can be done."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_runs import use_toy_data

from drawlib import __main__ as cli
from drawlib.pages import animation

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIG = (ROOT / "book" / "running-big.md").read_text(encoding="utf-8")
PICTURE = re.compile(r"<!-- python -m drawlib (animate .+) -->\n!\[(.+)\]\((.+)\)\n")


def blocks(text: str, language: str = "") -> list[str]:
    """The code blocks of a page in one language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.M | re.S)
    return [block for name, block in found if name == language]


def commands(text: str) -> list[list[str]]:
    """The arguments of each ``drawlib`` command in the blocks of a page."""
    joined = "\n".join(blocks(text) + blocks(text, "bash")).replace("\\\n", " ")
    found = re.findall(r"-m drawlib +(.+)", joined)
    return [shlex.split(line, comments=True) for line in found]


def understood(arguments: list[str], monkeypatch) -> object:
    """The options of a command as it reads them; nothing is run."""

    class Parsed(Exception):
        pass

    def stop(*given):
        raise Parsed(parse(*given))

    parse = cli.parse
    with monkeypatch.context() as patch:
        patch.setattr(cli, "parse", stop)
        with pytest.raises(Parsed) as caught:
            cli.COMMANDS[arguments[0]](arguments[1:])
    return caught.value.args[0]


def test_readme_is_short():
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("text", [README, BIG], ids=["README", "running-big"])
def test_every_command_is_understood(text, monkeypatch):
    found = commands(text)
    assert len(found) >= 6
    for arguments in found:
        understood(arguments, monkeypatch)
    with pytest.raises(ValueError, match="--sedes"):
        understood(["reproduce", "--sedes", "0"], monkeypatch)


def test_every_make_target_exists():
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    for text in (README, BIG):
        named = set(re.findall(r"(?:`|^)make ([a-z][\w-]*)", text, flags=re.M))
        assert named
        for target in named:
            assert re.search(rf"^{target}:", rules, flags=re.M), target


def test_every_file_that_is_named_exists():
    # What the reader makes, and what stands in .venv, is not there yet.
    made = ("runs/", ".venv", "http")
    for page, text in ((ROOT / "README.md", README), (ROOT / "book" / "x", BIG)):
        linked = re.findall(r"\]\(([^)#]+)\)", text)
        named = re.findall(r"`((?:drawlib|tests|tools|book|notebooks)/[\w/.-]*)`", text)
        paths = [page.parent / name for name in linked if not name.startswith(made)]
        paths += [ROOT / name for name in named]
        assert paths
        for path in paths:
            assert path.exists(), path


def test_python_of_the_readme_trains_and_measures(tmp_path, monkeypatch, capsys):
    (code,) = blocks(README, "python")
    assert len([line for line in code.splitlines() if line]) == 5
    use_toy_data(monkeypatch.setattr, side=28)
    monkeypatch.setattr("drawlib.load_data", cli.load_data)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert "−ELBO" in capsys.readouterr().out
    assert (tmp_path / "runs" / "from-python").is_dir()


# The picture on top


def test_picture_is_light_moves_and_says_in_words_what_it_shows():
    found = PICTURE.search(README)
    assert found and README.index(found[0]) < 100
    command, alt, path = found.groups()
    assert command.endswith(f" --out {path}")
    picture = ROOT / path
    assert picture.stat().st_size < 300_000
    assert animation.beside(picture).read_text(encoding="utf-8") == f"{alt}\n"
    with Image.open(picture) as film:
        assert film.n_frames == 64


@pytest.mark.slow
def test_picture_is_what_its_command_makes(mnist_dynamic, tmp_path):
    command, alt, path = PICTURE.search(README).groups()
    made = tmp_path / "draw.gif"
    arguments = shlex.split(command)[:-1] + [str(made)]
    assert cli.main(arguments) == 0
    assert animation.beside(made).read_text(encoding="utf-8") == f"{alt}\n"
    with Image.open(made) as ours, Image.open(ROOT / path) as theirs:
        assert (ours.size, ours.n_frames) == (theirs.size, theirs.n_frames)
        for frame in (0, 31, 63):
            ours.seek(frame)
            theirs.seek(frame)
            pair = [
                np.array(film.convert("RGB")).astype(int) for film in (ours, theirs)
            ]
            # Another processor rounds differently; a window may move by a pixel.
            assert abs(pair[0] - pair[1]).mean() < 2


# Running it big


def test_scripts_for_clusters_are_a_shell_s_and_python_s():
    scripts = blocks(BIG, "bash")
    assert any("#SBATCH" in script for script in scripts)
    bash = shutil.which("bash")
    for script in scripts if bash else ():
        done = subprocess.run(
            [bash, "-n"], input=script, text=True, capture_output=True
        )
        assert (done.returncode, done.stderr) == (0, "")
    python = blocks(BIG, "python")
    assert ["SLURMCluster" in code for code in python] == [True, False]
    for code in python:
        compile(code, "running-big.md", "exec")


def test_options_of_dask_are_those_that_it_has():
    cli_of = pytest.importorskip("distributed.cli.dask_worker")
    options = {name for option in cli_of.main.params for name in option.opts}
    used = re.findall(r"dask worker .*", BIG) + re.findall(r"extra_args=\[.*\]", BIG)
    named = {name for line in used for name in re.findall(r"--[a-z-]+", line)}
    assert named and named <= options
