"""Tasks by machine."""

from __future__ import annotations

from dashboard_views import snapshot, task_view

from planetmesh.dashboard.plain import text_of
from planetmesh.dashboard.tally import TALLIES, tally_of
from planetmesh.model.job import TaskState


def test_each_machine_has_its_counts_and_its_last_error() -> None:
    end = "2023-11-14T22:13:24Z"
    found = tally_of(
        [
            task_view(0, TaskState.COMPLETED, finished_at=end),
            task_view(1, TaskState.COMPLETED, finished_at=end),
            task_view(2, TaskState.FAILED, node="attic", last_error="Exit status 3."),
            task_view(3, TaskState.RUNNING),
            task_view(4, TaskState.QUEUED, node=None),
            task_view(5, TaskState.CANCELLED, node=None),
        ]
    )
    assert [(each.node, each.completed, each.failed, each.live) for each in found] == [
        ("attic", 0, 1, 0),
        ("desk", 2, 0, 1),
        ("", 0, 0, 1),
    ]
    assert found[0].error == "Exit status 3."
    shown = {each.title: text_of(each.show(found[1], snapshot())) for each in TALLIES}
    assert shown["EACH"] == "4.0s"
    assert text_of(TALLIES[0].show(found[2], snapshot())) == "on none"
