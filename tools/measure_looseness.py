"""Measure how loose the bounds of shipped models are, for the chapter on it.

    python tools/measure_looseness.py [NAME …]

Without names: all of `PLAN`, for hours. What is done is written at once. The weights
of `ladder-source-0` do not ship any more: train its row first, or take them from the
history.
"""

import json
import sys
from collections.abc import Sequence

from drawlib.machine.files import write_atomically
from drawlib.results.looseness import LOOSE, measure_looseness

# Name: images, chains per image, temperatures, simulated images of the sandwich.
SHORT = (10, 30, 100, 300)
PLAN: dict[str, tuple[int, int, tuple[int, ...], int]] = {
    "mnist-dynamic/vae-source-0": (50, 8, (*SHORT, 1000), 50),
    "mnist-fixed/draw-attention-t16-0": (8, 4, SHORT, 8),
    "mnist-dynamic/ladder-source-0": (20, 8, SHORT, 20),
    "mnist-fixed/draw-attention-t64-muon-0": (4, 4, (10, 30, 100), 4),
    "mnist-dynamic/draw-source-0": (8, 4, SHORT, 8),
    "mnist-fixed/glas-cauchy-t16-0": (8, 4, SHORT, 8),
}


def main(names: Sequence[str]) -> None:
    for name in names or PLAN:
        path = LOOSE / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        for record in measure_looseness(name, *PLAN[name]):
            text = json.dumps(record, ensure_ascii=False)
            write_atomically(path, f"{text}\n".encode())
            parts = [f"{part['temperatures']}" for part in record.get("ais", [])]
            print(name, "temperatures", ", ".join(parts), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
