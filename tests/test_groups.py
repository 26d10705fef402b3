"""What asyncio's own group leaves behind before Python 3.13, and ours does not."""

from __future__ import annotations

import asyncio

import pytest

from planetmesh.groups import TaskGroup, begin_in


async def fail_soon() -> None:
    await asyncio.sleep(0)
    raise ValueError("soon")


async def meet_a_failure(body_seconds: float) -> None:
    async with TaskGroup() as group:
        group.create_task(fail_soon())
        if body_seconds:
            await asyncio.sleep(body_seconds)


async def fail_in_the_block() -> None:
    async with TaskGroup() as group:
        group.create_task(asyncio.sleep(5))
        raise ValueError("here")


@pytest.mark.parametrize("body_seconds", [0.0, 5.0])
async def test_who_catches_a_groups_errors_can_still_wait_with_a_limit(body_seconds):
    with pytest.raises(ExceptionGroup) as caught:
        await meet_a_failure(body_seconds)
    assert caught.group_contains(ValueError)
    assert asyncio.current_task().cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()


async def test_a_cancellation_from_outside_still_counts():
    async with TaskGroup() as outer:

        async def inner() -> None:
            async with TaskGroup() as group:
                group.create_task(asyncio.sleep(5))

        task = outer.create_task(inner())
        await asyncio.sleep(0.01)
        task.cancel()
    assert task.cancelled()


async def test_an_error_of_the_block_itself_comes_out():
    with pytest.raises(ExceptionGroup) as caught:
        await fail_in_the_block()
    assert caught.group_contains(ValueError)
    assert asyncio.current_task().cancelling() == 0


async def begin_too_late(begun: list[bool]) -> None:
    async with TaskGroup() as group:
        group.create_task(begin_at_the_end(group, begun))
        await asyncio.sleep(0)
        raise ValueError("here")


async def begin_at_the_end(group: asyncio.TaskGroup, begun: list[bool]) -> None:
    try:
        await asyncio.sleep(5)
    finally:
        begun.append(begin_in(group, fail_soon()))


async def test_nothing_begins_in_a_group_that_ends():
    async with TaskGroup() as group:
        assert begin_in(group, asyncio.sleep(0))
    begun: list[bool] = []
    with pytest.raises(ExceptionGroup) as caught:
        await begin_too_late(begun)
    assert begun == [False]
    assert len(caught.value.exceptions) == 1
