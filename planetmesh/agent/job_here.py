"""What the worklist keeps of one job and of its attempts. PURE; only the worklist changes these."""

from __future__ import annotations

import msgspec

from planetmesh.model.resources import Resources
from planetmesh.wire.agent import AssignTask, OpenJob

LEAST_CPU_MILLIS = 10
"""Counted for tasks that ask for less: at most a hundred of them share a CPU."""

Attempt = tuple[int, int]
"""Index and attempt number: one run of one task within its job."""


class OnLauncher(msgspec.Struct):
    """An attempt that the job's launcher has."""

    task: AssignTask
    gpus: tuple[str, ...] = ()
    running: bool = False
    stopped: str = ""
    """Why it was told to stop, if it was."""
    silent: bool = False
    """No longer ours: its output and its end are not reported."""


class JobHere(msgspec.Struct):
    """One job on this node."""

    opened: OpenJob
    waiting: dict[int, AssignTask] = {}
    arrivals: dict[int, int] = {}
    """When each waiting task came, as a running number; in that order."""
    launched: dict[Attempt, OnLauncher] = {}
    fetching: dict[int, AssignTask] = {}
    """Tasks whose files are not all here yet; they cannot be started and hold up nobody."""
    leaving: dict[Attempt, OnLauncher] = {}
    """Ended, and what they made is on its way to the coordinator; they use nothing of the node."""
    slots: int = 0
    """As the launcher was told last."""
    mean_seconds: float | None = None
    recalling: bool = False
    """The launcher was asked for its backlog and has not answered yet."""
    closing: bool = False
    """Over; waits for its launcher to be gone."""
    reopened: bool = False
    """Wanted again before that; what waits here starts in a new launcher."""

    @property
    def share(self) -> Resources:
        """What one task takes up; never nothing, so that slots stay countable."""
        asked = self.opened.requests
        return msgspec.structs.replace(asked, cpu_millis=max(asked.cpu_millis, LEAST_CPU_MILLIS))

    @property
    def wanted(self) -> int:
        """How many tasks could use a slot."""
        return len(self.waiting) + len(self.launched)

    @property
    def is_idle(self) -> bool:
        """Nothing of it is in hand."""
        return not (self.waiting or self.launched or self.fetching or self.leaving)

    @property
    def is_unwanted(self) -> bool:
        """Nothing of it is ours any more."""
        is_silent = all(held.silent for held in self.launched.values())
        return is_silent and not (self.waiting or self.fetching or self.leaving)

    def needs_files(self, task: AssignTask) -> bool:
        return bool(self.opened.files or task.files)

    def newest(self, index: int) -> int:
        """The latest attempt at a task that is in hand; -1 if none is."""
        attempts = [attempt for of, attempt in (*self.launched, *self.leaving) if of == index]
        unstarted = [tasks[index].attempt for tasks in (self.waiting, self.fetching) if index in tasks]
        return max([*attempts, *unstarted], default=-1)

    def has(self, index: int, attempt: int) -> bool:
        """Whether this attempt may still need its files here."""
        held = self.launched.get((index, attempt))
        if held is not None:
            return not held.silent
        tasks = (self.waiting.get(index), self.fetching.get(index))
        return any(task is not None and task.attempt == attempt for task in tasks)

    @property
    def occupied(self) -> int:
        """How many tasks may be using the node right now."""
        running = sum(1 for held in self.launched.values() if held.running)
        return max(running, min(len(self.launched), self.slots))

    @property
    def oldest(self) -> int:
        """Arrival of the task that has waited longest; those who wait for nothing come last."""
        return next(iter(self.arrivals.values()), 2**62)
