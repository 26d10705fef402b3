"""A planned job's files, sent, and put into its spec."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from planetmesh.client.calls import Caller
from planetmesh.client.downloads import read_selection
from planetmesh.client.local_files import LocalFile
from planetmesh.client.plan import Plan
from planetmesh.client.progress import Progress
from planetmesh.client.uploads import Outgoing, Uploader, hash_files
from planetmesh.model.blob import Digest, Manifest, ManifestFile, StagedFile
from planetmesh.model.job import Items, JobSpec
from planetmesh.wire.manifest import encode_manifest

ONE_BY_ONE_MOST = 256
"""More single files than this travel as one list, so that a job stays small."""


async def stage(caller: Caller, plan: Plan, spec: JobSpec, progress: Progress) -> JobSpec:
    """Send what the coordinator lacks; gives the spec with the files of all tasks and of each input."""
    await asyncio.to_thread(plan.check)
    files = list({file.path: file for file in plan.all_files()}.values())
    digests = dict(zip((file.path for file in files), await hash_files(files, progress), strict=True))
    blobs = [Outgoing(digests[file.path], file.size, file) for file in files]
    staged = [_staged(file, digests) for file in plan.files.values()]
    manifests: list[Outgoing] = []
    if len(staged) > ONE_BY_ONE_MOST:
        manifests.append(_manifest(plan.files.values(), (), digests))
        staged = [StagedFile("", manifests[-1].digest, manifests[-1].size, is_tree=True)]
    for tree in plan.trees:
        manifests.append(_manifest(tree.files, tree.folders, digests))
        staged.append(StagedFile(tree.name, manifests[-1].digest, manifests[-1].size, is_tree=True))
    await Uploader(caller, progress).send([*blobs, *manifests])
    spec = msgspec.structs.replace(spec, files=(*spec.files, *staged))
    if any(plan.own) and isinstance(spec.inputs, Items):
        own = tuple(None if file is None else _staged(file, digests) for file in plan.own)
        spec = msgspec.structs.replace(spec, inputs=Items(spec.inputs.items, own))
    return spec


async def stage_made(caller: Caller, job: str, spec: JobSpec) -> JobSpec:
    """The spec with all that another job's tasks have brought, as files of each of its tasks.

    Only the list of them is sent: their content is there already. Raises Conflict for clashes of names.
    """
    made = await read_selection(caller, job)
    files = {
        file.name: ManifestFile(file.name, file.digest, file.size, file.executable) for file in made.files
    }
    content = await asyncio.to_thread(encode_manifest, Manifest(tuple(files.values()), made.folders))
    listed = Outgoing.of_bytes(content)
    await Uploader(caller, Progress()).send([listed])
    return msgspec.structs.replace(
        spec, files=(*spec.files, StagedFile("", listed.digest, listed.size, is_tree=True))
    )


def _staged(file: LocalFile, digests: dict[str, Digest]) -> StagedFile:
    return StagedFile(file.name, digests[file.path], file.size, file.executable)


def _manifest(files: Iterable[LocalFile], folders: Sequence[str], digests: dict[str, Digest]) -> Outgoing:
    listed = tuple(ManifestFile(file.name, digests[file.path], file.size, file.executable) for file in files)
    return Outgoing.of_bytes(encode_manifest(Manifest(listed, tuple(folders))))
