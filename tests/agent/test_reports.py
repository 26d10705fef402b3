"""Every way an attempt can end, in the coordinator's words."""

from __future__ import annotations

import pytest

from planetmesh.agent.job_here import OnLauncher
from planetmesh.agent.reports import cancelled, end_of, failed, output_of
from planetmesh.agent.sandbox.messages import Ended, Output, Why
from planetmesh.agent.worklist import DRAINING
from planetmesh.model.ids import JobId
from planetmesh.model.job import Outcome
from planetmesh.wire.agent import AssignTask, TaskOutput, TaskReturned

JOB = JobId("aaaaaaaaaa")
TASK = AssignTask(JOB, 3, 2)


def end(why, code=0, number=0, message="", stopped=""):
    ended = Ended(3, 2, why, code, number, message, 1.5, 0.5, 1000, 10, 20)
    return end_of(JOB, ended, OnLauncher(TASK, stopped=stopped), "desk")


@pytest.mark.parametrize(
    ("why", "code", "outcome", "said_code"),
    [
        (Why.EXIT, 0, Outcome.OK, 0),
        (Why.EXIT, 7, Outcome.EXIT_CODE, 7),
        (Why.SIGNAL, 139, Outcome.SIGNAL, 139),
        (Why.NOT_FOUND, 127, Outcome.NOT_FOUND, 127),
        (Why.NOT_EXECUTABLE, 126, Outcome.NOT_FOUND, 126),
        (Why.CANNOT_START, 126, Outcome.STAGING, None),
        (Why.TIMEOUT, 143, Outcome.TIMED_OUT, 143),
        (Why.SILENCE, 143, Outcome.SILENT, 143),
        (Why.MEMORY, 137, Outcome.MEMORY, 137),
        (Why.PROCESSES, 137, Outcome.SIGNAL, 137),
        (Why.DISK, 137, Outcome.SIGNAL, 137),
        (Why.KILLED, 143, Outcome.CANCELLED, None),
    ],
)
def test_each_end_has_its_outcome(why, code, outcome, said_code):
    result = end(why, code)
    assert (result.outcome, result.exit_code) == (outcome, said_code)
    assert bool(result.error) == (outcome is not Outcome.OK)
    assert (result.index, result.attempt, result.wall_seconds, result.cpu_seconds) == (3, 2, 1.5, 0.5)
    assert (result.memory_peak_bytes, result.stdout_bytes, result.stderr_bytes) == (1000, 10, 20)


def test_no_way_to_end_was_forgotten():
    assert all(end(why).error for why in Why if why is not Why.EXIT)


def test_what_was_stopped_for_a_drain_is_given_back_unless_it_made_it():
    assert end(Why.KILLED, 143, stopped=DRAINING) == TaskReturned(JOB, 3, 2, DRAINING, started=True)
    assert end(Why.EXIT, 0, stopped=DRAINING).outcome is Outcome.OK


def test_errors_name_the_node_and_stay_short():
    assert end(Why.EXIT, 3).error == "It ended with exit code 3 on desk."
    assert end(Why.SIGNAL, 139, 11).error == "It was ended by signal 11 on desk."
    assert end(Why.NOT_FOUND, 127, message="No 'ffmpg' here.").error == "desk: No 'ffmpg' here."
    assert len(failed(TASK, Outcome.LOST, "x" * 9999).error) == 500


def test_the_rest():
    assert output_of(JOB, Output(3, 2, 1, 5, b"x")) == TaskOutput(JOB, 3, 2, 1, 5, b"x")
    assert cancelled(JOB, 3, 2).outcome is Outcome.CANCELLED
