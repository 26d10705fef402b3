"""Run on a host of a test's LAN: submit a job with files by the client, or take home what its tasks made.

mesh_files.py submit HOME FOLDER PATTERN SCRIPT NAME…    # prints the job's id
mesh_files.py take HOME JOB                              # a JSON line for each file: task, name, digest
"""

from __future__ import annotations

import asyncio
import json
import sys
from hashlib import sha256
from pathlib import Path

import msgspec

from planetmesh.client.async_client import AsyncMesh
from planetmesh.client.connect import Call
from planetmesh.client.plan import Plan
from planetmesh.model.job import JobSpec
from planetmesh.wire.api import TaskFiles
from planetmesh.wire.manifest import decode_manifest


async def submit(mesh: AsyncMesh, folder: str, pattern: str, script: str, *names: str) -> None:
    plan = Plan(Path(folder))
    for name in names:
        plan.add(name)
    outputs = (pattern,) if pattern else ()
    spec = JobSpec(type="command", payload={"argv": ["sh", "-c", script]}, outputs=outputs)
    handle = await mesh.submit(await mesh.stage(plan, spec))
    print(handle.id)


async def take(mesh: AsyncMesh, job: str) -> None:
    lines = await _get(mesh, f"/v1/jobs/{job}/files")
    for each in msgspec.json.Decoder(TaskFiles).decode_lines(lines):
        manifest = decode_manifest(await _get(mesh, f"/v1/blobs/{each.manifest}"))
        for file in manifest.files:
            digest = sha256(await _get(mesh, f"/v1/blobs/{file.digest}")).hexdigest()
            assert digest == file.digest
            print(json.dumps({"task": each.index, "name": file.name, "digest": digest, "size": file.size}))


async def _get(mesh: AsyncMesh, path: str) -> bytes:
    assert mesh._caller is not None
    async with mesh._caller.link.send(Call("GET", path, wait_seconds=60)) as response:
        assert response.status == 200, await response.text()
        return bytes(await response.read())


async def main(what: str, home: str, *arguments: str) -> None:
    async with AsyncMesh(Path(home)) as mesh:
        await {"submit": submit, "take": take}[what](mesh, *arguments)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
