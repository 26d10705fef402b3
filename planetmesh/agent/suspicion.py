"""Which durable message the coordinator refuses, learned from how links end. PURE.

A coordinator that takes a message for nonsense cuts the link and says no more than that. Sent again with
all the others it would be cut again, for ever. So after such an end the messages that were on the wire are
sent one by one, the first of them alone on its link: if that link is cut for nonsense too, it is the one.
No word of the coordinator about a number is needed, so this works with one of any version.
"""

from __future__ import annotations

from enum import Enum, auto

import msgspec

PROOFS = 2
"""Links that must end so with the same message alone on them: a cut by chance is no proof."""
FRUITLESS_MOST = 2
"""Links in a row that were lost, without a goodbye, before anything on them was confirmed. The goodbye may
have been lost with what was still on its way, so after these too messages are sent one by one."""


class LinkEnd(msgspec.Struct, frozen=True):
    """What was on the wire when a registered link ended. Numbers are the outbox's."""

    start: int
    """The first that this link could send."""
    first: int
    """The first that is not confirmed."""
    sent: int
    """The first that was not sent."""
    alone: bool
    """Nothing but durable messages was sent, beside the hello and answers to pings."""
    refused: bool
    """The coordinator said goodbye because of nonsense."""


class Verdict(Enum):
    NOTHING = auto()
    """It says nothing about a message."""
    LOOK_CLOSER = auto()
    """One of those that were sent may be refused: call again, they go one by one."""
    GUILTY = auto()
    """The first unconfirmed message is refused: tell something else in its place."""


class Suspicion:
    """One per agent process, over all its links."""

    def __init__(self) -> None:
        self._careful_upto = 0
        self._accused = -1
        self._proofs = 0
        self._fruitless = 0

    def is_careful(self, number: int) -> bool:
        """This message must be the only one on the wire that is not confirmed."""
        return number < self._careful_upto

    def on_end(self, end: LinkEnd) -> Verdict:
        if end.sent <= end.first:
            self._fruitless = 0
            return Verdict.NOTHING
        if not end.refused:
            self._on_lost(end)
            return Verdict.NOTHING
        self._fruitless = 0
        if not self.is_careful(end.first) or end.first > end.start:
            self._careful_upto = max(self._careful_upto, end.sent)
            return Verdict.LOOK_CLOSER
        if not end.alone:
            return Verdict.NOTHING
        return self._accuse(end.first)

    def _accuse(self, number: int) -> Verdict:
        self._proofs = self._proofs + 1 if self._accused == number else 1
        self._accused = number
        if self._proofs < PROOFS:
            return Verdict.LOOK_CLOSER
        self._proofs = 0
        return Verdict.GUILTY

    def _on_lost(self, end: LinkEnd) -> None:
        self._fruitless = self._fruitless + 1 if end.first == end.start else 0
        if self._fruitless >= FRUITLESS_MOST:
            self._careful_upto = max(self._careful_upto, end.sent)
