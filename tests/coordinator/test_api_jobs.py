"""Jobs over the API: hand in once, wait, find by what a person types, page, cancel, refuse nonsense."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from api_world import COMMAND, Client, World, small, until

from planetmesh.coordinator.api import memory
from planetmesh.errors import StorageFailed
from planetmesh.model.identity import Role
from planetmesh.model.job import Outcome

COUNTS = {"total", "queued", "assigned", "running", "retrying", "completed", "failed", "cancelled"}
JOB_KEYS = set(
    "id name type status priority submitter created_at started_at completed_at tasks".split()  # noqa: SIM905
)
TASK_KEYS = set(
    "id job_id index status node attempts exit_code started_at finished_at last_error payload node_id".split()  # noqa: SIM905
)


async def test_a_submitted_job_is_answered_with_its_view_and_is_on_disk(world: World, operator: Client):
    answer = await operator.post("/v1/jobs", {"spec": COMMAND | {"name": "first"}})
    assert answer.status == 201
    job = answer.json["job"]
    assert job.keys() >= JOB_KEYS
    assert job["tasks"].keys() == COUNTS
    assert (job["status"], job["submitter"], job["name"]) == ("QUEUED", operator.id, "first")
    assert job["created_at"].endswith("Z")
    assert await world.engine.store.job(job["id"]) is not None
    assert answer.json["warnings"] == ["No machine has joined this mesh yet; the job waits for one."]
    assert "planetmesh code" in job["waiting"]


async def test_the_same_key_is_the_same_job_also_at_the_same_time(world: World, operator: Client):
    body = {"spec": COMMAND, "key": "abc"}
    answers = await asyncio.gather(*(operator.post("/v1/jobs", body) for _ in range(8)))
    ids = {answer.json["job"]["id"] for answer in answers}
    assert len(ids) == 1
    world.parts.submits.__init__()  # as after a restart
    assert (await operator.post("/v1/jobs", body)).json["job"]["id"] in ids
    other = world.open(await world.member(Role.OPERATOR))
    assert (await other.post("/v1/jobs", body)).json["job"]["id"] not in ids


async def test_a_submit_whose_caller_went_away_is_still_the_same_job(
    world: World, operator: Client, monkeypatch
):
    """The connection breaks while the commit runs; the client hands the job in again at once."""
    commit = world.engine.store.commit

    async def slow(changes: Any) -> None:
        await asyncio.sleep(0.1)
        await commit(changes)

    body = {"spec": COMMAND, "key": "once"}
    await operator.get("/v1/status")
    monkeypatch.setattr(world.engine.store, "commit", slow)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(operator.post("/v1/jobs", body), 0.05)
    again = await operator.post("/v1/jobs", body)
    assert again.status == 201
    assert [job["id"] for job in (await operator.get("/v1/jobs")).json["jobs"]] == [again.json["job"]["id"]]


async def test_a_submit_that_the_disk_refused_may_be_repeated(world: World, operator: Client, monkeypatch):
    async def refuse(_changes: Any) -> None:
        raise StorageFailed("The disk is full.")

    body = {"spec": COMMAND, "key": "once"}
    await operator.get("/v1/status")
    monkeypatch.setattr("planetmesh.coordinator.engine.PROBE_SECONDS", 0.01)
    with monkeypatch.context() as full:
        full.setattr(world.engine.store, "commit", refuse)
        assert (await operator.post("/v1/jobs", body)).status == 507
        assert world.engine.state.jobs == {}
    await until(lambda: not world.engine.storage_error)
    assert (await operator.post("/v1/jobs", body)).status == 201
    assert len((await operator.get("/v1/jobs")).json["jobs"]) == 1


async def test_a_submit_may_wait_for_the_end(world: World, operator: Client):
    await world.add_node()

    async def work() -> None:
        await until(lambda: world.engine.state.jobs)
        job_id = next(iter(world.engine.state.jobs))
        await until(lambda: world.engine.state.jobs[job_id].tasks)
        await world.finish(job_id)

    answer, _ = await asyncio.gather(operator.post("/v1/jobs?wait=5", {"spec": COMMAND}), work())
    assert answer.json["job"]["status"] == "COMPLETED"


async def test_waiting_ends_after_the_time_or_with_the_job(world: World, operator: Client):
    await world.add_node()
    job_id = await operator.submit()
    assert (await operator.get(f"/v1/jobs/{job_id}?wait=0.01")).json["status"] == "RUNNING"
    waiting = asyncio.gather(*(operator.get(f"/v1/jobs/{job_id}?wait=10") for _ in range(3)))
    await asyncio.sleep(0.02)
    await world.finish(job_id, outcome=Outcome.NOT_FOUND)
    for answer in await waiting:
        assert (answer.json["status"], answer.json["tasks"]["failed"]) == ("FAILED", 1)
        assert answer.json["error"].startswith("Exit status 3")
        assert answer.json["spec"]["payload"] == {"argv": ["true"]}
    assert (await operator.get(f"/v1/jobs/{job_id}?wait=10")).json["status"] == "FAILED"


async def test_a_wait_must_be_a_time(operator: Client):
    for wait in ("x", "-1", "nan", "inf"):
        assert (await operator.post(f"/v1/jobs?wait={wait}", {"spec": COMMAND})).status == 400
    assert (await operator.get("/v1/jobs")).json["jobs"] == []


async def test_a_job_is_found_by_what_a_person_types(world: World, operator: Client, viewer: Client):
    render = await operator.submit(name="render")
    again = await operator.submit(name="render-2")
    assert (await operator.get(f"/v1/jobs/{render}")).json["id"] == render
    assert (await operator.get(f"/v1/jobs/{render[:9]}")).json["id"] == render
    assert (await operator.get("/v1/jobs/render")).json["id"] == render
    assert (await operator.get("/v1/jobs/render-")).json["id"] == again
    assert (await operator.get("/v1/jobs/last")).json["id"] == again
    unclear = await operator.get("/v1/jobs/rend")
    assert unclear.status == 400
    assert render in unclear.json["error"]["message"]
    missing = await operator.get("/v1/jobs/nothing")
    assert (missing.status, missing.code) == (404, "not_found")
    assert (await viewer.get("/v1/jobs/last")).status == 404
    assert (await operator.get("/v1/jobs/%20")).status == 404
    assert (await operator.get("/v1/jobs/" + "x" * 400)).status == 400
    assert (await operator.get("/v1/jobs/%00")).status == 400
    assert (await operator.get("/v1/jobs/a%25_")).status == 404


async def test_viewers_do_not_see_secrets(operator: Client, viewer: Client):
    job_id = await operator.submit(env={"TOKEN": "hunter2"})
    assert (await operator.get(f"/v1/jobs/{job_id}")).json["spec"]["env"] == {"TOKEN": "hunter2"}
    answer = await viewer.get(f"/v1/jobs/{job_id}?spec=1")
    assert answer.json["spec"]["env"] == {"TOKEN": "***"}
    for path in ("/v1/jobs", f"/v1/jobs/{job_id}/tasks", "/v1/status"):
        assert b"hunter2" not in (await viewer.get(path)).body


async def test_pages_of_jobs(operator: Client):
    ids = [await operator.submit() for _ in range(5)]
    first = (await operator.get("/v1/jobs?limit=2")).json
    assert [job["id"] for job in first["jobs"]] == [ids[4], ids[3]]
    assert "spec" not in first["jobs"][0] or first["jobs"][0]["spec"] is None
    second = (await operator.get(f"/v1/jobs?limit=3&before={first['next']}")).json
    assert [job["id"] for job in second["jobs"]] == [ids[2], ids[1], ids[0]]
    assert (await operator.get(f"/v1/jobs?before={ids[0]}")).json == {"jobs": [], "next": None}
    assert len((await operator.get("/v1/jobs?submitter=me&limit=99999")).json["jobs"]) == 5
    assert (await operator.get("/v1/jobs?submitter=somebody")).json["jobs"] == []
    for bad in ("limit=0", "limit=-1", "limit=x", "limit=1&limit=2", "limit=1e3"):
        assert (await operator.get(f"/v1/jobs?{bad}")).status == 400


async def test_cancel(world: World, operator: Client):
    await world.add_node()
    job_id = await operator.submit(inputs={"type": "range", "first": 1, "last": 100})
    answer = await operator.post(f"/v1/jobs/{job_id}/cancel", {"reason": "wrong\nfile"})
    assert answer.json["status"] == "CANCELLED"
    assert answer.json["cancel_reason"] == "wrong\N{REPLACEMENT CHARACTER}file"
    assert answer.json["tasks"]["cancelled"] == 100
    again = await operator.post(f"/v1/jobs/{job_id}/cancel", {"reason": "asked twice"})
    assert (again.status, again.json) == (200, answer.json)
    tasks = (await operator.get(f"/v1/jobs/{job_id}/tasks")).json["tasks"]
    assert {task["status"] for task in tasks} == {"CANCELLED"}
    assert len(tasks) == 100
    assert "cancel" in [row["action"] for row in (await operator.get("/v1/audit?limit=1")).json]


async def test_cancel_one_task(world: World, operator: Client):
    job_id = await operator.submit(**small(3))
    answer = await operator.post(f"/v1/jobs/{job_id}/tasks/1/cancel", {"reason": "not this one"})
    assert (answer.json["status"], answer.json["index"]) == ("CANCELLED", 1)
    assert (await operator.post(f"/v1/jobs/{job_id}/tasks/1/cancel")).status == 409
    assert (await operator.post(f"/v1/jobs/{job_id}/tasks/3/cancel")).status == 404
    states = [task["status"] for task in (await operator.get(f"/v1/jobs/{job_id}/tasks")).json["tasks"]]
    assert states == ["QUEUED", "CANCELLED", "QUEUED"]


async def test_tasks_of_a_state_that_were_never_placed_are_all_listed(world: World, operator: Client):
    """Those that lie before one that was cancelled by name too."""
    job_id = await operator.submit(**small(6))

    async def listed(state: str) -> list[int]:
        found: list[int] = []
        start: int | None = 0
        while start is not None:
            answer = await operator.get(f"/v1/jobs/{job_id}/tasks?status={state}&limit=2&from={start}")
            found += [task["index"] for task in answer.json["tasks"]]
            start = answer.json["next"]
        return found

    await operator.post(f"/v1/jobs/{job_id}/tasks/3/cancel")
    assert (await listed("QUEUED"), await listed("CANCELLED")) == ([0, 1, 2, 4, 5], [3])
    await operator.post(f"/v1/jobs/{job_id}/cancel")
    assert (await listed("QUEUED"), await listed("CANCELLED")) == ([], [0, 1, 2, 3, 4, 5])


async def test_tasks_in_pages(world: World, operator: Client):
    await world.add_node(cpus=3)
    items = {"type": "items", "items": [f"in-{number}" for number in range(10)]}
    job_id = await operator.submit(inputs=items)
    await world.start(job_id, 1)
    await world.finish(job_id, 0)
    seen: list[Any] = []
    start: int | None = 0
    while start is not None:
        page = (await operator.get(f"/v1/jobs/{job_id}/tasks?from={start}&limit=4")).json
        seen += page["tasks"]
        start = page["next"]
    assert [task["index"] for task in seen] == list(range(10))
    assert [task["payload"] for task in seen] == items["items"]
    assert seen[0].keys() >= TASK_KEYS
    assert (seen[0]["status"], seen[0]["node"], seen[0]["exit_code"]) == ("COMPLETED", "desk", 0)
    assert (seen[1]["status"], seen[9]["status"]) == ("RUNNING", "QUEUED")
    running = (await operator.get(f"/v1/jobs/{job_id}/tasks?status=RUNNING")).json["tasks"]
    assert [task["index"] for task in running] == [1]
    several = (await operator.get(f"/v1/jobs/{job_id}/tasks?status=completed,RUNNING")).json["tasks"]
    assert [task["index"] for task in several] == [0, 1]
    assert (await operator.get(f"/v1/jobs/{job_id}/tasks?status=SLEEPING")).status == 400
    assert (await operator.get(f"/v1/jobs/{job_id}/tasks/1")).json["status"] == "RUNNING"
    assert (await operator.get(f"/v1/jobs/{job_id}/tasks/10")).status == 404
    for bad in ("x", "-1", "1.5", "9" * 30, "%D9%A3"):
        assert (await operator.get(f"/v1/jobs/{job_id}/tasks/{bad}")).status == 400


async def test_a_node_may_be_asked_for_by_name(world: World, operator: Client):
    own = await world.add_node("desk")
    answer = await operator.post("/v1/jobs", {"spec": COMMAND | {"node": "desk"}})
    job_id = answer.json["job"]["id"]
    assert world.engine.state.jobs[job_id].job.spec.node == own
    assert (await operator.post("/v1/jobs", {"spec": COMMAND | {"node": "nobody"}})).status == 404


async def test_a_job_that_nothing_can_ever_run_is_taken_with_a_warning(world: World, operator: Client):
    await world.add_node(cpus=2)
    wanted = {"requests": {"cpu_millis": 64_000, "memory_bytes": 0, "gpus": 0}}
    answer = await operator.post("/v1/jobs", {"spec": COMMAND | wanted})
    assert answer.status == 201
    assert "offers only 2 CPUs" in answer.json["warnings"][0]
    assert "offers only 2 CPUs" in answer.json["job"]["waiting"]
    await world.leave("desk")
    fine = await operator.post("/v1/jobs", {"spec": COMMAND})
    assert fine.json["warnings"] == []
    assert "not connected" in fine.json["job"]["waiting"]


BAD_SPECS: dict[str, dict[str, Any]] = {
    "no such type": {"type": "teleport"},
    "empty argv": {"payload": {"argv": []}},
    "argv with NUL": {"payload": {"argv": ["a\0b"]}},
    "unknown field": {"surprise": 1},
    "no inputs": {"inputs": {"type": "items", "items": []}},
    "empty range": {"inputs": {"type": "range", "first": 2, "last": 1}},
    "step 0": {"inputs": {"type": "range", "first": 1, "last": 2, "step": 0}},
    "too many tasks": {"inputs": {"type": "range", "first": 1, "last": 10_000_001}},
    "range beyond numbers": {"inputs": {"type": "range", "first": 10**40, "last": 10**40}},
    "long name": {"name": "n" * 201},
    "huge name": {"name": "n" * 1_048_576},
    "many labels": {"tags": ["t"] * 100_000},
    "odd tag": {"tags": ["a b"]},
    "many variables": {"env": {f"V{number}": "" for number in range(10_000)}},
    "long variables": {"env": {"V": "x" * 300_000}},
    "odd variable": {"env": {"A=B": ""}},
    "variable with NUL": {"env": {"A": "a\0b"}},
    "no CPU": {"requests": {"cpu_millis": 0}},
    "negative memory": {"requests": {"memory_bytes": -1}},
    "absurd memory": {"requests": {"memory_bytes": 2**70}},
    "negative GPUs": {"requests": {"gpus": -1}},
    "priority": {"priority": 1001},
    "no attempts": {"max_attempts": 0},
    "many attempts": {"max_attempts": 101},
    "nothing at a time": {"max_running": 0},
    "no time": {"limits": {"attempt_seconds": 0}},
    "negative silence": {"limits": {"silence_seconds": -5}},
    "text for a number": {"priority": "high"},
    "number no frame holds": {"payload": {"argv": ["a"], "x": 2**70}},
    "frame too small": {"type": "script", "payload": {"source": "#!/bin/sh\n" + "x" * 1_040_000}},
}


async def test_nonsense_is_refused_and_nothing_is_kept(world: World, operator: Client):
    for why, spec in BAD_SPECS.items():
        answer = await operator.post("/v1/jobs", {"spec": COMMAND | spec})
        assert answer.status in {400, 413}, (why, answer.body)
        assert answer.code in {"bad_input", "too_large"}, why
        assert len(answer.body) < 2000, why
        assert world.engine.state.jobs == {}, why
    assert (await operator.get("/v1/jobs")).json["jobs"] == []


async def test_names_are_made_printable(operator: Client):
    job_id = await operator.submit(name="a\x1b]0;pwned\x07b\u202e")
    answer = await operator.get(f"/v1/jobs/{job_id}")
    assert b"\\u001b" not in answer.body
    assert "\u202e" not in answer.json["name"]


async def test_odd_keys_are_refused(operator: Client):
    for key in ("k" * 65, "a b", "é", "\n"):
        assert (await operator.post("/v1/jobs", {"spec": COMMAND, "key": key})).status == 400, key


async def test_large_jobs_are_shown_without_their_inputs(world: World, operator: Client):
    items = {"type": "items", "items": [str(number) for number in range(5000)]}
    job_id = await operator.submit(inputs=items)
    assert (await operator.get(f"/v1/jobs/{job_id}")).json["spec"] is None
    whole = (await operator.get(f"/v1/jobs/{job_id}?spec=1")).json
    assert whole["spec"]["inputs"]["items"] == items["items"]


async def test_live_jobs_of_one_operator_are_bounded_in_bytes(world, operator, monkeypatch):
    monkeypatch.setattr(memory, "LIVE_BYTES_EACH", 30_000)
    large = COMMAND | {"inputs": {"type": "items", "items": ["x" * 100] * 100}}
    first = await operator.post("/v1/jobs", {"spec": large})
    assert [(await operator.post("/v1/jobs", {"spec": large})).status for _ in range(2)] == [201, 413]
    assert (await operator.post("/v1/jobs", {"spec": COMMAND})).status == 201
    other = world.open(await world.member(Role.OPERATOR))
    assert (await other.post("/v1/jobs", {"spec": large})).status == 201
    await operator.post(f"/v1/jobs/{first.json['job']['id']}/cancel")
    assert (await operator.post("/v1/jobs", {"spec": large})).status == 201
