"""The numbered feed: what happened, fanned out to whoever listens.

Events lie once in a bounded ring; a subscriber is a place in it, so a slow one costs nothing and is told
to read the lists again (`resync`) when the ring has overtaken it. While nobody listens nothing is made.
The engine calls `rows` before and `publish` after each commit; `api.feed` and `api.outputs` subscribe.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from planetmesh.coordinator.views import Sentences, ended_job_view, live_job_view, node_view, task_view
from planetmesh.errors import BadInput, Conflict
from planetmesh.mesh.effects import JobEnded
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId, NodeId, TaskKey
from planetmesh.model.job import ENDED, JobSpec, Task, job_state
from planetmesh.settings import Settings
from planetmesh.store.changes import FeedRow
from planetmesh.wire.api import FeedEvent, rfc3339

RING_MOST_BYTES = 16 * 1024 * 1024
"""Minutes of a busy mesh; memory is bounded whatever an event weighs."""
LINGER_SECONDS = 60.0
"""Events are still kept for so long after the last listener left: it may come back after a Wi-Fi blip."""
SUBSCRIBERS_MOST = 200
ENDS_MOST = 10_000
"""Ends of jobs that wait for one listener."""
TASKS_IN_EVENT = 500
TASKS_SHOWN = 10_000
"""More tasks changed by one turn (a huge job was cancelled) are cheaper to read anew than to be told."""
RESTART_GAP = 10_000
"""Numbers skipped at a start: those handed out in memory only must not come a second time."""
JUMP_MOST = 1_000_000_000
"""How far a subscriber that has seen higher numbers than we know may move us up: far below 2^53."""


class FeedSize(msgspec.Struct, frozen=True):
    number: int
    """Of the last event."""
    kept_bytes: int
    subscribers: int


class Subscriber:
    """One listener's place in the ring."""

    def __init__(self, place: int, *, resync: bool) -> None:
        self.place = place
        self.resync = resync
        self.news = asyncio.Event()
        self.news.set()


class Ends:
    """Ends of one submitter's jobs, until they are taken; see `Feed.hearing_ends`."""

    def __init__(self, submitter: str, news: asyncio.Event) -> None:
        self._submitter = submitter
        self._news = news
        self._found: list[JobEnded] = []
        self._is_over = False

    def note(self, job_ends: Collection[JobEnded]) -> None:
        own = [each for each in job_ends if each.job.submitter == self._submitter]
        self._found += own
        if len(self._found) > ENDS_MOST:
            self.lose()
        elif own:
            self._news.set()

    def lose(self) -> None:
        """Some cannot be told."""
        self._found.clear()
        self._is_over = True
        self._news.set()

    def take(self) -> tuple[list[JobEnded], bool]:
        """Those since the last time, and whether some were lost."""
        found, is_over = self._found, self._is_over
        self._found, self._is_over = [], False
        return found, is_over


class Feed:
    """One per coordinator, owned by the engine."""

    def __init__(self, settings: Settings, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self.take_settings(settings)
        self._number = 0
        self._floor = 0
        """All that came after this number lies in the ring."""
        self._unseen = False
        """Something happened that was given no number, since nobody listened."""
        self._ring: dict[int, tuple[int, bytes]] = {}
        self._next_place = 0
        self._ring_bytes = 0
        self._subscribers: set[Subscriber] = set()
        self._listened_until = 0.0
        self._watchers: dict[JobId, dict[asyncio.Event, int | None]] = {}
        self._node_words: dict[NodeId, tuple[Any, ...]] = {}
        self._ends: set[Ends] = set()

    def take_settings(self, settings: Settings) -> None:
        self._rows_most = max(1, settings.feed_keep_rows)

    def start_at(self, last_number: int) -> None:
        """Go on behind the numbers of earlier runs; `last_number` is the highest on disk."""
        self._number = self._floor = max(self._number, last_number + RESTART_GAP)

    @property
    def number(self) -> int:
        """The newest number: read the lists, then subscribe after this."""
        if self._unseen:
            self._unseen = False
            self._number += 1
            self._floor = self._number
        return self._number

    @property
    def size(self) -> FeedSize:
        """For metrics: looking changes nothing."""
        return FeedSize(self._number, self._ring_bytes, len(self._subscribers))

    def expect(self, now: Moment) -> int:
        """The newest number for somebody who is going to subscribe after it; events are kept meanwhile."""
        number = self.number
        self._listened_until = max(self._listened_until, now.steady + LINGER_SECONDS)
        return number

    # For the engine

    def rows(
        self,
        job_ends: Collection[JobEnded],
        new_jobs: Collection[JobId],
        changed_nodes: Collection[NodeId],
        state: MeshState,
        now: Moment,
    ) -> list[FeedRow]:
        """The events that are worth a row on disk: jobs handed in and ended, nodes that changed state."""
        if not (job_ends or new_jobs or changed_nodes):
            return []
        found: list[tuple[str, dict[str, Any]]] = []
        for job_id in new_jobs:
            live = state.jobs.get(job_id)
            if live is not None and live.job.cancelled_at is None:
                found.append(("job_submitted", _submitted(job_id, live.job.spec, live.job.submitter)))
        found += [("job_ended", _ended(each)) for each in job_ends]
        for node_id in changed_nodes:
            words = self._node_news(state, node_id)
            if words is not None:
                found.append(("node", words))
        return [FeedRow(self._draw(), kind, now.wall, msgspec.json.encode(data)) for kind, data in found]

    def _node_news(self, state: MeshState, node_id: NodeId) -> dict[str, Any] | None:
        live = state.nodes.get(node_id)
        if live is None:
            self._node_words.pop(node_id, None)
            return {"id": node_id, "removed": True}
        words = (live.node.name, live.node.state, live.node.draining)
        if self._node_words.get(node_id) == words:
            return None
        self._node_words[node_id] = words
        return {"id": node_id, "name": words[0], "state": words[1], "draining": words[2]}

    def publish(
        self,
        state: MeshState,
        changed_jobs: Collection[JobId],
        job_ends: Collection[JobEnded],
        tasks: Collection[Task],
        changed_nodes: Collection[NodeId],
        now: Moment,
    ) -> None:
        """Tell everybody what a turn has changed: each job and node once, tasks in batches."""
        if self._watchers:
            self._wake_watchers(job_ends, tasks)
        if job_ends:
            for ends in self._ends:
                ends.note(job_ends)
        if not (changed_jobs or job_ends or tasks or changed_nodes):
            return
        if not self._subscribers and now.steady >= self._listened_until:
            self._forget()
            return
        at = rfc3339(now.wall) or ""
        self._add_jobs(state, changed_jobs, job_ends, at)
        self._add_tasks(state, tasks, job_ends, at)
        for node_id in changed_nodes:
            live = state.nodes.get(node_id)
            if live is None:
                self._add("node_removed", {"id": node_id}, at)
            else:
                self._add("node", node_view(state, live), at)
        for subscriber in self._subscribers:
            subscriber.news.set()

    def resync(self) -> None:
        """Everybody is to read the lists again: the state was made anew."""
        for watched in self._watchers.values():
            for event in watched:
                event.set()
        for ends in self._ends:
            ends.lose()
        self._forget()
        for subscriber in self._subscribers:
            subscriber.resync = True
            subscriber.news.set()

    def announce(self, kind: str, data: Any, now: Moment) -> None:
        """Tell something that is not of the engine's making (a pairing window opened or closed)."""
        if self._subscribers or now.steady < self._listened_until:
            self._add(kind, data, rfc3339(now.wall) or "")
            for subscriber in self._subscribers:
                subscriber.news.set()
        else:
            self._forget()

    def _forget(self) -> None:
        self._unseen = True
        if self._ring:
            self._ring.clear()
            self._ring_bytes = 0

    def _add_jobs(
        self, state: MeshState, changed: Collection[JobId], ends: Collection[JobEnded], at: str
    ) -> None:
        made: Sentences = {}
        for job_id in changed:
            live = state.jobs.get(job_id)
            if live is not None:
                self._add("job", live_job_view(state, live, made), at)
        for ended in ends:
            self._add("job", ended_job_view(ended), at)

    def _add_tasks(
        self, state: MeshState, tasks: Collection[Task], ends: Collection[JobEnded], at: str
    ) -> None:
        if len(tasks) > TASKS_SHOWN:
            self._add("resync", None, at)
            return
        specs = {ended.job.id: ended.job.spec for ended in ends}
        specs |= {
            task.job_id: state.jobs[task.job_id].job.spec for task in tasks if task.job_id in state.jobs
        }
        views = [task_view(state, task, specs[task.job_id]) for task in tasks if task.job_id in specs]
        for start in range(0, len(views), TASKS_IN_EVENT):
            self._add("tasks", views[start : start + TASKS_IN_EVENT], at)

    def _draw(self) -> int:
        self._number = self.number + 1
        return self._number

    def _add(self, kind: str, data: Any, at: str) -> None:
        number = self._draw()
        line = msgspec.json.encode(FeedEvent(number, kind, at, data)) + b"\n"
        self._ring[self._next_place] = (number, line)
        self._next_place += 1
        self._ring_bytes += len(line)
        while self._ring_bytes > RING_MOST_BYTES or len(self._ring) > self._rows_most:
            oldest = next(iter(self._ring))
            self._floor, line = self._ring.pop(oldest)
            self._ring_bytes -= len(line)

    # For listeners

    @contextmanager
    def subscribe(self, after: int) -> Iterator[Subscriber]:
        """Listen to what comes after a number; raises Conflict if too many do, BadInput for an absurd one."""
        if len(self._subscribers) >= SUBSCRIBERS_MOST:
            raise Conflict(f"{SUBSCRIBERS_MOST} clients are listening already.", hint="Try again later.")
        subscriber = self._place(after)
        self._subscribers.add(subscriber)
        try:
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)
            self._listened_until = self._steady() + LINGER_SECONDS

    def _place(self, after: int) -> Subscriber:
        newest = self.number
        if after > newest + JUMP_MOST:
            raise BadInput(f"The feed has not come to number {after} yet; it is at {newest}.")
        if after > newest:
            # Seen in an earlier life of ours, in memory only. What is told now must count higher.
            self._number = self._floor = after
            return Subscriber(self._next_place, resync=True)
        if after < self._floor:
            return Subscriber(self._next_place, resync=True)
        places = (place for place, (number, _line) in self._ring.items() if number > after)
        return Subscriber(next(places, self._next_place), resync=False)

    def take(self, subscriber: Subscriber, most_bytes: int, now: Moment) -> bytes:
        """The next lines for a subscriber, nothing if it has them all; clears its `news`."""
        subscriber.news.clear()
        if subscriber.place < self._next_place and subscriber.place not in self._ring:
            subscriber.resync = True
        if subscriber.resync:
            subscriber.resync = False
            subscriber.place = self._next_place
            event = FeedEvent(self._draw(), "resync", rfc3339(now.wall) or "")
            return msgspec.json.encode(event) + b"\n"
        lines: list[bytes] = []
        size = 0
        while subscriber.place < self._next_place and size < most_bytes:
            line = self._ring[subscriber.place][1]
            lines.append(line)
            size += len(line)
            subscriber.place += 1
        if subscriber.place < self._next_place:
            subscriber.news.set()
        return b"".join(lines)

    @contextmanager
    def waking(self, job_id: JobId, event: asyncio.Event, index: int | None = None) -> Iterator[None]:
        """Set `event` when the job ends, or when its task `index` does."""
        watched = self._watchers.setdefault(job_id, {})
        watched[event] = index
        try:
            yield
        finally:
            watched.pop(event, None)
            if not watched and self._watchers.get(job_id) is watched:
                del self._watchers[job_id]

    @contextmanager
    def hearing_ends(self, submitter: str, news: asyncio.Event) -> Iterator[Ends]:
        """Gather the ends of a submitter's jobs from now on; `news` is set when there are some."""
        ends = Ends(submitter, news)
        self._ends.add(ends)
        try:
            yield ends
        finally:
            self._ends.discard(ends)

    def _wake_watchers(self, job_ends: Collection[JobEnded], tasks: Collection[Task]) -> None:
        for ended in job_ends:
            for event in self._watchers.get(ended.job.id, ()):
                event.set()
        over: set[TaskKey] = {
            task.key for task in tasks if task.state in ENDED and task.job_id in self._watchers
        }
        for job_id, index in over:
            for event, wanted in self._watchers[job_id].items():
                if wanted == index:
                    event.set()


def _submitted(job_id: JobId, spec: JobSpec, submitter: str) -> dict[str, Any]:
    words = {"id": job_id, "name": spec.name, "type": spec.type, "submitter": submitter}
    return words | {"tasks": spec.task_count}


def _ended(ended: JobEnded) -> dict[str, Any]:
    spec = ended.job.spec
    status = job_state(ended.counts, partial=spec.partial, cancelled=ended.job.cancelled_at is not None)
    return {"id": ended.job.id, "name": spec.name, "status": status, "error": ended.error}
