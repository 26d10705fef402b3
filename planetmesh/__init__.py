"""planetmesh: run work on all the machines of a LAN.

The house has five floors and imports go down only (`tests/test_floors.py` checks it)::

    4  FACES      cli/            dashboard/          install/
    3  SERVICES   coordinator/    agent/    client/   child/
    2  ROOMS      pure:  mesh/  jobtypes/      doors:  trust/  store/  blobs/  discovery
    1  WORDS      wire/
    0  GROUND     model/   errors  settings  paths  logs

Pure rooms decide, services do. Coordinator, agent and client meet only over the wire.
`docs/architecture.md` is the guided tour. SDK names are handed out on demand, so that
importing one room does not pull in the network stack.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0.dev0"

_SDK = {
    "AsyncMesh": "planetmesh.client.async_client",
    "Mesh": "planetmesh.client.sync_client",
    "MeshExecutor": "planetmesh.client.executor",
}


def __getattr__(name: str) -> Any:
    if name in _SDK:
        from importlib import import_module

        return getattr(import_module(_SDK[name]), name)
    raise AttributeError(f"module 'planetmesh' has no attribute {name!r}")
