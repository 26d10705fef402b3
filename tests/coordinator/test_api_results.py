"""Results of a job in every form: what is in them and what is not, whose attempt counts, what is refused."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import aiohttp
import msgspec
import pytest
from api_world import Client, World, small, until

from planetmesh.coordinator.api import results
from planetmesh.mesh import effects as fx
from planetmesh.model.ids import JobId
from planetmesh.model.job import Counts, Job, JobSpec, Outcome, Range, Task, TaskState
from planetmesh.store.changes import Changes
from planetmesh.wire.agent import TaskOutput

RAW = bytes(range(256))


async def lines(client: Client, job: str, query: str = "form=json") -> list[dict[str, Any]]:
    answer = await client.get(f"/v1/jobs/{job}/results?{query}")
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    return [msgspec.json.decode(line) for line in answer.body.splitlines() if line]


async def text(client: Client, job: str, query: str = "") -> bytes:
    answer = await client.get(f"/v1/jobs/{job}/results{query}")
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/octet-stream"
    return answer.body


async def run(
    world: World, job_id: JobId, index: int, stdout: bytes = b"", outcome: Outcome = Outcome.OK
) -> None:
    """What an agent would do with a task that it has in hand."""
    if stdout:
        await world.write(job_id, index, stdout)
    await world.finish(job_id, index, outcome)


async def test_a_whole_job_in_every_form(world: World, operator: Client, viewer: Client):
    await world.add_node()
    job_id = await operator.submit(**small(4) | {"max_attempts": 1})
    await world.write(job_id, 0, b"an error", stream=2)
    await run(world, job_id, 3, b"3")
    await run(world, job_id, 2)
    await run(world, job_id, 1, b"half of it", Outcome.EXIT_CODE)
    await run(world, job_id, 0, RAW)
    for client in (operator, viewer):
        assert await text(client, "last" if client is operator else job_id) == RAW + b"3"
    assert await text(operator, job_id, "?form=text&from=1") == b"3"
    told = await lines(operator, job_id)
    assert [each["value"] for each in told[1:]] == [None, "", "3"]
    assert told[0]["encoding"] == "base64"
    first = {"index": 1, "input": "1", "inputs": None, "status": "FAILED", "exit_code": 3, "node": "desk"}
    assert told[1].items() >= (first | {"attempts": 1, "error": "Exit status 3.", "encoding": None}).items()
    assert told[3]["seconds"] == 5.0
    codes = await lines(operator, job_id, "form=codes")
    assert [each | {"value": 0, "encoding": 0, "is_cut": 0, "dropped_bytes": 0} for each in codes] == [
        each | {"value": 0, "encoding": 0, "is_cut": 0} for each in told
    ]
    assert "value" not in codes[0]


async def test_only_what_has_ended_so_far(world: World, operator: Client):
    await world.add_node()
    job_id = await operator.submit(**small(10))
    await run(world, job_id, 1, b"one")
    await world.write(job_id, 0, b"not yet")
    assert await text(operator, job_id) == b"one"
    assert [each["index"] for each in await lines(operator, job_id)] == [1]
    await world.finish(job_id, 0)
    assert await text(operator, job_id) == b"not yetone"


async def test_an_end_counts_once_it_was_told_to_somebody(world: World, operator: Client, monkeypatch):
    """The tables may be ahead of the disk: who sees the end in the job's view finds it in the results."""
    await world.add_node()
    job_id = await operator.submit(**small(2))
    await world.write(job_id, 0, b"zero")
    task = world.engine.state.jobs[job_id].tasks[0]

    def end(state: Any, now: Any) -> fx.Effects:
        from planetmesh.mesh import reactor
        from planetmesh.wire.agent import TaskResult

        result = TaskResult(job_id, 0, task.attempt, Outcome.OK, 0, "", wall_seconds=1.0)
        return reactor.on_task_ended(state, task.node_id, result, now)

    world.engine.post(end)
    await until(lambda: world.engine.state.jobs[job_id].counts.completed == 1)
    assert await text(operator, job_id) == b"zero"


async def test_of_a_retried_task_only_the_accepted_attempt_counts(world: World, operator: Client):
    await world.add_node()
    await world.add_node("other")
    job_id = await operator.submit(max_attempts=2)
    await run(world, job_id, 0, b"first try", Outcome.EXIT_CODE)
    assert await text(operator, job_id) == b""
    live = world.engine.state.jobs[job_id]
    await until(lambda: live.tasks[0].state in {TaskState.ASSIGNED, TaskState.RUNNING} or _retry_now(world))
    await run(world, job_id, 0, b"second try")
    assert await text(operator, job_id) == b"second try"
    (told,) = await lines(operator, job_id)
    assert (told["attempts"], told["value"]) == (2, "second try")


def _retry_now(world: World) -> None:
    """Do not wait out the back-off."""
    from planetmesh.mesh import reactor
    from planetmesh.model.clock import Moment

    world.engine.post(lambda state, now: reactor.on_backoffs_over(state, Moment(now.steady + 3600, now.wall)))


async def test_cancelled_and_never_placed_tasks_have_their_lines(world: World, operator: Client):
    await world.add_node(cpus=2)
    job_id = await operator.submit(**small(1200))
    await run(world, job_id, 0, b"done")
    await operator.post(f"/v1/jobs/{job_id}/tasks/1100/cancel", {})
    await operator.post(f"/v1/jobs/{job_id}/cancel", {})
    for index in list(world.engine.state.jobs[job_id].tasks) if job_id in world.engine.state.jobs else ():
        await run(world, job_id, index, outcome=Outcome.CANCELLED)
    assert job_id not in world.engine.state.jobs
    told = await lines(operator, job_id)
    assert [each["index"] for each in told] == list(range(1200))
    assert [each["status"] for each in told] == ["COMPLETED", *["CANCELLED"] * 1199]
    assert (told[1199]["attempts"], told[1199]["node"], told[1199]["seconds"]) == (0, None, None)
    cancelled = await lines(operator, job_id, "form=codes&status=CANCELLED&from=1099&limit=3")
    assert [each["index"] for each in cancelled] == [1099, 1100, 1101]
    assert await text(operator, job_id) == b"done"


async def test_only_tasks_that_ended_so(world: World, operator: Client):
    await world.add_node(cpus=8)
    job_id = await operator.submit(**small(6) | {"max_attempts": 1})
    for index in range(6):
        await run(world, job_id, index, b"x", Outcome.EXIT_CODE if index % 2 else Outcome.OK)
    failed = await lines(operator, job_id, "form=codes&status=failed")
    assert [each["index"] for each in failed] == [1, 3, 5]
    both = await lines(operator, job_id, "form=json&status=FAILED,COMPLETED&from=1&limit=3")
    assert [each["index"] for each in both] == [1, 2, 3]


async def test_tasks_with_several_inputs_name_each(world: World, operator: Client):
    await world.add_node()
    inputs = {"type": "items", "items": ["a b", "c", "d"]}
    job_id = await operator.submit(inputs=inputs, chunk=2)
    await run(world, job_id, 0, b"two")
    await run(world, job_id, 1, b"one")
    told = await lines(operator, job_id)
    assert [(each["input"], each["inputs"]) for each in told] == [("a b c", ["a b", "c"]), ("d", None)]


async def test_json_is_read_if_asked_and_large_outputs_are_cut(world: World, operator: Client, monkeypatch):
    monkeypatch.setattr(results, "VALUE_MOST_BYTES", 100)
    monkeypatch.setattr(results, "INLINE_BYTES", 120)
    await world.add_node(cpus=8)
    job_id = await operator.submit(**small(5))
    outputs = (b'{"a":\n [1]}\n', b"plain", b"x" * 101, b"[" + b" " * 98 + b"]", b'"' + b"y" * 97 + b'"')
    for index, stdout in enumerate(outputs):
        await run(world, job_id, index, stdout)
    told = await lines(operator, job_id, "form=json&parse=json")
    assert [each["value"] for each in told] == [{"a": [1]}, "plain", "x" * 100, [], "y" * 97]
    assert [each["encoding"] for each in told] == ["json", "text", "text", "json", "json"]
    assert [each["is_cut"] for each in told] == [False, False, True, False, False]
    assert (await lines(operator, job_id))[0]["value"] == '{"a":\n [1]}\n'


@pytest.mark.parametrize(
    "query",
    [
        "form=xml",
        "form=json&parse=yaml",
        "parse=json",
        "form=codes&parse=json",
        "status=FAILED",
        "limit=3",
        "form=json&status=RUNNING",
        "form=json&status=,",
        "form=json&limit=0",
        "form=json&from=-1",
    ],
)
async def test_nonsense_is_refused(operator: Client, query: str):
    job_id = await operator.submit()
    answer = await operator.get(f"/v1/jobs/{job_id}/results?{query}")
    assert (answer.status, answer.code) == (400, "bad_input")


async def test_unknown_jobs_and_a_job_that_goes_meanwhile(world: World, operator: Client, monkeypatch):
    assert (await operator.get("/v1/jobs/zzz/results")).status == 404
    job_id = await ended(world, 3, b"")

    async def gone(_prefix: str) -> list[JobId]:
        return []

    monkeypatch.setattr(world.engine.store, "find_jobs", gone)
    async with operator.lines(f"/v1/jobs/{job_id}/results?form=codes") as stream:
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.read()


async def ended(world: World, count: int, stdout: bytes) -> JobId:
    """A job that has ended well, straight on disk."""
    now = time.time()
    spec = JobSpec(type="command", payload={"argv": ["true"]}, inputs=Range(1, count))
    job = Job(
        id=JobId("ended00000"), spec=spec, submitter="me", created_at=now, started_at=now, completed_at=now
    )
    done = TaskState.COMPLETED
    for first in range(0, count, 10_000):
        tasks = [
            Task(job.id, index, done, attempt=1, exit_code=0)
            for index in range(first, min(first + 10_000, count))
        ]
        await world.engine.store.commit(
            Changes(jobs=[job], tasks=tasks, counts={job.id: Counts(completed=count)})
        )
        if stdout:
            await world.engine.outputs.append(
                [TaskOutput(job.id, task.index, 1, 1, 0, stdout) for task in tasks]
            )
    return job.id


@pytest.mark.slow
@pytest.mark.parametrize("query", ["form=text", "form=json", "form=codes"])
async def test_a_large_job_takes_little_memory(world: World, operator: Client, query: str):
    count, stdout = 50_000, b"x" * 399 + b"\n"
    job_id = await ended(world, count, stdout)
    size = read = 0
    tracemalloc.start()
    try:
        async with operator.lines(f"/v1/jobs/{job_id}/results?{query}") as stream:
            before, _peak = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            async for chunk in stream.content.iter_any():
                size += len(chunk)
                read += chunk.count(b"\n")
            _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read == count
    assert size > count * 100
    print(f"{query}: {size} bytes given, {peak - before} bytes more memory at the most")
    assert peak - before < 4 * 1024 * 1024, "the coordinator and this client together"


CALLS = {"type": "python", "payload": {"module": "m:f"}, "inputs": {"type": "items", "items": ["{}"] * 5}}


async def test_values_of_calls_are_given_also_of_tasks_that_failed(world: World, operator: Client):
    await world.add_node(cpus=8, job_types=("command", "python"))
    job_id = await operator.submit(**CALLS | {"chunk": 2, "max_attempts": 1})
    await world.write(job_id, 0, b"printed")
    await world.write(job_id, 0, b'{"n":0,"v":[1]}\n{"n":1,"p":"gAQ="}\n', stream=3)
    await world.write(job_id, 1, b'{"n":0,"e":{"type":"E","message":"bad"}}\n{"n":1,"v":2}\n', stream=3)
    await world.write(job_id, 2, b'{"n":0,"v":3}\n', stream=3)
    await world.finish(job_id, 0)
    await world.finish(job_id, 1, Outcome.EXIT_CODE)
    await world.finish(job_id, 2)
    told = await lines(operator, job_id)
    assert [(each["status"], each["encoding"]) for each in told] == [
        ("COMPLETED", "calls"),
        ("FAILED", "calls"),
        ("COMPLETED", "json"),
    ]
    assert [each["value"] for each in told] == [
        [{"value": [1]}, {"encoding": "pickle", "value": "gAQ="}],
        [{"error": {"type": "E", "message": "bad"}}, {"value": 2}],
        3,
    ]
    assert await text(operator, job_id) == b"printed"


async def test_values_beyond_a_mebibyte_are_whole(world: World, operator: Client):
    await world.add_node(job_types=("python",))
    job_id = await operator.submit(**CALLS | {"inputs": {"type": "one"}})
    data = b'{"n":0,"v":"%b"}\n' % (b"x" * 1_500_000)
    await world.write(job_id, 0, data, stream=3)
    await world.finish(job_id, 0)
    (told,) = await lines(operator, job_id)
    assert (len(told["value"]), told["encoding"], told["is_cut"]) == (1_500_000, "json", False)
