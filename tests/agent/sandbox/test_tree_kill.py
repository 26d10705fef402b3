"""Nothing outlives its task, its job or its agent (abuse tests T35 and T38)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from left_alive import nobody_left

from planetmesh.agent.sandbox import tree
from planetmesh.agent.sandbox.messages import Why

TREE = "(setsid sh -c 'sleep 61 & sleep 62' &) ; sleep 63 & (sh -c 'kill -STOP $$' &) ; sleep 0.1"


async def test_a_grandchild_that_keeps_stdout_does_not_hold_the_end(job):
    end = await job.shell("sleep 60 & echo done")
    assert (end.exit_code, job.text(1)) == (0, "done\n")
    assert end.wall_seconds < 300
    assert job.alive() == []


async def test_a_late_writer_may_still_flush(job):
    # When the shell has ended: on a busy machine a nap of any length may last longer than the launcher waits.
    end = await job.shell("(while kill -0 $$ 2>/dev/null; do :; done; echo late) & echo early")
    assert end.exit_code == 0
    assert job.text(1) == "early\nlate\n"


async def test_what_a_task_leaves_behind_is_killed(job):
    await job.shell(f"{TREE}; exit 4")
    assert job.ends()[1].exit_code == 4
    assert job.alive() == []


async def test_a_killed_task_goes_with_its_whole_tree(job):
    index = job.start("/bin/sh", "-c", f"{TREE}; echo up; wait; sleep 60")
    await job.until("the tree", lambda: job.text(index) == "up\n")
    assert len(job.alive()) >= 5
    job.handle.kill(index, 1, 0.1)
    assert (await job.end(index)).why is Why.KILLED
    assert job.alive() == []


async def test_the_orphan_of_a_running_task_survives_the_end_of_another(job):
    index = job.start("/bin/sh", "-c", "(setsid sleep 60 &) ; echo up; sleep 60")
    await job.until("the orphan", lambda: job.text(index) == "up\n")
    before = set(job.alive())
    for _ in range(3):
        await job.run("/bin/true")
    assert before <= set(job.alive())


async def test_an_orphan_without_marker_goes_at_the_next_end(job):
    await job.shell("(setsid env -i sleep 64 &) ; sleep 0.05")
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 64\n" not in found


async def test_a_stopped_task_can_be_killed(job):
    index = job.start("/bin/sh", "-c", "kill -STOP $$; sleep 60")
    await job.started(index)
    await asyncio.sleep(0.1)
    job.handle.kill(index, 1, 0.1)
    assert (await job.end(index)).why is Why.KILLED


@pytest.mark.slow
async def test_a_bomb_of_forks_is_stopped(open_job):
    job = await open_job(processes=30)
    # Bounded by itself: if the limit does not bite, this machine must survive the test.
    end = await job.shell("for i in $(seq 150); do sleep 30 & done; wait")
    assert end.why is Why.PROCESSES
    await nobody_left(job.spec.folder)


async def test_close_ends_what_runs(open_job):
    job = await open_job()
    index = job.start("/bin/sh", "-c", f"{TREE}; sleep 60")
    await job.started(index)
    await asyncio.sleep(0.2)
    await job.handle.close()
    assert job.alive() == []
    assert job.lost == []


AGENT = """
import asyncio, sys
from planetmesh.agent.sandbox.handle import Zygote
from planetmesh.agent.sandbox.messages import LauncherSpec, Start
zygote = Zygote.start()
async def main():
    job_id, folder = sys.argv[1:]
    handle = await zygote.open(LauncherSpec(job_id, folder, ()), print, print)
    handle.start([Start(1, 1, ["/bin/sh", "-c", "(setsid sh -c 'trap \\"\\" TERM; sleep 61' &); sleep 62"])])
    await asyncio.sleep(0.3)
    print(zygote.pid, handle.ready.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.system
@pytest.mark.parametrize(
    "victims",
    [["agent"], ["zygote"], ["agent", "zygote"], ["agent", "launcher"], ["agent", "launcher", "zygote"]],
)
async def test_a_kill_of_the_agent_or_zygote_ends_all(work_root, victims):
    from planetmesh.agent.sandbox import folders

    job_id = f"job-{os.getpid()}-{work_root.parent.name}-{'-'.join(victims)}"
    folder = folders.make_job_folder(work_root, job_id)
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, job_id, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.DEVNULL,
    )
    try:
        line = ""
        while not line.strip() or not line[0].isdigit():
            line = await asyncio.to_thread(agent.stdout.readline)
        zygote, launcher = map(int, line.split())
        pids = {"agent": agent.pid, "zygote": zygote, "launcher": launcher}
        for victim in victims:
            os.kill(pids[victim], signal.SIGKILL)
        if len(victims) == 3:
            await asyncio.to_thread(tree.kill_leftovers, str(work_root))
        await nobody_left(str(folder))
    finally:
        agent.kill()
        agent.wait()
        agent.stdout.close()
