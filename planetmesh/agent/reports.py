"""A launcher's reports as the coordinator's messages. Words only; the worklist says what may be told."""

from __future__ import annotations

import msgspec

from planetmesh.agent.job_here import OnLauncher
from planetmesh.agent.sandbox.messages import Ended, Output, Why
from planetmesh.agent.worklist import DRAINING
from planetmesh.errors import MeshError
from planetmesh.model.ids import JobId
from planetmesh.model.job import Outcome
from planetmesh.wire.agent import AssignTask, TaskOutput, TaskResult, TaskReturned

_OUTCOMES = {
    Why.EXIT: Outcome.EXIT_CODE,
    Why.INPUTS: Outcome.INPUTS,
    Why.SIGNAL: Outcome.SIGNAL,
    Why.NOT_FOUND: Outcome.NOT_FOUND,
    Why.NOT_EXECUTABLE: Outcome.NOT_FOUND,
    Why.CANNOT_START: Outcome.STAGING,
    Why.TIMEOUT: Outcome.TIMED_OUT,
    Why.SILENCE: Outcome.SILENT,
    Why.MEMORY: Outcome.MEMORY,
    Why.PROCESSES: Outcome.SIGNAL,
    Why.DISK: Outcome.SIGNAL,
    Why.KILLED: Outcome.CANCELLED,
}
_WITHOUT_CODE = frozenset({Outcome.STAGING, Outcome.CANCELLED})
ERROR_MOST_LETTERS = 500


def output_of(job_id: JobId, output: Output) -> TaskOutput:
    return TaskOutput(job_id, output.index, output.attempt, output.stream, output.offset, output.data)


def end_of(job_id: JobId, ended: Ended, held: OnLauncher, node: str) -> TaskResult | TaskReturned:
    """How an attempt ended; one that was stopped for a drain is given back."""
    if held.stopped == DRAINING and ended.why is Why.KILLED:
        return TaskReturned(job_id, ended.index, ended.attempt, DRAINING, started=True)
    outcome = _OUTCOMES[ended.why]
    if ended.why is Why.EXIT and ended.exit_code == 0:
        outcome = Outcome.OK
    return TaskResult(
        job_id=job_id,
        index=ended.index,
        attempt=ended.attempt,
        outcome=outcome,
        exit_code=None if outcome in _WITHOUT_CODE else ended.exit_code,
        error=_sentence(ended, outcome, node)[:ERROR_MOST_LETTERS],
        wall_seconds=ended.wall_seconds,
        cpu_seconds=ended.cpu_seconds,
        memory_peak_bytes=ended.max_rss_bytes,
        stdout_bytes=ended.stdout_bytes,
        stderr_bytes=ended.stderr_bytes,
    )


def failed(task: AssignTask, outcome: Outcome, error: str) -> TaskResult:
    """The end of an attempt that no launcher reported."""
    return TaskResult(task.job_id, task.index, task.attempt, outcome, error=error[:ERROR_MOST_LETTERS])


def cancelled(job_id: JobId, index: int, attempt: int, *, started: bool = False) -> TaskResult:
    when = "while its files were on their way" if started else "before it started"
    return TaskResult(job_id, index, attempt, Outcome.CANCELLED, error=f"Cancelled {when}.")


def without_files(result: TaskResult, sentence: str) -> TaskResult:
    """The end of an attempt that ran well, but whose files cannot be had."""
    return msgspec.structs.replace(result, outcome=Outcome.OUTPUT, error=sentence[:ERROR_MOST_LETTERS])


def sentence_of(error: BaseException) -> str:
    """What went wrong, with the hint, as one line."""
    if isinstance(error, MeshError):
        return f"{error.message} {error.hint}".strip()
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror or error}{where}."
    return str(error)


def _sentence(ended: Ended, outcome: Outcome, node: str) -> str:
    if outcome is Outcome.OK:
        return ""
    if ended.message:
        return f"{node}: {ended.message}"
    if ended.why in {Why.EXIT, Why.INPUTS}:
        return f"It ended with exit code {ended.exit_code} on {node}."
    return f"It was ended by signal {ended.signal} on {node}."
