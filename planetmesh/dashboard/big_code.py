"""A pairing code in large letters, to be read from across the room. Pure."""

from __future__ import annotations

GLYPHS = {
    "0": "### #.# #.# #.# ###", "1": ".#. ##. .#. .#. ###", "2": "##. ..# .#. #.. ###",
    "3": "##. ..# .#. ..# ##.", "4": "#.# #.# ### ..# ..#", "5": "### #.. ##. ..# ##.",
    "6": ".## #.. ### #.# ###", "7": "### ..# ..# .#. .#.", "8": "### #.# ### #.# ###",
    "9": "### #.# ### ..# ##.", "A": ".#. #.# ### #.# #.#", "B": "##. #.# ##. #.# ##.",
    "C": ".## #.. #.. #.. .##", "D": "##. #.# #.# #.# ##.", "E": "### #.. ##. #.. ###",
    "F": "### #.. ##. #.. #..", "G": ".## #.. #.# #.# .##", "H": "#.# #.# ### #.# #.#",
    "J": "..# ..# ..# #.# .#.", "K": "#.# #.# ##. #.# #.#", "M": "#...# ##.## #.#.# #...# #...#",
    "N": "#..# ##.# #.## #..# #..#", "P": "##. #.# ##. #.. #..", "Q": ".#. #.# #.# .#. ..#",
    "R": "##. #.# ##. #.# #.#", "S": ".## #.. .#. ..# ##.", "T": "### .#. .#. .#. .#.",
    "V": "#.# #.# #.# #.# .#.", "W": "#...# #...# #.#.# ##.## #...#", "X": "#.# #.# .#. #.# #.#",
    "Y": "#.# #.# .#. .#. .#.", "Z": "### ..# .#. #.. ###", "-": "... ... ### ... ...",
}  # fmt: skip
"""Five rows each; the alphabet of `trust/codes.py` and the dash."""
_HALVES = {"..": " ", "#.": "▀", ".#": "▄", "##": "█"}


def big(code: str, width: int) -> list[str]:
    """As large as fits: five lines of double blocks, three of half blocks, or the code as it is."""
    if not code or any(letter not in GLYPHS for letter in code):
        return [code]
    rows = [".".join(GLYPHS[letter].split()[row] for letter in code) for row in range(5)]
    if 2 * len(rows[0]) <= width:
        return [row.replace("#", "██").replace(".", "  ").rstrip() for row in rows]
    if len(rows[0]) > width:
        return [code]
    blank = "." * len(rows[0])
    rows.append(blank)
    return [
        "".join(
            _HALVES[above + below] for above, below in zip(rows[top], rows[top + 1], strict=True)
        ).rstrip()
        for top in (0, 2, 4)
    ]
