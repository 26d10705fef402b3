"""A failed request in words: what the network, TLS or the coordinator said becomes a MeshError.

Pure but for its types. Called by `connect` (the network's failures) and `calls` (the API's).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from errno import ECONNRESET, EPIPE

import aiohttp
import msgspec

from planetmesh.errors import CertificateRefused, MeshError, NotAllowed, PeerMisbehaved, Unreachable
from planetmesh.trust.tls import refusal_in
from planetmesh.wire.api import ApiError, ErrorAnswer

ADDRESSES_SHOWN = 4
"""More addresses than this say nothing new in a sentence."""


class AnsweredNot(Unreachable):
    """No address could be connected to: nothing was sent."""


class ConnectionLost(Unreachable):
    """The connection broke after the request went out: it may or may not have been carried out."""


def is_hang_up(error: BaseException) -> bool:
    """Whether the other side closed without a word: so asyncio's servers refuse a certificate."""
    return isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError | BrokenPipeError) or (
        isinstance(error, aiohttp.ClientOSError) and error.errno in {ECONNRESET, EPIPE}
    )


def lost_connection(error: BaseException) -> MeshError:
    refusal = refusal_in(error)
    if refusal is not None:
        return refusal
    if isinstance(error, TimeoutError):
        return ConnectionLost(
            "The coordinator was reached but did not answer in time.",
            hint="It may be overloaded: look at its machine, or try again.",
        )
    return ConnectionLost(
        "The connection to the coordinator was lost.",
        hint="If it was restarted, try again in a moment; `planetmesh doctor` checks the way to it.",
    )


def nobody_answered(
    mesh_name: str, failures: Mapping[str, Exception], *, was_reached: bool = False
) -> MeshError:
    """Why no address led to the coordinator. A refusal outweighs silence: somebody was there.

    Who was let in before (`was_reached`) and is hung up on now met a coordinator that ends or begins.
    """
    for error in failures.values():
        refusal = refusal_in(error)
        if refusal is not None:
            return refusal
    if not was_reached and any(is_hang_up(error) for error in failures.values()):
        return NotAllowed(
            "The coordinator closed the connection before it answered: it does not accept this certificate.",
            hint="If a clock is far off, `planetmesh doctor` says so; else pair again: `planetmesh login`.",
        )
    tried = [f"{address} ({_reason(error)})" for address, error in failures.items()]
    shown = ", ".join(tried[:ADDRESSES_SHOWN]) or "no address known"
    more = f" and {len(tried) - ADDRESSES_SHOWN} more" if len(tried) > ADDRESSES_SHOWN else ""
    return AnsweredNot(
        f"The coordinator of the mesh '{mesh_name}' cannot be reached: {shown}{more}.",
        hint="Is `planetmesh up` running there? `planetmesh doctor` checks the way to it.",
    )


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "name not known"
    if isinstance(error, asyncio.TimeoutError):
        return "no answer"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ConnectionRefusedError):
        return "refused"
    if isinstance(cause, MeshError):
        return cause.message.rstrip(".")
    return (getattr(cause, "strerror", None) or type(cause).__name__).lower()


def read_error(status: int, body: bytes) -> MeshError:
    """The error that the coordinator answered with, as the class that it was raised as there."""
    try:
        said = msgspec.json.decode(body, type=ErrorAnswer).error
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return PeerMisbehaved(f"The coordinator answered with status {status} and no explanation.")
    return error_of(said)


def error_of(said: ApiError) -> MeshError:
    """As the class that it was raised as there."""
    for kind in _all_kinds(MeshError):
        if kind.__dict__.get("code") != said.code:
            continue
        if issubclass(kind, CertificateRefused):
            return kind(said.message, reason="told", hint=said.hint)
        return kind(said.message, hint=said.hint)
    return MeshError(said.message, hint=said.hint)


def _all_kinds(kind: type[MeshError]) -> Iterator[type[MeshError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _all_kinds(narrower)
