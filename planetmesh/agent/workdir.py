"""The one function that turns a name from a peer into a path. Nobody else joins such names.

The rules are the same on every platform, so that a job which runs on one node runs on all: what
Windows cannot store is refused on Linux too.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

from planetmesh.errors import BadInput

NAME_MOST_BYTES = 255
"""Of one part: what common file systems take."""
PATH_MOST_BYTES = 1024
PARTS_MOST = 32
FILE_MODE = 0o644
PROGRAM_MODE = 0o755
_FORBIDDEN = frozenset('<>:"|?*\\')
_UNSHOWABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    | {f"{name}{number}" for name in ("COM", "LPT") for number in "0123456789\u00b9\u00b2\u00b3"}
)


def safe_path(folder: Path, name: str) -> Path:
    """The path below `folder` that a relative name with `/` between its parts stands for.

    Raises BadInput for every name that could lead elsewhere, or that some platform reads differently.
    """
    if len(name.encode("utf-8", "surrogatepass")) > PATH_MOST_BYTES:
        raise _refused(name[:80], "it is too long")
    parts = name.split("/")
    if len(parts) > PARTS_MOST:
        raise _refused(name[:80], "it has too many parts")
    for part in parts:
        reason = _objection(part)
        if reason:
            raise _refused(name, reason)
    return folder.joinpath(*parts)


def folded(name: str) -> str:
    """Two names with the same folded form may be one file on some platform."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def write_shared(folder: Path, name: str, content: bytes, *, executable: bool) -> None:
    """Put a file directly in a folder that tasks can write to. A link planted there is never followed.

    Raises BadInput for a bad name, OSError if it cannot be written.
    """
    path = safe_path(folder, name)
    if path.parent != folder:
        raise _refused(name, "the folders in it may be a task's links")
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    mode = PROGRAM_MODE if executable else FILE_MODE
    with os.fdopen(os.open(path, flags, mode), "wb") as file:
        file.write(content)
        if sys.platform != "win32":
            # Tasks may run as another user, whatever the agent's umask is.
            os.fchmod(file.fileno(), mode)


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
    if part.split(".", 1)[0].rstrip(" ").upper() in _DEVICES:
        return "Windows keeps that name for a device"
    if len(part.encode()) > NAME_MOST_BYTES:
        return "a part of it is too long"
    return ""


def _refused(name: str, reason: str) -> BadInput:
    return BadInput(f"The file name {name!a} cannot be used: {reason}.")
