# ruff: noqa: PTH109, PTH208
"""Calls that turn on their worker and on its launcher: the attempt ends with a reason, others go on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path

import cloudpickle
import pytest
from left_alive import nobody_left
from test_workers import begin, make, values

from planetmesh.agent.sandbox import tree
from planetmesh.agent.sandbox.messages import Why

cloudpickle.register_pickle_by_value(sys.modules[__name__])


async def goes_on(job) -> int:
    """The launcher still makes calls; the worker's process id."""
    index = begin(job, os.getpid)
    assert (await job.end(index)).exit_code == 0
    return values(job, index)[0]


def leave(code):
    os._exit(code)


@pytest.mark.parametrize("code", [0, 3])
async def test_a_call_that_ends_its_worker(job, code):
    end = await make(job, leave, (code,))
    assert (end.why, end.exit_code) == (Why.EXIT, code or 1)
    assert end.message == f"The call ended its worker with exit code {code}."
    await goes_on(job)


async def test_a_call_that_exits_or_is_interrupted_is_a_fault(job):
    def leave(kind):
        raise (SystemExit(3) if kind else KeyboardInterrupt)

    end = await make(job, leave, (0,), (1,))
    assert end.exit_code == 1
    assert values(job, 1) == ["KeyboardInterrupt: ", "SystemExit: 3"]


async def test_a_call_that_crashes_is_told_by_its_signal(job):
    end = await make(job, lambda: os.kill(os.getpid(), signal.SIGSEGV))
    assert (end.why, end.signal, end.exit_code) == (Why.SIGNAL, signal.SIGSEGV, 139)
    await goes_on(job)


async def test_values_before_a_crash_are_kept(job):
    def crash(x):
        if x == 3:
            os._exit(1)
        return x

    await make(job, crash, (1,), (2,), (3,), (4,))
    assert values(job, 1) == [1, 2]


def close_all():
    os.closerange(3, 1000)


def shout():
    """On every socket there is: the worker's own is among them."""
    for fd in range(3, 100):
        try:
            os.write(fd, b"\xff" * 100_000)
        except OSError:
            continue


def lie():
    """An end of another attempt."""
    import msgspec

    said = msgspec.msgpack.encode([77, 1, 0, "", True])
    for fd in range(3, 100):
        try:
            if "socket" in str(Path(f"/proc/self/fd/{fd}").readlink()):
                os.write(fd, len(said).to_bytes(4, "big") + said)
        except OSError:
            continue


def end_twice():
    """Its own end, before it."""
    import msgspec

    said = msgspec.msgpack.encode([int(os.environ["PLANETMESH_TASK"]), 1, 0, "", True])
    frame = len(said).to_bytes(4, "big") + said
    for fd in range(3, 100):
        try:
            if "socket" in str(Path(f"/proc/self/fd/{fd}").readlink()):
                os.write(fd, frame + frame)
        except OSError:
            continue


@pytest.mark.parametrize("attack", [close_all, shout, lie, end_twice])
async def test_a_call_that_meddles_with_its_workers_socket(job, attack):
    other = begin(job, lambda: time.sleep(0.5))
    end = await make(job, attack)
    assert end.exit_code != 0
    assert end.message
    await goes_on(job)
    assert (await job.end(other)).exit_code == 0


async def test_an_end_that_the_call_says_itself_ends_only_itself(job):
    """The worker is told its next task while the call goes on: then it says what nobody waits for."""

    def end_early():
        import msgspec

        said = msgspec.msgpack.encode([int(os.environ["PLANETMESH_TASK"]), 1, 0, "", True])
        for fd in range(3, 100):
            try:
                if "socket" in str(Path(f"/proc/self/fd/{fd}").readlink()):
                    os.write(fd, len(said).to_bytes(4, "big") + said)
            except OSError:
                continue
        time.sleep(0.3)

    first = begin(job, end_early)
    assert (await job.end(first)).exit_code == 0
    await asyncio.sleep(0.5)
    await goes_on(job)
    await goes_on(job)


def garbage_among_values():
    for fd in range(3, 100):
        try:
            if "pipe" in str(Path(f"/proc/self/fd/{fd}").readlink()):
                os.write(fd, b'\xff\x00{"n":0,"v":1}\n{"n":-1}\n')
        except OSError:
            continue
    return 5


async def test_garbage_among_the_values_is_passed_on_as_it_is(job):
    from planetmesh.wire.calls import read_frames

    end = await make(job, garbage_among_values)
    assert end.exit_code == 0
    data = b"".join(each.data for each in job.reports if getattr(each, "stream", 0) == 3)
    assert b"\xff\x00" in data
    assert bytes(read_frames(data, 1)[0].v) == b"5"


async def test_a_call_that_kills_its_launcher_takes_only_its_job(job):
    begin(job, lambda: (os.system("sleep 300 & setsid sleep 300 &"), os.kill(os.getppid(), signal.SIGKILL)))
    await job.until("the loss", lambda: job.lost)
    await nobody_left(job.spec.folder)


def daemon(how):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            if how == "exec":
                os.execv("/bin/sleep", ["sleep", "300"])
            if how == "no marker":
                os.execve("/bin/sleep", ["sleep", "300"], {})
            for _ in range(1000 if how == "hopping" else 0):
                if os.fork():
                    os._exit(0)
            time.sleep(300)
        os._exit(0)
    if how != "unreaped":
        os.wait()


@pytest.mark.parametrize("how", ["exec", "no marker", "fork", "unreaped", "hopping"])
async def test_what_a_call_leaves_running_ends_with_it(job, how):
    before = await goes_on(job)
    end = await make(job, daemon, (how,))
    assert end.exit_code == 0
    assert [pid for pid in job.alive() if pid != before] == []
    assert await goes_on(job) != before


async def test_a_child_that_comes_back_from_the_call_says_nothing(job):
    def double(x):
        os.fork()
        return x

    end = await make(job, double, (1,), (2,))
    assert end.exit_code == 0
    assert values(job, 1) == [1, 2]
    await goes_on(job)


def swap_handlers():
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def start_thread():
    threading.Thread(target=time.sleep, args=(300,), daemon=True).start()


def leave_open():
    sys.left = [os.open("/dev/null", os.O_RDONLY) for _ in range(600)]


def lower_limits():
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def block_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def set_alarm():
    signal.setitimer(signal.ITIMER_VIRTUAL, 100)
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.alarm(1)


@pytest.mark.parametrize(
    "touch", [swap_handlers, start_thread, leave_open, lower_limits, block_signals, set_alarm]
)
async def test_a_worker_that_is_not_as_it_was_makes_no_further_call(job, touch):
    before = await goes_on(job)
    assert await goes_on(job) == before
    end = await make(job, touch)
    assert (end.exit_code, end.why) == (0, Why.EXIT)
    assert await goes_on(job) != before
    assert tree.look_at(before) is None


@pytest.mark.parametrize(
    "spoil",
    [
        "sys.stdout.close()",
        "os.close(1)",
        "sys.stdout = None",
        "sys.stdout = sys.stderr = object()",
        "sys.__stdout__ = None",
        "os.chdir('/'); os.rmdir(os.environ['HOME'])",
        "os.environ.clear()",
        "sys.path[:] = []",
        "sys.modules.pop('os')",
    ],
)
async def test_streams_and_surroundings_are_whole_for_the_next_call(open_job, spoil):
    job = await open_job(slots=1)

    def do(text):
        exec(text, {"sys": sys, "os": os})

    assert (await make(job, do, (spoil,))).exit_code == 0

    def look():
        print("out")
        print("err", file=sys.stderr)
        return [os.getcwd() == os.environ["HOME"], os.environ["PLANETMESH_TASK"], bool(sys.path)]

    assert (await make(job, look)).exit_code == 0
    assert values(job, 2) == [[True, "2", True]]
    assert (job.text(2), job.text(2, 2)) == ("out\n", "err\n")


async def test_a_worker_has_nothing_of_the_launchers(job):
    def look():
        fds = {}
        for name in os.listdir("/proc/self/fd"):
            try:
                fds[name] = str(Path(f"/proc/self/fd/{name}").readlink()).split(":")[0]
            except OSError:
                continue
        region = Path("/proc/self/environ").read_bytes()
        return [sorted(fds.values()), min(part for part in region.split(b"\0") if part).decode()]

    await make(job, look)
    kinds, shown = values(job, 1)[0]
    # Its null device, its socket, and the task's three pipes.
    assert kinds == ["/dev/null", "/dev/null", "pipe", "pipe", "pipe", "socket"]
    assert shown.startswith("PLANETMESH_ATTEMPT_OF=")
    assert os.environ["PATH"] not in shown
