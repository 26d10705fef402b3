"""docs/settings.md against the table in the code. Run this file to write its table anew."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from doc_table import split

from planetmesh.settings import ABOUT, Settings, show_value, values

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
HEAD = "| Setting | Default | From, to | Counts | What it does |"


def table() -> str:
    lines = [HEAD, "|---|---|---|---|---|"]
    for name, value in values(Settings()).items():
        known = ABOUT[name]
        bounds = f"{show_value(name, known.least)}, {show_value(name, known.most)}"
        when = "at once" if known.live else "at a start"
        lines.append(f"| `{name}` | {show_value(name, value)} | {bounds} | {when} | {known.sentence} |")
    return "\n".join(lines) + "\n"


def test_the_page_says_what_the_code_says():
    assert split(PAGE, HEAD)[1] == table(), "`python tests/test_settings_doc.py` writes the table anew"


if __name__ == "__main__":
    before, _table, behind = split(PAGE, HEAD)
    PAGE.write_text(before + table() + behind, encoding="utf-8")
