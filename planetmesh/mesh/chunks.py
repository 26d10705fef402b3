"""How many inputs a task gets where the scheduler cuts the chunks: a few seconds of work, on that node.

A node that has not done this kind of job gets a single input first; the next chunks are as large as its own
time for it says, so a slow machine gets small ones. Towards the end they shrink, so that all machines end at
about the same time.
"""

from __future__ import annotations

from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.live_node import LiveNode
from planetmesh.settings import Settings

INPUTS_MOST = 1000
"""Of one task."""
BYTES_MOST = 64 * 1024
"""Of one task's inputs together: they are arguments of one command."""
SHARES = 2
"""What is left is cut at least so fine for each slot, lest the last chunks keep everybody waiting."""


def width(live: LiveJob, node: LiveNode, slots: int, settings: Settings) -> int:
    """How many inputs the job's next fresh task takes on this node; `slots` is how many run at a time."""
    if not live.is_auto:
        return 1
    record = node.records.get(live.kind)
    if record is None or record.mean_seconds is None:
        return 1
    wanted = settings.chunk_seconds / max(record.mean_seconds, settings.chunk_seconds / INPUTS_MOST)
    fair = -(-live.untouched // (SHARES * max(1, slots)))
    return _fitting(live, live.fresh_run(max(1, min(int(wanted), fair, INPUTS_MOST))))


def _fitting(live: LiveJob, most: int) -> int:
    """As many as keep within BYTES_MOST, one at least."""
    size = 0
    for number, text in enumerate(live.job.spec.items_of(live.next_index, most)):
        size += len(text.encode()) + 1
        if size > BYTES_MOST:
            return max(1, number)
    return most
