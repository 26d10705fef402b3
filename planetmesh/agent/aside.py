"""Durable messages that cannot be told, kept with the reason, and what is told in their place.

A message that breaks the wire's rules, or that the coordinator refuses, must not stop all that stands behind
it. In its place goes the shortest one that is always valid: a failed end with the reason, so that the task
still has exactly one end. Of a piece of output nothing is left; then its attempt's end may not be a good one
either. Each is kept as a file that a person can read, the newest hundred of them.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from planetmesh.agent.reports import without_files
from planetmesh.logs import clean
from planetmesh.model.ids import JobId
from planetmesh.model.job import Outcome
from planetmesh.wire.agent import TaskOutput, TaskResult, TaskReturned

log = logging.getLogger(__name__)

FILES_MOST = 100
RECORD_KEPT_BYTES = 64 * 1024
"""Of one message: what is wrong with it is seen in its beginning."""
SPOILED_MOST = 10_000
"""Attempts of which a piece of output is missing; the oldest have ended long ago."""
ERROR_MOST_LETTERS = 500
REASON_MOST_LETTERS = 200

NEXT = "The node's folder `refused` keeps it; bring both machines to the same version of planetmesh."

Durable = TaskOutput | TaskResult | TaskReturned
Attempt = tuple[str, int, int]
decode_durable = msgspec.msgpack.Decoder(Durable).decode
encode_durable = msgspec.msgpack.Encoder().encode

NOTHING = encode_durable(TaskOutput(JobId(""), 0, 0, 1, 0, b""))
"""Holds a number's place: acknowledged and dropped by every coordinator, as it belongs to no task."""


class Kept(msgspec.Struct, frozen=True):
    """One of them, as its file says it."""

    number: int
    reason: str
    at: float
    """Epoch seconds."""
    message: Any
    """What it says, as far as it can be read."""
    digest: str
    """SHA-256 of the record: a number alone may belong to another one after damage to the outbox."""
    record: bytes
    instead: bytes
    spoils: Attempt | None = None


class Aside:
    """Made once per agent process, with the outbox. Without a folder nothing lasts beyond the process."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._instead: dict[int, Kept] = {}
        self._spoiled: dict[Attempt, str] = {}
        self.count = 0
        """Set aside by this process."""
        for kept in self._load():
            self._instead[kept.number] = kept
            if kept.spoils is not None:
                self._spoil(kept.spoils, kept.reason)

    def forget_below(self, number: int) -> None:
        """They are confirmed."""
        for each in [each for each in self._instead if each < number]:
            del self._instead[each]

    def told(self, start: int, records: list[bytes]) -> list[bytes]:
        """These records from number `start` on, as they are to be sent."""
        if not self._instead and not self._spoiled:
            return records
        return [self._told(number, record) for number, record in enumerate(records, start)]

    def replace(self, number: int, record: bytes, reason: str) -> bytes:
        """This stored record is told in other words from now on; returns them."""
        before = self._instead.get(number)
        if before is not None and before.digest == _digest(record):
            self.count -= 1
            kept = msgspec.structs.replace(before, instead=NOTHING, reason=reason, at=time.time())
        else:
            kept = _kept(number, _parts_of(record), record, reason)
        self._instead[number] = kept
        return self._keep(kept)

    def refuse(self, number: int, message: Durable, reason: str) -> bytes:
        """A message that must not be stored as it is; returns the record to be stored for it."""
        parts = msgspec.to_builtins(message, builtin_types=(bytes,))
        return self._keep(_kept(number, parts, repr(message).encode(errors="backslashreplace"), reason))

    def _told(self, number: int, record: bytes) -> bytes:
        kept = self._instead.get(number)
        if kept is not None and kept.digest == _digest(record):
            return kept.instead
        message = decode_durable(record) if self._spoiled else None
        if not isinstance(message, TaskResult) or message.outcome not in {Outcome.OK, Outcome.INPUTS}:
            return record
        reason = self._spoiled.get((message.job_id, message.index, message.attempt))
        if reason is None:
            return record
        return encode_durable(without_files(message, f"A piece of its output could not be told: {reason}"))

    def _keep(self, kept: Kept) -> bytes:
        self.count += 1
        if kept.spoils is not None:
            self._spoil(kept.spoils, kept.reason)
        where = str(self._folder) if self._folder is not None else ""
        log.error(
            "outbox.set_aside",
            extra={
                "number": kept.number,
                "reason": kept.reason,
                "kept_in": where,
            },
        )
        self._write(kept)
        return kept.instead

    def _spoil(self, attempt: Attempt, reason: str) -> None:
        self._spoiled[attempt] = reason
        while len(self._spoiled) > SPOILED_MOST:
            del self._spoiled[next(iter(self._spoiled))]

    # Files

    def _write(self, kept: Kept) -> None:
        if self._folder is None:
            return
        path = self._folder / f"{time.time_ns():020d}.json"
        half = path.with_suffix(".half")
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(msgspec.json.encode(kept))
            half.replace(path)
            for old in self._files()[:-FILES_MOST]:
                old.unlink(missing_ok=True)
        except OSError as error:
            # In memory it is all the same; after a restart the coordinator refuses it once more.
            log.warning("outbox.unwritable", extra={"folder": str(self._folder), "reason": str(error)})

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.json")) if self._folder is not None else []

    def _load(self) -> list[Kept]:
        found = []
        for path in self._files():
            with suppress(OSError, msgspec.MsgspecError, ValueError):
                found.append(msgspec.json.decode(path.read_bytes(), type=Kept))
        return found


def _kept(number: int, parts: Any, record: bytes, reason: str) -> Kept:
    reason = clean(reason, REASON_MOST_LETTERS)
    instead, spoils = _instead_of(parts, reason)
    return Kept(
        number=number,
        reason=reason,
        at=time.time(),
        message=clean(repr(parts), 1000),
        digest=_digest(record),
        record=record[:RECORD_KEPT_BYTES],
        instead=instead,
        spoils=spoils,
    )


def _instead_of(parts: Any, reason: str) -> tuple[bytes, Attempt | None]:
    """The shortest message that still says the end, and whose output has lost a piece."""
    error = f"How it ended could not be told: {reason.rstrip('.')}. {NEXT}"[:ERROR_MOST_LETTERS]
    said: Durable | None = None
    spoils: Attempt | None = None
    match parts:
        case ["result", str(job_id), int(index), int(attempt), *rest]:
            stopped = rest[:1] == [Outcome.CANCELLED.value]
            outcome = Outcome.CANCELLED if stopped else Outcome.OUTPUT
            said = TaskResult(JobId(job_id), index, attempt, outcome, error=error)
        case ["returned", str(job_id), int(index), int(attempt), *rest]:
            said = TaskReturned(JobId(job_id), index, attempt, started=rest[1:2] == [True])
        case ["output", str(job_id), int(index), int(attempt), *_]:
            spoils = (job_id, index, attempt)
    if said is None:
        return NOTHING, spoils
    try:
        record = encode_durable(said)
        decode_durable(record)
    except (msgspec.MsgspecError, ValueError):
        return NOTHING, spoils
    return record, spoils


def _parts_of(record: bytes) -> Any:
    """What a record says, whatever version of the messages wrote it."""
    try:
        return msgspec.msgpack.decode(record)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _digest(record: bytes) -> str:
    return sha256(record).hexdigest()
