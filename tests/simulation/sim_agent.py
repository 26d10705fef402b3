"""An agent's machine: the real desk, worklist, outbox, link and runner, composed as in its service.

Only what touches the world is simulated: the connection, the outbox's folder, the launchers.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import sim_disk
from sim_launcher import SimZygote
from sim_network import End
from sim_time import Machine

from planetmesh.agent import job_run, outbox, service, warm
from planetmesh.agent.desk import Desk
from planetmesh.agent.link import CONNECT_SECONDS, Link
from planetmesh.agent.outbox import Outbox
from planetmesh.agent.reconnect import Reconnector
from planetmesh.agent.runner import Runner
from planetmesh.agent.service import Stops, _beat, _finish, _leave, _tick
from planetmesh.agent.warm import Surroundings
from planetmesh.agent.worklist import Worklist
from planetmesh.errors import MeshError, NotAllowed, Unreachable
from planetmesh.groups import TaskGroup
from planetmesh.model.ids import NodeId, TaskKey
from planetmesh.model.node import NodeInfo, NodeLoad
from planetmesh.wire.agent import AssignTask, TaskOutput

if TYPE_CHECKING:
    from sim_world import World


def install() -> None:
    """The agent's code works on simulated folders from here on."""
    outbox.Segment = sim_disk.SimSegment  # type: ignore[assignment,misc]
    outbox.sync_folder = sim_disk.sync_folder  # type: ignore[assignment]
    warm.make_folder = warm.remove_folder = lambda _folder: None  # type: ignore[assignment]
    service.TICK_SECONDS = 1.0  # four times as seldom: most of an hour's events would be these
    job_run.write_shared = lambda *_args, **_options: None  # type: ignore[assignment]


class SimIdentity:
    """Where the coordinator was last; nothing else of an identity is asked for."""

    def __init__(self) -> None:
        self.membership = SimpleNamespace(endpoints=("coordinator:7433",), mesh_id="mesh", name="")

    def remember_endpoint(self, _endpoint: str) -> None:
        """It does not move."""


class SimLink(Link):
    """The link over the simulated network."""

    machine: AgentMachine

    async def _talk(self, endpoint: str) -> None:
        socket = await self.machine.connect()
        try:
            await self._greet(socket, endpoint)  # type: ignore[arg-type]
            async with TaskGroup() as group:
                group.create_task(self._send(socket))  # type: ignore[arg-type]
                group.create_task(self._receive(socket))  # type: ignore[arg-type]
        finally:
            socket.hang_up()


class WatchedOutbox(Outbox):
    machine: AgentMachine
    worklist: WatchedWorklist

    def put(self, messages: Any) -> None:
        for message in messages:
            if not isinstance(message, TaskOutput):
                newest = self.worklist.newest.get((message.job_id, message.index), 0)
                self.machine.world.truth.on_said(self.machine.node_id, message, newest)
        super().put(messages)


class WatchedWorklist(Worklist):
    def __init__(self, machine: AgentMachine) -> None:
        super().__init__(machine.info.offer, machine.info.gpus, machine.world.settings)
        self.newest: dict[TaskKey, int] = {}
        """The attempt that this process was given last."""
        self._counted = machine.world.counted

    def assign(self, task: AssignTask) -> bool:
        job = self.jobs.get(task.job_id)
        if job and any(each.task.index == task.index and not each.silent for each in job.launched.values()):
            self._counted["newer attempts where an older one was"] += 1
        self.newest[task.job_id, task.index] = task.attempt
        return super().assign(task)


class Meter:
    def note_lag(self, _seconds: float) -> None:
        """Nothing: simulated loops are never late."""

    def read(self, running: int, backlog: int, **_sizes: int) -> NodeLoad:
        return NodeLoad(running=running, backlog=backlog)


class AgentMachine(Machine):
    """`node_id` is the identity in its home: a copied home has that of another."""

    def __init__(self, world: World, name: str, node_id: NodeId, info: NodeInfo) -> None:
        super().__init__(world.timeline, name, f"{world.seed}/{name}")
        self.world = world
        self.node_id = node_id
        self.info = info
        self.folder = sim_disk.SimFolder(f"{world.seed}/{name}/outbox")
        self.identity = SimIdentity()
        self.cannot_launch = False
        """No launcher can be opened now."""
        self.ended = ""
        """Why its process ended by itself, if it did."""
        self.is_copy = False
        self.desk: Desk | None = None
        self.stops = Stops()
        self.well_since: float | None = None
        """Since when it has been up, awake and registered at a coordinator that is so too."""

    # Power

    @property
    def has_power(self) -> bool:
        return self not in self.world.network.off

    def start(self) -> None:
        if self.loop is None and self.has_power:
            self.ended = ""
            self.stops = Stops()
            self.boot(self._main())

    def stop(self) -> None:
        """`kill -9`: its launchers see it and kill their tasks; what was written to files stays."""
        if self.loop is not None:
            self.world.network.crash(self)
            self._die()

    def cut_power(self) -> None:
        self.world.network.off.add(self)
        self._die()
        self.world.counted["bytes lost by power cuts"] += self.folder.cut_power()

    def _die(self) -> None:
        self.desk = None
        self.world.truth.on_halt(self)
        self.halt()

    # The process

    async def _main(self) -> None:
        try:
            await self._run()
        except MeshError as error:
            self.ended = error.message
        except BaseException as error:
            self.world.truth.fail_by(error)
            raise
        else:
            self.ended = "told to stop"
        self.timeline.after(0.0, self._on_exit)

    def _on_exit(self) -> None:
        if self.ended:
            self.world.note(f"{self.name} ended: {self.ended}")
            self.stop()

    async def _run(self) -> None:
        settings = self.world.settings
        worklist = WatchedWorklist(self)
        box = WatchedOutbox(self.folder)  # type: ignore[arg-type]
        box.machine, box.worklist = self, worklist
        desk = Desk(self.info, worklist, box, self.name, lambda _state: None)
        desk.link = link = SimLink(self.identity, box, desk, settings)  # type: ignore[arg-type]
        link.machine = self
        reconnector = Reconnector(link, self.identity, None, lambda _state: None)  # type: ignore[arg-type]
        desk.on_link_up = reconnector.on_registered
        around = Surroundings(Path("/simulated"), (), has_gpus=bool(self.info.gpus))
        meter = Meter()
        try:
            async with _plainly(), TaskGroup() as group:
                desk.runner = Runner(SimZygote(self), around, desk, group)
                self.desk = desk
                loops = [
                    group.create_task(reconnector.keep_connected()),
                    group.create_task(_beat(desk, meter, SimpleNamespace(used_bytes=0))),  # type: ignore[arg-type]
                    group.create_task(_tick(desk, meter)),  # type: ignore[arg-type]
                    group.create_task(desk.runner.warm.tend()),
                ]
                desk.runner.warm.open_ahead()
                await self.stops.any.wait()
                if not self.stops.first.is_set():
                    await _finish(desk, self.stops)
                await _leave(desk, self.stops)
                for loop in loops:
                    loop.cancel()
        finally:
            box.close()

    async def connect(self) -> End:
        """TCP, TLS and the upgrade; raises Unreachable or NotAllowed."""
        network, coordinator = self.world.network, self.world.coordinator
        for _there_and_back in range(3):
            is_open = network.is_open(self, coordinator) and network.is_open(coordinator, self)
            if not is_open:
                await asyncio.sleep(CONNECT_SECONDS)
                raise Unreachable("The coordinator does not answer.")
            await asyncio.sleep(2 * network.latency(self, coordinator))
        if coordinator.engine is None:
            raise Unreachable("Nobody listens there.")
        if self.node_id in self.world.revoked:
            raise NotAllowed("The coordinator refused this machine.")
        if coordinator.is_asleep:
            raise Unreachable("The coordinator fell asleep.")
        here, there = network.connect(self, coordinator)
        self.world.counted["links"] += 1
        coordinator.accept(self.node_id, there)
        return here


class _plainly:  # noqa: N801  used like a function
    """A group's one telling error instead of the group."""

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        found: BaseException | None = error
        while isinstance(found, BaseExceptionGroup):
            known = found.subgroup(MeshError) or found
            found = known.exceptions[0]
        if found is not None and found is not error:
            raise found from error
