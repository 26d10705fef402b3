"""`planetmesh edit`: change what may be changed of a job while it lives."""

from __future__ import annotations

import click

from planetmesh.cli.completing import complete_job, complete_live_job
from planetmesh.cli.face import Face
from planetmesh.errors import BadInput

NO_LIMIT = "none"
_EXAMPLES = """
\b
Examples:
  planetmesh edit last --priority 10
  planetmesh edit k3v --max-running 2
  planetmesh edit k3v --max-running none
  planetmesh edit 8xq --after k3v
"""


@click.command(epilog=_EXAMPLES)
@click.argument("job_id", metavar="ID", shell_complete=complete_live_job)
@click.option("--priority", type=int, metavar="N", help="Higher comes first; -1000 to 1000.")
@click.option("--max-running", metavar="N|none", help="How many of its tasks machines may have at a time.")
@click.option(
    "--after",
    multiple=True,
    metavar="JOB",
    shell_complete=complete_job,
    help="Run only once JOB has succeeded (repeatable).",
)
@click.option("--after-nothing", is_flag=True, help="Wait for no other job any more.")
@click.pass_obj
def edit(
    face: Face,
    job_id: str,
    *,
    priority: int | None,
    max_running: str | None,
    after: tuple[str, ...],
    after_nothing: bool,
) -> None:
    """Change a job that has not ended. What it waits for can change until its first task was placed."""
    from planetmesh.model.ids import JobId
    from planetmesh.model.job import After
    from planetmesh.wire.api import ChangeJob

    if after and after_nothing:
        raise click.UsageError("--after and --after-nothing contradict each other.")
    conditions = tuple(After(JobId(each)) for each in after)
    change = ChangeJob(
        priority=priority,
        max_running=None if max_running is None else _limit(max_running),
        after=conditions if after or after_nothing else None,
    )
    if change == ChangeJob():
        raise click.UsageError("Say what to change: --priority, --max-running, --after or --after-nothing.")
    changed = face.with_mesh(lambda mesh: mesh.change_job(job_id, change))
    face.printer.done(f"Job {changed.id} is changed.", changed, word=changed.id)


def _limit(text: str) -> int:
    """0 stands for no limit."""
    if text == NO_LIMIT:
        return 0
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise BadInput(
        f"'{text}' is not a number of tasks.", hint="Say it like 4; it must be above zero, or 'none'."
    )
