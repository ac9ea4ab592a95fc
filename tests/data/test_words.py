"""Words as images: letters and back, splits, bad input, the census's list."""

import io
import json
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from drawlib.__main__ import main
from drawlib.data import download
from drawlib.data.download import DataError
from drawlib.data.own import alike
from drawlib.data.sets import Data, load_data
from drawlib.data.words import (
    ALPHABET,
    codes_of,
    divide,
    images_of,
    words_of,
)
from drawlib.results.runs import load_run

FIFTY = Path(__file__).parent / "words" / "fifty.txt"


def real() -> Data:
    """The census's surnames from a folder or the cache, or a skip."""
    try:
        return load_data("surnames", download=False)
    except DataError:
        pytest.skip("surnames is neither in DRAWLIB_DATA nor in the cache")


def lines(path: Path, *words: str) -> str:
    path.write_text("\n".join(words) + "\n", encoding="utf-8")
    return f"words:{path}"


def test_words_become_one_hot_images_and_come_back():
    words = FIFTY.read_text().split()
    images = images_of(codes_of(words))
    assert images.shape == (50, 27, 1, 13) and images.dtype == np.uint8
    assert (images.sum(1) == 1).all()
    assert words_of(torch.from_numpy(images)) == words
    after = images[0, 26, 0, len(words[0]) :]
    assert after.all() and not images[0, 26, 0, : len(words[0])].any()


def test_a_picture_of_certainties_reads_as_its_most_probable_letters():
    image = torch.full((1, 27, 1, 13), 0.01)
    for place, letter in enumerate("LEE"):
        image[0, ALPHABET.index(letter), 0, place] = 0.5
    image[0, 26, 0, 3] = 0.5
    image[0, 0, 0, 5:] = 0.5  # behind the end, nobody reads
    assert words_of(image) == ["LEE"]


def test_a_file_of_words_is_divided_by_a_seed_and_no_word_is_in_two_splits(tmp_path):
    words = FIFTY.read_text().split()
    name = lines(tmp_path / "w.txt", *words, words[0].lower(), "", words[1])
    data, again = load_data(name), load_data(name)
    assert [len(s) for s in (data.train, data.valid, data.test)] == [40, 5, 5]
    parts = [set(words_of(s.images)) for s in (data.train, data.valid, data.test)]
    assert set.union(*parts) == set(words) and sum(map(len, parts)) == 50
    assert torch.equal(data.test.images, again.test.images)
    assert data.sha256 == again.sha256
    assert "2 words that came again were left out" in str(data.protocol)
    assert data.likelihood == "categorical" and data.image_shape == (27, 1, 13)
    data.check("train", "valid", "test", likelihood="categorical")


def test_a_folder_keeps_its_splits_and_words_in_two_of_them_are_counted(tmp_path):
    words = FIFTY.read_text().split()
    lines(tmp_path / "train.txt", *words[:40])
    lines(tmp_path / "valid.txt", *words[40:45], words[0])
    lines(tmp_path / "test.txt", *words[45:], words[1].lower(), words[2])
    data = load_data(f"words:{tmp_path}")
    assert [len(s) for s in (data.train, data.valid, data.test)] == [40, 6, 7]
    said = "1 validation and 2 test words are training words too"
    assert said in str(data.protocol)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["ABBA", "ABCDEFGHIJKLMN"], "word 2 is 'ABCDEFGHIJKLMN'; allowed: 2 to 13"),
        (["ABBA", "B"], "word 2 is 'B'; allowed: 2 to 13 letters"),
        (["O'HARA"], 'word 1 is "O\'HARA"; allowed: the letters A to Z'),
        (["MÜLLER"], "word 1 is 'MÜLLER'; allowed: the letters A to Z"),
        (["straße"], "word 1 is 'straße'; allowed: the letters A to Z"),
        (["DE LA"], "word 1 is 'DE LA'; allowed: the letters A to Z"),
        (["", " "], "holds no words; allowed: one word per line"),
        (["AB", "AC", "AB"], "holds 2 different words, none for valid; allowed: 10"),
    ],
)
def test_bad_words_are_answered_in_one_line_with_their_place(words, reason, tmp_path):
    with pytest.raises(DataError) as error:
        load_data(lines(tmp_path / "w.txt", *words))
    assert reason in str(error.value) and "\n" not in str(error.value)
    assert "w.txt" in str(error.value)


def test_a_file_that_is_not_there_or_no_text_is_answered_in_one_line(tmp_path):
    with pytest.raises(DataError, match="none.txt cannot be read as text: no such"):
        load_data(f"words:{tmp_path / 'none.txt'}")
    with pytest.raises(DataError, match="cannot be read as text: embedded null byte"):
        load_data("words:a\0b")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("ANNA\nBERTA\n".encode("utf-16"), "is text in UTF-16; allowed: UTF-8"),
        ("ANNA\nBERTA\n".encode("utf-16-le"), "is text in UTF-16; allowed: UTF-8"),
        ("ANNA\nMÜLLER\n".encode("latin-1"), "no text in UTF-8 (byte 0xdc in line 2)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><p>404", "a page of HTML"),
        (b"\x1f\x8b\x08abc", "compressed with gzip"),
    ],
)
def test_what_lies_in_place_of_words_is_named(content, told, tmp_path):
    path = tmp_path / "w.txt"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        load_data(f"words:{path}")
    assert told in str(error.value) and "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n \n\t\n\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_ends_of_lines_blank_ones_and_a_mark_make_no_other_words(end, mark, tmp_path):
    path = tmp_path / "w.txt"
    words = FIFTY.read_text().split()
    path.write_bytes(mark + end.join(words).encode())
    found, plain = load_data(f"words:{path}"), load_data(f"words:{FIFTY}")
    assert found.sha256 == plain.sha256


def test_records_and_pages_of_words_name_the_file_and_no_folder(tmp_path, capsys):
    """A folder's path says who somebody is; the content's hash says which words."""
    run, root = tmp_path / "private" / "run", tmp_path / "records"
    words = tmp_path / "private" / "names.txt"
    run.parent.mkdir()
    words.write_bytes(FIFTY.read_bytes())
    train = ["train", "draw:tiny", "--data", f"words:{words}", "--run-dir", str(run)]
    assert main([*train, "--train.epochs", "1"]) == 0
    assert main(["evaluate", str(run)]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    data = load_data(f"words:{words}")
    assert (
        data.name
        == f"words:names.txt (split 80/10/10, 50 words, {data.sha256['content'][:8]})"
    )
    assert told.startswith(f"{data.name} test, 5 words, K 1: ") and "image" not in told
    few = ["--samples", "2", "--images", "4"]
    assert main(["record", str(run), "--row", "x", "--root", str(root), *few]) == 0
    (record,) = root.rglob("*.json")
    values = json.loads(record.read_text(encoding="utf-8"))
    assert values["protocol"] == data.name
    page = tmp_path / "page.html"
    assert main(["page", str(run), "--out", str(page), "--images", "2"]) == 0
    for text in (str(record), record.read_text("utf-8"), page.read_text("utf-8")):
        assert "private" not in text
    # The file may be moved: its words are the same ones.
    there = tmp_path / "elsewhere.txt"
    words.rename(there)
    capsys.readouterr()
    assert main(["evaluate", str(run), "--data", f"words:{there}"]) == 0
    assert main([*train[:3], f"words:{there}", *train[4:], "--train.epochs", "1"]) == 0


def test_a_training_on_words_goes_on_from_a_checkpoint_that_names_their_path():
    old, new = (
        "words:/home/me/names.txt",
        "words:names.txt (split 80/10/10, 9 words, 0)",
    )
    assert alike(old, new) and not alike("surnames", new)
    assert not alike("folder:a (1x1, 3 images)", new)


def test_images_that_are_no_words_are_refused_under_the_categorical_likelihood():
    data = load_data(f"words:{FIFTY}")
    images = data.train.images.clone()
    images[0, :, 0, 3] = 0
    bad = replace(data, train=replace(data.train, images=images))
    with pytest.raises(ValueError, match="places with no channel or several"):
        bad.check("train", likelihood="categorical")


def test_a_draw_is_trained_on_a_file_of_words_and_writes_some(tmp_path, capsys):
    """Its sizes and its likelihood are those of the words; a sample is text."""
    run, out = tmp_path / "run", tmp_path / "samples.txt"
    train = ["train", "draw:tiny", "--data", f"words:{FIFTY}", "--run-dir", str(run)]
    small = ["--model.stop", "uniform", "--train.epochs", "1"]
    assert main([*train, *small]) == 0
    made, model = load_run(run)
    assert model.image_shape == (27, 1, 13) and made.model.stop == "uniform"
    assert model.config.likelihood == "categorical"
    capsys.readouterr()
    assert main(["sample", str(run), "--n", "3", "--out", str(out)]) == 0
    assert len(out.read_text().split("\n")) == 4
    assert "the likeliest letters: " in capsys.readouterr().out
    assert main([*train, "--image.size", "1x13"]) == 1
    told = capsys.readouterr().err
    assert "--image was given with the data words:" in told


# The census's list


def listed(*names: str) -> bytes:
    rows = [f"{name:14} 1.006  1.006 {i:6}" for i, name in enumerate(names, 1)]
    return ("\n".join(rows) + "\n").encode()


def archive(text: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo("names-0.3.0/names/dist.all.last")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    return out.getvalue()


def test_the_list_is_read_alone_or_in_the_package(tmp_path):
    (tmp_path / "dist.all.last").write_bytes(listed("SMITH", "LEE"))
    (tmp_path / "names-0.3.0.tar.gz").write_bytes(archive(listed("SMITH", "LEE")))
    for name in ("dist.all.last", "names-0.3.0.tar.gz"):
        found = download.formats.surnames({name: tmp_path / name})["letters"]
        assert np.array_equal(found, codes_of(["SMITH", "LEE"]))


def test_an_altered_list_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAWLIB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "dist.all.last").write_bytes(listed("SMITH", "LEE"))
    with (
        pytest.warns(UserWarning, match="dist.all.last: sha256 b0e2b374"),
        pytest.raises(DataError, match="dist.all.last: sha256 b0e2b374"),
    ):
        load_data("surnames", tmp_path, download=False)


def test_pip_is_asked_for_the_package_by_its_hash(tmp_path, monkeypatch):
    """A source package runs code when pip asks for its metadata: only the genuine."""
    asked = []

    def run(command, **_):
        asked.append(Path(command[-1]).read_text())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    package = download._RECIPES["surnames"].package
    download._pip_download(tmp_path, package)
    assert asked == [f"names==0.3.0 --hash=sha256:{package.sha256}\n"]


def test_surnames_have_2_to_13_letters_and_250_were_cut_at_13():
    """Of Alexandropoulos the list holds 13 letters."""
    data = real()
    words = [words_of(s.images) for s in (data.train, data.valid, data.test)]
    everything = sum(words, [])
    lengths = np.bincount([len(w) for w in everything])
    assert lengths[13] == 250 and len(lengths) == 14 and lengths[:2].sum() == 0
    assert "ALEXANDROPOUL" in everything and "ALEXANDROPOULOS" not in everything
    assert len(everything) == len(set(everything)) == 88_799


def test_the_split_of_the_surnames_is_known():
    """It changes only if the draw changes, and then every number does."""
    data = real()
    assert words_of(data.test.images[:3]) == ["WILLIAMS", "GONZALEZ", "TURNER"]


def test_divide_is_the_same_for_the_same_words_and_keeps_their_order():
    codes = codes_of(FIFTY.read_text().split())
    parts = divide(codes)
    assert np.array_equal(parts["test"], divide(codes)["test"])
    where = [int((codes == row).all(1).argmax()) for row in parts["train"]]
    assert where == sorted(where)
