"""`planetmesh explain`: why a job, a task or a machine is as it is, with the next command to type.

A name may mean a job or a node; jobs come first, since that is what people ask about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from planetmesh.cli.completing import complete_job_or_node
from planetmesh.cli.face import Face
from planetmesh.errors import NotFound

if TYPE_CHECKING:
    from planetmesh.client.async_client import AsyncMesh
    from planetmesh.wire.api import AttemptView, Explanation, FindingView

SUMMARY_MOST_LETTERS = 1000
_EXAMPLES = """
\b
Examples:
  planetmesh explain last
  planetmesh explain k3v/17
  planetmesh explain attic
"""


@click.command(epilog=_EXAMPLES)
@click.argument("what", metavar="ID[/TASK]|NODE", shell_complete=complete_job_or_node)
@click.pass_obj
def explain(face: Face, what: str) -> None:
    """Say why a job or a task does not run, or where and why there; or why a node is not used."""
    found = face.with_mesh(lambda mesh: _explain(mesh, what))
    if face.printer.form != "table":
        face.printer.done(found.subject, found, word=found.status)
        return
    _show(found)


async def _explain(mesh: AsyncMesh, what: str) -> Explanation:
    from planetmesh.cli.logs import parse_target

    name, slash, number = what.rpartition("/")
    if slash and number.isascii() and number.isdigit():
        _, index = parse_target(f"/{number}")
        return await mesh.explain_task(name, index or 0)
    try:
        return await mesh.explain_job(what)
    except NotFound:
        try:
            return await mesh.explain_node(what)
        except NotFound:
            raise NotFound(
                f"There is no job and no node '{what}'.",
                hint="`planetmesh jobs` and `planetmesh nodes` list them.",
            ) from None


def _show(found: Explanation) -> None:
    import sys

    from planetmesh.cli.output import cell, wrapped

    lines = [f"{cell(found.subject)} is {cell(found.status)}: {cell(found.summary, SUMMARY_MOST_LETTERS)}."]
    lines += [f"  {_of_attempt(attempt)}" for attempt in found.attempts]
    lines += [f"  {_of_finding(finding)}" for finding in found.findings]
    for line in lines:
        print(wrapped(line, sys.stdout))


def _of_finding(finding: FindingView) -> str:
    from planetmesh.cli.output import SENTENCE_MOST_LETTERS, cell

    about = f"{cell(finding.about)}: " if finding.about else ""
    hint = cell(finding.hint, SENTENCE_MOST_LETTERS)
    then = f"\n      → {hint}" if hint else ""
    return f"{about}{cell(finding.sentence, SENTENCE_MOST_LETTERS)}{then}"


def _of_attempt(attempt: AttemptView) -> str:
    from planetmesh.cli.output import SENTENCE_MOST_LETTERS, cell

    where = f" on {cell(attempt.node)}" if attempt.node else ""
    said = f": {cell(attempt.error, SENTENCE_MOST_LETTERS)}" if attempt.error else "."
    return f"attempt {attempt.attempt}{where} ended as {cell(attempt.outcome)}{said}"
