"""Build the static book into `_build/html` from a clean start; warnings are errors.

With `--execute` every notebook is run; without it the stored outputs are used (they
were compared with a fresh run by nbval just before, in `make test`).
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from drawlib.batches.batch import data_folders

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
RUN = "from jupyter_book.cli.main import main; main()"  # it has no `python -m`


def main() -> int:
    """Build; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--execute", action="store_true", help="run every notebook")
    arguments = parser.parse_args()
    # The cache knows code cells only: after a change of drawlib or of a record it
    # would keep the old numbers. A second build also hides the first one's warnings.
    for name in ("html", ".doctrees", ".jupyter_cache"):
        shutil.rmtree(BUILD / name, ignore_errors=True)
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    what = "executing" if arguments.execute else "using the stored outputs of"
    print(f"book: {what} {len(notebooks)} notebooks", flush=True)
    environment = {
        # One thread gives the numbers that the stored outputs have, and does not wait
        # for a core that another program holds.
        "OMP_NUM_THREADS": "1",
        **os.environ,
        **data_folders(),
        "DRAWLIB_BOOK_EXECUTE": "force" if arguments.execute else "off",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    environment.pop("MPLBACKEND", None)  # the kernel's own shows the figures
    start = time.time()
    code = subprocess.call(
        [sys.executable, "-c", RUN, "build", str(ROOT)]
        + ["-W", "-n", "--keep-going"]
        + ([] if arguments.execute else ["-q"]),
        cwd=ROOT,
        env=environment,
    )
    page = BUILD / "html" / "index.html"
    if code != 0 or not page.exists():
        print("book: the build failed; the warnings above say why", file=sys.stderr)
        return code or 1
    size = sum(f.stat().st_size for f in page.parent.rglob("*") if f.is_file())
    seconds = time.time() - start
    print(f"book: built in {seconds:.0f} s, {size / 1e6:.1f} MB")
    print(f"book: open {page}")
    print("book: or run `make serve`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
