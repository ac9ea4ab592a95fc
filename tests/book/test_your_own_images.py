"""The page *Your own images*: its commands run as they stand, from an empty folder."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from drawlib.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "book" / "your-own-images.md").read_text(encoding="utf-8")
JOINED = TEXT.replace("\\\n", " ")
COMMANDS = re.findall(r"^python -m drawlib (.+)$", JOINED, flags=re.MULTILINE)
PYTHON = re.findall(r"^```python\n(.+?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_every_command_of_the_page_does_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shapes, arrays = PYTHON
    # A tenth of the pictures and of the epochs: what runs is the same.
    exec(shapes.replace("range(500)", "range(60)"), {})
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] == "train":
            words[words.index("--train.epochs") + 1] = "2"
        assert main(words) == 0, command
    out = capsys.readouterr().out
    assert "shapes: 60 grey images of 28x28, 3 classes (" in out
    assert "split 80/10/10 by class, seed 0: 48, 6 and 6" in out
    assert "folder:shapes (28x28 grey" in out and "K 50" in out
    for name in ("shapes.png", "shapes.gif", "shapes.html"):
        assert (tmp_path / name).stat().st_size > 1000
    done = subprocess.run(
        [sys.executable, "-c", arrays], capture_output=True, text=True, check=True
    )
    assert "60 grey images of 20x36; bits by a threshold at half" in done.stdout


def test_the_page_names_every_option_and_command():
    for option in ("size", "fit", "colour", "binarise", "seed"):
        assert f"--image.{option}" in TEXT
    told = [command.split()[0] for command in COMMANDS]
    assert told == ["data", "train", "train", "evaluate", "sample", "animate", "page"]
