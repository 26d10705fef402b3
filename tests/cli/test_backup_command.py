"""`backup` and `restore`: what is asked, what is refused, and that nothing is written over."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from planetmesh.cli import passphrase
from planetmesh.cli.part import Part, Role, write_part
from planetmesh.paths import Home
from planetmesh.trust import sealed

PASSPHRASE = "correct horse battery"


@pytest.fixture(autouse=True)
def cheap(monkeypatch) -> None:
    """The key's cost is tested in tests/trust; here it is only waited for."""
    monkeypatch.setattr(sealed, "WORK", 10)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "pass"
    path.touch(0o600)
    path.write_text(PASSPHRASE + "\n")
    return path


@pytest.fixture
def mesh(home: Home, coordinator) -> Home:
    """The home of a coordinator that is up."""
    write_part(home, Part(role=Role.COORDINATOR, name="den"))
    return home


def test_there_and_back(mesh: Home, say, secret: Path, tmp_path: Path) -> None:
    file = tmp_path / "mesh.backup"
    said = say("backup", str(file), "--passphrase-file", str(secret))
    assert said.status == 0
    assert f"{file} holds the mesh 'den'" in said.text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert PASSPHRASE not in said.text + said.error

    fresh = tmp_path / "fresh"
    said = say("--home", str(fresh), "--json", "restore", str(file), "--passphrase-file", str(secret))
    assert said.status == 0, said.error
    assert said.json["mesh"] == "den"
    assert set(said.json) == {"mesh", "mesh_id", "made_at", "nodes", "people"}
    assert "Never start the old coordinator again" in said.error
    said = say("--home", str(fresh), "restore", str(file), "--passphrase-file", str(secret))
    assert said.status != 0
    assert "in use already" in said.error


def test_programs_get_one_document(mesh: Home, say, secret: Path, tmp_path: Path) -> None:
    file = tmp_path / "mesh.backup"
    said = say("--json", "backup", str(file), "--passphrase-file", str(secret))
    assert said.json == {"file": str(file), "bytes": file.stat().st_size, "mesh": "den"}


def test_another_passphrase_opens_nothing(mesh: Home, say, secret: Path, tmp_path: Path) -> None:
    file, fresh = tmp_path / "mesh.backup", tmp_path / "fresh"
    say("backup", str(file), "--passphrase-file", str(secret))
    secret.write_text("another one, and wrong")
    said = say("--home", str(fresh), "restore", str(file), "--passphrase-file", str(secret))
    assert said.status == 4
    assert "The passphrase is wrong" in said.error
    assert [path.name for path in fresh.iterdir()] == ["lock"]


def test_a_file_that_is_there_is_kept(mesh: Home, say, secret: Path, tmp_path: Path) -> None:
    file = tmp_path / "mesh.backup"
    file.write_text("mine")
    said = say("backup", str(file), "--passphrase-file", str(secret))
    assert said.status != 0
    assert "--overwrite" in said.error
    assert file.read_text() == "mine"
    assert say("backup", str(file), "--passphrase-file", str(secret), "--overwrite").status == 0
    assert file.read_bytes().startswith(sealed.MAGIC)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "first line is empty"), (b"short\n", "12 letters"), (b"\xff\xfe" * 20, "no text")],
)
def test_passphrases_that_will_not_do(
    mesh: Home, say, secret: Path, tmp_path: Path, content: bytes, says: str
) -> None:
    secret.write_bytes(content)
    said = say("backup", str(tmp_path / "x"), "--passphrase-file", str(secret))
    assert said.status == 2
    assert says in said.error
    assert not (tmp_path / "x").exists()


def test_a_file_that_others_can_read_is_refused(mesh: Home, say, secret: Path, tmp_path: Path) -> None:
    secret.chmod(0o644)
    said = say("backup", str(tmp_path / "x"), "--passphrase-file", str(secret))
    assert said.status == 2
    assert "chmod go=" in said.error


def test_nobody_there_to_be_asked(mesh: Home, say, tmp_path: Path) -> None:
    said = say("backup", str(tmp_path / "x"))
    assert said.status == 2
    assert "--passphrase-file" in said.error


def test_both_sources_exclude_each_other(mesh: Home, say, secret: Path, tmp_path: Path) -> None:
    said = say("backup", str(tmp_path / "x"), "--passphrase-file", str(secret), "--passphrase-stdin")
    assert said.status == 2
    assert "exclude each other" in said.error


def test_an_agents_home_has_nothing_to_keep(home: Home, say, secret: Path, tmp_path: Path) -> None:
    said = say("backup", str(tmp_path / "x"), "--passphrase-file", str(secret))
    assert (said.status, "belongs to no mesh" in said.error) == (5, True)
    home.prepare()
    write_part(home, Part(role=Role.AGENT, name="shelf"))
    said = say("backup", str(tmp_path / "x"), "--passphrase-file", str(secret))
    assert said.status != 0
    assert "coordinator's machine" in said.error


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (None, 5, "There is no file"),
        (b"", 2, "no backup of a mesh"),
        (b"\x1f\x8b tar", 2, "no backup of a mesh"),
        (sealed.MAGIC + b"\xff" + b"x" * 99, 2, "damaged, or of a newer planetmesh"),
    ],
)
def test_what_is_no_backup(say, secret: Path, tmp_path: Path, content, status: int, says: str) -> None:
    file = tmp_path / "mesh.backup"
    if content is not None:
        file.write_bytes(content)
    said = say("--home", str(tmp_path / "fresh"), "restore", str(file), "--passphrase-file", str(secret))
    assert (said.status, says in said.error) == (status, True), said.error


def test_a_folder_is_no_backup(say, secret: Path, tmp_path: Path) -> None:
    said = say("--home", str(tmp_path / "f"), "restore", str(tmp_path), "--passphrase-file", str(secret))
    assert said.status == 2
    assert "cannot be read" in said.error


class TestAsked:
    @pytest.fixture
    def answers(self, monkeypatch) -> list[str]:
        answers: list[str] = []
        monkeypatch.setattr(passphrase, "is_asked", lambda: True)
        monkeypatch.setattr(passphrase.click, "prompt", lambda *_args, **_more: answers.pop(0))
        return answers

    def test_typed_twice(self, mesh: Home, say, answers, tmp_path: Path) -> None:
        answers += ["too short", PASSPHRASE, "something else", PASSPHRASE, PASSPHRASE]
        said = say("backup", str(tmp_path / "x"))
        assert said.status == 0
        assert "12 letters" in said.error
        assert "not the same" in said.error
        assert answers == []
        assert sealed.unseal((tmp_path / "x").read_bytes(), PASSPHRASE)

    def test_enter_makes_one_that_is_shown_once(self, mesh: Home, say, answers, tmp_path: Path) -> None:
        answers += [""]
        said = say("--quiet", "backup", str(tmp_path / "x"))
        assert said.text == f"{tmp_path / 'x'}\n"
        made = said.error.splitlines()[0].removeprefix("Passphrase: ")
        assert sealed.unseal((tmp_path / "x").read_bytes(), made)
