"""A model at work as a picture: its steps and windows, moving or in a strip, in words.

``redrawing`` (a pass over images) and ``dreaming`` (a generation) make an
``Animation``. It has its own description, and is written as a GIF, a film (MP4), or a
strip of steps (PNG, SVG) in which time runs to the right.
"""

from __future__ import annotations

import base64
import html
import io
import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from drawlib.config import plain
from drawlib.data.sets import Data, stratified_subset
from drawlib.data.words import SHAPE as WORD
from drawlib.evaluation import check_likelihood, check_seed
from drawlib.machine import files
from drawlib.machine.files import write_atomically
from drawlib.plots import PALETTE
from drawlib.recurrent import Recurrent
from drawlib.trace import Trace, Windows, windows

__all__ = [
    "Animation",
    "Cell",
    "Row",
    "Sheet",
    "animate",
    "animation",
    "beside",
    "check_target",
    "dreaming",
    "redrawing",
    "redrawing_of",
    "save",
    "with_steps",
]

WRITERS = {".gif": "gif", ".mp4": "mp4", ".png": "png", ".svg": "svg"}
STRIPS = (".png", ".svg")
SIDE = 112  # pixels of an image's longer side where no scale is given
COLUMNS = 8  # of a strip where no number of frames is given
PAUSE = 2  # seconds at the end, before it begins anew
MOST_SIDE, MOST_AREA = 8_000, 200_000_000  # of a sheet, of all frames together
GAP, LINE, LETTERS = 6, 18, 13  # pixels: between pictures, of a line of text, of it
PAPER, EDGE, TEXT = "#ffffff", "#c0c0c0", "#303030"
WRITTEN = ("where it is written", "vermillion")
SHADES = [(v, v, v) for v in (*range(0, 256, 8), 255)]
SCRATCH = "film.mp4"


class Row(NamedTuple):
    """One picture of each image and step, the windows on it, and both in words."""

    name: str
    told: str
    images: Tensor  # (steps, n, 1 or 3, height, width) in [0, 1]
    windows: Windows | None
    where: str
    colour: str

    @property
    def caption(self) -> str:
        """What stands above the pictures."""
        return self.name if self.windows is None else f"{self.name}, {self.where}"

    @property
    def sentence(self) -> str:
        """What the description says of the row."""
        window = f"; a {self.colour} window shows {self.where}"
        return f"{self.told}{window if self.windows is not None else ''}."

    def at(self, frames: Tensor) -> Row:
        """Some of the steps."""
        images, placed = self.images[frames], self.windows
        if placed is not None:
            placed = Windows(*(values[frames] for values in placed))
        return self._replace(images=images, windows=placed)


class Cell(NamedTuple):
    """One picture on a sheet; its window's corners (x, y) count the sheet's pixels."""

    pixels: np.ndarray
    left: int
    top: int
    scale: int
    window: tuple[float, float, float, float] | None
    thick: int
    colour: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the sheet."""
        height, width = self.pixels.shape[:2]
        return width * self.scale, height * self.scale


class Sheet(NamedTuple):
    """What is drawn, by Pillow or as SVG: pictures and lines of text."""

    size: tuple[int, int]
    cells: list[Cell]
    texts: list[tuple[int, int, str]]


@dataclass(frozen=True, eq=False)
class Animation:
    """Steps of a model with its windows; ``alt`` says in words what there is to see.

    A notebook shows it as a GIF inside the page, and to readers who asked for no motion
    the last step.

    Example:
        >>> from drawlib.draw import DRAW, DRAWConfig
        >>> made = dreaming(DRAW(DRAWConfig.preset("tiny")), 2)
        >>> made.alt
        'The model draws 2 images of its own in 4 steps. The canvas is seen growing.'
        >>> Image.open(io.BytesIO(made.gif())).n_frames
        4
    """

    rows: tuple[Row, ...]
    steps: tuple[int, ...]
    T: int
    alt: str
    scale: int
    fps: int

    def __repr__(self) -> str:
        return f"<animation of {len(self.steps)} steps>"

    def _repr_html_(self) -> str:
        still = data_uri("png", png_bytes(paint(self.sheet([len(self.steps) - 1]))))
        return (
            '<picture><source media="(prefers-reduced-motion: reduce)" '
            f'srcset="{still}"><img src="{data_uri("gif", self.gif())}" '
            f'alt="{html.escape(self.alt)}" style="max-width: 100%"></picture>'
        )

    def scale_of(self, row: Row) -> int:
        """A latent space, which has a size of its own, is shown as large as the images.

        All rows but it have the size of the first.
        """
        side, first = min(row.images.shape[-2:]), min(self.rows[0].images.shape[-2:])
        return max(1, self.scale * first // side)

    def sheet(self, frames: Sequence[int], strip: bool = False) -> Sheet:
        """One frame with its images side by side, or many as columns of a strip."""
        n = self.rows[0].images.shape[1]
        scales = [self.scale_of(row) for row in self.rows]
        pairs = list(zip(self.rows, scales, strict=True))
        pitch = GAP + max(row.images.shape[-1] * scale for row, scale in pairs)
        tops = [0]
        for row, scale in pairs:
            tops.append(tops[-1] + LINE + row.images.shape[-2] * scale + GAP)
        cells, texts = [], []
        for j, frame in enumerate(frames):
            t = self.steps[frame]
            step = f"t = {t}" if strip else f"step {t} of {self.T}"
            texts.append((GAP + j * pitch, GAP, step))
            for k in range(n):
                column, line = (j, k) if strip else (k, 0)
                left = GAP + column * pitch
                for (row, scale), top in zip(pairs, tops, strict=False):
                    above = GAP + LINE + line * tops[-1] + top
                    if column == 0:
                        texts.append((left, above, row.caption))
                    cells.append(cell(row, frame, k, (left, above + LINE), scale))
        columns, lines = (len(frames), n) if strip else (n, 1)
        ends = [left + math.ceil(font().getlength(text)) for left, _, text in texts]
        width = GAP + max(columns * pitch, *ends)
        height = GAP + LINE + lines * tops[-1]
        # A film wants even numbers.
        return Sheet((width + width % 2, height + height % 2), cells, texts)

    def frames(self) -> Iterator[Image.Image]:
        """The frames of the animation as pixels."""
        return (paint(self.sheet([frame])) for frame in range(len(self.steps)))

    def strip(self) -> Sheet:
        """All frames side by side, the images below each other."""
        return self.sheet(range(len(self.steps)), strip=True)

    def gif(self) -> bytes:
        """An endless GIF; its format counts time in hundredths of a second.

        The number of the step differs from frame to frame, so that Pillow, which joins
        equal frames, keeps them all.
        """
        table = palette(self.rows)
        none = Image.Dither.NONE
        first, *others = [f.quantize(palette=table, dither=none) for f in self.frames()]
        durations = [10 * round(100 / self.fps)] * len(self.steps)
        durations[-1] += 1000 * PAUSE
        options: dict[str, Any] = {"duration": durations, "loop": 0, "optimize": True}
        file = io.BytesIO()
        first.save(file, "GIF", save_all=True, append_images=others, **options)
        return file.getvalue()

    def mp4(self) -> bytes:
        """A film, made by ffmpeg; its last frame stays for the pause.

        Raises:
            ValueError: where ffmpeg is not found, or fails.
        """
        program = ffmpeg()
        frames = list(self.frames())
        frames += frames[-1:] * (PAUSE * self.fps)
        width, height = frames[0].size
        raw = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {self.fps} -i -"
        # The same bytes for the same frames, in a format that every player reads.
        plain = "-fflags +bitexact -flags:v +bitexact -threads 1 -pix_fmt yuv420p"
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / SCRATCH
            try:
                done = subprocess.run(
                    [program, *LOUD, *raw.split(), *plain.split(), str(out)],
                    input=b"".join(frame.tobytes() for frame in frames),
                    capture_output=True,
                    timeout=PATIENCE,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                reason = getattr(error, "strerror", None) or "it did not end"
                raise failed(f"{program} ({reason.lower()})") from None
            said = done.stderr.decode(errors="replace").strip().split("\n")[0]
            if done.returncode:
                raise failed(said or f"exit status {done.returncode}")
            if not out.exists():
                raise failed(said or "it wrote no file")
            return out.read_bytes()

    def png(self) -> bytes:
        """The strip as pixels."""
        return png_bytes(paint(self.strip()))

    def svg(self) -> bytes:
        """The strip with windows and text as shapes, and the description as title."""
        return svg(self.strip(), self.alt).encode()


# What is shown


def redrawing(
    trace: Trace,
    *,
    memory: Tensor | None = None,
    name: str = "the model",
    what: str = "images",
    **look: Any,
) -> Animation:
    """A pass over images: x and where it is read, the canvas and where it is written.

    With ``memory``, GLAS's L, the windows on it are shown too. ``name`` and ``what``
    are words of the description; ``look`` is that of ``animation``.

    Example:
        >>> from drawlib.draw import DRAW, DRAWConfig
        >>> model = DRAW(DRAWConfig.preset("tiny", attention="gaussian"))
        >>> redrawing(model.trace(torch.zeros(3, 1, 28, 28)), frames=2).steps
        (1, 4)
    """
    T, n = trace.canvases.shape[:2]
    x = trace.images.expand_as(trace.canvases)
    grown = "Below, the canvas is seen growing"
    rows = [
        Row("x", "Above stands x", x, trace.read, "where it is read", "blue"),
        Row("canvas", grown, trace.canvases, trace.write, *WRITTEN),
    ]
    if memory is not None and trace.latent is not None:
        L = shades_of(memory).expand(T, n, 1, *memory.shape)
        below = "At the bottom lies the latent space L"
        rows.append(Row("L", below, L, trace.latent, "where it is read", "green"))
    draws = f"draws {'it' if n == 1 else 'them'} again in {T} steps."
    nats = f"The KL of all steps is {trace.kl.sum(1).mean():.1f} nats per image."
    words = [f"{name} looks at {counted(n, what)} and {draws}"]
    words += [*(row.sentence for row in rows), nats]
    return animation(rows, " ".join(words), **look)


@torch.no_grad()
def dreaming(
    model: Any, n: int = 4, *, seed: int = 0, name: str = "the model", **look: Any
) -> Animation:
    """A generation, a fresh z_t at each step: the canvas, and where it is written.

    Raises:
        ValueError: for a model without steps, fewer than one image, or no seed.

    Example:
        >>> from drawlib.glas import GLAS, GLASConfig
        >>> dreaming(GLAS(GLASConfig.preset("tiny")), 1, fps=5)
        <animation of 4 steps>
    """
    check_seed(seed)
    noise = with_steps(model).noise(n, torch.Generator().manual_seed(seed))
    states = list(model.dream(noise))
    placed = None
    if model.config.attention != "none":
        heads = [s.h_dec for s in states]
        placed = windows(model.write_window, model.write_head, heads)
    canvases = torch.stack([model.mean(s.canvas) for s in states])
    row = Row("canvas", "The canvas is seen growing", canvases, placed, *WRITTEN)
    draws = f"{name} draws {counted(n, 'images')} of its own in {len(states)} steps."
    return animation([row], f"{draws} {row.sentence}", **look)


def redrawing_of(
    model: Any, data: Data, n: int = 4, *, seed: int = 0, **words: Any
) -> Animation:
    """A pass over n test images, a seeded draw.

    Raises:
        ValueError: for a model without steps, fewer images than one or more than there
            are, no seed, or images of another shape or likelihood than the model's.
    """
    check_seed(seed)
    check_likelihood(with_steps(model), data)
    chosen = stratified_subset(data.test, n, seed)
    x = data.binarise(data.test.images[chosen], split="test")
    x = x.to(next(model.parameters()))
    seen = model.trace(x, generator=torch.Generator().manual_seed(seed))
    # Of a name like "folder:shapes (28x28 grey, …)" the part that is short.
    what = f"test images of {data.name.partition(' (')[0]}"
    if data.test.labels is not None:
        labels = ", ".join(str(int(label)) for label in data.test.labels[chosen])
        what += f" (labels {labels})"
    L = model.latent_space().detach() if hasattr(model, "L") else None
    return redrawing(seen, memory=L, what=what, **words)


def animation(
    rows: Sequence[Row],
    alt: str,
    *,
    frames: int | None = None,
    scale: int | None = None,
    fps: int = 10,
) -> Animation:
    """Rows of all steps as an animation of some, the first and the last among them.

    ``frames``: how many of the steps, spread evenly, left out all; ``scale``: pixels on
    the screen for a pixel, left out such that the longer side has about 112; ``fps``:
    steps a second.

    Raises:
        ValueError: for numbers out of range, or for pictures that would be too large.
    """
    T, n, channels, height, width = rows[0].images.shape
    if channels not in (1, 3):
        letters = " (a model of words: page shows it)" if channels == WORD[0] else ""
        raise ValueError(f"images have {channels} channels{letters}; allowed: 1 or 3")
    fps = plain("fps", fps, int)
    frames = None if frames is None else plain("frames", frames, int)
    scale = None if scale is None else plain("scale", scale, int)
    if not 1 <= fps <= 50:
        raise ValueError(f"fps is {fps}; allowed: 1 to 50")
    if frames is not None and not 1 <= frames <= T:
        raise ValueError(f"frames is {frames}; allowed: 1 to {T}, the model's steps")
    if scale is None:
        scale = max(1, round(SIDE / max(height, width)))
    if scale < 1:
        raise ValueError(f"scale is {scale}; allowed: 1 or more")
    steps = torch.linspace(1 if frames != 1 else T, T, frames or T).round().long()
    area = n * height * width * scale**2 * len(rows) * len(steps)
    if max(n, len(steps)) * max(height, width) * scale > MOST_SIDE or area > MOST_AREA:
        raise ValueError(
            f"{counted(n, 'images')} at scale {scale} in {len(steps)} frames are too "
            "large; allowed: fewer images, fewer frames, a smaller scale"
        )
    shown = tuple(row.at(steps - 1) for row in rows)
    alt = alt[0].upper() + alt[1:] if alt.startswith("the ") else alt
    return Animation(shown, tuple(steps.tolist()), T, alt, scale, fps)


def with_steps(model: Any) -> Recurrent:
    """The model, where it draws step by step.

    Raises:
        ValueError: where it does not.

    Example:
        >>> from drawlib.vae import VAE, VAEConfig
        >>> with_steps(VAE(VAEConfig.preset("tiny")))
        Traceback (most recent call last):
        ValueError: the model is a VAE, which adds to no canvas; allowed: DRAW, GLAS, \
ConvDRAW
    """
    if not isinstance(model, Recurrent):
        kind = type(model).__name__
        allowed = "DRAW, GLAS, ConvDRAW"
        raise ValueError(
            f"the model is a {kind}, which adds to no canvas; allowed: {allowed}"
        )
    return model


def shades_of(memory: Tensor) -> Tensor:
    """A latent space from its smallest value, 0, to its largest, 1."""
    low, high = memory.min(), memory.max()
    return (memory - low) / (high - low).clamp(min=1e-12)


def counted(n: int, what: str) -> str:
    """A number with its noun.

    Example:
        >>> counted(1, "test images (labels 7)"), counted(2, "images")
        ('1 test image (label 7)', '2 images')
    """
    if n == 1:
        what = what.replace("images", "image").replace("labels", "label")
    return f"{n} {what}"


# How it is drawn


def cell(row: Row, frame: int, k: int, corner: tuple[int, int], scale: int) -> Cell:
    """One picture with its window, which runs through the outermost centres.

    Its line is thicker where the filters are wider, within 2 to 6 pixels.
    """
    place = Cell(pixels_of(row.images[frame, k]), *corner, scale, None, 0, row.colour)
    if row.windows is None:
        return place
    mu_x, mu_y, sigma, _ = (values[frame, k].float().cpu() for values in row.windows)
    low_x, high_x, low_y, high_y = (
        scale * (float(value) + 0.5)  # the middle of a pixel
        for value in (mu_x.min(), mu_x.max(), mu_y.min(), mu_y.max())
    )
    thick = min(max(2, round(0.5 * scale * float(sigma))), 6)
    return place._replace(window=(low_x, low_y, high_x, high_y), thick=thick)


def pixels_of(image: Tensor) -> np.ndarray:
    """An image as bytes (height, width, 3): one channel is ink on paper.

    Example:
        >>> pixels_of(torch.tensor([[[0.0, 1.0]]])).tolist()
        [[[255, 255, 255], [0, 0, 0]]]
    """
    values = image.detach().float().clamp(0, 1).cpu()
    values = 1 - values.expand(3, -1, -1) if len(values) == 1 else values
    return (255 * values).round().to(torch.uint8).permute(1, 2, 0).numpy()


def paint(sheet: Sheet) -> Image.Image:
    """A sheet as pixels. A window is cut where its picture ends."""
    picture = Image.new("RGB", sheet.size, PAPER)
    pen = ImageDraw.Draw(picture)
    for left, top, text in sheet.texts:
        pen.text((left, top), text, TEXT, font())
    for each in sheet.cells:
        part = Image.fromarray(each.pixels).resize(each.size, Image.Resampling.NEAREST)
        lines = ImageDraw.Draw(part)
        if each.window is not None:
            for colour, thick in outlines(each):
                # Pillow draws a line inward from the corners; here they are its middle.
                low_x, low_y, high_x, high_y = each.window
                half = thick / 2
                box = (low_x - half, low_y - half, high_x + half, high_y + half)
                lines.rectangle([round(v) for v in box], outline=colour, width=thick)
        lines.rectangle((0, 0, each.size[0] - 1, each.size[1] - 1), outline=EDGE)
        picture.paste(part, (each.left, each.top))
    return picture


def outlines(each: Cell) -> list[tuple[str, int]]:
    """A white line below the coloured one, which must be seen on black ink too."""
    return [(PAPER, each.thick + 2), (PALETTE[each.colour], each.thick)]


def svg(sheet: Sheet, alt: str) -> str:
    """A sheet as SVG, for print and for large screens."""
    width, height = sheet.size
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        f"<title>{html.escape(alt)}</title>",
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        f'<g font-family="sans-serif" font-size="{LETTERS}" fill="{TEXT}">',
        *(
            f'<text x="{left}" y="{top + LETTERS}">{html.escape(text)}</text>'
            for left, top, text in sheet.texts
        ),
        "</g>",
    ]
    for each in sheet.cells:
        wide, high = each.size
        # An <svg> inside cuts the window off where the picture ends.
        parts += [
            f'<svg x="{each.left}" y="{each.top}" width="{wide}" height="{high}">',
            f'<image width="{wide}" height="{high}" style="image-rendering: pixelated" '
            f'href="{data_uri("png", png_bytes(Image.fromarray(each.pixels)))}"/>',
        ]
        if each.window is not None:
            low_x, low_y, high_x, high_y = each.window
            parts += [
                f'<rect x="{low_x:.2f}" y="{low_y:.2f}" width="{high_x - low_x:.2f}" '
                f'height="{high_y - low_y:.2f}" fill="none" stroke="{colour}" '
                f'stroke-width="{thick}"/>'
                for colour, thick in outlines(each)
            ]
        edge = f'width="{wide}" height="{high}" fill="none" stroke="{EDGE}"'
        parts += [f"<rect {edge}/>", "</svg>"]
    return "\n".join([*parts, "</svg>", ""])


def palette(rows: Sequence[Row]) -> Image.Image:
    """The colours of a GIF: greys, those of the windows, and those of colour images."""
    named = [PAPER, EDGE, TEXT, *PALETTE.values()]
    colours = [*(tuple(bytes.fromhex(name[1:])) for name in named), *SHADES]
    if rows[0].images.shape[2] == 3:
        images = [image for row in rows[:2] for image in row.images[-1]]
        seen = Image.fromarray(pixels_of(torch.cat(images, 1))).quantize(
            200, Image.Quantize.MEDIANCUT
        )
        own = seen.getpalette() or []
        colours += list(zip(own[::3], own[1::3], own[2::3], strict=True))
    table = Image.new("P", (1, 1))
    table.putpalette([value for colour in colours for value in colour])
    return table


def png_bytes(picture: Image.Image) -> bytes:
    """A picture as a PNG."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def data_uri(kind: str, content: bytes) -> str:
    """An image as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


@cache
def font() -> Any:
    """Pillow's own letters: the same on every machine."""
    return ImageFont.load_default(LETTERS)


# Files


LOUD = ("-loglevel", "error")
PATIENCE = 600.0  # seconds; a film takes a few


def failed(reason: str) -> ValueError:
    """Why there is no film."""
    return ValueError(f"ffmpeg failed: {reason}; a .gif needs no ffmpeg")


def ffmpeg() -> str:
    """Where ffmpeg is.

    Raises:
        ValueError: where it is not found.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise ValueError("a .mp4 needs ffmpeg, which is not found; allowed: .gif")
    return program


def check_target(out: Path) -> None:
    """Refuse a file that cannot be written, before anything is computed.

    Raises:
        ValueError: for another suffix, or a ``.mp4`` where ffmpeg is not found.
        OSError: as ``files.check_target``.
    """
    files.check_target(out, *WRITERS)
    if out.suffix.lower() == ".mp4":
        ffmpeg()


def beside(out: Path) -> Path:
    """The file with the description of another.

    Example:
        >>> beside(Path("draw.gif")).name
        'draw.gif.txt'
    """
    return out.with_name(f"{out.name}.txt")


def save(made: Animation, out: Path) -> None:
    """Write an animation, and its description into a ``.txt`` beside it.

    Raises:
        ValueError, OSError: as ``check_target``.
    """
    check_target(out)
    write_atomically(out, getattr(made, WRITERS[out.suffix.lower()])())
    write_atomically(beside(out), f"{made.alt}\n".encode())


def animate(
    model: Any,
    data: Data | None,
    out: str | Path,
    n: int = 4,
    *,
    seed: int = 0,
    frames: int | None = None,
    **look: Any,
) -> Animation:
    """Show a model drawing n test images again, or dreaming, where no data are given.

    ``look`` is a name and what ``animation`` takes. A strip has at most 8 steps where
    ``frames`` is not given.

    Raises:
        ValueError, OSError: as ``redrawing_of``, ``dreaming``, ``animation``, ``save``.
    """
    out, T = files.path_of("out", out), with_steps(model).config.T
    if frames is None and out.suffix.lower() in STRIPS:
        frames = min(COLUMNS, T)
    if data is None:
        made = dreaming(model, n, seed=seed, frames=frames, **look)
    else:
        made = redrawing_of(model, data, n, seed=seed, frames=frames, **look)
    save(made, out)
    return made
