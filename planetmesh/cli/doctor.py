"""`planetmesh doctor`: check this machine and its way to the mesh; each finding with the next command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from planetmesh.cli.face import Face

if TYPE_CHECKING:
    from planetmesh.cli.finding import Finding

_EXAMPLES = """
\b
Examples:
  planetmesh doctor
  planetmesh doctor --json | jq '.[] | select(.status != "ok")'

Exit status: 0 if nothing failed, 1 otherwise. Warnings do not fail.
"""
STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(epilog=_EXAMPLES)
@click.pass_obj
def doctor(face: Face) -> int:
    """Check this machine and its way to the mesh.

    Looks at the home, the clock, the addresses, multicast, the port, the certificates, the coordinator, the
    sandbox and the disk.
    """
    from planetmesh.cli.examination import examine
    from planetmesh.cli.finding import FAIL
    from planetmesh.cli.output import Column, Shape

    findings = examine(face.home)
    shape: Shape[Finding] = Shape(
        (
            Column("CHECK", lambda each: each.check),
            Column("STATUS", lambda each: each.status, style=lambda each: STYLES[each.status]),
            Column("DETAIL", lambda each: each.detail, long=True),
        ),
        key=lambda each: f"{each.check} {each.status}",
    )
    face.printer.rows(findings, shape)
    if face.printer.form == "table":
        for each in findings:
            if each.hint and each.status != "ok":
                face.printer.note(f"{each.check}: {each.hint}")
    return int(any(each.status == FAIL for each in findings))
