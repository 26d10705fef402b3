"""Files in and out over the API: whole, cut, gone on with, refused; and who may have what."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from api_world import Client, World, running_world, until
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from planetmesh.blobs.frames import Frames, frame
from planetmesh.coordinator.api import transfers
from planetmesh.mesh import nodes, reactor
from planetmesh.model.blob import Digest, Made, Manifest, ManifestFile
from planetmesh.model.identity import Role
from planetmesh.model.ids import JobId
from planetmesh.model.job import Outcome
from planetmesh.model.node import Node
from planetmesh.settings import Settings
from planetmesh.wire.agent import TaskResult
from planetmesh.wire.manifest import encode_manifest

CONTENT = random.Random(1).randbytes(3_000_001)
MIB = 1024 * 1024


def name_of(content: bytes) -> Digest:
    return Digest(sha256(content).hexdigest())


NAME = name_of(CONTENT)


async def put(client: Client, content: bytes, query: str = "", **headers: str) -> Any:
    path = f"/v1/blobs/{name_of(content)}{query}"
    return await client.ask("PUT", path, content, headers=headers)


async def stored(client: Client, content: bytes, query: str = "") -> Digest:
    assert (await put(client, content, query)).status in {200, 201}
    return name_of(content)


async def missing(client: Client, *digests: str, query: str = "") -> dict[str, int]:
    answer = await client.post(f"/v1/blobs/missing{query}", {"digests": digests})
    assert answer.status == 200, answer.body
    return {each["digest"]: each["have"] for each in answer.json["missing"]}


def staged(name: str, content: bytes, *, is_tree: bool = False) -> list[Any]:
    return [name, name_of(content), len(content), False, is_tree]


async def using(client: Client, *contents: bytes, **spec: Any) -> JobId:
    """A job that uses these, so that they may be read."""
    files = [staged(f"f{number}", content) for number, content in enumerate(contents)]
    return await client.submit(files=files, **spec)


# People


async def test_there_and_back(world: World, operator: Client, viewer: Client):
    assert await missing(operator, NAME) == {NAME: 0}
    assert (await put(operator, CONTENT)).status == 201
    assert (await put(operator, CONTENT)).status == 200
    assert await missing(operator, NAME) == {}
    assert (await viewer.get(f"/v1/blobs/{NAME}")).status == 404, "no job uses it"
    await using(operator, CONTENT)
    for client in (operator, viewer):
        answer = await client.get(f"/v1/blobs/{NAME}")
        assert (answer.status, answer.body) == (200, CONTENT)
        assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert (await put(viewer, CONTENT)).status == 403
    assert world.depot.shelf.room.promised_bytes == 0


async def test_an_empty_one(operator: Client):
    assert (await put(operator, b"")).status == 201
    await using(operator, b"")
    answer = await operator.get(f"/v1/blobs/{name_of(b'')}")
    assert (answer.status, answer.body) == (200, b"")


async def test_of_unknown_length_with_the_size_in_the_query(operator: Client):
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(CONTENT), 100_000):
            yield CONTENT[start : start + 100_000]

    path = f"{operator.base}/v1/blobs/{NAME}"
    async with operator.session.put(path, data=pieces()) as response:
        assert response.status == 400
    async with operator.session.put(f"{path}?size={len(CONTENT)}", data=pieces()) as response:
        assert response.status == 201


@pytest.mark.parametrize(
    ("said", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=2999999-", 206, slice(2999999, None)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=10-99999999", 206, slice(10, None)),
        ("bytes=1000000-2500000", 206, slice(1_000_000, 2_500_001)),
        (f"bytes={len(CONTENT)}-", 206, slice(len(CONTENT), None)),
        (f"bytes={len(CONTENT) + 1}-", 400, None),
        ("bytes=5-4", 400, None),
        ("bytes=-", 400, None),
        ("bytes=0-1,3-4", 400, None),
        ("lines=0-1", 400, None),
    ],
)
async def test_ranges(operator: Client, said: str, status: int, part: slice | None):
    await stored(operator, CONTENT)
    await using(operator, CONTENT)
    answer = await operator.get(f"/v1/blobs/{NAME}", headers={"Range": said})
    assert answer.status == status
    if part is not None:
        assert answer.body == CONTENT[part]


async def cut_off(world: World, client: Client, content: bytes, sent: int, offset: int = 0) -> None:
    """Send a part and hang up."""
    reader, writer = await world.raw(client.identity)
    size = len(content)
    head = f"PUT /v1/blobs/{name_of(content)} HTTP/1.1\r\nHost: x\r\nContent-Length: {size - offset}\r\n"
    if offset:
        head += f"Content-Range: bytes {offset}-{size - 1}/{size}\r\n"
    writer.write(head.encode() + b"\r\n" + content[offset : offset + sent])
    await writer.drain()
    path = world.depot.shelf.folder / "partial" / name_of(content)
    await until(
        lambda: path.exists() and path.stat().st_size >= min(offset + sent, offset + sent // MIB * MIB)
    )
    writer.transport.abort()
    del reader


@pytest.mark.parametrize("sent", [1, 1_500_000, 3_000_000])
async def test_cut_and_gone_on_with(world: World, operator: Client, sent: int):
    await cut_off(world, operator, CONTENT, sent)
    await until(lambda: not world.depot._arriving)
    have = (await missing(operator, NAME))[NAME]
    assert have <= sent
    size = len(CONTENT)
    wrong = await operator.ask(
        "PUT", f"/v1/blobs/{NAME}", CONTENT[7:], headers={"Content-Range": f"bytes 7-{size - 1}/{size}"}
    )
    assert (wrong.status, wrong.code, wrong.headers["Upload-Offset"]) == (409, "wrong_offset", str(have))
    span = f"bytes {have}-{size - 1}/{size}"
    rest = await operator.ask("PUT", f"/v1/blobs/{NAME}", CONTENT[have:], headers={"Content-Range": span})
    assert rest.status == 201, rest.body
    assert world.depot.shelf.read(NAME, 2**30) == CONTENT


async def test_a_part_on_purpose_and_an_end_without_bytes(operator: Client):
    size = len(CONTENT)
    for start, end in ((0, 1_000_000), (1_000_000, size)):
        span = f"bytes {start}-{end - 1}/{size}"
        part = await operator.ask(
            "PUT", f"/v1/blobs/{NAME}", CONTENT[start:end], headers={"Content-Range": span}
        )
        if end < size:
            assert (part.status, part.headers["Upload-Offset"]) == (202, str(end))
    assert part.status == 201
    early = await operator.ask(
        "PUT", f"/v1/blobs/{name_of(b'x')}", b"", headers={"Content-Range": "bytes */1"}
    )
    assert (early.status, early.headers["Upload-Offset"]) == (409, "0")


async def test_who_goes_on_waits_for_his_own_former_connection(world: World, operator: Client):
    """The first connection died without a word: it is still open for the coordinator."""
    _reader, writer = await world.raw(operator.identity)
    size = len(CONTENT)
    writer.write(f"PUT /v1/blobs/{NAME} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
    writer.write(CONTENT[: 2 * MIB])
    await writer.drain()
    await until(lambda: world.depot.shelf.partial_size(NAME) >= MIB)
    have = world.depot.shelf.partial_size(NAME)
    span = f"bytes {have}-{size - 1}/{size}"
    path = f"/v1/blobs/{NAME}"
    async with asyncio.TaskGroup() as group:
        going_on = group.create_task(
            operator.ask("PUT", path, CONTENT[have:], headers={"Content-Range": span})
        )
        await asyncio.sleep(0.05)
        assert not going_on.done()
        writer.transport.abort()
    answer = going_on.result()
    assert answer.status in {201, 409}, "201, or the first one got further meanwhile"
    if answer.status == 409:
        assert int(answer.headers["Upload-Offset"]) > have


async def test_wrong_bytes_are_dropped_and_said(world: World, operator: Client):
    answer = await operator.ask("PUT", f"/v1/blobs/{NAME}", CONTENT[:-1] + b"?")
    assert (answer.status, answer.code) == (422, "wrong_digest")
    assert await missing(operator, NAME) == {NAME: 0}
    assert world.depot.shelf.room.used_bytes == 0


@pytest.mark.parametrize(
    "span", ["bytes 0-5/3", "bytes 5-4/10", "bytes 0-4/10", "bytes 0-/10", "items 0-2/3", "bytes 0-2/*"]
)
async def test_nonsense_in_content_range(operator: Client, span: str):
    path = f"/v1/blobs/{name_of(b'abc')}"
    answer = await operator.ask("PUT", path, b"abc", headers={"Content-Range": span})
    assert (answer.status, answer.code) == (400, "bad_input")


@pytest.mark.parametrize("name", ["0" * 63, "A" * 64, "..%2f..%2fmesh.db", "%00" * 64])
async def test_names_that_are_no_digests(operator: Client, name: str):
    for method in ("PUT", "GET"):
        assert (await operator.ask(method, f"/v1/blobs/{name}", b"x")).status in {400, 404}


async def test_compressed_blobs_are_refused(operator: Client):
    answer = await put(operator, b"abc", **{"Content-Encoding": "gzip"})
    assert answer.status == 400


async def test_a_body_that_stops_coming_is_cut_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transfers, "BODY_LEAST_BYTES_PER_SECOND", 2 * MIB)
    async with running_world(tmp_path, body_grace_seconds=0.1) as world:
        operator = await world.client(Role.OPERATOR)
        reader, writer = await world.raw(operator.identity)
        head = f"PUT /v1/blobs/{NAME} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
        writer.write(head.encode() + CONTENT[:MIB])
        await writer.drain()
        async with asyncio.timeout(20):
            await reader.read()
        await until(lambda: not world.depot._arriving)
        assert (await missing(operator, NAME))[NAME] >= MIB


async def test_two_send_the_same_at_once(world: World, operator: Client):
    answers = await asyncio.gather(*(put(operator, CONTENT) for _ in range(4)))
    assert {answer.status for answer in answers} <= {200, 201}
    assert world.depot.shelf.read(NAME, 2**30) == CONTENT
    await until(lambda: not world.depot._arriving)
    assert world.depot.shelf.room.used_bytes == len(CONTENT)
    assert world.depot.shelf.room.promised_bytes == 0


# Room


async def test_quota_size_and_disk(tmp_path: Path):
    settings = Settings(blob_quota_bytes=4 * MIB, blob_most_bytes=5 * MIB)
    async with running_world(tmp_path, settings=settings) as world:
        operator = await world.client(Role.OPERATOR)
        await stored(operator, CONTENT)
        full = await put(operator, CONTENT[1:])
        assert (full.status, full.code) == (413, "too_large")
        assert "blob_quota_bytes" in full.json["error"]["hint"]
        many = await operator.post(
            "/v1/blobs", b"".join(frame(name_of(c), c) for c in [b"x" * MIB, b"y" * MIB])
        )
        assert many.status == 413
        too_large = await operator.ask(
            "PUT", f"/v1/blobs/{NAME}", b"", headers={"Content-Range": "bytes */9999999"}
        )
        assert too_large.status == 413
        assert "blob_most_bytes" in too_large.json["error"]["hint"]
        answer = await operator.ask("PATCH", "/v1/settings", {"blob_quota_bytes": "1GiB"})
        assert answer.status == 200, answer.body
        await stored(operator, CONTENT[1:])
        await operator.ask("PATCH", "/v1/settings", {"disk_reserve_bytes": 2**59})
        refused = await put(operator, CONTENT[2:])
        assert (refused.status, refused.code) == (507, "storage_failed")


# Many small ones


async def test_many_small_ones_there_and_back(operator: Client):
    contents = [random.Random(number).randbytes(number % 3000) for number in range(500)]
    names = [name_of(content) for content in contents]
    body = b"".join(frame(name_of(content), content) for content in contents)
    answer = await operator.post("/v1/blobs", body)
    assert (answer.status, answer.json) == (200, {"stored": len(set(names))})
    assert (await operator.post("/v1/blobs", body)).json == {"stored": 0}
    assert await missing(operator, *names) == {}
    await using(operator, *contents)
    reader = Frames()
    found = dict(reader.feed((await operator.post("/v1/blobs/read", {"digests": names})).body))
    reader.end()
    assert found == {name_of(content): content for content in contents}
    lost = await operator.post("/v1/blobs/read", {"digests": [*names, "0" * 64]})
    assert lost.status == 404


async def test_small_ones_that_are_wrong_cut_or_large(operator: Client):
    one = frame(name_of(b"abc"), b"abc")
    assert (await operator.post("/v1/blobs", one[:-1] + b"?")).status == 422
    assert (await operator.post("/v1/blobs", one + one[:-1])).status == 400
    large = b"x" * (MIB + 1)
    assert (await operator.post("/v1/blobs", frame(name_of(large), large))).status == 413
    assert (await operator.post("/v1/blobs", b"")).json == {"stored": 0}
    await stored(operator, large)
    await using(operator, large)
    assert (await operator.post("/v1/blobs/read", {"digests": [name_of(large)]})).status == 413
    assert (await operator.post("/v1/blobs/missing", {"digests": ["0" * 64] * 10_001})).status == 413
    assert (await operator.post("/v1/blobs/missing", {"digests": ["../x"]})).status == 400


# Submits


async def test_a_job_whose_files_are_not_here_is_refused(world: World, operator: Client):
    spec = {"type": "command", "payload": {"argv": ["true"]}}
    contents = [b"file %d" % number for number in range(20)]
    await stored(operator, contents[0])
    files = [staged(f"f{number}", content) for number, content in enumerate(contents)]
    answer = await operator.post("/v1/jobs", {"spec": spec | {"files": files}})
    assert (answer.status, answer.code) == (409, "missing_blobs")
    message = answer.json["error"]["message"]
    assert name_of(contents[1]) in message
    assert name_of(contents[0]) not in message
    assert "and 9 more" in message
    assert world.engine.state.jobs == {}
    assert await world.depot.ledger.used([name_of(contents[0])]) == set()
    own = {"type": "items", "items": ["a", "b"], "files": [None, staged("b", contents[1])]}
    answer = await operator.post("/v1/jobs", {"spec": spec | {"inputs": own}})
    assert answer.code == "missing_blobs"
    wrong = staged("a", contents[0])
    wrong[2] += 1
    answer = await operator.post("/v1/jobs", {"spec": spec | {"files": [wrong]}})
    assert (answer.status, answer.code) == (400, "bad_input")


async def test_what_stands_in_a_folder_is_needed_too(world: World, operator: Client):
    manifest = Manifest((ManifestFile("a/b.txt", name_of(b"inside"), 6),))
    tree = encode_manifest(manifest)
    spec = {"type": "command", "payload": {"argv": ["true"]}, "files": [staged("data", tree, is_tree=True)]}
    assert (await operator.post("/v1/jobs", {"spec": spec})).code == "missing_blobs"
    await stored(operator, tree)
    answer = await operator.post("/v1/jobs", {"spec": spec})
    assert answer.code == "missing_blobs"
    assert name_of(b"inside") in answer.json["error"]["message"]
    await stored(operator, b"inside")
    assert (await operator.post("/v1/jobs", {"spec": spec})).status == 201
    assert await world.depot.ledger.used([name_of(b"inside"), name_of(tree)]) == {
        name_of(b"inside"),
        name_of(tree),
    }


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "a/../../b", "con"])
async def test_a_folder_with_a_name_that_leads_out_is_refused(operator: Client, name: str):
    tree = msgspec.json.encode(Manifest((ManifestFile(name, name_of(b"x"), 1),)))
    await stored(operator, b"x")
    await stored(operator, tree)
    spec = {"type": "command", "payload": {"argv": ["true"]}, "files": [staged("", tree, is_tree=True)]}
    answer = await operator.post("/v1/jobs", {"spec": spec})
    assert (answer.status, answer.code) == (400, "bad_input")


# Agents


class Hand:
    """A node with one attempt in its hands."""

    def __init__(self, world: World, client: Client, job_id: JobId) -> None:
        self.world, self.client, self.job_id = world, client, job_id
        self.task = world.engine.state.jobs[job_id].tasks[0]

    @property
    def query(self) -> str:
        return f"?job={self.job_id}&index=0&attempt={self.task.attempt}"

    async def end(self, made: Made | None = None) -> None:
        result = TaskResult(self.job_id, 0, self.task.attempt, Outcome.OK, 0, made=made)
        node = self.task.node_id
        await self.world.engine.do(lambda state, now: reactor.on_task_ended(state, node, result, now))


async def hand(world: World, name: str, operator: Client, **spec: Any) -> Hand:
    """A new node and a new job that runs there."""
    from builders import hello

    client = world.open(await world.member(Role.AGENT))
    record = Node(id=client.id, name=name, created_at=1.0)
    await world.engine.do(lambda state, now: nodes.on_node_enrolled(state, record, now))
    joining = nodes.Joining(record.id, 1, hello(cpus=4))
    await world.engine.do(lambda state, now: nodes.on_node_joined(state, joining, "home", now))
    job_id = await operator.submit(node=client.id, **spec)
    await until(lambda: world.engine.state.jobs[job_id].tasks)
    return Hand(world, client, job_id)


async def test_an_agent_reads_what_its_attempt_was_given_and_nothing_else(world: World, operator: Client):
    tree = encode_manifest(Manifest((ManifestFile("x", name_of(b"inside"), 6),)))
    for content in (CONTENT, tree, b"inside", b"secret", b"own", b"other"):
        await stored(operator, content)
    await using(operator, b"secret")
    files = [staged("f", CONTENT), staged("t", tree, is_tree=True)]
    inputs = {"type": "items", "items": ["a", "b"], "files": [staged("a", b"own"), staged("b", b"other")]}
    desk = await hand(world, "desk", operator, files=files, inputs=inputs, max_running=1)
    for content in (CONTENT, tree, b"inside", b"own"):
        answer = await desk.client.get(f"/v1/blobs/{name_of(content)}{desk.query}")
        assert (answer.status, answer.body) == (200, content)
    names = [name_of(b"inside"), name_of(b"own")]
    both = await desk.client.post(f"/v1/blobs/read{desk.query}", {"digests": names})
    assert dict(Frames().feed(both.body)) == {name_of(b"inside"): b"inside", name_of(b"own"): b"own"}
    for content in (b"secret", b"other", b"nowhere"):
        refused = await desk.client.get(f"/v1/blobs/{name_of(content)}{desk.query}")
        assert (refused.status, refused.code) == (403, "not_allowed"), content
        many = await desk.client.post(
            f"/v1/blobs/read{desk.query}", {"digests": [names[0], name_of(content)]}
        )
        assert many.status == 403
    assert (await desk.client.get(f"/v1/blobs/{NAME}")).status == 400


async def test_other_nodes_and_old_attempts_get_nothing(world: World, operator: Client):
    await stored(operator, CONTENT)
    files = [staged("f", CONTENT)]
    desk = await hand(world, "desk", operator, files=files, outputs=["*"])
    shelf = await hand(world, "shelf", operator)
    old = desk.query.replace("attempt=1", "attempt=0")
    for client, query in ((shelf.client, desk.query), (desk.client, old), (desk.client, shelf.query)):
        for method, path, body in (
            ("GET", f"/v1/blobs/{NAME}", None),
            ("PUT", f"/v1/blobs/{name_of(b'new')}", b"new"),
            ("POST", "/v1/blobs", frame(name_of(b"new"), b"new")),
            ("POST", "/v1/blobs/missing", {"digests": [NAME]}),
            ("POST", "/v1/blobs/read", {"digests": [NAME]}),
        ):
            answer = await client.ask(method, path + query, body)
            assert (answer.status, answer.code) == (409, "conflict"), (method, path)
    await desk.end()
    assert (await desk.client.get(f"/v1/blobs/{NAME}{desk.query}")).status == 409
    assert not world.depot.shelf.has(name_of(b"new"))


async def test_what_an_attempt_brings_is_its_jobs(world: World, operator: Client, viewer: Client):
    desk = await hand(world, "desk", operator, outputs=["*"])
    tree = encode_manifest(Manifest((ManifestFile("x", name_of(b"made"), 4),)))
    await stored(operator, b"there before")
    names = [name_of(each) for each in (b"made", b"there before")]
    assert await missing(desk.client, *names, query=desk.query) == {names[0]: 0}
    assert await world.depot.ledger.used(names) == {names[1]}
    assert (await desk.client.post(f"/v1/blobs{desk.query}", frame(names[0], b"made"))).status == 200
    await stored(desk.client, tree, desk.query)
    assert await world.depot.ledger.used(names) == set(names)
    await desk.end(Made(name_of(tree), 1, 4))
    answer = await viewer.get(f"/v1/jobs/{desk.job_id}/files")
    assert [msgspec.json.decode(line) for line in answer.body.split(b"\n") if line] == [
        {"index": 0, "manifest": name_of(tree), "count": 1, "bytes": 4}
    ]
    assert (await viewer.get(f"/v1/blobs/{names[0]}")).body == b"made"


async def test_a_job_brings_no_more_than_one_may(tmp_path: Path):
    settings = Settings(job_files_most_bytes=1_000_000)
    async with running_world(tmp_path, settings=settings) as world:
        operator = await world.client(Role.OPERATOR)
        desk = await hand(world, "desk", operator, outputs=["*"])
        first, second = b"1" * 600_000, b"2" * 500_000
        assert (await put(desk.client, first, desk.query)).status == 201
        assert (await put(desk.client, first, desk.query)).status == 200
        for answer in (
            await put(desk.client, second, desk.query),
            await desk.client.post(f"/v1/blobs{desk.query}", frame(name_of(second), second)),
        ):
            assert (answer.status, answer.code) == (413, "too_large")
            assert "job_files_most_bytes" in answer.json["error"]["message"]
        assert not world.depot.shelf.has(name_of(second))
        # What is here already counts too: it stays for the job.
        await stored(operator, second)
        answer = await desk.client.post(f"/v1/blobs/missing{desk.query}", {"digests": [name_of(second)]})
        assert (answer.status, answer.code) == (413, "too_large")
        assert await world.depot.ledger.used([name_of(second)]) == set()
        # One that broke off counts until it is swept, and not twice when it goes on.
        half = b"3" * 300_000
        path = f"/v1/blobs/{name_of(half)}{desk.query}"
        span = {"Content-Range": "bytes 0-99/300000"}
        answer = await desk.client.ask("PUT", path, half[:100], headers=span)
        assert answer.status == 202
        assert (await put(desk.client, b"4" * 200_000, desk.query)).status == 413
        await world.depot.sweep()
        assert (await put(desk.client, b"4" * 200_000, desk.query)).status == 413
        span = {"Content-Range": "bytes 100-299999/300000"}
        answer = await desk.client.ask("PUT", path, half[100:], headers=span)
        assert answer.status == 201
        assert (await put(desk.client, b"4" * 100_000, desk.query)).status == 201
        assert (await put(operator, b"5" * 200_000)).status == 201


async def test_a_job_that_asked_for_nothing_gets_nothing(world: World, operator: Client):
    desk = await hand(world, "desk", operator)
    answer = await put(desk.client, b"unasked", desk.query)
    assert (answer.status, answer.code) == (403, "not_allowed")
    assert (await operator.get(f"/v1/jobs/{desk.job_id}/files")).body.strip() == b""


# What goes


async def test_the_sweep_takes_what_no_job_uses(world: World, operator: Client):
    for content in (b"used", b"unused"):
        await stored(operator, content)
    await using(operator, b"used")
    await world.depot.sweep()
    assert await missing(operator, name_of(b"unused")) == {}
    world.depot._settings = lambda: Settings(blob_grace_seconds=-1)
    await world.depot.sweep()
    assert not world.depot.shelf.has(name_of(b"unused"))
    assert world.depot.shelf.has(name_of(b"used"))
    assert (await missing(operator, name_of(b"unused"), name_of(b"used"))).keys() == {name_of(b"unused")}


async def test_files_go_some_time_after_their_job(world: World, operator: Client):
    desk = await hand(world, "desk", operator, outputs=["*"])
    await stored(desk.client, b"made", desk.query)
    await desk.end()
    world.depot._settings = lambda: Settings(blob_grace_seconds=-1)
    await world.depot.sweep()
    assert world.depot.shelf.has(name_of(b"made"))
    await world.engine.store.sweep(2e10, world.engine.settings)
    await world.depot.sweep()
    assert not world.depot.shelf.has(name_of(b"made"))


async def test_files_without_a_row_are_found_at_the_start(world: World, operator: Client):
    world.depot.shelf.put_bytes(b"stray")
    assert await world.depot.ledger.sizes_of([name_of(b"stray")]) == {}
    await world.depot.enter_strays()
    assert await world.depot.ledger.sizes_of([name_of(b"stray")]) == {name_of(b"stray"): 5}


async def test_a_row_without_its_file_does_not_promise_it(world: World, operator: Client):
    await stored(operator, b"lost")
    world.depot.shelf.remove(name_of(b"lost"))
    assert await missing(operator, name_of(b"lost")) == {name_of(b"lost"): 0}
    assert (await put(operator, b"lost")).status == 201


@profile(max_examples=20)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_header_is_answered_in_words(span: str, wanted: str):
    """Whatever stands in the two headers, it is read or refused."""
    from types import SimpleNamespace

    from planetmesh.coordinator.api.transfers import Span, range_of, span_of
    from planetmesh.errors import BadInput

    request = SimpleNamespace(headers={"Content-Range": span, "Range": wanted}, content_length=None)
    call = SimpleNamespace(request=request, text=lambda _name: None)
    for read in (lambda: span_of(call), lambda: range_of(call, 100)):
        with suppress(BadInput):
            assert read() is None or isinstance(read(), tuple | Span)
