"""What a task is charged for."""

from __future__ import annotations

import os
import signal

from planetmesh.agent.sandbox import tree
from planetmesh.agent.sandbox.watch import _memory_bytes

HELD_BYTES = 300_000_000


def test_a_process_is_not_charged_alone_for_what_it_shares_with_whom_it_was_forked_from():
    held = b"x" * HELD_BYTES
    pids = []
    try:
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            pids.append(pid)
        processes = tree.snapshot()
        alone = processes[pids[0]].rss_pages * os.sysconf("SC_PAGE_SIZE")
        assert alone > len(held)
        # Three children and we: a quarter each. The pytest around us holds something too, shared likewise.
        limit = alone // 2
        assert _memory_bytes(pids[:1], processes, limit) < limit
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
