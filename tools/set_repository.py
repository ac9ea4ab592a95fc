"""Carry the repository's address from pyproject.toml to every copy of it.

    python tools/set_repository.py https://github.com/owner/name

`pyproject.toml` holds the address; `_config.yml`, the README, `CITATION.cff`, the
prose pages and the notebooks' first cells hold copies, which a test keeps equal.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACEHOLDER = "https://github.com/OWNER/REPOSITORY"
ADDRESS = re.compile(r"https://[\w.-]+(/[\w.~-]+)+")
PATTERNS = (
    "pyproject.toml",
    "_config.yml",
    "README.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "book/*.md",
    "notebooks/*.ipynb",
)


def current_address(root: Path = ROOT) -> str:
    """The address that pyproject.toml holds."""
    with open(root / "pyproject.toml", "rb") as stream:
        return tomllib.load(stream)["project"]["urls"]["Repository"]


def slug(address: str) -> str:
    """`owner/name` of an address, as badges and Colab links write it."""
    return "/".join(address.rstrip("/").split("/")[-2:])


def set_repository(new: str, root: Path = ROOT) -> list[Path]:
    """Replace the address in every copy; returns the files that changed.

    Raises ValueError where `new` is not an https address of the form
    https://host/owner/name.
    """
    new = new.strip().rstrip("/").removesuffix(".git")
    if not ADDRESS.fullmatch(new) or new.count("/") < 4:
        raise ValueError(
            f"the address {new!r} is not of the form https://host/owner/name"
        )
    old = current_address(root)
    changed = []
    for pattern in PATTERNS:
        for path in sorted(root.glob(pattern)):
            text = path.read_text(encoding="utf-8")
            mended = text.replace(old, new).replace(slug(old), slug(new))
            if mended != text:
                path.write_text(mended, encoding="utf-8", newline="\n")
                changed.append(path)
    return changed


def main() -> int:
    """Read the address from the command line; returns the exit code."""
    if len(sys.argv) != 2 or not sys.argv[1]:
        print("usage: make set-repository URL=https://host/owner/name", file=sys.stderr)
        return 2
    try:
        changed = set_repository(sys.argv[1])
    except ValueError as error:
        print(f"set-repository: {error}", file=sys.stderr)
        return 2
    for path in changed:
        print(f"set-repository: {path.relative_to(ROOT)}")
    print(f"set-repository: {len(changed)} files now say {current_address()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
