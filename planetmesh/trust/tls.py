"""The only place that builds SSL contexts. Each is TLS 1.3 only, without session tickets.

A context from `client_context` is safe by construction: whoever connects with it, the handshake itself
fails unless the other side proves to be the expected member of our mesh, and it fails before our own
certificate or a single byte has left. A test greps that no other file makes a context.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from planetmesh.errors import NotAllowed, OtherMesh
from planetmesh.model.identity import Principal, Role
from planetmesh.trust.identity import Identity, Membership, parse_principal

HANDSHAKE_SECONDS = 5.0
"""For `ssl_handshake_timeout` of every server: asyncio's own 60 s let silent sockets pile up."""


_Context = TypeVar("_Context", bound=ssl.SSLContext)

CAUSES_MOST = 16
"""How deep `refusal_in` looks."""


class WrongPeer(ssl.SSLCertVerificationError):
    """The chain is good, but the other side is not the one that was to be called."""


class ExpectingContext(ssl.SSLContext):
    """A client context that knows whom it calls; see `client_context`."""

    expected: Expected


class Expected:
    """The one member that a client context may talk to."""

    def __init__(self, mesh_id: str, role: Role, id: str) -> None:  # noqa: A002  the word everywhere
        self.mesh_id = mesh_id
        self.role = role
        self.id = id

    def check(self, ssl_object: ssl.SSLObject | ssl.SSLSocket) -> None:
        """Raise NotAllowed unless the peer of a finished handshake is this member."""
        found = principal_of(ssl_object)
        if found.mesh_id != self.mesh_id:
            raise NotAllowed("The machine that answered belongs to another mesh.")
        if found.role != self.role or found.id != self.id:
            raise NotAllowed(f"The machine that answered is not this mesh's {self.role}.")


class _CheckedObject(ssl.SSLObject):
    """What asyncio and uvloop drive: the check runs inside the handshake, before the answer is flushed."""

    def do_handshake(self) -> None:
        super().do_handshake()
        _check_expected(self)


class _CheckedSocket(ssl.SSLSocket):
    """The same for blocking sockets, where our certificate (not a byte more) has left by then."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  the parent's signature
        super().do_handshake(block)
        _check_expected(self)


def serve_context(identity: Identity) -> ssl.SSLContext:
    """For a listener that only members can reach: no valid client certificate, no handshake."""
    context = _serving(identity)
    reload_certificate(context, identity)
    return context


def answer_to_name(context: ssl.SSLContext, name: str, identity: Identity, certificate: Path) -> None:
    """Show this other certificate of the same key to who calls by that name.

    The caller must show a member's certificate all the same. Call it again when one of the two was renewed.
    """
    named = _serving(identity)
    named.load_cert_chain(certificate, identity.key_path)

    def choose(connection: ssl.SSLObject, asked: str | None, _context: ssl.SSLContext) -> None:
        if asked == name:
            connection.context = named

    context.sni_callback = choose


def _serving(identity: Identity) -> ssl.SSLContext:
    context = _bare(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    # A resumed session would skip the certificate, also one that has expired since.
    context.num_tickets = 0
    context.load_verify_locations(cadata=identity.ca_pem.decode("ascii"))
    return context


def client_context(identity: Identity) -> ssl.SSLContext:
    """For calls to the coordinator of this identity's mesh, at whatever address it has today."""
    membership = identity.membership
    return _calling(identity, Expected(membership.mesh_id, Role.COORDINATOR, membership.coordinator_id))


def peer_client_context(identity: Identity, peer_id: str) -> ssl.SSLContext:
    """For calls to the blob port of one other node of this mesh."""
    return _calling(identity, Expected(identity.membership.mesh_id, Role.PEER, peer_id))


def pairing_serve_context(identity: Identity) -> ssl.SSLContext:
    """For the pairing listener: shows the coordinator's certificate, asks for none."""
    context = _bare(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.num_tickets = 0
    reload_certificate(context, identity)
    return context


def pairing_client_context() -> ssl.SSLContext:
    """UNVERIFIED, for `enroll` alone: there the pairing code proves who the other side is."""
    context = _bare(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def pinned_context(key_pem: str, certificate_pem: str, trusted_pem: str, *, serves: bool) -> ssl.SSLContext:
    """Show a certificate, and take the other side's only if it is `trusted_pem` itself, whoever signed that.

    For clusters (`trust.cluster`). Closed by default: without the flag that lets OpenSSL trust a single
    certificate it would trust none. The key stays in memory. Raises NotAllowed if it is for another one.
    """
    context = _bare(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if serves else ssl.PROTOCOL_TLS_CLIENT))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if serves:
        context.num_tickets = 0
    context.load_verify_locations(cadata=trusted_pem)
    try:
        with _as_file(f"{key_pem.strip()}\n{certificate_pem}") as path:
            context.load_cert_chain(path)
    except ssl.SSLError as error:
        raise NotAllowed("The key does not belong to the cluster's certificate.") from error
    return context


def reload_certificate(context: ssl.SSLContext, identity: Identity) -> None:
    """Use the identity's present certificate for all handshakes to come; live links stay."""
    context.load_cert_chain(identity.certificate_path, identity.key_path)


def principal_of(ssl_object: Any) -> Principal:
    """Who is on the other side of a finished handshake; raise NotAllowed if nobody we can name.

    Takes what `get_extra_info("ssl_object")` gives. Parse once per connection and keep the value.
    """
    certificate = ssl_object.getpeercert(True) if ssl_object is not None else None
    if not certificate:
        raise NotAllowed("The other side showed no certificate.")
    return parse_principal(certificate)


def verify_coordinator(ssl_object: Any, membership: Membership) -> None:
    """Raise NotAllowed unless the peer is the coordinator of our mesh. Our contexts do it themselves."""
    Expected(membership.mesh_id, Role.COORDINATOR, membership.coordinator_id).check(ssl_object)


def cut(transport: asyncio.WriteTransport | None) -> None:
    """Abort a connection, whatever is on its way; harmless if it has gone already."""
    if transport is None:
        return
    # Debian 12's Python 3.11.2: asyncio's TLS transport lets go of its protocol when it is closed a second
    # time, and its abort() then stumbles over the gap instead of doing nothing (mended by 3.11.7).
    with contextlib.suppress(AttributeError):
        transport.abort()


def refusal_in(error: BaseException) -> NotAllowed | None:
    """The NotAllowed behind a failed connection, or None if it is an ordinary network failure.

    With TLS 1.3 a refused client believes that it is connected and meets the alert at its first read,
    so give this every error of a connection: a refusal must not be retried like a lost network.
    """
    seen: BaseException | None = error
    for _ in range(CAUSES_MOST):
        if seen is None or isinstance(seen, NotAllowed):
            return seen
        explained = _explain(seen) if isinstance(seen, ssl.SSLError) else None
        if explained is not None:
            return explained
        # aiohttp keeps what it wraps in attributes of its own.
        wrapped = getattr(seen, "certificate_error", None) or getattr(seen, "os_error", None)
        seen = wrapped or seen.__cause__ or seen.__context__
    return None


def _calling(identity: Identity, expected: Expected) -> ssl.SSLContext:
    context = _bare(ExpectingContext(ssl.PROTOCOL_TLS_CLIENT))
    # Addresses change on a LAN: the name in the certificate counts, and `expected` checks that.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=identity.ca_pem.decode("ascii"))
    context.expected = expected
    context.sslobject_class = _CheckedObject
    context.sslsocket_class = _CheckedSocket
    reload_certificate(context, identity)
    return context


@contextlib.contextmanager
def _as_file(text: str) -> Iterator[str]:
    """For OpenSSL, which reads keys from files only: one in memory where there is such a thing."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("key", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "key.pem")  # noqa: PTH118
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        yield path


def _bare(context: _Context) -> _Context:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    return context


def _check_expected(connection: ssl.SSLObject | ssl.SSLSocket) -> None:
    context = connection.context
    if not isinstance(context, ExpectingContext):
        raise WrongPeer("The connection does not say whom it calls.")
    try:
        context.expected.check(connection)
    except NotAllowed as error:
        # Event loops end a handshake in order only for errors of the ssl family.
        raise WrongPeer(error.message) from error


_FOREIGN = "The coordinator belongs to another mesh than this machine's certificate."
_ALERTS = {
    "CERTIFICATE_REQUIRED": "The coordinator wants a certificate and this program showed none.",
    "CERTIFICATE_EXPIRED": "This machine's certificate has expired, or a clock is far off.",
    "CERTIFICATE_REVOKED": "This machine's certificate was revoked.",
    "UNKNOWN_CA": _FOREIGN,
    "UNKNOWN_CERTIFICATE_AUTHORITY": _FOREIGN,
    "BAD_CERTIFICATE": "The coordinator refused this machine's certificate.",
    "UNSUPPORTED_CERTIFICATE": "This machine's certificate is not meant for this use.",
    "CERTIFICATE_UNKNOWN": "The coordinator refused this machine's certificate.",
    "ACCESS_DENIED": "The coordinator refused this machine.",
}
"""TLS alerts by the end of OpenSSL's reason, in words."""
_UNKNOWN_ISSUER = {7, 18, 19, 20, 21}
"""Bad signature, self-signed (itself or in its chain), issuer not found, first certificate not verified."""
_NOT_YET_VALID = 9
_EXPIRED = 10
_CLOCK_HINT = "Compare this machine's clock with the coordinator's; NTP sets it: `timedatectl set-ntp true`."
_HINT = "Check the clocks with `planetmesh doctor`, or pair again with a code from `planetmesh code`."


def _explain(error: ssl.SSLError) -> NotAllowed | None:
    if isinstance(error, WrongPeer):
        return NotAllowed(str(error.args[-1]), hint="Give the right address with --join HOST:PORT.")
    # Errors that were not raised by OpenSSL itself (aiohttp's are of this family) lack these attributes.
    refused = getattr(error, "verify_message", "")
    if refused:
        return _explain_refused(getattr(error, "verify_code", 0), refused)
    reason = getattr(error, "reason", None) or ""
    for ending, sentence in _ALERTS.items():
        if "ALERT" in reason and reason.endswith(ending):
            return NotAllowed(sentence, hint=_HINT)
    return None


def _explain_refused(code: int, words: str) -> NotAllowed:
    """Why we refused the certificate of whom we called, by OpenSSL's number (X509_V_ERR_…)."""
    if code in _UNKNOWN_ISSUER:
        return OtherMesh(
            "Who answers there is not of this machine's mesh: another coordinator, or another program.",
            hint="If the coordinator has moved, give its address: planetmesh up --join HOST:PORT",
        )
    if code == _NOT_YET_VALID:
        return NotAllowed("The coordinator's certificate is not valid yet.", hint=_CLOCK_HINT)
    if code == _EXPIRED:
        return NotAllowed("The coordinator's certificate has expired.", hint=_CLOCK_HINT)
    return NotAllowed(f"The other side's certificate was refused: {words}.", hint=_HINT)


__all__ = [
    "HANDSHAKE_SECONDS",
    "WrongPeer",
    "answer_to_name",
    "client_context",
    "cut",
    "pairing_client_context",
    "pairing_serve_context",
    "peer_client_context",
    "pinned_context",
    "principal_of",
    "refusal_in",
    "reload_certificate",
    "serve_context",
    "verify_coordinator",
]
