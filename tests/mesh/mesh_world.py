"""A world for the reactor: agents that may die, links that lose what is on the way, a disk.

It does what engine, link and agent do, as simply as can be, and asserts what none of them may ever
see: a start too many, one attempt in two places, two ends of one task, rows that tell another story.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterator

import builders
import msgspec

from planetmesh.mesh import effects as fx
from planetmesh.mesh import fitness, jobs, limits, nodes, reactor, schedule
from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.state import MeshState, check
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId, NodeId, TaskKey
from planetmesh.model.job import ENDED, ON_NODE, Job, Outcome, Task, TaskState
from planetmesh.model.node import Node, NodeLoad, NodeState
from planetmesh.settings import Settings
from planetmesh.wire import agent as wire
from planetmesh.wire.codec import PROTOCOL

RunKey = tuple[JobId, int, int]
"""Job, index, attempt."""


class Disk:
    """What was committed, and what rides on the next commit."""

    def __init__(self) -> None:
        self.tasks: dict[TaskKey, Task] = {}
        self.jobs: dict[JobId, Job] = {}
        self.nodes: dict[NodeId, Node] = {}
        self.carried: list[fx.SaveTask | fx.SaveNode] = []
        self.latest: dict[TaskKey, Task] = {}
        """The rows as they will be after the next commit."""
        self.ended: dict[TaskKey, Task] = {}
        self.ended_jobs: dict[JobId, fx.JobEnded] = {}

    def write(self, effects: fx.Effects) -> None:
        must = False
        for effect in effects:
            if isinstance(effect, fx.SaveTask):
                self._note(effect)
            elif isinstance(effect, fx.JobEnded):
                assert effect.job.id not in self.ended_jobs, "a job ended twice"
                self.ended_jobs[effect.job.id] = effect
            if isinstance(effect, fx.SaveTask | fx.SaveNode):
                self.carried.append(effect)
                must |= effect.urgent
            must |= isinstance(effect, fx.SaveJob | fx.SaveAttempt | fx.RemoveNode)
        if must:
            self._commit(effects)

    def _note(self, effect: fx.SaveTask) -> None:
        task = effect.task
        self.latest[task.key] = task
        if task.ended:
            assert effect.urgent
            assert task.key not in self.ended, f"a second end: {task}"
            self.ended[task.key] = task

    def _commit(self, effects: fx.Effects) -> None:
        for carried in self.carried:
            if isinstance(carried, fx.SaveTask):
                self.tasks[carried.task.key] = carried.task
            else:
                self.nodes[carried.node.id] = carried.node
        self.carried = []
        for effect in effects:
            if isinstance(effect, fx.SaveJob):
                self.jobs[effect.job.id] = effect.job
            elif isinstance(effect, fx.RemoveNode):
                self.nodes.pop(effect.node_id, None)

    def forget_carried(self) -> None:
        self.carried = []
        self.latest = dict(self.tasks)


class Agent:
    """One machine. `session` is the link as the agent believes it, `held` what it really has."""

    def __init__(self, world: World, node_id: NodeId, info: wire.NodeInfo) -> None:
        self.world = world
        self.node_id = node_id
        self.info = info
        self.starts = 0
        self.instance = ""
        self.session: int | None = None
        self.held: dict[RunKey, bool] = {}
        """True: running."""
        self.outbox: deque[wire.TaskResult | wire.TaskReturned] = deque()
        self.first_number = 0
        """Number of the outbox's first message."""
        self.draining = False
        self.contexts: set[JobId] = set()
        """Jobs whose launcher and folder it still has."""
        self.opened_on_link: set[JobId] = set()
        self.to_agent: deque[wire.ToAgent] = deque()
        self.from_agent: deque[wire.FromAgent] = deque()
        self.restart()

    def restart(self, *, keeps_outbox: bool = True) -> None:
        """The process dies and comes again: what ran is dead, what ended is still in the outbox."""
        self.unlink()
        self.starts += 1
        self.instance = f"{self.node_id[:6]}-{self.starts}"
        self.held.clear()
        self.contexts.clear()
        self.draining = False
        if not keeps_outbox:
            self.first_number += len(self.outbox)
            self.outbox.clear()

    def unlink(self) -> None:
        self.session = None
        self.to_agent.clear()
        self.from_agent.clear()
        self.opened_on_link.clear()

    def hello(self) -> wire.RegisterNode:
        held = [wire.Held(*key, running) for key, running in self.held.items()]
        held += [wire.Held(m.job_id, m.index, m.attempt, running=False) for m in self.outbox]
        return wire.RegisterNode(PROTOCOL, self.info, self.instance, tuple(held), self.first_number)

    def say(self, message: wire.FromAgent) -> None:
        if isinstance(message, wire.TaskResult | wire.TaskReturned):
            self.outbox.append(message)
        if self.session is not None:
            self.from_agent.append(message)

    def hear(self, message: wire.ToAgent) -> None:
        match message:
            case wire.Registered():
                self.draining = False
                for each in message.drop:
                    self.held.pop((each.job_id, each.index, each.attempt), None)
                self.contexts &= {job_id for job_id, _index, _attempt in self.held}
                self.from_agent.extend(self.outbox)
            case wire.OpenJob(job_id):
                self.contexts.add(job_id)
                self.opened_on_link.add(job_id)
            case wire.AssignTask(job_id, index, attempt):
                self._take(job_id, index, attempt)
            case wire.StopTask(job_id, index, attempt):
                self.held.pop((job_id, index, attempt), None)
                self.say(wire.TaskResult(job_id, index, attempt, Outcome.CANCELLED))
            case wire.RecallTasks(tasks):
                for each in tasks:
                    self._give_back((each.job_id, each.index, each.attempt))
            case wire.CloseJob(job_id):
                self._close(job_id)
            case wire.Drain(on, now):
                self._drain(on=on, now=now)

    def _close(self, job_id: JobId) -> None:
        current = [key for key in self.held if key[0] == job_id and self.world.is_current(self, key)]
        assert not current, f"the job was closed under {current}"
        self.contexts.discard(job_id)
        self.opened_on_link.discard(job_id)
        for key in [key for key in self.held if key[0] == job_id]:
            del self.held[key]

    def _take(self, job_id: JobId, index: int, attempt: int) -> None:
        assert job_id in self.opened_on_link, "a task came before its job's details"
        assert job_id in self.contexts
        for key in [key for key in self.held if key[:2] == (job_id, index)]:
            assert key[2] < attempt, "an old attempt was assigned after a newer one"
            del self.held[key]
        self.held[job_id, index, attempt] = False
        if self.draining:
            self._give_back((job_id, index, attempt))

    def _drain(self, *, on: bool, now: bool) -> None:
        self.draining = on
        for key, running in list(self.held.items()) if on else ():
            if not running:
                self._give_back(key)
            elif now:
                del self.held[key]
                self.say(wire.TaskReturned(*key, reason="draining", started=True))

    def _give_back(self, key: RunKey) -> None:
        if self.held.get(key) is False:
            del self.held[key]
            self.say(wire.TaskReturned(*key, reason="recalled"))

    def start(self, key: RunKey) -> None:
        assert self.held[key] is False
        self.held[key] = True
        self.world.on_started(key)
        self.say(wire.TaskStarted(*key))

    def end(self, key: RunKey, outcome: Outcome, wall_seconds: float = 0.01) -> None:
        del self.held[key]
        self.say(wire.TaskResult(*key, outcome, wall_seconds=wall_seconds))


class World:
    """Coordinator, agents and what lies between. Every method is one happening, or one turn."""

    def __init__(self) -> None:
        self.settings = Settings(
            prefill_seconds=0.1,
            straggler_least_seconds=0.2,
            quarantine_failures=2,
            quarantine_seconds=3.0,
            chunk_seconds=1.0,
        )
        self.random = random.Random(0)
        self.state = MeshState(self.settings, self.random.random)
        self.now = Moment(1000.0, 1e9)
        self.disk = Disk()
        self.agents: dict[NodeId, Agent] = {}
        self.barred: set[NodeId] = set()
        """Revoked or forgotten."""
        self.sessions = 0
        self.specs: dict[JobId, Job] = {}
        self.runs: dict[RunKey, NodeId] = {}
        """Where each attempt was given."""
        self.started: dict[TaskKey, int] = {}

    # The engine

    def take(self, effects: fx.Effects) -> fx.Effects:
        """Commit, then send, then hang up."""
        self.disk.write(effects)
        for effect in effects:
            if isinstance(effect, fx.Send):
                self._send(effect)
        for effect in effects:
            if isinstance(effect, fx.HangUp):
                for agent in self.agents.values():
                    if agent.session == effect.session:
                        agent.unlink()
        return effects

    def _send(self, effect: fx.Send) -> None:
        message = effect.message
        if isinstance(message, wire.AssignTask):
            key = (message.job_id, message.index, message.attempt)
            assert key not in self.runs, f"{key} was given to {self.runs[key]} before"
            self.runs[key] = effect.node_id
        agent, live = self.agents[effect.node_id], self.state.nodes.get(effect.node_id)
        if live is not None and live.session is not None and agent.session == live.session:
            agent.to_agent.append(message)

    def place(self, most: int = 1000) -> int:
        count = 0

        def may_go_on() -> bool:
            return count < most

        for placement in schedule.placements(self.state, self.now.steady, may_go_on):
            job, node = self.state.jobs[placement.job_id], self.state.nodes[placement.node_id]
            before = job.task(placement.index)
            assert node.connected
            assert node.node.state is NodeState.HEALTHY
            assert not node.node.draining
            assert set(job.job.spec.tags) <= node.node.all_tags
            assert job.job.spec.requests.fits_in(node.offer)
            assert before is not None
            assert before.state is TaskState.QUEUED
            self.take(reactor.on_placed(self.state, placement, self.now))
            assert not job.is_held
            most_running = job.job.max_running
            assert most_running is None or job.in_hands <= most_running
            assert len(node.held) <= node.offer.cpu_millis // 100 + self.settings.prefill_most
            count += 1
        return count

    def tick(self, seconds: float, *, woken: bool = False) -> None:
        self.now = Moment(self.now.steady + seconds, self.now.wall + seconds)
        if woken:
            self.take(nodes.on_woken(self.state, self.now))
        self.take(nodes.on_tick(self.state, self.now))

    def submit(self, job: Job) -> None:
        self.specs[job.id] = job
        self.take(jobs.on_job_submitted(self.state, job))

    # Links

    def enrol(self, node: Node, info: wire.NodeInfo) -> Agent:
        self.take(nodes.on_node_enrolled(self.state, node, self.now))
        agent = self.agents[node.id] = Agent(self, node.id, info)
        return agent

    def connect(self, agent: Agent) -> None:
        """A new link with its hello. What was on the way on the old one is lost."""
        agent.unlink()
        self.sessions += 1
        agent.session = self.sessions
        joining = nodes.Joining(agent.node_id, agent.session, agent.hello())
        self.take(nodes.on_node_joined(self.state, joining, "home", self.now))

    def cut(self, agent: Agent, *, noticed: bool) -> None:
        session = agent.session
        agent.unlink()
        if noticed and session is not None:
            self.take(nodes.on_link_lost(self.state, agent.node_id, session))

    def to_agent(self, agent: Agent, most: int = 1000) -> None:
        for _ in range(min(most, len(agent.to_agent))):
            if agent.to_agent:
                agent.hear(agent.to_agent.popleft())

    def from_agent(self, agent: Agent, most: int = 1000) -> None:
        for _ in range(min(most, len(agent.from_agent))):
            live = self.state.nodes.get(agent.node_id)
            if not agent.from_agent or live is None or live.session != agent.session:
                return
            message = agent.from_agent.popleft()
            self.take(nodes.on_heard(self.state, agent.node_id, self.now))
            self.take(self.react(agent.node_id, message))

    def exchange_all(self) -> None:
        for agent in list(self.agents.values()):
            self._exchange(agent)

    def acknowledge(self, agent: Agent) -> None:
        """What was handled and is no longer on the way leaves the outbox."""
        waiting = {id(message) for message in agent.from_agent}
        while agent.outbox and agent.session is not None and id(agent.outbox[0]) not in waiting:
            if any(isinstance(message, wire.Registered) for message in agent.to_agent):
                return
            agent.outbox.popleft()
            agent.first_number += 1

    def react(self, node_id: NodeId, message: wire.FromAgent) -> fx.Effects:
        state, now = self.state, self.now
        match message:
            case wire.TaskStarted():
                return reactor.on_task_started(state, node_id, message, now)
            case wire.TaskResult():
                return reactor.on_task_ended(state, node_id, message, now)
            case wire.TaskReturned():
                return reactor.on_task_returned(state, node_id, message, now)
            case wire.Heartbeat(load):
                return nodes.on_heartbeat(state, node_id, load, now)
            case wire.Leaving():
                session = state.nodes[node_id].session
                assert session is not None
                return nodes.on_leaving(state, node_id, session, now)
            case _:
                raise AssertionError(message)

    def is_current(self, agent: Agent, key: RunKey) -> bool:
        return reactor.still_counts(self.state, agent.node_id, *key)

    def on_started(self, key: RunKey) -> None:
        count = self.started[key[:2]] = self.started.get(key[:2], 0) + 1
        if self.specs[key[0]].spec.at_most_once:
            assert count == 1, f"{key} is at most once and was started {count} times"

    # The coordinator's restart

    def restart_coordinator(self) -> None:
        """All links break, memory is gone, what rode on a later commit too."""
        for agent in self.agents.values():
            agent.unlink()
        self.disk.forget_carried()
        self.state = rebuild(self.disk, self.settings, self.random, self.now)
        check(self.state)

    # What must always be true

    def verify(self) -> None:
        check(self.state)
        ended: Counter[JobId] = Counter()
        for (job_id, _index), task in self.disk.ended.items():
            ended[job_id] += task.width
        for job_id, live in self.state.jobs.items():
            for index, task in live.tasks.items():
                row = self.disk.latest.get((job_id, index))
                assert row == task, f"the disk says {row}, the table {task}"
            counts = live.counts
            over = counts.completed + counts.failed + counts.cancelled
            assert ended[job_id] == over if live.job.rest is None else ended[job_id] < over

    def verify_ends(self) -> None:
        """Every job has ended, and each of its tasks exactly once."""
        assert not self.state.jobs, f"still there: {[live.job for live in self.state.jobs.values()]}"
        assert not self.state.waiting()
        assert set(self.disk.ended_jobs) == set(self.specs)
        for job_id, end in self.disk.ended_jobs.items():
            ended = [task for key, task in self.disk.latest.items() if key[0] == job_id]
            assert all(task.state in ENDED for task in ended)
            assert end.counts.total == self.specs[job_id].spec.task_count
            assert end.counts.live == 0
            without_row = end.counts.total - sum(task.width for task in ended)
            assert (without_row == 0) == (end.job.rest is None)
            completed = sum(task.width for task in ended if task.state is TaskState.COMPLETED)
            assert end.counts.completed == completed
            covered = [each for task in ended for each in range(task.index, task.index + task.width)]
            assert len(covered) == len(set(covered)), "two tasks stand for one input"
        assert not any(live.held for live in self.state.nodes.values())
        assert not [entry for entry in self.state.backoffs if entry[1] in self.state.jobs]

    def heal(self) -> None:
        """Everybody is well again and works to the end."""
        self.enrol(builders.node("zz"), builders.info(8, tags=("gpu", "fast")))
        well = [agent for agent in self.agents.values() if agent.node_id not in self.barred]
        for agent in well:
            self.take(nodes.on_drain(self.state, agent.node_id, on=False, at_once=False))
            self.connect(agent)
        for job_id in list(self.state.jobs):
            self.take(jobs.on_resumed(self.state, job_id))
        self._cancel_impossible()
        for _ in range(200):
            if not self.state.jobs:
                break
            self._work_on(well)
        for agent in well:
            self._exchange(agent)
            self._exchange(agent)
            assert not agent.held, f"{agent.node_id} still runs {agent.held}"
            assert not agent.outbox
            assert not agent.contexts, f"{agent.node_id} was never told to forget {agent.contexts}"

    def _cancel_impossible(self) -> None:
        for job_id, job in list(self.state.jobs.items()):
            reasons = [fitness.objection(job.signature, live) for live in self.state.nodes.values()]
            # The end of one may be the end of those that wait for it.
            if job_id in self.state.jobs and all(reason is not None for reason in reasons):
                self.take(jobs.on_cancel(self.state, job_id, "nobody can run it", self.now))

    def _work_on(self, agents: list[Agent]) -> None:
        self.place()
        for agent in agents:
            self._exchange(agent)
            for key in [key for key, running in agent.held.items() if not running]:
                agent.start(key)
            for key in list(agent.held):
                agent.end(key, Outcome.OK)
            self._exchange(agent)
        self.verify()
        for live in self.state.nodes.values():
            if live.connected:
                self.take(nodes.on_heartbeat(self.state, live.node.id, NodeLoad(), self.now))
        self.tick(2.0)

    def _exchange(self, agent: Agent) -> None:
        self.to_agent(agent)
        self.from_agent(agent)
        if agent.session is not None:
            self.take(nodes.on_heard(self.state, agent.node_id, self.now))
        self.acknowledge(agent)


def rebuild(disk: Disk, settings: Settings, source: random.Random, now: Moment) -> MeshState:
    """The tables from the rows alone, as after a start: RETRYING is QUEUED again, nobody is connected."""
    state = MeshState(settings, source.random)
    for node in disk.nodes.values():
        state.nodes[node.id] = LiveNode(node, now.steady)
    for job_id, job in disk.jobs.items():
        if job.completed_at is not None:
            continue
        live = LiveJob(job)
        if job.rest is not None:
            _restore_rest(live, list(_rows(disk, job_id)))
        for task in _rows(disk, job_id):
            live.put(task)
            for node_id in (task.node_id, task.twin_node):
                if task.state in ON_NODE and node_id is not None:
                    state.hold(live, state.nodes[node_id], task.index, now.steady)
        limits.restore(live, now.steady)
        state.add_job(live)
        if not live.counts.live:
            state.lingering[job_id] = now.steady
    return state


def _restore_rest(live: LiveJob, rows: list[Task]) -> None:
    """What has no row has ended; the others are put in turn, from the state in which all are QUEUED."""
    assert live.job.rest is not None
    taken = {each for task in rows for each in range(task.index, task.index + task.width)}
    live.ahead = set(range(live.total)) - taken
    live.counts.move(TaskState.QUEUED, live.job.rest, len(live.ahead))
    while live.next_index in live.ahead:
        live.ahead.remove(live.next_index)
        live.next_index += 1


def _rows(disk: Disk, job_id: JobId) -> Iterator[Task]:
    for key, task in sorted(disk.tasks.items()):
        if key[0] == job_id:
            if task.state is TaskState.RETRYING:
                awake = msgspec.structs.replace(task, state=TaskState.QUEUED)
                disk.tasks[key] = disk.latest[key] = awake
            yield disk.tasks[key]
