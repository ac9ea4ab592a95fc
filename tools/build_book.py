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

import nbformat
import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from run_notebooks import executed, prepare_kernels

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from offline import ICON  # noqa: E402

BUILD = ROOT / "_build"
CACHE = BUILD / ".jupyter_cache"  # where Jupyter Book looks for executed notebooks
RUN = "from jupyter_book.cli.main import main; main()"  # it has no `python -m`
# Before the one line with which Jupyter Book sends a visitor on to the first page.
FRONT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<link rel="icon" href="{icon}">
"""


def fill_cache(paths: list[Path]) -> bool:
    """Run notebooks and keep the outputs for the build; whether all ran through."""
    cache = get_cache(CACHE)
    done = 0
    for path, notebook in executed(paths):
        # The build looks for the file's own code, metadata and kernel.
        kept = nbformat.read(path, as_version=4)
        for old, new in zip(kept.cells, notebook.cells, strict=True):
            if old.cell_type == "code":
                old.outputs, old.execution_count = new.outputs, new.execution_count
        cache.cache_notebook_bundle(CacheBundleIn(kept, str(path)))
        done += 1
    return done == len(paths)


def main() -> int:
    """Build; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--execute", action="store_true", help="run every notebook")
    execute = parser.parse_args().execute
    # The cache knows code cells only: after a change of drawlib or of a record it
    # would keep the old numbers. A second build also hides the first one's warnings.
    for name in ("html", ".doctrees", CACHE.name):
        shutil.rmtree(BUILD / name, ignore_errors=True)
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    what = "executing" if execute else "using the stored outputs of"
    print(f"book: {what} {len(notebooks)} notebooks", flush=True)
    start = time.time()
    # Kernels have one thread: it gives the numbers that the stored outputs have, and
    # does not wait for a core that another program holds.
    prepare_kernels()
    if execute and not fill_cache(notebooks):
        print("book: not every notebook ran to its end", file=sys.stderr)
        return 1
    print("book: writing the pages", flush=True)
    mode = "cache" if execute else "off"
    code = subprocess.call(
        [sys.executable, "-c", RUN, "build", str(ROOT)]
        + ["-W", "-n", "--keep-going", "-q"],
        cwd=ROOT,
        env={**os.environ, "DRAWLIB_BOOK_EXECUTE": mode},
    )
    page = BUILD / "html" / "index.html"
    if code != 0 or not page.exists():
        print("book: the build failed; the warnings above say why", file=sys.stderr)
        return code or 1
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    head = FRONT.format(title=config["title"], icon=ICON)
    page.write_text(head + page.read_text(encoding="utf-8"), encoding="utf-8")
    size = sum(f.stat().st_size for f in page.parent.rglob("*") if f.is_file())
    seconds = time.time() - start
    print(f"book: built in {seconds:.0f} s, {size / 1e6:.1f} MB")
    print(f"book: open {page}")
    print("book: or run `make serve`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
