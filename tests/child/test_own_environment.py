"""In a process of its own: the environment of the test run must stay."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

PROGRAM = """
import os
from pathlib import Path
from planetmesh.child import own_environment

value = os.environ._data[b"SECRET"]
own_environment.wipe()
assert not os.environ
assert not Path("/proc/self/environ").read_bytes().strip(b"\\0")
assert value == bytes(len(value))
assert os.system("test -z \\"$SECRET\\"") == 0
own_environment.set_to({"A": "1", "B": "2", "PLANETMESH_ATTEMPT_OF": "/work/1/1"})
own_environment.set_to({"B": "3", "PLANETMESH_ATTEMPT_OF": "/w/1/2"})
assert dict(os.environ) == {"B": "3", "PLANETMESH_ATTEMPT_OF": "/w/1/2"}
assert Path("/proc/self/environ").read_bytes().split(b"\\0")[0] == b"PLANETMESH_ATTEMPT_OF=/w/1/2"
assert os.system("test $B = 3 -a -z \\"$A\\"") == 0
print("done")
"""


def test_nothing_of_the_first_environment_is_left():
    env = {"SECRET": "the owner's key", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("done\n", "")
