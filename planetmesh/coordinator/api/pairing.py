"""Pairing windows: open, list, close. The code is in the answer to who opened it, and nowhere else."""

from __future__ import annotations

import time

from aiohttp import web

from planetmesh.coordinator.api.call import Call
from planetmesh.errors import BadInput
from planetmesh.mesh import effects as fx
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.endpoint import format_endpoint, parse_endpoint
from planetmesh.model.identity import Role
from planetmesh.store.changes import Changes
from planetmesh.trust.windows import SHORT_TTL_MOST_SECONDS, Window
from planetmesh.wire.api import OpenPairing, PairingWindow, rfc3339

TTL_LEAST_SECONDS = 30.0
TTL_MOST_SECONDS = 24 * 3600.0
ROLES = {"agent": Role.AGENT, "operator": Role.OPERATOR, "viewer": Role.VIEWER}


async def open_window(call: Call) -> web.StreamResponse:
    asked = await call.body(OpenPairing, empty=OpenPairing())
    role = ROLES.get(asked.role)
    if role is None:
        raise BadInput("Nobody can pair in this role.", hint=f"Roles are {', '.join(ROLES)}.")
    if not TTL_LEAST_SECONDS <= asked.ttl_seconds <= TTL_MOST_SECONDS:
        raise BadInput("A code lives between 30 seconds and 24 hours.", hint="Say it like --ttl 10m.")
    # Forty bits are for minutes; a code that lives longer is a long one, for a file.
    long = asked.ttl_seconds > SHORT_TTL_MOST_SECONDS
    code, expires_at = await call.parts.pairing.open(role, asked.ttl_seconds, unattended=long)
    call.parts.failures.clear(code.slot)
    try:
        await _write_down(call, "open_pairing", code.slot, f"role {role}, {asked.ttl_seconds:.0f} s")
    except BaseException:
        call.parts.pairing.close(code.slot)
        raise
    window = PairingWindow(
        slot=str(code.slot),
        role=role.value,
        expires_at=rfc3339(expires_at) or "",
        address=_address(call),
        code=code.text,
    )
    return call.answer(window, status=201)


async def list_windows(call: Call) -> web.StreamResponse:
    return call.answer([_view(call, window) for window in call.parts.pairing.windows()])


async def close_window(call: Call) -> web.StreamResponse:
    text = call.part("slot")
    if not (text.isascii() and text.isdigit() and len(text) <= 2):
        raise BadInput(
            f"'{text}' is not a slot.", hint="The slot is the number before the code's first dash."
        )
    call.parts.pairing.close(int(text))
    await _write_down(call, "close_pairing", int(text), "")
    return call.answer({})


def _view(call: Call, window: Window) -> PairingWindow:
    """A window as others see it: `expires` is steady time, its code is nobody's business."""
    return PairingWindow(
        slot=str(window.slot),
        role=window.role.value,
        expires_at=rfc3339(time.time() + window.expires - time.monotonic()) or "",
        address=_address(call),
        attempts_left=window.attempts_left,
        last_failures=call.parts.failures.of(window.slot),
    )


def _address(call: Call) -> str:
    """Where to join: this machine's first address with the pairing listener's port."""
    endpoints, port = call.parts.enrolment.endpoints, call.parts.pairing.port
    if not endpoints or port is None:
        return ""
    return format_endpoint(parse_endpoint(endpoints[0])[0], port)


async def _write_down(call: Call, action: str, slot: int, detail: str) -> None:
    def tell(_state: MeshState, now: Moment) -> fx.Effects:
        call.parts.engine.feed.announce("pairing", {"slot": str(slot), "action": action}, now)
        return []

    await call.parts.engine.do(tell, Changes(audit=[call.audit(action, str(slot), detail)]))
