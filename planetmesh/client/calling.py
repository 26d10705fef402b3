"""Functions to call on the mesh, with what their calls ask for: the same for `Mesh` and `AsyncMesh`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import msgspec

from planetmesh.client.call_desk import CallDesk, Item
from planetmesh.client.remote_call import CallGroup, CallOptions, RemoteCall
from planetmesh.errors import BadInput
from planetmesh.model.ids import NodeId
from planetmesh.model.resources import MILLIS, Resources, parse_size

P = ParamSpec("P")
T = TypeVar("T")


class Calls:
    """Made by `using`; cheap, and may be kept."""

    def __init__(self, open_desk: Callable[[], CallDesk], options: CallOptions) -> None:
        self._open_desk = open_desk
        self.options = options

    def using(self, **options: Any) -> Calls:
        """The same with some options changed; see `options_of`."""
        return Calls(self._open_desk, options_of(self.options, options))

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> RemoteCall[T]:
        """Call it with these arguments on some node; returns at once."""
        return self._open_desk().submit(function, args, kwargs, self.options)

    def map(self, function: Callable[..., T], /, *iterables: Iterable[Any]) -> CallGroup[T]:
        """Call it for each set of arguments, as `map` does; returns once all are taken."""
        return self.starmap(function, zip(*iterables, strict=False))

    def starmap(self, function: Callable[..., T], arguments: Iterable[Iterable[Any]], /) -> CallGroup[T]:
        """Call it as `function(*each)` for each of the arguments."""
        desk = self._open_desk()
        return CallGroup([desk.submit(function, tuple(each), {}, self.options) for each in arguments])

    def submit_together(self, items: Iterable[Item]) -> list[RemoteCall[Any]]:
        """Calls as (function, args, kwargs) that go as one job where their function is the same.

        With `map` the first does not wait for those behind it. Here the job has all of them.
        """
        return self._open_desk().submit_together(items, self.options)


def options_of(before: CallOptions, changes: dict[str, Any]) -> CallOptions:
    """Options by the names that people use; raises BadInput for one that there is not.

    `cpus` (fractions too), `memory` (bytes, or a text like `2GiB`) and `gpus` of a call; all others are the
    fields of CallOptions.
    """
    fields = dict(changes)
    requests = before.requests
    cpus, memory, gpus = fields.pop("cpus", None), fields.pop("memory", None), fields.pop("gpus", None)
    asked = Resources(
        requests.cpu_millis if cpus is None else round(float(cpus) * MILLIS),
        requests.memory_bytes if memory is None else _bytes_of(memory),
        requests.gpus if gpus is None else int(gpus),
    )
    if isinstance(fields.get("env"), dict):
        fields["env"] = tuple(sorted(fields["env"].items()))
    if isinstance(fields.get("node"), str):
        fields["node"] = NodeId(fields["node"])
    if "tags" in fields:
        fields["tags"] = tuple(fields["tags"])
    unknown = sorted(fields.keys() - set(CallOptions.__struct_fields__))
    if unknown:
        raise BadInput(
            f"Calls have no option '{unknown[0]}'.",
            hint=f"There are: cpus, memory, gpus, {', '.join(sorted(CallOptions.__struct_fields__))}.",
        )
    return msgspec.structs.replace(before, **({"requests": asked} | fields))


def _bytes_of(size: int | str) -> int:
    return parse_size(size) if isinstance(size, str) else int(size)
