"""Keeps the link: which address next, how long to wait, when a refusal is final.

The only retry rules for the agent's link. Where it is refused for good, `keep_connected` says so by
raising NotAllowed; everything else is tried again for as long as the agent lives.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence

from planetmesh.agent.link import HungUp, Link
from planetmesh.agent.state import AgentState, Phase
from planetmesh.errors import BadInput, MeshError, NotAllowed, Revoked
from planetmesh.model.endpoint import is_link_local, parse_endpoint
from planetmesh.trust.identity import Identity

log = logging.getLogger(__name__)

BACK_OFF_FIRST_SECONDS = 0.2
BACK_OFF_MOST_SECONDS = 10.0
BACK_OFF_SPREAD = 0.5
"""A hundred agents must not come back in the same moment after a restart."""
REFUSED_SECONDS = 60.0
"""Between two tries while the coordinator refuses us: a clock or a database may be mended meanwhile."""
SEARCH_AFTER_ROUNDS = 2
"""Known addresses are tried so often before the LAN is asked too."""
SEARCH_PAUSE_SECONDS = 15.0
"""Between two questions to the LAN."""
ENDS_MOST = 64
"""Addresses whose failure is remembered as told; anybody on the LAN can announce some."""
FINAL = {
    "revoked": "This machine's certificate was revoked.",
    "forgotten": "The coordinator has forgotten this machine.",
    "replaced": "Another process uses this machine's identity and took over its link.",
    "duplicate": "Another machine uses this machine's identity.",
}
"""Codes of a goodbye after which there is no coming back."""
ORDERLY = "shutdown"
"""Code of the goodbye of a coordinator that was told to stop."""
REFUSALS = frozenset({"protocol", "not_allowed"})
"""Codes of a goodbye that the next link would end with too. A certificate that ran out or was replaced is
none: the next link shows the new one, or is refused where it is made."""
PAIR_AGAIN = (
    "If it belongs to the mesh, pair it again: `planetmesh code` on the coordinator, "
    "then `planetmesh leave` and `planetmesh up` here."
)

Finder = Callable[[str], Awaitable[Sequence[str]]]
"""Takes a mesh id, gives `HOST:PORT` texts of coordinators that say they belong to it."""


class Reconnector:
    """Made once per agent process."""

    def __init__(
        self, link: Link, identity: Identity, find: Finder | None, on_state: Callable[[AgentState], None]
    ) -> None:
        self._link = link
        self._identity = identity
        self._find = find
        self._on_state = on_state
        self._was_ever_up = False
        self._is_registered = False
        """At the address that is tried now."""
        self._is_searching = asyncio.Event()
        self._found: tuple[str, ...] = ()
        self._ends: dict[str, str] = {}
        """Why each address failed the last time."""
        self._heard = asyncio.Event()

    async def keep_connected(self) -> None:
        """Never returns; raises NotAllowed when this machine is refused for good."""
        rounds = 0
        told = ""
        while True:
            lasted = await self._try_all()
            reason = next(reversed(self._ends.values()), "")
            if lasted or rounds == 0 or reason != told:
                self._tell_lost(reason)
                told = reason
            rounds = 0 if lasted else rounds + 1
            if rounds >= SEARCH_AFTER_ROUNDS or not self._identity.membership.endpoints:
                self._is_searching.set()
            await self._rest(back_off(rounds))

    async def search(self) -> None:
        """Ask the LAN for our coordinator for as long as it is not where it was. Never returns.

        Beside the calls, not between them: a coordinator that comes back where it was is not kept waiting.
        """
        while self._find is not None:
            await self._is_searching.wait()
            try:
                self._found = tuple(await self._find(self._identity.membership.mesh_id))
            except (MeshError, OSError) as error:
                log.info("link.nobody_found", extra={"reason": str(error)})
            if self._found:
                self._heard.set()
            await asyncio.sleep(SEARCH_PAUSE_SECONDS)

    def on_registered(self) -> None:
        self._is_registered = self._was_ever_up = True
        self._is_searching.clear()
        self._found = ()
        self._ends.clear()

    async def _rest(self, seconds: float) -> None:
        """Wait, unless somebody is heard on the LAN meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self._heard.wait()
        except TimeoutError:
            return
        self._heard.clear()

    def _tell_lost(self, reason: str) -> None:
        detail = "The link to the coordinator is lost." if self._was_ever_up else "No coordinator answers."
        self._on_state(AgentState(Phase.LOST, detail, "Is `planetmesh up` running there?", reason=reason))

    async def _try_all(self) -> bool:
        """Known addresses, the last good one first, then whoever says to be our coordinator.

        Link-local ones come last: from them no other node could be told where this one hands out files.
        """
        known = dict.fromkeys([*self._identity.membership.endpoints, *self._found])
        for endpoint in sorted(known, key=_is_link_local):
            self._is_registered = False
            await self._try(endpoint)
            if self._is_registered:
                return True
        return False

    async def _try(self, endpoint: str) -> None:
        """One address, from the call to the loss of the link."""
        try:
            await self._link.talk(endpoint)
        except HungUp as goodbye:
            level = logging.INFO if goodbye.code == ORDERLY else logging.WARNING
            log.log(level, "link.goodbye", extra={"code": goodbye.code, "reason": goodbye.reason})
            if goodbye.code in FINAL:
                raise NotAllowed(
                    f"{FINAL[goodbye.code]} {goodbye.reason}".strip(), hint=PAIR_AGAIN
                ) from goodbye
            if goodbye.code in REFUSALS and not goodbye.is_answered:
                await self._wait_refused(NotAllowed(goodbye.reason or goodbye.code, hint=PAIR_AGAIN))
        except NotAllowed as refusal:
            log.warning("link.refused", extra={"endpoint": endpoint, "reason": refusal.message})
            await self._wait_refused(refusal)
        except MeshError as error:
            self._note_end(endpoint, error.message)

    def _note_end(self, endpoint: str, reason: str) -> None:
        """Said once for each address until its reason changes: a night without a coordinator is long."""
        is_news = self._ends.get(endpoint) != reason
        if len(self._ends) >= ENDS_MOST:
            self._ends.clear()
        self._ends[endpoint] = reason
        level = logging.INFO if is_news else logging.DEBUG
        log.log(level, "link.ended", extra={"endpoint": endpoint, "reason": reason})

    async def _wait_refused(self, refusal: NotAllowed) -> None:
        """The right coordinator says no. At the first contact that is final; later it may pass."""
        if not self._was_ever_up or isinstance(refusal, Revoked):
            raise NotAllowed(refusal.message, hint=refusal.hint or PAIR_AGAIN) from refusal
        self._on_state(AgentState(Phase.REFUSED, refusal.message, refusal.hint or PAIR_AGAIN))
        await asyncio.sleep(REFUSED_SECONDS * random.uniform(1 - BACK_OFF_SPREAD, 1))  # noqa: S311  no secret


def _is_link_local(endpoint: str) -> bool:
    try:
        return is_link_local(parse_endpoint(endpoint)[0])
    except BadInput:  # anybody on the LAN can announce such things; the try itself says what is wrong
        return True


def back_off(rounds: int) -> float:
    """Seconds to wait after so many rounds without success, spread."""
    seconds = min(BACK_OFF_FIRST_SECONDS * 2.0 ** min(rounds, 30), BACK_OFF_MOST_SECONDS)
    return seconds * random.uniform(1 - BACK_OFF_SPREAD, 1 + BACK_OFF_SPREAD)  # noqa: S311  no secret
