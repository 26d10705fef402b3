"""The dashboard against a real coordinator: real TLS, engine and feed; agents are spoken for."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "coordinator"))

from api_world import World, running_world
from textual.pilot import Pilot

from planetmesh.cli.draft_order import order_of
from planetmesh.client.async_client import AsyncMesh
from planetmesh.dashboard.app import DARK, Dashboard
from planetmesh.dashboard.feed import Watcher
from planetmesh.dashboard.snapshot import LinkState
from planetmesh.model.identity import Role

PATIENCE_SECONDS = 30.0
SMALL, LARGE = (80, 24), (200, 60)


class Seat:
    """Somebody in front of a dashboard."""

    def __init__(self, world: World, app: Dashboard, pilot: Pilot[None]) -> None:
        self.world = world
        self.app = app
        self.pilot = pilot
        self._said: list[str] = []
        say = app.say

        def listen(sentence: str, *, is_error: bool = False) -> None:
            self._said.append(sentence)
            say(sentence, is_error=is_error)

        app.say = listen  # type: ignore[method-assign]

    @property
    def text(self) -> str:
        """All that is on screen."""
        lines = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in lines)

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for something that will become so."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not true():
                    await self.pilot.pause(0.05)
        except TimeoutError:
            raise AssertionError(f"not to be seen:\n{self.text}") from None

    async def sees(self, *texts: str) -> None:
        """Wait until all of these stand on screen."""
        await self.until(lambda: all(text in self.text for text in texts))

    async def hears(self, text: str) -> None:
        """Wait until this was said at the lower edge, where it stays for some seconds only."""
        await self.until(lambda: any(text in sentence for sentence in self._said))
        self._said.clear()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        """Letter by letter, as keys."""
        for letter in text:
            await self.pilot.press("space" if letter == " " else letter)


async def watcher_of(world: World, role: Role = Role.OPERATOR) -> Watcher:
    """Who looks at this world in a role, with an identity of its own."""
    identity = await world.member(role)
    root = world.folder / f"seat-{role}-{identity.principal.id[:8]}"
    root.mkdir()
    identity.folder.rename(root / "operator")
    return Watcher(lambda: AsyncMesh(root, patience_seconds=0.0))


@asynccontextmanager
async def seated(
    world: World, *, role: Role = Role.OPERATOR, size: tuple[int, int] = SMALL, theme: str = DARK
) -> AsyncIterator[Seat]:
    app = Dashboard(await watcher_of(world, role), order_of, theme=theme)
    async with app.run_test(size=size, notifications=True) as pilot:
        seat = Seat(world, app, pilot)
        # On screen too: what is said there moves the tabs, and a click would miss them.
        await seat.until(lambda: app.snapshot.link.state is LinkState.LIVE and "● live" in seat.text)
        yield seat


__all__ = ["LARGE", "SMALL", "Role", "Seat", "World", "running_world", "seated", "watcher_of"]
