"""Calls against a real coordinator (nodes are spoken for): what comes while the way is cut is not lost."""

from __future__ import annotations

import asyncio
import platform
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cutting_proxy import UP, CuttingProxy

sys.path.insert(0, str(Path(__file__).parents[1] / "coordinator"))

from api_world import World, running_world, until

from planetmesh.client import call_desk, input_line
from planetmesh.client.async_client import AsyncMesh
from planetmesh.client.handles import JobHandle
from planetmesh.client.remote_call import CallsWait, RemoteCall
from planetmesh.errors import CallFailed
from planetmesh.model.identity import Role
from planetmesh.model.ids import JobId
from planetmesh.model.job import JobSpec, Outcome
from planetmesh.store.outputs import FreshValues
from planetmesh.trust.identity import Identity
from planetmesh.wire.python import tag_of

REFUSED = [(UP, 0)] * 1000


@asynccontextmanager
async def connected(folder: Path) -> AsyncIterator[tuple[World, CuttingProxy, AsyncMesh]]:
    """A mesh with a node for calls, and somebody who reaches it over a way that can be cut."""
    async with running_world(folder) as world, CuttingProxy(world.port) as proxy:
        tag = tag_of(platform.python_version())
        await world.add_node("desk", job_types=("command", "python"), tags=(tag, "python"))
        identity = await world.member(Role.OPERATOR)
        home = folder / "home of a person"
        home.mkdir()
        identity.folder.rename(home / "operator")
        moved = Identity.load(home / "operator")
        moved.remember_endpoint(f"127.0.0.1:{proxy.port}")
        async with AsyncMesh(home) as mesh:
            yield world, proxy, mesh


async def the_job(world: World) -> JobId:
    await until(lambda: any(live.counts.assigned for live in world.engine.state.jobs.values()))
    return next(iter(world.engine.state.jobs))


async def emit(world: World, job_id: JobId, text: str, *, offset: int = 0) -> None:
    await world.write(job_id, 0, text.encode(), offset=offset, stream=3)


async def test_a_value_that_comes_while_nobody_listens_is_not_lost(tmp_path: Path):
    async with connected(tmp_path) as (world, proxy, mesh):
        calls = mesh.using(chunk=2).map(abs, [-1, -2])
        job_id = await the_job(world)
        proxy.cuts = list(REFUSED)
        proxy.drop()
        await emit(world, job_id, '{"n":0,"v":1}\n{"n":1,"v":2}\n')
        await world.finish(job_id)
        assert job_id not in world.engine.state.jobs
        proxy.cuts = []
        assert await mesh.gather(calls) == [1, 2]


async def test_nor_one_of_which_the_first_half_was_heard(tmp_path: Path):
    async with connected(tmp_path) as (world, proxy, mesh):
        calls = mesh.using(chunk=3).map(abs, [-1, -2, -3])
        job_id = await the_job(world)
        first = '{"n":0,"v":1}\n{"n":1,'
        await emit(world, job_id, first)
        assert await calls[0] == 1
        proxy.cuts = list(REFUSED)
        proxy.drop()
        await emit(world, job_id, '"v":2}\n', offset=len(first))
        await world.finish(job_id, outcome=Outcome.EXIT_CODE)
        await world.engine.do(lambda state, now: [])
        proxy.cuts = []
        assert await calls[1] == 2


async def test_nor_one_of_a_job_that_was_over_before_its_answer_came(tmp_path: Path):
    """The first answer was lost on the way, and the values are slow to come."""
    async with connected(tmp_path) as (world, _proxy, mesh):
        real, values, go_on = mesh.submit, world.engine.outputs.values, asyncio.Event()

        async def submit(spec: JobSpec) -> JobHandle:
            await real(spec, key="k")
            job_id = await the_job(world)
            await emit(world, job_id, '{"n":0,"v":1}\n{"n":1,"v":2}\n')
            await world.finish(job_id)
            return await real(spec, key="k")

        async def slow(*place: int) -> object:
            await go_on.wait()
            return await values(*place)

        mesh.submit, world.engine.outputs.values = submit, slow
        assert await mesh.gather(mesh.using(chunk=2).map(abs, [-1, -2])) == [1, 2]
        go_on.set()


async def test_nor_one_that_was_not_told_before_the_end_of_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(FreshValues, "take", lambda _self: [])
    async with connected(tmp_path) as (world, _proxy, mesh):
        calls = mesh.using(chunk=2).map(abs, [-1, -2])
        job_id = await the_job(world)
        await until(lambda: calls[0].running())
        await emit(world, job_id, '{"n":0,"v":1}\n{"n":1,"v":2}\n')
        await world.finish(job_id)
        assert await mesh.gather(calls) == [1, 2]


async def test_the_end_of_a_job_that_came_before_its_answer_is_not_lost(tmp_path: Path):
    async with connected(tmp_path) as (world, proxy, mesh):
        real = mesh.submit

        async def submit(spec: JobSpec) -> JobHandle:
            handle = await real(spec)
            job_id, gaps = await the_job(world), mesh.call_desk()._gaps
            proxy.drop()
            await world.finish(job_id, outcome=Outcome.EXIT_CODE)
            await until(lambda: mesh.call_desk()._gaps > gaps)
            return handle

        mesh.submit = submit
        call, _ = mesh.using(chunk=2).map(abs, [-1, -2])
        with pytest.raises(CallFailed, match="Exit status 3"):
            async with asyncio.timeout(20):
                await call


async def test_calls_cancelled_before_their_answer_came_leave_no_job(tmp_path: Path):
    """Also where the stream of values was cut meanwhile."""
    async with connected(tmp_path) as (world, proxy, mesh):
        real = mesh.submit

        async def submit(spec: JobSpec) -> JobHandle:
            handle = await real(spec)
            gaps = mesh.call_desk()._gaps
            calls.cancel()
            proxy.drop()
            await until(lambda: mesh.call_desk()._gaps > gaps)
            return handle

        mesh.submit = submit
        calls = mesh.using(chunk=2).map(abs, [-1, -2])
        await the_job(world)
        await until(lambda: not world.engine.state.jobs)


async def test_a_call_made_as_the_one_before_it_failed_has_a_job_of_its_own(tmp_path: Path):
    async with connected(tmp_path) as (world, _proxy, mesh):
        call = mesh.submit(abs, -1)
        following: list[RemoteCall[int]] = []
        call.add_done_callback(lambda _call: following.append(mesh.submit(abs, -2)))
        first = await the_job(world)
        await world.finish(first, outcome=Outcome.EXIT_CODE)
        with pytest.raises(CallFailed, match="Exit status 3"):
            await call
        second = await the_job(world)
        assert second != first
        await emit(world, second, '{"n":0,"v":2}\n')
        assert await following[0] == 2


async def test_a_call_that_no_machine_can_run_says_so_and_waits(tmp_path: Path):
    async with connected(tmp_path) as (world, _proxy, mesh):
        call = mesh.using(tags=("moon",)).submit(abs, -1)
        with pytest.warns(
            CallsWait, match="abs: No machine known to this mesh .* desk: it lacks the tag moon"
        ):
            await until(call.running)
        assert not call.done()
        call.cancel()
        await until(lambda: not world.engine.state.jobs)


async def test_where_warnings_are_errors_such_a_call_fails_and_leaves_nothing(tmp_path: Path):
    async with connected(tmp_path) as (world, _proxy, mesh):
        with pytest.raises(CallsWait, match="lacks the tag moon"):
            await mesh.using(tags=("moon",)).submit(abs, -1)
        await until(lambda: not world.engine.state.jobs)


async def test_closing_waits_for_what_is_being_handed_in_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(call_desk, "PARTING_SECONDS", 1000.0)
    async with connected(tmp_path) as (world, _proxy, mesh):
        real, desk = mesh.submit, mesh.call_desk()

        async def submit(spec: JobSpec) -> JobHandle:
            handle = await real(spec)
            await until(lambda: desk._is_closing and not desk._news.is_set())
            return handle

        mesh.submit = submit
        mesh.using(chunk=2).map(abs, [-1, -2])
        await the_job(world)
        async with asyncio.timeout(30):
            await mesh.close()


async def test_calls_behind_one_that_killed_its_process_go_out_once_more(tmp_path: Path):
    """Twice in bad company; the third time each has a task of its own."""
    async with connected(tmp_path) as (world, _proxy, mesh):
        calls = mesh.using(chunk=4).map(abs, [0, -1, -2, -3])
        for guilty in (1, 2):
            job_id = await the_job(world)
            await emit(world, job_id, '{"n":0,"v":0}\n' if guilty == 1 else "")
            await world.finish(job_id, outcome=Outcome.SIGNAL)
            await until(calls[guilty].done)
            assert "Exit status 3" in str(calls[guilty].exception(0))
        assert calls[0].result(0) == 0
        job_id = await the_job(world)
        await emit(world, job_id, '{"n":0,"v":3}\n')
        await world.finish(job_id)
        assert await calls[3] == 3
        assert calls[3].options.chunk == 1
        assert calls[0].options.chunk == 4


async def test_large_arguments_are_with_the_coordinator_before_their_job(tmp_path: Path):
    """And are sent once more if it has removed them in between."""
    async with connected(tmp_path) as (world, _proxy, mesh):
        sent: list[list[int]] = []
        real = mesh.send_blobs

        async def send(blobs):
            blobs = list(blobs)
            sent.append([blob.size for blob in blobs])
            if len(sent) > 1:
                await real(blobs)

        mesh.send_blobs = send
        large = b"x" * 2_000_000
        calls = mesh.using(chunk=2).map(len, [large, large, b"small"])
        job_id = await the_job(world)
        assert len(sent) == 2
        assert sent[0] == sent[1]
        assert sum(size > 1_000_000 for size in sent[0]) == 1
        spec = world.engine.state.jobs[job_id].job.spec
        own = spec.inputs.files
        assert own[0] == own[1]
        assert (own[0].is_tree, own[2]) == (True, None)
        assert all(len(item) < 1000 for item in spec.inputs.items)
        # Let go of once they are there.
        await until(lambda: not any(call.arguments.parcel.blobs for call in calls[:2]))
        calls.cancel()


class Shared(deque[Any]):
    """As if another thread always put something in just now."""

    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("deque mutated during iteration")


async def test_calls_that_other_threads_put_in_meanwhile_break_nothing(tmp_path: Path):
    async with connected(tmp_path) as (world, _proxy, mesh):
        desk = mesh.call_desk()
        desk._waiting = Shared()
        first = mesh.submit(abs, -1)
        await emit(world, await the_job(world), '{"n":0,"v":1}\n')
        assert await first == 1
        left = [mesh.submit(abs, -number) for number in range(100)]
        await mesh.close()
        assert all(call.cancelled() for call in left)


async def answer_calls(world: World, made: int) -> None:
    """As a node would: the value of each call is the number of its input."""
    for number in range(made):
        await until(
            lambda number=number: any(number in each.tasks for each in world.engine.state.jobs.values())
        )
        (job_id,) = world.engine.state.jobs
        await world.write(job_id, number, b'{"n":0,"v":%d}\n' % number, stream=3)
        await world.finish(job_id, number)


@pytest.mark.parametrize("fate", ["whole", "cut", "none"])
async def test_one_call_after_the_other_goes_by_a_websocket_if_there_is_one(
    tmp_path: Path, fate: str, monkeypatch: pytest.MonkeyPatch
):
    """Cut off, or where there is none, they go by requests, and none is lost or made twice."""
    monkeypatch.setattr(input_line, "PATH", "/v1/nothing" if fate == "none" else input_line.PATH)
    async with connected(tmp_path) as (world, proxy, mesh):
        asked: list[int] = []
        add_inputs = mesh.add_inputs

        async def noted(job: str, items: tuple[str, ...], first: int) -> None:
            asked.append(first)
            await add_inputs(job, items, first)

        monkeypatch.setattr(mesh, "add_inputs", noted)
        node = asyncio.create_task(answer_calls(world, 9))  # noqa: TID251  awaited below
        for number in range(9):
            if number == 6 and fate == "cut":
                # The value may come before the word that its inputs were taken.
                await until(lambda: not mesh.call_desk()._line._turn.locked())
                proxy.drop()
            assert await mesh.submit(abs, -number) == number
        await node
        (live,) = world.engine.state.jobs.values()
        assert live.job.spec.inputs.count == 9
        assert asked == {"whole": [1, 2, 3], "cut": [1, 2, 3, 6, 7, 8], "none": list(range(1, 9))}[fate]


async def test_many_arguments_at_once_go_by_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(input_line, "REQUESTS_FIRST", 0)
    async with connected(tmp_path) as (world, _proxy, mesh):
        node = asyncio.create_task(answer_calls(world, 2))  # noqa: TID251  awaited below
        assert await mesh.submit(str, "short") == 0
        assert await mesh.submit(str, "x" * input_line.MESSAGE_MOST_BYTES) == 1
        await node
