"""What the tests of the worklist share: jobs and tasks in short words, and steps made readable."""

from __future__ import annotations

from planetmesh.agent.steps import Start
from planetmesh.agent.worklist import Worklist
from planetmesh.model.ids import JobId
from planetmesh.model.job import Limits
from planetmesh.model.node import Gpu
from planetmesh.model.resources import Resources
from planetmesh.settings import Settings
from planetmesh.wire.agent import AssignTask, Held, OpenJob

A, B = JobId("aaaaaaaaaa"), JobId("bbbbbbbbbb")


def opening(job_id=A, cpus=1.0, gpus=0, memory=0, at_most_once=False):
    requests = Resources(int(cpus * 1000), memory, gpus)
    return OpenJob(job_id, "command", {}, requests, {}, Limits(), at_most_once)


def task(index, job_id=A, attempt=1):
    return AssignTask(job_id, index, attempt)


def held(index, job_id=A, attempt=1, running=False):
    return Held(job_id, index, attempt, running)


def worklist(cpus=4, gpus=()):
    devices = tuple(Gpu(name, "card", 0) for name in gpus)
    return Worklist(Resources(cpus * 1000, 2**33, len(gpus)), devices, Settings())


def begin(work, count, job_id=A, running=True, **opened):
    """Open a job with so many tasks; report as started what was handed over."""
    work.open_job(opening(job_id, **opened))
    for index in range(count):
        assert work.assign(task(index, job_id))
    steps = work.next_steps()
    for step in steps:
        if running and isinstance(step, Start):
            assert work.on_started(step.task.job_id, step.task.index, step.task.attempt)
    return steps


def kinds(steps):
    return [type(step).__name__ for step in steps]


def started(steps):
    return [(step.task.job_id, step.task.index) for step in steps if isinstance(step, Start)]
