"""`planetmesh job`: one job, or its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from planetmesh.cli.completing import complete_job
from planetmesh.cli.face import Face
from planetmesh.cli.redraw import watch_option

if TYPE_CHECKING:
    from rich.text import Text

    from planetmesh.client.async_client import AsyncMesh
    from planetmesh.wire.api import JobView, TaskView

BAR_LETTERS = 20
_EXAMPLES = """
\b
Examples:
  planetmesh job last
  planetmesh job k3v --tasks
  planetmesh job last --tasks --failed
  planetmesh job k3v/17
  planetmesh job last --watch                 with its progress, until it has ended
"""


@click.command(epilog=_EXAMPLES)
@click.argument("job_id", metavar="ID[/TASK]", shell_complete=complete_job)
@click.option("--tasks", is_flag=True, help="Its tasks instead of itself.")
@click.option("--failed", is_flag=True, help="With --tasks: only the failed ones.")
@watch_option
@click.pass_obj
def job(face: Face, job_id: str, *, tasks: bool, failed: bool, watch: bool) -> int:
    """Show one job or one task: by id, an unambiguous prefix or name, or 'last'."""
    from planetmesh.cli.logs import parse_target
    from planetmesh.cli.shapes import JOBS, TASKS, TASKS_WITH_FILES, job_sheet, task_sheet

    if failed and not tasks:
        raise click.UsageError("--failed needs --tasks.")
    if watch and tasks:
        raise click.UsageError(
            "--watch shows the job itself; `planetmesh dashboard` shows tasks as they change."
        )
    name, slash, number = job_id.rpartition("/")
    if slash and number.isdigit() and not tasks:
        _, index = parse_target(f"/{number}")
        if watch:
            return _watch_task(face, name, index or 0)
        task = face.with_mesh(lambda mesh: mesh.task(name, index or 0))
        face.printer.sheet(task, task_sheet(task), TASKS)
        return 0
    if tasks:
        rows = face.run(_tasks(face, job_id, failed=failed))
        face.printer.rows(rows, TASKS_WITH_FILES if any(task.files for task in rows) else TASKS)
        return 0
    if watch:
        return _watch_job(face, job_id)
    found = face.with_mesh(lambda mesh: mesh.job(job_id))
    face.printer.sheet(found, job_sheet(found, describe(found)), JOBS)
    return 0


def _watch_job(face: Face, job_id: str) -> int:
    """Until the job has ended."""
    from planetmesh.cli.last_line import bar
    from planetmesh.cli.progress import ProgressLine
    from planetmesh.cli.redraw import Watched, watch
    from planetmesh.cli.shapes import job_sheet
    from planetmesh.cli.tables import WATCHED_FIELD_MOST_LINES, sheet_lines
    from planetmesh.model.job import JOB_ENDED

    progress = ProgressLine(None)

    def lines(found: JobView, width: int) -> list[Text]:
        counts = found.tasks
        done = counts.completed + counts.failed + counts.cancelled
        parts = progress.parts(counts, 0)
        sheet = job_sheet(found, describe(found))
        drawn = "  ".join([bar(done / counts.total if counts.total else 1.0, BAR_LETTERS), *parts])
        return sheet_lines([*sheet, ("progress", drawn)], width, WATCHED_FIELD_MOST_LINES)

    async def ask(mesh: AsyncMesh) -> JobView:
        found = await mesh.job(job_id)
        progress.update(found.tasks, 0)
        return found

    return watch(face, Watched(ask, lines, is_over=lambda found: found.status in JOB_ENDED))


def _watch_task(face: Face, name: str, index: int) -> int:
    """Until the task has ended."""
    from planetmesh.cli.redraw import Watched, watch
    from planetmesh.cli.shapes import task_sheet
    from planetmesh.cli.tables import WATCHED_FIELD_MOST_LINES, sheet_lines
    from planetmesh.model.job import ENDED

    watched: Watched[TaskView] = Watched(
        lambda mesh: mesh.task(name, index),
        lambda task, width: sheet_lines(task_sheet(task), width, WATCHED_FIELD_MOST_LINES),
        is_over=lambda task: task.status in ENDED,
    )
    return watch(face, watched)


def describe(found: JobView) -> str:
    """What the job runs, in one line; nothing for a kind that this version does not know."""
    from planetmesh.cli.spec import find_job_type
    from planetmesh.errors import MeshError

    kind = find_job_type(found.type)
    if found.spec is None or kind is None:
        return ""
    try:
        return kind.describe(found.spec.payload)
    except MeshError:
        return ""


async def _tasks(face: Face, job_id: str, *, failed: bool) -> list[TaskView]:
    from planetmesh.model.job import TaskState

    async with face.mesh() as mesh:
        status = TaskState.FAILED if failed else None
        return [task async for task in mesh.tasks(job_id, status=status)]
