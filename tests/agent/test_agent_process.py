"""The agent as a process of its own: signals, sudden death, its first event loop not the first."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from planetmesh.model.job import Outcome
from planetmesh.paths import work_root
from planetmesh.wire.agent import Goodbye, Heartbeat, Leaving, TaskStarted

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux' so far"),
]

JOB = "aaaaaaaaaa"
SOURCE = Path(__file__).parents[2]
PROGRAM = """
    import sys
    from pathlib import Path
    from planetmesh import logs
    from planetmesh.agent.service import AgentOptions, main
    from planetmesh.errors import MeshError
    from planetmesh.model.resources import Resources
    from planetmesh.paths import Home
    logs.set_up("text")
    options = AgentOptions(home=Home(Path(sys.argv[1])), offers=Resources(2000, 2**30, 0))
    try:
        main(options, lambda state: print(state.phase, flush=True))
    except MeshError as error:
        sys.exit(error.exit_code)
"""


@contextlib.contextmanager
def agent_process(home, before=""):
    """A real agent; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", before + textwrap.dedent(PROGRAM), home.root],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        cwd=SOURCE,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


async def ended(process):
    async with asyncio.timeout(40):
        return await asyncio.to_thread(process.wait)


def strangers(home):
    """Processes whose command line names this home's tasks."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if str(work_root(home)).encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes())
    return found


async def test_one_signal_ends_it_in_order(coordinator):
    home = coordinator.agent_home()
    with agent_process(home) as process:
        await coordinator.until(lambda: coordinator.hellos)
        await coordinator.open_job(JOB, ["sh", "-c", "sleep 0.4; echo done"])
        await coordinator.assign(JOB, [0])
        await coordinator.until(lambda: coordinator.of(TaskStarted))
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
    assert coordinator.results()[0].outcome is Outcome.OK
    assert coordinator.of(Leaving)
    assert not work_root(home).exists()


async def test_two_signals_end_it_now(coordinator):
    home = coordinator.agent_home()
    with agent_process(home) as process:
        await coordinator.until(lambda: coordinator.hellos)
        await coordinator.open_job(JOB, ["sleep", "600"])
        await coordinator.assign(JOB, [0])
        await coordinator.until(lambda: coordinator.of(TaskStarted))
        process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert await ended(process) == 0
    assert strangers(home) == []


async def test_killed_it_sends_its_ends_again_and_leaves_no_process(coordinator):
    coordinator.acknowledges = False
    home = coordinator.agent_home()
    with agent_process(home) as process:
        await coordinator.until(lambda: coordinator.hellos)
        await coordinator.open_job(JOB, ["sh", "-c", "echo $0; test $0 != long || sleep 600"])
        await coordinator.assign(JOB, [0, 1], ["short", "long"])
        await coordinator.until(lambda: 0 in coordinator.results() and coordinator.of(TaskStarted))
        assert strangers(home)
        process.kill()
        await ended(process)
    await coordinator.until(lambda: not strangers(home), "the end of its tasks")
    coordinator.acknowledges = True
    count = len(coordinator.came)
    with agent_process(home) as process:
        await coordinator.until(lambda: len(coordinator.hellos) == 2)
        await coordinator.until(lambda: any(getattr(m, "outcome", "") for m in coordinator.came[count:]))
    first, second = coordinator.hellos
    assert first.instance != second.instance
    assert second.first_unacknowledged == 0
    assert [held.index for held in second.held] == [0]


async def test_revoked_it_ends_with_4(coordinator):
    with agent_process(coordinator.agent_home()) as process:
        await coordinator.until(lambda: coordinator.hellos)
        await coordinator.send(Goodbye("revoked", "Lost laptop."))
        assert await ended(process) == 4


async def test_it_works_where_another_loop_has_run_before(coordinator):
    """`up` pairs before it becomes an agent; libuv must not reach into the zygote's descriptors."""
    before = "import asyncio, uvloop\nuvloop.run(asyncio.sleep(0))\n"
    with agent_process(coordinator.agent_home(), before):
        await coordinator.until(lambda: coordinator.hellos)
        await coordinator.open_job(JOB, ["echo", "hi"])
        await coordinator.assign(JOB, [0])
        await coordinator.until(coordinator.results)
    assert coordinator.output(0) == b"hi\n"


async def test_heartbeats_go_on_while_tasks_take_every_core(coordinator):
    with agent_process(coordinator.agent_home()):
        await coordinator.until(lambda: coordinator.hellos)
        await coordinator.open_job(
            JOB, ["sh", "-c", "for i in 1 2 3 4; do (while :; do :; done) & done; wait"]
        )
        await coordinator.assign(JOB, [0, 1])
        await coordinator.until(lambda: len(coordinator.of(TaskStarted)) == 2)
        before = len(coordinator.of(Heartbeat))
        await asyncio.sleep(4.5)
        assert len(coordinator.of(Heartbeat)) - before >= 2


async def test_a_flood_of_output_is_capped_and_the_agent_stays_small(coordinator):
    import psutil

    with agent_process(coordinator.agent_home()) as process:
        await coordinator.until(lambda: coordinator.hellos)
        await coordinator.open_job(JOB, ["sh", "-c", "head -c 200000000 /dev/zero"])
        await coordinator.assign(JOB, [0])
        await coordinator.until(coordinator.results)
        memory = psutil.Process(process.pid).memory_info().rss
    result = coordinator.results()[0]
    assert result.stdout_bytes == 200_000_000
    assert len(coordinator.output(0)) == 16 * 2**20
    assert memory < 200 * 2**20
