"""What goes wrong with agents, the coordinator and the network between them. One function each.

Whatever lasts puts its own mending on the timeline; `World.heal` mends all that is left in the end.
"""

from __future__ import annotations

from sim_agent import AgentMachine
from sim_world import World

YEAR = 365 * 86400.0


# Mishaps of agents


def agent_killed(world: World) -> None:
    agent = world.some_agent()
    if agent is not None and agent.loop is not None:
        world.note(f"{agent.name} is killed")
        world.crash_agent(agent)


def agent_loses_power(world: World) -> None:
    agent = world.some_agent()
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

    world.timeline.after(world.a_while(), back)


def agent_restarted(world: World) -> None:
    """Told to stop: running tasks have a moment, the rest is given back. Sometimes told twice."""
    agent = world.some_agent()
    if agent is None or agent.loop is None:
        return
    world.note(f"{agent.name} is restarted")
    stops = agent.stops
    stops.tell()
    if world.random.random() < 0.3:
        world.timeline.after(world.random.uniform(0.0, 5.0), stops.tell)
    world.timeline.after(world.a_while() + 20.0, agent.start)


def agent_stopped_unlinked(world: World) -> None:
    """Told to stop at once while its link is down, so that what it has to say of its tasks comes late."""
    agent = world.some_agent()
    if agent is None or agent.loop is None:
        return
    world.note(f"{agent.name} is told to stop while its link is down")
    network, coordinator, stops = world.network, world.coordinator, agent.stops
    network.break_links(agent, both=True)
    ways = ((agent, coordinator), (coordinator, agent))
    for way in ways:
        network.cut(*way)
    seconds = world.random.uniform(0.2, 3.0)
    for _ in range(2):
        world.timeline.after(world.random.uniform(0.0, seconds), stops.tell)
    world.timeline.after(seconds, lambda: [network.mend(*way) for way in ways])
    world.timeline.after(world.a_while() + 20.0, agent.start)


def agent_orphaned(world: World) -> None:
    """Whoever started it is gone: it ends what runs and takes nothing new."""
    agent = world.some_agent()
    if agent is not None and agent.loop is not None:
        world.note(f"{agent.name} is orphaned")
        agent.stops.orphan()


def agent_sleeps(world: World) -> None:
    agent = world.some_agent()
    if agent is None or agent.is_asleep:
        return
    seconds, clock_runs = world.a_while(), world.random.random() < 0.4
    world.note(f"{agent.name} sleeps for {seconds:.0f} s")
    agent.sleep(clock_runs=clock_runs)

    def back() -> None:
        agent.wake()
        world.network.go_on()

    world.timeline.after(seconds, back)


def agent_clock_jumps(world: World) -> None:
    agent = world.some_agent()
    if agent is not None:
        agent.wall_offset += world.random.choice((-YEAR, YEAR, -3600.0, 3600.0, 5.0))
        world.note(f"the clock of {agent.name} jumps")


def agent_disk_full(world: World) -> None:
    agent = world.some_agent()
    if agent is None or agent.folder.is_full:
        return
    world.note(f"the disk of {agent.name} is full")
    folder = agent.folder
    folder.is_full = True
    world.timeline.after(world.a_while(), lambda: setattr(folder, "is_full", False))


def agent_cannot_launch(world: World) -> None:
    agent = world.some_agent()
    if agent is None:
        return
    world.note(f"no launcher can be opened on {agent.name}")
    agent.cannot_launch = True
    world.timeline.after(world.a_while(), lambda: setattr(agent, "cannot_launch", False))


def home_copied(world: World) -> None:
    """A second machine with the same identity, from a copied home or disk."""
    agent = world.some_agent()
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

    world.timeline.after(world.a_while() + 5.0, removed)


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

    world.timeline.after(world.a_while(), back)


def coordinator_sleeps(world: World) -> None:
    coordinator = world.coordinator
    if coordinator.is_asleep:
        return
    seconds, clock_runs = world.a_while(), world.random.random() < 0.4
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
        world.timeline.after(world.a_while(), lambda: setattr(disk, "is_full", False))


def coordinator_disk_slow(world: World) -> None:
    disk = world.coordinator.disk
    if not disk.slow_seconds:
        disk.slow_seconds = world.random.choice((0.2, 2.0, 8.0))
        world.note(f"a commit takes up to {disk.slow_seconds} s")
        world.timeline.after(world.a_while(), lambda: setattr(disk, "slow_seconds", 0.0))


# Mishaps of the network


def link_cut(world: World) -> None:
    """One machine is cut off, in one direction or in both."""
    agent = world.some_agent()
    if agent is None:
        return
    one, other, network = agent, world.coordinator, world.network
    ways = world.random.choice((((one, other),), ((other, one),), ((one, other), (other, one))))
    world.note(f"{' and '.join(f'{a.name} -> {b.name}' for a, b in ways)} is cut")
    for way in ways:
        network.cut(*way)
    if world.random.random() < 0.8:
        world.timeline.after(world.a_while(), lambda: [network.mend(*way) for way in ways])


def all_cut(world: World) -> None:
    """The switch is off."""
    network = world.network
    ways = [way for agent in world.agents for way in ((agent, world.coordinator), (world.coordinator, agent))]
    world.note("the network is down")
    for way in ways:
        network.cut(*way)
    world.timeline.after(world.a_while(), lambda: [network.mend(*way) for way in ways])


def way_slow(world: World) -> None:
    agent = world.some_agent()
    if agent is None:
        return
    seconds = world.random.choice((0.3, 2.0, 10.0))
    world.note(f"all to and from {agent.name} takes up to {seconds} s")
    world.network.slow[agent] = seconds
    world.timeline.after(world.a_while(), lambda: world.network.slow.pop(agent, None))


def link_reset(world: World) -> None:
    """Somebody between the two breaks the connections of a machine; what is on the way is lost or late."""
    agent = world.some_agent()
    if agent is not None:
        world.note(f"the connections of {agent.name} are broken")
        world.network.break_links(agent, both=world.random.random() < 0.5)
