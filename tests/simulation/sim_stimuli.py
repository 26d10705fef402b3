"""What happens to the world: work, people who change their minds, and mishaps (those in `sim_mishaps`).

To add a stimulus write a function that takes the world and name it in `STIMULI` with how often it comes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import sim_people
from sim_coordinator import SimEngine
from sim_mishaps import (
    agent_cannot_launch,
    agent_clock_jumps,
    agent_disk_full,
    agent_killed,
    agent_loses_power,
    agent_orphaned,
    agent_restarted,
    agent_sleeps,
    agent_stopped_unlinked,
    all_cut,
    coordinator_clock_jumps,
    coordinator_disk_full,
    coordinator_disk_slow,
    coordinator_killed,
    coordinator_loses_power,
    coordinator_sleeps,
    home_copied,
    link_cut,
    link_reset,
    way_slow,
)
from sim_world import World

from planetmesh.mesh import effects as fx
from planetmesh.mesh import jobs, nodes
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.job import After, Condition
from planetmesh.wire.api import ChangeJob

JOBS_MOST = 12
"""Jobs at the same time: each step looks at all of them."""


# Work and people


def jobs_come(world: World) -> None:
    if world.open_orders > JOBS_MOST:
        return
    for _ in range(world.random.choice((1, 1, 2, 5))):
        world.submit()


def chain_comes(world: World) -> None:
    """Jobs that wait for one that lives, and perhaps waits too; most likely for one that will fail."""
    job_id, engine = world.some_job(), world.coordinator.engine
    failing = [each for each, live in engine.state.jobs.items() if live.counts.failed] if engine else []
    if failing and world.random.random() < 0.8:
        job_id = world.random.choice(failing)
    if job_id is None or world.open_orders > JOBS_MOST:
        return
    for _ in range(world.random.choice((1, 1, 3))):
        world.submit(behind=job_id)


def job_cancelled(world: World) -> None:
    job_id = world.some_job()
    if job_id is not None:
        world.cancel(job_id, "enough")


def task_cancelled(world: World) -> None:
    """Anywhere in the job, or just before its turn, where the next chunk would be cut."""
    job_id, engine = world.some_job(), world.coordinator.engine
    if job_id is None or engine is None:
        return
    cut_later = [each for each, live in engine.state.jobs.items() if live.is_auto and live.untouched > 1]
    if cut_later and world.random.random() < 0.7:
        job_id = world.random.choice(cut_later)
    job = engine.state.jobs[job_id]
    index = world.random.randrange(job.total)
    if world.random.random() < 0.5 and job.untouched > 1:
        index = min(job.next_index + world.random.choice((1, 2, 3, 5)), job.total - 1)

    async def cancel(engine: SimEngine) -> None:
        def happen(state: MeshState, now: Moment) -> fx.Effects:
            if job_id not in state.jobs:
                return []
            return jobs.on_cancel_task(state, job_id, index, "", now)

        await engine.do(happen)

    world.note(f"somebody cancels {job_id}/{index}")
    world.ask(cancel)


def job_held_back(world: World) -> None:
    """Paused, and most likely resumed."""
    job_id = world.some_job()
    if job_id is None:
        return
    world.ask(sim_people.change(world, job_id, ChangeJob(paused=True)))
    if world.random.random() < 0.8:
        resume = sim_people.change(world, job_id, ChangeJob(paused=False))
        world.timeline.after(world.a_while(), lambda: world.ask(resume))


def job_edited(world: World) -> None:
    """Also what it waits for, as long as it waits; a circle is refused."""
    job_id, other = world.some_job(), world.some_job()
    if job_id is None or other is None:
        return
    after = world.random.choice((None, None, (), (After(other, world.random.choice(tuple(Condition))),)))
    limit = world.random.choice((None, 0, 1, 3))
    paused = world.random.choice((None, None, None, True, False))
    asked = ChangeJob(world.random.randint(-2, 2), limit, paused, after)
    world.ask(sim_people.change(world, job_id, asked))


def job_retried(world: World) -> None:
    """Its failed tasks once more: soon after they failed, or long after; sometimes by two people at once."""
    known = list(world.truth.failed_jobs())
    if not known or world.open_orders > JOBS_MOST:
        return
    causes = [job.dropped_for for job in world.truth.job_rows.values() if job.dropped_for]
    job_id = world.random.choice((*known, *known[-2:], *causes))
    for _ in range(world.random.choice((1, 1, 1, 2))):
        world.ask(sim_people.retry(world, job_id))


def node_drained(world: World) -> None:
    agent = world.some_agent()
    if agent is None:
        return
    at_once = world.random.random() < 0.5
    world.note(f"{agent.name} is drained{' at once' if at_once else ''}")
    world.ask(world.draining(agent.node_id, on=True, at_once=at_once))
    if world.random.random() < 0.8:
        world.timeline.after(world.a_while(), lambda: world.ask(world.draining(agent.node_id, on=False)))


def node_described(world: World) -> None:
    """Tags decide who fits."""
    agent = world.some_agent()
    if agent is None:
        return
    tags = world.random.choice(((), ("fast",), ("gpu", "fast")))

    async def describe(engine: SimEngine) -> None:
        def happen(state: MeshState, _now: Moment) -> fx.Effects:
            if agent.node_id not in state.nodes:
                return []
            return nodes.on_node_described(state, agent.node_id, None, tags)

        await engine.do(happen)

    world.ask(describe)


def node_joins(world: World) -> None:
    if len(world.agents) < 9:
        world.note("a new machine is paired")
        world.add_agent()


def node_thrown_out(world: World) -> None:
    """Revoked, and later forgotten; perhaps the machine is paired anew."""
    agent = world.some_agent()
    left = [each for each in world.agents if each.node_id not in world.revoked]
    if agent is None or len(left) < 3 or agent.is_copy:
        return
    node_id = agent.node_id
    world.note(f"{agent.name} is revoked")
    world.revoked.add(node_id)

    async def revoke(engine: SimEngine) -> None:
        def happen(state: MeshState, now: Moment) -> fx.Effects:
            if node_id not in state.nodes:
                return []
            return nodes.on_node_revoked(state, node_id, now)

        await engine.do(happen)

    async def forget(engine: SimEngine) -> None:
        def happen(state: MeshState, now: Moment) -> fx.Effects:
            if node_id not in state.nodes:
                return []
            return nodes.on_node_forgotten(state, node_id, now)

        await engine.do(happen)

    world.ask(revoke, until_done=True)
    if world.random.random() < 0.5:
        world.timeline.after(world.random.uniform(30.0, 600.0), lambda: world.ask(forget, until_done=True))
    if world.random.random() < 0.5:
        world.timeline.after(world.a_while(), world.add_agent)


def coordinator_dies_asked(world: World) -> None:
    """In the very moment in which somebody wants something: before, while or after it is written."""
    people = (jobs_come, job_cancelled, job_held_back, job_edited, job_retried, job_retried)
    for _ in range(world.random.choice((1, 3))):
        world.random.choice(people)(world)
    death = world.random.choice((coordinator_killed, coordinator_loses_power))
    world.timeline.after(world.random.uniform(0.0, 0.006), lambda: death(world))


class Stimulus(NamedTuple):
    act: Callable[[World], None]
    weight: float

    @property
    def name(self) -> str:
        return self.act.__name__.replace("_", " ")


STIMULI = (
    Stimulus(jobs_come, 10),
    Stimulus(chain_comes, 3),
    Stimulus(job_cancelled, 2),
    Stimulus(task_cancelled, 3),
    Stimulus(job_held_back, 1),
    Stimulus(job_edited, 2),
    Stimulus(job_retried, 5),
    Stimulus(node_drained, 2),
    Stimulus(node_described, 0.5),
    Stimulus(node_joins, 0.5),
    Stimulus(node_thrown_out, 0.3),
    Stimulus(agent_killed, 2),
    Stimulus(agent_loses_power, 2),
    Stimulus(agent_restarted, 1),
    Stimulus(agent_stopped_unlinked, 1),
    Stimulus(agent_orphaned, 0.3),
    Stimulus(agent_sleeps, 2),
    Stimulus(agent_clock_jumps, 0.5),
    Stimulus(agent_disk_full, 0.7),
    Stimulus(agent_cannot_launch, 0.7),
    Stimulus(home_copied, 0.4),
    Stimulus(coordinator_killed, 2),
    Stimulus(coordinator_loses_power, 1),
    Stimulus(coordinator_dies_asked, 2),
    Stimulus(coordinator_sleeps, 1),
    Stimulus(coordinator_clock_jumps, 0.5),
    Stimulus(coordinator_disk_full, 1),
    Stimulus(coordinator_disk_slow, 1.5),
    Stimulus(link_cut, 3),
    Stimulus(all_cut, 0.7),
    Stimulus(way_slow, 2),
    Stimulus(link_reset, 2),
)


def mishaps(world: World) -> None:
    """Draw when what happens, until the hours are over. Some seeds are calm, some are not."""
    names = {stimulus.name: stimulus for stimulus in STIMULI}
    # Each seed leaves some kinds out, so that others are seen by themselves.
    kept = [each for each in names.values() if each.act is jobs_come or world.random.random() < 0.6]
    weights = [each.weight for each in kept]
    pause = world.random.choice((10.0, 30.0, 90.0, 240.0)) * world.settings.heartbeat_seconds / 2.0

    def happen() -> None:
        stimulus = world.random.choices(kept, weights)[0]
        world.counted[stimulus.name] += 1
        stimulus.act(world)
        when = world.timeline.now + world.random.expovariate(1.0 / pause)
        if when < world.seconds:
            world.timeline.at(when, happen)

    for _ in range(3):
        world.submit()
    world.timeline.after(world.random.expovariate(1.0 / pause), happen)
