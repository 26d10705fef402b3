"""The agent as a process: composition from top to bottom, its loops, and its orderly end.

`main` is the entry. It starts the zygote while this process has neither threads nor an event loop;
what is heavy to import comes after that. The caller holds the home's lock and has set up the log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from planetmesh import __version__
from planetmesh.agent.aside import Aside
from planetmesh.agent.desk import Desk
from planetmesh.agent.file_threads import FileThreads
from planetmesh.agent.files import open_files
from planetmesh.agent.journal import MINUTE_SECONDS
from planetmesh.agent.link import AskCoordinator, Link
from planetmesh.agent.model_servers import embedding_tags
from planetmesh.agent.outbox import Outbox
from planetmesh.agent.peer_server import PeerServer
from planetmesh.agent.peering import Peering
from planetmesh.agent.probe import LoadMeter, look
from planetmesh.agent.reconnect import Finder, Reconnector
from planetmesh.agent.runner import Runner
from planetmesh.agent.sandbox.folders import prepare_work_root
from planetmesh.agent.sandbox.messages import Share
from planetmesh.agent.state import AgentNumbers, AgentState, Phase
from planetmesh.agent.warm import Surroundings
from planetmesh.agent.worklist import Worklist
from planetmesh.blobs.cache import Cache
from planetmesh.entry_points import JOB_TYPES, offers
from planetmesh.errors import BadInput, MeshError
from planetmesh.groups import TaskGroup
from planetmesh.jobtypes.loopback import SERVER_VARIABLE
from planetmesh.jobtypes.registry import add_job_types
from planetmesh.logs import always
from planetmesh.model.endpoint import format_endpoint
from planetmesh.model.node import NodeInfo, Sandbox
from planetmesh.model.resources import Resources
from planetmesh.paths import Home, work_root
from planetmesh.settings import Settings
from planetmesh.trust.identity import Identity
from planetmesh.wire.agent import Heartbeat, Leaving, Serving

if TYPE_CHECKING:
    from planetmesh.discovery import Found

    if sys.platform == "win32":
        Zygote = Any
    else:
        from planetmesh.agent.sandbox.handle import Zygote

log = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
"""After the first signal running tasks have so long to end by themselves."""
IDLE_LOOK_SECONDS = 0.02
STOP_SECONDS = 4.0
"""After that, or the second signal, they are killed: SIGTERM, a moment of grace, SIGKILL."""
FLUSH_SECONDS = 2.0
"""For the last messages to be confirmed; what is not stays in the outbox."""
ORPHAN_REFUSES = "it finishes what it had when its coordinator stopped"
TICK_SECONDS = 0.25
COUNT_SECONDS = 0.5
"""For people who look on."""
FIND_SECONDS = 4.0
"""A coordinator answers mDNS within a second."""

if sys.platform == "win32":
    ORPHANED = signal.SIGTERM
else:
    ORPHANED = signal.SIGUSR1
    """Says that whoever started this agent is gone: end what runs, begin nothing, then end too."""


class AgentOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `up` decided."""

    home: Home
    name: str = ""
    tags: tuple[str, ...] = ()
    offers: Resources | None = None
    """What tasks may use: 0 CPUs or memory and -1 GPUs stand for "not said"."""
    shares: tuple[str, ...] = ()
    """`PATH` or `PATH:rw`, shown to tasks besides the system's own folders."""
    beside_coordinator: bool = False
    """The mesh's CA key is on this machine: no tasks unless they are proven to be kept from it."""
    embedding_server: str = ""
    """Where an OpenAI-compatible server listens on this machine's loopback."""
    hidden: tuple[Path, ...] = ()
    """Kept from tasks besides the home; the coordinator's home for an agent beside it."""
    settings: Settings = Settings()
    find: Finder | None = None
    """Instead of mDNS."""


def main(
    options: AgentOptions,
    on_state: Callable[[AgentState], None] = lambda _state: None,
    on_numbers: Callable[[AgentNumbers], None] | None = None,
) -> None:
    """Run until told to stop by SIGINT or SIGTERM. `on_numbers` is told now and then what is in hand.

    Raises NotAllowed when the coordinator refuses this machine for good, and other MeshErrors when it
    cannot even begin.
    """
    options.home.prepare()
    if options.embedding_server:
        # What the zygote has in its environment its tasks can be told.
        os.environ[SERVER_VARIABLE] = options.embedding_server
    zygote = start_zygote()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(run_agent(options, zygote, on_state, on_numbers=on_numbers))
    finally:
        zygote.close()
        _sweep(options.home)
        _remove_if_empty(work_root(options.home))


def start_zygote() -> Zygote:
    """Call before there is any thread or event loop in this process."""
    if sys.platform != "win32":
        from planetmesh.agent.sandbox.handle import Zygote

        if sys.platform == "linux":
            from planetmesh.agent.sandbox.confine import forbid_inspection

            forbid_inspection()
        return Zygote.start()
    raise MeshError(
        "Tasks cannot be run on Windows yet.", hint="Use this machine with `planetmesh login` instead."
    )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


async def run_agent(
    options: AgentOptions,
    zygote: Zygote,
    on_state: Callable[[AgentState], None] = lambda _state: None,
    stops: Stops | None = None,
    on_numbers: Callable[[AgentNumbers], None] | None = None,
) -> None:
    """The agent within a running loop; see `main`."""
    stops = stops or Stops()
    on_state(AgentState(Phase.CONNECTING, name=options.name))
    identity = Identity.load(options.home.agent)
    always(node=options.name or identity.membership.name, node_id=identity.principal.id)
    log.info("agent.started", extra={"version": __version__, "mesh_id": identity.membership.mesh_id})
    folder = prepare_work_root(options.home)
    await asyncio.to_thread(_clear_up, options.home)
    shares = tuple(read_share(text) for text in options.shares)
    sandbox, refuses = await _test_sandbox(options, zygote, folder)
    for complaint in add_job_types(offers(JOB_TYPES)):
        log.warning("job_type.left_out", extra={"reason": complaint})
    tags = (*options.tags, *await asyncio.to_thread(embedding_tags))
    info = look(offers=options.offers, tags=tags, shares=options.shares, sandbox=sandbox, refuses=refuses)
    worklist = Worklist(info.offer, info.gpus, options.settings)
    outbox = Outbox(options.home.outbox, aside=Aside(options.home.refused))
    desk = Desk(info, worklist, outbox, options.name or identity.membership.name, on_state)
    desk.link = Link(identity, outbox, desk, options.settings)
    find = options.find or (None if options.beside_coordinator else find_on_lan)
    reconnector = Reconnector(desk.link, identity, find, on_state)
    desk.on_link_up = reconnector.on_registered
    threads = FileThreads()
    around = Surroundings(folder, hidden_paths(options), shares, has_gpus=bool(info.gpus))
    runner: Runner | None = None
    try:
        with _signals(stops), _plain_errors():
            async with (
                TaskGroup() as group,
                open_files(
                    options.home,
                    folder,
                    identity,
                    options.settings,
                    desk,
                    group,
                    threads,
                ) as files,
            ):
                desk.runner = runner = Runner(zygote, around, desk, group)
                desk.files = files
                desk.runner.stage = files.stage
                server = PeerServer(identity, files.cache.shelf, files.fetcher.arriving, desk.server_now)
                peering = Peering(options.home, identity, server)
                if options.settings.peer_staging:
                    desk.link.beside = partial(_serve_peers, desk, peering)
                meter = LoadMeter(folder)
                loops = [
                    group.create_task(reconnector.keep_connected()),
                    group.create_task(reconnector.search()),
                    group.create_task(_beat(desk, meter, files.cache)),
                    group.create_task(_tick(desk, meter)),
                    group.create_task(_tell_minutes(desk)),
                    group.create_task(desk.runner.warm.tend()),
                    group.create_task(files.tell(threads, desk.link.post)),
                ]
                if on_numbers is not None:
                    loops.append(group.create_task(_count(desk, meter, info, on_numbers)))
                if not refuses:
                    desk.runner.warm.open_ahead()
                await stops.any.wait()
                if not stops.first.is_set():
                    await _finish(desk, stops)
                on_state(AgentState(Phase.DRAINING, running=desk.worklist.running))
                log.info("agent.stopping", extra={"running": desk.worklist.running})
                await _leave(desk, stops)
                for loop in loops:
                    loop.cancel()
                await peering.close()
    finally:
        if runner is not None:
            runner.warm.abandon()
        await threads.close()
        outbox.close()
        on_state(AgentState(Phase.ENDED))


class Stops:
    """How this process was told to stop, and how often."""

    def __init__(self) -> None:
        self.any = asyncio.Event()
        """Told to stop, or orphaned."""
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    def tell(self) -> None:
        (self.second if self.first.is_set() else self.first).set()
        self.any.set()

    def orphan(self) -> None:
        """Whoever started this process is gone."""
        self.any.set()


# Loops


async def _beat(desk: Desk, meter: LoadMeter, cache: Cache) -> None:
    """Tell the coordinator that we live, whatever the tasks do."""
    while True:
        load = meter.read(
            desk.worklist.running,
            desk.worklist.backlog,
            outbox_bytes=desk.outbox.size_bytes,
            outbox_refused=desk.outbox.aside.count,
            cache_bytes=cache.used_bytes,
        )
        desk.journal.on_load(load)
        desk.link.post(Heartbeat(load))
        await asyncio.sleep(desk.link.settings.heartbeat_seconds)


async def _tick(desk: Desk, meter: LoadMeter) -> None:
    while True:
        asked_at = time.monotonic()
        await asyncio.sleep(TICK_SECONDS)
        meter.note_lag(time.monotonic() - asked_at - TICK_SECONDS)
        desk.tick(time.monotonic())
        if not desk.link.is_up:
            # Nobody else has these messages: power loss must not cost them either.
            await asyncio.to_thread(desk.outbox.sync)


async def _count(
    desk: Desk, meter: LoadMeter, info: NodeInfo, on_numbers: Callable[[AgentNumbers], None]
) -> None:
    """Tell whoever shows it what is in hand."""
    while True:
        on_numbers(
            AgentNumbers(
                running=desk.worklist.running,
                waiting=desk.worklist.backlog,
                unsent=desk.outbox.next_number - desk.outbox.first_unacknowledged,
                sandbox=info.sandbox,
                refuses=info.refuses,
                clock_ahead_seconds=desk.clock_ahead_seconds,
                disk_free_bytes=meter.disk_free_bytes,
            )
        )
        await asyncio.sleep(COUNT_SECONDS)


async def _tell_minutes(desk: Desk) -> None:
    """What was done, in one line a minute, while anything is done."""
    while True:
        await asyncio.sleep(MINUTE_SECONDS)
        desk.journal.tell_minute(desk.worklist)


async def _serve_peers(desk: Desk, peering: Peering, address: str, ask: AskCoordinator) -> None:
    """Beside each link: hand blobs to other nodes, and say where."""
    await peering.keep(address, partial(ask, "v1/certs/peer"), lambda port: desk.link.post(Serving(port)))


# The end


async def _finish(desk: Desk, stops: Stops) -> None:
    """Let what runs go on to its end, however long that takes; take nothing new."""
    log.warning("agent.orphaned", extra={"running": desk.worklist.running})
    desk.refuse(ORPHAN_REFUSES)
    desk.is_leaving = True
    desk.worklist.drain(on=True)
    desk.work()
    await _wait_until_idle(desk, None, stops.first)


async def _leave(desk: Desk, stops: Stops) -> None:
    """Give back what has not started, let the rest end, kill what does not, send the last words."""
    desk.is_leaving = True
    desk.worklist.drain(on=True)
    desk.work()
    await _wait_until_idle(desk, DRAIN_SECONDS, stops.second)
    desk.worklist.drain(on=True, now=True)
    desk.work()
    await _wait_until_idle(desk, STOP_SECONDS, None)
    await desk.runner.close_all()
    await desk.link.flush(FLUSH_SECONDS)
    desk.link.post(Leaving())
    await desk.link.flush(FLUSH_SECONDS)


async def _wait_until_idle(desk: Desk, seconds: float | None, hurry: asyncio.Event | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            # Looked at, not waited for: a launcher, the coordinator and a signal can all bring it about.
            while not desk.worklist.is_idle and not (hurry and hurry.is_set()):  # noqa: ASYNC110
                await asyncio.sleep(IDLE_LOOK_SECONDS)
    except TimeoutError:
        log.info("agent.tasks_left", extra={"running": desk.worklist.running})


@contextmanager
def _signals(stops: Stops) -> Iterator[None]:
    """SIGINT, SIGTERM and ORPHANED tell `stops`, for as long as this lasts."""
    told = {signal.SIGINT: stops.tell, ORPHANED: stops.orphan, signal.SIGTERM: stops.tell}
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in told}
    for number, tell in told.items():
        # uvloop's own `add_signal_handler` may call twice for one signal that comes right behind another.
        signal.signal(number, _in_loop(loop, tell))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_loop(loop: asyncio.AbstractEventLoop, tell: Callable[[], None]) -> Callable[[int, object], None]:
    """A handler for `signal.signal` that tells in the loop."""

    def handle(_number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(tell)

    return handle


@contextmanager
def _plain_errors() -> Iterator[None]:
    """A group's one telling error instead of the group."""
    try:
        yield
    except BaseExceptionGroup as group:
        known = group.subgroup(MeshError)
        while known is not None:
            first = known.exceptions[0]
            if isinstance(first, MeshError):
                raise first from group
            known = first
        raise


# Surroundings


async def _test_sandbox(options: AgentOptions, zygote: Zygote, work_root: Path) -> tuple[Sandbox, str]:
    """What keeps tasks from the state directory here, and why none may run if that is too little."""
    if sys.platform != "win32":
        from planetmesh.agent.sandbox.probe import measure_tier

        report = await measure_tier(zygote, Path(hidden_paths(options)[0]), work_root)
        log.info(
            "sandbox.measured", extra={"tier": report.tier, "proven": report.proven, "detail": report.detail}
        )
        refuses = ""
        if options.beside_coordinator and not report.proven:
            refuses = f"it holds the mesh's CA key, and tasks could not be kept from it: {report.detail}"
        return Sandbox(str(report.tier), report.proven, report.detail), refuses
    return Sandbox(), "tasks cannot be run on Windows yet"


def hidden_paths(options: AgentOptions) -> tuple[str, ...]:
    """What no task may see, the outermost state directory first."""
    outermost = options.home.root.parent if options.beside_coordinator else options.home.root
    return tuple(dict.fromkeys(str(path) for path in (outermost, options.home.root, *options.hidden)))


def read_share(text: str) -> Share:
    """`PATH` or `PATH:rw`; raises BadInput unless it is an absolute path to something that exists."""
    path = text.removesuffix(":rw")
    if not Path(path).is_absolute() or not Path(path).exists():
        raise BadInput(f"'{path}' cannot be shared: it is not an absolute path to something that exists.")
    return Share(path, writable=text.endswith(":rw"))


async def find_on_lan(mesh_id: str, bind: tuple[str, ...] = ()) -> list[str]:
    """Where mDNS says that our coordinator is. Only hints: TLS decides who it is."""
    from planetmesh.discovery import find

    def ours(found: list[Found]) -> list[Found]:
        return [each for each in found if mesh_id.startswith(each.mesh8)]

    heard = ours(await find(FIND_SECONDS, until=lambda found: bool(ours(found)), bind=bind))
    return [format_endpoint(address, each.port) for each in heard for address in each.addresses]


def _clear_up(home: Home) -> None:
    """End and remove what was left when an agent, its zygote and its launchers were killed all at once."""
    if sys.platform == "linux":
        from planetmesh.agent.sandbox.tree import kill_leftovers

        if not kill_leftovers(str(work_root(home))):
            log.warning("work.still_running", extra={"path": str(work_root(home))})
    _sweep(home)


def _sweep(home: Home) -> None:
    """Remove what tasks of an earlier life left behind."""
    from planetmesh.agent.sandbox.folders import is_own_root, remove_folder

    root = work_root(home)
    if not is_own_root(root):
        return
    for path in root.iterdir():
        try:
            if path.is_dir() and not path.is_symlink():
                remove_folder(path)
            else:
                path.unlink()
        except OSError as error:
            log.warning("work.not_removed", extra={"path": str(path), "reason": str(error)})


def _remove_if_empty(folder: Path) -> None:
    """For root it lies outside the home, so nobody else would: a throw-away home leaves nothing behind."""
    try:
        folder.rmdir()
    except OSError as error:
        log.debug("work.not_removed", extra={"path": str(folder), "reason": str(error)})
