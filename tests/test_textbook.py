"""The file that is read first computes what the library does, and it draws."""

import ast
import gzip
import math
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from drawlib import DRAW, DRAWConfig, textbook

FILE = Path(textbook.__file__)
SIZES = {"T": 3, "hidden": 16, "z": 5, "read": 2, "write": 4}


def by_its_names(ours):
    """The library's tensors, cut into the textbook's: weights, or gradients."""
    ours = dict(ours)
    found = {}
    for cell in ("encoder", "decoder"):
        weight, hidden = ours.pop(f"{cell}.weight"), SIZES["hidden"]
        inputs = weight.shape[1] - hidden
        found[f"{cell}.weight_ih"], found[f"{cell}.weight_hh"] = weight.split(
            [inputs, hidden], 1
        )
        found[f"{cell}.bias_ih"] = ours.pop(f"{cell}.bias")
    for part in ("weight", "bias"):
        both = ours.pop(f"q_head.linear.{part}").chunk(2)
        found[f"mu.{part}"], found[f"log_sigma.{part}"] = both
    names = ("h_enc", "c_enc", "h_dec", "c_dec")
    found["h_0"] = torch.stack([ours.pop(f"start_{name}") for name in names])
    found["c_0"] = ours.pop("start_canvas")
    return found | ours


@pytest.fixture(params=[(28, 28), (9, 14)], ids=["square", "oblong"])
def pair(request):
    """The library's model and the textbook's with its weights, none of them zero."""
    torch.manual_seed(0)
    config = DRAWConfig(image_shape=(1, *request.param), attention="gaussian", **SIZES)
    ours = DRAW(config).double()
    with torch.no_grad():
        for weight in ours.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    book = textbook.DRAW(size=request.param, **SIZES).double()
    weights = by_its_names(ours.state_dict())
    # Of PyTorch's two bias vectors in an LSTM one is redundant.
    spare = {f"{k}.bias_hh": torch.zeros(64) for k in ("encoder", "decoder")}
    book.load_state_dict(weights | spare)
    return ours, book


def batch(model):
    x = torch.rand(4, *model.image_shape).round().double()
    return x, model.noise(4).double()


def equal(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-11)


def test_eqs_1_to_12_and_19_to_29_the_bound_is_the_library_s(pair):
    ours, book = pair
    x, noise = batch(ours)
    bound = ours.bound(x, noise)
    _, kl = book(x, noise)
    equal(kl, bound.kl)
    equal(kl.sum(1) - book.loss(x, noise), bound.log_likelihood)


def test_every_gradient_is_the_library_s(pair):
    ours, book = pair
    x, noise = batch(ours)
    (-ours.bound(x, noise).elbo.mean()).backward()
    book.loss(x, noise).mean().backward()
    wanted = by_its_names({k: p.grad for k, p in ours.named_parameters()})
    for cell in ("encoder", "decoder"):
        wanted[f"{cell}.bias_hh"] = wanted[f"{cell}.bias_ih"]
    found = {k: p.grad for k, p in book.named_parameters()}
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert wanted[name].norm() > 0, name
        equal(found[name], wanted[name])


def test_eqs_13_to_16_what_it_generates_is_the_library_s(pair):
    ours, book = pair
    noise = ours.noise(4).double()
    with torch.no_grad():
        equal(book.generate(noise), ours.generate_steps(4, noise=noise))


def test_each_step_of_a_redrawn_image_is_the_library_s(pair):
    ours, book = pair
    x, noise = batch(ours)
    with torch.no_grad():
        wanted = torch.stack([state.canvas for state, *_ in ours.steps(x, noise)])
        canvases, _ = book(x, noise)
        equal(torch.stack(canvases), wanted)


def test_it_needs_torch_and_torchvision_alone_and_fits_in_250_lines():
    text = FILE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 250
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module.split(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"torch", "torchvision"}


def test_every_equation_of_attention_has_one_line():
    text = FILE.read_text(encoding="utf-8")
    numbers = [int(k) for k in re.findall(r"  # Eq\. \((\d+)\)", text)]
    assert sorted(numbers) == [*range(1, 17), *range(19, 30)]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with 10,100 images of noise in MNIST's own format."""
    shape = (10_100, 28, 28)
    pixels = torch.randint(256, shape, generator=torch.Generator().manual_seed(1))
    folder = tmp_path_factory.mktemp("data")
    file = folder / "mnist" / "train-images-idx3-ubyte.gz"
    file.parent.mkdir()
    head = struct.pack(">4i", 2051, *shape)
    numbers = pixels.to(torch.uint8).numpy().tobytes()
    file.write_bytes(gzip.compress(head + numbers, compresslevel=1))
    return folder, pixels


def test_images_come_from_the_folder_that_is_set(digits, monkeypatch):
    folder, pixels = digits
    monkeypatch.setenv("DRAWLIB_DATA", str(folder))
    images = textbook.mnist()
    assert images.shape == (10_100, 1, 28, 28)
    torch.testing.assert_close(images[:, 0], pixels / 255)


def test_images_else_come_from_torchvision(tmp_path, monkeypatch):
    """Its own class reads the files; here they are there already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRAWLIB_DATA", str(tmp_path / "nothing"))
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = torch.arange(2 * 784).remainder(256).to(torch.uint8)
    for part in ("train", "t10k"):
        images = struct.pack(">4i", 2051, 2, 28, 28) + pixels.numpy().tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(images)
        labels = struct.pack(">2i", 2049, 2) + bytes(2)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    torch.testing.assert_close(textbook.mnist().flatten(), pixels / 255)


def test_a_disk_that_is_full_leaves_the_picture_of_before(tmp_path, monkeypatch):
    def full(tiles, file, **options):
        Path(file).write_bytes(b"half")
        raise OSError("No space left on device")

    (picture := tmp_path / "draw.png").write_bytes(b"before")
    monkeypatch.setattr(textbook, "save_image", full)
    with pytest.raises(OSError, match="No space left"):
        textbook.draw(textbook.DRAW(T=2), torch.zeros(1, 1, 28, 28), str(picture))
    assert picture.read_bytes() == b"before"


@pytest.mark.slow
@pytest.mark.parametrize("command", [["-m", "drawlib.textbook"], [str(FILE)]])
def test_from_data_to_picture(command, digits, tmp_path):
    sizes = ["--epochs", "1", "--T", "3", "--hidden", "16"]
    path = [str(FILE.parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, *command, *sizes],
        cwd=tmp_path,
        env={
            **os.environ,
            "DRAWLIB_DATA": str(digits[0]),
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    nats = re.findall(r"epoch \d: -ELBO ([\d.]+) nats", done.stdout)
    assert len(nats) == 1
    assert 300 < float(nats[0]) < 784
    with Image.open(tmp_path / "draw.png") as picture:
        # Twelve digits; the image or the empty canvas, and three steps.
        assert picture.size == (4 * 58 + 2, 12 * 58 + 2)


def test_training_finds_out_what_an_image_shows(capsys):
    """All ink or none: pixel by pixel that is 25 log 2 nats, at once it is log 2."""
    torch.manual_seed(0)
    images = torch.randint(2, (300, 1, 1, 1)).float().expand(-1, 1, 5, 5)
    model = textbook.DRAW(size=(5, 5), T=2, hidden=32, z=3, read=3, write=5)
    textbook.train(model, images[:200], images[200:], epochs=10, batch=10)
    nats = re.findall(r"-ELBO ([\d.]+) nats", capsys.readouterr().out)
    assert len(nats) == 10
    assert float(nats[-1]) < 0.7 * 25 * math.log(2)


def test_before_muon_adam_has_every_weight(monkeypatch):
    model = textbook.DRAW(**SIZES)
    for there in (True, False):
        if not there:
            monkeypatch.delattr(torch.optim, "Muon", raising=False)
        both = textbook.optimisers(model)
        held = [id(w) for o in both for g in o.param_groups for w in g["params"]]
        assert sorted(held) == sorted(id(w) for w in model.parameters())
    assert [type(o).__name__ for o in both] == ["Adam"]
