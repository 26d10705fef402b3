# ruff: noqa: PTH109, PTH208
"""Calls in warm workers, with the real launcher and real processes."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from pathlib import Path

import cloudpickle
import msgspec
import pytest

from planetmesh.agent.sandbox import tree
from planetmesh.agent.sandbox.messages import Ended, Limits, Output, Start, Why
from planetmesh.wire.worker import CallBlob

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def blob(function, *calls: tuple, index: int = 0, name: str = "") -> bytes:
    """A call of a function with each of these arguments."""
    payload = {"function": base64.b64encode(cloudpickle.dumps(function)).decode(), "python": HERE}
    items = tuple(json.dumps({"a": args}) for args in calls)
    return msgspec.msgpack.encode(CallBlob(name or "planetmesh.child.python_call:run", payload, items, index))


def begin(job, function, *calls, **fields) -> int:
    job._index += 1
    job.handle.start([Start(job._index, 1, [], call=blob(function, *(calls or [()])), **fields)])
    return job._index


async def make(job, function, *calls, **fields) -> Ended:
    return await job.end(begin(job, function, *calls, **fields))


def values(job, index: int) -> list:
    """What came of each item: its value, or the fault's sentence."""
    frames = [json.loads(line) for line in job.text(index, 3).splitlines()]
    assert [frame["n"] for frame in frames] == list(range(len(frames)))
    return [f["v"] if "v" in f else f"{f['e']['type']}: {f['e']['message']}" for f in frames]


async def test_each_item_has_its_value(job):
    end = await make(job, lambda x, y=0: x * 10 + y, (1,), (2, 3), (4,))
    assert (end.exit_code, end.why, end.message) == (0, Why.EXIT, "")
    assert values(job, 1) == [10, 23, 40]
    assert job.text(1) == job.text(1, 2) == ""


async def test_one_worker_makes_many_calls(job):
    for _ in range(3):
        await make(job, os.getpid)
    assert len({values(job, index)[0] for index in (1, 2, 3)}) == 1
    assert values(job, 1)[0] != job.handle.ready.pid


async def test_calls_at_the_same_time_have_a_worker_each(open_job):
    job = await open_job(slots=3)

    def slow():
        import time

        time.sleep(0.3)
        return os.getpid()

    indexes = [begin(job, slow) for _ in range(7)]
    for index in indexes:
        await job.end(index)
    assert len({values(job, index)[0] for index in indexes}) == 3


async def test_what_a_call_prints_is_its_output(job):
    def speak():
        import ctypes
        import subprocess

        print("out")
        print("err", file=sys.stderr)
        ctypes.CDLL(None).printf(b"native\n")
        subprocess.run(["echo", "child"], check=True)

    end = await make(job, speak)
    assert end.exit_code == 0, end
    assert sorted(job.text(1).split()) == ["child", "native", "out"]
    assert job.text(1, 2) == "err\n"
    assert (end.stdout_bytes, end.stderr_bytes) == (17, 4)


async def test_a_call_that_raises_does_not_stop_the_others(job):
    end = await make(job, lambda x: 10 // x, (1,), (0,), (5,))
    assert (end.exit_code, end.why) == (1, Why.EXIT)
    assert end.message == "1 of 3 calls raised; first: ZeroDivisionError: integer division or modulo by zero"
    assert values(job, 1) == [10, "ZeroDivisionError: integer division or modulo by zero", 2]
    fault = json.loads(job.text(1, 3).splitlines()[1])["e"]
    assert "in <lambda>" in fault["traceback"]
    assert "python_call" not in fault["traceback"]
    assert isinstance(cloudpickle.loads(base64.b64decode(fault["p"])), ZeroDivisionError)


async def test_values_of_a_long_chunk_come_while_it_runs(job):
    def slow_at_the_end(x):
        import time

        time.sleep(60 if x == 3 else 0)
        return x

    index = begin(job, slow_at_the_end, (1,), (2,), (3,))
    await job.until("two values", lambda: job.text(index, 3).count("\n") == 2)
    assert index not in job.ends()
    job.handle.kill(index, 1, 0.0)
    assert (await job.end(index)).why is Why.KILLED
    assert values(job, index) == [1, 2]


async def test_many_small_values_come_in_few_pieces(job):
    end = await make(job, lambda x: x, *[(x,) for x in range(5000)])
    assert end.exit_code == 0
    assert values(job, 1) == list(range(5000))
    assert len([each for each in job.of(Output) if each.stream == 3]) < 200


async def test_each_call_has_its_own_folder_environment_and_marker(open_job):
    job = await open_job(slots=1, env={"SHARED": "yes"})

    def look():
        import tempfile

        found = dict(os.environ)
        os.environ["LEFT"] = "x"
        # No `assert` in here: pytest's own would want its modules in the sandbox.
        here, seen = os.getcwd(), [os.umask(0), os.listdir("."), tempfile.gettempdir()]
        Path("file").write_text("x")
        return [here, found, sys.stdin.read(), seen]

    await make(job, look, env={"OWN": "1"})
    await make(job, look)
    first, second = values(job, 1)[0], values(job, 2)[0]
    assert isinstance(first, list), first
    for here, found, _stdin, seen in (first, second):
        assert seen == [0o077, [], here]
        assert found["HOME"] == here
    assert (first[1]["OWN"], first[1]["SHARED"], first[2]) == ("1", "yes", "")
    assert "OWN" not in second[1]
    assert second[1]["PLANETMESH_TASK"] == "2"
    assert first[0] != second[0]
    assert "PYTEST_CURRENT_TEST" not in first[1]
    assert set(first[1]) - set(second[1]) == {"OWN"}


async def test_the_launcher_knows_a_worker_by_its_marker(job):
    def look():
        import time

        region = Path("/proc/self/environ").read_bytes()
        print("ready", flush=True)
        time.sleep(30)
        return region

    index = begin(job, look)
    await job.until("it", lambda: job.text(index))
    pid = (await job.started(index)).pid
    assert tree.marker_of(pid) == f"{job.spec.folder}/{index}/1"
    assert Path(f"/proc/{pid}/environ").read_bytes().rstrip(b"\0").count(b"=") == 1
    assert pid in job.alive()


async def test_limits_hold_for_calls(open_job):
    import time

    job = await open_job(timeout_seconds=1.0)
    end = await make(job, lambda: time.sleep(30))
    assert (end.why, "1 s" in end.message) == (Why.TIMEOUT, True)
    quiet = await open_job(silence_seconds=0.3)
    assert (await make(quiet, lambda: time.sleep(30))).why is Why.SILENCE
    assert (await make(job, lambda: 7)).exit_code == 0
    assert values(job, 2) == [7]


async def test_a_call_may_clear_up_when_it_is_asked_to_end(job):
    def clear_up():
        import signal
        import time

        def stop(*_):
            raise InterruptedError("asked")

        signal.signal(signal.SIGTERM, stop)
        print("set", flush=True)
        time.sleep(30)

    index = begin(job, clear_up)
    await job.until("it", lambda: job.text(index))
    job.handle.kill(index, 1, 5.0)
    end = await job.end(index)
    assert (end.why, end.exit_code) == (Why.KILLED, 1)
    assert values(job, index) == ["InterruptedError: asked"]


@pytest.mark.slow
async def test_a_worker_that_takes_too_much_memory_ends_alone(open_job):
    job = await open_job(memory_bytes=150_000_000, slots=2)

    def grow(x):
        import time

        kept = bytearray(300_000_000) if x == 2 else b""
        for at in range(0, len(kept), 4096):
            kept[at] = 1
        time.sleep({1: 2, 2: 30}.get(x, 0))
        return x

    other = begin(job, grow, (0,), (1,))
    greedy = begin(job, grow, (0,), (2,), (3,))
    end = await job.end(greedy)
    assert (end.why, "limit is 143 MiB" in end.message) == (Why.MEMORY, True)
    assert values(job, greedy) == [0]
    assert (await job.end(other)).exit_code == 0
    assert values(job, other) == [0, 1]
    assert (await make(job, grow, (0,))).exit_code == 0


async def test_values_beyond_the_limit_are_faults_and_not_lost(open_job):
    job = await open_job(output_most_bytes=10_000)
    end = await make(job, lambda x: "y" * x, (5,), (20_000,), (6,))
    assert end.exit_code == 1
    first, second, third = values(job, 1)
    assert (first, third) == ("y" * 5, "y" * 6)
    assert second.startswith("ResultTooLarge: ")


async def test_a_launcher_rests_without_its_workers(job):
    await make(job, os.getpid)
    assert await job.handle.rest()
    pid = values(job, 1)[0]
    assert tree.look_at(pid) is None
    launcher = job.handle.ready.pid
    async with asyncio.timeout(30):
        while not (ready := tree.children_of(launcher, tree.snapshot())):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    job.handle.adopt("job-two", {}, Limits(), 2)
    await make(job, os.getpid)
    assert values(job, 2) == ready, "forked after the first job was cleared away, before the second came"
    assert await job.handle.rest()
    job.handle.adopt("job-three", {}, Limits(), 2)
    await job.shell("true")
    assert await job.handle.rest()
    assert tree.children_of(launcher, tree.snapshot()) == [], "that job made no calls"


@pytest.mark.slow
async def test_fewer_slots_leave_fewer_workers(open_job):
    job = await open_job(slots=3)

    def slow():
        import time

        time.sleep(0.2)

    for index in [begin(job, slow) for _ in range(3)]:
        await job.end(index)
    launcher = job.handle.ready.pid
    assert len(tree.children_of(launcher, tree.snapshot())) == 3
    before = set(tree.children_of(launcher, tree.snapshot()))
    job.handle.set_slots(1)
    job.handle.set_slots(3)
    for index in [begin(job, slow) for _ in range(3)]:
        await job.end(index)
    assert set(tree.children_of(launcher, tree.snapshot())) == before, "between two tasks there is often less"
    job.handle.set_slots(1)
    await make(job, slow)
    async with asyncio.timeout(30):
        while len(tree.children_of(launcher, tree.snapshot())) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_what_cannot_be_called_is_told(job):
    bad = CallBlob("planetmesh.child.python_call:nothing", {}, ("{}",), 0)
    job.handle.start([Start(1, 1, [], call=msgspec.msgpack.encode(bad))])
    end = await job.end(1)
    assert (end.exit_code, "nothing" in end.message) == (1, True)
    job.handle.start([Start(2, 1, [], call=blob(os.getpid, ()), folder="/nonexistent")])
    end = await job.end(2)
    assert (end.exit_code, "/nonexistent" in end.message) == (1, True)


async def test_commands_and_calls_share_a_launcher(job):
    call, command = begin(job, lambda: 1), job.start("/bin/echo", "hello")
    await job.end(call)
    await job.end(command)
    assert (values(job, call), job.text(command)) == ([1], "hello\n")
