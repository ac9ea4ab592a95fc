"""The command line: ``python -m drawlib COMMAND``, as ``USAGE`` lists them."""

from __future__ import annotations

import contextlib
import io
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
)

from drawlib.annealing import AISConfig, Annealed, Sandwich, ais, sandwich
from drawlib.batches.jobs import BatchFailed
from drawlib.config import Config
from drawlib.data.download import DataError
from drawlib.data.own import ImageOptions, is_own, moved, named
from drawlib.data.protocols import DATASETS
from drawlib.data.sets import Data, load_data
from drawlib.data.words import absolute, is_words, words_of
from drawlib.evaluation import check_seed, chosen, counted, evaluate, noun_of
from drawlib.likelihood import with_bits
from drawlib.machine import distributed
from drawlib.machine.device import is_full, pick_device
from drawlib.machine.files import check_target, path_of, write_atomically
from drawlib.machine.stopping import Terminated, ended_by_sigterm
from drawlib.models import CONFIGS, config_of, kind_of
from drawlib.results import zoo
from drawlib.results.runs import (
    Run,
    data_of_run,
    has_same_data,
    load_run,
    publish,
    train_run,
)
from drawlib.training.checkpoint import CheckpointError
from drawlib.training.runstate import TrainingStopped
from drawlib.training.schedule import TrainConfig

USAGE = """python -m drawlib COMMAND

  data [NAME …]         get and verify data sets; without a name, list them
                        your own: folder:PATH, npz:PATH, npy:PATH, torchvision:NAME,
                        and words:PATH, a text file with one word per line
  train MODEL[:PRESET]  train a model, or go on where RUN was cut
                        models: {models}
  evaluate RUN|NAME     bounds of a run directory, or of a shipped model; with
                        --method ais or sandwich, how loose they are
  sample RUN|NAME       draw images from the prior into a PNG
  animate RUN|NAME      show a DRAW, GLAS or ConvDRAW at work, step by step: GIF,
                        MP4, PNG, SVG
  record RUN            evaluate a finished run and write its record
  page RUN|NAME         write one HTML file in which the model draws, to send around
  export-web RUN|NAME   write a DRAW or a GLAS as a script for a page of your own
  reproduce             run the chapters that train a table's rows, or check the records

python -m drawlib COMMAND --help lists the options of each."""

PICTURES = {
    **{f".{name}": name for name in ("png", "jpeg", "gif", "bmp", "tiff", "webp")},
    ".jpg": "jpeg",
    ".tif": "tiff",
}
START = "Begin with these weights: a run directory, or the name of a shipped model."


@dataclass(frozen=True)
class Get:
    """Get data sets, verify every byte, and say where they came from."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    image: ImageOptions = field(default_factory=ImageOptions)
    """How images of your own are read."""
    root: Path | None = None
    """A folder to look in first (otherwise DRAWLIB_DATA, then the cache)."""
    labels: bool = False
    """For mnist-fixed: find its labels, by matching it with MNIST, and keep them."""


@dataclass(frozen=True)
class Evaluate:
    """Print the bounds of a model; ± is the error for images in general."""

    model: Annotated[str, tyro.conf.Positional]
    """A run directory, or the name of a shipped model (protocol/model-seed)."""
    data: str | None = None
    """The protocol; left out, the one that the model was trained on."""
    split: str = "test"
    samples: int = 1
    """K: posterior samples per image."""
    images: int | None = None
    """A seeded subset of so many images, drawn by class; left out, all, annealed 50."""
    labels: bool = False
    """For mnist-fixed: find its labels, so that a subset is drawn by class."""
    method: Literal["bound", "ais", "sandwich"] = "bound"
    """−ELBO and the importance-weighted bound; annealed importance sampling of these
    images; or both of its bounds, on images that the model draws itself."""
    ais: AISConfig = field(default_factory=AISConfig)
    keep: Path | None = None
    """A file for what is annealed so far: the same command goes on from there."""
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Sample:
    """Draw images from the prior into a PNG."""

    model: Annotated[str, tyro.conf.Positional]
    """A run directory, or the name of a shipped model (protocol/model-seed)."""
    out: Path = Path("samples.png")
    n: int = 64
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class MakePage:
    """Write one HTML file in which the model draws: it needs a browser and no network.

    A model of one or three channels and at most 64 x 64 pixels gets a pad to draw on.
    """

    model: Annotated[str, tyro.conf.Positional]
    """A run directory, or the name of a shipped model that draws in steps."""
    out: Path = Path("draw.html")
    title: str = ""
    """What stands on top; left out, the model's name."""
    data: str | None = None
    """The protocol; left out, the one that the model was trained on."""
    images: int | None = None
    """Test images that are drawn step by step: a seeded, stratified draw; left out, 4,
    or all where there are fewer."""
    seed: int = 0


@dataclass(frozen=True)
class Animate:
    """Show step by step how a DRAW, GLAS or ConvDRAW draws, with its windows.

    A description of the picture is printed, and written into a .txt beside it.
    """

    model: Annotated[str, tyro.conf.Positional]
    """A run directory, or the name of a shipped model (protocol/model-seed)."""
    out: Path = Path("draw.gif")
    """A .gif, a .mp4 (needs ffmpeg), or a strip of steps: .png, .svg."""
    dream: bool = False
    """Images from the prior; otherwise test images, looked at and drawn again."""
    data: str | None = None
    """The protocol; left out, the one that the model was trained on."""
    images: Annotated[int | None, tyro.conf.arg(aliases=("--n",))] = None
    """How many images: for test images a seeded, stratified draw; left out, 4, or all
    where there are fewer."""
    frames: int | None = None
    """How many of the steps, spread evenly; left out, all, in a strip at most 8."""
    scale: int | None = None
    """Pixels on the screen for a pixel; left out, as 112 for the longer side asks."""
    fps: int = 10
    """Steps a second."""
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class MakeRecord:
    """Evaluate a finished run on every split and write its record."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    row: str
    """The row's name in the tables, such as vae-source."""
    data: str | None = None
    """Where the run's own images lie, if they have moved: folder:PATH."""
    samples: int = 1000
    """K of the importance-weighted bound."""
    images: int | None = None
    """Test images of the importance-weighted bound (a seeded, stratified draw); left
    out, 1000, or all where there are fewer."""
    ship: bool = False
    """Ship the weights, in half precision."""
    note: str = ""
    published: str | None = None
    """The key of the published number beside it (zoo/published.json)."""
    root: Path | None = None
    """Where to write; left out, the package's own zoo."""
    labels: bool = False
    """For mnist-fixed: find its labels, so that the weighted images are drawn by class,
    as evaluate has it."""


@dataclass(frozen=True)
class ExportWeb:
    """Write a model as a script that runs it in a page."""

    model: Annotated[str, tyro.conf.Positional]
    """A run directory, or the name of a shipped DRAW or GLAS (protocol/model-seed)."""
    out: Path
    """The file to write, such as draw.js."""
    data: str | None = None
    """The protocol; left out, the one that the model was trained on."""
    images: int | None = None
    """Test images on which the cost of the rounding is measured; left out, 1000, or all
    where there are fewer."""


@dataclass(frozen=True)
class Reproduce:
    """Train the rows of the tables by executing the chapters in full mode, or check.

    The plan comes first, with the expected time. What was cut goes on, what is done is
    skipped, and a run that fails stops no other.
    """

    table: tuple[str, ...] = ()
    """Tables such as A B B-ablation; left out, all of them."""
    seeds: tuple[int, ...] = (0,)
    jobs: int = 1
    """How many runs at a time."""
    scheduler: str | None = None
    """The address of a running Dask scheduler; left out, workers on this machine."""
    device: str = "auto"
    """auto, cpu, cuda or mps. Each run has one GPU; CUDA_VISIBLE_DEVICES says which
    ones are used."""
    mode: str = "full"
    """full, or smoke to try the batch out with tiny models."""
    dry_run: bool = False
    """Print the plan and stop."""
    unfinished: bool = False
    """Only rows whose shipped record is missing or shorter than planned."""
    adopt: bool = False
    """Put the new records and weights where the tables of the book read them."""
    notebooks: Path = Path("notebooks")
    check: bool = False
    """Train nothing: recompute the bounds of the shipped weights and compare."""


def expanded(args: Any) -> Any:
    """The same options; a model's or a start's name may be a folder's, with its ``~``.

    Raises:
        ValueError: as ``path_of``; a start that is empty is none.
    """
    names = {k: getattr(args, k, None) for k in ("model", "start")}
    given = {k: v for k, v in names.items() if isinstance(v, str)}
    paths = {k: str(path_of(k, v)) for k, v in given.items() if v or k == "model"}
    return replace(args, **paths)


OPTIONS = ConstructorRegistry()


@OPTIONS.primitive_rule
def path_option(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """An option that is a path, as ``path_of`` has it: no shell expands --out=~/x."""
    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda given: path_of("the path", given[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


def parse(form: Any, arguments: Sequence[str], command: str) -> Any:
    """Options as tyro reads them, with its boxed complaint as one line.

    Raises:
        ValueError: for an unknown option, a missing one, or a value of a wrong type.
    """
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), OPTIONS:
            prog = f"python -m drawlib {command}"
            return expanded(tyro.cli(form, args=arguments, prog=prog))
    except SystemExit as ended:
        if not ended.code:  # --help
            raise
    # A box: title, reason, rule, advice. On a terminal without its characters the rules
    # are of minus signs, and one more lies under the title.
    lines = [line.strip("│╭╮╰╯ ") for line in told.getvalue().splitlines()]
    parts: list[list[str]] = [[]]
    for line in filter(None, lines):
        if set(line) <= set("─-"):
            parts.append([])
        else:
            parts[-1].append(line)
    (_, *first), *others = [part for part in parts if part]
    reason, *advice = [first, *others] if first else others
    told_by = " ".join(reason)
    if advice and advice[0][0].startswith("Perhaps"):
        words = [word for line in advice[0][1:] for word in line.split()]
        meant = dict.fromkeys(word for word in words if word.startswith("--"))
        told_by += f"; perhaps {' or '.join(meant)}"
    raise ValueError(f"{told_by}; python -m drawlib {command} --help lists the options")


def data_command(arguments: Sequence[str]) -> None:
    args = parse(Get, arguments, "data")
    if not args.names:
        for name, about in DATASETS.items():
            print(f"{name:15s} {about}")
        return
    for name in args.names:
        check_image(args.image, name)
        if is_own(name):
            name = named(name, args.image)
        data = load_data(name, root=args.root, labels=args.labels)
        sizes = ", ".join(
            f"{split} {len(getattr(data, split)):,}"
            for split in ("train", "valid", "test")
        )
        if is_own(name) or is_words(name):
            print(data.protocol)
        else:
            what = f"{noun_of(data)}s"
            print(f"{name}: {sizes} {what}, verified; from {data.origin}")
        if args.labels:
            print(f"labels of {name}, {data.told_of_labels}")


def check_image(image: ImageOptions, name: str) -> None:
    """Refuse options for images of one's own where there are none."""
    if image != ImageOptions() and not is_own(name):
        raise ValueError(f"--image was given with the data {name}; allowed: your own")


def train_command(arguments: Sequence[str]) -> None:
    """The options of ``train`` come from the two configuration dataclasses."""
    chosen, *rest = arguments or [""]
    if chosen in ("-h", "--help"):
        usage_command(rest)
        return
    if not chosen or chosen.startswith("-"):
        raise ValueError(
            "train needs a model, then its options: train MODEL[:PRESET] …; "
            f"allowed: {', '.join(CONFIGS)}"
        )
    kind, _, preset = chosen.partition(":")
    model = config_of(kind, preset or None)
    args = parse(train_form(kind, model), rest, f"train {chosen}")
    data, name = None, args.data
    if args.start:
        # The sizes that nobody gave are those of the weights.
        model = load_any(args.start, "cpu")[0].config
        if (its := kind_of(model)) != kind:
            raise ValueError(
                f"--start {args.start} holds a {its}; allowed: train {its} --start …"
            )
        args = parse(train_form(kind, model), rest, f"train {chosen}")
    check_image(args.image, name)
    if is_own(name) or is_words(name):
        # The sizes that nobody gave are those of the images.
        name = absolute(name) if is_words(name) else named(name, args.image)
        data = distributed.join(args.train.device).in_turn(lambda: load_data(name))
        if not distributed.rank_of_process():
            print(data.protocol)
        model = for_images(model, data)
        args = parse(train_form(kind, model), rest, f"train {chosen}")
    run = Run(args.model, name, args.run_dir, args.train, start=args.start)
    if first := not distributed.rank_of_process():
        here = "" if run.run_dir.is_absolute() else f", in {Path.cwd()}"
        print(f"training in {run.run_dir}{here}", flush=True)
    _, data, history = train_run(run, data=data)
    if not first:
        return
    last = kept = history.rows[-1]
    if args.train.keep == "best":
        finite = [row for row in history.rows if math.isfinite(row["valid"])]
        kept = min(finite, key=lambda row: row["valid"])
    epochs = f"{last['epoch']} epoch{'' if last['epoch'] == 1 else 's'}"
    told = (
        f"{args.run_dir}: {epochs}, {last['seconds']:.0f} s, "
        f"validation −ELBO {kept['valid']:.2f} nats"
    )
    told = with_bits(told, kept["valid"], data.dimensions)
    better = f" after epoch {kept['epoch']}, whose weights are kept"
    print(told + better * (kept is not last))


def train_form(kind: str, model: Config) -> Any:
    """The options of ``train`` for a model, with its sizes as defaults."""
    options: list[Any] = [
        ("run_dir", Path, field(default=Path("runs") / kind)),
        ("data", str, field(default="mnist-dynamic")),
        ("image", ImageOptions, field(default_factory=ImageOptions)),
        ("start", Annotated[str, tyro.conf.arg(help=START)], field(default="")),
        ("model", type(model), field(default=model)),
        ("train", TrainConfig, field(default_factory=TrainConfig)),
    ]
    return make_dataclass("Train", options, frozen=True)


def for_images(model: Any, data: Data) -> Config:
    """A model's sizes for the images of a data set.

    Windows of a DRAW keep about the share of the side that the paper gave them: 12
    filters for 54 pixels, where the images are larger than those of its MNIST.
    """
    changes: dict[str, Any] = {
        "image_shape": data.image_shape,
        "likelihood": data.likelihood,
    }
    if getattr(model, "attention", "none") != "none":
        wide = max(5, round(max(data.image_shape[1:]) * 12 / 54))
        if wide > 6 and max(model.image_shape[1:]) < max(data.image_shape[1:]):
            changes |= {"read": wide, "write": wide}
    return replace(model, **changes)


def load_any(name: str, device: str) -> tuple[Any, str]:
    """The model of a run directory or of a shipped record, and its protocol."""
    if Path(name).is_dir():
        run, model = load_run(Path(name))
        protocol = run.data
    else:
        try:
            model, protocol = zoo.load_pretrained(name), name.partition("/")[0]
        except zoo.ZooError as error:
            if (zoo.ZOO / f"{name}.json").exists():
                raise
            raise zoo.ZooError(
                f"there is no run directory {name}, and {error}"
            ) from None
    return model.to(pick_device(device)).eval(), protocol


def name_of(model: str) -> str:
    """What a picture or a page calls a model: the last part of its name or folder."""
    return Path(os.path.abspath(model)).name  # of . and .. too


def data_of(name: str, protocol: str, given: str | None, labels: bool = False) -> Data:
    """What a model is shown: the data that were given, or those of its training."""
    if Path(name).is_dir() and not labels and given is None:
        return data_of_run(Path(name), protocol)
    return load_data(moved(protocol, given or protocol), labels=labels)


def evaluate_command(arguments: Sequence[str]) -> None:
    args = parse(Evaluate, arguments, "evaluate")
    if args.method != "bound":
        anneal_command(args)
        return
    if args.ais != AISConfig() or args.keep:
        raise ValueError("--ais and --keep were given; allowed: with --method ais")
    team = distributed.join(args.device)
    model, protocol = load_any(args.model, team.device(args.device))
    data = team.in_turn(lambda: data_of(args.model, protocol, args.data, args.labels))
    result = evaluate(
        model,
        data,
        args.split,
        samples=args.samples,
        images=args.images,
        seed=args.seed,
        progress=team.first,
        team=team,
    )
    if not math.isfinite(result.neg_elbo + result.neg_iw):
        raise ValueError(f"{result}; allowed: a model with finite bounds")
    if team.first:
        other = args.data not in (None, protocol)
        if other and is_own(protocol) and Path(args.model).is_dir():  # moved, perhaps
            other = not has_same_data(Path(args.model), data)
        print(f"{result}" + f"; trained on {protocol}" * other)


def anneal_command(args: Evaluate) -> None:
    """Annealed importance sampling of a split's images, or a model's sandwich."""
    simulated = args.method == "sandwich"
    if args.samples != 1:
        raise ValueError(
            f"samples (K) is {args.samples} with the method {args.method}; "
            "allowed: --ais.chains, --ais.temperatures"
        )
    if simulated and (args.keep or args.data or args.labels or args.split != "test"):
        raise ValueError(
            "a sandwich takes no data, labels, split or keep: it draws its images"
        )
    if distributed.rank_of_process():
        return  # the work of one process
    model, protocol = load_any(args.model, args.device)
    images = 50 if args.images is None else args.images
    found: Annealed | Sandwich
    noun = "word" if model.config.likelihood == "categorical" else "image"
    dimensions, shown = None, counted(images, noun)
    if simulated:
        found = sandwich(model, images, args.ais, seed=args.seed, progress=True)
        shown += " of its own"
        if model.config.likelihood == "discretised-logistic":
            dimensions = math.prod(model.image_shape)
    else:
        data = data_of(args.model, protocol, args.data, args.labels)
        x = chosen(model, data, args.split, images, args.seed)
        keep, seed = args.keep, args.seed
        found = ais(model, x, args.ais, seed=seed, keep=keep, progress=True)
        shown, dimensions = f"{data.name} {args.split}, {shown}", data.dimensions
    if not found.finite:
        raise ValueError(f"{args.model}: AIS on {shown} gives no finite number")
    told = found.told(dimensions)
    print(f"{shown}, AIS from {args.ais.start}, {args.ais}: {told}")


def some(asked: int | None, data: Data | None) -> int:
    """How many test images are drawn: 4, or all of fewer, where nobody asks."""
    if asked is not None:
        return asked
    return 4 if data is None else min(4, len(data.test))


def sample_command(arguments: Sequence[str]) -> None:
    args = parse(Sample, arguments, "sample")
    check_seed(args.seed)
    model, _ = load_any(args.model, args.device)
    words = model.config.likelihood == "categorical"
    check_target(args.out, *(() if words else PICTURES))
    generator = torch.Generator().manual_seed(args.seed)
    drawn = model.generate(args.n, generator=generator).cpu()
    if words:
        listed = words_of(drawn)
        write_atomically(args.out, ("\n".join(listed) + "\n").encode())
        print(f"the likeliest letters: {', '.join(listed)}; {args.out}")
        return
    from torchvision.utils import save_image

    picture = io.BytesIO()
    save_image(drawn, picture, format=PICTURES[args.out.suffix.lower()])
    write_atomically(args.out, picture.getvalue())
    shown = counted(args.n, "mean")
    print(f"{shown} of p(x given z), z from the prior: {args.out}")


def animate_command(arguments: Sequence[str]) -> None:
    from drawlib.pages import animation

    args = parse(Animate, arguments, "animate")
    if args.dream and args.data:
        raise ValueError(f"data is {args.data!r} for a dream; allowed: none")
    animation.check_target(args.out)
    model, protocol = load_any(args.model, args.device)
    data = None if args.dream else data_of(args.model, protocol, args.data)
    made = animation.animate(
        model,
        data,
        args.out,
        some(args.images, data),
        seed=args.seed,
        name=name_of(args.model),
        frames=args.frames,
        scale=args.scale,
        fps=args.fps,
    )
    size = args.out.stat().st_size / 1e3
    beside = animation.beside(args.out)
    print(f"{made.alt}\n{args.out}, {size:.0f} kB; these words stand in {beside}")


def record_command(arguments: Sequence[str]) -> None:
    args = parse(MakeRecord, arguments, "record")
    path = publish(
        args.run_dir,
        args.row,
        iw_samples=args.samples,
        iw_images=args.images,
        ship=args.ship,
        note=args.note,
        published=args.published,
        root=args.root,
        data_now=args.data,
        labels=args.labels,
    )
    if not distributed.rank_of_process():
        test = (values := zoo.read_json(path))["bounds"]["test"]
        error = test["neg_elbo_se"]  # none of a single image
        told = (
            f"{values['protocol']} test, "
            f"{counted(test['images'], test.get('noun', 'image'))}: "
            f"−ELBO {test['neg_elbo']:.2f}"
            + ("" if error is None else f" ± {error:.2f}")
            + " nats"
        )
        print(with_bits(told, test["neg_elbo"], test.get("dimensions")))
        print(path)


def page_command(arguments: Sequence[str]) -> None:
    from drawlib.pages.standalone import ENDINGS, write_page

    args = parse(MakePage, arguments, "page")
    check_seed(args.seed)
    check_target(args.out, *ENDINGS)
    model, protocol = load_any(args.model, "cpu")
    data = data_of(args.model, protocol, args.data)
    name = args.title or name_of(args.model)
    images = some(args.images, data)
    write_page(model, data, args.out, name=name, images=images, seed=args.seed)
    print(f"{args.out}, {args.out.stat().st_size / 1e6:.2f} MB; open it in a browser")


def export_web_command(arguments: Sequence[str]) -> None:
    from drawlib.pages.web import ENDING, describe, export_model, export_web

    args = parse(ExportWeb, arguments, "export-web")
    check_target(args.out, ENDING)
    if Path(args.model).is_dir():
        model, protocol = load_any(args.model, "cpu")
        data, name = data_of(args.model, protocol, args.data), name_of(args.model)
        written = export_model(model, data, args.out, name=name, images=args.images)
    else:
        written = export_web(
            args.model, args.out, images=args.images, protocol=args.data
        )
    size = args.out.stat().st_size / 1e6
    print(f"{describe(vars(written))}; {args.out}, {size:.2f} MB")


def reproduce_command(arguments: Sequence[str]) -> None:
    from drawlib.batches.reproduce import reproduce

    args = parse(Reproduce, arguments, "reproduce")
    if args.check:
        from drawlib.batches.check import check

        known = {f.name: f.default for f in fields(Reproduce)}
        own = ("check", "table")
        given = [k for k in known if k not in own and getattr(args, k) != known[k]]
        if given:
            listed = ", ".join(given)
            raise ValueError(f"--check was given with {listed}; allowed: --table")
        check(args.table)
        return
    reproduce(
        args.table,
        args.seeds,
        at_once=args.jobs,
        scheduler=args.scheduler,
        device=args.device,
        mode=args.mode,
        dry_run=args.dry_run,
        unfinished=args.unfinished,
        adopt_records=args.adopt,
        notebooks=args.notebooks,
    )


def usage_command(arguments: Sequence[str]) -> None:
    """What the commands are; of what follows --help nothing is read."""
    print(USAGE.format(models=", ".join(CONFIGS)))


COMMANDS = {
    "data": data_command,
    "train": train_command,
    "evaluate": evaluate_command,
    "sample": sample_command,
    "animate": animate_command,
    "record": record_command,
    "page": page_command,
    "export-web": export_web_command,
    "reproduce": reproduce_command,
}

# What a user can put right is told in one line; anything else keeps its traceback.
EXPECTED = (
    BatchFailed,
    CheckpointError,
    DataError,
    OSError,
    TrainingStopped,
    TypeError,
    ValueError,
    distributed.WorkerLost,
    zoo.ZooError,
)


def told_of(error: BaseException) -> str:
    """What went wrong; of the system's errors without their numbers."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    reason = error.strerror or type(error).__name__
    where = error.filename2 or error.filename
    told = f"{reason[0].lower()}{reason[1:]}"
    return told if where is None else f"{where}: {told}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal without the minus sign of "−ELBO" must not end a training.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    rank = distributed.rank_of_process()
    name = f"drawlib, process {rank}" if rank else "drawlib"
    usage = arguments[0] in ("-h", "--help")
    command = usage_command if usage else COMMANDS.get(arguments[0])
    if command is None:
        print(
            f"{name}: {arguments[0]!r} is no command; allowed: {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        return 1
    if rank and arguments[0] not in ("train", "evaluate", "record"):
        return 0  # the work of one process
    try:
        with ended_by_sigterm("stopped"):
            command(arguments[1:])
        distributed.leave()
        if sys.stdout is not None:  # closed by who called, as in a service
            sys.stdout.flush()
    except BrokenPipeError:
        # What reads our output has ended, as in `drawlib data | head -1`. At its end
        # Python flushes once more, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # SIGPIPE's, as a shell has it
    except EXPECTED as error:
        print(f"{name}: {told_of(error)}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not is_full(error):
            raise
        print(
            f"{name}: memory does not do; allowed: a smaller model or batch, fewer "
            "images at a time",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt as error:
        print(f"{name}: {str(error) or 'interrupted'}", file=sys.stderr)
        return 130
    except Terminated as error:
        print(f"{name}: {error}", file=sys.stderr)
        return int(error.code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
