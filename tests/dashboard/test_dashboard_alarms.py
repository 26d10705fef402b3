"""What to look at."""

from __future__ import annotations

from dashboard_views import counts, job_view, node_view, snapshot, status_view

from planetmesh.dashboard.alarms import alarms_of
from planetmesh.model.job import JobState
from planetmesh.model.node import NodeState


def sentences(*things, **more) -> list[str]:
    return [each.sentence for each in alarms_of(snapshot(*things, **more))]


def test_a_mesh_that_is_well_has_none() -> None:
    busy = job_view("b", waiting="All machines that can run it are busy.")
    assert sentences(node_view(), job_view(), busy) == []


def test_a_mesh_without_machines_says_what_to_type() -> None:
    (alarm,) = alarms_of(snapshot())
    assert alarm.command == "planetmesh code"


def test_machines_that_are_away_are_named_a_few_of_them() -> None:
    nodes = [node_view(f"n{number}", state=NodeState.OFFLINE) for number in range(5)]
    assert sentences(*nodes) == ["n0, n1, n2 and 2 more are OFFLINE."]


def test_a_job_that_mostly_fails_is_named_while_it_still_can_be_stopped() -> None:
    bad = job_view("bad", tasks=counts(failed=15, completed=5, queued=80), error="Exit status 3.")
    few = job_view("few", tasks=counts(failed=9, queued=80))
    fair = job_view("fair", tasks=counts(failed=9, completed=11, queued=80))
    (alarm,) = alarms_of(snapshot(node_view(), bad, few, fair))
    assert alarm.sentence == "bad: 15 of 20 tasks failed so far: Exit status 3."
    assert alarm.command == f"planetmesh job {bad.id} --tasks --failed"


def test_a_note_a_waiting_job_and_failures() -> None:
    found = sentences(
        node_view(note="It is drained."),
        job_view("gpu", waiting="No machine can run it now."),
        job_view("bad", JobState.FAILED, tasks=counts(failed=2), error="Exit status 3."),
        status=status_view(storage_error="disk full"),
    )
    assert found == [
        "The coordinator cannot write: disk full",
        "desk: It is drained.",
        "gpu waits: No machine can run it now.",
        "bad: 2 tasks failed: Exit status 3.",
    ]


def test_there_are_never_many() -> None:
    jobs = [job_view(f"j{number}", waiting="No machine can run it now.") for number in range(100)]
    nodes = [node_view(f"n{number}", note="x") for number in range(100)]
    assert len(sentences(*jobs, *nodes)) < 12


def test_a_name_that_a_shell_would_read_is_quoted_in_the_command() -> None:
    for name, command in (
        ("my attic", "planetmesh explain 'my attic'"),
        ("a;reboot", "planetmesh explain 'a;reboot'"),
        ("desk", "planetmesh explain desk"),
    ):
        (alarm,) = alarms_of(snapshot(node_view("desk"), node_view(name, id="x", state=NodeState.OFFLINE)))
        assert alarm.command == command
