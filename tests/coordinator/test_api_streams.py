"""Answers without an end: output that is followed, logs in order, the feed and what it tells whom."""

from __future__ import annotations

import asyncio
import base64
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from api_world import Client, World, next_line, running_world, small, until

from planetmesh.coordinator.api import guard, outputs


def _text(piece: dict[str, Any]) -> bytes:
    return base64.b64decode(piece["data"])


async def _all(client: Client, path: str) -> list[dict[str, Any]]:
    found = []
    async with client.lines(path) as stream:
        assert stream.status == 200, await stream.read()
        assert stream.content_type == "application/x-ndjson"
        while (line := await next_line(stream)) is not None:
            found.append(line)
    return found


async def test_output_is_followed_to_the_end_of_the_job(world: World, operator: Client, viewer: Client):
    await world.add_node()
    job_id = await operator.submit(**small(2))
    async with viewer.lines(f"/v1/jobs/{job_id}/output?follow=1") as stream:
        await world.write(job_id, 0, b"hello ")
        assert _text(await next_line(stream)) == b"hello "
        await world.write(job_id, 1, b"other\xff")
        second = await next_line(stream)
        assert (_text(second), second["index"], second["stream"]) == (b"other\xff", 1, 1)
        await world.finish(job_id, 1)
        await world.write(job_id, 0, b"world", offset=6)
        await world.finish(job_id, 0)
        assert _text(await next_line(stream)) == b"world"
        assert await next_line(stream, 1.0) is None
    resumed = await _all(operator, f"/v1/jobs/{job_id}/output?after={second['number']}&follow=1")
    assert [_text(piece) for piece in resumed] == [b"world"]


async def test_following_one_task_ends_with_it(world: World, operator: Client):
    await world.add_node()
    job_id = await operator.submit(**small(2))
    async with operator.lines(f"/v1/jobs/{job_id}/output?follow=1&index=1") as stream:
        await world.write(job_id, 0, b"not this")
        await world.write(job_id, 1, b"this")
        assert _text(await next_line(stream)) == b"this"
        await world.finish(job_id, 1)
        assert await next_line(stream, 1.0) is None
    assert job_id in world.engine.state.jobs


async def test_without_follow_it_ends_with_what_there_is(world: World, operator: Client):
    await world.add_node()
    job_id = await operator.submit()
    assert await _all(operator, f"/v1/jobs/{job_id}/output") == []
    await world.write(job_id, 0, b"x" * 70_000)
    assert (
        b"".join(_text(each) for each in await _all(operator, f"/v1/jobs/{job_id}/output")) == b"x" * 70_000
    )
    assert (await operator.get(f"/v1/jobs/{job_id}/output?index=9")).status == 404
    assert (await operator.get("/v1/jobs/zzz/output?follow=1")).status == 404


async def test_logs_come_in_the_order_of_tasks(world: World, operator: Client):
    await world.add_node()
    job_id = await operator.submit(**small(3))
    for index in (2, 0, 1):
        await world.write(job_id, index, b"task %d" % index)
    texts = [_text(piece) for piece in await _all(operator, f"/v1/jobs/{job_id}/logs")]
    assert texts == [b"task 0", b"task 1", b"task 2"]
    assert [_text(piece) for piece in await _all(operator, f"/v1/jobs/{job_id}/logs?from=2")] == [b"task 2"]
    cut = [_text(piece) for piece in await _all(operator, f"/v1/jobs/{job_id}/logs?limit_bytes=8")]
    assert cut == [b"task 0", b"ta"]


async def test_a_quiet_stream_shows_that_it_lives(world: World, operator: Client, monkeypatch):
    monkeypatch.setattr(outputs, "ALIVE_SECONDS", 0.05)
    await world.add_node()
    job_id = await operator.submit()
    async with operator.lines(f"/v1/jobs/{job_id}/output?follow=1") as stream:
        assert await asyncio.wait_for(stream.content.readline(), 5) == b"\n"


async def test_a_follower_that_leaves_is_forgotten(world: World, operator: Client):
    await world.add_node()
    job_id = await operator.submit()
    stream = await operator.lines(f"/v1/jobs/{job_id}/output?follow=1")
    assert world.engine.feed._watchers
    stream.close()
    for _ in range(100):
        if not world.engine.feed._watchers:
            break
        await asyncio.sleep(0.01)
    assert not world.engine.feed._watchers
    assert not world.engine.outputs._followers


async def _of_kind(stream: aiohttp.ClientResponse, *kinds: str) -> Any:
    while True:
        event = await next_line(stream)
        assert event is not None
        if event["kind"] in kinds:
            return event


async def test_the_feed_tells_jobs_tasks_and_nodes(world: World, operator: Client, viewer: Client):
    number = (await viewer.get("/v1/status")).json["feed_number"]
    node_id = await world.add_node()
    async with viewer.lines(f"/v1/feed?after={number}") as stream:
        hello = await next_line(stream)
        assert (hello["kind"], hello["number"]) == ("hello", number)
        node = await _of_kind(stream, "node", "resync")
        assert (node["kind"], node["data"]["id"]) == ("node", node_id)
        assert node["number"] > number
        job_id = await operator.submit(env={"TOKEN": "hunter2"})
        job = await _of_kind(stream, "job")
        assert (job["data"]["id"], job["data"]["status"]) == (job_id, "RUNNING")
        assert "hunter2" not in str(job)
        tasks = await _of_kind(stream, "tasks")
        assert tasks["data"][0]["id"] == f"{job_id}/0"
        await world.finish(job_id)
        job = await _of_kind(stream, "job")
        assert job["data"]["status"] == "COMPLETED"
        tasks = await _of_kind(stream, "tasks")
        assert tasks["data"][0]["status"] == "COMPLETED"
        resumed_after = job["number"]
    async with viewer.lines(f"/v1/feed?after={resumed_after}") as stream:
        await next_line(stream)
        assert (await next_line(stream)) == tasks


async def test_who_missed_something_is_told_to_read_again(world: World, operator: Client):
    async with operator.lines("/v1/feed?after=0") as stream:
        assert (await _of_kind(stream, "resync"))["number"] > 0
    ahead = world.engine.feed.number + 50_000
    async with operator.lines(f"/v1/feed?after={ahead}") as stream:
        assert (await _of_kind(stream, "resync"))["number"] > ahead
    assert (await operator.get(f"/v1/feed?after={2**53}")).status == 400


async def test_pairing_windows_are_told_without_their_codes(operator: Client, viewer: Client):
    async with viewer.lines("/v1/feed") as stream:
        await next_line(stream)
        window = (await operator.post("/v1/pair", {"role": "agent"})).json
        event = await _of_kind(stream, "pairing")
        assert event["data"]["slot"] == window["slot"]
        assert window["code"] not in str(event)


async def test_values_of_calls_come_only_if_asked_for(world: World, operator: Client):
    await world.add_node()
    job_id = await operator.submit()
    await world.write(job_id, 0, b"value", stream=3)
    await world.write(job_id, 0, b"printed")
    await world.write(job_id, 0, b"error", stream=2)
    for path, texts in {
        "output": [b"printed", b"error"],
        "output?stream=3": [b"value"],
        "output?stream=2&index=0": [b"error"],
        "logs": [b"printed", b"error"],
        "logs?limit_bytes=9": [b"printed", b"er"],
    }.items():
        found = [_text(piece) for piece in await _all(operator, f"/v1/jobs/{job_id}/{path}")]
        assert found == texts, path
    await world.finish(job_id, 0)
    followed = await _all(operator, f"/v1/jobs/{job_id}/output?stream=3&follow=1")
    assert [_text(piece) for piece in followed] == [b"value"]
    for odd in ("0", "4", "value", ""):
        assert (await operator.get(f"/v1/jobs/{job_id}/output?stream={odd}")).status == 400


async def test_a_coordinator_that_stops_waits_for_no_answer_without_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(guard, "SHUTDOWN_SECONDS", 1000.0)
    async with AsyncExitStack() as stack, asyncio.timeout(30):
        world = await stack.enter_async_context(running_world(tmp_path))
        client, guests = await world.client(), world.guests.pop_all()
        job_id = await client.submit(linger_seconds=5, inputs={"type": "items", "items": ["a"]})
        paths = ("/v1/feed", "/v1/values", f"/v1/jobs/{job_id}/output?follow=1", f"/v1/jobs/{job_id}?wait=60")
        async with guests, asyncio.TaskGroup() as group:
            ends = [group.create_task(_cut(client, path)) for path in paths]
            socket = await client.session.ws_connect(client.base + "/v1/inputs")
            await until(lambda: len(world.parts.open_ended) == 5)
            await stack.aclose()
        assert [each.result() for each in ends] == [True] * 4
        assert (await socket.receive()).type is not aiohttp.WSMsgType.BINARY


async def _cut(client: Client, path: str) -> bool:
    """Read to the end, which is none."""
    try:
        async with client.lines(path) as stream:
            await stream.read()
    except aiohttp.ClientError:
        return True
    return False
