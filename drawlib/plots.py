"""Pictures: image grids, loss curves (also live), attention windows, bars.

Images are drawn as ink on paper: 0 is white, 1 is black. Every function takes the axes
to draw on, or makes a figure of its own, and returns the axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import matplotlib.pyplot as plt
import torch
from cycler import cycler
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from drawlib.training.runstate import History

__all__ = [
    "PALETTE",
    "bars",
    "curve",
    "draw_window",
    "letters",
    "show_images",
    "strip",
    "style",
]

# Okabe and Ito's colours: told apart with every common form of colour vision. The
# first ones differ in lightness too. Yellow is for areas: too light for lines.
PALETTE: dict[str, str] = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "black": "#000000",
    "yellow": "#F0E442",
}
COLOURS = tuple(PALETTE.values())
# A second sign beside the colour, for print and for those who see no colour.
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), "-", "--")

WIDTH = 5.2  # inches: text of 12 points is then still 12 pixels high on a phone
RC: dict[str, Any] = {
    "figure.figsize": (WIDTH, 3.2),
    "figure.dpi": 120,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.labelsize": 12,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "lines.linewidth": 2,
    "image.cmap": "gray_r",
    "axes.prop_cycle": cycler(color=COLOURS),
}


def style() -> ExitStack:
    """Use the course's look from here on, or, with ``with``, for one block.

    Figures are narrow with large letters, so that they can be read at 390 pixels.

    Example:
        >>> before = plt.rcParams["font.size"]
        >>> with style():
        ...     plt.rcParams["font.size"]
        12.0
        >>> plt.rcParams["font.size"] == before
        True
    """
    settings: Any = plt.rcParams
    undo = ExitStack()
    undo.callback(settings.update, {name: settings[name] for name in RC})
    settings.update(RC)
    return undo


def axes(ax: Axes | None, height: float, width: float = WIDTH) -> Axes:
    """The given axes, or those of a new figure, in inches."""
    return ax or plt.subplots(figsize=(width, height), layout="constrained")[1]


def show_images(
    images: Float[Tensor, "n channels height width"],
    *,
    columns: int | None = None,
    titles: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    signed: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """A grid of images, filled row by row: ink on paper, or colour for 3 channels.

    Images, a tensor or an array, are in [0, 1] and are clipped there. ``signed`` is for
    differences of images in [−1, 1]: purple below zero, orange above it. ``titles``
    stand above the single images, the labels at the edges of the grid.

    Raises:
        ValueError: for another shape, no image, 8-bit levels, which are not divided by
            255 yet, or titles and labels that are not one for each.

    Example:
        >>> ax = show_images(torch.rand(10, 1, 28, 28), columns=5)
        >>> ax.images[0].get_array().shape
        (58, 148)
    """
    images = torch.as_tensor(images)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
        raise ValueError(
            f"images have shape {tuple(images.shape)}; allowed: (n, 1 or 3, height, "
            "width) with n 1 or more"
        )
    if not images.is_floating_point() and images.max() > 1:
        raise ValueError(
            f"images go up to {images.max()}; allowed: 0 to 1, such as images / 255"
        )
    n, channels, height, width = images.shape
    columns = min(columns or math.ceil(math.sqrt(n)), n)
    rows = math.ceil(n / columns)
    for texts, what, one, count in (
        (titles, "titles", "image", n),
        (row_labels, "row labels", "row", rows),
        (column_labels, "column labels", "column", columns),
    ):
        if texts is not None and len(texts) != count:
            raise ValueError(
                f"{len(texts)} {what} for {count} {one}s; allowed: one per {one}"
            )
    # A thin grey line between images; room for a line of text where there are titles.
    across, down = 2, math.ceil(0.3 * height) if titles is not None else 2
    steps_x, steps_y = width + across, height + down
    paper = 0.0 if signed else 0.12
    sheet = torch.full(
        (rows * steps_y - down, columns * steps_x - across, channels),
        0.0 if titles is not None else paper,
    )
    for k, image in enumerate(images.detach().float().cpu()):
        y, x = (k // columns) * steps_y, (k % columns) * steps_x
        sheet[y : y + height, x : x + width] = image.permute(1, 2, 0)
    # Few images stay small; the file shrinks with them.
    side = min(WIDTH, max(2.6, 1.5 * columns))
    ax = axes(ax, min(8.0, side * len(sheet) / sheet.shape[1] + 0.3), side)
    if channels == 3:
        ax.imshow(sheet.clamp(0, 1).numpy())
    else:
        # Few shades: as good to the eye, and a third of the file. Odd, so that a
        # difference of 0 is white.
        low, name = (-1.0, "PuOr_r") if signed else (0.0, "gray_r")
        cmap = plt.get_cmap(name, 33)
        ax.imshow(sheet[..., 0].clamp(low, 1).numpy(), cmap=cmap, vmin=low, vmax=1)
    middles_x = [c * steps_x + (width - 1) / 2 for c in range(columns)]
    middles_y = [r * steps_y + (height - 1) / 2 for r in range(rows)]
    ax.set_xticks(middles_x if column_labels is not None else [], column_labels)
    ax.set_yticks(middles_y if row_labels is not None else [], row_labels)
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    for k, text in enumerate(titles or ()):
        above = (k // columns) * steps_y - 1.5
        where: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 11}
        ax.text(middles_x[k % columns], above, text, **where)
    return ax


def strip(
    steps: Float[Tensor, "T n channels height width"],
    *,
    step_labels: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
    signed: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Time runs to the right: one row per image, one column per step t = 1 … T.

    Raises:
        ValueError: for another number of axes.

    Example:
        >>> strip(torch.rand(4, 2, 1, 28, 28)).images[0].get_array().shape
        (58, 118)
    """
    if steps.ndim != 5:
        raise ValueError(
            f"steps have shape {tuple(steps.shape)}; "
            "allowed: (T, n, channels, height, width)"
        )
    T = len(steps)
    every = math.ceil(T / 12)
    shown = [str(t) if t in (1, T) or t % every == 0 else "" for t in range(1, T + 1)]
    ax = show_images(
        steps.transpose(0, 1).flatten(0, 1),
        columns=T,
        row_labels=row_labels,
        column_labels=step_labels or shown,
        signed=signed,
        ax=ax,
    )
    if step_labels is None:
        ax.set_xlabel("step t")
    return ax


def letters(
    steps: Float[Tensor, "T channels height places"],
    *,
    row_labels: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A word as it is written: one row per step, the likeliest letter at every place.

    The shade behind a letter is its probability, from white (0) to dark (1); a dot is
    the end. What stands after the first dot belongs to no word, and is drawn in grey.

    Raises:
        ValueError: for anything but pictures of 27 channels and one row.

    Example:
        >>> from drawlib.data.words import codes_of, images_of
        >>> word = torch.from_numpy(images_of(codes_of(["LEE"]))).float()
        >>> [t.get_text() for t in letters(word).texts[:4]]
        ['L', 'E', 'E', '·']
    """
    if steps.ndim != 4 or steps.shape[1:3] != (27, 1):
        raise ValueError(
            f"steps have shape {tuple(steps.shape)}; allowed: (T, 27, 1, places)"
        )
    sure, signs = (part.cpu().numpy() for part in steps[:, :, 0].max(1))
    T, places = signs.shape
    ax = axes(ax, 0.7 + 0.26 * T)
    ax.imshow(sure, vmin=0, vmax=1.4, cmap="Blues", aspect="auto")
    for t, row in enumerate(signs.tolist()):
        ended = row.index(26) if 26 in row else places
        for place, sign in enumerate(row):
            text = "·" if sign == 26 else chr(ord("A") + sign)
            colour = "black" if place <= ended else "#767676"
            where: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 11}
            ax.text(place, t, text, color=colour, **where)
    named = list(row_labels or map(str, range(1, T + 1)))
    ax.set_yticks(range(T), named)
    ax.set_xticks([])
    if row_labels is None:
        ax.set_ylabel("step t")
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def curve(
    rows: History | Sequence[Mapping[str, float]],
    columns: str | Sequence[str] | Mapping[str, str],
    *,
    x: str = "epoch",
    xlabel: str | None = None,
    ylabel: str = "−ELBO (nats)",
    label: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Columns of a training's log against its epochs (or another column ``x``).

    ``columns`` maps names to labels, or is a name or a list of them. ``label`` is put
    before each, for a second run on the same axes, which takes the next colours.

    Raises:
        ValueError: for a column that no row has.

    Example:
        >>> log = [{"epoch": 1, "valid": 150.0}, {"epoch": 2, "valid": 130.0}]
        >>> curve(log, {"valid": "validation"}).lines[0].get_ydata()
        array([150., 130.])
    """
    lines = rows.rows if isinstance(rows, History) else tuple(rows)
    if isinstance(columns, str):
        columns = (columns,)
    named = dict(columns) if isinstance(columns, Mapping) else {c: c for c in columns}
    ax = axes(ax, 3.2)
    for name, text in named.items():
        points = [(row[x], row[name]) for row in lines if x in row and name in row]
        if not points:
            known = sorted({key for row in lines for key in row})
            raise ValueError(f"no row has {x!r} and {name!r}; allowed: {known}")
        sign = LINES[len(ax.lines) % len(LINES)]
        shown = f"{label} {text}".strip()
        marker = "o" if len(points) == 1 else None  # one point makes no line
        ax.plot(*zip(*points, strict=True), linestyle=sign, marker=marker, label=shown)
    ax.set_xlabel(xlabel or x)
    ax.set_ylabel(ylabel)
    if len(ax.lines) > 1:
        ax.legend()
    return ax


def draw_window(
    ax: Axes,
    mu_x: Float[Tensor, "N"],
    mu_y: Float[Tensor, "N"],
    *,
    sigma: float | None = None,
    colour: str = PALETTE["vermillion"],
    points: bool = True,
    offset: tuple[float, float] = (0.0, 0.0),
) -> Rectangle:
    """The attention window with filter centres (μ_X, μ_Y), in pixels, on an image.

    The rectangle runs through the outermost centres; the dots are the N × N grid. With
    ``sigma`` (pixels) the line is as thick as the filters are wide, within 1 to 6
    points. ``offset`` (x, y) is where the image starts in a grid of images.

    Example:
        >>> ax = show_images(torch.zeros(1, 1, 28, 28))
        >>> where = torch.tensor([4.0, 9.0, 14.0])
        >>> window = draw_window(ax, where, where + 2, sigma=1.5)
        >>> print(window.get_xy(), window.get_width())
        (4.0, 6.0) 10.0
    """
    xs = (mu_x.detach().cpu() + offset[0]).tolist()
    ys = (mu_y.detach().cpu() + offset[1]).tolist()
    thick = 1.5 if sigma is None else min(max(1.0, 1.5 * sigma), 6.0)
    window = Rectangle(
        (min(xs), min(ys)),
        max(xs) - min(xs),
        max(ys) - min(ys),
        fill=False,
        edgecolor=colour,
        linewidth=thick,
    )
    ax.add_patch(window)
    if points:
        grid = [(a, b) for b in ys for a in xs]
        ax.scatter(
            [a for a, _ in grid], [b for _, b in grid], s=9, color=colour, linewidths=0
        )
    return window


def bars(
    values: Mapping[str, float],
    errors: Mapping[str, float] | None = None,
    *,
    unit: str = "nats",
    xlabel: str | None = None,
    digits: int = 1,
    colours: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Labelled horizontal bars, from top to bottom, each with its number.

    ``errors`` are drawn as ± intervals in the same unit. Horizontal, so that long
    labels stay readable on a narrow screen.

    Example:
        >>> ax = bars({"σ free": 105.2, "σ ≥ 1": 140.9}, {"σ free": 0.4})
        >>> [text.get_text() for text in ax.texts]
        ['105.2 ± 0.4', '140.9']
    """
    if not values or not all(math.isfinite(value) for value in values.values()):
        raise ValueError(f"values are {values}; allowed: one or more, all finite")
    errors = errors or {}
    names = list(values)
    ax = axes(ax, 0.6 + 0.45 * len(names))
    ax.barh(
        names,
        list(values.values()),
        xerr=[errors.get(name, 0.0) for name in names] if errors else None,
        color=colours or [COLOURS[k % len(COLOURS)] for k in range(len(names))],
        ecolor="black",
        height=0.65,
    )
    ax.invert_yaxis()
    ends = [max(values[name], 0) + errors.get(name, 0.0) for name in names]
    for k, name in enumerate(names):
        error = f" ± {errors[name]:.{digits}f}" if name in errors else ""
        text = f"{values[name]:.{digits}f}{error}"
        at: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
        ax.annotate(text, (ends[k], k), (4, 0), **at)
    ax.set_xlim(right=max(ends) * (1.6 if errors else 1.3) or 1.0)
    ax.grid(False, axis="y")
    ax.set_xlabel(xlabel or unit)
    return ax
