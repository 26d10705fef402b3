"""docs/operations.md: what it has people copy into their machines is read by those who will read it there."""

from __future__ import annotations

import re
from pathlib import Path

from planetmesh.install.order import Order
from planetmesh.install.systemd import ORDER_LINE, unit_text
from planetmesh.model.endpoint import DEFAULT_PORT
from planetmesh.settings import Settings, show_value, values

PAGE = (Path(__file__).parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_unit_is_what_the_command_writes() -> None:
    order = Order(("/opt/planetmesh/bin/planetmesh",), Path("/var/lib/planetmesh"))
    lines = unit_text(order, is_for_all=True).decode().splitlines(keepends=True)
    assert blocks("ini") == [
        "".join(line for line in lines if not line.startswith(("# Written", ORDER_LINE)))
    ]


def test_what_it_says_of_settings_is_so() -> None:
    shown = {name: show_value(name, value) for name, value in values(Settings()).items()}
    table = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", PAGE, re.MULTILINE))
    assert len(table) == 8
    assert {name: shown.get(name) for name in table} == table


def test_the_ports_are_the_codes() -> None:
    assert f"| TCP {DEFAULT_PORT} |" in PAGE
    assert f"| TCP {DEFAULT_PORT + 1} |" in PAGE
