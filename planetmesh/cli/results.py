"""`planetmesh results`: what came of a job's tasks, put together.

Streams: nothing here grows with the number of tasks but the counts of their exit codes.
"""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from planetmesh.cli.completing import complete_job
from planetmesh.cli.face import Face

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from planetmesh.cli.output import Shape
    from planetmesh.client.async_client import AsyncMesh
    from planetmesh.model.job import TaskState
    from planetmesh.wire.api import Form, JobView, Parse, TaskCode, TaskResult

T = TypeVar("T")

SHORT_NAMED = 10
"""Tasks named in the sentence on what was not kept."""
BLOCK_ROWS = 5000
"""A table needs all its rows at once to find its widths; longer ones come in blocks."""

_EXAMPLES = """
\b
Examples:
  planetmesh results last
  planetmesh results k3v -o all.txt
  planetmesh results k3v --form codes
  planetmesh results k3v --failed
  planetmesh results last --json | jq '.[] | [.input, .value]'
  planetmesh results last --parse json -o all.json

\b
Forms:
  text   what completed tasks wrote to their stdout, joined in order (usual)
  json   one array: index, input, inputs (if it has several), status, exit_code,
         node, attempts, seconds, error, value (a completed task's stdout),
         encoding, is_cut, dropped_bytes
  codes  a table of exit codes, and how many tasks ended with each

In json a value that is not UTF-8 is base64 (see `encoding`) and one beyond
1 MiB is cut (`is_cut`). Of a job that goes on you get what has ended so far.
The mesh keeps 16 MiB of what one task writes (`output_most_bytes` in `planetmesh
settings`); what lies beyond is in no form, and it is said which tasks that
is about (`dropped_bytes` in json).
Of python jobs the value is what the function returned: itself, base64 of its
pickle (`pickle`), or with several calls a list of both and of errors (`calls`).

Exit status: 0 if all tasks completed and all that they wrote was kept, 1 if not
(or not yet).
"""


@click.command(epilog=_EXAMPLES)
@click.argument("job_id", metavar="JOB", shell_complete=complete_job)
@click.option("--form", type=click.Choice(["text", "json", "codes"]), help="What to give; see below.")
@click.option("--failed", is_flag=True, help="Only the failed tasks (codes or json).")
@click.option("--parse", type=click.Choice(["text", "json"]), help="With json: read outputs as JSON.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write to a new file instead."
)
@click.option("--overwrite", is_flag=True, help="With -o: replace a file that is there.")
@click.option("--raw", is_flag=True, help="Pass control characters on to this terminal.")
@click.pass_obj
def results(
    face: Face, /, job_id: str, *, form: str | None, failed: bool, parse: str | None, **place: Any
) -> int:
    """Give what came of a job's tasks, in the order of their index."""
    from planetmesh.cli.new_file import new_file
    from planetmesh.model.job import TaskState
    from planetmesh.wire.api import Form, Parse

    path: Path | None = place["output"]
    if place["overwrite"] and path is None:
        raise click.UsageError("--overwrite needs -o FILE.")
    chosen = Form(form or _usual_form(face, failed=failed, parse=parse))
    if chosen is Form.TEXT and failed:
        raise click.UsageError("--failed goes with --form codes or json: text is of completed tasks.")
    if chosen is Form.TEXT and face.json:
        raise click.UsageError("--form text is no JSON; leave --json out.")
    if chosen is not Form.JSON and parse is not None:
        raise click.UsageError("--parse goes with --form json.")
    status = TaskState.FAILED if failed else None
    with new_file(path, overwrite=place["overwrite"]) if path else nullcontext() as file:
        giver = Giver(face, file, raw=place["raw"])
        complete = face.run(giver.give(job_id, chosen, status, Parse(parse or "text")))
    if path:
        face.printer.note(f"The results are in {path}.")
    return 0 if complete else 1


def _usual_form(face: Face, *, failed: bool, parse: str | None) -> str:
    if face.json or parse is not None:
        return "json"
    return "codes" if failed else "text"


class Giver:
    """Writes one form of the results of one job to a file, or to stdout if there is none."""

    def __init__(self, face: Face, file: IO[bytes] | None, *, raw: bool) -> None:
        import sys

        self._face = face
        self._printer = face.printer
        self._file = file
        self._raw = raw
        self._target: IO[bytes] = file or sys.stdout.buffer
        self._on_terminal = file is None and sys.stdout.isatty()

    async def give(self, job_id: str, form: Form, status: TaskState | None, parse: Parse) -> bool:
        """True if all tasks completed; else the rest of it is said."""
        from planetmesh.wire.api import Form

        async with self._face.mesh() as mesh:
            # Asked first: what had ended by now is in the results, whatever ends meanwhile.
            view = await mesh.job(job_id)
            short = Short()
            if form is Form.TEXT:
                await self._give_text(mesh, view, short)
            elif form is Form.JSON:
                await self._give_json(mesh, view, (status, parse), short)
            elif self._face.json:
                await self._give_array(mesh.codes(view.id, status=status))
            else:
                await self._give_codes(mesh, view, status)
            self._target.flush()
            said = missing_sentence(view, await _first_failed(mesh, view))
        for sentence in filter(None, (short.sentence(), said)):
            self._printer.warn(sentence)
        return not said and not short.number

    async def _give_text(self, mesh: AsyncMesh, view: JobView, short: Short) -> None:
        from planetmesh.cli.bytes_out import Stream

        stream = Stream(self._target, exact=self._raw or not self._on_terminal)
        async with aclosing(mesh.text(view.id)) as pieces:
            async for piece in pieces:
                stream.write(piece)
        stream.finish()
        async with aclosing(mesh.short(view.id)) as found:
            async for each in found:
                short.add(each.index, each.kept_bytes)

    async def _give_json(
        self, mesh: AsyncMesh, view: JobView, asked: tuple[TaskState | None, Parse], short: Short
    ) -> None:
        from planetmesh.wire.api import Encoding, Parse

        status, parse = asked
        cut = other = 0

        async def counted() -> AsyncGenerator[TaskResult, None]:
            nonlocal cut, other
            async with aclosing(mesh.results(view.id, status=status, parse=parse)) as found:
                async for result in found:
                    cut += result.is_cut
                    if result.dropped_bytes:
                        short.add(result.index)
                    other += result.encoding not in {None, Encoding.JSON, Encoding.TYPED}
                    yield result

        await self._give_array(counted())
        if cut:
            self._printer.warn(f"{_were(cut, 'output')} cut (`is_cut`); `--form text` has all that was kept.")
        if other and parse is Parse.JSON:
            self._printer.warn(f"{_were(other, 'output')} not read as JSON; `encoding` says which.")

    async def _give_array(self, found: AsyncGenerator[T, None]) -> None:
        """One JSON document, an element a line."""
        from planetmesh.cli.output import json_text

        before = "["
        async with aclosing(found) as each_one:
            async for each in each_one:
                self._target.write(f"{before}{json_text(each)}".encode())
                before = ",\n"
        self._target.write(b"[]\n" if before == "[" else b"]\n")

    async def _give_codes(self, mesh: AsyncMesh, view: JobView, status: TaskState | None) -> None:
        from planetmesh.cli.shapes import CODE_COUNTS, CodeCount, codes_of

        shape = codes_of(view.id)
        counts: Counter[tuple[TaskState, int | None]] = Counter()
        block: list[TaskCode] = []
        is_first = True
        async with aclosing(mesh.codes(view.id, status=status)) as codes:
            async for code in codes:
                counts[code.status, code.exit_code] += 1
                block.append(code)
                if len(block) >= BLOCK_ROWS:
                    self._show(block, shape, head=is_first)
                    block, is_first = [], False
        if block:
            self._show(block, shape, head=is_first)
        if not counts:
            self._printer.note("No task failed." if status else "No task has ended yet.")
        elif self._file is not None or self._printer.form == "table":
            self._say("")
            ordered = sorted(counts.items(), key=lambda each: (each[0][0], each[0][1] or 0))
            self._show([CodeCount(*ended, number) for ended, number in ordered], CODE_COUNTS, head=True)

    def _show(self, things: Sequence[T], shape: Shape[T], *, head: bool) -> None:
        """A block of a table, where it is to go."""
        from planetmesh.cli.tables import print_on_terminal, print_plain

        if self._file is None and self._printer.form == "quiet":
            self._printer.rows(things, shape)
        elif self._on_terminal:
            print_on_terminal(things, shape)
        else:
            print_plain(things, shape, head=head, say=self._say)

    def _say(self, line: str) -> None:
        self._target.write(line.encode() + b"\n")


class Short:
    """Tasks of whose output the mesh has not kept all: how many, and the first few."""

    def __init__(self) -> None:
        self.number = 0
        self._named: list[str] = []

    def add(self, index: int, kept_bytes: int | None = None) -> None:
        from planetmesh.model.resources import show_size

        self.number += 1
        if len(self._named) < SHORT_NAMED:
            self._named.append(str(index) if kept_bytes is None else f"{index} ({show_size(kept_bytes)})")

    def sentence(self) -> str:
        """Which, with what to do about it; nothing if there are none."""
        if not self.number:
            return ""
        named = ", ".join(self._named)
        which = f"task {named}" if self.number == 1 else f"{self.number} tasks ({named}"
        if self.number > 1:
            which += ", …)" if self.number > len(self._named) else ")"
        return (
            f"Not all that {which} wrote to stdout was kept: a bound drops the rest of long outputs. "
            "To raise it for jobs to come: `planetmesh settings output_most_bytes=64MiB`."
        )


async def _first_failed(mesh: AsyncMesh, view: JobView) -> int | None:
    if not view.tasks.failed:
        return None
    from planetmesh.model.job import TaskState

    async with aclosing(mesh.codes(view.id, status=TaskState.FAILED)) as failed:
        async for code in failed:
            return code.index
    return None


def missing_sentence(view: JobView, first_failed: int | None) -> str:
    """Why these are not the results of all tasks, with the next command; nothing if they are."""
    from planetmesh.cli.shapes import noun_of

    counts = view.tasks
    live = counts.total - counts.completed - counts.failed - counts.cancelled
    parts: list[str] = []
    commands: list[str] = []
    if counts.failed:
        parts.append(f"{counts.failed} failed")
        if first_failed is not None:
            commands.append(f"`planetmesh logs {view.id}/{first_failed}`")
    if counts.cancelled:
        parts.append(f"{counts.cancelled} {'was' if counts.cancelled == 1 else 'were'} cancelled")
    if live:
        parts.append(f"{live} {'has' if live == 1 else 'have'} not ended yet")
        commands.append(f"`planetmesh wait {view.id}`")
    if not parts:
        return ""
    shown = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    then = f" ({', '.join(commands)})" if commands else ""
    return f"Of {counts.total} {noun_of(view, counts.total)} {shown}{then}."


def _were(number: int, what: str) -> str:
    return f"{number} {what} was" if number == 1 else f"{number} {what}s were"
