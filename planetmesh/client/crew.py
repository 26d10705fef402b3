"""Several workers through one list of jobs: the first failure ends all of them, and is raised as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar

from planetmesh.errors import MeshError
from planetmesh.groups import TaskGroup

WORKERS = 4
"""One alone waits for the other side's disk now and then; more than a few only divide the same line."""

T = TypeVar("T")


async def in_parallel(
    work: Callable[[T], Awaitable[None]], jobs: Iterable[T], *, workers: int = WORKERS
) -> None:
    """Do `work` with each of the jobs, a few at a time, begun in their order."""
    left = iter(jobs)
    async with one_error(), TaskGroup() as group:
        for _ in range(workers):
            group.create_task(_take(work, left))


async def _take(work: Callable[[T], Awaitable[None]], left: Iterator[T]) -> None:
    for job in left:
        await work(job)


@asynccontextmanager
async def one_error() -> AsyncIterator[None]:
    """Raise what a group of errors comes down to: a sentence of ours, if there is one."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise _cause(group) from group


def _cause(error: BaseException) -> BaseException:
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [_cause(each) for each in error.exceptions]
    return next((cause for cause in causes if isinstance(cause, MeshError)), causes[0])
