"""docs/operations.md: what it has people copy into their machines is read by those who will read it there."""

from __future__ import annotations

import plistlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from planetmesh.model.endpoint import DEFAULT_PORT
from planetmesh.settings import Settings, show_value, values

PAGE = (Path(__file__).parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
@pytest.mark.parametrize("number", [0, 1], ids=["system", "user"])
def test_systemd_finds_nothing_wrong_with_the_units(number: int, tmp_path: Path) -> None:
    text = blocks("ini")[number]
    unit = tmp_path / "planetmesh.service"
    # It looks whether the program is there.
    unit.write_text(re.sub(r"(?<=^ExecStart=)\S+", sys.executable, text, flags=re.MULTILINE))
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--generators=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    # Of this machine's other units it may say what it likes.
    about_ours = [line for line in said.stderr.splitlines() if "planetmesh" in line]
    assert about_ours == []
    assert re.search(r"^ExecStart=\S+/planetmesh up$", text, re.MULTILINE)


def test_the_property_list_is_one() -> None:
    (text,) = blocks("xml")
    read = plistlib.loads(text.encode())
    assert read["Label"] == "org.planetmesh.up"
    assert read["ProgramArguments"][-1] == "up"
    assert read["KeepAlive"] == {"SuccessfulExit": False}


def test_what_it_says_of_settings_is_so() -> None:
    shown = {name: show_value(name, value) for name, value in values(Settings()).items()}
    table = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", PAGE, re.MULTILINE))
    assert len(table) == 8
    assert {name: shown.get(name) for name in table} == table


def test_the_ports_are_the_codes() -> None:
    assert f"| TCP {DEFAULT_PORT} |" in PAGE
    assert f"| TCP {DEFAULT_PORT + 1} |" in PAGE
