"""Work of a screen that waits for the mesh, without keeping the screen waiting."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from textual.dom import DOMNode


def begin(
    owner: DOMNode, work: Callable[[], Coroutine[Any, Any, None]], group: str, *, only: bool = True
) -> None:
    """Run it as long as `owner` is there; `only` ends what runs of its group."""
    started: Any = work  # textual's type for it fits plain functions as well, and is told apart at run time
    owner.run_worker(started, group=group, exclusive=only)
