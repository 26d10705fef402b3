"""The last call of a member: it leaves for good, and its certificate is not to count any more."""

from __future__ import annotations

import asyncio

from planetmesh.client.calls import Caller
from planetmesh.client.connect import Call, Finder, Link
from planetmesh.errors import Conflict, Revoked, Unreachable
from planetmesh.model.identity import Role
from planetmesh.trust.identity import Identity
from planetmesh.wire.members import SelfView

LEAVING_SECONDS = 15.0
"""A few addresses that do not answer, and a search: nobody who leaves is kept longer."""


async def tell(identity: Identity, machine: str, finder: Finder | None) -> None:
    """Tell the coordinator; it is on its disk when this returns, also if it was told before.

    `machine` is this machine as agents tell it (`machine_hash`). Raises Conflict where another machine has
    used this node's identity since: a copy of a home must not throw the machine out that it was copied from.
    Else the coordinator's own errors, NotAllowed, Unreachable.
    """
    caller = Caller(Link(identity, finder), patience_seconds=0.0)
    try:
        async with asyncio.timeout(LEAVING_SECONDS):
            await _tell(caller, machine)
    except TimeoutError:
        raise Unreachable("The coordinator did not answer in time.") from None
    except Revoked:
        return
    finally:
        await caller.link.close()


async def _tell(caller: Caller, machine: str) -> None:
    if caller.link.identity.principal.role is Role.AGENT:
        seen = await caller.ask(Call("GET", "/v1/self"), SelfView)
        if seen.machine and seen.machine != machine:
            raise Conflict(f"Another machine takes part as '{seen.name}': this home is a copy of its own.")
    await caller.read(Call("DELETE", "/v1/self"))
