"""`up` as coordinator: the service, its local agent beside it, and what is said about them."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from planetmesh.cli.face import Face
from planetmesh.cli.interrupt import Interruption
from planetmesh.cli.local_agent import LocalAgent
from planetmesh.cli.part import Part, write_part
from planetmesh.groups import TaskGroup
from planetmesh.logs import clean
from planetmesh.model.endpoint import DEFAULT_PORT, format_endpoint, parse_endpoint
from planetmesh.paths import Home
from planetmesh.settings import Settings

if TYPE_CHECKING:
    from planetmesh.cli.panel import Panel
    from planetmesh.cli.up_lines import Host
    from planetmesh.coordinator.service import Coordinator

LOOPBACK = "127.0.0.1"
SHOW_SECONDS = 1.0
EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  compared with, not bound


async def coordinate(
    face: Face, home: Home, part: Part, settings: Settings, *, log_format: str, log_file: Path | None
) -> None:
    """Be the coordinator until a signal comes: the first stops in order, the second at once."""
    with showing(face, log_format) as panel:
        options = ["--log-format", log_format, *(["--verbose"] if face.verbose else [])]
        if log_file is not None:
            # Two processes cannot take turns with one file.
            options += ["--log-file", f"{log_file}.agent"]
        host = _Hosting(face, home, part, tuple(options), panel)
        with Interruption(host.leave_now) as interruption:
            await interruption.interruptible(host.serve(settings))
        # Said when there is no panel any more.
    face.printer.note("Stopped. `planetmesh up` goes on where it was.")


@contextmanager
def showing(face: Face, log_format: str) -> Iterator[Panel | None]:
    """The panel, where there is a person to look at it."""
    from planetmesh.cli.panel import Panel, has_panel

    if face.printer.form != "table" or log_format != "text" or not has_panel():
        yield None
        return
    panel = Panel()
    panel.open()
    try:
        yield panel
    finally:
        panel.close()


class _Hosting:
    """The service, the agent beside it and the panel."""

    def __init__(
        self, face: Face, home: Home, part: Part, agent_options: tuple[str, ...], panel: Panel | None
    ) -> None:
        self._face = face
        self._home = home
        self._part = part
        self._panel = panel
        if panel is not None and not face.verbose:
            # Its log goes through our stderr, so it sees no terminal.
            agent_options += ("--calm",)
        self._agent = LocalAgent(
            home, part, agent_options, passes_on=panel is not None, on_stopping=self._say_finishing
        )
        self._ending = ""
        self._coordinator: Coordinator | None = None
        self._began = time.monotonic()

    def leave_now(self) -> None:
        """The second signal."""
        self._agent.hurry()
        if self._panel is not None:
            self._panel.close()

    async def serve(self, settings: Settings) -> None:
        from planetmesh.coordinator.service import CoordinatorOptions, running_coordinator

        part = self._part
        options = CoordinatorOptions(
            home=self._home,
            mesh_name=part.name,
            port=part.port,
            bind=part.bind,
            mdns=part.mdns,
            local_agent=part.agent,
            settings=settings,
        )
        async with running_coordinator(options) as coordinator:
            self._coordinator = coordinator
            # Kept only now: a port that was taken must not be what the next run begins with.
            write_part(self._home, msgspec.structs.replace(part, port=coordinator.port))
            _remember_the_way(self._home, part, coordinator.port)
            _say_what_stands(self._face, part, coordinator, in_short=self._panel is not None)
            async with TaskGroup() as group:
                showing = group.create_task(self._keep_showing(coordinator))
                try:
                    if part.agent:
                        await self._agent.run()
                    await asyncio.Event().wait()
                finally:
                    if not self._ending:
                        self._say_finishing()
                    showing.cancel()

    async def _keep_showing(self, coordinator: Coordinator) -> None:
        if self._panel is None:
            return
        host = _host(self._part, coordinator, self._began)
        while True:
            self._show(self._panel, host, coordinator)
            await asyncio.sleep(SHOW_SECONDS)

    def _show(self, panel: Panel, host: Host, coordinator: Coordinator) -> None:
        from planetmesh.cli import up_lines

        rows = up_lines.coordinator_rows(
            host, coordinator.glance(), disk_free(self._home.root), ending=self._ending
        )
        title = f"planetmesh: coordinator of '{host.mesh}'"
        panel.show(lambda size: up_lines.panel(title, host.began, rows, size))

    def _say_finishing(self) -> None:
        """Its agent is about to be told to stop."""
        if self._coordinator is None:
            return
        from planetmesh.cli.up_lines import finishing

        self._ending = finishing(self._coordinator.glance().running_here)
        if self._panel is None:
            self._face.printer.note(self._ending)
        else:
            self._show(self._panel, _host(self._part, self._coordinator, self._began), self._coordinator)


def _host(part: Part, coordinator: Coordinator, began: float) -> Host:
    from planetmesh.cli.up_lines import Host

    endpoints = coordinator.enrolment.endpoints
    return Host(
        mesh=clean(coordinator.enrolment.coordinator.membership.mesh_name, 40),
        endpoints=endpoints,
        fingerprint=coordinator.fingerprint,
        join_line=_join_line(part, endpoints),
        has_agent=part.agent,
        began=began,
    )


def _remember_the_way(home: Home, part: Part, port: int) -> None:
    """This machine's own members find the coordinator here, whatever its addresses or port were before."""
    from planetmesh.trust.identity import Identity

    here = next((address for address in part.bind if address not in EVERYWHERE), LOOPBACK)
    for folder in (home.operator, Home(home.local_agent).agent):
        if Identity.exists(folder):
            Identity.load(folder, accept_expired=True).remember_endpoint(format_endpoint(here, port))


def _say_what_stands(face: Face, part: Part, coordinator: Coordinator, *, in_short: bool) -> None:
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
    if in_short:  # the panel says the rest
        return
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


def disk_free(folder: Path) -> int | None:
    """Bytes, where that can be told."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
