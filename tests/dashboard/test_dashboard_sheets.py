"""Sheets of words."""

from __future__ import annotations

from dashboard_views import HOSTILE, counts, job_view, node_view, snapshot, status_view, task_view

from planetmesh.dashboard import sheets
from planetmesh.dashboard.alarms import Alarm
from planetmesh.dashboard.plain import text_of
from planetmesh.model.job import JobState, TaskState
from planetmesh.wire.api import AttemptView, Explanation, FindingView


def said(lines) -> str:
    return "\n".join(text_of(line) for line in lines)


def test_the_mesh() -> None:
    shown = said(sheets.mesh_lines(snapshot(job_view(tasks=counts(queued=3)))))
    assert "home" in shown
    assert "aaaa bbbb" in shown
    assert "3 tasks" in shown
    assert said(sheets.mesh_lines(snapshot(status=None))) == "not reached yet"


def test_counts() -> None:
    shot = snapshot(node_view("a"), node_view("b", draining=True), job_counts={"FAILED": 2})
    assert "2 HEALTHY" in said(sheets.node_count_lines(shot))
    assert "1 draining" in said(sheets.node_count_lines(shot))
    assert "8 CPUs offered" in said(sheets.node_count_lines(shot))
    assert "2 FAILED" in said(sheets.job_count_lines(shot))
    one = said(
        sheets.node_count_lines(snapshot(node_view(offer_cpus=1.0), job_view(tasks=counts(running=1))))
    )
    assert one.splitlines()[-2:] == ["   1 CPU offered", "   1 task running"]


def test_what_goes_on_with_what_runs_first() -> None:
    jobs = [job_view(f"j{number}") for number in range(4)]
    jobs.append(job_view("runs", tasks=counts(running=1, completed=1)))
    lines = sheets.active_lines(snapshot(*jobs), 80, 3)
    assert len(lines) == 3
    assert said(lines).startswith("runs")
    assert "50%  1/2" in said(lines)
    assert "3 more" in said(lines)
    assert "Nothing runs" in said(sheets.active_lines(snapshot(), 80, 3))


def test_a_job_that_goes_on_is_one_line_at_every_width() -> None:
    job = job_view("holiday photos of 2019", tasks=counts(completed=97_000, failed=3000, running=4, queued=1))
    shot = snapshot(job, paces={job.id: 1234.5})
    shown = {width: said(sheets.active_lines(shot, width, 3)) for width in (46, 76, 120)}
    assert all(len(line) <= width for width, line in shown.items())
    assert all("100000/100005" in line for line in shown.values())
    assert "3000 failed" in shown[76]
    assert "left" in shown[76]
    assert "/s" not in shown[76]
    assert shown[120].endswith("/s")


def test_alarms_with_their_command() -> None:
    assert said(sheets.alarm_lines([], 3)) == "All is well."
    shown = said(sheets.alarm_lines([Alarm("It is away.", "planetmesh nodes")] * 5, 3))
    assert "● It is away.  → planetmesh nodes" in shown
    assert shown.endswith("… and 2 more")


def test_a_job() -> None:
    job = job_view("a", tasks=counts(failed=1, completed=3), error="Exit status 3.", priority=5)
    shown = said(sheets.job_lines(job, snapshot(job), "ffmpeg -i x"))
    for text in ("100%  4/4 tasks: 3 completed, 1 failed", "priority 5", "$ ffmpeg -i x", "Exit status 3."):
        assert text in shown
    ended = job_view("a", JobState.COMPLETED, completed_at="2023-11-14T22:13:22Z")
    assert "took 2.0s" in said(sheets.job_lines(ended, snapshot()))


def test_a_task_and_a_node() -> None:
    task = task_view(4, TaskState.FAILED, exit_code=9, last_error="It broke.", payload="in.png")
    assert "task 4 on desk  FAILED  exit 9" in said(sheets.task_lines(task, snapshot()))
    shown = said(sheets.node_lines(node_view(note="It is drained."), snapshot()))
    assert "4 of 4 CPUs" in shown
    assert "It is drained." in shown


def test_an_explanation() -> None:
    found = Explanation(
        subject="job a", status="QUEUED", summary="0 of 1 tasks",
        findings=(FindingView("It has no GPU.", "planetmesh nodes", "desk"),),
        attempts=(AttemptView(attempt=1, node="desk", outcome="lost", exit_code=None, error="",
                              started_at=None, finished_at=None),),
    )  # fmt: skip
    assert said(sheets.explanation_lines(found)).splitlines() == [
        "job a is QUEUED: 0 of 1 tasks.",
        "  attempt 1 on desk ended as lost.",
        "  desk: It has no GPU.",
        "      → planetmesh nodes",
    ]


def test_nothing_hostile_comes_through() -> None:
    node = node_view(HOSTILE, note=HOSTILE, hostname=HOSTILE, version=HOSTILE, tags=(HOSTILE,))
    job = job_view(id="a", name=HOSTILE, error=HOSTILE, waiting=HOSTILE, cancel_reason=HOSTILE)
    task = task_view(node=HOSTILE, payload=HOSTILE, last_error=HOSTILE)
    shot = snapshot(node, job, status=status_view(mesh=HOSTILE, role=HOSTILE, fingerprint=HOSTILE))
    why = Explanation(
        subject=HOSTILE, status=HOSTILE, summary=HOSTILE, findings=(FindingView(*[HOSTILE] * 3),)
    )
    lines = [
        *sheets.mesh_lines(shot), *sheets.node_lines(node, shot), *sheets.job_lines(job, shot, HOSTILE),
        *sheets.task_lines(task, shot), *sheets.explanation_lines(why), *sheets.active_lines(shot, 80, 9),
        *sheets.alarm_lines([Alarm(HOSTILE, HOSTILE)], 9),
    ]  # fmt: skip
    assert [text_of(line) for line in lines if not text_of(line).isprintable()] == []
