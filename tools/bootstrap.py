"""Make the environment: `.venv` from requirements.txt, with drawlib in it.

Standard library only, and old syntax on purpose: any Python 3 can run this far and
say in one line what is missing. Nothing is done where nothing has changed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.environ.get("DRAWLIB_VENV") or os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, ".drawlib-setup")
TESTED = ((3, 11), (3, 12), (3, 13))
PINNED = TESTED + ((3, 14),)  # every pin of requirements.txt has a wheel for these
PROBE = "import sys; print(*sys.version_info[:2])"


def say(text):
    print(f"setup: {text}", flush=True)


def version_of(command):
    """(major, minor) of an interpreter, or None where it does not run."""
    try:
        done = subprocess.run(
            [command, "-c", PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return None
    words = done.stdout.decode().split()
    return tuple(int(word) for word in words) if len(words) == 2 else None


def warning(version):
    """What a version that no test has seen gets told."""
    text = f"Python {version[0]}.{version[1]}: not tested"
    if version not in PINNED:
        text += ", and the pinned packages may have no wheels for it"
    return text + "; Python 3.11 to 3.13 are"


def find_python():
    """The interpreter to build with: a tested version, else one that is newer."""
    named = [f"python3.{minor}" for minor in (13, 12, 11, 14)] + ["python3", "python"]
    found, newer = [], None
    for command in [sys.executable] + named:
        version = version_of(command)
        if version in TESTED:
            return command, version
        if version:
            found.append(f"{os.path.basename(command)} is {version[0]}.{version[1]}")
            if version > TESTED[-1]:
                newer = newer or (command, version)
    if newer:
        say(warning(newer[1]))
        return newer
    sys.exit(
        "setup: Python 3.11 or newer is needed; found: "
        + ("; ".join(sorted(set(found))) or "no Python at all")
    )


def fingerprint(version):
    """What the environment was made from."""
    digest = hashlib.sha256(repr(version).encode())
    for name in ("requirements.txt", "pyproject.toml"):
        with open(os.path.join(ROOT, name), "rb") as stream:
            digest.update(stream.read())
    return digest.hexdigest()


def venv_python():
    folder, name = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return os.path.join(VENV, folder, name)


def make_venv(python):
    """Create `.venv`; returns the pip command that installs into it."""
    say(f"making {VENV} with {python}")
    plain = subprocess.run(
        [python, "-m", "venv", "--clear", VENV],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if plain.returncode == 0:
        return [venv_python(), "-m", "pip"]
    # Some systems ship Python without ensurepip; a pip outside can fill the venv.
    if shutil.which("virtualenv"):
        if subprocess.call(["virtualenv", "-q", "-p", python, VENV]) == 0:
            return [venv_python(), "-m", "pip"]
    bare = subprocess.call([python, "-m", "venv", "--clear", "--without-pip", VENV])
    has_pip = subprocess.call(
        [python, "-m", "pip", "--version"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if bare == 0 and has_pip == 0:
        return [python, "-m", "pip", "--python", venv_python()]
    lines = plain.stdout.decode().strip().splitlines() or ["no reason given"]
    sys.exit(
        f"setup: this Python cannot make an environment ({lines[-1]}); "
        "install its venv module or the virtualenv package"
    )


def main():
    inside = version_of(venv_python()) if os.path.exists(venv_python()) else None
    if inside and os.path.exists(STAMP):
        with open(STAMP) as stream:
            if stream.read().strip() == fingerprint(inside):
                return
    start = time.time()
    if inside and inside >= TESTED[0]:
        say("bringing .venv up to date")
        pip = [venv_python(), "-m", "pip"]
        if subprocess.call(pip + ["--version"], stdout=subprocess.DEVNULL) != 0:
            pip = [find_python()[0], "-m", "pip", "--python", venv_python()]
    else:
        pip = make_venv(find_python()[0])
    quiet = ["--disable-pip-version-check", "--no-input"]
    say("installing the exact versions of requirements.txt (a large download: torch)")
    wanted = os.path.join(ROOT, "requirements.txt")
    for arguments in (["-r", wanted], ["-q", "--no-deps", "-e", ROOT]):
        if subprocess.call(pip + ["install"] + quiet + arguments) != 0:
            sys.exit("setup: the installation failed; the lines above say why")
    with open(STAMP, "w") as stream:
        stream.write(fingerprint(version_of(venv_python())) + "\n")
    say(f"done in {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
