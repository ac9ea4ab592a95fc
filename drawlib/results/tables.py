"""Every table of the course, computed from the records: as data, HTML, Markdown, CSV.

Which rows a table has, with their goals and the published numbers beside them, is data
(``zoo/tables.json``). All bounds are positive nats, lower is better; no number is
typed by hand. A row that has no record yet is there all the same, and says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from drawlib.config import Config
from drawlib.machine.files import write_atomically
from drawlib.models import CONFIGS
from drawlib.results import zoo
from drawlib.results.intervals import Difference
from drawlib.results.plan import plan
from drawlib.results.tables_show import Row, Table
from drawlib.results.zoo import Record, published, records
from drawlib.training.schedule import TrainConfig

__all__ = [
    "Difference",
    "Row",
    "Table",
    "definitions",
    "paired",
    "table",
    "table_names",
    "unpaired",
    "weighted",
    "write_tables",
]

DEFAULTS = TrainConfig().to_dict()
# What may differ between two trainings of one recipe.
NO_RECIPE = ("seed", "device", "compile", "recompute", "checkpoint_seconds")
BOUNDS = {
    "neg_elbo": "−ELBO",
    "neg_iw": "importance-weighted",
    "bits": "−ELBO, bits per dimension",
    "error": "error, per cent",
}


def table_names() -> dict[str, str]:
    """The tables and their titles.

    Example:
        >>> table_names()["B"]
        'MNIST, fixed binarisation'
    """
    return {name: entry["title"] for name, entry in definitions().items()}


def definitions() -> dict[str, Any]:
    return json.loads((zoo.ZOO / "tables.json").read_text(encoding="utf-8"))


def of_name(found: Sequence[Record], name: str) -> list[Record]:
    """The records of one row, ``protocol/row``."""
    return [r for r in found if r.line == name]


def recipe(record: Record, apart_from: Sequence[str] = ()) -> dict[str, Any]:
    """How it was trained, without what two seeds of one recipe may differ in.

    A field that is younger than the record had its default.
    """
    config = {**DEFAULTS, **record["train_config"]}
    left_out = (*NO_RECIPE, *apart_from)
    return {k: v for k, v in config.items() if k not in left_out}


def sizes(record: Record) -> dict[str, Any]:
    """The model's config; a field that is younger than the record had its default."""
    config = CONFIGS.get(record["kind"], Config)
    return {**{k: getattr(config, k) for k in config.LATER}, **record["config"]}


def trained_on(record: Record) -> int | None:
    """How many images the model saw: older records were measured on all of them."""
    known: int | None = record.values.get("training_images")
    return known or record["bounds"].get("train", {}).get("images")


def one_recipe(found: list[Record]) -> tuple[list[Record], str]:
    """Those of one recipe, the one with the most seeds, then epochs; and a remark."""
    groups: dict[str, list[Record]] = {}
    for record in found:
        key = json.dumps([recipe(record), sizes(record)], sort_keys=True)
        groups.setdefault(key, []).append(record)
    if not groups:
        return [], ""
    best = max(groups.values(), key=lambda g: (len(g), g[0]["epochs"]))
    others = [r for g in groups.values() if g is not best for r in g]
    left = ", ".join(f"seed {r['seed']} ({r['epochs']} epochs)" for r in others)
    return best, f"Trained otherwise and left out: {left}." if left else ""


def measured(
    record: Record, measure: str, split: str
) -> tuple[float | None, float | None, dict[str, Any]]:
    """The number, its standard error over images, and where it stands in the record."""
    if measure == "neg_iw":
        part = weighted(record) or {}
        part = part if part.get("split", split) == split else {}
        return part.get("whole_neg_iw"), part.get("whole_neg_iw_se"), part
    part = record["bounds"].get(split, {})
    key = "neg_elbo" if measure == "bits" else measure
    value, error = part.get(key), part.get(f"{key}_se")
    if measure == "bits":
        nats = math.log(2) * math.prod(record["config"]["image_shape"])
        value, error = (None if v is None else v / nats for v in (value, error))
    return value, error, part


def weighted(record: Record) -> dict[str, Any] | None:
    """The importance-weighted bound of a record, with that of the whole split.

    Where every image was weighted, that is the bound itself. Where a subset was and
    the record is older than ``whole_neg_iw``, the difference estimate follows from
    what it holds (``drawlib.evaluation.whole_split``), but not its errors: the gap's
    spread over images was not recorded. They are None then.

    Example:
        >>> found = weighted(records("mnist-dynamic", "ladder-paper-short")[0])
        >>> found["neg_iw"] < found["whole_neg_iw"], found["whole_neg_iw_se"]
        (True, None)
    """
    part = record["importance_weighted"]
    if not part or None in (part["neg_iw"], part["neg_iw_se"]):
        return None
    if part.get("whole_neg_iw") is not None:
        return part
    bound = record["bounds"].get(part["split"], {})
    if part["images"] == bound.get("images"):
        own = {"whole_neg_iw": part["neg_iw"], "whole_neg_iw_se": part["neg_iw_se"]}
        return {**part, **own, "whole_neg_iw_split_se": None}
    whole = bound["neg_elbo"] - part["neg_elbo"] + part["neg_iw"]
    unknown = {"whole_neg_iw_se": None, "whole_neg_iw_split_se": None}
    return {**part, "whole_neg_iw": whole, **unknown}


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """The mean of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def paired(
    found: Sequence[Record],
    name: str,
    other: str,
    *,
    measure: str = "neg_elbo",
    split: str = "test",
    apart_from: Sequence[str] = (),
) -> Difference | None:
    """``name`` minus ``other``, seed by seed, among the records ``found``.

    Two records are a pair if their seeds and their recipes are equal: the same epochs,
    rates and schedule, apart from the fields named in ``apart_from``, which are then
    what is compared. None where there is no pair.

    Example:
        >>> paired(records(), "mnist-dynamic/vae-gated", "mnist-dynamic/vae-gated").mean
        0.0
    """
    sides = of_name(found, name), of_name(found, other)
    values = []
    for a in sides[0]:
        for b in sides[1]:
            same = recipe(a, apart_from) == recipe(b, apart_from)
            if same and a["seed"] == b["seed"]:
                x, y = (measured(r, measure, split)[0] for r in (a, b))
                if x is not None and y is not None:
                    values.append(x - y)
    return Difference.of(values) if values else None


def unpaired(
    found: Sequence[Record],
    name: str,
    other: str,
    *,
    measure: str = "neg_elbo",
    split: str = "test",
) -> Difference | None:
    """``name`` minus ``other`` by Welch, of all seeds of both; None without a pair.

    Of each row the seeds of its one recipe count, as in the tables, and the two
    recipes must be equal.

    Example:
        >>> rows = "mnist-dynamic/vae-source-V1", "mnist-dynamic/vae-source"
        >>> str(unpaired(records(), *rows)).partition(" [")[0]
        '+32.53'
    """
    sides = [one_recipe(of_name(found, row))[0] for row in (name, other)]
    if not all(sides) or recipe(sides[0][0]) != recipe(sides[1][0]):
        return None
    values = [[measured(r, measure, split)[0] for r in side] for side in sides]
    known = [[v for v in side if v is not None] for side in values]
    return Difference.welch(known[0], known[1]) if all(known) else None


def table(name: str, found: Sequence[Record] | None = None) -> Table:
    """One table, computed from the records that ship, or from those given.

    Raises:
        ValueError: for a name that ``table_names`` does not list.

    Example:
        >>> first = table("A").rows[2]
        >>> first.label, first.split, first.seeds, first.published
        ('VAE', 'test', (0, 1, 2), 123.81)
    """
    known = definitions()
    if name not in known:
        raise ValueError(f"table is {name!r}; allowed: {', '.join(known)}")
    entry = known[name]
    found = records() if found is None else found
    rows = tuple(
        fill(name, line, entry["measure"], split, found)
        for line in entry["rows"]
        for split in entry["splits"]
    )
    return Table(name, entry["title"], rows)


def fill(
    of: str, line: dict[str, Any], measure: str, split: str, found: Sequence[Record]
) -> Row:
    """One row from its definition and the records."""
    name = line["name"] or ""
    values: dict[str, Any] = {key: line[key] for key in ("goal", "why") if key in line}
    values["beside"] = line.get("beside", False)
    values |= beside(line.get("published"), split)
    if not name:
        values |= {"state": "published", "gap": None}
        return Row(of, line["label"], "", "", split, "", **values)
    protocol = name.partition("/")[0]
    chosen, values["note"] = one_recipe(of_name(found, name))
    if chosen:
        values |= ours(chosen, measure, split)
        values["state"] = state_of(name, chosen)
    if chosen and values.get("ours") is not None:
        same = (protocol, BOUNDS[measure])
        if (values.get("published_protocol"), values.get("published_bound")) == same:
            # Another protocol's number, or another bound's, has no gap to ours.
            values["gap"] = values["ours"] - values["published"]
        if peers := of_name(found, line.get("as_long_as", "")):
            longest = one_recipe(peers)[0][0]["epochs"]
            values["peer_epochs"] = longest if longest > values["epochs"] else None
        if "goal" in values and split == "test":
            values["reached"] = values["ours"] <= values["goal"]
        if other := line.get("compare"):
            values["compared_with"] = other
            values["difference"] = paired(
                found,
                name,
                other,
                measure=measure,
                split=split,
                apart_from=line.get("apart_from", ()),
            )
            values["share"] = share(values, of_name(found, other), measure, split)
    if split != "test":
        values["goal"] = None
    remarks = {r["note"]: None for r in chosen if r["note"]}
    values["note"] = " ".join([*remarks, values["note"]]).strip()
    return Row(of, line["label"], name, protocol, split, BOUNDS[measure], **values)


def share(
    values: dict[str, Any], right: list[Record], measure: str, split: str
) -> Difference | None:
    """The difference as a share of what parts the right row from the published one."""
    difference, theirs = values["difference"], values["published"]
    base = [measured(r, measure, split)[0] for r in one_recipe(right)[0]]
    numbers = [value for value in base if value is not None]
    if difference is None or theirs is None or not numbers:
        return None
    return difference.over(theirs - fmean(numbers))


def beside(key: str | None, split: str) -> dict[str, Any]:
    """The published number of a split and what it is."""
    if key is None:
        return {"published": None}
    entry = published()[key]
    part = entry if split == "test" else entry.get(split, {})
    return {
        "published": part.get("value", part.get("neg_elbo")),
        "published_kl": part.get("kl"),
        "published_reconstruction": part.get("reconstruction"),
        "published_bound": entry["bound"].replace("-ELBO", "−ELBO"),
        "published_K": entry.get("samples"),
        "published_protocol": entry["protocol"],
        "published_split": entry["split"] if split == "test" else split,
        "published_training_images": entry.get("training_images"),
        "from_memory": entry["from_memory"],
        "source": entry["source"],
    }


def ours(chosen: list[Record], measure: str, split: str) -> dict[str, Any]:
    """Means over the seeds of one row."""
    each = [measured(r, measure, split) for r in chosen]
    numbers = [value for value, _, _ in each if value is not None]
    first, part = chosen[0], each[0][2]
    several = len(numbers) > 1
    values: dict[str, Any] = {
        "seeds": tuple(r["seed"] for r in chosen),
        "epochs": min(r["epochs"] for r in chosen),
        "epochs_before": began["epochs"] if (began := first.began) else 0,
        "parameters": first["parameters"],
        "seconds": fmean(r["seconds"] for r in chosen),
        "device": first["device"],
        "commit": (first["commit"] or "")[:12],
        "K": part.get("samples"),
        "images": part.get("images"),
        "training_images": trained_on(first),
        # All seeds have the same images, so their errors hardly average out: the
        # error of the mean is at most the mean of the errors, and close to it.
        "images_se": mean_of_known(error for _, error, _ in each),
    }
    if numbers:
        values["ours"] = fmean(numbers)
        values["spread"] = stdev(numbers) if several else values["images_se"]
        values["spread_of"] = "seeds" if several else "images"
    if measure == "bits":
        values["nats"] = mean_of_known(p.get("neg_elbo") for _, _, p in each)
    if measure == "neg_elbo":
        for key in ("kl", "reconstruction"):
            if parts := [v for _, _, p in each if (v := p.get(key)) is not None]:
                values[key] = fmean(parts)
        all_weighted = [w for r in chosen if (w := weighted(r))]
        same = len({(w["samples"], w["images"]) for w in all_weighted}) == 1
        if split == "test" and same:
            values |= of_weighted(all_weighted)
    if measure == "neg_iw":
        values["split_se"] = mean_of_known(
            p.get("whole_neg_iw_split_se") for _, _, p in each
        )
    shipped = next((r["weights"] for r in chosen if r["weights"]), None)
    if shipped:
        values["weights"] = f"{shipped['file']}, {shipped['bytes'] / 1e6:.1f} MB"
        values["rounding_nats"] = shipped.get("rounding_nats")
    return values


def of_weighted(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The column beside a −ELBO: means over the seeds that have a weighted bound."""
    return {
        "weighted": fmean(w["whole_neg_iw"] for w in found),
        "weighted_se": mean_of_known(w["whole_neg_iw_se"] for w in found),
        "weighted_split_se": mean_of_known(w["whole_neg_iw_split_se"] for w in found),
        "weighted_K": found[0]["samples"],
        "weighted_images": found[0]["images"],
    }


def state_of(name: str, chosen: list[Record]) -> str:
    """Whether the training is as long as planned."""
    planned = plan().get(name)
    done = min(r["epochs"] for r in chosen)
    if planned is None or done >= planned.train.epochs:
        return "finished"
    return f"{done} of {planned.train.epochs} epochs"


def write_tables(folder: Path, found: Sequence[Record] | None = None) -> list[Path]:
    """Every table as CSV, Markdown and HTML; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in definitions():
        computed = table(name, found)
        for ending, text in {
            "csv": computed.to_csv(),
            "md": computed.to_markdown(),
            "html": computed.to_html(),
        }.items():
            path = folder / f"table-{name}.{ending}"
            write_atomically(path, (text.rstrip("\n") + "\n").encode())
            paths.append(path)
    return paths
