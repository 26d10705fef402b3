"""What the coordinator logs of its work: ids in every line, no line for each task, no words of a task's."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from api_world import Client, World, small, until

from planetmesh.model.job import Outcome

LOGGER = "planetmesh.coordinator.journal"


def told(caplog: pytest.LogCaptureFixture, *events: str) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if not events or record.message in events]


async def test_jobs_and_what_goes_wrong_are_told(world: World, operator: Client, caplog) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    await world.add_node("desk", cpus=2)
    job_id = await operator.submit(**small(2), name="sweep")
    await world.start(job_id)
    await world.finish(job_id)
    await world.finish(job_id, 1, outcome=Outcome.EXIT_CODE)
    assert (await operator.post(f"/v1/jobs/{job_id}/cancel")).status == 200
    events = [each["message"] for each in told(caplog)]
    assert events == ["audit.row", "job.submitted", "task.retrying", "audit.row", "job.ended"]
    (submitted,) = told(caplog, "job.submitted")
    assert (submitted["job_id"], submitted["job"], submitted["tasks"]) == (job_id, "sweep", 2)
    (retrying,) = told(caplog, "task.retrying")
    assert {key: retrying[key] for key in ("job_id", "task", "attempt", "node", "outcome", "failures")} == {
        "job_id": job_id, "task": 1, "attempt": 1, "node": "desk", "outcome": "exit_code", "failures": 1,
    }  # fmt: skip
    (ended,) = told(caplog, "job.ended")
    assert (ended["status"], ended["completed"], ended["cancelled"]) == ("CANCELLED", 1, 1)
    audited = told(caplog, "audit.row")
    assert [(each["action"], each["object"]) for each in audited] == [("submit", job_id), ("cancel", job_id)]


async def test_each_step_of_a_task_is_a_line_for_who_debugs(world: World, operator: Client, caplog) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    await world.add_node("desk", cpus=2)
    job_id = await operator.submit(**small(1))
    await world.start(job_id)
    await world.finish(job_id)
    await until(lambda: bool(told(caplog, "task.completed")))
    steps = [each for each in told(caplog) if each["message"].startswith("task.")]
    assert [each["message"] for each in steps] == ["task.assigned", "task.started", "task.completed"]
    assert all((each["job_id"], each["task"], each["node"]) == (job_id, 0, "desk") for each in steps)


async def test_a_minutes_work_is_one_line(world: World, operator: Client, caplog) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    engine = world.engine
    engine.journal.tell_minute(engine.meters, engine.state)
    assert told(caplog, "mesh.minute") == []
    await world.add_node("desk", cpus=2)
    job_id = await operator.submit(**small(5))
    await world.start(job_id)
    await world.finish(job_id)
    await until(lambda: bool(engine.meters.tasks_ended))
    engine.journal.tell_minute(engine.meters, engine.state)
    engine.journal.tell_minute(engine.meters, engine.state)
    (minute,) = told(caplog, "mesh.minute")
    assert (minute["jobs_submitted"], minute["completed"], minute["failed"]) == (1, 1, 0)
    assert (minute["placed"], minute["nodes_now"]) == (3, 1)


async def test_what_changes_on_a_node_is_told_with_its_id(world: World, operator: Client, caplog) -> None:
    caplog.set_level(logging.INFO, "planetmesh.news")
    node_id = await world.add_node("desk")
    for change in ({"draining": True}, {"draining": False}, {"name": "table"}):
        assert (await operator.ask("PATCH", "/v1/nodes/" + node_id, change)).status == 200
    await world.leave("desk")
    assert (await operator.ask("DELETE", "/v1/nodes/table")).status == 200
    events = [(each["message"], each["node"]) for each in told(caplog)]
    assert events == [
        ("node.healthy", "desk"),
        ("node.draining", "desk"),
        ("node.resumed", "desk"),
        ("node.renamed", "table"),
        ("node.offline", "table"),
        ("node.forgotten", "table"),
    ]
    assert {each["node_id"] for each in told(caplog)} == {node_id}
