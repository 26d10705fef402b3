"""`planetmesh audit`: who did what."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from planetmesh.cli.face import Face

if TYPE_CHECKING:
    from planetmesh.client.async_client import AsyncMesh
    from planetmesh.wire.members import AuditView

ROWS_USUAL = 50
ROWS_MOST = 100_000
PAGE_MOST = 1000
_EXAMPLES = """
\b
Examples:
  planetmesh audit
  planetmesh audit --limit 1000 --json | jq '.[] | select(.action == "submit")'
  planetmesh audit --action revoke_node

Newest first. Everything that changed the mesh stands here, with where it came from: pairings,
certificates, jobs, machines, settings.
Operators may look. The newest 100 000 rows are kept.
"""


_LONG_ID = re.compile("[0-9a-f]{32}")


@click.command(epilog=_EXAMPLES)
@click.option(
    "--limit",
    type=click.IntRange(1, ROWS_MOST),
    default=ROWS_USUAL,
    show_default=True,
    metavar="N",
    help="So many at most.",
)
@click.option("--action", metavar="WORD", help="Only this: submit, cancel, enrol, revoke_node…")
@click.pass_obj
def audit(face: Face, *, limit: int, action: str | None) -> None:
    """Show who did what to the mesh."""
    from planetmesh.cli.output import Column, Shape
    from planetmesh.cli.shapes import show_brief_time, show_time

    found = face.with_mesh(lambda mesh: _read(mesh, limit, action))
    shape = Shape["AuditView"](
        (
            Column("TIME", lambda row: show_time(row.at), brief=lambda row: show_brief_time(row.at)),
            Column("WHO", lambda row: row.who or row.actor[:8], most=30),
            Column("FROM", lambda row: row.address, most=40, drop=2),
            Column("ACTION", lambda row: row.action),
            Column("WHAT", lambda row: row.object, brief=lambda row: brief_id(row.object), most=40, drop=1),
            Column("DETAIL", lambda row: row.detail, long=True),
        ),
        key=lambda row: str(row.number),
        empty=f"Nothing in the audit trail is called '{action}'." if action else "The audit trail is empty.",
    )
    face.printer.rows(found, shape)


def brief_id(text: str) -> str:
    """Eight letters of a node's or person's id: enough for every command."""
    return text[:8] if _LONG_ID.fullmatch(text) else text


async def _read(mesh: AsyncMesh, limit: int, action: str | None) -> list[AuditView]:
    found: list[AuditView] = []
    before: int | None = None
    while len(found) < limit:
        page = await mesh.audit(limit=min(PAGE_MOST, limit), before=before)
        found += [row for row in page if action is None or row.action == action]
        if not page:
            break
        before = page[-1].number
    return found[:limit]
