"""Tasks that live and end together: asyncio's TaskGroup, mended where old Pythons get it wrong.

Everything that starts tasks uses this one. Nothing else belongs here. The mend is on the ground because
what it prevents (a timeout that ends the task instead of the wait) shows far from the group, also in aiohttp.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

if sys.version_info >= (3, 13):
    TaskGroup = asyncio.TaskGroup
else:

    class TaskGroup(asyncio.TaskGroup):
        """Leaves the task that opened it as it was: not half cancelled, if somebody catches the errors.

        A member's failure cancels that task. Before Python 3.13 this is taken back only if the failure came
        before the end of the block, not while that end was waited for. In Debian 12's Python 3.11.2
        `asyncio.timeout` takes what is left for a cancellation from outside, and its first expiry ends
        the task.
        """

        async def __aexit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
        ) -> None:
            taken_back = self._has_cancelled_us
            try:
                await super().__aexit__(kind, error, traceback)
            finally:
                task = asyncio.current_task()
                if task is not None and self._has_cancelled_us and not taken_back:
                    task.uncancel()

        @property
        def _has_cancelled_us(self) -> bool:
            # Private, yet fixed: nothing but security is mended in the Pythons that come here.
            return bool(getattr(self, "_parent_cancel_requested", False))


def begin_in(group: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> bool:
    """Start `work` in the group, unless that is ending: then nothing happens. Says which it was.

    For calls that come from outside the group, which may fail between two of them.
    """
    try:
        group.create_task(work)
    except RuntimeError:
        work.close()
        return False
    return True


__all__ = ["TaskGroup", "begin_in"]
