"""Tasks of a job: one, pages of them, cancel one."""

from __future__ import annotations

from aiohttp import web

from planetmesh.coordinator.api.call import Call
from planetmesh.coordinator.api.checks import check_reason
from planetmesh.coordinator.api.lookup import Found, open_job
from planetmesh.coordinator.views import task_view
from planetmesh.errors import BadInput, Conflict, NotFound
from planetmesh.mesh import effects as fx
from planetmesh.mesh import jobs
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.job import ENDED, Task, TaskState
from planetmesh.wire.api import CancelJob, TaskPage, TaskView

PAGE_MOST = 10_000
PAGE_USUAL = 1000
PAGE_MOST_BYTES = 16 * 1024 * 1024
"""A page of tasks with long inputs ends early."""
TASK_BYTES = 400
"""Of a task beside its input."""
LIVE = frozenset(TaskState) - ENDED


async def show_task(call: Call) -> web.StreamResponse:
    index = call.index()
    found = await open_job(call, call.part("job"))
    return call.answer(
        task_view(call.parts.engine.state, await find_task(call, found, index), found.job.spec)
    )


async def find_task(call: Call, found: Found, index: int) -> Task:
    """The task as the tables have it, else as the disk does."""
    if index >= found.job.spec.task_count:
        raise NotFound(
            f"Job {found.job.id} has no task {index}.",
            hint=f"Its last task is {found.job.spec.task_count - 1}.",
        )
    live = call.parts.engine.state.jobs.get(found.job.id)
    task = live.task(index) if live else None
    task = task or await call.parts.engine.store.task(found.job.id, index)
    if task is None:
        raise NotFound(f"Task {found.job.id}/{index} is not known any more.")
    return task


async def list_tasks(call: Call) -> web.StreamResponse:
    start = call.number("from", 0, most=2**31)
    limit = call.number("limit", PAGE_USUAL, least=1, most=PAGE_MOST)
    states = _states(call.text("status"))
    found = await open_job(call, call.part("job"))
    tasks, following = await _page(call, found, start, limit, states)
    state, spec = call.parts.engine.state, found.job.spec
    views: list[TaskView] = []
    size = 0
    for task in tasks:
        view = task_view(state, task, spec)
        size += TASK_BYTES + len(view.payload or "") + len(view.last_error or "")
        if views and size > PAGE_MOST_BYTES:
            following = task.index
            break
        views.append(view)
    return call.answer(TaskPage(tuple(views), following))


def _states(text: str | None) -> frozenset[TaskState] | None:
    """One state or several with commas between."""
    if not text:
        return None
    try:
        return frozenset(TaskState(word.strip().upper()) for word in text.split(","))
    except ValueError as error:
        raise BadInput(
            f"'{text}' is not a state of a task.", hint=f"States are {', '.join(TaskState)}."
        ) from error


async def _page(
    call: Call, found: Found, start: int, limit: int, states: frozenset[TaskState] | None
) -> tuple[list[Task], int | None]:
    """Tasks from `start` on and where the next page begins.

    What has not ended is told by the tables, which may be ahead of the disk: a start rides on a later
    commit. So the disk is asked for all states that a live task may be in by now.
    """
    engine = call.parts.engine
    asked = states | LIVE if states is not None and states & LIVE else states
    rows = await engine.store.tasks(found.job.id, start, limit, asked)
    full = len(rows) == limit
    by_index = {task.index: task for task in rows}
    live = engine.state.jobs.get(found.job.id)
    if live is not None:
        last = rows[-1].index if full else live.total
        by_index |= {index: task for index, task in live.tasks.items() if start <= index <= last}
    tasks = [task for _index, task in sorted(by_index.items()) if states is None or task.state in states]
    following = rows[-1].index + 1 if full else None
    if following is not None and following >= found.job.spec.task_count:
        following = None
    return _cut(tasks, limit, following)


def _cut(tasks: list[Task], limit: int, following: int | None) -> tuple[list[Task], int | None]:
    """No more than was asked for: tasks that the disk does not know yet may have made it more."""
    if len(tasks) <= limit:
        return tasks, following
    return tasks[:limit], tasks[limit].index


async def cancel_task(call: Call) -> web.StreamResponse:
    asked = await call.body(CancelJob, empty=CancelJob())
    index, reason = call.index(), check_reason(asked.reason)
    found = await open_job(call, call.part("job"))
    await find_task(call, found, index)
    job_id = found.job.id

    def happen(state: MeshState, now: Moment) -> fx.Effects:
        live = state.jobs.get(job_id)
        if live is None or live.task(index) is None:
            raise Conflict(f"Task {job_id}/{index} has ended already.")
        return jobs.on_cancel_task(state, job_id, index, reason, now)

    await call.parts.engine.do(happen, call.audited("cancel", f"{job_id}/{index}", reason))
    return call.answer(
        task_view(call.parts.engine.state, await find_task(call, found, index), found.job.spec)
    )
