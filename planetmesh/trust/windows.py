"""PURE: the pairing windows that are open now, and how many guesses each has left.

In memory only: a restart closes them all. `now` is the steady clock, so a changed wall clock opens
nothing. The desk (`pairing_server`) owns one table and asks it before it reveals anything.
"""

from __future__ import annotations

import msgspec

from planetmesh.errors import BadInput, Conflict, NotFound, PairingFailed
from planetmesh.model.identity import Role
from planetmesh.trust.codes import SLOT_MOST, Code

ATTEMPTS = 5
WINDOWS_MOST = 32
"""Open at once; an operator who wants more uses the long code."""
TTL_LEAST_SECONDS = 10.0
TTL_MOST_SECONDS = 24 * 3600.0
SHORT_TTL_MOST_SECONDS = 3600.0
"""Forty bits are for minutes, not for days."""
PAIRABLE = (Role.AGENT, Role.OPERATOR, Role.VIEWER)


class PairingLimits(msgspec.Struct, frozen=True):
    """Every number of the pairing listener, so that tests can turn them down."""

    exchange_seconds: float = 10.0
    """From accepting the socket to the last frame, TLS handshake included."""
    step_seconds: float = 3.0
    """For each answer within an exchange; a joiner's program needs milliseconds for it."""
    between_seconds: float = 1.0
    """At most one new exchange per address in this time."""
    running_most: int = 2
    """An exchange costs milliseconds of mathematics, on a small board a tenth of a second."""
    sockets_most: int = 32
    sockets_each_most: int = 8
    """Of one address, so that one machine cannot fill the listener alone."""
    reply_seconds: float = 0.250
    """A confirmation is answered this long after it came, right or wrong, so that timing says nothing."""


class Window:
    """One open code: good for one enrolment in one role."""

    def __init__(self, code: Code, role: Role, expires: float) -> None:
        self.code = code
        self.role = role
        self.expires = expires
        self.attempts_left = ATTEMPTS
        self.running = 0
        """Exchanges that have spent an attempt and are not over."""
        self.burned = False

    @property
    def slot(self) -> int:
        return self.code.slot

    def is_open(self, now: float) -> bool:
        """Whether an exchange may still begin."""
        return not self.burned and now < self.expires and (self.code.is_long or self.attempts_left > 0)

    def is_over(self, now: float) -> bool:
        """Whether nothing can come of it any more, not even of an exchange under way."""
        return self.burned or now >= self.expires or (not self.is_open(now) and self.running == 0)


class Windows:
    """The table of open windows, by slot."""

    def __init__(self) -> None:
        self._open: dict[int, Window] = {}

    def __len__(self) -> int:
        return len(self._open)

    def slots(self) -> tuple[int, ...]:
        return tuple(sorted(self._open))

    def all(self) -> tuple[Window, ...]:
        return tuple(self._open[slot] for slot in self.slots())

    def free_slots(self, avoid: frozenset[int] = frozenset()) -> tuple[int, ...]:
        """Slots a new code may take: the short ones while there are any, none that was just in use."""
        free = [slot for slot in range(1, SLOT_MOST + 1) if slot not in self._open and slot not in avoid]
        return tuple(slot for slot in free if slot < 10) or tuple(free)

    def open(self, code: Code, role: Role, ttl_seconds: float, now: float) -> Window:
        """Open a window; raise BadInput or Conflict if it may not be."""
        most = TTL_MOST_SECONDS if code.is_long else SHORT_TTL_MOST_SECONDS
        if role not in PAIRABLE:
            raise BadInput(f"Nobody can pair as {role}.", hint="Use --role agent, operator or viewer.")
        if not TTL_LEAST_SECONDS <= ttl_seconds <= most:
            raise BadInput(f"A code lives between {TTL_LEAST_SECONDS:.0f} s and {most / 60:.0f} min.")
        if len(self._open) >= WINDOWS_MOST or code.slot in self._open:
            raise Conflict("Too many codes are open.", hint="Wait until some are used or have expired.")
        window = Window(code, role, now + ttl_seconds)
        self._open[code.slot] = window
        return window

    def find(self, slot: int, now: float) -> Window:
        """The window an exchange may begin on; raise PairingFailed if there is none."""
        window = self._open.get(slot)
        if window is None or not window.is_open(now):
            raise PairingFailed("The pairing failed.")
        return window

    def spend(self, window: Window, now: float) -> None:
        """Count one attempt, before anything is answered; raise PairingFailed if none is left."""
        if not window.is_open(now):
            raise PairingFailed("The pairing failed.")
        if not window.code.is_long:
            window.attempts_left -= 1
        window.running += 1

    def settle(self, window: Window) -> None:
        """Note that an exchange which spent an attempt is over."""
        window.running -= 1

    def burn(self, window: Window, now: float) -> None:
        """Use the code up, in the same step as the enrolment; raise PairingFailed if it is gone already."""
        if window.burned or now >= window.expires:
            raise PairingFailed("The pairing failed.")
        window.burned = True

    def close(self, slot: int) -> None:
        """Close a window by hand, also for exchanges under way; raise NotFound if there is none."""
        window = self._open.pop(slot, None)
        if window is None:
            raise NotFound(f"No pairing code with slot {slot} is open.")
        window.burned = True

    def sweep(self, now: float) -> tuple[Window, ...]:
        """Drop what is over; return it."""
        gone = tuple(window for window in self.all() if window.is_over(now))
        for window in gone:
            del self._open[window.slot]
        return gone
