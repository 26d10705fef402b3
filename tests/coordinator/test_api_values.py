"""Values of calls and ends of jobs, of all one's own jobs in one stream; nobody else's are told."""

from __future__ import annotations

import base64
from typing import Any

import aiohttp
from api_world import Client, World, next_line, small

from planetmesh.coordinator import feed
from planetmesh.model.identity import Role
from planetmesh.wire.calls import VALUES


async def _line(stream: aiohttp.ClientResponse, seconds: float = 5.0) -> tuple[Any, ...]:
    line = await next_line(stream, seconds)
    assert line is not None
    data = base64.b64decode(line["data"]) if "data" in line else b""
    return line["kind"], line.get("job", ""), line.get("index", 0), data


async def test_values_and_ends_of_all_jobs_come_in_one_stream(world: World, operator: Client):
    await world.add_node()
    async with operator.lines("/v1/values") as stream:
        assert (await _line(stream))[0] == "hello"
        one, two = await operator.submit(**small(1)), await operator.submit(**small(2))
        await world.write(two, 1, b"b\n", stream=VALUES)
        await world.write(one, 0, b"printed\n")
        await world.write(one, 0, b"a\n", stream=VALUES)
        assert await _line(stream) == ("values", two, 1, b"b\n")
        assert await _line(stream) == ("values", one, 0, b"a\n")
        await world.finish(one, 0)
        assert await _line(stream) == ("ended", one, 0, b"")


async def test_the_end_of_a_job_is_told_after_all_its_values(world: World, operator: Client):
    await world.add_node()
    async with operator.lines("/v1/values") as stream:
        await next_line(stream)
        for number in range(20):
            job = await operator.submit(**small(1))
            await world.write(job, 0, b"%d\n" % number, stream=VALUES)
            await world.finish(job, 0)
            assert await _line(stream) == ("values", job, 0, b"%d\n" % number)
            line = await next_line(stream)
            assert (line["kind"], line["job"], line["view"]["status"]) == ("ended", job, "COMPLETED")


async def test_a_stream_goes_on_after_a_number(world: World, operator: Client):
    await world.add_node()
    job = await operator.submit(**small(1))
    async with operator.lines("/v1/values") as stream:
        await next_line(stream)
        await world.write(job, 0, b"a\n", stream=VALUES)
        seen = (await next_line(stream))["number"]
    await world.write(job, 0, b"b\n", offset=2, stream=VALUES)
    async with operator.lines(f"/v1/values?after={seen}") as stream:
        assert (await next_line(stream))["number"] == seen
        assert await _line(stream) == ("values", job, 0, b"b\n")


async def test_a_stream_without_a_number_begins_now(world: World, operator: Client):
    await world.add_node()
    job = await operator.submit(**small(1))
    await world.write(job, 0, b"old\n", stream=VALUES)
    async with operator.lines("/v1/values") as stream:
        await next_line(stream)
        await world.write(job, 0, b"new\n", offset=4, stream=VALUES)
        assert (await _line(stream))[3] == b"new\n"


async def test_nobody_hears_of_another_ones_jobs(world: World, operator: Client):
    await world.add_node()
    other = world.open(await world.member(Role.OPERATOR))
    async with other.session, other.lines("/v1/values") as stream:
        await next_line(stream)
        foreign = await operator.submit(**small(1))
        await world.write(foreign, 0, b"secret\n", stream=VALUES)
        await world.finish(foreign, 0)
        own = await other.submit(**small(1))
        await world.write(own, 0, b"mine\n", stream=VALUES)
        assert await _line(stream) == ("values", own, 0, b"mine\n")
        gone = await _line_after(operator, foreign)
        assert gone == b""


async def _line_after(client: Client, job: str) -> bytes:
    """What the job printed, which is nothing: values are no output for people."""
    async with client.lines(f"/v1/jobs/{job}/output") as stream:
        return await stream.read()


async def test_ends_that_cannot_be_told_are_owned_up_to(world: World, operator: Client, monkeypatch):
    monkeypatch.setattr(feed, "ENDS_MOST", 0)
    await world.add_node()
    async with operator.lines("/v1/values") as stream:
        await next_line(stream)
        job = await operator.submit(**small(1))
        await world.finish(job, 0)
        assert (await _line(stream))[0] == "resync"
