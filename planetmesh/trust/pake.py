"""The password-authenticated key exchange, behind three methods, so that it can be swapped.

`spake2` is careful mathematics with a lenient front door: it takes trailing bytes and non-canonical
encodings, checks some things by `assert`, and raises many classes. The door is closed here: exact size,
canonical point, not the identity, and one PairingFailed for everything.
"""

from __future__ import annotations

from typing import Protocol

from spake2 import SPAKE2_A, SPAKE2_B

from planetmesh.errors import PairingFailed

MESSAGE_BYTES = 33
"""One byte for the side, 32 for the point."""
_FIELD = 2**255 - 19
_SIDE_A, _SIDE_B = b"A", b"B"


class Pake(Protocol):
    """One side of one exchange; each method is called once, in this order."""

    def start(self) -> bytes:
        """Draw a fresh scalar and return our message. Costs milliseconds."""

    def accept(self, message: bytes) -> None:
        """Take the other side's message; raise PairingFailed unless it is well-formed. Costs nothing."""

    def finish(self) -> bytes:
        """The shared key, equal on both sides if the codes were. Costs milliseconds."""


class Spake2:
    """SPAKE2 over the Ed25519 group."""

    def __init__(self, secret: bytes, identity_a: bytes, identity_b: bytes, *, is_joiner: bool) -> None:
        side = SPAKE2_A if is_joiner else SPAKE2_B
        self._side = side(secret, idA=identity_a, idB=identity_b)
        self._other = _SIDE_B if is_joiner else _SIDE_A
        self._message = b""

    def start(self) -> bytes:
        message: bytes = self._side.start()
        return message

    def accept(self, message: bytes) -> None:
        if len(message) != MESSAGE_BYTES or message[:1] != self._other or not _is_canonical(message[1:]):
            raise PairingFailed("The pairing failed.")
        self._message = message

    def finish(self) -> bytes:
        try:
            key: bytes = self._side.finish(self._message)
        except Exception as error:  # the library raises ValueError, AssertionError and classes of its own
            raise PairingFailed("The pairing failed.") from error
        return key


def _is_canonical(point: bytes) -> bool:
    """Whether this is the one encoding of a point, and not that of the identity (y = 1)."""
    y = int.from_bytes(point, "little") & ((1 << 255) - 1)
    return y < _FIELD and y != 1
