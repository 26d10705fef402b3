"""`planetmesh retry`: run a job's failed tasks again, and only those."""

from __future__ import annotations

import click

from planetmesh.cli.completing import complete_job
from planetmesh.cli.face import Face
from planetmesh.model.ids import JobId

SHOWN = 10
"""Jobs named in a sentence."""

_EXAMPLES = """
\b
Examples:
  planetmesh retry last
  planetmesh retry k3v && planetmesh wait k3v

The tasks keep their numbers and get all their attempts anew; what completed stays, and the
job's outputs and results are those of all its tasks. Jobs that were to run after this one
(--after) and were cancelled because it failed wait for it again, and those after them;
what a person cancelled stays cancelled.
"""


@click.command(epilog=_EXAMPLES)
@click.argument("job_id", metavar="ID", shell_complete=complete_job)
@click.pass_obj
def retry(face: Face, job_id: str) -> None:
    """Run a job's failed tasks again, whether it has ended or not."""
    retried = face.with_mesh(lambda mesh: mesh.retry(job_id))
    tasks = f"{retried.again} task{'' if retried.again == 1 else 's'}"
    left = f" {retried.left} more have failed; call it again for them." if retried.left else ""
    sentence = f"{tasks} of job {retried.job.id} will run again.{left}{_again(retried.waiting)}"
    face.printer.done(sentence, retried, word=retried.job.id)
    for each in retried.cancelled[:SHOWN]:
        face.printer.warn(
            f"Job {each}, which was to run after it, stays cancelled: planetmesh explain {each}"
        )
    if len(retried.cancelled) > SHOWN:
        face.printer.warn(f"So do {len(retried.cancelled) - SHOWN} more; --json names them.")


def _again(waiting: tuple[JobId, ...]) -> str:
    if not waiting:
        return ""
    if len(waiting) == 1:
        return f" Job {waiting[0]} waits for it again."
    more = f" and {len(waiting) - SHOWN} more" if len(waiting) > SHOWN else ""
    return f" {len(waiting)} jobs wait for it again: {', '.join(waiting[:SHOWN])}{more}."
