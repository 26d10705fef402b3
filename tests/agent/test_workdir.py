"""Names from peers never lead out of their folder (SECURITY T26)."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from planetmesh.agent.workdir import safe_path, write_shared
from planetmesh.errors import BadInput

FOLDER = Path("/srv/job")


@pytest.mark.parametrize(
    "name", ["a", "a/b.txt", "x.py", "ü/ß.png", "a b", ".config", "a.b.c", "CONSOLE.txt"]
)
def test_ordinary_names_are_taken(name):
    assert safe_path(FOLDER, name) == FOLDER / name


@pytest.mark.parametrize("name", ["", "..", "/abs", "a/../../x", "a\\b", "NUL"])
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(BadInput):
        safe_path(FOLDER, name)


def test_a_planted_link_is_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"key")
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "x.py").symlink_to(secret)
    write_shared(folder, "x.py", b"print(1)", executable=True)
    assert secret.read_bytes() == b"key"
    assert (folder / "x.py").read_bytes() == b"print(1)"
    assert stat.S_IMODE((folder / "x.py").lstat().st_mode) == 0o755
