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

from planetmesh.mesh import nodes, reactor
from planetmesh.model.job import Outcome
from planetmesh.model.node import NodeLoad, NodeState
from planetmesh.wire import agent as wire

NAMES = "abcdefghjkmnpqrstvwxyz"
PICK = st.integers(0, 1_000_000)
"""Chooses one of what is there, whatever there is."""
INPUTS = st.one_of(st.integers(1, 6), st.just(builders.items("x", "y", "z")))
OUTCOMES = st.sampled_from([
    *[Outcome.OK] * 6, Outcome.EXIT_CODE, Outcome.TIMED_OUT, Outcome.NOT_FOUND, Outcome.STAGING,
    Outcome.LOST, Outcome.CANCELLED, Outcome.RETURNED,
])  # fmt: skip
WALLS = st.sampled_from([0.0, 0.001, 0.01, 5.0])
ODD_WALLS = st.sampled_from([0.01, -1.0, 1e300, float("nan"), float("inf")])


class AnyOrder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.jobs = 0
        self.nodes = 0

    @initialize(cpus=st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=3))
    def begin(self, cpus):
        for each in cpus:
            self.enrol(each, ())
        for agent in self.world.agents.values():
            self.world.connect(agent)

    # Picking

    def agent(self, pick: int) -> Agent | None:
        well = [each for each in self.world.agents.values() if each.node_id not in self.world.barred]
        return well[pick % len(well)] if well else None

    def linked(self, pick: int) -> Agent | None:
        linked = [agent for agent in self.world.agents.values() if agent.session is not None]
        return linked[pick % len(linked)] if linked else None

    # Jobs

    @precondition(lambda self: self.jobs < len(NAMES))
    @rule(
        inputs=INPUTS,
        priority=st.integers(0, 1),
        cpus=st.sampled_from([0.5, 1, 1, 2]),
        tags=st.sampled_from([(), (), (), ("gpu",)]),
        max_running=st.sampled_from([None, None, 1, 2]),
        at_most_once=st.booleans(),
        max_attempts=st.integers(1, 3),
        partial=st.booleans(),
        kind=st.sampled_from(["command", "command", "script"]),
        affinity=st.sampled_from([False, False, False, True]),
        pick=PICK,
    )
    def submit(self, inputs, cpus, affinity, pick, kind, **changes):
        agent = self.agent(pick) if affinity else None
        job = builders.job(
            NAMES[self.jobs], inputs, type=kind, requests=builders.resources(cpus),
            node=agent.node_id if agent else None, **changes,
        )  # fmt: skip
        self.jobs += 1
        self.world.submit(job)

    @rule(pick=PICK)
    def cancel(self, pick):
        jobs = list(self.world.state.jobs)
        if jobs:
            self.world.take(
                reactor.on_cancel(self.world.state, jobs[pick % len(jobs)], "enough", self.world.now)
            )

    @rule(pick=PICK, index=st.integers(0, 7))
    def cancel_task(self, pick, index):
        jobs = list(self.world.state.jobs)
        if jobs:
            self.world.take(
                reactor.on_cancel_task(self.world.state, jobs[pick % len(jobs)], index, "", self.world.now)
            )

    @rule(most=st.sampled_from([1, 2, 1000]))
    def place(self, most):
        self.world.place(most)

    # Nodes

    @precondition(lambda self: self.nodes < 5)
    @rule(cpus=st.sampled_from([1, 2, 4]), tags=st.sampled_from([(), ("gpu",)]))
    def enrol(self, cpus, tags):
        name = "n" + NAMES[self.nodes]
        self.nodes += 1
        self.world.enrol(builders.node(name), builders.info(cpus, tags=tags))

    @rule(pick=PICK)
    def connect(self, pick):
        agent = self.agent(pick)
        if agent is not None:
            self.world.connect(agent)

    @rule(pick=PICK, noticed=st.booleans())
    def cut(self, pick, noticed):
        agent = self.linked(pick)
        if agent is not None:
            self.world.cut(agent, noticed=noticed)

    @rule(pick=PICK, keeps_outbox=st.sampled_from([True, True, False]), again=st.booleans())
    def restart_agent(self, pick, keeps_outbox, again):
        agent = self.agent(pick)
        if agent is not None:
            agent.restart(keeps_outbox=keeps_outbox)
            if again:
                self.world.connect(agent)

    @rule(pick=PICK, on=st.booleans(), at_once=st.booleans())
    def drain(self, pick, on, at_once):
        agent = self.agent(pick)
        if agent is not None:
            self.world.take(nodes.on_drain(self.world.state, agent.node_id, on=on, at_once=at_once))

    @rule(pick=PICK)
    def leave(self, pick):
        agent = self.linked(pick)
        if agent is not None and agent.node_id in self.world.state.nodes:
            agent.from_agent.append(wire.Leaving("done"))

    @precondition(lambda self: len(self.world.agents) > 2)
    @rule(pick=PICK)
    def revoke(self, pick):
        agent = self.agent(pick)
        if agent is not None:
            self.world.barred.add(agent.node_id)
            self.world.take(nodes.on_node_revoked(self.world.state, agent.node_id, "stolen", self.world.now))
            agent.unlink()

    @precondition(lambda self: len(self.world.agents) > 2)
    @rule(pick=PICK)
    def forget(self, pick):
        gone = [live for live in self.world.state.nodes.values() if not live.connected]
        if gone:
            node_id = gone[pick % len(gone)].node.id
            self.world.barred.add(node_id)
            self.world.agents[node_id].unlink()
            self.world.take(nodes.on_node_forgotten(self.world.state, node_id, self.world.now))

    # Work

    @rule(pick=PICK, most=st.sampled_from([1, 3, 1000]))
    def carry_to_agent(self, pick, most):
        agent = self.linked(pick)
        if agent is not None:
            self.world.to_agent(agent, most)

    @rule(pick=PICK, most=st.sampled_from([1, 3, 1000]), acknowledged=st.booleans())
    def carry_from_agent(self, pick, most, acknowledged):
        agent = self.linked(pick)
        if agent is not None:
            self.world.from_agent(agent, most)
            if acknowledged:
                self.world.acknowledge(agent)

    @rule()
    def carry_all(self):
        for agent in list(self.world.agents.values()):
            self.world.to_agent(agent)
            for key in [key for key, running in agent.held.items() if not running][:2]:
                agent.start(key)
            self.world.from_agent(agent)

    @rule(pick=PICK, outcome=OUTCOMES, wall=WALLS)
    def work(self, pick, outcome, wall):
        """Something that some agent has starts, or ends, linked or not."""
        choices = [(agent, key) for agent in self.world.agents.values() for key in agent.held]
        if not choices:
            return
        agent, key = choices[pick % len(choices)]
        if agent.held[key]:
            agent.end(key, outcome, wall)
        else:
            agent.start(key)

    @rule(pick=PICK)
    def give_back(self, pick):
        choices = [
            (agent, key)
            for agent in self.world.agents.values()
            for key, runs in agent.held.items()
            if not runs
        ]
        if choices:
            agent, key = choices[pick % len(choices)]
            del agent.held[key]
            agent.say(wire.TaskReturned(*key, reason="no room"))

    @rule(pick=PICK, whose=PICK, shift=st.integers(-1, 1), outcome=OUTCOMES, wall=ODD_WALLS)
    def nonsense(self, pick, whose, shift, outcome, wall):
        """A liar speaks of attempts that are not its own: nothing happens."""
        agent = self.linked(whose)
        keys = list(self.world.runs)
        if agent is None or not keys or agent.node_id not in self.world.state.nodes:
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

    # Time

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.5, 3.0]))
    def tick(self, seconds):
        for live in self.world.state.nodes.values():
            if live.connected:
                self.world.take(nodes.on_heard(self.world.state, live.node.id, self.world.now))
                self.world.take(
                    nodes.on_heartbeat(self.world.state, live.node.id, NodeLoad(), self.world.now)
                )
        self.world.tick(seconds)

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
        AnyOrder, settings=settings(max_examples=2000, stateful_step_count=80, derandomize=False)
    )
