"""The folder above all job folders has, for root, a name that anybody can guess, where anybody can write."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from planetmesh.agent import service
from planetmesh.agent.sandbox import folders
from planetmesh.errors import BadInput, UnsafeHome
from planetmesh.paths import Home, work_root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="for others it lies in their own home")
STRANGER = 65534


@pytest.fixture
def root(home: Home):
    place = work_root(home)
    assert not place.exists()
    yield place
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.exists():
        place.rmdir()


def test_a_link_that_was_planted_there_is_neither_used_nor_followed(home, root, tmp_path):
    precious = tmp_path / "precious" / "data"
    precious.mkdir(parents=True)
    (precious / "kept").write_text("still here")
    root.symlink_to(precious.parent)
    with pytest.raises(UnsafeHome):
        folders.prepare_work_root(home)
    service._sweep(home)
    assert (precious / "kept").read_text() == "still here"


def test_a_folder_of_somebody_else_is_neither_used_nor_cleared(home, root):
    root.mkdir()
    (root / "theirs").mkdir()
    os.chown(root, STRANGER, STRANGER)
    with pytest.raises(UnsafeHome):
        folders.prepare_work_root(home)
    service._sweep(home)
    assert (root / "theirs").is_dir()
    (root / "theirs").rmdir()


@pytest.mark.parametrize("kind", ["dangling", "file"])
def test_anything_else_there_is_said_in_words(home, root, kind):
    if kind == "file":
        root.touch()
    else:
        root.symlink_to("/nonexistent/place")
    with pytest.raises(UnsafeHome, match="not a directory of this user"):
        folders.prepare_work_root(home)


def test_rights_of_what_a_link_points_to_are_never_changed(tmp_path):
    target = tmp_path / "target"
    target.touch(mode=0o644)
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "a" / "link").symlink_to(target)
    folders._open_and_retry(None, str(tree / "a" / "link"), None)
    folders.remove_folder(tree)
    assert target.stat().st_mode & 0o777 == 0o644


def test_what_was_left_by_a_life_that_was_killed_whole_is_ended(home, root):
    folders.prepare_work_root(home)
    marker = f"PLANETMESH_ATTEMPT_OF={root}/job-1/0/1"
    left = subprocess.Popen(["/usr/bin/env", "-i", marker, "/bin/sleep", "300"], start_new_session=True)
    other = subprocess.Popen(["/usr/bin/env", "-i", f"{marker[:-9]}x/0/1", "/bin/sleep", "300"])
    try:
        while Path(f"/proc/{left.pid}/comm").read_text() != "sleep\n":
            pass
        (root / "job-1").mkdir()
        service._clear_up(home)
        assert left.wait(5) == -9
        assert list(root.iterdir()) == []
    finally:
        for process in (left, other):
            process.kill()
            process.wait()


def test_a_file_goes_into_the_folder_itself_only(tmp_path):
    from planetmesh.agent.workdir import write_shared

    (tmp_path / "sub").symlink_to("/etc")
    with pytest.raises(BadInput):
        write_shared(tmp_path, "sub/planetmesh-test", b"x", executable=False)
