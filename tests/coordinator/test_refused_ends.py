"""A real agent's link and outbox against a whole coordinator that cannot read one of its messages.

The agent is of a newer version here: what it keeps and sends is fine by its own rules.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from builders import info
from test_agent_abuse import Agent, Mesh, mesh

from planetmesh.agent import aside as aside_module
from planetmesh.agent import outbox as outbox_module
from planetmesh.agent import reconnect
from planetmesh.agent.aside import Aside
from planetmesh.agent.link import Link
from planetmesh.agent.outbox import Outbox
from planetmesh.agent.reconnect import Reconnector
from planetmesh.mesh import reactor
from planetmesh.mesh.state import check
from planetmesh.model.job import Outcome, TaskState
from planetmesh.model.node import NodeLoad
from planetmesh.settings import Settings
from planetmesh.wire.agent import (
    AssignTask,
    Heartbeat,
    Held,
    RegisterNode,
    TaskOutput,
    TaskResult,
    TaskReturned,
)
from planetmesh.wire.codec import PROTOCOL

__all__ = ["mesh"]


class NewerResult(msgspec.Struct, frozen=True, array_like=True, tag="result"):
    """Knows ends that this coordinator does not."""

    job_id: str
    index: int
    attempt: int
    outcome: str
    exit_code: int | None = None
    error: str = ""


@pytest.fixture
def newer(monkeypatch):
    decode = msgspec.msgpack.Decoder(NewerResult | TaskOutput | TaskReturned).decode
    for module in (aside_module, outbox_module):
        monkeypatch.setattr(module, "decode_durable", decode)
    monkeypatch.setattr(reconnect, "BACK_OFF_FIRST_SECONDS", 0.02)


class Side:
    """An agent without its tasks: what it is given it notes, what it says the test puts in."""

    def __init__(self, mesh: Mesh, agent: Agent, folder: Any) -> None:
        self.mesh = mesh
        self.agent = agent
        self.tasks: list[AssignTask] = []
        self.outbox = Outbox(folder / "outbox", aside=Aside(folder / "refused"))
        self.link = Link(agent.identity, self.outbox, self, Settings(heartbeat_seconds=0.1))
        self.states: list[Any] = []
        self.reconnector = Reconnector(self.link, agent.identity, None, self.states.append)

    def hello(self, first: int) -> RegisterNode:
        busy = [Held(task.job_id, task.index, task.attempt, True) for task in self.tasks]
        return RegisterNode(PROTOCOL, info(4), "i1", (*busy, *self.outbox.ended()), first)

    def on_registered(self, _registered: Any, _endpoint: str) -> None:
        self.reconnector.on_registered()

    def on_told(self, _registered: Any) -> None:
        """The times are as we have them."""

    def on_messages(self, messages: list[Any]) -> None:
        self.tasks += [each for each in messages if isinstance(each, AssignTask)]

    def on_confirmed(self) -> None:
        """Nothing waits for room."""

    def is_busy(self) -> bool:
        return False

    async def beat(self) -> None:
        while True:
            self.link.post(Heartbeat(NodeLoad()))
            await asyncio.sleep(0.1)

    def put(self, *messages: Any) -> None:
        self.tasks.clear()
        self.outbox.put(messages)
        self.link.wake()

    @asynccontextmanager
    async def running(self) -> Any:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.reconnector.keep_connected()), group.create_task(self.beat())]
            yield self
            for task in tasks:
                task.cancel()
        self.outbox.close()


async def connected(mesh: Mesh, folder: Any) -> Side:
    agent = await mesh.connect("newer")
    await agent.socket.close()
    side = Side(mesh, agent, folder)
    agent.identity.remember_endpoint(f"127.0.0.1:{mesh.coordinator.port}")
    return side


async def test_each_task_has_its_one_end_though_some_cannot_be_read(mesh, tmp_path, newer):
    side = await connected(mesh, tmp_path)
    async with side.running():
        await mesh.until(lambda: side.link.is_up)
        job_id = await mesh.submit(6, node=side.agent, max_attempts=1)
        seen: dict[int, AssignTask] = {}
        while len(seen) < 6:
            await mesh.until(lambda: side.tasks)
            tasks = list(side.tasks)
            seen |= {task.index: task for task in tasks}
            side.put(
                *[
                    NewerResult(
                        job_id, task.index, task.attempt, "melted" if task.index in {1, 4} else "ok", 0
                    )
                    for task in tasks
                ]
            )
        await mesh.until(lambda: side.outbox.first_unacknowledged == 6)
        await mesh.until(lambda: job_id not in mesh.engine.state.jobs)
    counts = (await mesh.engine.store.job(job_id)).summary.counts
    assert (counts.completed, counts.failed) == (4, 2)
    rows = await mesh.engine.store.tasks(job_id, 0, 10)
    failed = {task.index: task for task in rows if task.state is TaskState.FAILED}
    assert failed.keys() == {1, 4}
    assert {task.outcome for task in failed.values()} == {Outcome.OUTPUT}
    assert all(
        "the coordinator refuses it (A frame could not be read" in each.error for each in failed.values()
    )
    assert side.outbox.aside.count == 2
    assert len(list((tmp_path / "refused").iterdir())) == 2
    check(mesh.engine.state)


async def test_an_end_that_the_tables_refuse_is_not_acknowledged_by_the_next(mesh, tmp_path, monkeypatch):
    """A happening that breaks: neither is the link kept, nor is the message lost without a word."""
    real = reactor.on_task_ended

    def breaks(state, node_id, result, now):
        if result.outcome is Outcome.OK and result.index == 0:
            raise RuntimeError("a fault of ours")
        return real(state, node_id, result, now)

    monkeypatch.setattr(reactor, "on_task_ended", breaks)
    evil = await mesh.agent("evil")
    job_id = await mesh.submit(2, node=evil, max_attempts=1)
    tasks = [await evil.next(AssignTask), await evil.next(AssignTask)]
    for task in tasks:
        await evil.say(TaskResult(job_id, task.index, task.attempt, Outcome.OK, 0))
    assert await evil.goodbye() == "protocol"
    again = await mesh.call(evil.identity, "evil")
    await again.hello(held=tuple(Held(job_id, task.index, task.attempt, True) for task in tasks))
    await again.say(
        TaskResult(job_id, 0, 1, Outcome.OUTPUT, error="It could not be told."),
        TaskResult(job_id, 1, 1, Outcome.OK, 0),
    )
    await mesh.until(lambda: job_id not in mesh.engine.state.jobs)
    counts = (await mesh.engine.store.job(job_id)).summary.counts
    assert (counts.completed, counts.failed) == (1, 1)
