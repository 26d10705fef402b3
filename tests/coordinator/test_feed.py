"""The feed by itself: numbers, the ring, who is told what, and what it costs when nobody listens."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from builders import job, node

from planetmesh.coordinator import feed as feed_module
from planetmesh.coordinator.feed import RESTART_GAP, SUBSCRIBERS_MOST, Feed
from planetmesh.errors import BadInput, Conflict
from planetmesh.mesh import effects as fx
from planetmesh.mesh import jobs
from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.job import Task, TaskState
from planetmesh.model.node import NodeState
from planetmesh.settings import Settings

NOW = Moment(1000.0, 1_700_000_000.0)
MOST = 1_000_000


@pytest.fixture
def state() -> MeshState:
    return MeshState(Settings(), lambda: 0.5)


@pytest.fixture
def feed() -> Feed:
    return Feed(Settings())


def submit(state: MeshState, name: str = "a", count: int = 3) -> Any:
    record = job(name, count)
    jobs.on_job_submitted(state, record)
    return record


def publish(feed: Feed, state: MeshState, **changed: Any) -> None:
    everything = {"changed_jobs": (), "job_ends": (), "tasks": (), "changed_nodes": ()} | changed
    feed.publish(state, now=NOW, **everything)


def events(feed: Feed, subscriber: Any) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in feed.take(subscriber, MOST, NOW).splitlines()]


def test_nothing_is_made_while_nobody_listens(feed: Feed, state: MeshState, monkeypatch):
    record = submit(state)
    monkeypatch.setattr(feed_module, "live_job_view", lambda *_: pytest.fail("a view was made for nobody"))
    before = feed.number
    publish(feed, state, changed_jobs={record.id})
    publish(feed, state, changed_jobs={record.id})
    assert feed.number == before + 1, (
        "who subscribes after the old number must learn that it missed something"
    )
    assert feed.number == before + 1


def test_who_subscribes_after_an_old_number_reads_again(feed: Feed, state: MeshState):
    record = submit(state)
    old = feed.number
    publish(feed, state, changed_jobs={record.id})
    with feed.subscribe(old) as subscriber:
        (event,) = events(feed, subscriber)
        assert event["kind"] == "resync"
        assert event["number"] > old
        assert events(feed, subscriber) == []


def test_events_come_once_each_in_order_and_can_be_resumed(feed: Feed, state: MeshState):
    first, second = submit(state, "a"), submit(state, "b")
    with feed.subscribe(feed.number) as subscriber:
        publish(feed, state, changed_jobs=[first.id, second.id])
        task = Task(first.id, 0, TaskState.RUNNING, 1)
        publish(feed, state, tasks=[task])
        told = events(feed, subscriber)
    assert [event["kind"] for event in told] == ["job", "job", "tasks"]
    assert [event["number"] for event in told] == sorted({event["number"] for event in told})
    with feed.subscribe(told[0]["number"]) as again:
        assert events(feed, again) == told[1:]
    with feed.subscribe(told[2]["number"]) as again:
        assert events(feed, again) == []


def test_tasks_come_in_batches(feed: Feed, state: MeshState, monkeypatch):
    monkeypatch.setattr(feed_module, "TASKS_IN_EVENT", 2)
    record = submit(state, count=5)
    with feed.subscribe(feed.number) as subscriber:
        publish(feed, state, tasks=[Task(record.id, index) for index in range(5)])
        assert [len(event["data"]) for event in events(feed, subscriber)] == [2, 2, 1]
    monkeypatch.setattr(feed_module, "TASKS_SHOWN", 3)
    with feed.subscribe(feed.number) as subscriber:
        publish(feed, state, tasks=[Task(record.id, index) for index in range(5)])
        assert [event["kind"] for event in events(feed, subscriber)] == ["resync"]


def test_a_job_that_ended_is_told_with_its_tasks(feed: Feed, state: MeshState):
    record = submit(state, count=1)
    live = state.jobs.pop(record.id)
    end = fx.JobEnded(live.job, live.counts, "why")
    with feed.subscribe(feed.number) as subscriber:
        publish(feed, state, job_ends=[end], tasks=[Task(record.id, 0, TaskState.FAILED, 1)])
        told = events(feed, subscriber)
    assert [event["kind"] for event in told] == ["job", "tasks"]
    assert told[0]["data"]["error"] == "why"


def test_a_removed_node_is_told(feed: Feed, state: MeshState):
    record = node("desk")
    state.nodes[record.id] = LiveNode(record, 0.0)
    with feed.subscribe(feed.number) as subscriber:
        publish(feed, state, changed_nodes={record.id})
        del state.nodes[record.id]
        publish(feed, state, changed_nodes={record.id})
        assert [event["kind"] for event in events(feed, subscriber)] == ["node", "node_removed"]


def test_the_slow_are_told_to_read_again(state: MeshState):
    feed = Feed(Settings(feed_keep_rows=3))
    record = submit(state)
    with feed.subscribe(feed.number) as slow, feed.subscribe(feed.number) as quick:
        for _ in range(5):
            publish(feed, state, changed_jobs={record.id})
            assert [event["kind"] for event in events(feed, quick)] == ["job"]
        told = events(feed, slow)
        assert [event["kind"] for event in told] == ["resync"]
        publish(feed, state, changed_jobs={record.id})
        (event,) = events(feed, slow)
        assert event["number"] > told[0]["number"]


def test_memory_is_bounded_in_bytes(feed: Feed, state: MeshState, monkeypatch):
    monkeypatch.setattr(feed_module, "RING_MOST_BYTES", 5000)
    record = submit(state)
    with feed.subscribe(feed.number):
        for _ in range(100):
            publish(feed, state, changed_jobs={record.id})
        assert sum(len(line) for _number, line in feed._ring.values()) == feed._ring_bytes <= 5000


def test_a_piece_is_bounded_and_the_rest_follows(feed: Feed, state: MeshState):
    record = submit(state)
    with feed.subscribe(feed.number) as subscriber:
        for _ in range(3):
            publish(feed, state, changed_jobs={record.id})
        assert subscriber.news.is_set()
        assert len(feed.take(subscriber, 1, NOW).splitlines()) == 1
        assert subscriber.news.is_set(), "there is more"
        assert len(feed.take(subscriber, MOST, NOW).splitlines()) == 2
        assert not subscriber.news.is_set()


def test_numbers_go_on_after_a_restart(feed: Feed, state: MeshState):
    feed.start_at(500)
    assert feed.number >= 500 + RESTART_GAP
    with feed.subscribe(450) as subscriber:
        assert events(feed, subscriber)[0]["kind"] == "resync"


def test_a_subscriber_from_an_earlier_life_moves_the_numbers_up(feed: Feed, state: MeshState):
    record = submit(state)
    seen = feed.number + 123_456
    with feed.subscribe(seen) as subscriber:
        publish(feed, state, changed_jobs={record.id})
        told = events(feed, subscriber)
        assert told[0]["kind"] == "resync"
        assert all(event["number"] > seen for event in told)
    with pytest.raises(BadInput), feed.subscribe(2**53):
        pass


def test_events_are_kept_for_who_said_that_it_will_subscribe(feed: Feed, state: MeshState):
    record = submit(state)
    number = feed.expect(NOW)
    publish(feed, state, changed_jobs={record.id})
    with feed.subscribe(number) as subscriber:
        assert [event["kind"] for event in events(feed, subscriber)] == ["job"]


def test_subscribers_are_counted(feed: Feed):
    held = [feed.subscribe(0) for _ in range(SUBSCRIBERS_MOST)]
    for each in held:
        each.__enter__()
    with pytest.raises(Conflict), feed.subscribe(0):
        pass
    held[0].__exit__(None, None, None)
    with feed.subscribe(0):
        pass


def test_resync_reaches_everybody(feed: Feed, state: MeshState):
    with feed.subscribe(feed.number) as subscriber:
        assert events(feed, subscriber) == []
        feed.resync()
        assert subscriber.news.is_set()
        assert [event["kind"] for event in events(feed, subscriber)] == ["resync"]


def test_rows_are_for_what_matters_only(feed: Feed, state: MeshState):
    record = submit(state)
    desk = node("desk", state=NodeState.HEALTHY)
    state.nodes[desk.id] = LiveNode(desk, 0.0)
    rows = feed.rows([], [record.id], [desk.id], state, NOW)
    assert [row.kind for row in rows] == ["job_submitted", "node"]
    assert feed.rows([], [], [desk.id], state, NOW) == [], "nothing about its state changed"
    live: LiveJob = state.jobs[record.id]
    (row,) = feed.rows([fx.JobEnded(live.job, live.counts, "")], [], [], state, NOW)
    assert msgspec.json.decode(row.data)["id"] == record.id
    assert row.number > rows[-1].number
    assert feed.rows([], [], [], state, NOW) == []


async def test_watchers_are_woken_by_the_end_they_wait_for(feed: Feed, state: MeshState):
    record = submit(state, count=3)
    live = state.jobs[record.id]
    whole, one = asyncio.Event(), asyncio.Event()
    with feed.waking(record.id, whole), feed.waking(record.id, one, 1):
        publish(
            feed,
            state,
            tasks=[Task(record.id, 0, TaskState.COMPLETED), Task(record.id, 1, TaskState.RUNNING)],
        )
        assert not whole.is_set()
        assert not one.is_set()
        publish(feed, state, tasks=[Task(record.id, 1, TaskState.COMPLETED)])
        assert one.is_set()
        assert not whole.is_set()
        publish(feed, state, job_ends=[fx.JobEnded(live.job, live.counts, "")])
        assert whole.is_set()
    assert not feed._watchers
