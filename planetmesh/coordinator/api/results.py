"""What came of a job's tasks, of all that have ended so far, in the order of their index.

Given page by page as the caller takes it, so that ten million tasks need no more memory here than a
thousand. Of a job that goes on the caller gets what had ended when it asked, and perhaps a little more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from enum import StrEnum
from typing import TypeVar

import msgspec
from aiohttp import web

from planetmesh.coordinator.api.call import Call
from planetmesh.coordinator.api.door import BYTES, Stream, stream
from planetmesh.coordinator.api.lookup import Found, open_job
from planetmesh.coordinator.engine import Engine
from planetmesh.coordinator.views import task_code
from planetmesh.errors import BadInput, NotFound, StorageFailed
from planetmesh.jobtypes.contract import JobType
from planetmesh.jobtypes.registry import job_type
from planetmesh.mesh import effects as fx
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId
from planetmesh.model.job import ENDED, Task, TaskState
from planetmesh.store.results import Place, Stdout
from planetmesh.wire.api import Form, Parse, TaskCode, TaskResult, TaskShort
from planetmesh.wire.calls import VALUES

VALUE_MOST_BYTES = 1024 * 1024
"""Of one task's output in `json`; `text` has all that was kept of it."""
PAGE_TASKS = 500
"""Made into JSON at a time: a few milliseconds in which nothing else happens here."""
INLINE_BYTES = 64 * 1024
"""Of outputs: more is made into JSON beside the loop."""
TASKS_MOST = 2**31
UNSEEN_TASKS = 20_000
"""After so many of which none is given, an empty line says that we are still looking."""

E = TypeVar("E", bound=StrEnum)

_encoder = msgspec.json.Encoder()


class _Asked(msgspec.Struct, frozen=True):
    """Which tasks, and what of them."""

    form: Form
    parse: Parse
    start: int
    limit: int
    states: frozenset[TaskState]


async def give_results(call: Call) -> web.StreamResponse:
    asked = _asked(call)
    found = await open_job(call, call.part("job"))
    engine = call.parts.engine
    if found.live is not None:
        # What has ended in the tables is on disk after this; a disk that is full still has what it had.
        with suppress(StorageFailed):
            await engine.do(_nothing)
    if asked.form is Form.TEXT:
        return await stream(
            call, lambda answer: _give_text(engine, answer, found, asked.start), content_type=BYTES
        )
    if asked.form is Form.SHORT:
        return await stream(call, lambda answer: _give_short(engine, answer, found, asked))
    return await stream(call, lambda answer: _give_lines(engine, answer, found, asked))


def _asked(call: Call) -> _Asked:
    form = _one_of(call, "form", Form.TEXT)
    if form is Form.TEXT and (call.text("status") or call.text("limit")):
        raise BadInput(
            "The form `text` is of all COMPLETED tasks: neither 'status' nor 'limit' goes with it.",
            hint="Ask for form=json or form=codes.",
        )
    if form is Form.SHORT and call.text("status"):
        raise BadInput("The form `short` is of COMPLETED tasks: no 'status' goes with it.")
    if form is not Form.JSON and call.text("parse"):
        raise BadInput("Only the form `json` can be parsed.", hint="Ask for form=json.")
    return _Asked(
        form,
        _one_of(call, "parse", Parse.TEXT),
        call.number("from", 0, most=TASKS_MOST),
        call.number("limit", TASKS_MOST, least=1, most=TASKS_MOST),
        _states(call.text("status")),
    )


def _one_of(call: Call, name: str, usual: E) -> E:
    text = call.text(name)
    kind = type(usual)
    try:
        return kind(text.lower()) if text else usual
    except ValueError as error:
        raise BadInput(f"The parameter '{name}' is none of {', '.join(kind)}.") from error


def _states(text: str | None) -> frozenset[TaskState]:
    if not text:
        return ENDED
    words = frozenset(word.strip().upper() for word in text.split(","))
    if not words <= {state.value for state in ENDED}:
        raise BadInput(f"'{text}' is not how a task ends.", hint=f"Tasks end as {', '.join(sorted(ENDED))}.")
    return frozenset(TaskState(word) for word in words)


async def _give_text(engine: Engine, answer: Stream, found: Found, start: int) -> None:
    following: Place | None = (start, 0)
    while following is not None:
        page = await engine.outputs.results(found.job.id, following)
        if page.data:
            await answer.write(b"".join(page.data))
        following = page.following
    await _see_that_it_is_there(engine, found.job.id)


async def _give_short(engine: Engine, answer: Stream, found: Found, asked: _Asked) -> None:
    following, left = asked.start, asked.limit
    while left:
        page = await engine.outputs.short(found.job.id, following)
        shown = [
            TaskShort(index=each.index, kept_bytes=each.kept_bytes, written_bytes=each.written_bytes)
            for each in page.found[:left]
        ]
        left -= len(shown)
        if shown:
            await answer.write(_encoder.encode_lines(shown))
        if page.following is None:
            break
        following = page.following
    await _see_that_it_is_there(engine, found.job.id)


async def _give_lines(engine: Engine, answer: Stream, found: Found, asked: _Asked) -> None:
    left, unseen = asked.limit, 0
    async for tasks in _pages(engine, found, asked):
        shown = tasks[:left]
        left -= len(shown)
        unseen = 0 if shown else unseen + PAGE_TASKS
        if unseen >= UNSEEN_TASKS:
            unseen = 0
            await answer.rest()
        codes = [task_code(engine.state, task, found.job.spec) for task in shown]
        if codes and asked.form is Form.CODES:
            await answer.write(_encoder.encode_lines(codes))
        elif codes:
            await _give_values(engine, answer, found, list(zip(codes, shown, strict=True)), asked.parse)
        if not left:
            return
    await _see_that_it_is_there(engine, found.job.id)


async def _pages(engine: Engine, found: Found, asked: _Asked) -> AsyncIterator[list[Task]]:
    """Tasks that have ended so, page by page; a page may be empty."""
    rest = found.job.rest
    looked_for: frozenset[TaskState] | None = ENDED
    if asked.states == {TaskState.FAILED} and rest is not TaskState.FAILED:
        looked_for = asked.states
    elif found.live is None or rest is not None:
        # Those that were never placed have ended too, and have no row to look for.
        looked_for = None
    start = asked.start
    while True:
        tasks = await engine.store.tasks(found.job.id, start, PAGE_TASKS, looked_for)
        yield [task for task in tasks if task.state in asked.states]
        if len(tasks) < PAGE_TASKS:
            return
        start = tasks[-1].index + tasks[-1].width


async def _give_values(
    engine: Engine, answer: Stream, found: Found, tasks: list[tuple[TaskCode, Task]], parse: Parse
) -> None:
    """As many at a time as have small outputs together."""
    kind = job_type(found.job.spec.type)
    are_calls = kind.result_stream == VALUES
    # A call that raised fails its task; what came of the task's other calls is there all the same.
    states = ENDED if are_calls else frozenset({TaskState.COMPLETED})
    most = engine.settings.output_most_bytes if are_calls else VALUE_MOST_BYTES
    while tasks:
        wanted = [(task.index, task.attempt) for _code, task in tasks if _has_output(task, states)]
        outputs = await engine.outputs.stdouts(found.job.id, wanted, most, stream=kind.result_stream)
        batch = _with_outputs(tasks, outputs, states)
        if are_calls:
            # What was dropped of values nobody has counted: the worker says it in place of the value.
            batch = [(code, output and _Output(output.stdout, 0)) for code, output in batch]
        del tasks[: len(batch)]
        if sum(len(each.data) for each in outputs) <= INLINE_BYTES:
            lines = _lines(batch, kind, parse)
        else:
            lines = await asyncio.to_thread(_lines, batch, kind, parse)
        await answer.write(lines)


class _Output(msgspec.Struct, frozen=True):
    """What there is of a task's standard output, or of its values."""

    stdout: Stdout
    dropped_bytes: int


def _with_outputs(
    tasks: list[tuple[TaskCode, Task]], outputs: list[Stdout], states: frozenset[TaskState]
) -> list[tuple[TaskCode, _Output | None]]:
    """The first tasks, as far as the outputs of those among them that have some reach."""
    batch: list[tuple[TaskCode, _Output | None]] = []
    following = iter(outputs)
    for code, task in tasks:
        if not _has_output(task, states):
            batch.append((code, None))
            continue
        stdout = next(following, None)
        if stdout is None:
            break
        batch.append((code, _Output(stdout, max(0, task.stdout_bytes - stdout.kept_bytes))))
    return batch


def _has_output(task: Task, states: frozenset[TaskState]) -> bool:
    return task.state in states and task.attempt > 0


def _lines(batch: list[tuple[TaskCode, _Output | None]], kind: JobType, parse: Parse) -> bytes:
    return _encoder.encode_lines([_result(code, output, kind, parse) for code, output in batch])


def _result(code: TaskCode, output: _Output | None, kind: JobType, parse: Parse) -> TaskResult:
    ended = msgspec.structs.asdict(code)
    if output is None:
        return TaskResult(**ended)
    is_cut = output.stdout.is_cut or output.dropped_bytes > 0
    count = len(code.inputs) if code.inputs is not None else 1
    found = kind.gather(output.stdout.data, parse, is_cut=is_cut, count=count)
    return TaskResult(
        **ended,
        value=found.value,
        encoding=found.encoding,
        is_cut=is_cut,
        dropped_bytes=output.dropped_bytes,
    )


async def _see_that_it_is_there(engine: Engine, job_id: JobId) -> None:
    """Raise NotFound for a job that was swept meanwhile: what was given of it is not all."""
    if job_id not in engine.state.jobs and job_id not in await engine.store.find_jobs(job_id):
        raise NotFound(f"Job {job_id} is not kept any more.")


def _nothing(_state: MeshState, _now: Moment) -> fx.Effects:
    return []
