"""PURE: what is said in a pairing, and in which order (docs/security.md, Pairing).

No sockets, no clock. `pairing_server` drives `DeskExchange` (side B, the coordinator), `enroll` drives
`JoinerExchange` (side A). The joiner confirms first: the side that counts attempts reveals nothing
before it has checked the other. Anything unexpected, of any kind, is one PairingFailed.

       joiner (A)                                         desk (B)
       HELLO       version, slot, nonce             ->
                                                    <-    HELLO       version, mesh, CA hash, nonce
       PAKE        33 bytes                         ->                the attempt is counted here
                                                    <-    PAKE        33 bytes
       CONFIRM     MAC over all of the above        ->                checked first
                                                    <-    CONFIRM     checked before anything more is sent
                                                    <-    sealed: CA certificate, coordinator, time
       sealed: certificate request, name, system    ->                the code is burned here
                                                    <-    sealed: certificate, membership
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from planetmesh.errors import PairingFailed
from planetmesh.model.identity import Role
from planetmesh.trust.codes import SLOT_MOST, Code, new_code, new_long_code, parse_code
from planetmesh.trust.identity import Membership
from planetmesh.trust.pake import Pake, Spake2
from planetmesh.trust.windows import PairingLimits, Window, Windows

__all__ = [
    "Code",
    "DeskExchange",
    "JoinerExchange",
    "PairingLimits",
    "Window",
    "Windows",
    "new_code",
    "new_long_code",
    "parse_code",
]

VERSION = 1
NONCE_BYTES = 16
HASH_BYTES = 32
FRAME_MOST_BYTES = 8 * 1024
NAME_MOST = 64

_PROTOCOL = b"planetmesh pairing 1"
_LABELS = ("confirm joiner", "confirm desk", "joiner to desk", "desk to joiner", "exporter")

Nonce = Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
Hash = Annotated[bytes, msgspec.Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
HexId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
ShortText = Annotated[str, msgspec.Meta(max_length=NAME_MOST)]


class Frame(msgspec.Struct, frozen=True, array_like=True, tag=True, forbid_unknown_fields=True):
    """Anything that is said; the tag is the name of the class."""


class JoinerHello(Frame, frozen=True):
    version: int
    slot: Annotated[int, msgspec.Meta(ge=1, le=SLOT_MOST)]
    nonce: Nonce


class DeskHello(Frame, frozen=True):
    version: int
    mesh_id: HexId
    authority: Hash
    nonce: Nonce


class Busy(Frame, frozen=True):
    """Instead of DeskHello: not now. Nothing was counted; try again after so long."""

    retry_seconds: Annotated[float, msgspec.Meta(ge=0.0, le=60.0)]


class JoinerPake(Frame, frozen=True):
    point: bytes


class DeskPake(Frame, frozen=True):
    point: bytes


class JoinerConfirm(Frame, frozen=True):
    proof: Hash


class DeskConfirm(Frame, frozen=True):
    proof: Hash


class Sealed(Frame, frozen=True):
    """One of the structs below, encrypted."""

    box: bytes


class Welcome(Frame, frozen=True):
    ca_pem: bytes
    mesh_id: HexId
    coordinator_id: HexId
    server_time: float


class Request(Frame, frozen=True):
    csr_der: bytes
    display_name: ShortText
    os: ShortText


class Granted(Frame, frozen=True):
    cert_pem: bytes
    membership: Membership


class Step(StrEnum):
    """What has happened last; FAILED is entered by any frame that is not due."""

    NEW = "new"
    HELLO = "hello"
    PAKE = "pake"
    CONFIRMED = "confirmed"
    WELCOMED = "welcomed"
    REQUESTED = "requested"
    DONE = "done"
    FAILED = "failed"


NEXT: dict[Step, tuple[type[Frame], Step]] = {
    # after          the only frame that is due, and where it leads
    Step.NEW: (JoinerHello, Step.HELLO),
    Step.HELLO: (JoinerPake, Step.PAKE),
    Step.PAKE: (JoinerConfirm, Step.CONFIRMED),
    Step.CONFIRMED: (Welcome, Step.WELCOMED),
    Step.WELCOMED: (Request, Step.REQUESTED),
    Step.REQUESTED: (Granted, Step.DONE),
}
"""The whole exchange. Each joiner's frame up to CONFIRM has its answer of the same kind from the desk."""

_Frame = TypeVar("_Frame", bound=Frame)
_Answer = TypeVar("_Answer")


class Keys(msgspec.Struct, frozen=True):
    """Five keys with five purposes, out of one shared key."""

    joiner_confirm: bytes
    desk_confirm: bytes
    joiner_to_desk: bytes
    desk_to_joiner: bytes
    exporter: bytes


class Channel:
    """One direction of sealed frames: a key and a counter, never the same nonce twice."""

    def __init__(self, key: bytes, transcript: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._transcript = transcript
        self._counter = 0

    def seal(self, frame: Frame) -> bytes:
        box = self._cipher.encrypt(self._nonce(), encode(frame), self._transcript)
        return encode(Sealed(box))

    def open(self, raw: bytes, kind: type[_Frame]) -> _Frame:
        box = decode(raw, Sealed).box
        try:
            plain = self._cipher.decrypt(self._nonce(), box, self._transcript)
        except (InvalidTag, ValueError) as error:
            raise failed() from error
        return decode(plain, kind)

    def _nonce(self) -> bytes:
        self._counter += 1
        return self._counter.to_bytes(12, "big")


class _Exchange:
    """What both sides share: the step, the transcript, the keys."""

    def __init__(self, code: Code, role: Role, certificate_hash: bytes, nonce: bytes) -> None:
        self.step = Step.NEW
        self._code = code
        self._role = role
        self._certificate_hash = certificate_hash
        self._nonce = nonce
        self._said: list[bytes] = []
        self._pake: Pake | None = None
        self.authority = b""
        self._transcript = b""
        self._keys = Keys(b"", b"", b"", b"", b"")

    def _guarded(self, answer: Callable[[], _Answer]) -> _Answer:
        """Run one step: whatever goes wrong in it ends the exchange, with one and the same error."""
        try:
            return answer()
        except Exception as error:
            self.step = Step.FAILED
            raise failed() from error

    def _move(self, due: type[Frame]) -> None:
        expected, after = NEXT.get(self.step, (Frame, Step.FAILED))
        self.step = after if expected is due else Step.FAILED
        if self.step is Step.FAILED:
            raise failed()

    def _begin_pake(self, mine: JoinerHello, theirs: DeskHello, *, is_joiner: bool) -> Pake:
        """Bind the exchange to role, mesh, CA, slot, both nonces and the TLS certificate that A saw."""
        self.authority = theirs.authority
        role = str(self._role).encode("ascii")
        identity_a = _join(_PROTOCOL, role, b"A", mine.nonce)
        identity_b = _join(
            _PROTOCOL,
            role,
            b"B",
            theirs.mesh_id.encode("ascii"),
            theirs.authority,
            self._certificate_hash,
            mine.slot.to_bytes(1, "big"),
            theirs.nonce,
        )
        secret = self._code.secret.encode("ascii")
        self._pake = Spake2(secret, identity_a, identity_b, is_joiner=is_joiner)
        return self._pake

    def _derive(self) -> None:
        if self._pake is None:
            raise failed()
        self._transcript = sha256(
            _join(_PROTOCOL, *self._said, self._certificate_hash, self.authority)
        ).digest()
        shared = self._pake.finish()
        self._keys = Keys(*(_derive_key(shared, self._transcript, label) for label in _LABELS))

    def _proof(self, key: bytes) -> bytes:
        return hmac.digest(key, self._transcript, "sha256")

    def _check_proof(self, key: bytes, proof: bytes) -> None:
        if not hmac.compare_digest(self._proof(key), proof):
            raise failed()


class DeskExchange(_Exchange):
    """Side B: the coordinator, for one connection."""

    def __init__(
        self, window: Window, mesh_id: str, authority: bytes, certificate_hash: bytes, nonce: bytes
    ) -> None:
        super().__init__(window.code, window.role, certificate_hash, nonce)
        self._facts = DeskHello(VERSION, mesh_id, authority, nonce)
        self._answer = b""

    def hello(self, raw: bytes) -> bytes:
        """Answer the greeting, and do the expensive part of our PAKE message ahead of its need."""

        def answer() -> bytes:
            hello = decode(raw, JoinerHello)
            self._move(JoinerHello)
            if hello.version != VERSION:
                raise failed()
            reply = encode(self._facts)
            self._answer = encode(DeskPake(self._begin_pake(hello, self._facts, is_joiner=False).start()))
            self._said += [raw, reply]
            return reply

        return self._guarded(answer)

    def pake(self, raw: bytes) -> bytes:
        """Answer the PAKE message. The caller has counted the attempt before."""

        def answer() -> bytes:
            frame = decode(raw, JoinerPake)
            self._move(JoinerPake)
            if self._pake is None:
                raise failed()
            self._pake.accept(frame.point)
            self._said += [raw, self._answer]
            return self._answer

        return self._guarded(answer)

    def confirm(self, raw: bytes) -> bytes:
        """Check the joiner's proof and return ours; raise PairingFailed if the codes differ."""

        def answer() -> bytes:
            frame = decode(raw, JoinerConfirm)
            self._move(JoinerConfirm)
            self._derive()
            self._check_proof(self._keys.joiner_confirm, frame.proof)
            self._incoming = Channel(self._keys.joiner_to_desk, self._transcript)
            self._outgoing = Channel(self._keys.desk_to_joiner, self._transcript)
            return encode(DeskConfirm(self._proof(self._keys.desk_confirm)))

        return self._guarded(answer)

    def welcome(self, frame: Welcome) -> bytes:
        self._move(Welcome)
        return self._outgoing.seal(frame)

    def request(self, raw: bytes) -> Request:
        def answer() -> Request:
            self._move(Request)
            return self._incoming.open(raw, Request)

        return self._guarded(answer)

    def granted(self, frame: Granted) -> bytes:
        self._move(Granted)
        return self._outgoing.seal(frame)


class JoinerExchange(_Exchange):
    """Side A: the machine or person that joins."""

    def hello(self) -> bytes:
        self._mine = JoinerHello(VERSION, self._code.slot, self._nonce)
        raw = encode(self._mine)
        self._move(JoinerHello)
        self._said.append(raw)
        return raw

    def pake(self, raw: bytes) -> bytes:
        """Take the desk's greeting, answer with our PAKE message. A long code names the CA: check it here."""

        def answer() -> bytes:
            theirs = decode(raw, DeskHello)
            self._move(JoinerPake)
            if theirs.version != VERSION:
                raise failed()
            if self._code.is_long and not hmac.compare_digest(theirs.authority.hex(), self._code.authority):
                raise failed()
            self.mesh_id = theirs.mesh_id
            reply = encode(JoinerPake(self._begin_pake(self._mine, theirs, is_joiner=True).start()))
            self._said += [raw, reply]
            return reply

        return self._guarded(answer)

    def confirm(self, raw: bytes) -> bytes:
        """Take the desk's PAKE message, answer with our proof."""

        def answer() -> bytes:
            frame = decode(raw, DeskPake)
            self._move(JoinerConfirm)
            if self._pake is None:
                raise failed()
            self._pake.accept(frame.point)
            self._said.append(raw)
            self._derive()
            return encode(JoinerConfirm(self._proof(self._keys.joiner_confirm)))

        return self._guarded(answer)

    def confirmed(self, raw: bytes) -> None:
        """Check the desk's proof; after a failure nothing more may be sent."""

        def answer() -> None:
            frame = decode(raw, DeskConfirm)
            self._check_proof(self._keys.desk_confirm, frame.proof)
            self._outgoing = Channel(self._keys.joiner_to_desk, self._transcript)
            self._incoming = Channel(self._keys.desk_to_joiner, self._transcript)

        self._guarded(answer)

    def welcome(self, raw: bytes) -> Welcome:
        def answer() -> Welcome:
            self._move(Welcome)
            frame = self._incoming.open(raw, Welcome)
            if frame.mesh_id != self.mesh_id:
                raise failed()
            return frame

        return self._guarded(answer)

    def request(self, frame: Request) -> bytes:
        self._move(Request)
        return self._outgoing.seal(frame)

    def granted(self, raw: bytes) -> Granted:
        def answer() -> Granted:
            self._move(Granted)
            return self._incoming.open(raw, Granted)

        return self._guarded(answer)


def failed() -> PairingFailed:
    """The one error of a pairing: it says nothing about which part was wrong."""
    return PairingFailed("The pairing failed.")


def encode(frame: Frame) -> bytes:
    return msgspec.msgpack.encode(frame)


def decode(raw: bytes, kind: type[_Frame]) -> _Frame:
    """Read one frame of the kind that is due; raise PairingFailed for anything else."""
    if len(raw) > FRAME_MOST_BYTES:
        raise failed()
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise failed() from error


def _derive_key(shared: bytes, transcript: bytes, label: str) -> bytes:
    info = _join(_PROTOCOL, label.encode("ascii"))
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=transcript, info=info).derive(shared)


def _join(*parts: bytes) -> bytes:
    """Put fields together so that no two lists of fields give the same bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
