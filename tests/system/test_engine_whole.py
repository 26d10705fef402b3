"""What the engine decides, on real machines: a bad one is confined and heals, a straggler runs twice."""

from __future__ import annotations

import time

import pytest
from fleet import Fleet, is_alive
from meshes import wait_until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_bad_machine_does_not_eat_the_queue_and_heals_when_it_is_mended(fleet: Fleet) -> None:
    settings = {"quarantine_seconds": 3, "quarantine_longest_seconds": 3, "retry_first_seconds": 0.1}
    fleet.start(agents=2, cpus="2", settings=settings)
    broken = fleet.diary.folder / "broken"
    broken.touch()
    bad = fleet.lan.address("h2")
    script = f'case "$(hostname -I)" in *{bad}*) test ! -e {broken} || exit 7;; esac; sleep 0.3'
    job = fleet.submit("--retries", "5", "--range", "1..120", "sh", "-c", f"{script}; : {{}}")
    wait_until(lambda: "quarantine" in fleet.desk.nodes()["a1"]["note"], 60, fleet.tell)
    said = fleet.desk.call("explain", "a1").out
    assert "quarantine for 'command sh'" in said
    assert "planetmesh node resume a1" in said
    failed = sum(task["attempts"] > 1 for task in fleet.tasks(job))
    assert failed <= 30, "it went on failing"
    broken.unlink()
    # It heals by the end of a task, and of the first job there may be none left by now.
    more = fleet.submit("--range", "1..120", "sh", "-c", f"{script}; : {{}}")
    wait_until(lambda: not fleet.desk.nodes()["a1"]["note"], 60, fleet.tell)
    for each in (job, more):
        assert fleet.wait(each) == 0
        fleet.assert_all_completed(each, 120)


def test_the_last_straggler_runs_a_second_time_and_the_first_result_counts(fleet: Fleet) -> None:
    fleet.start(agents=2, cpus="2")
    slow = f"case {{}} in 8) mkdir {fleet.diary.folder}/first 2>/dev/null && sleep 300;; esac"
    began = time.monotonic()
    job = fleet.submit(
        "--range", "1..8", "sh", "-c", f'echo "start {{}} $$ x" >> {fleet.diary.file}; {slow}; true'
    )
    assert fleet.wait(job, 60) == 0
    print(f"done after {time.monotonic() - began:.1f} s")
    tasks = fleet.assert_all_completed(job, 8)
    assert [task["attempts"] for task in tasks] == [1] * 7 + [2]
    assert fleet.diary.starts()["8"] == 2
    wait_until(lambda: not any(is_alive(pid) for pid in fleet.diary.pids()), 60, fleet.tell)
