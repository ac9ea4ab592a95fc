"""Give records that lack it the weighted bound of the whole split, with its errors.

    python tools/add_whole.py [--minutes 10] [NAME …]

Records written before `evaluate` did this hold −ELBO of all test images, and both
bounds of a subset: the difference estimate follows from these alone. Its error needs
the spread of the gap between the bounds over images, which was not recorded. Where
weights ship it is measured, on the images of the record; with fewer samples than the
record's where those would take longer than ``--minutes``, and the record says with how
many (``whole_gap_samples``). No number that stands in a record is changed.
"""

import argparse
import json
import math
import time

import torch

from drawlib.data.sets import Data, load_data, stratified_subset
from drawlib.evaluation import mean_and_error, per_image, subset_errors
from drawlib.mistakes.planting import planted
from drawlib.models import CONFIGS
from drawlib.results.zoo import ZOO, Record, load_pretrained, records, write_record


@torch.no_grad()
def measured(record: Record, data: Data, seconds: float) -> dict[str, float]:
    """The fields that a record gains; ``seconds`` is what the gap may take."""
    weighted, bound = record["importance_weighted"], record["bounds"]["test"]
    total = len(data.test)
    index = stratified_subset(data.test, weighted["images"], weighted["seed"])
    labels = None if data.test.labels is None else data.test.labels[index]
    with planted(*(record.values.get("mistakes") or ())):
        model = load_pretrained(record.name)
        start = time.monotonic()
        one = per_image(model, data, "test", index, 1)
        used = min(weighted["samples"], int(seconds / (time.monotonic() - start)))
        used = max(20, used)
        many = per_image(model, data, "test", index, used, weighted["seed"] + 1)
    elbo = many["reconstruction"] + many["kl"].sum(1)
    gap = elbo + many["log_iw"]
    of_gap = subset_errors(gap, labels, total)[1]
    once = one["reconstruction"] + one["kl"].sum(1)
    noise = mean_and_error((once - elbo) ** 2)[0] / (1 + 1 / used)
    whole = bound["neg_elbo"] - weighted["neg_elbo"] + weighted["neg_iw"]
    return {
        "whole_neg_elbo": bound["neg_elbo"],
        "whole_neg_elbo_se": bound["neg_elbo_se"],
        "whole_neg_iw": whole,
        "whole_neg_iw_se": math.hypot(bound["neg_elbo_se"], of_gap),
        "whole_neg_iw_split_se": math.sqrt(of_gap**2 + noise / total),
        "whole_gap_samples": used,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="records; all that lack it")
    parser.add_argument("--minutes", type=float, default=10, help="for one record")
    args = parser.parse_args()
    for record in records():
        weighted = record["importance_weighted"]
        if record["kind"] not in CONFIGS or not weighted or not record["weights"]:
            continue
        if (args.names and record.name not in args.names) or "whole_neg_iw" in weighted:
            continue
        found = measured(record, load_data(record.protocol), 60 * args.minutes)
        values = json.loads((ZOO / f"{record.name}.json").read_text(encoding="utf-8"))
        values["importance_weighted"] |= found
        write_record(record.name, values)
        print(record.name, json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
