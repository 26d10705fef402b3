"""Writing an image: a mode that the format has, what is known about the picture, a whole file or none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageColor

from planetmesh.child.image_open import ImageRefused, refusing
from planetmesh.child.image_ops import DEEP_GREY, shallow, to_srgb
from planetmesh.jobtypes.image_batch import SIDE, SIDE_MOST, Convert

WRITERS = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
    "avif": "AVIF",
    "heic": "HEIF",
    "gif": "GIF",
    "tiff": "TIFF",
    "bmp": "BMP",
}
MODES: dict[str, tuple[str, ...]] = {
    "jpeg": ("L", "RGB", "CMYK"),
    "png": ("L", "LA", "RGB", "RGBA", "I;16"),
    "webp": ("RGB", "RGBA"),
    "avif": ("RGB", "RGBA"),
    "heic": ("RGB", "RGBA"),
    "gif": ("L", "RGB", "RGBA"),
    "tiff": ("L", "LA", "RGB", "RGBA", "CMYK", "I;16", "F"),
    "bmp": ("L", "RGB"),
}
USUAL_QUALITY = {"jpeg": 85, "webp": 80, "avif": 65, "heic": 65}
WITH_PROFILE = frozenset({"jpeg", "png", "webp", "avif", "heic", "tiff"})
WITH_EXIF = frozenset({"jpeg", "png", "webp", "avif", "heic", "tiff"})
WITH_XMP = frozenset({"jpeg", "webp", "avif"})
MOVING = frozenset({"gif", "webp", "png"})
"""Formats in which an animation stays one."""
LIKE_PROFILE = {b"GRAY": ("L", "LA", "I;16"), b"CMYK": ("CMYK",), b"RGB ": ("RGB", "RGBA")}
"""Colours that a profile speaks of → modes that it fits."""


def save(frames: Sequence[Image.Image], folder: Path, name: str, kind: str, wanted: Convert | None) -> int:
    """Write the frames (one, unless the format moves) below `folder`; bytes written. Raises ImageRefused."""
    wanted = wanted or Convert(kind)
    width, height = frames[0].size
    if max(width, height) > SIDE_MOST.get(kind, SIDE):
        raise ImageRefused(f"{kind} cannot hold {width}×{height} pixels.")
    writer = WRITERS[kind]
    if writer not in Image.SAVE:
        raise ImageRefused(f"This node cannot write {kind}.", is_passing=True)
    fitting = [fit(frame, kind, wanted.background) for frame in frames]
    options = _options(fitting[0], kind, wanted)
    if len(fitting) > 1:
        options |= _moving(fitting)
    return _write(fitting[0], _place(folder, name), writer, options)


def fit(image: Image.Image, kind: str, background: str) -> Image.Image:
    """In a mode that the format has."""
    modes = MODES[kind]
    if image.mode in DEEP_GREY:
        image = _deep(image) if "I;16" in modes else shallow(image)
    if image.mode == "F" and "F" not in modes:
        raise ImageRefused(f"Its pixels are floating-point numbers, which {kind} cannot hold; tiff can.")
    if image.mode in modes:
        return image
    if image.mode == "CMYK":
        image = to_srgb(image)
    if image.mode in {"RGBA", "LA"} and "RGBA" not in modes:
        image = flatten(image, background)
    if image.mode == "LA" and "LA" not in modes:
        return _converted(image, "RGBA")
    return image if image.mode in modes else _converted(image, "RGB")


def flatten(image: Image.Image, background: str) -> Image.Image:
    """On a ground of one colour."""
    above = image.convert("RGBA")
    ground = Image.new("RGBA", above.size, (*ImageColor.getrgb(background)[:3], 255))
    made = Image.alpha_composite(ground, above).convert("RGB")
    made.info = dict(image.info)
    return made


def _converted(image: Image.Image, mode: str) -> Image.Image:
    made = image.convert(mode)
    made.info = dict(image.info)
    return made


def _deep(image: Image.Image) -> Image.Image:
    return image if image.mode == "I;16" else _converted(image, "I;16")


def _options(image: Image.Image, kind: str, wanted: Convert) -> dict[str, Any]:
    """What is written beside the pixels: all of it, and nothing else."""
    info, options = image.info, dict[str, Any]()
    profile = info.get("icc_profile")
    if kind in WITH_PROFILE and profile and image.mode in LIKE_PROFILE.get(profile[16:20], ()):
        options["icc_profile"] = profile
    if kind in WITH_EXIF and info.get("exif"):
        options["exif"] = info["exif"]
    if kind in WITH_XMP and info.get("xmp"):
        options["xmp"] = info["xmp"]
    if kind in {"jpeg", "png", "tiff"} and info.get("dpi"):
        options["dpi"] = info["dpi"]
    if kind in USUAL_QUALITY:
        options["quality"] = wanted.quality or USUAL_QUALITY[kind]
    if kind == "webp" and wanted.lossless:
        options["lossless"] = True
    if kind == "avif" and wanted.lossless:
        options |= {"quality": 100, "subsampling": "4:4:4"}
    if kind == "jpeg":
        options |= {"optimize": True, "progressive": True}
    if kind == "tiff":
        options["compression"] = "tiff_adobe_deflate"
    return options


def _moving(frames: Sequence[Image.Image]) -> dict[str, Any]:
    first = frames[0].info
    return {
        "save_all": True,
        "append_images": [_bare(frame) for frame in frames[1:]],
        "duration": [int(frame.info.get("duration") or 100) for frame in frames],
        "loop": int(first.get("loop") or 0),
    }


def _place(folder: Path, name: str) -> Path:
    """The path; its folder is made. Nothing that leads out of the task's folder is followed."""
    path = folder / name
    with refusing():
        path.parent.mkdir(parents=True, exist_ok=True)
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise ImageRefused("Its output would lie outside of the task's folder.")
    if path.is_dir():
        raise ImageRefused(f"Its output {name!a} is a folder already.")
    return path


def _write(image: Image.Image, path: Path, writer: str, options: dict[str, Any]) -> int:
    # Hidden, so that no pattern collects half of it.
    temporary = path.with_name(f".{path.name[-100:]}.part")
    try:
        with refusing():
            with temporary.open("x+b") as file:
                _bare(image).save(file, writer, **options)
            temporary.replace(path)
            return path.stat().st_size
    finally:
        temporary.unlink(missing_ok=True)


def _bare(image: Image.Image) -> Image.Image:
    """Pillow would take what is known about the picture from the image itself."""
    made = image.copy()
    made.info = {}
    return made
