"""What people and programs see of jobs, tasks and nodes: the records as `wire.api` structs.

Looks at the state and at stored rows, changes nothing, waits for nothing. Used by `api/`, `feed` and
the engine. A job's `waiting` sentence comes from the same checks that the scheduler uses.
"""

from __future__ import annotations

from shlex import quote

import msgspec

from planetmesh.mesh import effects as fx
from planetmesh.mesh import explain, fitness, reactor
from planetmesh.mesh.live_job import LiveJob, Signature
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.state import MeshState
from planetmesh.model.ids import NodeId
from planetmesh.model.job import Counts, Job, JobSpec, Task, TaskState, job_state
from planetmesh.model.node import NodeState, Sandbox
from planetmesh.model.resources import MILLIS, NOTHING
from planetmesh.store.jobs import JobSummary, StoredJob
from planetmesh.wire.api import JobView, NodeView, TaskCode, TaskCounts, TaskView, rfc3339

MASKED = "***"
"""Stands for a value that the reader may not see."""
ITEMS_SHOWN = 1000
"""A spec with more inputs than this is shown only to who asks for it: a waiting client polls the view."""
NODES_NAMED = 2
"""In a `waiting` sentence; the list of nodes has the others."""

Sentences = dict[Signature, str]
"""Waiting sentences that were made already: jobs of one signature wait for the same reason."""


def live_job_view(state: MeshState, live: LiveJob, made: Sentences | None = None) -> JobView:
    """A job that has not ended. `made` saves work when many jobs are shown at once."""
    sentence = waiting_sentence(state, live, {} if made is None else made)
    return _job_view(live.job, live.counts, live.first_error, sentence)


def ended_job_view(ended: fx.JobEnded) -> JobView:
    """A job at the moment of its end."""
    return _job_view(ended.job, ended.counts, ended.error, "")


def stored_job_view(stored: StoredJob) -> JobView:
    return summary_view(stored.summary)


def summary_view(summary: JobSummary) -> JobView:
    return JobView(
        id=summary.id,
        name=summary.name,
        type=summary.type,
        status=summary.state,
        priority=summary.priority,
        submitter=summary.submitter,
        created_at=rfc3339(summary.created_at) or "",
        started_at=rfc3339(summary.started_at),
        completed_at=rfc3339(summary.completed_at),
        tasks=TaskCounts.of(summary.counts),
        counts_inputs=summary.by_input,
        cancel_reason=summary.cancel_reason,
        error=summary.error,
    )


def _job_view(job: Job, counts: Counts, error: str, waiting: str) -> JobView:
    spec = job.spec
    return JobView(
        id=job.id,
        name=spec.name,
        type=spec.type,
        status=job_state(counts, partial=spec.partial, cancelled=job.cancelled_at is not None),
        priority=job.priority,
        submitter=job.submitter,
        created_at=rfc3339(job.created_at) or "",
        started_at=rfc3339(job.started_at),
        completed_at=rfc3339(job.completed_at),
        tasks=TaskCounts.of(counts),
        counts_inputs=spec.is_auto,
        cancel_reason=job.cancel_reason,
        error=error,
        waiting=waiting,
        paused=job.paused_at is not None,
        after=() if job.completed_at else tuple(after.job for after in job.waits),
    )


def with_spec(view: JobView, spec: JobSpec, *, masked: bool, whole: bool) -> JobView:
    """Add what was asked for. `masked`: without the values of `env`; `whole`: however many inputs."""
    if not whole and spec.inputs.count > ITEMS_SHOWN and hasattr(spec.inputs, "items"):
        return view
    if masked and spec.env:
        spec = msgspec.structs.replace(spec, env=dict.fromkeys(spec.env, MASKED))
    return msgspec.structs.replace(view, spec=spec)


def waiting_sentence(state: MeshState, live: LiveJob, made: Sentences) -> str:
    """Why nothing of a job runs although something could, with the next command; else nothing."""
    counts = live.counts
    if counts.assigned or counts.running or not counts.live:
        return ""
    for finding in explain.held_back(live):
        return f"{finding.sentence.rstrip('.')} (`{finding.hint}`)."
    if not counts.queued:
        return "Its tasks wait a little after a failure before they are tried again."
    signature = live.signature
    if signature not in made:
        made[signature] = _why_waiting(state, live)
    return made[signature]


def _why_waiting(state: MeshState, live: LiveJob) -> str:
    if not state.nodes:
        return "No machine has joined this mesh yet: type `planetmesh code`, then `planetmesh up` on one."
    objections: list[tuple[str, fitness.Reason]] = []
    for node, reason in reactor.waiting_reasons(state, live):
        if reason.code != "full":
            objections.append((node.node.name, reason))
        elif (node.used + live.job.spec.requests).fits_in(node.offer):
            return ""
        else:
            return "All machines that can run it are busy."
    objections.sort(key=lambda each: each[1].lasting)
    return f"No machine can run it now. {_name_some(objections)}."


def _name_some(objections: list[tuple[str, fitness.Reason]]) -> str:
    """What the first ones object. Where the job names its node, nobody asks after the others."""
    meant = [each for each in objections if each[1].code != "other_node"] or objections
    named = [f"{name}: {_in_words(reason)}" for name, reason in meant[:NODES_NAMED]]
    if len(meant) > len(named):
        named.append(f"and {len(meant) - len(named)} more (`planetmesh nodes`)")
    return "; ".join(named)


def _in_words(reason: fitness.Reason) -> str:
    if not reason.hint:
        return reason.sentence
    hint = reason.hint if "`" in reason.hint else f"`{reason.hint}`"
    return f"{reason.sentence} ({hint})"


def never_runnable(state: MeshState, live: LiveJob) -> str:
    """A warning if every known node has a lasting objection: no waiting will help. Else nothing."""
    reasons = [(node, fitness.objection(live.signature, node)) for node in state.nodes.values()]
    if any(reason is None or not reason.lasting for _node, reason in reasons):
        return ""
    if not reasons:
        return "No machine has joined this mesh yet; the job waits for one."
    objections = [(node.node.name, reason) for node, reason in reasons if reason]
    return f"No machine known to this mesh can ever run it. {_name_some(objections)}."


def task_view(state: MeshState, task: Task, spec: JobSpec) -> TaskView:
    """A task as it stands; `payload` is its own input."""
    node = state.nodes.get(task.node_id) if task.node_id else None
    return TaskView(
        id=f"{task.job_id}/{task.index}",
        job_id=task.job_id,
        index=task.index,
        status=task.state,
        node=node.node.name if node else task.node_id,
        node_id=task.node_id,
        attempts=task.attempts,
        exit_code=task.exit_code,
        started_at=rfc3339(task.started_at),
        finished_at=rfc3339(task.finished_at),
        last_error=task.error or None,
        payload=_payload(spec, task),
        outcome=task.outcome.value if task.outcome else None,
        width=task.width,
        files=task.made.count if task.made else 0,
        files_bytes=task.made.size if task.made else 0,
        manifest=task.made.manifest if task.made else None,
    )


def _payload(spec: JobSpec, task: Task) -> str | None:
    """A task's own inputs in one text."""
    items = spec.items_of(task.index, task.width)
    return " ".join(items) if items else None


def task_code(state: MeshState, task: Task, spec: JobSpec) -> TaskCode:
    """How a task ended."""
    view = task_view(state, task, spec)
    items = spec.items_of(task.index, task.width)
    began, ended = task.started_at, task.finished_at
    return TaskCode(
        index=view.index,
        input=view.payload,
        inputs=items if len(items) > 1 else None,
        status=view.status,
        exit_code=view.exit_code,
        node=view.node,
        attempts=view.attempts,
        seconds=None if began is None or ended is None else round(max(0.0, ended - began), 3),
        error=view.last_error,
    )


def node_view(state: MeshState, live: LiveNode) -> NodeView:
    node, info = live.node, live.node.info
    running = _count_running(state, live)
    known = node.state is not NodeState.OFFLINE
    return NodeView(
        id=node.id,
        name=node.name,
        state=node.state,
        cpus=info.cpus if info else 0,
        memory_bytes=info.memory_bytes if info else 0,
        gpus=info.gpus if info else (),
        tags=tuple(sorted(node.all_tags)),
        running=running,
        load=live.load.cpu if known else None,
        rtt_ms=None if live.rtt_seconds is None or not known else round(live.rtt_seconds * 1000, 3),
        reliability=round(node.reliability, 4),
        last_heartbeat_at=rfc3339(node.last_heartbeat_at),
        draining=node.draining,
        sandbox=info.sandbox if info else Sandbox(),
        version=info.version if info else "",
        backlog=len(live.held) - running,
        hostname=info.hostname if info else "",
        os=info.os if info else "",
        arch=info.arch if info else "",
        offer_cpus=live.offer.cpu_millis / MILLIS,
        offer_memory_bytes=live.offer.memory_bytes,
        memory_free_bytes=live.load.memory_free_bytes if known else None,
        given_tags=tuple(sorted(node.tags)),
        note=node_note(live),
    )


def _count_running(state: MeshState, live: LiveNode) -> int:
    held = (state.jobs[job_id].tasks[index] for job_id, index in live.held)
    return sum(task.state is TaskState.RUNNING for task in held)


def node_note(live: LiveNode) -> str:
    """Why the node gets no work at all; what only some jobs ask for is left aside."""
    info = live.node.info
    if info is None and live.is_member:
        return "It has not connected since it was paired (start `planetmesh up` there)."
    any_type = info.job_types[0] if info and info.job_types else ""
    reason = fitness.objection((NOTHING, (), None, any_type, ""), live)
    if reason is None:
        return _quarantine_note(live)
    sentence = _in_words(reason)
    return sentence[:1].upper() + sentence[1:] + ("" if sentence.endswith(".") else ".")


def _quarantine_note(live: LiveNode) -> str:
    """Kinds of job that it gets no more of for a while."""
    if not live.node.confined:
        return ""
    kinds = ", ".join(f"'{each.kind}'" for each in live.node.confined[:NODES_NAMED])
    more = len(live.node.confined) - NODES_NAMED
    also = f" and {more} more" if more > 0 else ""
    return f"It is in quarantine for {kinds}{also} (`planetmesh explain {quote(live.node.name)}`)."


def find_node(state: MeshState, text: str) -> list[NodeId]:
    """Nodes meant by an id, a name, or the beginning of either; an exact match stands alone."""
    if text in state.nodes:
        return [NodeId(text)]
    folded = text.casefold()
    names = {node_id: live.node.name.casefold() for node_id, live in state.nodes.items()}
    exact = [node_id for node_id, name in names.items() if name == folded]
    if exact:
        return exact
    return [each for each, name in names.items() if name.startswith(folded) or each.startswith(folded)]
