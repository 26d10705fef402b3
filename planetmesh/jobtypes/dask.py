"""The job type `dask`: one process, scheduler or worker, of a Dask cluster whose owner is a client.

`planetmesh.dask.MeshCluster` hands such jobs in; by themselves they do nothing but wait for their owner, and
end when he does not come. A node offers the type where `distributed` is installed, and says by a tag in which
version: all processes of a cluster, and its owner, have the same.
"""

from __future__ import annotations

from typing import Any

import msgspec

from planetmesh.errors import BadInput
from planetmesh.jobtypes.call_type import CallType
from planetmesh.jobtypes.contract import Launch, kind_of, read_payload
from planetmesh.model.job import JobSpec, One
from planetmesh.wire.dask import DaskPayload, dask_tag

CALL = "planetmesh.child.dask_process:run"


class Dask(CallType):
    """See the module."""

    name = "dask"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("distributed",)

    def complete(self, spec: JobSpec) -> JobSpec:
        tag = dask_tag(_read(spec.payload).version)
        return spec if tag in spec.tags else msgspec.structs.replace(spec, tags=(*spec.tags, tag))

    def check(self, spec: JobSpec) -> None:
        payload = _read(spec.payload)
        if not isinstance(spec.inputs, One):
            raise BadInput("A dask job is one process and takes no inputs.")
        if payload.part == "scheduler" and not spec.at_most_once:
            raise BadInput(
                "A Dask scheduler that starts again knows nothing of its cluster.",
                hint="Let the job run at most once; planetmesh.dask.MeshCluster does so.",
            )

    def launch(self, payload: dict[str, Any], items: tuple[str, ...], index: int) -> Launch:
        _read(payload)
        return Launch((), call=CALL)

    def describe(self, payload: dict[str, Any], items: tuple[str, ...] = (), index: int = 0) -> str:
        read = _read(payload)
        return f"dask {read.part}" + (f" {read.name}" if read.name else "")

    def kind(self, payload: dict[str, Any]) -> str:
        return kind_of(self.name, _read(payload).part)


def _read(payload: dict[str, Any]) -> DaskPayload:
    read = read_payload(payload, DaskPayload, Dask.name)
    if (read.part == "worker") != bool(read.scheduler):
        raise BadInput("A Dask worker has the address of its scheduler, and a scheduler has none.")
    return read
