"""A Python that a user without rights can run, for nodes whose tasks import more than planetmesh itself.

An agent of root's starts tasks as such a user, and a Python in root's own home is closed to him: then the
system's one of the same version does, with the packages of this one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from functools import cache

import pytest
from lan import REPOSITORY

NOBODY = 65534


@cache
def open_python(*modules: str) -> tuple[str, dict[str, str]]:
    """Its path, and the environment in which it finds planetmesh and modules. Without one the test skips."""
    version = f"python3.{sys.version_info.minor}"
    env = {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{sysconfig.get_path('purelib')}"}
    for path in (sys.executable, shutil.which(version, path="/usr/bin:/usr/local/bin")):
        if path is not None and _works(path, env, modules):
            return path, env
    pytest.skip(f"no {version} here that users without rights can run")


def _works(path: str, env: dict[str, str], modules: tuple[str, ...]) -> bool:
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    script = f"import multiprocessing, msgspec, {', '.join(modules)}"
    try:
        done = subprocess.run(
            [path, "-c", script],
            env={**os.environ, **env},
            cwd="/",
            capture_output=True,
            check=False,
            timeout=30,
            **user,
        )
    except OSError:
        return False
    return done.returncode == 0
