"""What may be done with a job, from the list as from the job's own screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding, BindingType

from planetmesh.dashboard.plain import count_of, plain
from planetmesh.dashboard.screens.questions import Confirm, Prompt
from planetmesh.dashboard.snapshot import is_over
from planetmesh.wire.api import ChangeJob, JobView, RetriedJob

if TYPE_CHECKING:
    from planetmesh.dashboard.app import Dashboard

BINDINGS: list[BindingType] = [
    Binding("x", "cancel_job", "Cancel"),
    Binding("r", "retry_job", "Retry"),
    Binding("p", "pause_job", "Pause"),
    Binding("plus", "rank_job", "Priority", key_display="+"),
]


def name_of(job: JobView) -> str:
    return plain(job.name, 40) or job.id


def cancel(dashboard: Dashboard, job: JobView | None) -> None:
    if job is None or dashboard.refuses_viewer():
        return
    if is_over(job):
        dashboard.say(f"{name_of(job)} has ended already.")
        return

    def go(sure: bool | None) -> None:
        if sure:
            dashboard.order(
                lambda mesh: mesh.cancel(job.id, "from the dashboard"),
                lambda _: f"{name_of(job)} is cancelled.",
            )

    handed = job.tasks.running + job.tasks.assigned
    stops = f"stops {count_of(handed, 'task')} on machines and " if handed else ""
    question = f"Cancel {name_of(job)}? It {stops}drops all that waits."
    dashboard.push_screen(Confirm(question, "Cancel it"), go)


def retry(dashboard: Dashboard, job: JobView | None) -> None:
    if job is None or dashboard.refuses_viewer():
        return
    if not job.tasks.failed:
        dashboard.say(f"No task of {name_of(job)} has failed.")
        return

    def said(retried: RetriedJob) -> str:
        left = f" {retried.left} are left: press r again." if retried.left else ""
        return f"{count_of(retried.again, 'failed task')} of {name_of(job)} will run again.{left}"

    dashboard.order(lambda mesh: mesh.retry(job.id), said)


def pause_or_resume(dashboard: Dashboard, job: JobView | None) -> None:
    if job is None:
        return
    paused = not job.paused
    said = "starts nothing more until it is resumed" if paused else "goes on"
    dashboard.order(
        lambda mesh: mesh.change_job(job.id, ChangeJob(paused=paused)), lambda _: f"{name_of(job)} {said}."
    )


def change_priority(dashboard: Dashboard, job: JobView | None) -> None:
    if job is None or dashboard.refuses_viewer():
        return
    if is_over(job):
        dashboard.say(f"{name_of(job)} has ended already.")
        return

    def go(text: str | None) -> None:
        if text is None:
            return
        try:
            priority = int(text)
        except ValueError:
            dashboard.say(f"'{plain(text, 40)}' is not a whole number.", is_error=True)
            return
        dashboard.order(
            lambda mesh: mesh.change_job(job.id, ChangeJob(priority=priority)),
            lambda after: f"{name_of(after)} has the priority {after.priority} now.",
        )

    dashboard.push_screen(Prompt(f"Priority of {name_of(job)}: higher ones go first", str(job.priority)), go)
