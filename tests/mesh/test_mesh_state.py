"""The tables: a job's bookkeeping against a simple model, and that `check` notices every kind of damage."""

from __future__ import annotations

import random
from collections.abc import Callable

import builders
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transcript import Transcript

from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.state import MeshState, check
from planetmesh.model.job import After, Outcome, Task, TaskState
from planetmesh.model.node import NodeState
from planetmesh.settings import Settings

STATES = [state for state in TaskState if state is not TaskState.QUEUED]
EXCLUDED = st.sampled_from([(), (), ("x",), ("x", "y")])


@given(st.lists(st.tuples(st.integers(0, 11), st.sampled_from(list(TaskState)), EXCLUDED), max_size=60))
def test_a_jobs_bookkeeping_is_that_of_a_plain_table(moves):
    live = LiveJob(builders.job("a", 12))
    table = {index: Task(live.job.id, index) for index in range(12)}
    for index, state, excluded in moves:
        if table[index].ended:
            continue
        table[index] = msgspec.structs.replace(table[index], state=state, excluded=excluded)
        live.put(table[index])
        queued = {each.index for each in table.values() if each.state is TaskState.QUEUED}
        assert live.counts.queued == len(queued)
        assert live.counts.total == 12
        assert {each for each in range(12) if live.task(each)} == {
            each.index for each in table.values() if not each.ended
        }
        offered = {task.index for lot in live.placeable() if (task := live.next_for(lot))}
        assert offered <= queued
        assert bool(offered) == bool(queued)
        lots = {table[each].excluded for each in queued}
        assert set(live.placeable()) == lots


def test_the_oldest_of_those_that_came_back_goes_first():
    live = LiveJob(builders.job("a", 10))
    for index in range(6):
        live.put(Task(live.job.id, index, TaskState.ASSIGNED))
    for index in (4, 2, 5):
        live.put(Task(live.job.id, index, TaskState.QUEUED))
    served = []
    while (task := live.next_for(())) is not None:
        served.append(task.index)
        live.put(msgspec.structs.replace(task, state=TaskState.RUNNING))
    assert served == [4, 2, 5, 6, 7, 8, 9]


def test_after_a_restart_the_same_tasks_are_placed():
    job = builders.job("a", 6)
    live = LiveJob(job)
    for task in (Task(job.id, 0, TaskState.RUNNING), Task(job.id, 1, excluded=("x",)), Task(job.id, 2)):
        live.put(task)
    again = LiveJob(job)
    again.counts, again.next_index = live.counts, 3
    for task in live.tasks.values():
        again.adopt(task)
    for lot in ((), ("x",)):
        assert again.next_for(lot) == live.next_for(lot)


def busy() -> Transcript:
    mesh = Transcript()
    mesh.join("desk", 2)
    mesh.join("nas", 1)
    mesh.submit("a", 6)
    mesh.submit("b", 2, max_running=1)
    mesh.place()
    mesh.end("desk", "a", 0, outcome=Outcome.EXIT_CODE)
    mesh.skip()
    check(mesh.state)
    return mesh


def _hold_twice(mesh: Transcript) -> None:
    (key, (requests, _since)), *_rest = mesh.node("desk").held.items()
    mesh.node("nas").hold(key, "command", requests, 0.0)


DAMAGE: dict[str, Callable[[Transcript], object]] = {
    "a task in two hands": _hold_twice,
    "a task in nobody's hands": lambda mesh: mesh.node("nas").release(
        next(iter(mesh.node("nas").held)), "command"
    ),
    "a wrong sum": lambda mesh: setattr(mesh.node("desk"), "used", builders.resources(9)),
    "a wrong count for a job": lambda mesh: mesh.node("desk").held_by_job.clear(),
    "a wrong counter": lambda mesh: setattr(mesh.job("a").counts, "queued", 99),
    "a counter that hides a task": lambda mesh: setattr(mesh.job("a").counts, "completed", 1),
    "a job out of the queue": lambda mesh: mesh.state.queue.clear(),
    "a job in a line that is not its own": lambda mesh: mesh.job("a").lines.add(("x",)),
    "a line out of order": lambda mesh: next(iter(mesh.state.queue.values())).update(
        {builders.job_id("a"): 10**9, builders.job_id("b"): 1}
    ),
    "an empty line": lambda mesh: mesh.state.queue.update({(9, mesh.job("a").signature, (), "op"): type(
        next(iter(mesh.state.queue.values())))()}),
    "a back-off that nobody ends": lambda mesh: mesh.state.backoffs.clear(),
    "a linked node that is offline": lambda mesh: setattr(
        mesh.node("nas"), "node", msgspec.structs.replace(mesh.node("nas").node, state=NodeState.OFFLINE)
    ),
    "a node under another's name": lambda mesh: setattr(mesh.node("nas"), "node", mesh.node("desk").node),
    "a job that has ended": lambda mesh: (
        mesh.job("b").end_untouched(TaskState.CANCELLED), mesh.job("b").tasks.clear()
    ),
    "what a submitter uses": lambda mesh: mesh.state.in_use.clear(),
    "a job that waits for nobody": lambda mesh: setattr(
        mesh.job("b"), "job", msgspec.structs.replace(mesh.job("b").job, waits=(After(builders.job_id("z")),))
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_check_notices(damage: str):
    mesh = busy()
    DAMAGE[damage](mesh)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        check(mesh.state)


def test_check_is_content_with_an_empty_mesh():
    check(MeshState(Settings(), random.Random(0).random))
