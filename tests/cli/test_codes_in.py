"""Codes come from stdin or a private file, never from the arguments."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from planetmesh.cli.codes_in import Way, check_way, read_code
from planetmesh.errors import BadInput, UnsafeHome
from planetmesh.trust.codes import new_code


@pytest.fixture
def code_file(tmp_path: Path) -> Path:
    path = tmp_path / "code.txt"
    path.touch(0o600)
    return path


def test_a_file_holds_a_code(code_file: Path):
    code = new_code(3)
    code_file.write_text(f"  {code.text.lower()}\nsomething else\n")
    assert read_code(Way(code_file=code_file)).text == code.text


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_a_file_that_others_can_read_is_refused(code_file: Path):
    code_file.write_text(new_code(3).text)
    code_file.chmod(0o644)
    with pytest.raises(UnsafeHome, match=r"code\.txt"):
        read_code(Way(code_file=code_file))


@pytest.mark.parametrize("content", [b"", b"\n", b"hello", b"\xff\xfe\x00", b"9" * 5000])
def test_a_file_without_a_code_is_said(code_file: Path, content: bytes):
    code_file.write_bytes(content)
    with pytest.raises(BadInput):
        read_code(Way(code_file=code_file))


def test_a_file_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(BadInput, match="nowhere"):
        read_code(Way(code_file=tmp_path / "nowhere"))


def test_ways_exclude_each_other():
    with pytest.raises(click.UsageError):
        check_way(None, code_stdin=True, code_file=Path("x"))
    with pytest.raises(BadInput):
        check_way("http://x", code_stdin=False, code_file=None)
    assert not check_way(None, code_stdin=False, code_file=None).is_given
    assert check_way("10.0.0.1", code_stdin=False, code_file=None).is_given


def test_no_option_takes_the_code_itself():
    from planetmesh.cli.login import login
    from planetmesh.cli.up import up

    for command in (up, login):
        names = {name for each in command.params for name in each.opts}
        assert "--code" not in names
        assert not [each for each in command.params if isinstance(each, click.Argument)]
