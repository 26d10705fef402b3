"""The whole world of one seed: a coordinator, its agents, the network between them, and people who use it.

`run` lives through the given hours with mishaps, mends everything, and waits until all is quiet. It
raises `Broken` at the first step that breaks a promise; the same seed always tells the same story.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Any

import builders
import msgspec
import sim_people
from sim_agent import AgentMachine
from sim_coordinator import Coordinator, SimEngine
from sim_launcher import Behaviour, Plan
from sim_network import Network
from sim_time import Machine, Timeline
from sim_truth import Broken, Truth
from sim_work import Order, draw_order

from planetmesh.errors import MeshError
from planetmesh.mesh import effects as fx
from planetmesh.mesh import fitness, jobs, nodes, reactor
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Job, JobState
from planetmesh.model.node import Gpu, NodeInfo
from planetmesh.settings import Settings
from planetmesh.wire.api import ChangeJob
from planetmesh.wire.codec import decode_from_agent, decode_to_agent

LOOK_SECONDS = 5.0
"""Between two looks of the world at what the agents do."""
OVERDUE_SECONDS = 60.0
"""A machine that is well and linked for so long runs nothing that was given up."""
QUIET_SECONDS = 4 * 3600.0
"""After everything was mended all work must have ended within this."""
RETRY_SECONDS = 7.0
"""A client whose submit was not answered tries again after this."""
JOBS_WHILE_DOWN = 5
"""What is assumed of a coordinator that cannot be asked how many jobs it has."""
Request = Callable[[SimEngine], Awaitable[None]]


class World:
    def __init__(self, seed: int, hours: float, tell: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.seconds = hours * 3600.0
        self.random = random.Random(f"world/{seed}")
        self.timeline = Timeline()
        self.counted: Counter[str] = Counter()
        self.story: deque[str] = deque(maxlen=60)
        """The last that was noted; what a failure is told with."""
        self.digest = 0
        """Of the whole story: two runs of a seed have the same."""
        self.is_healed = False
        self.revoked: set[NodeId] = set()
        """Identities that count no more."""
        self.truth = Truth()
        self._tell = tell
        pace = self.random.choice((1.0, 2.0, 5.0, 5.0))
        self.settings = Settings(
            heartbeat_seconds=2.0 * pace,
            suspect_after_seconds=6.0 * pace,
            offline_after_seconds=15.0 * pace,
            restart_grace_seconds=15.0 * pace,
            prefill_seconds=self.random.choice((0.25, 2.0)),
        )
        self.network = Network(self.timeline, f"network/{seed}", self._on_frame)
        self.coordinator = Coordinator(self)
        self.coordinator.call_seconds = self.random.choice((0.0, 0.0, 0.002))
        self.agents: list[AgentMachine] = []
        self._plans: dict[JobId, tuple[str, Plan]] = {}
        self._orders = 0
        self._machines = 0

    # Telling

    def note(self, words: str) -> None:
        """One line of the story."""
        line = f"{self.timeline.now:11.3f}  {words}"
        self.digest = zlib.crc32(line.encode(), self.digest)
        self.story.append(line)
        if self._tell is not None:
            self._tell(line)

    def _on_frame(self, one: Machine, other: Machine, data: bytes) -> None:
        self.counted["frames"] += 1
        if self._tell is not None:
            decode: Callable[[bytes], Any] = decode_to_agent if one is self.coordinator else decode_from_agent
            for message in decode(data):
                if type(message).__name__ not in ("Ping", "Pong", "Acknowledge"):
                    self._tell(f"{self.timeline.now:11.3f}    {one.name} -> {other.name}  {message}")

    # The machines

    def new_info(self, name: str) -> NodeInfo:
        cpus, gpus = self.random.choice((1, 2, 4, 4, 8)), self.random.choice((0, 0, 1, 2))
        tags = tuple(tag for tag in ("gpu", "fast") if self.random.random() < 0.5)
        return builders.info(
            cpus,
            machine=f"machine of {name}",
            hostname=name,
            gpus=tuple(Gpu(f"{name}-gpu{n}", "card", builders.GIB) for n in range(gpus)),
            offer=builders.resources(cpus, builders.GIB, gpus),
            tags=tags,
        )

    def add_agent(self, info: NodeInfo | None = None) -> AgentMachine:
        """A machine is paired, and its agent started."""
        name = f"n{self._machines}"
        self._machines += 1
        machine = AgentMachine(self, name, builders.node_id(name), info or self.new_info(name))
        self.agents.append(machine)
        node = builders.node(name, created_at=float(self._machines))

        async def enrol(engine: SimEngine) -> None:
            await engine.do(lambda state, now: nodes.on_node_enrolled(state, node, now))
            machine.start()

        self.ask(enrol, until_done=True)
        return machine

    def crash_agent(self, machine: AgentMachine) -> None:
        """Its process is killed; whatever started it starts it again."""
        if machine.loop is not None:
            machine.stop()
            self.timeline.after(self.random.choice((0.5, 5.0, 60.0)), machine.start)

    def pieces(self, job_id: JobId) -> int:
        """How many pieces of output each task of the job writes."""
        return self._plans[job_id][1].pieces

    def behaviour(self, job_id: JobId, index: int, attempt: int) -> Behaviour:
        seed, plan = self._plans[job_id]
        return plan.behaviour(seed, index, attempt, is_healed=self.is_healed)

    # Whom it meets

    def some_agent(self) -> AgentMachine | None:
        """One that belongs to the mesh."""
        known = [agent for agent in self.agents if agent.node_id not in self.revoked]
        return self.random.choice(known) if known else None

    def some_job(self) -> JobId | None:
        engine = self.coordinator.engine
        known = list(engine.state.jobs) if engine is not None else []
        return self.random.choice(known) if known else None

    def a_while(self) -> float:
        """Mostly a blip, sometimes minutes, seldom hours."""
        return self.random.choice((0.3, 3.0, 10.0, 40.0, 40.0, 200.0, 3000.0)) * self.random.uniform(0.3, 1.5)

    # People

    def ask(self, request: Request, *, until_done: bool = False) -> None:
        """Somebody asks the coordinator for something; whoever wants it done asks again and again."""
        coordinator = self.coordinator
        engine = coordinator.engine
        answered = False

        def again() -> None:
            if until_done and not answered:
                self.ask(request, until_done=True)

        async def serve(engine: SimEngine) -> None:
            nonlocal answered
            try:
                await request(engine)
                answered = True
            except MeshError:
                self.counted["requests refused"] += 1
            except Broken:
                return  # it has been noted

        if engine is not None and not coordinator.is_asleep and self.random.random() < 0.99:
            coordinator.begin(serve(engine))
        self.timeline.after(RETRY_SECONDS, again)

    def submit(self, order: Order | None = None, *, behind: JobId | None = None) -> None:
        if order is None:
            known = [agent.node_id for agent in self.agents]
            engine = self.coordinator.engine
            live = list(engine.state.jobs) if engine else []
            order = draw_order(self.random, self._orders, known, live, behind)
            self._orders += 1
        chosen = order
        drawn = f"{self.seed}/{chosen.key}"

        async def submit(engine: SimEngine) -> None:
            submits = self.coordinator.parts.submits
            async with submits.lock(chosen.submitter, chosen.key):
                job_id = await submits.earlier(engine, chosen.submitter, chosen.key)
                if job_id is None:
                    job_id = await take_in(engine)
            self.truth.acknowledged.add(job_id)

        async def take_in(engine: SimEngine) -> JobId:
            job_id = JobId(f"{zlib.crc32(f'{drawn}/{self.timeline.now}'.encode()):010x}")
            now = engine.read_clock()
            job = Job(
                id=job_id, spec=chosen.spec, submitter=chosen.submitter, key=chosen.key, created_at=now.wall
            )
            job, ended = await _conditions(engine, job)
            self.truth.jobs[job_id] = job
            self._plans[job_id] = (drawn, chosen.plan)
            self.coordinator.parts.submits.remember(chosen.submitter, chosen.key, job_id)
            await engine.do(lambda state, _now: jobs.on_job_submitted(state, job, ended))
            self.note(f"{chosen.submitter} hands in {job_id}: {chosen.spec.task_count} tasks, {chosen.plan}")
            self.counted["jobs"] += 1
            return job_id

        self.ask(submit, until_done=True)

    def cancel(self, job_id: JobId, reason: str) -> None:
        self.note(f"somebody cancels {job_id}")
        self.ask(sim_people.cancel(self, job_id, reason))

    # Life

    def run(self, mishaps: Callable[[World], None]) -> None:
        """`mishaps` puts all that is to happen on the timeline."""
        self.coordinator.start()
        for _ in range(self.random.randint(2, 6)):
            self.add_agent()
        mishaps(self)
        self._look()
        self._live_until(self.seconds)
        self.heal()
        end = self.timeline.now + QUIET_SECONDS
        while self.timeline.now < end:
            self._live_until(min(end, self.timeline.now + 60.0))
            if not self._why_not_quiet():
                break
        self._live_until(self.timeline.now + 30.0)
        self.counted["seconds"] = round(self.timeline.now)
        self._verify_end()

    def _live_until(self, until: float) -> None:
        timeline, truth = self.timeline, self.truth
        while timeline.step(until):
            if truth.failure:
                raise Broken(truth.failure)
            if timeline.broken:
                name, context = timeline.broken[0]
                truth.fail_by(context.get("exception") or RuntimeError(f"{name}: {context}"))
                raise Broken(truth.failure)

    # What must be true as time goes by

    def _look(self) -> None:
        """Who is well, and does anybody run what nobody wants any more?"""
        now, engine = self.timeline.now, self.coordinator.engine
        for machine in self.agents:
            if not self._is_well(machine):
                machine.well_since = None
            elif machine.well_since is None:
                machine.well_since = now
        for key, run in list(self.truth.running.items()):
            machine = run.machine
            assert isinstance(machine, AgentMachine)
            if machine.well_since is None or engine is None or now - machine.well_since < OVERDUE_SECONDS:
                continue
            if reactor.still_counts(engine.state, run.node_id, *key):
                self.truth.unwanted.pop(key, None)
            elif now - self.truth.unwanted.setdefault(key, now) > OVERDUE_SECONDS:
                self.truth.failure = f"{machine.name} still runs {key}, which was given up long ago"
        self.timeline.after(LOOK_SECONDS, self._look)

    def _is_well(self, machine: AgentMachine) -> bool:
        coordinator, network = self.coordinator, self.network
        engine = coordinator.engine
        if engine is None or engine.storage_error or coordinator.disk.slow_seconds or machine.desk is None:
            return False
        live = engine.state.nodes.get(machine.node_id)
        return (
            machine.desk.link.is_up
            and live is not None
            and live.node.instance == machine.desk._instance
            and live.connected
            and not machine.is_asleep
            and not coordinator.is_asleep
            and network.is_open(machine, coordinator)
            and network.is_open(coordinator, machine)
            and not network.slow
        )

    # The end

    def heal(self) -> None:
        """Everything is mended; machines that were thrown out stay out."""
        self.note("all is mended")
        self.is_healed = True
        network, coordinator = self.network, self.coordinator
        network.cuts.clear()
        network.slow.clear()
        network.off.clear()
        coordinator.disk.is_full, coordinator.disk.slow_seconds = False, 0.0
        coordinator.wake()
        coordinator.start()
        for machine in self.agents:
            machine.wake()
            machine.folder.is_full = machine.cannot_launch = False
            if machine.is_copy:
                machine.stop()
            elif machine.node_id not in self.revoked:
                machine.start()
        network.go_on()
        whole = builders.info(
            16, machine="the last", gpus=tuple(Gpu(f"last{n}", "card", builders.GIB) for n in range(4)),
            offer=builders.resources(16, 4 * builders.GIB, 4), tags=("gpu", "fast"),
        )  # fmt: skip
        self.add_agent(whole)
        self._mind()

    def _mind(self) -> None:
        """People look after it to the end: what gave up is started, what cannot run is cancelled."""
        for machine in self.agents:
            if machine.loop is None and machine.node_id not in self.revoked and not machine.is_copy:
                machine.start()
        engine = self.coordinator.engine
        if engine is not None and not engine.storage_error:
            for node_id, live in engine.state.nodes.items():
                if live.node.draining:
                    self.ask(self.draining(node_id, on=False))
            for job_id, job in list(engine.state.jobs.items()):
                if job.job.paused_at is not None:
                    self.ask(sim_people.change(self, job_id, ChangeJob(paused=False)))
                elif all(fitness.objection(job.signature, live) for live in engine.state.nodes.values()):
                    self.cancel(job_id, "nobody can run it")
        self.timeline.after(60.0, self._mind)

    def draining(self, node_id: NodeId, *, on: bool, at_once: bool = False) -> Request:
        async def drain(engine: SimEngine) -> None:
            def happen(state: MeshState, _now: Moment) -> fx.Effects:
                if node_id not in state.nodes:
                    return []
                return nodes.on_drain(state, node_id, on=on, at_once=at_once)

            await engine.do(happen)

        return drain

    def _why_not_quiet(self) -> str:
        engine = self.coordinator.engine
        if engine is None:
            return "the coordinator is not up"
        if len(self._keys_answered()) < self._orders:
            return "a submit was not answered"
        if engine.state.jobs:
            left = [(live.job, live.counts) for live in engine.state.jobs.values()]
            return f"jobs that have not ended: {left}"
        for machine in self.agents:
            desk = machine.desk
            if desk is None:
                continue
            if machine.node_id in self.revoked:
                continue
            if not desk.link.is_up:
                return f"{machine.name} is not linked"
            if desk.worklist.jobs:
                return f"{machine.name} still has {list(desk.worklist.jobs)}"
            if desk.outbox.first_unacknowledged != desk.outbox.next_number:
                return f"{machine.name} still has something to tell"
        return ""

    def _keys_answered(self) -> set[str]:
        return {self.truth.jobs[job_id].key for job_id in self.truth.acknowledged}

    @property
    def open_orders(self) -> int:
        """Jobs that have not ended, and submits that were not answered."""
        engine = self.coordinator.engine
        live = len(engine.state.jobs) if engine is not None else JOBS_WHILE_DOWN
        return live + self._orders - len(self._keys_answered())

    def _verify_end(self) -> None:
        why = self._why_not_quiet()
        if why:
            self.truth.fail(f"not quiet in the end: {why}")
        engine = self.coordinator.engine
        assert engine is not None
        if engine.state.queue or any(live.held for live in engine.state.nodes.values()):
            self.truth.fail("something is still in hand")
        if self.truth.running:
            alive = [key for key, run in self.truth.running.items() if run.node_id not in self.revoked]
            if alive:
                self.truth.fail(f"still runs: {alive}")
        self.coordinator.verify_ends()


async def _conditions(engine: SimEngine, job: Job) -> tuple[Job, dict[JobId, JobState]]:
    """How those ended that the job waits for; one that would never be met is left out."""
    kept, ended = [], {}
    for after in job.spec.after:
        if after.job not in engine.state.jobs:
            stored = await engine.store.job(after.job)
            if stored is None or not after.on.is_met(stored.summary.state):
                continue
            ended[after.job] = stored.summary.state
        kept.append(after)
    spec = msgspec.structs.replace(job.spec, after=tuple(kept))
    return msgspec.structs.replace(job, spec=spec), ended
