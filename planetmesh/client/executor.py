"""The mesh as a `concurrent.futures.Executor`: for asyncio's `run_in_executor` and whatever takes one.

with MeshExecutor() as pool:
    print(list(pool.map(pow, range(10), range(10))))
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, wait
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

from planetmesh.client.remote_call import RemoteCall
from planetmesh.client.sync_client import Mesh

P = ParamSpec("P")
T = TypeVar("T")


class MeshExecutor(Executor):
    """Calls run on the nodes of a mesh; options are those of `Mesh.using`.

    It opens a mesh of its own unless it is given one; then that stays open at its end.
    """

    def __init__(self, mesh: Mesh | None = None, *, home: Path | str | None = None, **options: Any) -> None:
        self._own = Mesh(home) if mesh is None else None
        opened = mesh or self._own
        assert opened is not None
        self._calls = opened.using(**options)
        self._open: WeakSet[RemoteCall[Any]] = WeakSet()
        self._lock = threading.Lock()
        self._is_shut = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> RemoteCall[T]:
        with self._lock:
            if self._is_shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            call = self._calls.submit(fn, *args, **kwargs)
            self._open.add(call)
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  the parent's signature
        """Without `wait` the calls go on; a mesh of its own is closed once they have ended."""
        with self._lock:
            self._is_shut = True
            calls = list(self._open)
        if cancel_futures:
            for call in calls:
                call.cancel()
        if wait:
            self._end(calls)
        elif self._own is not None:
            threading.Thread(target=self._end, args=(calls,), name="planetmesh-shutdown", daemon=True).start()

    def _end(self, calls: list[RemoteCall[Any]]) -> None:
        wait(calls)
        if self._own is not None:
            self._own.close()
