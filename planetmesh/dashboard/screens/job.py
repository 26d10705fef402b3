"""One job: how far it is, its tasks a page at a time, and what each machine makes of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Input

from planetmesh.client.async_client import AsyncMesh
from planetmesh.dashboard import rows, sheets
from planetmesh.dashboard.plain import DIM, plain
from planetmesh.dashboard.rows import Column, arrange
from planetmesh.dashboard.screens import job_actions
from planetmesh.dashboard.screens.log import LogScreen
from planetmesh.dashboard.screens.mesh_screen import Explaining, MeshScreen
from planetmesh.dashboard.snapshot import Snapshot, is_over
from planetmesh.dashboard.tally import TALLIES, Tally, tally_of
from planetmesh.dashboard.widgets.grid import Grid
from planetmesh.dashboard.widgets.search_line import SearchLine
from planetmesh.dashboard.widgets.sheet import Sheet
from planetmesh.dashboard.working import begin
from planetmesh.errors import MeshError
from planetmesh.jobtypes.registry import JOB_TYPES
from planetmesh.model.job import TaskState
from planetmesh.wire.api import JobView, TaskPage, TaskView

PAGE_TASKS = 200
READ_SECONDS = 0.6
"""Least time between two readings of the page."""
TALLIED_MOST = 10_000
TALLY_PAGE = 1000
TALLY_SECONDS = 10.0
FILTERS = (
    None,
    TaskState.FAILED,
    TaskState.RUNNING,
    TaskState.RETRYING,
    TaskState.QUEUED,
    TaskState.COMPLETED,
)


class JobScreen(MeshScreen):
    """See the module."""

    MODE = "jobs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open_log", "Log"),
        Binding("f", "filter", "Filter"),
        Binding("w", "by_node", "By node"),
        *job_actions.BINDINGS,
        Binding("right_square_bracket", "page(1)", "Next page", key_display="]"),
        Binding("left_square_bracket", "page(-1)", "Previous page", key_display="[", show=False),
        Binding("slash", "search", "Search", key_display="/", show=False),
        Binding("o", "sort", "Sort", show=False),
        Binding("escape", "back", "Back"),
    ]
    DEFAULT_CSS = """
    JobScreen {
        & #job { height: auto; max-height: 7; padding: 0 1; }
        & #where { height: 1; padding: 0 1; background: $panel; }
        & Grid { padding: 0 1; }
        & #tallies { display: none; }
        &.-by-node #tallies { display: block; }
        &.-by-node #tasks { display: none; }
        & #task { height: auto; max-height: 5; padding: 0 1; border-top: solid $foreground 30%; }
    }
    """

    def __init__(self, job: JobView) -> None:
        super().__init__()
        self._job = job
        self._command = ""
        self._starts = [0]
        """Where each page up to this one begins."""
        self._page = TaskPage((), None)
        self._status: TaskState | None = None
        self._sorted_by: Column[TaskView] | None = None
        self._tallies: list[Tally] = []
        self._tallied_at = 0.0
        self._seen: object = None
        """What was told of the job's tasks when the page was read last."""
        self._read_at = 0.0
        self._is_reading = False

    def body(self) -> Iterable[Widget]:
        with Vertical():
            yield Sheet(id="job")
            yield Sheet(id="where")
            yield Grid[TaskView](rows.TASKS, lambda task: task.index, empty="…", id="tasks")
            yield Grid[Tally](TALLIES, lambda tally: tally.node, empty="Reading…", id="tallies")
            yield Sheet(id="task")
        yield SearchLine("only tasks of this page with these words; Escape shows all")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#tasks").focus()
        begin(self, self._read_command, "command", only=False)

    @property
    def tasks(self) -> Grid[TaskView]:
        return self.query_one("#tasks", Grid)

    @property
    def is_by_node(self) -> bool:
        return self.has_class("-by-node")

    def explained(self) -> Explaining | None:
        task = None if self.is_by_node else self.tasks.selected
        job_id = self._job.id
        if task is None:
            return (job_id, lambda mesh: mesh.explain_job(job_id))
        index = task.index
        return (index, lambda mesh: mesh.explain_task(job_id, index))

    def show(self, snapshot: Snapshot) -> None:
        self._job = snapshot.job(self._job.id) or self._job
        self.query_one("#job", Sheet).show(sheets.job_lines(self._job, snapshot, self._command))
        self._show_page(snapshot)
        self._read_if_stale(snapshot)

    def _show_page(self, snapshot: Snapshot) -> None:
        words = self.query_one(SearchLine).words
        found = arrange(self._page.tasks, snapshot, self._sorted_by, words=words, matches=rows.task_matches)
        wanted = f"{self._status} task" if self._status else "task"
        empty = f"No {wanted} here." if self._read_at else "Reading…"
        self.tasks.show(found, snapshot, sorted_by=self._sorted_by, empty=empty)
        if self.is_by_node:
            self.query_one("#tallies", Grid).show(self._tallies, snapshot)
        self.query_one("#where", Sheet).show([((self._where(), DIM),)])
        self._show_task(snapshot)

    def _where(self) -> str:
        """Which part of the tasks is shown."""
        if self.is_by_node:
            total = self._job.tasks.total
            most = f" (of the first {TALLIED_MOST})" if total > TALLIED_MOST else ""
            return f"tasks by node{most}; w shows the tasks"
        shown = self._page.tasks
        places = f"tasks {shown[0].index} to {shown[-1].index}" if shown else "no tasks"
        only = f", only {self._status} (f: others)" if self._status else ""
        more = "; ] next page" if self._page.next is not None else ""
        back = "; [ previous page" if len(self._starts) > 1 else ""
        return f"{places} of {self._job.tasks.total}{only}{more}{back}"

    def _show_task(self, snapshot: Snapshot) -> None:
        task = None if self.is_by_node else self.tasks.selected
        self.query_one("#task", Sheet).show([] if task is None else sheets.task_lines(task, snapshot))

    # Reading

    def _read_if_stale(self, snapshot: Snapshot) -> None:
        told = (snapshot.stirred.get(self._job.id), self._job.tasks, self._status, self._starts[-1])
        now = time.monotonic()
        if self.is_by_node and now - self._tallied_at > TALLY_SECONDS and not is_over(self._job):
            self._tally()
        if told == self._seen or self._is_reading or now - self._read_at < READ_SECONDS:
            return
        self._seen = told
        self._is_reading = True
        begin(self, self._read_page, "page")

    async def _read_page(self) -> None:
        start, status, job_id = self._starts[-1], self._status, self._job.id
        try:
            page = await self.dashboard.watcher.ask(
                lambda mesh: mesh.task_page(job_id, start=start, limit=PAGE_TASKS, status=status)
            )
        except MeshError as error:
            self._seen = None
            self.query_one("#where", Sheet).show([((plain(error.message, 300), DIM),)])
        else:
            self._page = page
            self._read_at = time.monotonic()
            self._show_page(self.dashboard.snapshot)
            self.look_at_selection()
        finally:
            self._is_reading = False
            self._read_at = time.monotonic()

    async def _read_command(self) -> None:
        """What it runs; only the job asked for by its id says that."""
        try:
            view = await self.dashboard.watcher.ask(lambda mesh: mesh.job(self._job.id))
            kind = None if view.spec is None else JOB_TYPES.get(view.spec.type)
            if view.spec is not None and kind is not None:
                self._command = kind.describe(view.spec.payload)
        except MeshError:
            return

    def _tally(self) -> None:
        self._tallied_at = time.monotonic()
        begin(self, self._read_tallies, "tally")

    async def _read_tallies(self) -> None:
        job_id = self._job.id

        async def read(mesh: AsyncMesh) -> list[Tally]:
            found: list[TaskView] = []
            following: int | None = 0
            while following is not None and len(found) < TALLIED_MOST:
                page = await mesh.task_page(job_id, start=following, limit=TALLY_PAGE)
                found += page.tasks
                following = page.next
            return tally_of(found)

        try:
            self._tallies = await self.dashboard.watcher.ask(read)
        except MeshError as error:
            self.dashboard.say(f"{error.message} {error.hint}", is_error=True)
        self._show_page(self.dashboard.snapshot)

    # Actions

    @on(Grid.Moved, "#tasks")
    def _moved(self) -> None:
        self._show_task(self.dashboard.snapshot)
        self.look_at_selection()

    @on(Grid.Chosen, "#tasks")
    def _chosen(self) -> None:
        self.action_open_log()

    @on(Grid.HeadClicked, "#tasks")
    def _sort_by_click(self, message: Grid.HeadClicked) -> None:
        self._sorted_by = None if message.column is self._sorted_by else message.column
        self._show_page(self.dashboard.snapshot)

    @on(Input.Changed, "#search")
    def _search_changed(self) -> None:
        self._show_page(self.dashboard.snapshot)

    @on(Input.Submitted, "#search")
    def _searched(self) -> None:
        self.tasks.focus()

    def action_search(self) -> None:
        self.query_one(SearchLine).open()

    def action_open_log(self) -> None:
        task = self.tasks.selected
        if task is not None and not self.is_by_node:
            self.app.push_screen(LogScreen(self._job, task))

    def action_filter(self) -> None:
        """Only tasks in the next of the states."""
        self._status = FILTERS[(FILTERS.index(self._status) + 1) % len(FILTERS)]
        self._starts = [0]
        self._turn_page()

    def action_page(self, step: int) -> None:
        if step > 0 and self._page.next is not None:
            self._starts.append(self._page.next)
        elif step < 0 and len(self._starts) > 1:
            self._starts.pop()
        else:
            return
        self._turn_page()

    def _turn_page(self) -> None:
        self._read_at = 0.0
        self._is_reading = False
        self._read_if_stale(self.dashboard.snapshot)

    def action_sort(self) -> None:
        choices: list[Column[TaskView] | None] = [None, *rows.TASKS]
        self._sorted_by = choices[(choices.index(self._sorted_by) + 1) % len(choices)]
        self._show_page(self.dashboard.snapshot)

    def action_by_node(self) -> None:
        self.toggle_class("-by-node")
        self.query_one("#tallies" if self.is_by_node else "#tasks").focus()
        if self.is_by_node:
            self._tally()
        self._show_page(self.dashboard.snapshot)

    def action_cancel_job(self) -> None:
        job_actions.cancel(self.dashboard, self._job)

    def action_retry_job(self) -> None:
        job_actions.retry(self.dashboard, self._job)

    def action_pause_job(self) -> None:
        job_actions.pause_or_resume(self.dashboard, self._job)

    def action_rank_job(self) -> None:
        job_actions.change_priority(self.dashboard, self._job)

    def action_back(self) -> None:
        self.dismiss()
