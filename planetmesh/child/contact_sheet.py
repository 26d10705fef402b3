"""Many images on one: cells in rows, each with its picture in the middle and its label below."""

from __future__ import annotations

import unicodedata
from posixpath import basename

from PIL import Image, ImageColor, ImageDraw, ImageFont

from planetmesh.jobtypes.image_batch import ContactSheet, label_height, sheet_grid, sheet_size

MARK = (200, 60, 60)
"""Of a cell whose image is broken."""
DARK, LIGHT = (34, 34, 34), (230, 230, 230)
HALF = 128
ELLIPSIS = "…"


FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "arial.ttf",
         "segoeui.ttf", "Helvetica.ttc")  # fmt: skip
"""Looked for where the system keeps fonts; Pillow's own has little more than ASCII."""
_WITHOUT_BASE = {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d",
                 "ı": "i", "…": "...", "–": "-", "—": "-"}  # fmt: skip


def _font(size: int) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, bool]:
    """A font, and whether it has more than ASCII."""
    for name in FONTS:
        try:
            return ImageFont.truetype(name, size), True
        except OSError:
            continue
    return ImageFont.load_default(size), False


def plain(text: str) -> str:
    """In ASCII, as near as can be: `größe ☃` becomes `grosse ?`."""
    letters = unicodedata.normalize("NFKD", "".join(_WITHOUT_BASE.get(letter, letter) for letter in text))
    kept = (letter for letter in letters if not unicodedata.combining(letter))
    return "".join(letter if letter.isascii() else "?" for letter in kept)


class Sheet:
    """A canvas that cells are put on one after the other."""

    def __init__(self, wanted: ContactSheet, count: int) -> None:
        self._wanted = wanted
        self._columns, _ = sheet_grid(wanted, count)
        ground = ImageColor.getrgb(wanted.background)[:3]
        self.image = Image.new("RGB", sheet_size(wanted, count), ground)
        self._draw = ImageDraw.Draw(self.image)
        self._ink = LIGHT if sum(ground) < HALF * 3 else DARK
        self._label_height = label_height(wanted)
        self._font, self._knows_all = _font(max(9, self._label_height - 5))

    def put(self, number: int, name: str, picture: Image.Image | None) -> tuple[int, int]:
        """Column and row of the cell. None stands for an image that cannot be shown."""
        row, column = divmod(number, self._columns)
        left = self._wanted.gap + column * (self._wanted.width + self._wanted.gap)
        top = self._wanted.gap + row * (self._wanted.height + self._label_height + self._wanted.gap)
        if picture is None:
            self._mark(left, top)
        else:
            self._paste(left, top, picture)
        if self._label_height:
            self._label(left, top + self._wanted.height, name, number)
        return column, row

    def _paste(self, left: int, top: int, picture: Image.Image) -> None:
        place = (
            left + (self._wanted.width - picture.width) // 2,
            top + (self._wanted.height - picture.height) // 2,
        )
        shown = picture.convert("RGBA") if picture.mode in {"RGBA", "LA"} else picture.convert("RGB")
        self.image.paste(shown, place, shown if shown.mode == "RGBA" else None)

    def _mark(self, left: int, top: int) -> None:
        right, bottom = left + self._wanted.width - 1, top + self._wanted.height - 1
        self._draw.rectangle((left, top, right, bottom), outline=MARK)
        self._draw.line((left, top, right, bottom), fill=MARK)
        self._draw.line((left, bottom, right, top), fill=MARK)

    def _label(self, left: int, top: int, name: str, number: int) -> None:
        text = basename(name) if self._wanted.labels == "name" else str(number + 1)
        text = "".join(letter if letter.isprintable() else "?" for letter in text)
        text = self._shortened(text if self._knows_all else plain(text))
        middle = left + self._wanted.width / 2
        self._draw.text((middle, top + self._label_height / 2), text, self._ink, self._font, anchor="mm")

    def _shortened(self, text: str) -> str:
        """Its middle left out until it fits: beginnings and endings tell files apart."""
        dots = ELLIPSIS if self._knows_all else "..."
        text = text if len(text) <= 200 else f"{text[:100]}{dots}{text[-99:]}"
        shown, keep = text, len(text)
        while keep > 2 and self._draw.textlength(shown, self._font) > self._wanted.width:
            keep -= 1
            shown = f"{text[: (keep + 1) // 2]}{dots}{text[len(text) - keep // 2 :]}"
        return shown
