"""A bounded soak: real processes killed, stopped and cut off at random; and torn files.

The schedule comes from a seed. PLANETMESH_SOAK_SECONDS makes it longer, PLANETMESH_SOAK_SEED another:

    PLANETMESH_SOAK_SECONDS=600 python -m pytest tests/system/test_chaos.py -k soak -s
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest
from fleet import HURRIED, Fleet
from meshes import Machine, wait_until

SOAK_SECONDS = float(os.environ.get("PLANETMESH_SOAK_SECONDS", "24"))
SEED = int(os.environ.get("PLANETMESH_SOAK_SEED", "1"))
WAIT_SECONDS = 150.0
"""For what is left when the mischief has ended; a loss costs 8 s before it is noticed."""
MANY, ONCE, CHUNKED = int(25 * SOAK_SECONDS), int(2 * SOAK_SECONDS), int(200 * SOAK_SECONDS)
"""Tasks of each job: enough to last as long as the mischief."""

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.timeout(int(SOAK_SECONDS + WAIT_SECONDS + 300)),
]


class Mischief:
    """One mishap after the other, each mended before or while the next comes."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet = fleet
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()

    def go_on_for(self, seconds: float) -> None:
        kinds: list[Callable[[], None]] = [
            self.kill_agent, self.kill_agent, self.stop_agent, self.cut, self.kill_desk, self.stop_desk,
        ]  # fmt: skip
        end_at = time.monotonic() + seconds
        while time.monotonic() < end_at:
            time.sleep(self.random.uniform(0.5, 2.5))
            kind = self.random.choice(kinds)
            self.done[kind.__name__] += 1
            kind()

    def _some_agent(self) -> str:
        return self.random.choice(sorted(self.fleet.agents))

    def _a_while(self) -> float:
        """Below and above what makes a node SUSPECT (4 s) and OFFLINE (8 s)."""
        return self.random.choice((1.0, 2.5, 5.0, 9.0))

    def kill_agent(self) -> None:
        agent = self.fleet.agents[self._some_agent()]
        agent.kill()
        time.sleep(self.random.uniform(0.0, 2.0))
        agent.up()

    def stop_agent(self) -> None:
        self._stop(self.fleet.agents[self._some_agent()], self._a_while())

    def stop_desk(self) -> None:
        self._stop(self.fleet.desk, self.random.choice((1.0, 5.0)))

    def _stop(self, machine: Machine, seconds: float) -> None:
        assert machine.process is not None
        machine.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        machine.process.send_signal(signal.SIGCONT)

    def cut(self) -> None:
        host = self.fleet.agents[self._some_agent()].host
        self.fleet.lan.down(host)
        time.sleep(self._a_while())
        self.fleet.lan.up(host)

    def kill_desk(self) -> None:
        self.fleet.desk.kill()
        time.sleep(self.random.uniform(0.0, 2.0))
        self.fleet.desk.up()


def test_a_soak_of_mishaps_loses_nothing_and_doubles_nothing(fleet: Fleet) -> None:
    print(f"seed {SEED}, {SOAK_SECONDS:g} s")
    # A task is the culprit after three losses; here the machines are.
    settings = {**HURRIED, "max_node_losses": 100, "retry_first_seconds": 0.2}
    fleet.start(agents=3, cpus="4", settings=settings)
    argv = fleet.task("0.3")
    many = fleet.submit("--range", f"1..{MANY}", *argv[:2], f"{argv[2]}; echo out-{{}}-out")
    once = fleet.submit("--at-most-once", "--partial", "--range", f"10001..{10_000 + ONCE}", *fleet.task("1"))
    each = f'for i in "$@"; do echo "end $i $$ x" >> {fleet.diary.file}; done; sleep 0.1'
    inputs = f"20001..{20_000 + CHUNKED}"
    chunked = fleet.submit("--chunk", "auto", "--range", inputs, "sh", "-c", each, "sh")
    fleet.wait_for_starts(3)
    mischief = Mischief(fleet, SEED)
    mischief.go_on_for(SOAK_SECONDS)
    began = time.monotonic()
    for name in fleet.agents:
        fleet.wait_for_state(name, "HEALTHY", 60)
    healthy = time.monotonic() - began
    assert fleet.wait(many, WAIT_SECONDS) == 0
    assert fleet.wait(chunked, WAIT_SECONDS) == 0
    fleet.wait(once, WAIT_SECONDS)
    done = time.monotonic() - began
    print(f"{dict(mischief.done)}; all HEALTHY {healthy:.1f} s and all done {done:.1f} s after")

    starts, ends = fleet.diary.starts(), fleet.diary.ends()
    tasks = fleet.assert_all_completed(many, MANY)
    assert all(ends[str(number)] >= 1 for number in range(1, MANY + 1))
    told = fleet.desk.call("logs", many).out.split()
    assert told == [f"out-{number}-out" for number in range(1, MANY + 1)], "each output once, in order"
    rerun = sum(task["attempts"] > 1 for task in tasks)

    view = fleet.job(once)["tasks"]
    assert view["completed"] + view["failed"] == ONCE, view
    assert all(starts[str(number)] <= 1 for number in range(10_001, 10_001 + ONCE)), "at most once ran twice"
    completed = [task for task in fleet.tasks(once) if task["status"] == "COMPLETED"]
    assert all(ends[task["payload"]] == 1 for task in completed)

    assert fleet.job(chunked)["tasks"]["completed"] == CHUNKED
    assert all(ends[str(number)] >= 1 for number in range(20_001, 20_001 + CHUNKED))
    print(
        f"{rerun} of {MANY} tasks ran more than once; {view['failed']} of {ONCE} at-most-once tasks were lost"
    )
    wait_until(lambda: all(node["running"] == 0 for node in fleet.desk.nodes().values()), 60, fleet.tell)


@pytest.mark.parametrize("tear", ["more", "less"])
def test_a_torn_last_page_of_the_log_costs_no_more_than_that_page(fleet: Fleet, tear: str) -> None:
    """`more`: a page that was being written. `less`: the disk has lost the end of what it said it had."""
    fleet.start(agents=1)
    submitter = fleet.submit_for_ever()
    wait_until(lambda: len(submitter.ids) >= 5, 60, fleet.tell)
    fleet.desk.kill()
    acknowledged = submitter.end()
    log = fleet.desk.home / "mesh.db-wal"
    assert log.stat().st_size > 0
    with log.open("r+b") as file:
        if tear == "more":
            file.seek(0, os.SEEK_END)
            file.write(random.Random(SEED).randbytes(3000))
        else:
            file.truncate(log.stat().st_size - 100)
    fleet.desk.up()
    known = {job["id"] for job in fleet.desk.json("jobs", "--limit", "1000")}
    lost = set(acknowledged) - known
    assert len(lost) <= (tear == "less"), f"{lost} of {acknowledged}"
    fleet.wait_for_state("a1", "HEALTHY", 60)
    for job in known:
        assert fleet.wait(job) == 0
    after = fleet.submit("--range", "1..20", *fleet.task("0"))
    assert fleet.wait(after) == 0
    fleet.assert_all_completed(after, 20)


def test_a_torn_outbox_costs_the_torn_record_only(fleet: Fleet) -> None:
    fleet.start(agents=1)
    job = fleet.submit("--retries", "3", "--range", "1..6", *fleet.task("1.5"))
    fleet.wait_for_starts(6)
    fleet.desk.kill()
    wait_until(lambda: fleet.kept_ends("a1") == 6, 60, fleet.tell)
    agent = fleet.agents["a1"]
    outbox = agent.home / "outbox"
    agent.kill()
    last = max(each for each in outbox.iterdir() if each.name.isdigit() and each.stat().st_size)
    with last.open("r+b") as file:
        file.truncate(last.stat().st_size - 3)
    fleet.desk.up()
    agent.up()
    assert fleet.wait(job, 40) == 0
    attempts = Counter(task["attempts"] for task in fleet.assert_all_completed(job, 6))
    assert attempts == {1: 5, 2: 1}, "the one whose end was torn runs again, no other"
