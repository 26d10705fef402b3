"""`planetmesh job`: one job, or its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from planetmesh.cli.face import Face

if TYPE_CHECKING:
    from planetmesh.wire.api import JobView, TaskView

_EXAMPLES = """
\b
Examples:
  planetmesh job last
  planetmesh job k3v --tasks
  planetmesh job last --tasks --failed
  planetmesh job k3v/17
"""


@click.command(epilog=_EXAMPLES)
@click.argument("job_id", metavar="ID[/TASK]")
@click.option("--tasks", is_flag=True, help="Its tasks instead of itself.")
@click.option("--failed", is_flag=True, help="With --tasks: only the failed ones.")
@click.pass_obj
def job(face: Face, job_id: str, *, tasks: bool, failed: bool) -> None:
    """Show one job or one task: by id, an unambiguous prefix or name, or 'last'."""
    from planetmesh.cli.logs import parse_target
    from planetmesh.cli.shapes import JOBS, TASKS, TASKS_WITH_FILES, job_sheet, task_sheet

    if failed and not tasks:
        raise click.UsageError("--failed needs --tasks.")
    name, slash, number = job_id.rpartition("/")
    if slash and number.isdigit() and not tasks:
        _, index = parse_target(f"/{number}")
        task = face.with_mesh(lambda mesh: mesh.task(name, index or 0))
        face.printer.sheet(task, task_sheet(task), TASKS)
        return
    if tasks:
        rows = face.run(_tasks(face, job_id, failed=failed))
        face.printer.rows(rows, TASKS_WITH_FILES if any(task.files for task in rows) else TASKS)
        return
    found = face.with_mesh(lambda mesh: mesh.job(job_id))
    face.printer.sheet(found, job_sheet(found, describe(found)), JOBS)


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
