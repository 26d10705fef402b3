"""A call that was handed to the mesh: a future that other threads and event loops can wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Generic, TypeVar, overload

import msgspec

from planetmesh.client.functions import Arguments, PackedFunction
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import AUTO_CHUNK
from planetmesh.model.resources import Resources

T = TypeVar("T")


class CallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What calls ask for; see `Mesh.using`. Calls of one function with the same options may share a job."""

    name: str = ""
    """Of the jobs; the function's own if empty."""
    requests: Resources = Resources()
    """Of one call, or of a chunk of calls that follow each other."""
    tags: tuple[str, ...] = ()
    node: NodeId | None = None
    env: tuple[tuple[str, str], ...] = ()
    priority: int = 0
    max_running: int | None = None
    timeout_seconds: float | None = None
    """Of one attempt of a task: with chunks, of all its calls together."""
    retries: int = 0
    """How often a task is tried again after a call of it raised. A lost machine does not count."""
    at_most_once: bool = False
    chunk: int = AUTO_CHUNK
    """Calls that one task makes; 0 lets the scheduler choose by how long they take."""
    pickles: bool = False
    """Open results that are no plain data. A node that was taken over could run code here by them."""


class CallsWait(UserWarning):
    """No machine of the mesh can run these calls as they are; they wait for one that can."""


class RemoteCall(Future[T], Generic[T]):
    """One call. `result()` waits for its value in a thread, `await` does in an event loop.

    Cancelling one that has begun lets go of its value; its job is cancelled once nobody waits for any of it.
    """

    def __init__(self, function: Callable[..., T], arguments: Arguments, options: CallOptions) -> None:
        super().__init__()
        self.function: Callable[..., T] | None = function
        """Until it was sent."""
        self.packed: PackedFunction | None = None
        """The function as it was sent: for a call that goes out once more."""
        self.arguments = arguments
        self.options = options
        self.was_orphaned = False
        """It stood behind a call that ended their task's process, and goes out once more."""
        self.job: JobId | None = None
        """The job that makes it, once it was handed in."""
        self.number = 0
        """Which of the job's inputs it is, from 0."""

    def running(self) -> bool:
        """It was handed in and has not ended."""
        return self.job is not None and not self.done()

    def settle(self, value: T) -> None:
        """Its value came; nothing happens if nobody waits any more."""
        with suppress(InvalidStateError):  # it was cancelled
            self.set_result(value)

    def fail(self, error: BaseException) -> None:
        with suppress(InvalidStateError):
            self.set_exception(error)

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.wrap_future(self).__await__()

    def __repr__(self) -> str:
        state = (
            "cancelled" if self.cancelled() else "done" if self.done() else "running" if self.job else "new"
        )
        return f"<RemoteCall {self.job or '?'}/{self.number} {state}>"


class CallGroup(Sequence[RemoteCall[T]], Generic[T]):
    """Calls of one `map`, in the order of their arguments."""

    def __init__(self, calls: Sequence[RemoteCall[T]]) -> None:
        self._calls = tuple(calls)

    @overload
    def __getitem__(self, place: int) -> RemoteCall[T]: ...
    @overload
    def __getitem__(self, place: slice) -> CallGroup[T]: ...
    def __getitem__(self, place: int | slice) -> RemoteCall[T] | CallGroup[T]:
        return CallGroup(self._calls[place]) if isinstance(place, slice) else self._calls[place]

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[RemoteCall[T]]:
        return iter(self._calls)

    @property
    def progress(self) -> tuple[int, int]:
        """How many have ended, of how many."""
        return sum(call.done() for call in self._calls), len(self._calls)

    def results(self, timeout: float | None = None) -> list[T]:
        """All values in order; raises what the first failed call raised, or TimeoutError."""
        from concurrent.futures import wait

        if timeout is not None and wait(self._calls, timeout).not_done:
            done, total = self.progress
            raise TimeoutError(f"{total - done} of {total} calls have not ended.")
        return [call.result() for call in self._calls]

    def cancel(self) -> int:
        """Cancel those that have not ended; how many those were."""
        return sum(call.cancel() for call in self._calls)

    def __await__(self) -> Generator[Any, None, list[T]]:
        return self._gather().__await__()

    async def _gather(self) -> list[T]:
        return list(await asyncio.gather(*map(asyncio.wrap_future, self._calls)))
