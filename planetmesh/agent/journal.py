"""The agent's log of its work: jobs one by one, tasks only where something went wrong.

Each acceptance, start and good end is a line at debug only; once a minute one line says how many there were.
What tasks write and what they say went wrong is never logged: it belongs to who handed them in.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from planetmesh.agent.aside import Durable
from planetmesh.agent.carrier import AttemptKey
from planetmesh.agent.worklist import Worklist
from planetmesh.model.ids import JobId
from planetmesh.model.job import Outcome
from planetmesh.model.node import NodeLoad
from planetmesh.wire.agent import AssignTask, OpenJob, TaskResult, TaskReturned

log = logging.getLogger(__name__)

MINUTE_SECONDS = 60.0
DISK_LOW_BYTES = 1024**3
"""Less than this for the work folders, and tasks with files will soon fail."""
_QUIET = (Outcome.OK, Outcome.CANCELLED)


class Journal:
    """One an agent."""

    def __init__(self) -> None:
        self._done: Counter[str] = Counter()
        """Since the last minute's line."""
        self._jobs: set[JobId] = set()
        self._is_disk_low = False

    def on_job_opened(self, opened: OpenJob) -> None:
        if opened.job_id not in self._jobs:
            self._jobs.add(opened.job_id)
            log.info("job.opened", extra={"job_id": opened.job_id, "type": opened.job_type})

    def on_job_closed(self, job_id: JobId) -> None:
        if job_id in self._jobs:
            self._jobs.discard(job_id)
            log.info("job.closed", extra={"job_id": job_id})

    def on_accepted(self, task: AssignTask) -> None:
        self._done["accepted"] += 1
        if log.isEnabledFor(logging.DEBUG):
            log.debug("task.accepted", extra=_ids(task))

    def on_refused(self, task: AssignTask, reason: str) -> None:
        log.info("task.refused", extra={**_ids(task), "reason": reason})

    def on_started(self, job_id: JobId, index: int, attempt: int) -> None:
        self._done["started"] += 1
        if log.isEnabledFor(logging.DEBUG):
            log.debug("task.started", extra={"job_id": job_id, "task": index, "attempt": attempt})

    def on_fetched(self, key: AttemptKey) -> None:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("task.files_here", extra=_ids(key))

    def on_delivered(self, key: AttemptKey) -> None:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("task.files_delivered", extra=_ids(key))

    def on_said(self, messages: Iterable[Durable]) -> None:
        """What goes to the coordinator: every attempt's end is among it."""
        for message in messages:
            if isinstance(message, TaskResult):
                self._on_result(message)
            elif isinstance(message, TaskReturned):
                self._done["returned"] += 1
                if log.isEnabledFor(logging.DEBUG):
                    log.debug("task.returned", extra={**_ids(message), "reason": message.reason})

    def _on_result(self, end: TaskResult) -> None:
        if end.outcome in _QUIET:
            self._done["completed" if end.outcome is Outcome.OK else "cancelled"] += 1
            if log.isEnabledFor(logging.DEBUG):
                log.debug("task.ended", extra=_how(end))
        else:
            self._done["failed"] += 1
            log.info("task.failed", extra=_how(end))

    def on_load(self, load: NodeLoad) -> None:
        """Say once that the disk gets full, and once that it has room again."""
        is_low = 0 < load.disk_free_bytes < DISK_LOW_BYTES
        if is_low == self._is_disk_low:
            return
        self._is_disk_low = is_low
        if is_low:
            log.warning("disk.low", extra={"free_bytes": load.disk_free_bytes})
        elif load.disk_free_bytes:
            log.info("disk.has_room", extra={"free_bytes": load.disk_free_bytes})

    def tell_minute(self, worklist: Worklist) -> None:
        """Call once a minute; silent after one in which nothing was done."""
        done, self._done = self._done, Counter()
        if not done:
            return
        log.info(
            "agent.minute",
            extra={
                "accepted": done["accepted"],
                "started": done["started"],
                "completed": done["completed"],
                "failed": done["failed"],
                "cancelled": done["cancelled"],
                "returned": done["returned"],
                "running_now": worklist.running,
                "waiting_now": worklist.backlog,
            },
        )


def _ids(it: AssignTask | AttemptKey | TaskResult | TaskReturned) -> dict[str, object]:
    return {"job_id": it.job_id, "task": it.index, "attempt": it.attempt}


def _how(end: TaskResult) -> dict[str, object]:
    return {
        **_ids(end),
        "outcome": end.outcome.value,
        "exit_code": end.exit_code,
        "seconds": round(end.wall_seconds, 3),
    }
