"""Pairing codes: drawing, printing and reading them. Pure but for the secrets that `new_code` draws.

Short, for people:  S-XXXX-XXXX-C    slot (public), 40 secret bits, check symbol
Long, for files:    the same with 130 secret bits and the CA's fingerprint, so nothing is left to guess

The check symbol makes a typing error a local matter: it costs none of the window's attempts.
"""

from __future__ import annotations

import re
import secrets

import msgspec

from planetmesh.errors import BadInput

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's 32 symbols: no I, L, O, U."""
SLOT_MOST = 99
SHORT_SYMBOLS = 8
"""40 bits; with 5 attempts a guesser succeeds once in 2e11 codes."""
LONG_SYMBOLS = 26
"""130 bits: no number of guesses matters."""
_FINGERPRINT_HEX = 64

_SHORT = re.compile(rf"([1-9][0-9]?)([{ALPHABET}]{{{SHORT_SYMBOLS}}})([{ALPHABET}])")
_LONG = re.compile(
    rf"([1-9][0-9]?)([{ALPHABET}]{{{LONG_SYMBOLS}}})([0-9A-F]{{{_FINGERPRINT_HEX}}})([{ALPHABET}])"
)
_LOOK_ALIKES = str.maketrans(
    {"O": "0", "I": "1", "L": "1", " ": None, "-": None, "\t": None, "\n": None, "\r": None}
)
_TEXT_MOST = 256
_AGAIN = "Type it again as shown, like 7-K3QF-9TXA-M. `planetmesh code` on the coordinator makes a new one."


class Code(msgspec.Struct, frozen=True):
    """A pairing code. Never log it: its `repr` hides the secret, `text` shows it."""

    slot: int
    secret: str
    authority: str = ""
    """Long form only: SHA-256 of the CA certificate, lower-case hex."""

    def __repr__(self) -> str:
        return f"Code(slot={self.slot})"

    @property
    def is_long(self) -> bool:
        return bool(self.authority)

    @property
    def text(self) -> str:
        """The code as it is shown and typed."""
        payload = self.secret + self.authority.upper()
        groups = [payload[start : start + 4] for start in range(0, len(payload), 4)]
        return "-".join([str(self.slot), *groups, check_symbol(self.slot, payload)])


def new_code(slot: int) -> Code:
    """Draw a short code for a slot."""
    return Code(slot, _draw(SHORT_SYMBOLS))


def new_long_code(slot: int, authority: str) -> Code:
    """Draw a code for unattended installs, bound to the CA with this fingerprint."""
    return Code(slot, _draw(LONG_SYMBOLS), authority)


def parse_code(text: str) -> Code:
    """Read what a person typed; raise BadInput for anything but a code whose check symbol is right."""
    if len(text) > _TEXT_MOST or not text.isascii():
        raise BadInput("This is not a pairing code.", hint=_AGAIN)
    plain = text.upper().translate(_LOOK_ALIKES)
    match = _SHORT.fullmatch(plain) or _LONG.fullmatch(plain)
    if match is None:
        raise BadInput("This is not a pairing code.", hint=_AGAIN)
    slot, secret, *authority, check = match.groups()
    if check_symbol(int(slot), "".join((secret, *authority))) != check:
        raise BadInput("There is a typing error in the pairing code.", hint=_AGAIN)
    return Code(int(slot), secret, "".join(authority).lower())


def check_symbol(slot: int, payload: str) -> str:
    """One symbol that changes with any single wrong symbol and any two neighbours swapped."""
    total = 0
    for position, symbol in enumerate(f"{slot:02d}{payload}"):
        weight = _POWERS[(position + 1) % len(_POWERS)]
        total ^= _times(ALPHABET.index(symbol), weight)
    return ALPHABET[total]


def _draw(symbols: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(symbols))


def _times(left: int, right: int) -> int:
    """Multiply in the field of 32 elements (x^5 + x^2 + 1)."""
    product = 0
    while right:
        if right & 1:
            product ^= left
        left <<= 1
        if left & 0b100000:
            left ^= 0b100101
        right >>= 1
    return product


def _powers() -> tuple[int, ...]:
    """The 31 powers of the field's generator: all different, so each position has its own weight."""
    values = [1]
    while len(values) < 31:
        values.append(_times(values[-1], 2))
    return tuple(values)


_POWERS = _powers()
