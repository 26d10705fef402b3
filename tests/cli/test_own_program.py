"""How planetmesh starts itself again, and what it keeps for that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from planetmesh.cli.own_program import keep_unpacked, service_program

if os.name != "posix":
    pytest.skip("locks and modes are POSIX's", allow_module_level=True)


@pytest.fixture
def unpacked(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """As if this were the one-file binary, and had unpacked itself there."""
    folder = tmp_path / "tmp" / "_MEI123"
    folder.mkdir(parents=True)
    (folder / "library.so").write_text("")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", str(folder), raising=False)
    return folder


@pytest.mark.skipif(
    shutil.which("systemd-tmpfiles") is None or os.geteuid() != 0, reason="needs root and systemd-tmpfiles"
)
def test_what_was_unpacked_outlives_a_clean_of_tmp(unpacked: Path) -> None:
    rule = unpacked.parent.parent / "rule.conf"
    rule.write_text(f"d {unpacked.parent} 0700 - - 1us\n")
    held = keep_unpacked()
    assert held is not None
    clean = ["systemd-tmpfiles", "--clean", str(rule)]
    subprocess.run(clean, check=True, timeout=30)
    assert (unpacked / "library.so").exists()
    assert keep_unpacked() is None  # one is enough
    os.close(held)
    subprocess.run(clean, check=True, timeout=30)
    assert not unpacked.exists()


def test_there_is_nothing_to_keep_otherwise(unpacked: Path, monkeypatch) -> None:
    shutil.rmtree(unpacked)
    assert keep_unpacked() is None
    monkeypatch.delattr(sys, "frozen")
    assert keep_unpacked() is None


def test_the_program_of_a_service_needs_no_folder_to_start_in(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    program = service_program()
    assert Path(program[0]).is_absolute()
    done = subprocess.run([*program, "--version"], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("planetmesh ")


def test_without_its_own_command_it_is_the_module(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert service_program() == (str(tmp_path / "python"), "-P", "-m", "planetmesh")
    (tmp_path / "planetmesh").touch(mode=0o755)
    assert service_program() == (str(tmp_path / "planetmesh"),)
