"""Settings over the API: who may, what is refused, what a change does at once and after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from api_world import Client, World, running_world, small, until
from builders import node_id

from planetmesh.coordinator.tuning import META_NAME
from planetmesh.errors import StorageFailed
from planetmesh.mesh import nodes
from planetmesh.model.identity import Role
from planetmesh.model.node import NodeLoad
from planetmesh.settings import ABOUT, Settings
from planetmesh.store.changes import Changes
from planetmesh.wire.agent import AssignTask, Registered, ToAgent

SETTINGS = "/v1/settings"


async def change(client: Client, **asked: Any) -> Any:
    return await client.ask(
        "PATCH", SETTINGS, {name.replace("__", "."): value for name, value in asked.items()}
    )


class Line:
    """Stands for the link of an agent: keeps what it is given to send."""

    def __init__(self, session: int) -> None:
        self.session = session
        self.sent: list[ToAgent] = []

    def send(self, messages: list[ToAgent]) -> None:
        self.sent += messages

    def hang_up(self, code: str, reason: str) -> None:
        raise AssertionError(f"hung up: {code} {reason}")


async def test_everybody_may_look(operator: Client, viewer: Client):
    views = (await viewer.get(SETTINGS)).json
    assert [view["name"] for view in views] == list(ABOUT)
    assert (await operator.get(SETTINGS)).json == views
    load = next(view for view in views if view["name"] == "weights.load")
    assert load == {
        "name": "weights.load", "value": 2.0, "default": 2.0, "changed": False, "live": True, "least": 0.0,
        "most": 1000.0, "about": ABOUT["weights.load"].sentence,
    }  # fmt: skip


async def test_a_change_counts_at_once_and_stands_in_the_audit_trail(world: World, operator: Client):
    answer = await change(operator, weights__load="5", keep_jobs_seconds="2d", restart_grace_seconds=0)
    assert answer.status == 200
    assert [(view["name"], view["value"], view["changed"], view["live"]) for view in answer.json] == [
        ("weights.load", 5.0, True, True),
        ("keep_jobs_seconds", 172800.0, True, True),
        ("restart_grace_seconds", 0.0, True, False),
    ]
    settings = world.engine.settings
    assert (settings.weights.load, settings.keep_jobs_seconds) == (5.0, 172800.0)
    assert world.parts.settings is world.engine.state.settings is settings
    (view,) = (await change(operator, weights__load=None)).json
    assert (view["value"], view["changed"]) == (2.0, False)
    rows = (await operator.get("/v1/audit?limit=2")).json
    assert [(row["actor"], row["action"], row["detail"]) for row in rows] == [
        (operator.id, "change_settings", "weights.load=2 (reset)"),
        (operator.id, "change_settings", "weights.load=5 keep_jobs_seconds=2d restart_grace_seconds=0s"),
    ]


async def test_a_viewer_may_not(world: World, viewer: Client):
    answer = await change(viewer, weights__load=5)
    assert (answer.status, answer.code) == (403, "not_allowed")
    assert world.engine.settings == Settings()


async def test_a_refused_change_changes_nothing(world: World, operator: Client):
    wrong: tuple[tuple[Any, str], ...] = (
        ({"weights.lode": 1}, "no setting"),
        ({"weights.load": -1}, "between"),
        ({"weights.load": "nan"}, "between"),
        ({"weights.load": True}, "number"),
        ({"heartbeat_seconds": 0}, "between"),
        ({"heartbeat_seconds": 6}, "twice"),
        ({"suspect_after_seconds": "1m"}, "below"),
        ({"output_most_bytes": "10s"}, "a size"),
        ({"x" * 1000: 1}, "no setting"),
    )
    for asked, words in wrong:
        answer = await operator.ask("PATCH", SETTINGS, {"prefill_most": 7} | asked)
        assert (answer.status, answer.code) == (400, "bad_input"), asked
        assert words in answer.json["error"]["message"]
    hint = (await operator.ask("PATCH", SETTINGS, {"weights.lode": 1})).json["error"]["hint"]
    assert hint == "Did you mean 'weights.load'?"
    for body in (
        {},
        [],
        "x",
        {"prefill_most": [7]},
        {"prefill_most": {}},
        b'{"prefill_most":7,"prefill_most":8}',
        b"",
    ):
        assert (await operator.ask("PATCH", SETTINGS, body)).status == 400, body
    assert world.engine.settings == Settings()
    assert META_NAME not in (await world.engine.store.load()).meta
    assert (await operator.get("/v1/audit")).json == []


async def test_two_changes_at_a_time_are_both_kept(world: World, operator: Client):
    await asyncio.gather(change(operator, prefill_most=7), change(operator, weights__rtt=9))
    assert (world.engine.settings.prefill_most, world.engine.settings.weights.rtt) == (7, 9.0)
    assert msgspec.json.decode((await world.engine.store.load()).meta[META_NAME]) == {
        "prefill_most": 7,
        "weights.rtt": 9.0,
    }


async def test_a_restart_keeps_them_over_the_file(tmp_path: Path):
    async with running_world(tmp_path, settings=Settings(prefill_most=3, tasks_most=50)) as world:
        operator = await world.client()
        assert (
            await change(operator, prefill_most=4, feed_keep_rows=100, output_most_bytes=1024)
        ).status == 200
        gone = {"prefill_most": 4, "feed_keep_rows": 100, "output_most_bytes": 1024, "of_old": 1}
        await world.engine.store.commit(Changes(meta={META_NAME: msgspec.json.encode(gone).decode()}))
    async with running_world(tmp_path, settings=Settings(prefill_most=5, tasks_most=60)) as world:
        settings = world.engine.settings
        assert (settings.prefill_most, settings.tasks_most, settings.feed_keep_rows) == (4, 60, 100)
        assert world.engine.feed._rows_most == 100
        operator = await world.client()
        views = {view["name"]: view for view in (await operator.get(SETTINGS)).json}
        assert (views["prefill_most"]["value"], views["prefill_most"]["default"]) == (4, 5)
        assert (views["tasks_most"]["value"], views["tasks_most"]["changed"]) == (60, False)
        await change(operator, prefill_most=None)
        assert world.engine.settings.prefill_most == 5


async def test_a_change_that_the_disk_refused_counts_no_more(world: World, operator: Client, monkeypatch):
    async def refuse(_changes: Any) -> None:
        raise StorageFailed("The disk is full.")

    assert (await change(operator, prefill_most=7)).status == 200
    monkeypatch.setattr("planetmesh.coordinator.engine.PROBE_SECONDS", 0.01)
    with monkeypatch.context() as full:
        full.setattr(world.engine.store, "commit", refuse)
        assert (await change(operator, prefill_most=8, feed_keep_rows=100)).status == 507
    await until(lambda: not world.engine.storage_error)
    assert world.engine.settings == msgspec.structs.replace(Settings(), prefill_most=7)
    assert world.engine.feed._rows_most == Settings().feed_keep_rows
    (view,) = (await change(operator, feed_keep_rows=200)).json
    assert view["value"] == 200
    assert world.engine.settings.prefill_most == 7


async def test_the_next_placement_goes_by_the_new_weights(world: World, operator: Client):
    """`near` is loaded, `far` is idle behind a slow line: which one is cheaper is for the weights to say."""
    for name, rtt, load in (("near", 0.0005, 0.9), ("far", 0.2, 0.0)):
        node = await world.add_node(name)
        await world.engine.do(lambda state, _now, node=node, rtt=rtt: nodes.on_rtt(state, node, rtt))
        busy = NodeLoad(cpu=load)
        await world.engine.do(
            lambda state, now, node=node, busy=busy: nodes.on_heartbeat(state, node, busy, now)
        )

    async def chosen() -> str:
        job_id = await operator.submit()
        node = world.engine.state.jobs[job_id].tasks[0].node_id
        await world.finish(job_id)
        return "near" if node == node_id("near") else "far"

    assert await chosen() == "far"
    await change(operator, weights__rtt=10, weights__load=0.5)
    assert await chosen() == "near"
    await change(operator, weights__rtt=None, weights__load=None)
    assert await chosen() == "far"


async def test_limits_of_jobs_and_outputs_count_at_once(world: World, operator: Client):
    await change(operator, tasks_most=3, output_most_bytes=1024)
    assert (await operator.post("/v1/jobs", {"spec": small(4)})).status == 413
    await world.add_node()
    job_id = await operator.submit()
    await world.start(job_id)
    await world.write(job_id, 0, b"a" * 1000)
    await world.write(job_id, 0, b"b" * 1000, offset=1000)
    assert [piece.data for piece in await world.engine.outputs.read(job_id, 0)] == [b"a" * 1000]


async def test_connected_agents_are_told_what_concerns_them(world: World, operator: Client):
    node = await world.add_node("desk")
    line = Line(session=1)
    world.engine.switchboard.connect(line)
    world.engine.switchboard.attach(node, line)
    await change(operator, weights__load=5)
    assert line.sent == []
    await change(operator, heartbeat_seconds="1s", coalesce_seconds="20ms")
    (told,) = line.sent
    assert isinstance(told, Registered)
    assert (told.heartbeat_seconds, told.coalesce_seconds) == (1.0, 0.02)
    assert (told.name, told.mesh_name, told.drop) == ("desk", "home", ())
    await operator.submit()
    assert isinstance(line.sent[-1], AssignTask)


@pytest.mark.parametrize("role", [Role.AGENT, Role.VIEWER])
async def test_others_do_not_reach_the_handler(world: World, role: Role):
    client = world.open(await world.member(role))
    assert (await client.ask("PATCH", SETTINGS, {"tasks_most": 1})).status == 403
    assert world.engine.settings == Settings()
