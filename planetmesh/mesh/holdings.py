"""Which nodes hold which large blobs, and so what a task's node would still have to fetch.

All of it is hearsay, for placing tasks well: nothing here decides whether a task can run somewhere.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.live_node import LiveNode
from planetmesh.model.blob import LARGE_MOST, Digest, large_files, largest
from planetmesh.model.ids import NodeId
from planetmesh.model.job import Task

BLOBS_MOST = 16_384
"""That are remembered of one node."""
FOLDERS_MOST = 4096
"""Of which it is known what stands in them; the one not asked for longest goes first."""
HOLDERS_MOST = 32
"""Nodes that are looked at because they hold one of them."""

Sizes = Mapping[Digest, int]


class Holdings:
    """Only `nodes` and the owner of the manifests tell it something; the scheduler asks."""

    def __init__(self) -> None:
        self._holders: dict[Digest, dict[NodeId, None]] = {}
        """Nodes that said they have it, the first one first."""
        self._folders: OrderedDict[Digest, Sizes] = OrderedDict()
        """By manifest: the largest files in it."""

    # What is told

    def gain(self, live: LiveNode, digests: Iterable[Digest]) -> None:
        """What is too much to remember is dropped."""
        for digest in digests:
            if len(live.blobs) >= BLOBS_MOST:
                return
            live.blobs.add(digest)
            self._holders.setdefault(digest, {})[live.node.id] = None

    def lose(self, live: LiveNode, digests: Iterable[Digest]) -> None:
        for digest in digests:
            if digest not in live.blobs:
                continue
            live.blobs.discard(digest)
            holders = self._holders[digest]
            del holders[live.node.id]
            if not holders:
                del self._holders[digest]

    def know_folder(self, manifest: Digest, large: Sizes) -> None:
        """The largest files of a folder, as `largest` chooses them."""
        self._folders[manifest] = dict(large)
        self._folders.move_to_end(manifest)
        while len(self._folders) > FOLDERS_MOST:
            self._folders.popitem(last=False)

    # What is asked

    def of(self, digest: Digest) -> Iterable[NodeId]:
        """Nodes that hold it."""
        return tuple(self._holders.get(digest, ()))

    def wanted(self, live: LiveJob, task: Task) -> Sizes:
        """The large files that a node needs for the task; of a folder only if its manifest was read."""
        found: dict[Digest, int] = {}
        own = live.job.spec.files_of(task.index, task.width)
        for file in (*live.large_files, *large_files(own)):
            if not file.is_tree:
                found[file.digest] = file.size
            elif file.digest in self._folders:
                self._folders.move_to_end(file.digest)
                found.update(self._folders[file.digest])
        return found if len(found) <= LARGE_MOST else largest(found)

    def holders(self, wanted: Sizes) -> list[NodeId]:
        """Some of the nodes that hold one of these; those of the largest come first."""
        found: dict[NodeId, None] = {}
        for digest in sorted(wanted, key=lambda each: (-wanted[each], each)):
            for node_id in self._holders.get(digest, ()):
                found[node_id] = None
                if len(found) >= HOLDERS_MOST:
                    return list(found)
        return list(found)

    def check(self, nodes: Mapping[NodeId, LiveNode]) -> None:
        """Compare with what the nodes say; AssertionError names the first contradiction."""
        said = {(digest, node_id) for node_id, live in nodes.items() for digest in live.blobs}
        known = {(digest, node_id) for digest, each in self._holders.items() for node_id in each}
        assert said == known, f"holders changed unseen: {said ^ known}"
        assert all(self._holders.values())


def missing_bytes(live: LiveNode, wanted: Sizes) -> int:
    """How much of it the node does not hold."""
    return sum(size for digest, size in wanted.items() if digest not in live.blobs)
