"""How many inputs a task gets where the scheduler cuts the chunks: a few seconds of work, on that node.

A node that has not done this kind of job gets a single input first; the next chunks are as large as its own
time for it says, so a slow machine gets small ones. Towards the end they shrink, so that all machines end at
about the same time.
"""

from __future__ import annotations

from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.live_node import LiveNode
from planetmesh.model.job import AUTO_INPUTS_MOST
from planetmesh.settings import Settings

SHARES = 2
"""What is left is cut at least so fine for each slot, lest the last chunks keep everybody waiting."""


def width(live: LiveJob, node: LiveNode, slots: int, settings: Settings) -> int:
    """How many inputs the job's next fresh task takes on this node; `slots` is how many run at a time."""
    if not live.is_auto:
        return 1
    record = node.records.get(live.kind)
    if record is None or record.mean_seconds is None:
        return 1
    wanted = settings.chunk_seconds / max(record.mean_seconds, settings.chunk_seconds / AUTO_INPUTS_MOST)
    fair = -(-live.untouched // (SHARES * max(1, slots)))
    run = live.fresh_run(max(1, min(int(wanted), fair)))
    return max(1, len(live.job.spec.chunk_at(live.next_index, run)))
