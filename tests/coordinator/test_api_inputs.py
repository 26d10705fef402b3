"""More inputs for a job that lingers, over the API: on disk, once, and only where they belong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from api_world import Client, World, until

from planetmesh.coordinator import engine as engine_module
from planetmesh.mesh import effects as fx
from planetmesh.mesh import nodes, reactor
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId
from planetmesh.model.job import Items, Outcome
from planetmesh.wire.agent import TaskResult

LISTED = {"inputs": {"type": "items", "items": ["a"]}, "linger_seconds": 5}


async def _end_lingering(world: World) -> None:
    """As if its time were over."""
    world.engine.state.lingering = dict.fromkeys(world.engine.state.lingering, -1000.0)
    await world.engine.do(nodes.on_tick)


async def test_inputs_are_added_once_and_are_on_disk(world: World, operator: Client):
    await world.add_node()
    job = await operator.submit(**LISTED)
    body = {"items": ["b", "c"], "first": 1}
    answers = await asyncio.gather(*(operator.post(f"/v1/jobs/{job}/inputs", body) for _ in range(4)))
    assert [(each.status, each.json) for each in answers] == [(200, {"job": job, "count": 3})] * 4
    stored = await world.engine.store.job(job)
    assert stored is not None
    assert stored.job.spec.inputs == Items(("a", "b", "c"))
    for index in range(3):
        await world.finish(job, index)
    view = (await operator.get(f"/v1/jobs/{job}")).json
    assert (view["tasks"]["completed"], view["completed_at"]) == (3, None)
    more = await operator.post(f"/v1/jobs/{job}/inputs", {"items": ["d"], "first": 3})
    assert more.status == 200
    await until(lambda: 3 in world.engine.state.jobs[job].tasks)
    await world.finish(job, 3)
    await _end_lingering(world)
    assert (await operator.get(f"/v1/jobs/{job}")).json["status"] == "COMPLETED"
    assert job not in world.engine.state.jobs
    # Its first answer was lost, and it is asked again.
    assert (await operator.post(f"/v1/jobs/{job}/inputs", {"items": ["d"], "first": 3})).status == 200
    late = await operator.post(f"/v1/jobs/{job}/inputs", {"items": ["e"], "first": 4})
    assert (late.status, late.code) == (409, "conflict")


def _end_when_convenient(world: World, job: JobId, answers: list[object]) -> None:
    task = world.engine.state.jobs[job].tasks[0]
    result = TaskResult(job, 0, task.attempt, Outcome.OK, 0)

    def happen(state: MeshState, now: Moment) -> fx.Effects:
        return reactor.on_task_ended(state, task.node_id, result, now)

    world.engine.post(happen, answers.append, can_wait=True)


async def test_an_end_that_can_wait_is_one_commit_with_the_inputs_that_follow(
    world: World, operator: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine_module, "COMPANY_SECONDS", 1000.0)
    await world.add_node()
    job = await operator.submit(**LISTED)
    commits = world.engine.meters.commits
    answers: list[object] = []
    before = commits.count
    _end_when_convenient(world, job, answers)
    await asyncio.sleep(0.01)
    assert (answers, commits.count) == ([], before)
    assert (await operator.post(f"/v1/jobs/{job}/inputs", {"items": ["b"], "first": 1})).status == 200
    assert (answers, commits.count) == ([None], before + 1)
    counts = world.engine.state.jobs[job].counts
    assert (counts.completed, counts.assigned) == (1, 1)


async def test_an_end_that_can_wait_does_not_wait_long(world: World, operator: Client):
    await world.add_node()
    job = await operator.submit(**LISTED)
    answers: list[object] = []
    _end_when_convenient(world, job, answers)
    await until(lambda: answers == [None])
    assert world.engine.state.jobs[job].counts.completed == 1


@pytest.mark.parametrize(
    ("spec", "body", "status"),
    [
        (LISTED, {"items": [], "first": 1}, 400),
        (LISTED, {"items": ["b"], "first": -1}, 400),
        (LISTED, {"items": ["b"], "first": 2}, 409),
        (LISTED, {"items": ["b"], "first": 0}, 409),
        (LISTED, {"items": ["b"] * 10, "first": 10_000_000}, 413),
        (LISTED | {"linger_seconds": 0}, {"items": ["b"], "first": 1}, 409),
    ],
)
async def test_what_does_not_belong_there_is_refused(
    world: World, operator: Client, spec: dict[str, Any], body: dict[str, Any], status: int
):
    job = await operator.submit(**spec)
    answer = await operator.post(f"/v1/jobs/{job}/inputs", body)
    assert answer.status == status, answer.body
    assert world.engine.state.jobs[JobId(job)].job.spec.inputs.count == 1


@pytest.mark.parametrize(
    "spec",
    [
        {"linger_seconds": 61},
        {"linger_seconds": -1},
        {"chunk": 2},
        {"max_failures": 1},
        {"inputs": {"type": "range", "first": 1, "last": 2}},
    ],
)
async def test_what_cannot_linger_is_refused(operator: Client, spec: dict[str, Any]):
    body = {"spec": {"type": "command", "payload": {"argv": ["true"]}} | LISTED | spec}
    answer = await operator.post("/v1/jobs", body)
    assert (answer.status, answer.code) == (400, "bad_input")
