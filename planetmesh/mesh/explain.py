"""Why a job, a task or a node is as it is, in words, with the next command to type.

The reasons are those of `fitness` and of the tables that the scheduler itself goes by, so what is said here
is what decides. Called by the API for `planetmesh explain`.
"""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

import msgspec

from planetmesh.mesh import fitness, score
from planetmesh.mesh.lifecycle import Phase
from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import NodeId
from planetmesh.model.job import Condition, Task, TaskState, Terms
from planetmesh.model.node import NodeState
from planetmesh.model.resources import NOTHING

NODES_MOST = 200
"""Nodes that one explanation names."""
_HOW = {Condition.SUCCESS: "has succeeded", Condition.FAILURE: "has failed", Condition.END: "has ended"}


class Finding(msgspec.Struct, frozen=True):
    """One reason. `about` is a node's name, or nothing if it is about all of them."""

    sentence: str
    hint: str = ""
    about: str = ""


def job(state: MeshState, live: LiveJob, now: Moment) -> list[Finding]:
    """Why what waits of a live job waits."""
    counts = live.counts
    found = [*held_back(live)]
    if counts.retrying:
        soonest = min(
            (task.retry_at for task in live.tasks.values() if task.state is TaskState.RETRYING),
            default=now.steady,
        )
        left = max(0.0, soonest - now.steady)
        found.append(
            Finding(f"{_tasks(counts.retrying)} failed and will be tried again, the next in {left:.0f} s.")
        )
    if counts.running or counts.assigned:
        ahead = f"; on their way or next in line there: {counts.assigned}" if counts.assigned else ""
        found.append(Finding(f"Running: {_tasks(counts.running)}{ahead}."))
    if counts.queued and not live.is_held and not live.capped:
        found += [*_queue(state, live), *on_nodes(state, live, now)]
    return found


def held_back(live: LiveJob) -> Iterator[Finding]:
    """What keeps a job from being placed anywhere."""
    job_id = live.job.id
    if live.job.paused_at is not None:
        yield Finding("It is paused.", f"planetmesh resume {job_id}")
    for after in live.job.waits:
        yield Finding(f"It runs once job {after.job} {_HOW[after.on]}.", f"planetmesh explain {after.job}")
    if live.capped and not live.is_held:
        most = live.job.max_running
        yield Finding(
            f"Not more than {most} of its tasks run at a time, as was asked for.",
            f"planetmesh edit {job_id} --max-running N",
        )


def _queue(state: MeshState, live: LiveJob) -> Iterator[Finding]:
    """Who comes before it."""
    priority, submitter = live.job.priority, live.job.submitter
    higher = {job_id for key, line in state.queue.items() if key[0] > priority for job_id in line}
    if higher:
        yield Finding(
            f"{_jobs(len(higher))} of a higher priority {'waits' if len(higher) == 1 else 'wait'} too.",
            f"planetmesh edit {live.job.id} --priority N",
        )
    equals = {key[3] for key in state.queue if key[0] == priority} - {submitter}
    if equals:
        others = f"{len(equals)} other submitter{'' if len(equals) == 1 else 's'}"
        used = state.in_use.get(submitter, NOTHING).cpu_millis / 1000
        yield Finding(
            f"Jobs of {others} of the same priority wait; "
            f"who uses least of the mesh comes first, and this one's submitter uses {used:g} CPUs."
        )


def on_nodes(state: MeshState, live: LiveJob, now: Moment) -> Iterator[Finding]:
    """What each node has against the job's next task."""
    if not state.nodes:
        yield Finding("No machine has joined this mesh yet.", "planetmesh code")
    excluded = {node_id for task in live.tasks.values() for node_id in task.excluded}
    for node in list(state.nodes.values())[:NODES_MOST]:
        yield _on_node(live, node, excluded, now)


def _on_node(live: LiveJob, node: LiveNode, excluded: set[NodeId], now: Moment) -> Finding:
    name = node.node.name
    requests = live.job.spec.requests
    reason = fitness.objection(live.signature, node)
    if reason is not None:
        return Finding(_sentence(reason.sentence), reason.hint, name)
    if node.resting_until > now.steady:
        return Finding("It gave work back a moment ago and is left alone for a little.", "", name)
    if not (node.used + requests).fits_in(node.offer):
        return Finding(_sentence(fitness.full(node).sentence), f"planetmesh explain {quote(name)}", name)
    if node.node.id in excluded:
        return Finding("It has room, but failed one of the tasks: others are tried first.", "", name)
    return Finding("It has room, and is asked in the next pass.", "", name)


def task(state: MeshState, live: LiveJob, record: Task, now: Moment) -> list[Finding]:
    """Why a live task is where it is."""
    if record.state is TaskState.QUEUED:
        waits = [Finding(f"It was tried before: {record.error}")] if record.error else []
        return [*waits, *held_back(live), *_queue(state, live), *on_nodes(state, live, now)]
    if record.state is TaskState.RETRYING:
        left = max(0.0, record.retry_at - now.steady)
        then = f"It is tried again in {left:.0f} s, on another machine if there is one."
        return [Finding(f"{record.error} {then}".strip())]
    found = []
    if record.node_id is not None:
        node = state.nodes[record.node_id]
        since = node.held.get(record.key)
        seconds = now.steady - since[1] if since else 0.0
        running = record.state is TaskState.RUNNING
        what = f"has run here for {seconds:.0f} s" if running else f"was given to it {seconds:.0f} s ago"
        found.append(Finding(f"Attempt {record.attempt} {what}.", "", node.node.name))
        if record.terms is not None:
            found.append(Finding(f"It was the cheapest: {terms_in_words(record.terms)}.", "", node.node.name))
    if record.twin_node is not None:
        name = state.nodes[record.twin_node].node.name
        found.append(
            Finding(
                f"It lags, so attempt {record.twin_attempt} runs here too; the first result counts.", "", name
            )
        )
    return found


def terms_in_words(terms: Terms) -> str:
    """`cost 1.30, from round trip 0.05, load 0.10, queue 0.25 and past failures 0.00, weighted`."""
    missing = f"input to fetch {terms.missing_input:.2f}, " if terms.missing_input else ""
    return (
        f"cost {terms.cost:.2f}, from {missing}round trip {terms.rtt:.2f}, load {terms.load:.2f}, "
        f"queue {terms.queue:.2f} and past failures {terms.unreliability:.2f}, weighted"
    )


def node(state: MeshState, live: LiveNode, now: Moment) -> list[Finding]:
    """What a node does, and why it does not do more."""
    info, name = live.node.info, live.node.name
    if not live.is_member:
        return [Finding(_sentence(fitness.NO_MEMBER), fitness.no_member_hint(live))]
    if info is None:
        return [Finding("It has not connected since it was paired.", "start `planetmesh up` there")]
    found = []
    if info.refuses:
        found.append(Finding(f"It takes no tasks: {info.refuses}", "planetmesh doctor"))
    if live.node.draining:
        found.append(Finding("It is draining: it gets no new work.", f"planetmesh node resume {quote(name)}"))
    if live.node.state is NodeState.OFFLINE or not live.connected:
        found.append(Finding("It is not connected.", "start `planetmesh up` there"))
    elif live.node.state is NodeState.SUSPECT:
        found.append(Finding(f"Nothing was heard of it for {now.steady - live.last_heard:.0f} s."))
    found += _quarantines(live, now)
    if live.resting_until > now.steady:
        found.append(Finding("It gave work back a moment ago and is left alone for a little."))
    used, offer = live.used.cpu_millis / 1000, live.offer.cpu_millis / 1000
    found.append(Finding(f"Tasks take {used:g} of the {offer:g} CPUs that it offers."))
    jobs = sorted(live.held_by_job.items(), key=lambda each: -each[1])
    found += [Finding(f"It has {_tasks(count)} of job {job_id}.") for job_id, count in jobs[:10]]
    if live.connected:
        cost = score.terms(live, state.settings.weights)
        found.append(Finding(f"To the scheduler it stands at {terms_in_words(cost)}."))
        waiting = len({job_id for line in state.queue.values() for job_id in line})
        if not live.held and not waiting:
            found.append(Finding("It is idle because no job waits."))
    return found


def _quarantines(live: LiveNode, now: Moment) -> Iterator[Finding]:
    hint = f"planetmesh node resume {quote(live.node.name)}"
    for kind, record in live.records.items():
        if record.phase is Phase.GOOD:
            continue
        left = max(0.0, record.cool_until - now.steady)
        then = {
            Phase.COOLING: f"it may try again with one task in {left:.0f} s",
            Phase.PROBE: "its next such task shows whether it is well again",
            Phase.PROBING: "one task is trying it again",
        }[record.phase]
        said = f" The last failure: {record.reason}" if record.reason else ""
        yield Finding(
            f"It is in quarantine for '{kind}', which it failed while others did well; {then}.{said}", hint
        )


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:].rstrip(".") + "."


def _jobs(count: int) -> str:
    return f"{count} job{'' if count == 1 else 's'}"


def _tasks(count: int) -> str:
    return f"{count} task{'' if count == 1 else 's'}"
