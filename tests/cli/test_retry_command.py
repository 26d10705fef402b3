"""`planetmesh retry` against a real coordinator: what it says of the jobs that come back with one."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "coordinator"))

from api_world import World

from planetmesh.model.ids import JobId
from planetmesh.model.job import Outcome


def test_it_names_the_jobs_that_wait_again_and_those_that_do_not(say, coordinator, tmp_path, monkeypatch):
    world = World(tmp_path)
    world.engine = coordinator.engine
    coordinator.call(world.add_node(cpus=1))
    first = say("run", "--detach", "--retries", "0", "x").text.strip()
    second = say("run", "--detach", "--after", first, "y").text.strip()
    third = say("run", "--detach", "--after", second, "z").text.strip()

    coordinator.call(world.finish(JobId(first), 0, Outcome.EXIT_CODE))
    assert say("job", second, "--json").json["status"] == "CANCELLED"
    said = say("retry", second)
    assert (said.status, f"planetmesh retry {first}" in said.error) == (2, True)
    assert (
        say("retry", first).text
        == f"1 task of job {first} will run again. 2 jobs wait for it again: {second}, {third}.\n"
    )

    coordinator.call(world.finish(JobId(first), 0, Outcome.EXIT_CODE))
    monkeypatch.setattr("planetmesh.coordinator.api.dropped.DROPPED_MOST", 1)
    said = say("retry", first)
    assert said.text == f"1 task of job {first} will run again. Job {second} waits for it again.\n"
    assert (
        f"Job {third}, which was to run after it, stays cancelled: planetmesh explain {third}" in said.error
    )
    said = say("explain", third)
    assert (f"job {second} has succeeded" in said.text, "planetmesh retry" in said.text) == (True, False)
