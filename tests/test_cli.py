"""The command line: the five commands end to end, and one line for every mistake."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_runs import toy_data, use_toy_data

from drawlib import __main__ as cli
from drawlib import annealing
from drawlib.__main__ import COMMANDS, main
from drawlib.data.protocols import DATASETS
from drawlib.draw import DRAW
from drawlib.evaluation import evaluate
from drawlib.machine.progress import progress_bar
from drawlib.pages.web import describe
from drawlib.results.runs import load_run
from drawlib.results.zoo import load_weights, save_weights
from drawlib.training import train as trainer

TINY = ["train", "vae:tiny", "--train.epochs", "1", "--train.batch-size", "16"]


@pytest.fixture
def toy(monkeypatch):
    """28×28 toy images under every data set's name."""
    use_toy_data(monkeypatch.setattr, side=28)


@pytest.fixture
def trained(tmp_path, toy, capsys):
    """A finished run directory."""
    assert main([*TINY, "--run-dir", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    return tmp_path / "run"


# What works


@pytest.fixture
def few(tmp_path, capsys):
    """A run on 12 images: a single one is for test."""
    images = np.zeros((12, 6, 6), np.uint8)
    images[::2, 2:4] = 255
    images[:, 0, 0] = np.arange(12) * 20
    np.save(tmp_path / "few.npy", images)
    data = ["--data", f"npy:{tmp_path / 'few.npy'}", "--train.epochs", "1"]
    assert main(["train", "draw:tiny", *data, "--run-dir", str(tmp_path / "few")]) == 0
    capsys.readouterr()
    return tmp_path / "few"


def test_a_record_of_a_single_test_image_is_told_without_an_error(few, capsys):
    """A standard error of one image is no number: the record was there, exit 1."""
    root = ["--root", str(few.parent / "records")]
    assert main(["record", str(few), "--row", "x", "--samples", "2", *root]) == 0
    told = capsys.readouterr().out
    assert re.search(r" test, 1 image: −ELBO \d+\.\d\d nats\n", told), told


def test_pictures_of_fewer_test_images_than_usual_show_all_of_them(few, capsys):
    """The four that nobody asked for were more than the test split had."""
    gif, page = few.parent / "a.gif", few.parent / "a.html"
    assert main(["animate", str(few), "--out", str(gif)]) == 0
    assert main(["page", str(few), "--out", str(page)]) == 0
    assert "looks at 1 test image of" in capsys.readouterr().out
    told = one_line(capsys, ["animate", str(few), "--out", str(gif), "--images", "4"])
    assert "a subset of 4 asked for, allowed: 1 to 1 images" in told


needs_pipes = pytest.mark.skipif(
    os.name == "nt", reason="a closed pipe is another error there"
)


@pytest.fixture
def unread():
    """The end of a pipe that nobody reads any more."""
    theirs, ours = os.pipe()
    os.close(theirs)
    return ours


@needs_pipes
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("what", [["data"], [], ["--help"], ["train", "--help"]])
def test_a_reader_that_leaves_early_is_no_complaint(
    at_once, what, unread, monkeypatch, capsys
):
    stdout = open(unread, "w", encoding="utf-8")
    stdout.reconfigure(write_through=at_once)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        assert main(what) == 141
    stdout.write("more")
    stdout.close()  # as Python does at its end
    assert capsys.readouterr().err == ""


@needs_pipes
@pytest.mark.parametrize("command", ["-u -m drawlib data", "-m drawlib train --help"])
def test_a_process_whose_reader_leaves_early_complains_of_nothing(command, unread):
    done = subprocess.run(
        [sys.executable, *command.split()],
        stdout=unread,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(unread)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_closed_output_is_no_complaint(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["data"]) == 0


def test_a_closed_standard_error_ends_no_work(monkeypatch):
    """The bar had nowhere to write, and its AttributeError nowhere to be read."""
    monkeypatch.setattr(sys, "stderr", None)
    assert list(progress_bar(range(3), "steps")) == [0, 1, 2]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command_and_model(capsys, arguments):
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert all(command in told for command in COMMANDS)
    assert "vae, ladder, draw, glas, conv-draw" in told


@pytest.mark.parametrize("command", [[c] for c in COMMANDS] + [["train", "vae:tiny"]])
def test_every_command_has_its_own_help(capsys, command):
    try:
        assert main([*command, "--help"]) == 0
    except SystemExit as ended:  # tyro's
        assert ended.code == 0
    told = capsys.readouterr().out
    assert command[0] in told
    if len(command) > 1:
        assert "--train.epochs" in told and "--model.z" in told


def test_data_lists_and_gets(toy, capsys):
    assert main(["data"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in DATASETS)
    assert main(["data", "mnist-dynamic"]) == 0
    told = capsys.readouterr().out
    assert "train 64, valid 20, test 20 images, verified; from nowhere" in told


def test_train_takes_its_options_from_the_configs(tmp_path, toy, capsys):
    run_dir = tmp_path / "run"
    code = main(
        [*TINY, "--run-dir", str(run_dir), "--model.z", "3", "--train.seed", "5"]
    )
    assert code == 0
    told = capsys.readouterr().out
    assert f"{run_dir}: 1 epoch," in told and "validation −ELBO" in told
    run, model = load_run(run_dir)
    assert (run.model.z, run.train.seed, run.train.epochs) == (3, 5, 1)
    assert run.model.encoder == (32,)  # the preset's
    assert model.head.linear.out_features == 6


def test_train_begins_with_a_run_and_takes_its_sizes(tmp_path, trained, capsys):
    run_dir, start = tmp_path / "on", str(trained)
    more = ["--start", start, "--run-dir", str(run_dir), "--train.epochs", "1"]
    assert main(["train", "vae", *more, "--train.valid-images", "5"]) == 0
    run, model = load_run(run_dir)
    assert (run.start, run.model) == (start, load_run(trained)[0].model)
    assert main(["train", "draw:tiny", *more]) == 1
    told = capsys.readouterr().err
    assert f"--start {start} holds a vae; allowed: train vae --start …" in told
    assert main(["train", "vae", "--start", "nosuch"]) == 1
    assert "no record 'nosuch'" in capsys.readouterr().err


def test_evaluate_prints_the_bounds_of_a_run(trained, capsys):
    assert main(["evaluate", str(trained), "--samples", "3", "--images", "10"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("mnist-dynamic test, 10 images, drawn by class, K 3: −ELBO ")


AIS = ["--ais.chains", "2", "--ais.temperatures", "5"]


def test_evaluate_by_annealing_prints_both_errors_and_goes_on(trained, capsys):
    keep = trained.parent / "kept.json"
    asked = ["--method", "ais", "--images", "4", *AIS, "--keep", str(keep)]
    told = []
    for _ in range(2):
        assert main(["evaluate", str(trained), *asked]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] and keep.exists()
    start = "mnist-dynamic test, 4 images, AIS from q, 2 chains × 5 temperatures × 2"
    assert told[0].startswith(start)
    assert "over images" in told[0] and "over chains" in told[0]


def test_evaluate_by_a_sandwich_prints_its_width(trained, capsys):
    asked = ["--method", "sandwich", "--images", "3", *AIS]
    assert main(["evaluate", str(trained), *asked]) == 0
    told = capsys.readouterr().out
    assert told.startswith("3 images of its own, AIS from q") and "width" in told


@pytest.mark.parametrize(
    "asked, told",
    [
        (["--method", "ais", "--samples", "5"], "samples (K) is 5 with the method ais"),
        (["--method", "ais", "--images", "99"], "allowed: 1 to 20"),
        (["--method", "sandwich", "--split", "train"], "it draws its images"),
        (["--method", "ais", "--ais.chains", "0"], "chains is 0"),
        (["--ais.chains", "3"], "allowed: with --method ais"),
        (["--method", "asi"], "--method"),
    ],
)
def test_what_annealing_cannot_do_is_told_in_one_line(trained, capsys, asked, told):
    assert told in one_line(capsys, ["evaluate", str(trained), *asked])


def test_evaluate_on_other_data_says_what_the_model_was_trained_on(trained, capsys):
    for given, more in ((["--data", "mnist-fixed"], "; trained on mnist-dynamic"),
                        (["--data", "mnist-dynamic"], ""), ([], "")):  # fmt: skip
        assert main(["evaluate", str(trained), "--samples", "2", *given]) == 0
        told = capsys.readouterr().out.strip()
        assert told.partition("; trained")[2] == more.partition("; trained")[2]


@pytest.mark.parametrize("method", ["ais", "sandwich"])
def test_one_annealed_image_by_one_chain_has_no_error_and_no_plural(
    trained, capsys, method
):
    asked = ["--method", method, "--images", "1", "--ais.chains", "1"]
    assert main(["evaluate", str(trained), *asked, "--ais.temperatures", "1"]) == 0
    told = capsys.readouterr().out
    assert "1 image" in told and "1 images" not in told
    assert "1 chain × 1 temperature × 2 leapfrog steps" in told
    told = told.partition("leapfrog")[2]
    assert "nan" not in told and "accepted" not in told and "-" not in told


@pytest.fixture
def colour_run(tmp_path, capsys):
    """A finished run on colour images, its directory."""
    images = np.random.default_rng(0).integers(0, 256, (30, 6, 7, 3), dtype=np.uint8)
    np.save(tmp_path / "c.npy", images)
    data = ["--data", f"npy:{tmp_path / 'c.npy'}", "--run-dir", str(tmp_path / "run")]
    few = ["--train.epochs", "1", "--train.batch-size", "12"]
    assert main(["train", "draw:tiny", *few, *data]) == 0
    capsys.readouterr()
    return tmp_path / "run"


def test_every_number_of_colour_stands_in_bits_too(colour_run, capsys):
    for command in (
        ["evaluate", "--samples", "2"],
        ["evaluate", "--method", "ais", "--images", "2", *AIS],
        ["evaluate", "--method", "sandwich", "--images", "2", *AIS],
        ["export-web", "--out", str(colour_run / "c.js")],
    ):
        assert main([command[0], str(colour_run), *command[1:]]) == 0
        told = capsys.readouterr().out
        number, dimensions = re.search(r"([\d.]+)(?: ± [\d.]+)? nats", told), 6 * 7 * 3
        bits = float(number[1]) / dimensions / math.log(2)
        assert f"({bits:.3f} bits per dimension)" in told, told


def test_train_tells_the_validation_of_the_weights_that_are_kept(
    toy, capsys, tmp_path, monkeypatch
):
    values = iter([50.0, 40.0, math.inf] * 2)
    found = lambda *_: {"valid": next(values)}  # noqa: E731
    monkeypatch.setattr(trainer, "validate", found)
    three = ["train", "vae:tiny", "--train.epochs", "3", "--train.batch-size", "16"]
    assert main([*three, "--run-dir", str(tmp_path / "best")]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.endswith("−ELBO 40.00 nats after epoch 2, whose weights are kept")
    last = ["--run-dir", str(tmp_path / "last"), "--train.keep", "last"]
    assert main([*three, *last]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("−ELBO inf nats")


def test_words_are_no_images(tmp_path, capsys):
    names = tmp_path / "names.txt"
    words = "".join(f"A{a}{b}\n" for a in "BCDEFG" for b in "BCDEFG")
    names.write_text(words, encoding="utf-8")
    assert main(["data", f"words:{names}"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Words of") and "verified" not in told
    run = ["--data", f"words:{names}", "--run-dir", str(tmp_path / "run")]
    few = ["--train.epochs", "1", "--train.batch-size", "12"]
    assert main(["train", "draw:tiny", *few, *run]) == 0
    out = ["--n", "1", "--out", str(tmp_path / "w.gif")]
    told = one_line(capsys, ["animate", str(tmp_path / "run"), *out])
    assert "images have 27 channels (a model of words: page shows it)" in told
    told = one_line(capsys, ["data", "words:"])
    assert "'words:' names nothing; allowed: words:PATH" in told


def test_train_says_where_the_run_lies(toy, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*TINY, "--run-dir", "runs/here"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"training in {Path('runs/here')}, in {tmp_path}"
    assert told[-1].startswith(f"{Path('runs/here')}: 1 epoch,")
    assert main([*TINY, "--run-dir", str(tmp_path / "there")]) == 0
    assert capsys.readouterr().out.startswith(f"training in {tmp_path / 'there'}\n")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_training_that_diverges_ends_with_exit_1(
    toy, capsys, tmp_path, monkeypatch, value
):
    run_dir = tmp_path / "run"
    monkeypatch.setattr(trainer, "validate", lambda *_: {"valid": value})
    assert main([*TINY, "--run-dir", str(run_dir)]) == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith(f"drawlib: {run_dir} has no finite validation: the last is")
    assert not (run_dir / "run.json").exists()
    assert main(["record", str(run_dir), "--row", "toy"]) == 1
    assert "holds no finished run" in capsys.readouterr().err


def test_sample_draws_the_same_png_for_the_same_seed(trained, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        assert (
            main(["sample", str(trained), "--n", "9", "--out", str(tmp_path / name)])
            == 0
        )
    a, b = (Image.open(tmp_path / name) for name in ("a.png", "b.png"))
    low, high = a.convert("L").getextrema()
    assert a.tobytes() == b.tobytes() and high > low


def test_record_then_evaluate_and_sample_the_shipped_model(
    trained, tmp_path, capsys, monkeypatch
):
    zoo = tmp_path / "zoo"
    arguments = ["--row", "vae-tiny", "--samples", "4", "--ship", "--root", str(zoo)]
    assert main(["record", str(trained), *arguments]) == 0
    path = zoo / "mnist-dynamic" / "vae-tiny-0.json"
    assert str(path) in capsys.readouterr().out
    record = json.loads(path.read_text(encoding="utf-8"))
    monkeypatch.setattr(cli.zoo, "ZOO", zoo)
    assert main(["evaluate", "mnist-dynamic/vae-tiny-0"]) == 0
    assert (
        f"−ELBO {record['bounds']['test']['neg_elbo']:.2f}" in capsys.readouterr().out
    )
    assert (
        main(["sample", "mnist-dynamic/vae-tiny-0", "--out", str(zoo / "s.png")]) == 0
    )


# One line for every mistake


def one_line(capsys, arguments):
    """The single line on standard error that a failing command leaves."""
    capsys.readouterr()
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert told.startswith("drawlib: ") and told.count("\n") == 1, told
    assert "Traceback" not in told and "╭" not in told
    return told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trian"], "'trian' is no command; allowed: data, train, evaluate"),
        (["train"], "train needs a model"),
        (["train", "--data", "mnist-fixed"], "train needs a model"),
        (["train", "vea"], "'vea'; allowed: vae, ladder, draw, glas, conv-draw"),
        (["train", "vae:sorce"], "VAEConfig has no preset 'sorce'; there are: "),
        (["train", "vae:"], None),
        ([*TINY, "--train.epoch", "3"], "--train.epoch"),
        ([*TINY, "--train.epochs", "x"], "--train.epochs"),
        ([*TINY, "--train.epochs", "0"], "epochs is 0"),
        ([*TINY, "--train.schedule", "cosin"], "allowed: cosine, constant"),
        ([*TINY, "--train.device", "gpu"], "device is 'gpu'; allowed: auto, cpu"),
        ([*TINY, "--model.z", "0"], "z is 0"),
        ([*TINY, "--model.image-shape", "1", "5", "5"], "allowed: (batch, 1, 5, 5)"),
        (["evaluate"], "model"),
        (["evaluate", "nowhere"], "there is no run directory nowhere, and no record"),
        (["evaluate", "nowhere"], "no record 'nowhere'; with weights: "),
        (["evaluate", "nowhere", "--smaples", "3"], "--smaples"),
        (["evaluate", "published"], "published.json has the schema None; allowed"),
        (["sample", "nowhere"], "no record 'nowhere'"),
        (["sample", "nowhere", "--seed", str(2**70)], "seed is 1180591620717411303424"),
        (["record", "nowhere", "--row", "a"], "nowhere holds no finished run"),
        (["record", "nowhere"], "row"),
        (["data", "--rot", "x"], "--rot"),
        (["reproduce", "--check", "--dry-run"], "--check was given with dry_run"),
        (["reproduce", "--check", "--seeds", "1"], "--check was given with seeds"),
    ],
)
def test_a_mistake_gets_one_line(tmp_path, toy, capsys, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    if told is None:  # an empty preset is none
        monkeypatch.setattr(cli, "train_run", lambda run, data: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(arguments)
        return
    assert told in one_line(capsys, arguments)


def test_a_training_that_is_refused_leaves_no_directory(toy, tmp_path, capsys):
    for wrong in (
        ["--model.image-shape", "1", "5", "5"],
        ["--model.likelihood", "discretised-logistic"],
        ["--train.device", "gpu"],
    ):
        run_dir = tmp_path / "run"
        one_line(capsys, [*TINY, *wrong, "--run-dir", str(run_dir)])
        assert not run_dir.exists()


def test_an_option_without_effect_is_refused(trained, capsys, monkeypatch):
    """They were passed over without a word."""
    told = one_line(capsys, ["data", "mnist-dynamic", "--image.size", "4x4"])
    assert "--image was given with the data mnist-dynamic; allowed: your own" in told
    annealed = ["evaluate", str(trained), "--labels", "--method"]
    assert "takes no data, labels, split" in one_line(capsys, [*annealed, "sandwich"])
    seen = []
    data = cli.load_data("mnist-dynamic")
    monkeypatch.setattr(cli, "load_data", lambda *_, **how: seen.append(how) or data)
    short = ["--ais.chains", "1", "--ais.temperatures", "1", "--images", "2"]
    assert main([*annealed, "ais", *short]) == 0
    assert seen == [{"labels": True}]


def test_a_single_image_has_no_plural(trained, tmp_path, capsys):
    out = str(tmp_path / "a.png")
    assert main(["sample", str(trained), "--n", "1", "--out", out]) == 0
    assert capsys.readouterr().out.startswith("1 mean of p(x given z)")
    measured = {"images": 1, "protocol": "toy", "shipped": 1.0, "quantised": 1.0}
    values = {"name": "a", "format": "int8", "measured": {**measured, "loss": 0.0}}
    assert "on 1 seeded test image of toy" in describe(values)


def test_mistakes_about_a_run_get_one_line(trained, tmp_path, capsys):
    run = str(trained)
    assert "'tset' is unknown" in one_line(capsys, ["evaluate", run, "--split", "tset"])
    assert "(K) is 0" in one_line(capsys, ["evaluate", run, "--samples", "0"])
    assert "allowed: 1 to 20" in one_line(capsys, ["evaluate", run, "--images", "99"])
    assert "noise for 0 images" in one_line(capsys, ["sample", run, "--n", "0"])
    missing = ["sample", run, "--out", str(tmp_path / "no" / "a.png")]
    assert "there is no folder" in one_line(capsys, missing)
    published = ["record", run, "--row", "a", "--published", "b"]
    assert "published is 'b'; allowed: " in one_line(capsys, published)
    other = [*TINY, "--run-dir", run, "--train.lr", "0.5"]
    assert "train.lr was 0.001 and is 0.5" in one_line(capsys, other)
    assert "holds no finished run" in one_line(capsys, ["evaluate", str(tmp_path)])


def test_wrong_shapes_get_one_line(trained, capsys, monkeypatch):
    use_toy_data(monkeypatch.setattr, side=6)
    told = one_line(capsys, ["evaluate", str(trained), "--data", "mnist-dynamic"])
    assert "(1, 1, 6, 6); allowed: (batch, 1, 28, 28)" in told
    folder = str(trained.parent / "other")
    assert "allowed: (batch, 1, 28, 28)" in one_line(
        capsys, [*TINY, "--run-dir", folder]
    )


OUT = ["sample", "animate", "page", "export-web"]
ENDING = {"sample": ".png", "animate": ".gif", "page": ".html", "export-web": ".js"}


@pytest.mark.parametrize("command", OUT)
def test_a_place_that_takes_no_file_is_refused_before_the_work(
    colour_run, tmp_path, capsys, monkeypatch, command
):
    # Whatever computes is broken: the place is looked at first.
    monkeypatch.setattr(DRAW, "bound", lambda *_: 1 / 0)
    monkeypatch.setattr(DRAW, "generate", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(DRAW, "trace", lambda *_, **__: 1 / 0)
    ending = ENDING[command]

    def told(out):
        return one_line(capsys, [command, str(colour_run), "--out", str(out)])

    assert "there is no folder" in told(tmp_path / "no" / f"a{ending}")
    folder = tmp_path / f"a{ending}"
    folder.mkdir()
    assert f"{folder} is a folder; allowed: the name of a file" in told(folder)
    if hasattr(os, "mkfifo"):
        os.mkfifo(pipe := tmp_path / f"pipe{ending}")
        assert f"{pipe} is a device or a pipe; allowed: the name of a" in told(pipe)
    if command != "export-web":
        assert f"allowed: a name that ends in {ending}" in told(tmp_path / "a.xyz")
    shut = tmp_path / "shut"
    shut.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != shut)
    assert "takes no files" in told(shut / f"a{ending}")


def test_a_place_for_annealed_blocks_is_looked_at_first(trained, capsys, monkeypatch):
    monkeypatch.setattr(annealing, "run", lambda *_: 1 / 0)
    asked = ["evaluate", str(trained), "--method", "ais", "--images", "2"]
    for out, said in (("no/k.json", "there is no folder"), (".", "is a folder")):
        told = one_line(capsys, [*asked, "--keep", str(trained / out)])
        assert said in told


def test_a_record_that_cannot_be_written_is_refused_before_the_work(
    trained, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("drawlib.results.runs.evaluate", lambda *_, **__: 1 / 0)
    file = tmp_path / "file"
    file.write_text("")
    told = one_line(capsys, ["record", str(trained), "--row", "a", "--root", str(file)])
    assert "no record can be written to" in told and f"{file} is a file" in told
    long = ["record", str(trained), "--row", "a" * 300, "--root", str(tmp_path)]
    assert "no record can be written to" in one_line(capsys, long)


def test_options_with_a_tilde_are_in_the_home_and_empty_ones_nowhere(
    toy, tmp_path, capsys, monkeypatch
):
    """No shell expands the ~ in --run-dir=~/x."""
    (home := tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    for empty in (["--run-dir", ""], ["--run-dir="]):
        told = one_line(capsys, [*TINY, *empty])
        assert "Error parsing --run-dir: the path is ''; allowed: the name" in told
    assert "model is ''; allowed" in one_line(capsys, ["evaluate", ""])
    assert main([*TINY, "--run-dir=~/a"]) == 0
    assert main([*TINY, "--run-dir=~/b", "--start=~/a"]) == 0
    few = ["--samples", "2", "--images", "4"]
    assert main(["record", "~/b", "--row", "b", "--root=~/zoo", *few]) == 0
    assert main(["sample", "~/b", "--out=~/b.png"]) == 0
    found = {path.name for path in home.iterdir()}
    assert found == {"a", "b", "zoo", "b.png"}
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_more_images_than_there_are_is_refused_before_the_work(
    few, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("drawlib.results.runs.evaluate", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(DRAW, "bound", lambda *_: 1 / 0)
    for command in (["record", "--row", "a", "--root", str(tmp_path / "zoo")],
                    ["export-web", "--out", str(tmp_path / "a.js")]):  # fmt: skip
        told = one_line(capsys, [command[0], str(few), *command[1:], "--images", "2"])
        assert "images is 2; allowed: 1 to 1" in told
    assert not (tmp_path / "zoo").exists() and not (tmp_path / "a.js").exists()


def test_weights_that_are_no_numbers_get_one_line(trained, tmp_path, capsys):
    path, about = trained / "model.safetensors", trained / "run.json"
    state = load_weights(path)
    state["encoder.0.weight"][0, 0] = math.nan
    values = json.loads(about.read_text(encoding="utf-8"))
    values["weights_sha256"] = save_weights(path, state, half=False)
    about.write_text(json.dumps(values), encoding="utf-8")
    for command in (["evaluate"], ["sample"], ["record", "--row", "a"]):
        told = one_line(capsys, [command[0], str(trained), *command[1:]])
        assert "model.safetensors: encoder.0.weight is not finite" in told


def test_bounds_that_are_no_numbers_are_no_result(trained, capsys, monkeypatch):
    found = evaluate(load_run(trained)[1], toy_data(side=28), "test", samples=1)
    infinite = replace(found, neg_elbo=math.inf)
    monkeypatch.setattr(cli, "evaluate", lambda *_, **__: infinite)
    told = one_line(capsys, ["evaluate", str(trained)])
    assert "−ELBO inf" in told and "allowed: a model with finite bounds" in told
    none = annealing.Annealed(torch.tensor([[-math.inf]]), 0.5, False)
    monkeypatch.setattr(cli, "ais", lambda *_, **__: none)
    told = one_line(capsys, ["evaluate", str(trained), "--method", "ais",
                             "--images", "1"])  # fmt: skip
    assert "gives no finite number" in told


def test_memory_that_does_not_do_gets_one_line(toy, tmp_path, capsys):
    wide = ["--model.encoder", str(10**14), "--run-dir", str(tmp_path / "run")]
    assert "memory does not do" in one_line(capsys, [*TINY, *wide])


def test_errors_of_the_system_have_no_numbers(capsys, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied", "a/b")

    monkeypatch.setitem(cli.COMMANDS, "data", refuse)
    assert one_line(capsys, ["data"]) == "drawlib: a/b: permission denied\n"


def test_altered_weights_get_one_line(trained, capsys):
    path = trained / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    for command in (["evaluate"], ["sample"], ["record", "--row", "a"]):
        told = one_line(capsys, [command[0], str(trained), *command[1:]])
        assert "model.safetensors has sha256" in told


def test_an_unknown_data_set_gets_one_line(tmp_path, capsys):
    told = one_line(capsys, ["data", "mnist"])
    assert "data set 'mnist' is unknown, allowed: mnist-fixed" in told
    arguments = [*TINY, "--data", "mnist", "--run-dir", str(tmp_path)]
    assert "data set 'mnist' is unknown" in one_line(capsys, arguments)


def test_a_file_in_the_way_gets_one_line(toy, tmp_path, capsys):
    (tmp_path / "run").write_text("")
    told = one_line(capsys, [*TINY, "--run-dir", str(tmp_path / "run")])
    assert f"{tmp_path / 'run'} cannot be a run directory: there is a file" in told


def test_an_interrupt_outside_training_claims_no_checkpoint(capsys, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "data", interrupt)
    assert main(["data"]) == 130
    assert capsys.readouterr().err == "drawlib: interrupted\n"


def test_sigterm_outside_training_ends_with_one_line(capsys, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    tidied = []

    def work(_):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            tidied.append(True)

    monkeypatch.setitem(cli.COMMANDS, "data", work)
    assert main(["data"]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "drawlib: stopped\n"
    assert tidied and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.tif"])
def test_a_picture_is_written_whole_or_not_at_all(
    trained, tmp_path, capsys, monkeypatch, name
):
    sample = ["sample", str(trained), "--n", "2", "--out", str(tmp_path / name)]
    assert main(sample) == 0
    with Image.open(tmp_path / name) as picture:
        assert picture.size == (62, 32)
    before = (tmp_path / name).read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")  # write knows no name

    monkeypatch.setattr(os, "fsync", full)
    told = one_line(capsys, [*sample, "--seed", "1"])
    assert told.endswith(f"{name}: no space left on device\n")
    assert (tmp_path / name).read_bytes() == before
    assert not list(tmp_path.glob(".*.partial"))


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a folder that is in use")
def test_a_current_folder_that_was_deleted_is_told(tmp_path):
    """Or the mathematics library of PyTorch ends the process, for another reason."""
    (gone := tmp_path / "gone").mkdir()
    command = f'rmdir "{gone}"; exec "{sys.executable}" -m drawlib data'
    root = str(Path(cli.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(
        ["sh", "-c", command], cwd=gone, env=env, capture_output=True, text=True
    )
    told = "drawlib: the current folder was deleted; allowed: one that is there\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "data", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["data"])


# A real process on real data


@pytest.mark.slow
def test_a_real_training_on_mnist(mnist_dynamic, tmp_path):
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        # A terminal that knows no minus sign must not end a training.
        "PYTHONIOENCODING": "ascii",
    }

    def drawlib(*arguments):
        command = [sys.executable, "-m", "drawlib", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=tmp_path
        )

    sizes = ["--train.batch-size", "5000", "--train.valid-images", "200"]
    done = drawlib(*TINY[:4], *sizes, "--run-dir", "run")
    assert done.returncode == 0, done.stderr
    assert "run: 1 epoch," in done.stdout
    done = drawlib("evaluate", "run", "--split", "tset")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("drawlib: ") and done.stderr.count("\n") == 1


MEANT = [("--binarise", "--image.binarise"), ("--fit", "--image.fit")]
TOLD = (
    "drawlib: Unrecognized options: {}, none; perhaps {}; "
    "python -m drawlib train draw:tiny --help lists the options\n"
)


@pytest.mark.parametrize(("given", "meant"), MEANT)
def test_an_option_without_its_room_is_told_the_option_that_is_meant(
    given, meant, capsys
):
    told = one_line(capsys, ["train", "draw:tiny", given, "none"])
    assert told == TOLD.format(given, meant)


def test_a_terminal_without_characters_for_a_box_gets_one_line_too():
    given, meant = MEANT[1]
    command = [sys.executable, "-m", "drawlib", "train", "draw:tiny", given, "none"]
    ended = subprocess.run(
        command, capture_output=True, text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (1, TOLD.format(given, meant))
