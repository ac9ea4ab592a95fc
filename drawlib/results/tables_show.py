"""A computed table, its rows, and how they read as HTML, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

from drawlib.notebook import Shown
from drawlib.results.intervals import Difference, signed

__all__ = ["Row", "Table"]


@dataclass(frozen=True)
class Row:
    """One line of a table; what is not known is None.

    Attributes:
        ours: the mean over ``seeds``; ``spread`` is their standard deviation, or for
            one seed the standard error over images, as ``spread_of`` says.
        images_se: the standard error over images, for images in general, whatever
            the seeds: the mean of theirs.
        nats: −ELBO of images of 8 bits per value, whose row is in bits per dimension.
        split_se: of a weighted bound, the error for this split of the difference
            estimator, by which it comes from a subset.
        weighted: the importance-weighted bound of the split, from ``weighted_K``
            samples on ``weighted_images`` images and the difference estimator; its two
            errors, None where an old record does not know them.
        training_images: how many images the model saw in training.
        epochs_before: those of the training with whose weights this one began.
        peer_epochs: the epochs of a row that this one invites comparison with, if
            they are more.
        reached: whether ours is at most the goal, None where nothing is judged;
            ``verdict`` weighs it with the error.
        beside: whether the row belongs into the short table without a goal.
        gap: ours − published.
        state: ``finished``, ``36 of 300 epochs``, or ``not run``.
        difference: paired by seed, against the row that ``compared_with`` names.
        share: that difference as a share of the published number's distance.
    """

    table: str
    label: str
    name: str
    protocol: str
    split: str
    bound: str
    K: int | None = None
    images: int | None = None
    seeds: tuple[int, ...] = ()
    ours: float | None = None
    spread: float | None = None
    spread_of: str = ""
    images_se: float | None = None
    nats: float | None = None
    split_se: float | None = None
    kl: float | None = None
    reconstruction: float | None = None
    weighted: float | None = None
    weighted_se: float | None = None
    weighted_split_se: float | None = None
    weighted_K: int | None = None
    weighted_images: int | None = None
    published: float | None = None
    published_kl: float | None = None
    published_reconstruction: float | None = None
    published_bound: str = ""
    published_K: int | None = None
    published_protocol: str = ""
    published_split: str = ""
    published_training_images: int | None = None
    training_images: int | None = None
    from_memory: bool = False
    source: str = ""
    gap: float | None = None
    goal: float | None = None
    reached: bool | None = None
    why: str = ""
    state: str = "not run"
    epochs: int | None = None
    epochs_before: int = 0
    peer_epochs: int | None = None
    beside: bool = False
    note: str = ""
    parameters: int | None = None
    seconds: float | None = None
    device: str = ""
    commit: str = ""
    weights: str = ""
    rounding_nats: float | None = None
    compared_with: str = ""
    difference: Difference | None = None
    share: Difference | None = None

    def verdict(self) -> str:
        """``reached`` or ``missed``, or ``open``: the goal is as near as the errors.

        Open is what lies within two standard errors over the images, about the interval
        of 95 per cent. Empty where nothing is judged.

        Example:
            >>> row = Row("D", "a", "n", "p", "test", "error", reached=False, goal=4.2,
            ...           ours=4.5, images_se=0.2)
            >>> row.verdict()
            'open'
        """
        if self.reached is None or self.ours is None or self.goal is None:
            return ""
        if abs(self.ours - self.goal) <= 2 * (self.images_se or 0):
            return "open"
        return "reached" if self.reached else "missed"

    def all_epochs(self) -> str:
        """Its epochs, after those of a training that it went on from: ``24 + 30``."""
        before = f"{self.epochs_before:,} + " if self.epochs_before else ""
        return "" if self.epochs is None else f"{before}{self.epochs:,}"


@dataclass(frozen=True)
class Table:
    """A computed table. Jupyter shows it as HTML."""

    name: str
    title: str
    rows: tuple[Row, ...]

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Headings and texts of the columns that have anything to say."""
        lines = [[show(row) for show in COLUMNS.values()] for row in self.rows]
        kept = [k for k in range(len(COLUMNS)) if any(line[k] for line in lines)]
        heads = list(COLUMNS)
        return [heads[k] for k in kept], [[li[k] for k in kept] for li in lines]

    def shown(self) -> Shown:
        """The table as a notebook shows it."""
        return Shown(*self.cells(), f"Table {self.name}. {self.title}")

    def to_html(self) -> str:
        """An HTML table with a caption and headings that a screen reader knows."""
        return self.shown().to_html()

    def to_markdown(self) -> str:
        """The same for a README."""
        return self.shown().to_markdown()

    def to_csv(self) -> str:
        """Every field of every row, unrounded."""
        out = io.StringIO()
        names = [f.name for f in fields(Row)]
        writer = csv.DictWriter(out, names, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            values = asdict(row)
            values["seeds"] = " ".join(str(seed) for seed in row.seeds)
            values["difference"] = row.difference or ""
            values["share"] = row.share or ""
            writer.writerow({k: "" if v is None else v for k, v in values.items()})
        return out.getvalue()

    def _repr_html_(self) -> str:
        return self.to_html()


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def show_ours(row: Row) -> str:
    if row.ours is None:
        return "" if row.state == "published" else "not run"
    spread = "" if row.spread is None else f" ± {row.spread:.2f}"
    return f"{row.ours:.2f}{spread}"


def show_seeds(row: Row) -> str:
    if not row.seeds:
        return ""
    listed = ", ".join(str(seed) for seed in row.seeds)
    return f"{listed} (± over {row.spread_of})"


def show_weighted(row: Row) -> str:
    if row.weighted is None:
        return ""
    return f"{row.weighted:.2f} ± {show_error(row.weighted_se)} ({show_k(row)})"


def show_error(value: float | None) -> str:
    """An error; where an old record does not know it, a question mark.

    Example:
        >>> show_error(None), show_error(0.251)
        ('?', '0.25')
    """
    return "?" if value is None else f"{value:.2f}"


def show_k(row: Row) -> str:
    """How a weighted bound was measured: ``K 5,000 on 1,000 images``."""
    K, images = row.weighted_K or row.K, row.weighted_images or row.images
    return f"K {K:,} on {images:,} images"


def show_training(row: Row) -> str:
    """On how many images each of the two was trained."""
    ours = "" if row.training_images is None else f"{row.training_images:,}"
    theirs = row.published_training_images
    published = "" if theirs is None else f"{theirs:,} (published)"
    return ", ".join(filter(None, (ours, published)))


def show_published(row: Row) -> str:
    if row.published is None:
        return ""
    marks = [row.published_bound] if row.published_bound != row.bound else []
    if row.published_K not in (None, 1, row.K):
        marks.append(f"K {row.published_K:,}")
    if row.published_split == "unverified":
        marks.append("split unverified")
    if row.protocol and row.published_protocol != row.protocol:
        marks.append(row.published_protocol)
    if row.from_memory:
        marks.append("from memory")
    return number(row.published) + (f" ({'; '.join(marks)})" if marks else "")


def show_goal(row: Row) -> str:
    if row.goal is None:
        return ""
    return ", ".join(filter(None, (f"≤ {row.goal:.2f}", row.verdict())))


def show_split(row: Row) -> str:
    return row.split if row.name else row.published_split


def show_what(row: Row) -> str:
    if not row.name:
        samples = "" if row.published_K is None else f", K {row.published_K:,}"
        return row.published_bound + samples
    if row.K is None:
        return row.bound
    images = "" if row.images is None else f", {row.images:,} images"
    return f"{row.bound}, K {row.K:,}{images}"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "row": lambda row: row.label,
    "protocol": lambda row: row.protocol or row.published_protocol,
    "split": show_split,
    "bound": show_what,
    "ours": show_ours,
    "in nats": lambda row: number(row.nats),
    "seeds": show_seeds,
    "KL": lambda row: number(row.kl),
    "reconstruction": lambda row: number(row.reconstruction),
    "importance-weighted": show_weighted,
    "± this split": lambda row: number(row.split_se),
    "± images in general": lambda row: (
        "" if row.split_se is None else number(row.images_se)
    ),
    "published": show_published,
    "training images": show_training,
    "gap": lambda row: signed(row.gap),
    "goal": show_goal,
    "paired difference": lambda row: (
        ""
        if row.difference is None
        else f"{row.difference}; from {row.compared_with.partition('/')[2]}"
    ),
    "share of the gap": lambda row: "" if row.share is None else row.share.percent(),
    "budget": lambda row: (
        ""
        if row.epochs is None
        else f"{row.all_epochs()} epochs"
        + (f" ({row.state})" if " of " in row.state else "")
        + (f" ¶ ({row.peer_epochs} beside it)" if row.peer_epochs else "")
    ),
    "weights": lambda row: row.weights,
    "why": lambda row: " ".join(filter(None, [row.why, row.note])),
}
