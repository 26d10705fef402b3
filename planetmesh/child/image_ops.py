"""What can be done to an opened image. Sizes are checked before memory is taken."""

from __future__ import annotations

import io

from PIL import Image, ImageCms, ImageColor, ImageOps

from planetmesh.child.image_open import ImageRefused, refuse_too_large
from planetmesh.jobtypes.image_batch import Crop, Operation, Resize, Rotate, Strip, Thumbnail

QUARTERS = {
    90: Image.Transpose.ROTATE_270,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}
"""Pillow turns the other way round."""
DEEP_GREY = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I"})
KEPT_ABOUT = ("icc_profile", "exif", "xmp", "dpi", "duration", "loop", "disposal")
"""What of an image's `info` goes on into its copy."""


def ready(image: Image.Image, first: Operation | None = None) -> Image.Image:
    """Loaded, upright and in a mode that can be worked on; a JPEG that becomes small is read small."""
    if isinstance(first, Thumbnail) and image.format == "JPEG" and not first.square:
        image.draft(None, (first.size, first.size))
    image.load()
    upright = ImageOps.exif_transpose(image)
    return _workable(upright)


def apply(image: Image.Image, operation: Operation, pixels_most: int) -> Image.Image:
    """A new image; its `info` holds what is known about it."""
    match operation:
        case Resize():
            made = _resize(image, operation, pixels_most)
        case Thumbnail(size, square):
            how = Resize(width=size, height=size, how="fill" if square else "fit")
            return strip(_about(image, _resize(image, how, pixels_most)))
        case Crop():
            made = _crop(image, operation)
        case Rotate():
            made = _rotate(image, operation, pixels_most)
        case Strip():
            return strip(image)
        case _:
            return image
    return _about(image, made)


def strip(image: Image.Image) -> Image.Image:
    """The picture alone, in sRGB: colours would be others without the profile that explains them."""
    made = to_srgb(image)
    made.info = {name: image.info[name] for name in ("duration", "loop", "disposal") if name in image.info}
    return made


def to_srgb(image: Image.Image) -> Image.Image:
    """Without a colour profile, and looking the same as before as far as that can be done."""
    profile = image.info.get("icc_profile")
    target = "RGBA" if image.mode in {"RGBA", "LA", "PA"} else "RGB"
    made = None
    if profile and image.mode in {"RGB", "RGBA", "CMYK"}:
        made = _by_profile(image, profile, "RGBA" if image.mode == "RGBA" else "RGB")
    if made is None:
        made = image.convert(target) if image.mode == "CMYK" else image.copy()
    made.info = {name: value for name, value in image.info.items() if name != "icc_profile"}
    return made


def _by_profile(image: Image.Image, profile: bytes, mode: str) -> Image.Image | None:
    """None for a profile that is broken or of other colours than the image has."""
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        alpha = image.getchannel("A") if image.mode == "RGBA" else None
        plain = image.convert("RGB") if alpha is not None else image
        made = ImageCms.profileToProfile(plain, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if made is None:
        return None
    if alpha is not None and mode == "RGBA":
        made.putalpha(alpha)
    return made


def shallow(image: Image.Image) -> Image.Image:
    """Sixteen bits of grey as eight."""
    if image.mode not in DEEP_GREY:
        return image
    # Through F, because conversions from I cut off what is above 255 instead of scaling it.
    wide = image.convert("I").convert("F")
    return _about(image, wide.point(lambda value: value * (1 / 256) + 0.0).convert("L"))


def _workable(image: Image.Image) -> Image.Image:
    """Palettes and bits as colours and greys, which can be scaled."""
    wanted = {
        "1": "L",
        "PA": "RGBA",
        "La": "LA",
        "RGBa": "RGBA",
        "RGBX": "RGB",
        "YCbCr": "RGB",
        "HSV": "RGB",
    }.get(image.mode)
    if image.mode == "P":
        wanted = "RGBA" if "transparency" in image.info else "RGB"
    if image.mode in {"L", "RGB"} and "transparency" in image.info:
        wanted = "LA" if image.mode == "L" else "RGBA"
    made = image.convert(wanted) if wanted else image.copy()
    return _about(image, made)


def _about(image: Image.Image, made: Image.Image) -> Image.Image:
    made.info = {name: image.info[name] for name in KEPT_ABOUT if image.info.get(name) is not None}
    return made


def _resize(image: Image.Image, wanted: Resize, pixels_most: int) -> Image.Image:
    box = _box(image.size, wanted)
    if wanted.how == "fill":
        return _fill(image, box, pixels_most, enlarge=wanted.enlarge)
    size = box if wanted.how == "exact" or wanted.percent else _within(image.size, box)
    if not wanted.enlarge:
        size = (min(size[0], image.width), min(size[1], image.height))
    return _scale(image, size, None, pixels_most)


def _box(size: tuple[int, int], wanted: Resize) -> tuple[int, int]:
    if wanted.percent:
        width, height = (max(1, round(side * wanted.percent / 100)) for side in size)
        return width, height
    far = 2**31
    return wanted.width or far, wanted.height or far


def _within(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    share = min(box[0] / size[0], box[1] / size[1])
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def _fill(image: Image.Image, box: tuple[int, int], pixels_most: int, *, enlarge: bool) -> Image.Image:
    """The largest part around the middle that has the box's shape; in the box's size, or smaller as it is."""
    share = min(image.width / box[0], image.height / box[1])
    width, height = box[0] * share, box[1] * share
    left, top = (image.width - width) / 2, (image.height - height) / 2
    size = box if share >= 1 or enlarge else (max(1, round(width)), max(1, round(height)))
    return _scale(image, size, (left, top, left + width, top + height), pixels_most)


def _scale(
    image: Image.Image,
    size: tuple[int, int],
    part: tuple[float, float, float, float] | None,
    pixels_most: int,
) -> Image.Image:
    refuse_too_large(size, pixels_most, "The result would have")
    if size == image.size and part is None:
        return image
    if image.mode in DEEP_GREY:
        made = image.convert("F").resize(size, Image.Resampling.LANCZOS, box=part)
        return _deep_again(made)
    return image.resize(size, Image.Resampling.LANCZOS, box=part, reducing_gap=3.0)


def _deep_again(image: Image.Image) -> Image.Image:
    """Sixteen bits of grey that went through F; sharpening may have left their bounds."""
    bounded = image.point(lambda value: value * 1.0 + 0.5)
    return bounded.convert("I").convert("I;16")


def _crop(image: Image.Image, wanted: Crop) -> Image.Image:
    left = (image.width - wanted.width) // 2 if wanted.left is None else wanted.left
    top = (image.height - wanted.height) // 2 if wanted.top is None else wanted.top
    right, bottom = left + wanted.width, top + wanted.height
    if left < 0 or top < 0 or right > image.width or bottom > image.height:
        raise ImageRefused(
            f"A crop of {wanted.width}×{wanted.height}"
            + ("" if wanted.left is None else f" at {wanted.left},{wanted.top}")
            + f" does not lie within its {image.width}×{image.height} pixels."
        )
    return image.crop((left, top, right, bottom))


def _rotate(image: Image.Image, wanted: Rotate, pixels_most: int) -> Image.Image:
    degrees = wanted.degrees % 360
    if degrees == 0:
        return image
    if degrees in QUARTERS:
        return image.transpose(QUARTERS[int(degrees)])
    # The box around it is at most so large.
    side = int((image.width**2 + image.height**2) ** 0.5) + 2
    refuse_too_large((min(side, 2**31), min(side, 2**31)), pixels_most * 2, "The result would have up to")
    image = shallow(image)
    if image.mode == "CMYK":
        image = to_srgb(image)
    colour = ImageColor.getrgb(wanted.background)
    fill: tuple[int, ...] | int = (0,) * len(image.getbands()) if image.mode in {"RGBA", "LA"} else colour[:3]
    if image.mode == "L":
        fill = ImageColor.getcolor(wanted.background, "L")
    made = image.rotate(-degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=fill)
    refuse_too_large(made.size, pixels_most, "The result would have")
    return made
