"""Jobs that were cancelled only because another failed, as a retry of that one needs to know them."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import suppress

import msgspec

from planetmesh.coordinator.api.call import Call
from planetmesh.coordinator.api.jobs import LIVE_JOBS_EACH
from planetmesh.coordinator.api.lookup import read_job
from planetmesh.errors import NotFound, TooLarge
from planetmesh.mesh.jobs import Earlier
from planetmesh.mesh.state import MeshState
from planetmesh.model.ids import JobId
from planetmesh.model.job import JobState

DROPPED_MOST = 1000
"""Brought back by one retry; each has a record in memory from then on."""


class Dropped(msgspec.Struct):
    """Those that a job's end has dropped, and those that theirs have, causes first."""

    jobs: list[Earlier] = []
    ended: dict[JobId, JobState] = {}
    """How the jobs ended that they wait for, as far as those have."""
    gone: set[JobId] = set()
    """Those of them that are not kept any more."""
    sizes: dict[JobId, int] = {}
    """Bytes of each one's spec."""
    left: list[JobId] = []
    """Those beyond a bound: they stay cancelled."""

    def is_stale(self, state: MeshState) -> bool:
        """One of the jobs that they wait for has ended since."""
        known = state.jobs.keys() | self.ended.keys() | self.gone
        return any(after.job not in known for each in self.jobs for after in each.job.waits)

    def within_bounds(self, state: MeshState) -> list[Earlier]:
        """Without those whose submitter has as many live jobs as one may have."""
        taken: list[Earlier] = []
        if not self.jobs:
            return taken
        own = Counter(live.job.submitter for live in state.jobs.values())
        for each in self.jobs:
            if own[each.job.submitter] < LIVE_JOBS_EACH:
                own[each.job.submitter] += 1
                taken.append(each)
        return taken


async def read_dropped(call: Call, cause: JobId) -> Dropped:
    found = Dropped()
    ahead = deque([cause])
    seen = {cause}
    bytes_of: Counter[str] = Counter()
    while ahead:
        for job_id in await call.parts.engine.store.dropped_for(ahead.popleft(), DROPPED_MOST):
            if job_id in seen:
                continue
            seen.add(job_id)
            if await _take(call, job_id, found, bytes_of):
                ahead.append(job_id)
    for after in {after.job for each in found.jobs for after in each.job.waits}:
        if after in call.parts.engine.state.jobs:
            continue
        try:
            awaited = await read_job(call.parts.engine, after, call.parts.shelf)
        except NotFound:
            found.gone.add(after)
        else:
            if awaited.stored is not None:
                found.ended[after] = awaited.stored.summary.state
    return found


async def _take(call: Call, job_id: JobId, found: Dropped, bytes_of: Counter[str]) -> bool:
    """False if it does not come back, and so what waits for it does not either."""
    engine = call.parts.engine
    stored = await engine.store.job(job_id)
    if stored is None or job_id in engine.state.jobs:
        return False
    submitter = stored.job.submitter
    size = len(await asyncio.to_thread(msgspec.json.encode, stored.job.spec))
    with suppress(TooLarge):
        if len(found.jobs) < DROPPED_MOST:
            call.parts.weights.refuse_too_much(engine.state, submitter, bytes_of[submitter] + size)
            bytes_of[submitter] += size
            found.sizes[job_id] = size
            next_index, beyond = await engine.store.unplaced(job_id)
            found.jobs.append(Earlier(stored.job, stored.summary.counts, next_index, beyond))
            return True
    found.left.append(job_id)
    return False
