"""How a pairing window ended: who came with its code, or who closed it."""

from __future__ import annotations

from planetmesh.client.async_client import AsyncMesh

AUDIT_ROWS = 50
"""In which the end of a window is looked for: it is asked a second or so later."""


async def members_of(mesh: AsyncMesh, role: str) -> dict[str, str]:
    """Id → name of those who have this role: nodes for `agent`, else people."""
    if role == "agent":
        return {node.id: node.name for node in await mesh.nodes()}
    return {each.id: each.name for each in await mesh.people() if each.role == role}


async def newcomers(mesh: AsyncMesh, role: str, known: frozenset[str]) -> tuple[str, ...]:
    """Names of those who are not among the ids `known`."""
    return tuple(
        name or "somebody" for each, name in (await members_of(mesh, role)).items() if each not in known
    )


async def closer_of(mesh: AsyncMesh, slot: str) -> str:
    """The name of who closed the newest window of this slot, "" if nobody did."""
    for row in await mesh.audit(limit=AUDIT_ROWS):
        if row.object == slot and row.action in {"open_pairing", "close_pairing"}:
            return (row.who or "An operator") if row.action == "close_pairing" else ""
    return ""
