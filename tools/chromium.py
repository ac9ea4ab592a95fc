"""Find a Chromium that is installed on this machine, and how to start it."""

import os
import shutil
from pathlib import Path

NAMES = (
    "chromium chromium-browser google-chrome google-chrome-stable chrome msedge"
).split()
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
PATIENCE = 600_000  # milliseconds: what hangs is ended, what a busy machine does is not
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """A Chromium on this machine: DRAWLIB_CHROMIUM, the PATH, the usual places."""
    named = os.environ.get("DRAWLIB_CHROMIUM")
    found = [named] if named else [shutil.which(name) for name in NAMES]
    found += [place for place in PLACES if not named and Path(place).exists()]
    return next((path for path in found if path), None)
