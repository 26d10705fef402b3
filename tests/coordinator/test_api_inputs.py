"""More inputs for a job that lingers, over the API: on disk, once, and only where they belong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from api_world import Client, World, until

from planetmesh.coordinator import engine as engine_module
from planetmesh.mesh import effects as fx
from planetmesh.mesh import nodes, reactor
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.identity import Role
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


@asynccontextmanager
async def _line(client: Client) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with client.session.ws_connect(client.base + "/v1/inputs") as socket:
        yield socket


async def _say(socket: aiohttp.ClientWebSocketResponse, message: object) -> str:
    """The code of the error that is answered; empty if it was taken."""
    await socket.send_bytes(message if isinstance(message, bytes) else json.dumps(message).encode())
    error = json.loads(await socket.receive_bytes(timeout=10))["error"]
    return error["code"] if error else ""


async def test_inputs_come_by_a_websocket_too_and_each_answer_means_that_they_are_on_disk(
    world: World, operator: Client
):
    await world.add_node()
    job = await operator.submit(**LISTED)
    async with _line(operator) as socket:
        for first, items in ((1, ["b"]), (1, ["b"]), (2, ["c", "d"])):
            assert await _say(socket, {"job": job, "items": items, "first": first}) == ""
            stored = await world.engine.store.job(job)
            assert stored is not None
            assert stored.job.spec.inputs.count == first + len(items)
    audited = [
        row["object"] for row in (await operator.get("/v1/audit")).json if row["action"] == "add_inputs"
    ]
    assert audited == [job] * 3


async def test_what_is_wrong_in_a_message_is_answered_and_the_next_is_taken(world: World, operator: Client):
    job = await operator.submit(**LISTED)
    other = await operator.submit(**LISTED | {"linger_seconds": 0})
    async with _line(operator) as socket:
        wrong: list[tuple[object, str]] = [
            (b"{", "bad_input"),
            (b'{"job":"x","items":["b"],"first":1,"first":1}', "bad_input"),
            ({"job": job, "items": ["b"], "first": 1, "more": 1}, "bad_input"),
            ({"job": job, "items": [], "first": 1}, "bad_input"),
            ({"job": job, "items": ["b"], "first": 7}, "conflict"),
            ({"job": job, "items": ["b"] * 10, "first": 10_000_000}, "too_large"),
            ({"job": other, "items": ["b"], "first": 1}, "conflict"),
            ({"job": "nosuchjob0", "items": ["b"], "first": 1}, "not_found"),
        ]
        for message, code in wrong:
            assert await _say(socket, message) == code, message
        assert await _say(socket, {"job": job, "items": ["b"], "first": 1}) == ""


@pytest.mark.parametrize("much", [b" " * 65_537, "text"])
async def test_what_is_no_message_ends_the_websocket(world: World, operator: Client, much: bytes | str):
    async with _line(operator) as socket:
        await (socket.send_str(much) if isinstance(much, str) else socket.send_bytes(much))
        assert (await socket.receive(timeout=10)).type is not aiohttp.WSMsgType.BINARY
    assert (await operator.get("/v1/jobs")).status == 200


async def test_who_is_revoked_adds_nothing_any_more(world: World, operator: Client):
    other = await world.member(Role.OPERATOR)
    client = world.open(other)
    job = await client.submit(**LISTED)
    async with _line(client) as socket:
        world.access.revoke(other.principal.id)
        await socket.send_bytes(json.dumps({"job": job, "items": ["b"], "first": 1}).encode())
        assert (await socket.receive(timeout=10)).type is not aiohttp.WSMsgType.BINARY
    assert world.engine.state.jobs[JobId(job)].job.spec.inputs.count == 1
    for role in (Role.VIEWER, Role.AGENT):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await world.open(await world.member(role)).session.ws_connect(operator.base + "/v1/inputs")
        assert refused.value.status == 403
