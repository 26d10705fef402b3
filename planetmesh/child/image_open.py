"""Opening images that strangers made: few formats, bounds before pixels, one sentence for all that is wrong.

Formats whose readers start other programs (EPS) or are little kept up are not read at all.
"""

from __future__ import annotations

import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import error as ZlibError  # noqa: N812  it is a class

from PIL import Image, ImageFile, UnidentifiedImageError

READABLE = (
    "JPEG", "MPO", "PNG", "GIF", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "DIB", "PPM", "JPEG2000", "ICO",
    "TGA", "PSD", "QOI",
)  # fmt: skip
FRAMES_MOST = 1000
"""Of an animation."""


HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


class ImageRefused(Exception):
    """One image cannot be used; the others go on."""

    def __init__(self, sentence: str, *, is_passing: bool = False) -> None:
        """`is_passing`: it is this node's fault or the moment's, so another try may go well."""
        super().__init__(sentence)
        self.is_passing = is_passing


def register_formats() -> None:
    """Let Pillow read and write HEIC where pillow-heif is there; call before anything is opened."""
    Image.init()
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()


@contextmanager
def opened(path: Path, pixels_most: int) -> Iterator[Image.Image]:
    """An image whose size is known and allowed. Raises ImageRefused for whatever goes wrong within."""
    with refusing(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Pillow raises beyond twice this number, and for some formats only while it reads.
        Image.MAX_IMAGE_PIXELS = max(1, pixels_most // 2)
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        _see_that_it_is_a_file(path)
        formats = [name for name in READABLE if name in Image.OPEN]
        _refuse_unreadable_here(path)
        with Image.open(path, formats=formats) as image:
            refuse_too_large(image.size, pixels_most, "It has")
            yield image


def refuse_too_large(size: tuple[int, int], pixels_most: int, what: str) -> None:
    """`what` begins the sentence: "It has", "The result would have"."""
    width, height = size
    if width < 1 or height < 1:
        raise ImageRefused(f"{what} no pixels ({width}×{height}).")
    if width * height > pixels_most:
        raise ImageRefused(f"{what} {width}×{height} pixels; {pixels_most} in all is the limit.")


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what Pillow and its codecs raise into ImageRefused with a sentence."""
    try:
        yield
    except ImageRefused:
        raise
    except UnidentifiedImageError as error:
        raise ImageRefused("It is no image that can be read here.") from error
    except Image.DecompressionBombError as error:
        raise ImageRefused("It unfolds to far more pixels than allowed.") from error
    except MemoryError as error:
        raise ImageRefused("There is not enough memory for it.", is_passing=True) from error
    except FileNotFoundError as error:
        raise ImageRefused("There is no such file.") from error
    except (
        OSError,
        ValueError,
        TypeError,
        SyntaxError,
        KeyError,
        IndexError,
        struct.error,
        ZlibError,
    ) as error:
        # Of a file that is no good Pillow says so in words; numbers come from the system.
        by_system = isinstance(error, OSError) and error.errno is not None
        raise ImageRefused(_sentence(error), is_passing=by_system) from error
    except (
        ArithmeticError,
        AttributeError,
        AssertionError,
        NotImplementedError,
        RuntimeError,
        EOFError,
    ) as error:
        # Decoders fed with nonsense fail in all these ways.
        raise ImageRefused(_sentence(error)) from error


def _sentence(error: BaseException) -> str:
    text = (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).strip()
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "It is cut off: a part of the file is missing."
    return f"It cannot be read or written: {text or type(error).__name__}."


def _refuse_unreadable_here(path: Path) -> None:
    """Two formats come with a library that not every node has; without it their files look like nonsense."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] != b"ftyp":
        return
    if head[8:] in HEIF_BRANDS and "HEIF" not in Image.OPEN:
        raise ImageRefused("This node cannot read HEIC: it lacks pillow-heif.", is_passing=True)
    if head[8:] in {b"avif", b"avis"} and "AVIF" not in Image.OPEN:
        raise ImageRefused("This node cannot read AVIF.", is_passing=True)


def _see_that_it_is_a_file(path: Path) -> None:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ImageRefused("It is no file." if not stat.S_ISDIR(found.st_mode) else "It is a folder.")
    if found.st_size == 0:
        raise ImageRefused("The file is empty.")
