"""The coordinator, composed: every part built in reading order, one TaskGroup around all of it.

`cli/up.py` runs it; leaving the context stops everything in the opposite order.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import web

from planetmesh import __version__
from planetmesh.coordinator import ticks
from planetmesh.coordinator.access import Access, connection_of
from planetmesh.coordinator.agent_link import AgentLink, new_socket
from planetmesh.coordinator.announcing import Announcing
from planetmesh.coordinator.api.app import build_from
from planetmesh.coordinator.api.call import Parts
from planetmesh.coordinator.api.memory import PairingFailures
from planetmesh.coordinator.depot import open_depot
from planetmesh.coordinator.distribution import Distribution
from planetmesh.coordinator.engine import Engine
from planetmesh.coordinator.enrolment import Enrolment, found_mesh
from planetmesh.coordinator.glance import Glance, look
from planetmesh.coordinator.heap import keep_freed_memory
from planetmesh.coordinator.listener import bind_port, serve
from planetmesh.coordinator.twin import refuse_second
from planetmesh.discovery import usable_addresses
from planetmesh.entry_points import JOB_TYPES, offers
from planetmesh.groups import TaskGroup
from planetmesh.jobtypes.registry import add_job_types
from planetmesh.mesh import nodes
from planetmesh.mesh.state import MeshState
from planetmesh.model.blob import Digest
from planetmesh.model.endpoint import DEFAULT_PORT, format_endpoint
from planetmesh.paths import Home, write_private
from planetmesh.settings import Settings
from planetmesh.store.outputs import Outputs
from planetmesh.store.store import Store
from planetmesh.trust import renewal
from planetmesh.trust.authority import Authority
from planetmesh.trust.identity import Identity, host_name
from planetmesh.trust.pairing_server import PairingDesk
from planetmesh.trust.serials import ActiveSerials
from planetmesh.trust.tls import answer_to_name, reload_certificate, serve_context

log = logging.getLogger(__name__)

RENEWAL_CHECK_SECONDS = 3600.0
"""Asked by wall time each hour: a timer of days would miss its day while the machine sleeps."""

CERTIFICATE_SWEEP_SECONDS = 60.0
NAMED = "named.pem"


@dataclass(frozen=True)
class CoordinatorOptions:
    """What `up` decided."""

    home: Home
    mesh_name: str
    port: int = DEFAULT_PORT
    bind: tuple[str, ...] = ()
    """Addresses to listen on; all of them if none is given."""
    mdns: bool = True
    local_agent: bool = True
    settings: Settings = field(default_factory=Settings)
    inspect: Callable[[MeshState], None] | None = None


class Coordinator:
    """A running coordinator, as `up` sees it."""

    def __init__(
        self, engine: Engine, enrolment: Enrolment, desk: PairingDesk, port: int, local_node: str = ""
    ) -> None:
        self.engine = engine
        self.enrolment = enrolment
        self.desk = desk
        self.port = port
        self._local_node = local_node
        self._began = time.monotonic()

    @property
    def fingerprint(self) -> str:
        return self.enrolment.authority.short_fingerprint

    def glance(self) -> Glance:
        """The mesh as it is now. Call it in the coordinator's loop."""
        return look(self.engine, self.desk, self._local_node, time.monotonic() - self._began)


@asynccontextmanager
async def running_coordinator(options: CoordinatorOptions) -> AsyncIterator[Coordinator]:
    """Start everything and hand it out; raises MeshError for whatever stands in the way."""
    home, settings = options.home, options.settings
    keep_freed_memory()
    for complaint in add_job_types(offers(JOB_TYPES)):
        log.warning("job_type.left_out", extra={"reason": complaint})
    sockets = bind_port(options.bind, options.port)
    port = int(sockets[0].getsockname()[1])
    async with AsyncExitStack() as stack:
        for each in sockets:
            stack.callback(each.close)
        is_new = not Authority.exists(home.authority)
        found_mesh(home, options.mesh_name)
        authority = Authority.open(home.authority)
        identity = Identity.load(home.coordinator, accept_expired=True)
        if renewal.due(identity.principal, time.time()):
            authority.renew_local(identity)
        if options.mdns and not is_new:
            await refuse_second(identity, options.bind)

        store = await Store.open(home)
        stack.push_async_callback(store.close)
        outputs = await Outputs.open(home, settings)
        stack.push_async_callback(outputs.close)

        spread = random.Random().random  # noqa: S311  spreads back-offs, guards nothing
        engine = Engine(settings, store, outputs, spread, inspect=options.inspect)
        certificates = await engine.load()
        depot = await stack.enter_async_context(open_depot(home, lambda: engine.settings))
        depot.manifests.on_known = _telling_folders(engine)
        background = await stack.enter_async_context(_background())
        background(engine.run())

        serials = ActiveSerials(certificates, now=time.time())
        enrolment = Enrolment(engine, authority, identity, serials, _endpoints(options.bind, port))
        await enrolment.admit_local(home, with_agent=options.local_agent)

        announcing = Announcing(authority.mesh_id, identity.membership.id, port, options.bind)
        failures = PairingFailures()
        desk = PairingDesk(
            authority,
            identity,
            on_enrol=enrolment.enrol,
            on_listening=announcing.on_listening,
            on_attempt_failed=_telling(failures),
            hosts=options.bind,
            port=port + 1,
        )
        await stack.enter_async_context(desk)

        access = Access(engine, serials)
        context = serve_context(identity)
        _show_name(home, enrolment, context)
        distribution = Distribution()
        parts = Parts(engine, access, enrolment, desk, depot, failures=failures, distribution=distribution)
        app = build_from(parts, _agent_handler(engine, access, identity, distribution))
        await serve(app, context, sockets, stack)
        stack.callback(engine.switchboard.hang_up_all, "shutdown", "The coordinator stops.")

        background(ticks.tick(engine))
        background(ticks.tell_minutes(engine))
        background(ticks.every(ticks.SWEEP_SECONDS, partial(ticks.sweep, engine)))
        background(depot.enter_strays())
        background(ticks.every(ticks.SWEEP_SECONDS, depot.sweep))
        background(ticks.every(ticks.BACKUP_SECONDS, partial(ticks.back_up, engine)))
        background(ticks.every(CERTIFICATE_SWEEP_SECONDS, enrolment.sweep))
        keep_certificates = partial(_keep_certificates, home, enrolment, context)
        background(ticks.every(RENEWAL_CHECK_SECONDS, keep_certificates))
        if options.mdns:
            background(announcing.run())
        local_node = Identity.load(Home(home.local_agent).agent).principal.id if options.local_agent else ""
        log.info(
            "coordinator.started",
            extra={
                "mesh": options.mesh_name,
                "mesh_id": authority.mesh_id,
                "port": port,
                "version": __version__,
                "nodes": len(engine.state.nodes),
                "jobs": len(engine.state.jobs),
            },
        )
        try:
            yield Coordinator(engine, enrolment, desk, port, local_node)
        finally:
            log.info("coordinator.stopping", extra={"mesh_id": authority.mesh_id})


@asynccontextmanager
async def _background() -> AsyncIterator[Callable[[Coroutine[Any, Any, None]], None]]:
    """Start tasks that run for ever; they are cancelled at the end, and one that fails ends everything."""
    tasks: list[asyncio.Task[None]] = []
    async with TaskGroup() as group:
        try:
            yield lambda work: tasks.append(group.create_task(work))
        finally:
            for task in tasks:
                task.cancel()


def _endpoints(bind: tuple[str, ...], port: int) -> tuple[str, ...]:
    addresses = bind or (*(each.address for each in usable_addresses()), "127.0.0.1")
    return tuple(format_endpoint(address, port) for address in addresses)


def _agent_handler(
    engine: Engine, access: Access, identity: Identity, distribution: Distribution
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        connection = connection_of(request)
        socket = new_socket()
        await socket.prepare(request)
        mesh_name = identity.membership.mesh_name
        link = AgentLink(
            engine,
            connection.principal,
            socket,
            mesh_name,
            connection.abort,
            distribution=distribution,
            address=connection.address,
        )
        await link.serve(lambda: access.still_allowed(connection))
        return socket

    return handle


def _telling(failures: PairingFailures) -> Callable[[int, str, int], None]:
    def on_attempt_failed(slot: int, address: str, attempts_left: int) -> None:
        log.warning(
            "pairing.failed", extra={"slot": slot, "address": address, "attempts_left": attempts_left}
        )
        failures.note(slot, address, attempts_left)

    return on_attempt_failed


def _telling_folders(engine: Engine) -> Callable[[Digest, Mapping[Digest, int]], None]:
    def on_known(manifest: Digest, large: Mapping[Digest, int]) -> None:
        engine.post(lambda state, _now: nodes.on_folder_known(state, manifest, large))

    return on_known


async def _keep_certificates(home: Home, enrolment: Enrolment, context: ssl.SSLContext) -> None:
    """Renew this machine's own certificates in time, without a restart."""
    await enrolment.keep_local(home)
    identity = enrolment.coordinator
    if renewal.due(identity.principal, time.time()):
        enrolment.authority.renew_local(identity)
        reload_certificate(context, identity)
        _show_name(home, enrolment, context)
        log.info("coordinator.renewed_certificate")


def _show_name(home: Home, enrolment: Enrolment, context: ssl.SSLContext) -> None:
    """Let programs that know servers by host names be sure whom they ask (docs/adr/0009)."""
    authority, identity = enrolment.authority, enrolment.coordinator
    path = home.coordinator / NAMED
    write_private(path, authority.name_certificate(identity.certificate_der))
    answer_to_name(context, host_name(authority.mesh_id), identity, path)
