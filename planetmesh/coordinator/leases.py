"""What a node may read and write because of an attempt that it has in hand: asked of the engine's state."""

from __future__ import annotations

import msgspec

from planetmesh.errors import Conflict
from planetmesh.mesh.reactor import still_counts
from planetmesh.mesh.state import MeshState
from planetmesh.model.blob import Digest, StagedFile
from planetmesh.model.ids import JobId, NodeId


class Lease(msgspec.Struct, frozen=True):
    """One live attempt and the files that it was given."""

    job_id: JobId
    files: tuple[StagedFile, ...]
    brings_files: bool = False
    """Its job asked for what it makes."""

    @property
    def named(self) -> frozenset[Digest]:
        """Blobs that its task names itself, the manifests of folders among them."""
        return frozenset(file.digest for file in self.files)

    @property
    def trees(self) -> tuple[Digest, ...]:
        """Manifests whose files belong to it too."""
        return tuple(dict.fromkeys(file.digest for file in self.files if file.is_tree))


def lease_of(state: MeshState, node_id: NodeId, job_id: JobId, index: int, attempt: int) -> Lease:
    """Raises Conflict unless this attempt is that node's, and counts."""
    if not still_counts(state, node_id, job_id, index, attempt):
        raise Conflict("This attempt is not in this node's hands, or not any more.")
    live = state.jobs[job_id]
    spec = live.job.spec
    files = spec.files + spec.files_of(index, live.tasks[index].width)
    return Lease(job_id, files, bool(spec.outputs))
