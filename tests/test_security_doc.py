"""docs/security.md names a test for each kind of abuse; a name without a test would be a lie."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "security.md").read_text()
KINDS = 40


def test_every_test_that_is_named_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) > KINDS
    missing = [f"{path}::{name}" for path, name in named if f"def {name}(" not in read(ROOT / path)]
    assert missing == []


def test_no_kind_of_abuse_is_passed_over():
    rows = re.findall(r"^\| (T\d+)(?:–(T\d+))? \|", TEXT, re.MULTILINE)
    numbers = [n for first, last in rows for n in range(int(first[1:]), int((last or first)[1:]) + 1)]
    assert numbers == list(range(1, KINDS + 1))


def read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
