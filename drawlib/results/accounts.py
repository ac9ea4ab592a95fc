"""Tables that account for themselves: reasons, where a number is from, model cards.

What chapter 14 shows beyond ``tables``: each row with why it is as it is and where it
comes from, the published numbers in the groups that may be compared, each record's
provenance, a card for each shipped model, and the tables as files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from drawlib.data.sets import DATASETS
from drawlib.machine.progress import clock
from drawlib.notebook import Below, Files, Folded, Shown
from drawlib.results.glance import has_short
from drawlib.results.plan import Planned, plan
from drawlib.results.tables import table, table_names, weighted
from drawlib.results.tables_show import Row, show_error
from drawlib.results.zoo import Record, published

__all__ = [
    "accounted",
    "candid",
    "cards",
    "provenance",
    "published_groups",
    "published_sources",
    "table_files",
]

# Of a row: in the line of its numbers; in sight below it; all else is folded.
NUMBERS = (
    "row",
    "split",
    "ours",
    "± this split",
    "± images in general",
    "published",
    "gap",
    "goal",
)
SEEN = ("paired difference", "share of the gap")
LIMITS = {
    "bernoulli": "It models 28 × 28 binary images of the kind it was trained on, and "
    "nothing else; its pixels are probabilities, not grey values.",
    "discretised-logistic": "It has seen a few thousand small photographs; its samples "
    "are blurred fields of colour.",
    "categorical": "It writes words of at most 13 letters, A to Z, of the kind it was "
    "trained on; one that it writes may be nobody's name, or somebody's.",
    "classification": "It answers with one of ten digits, whatever is shown; it knows "
    "one digit among the fragments of this generator.",
}


def candid(row: Row, short: bool, planned: Mapping[str, Planned]) -> Row:
    """The row as it may be read: reasons added, hasty verdicts withheld.

    A short training gets a dagger, and neither a verdict nor a share of a gap.

    Example:
        >>> row = candid(table("A").rows[2], True, plan())
        >>> row.label, row.reached, row.share
        ('VAE †', None, None)
    """
    if row.name and row.ours is None:
        why = "Its record lacks this." if row.seeds else why_not_measured(row, planned)
        return replace(row, why=f"{row.why} {why}".strip())
    why = " ".join([row.why, *why_the_gap(row, short)]).strip()
    if not short:
        return replace(row, why=why)
    return replace(row, label=f"{row.label} †", reached=None, share=None, why=why)


def why_not_measured(row: Row, planned: Mapping[str, Planned]) -> str:
    """What a row without a record would cost."""
    its = planned.get(row.name)
    cost = "it stands in no plan"
    if its is not None:
        seconds = its.train.epochs * its.seconds_an_epoch
        cost = f"{its.train.epochs} epochs are planned, about {clock(seconds)}"
        cost += " on one CPU core"
    return f"Not measured: no training has been finished; {cost}."


def why_the_gap(row: Row, short: bool) -> list[str]:
    """What lies between our number and the published one, besides the models."""
    if row.published is None or row.ours is None:
        return []
    if row.gap is None:
        return [
            f"No gap: published for {row.published_protocol}, {row.published_bound}."
        ]
    why = []
    if short:
        why.append(
            "A part of the gap is one of epochs."
            if row.gap > 0
            else "A short training: its length does not explain why ours is lower."
        )
    elif not row.why:
        why.append(f"Our recipe, {row.all_epochs()} epochs; theirs is another.")
    if row.published_K not in (None, row.K):
        why.append(
            f"K {row.K:,} here, {row.published_K:,} there: the larger has the "
            "advantage."
        )
    return why


def accounted(name: str, found: Sequence[Record]) -> Shown:
    """A table with two lines for each row: its numbers; below, why and where from.

    Example:
        >>> accounted("E", ()).heads
        ['row', 'ours']
    """
    planned = plan()
    computed = table(name, found)
    rows = [candid(r, has_short(r, found, planned), planned) for r in computed.rows]
    heads, texts = replace(computed, rows=tuple(rows)).cells()
    one_split = len({row.split for row in rows}) == 1
    top = [h for h in NUMBERS if h in heads and not (h == "split" and one_split)]
    said = [dict(zip(heads, values, strict=True)) for values in texts]
    return Shown(
        top,
        [[each[head] for head in top] for each in said],
        f"Table {name}. {computed.title}",
        [
            below(row, {k: v for k, v in each.items() if k not in top})
            for row, each in zip(rows, said, strict=True)
        ],
    )


def below(row: Row, texts: Mapping[str, str]) -> Below:
    """What an experiment says, and why, in sight; folded, where it is from."""
    said = dict(texts)
    for key, theirs in (
        ("KL", row.published_kl),
        ("reconstruction", row.published_reconstruction),
    ):
        if theirs is not None:
            said[key] = f"{said.get(key, '')} (published {theirs:.2f})".strip()
    if row.seconds is not None:
        minutes = f"{row.seconds / 60:,.0f} min per seed"
        said["budget"] += f", {minutes} on {of_one(row.device)}"
    said = {head: text for head, text in said.items() if text}
    if not row.name:  # somebody else's: all there is
        return Below(said)
    open_ = (*SEEN, "why") if row.split == "test" else SEEN
    seen = {head: said.pop(head) for head in open_ if head in said}
    seeds = "seed " if len(row.seeds) == 1 else "seeds "
    seeds += ", ".join(map(str, row.seeds))
    budget = "" if row.epochs is None else f": {row.all_epochs()} epochs, {seeds}"
    return Below(seen, said, f"where from{budget}")


def published_groups() -> Shown:
    """The published numbers, in the groups within which they may be compared.

    Example:
        >>> published_groups().heads
        ('protocol', 'bound', 'published numbers')
    """
    entries = sorted(
        (
            (entry["protocol"], what(entry), entry["value"], key, entry)
            for key, entry in published().items()
        ),
        key=lambda each: each[:4],
    )
    lines = []
    for (protocol, bound), part in groupby(entries, lambda each: each[:2]):
        numbers = [
            f"{key} {value:.2f}"
            + (" (split unverified)" if entry["split"] == "unverified" else "")
            + (" (from memory)" if entry["from_memory"] else "")
            for _, _, value, key, entry in part
        ]
        lines.append((protocol, bound, "; ".join(numbers)))
    return Shown(
        ("protocol", "bound", "published numbers"),
        lines,
        "Published numbers. Only within a line may they be compared without a further "
        "word.",
    )


def what(entry: Mapping[str, Any]) -> str:
    """Which bound a published number is, and how it was measured."""
    names = {"-ELBO": "−ELBO", "error": "error, per cent"}
    text = names.get(entry["bound"], entry["bound"])
    text += f", {entry['how']}" if "how" in entry else ""
    text += f", {entry['unit']}" if entry["unit"] == "bits per dimension" else ""
    return text + (f", K {entry['samples']:,}" if entry.get("samples") else "")


def published_sources() -> Folded:
    """Where each published number stands.

    Example:
        >>> len(published_sources().parts)
        1
    """
    lines = [(key, entry["source"]) for key, entry in sorted(published().items())]
    return Folded({"Where each number stands": Shown((), lines)})


def provenance(found: Sequence[Record]) -> Folded:
    """How each record was made, by protocol.

    Example:
        >>> provenance(()).parts
        {}
    """
    planned = plan()
    parts = {}
    for protocol in dict.fromkeys(r.protocol for r in found):
        those = [r for r in found if r.protocol == protocol]
        parts[f"{protocol}: {len(those)} records"] = Shown(
            ("record", "epochs", "minutes", "parameters"),
            [
                (
                    r.name,
                    f"{r.epochs}{of_planned(r, planned)}",
                    f"{r['seconds'] / 60:,.0f}",
                    f"{r['parameters']:,}",
                )
                for r in those
            ],
            f"Records of {protocol}",
            [Below(made_of(r)) for r in those],
        )
    return Folded(parts)


def of_one(device: str | None) -> str:
    """A device in words: what has one thread has no "thread(s)"."""
    return (device or "").replace(" 1 thread(s)", " 1 thread")


def of_planned(record: Record, planned: Mapping[str, Planned]) -> str:
    its = planned.get(record.line)
    return "" if its is None else f" of {its.train.epochs}"


def made_of(r: Record) -> dict[str, str]:
    """Program, data and weights of a record."""
    weights = r["weights"]
    rounding = abs((weights or {}).get("rounding_nats") or 0.0)
    texts = {
        "steps": f"{r['steps']:,}",
        "device": of_one(r["device"]),
        "commit": (r["commit"] or "unknown")[:8]
        + (", changed" if r.values.get("commit_dirty") else ""),
        "data": r["data_sha256"].get("content", "")[:8],
        "weights": ""
        if not weights
        else f"{weights['sha256'][:8]}, {weights['bytes'] / 1e6:.1f} MB"
        + (f", rounding {rounding:.4f} nats" if rounding else ""),
        "remark": r["note"],
    }
    return {key: text for key, text in texts.items() if text}


def cards(found: Sequence[Record]) -> Folded:
    """A card for each record with weights: data, training, numbers, limits, licence.

    Example:
        >>> cards(()).parts
        {}
    """
    planned = plan()
    return Folded({r.name: card(r, planned) for r in found if r["weights"]})


def card(r: Record, planned: Mapping[str, Planned]) -> Shown:
    """What a shipped model is, all of it from its record, the plan and the data set."""
    data_set, how = DATASETS[r.protocol], r["train_config"]
    weights = weighted(r)
    sizes = ", ".join(f"{k} {v}" for k, v in r["config"].items())
    fragments = (
        f"{r['fragments']} fragments per image. " if "fragments" in r.values else ""
    )
    of = of_planned(r, planned)
    entries = {
        "what": f"{r['kind']}, {r['parameters']:,} parameters; {sizes}",
        "data": f"{data_set.sentence} {fragments}{data_set.source}.",
        "training": f"{r['epochs']:g} epochs{of and of + ' planned'}, {r['steps']:,} "
        f"steps of {how['batch_size']}, learning rate {how['lr']:g} "
        f"({how['schedule']}), KL warm-up {how['kl_warmup']} epochs, "
        f"{how['precision']}, weights kept: {how['keep']}; "
        + (
            f"it began with the weights of {r.began['name']} after "
            f"{r.began['epochs']} epochs; "
            if r.began
            else ""
        )
        + f"{r['skipped_steps']:g} steps skipped; seed {r['seed']}; "
        f"{r['seconds'] / 60:,.0f} minutes on {of_one(r['device'])}",
        "train": numbers(r, "train"),
        "validation": numbers(r, "valid"),
        "test": numbers(r, "test"),
        "importance-weighted": ""
        if not weights
        else f"{weights['whole_neg_iw']:.2f} ± {show_error(weights['whole_neg_iw_se'])}"
        f" nats (± {show_error(weights['whole_neg_iw_split_se'])} for this split), "
        f"from K {weights['samples']:,} on {weights['images']:,} test images, mean ESS "
        f"{weights['ess']:.0f}",
        "limits": " ".join(limits(r, planned)),
        "licence": "weights and record: CC BY 4.0, the drawlib authors; code: MIT; the "
        f"data are not included: {data_set.licence}",
        "file": f"{r['weights']['file']}, sha256 {r['weights']['sha256']}",
    }
    return Shown((), [(head, text) for head, text in entries.items() if text])


def numbers(r: Record, split: str) -> str:
    """The bound of a split with its parts; of a classifier, its errors."""
    part = r["bounds"].get(split)
    if part is None:
        return "not measured"
    if "error" in part:
        return (
            f"{part['error']:.2f} ± {part['error_se']:.2f} % errors, "
            f"{part['images']:,} images"
        )
    return (
        f"−ELBO {part['neg_elbo']:.2f} ± {part['neg_elbo_se']:.2f} nats = "
        f"reconstruction {part['reconstruction']:.2f} + KL {part['kl']:.2f}; "
        f"K {part['samples']}, {part['images']:,} images"
    )


def limits(r: Record, planned: Mapping[str, Planned]) -> list[str]:
    """What a model cannot do, and what its number does not say."""
    its = planned.get(r.line)
    short = its is not None and r["epochs"] < its.train.epochs
    what_holds = "error rate" if r["kind"] == "classifier" else "bound"
    return [
        LIMITS[DATASETS[r.protocol].likelihood],
        *filter(None, [r["note"]]),
        *(["Its training is shorter than planned."] if short else []),
        "One seed of its row; another training gives another model.",
        f"Its {what_holds} holds for this protocol only; no use beyond teaching and "
        "research was tried.",
    ]


def table_files(found: Sequence[Record]) -> Files:
    """Every table as CSV, unrounded, to take along.

    Example:
        >>> list(table_files(()).files)[0]
        'table-A.csv'
    """
    return Files(
        "tables.zip",
        {
            f"table-{name}.csv": (title, table(name, found).to_csv())
            for name, title in table_names().items()
        },
    )
