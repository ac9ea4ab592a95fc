"""Picture files of every kind as 8-bit arrays of one size.

PNG, JPEG and whatever else Pillow opens. Cameras, scanners and programs leave many
habits in such files; each is undone in one way, and what was undone is counted, so
that it can be told: a picture lies as its EXIF tag says; the colours of a profile (a
telephone's Display P3, say) become those of sRGB; alpha lies on white; 16 bits become
8; of an animation the first frame counts; CMYK and palettes become RGB.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from drawlib.data.download import DataError
from drawlib.machine.files import mistaken
from drawlib.machine.progress import progress_bar

__all__ = ["Read", "check_memory", "files_below", "read_pictures"]

# Still pictures; Pillow also opens documents, films and arrays.
ENDINGS = set(
    ".png .jpg .jpeg .gif .bmp .tif .tiff .webp .ppm .pgm .pbm .pnm .avif".split()
)
WHITE = 255
CUT, KEPT = "of 16 bits, cut to 8", "of more than 8 bits that use 8, kept"
SAME = 2  # levels of 255: a profile that moves no colour further is sRGB


def files_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Pictures and other files of a folder and all below it, by name.

    Links are followed, each folder once. Hidden files are passed over.

    Raises:
        DataError: where there is no such folder, no picture, or what cannot be read.
    """

    def unreadable(error: OSError) -> None:
        # Passed over, it would be a class that nobody misses.
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{error.filename} cannot be read: {reason}")

    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; allowed: a folder of pictures")
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    seen, files = set[str](), list[Path]()
    for above, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        if (real := os.path.realpath(above)) in seen:
            folders.clear()  # a link back
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(above, name) for name in names if not name.startswith(".")]
    pictures = sorted(path for path in files if path.suffix.lower() in ENDINGS)
    others = sorted(path for path in files if path.suffix.lower() not in ENDINGS)
    if not pictures:
        raise DataError(
            f"{folder} holds no picture ({len(others)} other files); "
            f"allowed: {' '.join(sorted(ENDINGS))}"
        )
    return pictures, others


def check_memory(shape: tuple[int, ...], what: str) -> None:
    """Refuse an array of bytes that this machine's free memory cannot hold.

    Raises:
        DataError: with the need, where the system tells how much is free.
    """
    # While the splits are cut and made binary, images are there up to three times.
    need = 3 * math.prod(shape)
    free = free_memory()
    if free is not None and need > free:
        raise DataError(
            f"{what} need {need / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are "
            "free; allowed: fewer images, or a smaller size (--image.size)"
        )


def free_memory() -> int | None:
    """Bytes that a program may still take, where the system tells."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        told = next(line for line in lines if line.startswith("MemAvailable:"))
        return 1024 * int(told.split()[1])
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


@dataclass(frozen=True)
class Read:
    """What ``read_pictures`` found: images (n, channels, height, width) and remarks."""

    images: np.ndarray
    remarks: tuple[str, ...]


def read_pictures(
    files: Sequence[Path],
    size: tuple[int, int] | None,
    colour: str,
    fit: str,
    progress: bool = False,
) -> Read:
    """Decode pictures once, each to ``size`` (height, width), resized by area.

    Without a size they must all have one. ``colour`` is ``grey``, ``colour``, or
    ``auto``: grey where no picture has a colour. ``fit`` is how another shape becomes
    this one: ``crop`` its middle, ``pad`` with white, or ``stretch``.

    Raises:
        DataError: for a file that cannot be read, or sizes that differ without one.
    """
    remarks: Counter[str] = Counter()
    dark: list[int] = []
    resized = False
    first: tuple[int, int] | None = None
    images = np.empty(0, "u1")
    for k, file in enumerate(progress_bar(files, "pictures", disable=not progress)):
        kept = remarks[KEPT]
        picture = opened(file, remarks)
        dark += [k] * (remarks[KEPT] - kept)
        shape = (picture.height, picture.width)
        if first is None:
            first = shape
            height, width = size or shape
            whole = (len(files), 1 if colour == "grey" else 3, height, width)
            check_memory(whole, f"{len(files):,} pictures of {width}x{height}")
            images = np.empty(whole, "u1")
        if size is None and shape != first:
            raise DataError(
                f"{files[0].name} is {first[1]}x{first[0]} and {file.name} is "
                f"{shape[1]}x{shape[0]}; allowed: one size, or --image.size"
            )
        resized |= shape != (height, width)
        picture = fitted(picture, (height, width), fit)
        if colour == "grey":
            images[k, 0] = np.asarray(picture.convert("L"))
        else:
            images[k] = np.asarray(picture).transpose(2, 0, 1)
    if remarks[CUT] and dark:
        images[dark] = 0  # of 65,536 levels the lowest 256: black among these pictures
        remarks[CUT] += remarks.pop(KEPT)
    if resized and images.max() == 1:
        raise DataError(
            f"{files[0].parent} holds 0 and 1 alone, bits, which no size but their own "
            "keeps; allowed: no --image.size, or pictures of 0 and 255"
        )
    if colour == "auto" and all(
        (block == block[:, :1]).all() for block in np.array_split(images, 64)
    ):
        images = np.ascontiguousarray(images[:, :1])
    told = sorted((+remarks).items())  # those that were counted
    return Read(images, tuple(f"{n:,} {what}" for what, n in told))


def opened(file: Path, remarks: Counter[str]) -> Image.Image:
    """One file as an RGB picture that lies upright."""
    if not file.is_file():
        raise DataError(f"{file} is no file: a link to nowhere, or a pipe")
    # Content decides among these formats. Others are documents, films and programs.
    known = Image.registered_extensions()
    formats = sorted({known[ending] for ending in ENDINGS & known.keys()})
    try:
        with warnings.catch_warnings(), open(file, "rb") as content:
            # A picture that is far too large is a warning of Pillow's; here an error.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Of a name Pillow maps the memory, and then a TIFF that lies on its side is
            # read as if it stood: lines come in pieces. Of an open file it does not.
            with Image.open(content, formats=formats) as picture:
                # Pillow turns a TIFF itself as it loads it, and forgets the tag.
                turned = picture.getexif().get(0x0112, 1) != 1
                if getattr(picture, "n_frames", 1) > 1:
                    remarks["animated, first frame taken"] += 1
                picture.load()
                upright = ImageOps.exif_transpose(picture)
                if turned:
                    remarks["turned as their EXIF tag says"] += 1
                return in_rgb(in_srgb(upright, remarks), remarks)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    except Exception as error:  # each format's reader has errors of its own
        with contextlib.suppress(OSError), open(file, "rb") as content:
            if what := mistaken(content.read(100)):
                raise DataError(f"{file} is no picture: it is {what}") from None
        if isinstance(error, UnidentifiedImageError):
            raise DataError(
                f"{file} is no picture that is known here by its content; allowed: "
                f"{', '.join(formats)}"
            ) from None
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{file} is no whole picture: {reason}") from None


def in_srgb(picture: Image.Image, remarks: Counter[str]) -> Image.Image:
    """The colours that a picture's profile stands for; most have none, or sRGB's."""
    profile = picture.info.get("icc_profile")
    if not profile:
        return picture
    mode = {"L": "L", "LA": "L", "CMYK": "CMYK"}.get(picture.mode, "RGB")
    try:
        if picture.mode.startswith(("I", "F")):
            raise ImageCms.PyCMSError("it takes 8 bits")
        transform = to_srgb(profile, mode)
    except (ImageCms.PyCMSError, ImportError, OSError):
        remarks["with a colour profile that cannot be used, passed over"] += 1
        return picture
    if transform is None:
        return picture
    remarks["with a colour profile, made sRGB"] += 1
    before = picture.convert(mode)
    values = np.array(transform.apply(before))
    # What has no colour gets none: channels may be rounded to neighbouring levels.
    if mode != "CMYK":
        shades = np.asarray(before.convert("RGB"))
        grey = (shades == shades[..., :1]).all(-1)
        values[grey] = values[grey][:, 1:2]
    made = Image.fromarray(values)
    if picture.has_transparency_data:
        made.putalpha(picture.convert("RGBA").getchannel("A"))
    return made


@lru_cache(maxsize=16)
def to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What makes the colours of an ICC profile sRGB; None where they are already.

    Raises:
        ImageCms.PyCMSError, OSError: for no profile, or one of another kind of picture.
    """
    made = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    levels = np.linspace(0, 255, 9).astype("u1")
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    colours = Image.fromarray(grid).convert(mode)
    before, after = colours.convert("RGB"), made.apply(colours)
    moved = np.asarray(after).astype(int) - np.asarray(before)
    return made if np.abs(moved).max() > SAME else None


def in_rgb(picture: Image.Image, remarks: Counter[str]) -> Image.Image:
    """8 bits, three channels, on white."""
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65_535:
            raise DataError("its values are beyond 16 bits; allowed: 8 or 16 bits")
        if values.max() > 255:
            remarks[CUT] += 1
            values = values // 257
        else:
            remarks[KEPT] += 1
        return Image.fromarray(values.astype("u1")).convert("RGB")
    if picture.mode == "F":
        raise DataError("its values are floating-point; allowed: 8 or 16 bits")
    if picture.has_transparency_data:
        remarks["with alpha, laid on white"] += 1
        clear = picture.convert("RGBA")
        ground = Image.new("RGBA", clear.size, (WHITE, WHITE, WHITE, 255))
        return Image.alpha_composite(ground, clear).convert("RGB")
    for mode, what in (("P", "with a palette"), ("CMYK", "in CMYK")):
        if picture.mode == mode:
            remarks[f"{what}, made RGB"] += 1
    return picture.convert("RGB")


def fitted(picture: Image.Image, size: tuple[int, int], fit: str) -> Image.Image:
    """The picture at ``size`` (height, width), each pixel the mean of its area."""
    height, width = size
    if (picture.height, picture.width) == size:
        return picture
    box = Image.Resampling.BOX
    if fit == "stretch":
        return picture.resize((width, height), box)
    if fit == "crop":
        return ImageOps.fit(picture, (width, height), box)
    return ImageOps.pad(picture, (width, height), box, color=(WHITE,) * 3)
