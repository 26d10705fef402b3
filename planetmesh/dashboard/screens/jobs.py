"""The jobs, and what may be done with one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType

from planetmesh.dashboard import rows, sheets
from planetmesh.dashboard.plain import Cell
from planetmesh.dashboard.screens import job_actions
from planetmesh.dashboard.screens.job import JobScreen
from planetmesh.dashboard.screens.listing import ListScreen
from planetmesh.dashboard.screens.mesh_screen import Explaining
from planetmesh.dashboard.snapshot import Snapshot
from planetmesh.dashboard.widgets.grid import Grid
from planetmesh.wire.api import JobView


class JobsScreen(ListScreen[JobView]):
    """See the module."""

    MODE = "jobs"
    COLUMNS = rows.JOBS
    EMPTY = "There are no jobs yet. Press s to submit one, or try: planetmesh run hostname"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Tasks"),
        *job_actions.BINDINGS,
    ]

    def key_of(self, thing: JobView) -> str:
        return thing.id

    def things(self, snapshot: Snapshot) -> Sequence[JobView]:
        return snapshot.jobs

    def beyond(self, snapshot: Snapshot) -> str:
        total = sum(snapshot.job_counts.values())
        if total <= len(snapshot.jobs):
            return ""
        return f"The newest {len(snapshot.jobs)} of {total} jobs; `planetmesh jobs -n 9999` lists more."

    def about(self, thing: JobView, snapshot: Snapshot) -> list[Cell]:
        return sheets.job_lines(thing, snapshot)

    def matches(self) -> Callable[[JobView, str], bool]:
        return rows.job_matches

    def explained(self) -> Explaining | None:
        job = self.grid.selected
        return None if job is None else (job.id, lambda mesh: mesh.explain_job(job.id))

    @on(Grid.Chosen)
    def _open(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        job = self.grid.selected
        if job is not None:
            self.app.push_screen(JobScreen(job))

    def action_cancel_job(self) -> None:
        job_actions.cancel(self.dashboard, self.grid.selected)

    def action_retry_job(self) -> None:
        job_actions.retry(self.dashboard, self.grid.selected)

    def action_pause_job(self) -> None:
        job_actions.pause_or_resume(self.dashboard, self.grid.selected)

    def action_rank_job(self) -> None:
        job_actions.change_priority(self.dashboard, self.grid.selected)
