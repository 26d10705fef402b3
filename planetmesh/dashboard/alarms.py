"""What somebody should look at, each with the next command. Pure."""

from __future__ import annotations

from shlex import quote

import msgspec

from planetmesh.dashboard.meter import ended_of
from planetmesh.dashboard.plain import BAD, WARN, count_of, plain
from planetmesh.dashboard.snapshot import Snapshot, is_over
from planetmesh.model.job import JobState
from planetmesh.model.node import NodeState
from planetmesh.wire.api import JobView

NAMED_MOST = 3
WHY_MOST = 120
"""Letters of a reason: the command that follows says all of it."""
JOBS_NAMED = 4
FAILING_LEAST = 10
"""Ends from which a job is judged: the first few say little."""
CANNOT_RUN = "No machine"
"""So begins the coordinator's sentence (`coordinator/views.py`) where nobody can run a job."""


class Alarm(msgspec.Struct, frozen=True):
    """One thing to look at."""

    sentence: str
    command: str = ""
    tone: str = WARN


def alarms_of(snapshot: Snapshot) -> list[Alarm]:
    """The gravest first."""
    found: list[Alarm] = []
    if snapshot.status is not None and snapshot.status.storage_error:
        found.append(
            Alarm(
                f"The coordinator cannot write: {plain(snapshot.status.storage_error)}",
                "planetmesh doctor",
                BAD,
            )
        )
    if snapshot.status is not None and not snapshot.nodes:
        found.append(Alarm("No machine has joined this mesh yet: press c.", "planetmesh code"))
    found += _of_nodes(snapshot)
    found += _of_jobs(snapshot)
    return found


def _of_nodes(snapshot: Snapshot) -> list[Alarm]:
    found: list[Alarm] = []
    for state, tone in ((NodeState.OFFLINE, BAD), (NodeState.SUSPECT, WARN)):
        names = [plain(node.name, 40) for node in snapshot.nodes if node.state is state]
        if names:
            more = f" and {len(names) - NAMED_MOST} more" if len(names) > NAMED_MOST else ""
            verb = "is" if len(names) == 1 else "are"
            named = ", ".join(names[:NAMED_MOST])
            found.append(
                Alarm(f"{named}{more} {verb} {state}.", f"planetmesh explain {quote(names[0])}", tone)
            )
    noted = [node for node in snapshot.nodes if node.note and node.state is NodeState.HEALTHY]
    found += [Alarm(f"{plain(node.name, 40)}: {plain(node.note)}") for node in noted[:NAMED_MOST]]
    if len(noted) > NAMED_MOST:
        found.append(Alarm(f"{len(noted) - NAMED_MOST} more machines get no work.", "planetmesh nodes"))
    return found


def _fails_mostly(job: JobView) -> bool:
    """Goes on, though at least half of what ended has failed: it may be better to stop it."""
    ended = ended_of(job.tasks)
    return not is_over(job) and ended >= FAILING_LEAST and job.tasks.failed * 2 >= ended


def _of_jobs(snapshot: Snapshot) -> list[Alarm]:
    found: list[Alarm] = []
    # Busy machines, a pause and jobs that wait for others are nothing to worry about.
    waiting = [job for job in snapshot.jobs if job.waiting.startswith(CANNOT_RUN) and not is_over(job)]
    for job in waiting[:JOBS_NAMED]:
        name = plain(job.name, 40) or job.id
        found.append(Alarm(f"{name} waits: {plain(job.waiting, WHY_MOST)}", f"planetmesh explain {job.id}"))
    if len(waiting) > JOBS_NAMED:
        found.append(Alarm(f"{len(waiting) - JOBS_NAMED} more jobs wait.", "planetmesh jobs"))
    failing = [job for job in snapshot.jobs if _fails_mostly(job)]
    for job in failing[:2]:
        name = plain(job.name, 40) or job.id
        ended = count_of(ended_of(job.tasks), "input" if job.counts_inputs else "task")
        said = f": {plain(job.error, WHY_MOST)}" if job.error else "."
        found.append(
            Alarm(
                f"{name}: {job.tasks.failed} of {ended} failed so far{said}",
                f"planetmesh job {job.id} --tasks --failed",
                BAD,
            )
        )
    failed = [job for job in snapshot.jobs[:50] if job.status is JobState.FAILED]
    for job in failed[:2]:
        name = plain(job.name, 40) or job.id
        tasks = count_of(job.tasks.failed, "input" if job.counts_inputs else "task")
        said = f": {plain(job.error)}" if job.error else "."
        found.append(Alarm(f"{name}: {tasks} failed{said}", f"planetmesh explain {job.id}", BAD))
    return found
