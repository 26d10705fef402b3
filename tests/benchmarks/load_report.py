"""What the load tool found: one JSON line per finding as it comes, and a table at the end."""

from __future__ import annotations

import json
from pathlib import Path


class Report:
    """Rows of named numbers."""

    def __init__(self, out: Path | None) -> None:
        self.rows: dict[str, dict[str, float]] = {}
        self._out = out

    def add(self, row: str, **found: float) -> None:
        self.rows.setdefault(row, {}).update(found)
        line = json.dumps({"row": row} | {name: round(value, 6) for name, value in found.items()})
        print(line, flush=True)
        if self._out is not None:
            with self._out.open("a") as file:
                file.write(line + "\n")

    def table(self) -> str:
        """Markdown: one column for each row, since there are few of them and many numbers."""
        names = dict.fromkeys(name for found in self.rows.values() for name in found)
        lines = ["| | " + " | ".join(self.rows) + " |", "|---" * (len(self.rows) + 1) + "|"]
        for name in names:
            cells = (_show(found[name]) if name in found else "" for found in self.rows.values())
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


def _show(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
