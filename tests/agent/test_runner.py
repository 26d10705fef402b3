"""The runner in a group that something else has ended."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest

from planetmesh.agent.runner import Runner
from planetmesh.agent.warm import Surroundings
from planetmesh.groups import TaskGroup
from planetmesh.model.ids import JobId
from planetmesh.model.job import Limits
from planetmesh.model.resources import Resources
from planetmesh.wire.agent import AssignTask, OpenJob

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux' so far")

JOB = JobId("aaaaaaaaaa")


class Nobody:
    """Neither a zygote nor a listener: none of them may be asked for anything any more."""


async def start_at_the_end(runner: Runner) -> None:
    opened = OpenJob(JOB, "command", {"argv": ["true"]}, Resources(1000, 0, 0), {}, Limits())
    try:
        await asyncio.sleep(5)
    finally:
        runner.start(opened, [(AssignTask(JOB, 0, 1), ())], 1)
        runner.warm.open_ahead()
        async with asyncio.timeout(3):
            await runner.close_all()


async def run_and_fail(folder) -> None:
    async with TaskGroup() as group:
        runner = Runner(Nobody(), Surroundings(folder, ()), Nobody(), group)
        group.create_task(start_at_the_end(runner))
        await asyncio.sleep(0)
        raise ValueError("here")


async def test_what_is_asked_of_an_agent_that_ends_does_nothing(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    with pytest.raises(ExceptionGroup) as caught:
        await run_and_fail(tmp_path)
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    assert not list(tmp_path.iterdir())
    assert not caplog.records
