"""Records and weights that ship with the package; every table is computed from them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from drawlib.bound import LatentModel
from drawlib.machine.files import mistaken, path_of, write_atomically
from drawlib.machine.settings import in_main_memory
from drawlib.models import CONFIGS, build, config_in

__all__ = [
    "Record",
    "ZooError",
    "describe_environment",
    "load_pretrained",
    "load_weights",
    "published",
    "records",
    "save_weights",
    "write_record",
]

# The whole library, seen from this file. Records change no number.
PY = "../*.py"
ZOO = Path(str(resources.files("drawlib"))) / "zoo"
SCHEMA = "drawlib-record-1"
ROUNDED = ("bounds", "importance_weighted", "every_stop")


class ZooError(RuntimeError):
    """A record or its weights are missing, altered or of another model."""


@dataclass(frozen=True)
class Record:
    """One recorded run: its numbers and where they come from.

    ``record["test"]["neg_elbo"]`` and the like give its fields, as the JSON has them.

    Attributes:
        name: ``protocol/model-seed``, what ``load_pretrained`` takes.
        values: the JSON: config, protocol, seeds, git commit, sha256 of data and
            weights, versions, device, wall time, epochs, parameters, curve, and for
            each split −ELBO, its parts and the importance-weighted bound in nats.
    """

    name: str
    values: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    @property
    def protocol(self) -> str:
        """The data set and binarisation that the numbers belong to."""
        return self.values["protocol"]

    @property
    def model(self) -> str:
        """The row's name, without the seed."""
        return self.values["row"]

    @property
    def line(self) -> str:
        """``protocol/row``: what the plan and the tables call it."""
        return f"{self.protocol}/{self.model}"

    @property
    def began(self) -> dict[str, Any] | None:
        """The training with whose weights this one began: its name, all its epochs."""
        return self.values.get("began")

    @property
    def epochs(self) -> str:
        """Its epochs, after those of the training that it goes on from: "24 + 30"."""
        before = f"{self.began['epochs']} + " if self.began else ""
        return f"{before}{self['epochs']}"


def folder_of(root: str | Path | None) -> Path:
    """Where records lie: the package's own zoo, where nothing is given.

    Raises:
        ValueError, TypeError: as ``files.path_of``.

    Example:
        >>> folder_of(None).name
        'zoo'
    """
    return ZOO if root is None else path_of("root", root)


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Let one process at a time write a record and its weights, which belong together.

    Another one, with another run under the same name, waits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.stem}.lock")):
        yield


def records(
    protocol: str | None = None,
    row: str | None = None,
    *,
    root: str | Path | None = None,
) -> list[Record]:
    """All records, or those of one protocol and one row, sorted by name.

    Raises:
        ZooError: for a file that is truncated, a record without its protocol, or one
            with a number that nobody measures, as ``check_numbers``.

    Example:
        >>> all(r.protocol == "mnist-dynamic" for r in records("mnist-dynamic"))
        True
    """
    root = folder_of(root)
    found = []
    for path in sorted(root.glob("*/*-*.json")):
        values = read_json(path)
        if values.get("schema") != SCHEMA:
            continue
        if lost := {"protocol", "row"} - set(values):
            raise ZooError(f"{path} lacks {', '.join(sorted(lost))}")
        check_numbers(path, {k: values[k] for k in MEASURED & values.keys()})
        if protocol in (None, values["protocol"]) and row in (None, values["row"]):
            found.append(Record(f"{path.parent.name}/{path.stem}", values))
    return found


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file of a zoo holds.

    Raises:
        ZooError: where it is truncated, or holds no fields.
    """
    try:
        # Python's JSON knows NaN; whoever reads a record meets None in its place.
        text = path.read_text(encoding="utf-8")
        values = json.loads(text, parse_constant=lambda _: None)
    except ValueError as error:
        what = mistaken(path.read_bytes())
        why = f"it is {what}" if what and "JSON" not in what else error
        raise ZooError(f"{path} is no whole JSON file: {why}") from None
    if not isinstance(values, dict):
        raise ZooError(f"{path} holds {values!r:.40}; allowed: named fields")
    return values


# What a record holds: groups of numbers, counts, text; what else it has is a number.
GROUPS = {"bounds", "train", "valid", "test", "importance_weighted", "every_stop"}
COUNTS = {"images", "samples", "seed", "epochs", "steps", "parameters", "skipped_steps"}
MEASURED = {"bounds", "importance_weighted", "every_stop", "seconds", *COUNTS}
TEXT = {"protocol", "split", "draw", "noun"}


def check_numbers(path: Path, found: dict[str, Any], where: str = "") -> None:
    """Refuse what no training and no measurement gives, as in a file edited by hand.

    None stands for what is unknown, and for NaN.

    Raises:
        ZooError: for text or a truth value in the place of a number, an infinite one,
            and a count, a time or an error below 0.

    Example:
        >>> check_numbers(Path("vae-0.json"), {"bounds": {"test": {"kl_se": -0.2}}})
        Traceback (most recent call last):
        drawlib.results.zoo.ZooError: vae-0.json: bounds.test.kl_se is -0.2; ...
    """
    for name, value in found.items():
        if isinstance(value, dict) and name in GROUPS:
            check_numbers(path, value, f"{where}{name}.")
            continue
        kinds: tuple[type, ...] = (int,) if name in COUNTS else (int, float)
        least = 0 if name in COUNTS or name.endswith(("se", "seconds")) else -math.inf
        allowed = "a whole number" if name in COUNTS else "a finite number"
        allowed += " of 0 or more" * (least == 0)
        if name in GROUPS:
            kinds, allowed = (), "named fields"
        elif name in TEXT:
            kinds, allowed = (str,), "text"
        listed = isinstance(value, list) and name not in GROUPS
        for each in value if listed else [value]:
            if each is None or (type(each) is str and str in kinds):
                continue
            if type(each) not in kinds or not (math.isfinite(each) and each >= least):
                raise ZooError(
                    f"{path}: {where}{name} is {each!r:.40}; allowed: {allowed}"
                )


def published() -> dict[str, Any]:
    """The published numbers: each with its bound, its protocol and its source.

    Example:
        >>> published()["draw-attention"]["value"]
        80.97
    """
    return json.loads((ZOO / "published.json").read_text(encoding="utf-8"))


def check_published(key: str | None) -> None:
    """Refuse what names no published number.

    Raises:
        ValueError: for a key that ``published`` does not have.
    """
    known = published()
    if key is not None and key not in known:
        raise ValueError(f"published is {key!r}; allowed: {', '.join(known)}")


@in_main_memory()
def load_pretrained(name: str, *, root: str | Path | None = None) -> LatentModel:
    """The model of a record with its shipped weights, ready to evaluate.

    ``name`` is ``protocol/model-seed``. Nothing is downloaded, and loading executes no
    code (safetensors).

    Raises:
        ZooError: for an unknown name, a file that is not a complete record of this
            schema, a record without weights, or weights whose sha256 is not the
            recorded one.

    Example:
        >>> model = load_pretrained("mnist-dynamic/vae-gated-0")
        >>> model.generate(2).shape
        torch.Size([2, 1, 28, 28])
    """
    root = folder_of(root)
    path = root / f"{name}.json"
    if not path.exists():
        # A classifier has weights too, but is no latent variable model.
        shipped = [r for r in records(root=root) if r["weights"]]
        known = [r.name for r in shipped if r["kind"] in CONFIGS]
        raise ZooError(f"no record {name!r}; with weights: {', '.join(known) or '-'}")
    values = read_json(path)
    if (schema := values.get("schema")) != SCHEMA:
        raise ZooError(f"{path.name} has the schema {schema!r}; allowed: {SCHEMA!r}")
    if lost := {"kind", "config", "weights"} - set(values):
        raise ZooError(f"{path.name} lacks {', '.join(sorted(lost))}")
    if not (weights := values["weights"]):
        raise ZooError(f"{name} ships no weights; one seed of each row does")
    described = weights if isinstance(weights, dict) else {}
    if not all(isinstance(described.get(k), str) for k in ("file", "sha256")):
        raise ZooError(f"{path.name}: weights are {weights!r:.40}, no file and sha256")
    try:
        model = build(config_in(path.name, values["kind"], values["config"]))
    except ValueError as error:
        raise ZooError(str(error)) from None
    fill(model, path.parent / weights["file"], weights["sha256"])
    return model.eval()


def fill(model: nn.Module, path: Path, sha256: str | None = None) -> None:
    """Put the weights of a file into a model.

    Raises:
        ZooError: as ``load_weights``, and as ``put``.
    """
    put(model, load_weights(path, sha256), path.name)


def put(model: nn.Module, weights: dict[str, Tensor], told: str) -> None:
    """Put weights, which ``told`` names, into a model.

    Raises:
        ZooError: for those of another model, or some that are no finite numbers.
    """
    own = model.state_dict()
    if other := set(weights) ^ set(own):
        raise ZooError(
            f"{told} holds weights of another model: "
            f"{', '.join(sorted(other)):.80} on one side only"
        )
    for name, value in own.items():
        if weights[name].shape != value.shape:
            raise ZooError(
                f"{told} holds weights of another model: {name} has shape "
                f"{tuple(weights[name].shape)}; allowed: {tuple(value.shape)}"
            )
        if not weights[name].isfinite().all():
            raise ZooError(f"{told}: {name} is not finite; allowed: finite weights")
    model.load_state_dict(weights)


def load_weights(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Tensors of a safetensors file in float32, verified where a sha256 is given.

    Raises:
        ZooError: for a missing file, or one that is truncated or altered.
    """
    if not path.exists():
        raise ZooError(f"the weights {path.name} are missing")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256 and (what := mistaken(content)):
        raise ZooError(f"{path.name} holds no weights: it is {what}")
    if sha256 is not None and found != sha256:
        raise ZooError(f"{path.name} has sha256 {found[:12]}…, not {sha256[:12]}…")
    try:
        tensors = load_tensors(content)
    except Exception as error:  # safetensors has its own exception class
        raise ZooError(f"{path.name} is no whole safetensors file: {error}") from error
    return in_float32(tensors)


def in_float32(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same, with every number that is no whole one in float32."""
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def save_weights(path: Path, state: dict[str, Tensor], half: bool = True) -> str:
    """Write a state dictionary as safetensors; the sha256 of the file.

    With ``half`` they are ``rounded``.

    Raises:
        ValueError: as ``rounded``.
    """
    content = packed(rounded(state) if half else state)
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def packed(state: dict[str, Tensor]) -> bytes:
    """What a safetensors file of a state dictionary holds."""
    tensors = {
        # A copy: two names may share their memory, which the format refuses.
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in state.items()
    }
    return save_tensors(tensors)


def rounded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dictionary with its large matrices in float16.

    Biases, scales and running statistics, which are small, stay as they are.

    Raises:
        ValueError: for a weight that float16 cannot hold, by its name.

    Example:
        >>> rounded({"W": torch.ones(4097)})["W"].dtype
        torch.float16
        >>> rounded({"W": torch.full((4097,), 1e5)})
        Traceback (most recent call last):
        ValueError: W holds 100000; float16 holds at most 65504 (half=False keeps it)
    """
    found = {}
    for name, value in state.items():
        if value.is_floating_point() and value.numel() > 4096:
            less = value.half()
            if (less.isinf() & value.isfinite()).any():
                most = value[value.isfinite()].abs().max().item()
                raise ValueError(
                    f"{name} holds {most:g}; float16 holds at most 65504 "
                    "(half=False keeps it)"
                )
            value = less
        found[name] = value
    return found


def check_place(path: Path) -> None:
    """Refuse a place for a record, before anything is measured for it.

    Its folder need not be there yet.

    Raises:
        OSError: where a file stands in the way, the folder takes no files, or a name is
            too long.
    """
    told = f"no record can be written to {path}"
    there = next(p for p in path.absolute().parents if p.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{told}: {there} is a file")
    if not os.access(there, os.W_OK):
        raise PermissionError(f"{told}: the folder {there} takes no files")
    for name in (path.parent.name, f".{path.name}.00000000.partial"):
        try:
            (there / name).stat()
        except FileNotFoundError:
            continue
        except OSError as error:  # a name that is too long
            raise type(error)(f"{told}: {error.strerror}") from None


def write_record(
    name: str, values: dict[str, Any], *, root: str | Path | None = None
) -> Path:
    """Write one record as JSON under ``protocol/model-seed``.

    What was measured is written with nine digits: float32 sums have no more.

    Raises:
        ValueError: for a bound that is not finite, as ``check_finite``.
    """
    check_finite(name, values)
    short = {key: nine_digits(values[key]) for key in ROUNDED if key in values}
    values = {"schema": SCHEMA, **values, **short}
    return write_json(folder_of(root) / f"{name}.json", values)


def nine_digits(value: Any) -> Any:
    """The same lists and dictionaries with each float to nine significant digits.

    Example:
        >>> nine_digits({"kl": (25.123456789012, 1.0), "images": 100})
        {'kl': [25.1234568, 1.0], 'images': 100}
    """
    return each_float(value, lambda v: float(f"{v:.9g}"))


def write_json(path: Path, values: dict[str, Any]) -> Path:
    """Write what ``read_json`` reads.

    A number that is not finite (the standard error of a single image, say) becomes
    ``null``: the pages' JavaScript knows no NaN.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(strict(values), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())
    return path


def check_finite(name: str, values: dict[str, Any]) -> None:
    """Refuse measured bounds that are no numbers; only errors may be unknown.

    Raises:
        ValueError: for one that is infinite, NaN or missing.

    Example:
        >>> check_finite("toy-0", {"bounds": {"test": {"kl": math.inf}}})
        Traceback (most recent call last):
        ValueError: toy-0: the test kl is inf; a record takes finite bounds alone
    """
    measured = dict(values.get("bounds") or {})
    measured["importance-weighted"] = values.get("importance_weighted") or {}
    for split, part in measured.items():
        for key, found in part.items():
            if key.endswith("se"):  # of a single image there is no standard error
                continue
            if found is None and key.startswith("whole_"):  # was not asked for
                continue
            each = found if isinstance(found, list | tuple) else (found,)
            for number in each:
                if number is None or (
                    isinstance(number, float) and not math.isfinite(number)
                ):
                    raise ValueError(
                        f"{name}: the {split} {key} is {number}; "
                        "a record takes finite bounds alone"
                    )


def strict(value: Any) -> Any:
    """The same lists and dictionaries with None for each non-finite number.

    Example:
        >>> strict({"se": math.nan, "kl": (1.0, math.inf)})
        {'se': None, 'kl': [1.0, None]}
    """
    return each_float(value, lambda v: v if math.isfinite(v) else None)


def each_float(value: Any, change: Callable[[float], float | None]) -> Any:
    """The same lists and dictionaries with each float changed; tuples become lists."""
    if isinstance(value, dict):
        return {key: each_float(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [each_float(inner, change) for inner in value]
    return change(value) if isinstance(value, float) else value


def git(*arguments: str) -> str | None:
    """What git says about the repository of this file; None where it says nothing."""
    try:
        return subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Versions, device and commit of this run, for its record.

    ``commit_dirty`` says whether the library's Python files were others than those of
    the commit; without a repository both are None. An environment may lie inside of
    another project's repository, whose commit says nothing of the library. ``drawlib``
    among the versions is None in a clone that is not installed.
    """
    commit: str | None = None
    changed: str | None = None
    if git("ls-files", "--error-unmatch", "--", Path(__file__).name) is not None:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--", PY)
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        name = f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)"
    else:
        name = f"{platform.machine()} {device.type}"
    release: str | None = None
    with suppress(PackageNotFoundError):
        release = version("drawlib")
    return {
        "commit": commit,
        "commit_dirty": None if changed is None else bool(changed),
        "device": name,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "drawlib": release,
        },
    }
