"""What handlers remember between requests, all of it bounded and none of it needed after a restart."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from planetmesh.coordinator.engine import Engine
from planetmesh.errors import TooLarge
from planetmesh.mesh import effects as fx
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId
from planetmesh.model.resources import show_size
from planetmesh.store.jobs import StoredJob

KEPT_SPECS = 2
"""Ended jobs whose stored record is kept at hand: their pages are read one after the other."""
REMEMBERED_SUBMITS = 100_000
"""A client repeats a submit for two minutes at most: so many would be 800 a second."""
WEIGHED_BYTES = 4096
"""Smaller jobs are bounded by their number alone."""
LIVE_BYTES_EACH = 512 * 1024 * 1024
"""Of one operator's jobs that have not ended, as they were sent; ten million short inputs are half of it."""
TRANSFERS_EACH = 8
"""Of one member at the same time; further ones wait, unread."""
SLOTS_MOST = 128
FAILURES_EACH = 10
"""Addresses shown of those who tried a wrong code."""


class Shelf:
    """The last few ended jobs that were read: they do not change any more."""

    def __init__(self) -> None:
        self._kept: OrderedDict[JobId, StoredJob] = OrderedDict()

    async def read(self, engine: Engine, job_id: JobId) -> StoredJob | None:
        if job_id in self._kept:
            self._kept.move_to_end(job_id)
            return self._kept[job_id]
        stored = await engine.store.job(job_id)
        if stored is not None and stored.summary.completed_at is not None:
            self._kept[job_id] = stored
            while len(self._kept) > KEPT_SPECS:
                self._kept.popitem(last=False)
        return stored

    def forget(self, job_id: JobId) -> None:
        """It lives again: its failed tasks are tried once more."""
        self._kept.pop(job_id, None)


class Submits:
    """Sees that a submit which is repeated after a lost answer makes one job, not two."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._recent: OrderedDict[tuple[str, str], JobId] = OrderedDict()
        self._knows_earlier_runs = False

    def lock(self, submitter: str, key: str) -> asyncio.Lock:
        """Held from looking for the first one until the new one is on disk."""
        return self._locks.setdefault((submitter, key), asyncio.Lock())

    async def earlier(self, engine: Engine, submitter: str, key: str) -> JobId | None:
        """The job that was handed in with this key, if it was kept. Call it under the lock."""
        if not self._knows_earlier_runs:
            await self._read_earlier_runs(engine)
        recent = self._recent.get((submitter, key))
        if recent is None:
            return None
        # Its caller may have gone before it was on disk: this answer must not say more than is true.
        await engine.do(_nothing)
        known = recent in engine.state.jobs or await engine.store.job_by_key(submitter, key) == recent
        return recent if known else None

    async def _read_earlier_runs(self, engine: Engine) -> None:
        """Once: what was handed in before this start; a look at the disk for each submit would show."""
        for submitter, key, job_id in await engine.store.newest_keys(REMEMBERED_SUBMITS):
            self._recent.setdefault((submitter, key), job_id)
        self._knows_earlier_runs = True

    def remember(self, submitter: str, key: str, job_id: JobId) -> None:
        """Before the job is handed to the engine: from there on it goes its way, whoever waits for it."""
        self._recent[submitter, key] = job_id
        self._recent.move_to_end((submitter, key))
        if len(self._recent) > REMEMBERED_SUBMITS:
            self._recent.popitem(last=False)


def _nothing(_state: MeshState, _now: Moment) -> fx.Effects:
    return []


class Weights:
    """How large the jobs were that have not ended: their inputs are in memory until then."""

    def __init__(self) -> None:
        self._by_job: dict[JobId, tuple[str, int]] = {}

    def refuse_too_much(self, state: MeshState, submitter: str, size_bytes: int) -> None:
        """Raise TooLarge if the submitter's live jobs are large enough already."""
        if size_bytes < WEIGHED_BYTES:
            return
        self._by_job = {job_id: each for job_id, each in self._by_job.items() if job_id in state.jobs}
        own = sum(size for whose, size in self._by_job.values() if whose == submitter)
        if own + size_bytes > LIVE_BYTES_EACH:
            raise TooLarge(
                f"Your jobs that have not ended are {show_size(own)} long together; "
                f"{show_size(LIVE_BYTES_EACH)} is the limit.",
                hint="Wait until some have ended, or give numbers as a range: planetmesh run --range 1..N",
            )

    def note(self, job_id: JobId, submitter: str, size_bytes: int) -> None:
        if size_bytes >= WEIGHED_BYTES:
            self._by_job[job_id] = (submitter, size_bytes)


class Turns:
    """Lets each member have so many transfers at a time."""

    def __init__(self, each_most: int = TRANSFERS_EACH) -> None:
        self._each_most = each_most
        self._by_member: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, member_id: str) -> AsyncIterator[None]:
        turns = self._by_member.setdefault(member_id, asyncio.Semaphore(self._each_most))
        async with turns:
            yield


@dataclass
class PairingFailures:
    """Who tried a wrong code, by slot; the desk's `on_attempt_failed` is `note`."""

    _by_slot: dict[int, list[str]] = field(default_factory=dict)

    def note(self, slot: int, address: str, _attempts_left: int) -> None:
        if slot not in self._by_slot and len(self._by_slot) >= SLOTS_MOST:
            self._by_slot.pop(next(iter(self._by_slot)))
        addresses = self._by_slot.setdefault(slot, [])
        addresses.append(address)
        del addresses[:-FAILURES_EACH]

    def of(self, slot: int) -> tuple[str, ...]:
        return tuple(self._by_slot.get(slot, ()))

    def clear(self, slot: int) -> None:
        self._by_slot.pop(slot, None)
