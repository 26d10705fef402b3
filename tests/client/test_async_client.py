"""AsyncMesh against a real TLS server: answers, repeats, refusals, latency's preconditions."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from api_double import Does, Double

from planetmesh.client.async_client import AsyncMesh
from planetmesh.errors import BadInput, Conflict, NotAllowed, NotFound, TooLarge, Unreachable
from planetmesh.model.identity import Role
from planetmesh.model.job import Items, JobSpec, JobState, TaskState
from planetmesh.paths import Home
from planetmesh.trust.authority import PROFILES, Profile
from planetmesh.trust.identity import Identity
from planetmesh.wire.api import ChangeNode

NOOP = JobSpec(type="command", payload={"argv": ["true"]})


def many(count: int) -> JobSpec:
    return JobSpec(
        type="command", payload={"argv": ["echo"]}, inputs=Items(tuple(str(n) for n in range(count)))
    )


async def test_submit_and_wait_is_one_round_trip_on_one_connection(double: Double, home: Home) -> None:
    async with AsyncMesh(home.root) as mesh:
        for _ in range(3):
            handle = await mesh.submit(NOOP, wait_seconds=5)
            assert handle.ended
            assert (await handle.wait()).status == JobState.COMPLETED
    assert double.requests == [("POST", "/v1/jobs")] * 3
    assert len(double.connections) == 1


@pytest.mark.parametrize("fate", ["before", "after"])
async def test_a_submit_whose_answer_is_lost_is_repeated_and_makes_one_job(double, home, fate) -> None:
    async with AsyncMesh(home.root) as mesh:
        await mesh.status()
        double.breaks = [fate]
        handle = await mesh.submit(NOOP)
    assert list(double.jobs) == [handle.id]
    assert double.requests.count(("POST", "/v1/jobs")) == 2


async def test_waiting_goes_on_through_a_restart_and_says_so_once(double: Double, home: Home) -> None:
    double.plan = lambda _spec, _index: Does(seconds=0.3)
    told = []
    async with AsyncMesh(home.root, on_wait=told.append) as mesh:
        handle = await mesh.submit(NOOP)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(handle.wait())
            await asyncio.sleep(0.05)
            await double.stop()
            await asyncio.sleep(0.3)
            await double.start()
        assert waiting.result().status == JobState.COMPLETED
    assert len(told) == 1
    assert isinstance(told[0], Unreachable)


async def test_output_goes_on_behind_the_last_piece_after_a_restart(double: Double, home: Home) -> None:
    double.plan = lambda _spec, _index: Does(pieces=((1, b"one"), (1, b"two")), seconds=0.25)
    async with AsyncMesh(home.root) as mesh:
        handle = await mesh.submit(many(2))
        seen = []
        async for piece in handle.output():
            seen.append((piece.index, piece.data))
            if len(seen) == 1:
                await double.stop()
                await double.start()
    assert seen == [(0, b"one"), (0, b"two"), (1, b"one"), (1, b"two")]


async def test_a_coordinator_never_reached_is_reported_at_once(double: Double, home: Home) -> None:
    await double.stop()
    async with AsyncMesh(home.root) as mesh:
        with pytest.raises(Unreachable, match="refused") as caught:
            async with asyncio.timeout(20):
                await mesh.status()
    assert "planetmesh up" in caught.value.hint


async def test_patience_ends(double: Double, home: Home) -> None:
    async with AsyncMesh(home.root, patience_seconds=0.2) as mesh:
        await mesh.status()
        await double.stop()
        with pytest.raises(Unreachable):
            async with asyncio.timeout(20):
                await mesh.status()


async def test_opening_a_pairing_is_never_repeated_after_it_was_sent(double: Double, home: Home) -> None:
    async with AsyncMesh(home.root) as mesh:
        await mesh.status()
        double.breaks = ["after"]
        with pytest.raises(Unreachable, match="lost"):
            await mesh.open_pairing()
    assert double.requests.count(("POST", "/v1/pair")) == 1


async def test_the_finder_leads_to_a_coordinator_that_moved(double: Double, home: Home) -> None:
    await double.stop()
    double.port = 0
    await double.start()
    asked = []

    async def find(mesh_id: str) -> list[str]:
        asked.append(mesh_id)
        return ["127.0.0.1:1", f"127.0.0.1:{double.port}"]

    async with AsyncMesh(home.root, finder=find) as mesh:
        await mesh.status()
        await mesh.status()
    assert asked == [double.mesh_id]
    assert Identity.load(home.operator).membership.endpoints[0] == f"127.0.0.1:{double.port}"


async def test_another_mesh_at_our_address_is_refused_before_anything_is_said(double, home, tmp_path) -> None:
    await double.stop()
    other = Double(tmp_path / "other", fresh=True)
    other.port = double.port
    await other.start()
    try:
        async with AsyncMesh(home.root) as mesh:
            with pytest.raises(NotAllowed):
                await mesh.status()
    finally:
        await other.close()
    assert other.requests == []


async def test_a_certificate_of_another_mesh_is_told_so(double: Double, home: Home, tmp_path) -> None:
    """The server refuses the client: with TLS 1.3 that shows at the first read, as a hang-up."""
    stranger = Double(tmp_path / "stranger", fresh=True)
    there = Home(tmp_path / "there")
    there.prepare()
    stranger.port = double.port
    stranger.operator(there)
    # It trusts our coordinator, but its own certificate is of another authority.
    (there.operator / "ca.pem").write_bytes(double.authority.ca_pem + stranger.authority.ca_pem)
    identity = Identity.load(there.operator)
    identity.membership = double.server.membership
    from planetmesh.client.calls import Caller
    from planetmesh.client.connect import Call, Link

    link = Link(identity)
    link._endpoints = [f"127.0.0.1:{double.port}"]
    with pytest.raises(NotAllowed, match="does not accept this certificate"):
        await Caller(link).ask(Call("GET", "/v1/status"), object)
    await link.close()


async def test_no_identity_says_how_to_get_one(home: Home) -> None:
    with pytest.raises(NotAllowed) as caught:
        async with AsyncMesh(home.root):
            pass
    assert "planetmesh up" in caught.value.hint


async def test_errors_of_the_coordinator_keep_their_class(double: Double, home: Home) -> None:
    async with AsyncMesh(home.root) as mesh:
        with pytest.raises(NotFound, match="There is no job zzz"):
            await mesh.job("zzz")
        with pytest.raises(Conflict, match="HEALTHY"):
            await mesh.forget_node("desk")
        with pytest.raises(BadInput):
            await mesh.job(" ")


async def test_a_job_too_large_for_the_coordinator_is_not_sent(double: Double, home: Home) -> None:
    huge = JobSpec(type="command", payload={"argv": ["x"]}, inputs=Items(("x" * 10_000,) * 7000))
    async with AsyncMesh(home.root) as mesh:
        with pytest.raises(TooLarge, match="67108864"):
            await mesh.submit(huge)
    assert double.requests == []


async def test_pages_are_joined(double: Double, home: Home, monkeypatch) -> None:
    monkeypatch.setattr("planetmesh.client.async_client.PAGE_TASKS", 3)
    monkeypatch.setattr("planetmesh.client.async_client.PAGE_JOBS", 2)
    async with AsyncMesh(home.root) as mesh:
        handle = await mesh.submit(many(8), wait_seconds=5)
        assert [task.index async for task in handle.tasks()] == list(range(8))
        assert [task.index async for task in mesh.tasks(handle.id, status=TaskState.FAILED)] == []
        ids = [(await mesh.submit(NOOP)).id for _ in range(4)]
        assert [job.id for job in await mesh.jobs(limit=3)] == list(reversed(ids))[:3]
        assert len(await mesh.jobs(limit=50)) == 5


async def test_node_changes_travel(double: Double, home: Home) -> None:
    async with AsyncMesh(home.root) as mesh:
        assert (await mesh.change_node("desk", ChangeNode(draining=True))).draining
        assert (await mesh.change_node("de", ChangeNode(tags=("a", "b")))).tags == ("a", "b")


async def test_an_operator_certificate_renews_itself_in_the_second_half_of_its_life(
    double: Double, home: Home, monkeypatch
) -> None:
    monkeypatch.setitem(PROFILES, "operator", Profile(PROFILES["operator"].usage, timedelta(days=3)))
    import shutil

    shutil.rmtree(home.operator)
    double.member(home.operator, Role.OPERATOR)
    monkeypatch.undo()
    before = Identity.load(home.operator).principal
    async with AsyncMesh(home.root) as mesh:
        await mesh.status()
        await mesh.status()
    after = Identity.load(home.operator).principal
    assert after.serial != before.serial
    assert after.not_after > before.not_after
    assert after.id == before.id
    assert double.requests.count(("POST", "/v1/certs/renew")) == 1


async def test_a_fresh_certificate_is_left_alone(double: Double, home: Home) -> None:
    async with AsyncMesh(home.root) as mesh:
        await mesh.status()
    assert double.requests == [("GET", "/v1/status")]


async def test_a_hang_up_by_a_coordinator_that_ends_is_no_refusal(double: Double, home: Home) -> None:
    async with AsyncMesh(home.root) as mesh:
        await mesh.status()
        await double.stop()
        hung_up = asyncio.Event()

        def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()
            hung_up.set()

        dying = await asyncio.start_server(hang_up, "127.0.0.1", double.port)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(mesh.status())
            await hung_up.wait()
            dying.close()
            await dying.wait_closed()
            await double.start()
        assert asking.result().mesh_id == double.mesh_id
