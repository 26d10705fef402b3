"""One question to the API and its answer, repeated for a bounded time where that is safe.

A coordinator that restarts is gone for seconds; a program that waits for a job should not notice. What was
never sent may always be repeated, what was sent only if doing it twice is the same as once. A coordinator
that was never reached is reported at once instead.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from planetmesh.client.connect import Call, Link
from planetmesh.client.failures import AnsweredNot, ConnectionLost, read_error
from planetmesh.errors import CertificateRefused, MeshError, PeerMisbehaved, TooLarge, Unreachable

PATIENCE_SECONDS = 120.0
"""A coordinator's machine reboots in less."""
PAUSE_FIRST_SECONDS = 0.05
PAUSE_LONGEST_SECONDS = 2.0
ANSWER_MOST_BYTES = 256 * 1024 * 1024
"""Ten thousand tasks with long inputs stay below; anything more is not an answer of ours."""

T = TypeVar("T")
OnWait = Callable[[MeshError], None]
"""Told once each time the coordinator is lost and waited for."""


class Caller:
    """Asks questions over one link."""

    def __init__(
        self, link: Link, *, patience_seconds: float = PATIENCE_SECONDS, on_wait: OnWait | None = None
    ) -> None:
        self.link = link
        self._patience_seconds = patience_seconds
        self._on_wait = on_wait

    async def ask(self, call: Call, kind: type[T]) -> T:
        """The answer as `kind`; raises the coordinator's own errors, Unreachable, NotAllowed."""
        body = await self.read(call)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            raise PeerMisbehaved(
                f"The coordinator's answer cannot be understood: {error}",
                hint="It may run another version: compare `planetmesh --version` on both machines.",
            ) from error

    async def read(self, call: Call) -> bytes:
        """The answer as it is."""
        patience = Patience(self._patience_seconds, self._on_wait)
        while True:
            try:
                return await self._once(call)
            except Unreachable as error:
                if not self.may_repeat(call, error):
                    raise
                await patience.wait(error)
            except CertificateRefused:
                if not await self.link.take_newer_certificate():
                    raise

    def may_repeat(self, call: Call, error: Unreachable) -> bool:
        """Whether asking again makes sense and does no harm."""
        if not self.link.was_reached:
            return False
        return call.repeatable or not isinstance(error, ConnectionLost)

    def patience(self) -> Patience:
        return Patience(self._patience_seconds, self._on_wait)

    async def _once(self, call: Call) -> bytes:
        async with self.link.send(call) as response:
            _refuse_too_long(response.content_length)
            body = await response.read()
            if response.status >= 400:
                raise read_error(response.status, body)
            return body


class Patience:
    """Growing pauses with a spread, until the time is up."""

    def __init__(self, seconds: float, on_wait: OnWait | None) -> None:
        self._seconds = seconds
        self._on_wait = on_wait
        self._until: float | None = None
        self._pause_seconds = 0.0
        self._is_told = False

    async def wait(self, error: Unreachable) -> None:
        """Pause before the next try; raises the error when there is no more time."""
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._seconds
        elif now >= self._until:
            raise error
        if not self._is_told and (self._pause_seconds > 0 or isinstance(error, AnsweredNot)):
            self._is_told = True
            if self._on_wait is not None:
                self._on_wait(error)
        # The first repeat is immediate: a kept connection that the coordinator closed is no outage.
        await asyncio.sleep(self._pause_seconds * random.uniform(0.75, 1.25))  # noqa: S311  a spread, no secret
        self._pause_seconds = min(PAUSE_LONGEST_SECONDS, max(PAUSE_FIRST_SECONDS, self._pause_seconds * 2))


def _refuse_too_long(length: int | None) -> None:
    if length is not None and length > ANSWER_MOST_BYTES:
        raise TooLarge(f"The coordinator's answer is {length} bytes long; {ANSWER_MOST_BYTES} is the limit.")
