r"""Are the recorded numbers those of the shipped weights? Recomputed without training.

For each record with weights whose data can be reached: −ELBO of the test images that
the record took (all, or a seeded part) with one posterior sample, and the
importance-weighted bound L_K on a seeded 200.
Both are means of random numbers, so each is allowed four standard errors of the
difference between two honest measurements, and 0.01 nats and two millionths of the
number for the arithmetic of another processor (a colour image has 15,000 nats):

- −ELBO: the images are the same, only the samples of z may differ (they do on another
  device): 4 √(2 v / N), with v the variance over z of one image's estimate, measured on
  the 200 images as the mean of (one sample − mean of K samples)².
- L_K where the record used the same 200 images: 4 √(2 Σ (1/ESS − 1/K)) / 200, the
  delta method's variance of log p̂_K, with the effective sample size of each image.
- L_K where the record used other images: the gap −ELBO − L_K varies less between
  images than either, so L_K is predicted as the mean −ELBO of the record's own images
  less the mean gap of the 200; to the errors above come those of a mean gap of 200 and
  of the record's images.
- K is that of the record, unless that would take too long; it is then lowered, and
  said so. −L_K falls with K in ever smaller steps: over log₂(K/K′) doublings it falls
  at most by so many times the last step, which is measured with an error too; the step
  and four of its errors are added below.

Of each measurement of looseness (chapter 17) the same few images are put through −ELBO,
L_K and the shortest AIS again; what the draws and the chains may change is 4 √2 of the
standard error of their mean.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drawlib.annealing import AISConfig, ais
from drawlib.batches.batch import say_at_once
from drawlib.batches.jobs import BatchFailed
from drawlib.bound import LatentModel
from drawlib.data.download import DataError
from drawlib.data.sets import Data, load_data, stratified_subset
from drawlib.evaluation import chosen, per_image
from drawlib.mistakes.planting import planted
from drawlib.models import CONFIGS
from drawlib.results import tables
from drawlib.results.looseness import log_p_hat, loose_records, step_sizes, weights
from drawlib.results.zoo import Record, ZooError, load_pretrained, records

__all__ = ["Finding", "check", "check_looseness", "check_record"]

IMAGES = 200
MINUTES = 20.0


@dataclass(frozen=True)
class Finding:
    """One recorded number beside the recomputed one (nats).

    ``low`` and ``high``: where an honest record lies.
    """

    name: str
    what: str
    recorded: float
    found: float
    low: float
    high: float

    @property
    def good(self) -> bool:
        """Whether the record lies where it may; a NaN does not."""
        return self.low <= self.recorded <= self.high

    def __str__(self) -> str:
        verdict = "ok " if self.good else "OFF"
        return (
            f"{verdict} {self.name}, {self.what}: recorded {self.recorded:.3f}, "
            f"found {self.found:.3f}, allowed {self.low:.3f} to {self.high:.3f}"
        )


def measured(
    model: LatentModel, data: Data, index: Tensor, samples: int
) -> dict[str, Tensor]:
    """−ELBO, −log p̂_K and ESS of these test images, in the order of ``evaluate``."""
    found = per_image(model, data, "test", index, samples)
    neg_elbo = found["reconstruction"] + found["kl"].sum(1)
    return {"elbo": neg_elbo, "iw": -found["log_iw"], "ess": found["ess"]}


def check_record(
    record: Record, model: LatentModel, data: Data, seconds: float = math.inf
) -> list[Finding]:
    """The findings of one record; ``seconds`` is what L_K may take."""
    test, bound = data.test, record["bounds"]["test"]
    weighted = record["importance_weighted"]
    # Those of the record's −ELBO, those that are weighted here, and there.
    counts = (bound["images"], IMAGES, weighted["images"])
    own, subset, theirs = (
        stratified_subset(test, min(count, len(test)), 0) for count in counts
    )
    start = time.monotonic()
    once = torch.cat([own, subset, theirs]).unique()
    one = torch.full((len(test),), math.nan, dtype=torch.float64)
    one[once] = measured(model, data, once, 1)["elbo"]
    one_pass = time.monotonic() - start

    K, n = weighted["samples"], len(subset)
    # What K samples of n images take, from what one sample of others took.
    affordable = seconds / max(one_pass, 1e-9) * len(once) / n
    used = int(min(K, max(20, affordable)))
    ours = measured(model, data, subset, used)
    findings: list[Finding] = []

    def compare(
        what: str, recorded: float | None, value: float, error: float, below: float = 0
    ) -> None:
        """Allow four standard errors, and the arithmetic of another processor."""
        reach = arithmetic(value) + 4 * error
        low, high = value - reach - below, value + reach
        told = number(recorded)
        findings.append(Finding(record.name, what, told, value, low, high))

    v = (one[subset] - ours["elbo"]).square().mean().item()
    what = f"−ELBO, {len(own):,} test images"
    value = one[own].mean().item()
    compare(what, bound["neg_elbo"], value, math.sqrt(2 * v / len(own)))
    parts = number(bound["kl"]) + number(bound["reconstruction"])
    compare("KL + reconstruction", bound["neg_elbo"], parts, 0)

    scatter = variance_of_mean(ours["ess"], used)
    noise = 2 * scatter
    value = ours["iw"].mean().item()
    if len(theirs) != n:
        gap = ours["elbo"] - ours["iw"]
        value = (one[theirs].mean() - gap.mean()).item()
        noise += v / len(theirs) + gap.var().item() * (1 / n + 1 / len(theirs))
    what, below = f"importance-weighted, K {K:,}, {len(theirs):,} images", 0.0
    if used < K:
        fewer = max(1, used // 2)
        half = measured(model, data, subset, fewer)
        step = (half["iw"].mean() - ours["iw"].mean()).item()
        error = math.sqrt(scatter + variance_of_mean(half["ess"], fewer))
        below = math.log2(K / used) * (max(0.0, step) + 4 * error)
        what += f" (checked with K {used:,})"
    compare(what, weighted["neg_iw"], value, math.sqrt(noise), below)
    return findings


def variance_of_mean(ess: Tensor, K: int) -> float:
    """Of the mean of log p̂_K over images, from the draws alone: the delta method."""
    return (1 / ess - 1 / K).clamp(min=0).sum().item() / len(ess) ** 2


def check_looseness(
    record: dict[str, Any], model: LatentModel, data: Data
) -> list[Finding]:
    """The findings of one measurement of looseness, image by image the same."""
    x = chosen(model, data, "test", record["images"], record["seed"])
    K = max(map(int, record["iw"]))
    log_w, elbo = weights(model, x, K, record["seed"])
    share = log_w.softmax(1)
    shortest = record["ais"][0]
    config = AISConfig(**{f.name: shortest[f.name] for f in fields(AISConfig)})
    (steps,) = step_sizes(model, x, [config], record["seed"])
    annealed = ais(model, x, config, steps=steps, seed=record["seed"], chunk=400)
    # What, the recorded mean, each image's value, and its variance over draws.
    parts = (
        ("−ELBO", record["neg_elbo"], -elbo.mean(1), elbo.var(1) / K),
        (
            f"importance-weighted, K {K:,}",
            record["iw"][str(K)],
            -log_p_hat(log_w, K).mean(1),
            (share.square().sum(1) - 1 / K).clamp(min=0),
        ),
        (
            f"AIS, {config}",
            shortest["neg_log_p"],
            -annealed.log_p,
            annealed.errors.square(),
        ),
    )
    found = []
    for what, recorded, values, variance in parts:
        value = values.mean().item()
        reach = arithmetic(value) + 4 * math.sqrt(2 * variance.sum().item()) / len(x)
        found.append(
            Finding(
                f"loose/{record['model']}",
                f"{what}, {len(x)} images",
                sum(recorded) / len(recorded),
                value,
                value - reach,
                value + reach,
            )
        )
    return found


def arithmetic(value: float) -> float:
    """What another processor, or another number of threads, may change (nats)."""
    return 0.01 + 2e-6 * abs(value)


def number(value: float | None) -> float:
    """A number of a record; what was not finite is None there."""
    return math.nan if value is None else value


def check(
    names: Sequence[str] = (),
    *,
    root: Path | None = None,
    minutes: float = MINUTES,
    say: Callable[[str], None] = say_at_once,
) -> list[Finding]:
    """Check every record, or those of some tables; all findings.

    Raises:
        BatchFailed: where a number is off, or weights are not the recorded ones.
        ValueError: for an unknown table.
    """
    wanted = {
        row.name for name in names for row in tables.table(name, []).rows if row.name
    }
    start = time.monotonic()
    found: list[Finding] = []
    off: list[str] = []
    left: list[str] = []
    todo: list[Record] = []
    data: dict[str, Data | str] = {}
    for record in records(root=root):
        if names and record.line not in wanted:
            continue
        if record["kind"] not in CONFIGS:
            left.append(f"{record.name}: a {record['kind']} has no bound")
            continue
        if not record["weights"]:
            left.append(f"{record.name}: its weights do not ship")
            continue
        if record.protocol not in data:
            try:
                data[record.protocol] = load_data(record.protocol)
            except (DataError, OSError) as error:
                first = str(error).splitlines()[0].partition(" Tried")[0]
                data[record.protocol] = f"{record.protocol} cannot be had: {first}"
        reason = data[record.protocol]
        if isinstance(reason, str):
            left.append(f"{record.name}: {reason}")
        else:
            todo.append(record)
    loose = {} if names else loose_records(root and root / "loose")
    for name in sorted(loose.keys() - {record.name for record in todo}):
        left.append(f"loose/{name}: its weights or its data cannot be had")
    for record in todo:
        its_data = data[record.protocol]
        assert isinstance(its_data, Data)
        try:
            with planted(*record.values.get("mistakes", ())):
                model = load_pretrained(record.name, root=root)
                # Half the time for L_K, half for −ELBO of every image.
                seconds = 60 * minutes / 2 / len(todo)
                findings = check_record(record, model, its_data, seconds)
                if record.name in loose:
                    findings += check_looseness(loose[record.name], model, its_data)
        except (ZooError, OSError) as error:
            say(f"OFF {record.name}: {error}")
            off.append(f"{record.name} ({error})")
            continue
        for finding in findings:
            say(str(finding))
            if not finding.good:
                off.append(f"{finding.name} ({finding.what})")
        found += findings
    say("\n".join(["not checked:", *map("  {}".format, left)]) if left else "")
    say(
        f"{len(found)} numbers of {len(todo)} records checked in "
        f"{time.monotonic() - start:.0f} s, {len(off)} off, {len(left)} not checked"
    )
    if off:
        raise BatchFailed(f"{len(off)} recorded numbers are off: {'; '.join(off)}")
    return found
