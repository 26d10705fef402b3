"""What a relative file name from a peer may be: the same rules on every platform.

So a job which runs on one node runs on all: what Windows cannot store is refused on Linux too. Whoever
joins such a name to a folder asks here first.
"""

from __future__ import annotations

import unicodedata

from planetmesh.errors import BadInput

NAME_MOST_BYTES = 255
"""Of one part: what common file systems take."""
PATH_MOST_BYTES = 1024
PARTS_MOST = 32
_FORBIDDEN = frozenset('<>:"|?*\\')
_UNSHOWABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    | {f"{name}{number}" for name in ("COM", "LPT") for number in "0123456789\u00b9\u00b2\u00b3"}
)


def safe_parts(name: str) -> tuple[str, ...]:
    """The parts of a relative name with `/` between them.

    Raises BadInput for every name that could lead elsewhere, or that some platform reads differently.
    """
    if len(name.encode("utf-8", "surrogatepass")) > PATH_MOST_BYTES:
        raise refused_name(name[:80], "it is too long")
    parts = name.split("/")
    if len(parts) > PARTS_MOST:
        raise refused_name(name[:80], "it has too many parts")
    for part in parts:
        reason = _objection(part)
        if reason:
            raise refused_name(name, reason)
    return tuple(parts)


def folded(name: str) -> str:
    """Two names with the same folded form may be one file on some platform."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def made_portable(part: str) -> str:
    """One part of a local name as every platform can store it: what it forbids becomes `_`.

    A part that is too long stays so; of `..` and the empty part nothing useful can be made.
    """
    text = "".join(
        "_" if letter in _FORBIDDEN or unicodedata.category(letter) in _UNSHOWABLE else letter
        for letter in part
    )
    if text[:1] == " ":
        text = "_" + text[1:]
    kept = text.rstrip(". ")
    text = kept + "_" * (len(text) - len(kept))
    return f"_{text}" if _is_device(text) else text


def refused_name(name: str, reason: str) -> BadInput:
    return BadInput(f"The file name {name!a} cannot be used: {reason}.")


def _objection(part: str) -> str:
    if not part:
        return "a part of it is empty"
    if part in {".", ".."}:
        return "it leads to another folder"
    if not _FORBIDDEN.isdisjoint(part):
        return 'it holds one of < > : " | ? * \\'
    if any(unicodedata.category(letter) in _UNSHOWABLE for letter in part):
        return "it holds a character that cannot be shown"
    if part[-1] in ". " or part[0] == " ":
        return "a part of it begins with a blank, or ends with a blank or a dot"
    if _is_device(part):
        return "Windows keeps that name for a device"
    if len(part.encode()) > NAME_MOST_BYTES:
        return "a part of it is too long"
    return ""


def _is_device(part: str) -> bool:
    return part.split(".", 1)[0].rstrip(" ").upper() in _DEVICES
