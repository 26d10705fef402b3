"""What happens to the world: work, people who change their minds, and mishaps. One function each.

To add a stimulus write a function that takes the world and name it in `STIMULI` with how often it comes.
Whatever lasts puts its own mending on the timeline; `World.heal` mends all that is left in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import sim_people
from sim_agent import AgentMachine
from sim_coordinator import SimEngine
from sim_world import World

from planetmesh.mesh import effects as fx
from planetmesh.mesh import jobs, nodes
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId
from planetmesh.model.job import After, Condition
from planetmesh.wire.api import ChangeJob

YEAR = 365 * 86400.0
JOBS_MOST = 12
"""Jobs at the same time: each step looks at all of them."""


def _some_agent(world: World) -> AgentMachine | None:
    """One that belongs to the mesh."""
    known = [agent for agent in world.agents if agent.node_id not in world.revoked]
    return world.random.choice(known) if known else None


def _some_job(world: World) -> JobId | None:
    engine = world.coordinator.engine
    known = list(engine.state.jobs) if engine is not None else []
    return world.random.choice(known) if known else None


def _a_while(world: World) -> float:
    """Mostly a blip, sometimes minutes, seldom hours."""
    return world.random.choice((0.3, 3.0, 10.0, 40.0, 40.0, 200.0, 3000.0)) * world.random.uniform(0.3, 1.5)


# Work and people


def jobs_come(world: World) -> None:
    if world.open_orders > JOBS_MOST:
        return
    for _ in range(world.random.choice((1, 1, 2, 5))):
        world.submit()


def chain_comes(world: World) -> None:
    """Jobs that wait for one that lives, and perhaps waits too."""
    job_id = _some_job(world)
    if job_id is None or world.open_orders > JOBS_MOST:
        return
    for _ in range(world.random.choice((1, 1, 3))):
        world.submit(behind=job_id)


def job_cancelled(world: World) -> None:
    job_id = _some_job(world)
    if job_id is not None:
        world.cancel(job_id, "enough")


def task_cancelled(world: World) -> None:
    job_id = _some_job(world)
    engine = world.coordinator.engine
    if job_id is None or engine is None:
        return
    index = world.random.randrange(engine.state.jobs[job_id].total)

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
    job_id = _some_job(world)
    if job_id is None:
        return
    world.ask(sim_people.change(world, job_id, ChangeJob(paused=True)))
    if world.random.random() < 0.8:
        resume = sim_people.change(world, job_id, ChangeJob(paused=False))
        world.timeline.after(_a_while(world), lambda: world.ask(resume))


def job_edited(world: World) -> None:
    """Also what it waits for, as long as it waits; a circle is refused."""
    job_id, other = _some_job(world), _some_job(world)
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
    job_id = world.random.choice((*known, *known[-2:]))
    for _ in range(world.random.choice((1, 1, 1, 2))):
        world.ask(sim_people.retry(world, job_id))


def node_drained(world: World) -> None:
    agent = _some_agent(world)
    if agent is None:
        return
    at_once = world.random.random() < 0.5
    world.note(f"{agent.name} is drained{' at once' if at_once else ''}")
    world.ask(world.draining(agent.node_id, on=True, at_once=at_once))
    if world.random.random() < 0.8:
        world.timeline.after(_a_while(world), lambda: world.ask(world.draining(agent.node_id, on=False)))


def node_described(world: World) -> None:
    """Tags decide who fits."""
    agent = _some_agent(world)
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
    agent = _some_agent(world)
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
            return nodes.on_node_revoked(state, node_id, "An operator took it out of the mesh.", now)

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
        world.timeline.after(_a_while(world), world.add_agent)


# Mishaps of agents


def agent_killed(world: World) -> None:
    agent = _some_agent(world)
    if agent is not None and agent.loop is not None:
        world.note(f"{agent.name} is killed")
        world.crash_agent(agent)


def agent_loses_power(world: World) -> None:
    agent = _some_agent(world)
    if agent is None or agent.loop is None:
        return
    world.note(f"{agent.name} loses power")
    agent.cut_power()

    def back() -> None:
        if not agent.has_power:
            world.note(f"{agent.name} has power again")
            world.network.off.discard(agent)
            agent.wake()
            agent.start()
            world.network.go_on()

    world.timeline.after(_a_while(world), back)


def agent_restarted(world: World) -> None:
    """Told to stop: running tasks have a moment, the rest is given back. Sometimes told twice."""
    agent = _some_agent(world)
    if agent is None or agent.loop is None:
        return
    world.note(f"{agent.name} is restarted")
    stops = agent.stops
    stops.tell()
    if world.random.random() < 0.3:
        world.timeline.after(world.random.uniform(0.0, 5.0), stops.tell)
    world.timeline.after(_a_while(world) + 20.0, agent.start)


def agent_orphaned(world: World) -> None:
    """Whoever started it is gone: it ends what runs and takes nothing new."""
    agent = _some_agent(world)
    if agent is not None and agent.loop is not None:
        world.note(f"{agent.name} is orphaned")
        agent.stops.orphan()


def agent_sleeps(world: World) -> None:
    agent = _some_agent(world)
    if agent is None or agent.is_asleep:
        return
    seconds, clock_runs = _a_while(world), world.random.random() < 0.4
    world.note(f"{agent.name} sleeps for {seconds:.0f} s")
    agent.sleep(clock_runs=clock_runs)

    def back() -> None:
        agent.wake()
        world.network.go_on()

    world.timeline.after(seconds, back)


def agent_clock_jumps(world: World) -> None:
    agent = _some_agent(world)
    if agent is not None:
        agent.wall_offset += world.random.choice((-YEAR, YEAR, -3600.0, 3600.0, 5.0))
        world.note(f"the clock of {agent.name} jumps")


def agent_disk_full(world: World) -> None:
    agent = _some_agent(world)
    if agent is None or agent.folder.is_full:
        return
    world.note(f"the disk of {agent.name} is full")
    folder = agent.folder
    folder.is_full = True
    world.timeline.after(_a_while(world), lambda: setattr(folder, "is_full", False))


def agent_cannot_launch(world: World) -> None:
    agent = _some_agent(world)
    if agent is None:
        return
    world.note(f"no launcher can be opened on {agent.name}")
    agent.cannot_launch = True
    world.timeline.after(_a_while(world), lambda: setattr(agent, "cannot_launch", False))


def home_copied(world: World) -> None:
    """A second machine with the same identity, from a copied home or disk."""
    agent = _some_agent(world)
    if agent is None or agent.is_copy or any(each.is_copy for each in world.agents):
        return
    info = world.new_info(f"copy{len(world.agents)}")
    if world.random.random() < 0.3:
        info = agent.info  # a cloned disk has the machine's own number too
    copy = AgentMachine(world, f"copy of {agent.name}", agent.node_id, info)
    copy.is_copy = True
    copy.folder = agent.folder.copy(f"{world.seed}/copy")
    world.note(f"the home of {agent.name} is copied")
    world.agents.append(copy)
    copy.start()

    def removed() -> None:
        world.note(f"{copy.name} is removed")
        copy.stop()
        copy.ended = "removed"
        world.agents.remove(copy)
        agent.start()

    world.timeline.after(_a_while(world) + 5.0, removed)


# Mishaps of the coordinator


def coordinator_killed(world: World) -> None:
    coordinator = world.coordinator
    if coordinator.loop is None:
        return
    world.note("the coordinator is killed")
    coordinator.stop()
    world.timeline.after(world.random.choice((0.5, 3.0, 30.0, 600.0)), coordinator.start)


def coordinator_loses_power(world: World) -> None:
    coordinator = world.coordinator
    if coordinator.loop is None:
        return
    world.note("the coordinator loses power")
    coordinator.cut_power()

    def back() -> None:
        if coordinator in world.network.off:
            world.network.off.discard(coordinator)
            coordinator.wake()
            coordinator.start()
            world.network.go_on()

    world.timeline.after(_a_while(world), back)


def coordinator_dies_asked(world: World) -> None:
    """In the very moment in which somebody wants something: before, while or after it is written."""
    people = (jobs_come, job_cancelled, job_held_back, job_edited, job_retried, job_retried)
    for _ in range(world.random.choice((1, 3))):
        world.random.choice(people)(world)
    death = world.random.choice((coordinator_killed, coordinator_loses_power))
    world.timeline.after(world.random.uniform(0.0, 0.006), lambda: death(world))


def coordinator_sleeps(world: World) -> None:
    coordinator = world.coordinator
    if coordinator.is_asleep:
        return
    seconds, clock_runs = _a_while(world), world.random.random() < 0.4
    world.note(f"the coordinator sleeps for {seconds:.0f} s")
    coordinator.sleep(clock_runs=clock_runs)

    def back() -> None:
        world.note("the coordinator wakes")
        coordinator.wake()
        world.network.go_on()

    world.timeline.after(seconds, back)


def coordinator_clock_jumps(world: World) -> None:
    world.coordinator.wall_offset += world.random.choice((-YEAR, YEAR, -3600.0, 3600.0, 5.0))
    world.note("the coordinator's clock jumps")


def coordinator_disk_full(world: World) -> None:
    disk = world.coordinator.disk
    if not disk.is_full:
        world.note("the coordinator's disk is full")
        disk.is_full = True
        world.timeline.after(_a_while(world), lambda: setattr(disk, "is_full", False))


def coordinator_disk_slow(world: World) -> None:
    disk = world.coordinator.disk
    if not disk.slow_seconds:
        disk.slow_seconds = world.random.choice((0.2, 2.0, 8.0))
        world.note(f"a commit takes up to {disk.slow_seconds} s")
        world.timeline.after(_a_while(world), lambda: setattr(disk, "slow_seconds", 0.0))


# Mishaps of the network


def link_cut(world: World) -> None:
    """One machine is cut off, in one direction or in both."""
    agent = _some_agent(world)
    if agent is None:
        return
    one, other, network = agent, world.coordinator, world.network
    ways = world.random.choice((((one, other),), ((other, one),), ((one, other), (other, one))))
    world.note(f"{' and '.join(f'{a.name} -> {b.name}' for a, b in ways)} is cut")
    for way in ways:
        network.cut(*way)
    if world.random.random() < 0.8:
        world.timeline.after(_a_while(world), lambda: [network.mend(*way) for way in ways])


def all_cut(world: World) -> None:
    """The switch is off."""
    network = world.network
    ways = [way for agent in world.agents for way in ((agent, world.coordinator), (world.coordinator, agent))]
    world.note("the network is down")
    for way in ways:
        network.cut(*way)
    world.timeline.after(_a_while(world), lambda: [network.mend(*way) for way in ways])


def way_slow(world: World) -> None:
    agent = _some_agent(world)
    if agent is None:
        return
    seconds = world.random.choice((0.3, 2.0, 10.0))
    world.note(f"all to and from {agent.name} takes up to {seconds} s")
    world.network.slow[agent] = seconds
    world.timeline.after(_a_while(world), lambda: world.network.slow.pop(agent, None))


def link_reset(world: World) -> None:
    """Somebody between the two breaks the connections of a machine; what is on the way is lost or late."""
    agent = _some_agent(world)
    if agent is not None:
        world.note(f"the connections of {agent.name} are broken")
        world.network.break_links(agent, both=world.random.random() < 0.5)


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
    Stimulus(task_cancelled, 2),
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
