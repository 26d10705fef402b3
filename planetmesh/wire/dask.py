"""What a process of a Dask cluster on the mesh and the cluster's owner tell each other.

The job carries no secret. The task emits `Hello` as its value; its owner calls it at one of those places,
over TLS in which both have pinned the other's certificate, and gives it the key. The line then stays up: as
long as it does, the owner is there. Lines of JSON both ways.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

LINE_MOST_BYTES = 16 * 1024
PLACES_MOST = 32

Pem = Annotated[str, Meta(min_length=1, max_length=8192)]
Place = Annotated[str, Meta(min_length=1, max_length=255)]


class DaskPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The payload of a job of the type `dask`."""

    part: Literal["scheduler", "worker"]
    version: Annotated[str, Meta(pattern=r"^[0-9A-Za-z.+]{1,40}$")]
    """Of `distributed`, of all processes of the cluster."""
    certificate: Pem
    """The cluster's: who has its key is the owner."""
    scheduler: Annotated[str, Meta(max_length=255)] = ""
    """Address, for a worker."""
    name: Annotated[str, Meta(max_length=100)] = ""
    """Of a worker, as the cluster knows it."""
    threads: Annotated[int, Meta(ge=1, le=1024)] = 1
    memory_bytes: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """0: Dask does not watch it."""
    patience_seconds: Annotated[float, Meta(ge=1.0, le=86400.0)] = 60.0
    """Without its owner for so long, a process ends."""


class Hello(msgspec.Struct, frozen=True):
    """A task is there and wants the key."""

    places: Annotated[tuple[Place, ...], Meta(min_length=1, max_length=PLACES_MOST)]
    """`HOST:PORT` where it listens, the likeliest first."""
    certificate: Pem
    """The task's own."""


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    key: Pem
    """Of the cluster's certificate."""
    host: Place
    """By which the owner reached the task: others of the cluster are to use it too."""


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """The owner is still there."""


class End(msgspec.Struct, frozen=True, tag="end"):
    """Close in order."""


class Running(msgspec.Struct, frozen=True, tag="running"):
    address: Place
    """Dask's own for it, `tls://…`."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    reason: Annotated[str, Meta(max_length=4096)]


FromOwner = Begin | Beat | End
FromTask = Running | Failed


def dask_tag(version: str) -> str:
    """`2026.8.0` → `dask2026.8.0`: a tag that nodes with `distributed` have by themselves."""
    return f"dask{version}"
