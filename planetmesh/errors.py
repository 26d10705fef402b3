"""Every error a person or a peer can meet.

Each class says whose fault it is by its exit code (CLI) and HTTP status (API). Raise one with a
sentence and, wherever there is one, a `hint`: the next thing to do or to type. They are caught at
four doors only: API middleware, agent link, around one task in the runner, CLI main. A room that
owns a driver (store, trust, discovery) translates the driver's errors into these at its edge.
"""

from __future__ import annotations

from typing import ClassVar


class MeshError(Exception):
    """Something went wrong that planetmesh can name."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            # For those who meet it as a traceback, in a program of their own.
            self.add_note(f"hint: {hint}")


class BadInput(MeshError):
    """The request makes no sense as it stands; nothing was changed."""

    code = "bad_input"
    exit_code = 2
    http_status = 400


class Conflict(MeshError):
    """The request is fine, but not in the present state (second `up`, finished job, port taken)."""

    code = "conflict"
    exit_code = 2
    http_status = 409


class MissingBlobs(Conflict):
    """A job names files that the coordinator does not hold; the client sends them and tries again."""

    code = "missing_blobs"


class WrongOffset(Conflict):
    """A transfer is to go on where its bytes do not end; `have` says where they do."""

    code = "wrong_offset"

    def __init__(self, message: str, *, hint: str = "", have: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.have = have


class WrongDigest(MeshError):
    """Bytes that are not what their name says; nothing of them was kept."""

    code = "wrong_digest"
    http_status = 422


class TooLarge(BadInput):
    """More than a limit allows."""

    code = "too_large"
    http_status = 413


class UnsafeHome(MeshError):
    """The state directory or a key in it cannot be used safely."""

    code = "unsafe_home"
    exit_code = 2


class Unreachable(MeshError):
    """No coordinator answered."""

    code = "unreachable"
    exit_code = 3
    http_status = 503


class NotAllowed(MeshError):
    """The credential is missing, refused, revoked, expired, or of another role or mesh."""

    code = "not_allowed"
    exit_code = 4
    http_status = 403


class CertificateRefused(NotAllowed):
    """A certificate of this mesh that is not, or no longer, accepted; `reason` says why in one word."""

    code = "certificate_refused"

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class Revoked(CertificateRefused):
    """A certificate that an operator took back: there is no use in asking again."""

    code = "revoked"

    def __init__(self, message: str, *, reason: str = "revoked", hint: str = "") -> None:
        super().__init__(message, reason=reason, hint=hint)


class CopiedIdentity(CertificateRefused):
    """A certificate that its owner has replaced was shown again: somebody else holds a copy."""

    code = "copied_identity"


class OtherMesh(NotAllowed):
    """Who answers there is not of this machine's mesh."""

    code = "other_mesh"


class Forgotten(NotAllowed):
    """The coordinator no longer knows this node; its code is what the goodbye says."""

    code = "forgotten"


class PairingFailed(NotAllowed):
    """A pairing did not succeed; it never says which part was wrong."""

    code = "pairing_failed"


class NotFound(MeshError):
    """No such job, task, node or blob."""

    code = "not_found"
    exit_code = 5
    http_status = 404


class CallFailed(MeshError):
    """A function that was called on a node raised, or what came of it is lost."""

    code = "call_failed"


class PicklesRefused(CallFailed):
    """A result came pickled, and nobody said that it may be opened."""

    code = "pickles_refused"


class StorageFailed(MeshError):
    """The database or disk refused a write; nothing of the change was kept."""

    code = "storage_failed"
    http_status = 507


class ServiceFailed(MeshError):
    """The machine's service manager refused, or a file of its could not be written."""

    code = "service_failed"


class PeerMisbehaved(MeshError):
    """A peer broke the protocol: refuse, close the link, never assert."""

    code = "peer_misbehaved"
    http_status = 400


class IllegalMove(PeerMisbehaved):
    """A task or node was asked to make a move that its table does not have."""

    code = "illegal_move"
    http_status = 409
