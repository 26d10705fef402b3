"""`--watch`: the same table or sheet again and again, drawn in place; with `--json` a document a line.

It looks once a second. What stood there last stays on the screen when it ends. A coordinator that goes away
is said below the last picture, and asked again.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

from planetmesh.cli.block import Block, can_draw, is_ours, size_of, typed_line_ends
from planetmesh.cli.face import Face
from planetmesh.cli.output import Shape, cell, json_text, write_json
from planetmesh.errors import MeshError, Unreachable

if TYPE_CHECKING:
    from rich.text import Text

    from planetmesh.client.async_client import AsyncMesh

T = TypeVar("T")

LOOK_SECONDS = 1.0
"""Between two questions."""
SIZE_SECONDS = 0.2
"""Between two looks at the terminal's size."""
STDOUT = 1

watch_option = click.option(
    "-w",
    "--watch",
    is_flag=True,
    help="Show it again as it changes, until Ctrl-C (status 130). With --json: one document a line.",
)


class Watched(Generic[T]):
    """What is asked for, and how it looks."""

    def __init__(
        self,
        ask: Callable[[AsyncMesh], Awaitable[T]],
        lines: Callable[[T, int], Sequence[Text]],
        *,
        document: Callable[[T], Any] = lambda found: found,
        is_over: Callable[[T], bool] = lambda _found: False,
    ) -> None:
        """`lines` takes the width; `is_over`: nothing will change any more, so the watch ends."""
        self.ask = ask
        self.lines = lines
        self.document = document
        self.is_over = is_over


def table_of(shape: Shape[T]) -> Callable[[Sequence[T], int], Sequence[Text]]:
    """How a list is shown while it is watched."""

    def lines(found: Sequence[T], width: int) -> Sequence[Text]:
        from rich.text import Text

        from planetmesh.cli.tables import table_lines

        return table_lines(found, shape, width) if found else [Text(shape.empty)]

    return lines


def check_watch(face: Face) -> None:
    """Raise UsageError where there is nothing to draw on."""
    if face.json:
        return
    if face.quiet:
        raise click.UsageError("--watch shows tables; it does not go with --quiet.")
    if not can_draw(STDOUT):
        raise click.UsageError(
            "--watch needs a terminal to draw on. With --json it prints a document a line, into a pipe too."
        )


def watch(face: Face, watched: Watched[Any]) -> int:
    """Until Ctrl-C (130), or until nothing can change any more (0); raises MeshError for what stays wrong."""
    check_watch(face)
    return face.run(_watch(face, watched))


async def _watch(face: Face, watched: Watched[Any]) -> int:
    from planetmesh.cli.interrupt import INTERRUPTED, Interruption

    screen = _Stream(face) if face.json else _Drawing(watched)
    with Interruption() as interruption, screen.held():
        over = await interruption.interruptible(_keep_looking(face, watched, screen))
    return 0 if over else INTERRUPTED


async def _keep_looking(face: Face, watched: Watched[Any], screen: _Stream | _Drawing) -> bool:
    async with face.mesh(patience_seconds=0.0, on_wait=None) as mesh:
        is_known = False
        while True:
            try:
                found = await watched.ask(mesh)
            except Unreachable as error:
                if not is_known:
                    raise
                screen.away(error)
            else:
                is_known = True
                screen.show(watched, found)
                if watched.is_over(found):
                    return True
            for _ in range(round(LOOK_SECONDS / SIZE_SECONDS)):
                await asyncio.sleep(SIZE_SECONDS)
                screen.look()


class _Stream:
    """JSON, one line for each change."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self._last = ""
        self._is_away = False

    @contextmanager
    def held(self) -> Iterator[None]:
        yield

    def show(self, watched: Watched[Any], found: Any) -> None:
        document = watched.document(found)
        text = json_text(document)
        if text != self._last:
            self._last = text
            write_json(document)
        self._is_away = False

    def away(self, error: MeshError) -> None:
        if not self._is_away:
            self._is_away = True
            self._face.printer.note(f"{error.message.rstrip('.')}; trying again…")

    def look(self) -> None:
        return


class _Drawing:
    """On a terminal."""

    def __init__(self, watched: Watched[Any]) -> None:
        self._watched = watched
        self._block = Block()
        self._found: Any = None
        self._away = ""
        self._drawn: Any = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """As long as it is on the screen; after a stop it goes on below what the shell wrote."""
        if sys.platform == "win32":
            yield
            return
        before = signal.signal(signal.SIGCONT, lambda _number, _frame: self._block.forget())
        try:
            yield
        finally:
            signal.signal(signal.SIGCONT, before)
            if self._drawn is not None:
                self._draw()  # without the `^C` that the terminal showed below it

    def show(self, _watched: Watched[Any], found: Any) -> None:
        self._found = found
        self._away = ""
        self._draw()

    def away(self, error: MeshError) -> None:
        since = self._away.partition(" ")[0] or time.strftime("%H:%M:%S")
        self._away = f"{since} {error.message.rstrip('.')}; trying again…"
        self._draw()

    def look(self) -> None:
        """Draw again if the terminal has another size, or if it is ours again."""
        if self._drawn != (size_of(STDOUT), self._block.is_drawn):
            self._draw()

    def _draw(self) -> None:
        if not is_ours(STDOUT):
            return
        self._block.push(typed_line_ends())
        size = size_of(STDOUT)
        lines = fit(self._watched.lines(self._found, size.columns - 1), size.lines - 1)
        if self._away:
            from rich.text import Text

            lines = [*lines[: size.lines - 2], Text(cell(self._away), "yellow")]
        sys.stdout.write(self._block.drawn(lines, size))
        sys.stdout.flush()
        self._drawn = (size, True)


def fit(lines: Sequence[Text], rows: int) -> list[Text]:
    """As many as there are rows; the last one says how many are left out."""
    from rich.text import Text

    if len(lines) <= rows:
        return list(lines)
    left = len(lines) - rows + 1
    return [*lines[: rows - 1], Text(f"… {left} more lines; a higher terminal shows them", "dim")]
