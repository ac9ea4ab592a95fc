"""The course in one table: the rows with a goal, a published number, or beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from textwrap import wrap

from drawlib.notebook import Shown
from drawlib.results.intervals import signed
from drawlib.results.plan import Planned, plan
from drawlib.results.tables import BOUNDS, table
from drawlib.results.tables_show import Row, number, show_error, show_goal, show_k
from drawlib.results.zoo import Record, records

__all__ = ["Glance", "Line", "glance", "has_short", "is_short"]

TABLES = ("A", "B", "B-weighted", "C", "D", "F", "G")
HEADS = ("row", "ours", "±", "published", "gap", "goal", "epochs")
WEIGHTED = BOUNDS["neg_iw"]
ERROR = (
    "± is the standard error over test images, for images in general (of several "
    "seeds: the mean of theirs); in B-weighted, where it follows from a subset by the "
    "difference estimator, the error for this very split stands in brackets."
)
MARKS = {
    "†": "a short training, which gets no verdict",
    "‡": "from memory: check it before you quote it",
    "§": "split unverified",
    "¶": "fewer epochs than the row that it stands beside, so no comparison with it",
}


def is_short(record: Record, planned: Mapping[str, Planned] | None = None) -> bool:
    """Whether a training was cut short of its plan, or is short on purpose.

    Such a training gets a dagger, and no verdict against a goal. ``planned`` saves
    reading the plan again for each record.

    Example:
        >>> [is_short(r) for r in records("mnist-dynamic", "vae-gated")]
        [False]
    """
    if any(word in record["note"].lower() for word in ("provisional", "ablation")):
        return True
    known = plan() if planned is None else planned
    its = known.get(record.line)
    return its is not None and record["epochs"] < its.train.epochs


def has_short(
    row: Row, found: Sequence[Record], planned: Mapping[str, Planned] | None = None
) -> bool:
    """Whether one of the trainings behind a row is short.

    Example:
        >>> has_short(table("A").rows[2], records())
        False
    """
    return any(
        is_short(record, planned)
        for record in found
        if record.line == row.name and record["seed"] in row.seeds
    )


@dataclass(frozen=True)
class Line:
    """One row of a table of the course, and whether one of its trainings is short.

    ``part``: its bound is of fewer images than those of the rows beside it.
    """

    row: Row
    short: bool
    part: bool = False

    @property
    def heading(self) -> str:
        """What the numbers of its table are: ``B: mnist-fixed, −ELBO``."""
        return f"{self.row.table}: {self.row.protocol}, {self.row.bound}"

    def error(self) -> str:
        """The standard error over images; of a weighted bound, also for this split."""
        row = self.row
        if row.ours is None:
            return ""
        if row.bound != WEIGHTED:
            return number(row.images_se)
        return f"{show_error(row.images_se)} ({show_error(row.split_se)})"

    def cells(self) -> list[str]:
        """Its texts, in the order of the headings."""
        row = self.row
        published = number(row.published)
        if row.published is not None:
            published += " ‡" if row.from_memory else ""
            published += " §" if row.published_split == "unverified" else ""
        epochs = row.all_epochs()
        if " of " in row.state:
            epochs = row.state.removesuffix(" epochs")
        epochs += " ¶" if row.peer_epochs else ""
        how = f" (on {row.images:,} images)" if self.part else ""
        if row.bound == WEIGHTED and row.K:
            how = f" ({show_k(row)})"
        return [
            row.label + how + (" †" if self.short else ""),
            "not run" if row.ours is None else number(row.ours),
            self.error(),
            published,
            signed(row.gap),
            show_goal(replace(row, reached=None) if self.short else row),
            epochs,
        ]


@dataclass(frozen=True, repr=False)
class Glance:
    """The lines, by table. Jupyter shows them as HTML."""

    lines: tuple[Line, ...]

    def to_markdown(self) -> str:
        """For a README: the headings are lines of their own, in bold."""
        marks = "\n".join(wrap(self.marks(), 88))
        return f"{self.shown().to_markdown()}\n{marks}\n"

    def shown(self) -> Shown:
        """The table as a notebook shows it."""
        by_table = groupby(self.lines, lambda line: line.heading)
        lines = [
            cells
            for heading, part in by_table
            for cells in ([heading], *(line.cells() for line in part))
        ]
        about = (
            "In one table: nats per image (F: per word; D: per cent of errors), lower "
            "is better. "
        )
        return Shown(HEADS, lines, about + self.marks())

    def marks(self) -> str:
        """What ± is, and the signs that the lines have."""
        seen = "".join(cell for line in self.lines for cell in line.cells())
        signs = [f"{sign} {told}" for sign, told in MARKS.items() if sign in seen]
        return f"{ERROR} {'; '.join(signs)}{'.' * bool(signs)}".rstrip()

    def to_html(self) -> str:
        """An HTML table with a caption and headings that a screen reader knows."""
        return self.shown().to_html()

    def __repr__(self) -> str:
        """As text, for where no HTML is shown; the fields would fill pages."""
        return repr(self.shown())

    def _repr_html_(self) -> str:
        return self.to_html()


def glance(found: Sequence[Record] | None = None) -> Glance:
    """The course in one table, from the records that ship, or from those given.

    Example:
        >>> first = glance().lines[0]
        >>> first.row.label, first.row.published, first.short
        ('VAE', 123.81, False)
    """
    found, planned = records() if found is None else found, plan()
    lines: list[Line] = []
    for name in TABLES:
        rows = [
            row
            for row in table(name, found).rows
            if row.name and row.split == "test"
            if row.goal or row.published or row.beside
        ]
        most = max(row.images or 0 for row in rows)
        for row in rows:
            part = row.images is not None and row.images < most
            lines.append(Line(row, has_short(row, found, planned), part))
    return Glance(tuple(lines))
