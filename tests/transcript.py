"""A test of the reactor reads as a transcript: event in, effects out, event in …

Every effect must be accounted for, by `expect` (compared line by line) or by `skip`; what is sent to
agents is encoded and decoded on the way. `Transcript.close()` (the `mesh` fixture calls it) checks all
tables and that nothing was left unlooked at.
"""

from __future__ import annotations

import difflib
import random
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

import builders
import msgspec

from planetmesh.mesh import effects as fx
from planetmesh.mesh import jobs, nodes, reactor, schedule
from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.state import MeshState, check
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import After, Edits, Outcome, Task, job_state
from planetmesh.settings import Settings
from planetmesh.wire import agent as wire
from planetmesh.wire.codec import decode_to_agent, encode_frames

MESH_NAME = "home"


class Transcript:
    """A mesh without a network. `now` moves only by `wait`."""

    def __init__(self, settings: Settings | None = None, seed: int = 0) -> None:
        self.state = MeshState(settings or Settings(), random.Random(seed).random)
        self.now = Moment(1000.0, 1_700_000_000.0)
        self.unseen: fx.Effects = []
        self.sessions = 0

    # Looking

    def expect(self, text: str) -> None:
        """All effects since the last look, one a line, in order."""
        wanted = [line.strip() for line in textwrap.dedent(text).strip().splitlines()]
        got = [show(effect) for effect in self.unseen]
        self.unseen = []
        if got != wanted:
            diff = "\n".join(difflib.ndiff(wanted, got))
            raise AssertionError(f"the transcript differs (- expected, + happened):\n{diff}")

    def skip(self) -> Transcript:
        """What happened so far is not what this test is about."""
        self.unseen = []
        return self

    def close(self) -> None:
        check(self.state)
        left = "\n".join(show(effect) for effect in self.unseen)
        assert not left, f"effects that no test looked at:\n{left}"

    def job(self, name: str) -> LiveJob:
        return self.state.jobs[builders.job_id(name)]

    def node(self, name: str) -> LiveNode:
        return self.state.nodes[builders.node_id(name)]

    def task(self, name: str, index: int = 0) -> Task:
        task = self.job(name).task(index)
        assert task is not None
        return task

    def where(self) -> dict[str, str]:
        """Which node has which tasks in hand: `{"desk": "a/0 a/1"}`."""
        found = {}
        for live in self.state.nodes.values():
            keys = " ".join(f"{_job(job_id)}/{index}" for job_id, index in sorted(live.held))
            if keys:
                found[live.node.name] = keys
        return found

    # Happenings

    def take(self, effects: Iterable[fx.Effect]) -> fx.Effects:
        found = [_over_the_wire(effect) for effect in effects]
        self.unseen += found
        return found

    def wait(self, seconds: float) -> None:
        self.now = Moment(self.now.steady + seconds, self.now.wall + seconds)
        self.take(nodes.on_tick(self.state, self.now))

    def pass_time(self, seconds: float) -> None:
        """Move the clock alone: no tick."""
        self.now = Moment(self.now.steady + seconds, self.now.wall + seconds)

    def join(self, name: str, cpus: float = 1, *, instance: str = "i1", **changes: Any) -> int:
        """Enrol the node if it is new, and let it say hello; returns the link's number."""
        node_id = builders.node_id(name)
        if node_id not in self.state.nodes:
            self.take(nodes.on_node_enrolled(self.state, builders.node(name), self.now))
        self.sessions += 1
        hello = builders.hello(instance, cpus=cpus, **changes)
        joining = nodes.Joining(node_id, self.sessions, hello)
        self.take(nodes.on_node_joined(self.state, joining, MESH_NAME, self.now))
        return self.sessions

    def cut(self, name: str) -> None:
        session = self.node(name).session
        assert session is not None
        self.take(nodes.on_link_lost(self.state, builders.node_id(name), session))

    def hear(self, *names: str) -> None:
        for name in names:
            self.take(nodes.on_heard(self.state, builders.node_id(name), self.now))

    def submit(self, name: str = "a", count: Any = 1, **changes: Any) -> None:
        self.take(jobs.on_job_submitted(self.state, builders.job(name, count, **changes)))

    def place(self, most: int = 10_000) -> list[schedule.Placement]:
        """One pass, at most so many placements."""
        found: list[schedule.Placement] = []
        for placement in schedule.placements(self.state, self.now.steady, lambda: len(found) < most):
            found.append(placement)
            self.take(reactor.on_placed(self.state, placement, self.now))
        return found

    def start(self, node: str, name: str, index: int = 0, attempt: int = 1) -> None:
        message = builders.started(name, index, attempt)
        self.take(reactor.on_task_started(self.state, builders.node_id(node), message, self.now))

    def end(
        self,
        node: str,
        name: str,
        index: int = 0,
        attempt: int = 1,
        outcome: Outcome = Outcome.OK,
        **changes: Any,
    ) -> None:
        message = builders.ended(name, index, attempt, outcome, **changes)
        self.take(reactor.on_task_ended(self.state, builders.node_id(node), message, self.now))

    def give_back(self, node: str, name: str, index: int = 0, attempt: int = 1) -> None:
        message = builders.returned(name, index, attempt)
        self.take(reactor.on_task_returned(self.state, builders.node_id(node), message, self.now))

    def cancel(self, name: str, reason: str = "") -> None:
        self.take(jobs.on_cancel(self.state, builders.job_id(name), reason, self.now))

    def cancel_task(self, name: str, index: int) -> None:
        self.take(jobs.on_cancel_task(self.state, builders.job_id(name), index, "", self.now))

    def pause(self, name: str) -> None:
        self.take(jobs.on_paused(self.state, builders.job_id(name), self.now))

    def resume(self, name: str) -> None:
        self.take(jobs.on_resumed(self.state, builders.job_id(name)))

    def edit(self, name: str, after: tuple[After, ...] | None = None, **changes: Any) -> None:
        self.take(jobs.on_edited(self.state, builders.job_id(name), Edits(**changes), after))

    def stay(self, *names: str, seconds: float) -> None:
        """Time passes while these nodes say that they live."""
        while seconds > 0:
            self.hear(*names)
            self.wait(min(2.0, seconds))
            seconds -= 2.0

    def drain(self, name: str, *, on: bool = True, at_once: bool = False) -> None:
        self.take(nodes.on_drain(self.state, builders.node_id(name), on=on, at_once=at_once))


def _over_the_wire(effect: fx.Effect) -> fx.Effect:
    if not isinstance(effect, fx.Send):
        return effect
    (_count, frame), *more = encode_frames([effect.message])
    assert not more
    return msgspec.structs.replace(effect, message=decode_to_agent(frame)[0])


# Showing


def show(effect: fx.Effect) -> str:
    """One line for one effect."""
    return _SHOW[type(effect)](effect)


def _job(job_id: JobId) -> str:
    return job_id.rstrip("0") or job_id


def _node(node_id: NodeId | None) -> str:
    return bytes.fromhex(node_id).rstrip(b"\0").decode() if node_id else "nowhere"


def _save_task(effect: fx.SaveTask) -> str:
    task = effect.task
    why = f" {task.outcome}" if task.outcome else ""
    later = "" if effect.urgent else " (later)"
    what = f"{_job(task.job_id)}/{task.index} {task.state} #{task.attempt}"
    return f"save {what} on {_node(task.node_id)}{why}{later}"


def _save_job(effect: fx.SaveJob) -> str:
    job = effect.job
    times = [("started", job.started_at), ("cancelled", job.cancelled_at), ("completed", job.completed_at)]
    return " ".join(["save", "job", _job(job.id), *(word for word, at in times if at is not None)])


def _save_node(effect: fx.SaveNode) -> str:
    words = ["save", "node", effect.node.name, effect.node.state]
    words += ["draining"] * effect.node.draining + ["(later)"] * (not effect.urgent)
    return " ".join(words)


def _ended(effect: fx.JobEnded) -> str:
    job = effect.job
    state = job_state(effect.counts, partial=job.spec.partial, cancelled=job.cancelled_at is not None)
    return f"job {_job(job.id)} ended {state}" + (f": {effect.error}" if effect.error else "")


def _message(message: wire.ToAgent) -> str:
    name = type(message).__name__
    match message:
        case wire.AssignTask(job_id, index, attempt) | wire.StopTask(job_id, index, attempt):
            return f"{name} {_job(job_id)}/{index} #{attempt}"
        case wire.OpenJob(job_id) | wire.CloseJob(job_id):
            return f"{name} {_job(job_id)}"
        case wire.RecallTasks(tasks):
            return f"{name} {_held(tasks)}"
        case wire.Registered():
            return f"{name} drop {_held(message.drop)}" if message.drop else name
        case wire.Drain(on, now):
            return f"{name} {'on' if on else 'off'}{' now' if now else ''}"
        case _:
            return name


def _held(tasks: Iterable[wire.Held]) -> str:
    return " ".join(f"{_job(each.job_id)}/{each.index}#{each.attempt}" for each in tasks)


_SHOW: dict[type, Callable[[Any], str]] = {
    fx.SaveTask: _save_task,
    fx.SaveAttempt: lambda e: (
        f"keep {_job(e.attempt.job_id)}/{e.attempt.index} #{e.attempt.attempt} {e.attempt.outcome}"
    ),
    fx.SaveJob: _save_job,
    fx.SaveNode: _save_node,
    fx.RemoveNode: lambda e: f"remove node {_node(e.node_id)}",
    fx.Send: lambda e: f"{_node(e.node_id)} <- {_message(e.message)}",
    fx.HangUp: lambda e: f"hang up {_node(e.node_id)} link {e.session}: {e.code}",
    fx.JobChanged: lambda e: f"job {_job(e.job_id)} changed",
    fx.JobEnded: _ended,
    fx.NodeChanged: lambda e: f"node {_node(e.node_id)} changed",
}
