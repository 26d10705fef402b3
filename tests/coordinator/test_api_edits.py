"""Jobs that were handed in already, over the API: paused, changed, tried again, and explained."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from api_world import COMMAND, Client, World, small

from planetmesh.mesh import nodes
from planetmesh.model.identity import Role
from planetmesh.model.job import Outcome

RANGE = {"type": "range", "first": 1, "last": 3}


async def change(operator: Client, job_id: str, **what) -> object:
    return await operator.ask("PATCH", f"/v1/jobs/{job_id}", what)


async def three(operator: Client, **spec) -> str:
    return await operator.submit(inputs=RANGE, max_attempts=1, **spec)


async def test_paused_and_resumed_and_kept_over_a_restart(world: World, operator: Client):
    job_id = await three(operator)
    paused = await change(operator, job_id, paused=True)
    assert (paused.status, paused.json["paused"]) == (200, True)
    assert paused.json["waiting"] == f"It is paused (`planetmesh resume {job_id}`)."
    await world.add_node()
    assert (await operator.get(f"/v1/jobs/{job_id}")).json["tasks"]["queued"] == 3
    await world.engine.load()
    assert world.engine.state.jobs[job_id].is_held
    assert (await change(operator, job_id, paused=False)).json["paused"] is False


async def test_priority_and_limit_change_while_it_waits(world: World, operator: Client):
    job_id = await three(operator, max_running=1)
    changed = await change(operator, job_id, priority=7, max_running=0)
    assert changed.json["priority"] == 7
    await world.engine.load()
    job = world.engine.state.jobs[job_id].job
    assert (job.priority, job.max_running) == (7, None)
    assert (await change(operator, job_id, priority=5000)).status == 400
    assert (await change(operator, job_id)).status == 400
    assert (await change(operator, job_id, color="red")).status == 400


async def test_a_finished_job_is_not_changed(world: World, operator: Client):
    job_id = await operator.submit()
    await operator.post(f"/v1/jobs/{job_id}/cancel")
    answer = await change(operator, job_id, priority=1)
    assert answer.status == 409
    assert "has ended" in answer.json["error"]["message"]
    assert f"planetmesh retry {job_id}" in answer.json["error"]["hint"]


async def test_viewers_look_and_change_nothing(world: World, operator: Client):
    job_id = await three(operator)
    viewer = await world.client(Role.VIEWER)
    assert (await viewer.ask("PATCH", f"/v1/jobs/{job_id}", {"paused": True})).status == 403
    assert (await viewer.post(f"/v1/jobs/{job_id}/retry")).status == 403
    assert (await viewer.get(f"/v1/jobs/{job_id}/explain")).status == 200


class TestAfter:
    async def test_it_runs_when_the_other_has_succeeded(self, world: World, operator: Client):
        await world.add_node()
        first = await operator.submit()
        second = await operator.submit(after=[{"job": first}])
        view = (await operator.get(f"/v1/jobs/{second}")).json
        assert (view["status"], view["after"]) == ("QUEUED", [first])
        assert f"It runs once job {first} has succeeded" in view["waiting"]
        await world.finish(first)
        assert (await operator.get(f"/v1/jobs/{second}?wait=0.05")).json["status"] == "RUNNING"

    async def test_it_still_waits_after_a_restart(self, world: World, operator: Client):
        first = await operator.submit()
        second = await operator.submit(after=[{"job": first}])
        await world.engine.load()
        assert world.engine.state.dependents == {first: {second}}
        assert world.engine.state.jobs[second].is_held

    async def test_the_other_may_have_ended_before(self, world: World, operator: Client):
        await world.add_node()
        first = await operator.submit(name="first")
        await world.finish(first)
        second = await operator.submit(after=[{"job": first[:6], "on": "end"}])
        assert (await operator.get(f"/v1/jobs/{second}")).json["after"] == []
        refused = await operator.post(
            "/v1/jobs", {"spec": COMMAND | {"after": [{"job": first, "on": "failure"}]}}
        )
        assert refused.status == 400
        assert "would never run" in refused.json["error"]["message"]
        assert (
            await operator.post("/v1/jobs", {"spec": COMMAND | {"after": [{"job": "nobody"}]}})
        ).status == 404

    async def test_a_circle_is_refused(self, world: World, operator: Client):
        first = await operator.submit()
        second = await operator.submit(after=[{"job": first}])
        answer = await change(operator, first, after=[{"job": second}])
        assert answer.status == 400
        assert f"{first} after {second} after {first}" in answer.json["error"]["message"]
        assert (await change(operator, second, after=[])).json["after"] == []

    async def test_one_that_ends_at_the_same_moment(self, world: World, operator: Client):
        await world.add_node()
        for _round in range(10):
            first = await operator.submit()
            _ended, second = await asyncio.gather(
                world.finish(first), operator.submit(after=[{"job": first}])
            )
            assert (await operator.get(f"/v1/jobs/{second}?wait=0.01")).json["after"] == []
            await operator.post(f"/v1/jobs/{second}/cancel")


class TestRetry:
    async def test_only_the_failed_tasks(self, world: World, operator: Client):
        await world.add_node()
        job_id = await three(operator)
        for index, outcome in enumerate([Outcome.OK, Outcome.EXIT_CODE, Outcome.EXIT_CODE]):
            await world.finish(job_id, index, outcome)
        assert (await operator.get(f"/v1/jobs/{job_id}")).json["status"] == "FAILED"
        answer = await operator.post(f"/v1/jobs/{job_id}/retry")
        assert (answer.status, answer.json["again"], answer.json["left"]) == (200, 2, 0)
        assert answer.json["job"]["status"] == "RUNNING"
        assert answer.json["job"]["completed_at"] is None
        for index in (1, 2):
            assert world.engine.state.jobs[job_id].tasks[index].attempt == 2
            await world.finish(job_id, index)
        view = (await operator.get(f"/v1/jobs/{job_id}")).json
        assert (view["status"], view["tasks"]["completed"], view["error"]) == ("COMPLETED", 3, "")
        assert (await operator.post(f"/v1/jobs/{job_id}/retry")).status == 409

    async def test_twice_at_the_same_time_is_once(self, world: World, operator: Client):
        await world.add_node()
        job_id = await three(operator)
        for index in range(3):
            await world.finish(job_id, index, Outcome.EXIT_CODE)
        answers = await asyncio.gather(*(operator.post(f"/v1/jobs/{job_id}/retry") for _ in range(3)))
        assert sorted(answer.status for answer in answers) == [200, 409, 409]
        await world.engine.load()
        assert world.engine.state.jobs[job_id].counts.total == 3

    async def test_tasks_that_waited_too_long(self, world: World, operator: Client):
        job_id = await three(operator, limits={"queue_seconds": 0.05})
        for _tick in range(2):
            await world.engine.do(nodes.on_tick)
            await asyncio.sleep(0.06)
        view = await operator.get(f"/v1/jobs/{job_id}?wait=5")
        assert (view.json["status"], view.json["tasks"]["failed"]) == ("FAILED", 3)
        tasks = (await operator.get(f"/v1/jobs/{job_id}/tasks")).json["tasks"]
        assert {task["status"] for task in tasks} == {"FAILED"}
        assert "its limit" in tasks[2]["last_error"]
        assert (await operator.post(f"/v1/jobs/{job_id}/retry")).json["again"] == 3

    async def test_it_counts_as_one_more_live_job_of_its_submitter(
        self, world: World, operator: Client, monkeypatch
    ):
        await world.add_node()
        job_id = await operator.submit(max_attempts=1)
        await world.finish(job_id, 0, Outcome.EXIT_CODE)
        await operator.submit()
        monkeypatch.setattr("planetmesh.coordinator.api.jobs.LIVE_JOBS_EACH", 1)
        answer = await operator.post(f"/v1/jobs/{job_id}/retry")
        assert answer.status == 413
        assert job_id not in world.engine.state.jobs

    async def test_a_task_that_was_never_given_out_has_not_begun_after_a_restart(
        self, world: World, operator: Client
    ):
        """A row before a later one's: such tasks get a record at a restart, and no time runs for them."""
        job_id = await three(operator, limits={"total_seconds": 60})
        await operator.post(f"/v1/jobs/{job_id}/tasks/2/cancel")
        await world.engine.load()
        live = world.engine.state.jobs[job_id]
        assert sorted(live.tasks) == [0, 1]
        assert live.begun == {}

    async def test_what_may_run_only_once_is_refused(self, world: World, operator: Client):
        await world.add_node()
        job_id = await operator.submit(at_most_once=True, max_attempts=1)
        await world.finish(job_id, 0, Outcome.EXIT_CODE)
        answer = await operator.post(f"/v1/jobs/{job_id}/retry")
        assert answer.status == 409
        assert "only once" in answer.json["error"]["message"]


class TestRetryOfACause:
    async def fails(self, world: World, operator: Client) -> tuple[str, str, str]:
        """Three in a row, of which the first fails."""
        await world.add_node()
        first = await operator.submit(max_attempts=1)
        second = await operator.submit(after=[{"job": first}], inputs=RANGE)
        third = await operator.submit(after=[{"job": second}])
        await world.finish(first, 0, Outcome.EXIT_CODE)
        for each in (second, third):
            assert (await operator.get(f"/v1/jobs/{each}")).json["status"] == "CANCELLED"
        return first, second, third

    async def test_those_that_waited_wait_again_also_after_a_restart(self, world: World, operator: Client):
        first, second, third = await self.fails(world, operator)
        why = (await operator.get(f"/v1/jobs/{second}/explain")).json["findings"][0]
        assert why["hint"] == f"planetmesh retry {first}"
        answer = (await operator.post(f"/v1/jobs/{first}/retry")).json
        assert (answer["again"], answer["waiting"], answer["cancelled"]) == (1, [second, third], [])
        view = (await operator.get(f"/v1/jobs/{second}")).json
        assert (view["status"], view["after"], view["cancel_reason"]) == ("QUEUED", [first], "")
        assert view["tasks"]["queued"] == 3
        await world.engine.load()
        assert world.engine.state.dependents == {first: {second}, second: {third}}
        assert (await operator.get(f"/v1/jobs/{third}")).json["completed_at"] is None

    async def test_they_run_when_it_succeeds_at_last(self, world: World, operator: Client):
        first, second, third = await self.fails(world, operator)
        await operator.post(f"/v1/jobs/{first}/retry")
        await world.finish(first)
        for index in range(3):
            await world.finish(second, index)
        await world.finish(third)
        assert (await operator.get(f"/v1/jobs/{third}")).json["status"] == "COMPLETED"

    async def test_what_a_person_cancelled_stays_cancelled(self, world: World, operator: Client):
        await world.add_node()
        first = await operator.submit(max_attempts=1)
        second = await operator.submit(after=[{"job": first}])
        await operator.post(f"/v1/jobs/{second}/cancel")
        await world.finish(first, 0, Outcome.EXIT_CODE)
        answer = (await operator.post(f"/v1/jobs/{first}/retry")).json
        assert (answer["waiting"], answer["cancelled"]) == ([], [])
        assert (await operator.get(f"/v1/jobs/{second}")).json["status"] == "CANCELLED"

    async def test_the_bounds_of_a_submit_hold_and_it_is_said(
        self, world: World, operator: Client, monkeypatch
    ):
        first, second, third = await self.fails(world, operator)
        monkeypatch.setattr("planetmesh.coordinator.api.dropped.LIVE_JOBS_EACH", 2)
        answer = (await operator.post(f"/v1/jobs/{first}/retry")).json
        assert (answer["waiting"], answer["cancelled"]) == ([second], [third])
        assert (await operator.get(f"/v1/jobs/{third}")).json["status"] == "CANCELLED"

    async def test_so_many_at_a_time_and_it_is_said(self, world: World, operator: Client, monkeypatch):
        first, second, third = await self.fails(world, operator)
        monkeypatch.setattr("planetmesh.coordinator.api.dropped.DROPPED_MOST", 1)
        answer = (await operator.post(f"/v1/jobs/{first}/retry")).json
        assert (answer["waiting"], answer["cancelled"]) == ([second], [third])

    async def test_one_that_is_not_kept_any_more_is_in_the_way(self, world: World, operator: Client):
        await world.add_node(cpus=1)
        first = await operator.submit(max_attempts=1)
        other = await operator.submit()
        second = await operator.submit(after=[{"job": first}, {"job": other}])
        await world.finish(first, 0, Outcome.EXIT_CODE)
        await world.finish(other)
        await world.engine.store._database.write(
            lambda connection: connection.execute("DELETE FROM jobs WHERE id = ?", (other,))
        )
        world.parts.shelf.forget(other)
        answer = (await operator.post(f"/v1/jobs/{first}/retry")).json
        assert (answer["waiting"], answer["cancelled"]) == ([], [second])


class TestExplain:
    async def of(self, operator: Client, path: str) -> tuple[str, str]:
        answer = await operator.get(f"/v1/{path}/explain")
        assert answer.status == 200
        lines = [f"{each['about']} {each['sentence']} {each['hint']}" for each in answer.json["findings"]]
        return answer.json["status"], "\n".join(lines)

    async def test_a_job_that_waits_names_each_machine(self, world: World, operator: Client):
        assert "planetmesh code" in (await self.of(operator, f"jobs/{await operator.submit()}"))[1]
        await world.add_node("attic")
        job_id = await operator.submit(tags=["gpu"])
        status, said = await self.of(operator, f"jobs/{job_id}")
        assert status == "QUEUED"
        assert "attic It lacks the tag gpu. planetmesh node tag attic gpu" in said

    async def test_a_task_tells_its_story_and_why_it_was_there(self, world: World, operator: Client):
        await world.add_node("attic")
        job_id = await operator.submit(max_attempts=2)
        _status, said = await self.of(operator, f"jobs/{job_id}/tasks/0")
        assert "attic It was the cheapest: cost 0" in said
        await world.finish(job_id, 0, Outcome.EXIT_CODE)
        status, said = await self.of(operator, f"jobs/{job_id}/tasks/0")
        assert status == "RETRYING"
        assert "tried again in 1 s" in said
        story = (await operator.get(f"/v1/jobs/{job_id}/tasks/0/explain")).json["attempts"]
        assert [(each["node"], each["outcome"]) for each in story] == [("attic", "exit_code")]
        assert story[0]["why_there"].startswith("cost 0")

    async def test_an_ended_one(self, world: World, operator: Client):
        await world.add_node("attic")
        job_id = await operator.submit(max_attempts=1)
        await world.finish(job_id, 0, Outcome.EXIT_CODE)
        assert f"planetmesh retry {job_id}" in (await self.of(operator, f"jobs/{job_id}"))[1]
        status, said = await self.of(operator, f"jobs/{job_id}/tasks/0")
        assert status == "FAILED"
        assert "It was the cheapest" in said
        assert "attic Exit status 3." in said

    async def test_a_retry_is_not_advised_for_what_is_wrong_with_the_inputs_themselves(
        self, world: World, operator: Client
    ):
        await world.add_node("attic")
        job_id = await operator.submit(max_attempts=3)
        await world.finish(job_id, 0, Outcome.INPUTS)
        status, said = await self.of(operator, f"jobs/{job_id}/tasks/0")
        assert status == "FAILED"
        assert "mend them and hand them in anew" in said
        assert "planetmesh retry" not in said
        status, said = await self.of(operator, f"jobs/{job_id}")
        assert (status, "mend them and hand them in anew" in said) == ("FAILED", True)
        assert "planetmesh retry" not in said

    async def test_a_job_of_which_some_inputs_are_faulty_says_how_many(self, world: World, operator: Client):
        await world.add_node("attic")
        job_id = await operator.submit(**small(3), max_attempts=1)
        for index, outcome in enumerate((Outcome.INPUTS, Outcome.EXIT_CODE, Outcome.INPUTS)):
            await world.finish(job_id, index, outcome)
        _status, said = await self.of(operator, f"jobs/{job_id}")
        assert f"planetmesh retry {job_id}" in said
        assert "2 of them failed by their own inputs. mend them" in said

    async def test_a_node(self, world: World, operator: Client):
        await world.add_node("attic")
        _status, said = await self.of(operator, "nodes/attic")
        assert "It is idle because no job waits." in said
        await operator.ask("PATCH", "/v1/nodes/attic", {"draining": True})
        assert "planetmesh node resume attic" in (await self.of(operator, "nodes/attic"))[1]
        assert (await operator.get("/v1/nodes/nobody/explain")).status == 404


async def test_a_chunk_is_one_task_with_its_inputs(world: World, operator: Client):
    await world.add_node(cpus=1)
    job_id = await operator.submit(inputs={"type": "range", "first": 1, "last": 5}, chunk=2)
    tasks = (await operator.get(f"/v1/jobs/{job_id}/tasks")).json["tasks"]
    assert [task["payload"] for task in tasks] == ["1 2", "3 4", "5"]
    assert world.engine.state.jobs[job_id].total == 3


@pytest.mark.parametrize(("chunk", "counts_inputs", "total"), [(0, True, 9), (3, False, 3)])
async def test_what_the_counters_count_is_said(
    world: World, operator: Client, chunk: int, counts_inputs: bool, total: int
):
    await world.add_node(cpus=1)
    inputs = {"type": "range", "first": 1, "last": 9}
    job_id = await operator.submit(inputs=inputs, chunk=chunk, max_attempts=1, name="wide")
    noun = "inputs" if counts_inputs else "tasks"

    async def said() -> set[tuple[bool, int]]:
        views = [(await operator.get("/v1/jobs/wide")).json, (await operator.get("/v1/jobs")).json["jobs"][0]]
        summary = (await operator.get("/v1/jobs/wide/explain")).json["summary"]
        assert f" of {total} {noun} completed" in summary
        return {(view["counts_inputs"], view["tasks"]["total"]) for view in views}

    assert await said() == {(counts_inputs, total)}
    await operator.post(f"/v1/jobs/{job_id}/cancel")
    assert await said() == {(counts_inputs, total)}


@pytest.mark.parametrize("chunk", [0, 3])
async def test_chunks_outlive_a_restart(world: World, operator: Client, chunk: int):
    await world.add_node(cpus=2)
    job_id = await operator.submit(inputs={"type": "range", "first": 1, "last": 9}, chunk=chunk)
    await world.finish(job_id, 0)
    before = world.engine.state.jobs[job_id]
    await world.engine.load()
    after = world.engine.state.jobs[job_id]
    assert after.counts == before.counts
    assert after.next_index == before.next_index
    as_before = msgspec.structs.replace(before.tasks[1], terms=after.tasks[1].terms)
    assert after.tasks[1] == as_before
    assert after.tasks[1].terms.cost == pytest.approx(before.tasks[1].terms.cost, rel=1e-3)
