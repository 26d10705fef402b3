"""The one function that turns a name from a peer into a path. Nobody else joins such names.

Which names are let in says `model.names`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from planetmesh.model.names import refused_name, safe_parts

FILE_MODE = 0o644
PROGRAM_MODE = 0o755


def safe_path(folder: Path, name: str) -> Path:
    """The path below `folder` that a relative name with `/` between its parts stands for.

    Raises BadInput for every name that could lead elsewhere, or that some platform reads differently.
    """
    return folder.joinpath(*safe_parts(name))


def write_shared(folder: Path, name: str, content: bytes, *, executable: bool) -> None:
    """Put a file directly in a folder that tasks can write to. A link planted there is never followed.

    Raises BadInput for a bad name, OSError if it cannot be written.
    """
    path = safe_path(folder, name)
    if path.parent != folder:
        raise refused_name(name, "the folders in it may be a task's links")
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    mode = PROGRAM_MODE if executable else FILE_MODE
    with os.fdopen(os.open(path, flags, mode), "wb") as file:
        file.write(content)
        if sys.platform != "win32":
            # Tasks may run as another user, whatever the agent's umask is.
            os.fchmod(file.fileno(), mode)
