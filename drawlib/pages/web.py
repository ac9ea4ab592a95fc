"""Weights for the page: a shipped DRAW or GLAS as one classic script, a few megabytes.

Python writes the file and measures what its rounding costs; ``web_models.js`` runs the
model in the reader's browser: no kernel, no server, no network. A ``<script>`` element
loads the file, from a server or from ``file://``. Matrices are rounded to int8 with one
scale per row, or to float16 where int8 would cost too much; the cost, in nats, is
written into the file.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drawlib.bound import LatentModel
from drawlib.data.sets import Data, load_data, some_of, stratified_subset
from drawlib.data.words import SHAPE as WORD
from drawlib.evaluation import check_likelihood, estimate, mean_and_error
from drawlib.likelihood import with_bits
from drawlib.machine.files import check_target, path_of, write_atomically
from drawlib.models import MODELS, build, config_of, kind_of
from drawlib.results.zoo import load_pretrained, records

__all__ = ["WebModel", "encode", "export_model", "export_web", "read_export"]

SCHEMA = "drawlib-web-1"
KINDS = ("draw", "glas")
# From the smallest file to the largest: the first that is good enough is taken.
FORMATS = {"int8": "int8 with a scale per row", "float16": "float16"}
MOST_BYTES = 4_000_000
MOST_LOSS = 0.2  # nats of −ELBO
CHANNELS, LONGEST = (1, 3), 64  # of the images that a page draws on
SMALL = 4096  # up to so many numbers a tensor stays float32
# What a page needs before it can run an exported model.
SCRIPTS = ("explorer_maths.js", "web_arithmetic.js", "web_models.js")
ENDING = ".js"
BEGIN = "(window.drawlibModels ??= {})["


@dataclass(frozen=True, eq=False)
class WebModel:
    """What an exported file holds, with the weights that the page will compute with.

    Attributes:
        measured: −ELBO in nats, ``shipped`` and ``quantised``, their difference
            ``loss``, and on which ``images`` of which ``protocol``; empty where nothing
            was measured.
        state: the dequantised state dictionary, in float32.

    Example:
        >>> from drawlib import DRAW, DRAWConfig
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "tiny.js"
        ...     text = encode(DRAW(DRAWConfig.preset("tiny")), "tiny")
        ...     _ = path.write_text(text, encoding="utf-8")
        ...     read_export(path).build().config.hidden
        32
    """

    name: str
    kind: str
    config: dict[str, Any]
    format: str
    measured: dict[str, Any]
    state: dict[str, Tensor]

    def build(self) -> LatentModel:
        """The model with the dequantised weights, ready to evaluate."""
        model = build(config_of(self.kind, **self.config))
        model.load_state_dict(self.state)
        return model.eval()


def pack(value: Tensor, format: str) -> tuple[str, bytes]:
    """One tensor's format and bytes, little-endian.

    int8: s_r = max_k |W_rk| / 127 for each row r, as float32, and then the rows
    round(W_rk / s_r). No weight moves by more than s_r / 2.

    Example:
        >>> pack(torch.ones(2, 3), "int8")[0], len(pack(torch.ones(90, 90), "int8")[1])
        ('float32', 8460)
    """
    array = value.detach().cpu().to(torch.float32).numpy()
    if array.ndim != 2 or array.size <= SMALL:
        return "float32", array.astype("<f4").tobytes()
    if format == "float16":
        return "float16", array.astype("<f2").tobytes()
    scale = abs(array).max(1, keepdims=True) / np.float32(127)
    scale[scale == 0] = 1
    rows = np.rint(array / scale).astype(np.int8)
    return "int8", scale.astype("<f4").tobytes() + rows.tobytes()


def unpack(data: bytes, about: dict[str, Any]) -> Tensor:
    """The float32 tensor that ``pack`` wrote at ``about["at"]``."""
    shape, at, size = about["shape"], about["at"], math.prod(about["shape"])
    if about["format"] != "int8":
        stored = "<f4" if about["format"] == "float32" else "<f2"
        array = np.frombuffer(data, stored, size, at).astype(np.float32)
        return torch.from_numpy(array).view(shape)
    scale = np.frombuffer(data, "<f4", shape[0], at)[:, None]
    rows = np.frombuffer(data, np.int8, size, at + 4 * shape[0]).reshape(shape)
    return torch.from_numpy(rows * scale)


def encode(
    model: LatentModel,
    name: str,
    format: str = "int8",
    measured: dict[str, Any] | None = None,
) -> str:
    """The text of the script that holds ``model``; the same model, the same text.

    Raises:
        ValueError: for a model that is neither DRAW nor GLAS, another format, or
            weights that are not finite.

    Example:
        >>> from drawlib import VAE, VAEConfig
        >>> encode(VAE(VAEConfig.preset("tiny")), "tiny")
        Traceback (most recent call last):
        ValueError: tiny is of kind 'vae'; allowed: draw, glas
    """
    values = contents(model, name, format, measured)
    text = json.dumps(values, separators=(",", ":"), allow_nan=False)
    # A comment of one line, whatever the name.
    told = " ".join(describe(values).split())
    return f"// {told}\n{BEGIN}{json.dumps(name)}] = {text};\n"


def contents(
    model: LatentModel,
    name: str,
    format: str = "int8",
    measured: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What ``encode`` writes and ``loadModel`` of the page takes, as JSON holds it."""
    config: Any = model.config
    check_kind(kind := kind_of(config), name)
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; allowed: {', '.join(FORMATS)}")
    tensors: dict[str, Any] = {}
    data = bytearray()
    for key, value in sorted(model.state_dict().items()):
        if not value.isfinite().all():
            raise ValueError(f"{key} of {name} is not finite; allowed: finite weights")
        stored, content = pack(value, format)
        tensors[key] = {"shape": list(value.shape), "format": stored, "at": len(data)}
        data += content
    return {
        "schema": SCHEMA,
        "name": name,
        "kind": kind,
        "config": config.to_dict(),
        "format": format,
        "measured": measured or {},
        "tensors": tensors,
        "data": base64.b64encode(bytes(data)).decode(),
    }


def describe(values: dict[str, Any]) -> str:
    """What a file holds and what its rounding costs, in one line."""
    line = f"{values['name']}: {FORMATS[values['format']]}"
    if not values["measured"]:
        return line + "; −ELBO not measured"
    m = values["measured"]
    noun = "image" if m["images"] == 1 else "images"
    return (
        f"{line}; −ELBO on {m['images']:,} seeded test {noun} of {m['protocol']}: "
        + with_bits(f"{m['shipped']:.2f} nats", m["shipped"], m.get("dimensions"))
        + f" as shipped, {m['quantised']:.2f} in this file, a loss of {loss_of(m)} nats"
    )


def loss_of(measured: dict[str, Any]) -> str:
    """What rounding costs, with its standard error over images where it is known.

    Example:
        >>> loss_of({"loss": 0.0117, "loss_se": 0.0404})
        '0.012 ± 0.040'
    """
    error = measured.get("loss_se")
    loss = f"{measured['loss']:.3f}".replace("-", "−")
    return loss + ("" if error is None else f" ± {error:.3f}")


def check_kind(kind: str, name: str) -> None:
    """Refuse what is neither a DRAW nor a GLAS."""
    if kind not in KINDS:
        raise ValueError(f"{name} is of kind {kind!r}; allowed: {', '.join(KINDS)}")


def check_runs_in_a_page(model: LatentModel, name: str) -> None:
    """Refuse a model that a live page cannot run.

    Raises:
        ValueError: for what is neither DRAW nor GLAS, or a subclass of them; for images
            that have neither one nor three channels, or a side above 64; for words of
            another length than those of ``drawlib.data.words``.

    Example:
        >>> from drawlib import DRAW, DRAWConfig
        >>> wide = DRAWConfig.preset("tiny", image_shape=(3, 20, 36))
        >>> check_runs_in_a_page(DRAW(wide), "wide")
        >>> large = DRAWConfig.preset("tiny", image_shape=(1, 8, 65))
        >>> check_runs_in_a_page(DRAW(large), "large")
        Traceback (most recent call last):
        ValueError: large draws images of (1, 8, 65); allowed in a page: 1 or 3 ...
    """
    config: Any = model.config
    check_kind(kind := kind_of(config), name)
    if type(model) is not MODELS[kind]:
        # The page would compute the step of the class itself.
        allowed = ", ".join(MODELS[known].__name__ for known in KINDS)
        raise ValueError(
            f"{name} is a {type(model).__name__}; allowed: {allowed}, no subclass"
        )
    shape = tuple(config.image_shape)
    if has_letters(model):
        if shape != WORD:
            raise ValueError(
                f"{name} draws letters of shape {shape}; allowed in a page: {WORD}"
            )
    elif shape[0] not in CHANNELS or max(shape[1:]) > LONGEST:
        raise ValueError(
            f"{name} draws images of {shape}; allowed in a page: "
            f"1 or 3 channels, sides of at most {LONGEST}"
        )


def has_letters(model: LatentModel) -> bool:
    """Whether a model draws words, and not pictures."""
    config: Any = model.config
    return config.likelihood == "categorical"


def runs_in_a_page(model: LatentModel) -> bool:
    """Whether a live page can run a model.

    Example:
        >>> from drawlib import VAE, VAEConfig
        >>> runs_in_a_page(VAE(VAEConfig.preset("tiny")))
        False
    """
    try:
        check_runs_in_a_page(model, "model")
    except ValueError:
        return False
    return True


def read_export(path: Path) -> WebModel:
    """The model of an exported file, dequantised as the page does it, bit by bit.

    Raises:
        ValueError: for a file that ``export_web`` did not write, or not wholly.

    Example:
        >>> read_export(Path("nowhere.js"))
        Traceback (most recent call last):
        FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.js'
    """
    text = Path(path).read_text(encoding="utf-8")
    _, found, rest = text.partition("\n" + BEGIN)
    try:
        if not found:
            raise ValueError("no model in it")
        # One line; what drawlib.pages.pad adds for the live page stands below it.
        line = rest.partition("] = ")[2].partition("\n")[0]
        values = json.loads(line.rstrip().removesuffix(";"))
        data = base64.b64decode(values["data"], validate=True)
        if values["schema"] != SCHEMA:
            raise ValueError(f"its schema is {values['schema']!r}")
        state = {key: unpack(data, about) for key, about in values["tensors"].items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no whole {SCHEMA} file ({error}); "
            "allowed: what export-web wrote"
        ) from error
    known = ("name", "kind", "config", "format", "measured")
    return WebModel(**{key: values[key] for key in known}, state=state)


def export_web(
    name: str,
    out: str | Path,
    *,
    images: int | None = None,
    protocol: str | None = None,
) -> WebModel:
    """Write a shipped model for the page, in the smallest form that is good enough.

    Each form is tried from the smallest on: −ELBO may rise by 0.2 nats at most,
    measured on ``images`` seeded test images with the same noise, one sample each; and
    the file has at most 4 MB. The test images are those of the model's own protocol, or
    of ``protocol``, where another is at hand. The same weights give the same file on
    the same machine.

    Raises:
        OSError: where the file cannot be written, as ``files.check_target``.
        ZooError: for an unknown name, or a record without weights.
        drawlib.data.download.DataError: where the test images cannot be had.
        ValueError: for a model that a page cannot run, for more images than there are,
            and where no form is both small enough and good enough; nothing is written
            then.

    Example:
        >>> export_web("mnist-dynamic/vae-source-0", Path("vae.js"))
        Traceback (most recent call last):
        ValueError: mnist-dynamic/vae-source-0 is of kind 'vae'; allowed: draw, glas
    """
    check_target(out := path_of("out", out), ENDING)
    kind = next((r["kind"] for r in records() if r.name == name), None)
    if kind is not None:  # a classifier, say, cannot be loaded
        check_kind(kind, name)
    model = load_pretrained(name)
    forms_that_fit(model, name)  # refused before its images are looked for
    data = load_data(protocol or name.partition("/")[0])
    return export_model(model, data, out, name=name, images=images)


def export_model(
    model: LatentModel,
    data: Data,
    out: str | Path,
    *,
    name: str,
    images: int | None = None,
    seed: int = 0,
) -> WebModel:
    """``export_web`` for a model at hand, such as your own, and the images it is for.

    ``images`` left out, 1000 count, or all of fewer.

    Raises:
        OSError, ValueError: as ``export_web``.

    Example:
        >>> import tempfile
        >>> from drawlib import DRAW, DRAWConfig
        >>> data = Data.from_arrays(torch.zeros(30, 28, 28, dtype=torch.bool))
        >>> out = Path(tempfile.mkdtemp()) / "mine.js"
        >>> made = export_model(DRAW(DRAWConfig.preset("tiny")), data, out, name="mine")
        >>> made.measured["images"]
        3
    """
    check_target(out := path_of("out", out), ENDING)
    fitting, refused = forms_that_fit(model, name)
    images = some_of(data.test, images)
    shipped = neg_elbos(as_in_page(model, None), data, images, seed)
    for form in fitting:
        quantised = neg_elbos(as_in_page(model, form), data, images, seed)
        loss, error = mean_and_error(quantised - shipped)
        if not loss <= MOST_LOSS:
            refused.append(f"{form} loses {loss:.2f} nats")
            continue
        measured = {
            "protocol": data.name,
            **({} if data.dimensions is None else {"dimensions": data.dimensions}),
            "images": images,
            "seed": seed,
            "shipped": round(shipped.mean().item(), 3),
            "quantised": round(quantised.mean().item(), 3),
            "loss": round(loss, 4),
            "loss_se": round(error, 4) if math.isfinite(error) else None,
        }
        text = encode(model, name, form, measured)
        write_atomically(out, text.encode())
        return read_export(out)
    raise refusal(name, refused)


def forms_that_fit(model: LatentModel, name: str) -> tuple[list[str], list[str]]:
    """The forms in which a model is small enough, and why the others are not.

    Raises:
        ValueError: for a model that a page cannot run, or that fits in no form.
    """
    check_runs_in_a_page(model, name)
    sizes = {form: len(encode(model, name, form).encode()) for form in FORMATS}
    fitting = [form for form, size in sizes.items() if size <= MOST_BYTES]
    refused = [
        f"{form} takes {size / 1e6:.1f} MB"
        for form, size in sizes.items()
        if form not in fitting
    ]
    if not fitting:
        raise refusal(name, refused)
    return fitting, refused


def refusal(name: str, reasons: list[str]) -> ValueError:
    """What is told where no form of a model is small enough and good enough."""
    return ValueError(
        f"{name}: {', '.join(reasons)}; "
        f"allowed: {MOST_BYTES / 1e6:.0f} MB and {MOST_LOSS} nats"
    )


@torch.no_grad()
def neg_elbos(model: LatentModel, data: Data, images: int, seed: int) -> Tensor:
    """−ELBO of seeded test images, one sample each, in nats: as ``evaluate`` has it.

    Image by image: noise that two models share falls out of their difference.
    """
    check_likelihood(model, data)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for block in stratified_subset(data.test, images, seed).split(500):
        x = data.binarise(data.test.images[block], None, split="test").float()
        one = estimate(model, x, 1, generator)
        found.append(one["reconstruction"] + one["kl"].sum(1))
    return torch.cat(found)


def rounded(value: Tensor, form: str) -> Tensor:
    """A tensor as the page will have it."""
    stored, content = pack(value, form)
    about = {"shape": list(value.shape), "format": stored, "at": 0}
    return unpack(content, about)


def as_in_page(model: LatentModel, form: str | None) -> LatentModel:
    """A copy on the CPU with the weights that the page will have; rounded to ``form``.

    Example:
        >>> from drawlib import DRAW, DRAWConfig
        >>> model = as_in_page(DRAW(DRAWConfig.preset("tiny", hidden=64)), "int8")
        >>> len(model.encoder.weight[0].unique()) <= 255
        True
    """
    config: Any = model.config
    copy = build(config)
    state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    if form is not None:
        state = {key: rounded(value, form) for key, value in state.items()}
    copy.load_state_dict(state)
    return copy.eval()
