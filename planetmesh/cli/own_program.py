"""How planetmesh starts itself again: the local agent of `up`, the machines of `demo`.

Works the same from a wheel, from the source tree and from the one-file binary.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

LOADER_VARIABLE = "LD_LIBRARY_PATH"


def is_frozen() -> bool:
    """This is the one-file binary."""
    return bool(getattr(sys, "frozen", False))


def own_command() -> list[str]:
    """The beginning of an argv that runs this very program."""
    if is_frozen():
        return [sys.executable]
    # -P: a file in the current folder must not stand in for a module of ours.
    return [sys.executable, "-P", "-m", "planetmesh"]


def service_program() -> tuple[str, ...]:
    """The same with an absolute path, for who starts it in another folder and another year."""
    beside = Path(sys.executable).with_name("planetmesh")
    if not is_frozen() and beside.is_file() and os.access(beside, os.X_OK):
        return (str(beside.absolute()),)
    program, *arguments = own_command()
    return (str(Path(program).absolute()), *arguments)


def keep_unpacked() -> int | None:
    """Hold what the one-file binary unpacked for as long as this process lives; gives the descriptor.

    Many systems clear /tmp of what nobody touched for ten days, which would take modules away that are loaded
    late. Folders with a lock are left alone: tmpfiles.d(5).
    """
    unpacked = getattr(sys, "_MEIPASS", None)
    if not is_frozen() or unpacked is None or sys.platform == "win32":
        return None
    import fcntl

    try:
        descriptor = os.open(unpacked, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None  # it works without
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process of this program holds it, or such a disk has no locks
        os.close(descriptor)
        return None
    return descriptor


def own_environment(*, alone: bool = False) -> dict[str, str]:
    """The environment for it: our own; from the source tree with the way to the package.

    The one-file binary unpacks itself once, and what it starts shares that; it goes when the first process
    ends. `alone`: for a process that may outlive this one by some seconds.
    """
    environment = dict(os.environ)
    if is_frozen():
        return _unpacking_itself(environment) if alone else environment
    source = Path(__file__).resolve().parents[2]
    if not {"site-packages", "dist-packages"}.intersection(source.parts):
        paths = (str(source), environment.get("PYTHONPATH", ""))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environment


def _unpacking_itself(environment: dict[str, str]) -> dict[str, str]:
    """As it was before this binary put its own folder in front of the libraries."""
    before = environment.pop(f"{LOADER_VARIABLE}_ORIG", None)
    environment.pop(LOADER_VARIABLE, None)
    if before:
        environment[LOADER_VARIABLE] = before
    return {**environment, "PYINSTALLER_RESET_ENVIRONMENT": "1"}
