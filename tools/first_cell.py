# Runs anywhere: drawlib installed, a clone above this folder, or Colab.
import importlib.util
import os
import pathlib
import subprocess
import sys

REPOSITORY = "https://github.com/OWNER/REPOSITORY"
if importlib.util.find_spec("drawlib") is None:
    above = (pathlib.Path.cwd(), *pathlib.Path.cwd().parents)
    clone = next((p for p in above if (p / "drawlib/__init__.py").exists()), None)
    if clone is not None:
        sys.path.insert(0, str(clone))
    else:
        address = os.environ.get("DRAWLIB_REPOSITORY", REPOSITORY)
        package = f"git+{address}@v0.1.0"
        pip = [sys.executable, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, package], check=True)
