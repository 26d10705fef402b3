"""`/metrics`: true numbers, a form that Prometheus reads, and a bounded number of series."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from api_world import Client, World, small
from prometheus_client.parser import text_string_to_metric_families

from planetmesh.coordinator import metrics
from planetmesh.mesh import nodes
from planetmesh.model.identity import Role
from planetmesh.model.job import Outcome
from planetmesh.model.node import NodeLoad


async def scrape(client: Client) -> dict[str, dict[str, float]]:
    """By sample name: the values by label, or by "" where there is none."""
    answer = await client.get("/metrics")
    assert answer.status == 200
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            label = " ".join(value for key, value in sorted(sample.labels.items()))
            assert label not in found.setdefault(sample.name, {}), sample
            found[sample.name][label] = sample.value
    return found


async def test_what_happened_is_counted(world: World, operator: Client):
    await world.add_node("desk", cpus=2)
    assert (await scrape(operator))["planetmesh_nodes"]["HEALTHY"] == 1
    job_id = await operator.submit(**small(3))
    await world.start(job_id)
    found = await scrape(operator)
    assert found["planetmesh_jobs"] == {"QUEUED": 0, "RUNNING": 1}
    assert found["planetmesh_tasks"] == {"QUEUED": 1, "ASSIGNED": 1, "RUNNING": 1, "RETRYING": 0}
    assert found["planetmesh_placements_total"] == found["planetmesh_node_tasks"] == {"desk": 2}
    await world.finish(job_id)
    await world.finish(job_id, 1, outcome=Outcome.EXIT_CODE)
    found = await scrape(operator)
    assert found["planetmesh_tasks_ended_total"] == {"COMPLETED": 1, "FAILED": 0, "CANCELLED": 0}
    assert found["planetmesh_attempts_failed_total"][Outcome.EXIT_CODE.value] == 1
    assert found["planetmesh_task_retries_total"][""] == 1
    assert found["planetmesh_task_seconds_count"][""] == found["planetmesh_task_wait_seconds_count"][""] == 1
    assert (await operator.post(f"/v1/jobs/{job_id}/cancel")).status == 200
    found = await scrape(operator)
    assert found["planetmesh_jobs_submitted_total"][""] == 1
    assert found["planetmesh_jobs_ended_total"] == {
        "COMPLETED": 0, "FAILED": 0, "PARTIALLY_COMPLETED": 0, "CANCELLED": 1,
    }  # fmt: skip
    assert found["planetmesh_job_seconds_count"][""] == found["planetmesh_job_seconds_bucket"]["+Inf"] == 1
    assert found["planetmesh_store_commit_seconds_count"][""] > 0
    assert found["planetmesh_database_bytes"].keys() == {"mesh", "outputs", "blobs"}
    assert found["planetmesh_storage_up"] == {"": 1}


async def test_buckets_rise_and_the_last_is_the_count(world: World, operator: Client):
    await world.add_node("desk")
    await operator.submit(**small(5))
    found = await scrape(operator)
    for name in ("scheduler_pass_seconds", "engine_turn_seconds", "store_commit_seconds"):
        buckets = list(found[f"planetmesh_{name}_bucket"].values())
        assert buckets == sorted(buckets)
        assert buckets[-1] == found[f"planetmesh_{name}_count"][""] > 0


async def test_names_of_nodes_are_only_labels(world: World, operator: Client):
    """Whatever a person calls a machine: it breaks no line."""
    await world.add_node('a "b" \\ {c}')
    found = await scrape(operator)
    assert found["planetmesh_node_up"] == {'a "b" \\ {c}': 1}


async def test_the_number_of_series_is_bounded(world: World, operator: Client, monkeypatch: Any):
    for name in ("a", "b", "c"):
        await world.add_node(name)
    few = await scrape(operator)
    monkeypatch.setattr(metrics, "NODES_MOST", 2)
    found = await scrape(operator)
    assert found["planetmesh_nodes"]["HEALTHY"] == 3
    for name, values in found.items():
        if name.startswith("planetmesh_node_") or name == "planetmesh_placements_total":
            assert values.keys() == {"a", "b"} & few[name].keys()
    for _ in range(5):
        await operator.submit(**small(2))
    later = await scrape(operator)
    assert {name: values.keys() for name, values in later.items()} == {
        name: values.keys() for name, values in found.items()
    }


async def test_nodes_that_come_and_go_leave_no_series(world: World, operator: Client):
    await world.add_node("desk")
    job_id = await operator.submit(**small(1))
    await world.start(job_id)
    await world.finish(job_id)
    before = await scrape(operator)
    for number in range(20):
        name = f"guest-{number}"
        await world.add_node(name, tags=("guest",))
        job_id = await operator.submit(**small(1), tags=["guest"])
        await world.start(job_id)
        await world.finish(job_id)
        assert (await scrape(operator))["planetmesh_placements_total"][name] == 1
        await world.leave(name)
        if number % 2:
            assert (await operator.post(f"/v1/nodes/{name}/revoke")).status == 200
        assert (await operator.ask("DELETE", f"/v1/nodes/{name}")).status == 200
    after = await scrape(operator)
    assert {name: values.keys() for name, values in after.items()} == {
        name: values.keys() for name, values in before.items()
    }
    assert len(world.engine.meters.placements) == 1
    assert world.engine.meters.placed == 21


async def test_the_logs_of_all_processes_are_in_it(world: World, operator: Client):
    node_id = await world.add_node("desk")
    load = NodeLoad(log_file_bytes=5000, log_rotations=3, log_lost=2)
    await world.engine.do(lambda state, now: nodes.on_heartbeat(state, node_id, load, now))
    found = await scrape(operator)
    assert found["planetmesh_node_log_file_bytes"] == {"desk": 5000}
    assert found["planetmesh_node_log_rotations"] == {"desk": 3}
    assert found["planetmesh_node_log_lost"] == {"desk": 2}
    for name in ("lines_total", "left_out_total", "lost_total", "rotations_total", "file_bytes"):
        assert found[f"planetmesh_log_{name}"][""] >= 0


async def test_bytes_of_files_are_counted(world: World, operator: Client):
    content = b"x" * 5000
    path = f"/v1/blobs/{sha256(content).hexdigest()}"
    async with operator.session.put(operator.base + path, data=content) as response:
        assert response.status == 201
    found = await scrape(operator)
    assert found["planetmesh_blob_moved_bytes_total"] == {"in": 5000, "out": 0}
    assert (found["planetmesh_blobs"][""], found["planetmesh_blob_bytes"][""]) == (1, 5000)


@pytest.mark.parametrize(
    "accept", ["", "application/openmetrics-text; version=1.0.0", "text/plain", "x" * 4000]
)
async def test_both_forms(world: World, operator: Client, accept: str):
    answer = await operator.get("/metrics", headers={"Accept": accept})
    assert answer.status == 200
    assert b"planetmesh_mesh_info" in answer.body
    assert ("openmetrics" in answer.headers["Content-Type"]) == ("openmetrics" in accept)


async def test_who_may_read_them(world: World):
    for role, status in ((Role.VIEWER, 200), (Role.OPERATOR, 200), (Role.AGENT, 403)):
        client = await world.client(role)
        assert (await client.get("/metrics")).status == status
