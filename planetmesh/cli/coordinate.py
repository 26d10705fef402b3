"""`up` as coordinator: the service, its local agent beside it, and what is said about them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from planetmesh.cli.face import Face
from planetmesh.cli.interrupt import Interruption
from planetmesh.cli.local_agent import LocalAgent
from planetmesh.cli.part import Part, write_part
from planetmesh.model.endpoint import DEFAULT_PORT, format_endpoint, parse_endpoint
from planetmesh.paths import Home
from planetmesh.settings import Settings

if TYPE_CHECKING:
    from planetmesh.coordinator.service import Coordinator

LOOPBACK = "127.0.0.1"
EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  compared with, not bound


async def coordinate(face: Face, home: Home, part: Part, settings: Settings, *, log_format: str) -> None:
    """Be the coordinator until a signal comes: the first stops in order, the second at once."""
    with Interruption() as interruption:
        await interruption.interruptible(_serve(face, home, part, settings, log_format))
        face.printer.note("Stopped. `planetmesh up` goes on where it was.")


async def _serve(face: Face, home: Home, part: Part, settings: Settings, log_format: str) -> None:
    from planetmesh.coordinator.service import CoordinatorOptions, running_coordinator

    options = CoordinatorOptions(
        home=home,
        mesh_name=part.name,
        port=part.port,
        bind=part.bind,
        mdns=part.mdns,
        local_agent=part.agent,
        settings=settings,
    )
    async with running_coordinator(options) as coordinator:
        # Kept only now: a port that was taken must not be what the next run begins with.
        write_part(home, msgspec.structs.replace(part, port=coordinator.port))
        _remember_the_way(home, part, coordinator.port)
        _say_what_stands(face, part, coordinator)
        if part.agent:
            arguments = ("--log-format", log_format, *(["--verbose"] if face.verbose else []))
            await LocalAgent(home, part, arguments).run()
        await asyncio.Event().wait()


def _remember_the_way(home: Home, part: Part, port: int) -> None:
    """This machine's own members find the coordinator here, whatever its addresses or port were before."""
    from planetmesh.trust.identity import Identity

    here = next((address for address in part.bind if address not in EVERYWHERE), LOOPBACK)
    for folder in (home.operator, Home(home.local_agent).agent):
        if Identity.exists(folder):
            Identity.load(folder, accept_expired=True).remember_endpoint(format_endpoint(here, port))


def _say_what_stands(face: Face, part: Part, coordinator: Coordinator) -> None:
    authority, endpoints = coordinator.enrolment.authority, coordinator.enrolment.endpoints
    mesh_name = coordinator.enrolment.coordinator.membership.mesh_name
    face.printer.event(
        {
            "event": "up",
            "role": "coordinator",
            "mesh": mesh_name,
            "mesh_id": authority.mesh_id,
            "fingerprint": coordinator.fingerprint,
            "port": coordinator.port,
            "endpoints": list(endpoints),
        }
    )
    say = face.printer.note
    say(f"This machine is the coordinator of the mesh '{mesh_name}' ({authority.mesh_id[:8]}).")
    say(f"  address      {', '.join(endpoints[:3])}")
    say(f"  fingerprint  {coordinator.fingerprint}")
    if not part.agent:
        say("  It runs no tasks itself (--no-agent).")
    say(f"Add a machine: run `{_join_line(part, endpoints)}` there and `planetmesh code` here.")


def _join_line(part: Part, endpoints: tuple[str, ...]) -> str:
    if part.mdns or not endpoints:
        return "planetmesh up"
    host, port = parse_endpoint(endpoints[0])
    return f"planetmesh up --join {host if port == DEFAULT_PORT else endpoints[0]}"
