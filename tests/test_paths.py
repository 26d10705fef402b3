"""Where things lie: private, locked for one, and never half written."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from planetmesh.errors import Conflict, UnsafeHome
from planetmesh.paths import (
    Home,
    closed_to_others,
    default_home,
    read_private,
    refuse_if_shared,
    work_root,
    write_private,
)

POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")


class TestDefaultHome:
    def test_the_environment_decides(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("PLANETMESH_HOME", str(tmp_path / "x"))
        assert default_home() == tmp_path / "x"
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("PLANETMESH_HOME", "~/y")
        assert default_home() == tmp_path / "y"
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PLANETMESH_HOME", "z")
        assert default_home() == tmp_path / "z"

    @pytest.mark.parametrize("value", [None, ""])
    def test_else_the_platform(self, monkeypatch: pytest.MonkeyPatch, value: str | None):
        if value is None:
            monkeypatch.delenv("PLANETMESH_HOME", raising=False)
        else:
            monkeypatch.setenv("PLANETMESH_HOME", value)
        found = default_home()
        assert found.is_absolute()
        assert found.name == "planetmesh"


def test_all_names_lie_inside_and_differ(tmp_path: Path):
    home = Home(tmp_path)
    names = [name for name, kind in vars(Home).items() if isinstance(kind, property)]
    found = [getattr(home, name) for name in names]
    assert len(names) >= 10
    one = [path for path in found if isinstance(path, Path)]
    several = [path for paths in found if isinstance(paths, tuple) for path in paths]
    assert all(path.parent == tmp_path for path in one + several)
    assert len(set(one)) == len(one)
    assert len(set(several)) == len(several)


class TestPrepare:
    @POSIX_ONLY
    def test_makes_a_private_folder_whatever_the_umask(self, tmp_path: Path):
        home = Home(tmp_path / "a" / "b")
        assert not home.exists()
        before = os.umask(0)
        try:
            home.prepare()
        finally:
            os.umask(before)
        assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
        assert home.exists()
        home.prepare()

    @POSIX_ONLY
    @pytest.mark.parametrize("mode", [0o750, 0o701, 0o777, 0o720])
    def test_refuses_what_others_may_use(self, tmp_path: Path, mode: int):
        root = tmp_path / "home"
        root.mkdir()
        root.chmod(mode)
        with pytest.raises(UnsafeHome, match=f"{mode:04o}") as refused:
            Home(root).prepare()
        assert f"chmod go= {root}" in refused.value.hint

    def test_refuses_a_file(self, tmp_path: Path):
        (tmp_path / "home").write_text("x")
        with pytest.raises(UnsafeHome):
            Home(tmp_path / "home").prepare()
        with pytest.raises(UnsafeHome, match="Cannot make"):
            Home(tmp_path / "home" / "inside").prepare()


class TestLock:
    def test_one_holds_it_and_then_another_may(self, home: Home):
        with home.locked(), pytest.raises(Conflict, match="already running"), home.locked():
            pass
        with home.locked():
            pass

    def test_it_ends_with_its_process(self, home: Home):
        script = (
            "import sys; from pathlib import Path; from planetmesh.paths import Home\n"
            "lock = Home(Path(sys.argv[1])).locked(); lock.__enter__()\n"
            "print('held', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script, str(home.root)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
        ) as holder:  # fmt: skip
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(Conflict), home.locked():
                pass
            holder.kill()
        with home.locked():
            pass


class TestPrivateFiles:
    def test_come_back_and_replace_the_old_ones(self, tmp_path: Path):
        path = tmp_path / "key.pem"
        for content in (b"one", b"two" * 1000, b""):
            write_private(path, content)
            assert read_private(path) == content
        assert [each.name for each in tmp_path.iterdir()] == ["key.pem"]

    @POSIX_ONLY
    def test_are_for_their_owner_only_from_the_first_moment(self, tmp_path: Path, monkeypatch):
        path = tmp_path / "key.pem"
        path.write_bytes(b"old")
        path.chmod(0o666)
        seen = []
        real = os.fsync
        monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(os.fstat(fd).st_mode), real(fd)))
        before = os.umask(0)
        try:
            write_private(path, b"new")
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(seen[0]) == 0o600
        assert len(seen) == 2, "the file and its folder must be on disk"
        assert stat.S_ISDIR(seen[1])

    @POSIX_ONLY
    def test_a_link_laid_in_the_way_is_not_followed(self, tmp_path: Path):
        victim = tmp_path / "victim"
        victim.write_bytes(b"precious")
        (tmp_path / ".key.pem.new").symlink_to(victim)
        write_private(tmp_path / "key.pem", b"new")
        assert victim.read_bytes() == b"precious"
        assert read_private(tmp_path / "key.pem") == b"new"
        assert not (tmp_path / "key.pem").is_symlink()

    @POSIX_ONLY
    def test_that_others_could_read_are_refused(self, tmp_path: Path):
        path = tmp_path / "key.pem"
        write_private(path, b"x")
        for mode in (0o640, 0o604, 0o660, 0o601):
            path.chmod(mode)
            with pytest.raises(UnsafeHome):
                read_private(path)
            with pytest.raises(UnsafeHome):
                refuse_if_shared(path)
        path.chmod(0o400)
        assert read_private(path) == b"x"

    def test_a_failed_write_leaves_the_old_one(self, tmp_path: Path, monkeypatch):
        path = tmp_path / "key.pem"
        write_private(path, b"old")

        def full(_fd: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_private(path, b"new")
        monkeypatch.undo()
        assert read_private(path) == b"old"
        write_private(path, b"new")
        assert read_private(path) == b"new"


class TestWorkRoot:
    @POSIX_ONLY
    def test_lies_in_the_home_of_a_common_user(self, tmp_path: Path, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert work_root(Home(tmp_path)) == tmp_path / "work"

    @POSIX_ONLY
    def test_of_root_can_be_passed_through_by_others(self, tmp_path: Path, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        one, other = work_root(Home(tmp_path / "a")), work_root(Home(tmp_path / "b"))
        assert one != other
        assert one == work_root(Home(tmp_path / "a"))
        assert tmp_path not in one.parents


@POSIX_ONLY
def test_a_folder_on_the_way_that_is_closed_to_others_is_named(tmp_path: Path):
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    found = closed_to_others(inner)
    assert found is not None
    assert inner.is_relative_to(found)
    assert closed_to_others(Path("/")) is None
