"""`planetmesh status`: who am I, which mesh, is it reachable? `--wait` blocks until it is."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import click

from planetmesh.cli.face import Face
from planetmesh.cli.redraw import watch_option
from planetmesh.errors import MeshError, NotAllowed, Unreachable

if TYPE_CHECKING:
    from planetmesh.wire.api import MeshStatus

WAIT_PAUSE_SECONDS = 0.2
WAIT_SECONDS = 60.0
_EXAMPLES = """
\b
Examples:
  planetmesh status
  planetmesh status --watch
  planetmesh status --wait --timeout 30s && planetmesh run hostname

Exit status: 0 if the mesh is usable, 3 if it is not reachable or there is none,
4 if this user is not allowed.
"""


@click.command(epilog=_EXAMPLES)
@click.option("--wait", is_flag=True, help="Wait until the mesh is usable: a coordinator and a HEALTHY node.")
@click.option("--timeout", metavar="TIME", help="With --wait: give up after this long (default 60s).")
@watch_option
@click.pass_obj
def status(face: Face, *, wait: bool, timeout: str | None, watch: bool) -> int:
    """Who am I, which mesh, is it reachable, how is it?"""
    from planetmesh.model.resources import parse_duration

    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait.")
    if watch and wait:
        raise click.UsageError("--watch and --wait are two ways to stay; choose one.")
    if watch:
        return _watch(face)
    seconds = (parse_duration(timeout) if timeout is not None else WAIT_SECONDS) if wait else 0.0
    found, problem = face.run(_look(face, seconds))
    document = _document(face, found)
    if found is not None and problem is None:
        face.printer.sheet(document, _sheet(found, document), _SHAPE)
        return 0
    return _show_problem(face, document, problem)


def _watch(face: Face) -> int:
    from planetmesh.cli.redraw import Watched, watch
    from planetmesh.cli.tables import WATCHED_FIELD_MOST_LINES, sheet_lines

    watched: Watched[MeshStatus] = Watched(
        lambda mesh: mesh.status(),
        lambda found, width: sheet_lines(
            _sheet(found, _document(face, found)), width, WATCHED_FIELD_MOST_LINES
        ),
        document=lambda found: _document(face, found),
    )
    return watch(face, watched)


async def _look(face: Face, wait_seconds: float) -> tuple[MeshStatus | None, MeshError | None]:
    """How the mesh is, or what stands in the way; with a time to wait, until it is usable."""
    until = time.monotonic() + wait_seconds
    while True:
        found, problem = await _look_once(face)
        if wait_seconds and found is not None and not found.nodes.get("HEALTHY"):
            problem = Unreachable(
                f"The mesh '{found.mesh}' has no HEALTHY node.",
                hint="`planetmesh nodes` shows them; `planetmesh up` on a machine makes one.",
            )
        if problem is None or time.monotonic() >= until:
            return found, problem
        await asyncio.sleep(WAIT_PAUSE_SECONDS)


async def _look_once(face: Face) -> tuple[MeshStatus | None, MeshError | None]:
    try:
        async with face.mesh(patience_seconds=0.0) as mesh:
            return await mesh.status(), None
    except (Unreachable, NotAllowed) as error:
        return None, error


def _document(face: Face, found: MeshStatus | None) -> dict[str, Any]:
    """The keys that stay, the same whether the coordinator answers or not; then the rest."""
    known = _membership(face)
    if found is not None:
        return {
            "mesh": found.mesh,
            "node": known.name if known else found.node,
            "role": found.role,
            "coordinator": known.endpoints[0] if known and known.endpoints else None,
            "reachable": True,
            "nodes": found.nodes,
            "jobs": found.jobs,
            "mesh_id": found.mesh_id,
            "coordinator_id": found.coordinator,
            "version": found.version,
            "fingerprint": found.fingerprint,
            "storage_error": found.storage_error,
        }
    return {
        "mesh": known.mesh_name if known else None,
        "node": known.name if known else None,
        "role": known.role.value if known else None,
        "coordinator": known.endpoints[0] if known and known.endpoints else None,
        "reachable": False,
        "nodes": {},
        "jobs": {},
    }


def _membership(face: Face) -> Any:
    """What this machine remembers of its mesh, without asking anybody."""
    from planetmesh.trust.identity import Identity

    for folder in (face.home.operator, face.home.agent):
        if Identity.exists(folder):
            try:
                return Identity.load(folder, accept_expired=True).membership
            except MeshError:
                continue
    return None


def _show_problem(face: Face, document: dict[str, Any], problem: MeshError | None) -> int:
    """The document, then the sentence and the hint; no identity at all counts as no mesh."""
    if problem is None:
        return 0
    if face.json:
        face.printer.done("", document)
        face.printer.note(f"{problem.message} {problem.hint}")
    else:
        from planetmesh.cli.failure import show_error

        show_error(problem.code, problem.message, problem.hint, as_json=False)
    has_identity = document["role"] in {"operator", "viewer"}
    return problem.exit_code if has_identity else Unreachable.exit_code


def _sheet(found: MeshStatus, document: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("mesh", f"{found.mesh} ({found.mesh_id[:8]})"),
        ("you are", f"{found.role}, as '{document['node']}'"),
        ("coordinator", f"{document['coordinator']}, version {found.version}"),
        ("nodes", _counts(found.nodes)),
        ("jobs", _counts(found.jobs)),
        ("storage", found.storage_error),
    ]
    return [(title, text) for title, text in lines if text]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none"


def _shape() -> Any:
    from planetmesh.cli.output import Shape

    return Shape[dict[str, Any]]((), key=lambda document: str(document["mesh"]))


_SHAPE = _shape()
