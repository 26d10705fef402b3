"""How much the nodes may bring for one job: asked before the bytes come, so that a mad node fills no disk.

Counted is what has come whole (the ledger knows it), what is coming, and what broke off and may be gone on
with. Forgotten at a restart are only the last: they are swept after a while.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping

from planetmesh.model.blob import Digest
from planetmesh.model.ids import JobId
from planetmesh.store.blobs import brought_too_much


class Bounds:
    """One per depot; used from its loop."""

    def __init__(self, brought: Callable[[JobId], Awaitable[int]], most_bytes: Callable[[], int]) -> None:
        """`brought` gives the bytes that have come whole for a job."""
        self._brought = brought
        self._most_bytes = most_bytes
        self._coming: defaultdict[JobId, dict[Digest, int]] = defaultdict(dict)

    async def promise(self, job_id: JobId, sizes: Mapping[Digest, int]) -> None:
        """These are about to come; raises TooLarge, and counts none, if that is more than the job may bring.

        `came` must follow for each that does.
        """
        coming = self._coming[job_id]
        new = {digest: size for digest, size in sizes.items() if digest not in coming}
        # Counted at once: others ask while the ledger is read.
        coming.update(new)
        whole = await self._brought(job_id)
        together, most = whole + sum(coming.values()), self._most_bytes()
        if together > most:
            for digest in new:
                coming.pop(digest, None)
            raise brought_too_much(together, most)

    def came(self, job_id: JobId, digests: Iterable[Digest]) -> None:
        """The ledger counts them from now on."""
        coming = self._coming.get(job_id)
        if coming is not None:
            for digest in digests:
                coming.pop(digest, None)
            if not coming:
                del self._coming[job_id]

    def begun(self) -> list[Digest]:
        """All that is coming, or broke off."""
        return [digest for coming in self._coming.values() for digest in coming]

    def forget(self, digests: Iterable[Digest]) -> None:
        """Nothing of these is here any more."""
        for job_id in list(self._coming):
            self.came(job_id, digests)
