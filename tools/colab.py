"""Environments like Colab's, and notebooks run in them; for `tests/book/test_colab.py`.

Colab has torch, torchvision, numpy, matplotlib and ipywidgets, and no drawlib. Here an
environment like that is made without another download where torch is installed
already: a fresh one that sees the distributions of the running Python which those five
need, and no other. They lie outside of it, so that pip can neither change nor remove
them. The project is served as a git repository on this machine, under its tag.
"""

import http.server
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from drawlib.batches.kernels import LocalKernelManager

ROOT = Path(__file__).resolve().parent.parent
HAS = ("torch", "torchvision", "numpy", "matplotlib", "ipywidgets")
TOOLS = ("ipykernel", "pip")  # what runs the notebooks, and their first cell


class CannotRun(RuntimeError):
    """Why this machine cannot play Colab, in one line."""


# --- the project as a tagged release ---------------------------------------------


def tag() -> str:
    """The tag that a notebook's first cell asks for."""
    text = (ROOT / "tools/first_cell.py").read_text(encoding="utf-8")
    found = re.search(r"git\+\{address\}@([\w.]+)", text)
    if found is None:
        raise ValueError("tools/first_cell.py installs no tagged release")
    return found[1]


def release(folder: Path) -> Path:
    """A bare git repository in `folder`: the working tree as it is, under `tag()`.

    What git would not commit is not in it, so that a file which only exists on this
    machine is missed here as it would be in a clone.
    """
    if shutil.which("git") is None:
        raise CannotRun("git is not installed")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True)
    if files.returncode != 0:
        raise CannotRun("this copy of the project is no git repository")
    tree, bare = folder / "tree", folder / "repository.git"
    for name in sorted({os.fsdecode(f) for f in files.stdout.split(b"\0") if f}):
        if (ROOT / name).is_file():  # not one deleted since it was committed
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)
    nobody = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    plain = ["-c", "commit.gpgsign=false", "-c", "core.autocrlf=false"]
    for command in (
        ["init", "--quiet", str(tree)],
        ["-C", str(tree), *plain, "add", "--all", "--force"],
        ["-C", str(tree), *plain, *nobody, "commit", "--quiet", "-m", "Snapshot"],
        ["-C", str(tree), "-c", "tag.gpgsign=false", "tag", tag()],
        ["clone", "--quiet", "--bare", str(tree), str(bare)],
        ["-C", str(bare), "update-server-info"],
    ):
        subprocess.run(["git", *command], check=True, capture_output=True)
    shutil.rmtree(tree, ignore_errors=True)
    return bare


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(repository: Path) -> Iterator[str]:
    """The address of a bare repository while it is served on this machine."""
    handler = partial(_Quiet, directory=str(repository.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{repository.name}"
        finally:
            server.shutdown()
            thread.join()


# --- environments ------------------------------------------------------------------


def needed(names: Sequence[str]) -> list[importlib.metadata.Distribution]:
    """The installed distributions that `names` need, with the extras they ask for.

    Raises CannotRun where one of `names` itself is not installed.
    """
    found: dict[str, importlib.metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()
    open_ = [(canonicalize_name(name), "") for name in names]
    while open_:
        name, extra = item = open_.pop()
        if item in seen:
            continue
        seen.add(item)
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if name in names:
                raise CannotRun(f"{name} is not installed") from None
            continue  # left out here, as an accelerator's library may be
        for line in found[name].requires or []:
            wanted = Requirement(line)
            if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
                continue
            asked = canonicalize_name(wanted.name)
            open_ += [(asked, "")] + [(asked, each) for each in wanted.extras]
    return [found[name] for name in sorted(found)]


def share(names: Sequence[str], folder: Path) -> Path:
    """Links in `folder` to all that `names` need, and to nothing else."""
    folder.mkdir(parents=True)
    for distribution in needed(names):
        for file in distribution.files or []:
            top = file.parts[0]
            if top in ("..", "__pycache__") or top.endswith(".pth"):
                continue
            source, link = Path(str(distribution.locate_file(top))), folder / top
            if source.exists() and not link.exists():
                try:
                    link.symlink_to(source, target_is_directory=source.is_dir())
                except OSError as error:
                    raise CannotRun(f"links cannot be made here: {error}") from None
    return folder


def bare_environment(**more: str) -> dict[str, str]:
    """This process's variables, less those that lead Python to other packages."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "MPLBACKEND")
    kept = {k: v for k, v in os.environ.items() if k not in hidden}
    loopback = ",".join(filter(None, [kept.get("no_proxy"), "127.0.0.1,localhost"]))
    return {
        **kept,
        "PYTHONNOUSERSITE": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "no_proxy": loopback,
        "NO_PROXY": loopback,
        **more,
    }


VERSIONS = """
import importlib.metadata, json, re
found = {}
for each in importlib.metadata.distributions():  # the first on the path is imported
    name = re.sub("[-_.]+", "-", each.metadata["Name"]).lower()
    found.setdefault(name, each.version)
print(json.dumps(found))
"""


class Environment:
    """A fresh environment in `folder` that also sees the packages in `shared`."""

    def __init__(self, folder: Path, shared: Path | None = None) -> None:
        made = [sys.executable, "-m", "venv", str(folder)]
        if shared is not None:
            made.append("--without-pip")  # it is among the shared ones
        elif importlib.util.find_spec("ensurepip") is None:
            raise CannotRun("this Python cannot make environments (no ensurepip)")
        subprocess.run(made, check=True, capture_output=True)
        self.folder = folder
        windows = os.name == "nt"
        self.python = folder / ("Scripts/python.exe" if windows else "bin/python")
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        self.packages = Path(self.run("-c", ask).strip())
        if shared is not None:
            # After the environment's own packages: what pip installs there comes first.
            pth = self.packages / "shared.pth"
            pth.write_text(f"{shared}\n", encoding="utf-8")

    def run(self, *arguments: str, cwd: Path | None = None, **environment: str) -> str:
        """What its Python prints; a failure is an error that ends with its last lines.

        Raises RuntimeError where the exit code is not 0.
        """
        done = subprocess.run(
            [str(self.python), *arguments],
            cwd=cwd or self.folder,
            env=bare_environment(**environment),
            text=True,
            encoding="utf-8",
            errors="replace",
            capture_output=True,
        )
        if done.returncode != 0:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
            raise RuntimeError(f"{' '.join(arguments)[:200]} failed:\n{last}")
        return done.stdout

    def install(self, *packages: str) -> None:
        """Install exact versions from the package index, as wheels."""
        wheels = ["--quiet", "--only-binary", ":all:"]
        self.run("-m", "pip", "install", *wheels, *packages)

    def versions(self) -> dict[str, str]:
        """All distributions that it sees, with their versions."""
        return json.loads(self.run("-c", VERSIONS))

    def need_index(self) -> None:
        """Raise CannotRun where its pip finds no package index with the build tool."""
        probe = ["install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
        try:
            self.run("-m", "pip", *probe, "--retries", "1", "setuptools>=77")
        except RuntimeError as error:
            last = str(error).splitlines()[-1]
            raise CannotRun(f"no package index can be reached: {last}") from None


# --- a notebook, alone -------------------------------------------------------------


def read_notebook(path: Path, mode: str) -> nbformat.NotebookNode:
    """A notebook with another mode in its `parameters` cell.

    Raises ValueError where it has no such cell.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source, times = re.subn(
                r"(?m)^mode = .*$", f'mode = "{mode}"', cell.source
            )
            if times == 1:
                return notebook
    raise ValueError(f"{path.name} sets no mode in a cell tagged 'parameters'")


def run_alone(
    path: Path,
    mode: str,
    environment: Environment,
    folder: Path,
    ask: str = "",
    timeout: int = 600,
    **variables: str,
) -> str:
    """Run a copy of a notebook in the empty `folder`; returns what `ask` prints.

    `ask` is code that runs as one more cell, after all others. Raises nbclient's
    CellExecutionError where a cell fails.
    """
    folder.mkdir(parents=True)
    notebook = read_notebook(path, mode)
    nbformat.write(notebook, folder / path.name)
    notebook.cells.append(nbformat.v4.new_code_cell(ask))
    kernels = environment.folder / "share/jupyter"
    command = [str(environment.python), "-m", "ipykernel_launcher"]
    spec = {"argv": [*command, "-f", "{connection_file}"], "language": "python"}
    (kernels / "kernels/alone").mkdir(parents=True, exist_ok=True)
    (kernels / "kernels/alone/kernel.json").write_text(
        json.dumps({**spec, "display_name": "alone"}), encoding="utf-8"
    )
    before = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = str(kernels)
    try:
        client = NotebookClient(
            notebook,
            timeout=timeout,
            kernel_name="alone",
            kernel_manager_class=LocalKernelManager,
            resources={"metadata": {"path": str(folder)}},
        )
        with client.setup_kernel(env=bare_environment(**variables)):
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
    finally:
        if before is None:
            del os.environ["JUPYTER_PATH"]
        else:
            os.environ["JUPYTER_PATH"] = before
    outputs: Sequence[nbformat.NotebookNode] = notebook.cells[-1].outputs
    return "".join(o.get("text", "") for o in outputs if o.get("name") == "stdout")
