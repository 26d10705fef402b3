"""`planetmesh logs`: what a job's tasks wrote, in the order of their index; `-f` follows."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from planetmesh.cli.completing import complete_job
from planetmesh.cli.face import Face
from planetmesh.errors import BadInput

if TYPE_CHECKING:
    from planetmesh.cli.bytes_out import Outputs
    from planetmesh.client.async_client import AsyncMesh

_EXAMPLES = """
\b
Examples:
  planetmesh logs last
  planetmesh logs k3v/17
  planetmesh logs last -f
  planetmesh logs --mesh

Tasks' stdout goes to stdout and their stderr to stderr, byte for byte; on a
terminal control characters are replaced (--raw passes them on).
"""


@click.command(epilog=_EXAMPLES)
@click.argument("target", metavar="[ID[/TASK]]", required=False, shell_complete=complete_job)
@click.option("--mesh", "of_mesh", is_flag=True, help="What happens in the mesh instead, as it happens.")
@click.option("-f", "--follow", is_flag=True, help="Go on until it has ended, in the order of arrival.")
@click.option("--raw", is_flag=True, help="Pass control characters on to this terminal.")
@click.pass_obj
def logs(face: Face, target: str | None, *, of_mesh: bool, follow: bool, raw: bool) -> int:
    """Show what a job's tasks, or one task, wrote."""
    if of_mesh:
        if target is not None:
            raise click.UsageError("--mesh follows all of the mesh, not one job.")
        from planetmesh.cli.mesh_events import follow as follow_mesh

        return face.run(follow_mesh(face))
    if target is None:
        raise click.UsageError("Say which job: ID, ID/TASK or 'last'; or --mesh for the whole mesh.")
    job_id, index = parse_target(target)
    face.run(_show(face, job_id, index, follow=follow, raw=raw))
    return 0


def parse_target(target: str) -> tuple[str, int | None]:
    """`JOB` or `JOB/INDEX`; raises BadInput."""
    job_id, slash, number = target.partition("/")
    if not slash:
        return job_id, None
    if not number.isascii() or not number.isdigit() or len(number) > 9:
        raise BadInput(f"'{number}' is not a task's number.", hint="Say it like: planetmesh logs JOB/17")
    return job_id, int(number)


async def _show(face: Face, job_id: str, index: int | None, *, follow: bool, raw: bool) -> None:
    from planetmesh.cli.bytes_out import Outputs
    from planetmesh.cli.shapes import noun_of

    outputs = Outputs(face.printer, raw=raw)
    async with face.mesh() as mesh:
        view = await mesh.job(job_id)
        if index is not None and index >= view.tasks.total:
            noun = noun_of(view, view.tasks.total)
            raise BadInput(f"Job {view.id} has {view.tasks.total} {noun}; they are counted from 0.")
        labelled = view.tasks.total > 1 and index is None
        if follow:
            from planetmesh.cli.follow import saying_why_it_waits
            from planetmesh.client.handles import JobHandle

            following = _follow(mesh, view.id, index, Labels(outputs, enabled=labelled))
            await saying_why_it_waits(mesh, JobHandle(mesh, view), face.printer, following)
        elif index is not None:
            await _print_task(mesh, view.id, index, outputs)
        else:
            await _print_job(mesh, view.id, Labels(outputs, enabled=labelled))
    outputs.finish()


class Labels:
    """Outputs of several tasks: on a terminal each begins with a line that names it."""

    def __init__(self, outputs: Outputs, *, enabled: bool) -> None:
        import sys

        self.outputs = outputs
        self._enabled = enabled and sys.stdout.isatty()
        self._current: int | None = None

    def turn_to(self, index: int) -> None:
        """What follows is this task's."""
        if index == self._current:
            return
        self._current = index
        self.outputs.finish()
        if self._enabled:
            self.outputs.label(f"── task {index} ──")


async def _follow(mesh: AsyncMesh, job_id: str, index: int | None, labels: Labels) -> None:
    async with aclosing(mesh.output(job_id, index=index, following=True)) as pieces:
        async for piece in pieces:
            labels.turn_to(piece.index)
            labels.outputs.write(piece)


async def _print_task(mesh: AsyncMesh, job_id: str, index: int, outputs: Outputs) -> None:
    """The last attempt only: earlier ones are another story of the same task."""
    async with aclosing(mesh.logs(job_id, start=index)) as pieces:
        async for piece in pieces:
            if piece.index != index:
                break
            outputs.write(piece)


async def _print_job(mesh: AsyncMesh, job_id: str, labels: Labels) -> None:
    async with aclosing(mesh.logs(job_id)) as pieces:
        async for piece in pieces:
            labels.turn_to(piece.index)
            labels.outputs.write(piece)
