"""Anything may happen in any order: joins, losses, restarts, late and doubled answers, cancels, drains.

Hypothesis drives the real reactor against `mesh_world`; after each step the tables are compared with
each other and with the rows on the disk, and in the end everybody is healed and all work must end.
"""

from __future__ import annotations

import sys

import builders
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from mesh_world import Agent, World

from planetmesh.errors import Conflict
from planetmesh.mesh import jobs, lingering, nodes
from planetmesh.model.blob import Digest, StagedFile
from planetmesh.model.ids import JobId
from planetmesh.model.job import AUTO_CHUNK, After, Condition, Edits, Limits, Outcome
from planetmesh.model.node import NodeLoad, NodeState
from planetmesh.wire import agent as wire

NAMES = "abcdefghjkmnpqrstvwxyz"
PICK = st.integers(0, 1_000_000)
"""Chooses one of what is there, whatever there is."""
FILES = tuple(StagedFile(letter, Digest(letter * 64), 2**30) for letter in "ab")
JOBS = st.fixed_dictionaries({
    "inputs": st.sampled_from([1, 3, 6, 30, builders.items("x", "y", "z")]),
    "priority": st.integers(0, 1),
    "requests": st.sampled_from([builders.resources(cpus) for cpus in (0.5, 1, 1, 2)]),
    "tags": st.sampled_from([(), (), (), ("gpu",)]),
    "max_running": st.sampled_from([None, None, 1, 2]),
    "at_most_once": st.sampled_from([False, False, False, True]),
    "max_attempts": st.integers(1, 3),
    "partial": st.booleans(),
    "type": st.sampled_from(["command", "command", "script"]),
    "affine": st.sampled_from([False, False, False, True]),
    "chunk": st.sampled_from([1, 1, 2, AUTO_CHUNK]),
    "limits": st.sampled_from([
        Limits(), Limits(), Limits(), Limits(queue_seconds=3.0), Limits(total_seconds=6.0),
    ]),
    "max_failures": st.sampled_from([None, None, None, 1, 2]),
    "duplicates": st.sampled_from([True, True, True, False]),
    "waits": st.sampled_from([None, None, None, None, *Condition]),
    "submitter": st.sampled_from(["op", "op", "other"]),
    "files": st.sampled_from([(), (), FILES]),
    "linger_seconds": st.sampled_from([0.0, 0.0, 0.0, 3.0]),
})  # fmt: skip
OUTCOMES = st.sampled_from([
    *[Outcome.OK] * 6, Outcome.EXIT_CODE, Outcome.TIMED_OUT, Outcome.NOT_FOUND, Outcome.STAGING,
    Outcome.LOST, Outcome.CANCELLED, Outcome.RETURNED,
])  # fmt: skip
WALLS = st.sampled_from([0.0, 0.001, 0.01, 5.0])
ODD_WALLS = st.sampled_from([0.01, -1.0, 1e300, float("nan"), float("inf")])


class AnyOrder(RuleBasedStateMachine):
    """Rules that bring work forward are few and often drawn; mishaps share a few rules among them."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.jobs = 0
        self.nodes = 0

    @initialize(cpus=st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=3), first=JOBS, second=JOBS)
    def begin(self, cpus, first, second):
        for each in cpus:
            self.enrol(each, ())
        self.submit(first, 0)
        self.submit(second, 1)
        self.turn(1000)

    # Picking

    def agent(self, pick: int) -> Agent:
        well = [each for each in self.world.agents.values() if each.node_id not in self.world.barred]
        return well[pick % len(well)]

    def job(self, pick: int) -> JobId | None:
        jobs = list(self.world.state.jobs)
        return jobs[pick % len(jobs)] if jobs else None

    # What brings work forward

    @precondition(lambda self: self.jobs < len(NAMES))
    @rule(what=JOBS, pick=PICK)
    def submit(self, what, pick):
        node = self.agent(pick).node_id if what.get("affine") else None
        if what["linger_seconds"]:
            # What the API lets pass.
            chunk = what["chunk"] if what["chunk"] == AUTO_CHUNK else 1
            what = what | {"inputs": builders.items("x", "y"), "chunk": chunk, "max_failures": None}
        changes = {key: value for key, value in what.items() if key not in {"inputs", "affine", "waits"}}
        other = self.job(pick)
        if what["waits"] is not None and other is not None:
            changes["after"] = (After(other, what["waits"]),)
        self.world.submit(builders.job(NAMES[self.jobs], what["inputs"], node=node, **changes))
        self.jobs += 1

    @rule(most=st.sampled_from([1, 2, 1000]))
    def turn(self, most):
        """The engine places, links carry, agents start what fits their slots."""
        self.world.place(most)
        for agent in list(self.world.agents.values()):
            self.world.to_agent(agent)
            slots = agent.info.cpus - sum(agent.held.values())
            for key in [key for key, running in agent.held.items() if not running][: max(0, slots)]:
                agent.start(key)
            self.world.from_agent(agent)

    @precondition(lambda self: any(agent.held for agent in self.world.agents.values()))
    @rule(picks=st.lists(PICK, min_size=1, max_size=4), outcome=OUTCOMES, wall=WALLS, heard=st.booleans())
    def work(self, picks, outcome, wall, heard):
        """Some tasks end where they are, linked or not; a short one starts and ends at once."""
        for pick in picks:
            choices = [(agent, key) for agent in self.world.agents.values() for key in agent.held]
            if choices:
                agent, key = choices[pick % len(choices)]
                if not agent.held[key]:
                    agent.start(key)
                agent.end(key, outcome, wall)
        if heard:
            self.world.exchange_all()

    @rule()
    def exchange(self):
        """All that is on the way arrives and is acknowledged."""
        self.world.exchange_all()

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.5, 3.0]))
    def tick(self, seconds):
        for live in self.world.state.nodes.values():
            if live.connected:
                self.world.take(nodes.on_heard(self.world.state, live.node.id, self.world.now))
                self.world.take(
                    nodes.on_heartbeat(self.world.state, live.node.id, NodeLoad(), self.world.now)
                )
        self.world.tick(seconds)

    # Mishaps

    @rule(pick=PICK, kind=st.sampled_from(["cut", "unnoticed", "restart", "wiped", "silent", "away", "part"]))
    def link_trouble(self, pick, kind):
        agent, world = self.agent(pick), self.world
        if kind in {"restart", "wiped"}:
            agent.restart(keeps_outbox=kind == "restart")
        elif kind == "part":
            world.to_agent(agent, 1)
            world.from_agent(agent, 1)
        elif kind != "silent":
            world.cut(agent, noticed=kind != "unnoticed")
        if kind in {"away", "silent"}:
            for seconds in (7.0, 8.0, 5.0):
                for live in world.state.nodes.values():
                    if live.connected and live.node.id != agent.node_id:
                        world.take(nodes.on_heard(world.state, live.node.id, world.now))
                world.tick(seconds)

    @rule(pick=PICK)
    def connect(self, pick):
        self.world.connect(self.agent(pick))

    @rule()
    def connect_all(self):
        for agent in self.world.agents.values():
            if agent.session is None and agent.node_id not in self.world.barred:
                self.world.connect(agent)

    @rule(pick=PICK, kind=st.sampled_from(["on", "off", "now", "leave", "return"]))
    def node_changes_its_mind(self, pick, kind):
        agent, state = self.agent(pick), self.world.state
        if kind == "leave":
            agent.say(wire.Leaving("done"))
        elif kind == "return":
            for key in [key for key, running in agent.held.items() if not running]:
                del agent.held[key]
                agent.say(wire.TaskReturned(*key, reason="no room"))
        else:
            on = kind != "off"
            self.world.take(nodes.on_drain(state, agent.node_id, on=on, at_once=kind == "now"))

    @precondition(lambda self: self.nodes < 6)
    @rule(cpus=st.sampled_from([1, 2, 4]), tags=st.sampled_from([(), ("gpu",)]))
    def enrol(self, cpus, tags):
        name = "n" + NAMES[self.nodes]
        self.nodes += 1
        self.world.connect(self.world.enrol(builders.node(name), builders.info(cpus, tags=tags)))

    @precondition(lambda self: len(self.world.agents) - len(self.world.barred) > 2)
    @rule(pick=PICK, how=st.sampled_from(["revoked", "left", "forgotten"]))
    def bar(self, pick, how):
        agent = self.agent(pick)
        self.world.barred.add(agent.node_id)
        if how == "revoked":
            self.world.take(nodes.on_node_revoked(self.world.state, agent.node_id, self.world.now))
        elif how == "left":
            self.world.take(nodes.on_node_left(self.world.state, agent.node_id, self.world.now))
        else:
            self.world.cut(agent, noticed=True)
            self.world.take(nodes.on_node_forgotten(self.world.state, agent.node_id, self.world.now))
        agent.unlink()

    @rule(pick=PICK, index=st.integers(0, 7), whole=st.sampled_from([True, False, False]))
    def cancel(self, pick, index, whole):
        job_id, state, now = self.job(pick), self.world.state, self.world.now
        if job_id is not None and whole:
            self.world.take(jobs.on_cancel(state, job_id, "enough", now))
        elif job_id is not None:
            self.world.take(jobs.on_cancel_task(state, job_id, index, "", now))

    @rule(pick=PICK, count=st.integers(1, 3), shift=st.sampled_from([0, 0, 0, 1, -1]))
    def add_inputs(self, pick, count, shift):
        """To a job that lingers; others, and who is out of date, are refused."""
        state, job_id = self.world.state, self.job(pick)
        if job_id is None:
            return
        known = state.jobs[job_id].job.spec.inputs.count
        items = tuple(f"m{known + number}" for number in range(count))
        try:
            effects = lingering.on_inputs_added(state, job_id, items, known + shift)
        except Conflict:
            return
        self.world.take(effects)
        self.world.specs[job_id] = state.jobs[job_id].job
        assert lingering.on_inputs_added(state, job_id, items, known) == []

    @rule(pick=PICK, gained=st.sampled_from(FILES), lost=st.sampled_from([None, *FILES]))
    def fetch(self, pick, gained, lost):
        """The agent's cache changes."""
        dropped = () if lost is None else (lost.digest,)
        self.world.take(
            nodes.on_blobs_held(self.world.state, self.agent(pick).node_id, (gained.digest,), dropped)
        )

    @rule(pick=PICK)
    def lag(self, pick):
        """One task ends well, and the others go on for long: some run a second time."""
        choices = [(agent, key) for agent in self.world.agents.values() for key in agent.held]
        if choices:
            agent, key = choices[pick % len(choices)]
            if not agent.held[key]:
                agent.start(key)
            agent.end(key, Outcome.OK, 0.01)
        for _pass in range(2):
            self.turn(1000)
            self.tick(1.5)
        self.turn(1000)

    @rule(pick=PICK, paused=st.booleans())
    def hold_back(self, pick, paused):
        job_id, state, now = self.job(pick), self.world.state, self.world.now
        if job_id is not None:
            happen = jobs.on_paused(state, job_id, now) if paused else jobs.on_resumed(state, job_id)
            self.world.take(happen)

    @rule(pick=PICK, priority=st.integers(0, 2), most=st.sampled_from([None, 0, 1, 2]))
    def edit(self, pick, priority, most):
        job_id = self.job(pick)
        if job_id is not None:
            self.world.take(jobs.on_edited(self.world.state, job_id, Edits(priority, most)))

    @rule(pick=PICK, whose=PICK, shift=st.integers(-1, 1), outcome=OUTCOMES, wall=ODD_WALLS)
    def nonsense(self, pick, whose, shift, outcome, wall):
        """A liar speaks of attempts that are not its own: nothing happens."""
        agent, keys = self.agent(whose), list(self.world.runs)
        if not keys:
            return
        job_id, index, attempt = keys[pick % len(keys)]
        key = (job_id, index, attempt + shift)
        if self.world.runs.get(key) == agent.node_id:
            return
        result = wire.TaskResult(*key, outcome, wall_seconds=wall)
        for message in (wire.TaskStarted(*key), wire.TaskReturned(*key), result):
            assert self.world.react(agent.node_id, message) == []

    @rule(pick=PICK)
    def repeat(self, pick):
        """An end that was acknowledged comes once more (the acknowledgement was lost)."""
        ended = sorted(self.world.disk.ended)
        if not ended:
            return
        job_id, index = ended[pick % len(ended)]
        row = self.world.disk.ended[job_id, index]
        if row.node_id in self.world.state.nodes:
            result = wire.TaskResult(job_id, index, row.attempt, Outcome.OK)
            assert self.world.react(row.node_id, result) == []

    @rule(seconds=st.sampled_from([5.0, 7.0, 16.0, 70.0, 1e6]), woken=st.booleans())
    def jump(self, seconds, woken):
        self.world.tick(seconds, woken=woken)
        if woken:
            assert all(
                live.node.state is not NodeState.OFFLINE or live.session is None
                for live in self.world.state.nodes.values()
            )

    @rule()
    def restart_coordinator(self):
        self.world.restart_coordinator()

    @invariant()
    def holds_together(self):
        self.world.verify()

    def teardown(self):
        if sys.exc_info()[0] is not None:
            return  # a step has failed already
        self.world.heal()
        self.world.verify_ends()


def test_any_order():
    run_state_machine_as_test(AnyOrder, settings=settings(max_examples=80, stateful_step_count=40))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_any_order_for_long():
    run_state_machine_as_test(
        AnyOrder, settings=settings(max_examples=600, stateful_step_count=80, derandomize=False)
    )
