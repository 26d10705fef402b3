"""Launchers kept ready: confining one takes some ten milliseconds, a short task one.

What confines a launcher does not depend on the job, so one is always opened ahead. After a job it may
serve the next one *of the same submitter*, if it says itself that nothing was left behind: what one
person's tasks could have done to it must not reach another's. docs/adr/0005 has the reasons.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from planetmesh.agent.sandbox.folders import make_folder, remove_folder
from planetmesh.agent.sandbox.messages import LauncherSpec, Limits, Report, Share, Start
from planetmesh.errors import MeshError
from planetmesh.groups import begin_in

log = logging.getLogger(__name__)

IDLE_SECONDS = 20.0
"""A launcher that has served somebody waits so long for that person's next job."""
KEPT_MOST = 4
"""Launchers that wait for their persons' next jobs; each has some 3 MiB of its own."""
LOOK_SECONDS = 5.0

OnReports = Callable[[list[Report]], None]
OnLost = Callable[[str], None]


class LauncherLike(Protocol):
    """What a launcher's handle offers; see `sandbox.handle`."""

    @property
    def is_gone(self) -> bool: ...

    def listen(self, on_reports: OnReports, on_lost: OnLost) -> None: ...

    def adopt(self, job_id: str, env: dict[str, str], limits: Limits, slots: int) -> None: ...

    def start(self, batch: Sequence[Start]) -> None: ...

    def kill(self, index: int, attempt: int, grace_seconds: float = ...) -> None: ...

    def set_slots(self, count: int) -> None: ...

    def recall(self, count: int) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    async def rest(self) -> bool: ...

    async def close(self) -> None: ...

    def abandon(self, reason: str) -> None: ...


class LauncherSource(Protocol):
    """What the zygote offers."""

    async def open(self, spec: LauncherSpec, on_reports: OnReports, on_lost: OnLost) -> LauncherLike: ...


class Surroundings(msgspec.Struct, frozen=True):
    """What all jobs on this node have in common."""

    work_root: Path
    hidden: tuple[str, ...]
    shares: tuple[Share, ...] = ()
    has_gpus: bool = False


class Berth:
    """A work folder and the launcher that is confined to it, once that stands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.owner = ""
        """Whose tasks it has run; nobody's yet if empty."""
        self.launcher: LauncherLike | None = None
        self.idle_since = 0.0


class WarmLaunchers:
    """One per agent. `take` never waits; `stand` makes sure that a launcher is there."""

    def __init__(self, source: LauncherSource, around: Surroundings, group: asyncio.TaskGroup) -> None:
        self._source = source
        self._around = around
        self._group = group
        self._fresh: Berth | None = None
        self._kept: list[Berth] = []
        self._standing: set[LauncherLike] = set()
        """All that were opened and not closed yet, whoever has them."""
        self._is_opening = False
        self._is_closed = False

    def take(self, owner: str) -> Berth:
        """The owner's own last launcher if it waits, else one that nobody has used, else a new place."""
        for berth in reversed(self._kept):
            if berth.owner == owner and owner and not _is_gone(berth):
                self._kept.remove(berth)
                return berth
        fresh, self._fresh = self._fresh, None
        chosen = self._new_berth() if fresh is None or _is_gone(fresh) else fresh
        chosen.owner = owner
        return chosen

    async def stand(self, berth: Berth) -> LauncherLike:
        """The berth's launcher, opened now if need be; raises MeshError or OSError."""
        if berth.launcher is None:
            berth.launcher = await self._open(berth)
        self.open_ahead()
        return berth.launcher

    async def give_back(self, berth: Berth) -> None:
        """The job is over. Keep the launcher if it is as good as new, else clear everything away."""
        launcher = berth.launcher
        if launcher is None or self._is_closed or not berth.owner:
            await self.clear(berth)
            return
        launcher.resume()
        if not await launcher.rest() or self._is_closed:
            await self.clear(berth)
            return
        launcher.listen(_ignore_reports, _ignore_loss)
        berth.idle_since = time.monotonic()
        self._kept.append(berth)
        if len(self._kept) > KEPT_MOST:
            await self.clear(self._kept.pop(0))

    async def clear(self, berth: Berth) -> None:
        """End the launcher and remove its folder."""
        if berth.launcher is not None:
            await berth.launcher.close()
            self._standing.discard(berth.launcher)
        await asyncio.to_thread(remove_folder, berth.folder)

    def open_ahead(self) -> None:
        """See that a launcher is ready for whoever comes next."""
        if self._fresh is None and not self._is_opening and not self._is_closed:
            self._is_opening = begin_in(self._group, self._open_ahead())

    async def tend(self) -> None:
        """Runs until cancelled: let go of launchers whose persons have not come back."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            late = time.monotonic() - IDLE_SECONDS
            for berth in [each for each in self._kept if each.idle_since < late or _is_gone(each)]:
                self._kept.remove(berth)
                await self.clear(berth)
            if self._fresh is not None and _is_gone(self._fresh):
                berth, self._fresh = self._fresh, None
                await self.clear(berth)
                self.open_ahead()

    async def close(self) -> None:
        self._is_closed = True
        berths = [*self._kept, *([self._fresh] if self._fresh else [])]
        self._kept, self._fresh = [], None
        for berth in berths:
            await self.clear(berth)

    def abandon(self) -> None:
        """Let go of all at once where the agent ends by a failure: each kills its tasks and leaves."""
        for launcher in self._standing:
            launcher.abandon("")
        self._standing.clear()

    async def _open_ahead(self) -> None:
        berth = self._new_berth()
        try:
            berth.launcher = await self._open(berth)
        except (MeshError, OSError) as error:
            # Whoever needs one next opens it and meets the reason himself.
            log.debug("launcher.not_opened_ahead", extra={"reason": str(error)})
            await self.clear(berth)
            return
        finally:
            self._is_opening = False
        if self._is_closed or self._fresh is not None:
            await self.clear(berth)
        else:
            self._fresh = berth

    async def _open(self, berth: Berth) -> LauncherLike:
        make_folder(berth.folder)
        spec = LauncherSpec("", str(berth.folder), self._around.hidden, self._around.shares)
        launcher = await self._source.open(spec, _ignore_reports, _ignore_loss)
        self._standing.add(launcher)
        return launcher

    def _new_berth(self) -> Berth:
        return Berth(self._around.work_root / f"job-{secrets.token_hex(8)}")


def _is_gone(berth: Berth) -> bool:
    return berth.launcher is None or berth.launcher.is_gone


def _ignore_reports(_reports: list[Report]) -> None:
    """An idle launcher has nothing to say."""


def _ignore_loss(_reason: str) -> None:
    """`is_gone` tells it when it is looked for."""
