"""The one interpreter: inbox → reactor → schedule → commit → send → answer → publish.

Everything that changes the mesh goes through `Engine.turn`. A turn takes all that waits, so commits
and scheduling are shared by whatever came in meanwhile. Nothing is sent or answered before it is on
disk. If a commit fails, memory is made anew from the disk, the links are closed (agents keep their
work and their results) and callers are told, until the disk takes writes again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from planetmesh.coordinator.clock import Clock
from planetmesh.coordinator.feed import Feed
from planetmesh.coordinator.journal import Journal
from planetmesh.coordinator.meters import Meters
from planetmesh.coordinator.news import NodeNews
from planetmesh.coordinator.restore import restore
from planetmesh.coordinator.switchboard import Switchboard
from planetmesh.coordinator.tuning import Tuning, read_tuning
from planetmesh.coordinator.turn import Turn
from planetmesh.coordinator.views import ended_job_view
from planetmesh.errors import MeshError, StorageFailed
from planetmesh.mesh import effects as fx
from planetmesh.mesh import nodes, reactor, schedule
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.identity import CertificateRecord
from planetmesh.model.ids import JobId
from planetmesh.settings import Settings
from planetmesh.store.changes import Changes
from planetmesh.store.outputs import Outputs
from planetmesh.store.restore import Snapshot
from planetmesh.store.store import Store
from planetmesh.wire.api import JobView

log = logging.getLogger(__name__)

Happening = Callable[[MeshState, Moment], fx.Effects]
Answer = Callable[[Exception | None], None]

LOOK_SECONDS = 0.5
"""So often a pass looks for what time alone has changed: rests and pauses that are over."""
PROBE_SECONDS = 2.0
"""How often a disk that refused a write is tried again."""
COMPANY_SECONDS = 0.005
"""So long what can wait waits for what cannot, to be one turn and one commit with it."""
LEARNED_SECONDS = 30.0
"""Learned times ride on a commit that is made anyway, one so long after another."""


class _Item(msgspec.Struct):
    """One thing in the inbox and who is to be told how it went."""

    happening: Happening
    answer: Answer | None
    also: Changes | None = None


class Engine:
    """Owns the mesh's state; all calls are made on its event loop."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        outputs: Outputs,
        spread: Callable[[], float],
        *,
        inspect: Callable[[MeshState], None] | None = None,
    ) -> None:
        self.tuning = Tuning(settings)
        self.store = store
        self.outputs = outputs
        self.spread = spread
        self.inspect = inspect
        """Called after each turn; tests pass `mesh.state.check`."""
        self.state = MeshState(settings, spread)
        self.switchboard = Switchboard()
        self._clock = Clock()
        self.feed = Feed(settings, self._clock.steady)
        self.news = NodeNews()
        self.journal = Journal()
        self.meters = Meters()
        self.storage_error = ""
        self.tuned = asyncio.Event()
        """Set for a moment when other settings count: whoever waits for it is woken."""
        self._followed = settings
        self._inbox: deque[_Item] = deque()
        self._learned_at = -LEARNED_SECONDS
        """Steady time at which learned times were last written down."""
        self._oldest_at = 0.0
        """Steady time at which the first of the inbox was posted."""
        self._wake = asyncio.Event()
        self._wakes_later: asyncio.TimerHandle | None = None
        """Set while nothing but what can wait has come since the last turn."""
        self._looked_at = -LOOK_SECONDS
        """Steady time of the last pass."""
        self._cut_short = False
        """That pass had no time to look at everything."""
        self._carried = Turn()
        self._waiters: dict[JobId, set[asyncio.Future[JobView]]] = {}

    @property
    def settings(self) -> Settings:
        """Those that count now; ask again rather than keep one."""
        return self.state.settings

    def read_clock(self) -> Moment:
        return self._clock.read()

    async def load(self) -> list[CertificateRecord]:
        """Fill the state from the disk, before `run`; returns the certificates for the table of serials."""
        snapshot = await self.store.load()
        self._clock.go_on_from(snapshot.meta)
        self._restore(snapshot)
        self.feed.start_at(snapshot.feed_number)
        self.news.start_with(self.state)
        return snapshot.certificates

    def _restore(self, snapshot: Snapshot) -> None:
        """Make the state anew from what the disk says, the settings included."""
        self.tuning = read_tuning(self.tuning.base, snapshot.meta)
        self.state = restore(snapshot, self.tuning.settings, self.spread, self.read_clock())
        self._follow_settings()

    def _follow_settings(self) -> None:
        """Tell a change to those who keep a number for themselves or sleep by one."""
        if self.settings is self._followed:
            return
        self._followed = self.settings
        self.feed.take_settings(self.settings)
        self.outputs.take_settings(self.settings)
        self.tuned.set()
        self.tuned.clear()

    async def tune(self, asked: Mapping[str, object], mesh_name: str, changes: Changes) -> None:
        """Change settings for good, None resets one; on disk with `changes` and in force when this returns.

        Raises BadInput for any that is wrong, and then none of them is changed.
        """

        def happen(state: MeshState, now: Moment) -> fx.Effects:
            tuning = self.tuning.changed(asked)
            changes.meta.update(tuning.kept())
            self.tuning = tuning
            return nodes.on_settings_changed(state, tuning.settings, mesh_name, now)

        await self.do(happen, changes)

    def post(
        self,
        happening: Happening,
        answer: Answer | None = None,
        also: Changes | None = None,
        *,
        can_wait: bool = False,
    ) -> None:
        """Put something into the inbox; `answer` is called after its turn, with the error if it failed.

        What `can_wait` is taken in with the next thing that comes, after COMPANY_SECONDS at the latest.
        """
        if not self._inbox:
            self._oldest_at = self._clock.steady()
        self._inbox.append(_Item(happening, answer, also))
        if not can_wait:
            self._wake.set()
        elif self._wakes_later is None:
            loop = asyncio.get_running_loop()
            self._wakes_later = loop.call_later(COMPANY_SECONDS, self._wake.set)

    async def do(self, happening: Happening, also: Changes | None = None) -> None:
        """Post and wait until it is on disk; raises what `happening` raised, or StorageFailed."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def answer(error: Exception | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        self.post(happening, answer, also)
        await done

    async def job_ended(self, job_id: JobId, seconds: float) -> JobView | None:
        """A live job's last view as soon as it ends; None if it has not after `seconds`, or is not live."""
        if job_id not in self.state.jobs:
            return None
        waiter: asyncio.Future[JobView] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(job_id, set())
        waiters.add(waiter)
        try:
            async with asyncio.timeout(seconds):
                return await waiter
        except TimeoutError:
            return None
        finally:
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(job_id, None)

    async def run(self) -> None:
        """Turn for ever; ends by cancellation only, after the turn in hand."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self.storage_error:
                await self._probe_storage()
                continue
            await self.turn()

    async def turn(self) -> None:
        """Take in everything that waits, decide, write it down, and only then let it out."""
        items = self._take_inbox()
        now = self.read_clock()
        if items:
            self.meters.happenings += len(items)
            self.meters.waits.note(now.steady - self._oldest_at)
        turn, self._carried = self._carried, Turn()
        answers = self._react(items, turn, now)
        self._schedule(turn, now)
        if self.inspect is not None:
            self.inspect(self.state)
        if (self.state.limited or self.state.learned) and self._clock.is_overdue(now.steady):
            turn.urgent = True
        if turn.urgent:
            rows = self.feed.rows(turn.job_ends, turn.new_jobs, turn.node_changes, self.state, now)
            began = time.monotonic()
            try:
                await self.store.commit(self._with_times(turn.changes(self.state, rows), now))
            except StorageFailed as error:
                await self._storage_failed(error, answers)
                return
            self.meters.commits.note(time.monotonic() - began)
        else:
            self._carried.carry(turn)
        self._let_out(turn)
        for answer, failure in answers:
            answer(failure)
        if turn.sends:
            # The links write now, also what the answers have to confirm; who only watches hears of it after.
            await asyncio.sleep(0)
        self._publish(turn, now)
        self.meters.turns.note(self._clock.steady() - now.steady)

    def _take_inbox(self) -> list[_Item]:
        items = list(self._inbox)
        self._inbox.clear()
        if self._wakes_later is not None:
            self._wakes_later.cancel()
            self._wakes_later = None
        return items

    def _with_times(self, changes: Changes, now: Moment) -> Changes:
        """What a commit takes along now and then."""
        changes.meta.update(self._clock.kept(now.steady))
        learned = self.state.learned
        if learned and now.steady - self._learned_at >= LEARNED_SECONDS:
            known = {node_id: self.state.nodes[node_id] for node_id in learned & self.state.nodes.keys()}
            changes.learned.update({node_id: node.learned() for node_id, node in known.items()})
            learned.clear()
            self._learned_at = now.steady
        return changes

    def _react(self, items: list[_Item], turn: Turn, now: Moment) -> list[tuple[Answer, Exception | None]]:
        answers: list[tuple[Answer, Exception | None]] = []
        for item in items:
            error: Exception | None = None
            try:
                turn.take(item.happening(self.state, now))
                if item.also is not None:
                    turn.add(item.also)
            except MeshError as refused:
                error = refused
            except Exception as broken:
                log.exception("engine.broken_happening")
                error = broken
            if item.answer is not None:
                answers.append((item.answer, error))
        return answers

    def _schedule(self, turn: Turn, now: Moment) -> None:
        """One pass, where it could find anything: heartbeats alone make no room."""
        due = turn.urgent or self._cut_short or now.steady - self._looked_at >= LOOK_SECONDS
        if not due or not self.state.waiting():
            return
        self._looked_at = now.steady
        began = time.monotonic()
        until = began + self.settings.schedule_pass_seconds
        asked = schedule.placements(self.state, now.steady, lambda: time.monotonic() < until)
        while True:
            try:
                placement = next(asked)
            except StopIteration as ended:
                is_whole: bool = ended.value
                break
            turn.take(reactor.on_placed(self.state, placement, now))
            self.meters.placed += 1
            self.meters.placements[placement.node_id] += 1
        self.meters.passes.note(time.monotonic() - began)
        self._cut_short = not is_whole
        if not is_whole:
            # Only then: a slow machine's whole pass may take longer than that too, and finds nothing again.
            self._wake.set()

    def _let_out(self, turn: Turn) -> None:
        self._follow_settings()
        for node_id, messages in turn.sends.items():
            self.switchboard.send(node_id, messages)
        for hang_up in turn.hang_ups:
            self.switchboard.hang_up(hang_up.session, hang_up.code, hang_up.reason)

    def _publish(self, turn: Turn, now: Moment) -> None:
        self.meters.note_turn(
            self.state,
            turn.tasks.values(),
            [attempt.outcome for attempt in turn.attempts],
            len(turn.new_jobs),
            turn.job_ends,
            now.wall,
        )
        self.meters.forget(turn.removed_nodes)
        self.feed.publish(
            self.state, turn.changed_jobs, turn.job_ends, turn.tasks.values(), turn.changed_nodes, now
        )
        self.news.tell(self.state, turn.changed_nodes | turn.node_changes)
        self.journal.tell(turn, self.state, now)
        for ended in turn.job_ends:
            waiters = self._waiters.pop(ended.job.id, None)
            if not waiters:
                continue
            view = ended_job_view(ended)
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(view)

    async def _storage_failed(
        self, error: StorageFailed, answers: list[tuple[Answer, Exception | None]]
    ) -> None:
        """The disk refused: forget this turn, go back to what the disk says, and wait for it."""
        log.error("store.failed", extra={"reason": error.message})
        self.storage_error = error.message
        self.switchboard.hang_up_all("busy", "The coordinator cannot write to its disk.")
        self._carried = Turn()
        self._restore(await self.store.load())
        self.feed.resync()
        for answer, earlier in answers:
            answer(earlier or error)
        self._wake.set()

    async def _probe_storage(self) -> None:
        """Refuse what waits, then try one small write; on success go on as before."""
        items = self._take_inbox()
        for item in items:
            if item.answer is not None:
                item.answer(
                    StorageFailed(self.storage_error, hint="Free some space on the coordinator's disk.")
                )
        await asyncio.sleep(PROBE_SECONDS)
        try:
            await self.store.commit(Changes(meta={"probed_at": str(time.time())}))
        except StorageFailed as error:
            self.storage_error = error.message
        else:
            log.warning("store.recovered")
            self.storage_error = ""
        self._wake.set()
