"""Hostile bodies and connections: JSON that lies, bodies that never end, peers that say nothing."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from api_world import COMMAND, Client, World, running_world, until

from planetmesh.coordinator.api.call import BODY_GRACE_SECONDS
from planetmesh.coordinator.api.guard import HEAD_SECONDS
from planetmesh.model.identity import Role

SPEC = json.dumps(COMMAND)
ABUSE = {
    "deep": b"[" * 100_000,
    "deep payload": b'{"spec":{"type":"command","payload":{"argv":' + b"[" * 5000 + b"]" * 5000 + b"}}}",
    "deep but readable": b'{"spec":{"type":"command","payload":{"argv":["a"],"x":'
    + b"[" * 100
    + b"]" * 100
    + b"}}}",
    "huge number": b'{"spec":{"type":"command","payload":{"argv":["a"],"x":' + b"1" * 5000 + b"}}}",
    "NaN": b'{"spec":{"type":"command","payload":{"argv":["a"]},"limits":{"attempt_seconds":NaN}}}',
    "infinity": b'{"spec":{"type":"command","payload":{"argv":["a"]},"limits":{"attempt_seconds":1e999}}}',
    "duplicate keys": b'{"spec":' + SPEC.encode() + b',"spec":' + SPEC.encode() + b"}",
    "duplicate keys inside": b'{"spec":{"type":"command","payload":{"argv":["a"],"argv":["b"]}}}',
    "duplicate variable": b'{"spec":{"type":"command","payload":{"argv":["a"]},"env":{"A":"1","A":"2"}}}',
    "lone surrogate": b'{"spec":{"type":"command","payload":{"argv":["\\ud800"]}}}',
    "BOM": b"\xef\xbb\xbf" + b'{"spec":' + SPEC.encode() + b"}",
    "not UTF-8": b'{"spec":{"type":"command","payload":{"argv":["\xff"]}}}',
    "UTF-16": json.dumps({"spec": COMMAND}).encode("utf-16"),
    "two documents": b'{"spec":' + SPEC.encode() + b"}{}",
    "trailing comma": b'{"spec":' + SPEC.encode() + b",}",
    "nothing": b"",
    "an array": b"[]",
    "null": b"null",
    "a string for a struct": b'{"spec":"command"}',
}


async def test_json_abuse_is_400_and_never_500(world: World, operator: Client):
    for what, body in ABUSE.items():
        answer = await operator.post("/v1/jobs", body)
        assert (answer.status, answer.code) == (400, "bad_input"), (what, answer.body)
        assert b"Traceback" not in answer.body, what
    assert world.engine.state.jobs == {}


AFTER = {"job": "k" * 26, "on": "success"}
CAT = {"payload": {"argv": ["cat"]}}
LETTERS = {"inputs": {"type": "items", "items": ["x"]}}
OUT_OF_BOUNDS = {
    "queue limit of nothing": {"limits": {"queue_seconds": 0}},
    "total limit below zero": {"limits": {"total_seconds": -1}},
    "total limit too far away": {"limits": {"total_seconds": 1e300}},
    "file with a bad digest": {"files": [["a", "../etc", 1, False, False]]},
    "file that leads out": {"files": [["../a", "a" * 64, 1, False, False]]},
    "file without a name": {"files": [["", "a" * 64, 1, False, False]]},
    "file below zero": {"files": [["a", "a" * 64, -1, False, False]]},
    "two files of one name": {"files": [["a", "a" * 64, 1], ["A", "b" * 64, 1]]},
    "too many files": {"files": [[f"f{number}", "a" * 64, 1] for number in range(2049)]},
    "files of a range": {"inputs": {"type": "range", "first": 1, "last": 2, "files": []}},
    "too few files": {"inputs": {"type": "items", "items": ["x", "y"], "files": [None]}},
    "an input's file that leads out": {
        "inputs": {"type": "items", "items": ["x"], "files": [["/x", "a" * 64, 1]]},
    },
    "an input's file in a file's place": {
        "inputs": {"type": "items", "items": ["x"], "files": [["x", "a" * 64, 1]]},
        "files": [["X", "b" * 64, 1]],
    },
    "pattern that leads out": {"outputs": ["../*"]},
    "absolute pattern": {"outputs": ["/etc/*"]},
    "empty pattern": {"outputs": [""]},
    "too many patterns": {"outputs": ["*"] * 65},
    "chunk below zero": LETTERS | {"chunk": -1},
    "chunk too large": LETTERS | {"chunk": 100_001},
    "chunk not whole": LETTERS | {"chunk": 1.5},
    "chunk without inputs": {"chunk": 2},
    "automatic chunk without inputs": {"chunk": 0},
    "chunk of a line that takes one": LETTERS | {"chunk": 2, "payload": {"argv": ["echo {/} x"]}},
    "chunk longer than a frame": {"chunk": 20_000, "payload": {"argv": ["echo", "{#}"]}}
    | {"inputs": {"type": "items", "items": ["x" * 100] * 20_000}},
    "chunk longer than a command": CAT
    | {"chunk": 90_000, "inputs": {"type": "items", "items": ["y" * 10] * 90_000}},
    "range without an end": {"chunk": 100_000, "inputs": {"type": "range", "first": 1, "last": 10**12}},
    "no failures": {"max_failures": 0},
    "more failures than tasks can be": {"max_failures": 10_000_001},
    "too many to wait for": {"after": [AFTER] * 65},
    "what cannot be": {"after": [AFTER, AFTER | {"on": "failure"}]},
    "an unknown condition": {"after": [AFTER | {"on": "whim"}]},
}


async def test_what_is_out_of_bounds_is_refused_and_changes_nothing(world: World, operator: Client):
    for what, spec in OUT_OF_BOUNDS.items():
        answer = await operator.post("/v1/jobs", {"spec": COMMAND | spec})
        assert (answer.status, answer.code) in {(400, "bad_input"), (413, "too_large")}, (what, answer.body)
        assert answer.json["error"]["message"], what
    assert world.engine.state.jobs == {}


async def test_what_is_just_within_bounds_is_taken(world: World, operator: Client):
    many = {"inputs": {"type": "range", "first": 1, "last": 10_000_000}}
    for spec in (
        many | {"chunk": 1000, "max_failures": 10_000_000},
        many | {"chunk": 0, "limits": {"queue_seconds": 0.5, "total_seconds": 1e10}},
        LETTERS | {"chunk": 100_000},
    ):
        answer = await operator.post("/v1/jobs", {"spec": COMMAND | spec})
        assert answer.status == 201, answer.body
    assert {live.job.kind for live in world.engine.state.jobs.values()} == {"command true"}


async def test_too_large_a_body_is_refused_before_it_is_read(operator: Client):
    answer = await operator.post("/v1/pair", b"x" * 70_000)
    assert (answer.status, answer.code) == (413, "too_large")


async def test_a_chunked_body_is_counted_while_it_comes(operator: Client):
    async def flood():
        for _ in range(20):
            yield b" " * 10_000

    async with operator.session.post(operator.base + "/v1/pair", data=flood()) as response:
        assert response.status == 413


async def test_compressed_bodies_are_refused(operator: Client):
    answer = await operator.post("/v1/jobs", b"x", headers={"Content-Encoding": "gzip"})
    assert answer.status == 400


async def test_faults_of_ours_show_a_number_and_nothing_else(
    world: World, operator: Client, caplog: pytest.LogCaptureFixture
):
    def broken() -> None:
        raise ZeroDivisionError("secret detail")

    world.engine.feed.expect = lambda _now: broken()
    answer = await operator.get("/v1/status")
    assert (answer.status, answer.code) == (500, "error")
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    fault = next(record for record in caplog.records if record.getMessage() == "api.fault")
    assert fault.fault in answer.json["error"]["message"]
    assert fault.exc_info is not None


async def test_a_fault_in_the_middle_of_an_answer_ends_the_connection(world: World, caplog):
    agent = world.open(await world.member(Role.AGENT))
    link = await agent.session.ws_connect(agent.base + "/v1/agent", compress=0)
    await link.receive_str()
    world.access.check = lambda _request: 1 / 0
    await link.send_str("hello")
    message = await link.receive(timeout=20)
    assert message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSE}
    await until(lambda: not world.access.connections.of(agent.id))
    assert "api.fault" in [record.getMessage() for record in caplog.records]


async def test_what_is_not_http_is_answered_plainly(world: World):
    reader, writer = await world.raw(await world.member(Role.VIEWER))
    writer.write(b"\x00\x01\x02 nonsense\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 20)
    assert b"400" in answer.split(b"\r\n")[0]
    assert b"Traceback" not in answer
    assert b"aiohttp" not in answer


async def test_header_floods_are_cut_off(world: World):
    reader, writer = await world.raw(await world.member(Role.VIEWER))
    head = b"".join(b"X-%d: y\r\n" % number for number in range(1000))
    writer.write(b"GET /v1/nodes HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")
    assert b"400" in (await asyncio.wait_for(reader.read(), 20)).split(b"\r\n")[0]


class TestSlowPeers:
    """Our own timers, turned down."""

    async def test_silence_after_the_handshake(self, tmp_path: Path):
        async with running_world(tmp_path, head_seconds=0.2) as world:
            reader, _writer = await world.raw(await world.member(Role.AGENT))
            await _ended(reader)

    async def test_headers_that_trickle(self, tmp_path: Path):
        async with running_world(tmp_path, head_seconds=0.2) as world:
            reader, writer = await world.raw(await world.member(Role.AGENT))
            trickle = asyncio.ensure_future(_trickle(writer, b"GET /v1/agent HTTP/1.1\r\nX: " + b"y" * 500))  # noqa: TID251  ends with the test
            await _ended(reader)
            trickle.cancel()

    async def test_headers_that_trickle_in_a_later_request(self, tmp_path: Path):
        async with running_world(tmp_path, head_seconds=0.2) as world:
            reader, writer = await world.raw(await world.member(Role.VIEWER))
            writer.write(b"GET /v1/nodes HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.3)
            writer.write(b"GET /v1/no")
            await _ended(reader)

    async def test_a_connection_may_rest_between_requests(self, tmp_path: Path):
        async with running_world(tmp_path, head_seconds=0.5) as world:
            viewer = await world.client(Role.VIEWER)
            assert (await viewer.get("/v1/nodes")).status == 200
            connections = set(world.access.connections)
            await asyncio.sleep(0.8)
            assert (await viewer.get("/v1/nodes")).status == 200
            assert set(world.access.connections) == connections

    async def test_a_long_poll_is_not_a_slow_request(self, tmp_path: Path):
        async with running_world(tmp_path, head_seconds=0.5) as world:
            operator = await world.client()
            job_id = await operator.submit()
            assert (await operator.get(f"/v1/jobs/{job_id}?wait=0.8")).status == 200

    async def test_a_body_that_never_ends(self, tmp_path: Path):
        async with running_world(tmp_path, body_grace_seconds=0.2) as world:
            reader, writer = await world.raw(await world.member(Role.OPERATOR))
            writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
            await _ended(reader)

    async def test_one_holder_cannot_take_all_connections(self, tmp_path: Path):
        async with running_world(tmp_path, each_most=3) as world:
            greedy = await world.member(Role.VIEWER)
            for _ in range(3):
                await world.raw(greedy)
            await until(lambda: len(world.access.connections) == 3)
            reader, _writer = await world.raw(greedy)
            await _ended(reader)
            assert (await (await world.client()).get("/v1/status")).status == 200


async def _ended(reader: asyncio.StreamReader) -> None:
    """Until the other side ends the connection, and sooner than it would by the timers as they are."""
    with suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), 0.9 * min(HEAD_SECONDS, BODY_GRACE_SECONDS))


async def _trickle(writer: asyncio.StreamWriter, data: bytes) -> None:
    for number in range(len(data)):
        writer.write(data[number : number + 1])
        await asyncio.sleep(0.02)
