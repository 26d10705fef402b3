"""What the coordinator must get and has not confirmed: numbered, in order, on disk.

Survives `kill -9` of the agent as it is (the kernel has the bytes) and power loss when `sync` was called,
which the service does while the link is down. The numbers go on over restarts. Messages lie here in
their wire form; the link sends them as they are.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import msgspec

from planetmesh.agent.aside import NOTHING, Aside, Durable, decode_durable, encode_durable
from planetmesh.agent.segment import HEADER_BYTES, Segment, pack, sync_folder
from planetmesh.errors import StorageFailed
from planetmesh.wire.agent import Held, TaskOutput, TaskResult
from planetmesh.wire.codec import MESSAGE_MOST_BYTES

log = logging.getLogger(__name__)

MIB = 1024 * 1024
MOST_BYTES = 256 * MIB
"""Unconfirmed on disk; beyond it the output of tasks is not read until the coordinator catches up."""
ROOM_SHARE = 0.75
"""Of that, below which output is read again."""
SEGMENT_BYTES = 4 * MIB
"""Confirmed messages go away by whole files of about this size."""
RENEW_BYTES = 64 * 1024
"""When all is confirmed a file of this size is replaced; a restart sends at most so much again."""
RECENT_BYTES = 8 * MIB
"""Kept in memory too: a link that is up never reads the disk."""

BY_OUR_RULES = "it breaks the rules of the wire"


class Outbox:
    """Opened once per agent process; not shared."""

    def __init__(
        self,
        folder: Path,
        *,
        most_bytes: int = MOST_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        aside: Aside | None = None,
    ) -> None:
        """Raises StorageFailed if the folder cannot be used: no result could be kept then."""
        self._folder = folder
        self.aside = aside or Aside()
        self._most_bytes = most_bytes
        self._segment_bytes = segment_bytes
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self._segments: deque[Segment] = deque(_recover(folder))
        except OSError as error:
            raise StorageFailed(
                f"The results of tasks cannot be kept in {folder}: {error.strerror or error}.",
                hint="Free some space on this disk, or make the folder writable; then start it again.",
            ) from error
        self._confirmed = self._segments[0].first
        self.aside.forget_below(self._confirmed)
        self._next = self._segments[-1].end
        self._recent: deque[bytes] = deque()
        """The newest records, the last of which is `_next` - 1."""
        self._recent_bytes = 0
        self._unwritten = 0
        """How many of the newest are in memory only, because the disk took no more."""
        self._unsynced = False
        self._is_closed = False
        self._cursor = _Cursor()
        self._ends: deque[tuple[int, Held]] = deque()
        self._find_ends()

    # Questions

    @property
    def first_unacknowledged(self) -> int:
        return self._confirmed

    @property
    def next_number(self) -> int:
        return self._next

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self._segments)

    @property
    def is_full(self) -> bool:
        """No more output should be put in; ends always may."""
        return bool(self._unwritten) or self.size_bytes > self._most_bytes

    @property
    def has_room(self) -> bool:
        """Enough has gone for output to flow again, not just a little."""
        return not self._unwritten and self.size_bytes < ROOM_SHARE * self._most_bytes

    def ended(self) -> tuple[Held, ...]:
        """Attempts whose end lies here: the hello names them too, or they would be given out again."""
        return tuple(held for _, held in self._ends)

    # Changes

    def put(self, messages: Sequence[Durable]) -> None:
        """Number the messages and keep them. One write for all.

        A full disk loses nothing while the agent lives: they stay in memory and are written later.
        """
        if not messages or self._is_closed:
            # After the end a launcher's last words mean nothing: its tasks are lost with this agent.
            return
        for message in messages:
            record = self._judged(message)
            self._recent.append(record)
            self._recent_bytes += len(record)
            self._note_end(self._next, message, record)
            self._next += 1
        self._unwritten += len(messages)
        self.write()
        self._forget_oldest_in_memory()

    def write(self) -> bool:
        """Bring what is only in memory to the disk; False if it still takes nothing."""
        if not self._unwritten or self._is_closed:
            return True
        waiting = islice(self._recent, len(self._recent) - self._unwritten, None)
        try:
            if self._segments[-1].size >= self._segment_bytes:
                self._begin_segment(self._next - self._unwritten)
            self._segments[-1].append(map(pack, waiting), self._unwritten)
        except OSError as error:
            log.warning("outbox.unwritable", extra={"folder": str(self._folder), "reason": str(error)})
            return False
        self._unwritten = 0
        self._unsynced = True
        return True

    def acknowledge(self, upto: int) -> None:
        """Everything below `upto` is safe elsewhere; forget it."""
        upto = min(upto, self._next)
        if upto <= self._confirmed:
            return
        self._confirmed = upto
        self.aside.forget_below(upto)
        while self._ends and self._ends[0][0] < upto:
            self._ends.popleft()
        keep = self._next - upto
        while len(self._recent) > max(keep, self._unwritten):
            self._recent_bytes -= len(self._recent.popleft())
        while len(self._segments) > 1 and self._segments[1].first <= upto:
            self._segments.popleft().remove()
        if self._segments[-1].size >= RENEW_BYTES:
            self._renew_if_confirmed()

    def set_aside(self, reason: str) -> None:
        """The first unconfirmed message is refused: the shortest that says its end is sent in its place.

        If that is refused too, nothing is: then the hello does not name the attempt any more.
        """
        number = self._confirmed
        for record in self._stored(number, most_bytes=1, most_count=1):
            self._replace(number, record, reason)

    def _replace(self, number: int, record: bytes, reason: str) -> None:
        if self.aside.replace(number, record, reason) == NOTHING:
            self._ends = deque(each for each in self._ends if each[0] != number)

    def sync(self) -> None:
        """Wait for the disk, so that power loss costs nothing either. May take long: call it in a thread."""
        if not self._unsynced:
            return
        self._unsynced = False
        try:
            self._segments[-1].sync()
            sync_folder(self._folder)
        except OSError as error:
            log.warning("outbox.unsynced", extra={"folder": str(self._folder), "reason": str(error)})

    def close(self) -> None:
        """Harmless twice. Nothing is taken any more: its files' numbers may belong to others by then."""
        if self._is_closed:
            return
        self.write()
        self._renew_if_confirmed()
        self._is_closed = True
        for segment in self._segments:
            segment.close()

    # For the link

    def read(self, start: int, *, most_bytes: int, most_count: int) -> list[bytes]:
        """Records from number `start` on, as many as fit; at least one if there is one."""
        return self.aside.told(start, self._stored(start, most_bytes=most_bytes, most_count=most_count))

    def _stored(self, start: int, *, most_bytes: int, most_count: int) -> list[bytes]:
        count = min(self._next - start, most_count)
        if count <= 0:
            return []
        first_recent = self._next - len(self._recent)
        if start >= first_recent:
            records = islice(self._recent, start - first_recent, start - first_recent + count)
            return _as_many_as_fit(list(records), most_bytes)
        return self._read_disk(start, most_bytes, min(count, first_recent - start))

    def _read_disk(self, start: int, most_bytes: int, most_count: int) -> list[bytes]:
        segment = next(each for each in reversed(self._segments) if each.first <= start)
        if self._cursor.number != start or self._cursor.segment is not segment:
            self._cursor = _Cursor(segment, segment.first, 0)
        found: list[bytes] = []
        size = 0
        for record in segment.records(self._cursor.offset):
            if self._cursor.number >= start:
                size += len(record)
                if found and (size > most_bytes or len(found) == most_count):
                    break
                found.append(record)
            self._cursor = _Cursor(
                segment, self._cursor.number + 1, self._cursor.offset + HEADER_BYTES + len(record)
            )
        return found

    def _judged(self, message: Durable) -> bytes:
        """Its record, or another's if the coordinator would have to refuse it: then only this one is lost."""
        try:
            record = encode_durable(message)
            decode_durable(record)
        except (msgspec.MsgspecError, ValueError) as error:
            return self.aside.refuse(self._next, message, f"{BY_OUR_RULES} ({error})")
        if len(record) > MESSAGE_MOST_BYTES:
            reason = f"it has {len(record)} bytes, and {MESSAGE_MOST_BYTES} is the limit"
            return self.aside.refuse(self._next, message, reason)
        return record

    def _note_end(self, number: int, message: Durable, record: bytes) -> None:
        if not isinstance(message, TaskOutput) and record != NOTHING:
            ran = isinstance(message, TaskResult)
            self._ends.append((number, Held(message.job_id, message.index, message.attempt, running=ran)))

    def _find_ends(self) -> None:
        number = self._confirmed
        while records := self._stored(number, most_bytes=MIB, most_count=self._next):
            for record in records:
                self._find_end(number, record)
                number += 1

    def _find_end(self, number: int, record: bytes) -> None:
        try:
            decode_durable(record)
        except (msgspec.MsgspecError, ValueError) as error:
            # Another version of planetmesh wrote it.
            self._replace(number, record, f"{BY_OUR_RULES} ({error})")
        (told,) = self.aside.told(number, [record])
        self._note_end(number, decode_durable(told), told)

    # Files

    def _begin_segment(self, first: int) -> None:
        fresh = Segment.create(self._folder, first)
        if self._unsynced:
            self._segments[-1].sync()
        self._segments[-1].close()
        self._segments.append(fresh)

    def _renew_if_confirmed(self) -> None:
        """With nothing left to send an empty file takes the place of the last one."""
        last = self._segments[-1]
        if self._confirmed < self._next or self._unwritten or not last.count:
            return
        try:
            self._begin_segment(self._next)
        except OSError as error:
            log.warning("outbox.unwritable", extra={"folder": str(self._folder), "reason": str(error)})
            return
        self._segments.remove(last)
        last.remove()

    def _forget_oldest_in_memory(self) -> None:
        while self._recent_bytes > RECENT_BYTES and len(self._recent) > self._unwritten + 1:
            self._recent_bytes -= len(self._recent.popleft())


class _Cursor:
    """Where in which file the next record to be sent again begins."""

    def __init__(self, segment: Segment | None = None, number: int = -1, offset: int = 0) -> None:
        self.segment = segment
        self.number = number
        self.offset = offset


def _as_many_as_fit(records: list[bytes], most_bytes: int) -> list[bytes]:
    size = 0
    for place, record in enumerate(records):
        size += len(record)
        if place and size > most_bytes:
            return records[:place]
    return records


def _recover(folder: Path) -> list[Segment]:
    """The sound segments of a folder, without a gap in their numbers; the last is open for writing."""
    sound: list[Segment] = []
    for path in sorted(path for path in folder.iterdir() if path.name.isdecimal()):
        segment, whole = Segment.recover(path)
        if sound and sound[-1].end != segment.first:
            log.warning("outbox.damaged", extra={"lost_from": sound[-1].end, "lost_upto": segment.first})
            for older in sound:
                older.remove()
            sound = []
        if not whole:
            log.info("outbox.tail_cut", extra={"number": segment.end})
        sound.append(segment)
    if not sound:
        return [Segment.create(folder, 0)]
    sound[-1].continue_writing()
    return sound
