"""An agent of a newer planetmesh, some of whose ends its coordinator cannot read: the node is not lost."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from lan import REPOSITORY
from meshes import Machine, free_port, join

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(240)]

NEWER = """
import sys
if "planetmesh" in sys.orig_argv:
    import msgspec
    from planetmesh.agent import aside, desk, outbox
    from planetmesh.wire.agent import TaskOutput, TaskReturned

    class TaskResult(msgspec.Struct, frozen=True, array_like=True, tag="result"):
        job_id: str
        index: int
        attempt: int
        outcome: str

    def end_of(job_id, ended, held, node, known=desk.words.end_of):
        end = known(job_id, ended, held, node)
        return TaskResult(job_id, ended.index, ended.attempt, "melted") if ended.index in (3, 7) else end

    desk.words.end_of = end_of
    aside.decode_durable = outbox.decode_durable = msgspec.msgpack.Decoder(
        TaskResult | TaskOutput | TaskReturned
    ).decode
"""
"""Read by every Python that has its folder in PYTHONPATH: the agent knows one more way for a task to end."""


def test_every_task_ends_once_and_the_node_works_on(tmp_path: Path) -> None:
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "sitecustomize.py").write_text(NEWER)
    path = f"{tmp_path / 'newer'}{os.pathsep}{REPOSITORY}"
    coordinator = Machine(tmp_path / "desk")
    newcomer = Machine(tmp_path / "newcomer", env={"PYTHONPATH": path})
    try:
        port, here = free_port(), ("--bind", "127.0.0.1", "--no-mdns")
        coordinator.up("--new", "--name", "desk", "--port", port, "--no-agent", *here)
        join(coordinator, newcomer, "--name", "newer", "--cpus", "4", "--join", f"127.0.0.1:{port}", *here)
        asked = ("--retries", "0", "--range", "0..11", "--", "echo", "{}")
        said = coordinator.call("--json", "run", *asked, seconds=60)
        job = json.loads(coordinator.call("--json", "jobs").out)[0]
        tasks = coordinator.json("job", job["id"], "--tasks")
        assert {task["index"] for task in tasks if task["status"] == "FAILED"} == {3, 7}, (
            said.out + said.error
        )
        assert all(
            "the coordinator refuses it" in each["last_error"] for each in tasks if each["index"] in {3, 7}
        )
        kept = list((newcomer.home / "refused").iterdir())
        assert len(kept) == 2
        assert "melted" in json.loads(kept[0].read_bytes())["message"]
        assert newcomer.log.count("outbox.set_aside") == 2
        assert coordinator.call("run", "--node", "newer", "true", seconds=60).status == 0
    finally:
        newcomer.close()
        coordinator.close()
