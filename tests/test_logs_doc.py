"""docs/logs.md against the source. Run this file to write its table anew; the last column is kept."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from doc_table import split
from log_events import events

PAGE = Path(__file__).parents[1] / "docs" / "logs.md"
HEAD = "| Event | Level | From | Fields | What it says |"
FIELDS_OF_IDS = {"node_id", "job_id", "member_id", "mesh_id"}
OF_TASKS = ("task.", "fetch.", "delivery.")


def rows(text: str) -> dict[str, str]:
    """What the page says of each event."""
    return {
        found[1]: found[2].strip()
        for found in re.finditer(r"^\| `([^`]+)` \|.*\| ([^|]*)\|$", text, re.MULTILINE)
    }


def table(says: dict[str, str]) -> str:
    lines = [HEAD, "|---|---|---|---|---|"]
    for name, event in sorted(events().items()):
        fields = " ".join(f"`{each}`" for each in event.fields) or "–"
        levels = ", ".join(sorted(event.levels))
        who = ", ".join(sorted(event.who))
        lines.append(f"| `{name}` | {levels} | {who} | {fields} | {says.get(name, '')} |")
    return "\n".join(lines) + "\n"


def test_the_page_lists_every_event_with_its_fields():
    listed = split(PAGE, HEAD)[1]
    assert listed == table(rows(listed)), "`python tests/test_logs_doc.py` writes the table anew"


def test_every_event_is_explained():
    assert [name for name, words in rows(split(PAGE, HEAD)[1]).items() if not words] == []


def test_names_are_of_one_kind():
    assert [name for name in events() if not re.fullmatch(r"[a-z][a-z_]*\.[a-z][a-z_]*", name)] == []


def test_what_is_about_a_task_or_a_node_says_which():
    """Agents say their own node's id in every line."""
    for name, event in events().items():
        if name.startswith(OF_TASKS):
            assert {"job_id", "task", "attempt"} <= set(event.fields), name
        if name.startswith("node.") and "coordinator" in event.who:
            assert "node_id" in event.fields, name
        if name.startswith("job."):
            assert "job_id" in event.fields, name


if __name__ == "__main__":
    before, old, behind = split(PAGE, HEAD)
    PAGE.write_text(before + table(rows(old)) + behind, encoding="utf-8")
