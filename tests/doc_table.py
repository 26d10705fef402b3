"""A table of a page in docs/ that is made from the source."""

from __future__ import annotations

from pathlib import Path


def split(page: Path, head: str) -> tuple[str, str, str]:
    """What stands before the table whose first line is `head`, the table, and what stands behind it."""
    text = page.read_text(encoding="utf-8")
    start = text.index(head)
    end = text.find("\n\n", start) + 1 or len(text)
    return text[:start], text[start:end], text[end:]
