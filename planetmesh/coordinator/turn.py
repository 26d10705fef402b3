"""What one turn of the engine has gathered: rows to write, messages to send, news to publish."""

from __future__ import annotations

from collections.abc import Sequence

from planetmesh.mesh import effects as fx
from planetmesh.mesh.state import MeshState
from planetmesh.model.ids import JobId, NodeId, TaskKey
from planetmesh.model.job import Attempt, Counts, Job, Task
from planetmesh.model.node import Node
from planetmesh.store.changes import Changes, FeedRow, MoreInputs
from planetmesh.wire.agent import ToAgent


class Turn:
    """A later record of the same thing replaces an earlier one; order of messages is kept per node."""

    def __init__(self) -> None:
        self.urgent = False
        """True if something here must be on disk before anything is let out."""
        self.tasks: dict[TaskKey, Task] = {}
        self.carried: dict[TaskKey, Task] = {}
        """Those of `tasks` that an earlier turn has told of."""
        self.attempts: list[Attempt] = []
        self.jobs: dict[JobId, Job] = {}
        self.inputs: list[MoreInputs] = []
        self.nodes: dict[NodeId, Node] = {}
        self.removed_nodes: list[NodeId] = []
        self.sends: dict[NodeId, list[ToAgent]] = {}
        self.hang_ups: list[fx.HangUp] = []
        self.changed_jobs: set[JobId] = set()
        self.changed_nodes: set[NodeId] = set()
        self.node_changes: set[NodeId] = set()
        """Nodes whose record (not only its load) changed."""
        self.new_jobs: list[JobId] = []
        self.job_ends: list[fx.JobEnded] = []
        self.also: list[Changes] = []

    def take(self, effects: fx.Effects) -> None:
        """Sort the reactor's effects."""
        for effect in effects:
            match effect:
                case fx.SaveTask(task, urgent):
                    self.tasks[task.job_id, task.index] = task
                    self.urgent |= urgent
                case fx.JobChanged(job_id):
                    self.changed_jobs.add(job_id)
                case fx.Send(node_id, message):
                    self.sends.setdefault(node_id, []).append(message)
                case fx.SaveNode(node, urgent):
                    self.nodes[node.id] = node
                    self.urgent |= urgent
                    if urgent:
                        self.node_changes.add(node.id)
                case fx.NodeChanged(node_id):
                    self.changed_nodes.add(node_id)
                case _:
                    self._take_rare(effect)

    def _take_rare(self, effect: fx.Effect) -> None:
        match effect:
            case fx.SaveJob(job, new, more):
                self.jobs[job.id] = job
                if more:
                    self.inputs.append(MoreInputs(job.id, job.spec.inputs.count - len(more), more))
                self.urgent = True
                if new:
                    self.new_jobs.append(job.id)
            case fx.SaveAttempt(attempt):
                self.attempts.append(attempt)
                self.urgent = True
            case fx.JobEnded():
                self.job_ends.append(effect)
                self.changed_jobs.discard(effect.job.id)
            case fx.HangUp():
                self.hang_ups.append(effect)
            case fx.RemoveNode(node_id):
                self.removed_nodes.append(node_id)
                self.nodes.pop(node_id, None)
                self.changed_nodes.add(node_id)
                self.urgent = True
            case _:
                raise AssertionError(f"no rule for the effect {effect!r}")

    def add(self, changes: Changes) -> None:
        """Further rows (certificates, audit) that belong into this turn's transaction."""
        self.also.append(changes)
        self.urgent = True

    def carry(self, earlier: Turn) -> None:
        """Keep rows that may ride on a later commit."""
        self.carried.update(earlier.tasks)
        self.tasks.update(earlier.tasks)
        self.nodes.update(earlier.nodes)

    def changes(self, state: MeshState, feed_rows: Sequence[FeedRow]) -> Changes:
        """All rows of this turn as one transaction."""
        merged = Changes(
            jobs=list(self.jobs.values()),
            inputs=self.inputs,
            tasks=list(self.tasks.values()),
            attempts=self.attempts,
            counts=self._counts(state),
            nodes=list(self.nodes.values()),
            removed_nodes=self.removed_nodes,
            feed=list(feed_rows),
        )
        for changes in self.also:
            merged.certificates += changes.certificates
            merged.audit += changes.audit
            merged.meta.update(changes.meta)
        return merged

    def _counts(self, state: MeshState) -> dict[JobId, Counts]:
        touched = {job_id for job_id, _index in self.tasks} | self.jobs.keys() | self.changed_jobs
        counts = {job_id: state.jobs[job_id].counts for job_id in touched if job_id in state.jobs}
        counts.update({ended.job.id: ended.counts for ended in self.job_ends})
        return counts
