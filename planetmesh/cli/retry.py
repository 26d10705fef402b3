"""`planetmesh retry`: run a job's failed tasks again, and only those."""

from __future__ import annotations

import click

from planetmesh.cli.face import Face

_EXAMPLES = """
\b
Examples:
  planetmesh retry last
  planetmesh retry k3v && planetmesh wait k3v

The tasks keep their numbers and get all their attempts anew; what completed stays, and the
job's outputs and results are those of all its tasks.
"""


@click.command(epilog=_EXAMPLES)
@click.argument("job_id", metavar="ID")
@click.pass_obj
def retry(face: Face, job_id: str) -> None:
    """Run a job's failed tasks again, whether it has ended or not."""
    retried = face.with_mesh(lambda mesh: mesh.retry(job_id))
    tasks = f"{retried.again} task{'' if retried.again == 1 else 's'}"
    left = f" {retried.left} more have failed; call it again for them." if retried.left else ""
    sentence = f"{tasks} of job {retried.job.id} will run again.{left}"
    face.printer.done(sentence, retried, word=retried.job.id)
