"""Why: a job, a task, a node, in the scheduler's own reasons."""

from __future__ import annotations

from aiohttp import web

from planetmesh.coordinator.api.call import Call
from planetmesh.coordinator.api.lookup import Found, open_job, open_node
from planetmesh.coordinator.api.tasks import find_task
from planetmesh.coordinator.views import live_job_view, stored_job_view
from planetmesh.mesh import explain
from planetmesh.mesh.state import MeshState
from planetmesh.model.ids import NodeId
from planetmesh.model.job import Attempt, Outcome, Task, TaskState
from planetmesh.wire.api import AttemptView, Explanation, FindingView, JobView, rfc3339


async def explain_job(call: Call) -> web.StreamResponse:
    found = await open_job(call, call.part("job"))
    engine = call.parts.engine
    if found.live is None:
        assert found.stored is not None
        view = stored_job_view(found.stored)
        faulty = await engine.store.faulty_inputs(found.job.id) if view.tasks.failed else 0
        findings = _of_ended(engine.state, found, view, faulty)
    else:
        view = live_job_view(engine.state, found.live)
        findings = explain.job(engine.state, found.live, engine.read_clock())
    counts = view.tasks
    noun = "inputs" if view.counts_inputs else "tasks"
    summary = f"{counts.completed} of {counts.total} {noun} completed, {counts.failed} failed"
    return call.answer(
        Explanation(subject=f"job {view.id}", status=view.status, summary=summary, findings=_views(findings))
    )


FAULTY = "mend them and hand them in anew; a retry would end the same"


def _of_ended(state: MeshState, found: Found, view: JobView, faulty: int) -> list[explain.Finding]:
    """`faulty`: so many failed by their own inputs."""
    job = found.job
    if job.cancelled_at is not None:
        # While that one is tried again it is too late: this one was beyond a bound of the retry.
        comes_back = job.dropped_for is not None and job.dropped_for not in state.jobs
        hint = f"planetmesh retry {job.dropped_for}" if comes_back else ""
        return [explain.Finding(f"It was cancelled: {job.cancel_reason or 'no reason was given'}.", hint)]
    if view.tasks.failed:
        said = f" The first one: {view.error}" if view.error else ""
        noun = "inputs" if view.counts_inputs else "tasks"
        failed = f"{view.tasks.failed} of {view.tasks.total} {noun} failed.{said}"
        if faulty >= view.tasks.failed:
            return [explain.Finding(failed, f"the inputs themselves are at fault: {FAULTY}")]
        findings = [explain.Finding(failed, f"planetmesh retry {job.id}")]
        if faulty:
            findings.append(explain.Finding(f"{faulty} of them failed by their own inputs.", FAULTY))
        return findings
    return [explain.Finding("All of its tasks completed.")]


async def explain_task(call: Call) -> web.StreamResponse:
    index = call.index()
    found = await open_job(call, call.part("job"))
    engine = call.parts.engine
    task = await find_task(call, found, index)
    attempts = await engine.store.attempts(found.job.id, task.index)
    state = engine.state
    if found.live is not None and found.live.task(index) is not None:
        findings = explain.task(state, found.live, task, engine.read_clock())
    else:
        findings = _of_end(state, task)
    views = tuple(_attempt_view(state, each) for each in attempts)
    summary = f"{task.attempts} attempt{'' if task.attempts == 1 else 's'}"
    if task.width > 1:
        summary += f"; it stands for {task.width} inputs, from number {task.index} on"
    return call.answer(
        Explanation(
            subject=f"task {task.job_id}/{task.index}",
            status=task.state,
            summary=summary,
            findings=_views(findings),
            attempts=views,
        )
    )


def _of_end(state: MeshState, task: Task) -> list[explain.Finding]:
    name = _name(state, task.node_id) or ""
    found = []
    if task.state is TaskState.COMPLETED:
        found.append(explain.Finding(f"Attempt {task.attempt} completed here.", "", name))
    else:
        hint = _after_failure(task) if task.state is TaskState.FAILED else ""
        # Mostly it says itself where that was.
        where = "" if name and f" on {name}" in task.error else name
        found.append(explain.Finding(task.error or "It ended without a word.", hint, where))
    if task.terms is not None:
        found.append(explain.Finding(f"It was the cheapest: {explain.terms_in_words(task.terms)}.", "", name))
    return found


def _after_failure(task: Task) -> str:
    if task.outcome is Outcome.INPUTS:
        return f"its inputs themselves are at fault: {FAULTY}"
    return f"planetmesh retry {task.job_id}"


async def explain_node(call: Call) -> web.StreamResponse:
    engine = call.parts.engine
    live = open_node(engine.state, call.part("node"))
    findings = explain.node(engine.state, live, engine.read_clock())
    tasks = "1 task" if len(live.held) == 1 else f"{len(live.held)} tasks"
    summary = f"{tasks} in hand, reliability {live.node.reliability:.0%}"
    return call.answer(
        Explanation(
            subject=f"node {live.node.name}",
            status=live.node.state,
            summary=summary,
            findings=_views(findings),
        )
    )


def _views(findings: list[explain.Finding]) -> tuple[FindingView, ...]:
    return tuple(FindingView(each.sentence, each.hint, each.about) for each in findings)


def _attempt_view(state: MeshState, attempt: Attempt) -> AttemptView:
    return AttemptView(
        attempt=attempt.attempt,
        node=_name(state, attempt.node_id),
        outcome=attempt.outcome,
        exit_code=attempt.exit_code,
        error=attempt.error,
        started_at=rfc3339(attempt.started_at),
        finished_at=rfc3339(attempt.finished_at),
        why_there="" if attempt.terms is None else explain.terms_in_words(attempt.terms),
    )


def _name(state: MeshState, node_id: NodeId | None) -> str | None:
    live = state.nodes.get(node_id) if node_id else None
    return live.node.name if live else node_id
