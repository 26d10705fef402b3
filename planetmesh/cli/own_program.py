"""How planetmesh starts itself again: the local agent of `up`, the machines of `demo`.

Works the same from a wheel, from the source tree and from the one-file binary.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def is_frozen() -> bool:
    """This is the one-file binary."""
    return bool(getattr(sys, "frozen", False))


def own_command() -> list[str]:
    """The beginning of an argv that runs this very program."""
    if is_frozen():
        return [sys.executable]
    # -P: a file in the current folder must not stand in for a module of ours.
    return [sys.executable, "-P", "-m", "planetmesh"]


def own_environment() -> dict[str, str]:
    """The environment for it: our own; from the source tree with the way to the package."""
    environment = dict(os.environ)
    source = Path(__file__).resolve().parents[2]
    if not is_frozen() and not {"site-packages", "dist-packages"}.intersection(source.parts):
        environment["PYTHONPATH"] = str(source)
    return environment
