"""A task turns on its own launcher, and on the job that the launcher serves next (abuse tests T34, T38)."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from left_alive import nobody_left

from planetmesh.agent.sandbox import folders, landlock, tree
from planetmesh.agent.sandbox.messages import Limits, Why

needs_scopes = pytest.mark.skipif(landlock.supported_abi() < 6, reason="signals are not scoped here")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's tasks have a user of their own")
PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin")
pytestmark = pytest.mark.skipif(PYTHON is None, reason="no Python that every user may run")
PARENT = "import os, signal, resource; launcher = os.getppid(); "


def python(job, text: str) -> int:
    return job.start(PYTHON, "-S", "-c", PARENT + text)


async def rested(job) -> bool:
    return await job.handle.rest()


async def adopted(job, **limits) -> None:
    assert await rested(job)
    job.handle.adopt("job-two", {"TURN": "2"}, Limits(**limits), 2)


async def test_a_launcher_that_its_task_stops_is_ended_with_all_it_ran(open_job):
    job = await open_job(timeout_seconds=60)
    job.start("/bin/sleep", "300")
    python(job, "os.kill(launcher, signal.SIGSTOP)")
    await job.until("the loss", lambda: job.lost)
    await nobody_left(job.spec.folder)


async def test_a_clean_launcher_serves_the_next_job_with_nothing_of_the_first(open_job):
    job = await open_job(env={"TURN": "1", "SECRET": "first"})
    first = job.handle.ready.pid
    await job.shell("echo $TURN $SECRET")
    await adopted(job)
    await job.shell("echo $TURN ${SECRET-none} $PLANETMESH_JOB; ls -A . ..; cat /proc/$PPID/environ")
    assert job.text(1) == "1 first\n"
    assert "first" not in job.text(2)
    assert job.text(2).startswith("2 none job-two\n.:\n\n..:\nrun-")
    assert job.handle.ready.pid == first


@pytest.mark.parametrize(
    "left",
    [
        "open('../left', 'w')",
        "os.mkfifo('../pipe')",
        "os.chmod('..', 0o777)",
        "os.chmod('..', 0)",
        "os.setpriority(os.PRIO_PROCESS, launcher, 19)",
        "os.sched_setaffinity(launcher, {min(os.sched_getaffinity(0))})",
        "os.sched_setscheduler(launcher, os.SCHED_BATCH, os.sched_param(0))",
        pytest.param("open('/dev/shm/left', 'w')", marks=needs_root),
    ],
)
async def test_a_launcher_that_a_task_has_touched_serves_nobody_else(open_job, left):
    if "affinity" in left and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor only")
    job = await open_job()
    end = await job.end(python(job, left))
    assert end.why is Why.EXIT
    assert end.exit_code == 0, job.text(1, 2)
    assert not await rested(job)
    assert job.handle.is_gone


HIDE = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sleep", ["sleep", "300"], {})
    os._exit(0)
"""
CHAIN = """
import os, time
end = time.monotonic() + 20
if os.fork() == 0:
    os.setsid()
    os.environ.clear()
    while time.monotonic() < end:
        if os.fork():
            os._exit(0)
"""


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize("hide", [HIDE, CHAIN], ids=["no marker", "always another pid"])
async def test_nothing_hidden_lives_on_into_the_next_job(open_job, hide):
    for _ in range(5):
        job = await open_job(timeout_seconds=30)
        await job.end(python(job, hide))
        kept = await rested(job)
        if kept:
            before = of_user()
            await asyncio.sleep(0.2)
            assert not is_below(of_user() | before, job.handle.ready.pid)
        else:
            assert job.handle.is_gone


def is_below(pids: set[int], launcher: int) -> bool:
    """Whether one of them is anything of this launcher's."""
    processes = tree.snapshot()
    return any(pid in pids for pid in tree.below(tree.children_of(launcher, processes), processes))


def of_user() -> set[int]:
    """Processes of the user that tasks run as, which have not ended."""
    uid = folders.task_user().uid
    found = set()
    for process in tree.snapshot().values():
        with suppress(OSError):
            if process.state not in "ZX" and Path(f"/proc/{process.pid}").stat().st_uid == uid:
                found.add(process.pid)
    return found


@needs_root
async def test_jobs_share_no_memory(open_job):
    one, other = await open_job(), await open_job()
    index = one.start("/bin/sh", "-c", "umask 0; echo secret > /dev/shm/planetmesh-test; echo ok; sleep 60")
    await one.until("it", lambda: one.text(index))
    await other.shell("cat /dev/shm/*; ls -A /dev/shm; cat /proc/sysvipc/shm | wc -l")
    assert other.text(1) == "1\n"
    assert not Path("/dev/shm/planetmesh-test").exists()


async def test_nobody_sets_the_limits_of_another_process(open_job):
    one, job = await open_job(), await open_job()
    index = one.start("/bin/sleep", "60")
    victim = (await one.started(index)).pid
    text = f"""
for pid in ({victim}, {one.handle.ready.pid}, launcher):
    resource.prlimit(pid, resource.RLIMIT_CPU)
    try:
        resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1))
    except PermissionError:
        print("refused")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
resource.prlimit(0, resource.RLIMIT_NOFILE, (32, 32))
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    end = await job.end(python(job, text))
    assert job.text(1) == "refused\nrefused\nrefused\n(32, 32)\n", job.text(1, 2)
    assert end.exit_code == 0
    assert await rested(job)


async def close_while_cancelled(handle):
    async def wait_and_close():
        try:
            await asyncio.Event().wait()
        finally:
            await handle.close()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(wait_and_close())
        await asyncio.sleep(0)
        task.cancel()


@needs_scopes
@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_launcher_that_does_not_listen_is_killed_at_the_end(open_job, monkeypatch, is_cancelled):
    from planetmesh.agent.sandbox import handle

    monkeypatch.setattr(handle, "CLOSE_TIMEOUT_SECONDS", 0.3)
    job = await open_job()
    index = job.start("/bin/sleep", "300")
    await job.started(index)
    # Nothing stops it, so the zygote sees nothing: it only never reads again.
    monkeypatch.setattr(job.handle, "_command", lambda _batch: None)
    await (close_while_cancelled(job.handle) if is_cancelled else job.handle.close())
    await nobody_left(job.spec.folder)


@needs_scopes
async def test_a_task_reaches_neither_the_agent_nor_the_zygote(open_job, zygote):
    job = await open_job()
    text = f"""
for pid in ({os.getpid()}, {zygote.pid}):
    for number in (0, signal.SIGSTOP, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except PermissionError:
            continue
        print("signal", number, pid)
    for name in ("environ", "mem", "maps", "fd/", "root/", "cwd/", "auxv", "syscall", "stack"):
        try:
            path = f"/proc/{{pid}}/{{name}}"
            print(os.listdir(path) if name.endswith("/") else open(path, "rb").read(8))
        except OSError:
            continue
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for pid in ({os.getpid()}, {zygote.pid}, launcher):
    if libc.ptrace(16, pid, None, None) == 0:
        print("traced", pid)
    pidfd = libc.syscall(434, pid, 0)
    if pidfd >= 0 and libc.syscall(438, pidfd, 0, 0) >= 0:
        print("a descriptor of", pid)
"""
    end = await job.end(python(job, text))
    assert end.exit_code == 0, job.text(1, 2)
    assert job.text(1) == ""
