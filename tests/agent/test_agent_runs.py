"""The whole agent in this process, against the double: real programs under the real sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import msgspec
import pytest
from coordinator_double import SETTINGS

from planetmesh.agent import reconnect
from planetmesh.agent import service as service_module
from planetmesh.agent.outbox import Outbox
from planetmesh.agent.sandbox import tree
from planetmesh.agent.service import AgentOptions, Stops, read_share, run_agent
from planetmesh.agent.state import Phase
from planetmesh.errors import BadInput, NotAllowed
from planetmesh.model.ids import JobId
from planetmesh.model.job import Limits, Outcome
from planetmesh.model.resources import Resources
from planetmesh.paths import work_root
from planetmesh.wire.agent import (
    CloseJob,
    Drain,
    Goodbye,
    Heartbeat,
    Held,
    Leaving,
    RecallTasks,
    StopTask,
    TaskResult,
    TaskReturned,
    TaskStarted,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux' so far")

JOB = "aaaaaaaaaa"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reconnect, "BACK_OFF_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(reconnect, "BACK_OFF_MOST_SECONDS", 0.1)
    monkeypatch.setattr(service_module, "DRAIN_SECONDS", 1.0)


class Running:
    def __init__(self, options, stops, states):
        self.options = options
        self.stops = stops
        self.states = states

    @property
    def folder(self) -> Path:
        return work_root(self.options.home)

    def kept_ends(self) -> int:
        """Of tasks, in its outbox."""
        files = self.options.home.outbox.iterdir()
        return sum(path.read_bytes().count(msgspec.msgpack.encode("result")) for path in files)

    def holds(self, name: str) -> bool:
        """Unlike glob, os.walk does not mind a folder that goes while it looks."""
        return any(name in names for _, _, names in os.walk(self.folder))


@contextlib.asynccontextmanager
async def running_agent(zygote, coordinator, home=None, **changes):
    """Runs until the block ends, then is told to stop at once."""
    home = home or coordinator.agent_home()
    changes = {"offers": Resources(2000, 2**30, 0), **changes}
    options = AgentOptions(home=home, settings=SETTINGS, **changes)
    running = Running(options, Stops(), [])
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(run_agent(options, zygote, running.states.append, running.stops))
            hellos = len(coordinator.hellos)
            await coordinator.until(lambda: len(coordinator.hellos) > hellos, "the hello")
            await coordinator.until(lambda: any(s.phase is Phase.REGISTERED for s in running.states))
            try:
                yield running
            finally:
                running.stops.tell()
                running.stops.tell()
    finally:
        shutil.rmtree(running.folder, ignore_errors=True)


@pytest.fixture
def agent(zygote):
    return functools.partial(running_agent, zygote)


async def test_commands_run_and_their_output_comes_back(agent, coordinator):
    async with agent(coordinator):
        await coordinator.open_job(
            JOB,
            ["sh", "-c", 'echo "$0" $GREETING; echo bad >&2; sleep 0.$0; exit $0'],
            env={"GREETING": "hi"},
        )
        await coordinator.assign(JOB, range(3), ["0", "1", "2"])
        await coordinator.until(lambda: len(coordinator.results()) == 3)
    results = coordinator.results()
    assert [results[index].exit_code for index in range(3)] == [0, 1, 2]
    assert [results[index].outcome for index in range(3)] == [
        Outcome.OK,
        Outcome.EXIT_CODE,
        Outcome.EXIT_CODE,
    ]
    assert [coordinator.output(index) for index in range(3)] == [b"0 hi\n", b"1 hi\n", b"2 hi\n"]
    assert coordinator.output(1, stream=2) == b"bad\n"
    assert results[1].stdout_bytes == 5
    # The end of a task that ran for a moment only says by itself that it had started.
    started = {message.index for message in coordinator.of(TaskStarted)}
    assert {1, 2} <= started


async def test_a_program_that_is_not_there_is_named_with_the_node(agent, coordinator):
    async with agent(coordinator):
        await coordinator.open_job(JOB, ["ffmpg", "-i"])
        await coordinator.assign(JOB, [0])
        await coordinator.until(coordinator.results)
    result = coordinator.results()[0]
    assert result.outcome is Outcome.NOT_FOUND
    assert "ffmpg" in result.error
    assert "node-a" in result.error


async def test_a_script_travels_with_its_job(agent, coordinator):
    payload = {
        "source": "import sys\nprint('got', sys.argv[1:])\n",
        "name": "sweep.py",
        "args": ["-n", "{#}", "{}"],
    }
    async with agent(coordinator) as running:
        await coordinator.open_job(JOB, [], job_type="script", payload=payload)
        await coordinator.assign(JOB, [0, 1], ["a b", "$(id)"])
        await coordinator.until(lambda: len(coordinator.results()) == 2)
        assert coordinator.output(0) == b"got ['-n', '1', 'a b']\n"
        assert coordinator.output(1) == b"got ['-n', '2', '$(id)']\n"
        assert running.holds("sweep.py")
        await coordinator.send(CloseJob(JobId(JOB)))
        await coordinator.until(lambda: not running.holds("sweep.py"), "the script's removal")


async def test_a_shell_line_with_hostile_inputs(agent, coordinator):
    items = ["plain", "it's; echo hit", '$(echo hit) "`x`']
    async with agent(coordinator):
        await coordinator.open_job(JOB, ["printf '[%s]' {} | cat"])
        await coordinator.assign(JOB, range(3), items)
        await coordinator.until(lambda: len(coordinator.results()) == 3)
    assert [coordinator.output(index).decode() for index in range(3)] == [f"[{item}]" for item in items]


async def test_what_makes_no_sense_here_is_a_failure_in_words(agent, coordinator):
    async with agent(coordinator):
        await coordinator.open_job(JOB, [], job_type="magic")
        await coordinator.assign(JOB, [0])
        await coordinator.assign("bbbbbbbbbb", [7])
        await coordinator.until(lambda: coordinator.results() and coordinator.of(TaskReturned))
    assert coordinator.results()[0].outcome is Outcome.STAGING
    assert "magic" in coordinator.results()[0].error
    assert coordinator.of(TaskReturned)[0].index == 7


@pytest.mark.system
async def test_time_limits_and_cancel(agent, coordinator):
    async with agent(coordinator):
        await coordinator.open_job(JOB, ["sleep", "60"], limits=Limits(attempt_seconds=0.2))
        await coordinator.open_job("bbbbbbbbbb", ["sleep", "60"])
        await coordinator.assign(JOB, [0])
        await coordinator.assign("bbbbbbbbbb", [1, 2])
        await coordinator.until(lambda: any(s.index == 1 for s in coordinator.of(TaskStarted)))
        await coordinator.send(StopTask(JobId("bbbbbbbbbb"), 1, 1), StopTask(JobId("bbbbbbbbbb"), 2, 1))
        await coordinator.until(lambda: len(coordinator.results()) == 3)
    outcomes = [coordinator.results()[index].outcome for index in range(3)]
    assert outcomes == [Outcome.TIMED_OUT, Outcome.CANCELLED, Outcome.CANCELLED]


async def test_a_task_that_kills_its_launcher_is_lost_once_and_not_started_again_here(agent, coordinator):
    async with agent(coordinator):
        await coordinator.open_job(JOB, ["sh", "-c", "kill -9 $PPID; sleep 1"])
        await coordinator.assign(JOB, [0])
        await coordinator.until(lambda: coordinator.results())
        assert coordinator.results()[0].outcome is Outcome.LOST
        await coordinator.open_job("bbbbbbbbbb", ["echo", "fine"])
        await coordinator.assign("bbbbbbbbbb", [1])
        await coordinator.until(lambda: len(coordinator.results()) == 2)
    assert coordinator.results()[1].outcome is Outcome.OK
    assert len(coordinator.of(TaskResult)) == 2


async def test_tasks_run_on_while_the_coordinator_is_away(agent, coordinator):
    async with agent(coordinator) as running:
        await coordinator.open_job(JOB, ["sh", "-c", "sleep 1.5; echo done"])
        await coordinator.assign(JOB, [0, 1])
        await coordinator.until(lambda: len(coordinator.of(TaskStarted)) == 2)
        await coordinator.close()
        await coordinator.until(lambda: running.states[-1].phase is Phase.LOST)
        await coordinator.until(lambda: running.kept_ends() == 2)
        await coordinator.open()
        await coordinator.until(lambda: len(coordinator.results()) == 2)
    assert coordinator.output(0) == coordinator.output(1) == b"done\n"
    assert {(held.index, held.running) for held in coordinator.hellos[1].held} == {(0, True), (1, True)}


@pytest.mark.system
async def test_the_hello_names_what_runs_and_drops_what_is_no_longer_ours(agent, coordinator):
    async with agent(coordinator):
        await coordinator.open_job(JOB, ["sleep", "60"])
        await coordinator.assign(JOB, range(3))
        await coordinator.until(lambda: len(coordinator.of(TaskStarted)) == 2)
        coordinator.drop = (Held(JobId(JOB), 0, 1, True), Held(JobId(JOB), 2, 1, False))
        coordinator.cut()
        await coordinator.until(lambda: len(coordinator.hellos) == 2)
        assert len(coordinator.hellos[1].held) == 3
        coordinator.drop = ()
        # What was dropped takes a moment to end.
        async with asyncio.timeout(30):
            while coordinator.hellos[-1].held != (Held(JobId(JOB), 1, 1, True),):
                count = len(coordinator.hellos)
                coordinator.cut()
                await coordinator.until(lambda: len(coordinator.hellos) > count)  # noqa: B023
    assert 0 not in coordinator.results()


@pytest.mark.slow
async def test_output_waits_in_its_pipe_while_no_more_can_be_kept(agent, coordinator, monkeypatch):
    monkeypatch.setattr(service_module, "Outbox", partial(Outbox, most_bytes=2**20, segment_bytes=2**18))
    async with agent(coordinator) as running:
        await coordinator.open_job(JOB, ["sh", "-c", "head -c 9000000 /dev/zero; echo end >&2"])
        await coordinator.until(lambda: coordinator.of(Heartbeat))
        coordinator.acknowledges = False
        await coordinator.assign(JOB, [0])

        def kept() -> int:
            return sum(path.stat().st_size for path in running.options.home.outbox.iterdir())

        await coordinator.until(lambda: kept() > 2**20)
        await asyncio.sleep(0.5)
        assert kept() < 4 * 2**20
        assert not coordinator.results()
        coordinator.acknowledges = True
        coordinator.cut()
        await coordinator.until(coordinator.results)
    assert len(coordinator.output(0)) == 9_000_000
    assert coordinator.output(0, stream=2) == b"end\n"


async def test_recall_and_drain_give_back_what_has_not_started(agent, coordinator):
    async with agent(coordinator):
        await coordinator.open_job(JOB, ["sleep", "0.3"])
        await coordinator.assign(JOB, range(6))
        await coordinator.until(lambda: len(coordinator.of(TaskStarted)) == 2)
        await coordinator.send(RecallTasks((Held(JobId(JOB), 5, 1, False), Held(JobId(JOB), 0, 1, False))))
        await coordinator.until(lambda: coordinator.of(TaskReturned))
        await coordinator.send(Drain(on=True))
        await coordinator.until(lambda: len(coordinator.of(TaskReturned)) == 4)
        await coordinator.until(lambda: len(coordinator.results()) == 2)
    assert [message.index for message in coordinator.of(TaskReturned)] == [5, 2, 3, 4]


@pytest.mark.system
async def test_an_orderly_end_gives_back_waits_and_says_goodbye(agent, coordinator):
    async with agent(coordinator) as running:
        await coordinator.open_job(JOB, ["sleep", "0.3"])
        await coordinator.assign(JOB, range(4))
        await coordinator.until(lambda: len(coordinator.of(TaskStarted)) == 2)
        running.stops.tell()
        await coordinator.until(lambda: coordinator.of(Leaving))
    assert {index: result.outcome for index, result in coordinator.results().items()} == dict.fromkeys(
        (0, 1), Outcome.OK
    )
    assert {message.index for message in coordinator.of(TaskReturned)} == {2, 3}
    assert running.states[-1].phase is Phase.ENDED


async def test_the_second_signal_stops_at_once(agent, coordinator):
    async with agent(coordinator):
        await coordinator.open_job(JOB, ["sleep", "60"])
        await coordinator.assign(JOB, range(2))
        await coordinator.until(lambda: len(coordinator.of(TaskStarted)) == 2)
    assert {message.index for message in coordinator.of(TaskReturned)} == {0, 1}
    assert coordinator.of(Leaving)


@pytest.mark.system
async def test_many_short_tasks_of_two_jobs(agent, coordinator):
    async with agent(coordinator):
        await coordinator.open_job(JOB, ["true"])
        await coordinator.open_job("bbbbbbbbbb", ["true"])
        await coordinator.assign(JOB, range(300))
        await coordinator.assign("bbbbbbbbbb", range(300, 400))
        await coordinator.until(lambda: len(coordinator.results()) == 400)
    assert {result.outcome for result in coordinator.results().values()} == {Outcome.OK}


@pytest.mark.system
async def test_revoked_in_the_middle_stops_everything(agent, coordinator):
    home = coordinator.agent_home()

    def living() -> list[int]:
        return [pid for pid in tree.snapshot() if tree.marker_of(pid).startswith(str(work_root(home)))]

    async def be_revoked():
        async with agent(coordinator, home):
            await coordinator.open_job(JOB, ["sleep", "60"])
            await coordinator.assign(JOB, [0])
            await coordinator.until(lambda: coordinator.of(TaskStarted))
            assert living()
            await coordinator.send(Goodbye("revoked", "Stolen."))
            await asyncio.sleep(60)

    with pytest.raises(ExceptionGroup) as caught:
        await be_revoked()
    assert caught.group_contains(NotAllowed)
    await coordinator.until(lambda: not living(), "the end of its task")


async def test_a_coordinators_host_that_cannot_keep_tasks_out_refuses_them(agent, coordinator, monkeypatch):
    from planetmesh.agent.sandbox import probe

    async def fails(*_):
        return probe.SandboxReport(probe.Tier.UNCONFINED, False, "A task got at everything.")

    monkeypatch.setattr(probe, "measure_tier", fails)
    home = coordinator.agent_home("coordinator-home/local-agent")
    async with agent(coordinator, home, beside_coordinator=True):
        await coordinator.open_job(JOB, ["true"])
        await coordinator.assign(JOB, [0])
        await coordinator.until(lambda: coordinator.of(TaskReturned))
    assert "CA key" in coordinator.hellos[0].info.refuses
    assert "CA key" in coordinator.of(TaskReturned)[0].reason


async def test_the_sandbox_is_measured_and_reported(agent, coordinator):
    async with agent(coordinator, tags=("gpu",)):
        pass
    info = coordinator.hellos[0].info
    assert info.sandbox.tier in {"landlock", "user", "user+landlock", "unconfined"}
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert {"gpu", python} <= set(info.tags)
    found = ("embed:", "image:", "dask")  # by what is installed here
    assert all(tag.startswith(found) for tag in set(info.tags) - {"gpu", python})
    assert info.offer == Resources(2000, 2**30, 0)


async def test_calls_run_in_warm_workers_and_their_values_come_durably(agent, coordinator):
    payload = {"module": "os:strerror"}
    async with agent(coordinator):
        await coordinator.open_job(JOB, [], job_type="python", payload=payload)
        items = ['{"a":[2]}', '{"a":["no number"]}', '{"a":[13]}']
        await coordinator.assign(JOB, [0, 1, 2], items)
        await coordinator.until(lambda: len(coordinator.results()) == 3)
    results = coordinator.results()
    assert [results[index].outcome for index in range(3)] == [Outcome.OK, Outcome.EXIT_CODE, Outcome.OK]
    assert results[1].error.split(": ", 1)[1].startswith("TypeError: ")
    assert coordinator.output(0, 3) == b'{"n":0,"v":"No such file or directory"}\n'
    assert coordinator.output(2, 3) == b'{"n":0,"v":"Permission denied"}\n'


def test_shares_must_exist(tmp_path):
    assert read_share(str(tmp_path)).writable is False
    assert read_share(f"{tmp_path}:rw").writable is True
    for text in ("relative", str(tmp_path / "gone"), ""):
        with pytest.raises(BadInput):
            read_share(text)
