"""joblib on the mesh: what `Parallel` calls is called on the nodes.

import joblib
import planetmesh.joblib

planetmesh.joblib.register()
with joblib.parallel_config("planetmesh"):
    joblib.Parallel()(joblib.delayed(pow)(n, 2) for n in range(1000))

One batch of joblib's is one task of the mesh. Needs the extra `joblib`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import cloudpickle

from planetmesh.child.nested import Nested
from planetmesh.client.call_desk import Item
from planetmesh.client.calling import Calls
from planetmesh.client.functions import PYTHON_TAG
from planetmesh.client.remote_call import CallOptions, RemoteCall
from planetmesh.client.sync_client import Mesh
from planetmesh.errors import BadInput
from planetmesh.model.node import NodeState
from planetmesh.model.resources import MILLIS, Resources
from planetmesh.wire.api import NodeView

try:
    from joblib import register_parallel_backend
    from joblib.parallel import AutoBatchingMixin, ParallelBackendBase
except ImportError as error:
    raise ImportError("planetmesh.joblib needs joblib: pip install 'planetmesh[joblib]'") from error

NAME = "planetmesh"
SLOTS_LEAST = 2
"""With one, joblib would make all calls in this process and ask no back end at all."""
OF_JOBLIB = frozenset({"context", "max_nbytes", "mmap_mode", "prefer", "require", "temp_folder", "verbose"})
"""What `Parallel` tells every back end; all of it is about processes on one machine."""


def register(*, make_default: bool = False) -> None:
    """Make `joblib.parallel_config("planetmesh", …)` work; harmless twice.

    What follows the name goes to MeshBackend. `make_default`: for every `Parallel` that names no other.
    """
    register_parallel_backend(NAME, MeshBackend, make_default=make_default)


class MeshBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Options are those of `Mesh.using`: cpus, memory, tags, pickles…

    It opens a mesh for each `Parallel` unless it is given one; then that stays open.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1
    # joblib measures from handing out to the end, which includes the way and waiting behind another batch.
    MIN_IDEAL_BATCH_DURATION = 1.0
    MAX_IDEAL_BATCH_DURATION = 5.0

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        *,
        mesh: Mesh | None = None,
        home: Path | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._given = mesh
        self._home = home
        self._options = options
        self._own: Mesh | None = None
        self._calls: Calls | None = None
        self._most = 0
        """Batches in hand at a time; 0: as many as joblib hands out."""
        self._lock = threading.Lock()
        self._waiting: deque[Batch] = deque()
        self._open: set[Batch] = set()
        self._functions = Functions()
        self._turns: ThreadPoolExecutor | None = None

    # What joblib asks for, in the order in which it does

    def configure(self, n_jobs: int = 1, parallel: Any = None, **changes: Any) -> int:
        self.parallel = parallel
        options = {name: value for name, value in changes.items() if name not in OF_JOBLIB}
        if self._given is None and self._own is None:
            self._own = Mesh(self._home)
        self._calls = self._mesh.using(**(self._options | options))
        # joblib takes the next inputs from its caller in here: not in the mesh's own thread, where that
        # caller's use of the mesh would wait for itself.
        self._turns = ThreadPoolExecutor(1, thread_name_prefix="planetmesh-joblib")
        self._most = max(0, n_jobs)
        return self.effective_n_jobs(n_jobs)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """So many as were asked for; with -1 as many as the mesh has places for such calls."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is not None and n_jobs > 0:
            return int(n_jobs)
        if self._calls is not None:
            slots = count_slots(self._mesh.nodes(), self._calls.options)
        else:
            with Mesh(self._home) as mesh:
                slots = count_slots(mesh.nodes(), mesh.using(**self._options).options)
        return max(SLOTS_LEAST, slots + 1 + (-1 if n_jobs is None else n_jobs))

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Batch:
        """Takes a batch of calls; `callback` gets it once all of them have ended."""
        batch = Batch(func.items, callback)
        with self._lock:
            self._waiting.append(batch)
        self._send_waiting()
        return batch

    def retrieve_result_callback(self, out: Batch) -> list[Any]:
        return out.results()

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002, FBT001, FBT002  joblib's signature
        with self._lock:
            batches = [*self._waiting, *self._open]
            self._waiting.clear()
        for batch in batches:
            batch.cancel()

    def stop_call(self) -> None:
        self._functions = Functions()

    def terminate(self) -> None:
        """Let go of the mesh. What an abort has cancelled is cancelled over there as well."""
        if self._turns is not None:
            self._turns.shutdown(wait=False, cancel_futures=True)
            self._turns = None
        self._calls = None
        self._open.clear()
        if self._own is not None:
            self._own.close()
            self._own = None

    # Within

    @property
    def _mesh(self) -> Mesh:
        mesh = self._given or self._own
        assert mesh is not None
        return mesh

    def _send_waiting(self) -> None:
        while True:
            with self._lock:
                is_full = 0 < self._most <= len(self._open)
                if is_full or not self._waiting or self._calls is None:
                    return
                batch, calls = self._waiting.popleft(), self._calls
                self._open.add(batch)
            batch.send(calls, self._functions, self._on_batch_ended)

    def _on_batch_ended(self, batch: Batch) -> None:
        """In whatever thread ended its last call."""
        turns = self._turns
        if turns is not None:
            with suppress(RuntimeError):  # all is over meanwhile
                turns.submit(self._finish, batch)

    def _finish(self, batch: Batch) -> None:
        with self._lock:
            self._open.discard(batch)
        self._send_waiting()
        if batch.callback is not None:
            batch.callback(batch)


class Batch:
    """Calls that joblib hands out together: one task."""

    def __init__(self, items: Iterable[Item], callback: Callable[[Any], None] | None) -> None:
        self.callback = callback
        self._items = tuple(items)
        self._calls: list[RemoteCall[Any]] = []
        self._error: Exception | None = None
        self._left = len(self._items)
        self._is_cancelled = False
        self._lock = threading.Lock()

    def send(self, calls: Calls, functions: Functions, on_end: Callable[[Batch], None]) -> None:
        """What cannot be sent fails the batch: joblib expects no exception in the middle of its work."""

        def count_down(_call: Future[Any]) -> None:
            with self._lock:
                self._left -= 1
                is_last = self._left == 0
            if is_last:
                on_end(self)

        try:
            items = [(functions.wrapped(function), args, kwargs) for function, args, kwargs in self._items]
            self._calls = calls.using(chunk=len(items)).submit_together(items)
        except Exception as error:
            self._error = error
            on_end(self)
            return
        for call in self._calls:
            call.add_done_callback(count_down)
        if self._is_cancelled:
            self.cancel()

    def results(self) -> list[Any]:
        """All values in order; raises what the first failed call raised."""
        if self._error is not None:
            raise self._error
        return [call.result() for call in self._calls]

    def cancel(self) -> None:
        """From any thread, also while it is being sent."""
        self._is_cancelled = True
        for call in self._calls:
            call.cancel()


class Functions:
    """Gives the same object for the same function: calls of one object go as one job.

    A lambda or a method is a new object wherever it is written, so for each call; scikit-learn wraps its
    functions anew for each.
    """

    def __init__(self) -> None:
        self._by_id: dict[int, Nested] = {}
        """Of functions that are kept, so that no other gets the same id."""
        self._by_content: dict[bytes, Nested] = {}

    def wrapped(self, function: Callable[..., Any]) -> Nested:
        """Raises BadInput for what cannot be pickled."""
        found = self._by_id.get(id(function))
        if found is None:
            found = self._by_content.setdefault(_content_of(function), Nested(function))
            self._by_id[id(found.function)] = found
        return found


def _content_of(function: Callable[..., Any]) -> bytes:
    try:
        return bytes(cloudpickle.dumps(function))
    except Exception as error:
        raise BadInput(f"What joblib is to call cannot be sent: {error}") from error


def count_slots(nodes: Iterable[NodeView], options: CallOptions) -> int:
    """How many such calls the mesh could run at the same time if nothing else ran."""
    slots = 0
    for node in nodes:
        is_chosen = options.node in {None, node.id} and {PYTHON_TAG, *options.tags} <= set(node.tags)
        if is_chosen and node.state is NodeState.HEALTHY and not node.draining and not node.note:
            offer = Resources(round(node.offer_cpus * MILLIS), node.offer_memory_bytes, len(node.gpus))
            slots += options.requests.how_often_in(offer)
    return slots
