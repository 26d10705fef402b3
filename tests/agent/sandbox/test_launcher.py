"""Starting, output, ends and limits, with real programs."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from pathlib import Path

import pytest
from left_alive import PATIENCE_SECONDS, nobody_left

from planetmesh.agent.sandbox import tree
from planetmesh.agent.sandbox.messages import Ended, Output, Start, Started, Why


async def test_both_streams_and_the_exit_code_arrive(job):
    end = await job.shell("echo out; echo err >&2; exit 7")
    assert (end.exit_code, end.why, end.signal) == (7, Why.EXIT, 0)
    assert job.text(1) == "out\n"
    assert job.text(1, 2) == "err\n"
    assert (end.stdout_bytes, end.stderr_bytes) == (4, 4)


async def test_output_and_end_of_a_short_task_come_in_order(job):
    await job.shell("echo x")
    assert [type(report) for report in job.reports] == [Started, Output, Ended]


async def test_output_of_a_long_task_comes_while_it_runs(job):
    index = job.start("/bin/sh", "-c", "echo early; sleep 30")
    await job.until("output", lambda: job.text(index) == "early\n")
    assert index not in job.ends()


async def test_a_signal_is_told_apart_from_an_exit_code(job):
    end = await job.shell("kill -9 $$")
    assert (end.why, end.signal, end.exit_code) == (Why.SIGNAL, signal.SIGKILL, 137)


async def test_an_unknown_program_is_named(job):
    end = await job.run("no-such-program-here", "x")
    assert (end.why, end.exit_code) == (Why.NOT_FOUND, 127)
    assert "'no-such-program-here'" in end.message


@pytest.mark.parametrize("argv", [["/etc/passwd"], ["/usr"]])
async def test_what_cannot_be_executed_is_named(job, argv):
    end = await job.run(*argv)
    assert (end.why, end.exit_code) == (Why.NOT_EXECUTABLE, 126)
    assert argv[0] in end.message


@pytest.mark.parametrize(
    ("argv", "env"),
    [(["/bin/true", "a\0b"], {}), (["/bin/true"], {"A=B": "x"}), (["/bin/true"], {"A": "x\0"}), ([], {})],
)
async def test_nonsense_ends_the_attempt_and_not_the_launcher(job, argv, env):
    end = await job.run(*argv, env=env)
    assert end.why is Why.CANNOT_START
    assert (await job.run("/bin/true")).exit_code == 0


async def test_an_argument_list_that_is_too_long_is_refused_by_the_kernel(job):
    end = await job.run("/bin/true", "x" * 3_000_000)
    assert (end.why, end.exit_code) == (Why.CANNOT_START, 126)


async def test_a_large_writer_is_cut_and_counted(open_job):
    job = await open_job(output_most_bytes=100_000)
    end = await job.shell("head -c 10000000 /dev/zero; echo done >&2")
    assert end.stdout_bytes == 10_000_000
    assert sum(len(r.data) for r in job.of(Output) if r.stream == 1) == 100_000
    assert job.text(1, 2) == "done\n"


GROWTH_MOST_KIB = 50_000
"""Far less than the task writes. The launcher begins with what this process holds, being forked from it."""


def resident_kib(job) -> int:
    status = Path(f"/proc/{job.handle.ready.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


@pytest.mark.slow
async def test_the_launcher_stays_small_under_a_writer_without_end(open_job):
    job = await open_job(output_most_bytes=1_000_000)
    before = resident_kib(job)
    index = job.start("/bin/cat", "/dev/zero")
    await job.started(index)
    await asyncio.sleep(0.5)
    assert resident_kib(job) - before < GROWTH_MOST_KIB
    job.handle.kill(index, 1, 0.0)
    end = await job.end(index)
    assert end.stdout_bytes > 1_000_000


@pytest.mark.slow
async def test_an_agent_that_does_not_read_holds_the_task_back(open_job):
    job = await open_job(output_most_bytes=1 << 30)
    loop = asyncio.get_running_loop()
    fd = job.handle._peer.fileno()
    before = resident_kib(job)
    index = job.start("/bin/sh", "-c", "head -c 60000000 /dev/zero")
    await job.started(index)
    loop.remove_reader(fd)
    await asyncio.sleep(0.5)
    assert resident_kib(job) - before < GROWTH_MOST_KIB
    loop.add_reader(fd, job.handle._receive)
    end = await job.end(index)
    assert end.stdout_bytes == 60_000_000
    assert sum(len(r.data) for r in job.of(Output)) == 60_000_000


@pytest.mark.slow
async def test_each_of_many_ends_exactly_once(job):
    job.handle.start([Start(i, 1, ["/bin/true"]) for i in range(500)])
    await job.until("500 ends", lambda: len(job.of(Ended)) >= 500)
    assert sorted(job.ends()) == list(range(500))
    assert {end.exit_code for end in job.ends().values()} == {0}


async def test_no_more_run_than_there_are_slots(open_job):
    job = await open_job(slots=3)
    job.handle.start([Start(i, 1, ["/bin/sleep", "0.1"]) for i in range(9)])
    await job.until("9 ends", lambda: len(job.of(Ended)) == 9)
    running = most = 0
    for report in job.reports:
        running += isinstance(report, Started) - isinstance(report, Ended)
        most = max(most, running)
    assert most == 3


async def test_more_slots_take_effect_at_once(open_job):
    job = await open_job(slots=0)
    first = job.start("/bin/true")
    job.handle.set_slots(1)
    assert (await job.end(first)).exit_code == 0


async def test_recall_gives_back_the_latest_that_did_not_start(open_job):
    job = await open_job(slots=1)
    job.handle.start([Start(i, 1, ["/bin/sleep", "0.3"]) for i in range(5)])
    await job.started(0)
    job.handle.recall(3)
    assert sorted(await job.recalled()) == [(2, 1), (3, 1), (4, 1)]
    await job.end(1)
    assert sorted(job.ends()) == [0, 1]


async def test_a_kill_before_the_start_is_an_end(open_job):
    job = await open_job(slots=0)
    index = job.start("/bin/true")
    job.handle.kill(index, 1)
    assert (await job.end(index)).why is Why.KILLED


async def test_a_kill_of_another_attempt_changes_nothing(job):
    index = job.start("/bin/sleep", "0.2")
    job.handle.kill(index, 2, 0.0)
    assert (await job.end(index)).why is Why.EXIT


async def test_a_time_limit_ends_the_attempt(open_job):
    job = await open_job(timeout_seconds=0.2)
    end = await job.run("/bin/sleep", "30")
    assert end.why is Why.TIMEOUT
    assert "0.2 s" in end.message
    assert 0.2 <= end.wall_seconds < 25


@pytest.mark.slow
async def test_silence_ends_the_attempt_but_output_keeps_it_alive(open_job):
    # Between two words a busy machine may take a second to begin the next `sleep`.
    job = await open_job(silence_seconds=2.0)
    talker = job.start("/bin/sh", "-c", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done")
    silent = job.start("/bin/sh", "-c", "echo once; sleep 30")
    assert (await job.end(silent)).why is Why.SILENCE
    assert (await job.end(talker)).why is Why.EXIT


async def test_what_ignores_sigterm_is_killed_after_the_grace(job):
    index = job.start("/bin/sh", "-c", "trap '' TERM; echo set; while :; do sleep 0.05; done")
    await job.until("trap", lambda: job.text(index))
    job.handle.kill(index, 1, 0.2)
    end = await job.end(index)
    assert (end.why, end.signal) == (Why.KILLED, signal.SIGKILL)


async def test_sigterm_lets_a_task_clear_up(job):
    index = job.start("/bin/sh", "-c", "trap 'echo bye; exit 5' TERM; echo set; while :; do sleep 0.02; done")
    await job.until("trap", lambda: job.text(index))
    job.handle.kill(index, 1, 5.0)
    end = await job.end(index)
    assert (end.why, end.exit_code) == (Why.KILLED, 5)
    assert job.text(index).endswith("bye\n")


@pytest.mark.slow
async def test_memory_of_the_tree_is_limited(open_job):
    job = await open_job(memory_bytes=60_000_000)
    end = await job.shell("head -c 150000000 /dev/zero | tail -c 150000000 | sleep 30")
    assert end.why is Why.MEMORY
    assert "limit is 57 MiB" in end.message


@pytest.mark.slow
async def test_processes_of_the_tree_are_limited(open_job):
    job = await open_job(processes=20)
    end = await job.shell("for i in $(seq 40); do sleep 30 & done; wait")
    assert end.why is Why.PROCESSES


async def test_each_task_has_a_folder_of_its_own_that_is_empty(open_job):
    job = await open_job(slots=1)
    first = await job.shell("pwd; ls -A; mkdir -p a/b; echo x > a/b/c; chmod 000 a")
    await job.shell("ls -A; touch left")
    assert job.text(1).count("\n") == 1
    assert job.text(2) == ""
    assert first.folder == ""
    await job.shell("ls -A")
    assert job.text(3) == ""


async def test_a_folder_is_kept_when_asked(job):
    end = await job.shell("echo result > file", keep=True)
    assert (Path(end.folder) / "file").read_text() == "result\n"
    assert stat.S_IMODE(Path(end.folder).stat().st_mode) == 0o700
    assert stat.S_IMODE((Path(end.folder) / "file").stat().st_mode) == 0o600


async def test_a_prepared_folder_is_used_and_kept(job):
    from planetmesh.agent.sandbox import folders

    mine = folders.make_folder(Path(job.spec.folder) / "mine")
    (mine / "input").write_text("staged")
    (mine / "input").chmod(0o644)
    end = await job.shell("cat input; echo y > out", folder=str(mine))
    assert job.text(1) == "staged"
    assert end.folder == str(mine)
    assert (mine / "out").read_text() == "y\n"


async def test_the_use_of_a_task_is_measured(job):
    end = await job.shell("i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done")
    assert 0.01 < end.cpu_seconds <= end.wall_seconds + 0.1
    assert end.max_rss_bytes > 500_000


async def test_a_task_inherits_only_its_three_descriptors(job):
    await job.shell("for fd in /proc/self/fd/*; do echo ${fd##*/}; done")
    # The fourth is the shell's own, on the directory it lists.
    assert job.text(1).split()[:3] == ["0", "1", "2"]
    assert len(job.text(1).split()) <= 4
    await job.run("/bin/cat")
    assert job.ends()[2].exit_code == 0


async def test_a_launcher_that_dies_is_told_and_leaves_nothing(job):
    index = job.start("/bin/sh", "-c", "(setsid sleep 60 &) ; sleep 60")
    await job.started(index)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(job.alive()) < 2:  # noqa: ASYNC110  the shell and what it starts
            await asyncio.sleep(0.02)
    os.kill(job.handle.ready.pid, signal.SIGKILL)
    await job.until("the loss", lambda: job.lost)
    await nobody_left(job.spec.folder)


def test_a_name_full_of_parentheses_does_not_fool_the_list():
    process = tree.look_at(os.getpid())
    assert process.parent == os.getppid()
    assert process.session == os.getsid(0)
