"""PURE. What a job, a name or a tag must be like to be let in; everything else is BadInput.

Called before anything is changed. The job type has its own `check` for what only it can judge.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable

import msgspec

from planetmesh.errors import BadInput, TooLarge
from planetmesh.jobtypes.contract import longest_tasks
from planetmesh.jobtypes.registry import job_type
from planetmesh.logs import clean
from planetmesh.model.blob import StagedFile, is_digest
from planetmesh.model.job import AUTO_CHUNK, After, Condition, Items, JobSpec, Limits, One, Range
from planetmesh.model.names import folded, safe_parts
from planetmesh.model.patterns import check_pattern
from planetmesh.model.resources import Resources
from planetmesh.settings import Settings
from planetmesh.wire.api import ChangeJob

JOB_NAME_MOST = 200
NODE_NAME_MOST = 64
REASON_MOST = 500
LINGER_MOST_SECONDS = 60.0
"""Each such job keeps a launcher and a worker on its nodes."""
KEY_MOST = 64
TAGS_MOST = 32
PRIORITY_MOST = 1000
ATTEMPTS_MOST = 100
ENV_MOST = 512
ENV_MOST_BYTES = 256 * 1024
SECONDS_MOST = 1e10
CPU_MILLIS_MOST = 10**9
MEMORY_MOST_BYTES = 2**60
GPUS_MOST = 10_000
CHUNK_MOST = 100_000
AFTER_MOST = 64
FILES_MOST = 2048
"""Named one by one for all tasks of a job; a folder counts as one."""
OUTPUTS_MOST = 64
FILE_BYTES = 96
"""What a staged file costs in a message beside its name: the digest most of all."""
EXACT_MOST = 2**53
"""Whole numbers up to here mean the same in every program that reads JSON."""
FRAME_RESERVE_BYTES = 64 * 1024
"""Of a frame to an agent, kept free beside a job's own details."""
DEEPEST_PAYLOAD = 32

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:=+/-]{0,63}")
_NODE_NAME = re.compile(r"[\w](?:[\w .-]{0,62}[\w])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_KEY = re.compile(r"[!-~]{0,64}")


def check_job(spec: JobSpec, settings: Settings) -> JobSpec:
    """The spec as it is kept (its name made printable); raises BadInput or TooLarge."""
    kind = job_type(spec.type)
    spec = kind.complete(msgspec.structs.replace(spec, name=_job_name(spec.name)))
    _check_inputs(spec, settings)
    _check_requests(spec.requests)
    _check_limits(spec.limits)
    _within("priority", spec.priority, -PRIORITY_MOST, PRIORITY_MOST)
    _within("number of attempts", spec.max_attempts, 1, ATTEMPTS_MOST)
    if spec.max_running is not None:
        _within("number of tasks running at a time", spec.max_running, 1, settings.tasks_most)
    _within("number of inputs in a task", spec.chunk, 0, CHUNK_MOST)
    if spec.max_failures is not None:
        _within("number of failures that end the job", spec.max_failures, 1, settings.tasks_most)
    _check_after(spec.after)
    check_tags(spec.tags)
    _check_env(spec.env)
    _check_files(spec)
    _check_outputs(spec.outputs)
    _check_payload(spec, settings)
    _check_chunk(spec, settings)
    _check_linger(spec)
    kind.check(spec)
    return spec


def check_more(spec: JobSpec, settings: Settings) -> JobSpec:
    """The spec of a job that was let in, with the inputs that it gets now instead of those that it had."""
    _check_inputs(spec, settings)
    job_type(spec.type).check(spec)
    return spec


def check_change(asked: ChangeJob, settings: Settings) -> None:
    """Raise BadInput for what no job may be changed to."""
    if asked.priority is not None:
        _within("priority", asked.priority, -PRIORITY_MOST, PRIORITY_MOST)
    if asked.max_running is not None:
        _within("number of tasks running at a time", asked.max_running, 0, settings.tasks_most)
    _check_after(asked.after or ())


def _job_name(name: str) -> str:
    if len(name) > JOB_NAME_MOST:
        raise TooLarge(f"The job's name has {len(name)} characters; {JOB_NAME_MOST} is the limit.")
    return clean(name).strip()


def _check_inputs(spec: JobSpec, settings: Settings) -> None:
    inputs = spec.inputs
    if isinstance(inputs, Range):
        if inputs.step == 0:
            raise BadInput("The step of a range cannot be zero.")
        for number in (inputs.first, inputs.last, inputs.step):
            _within("range", number, -EXACT_MOST, EXACT_MOST)
    if inputs.count < 1:
        raise BadInput("The job has no inputs, so it would have no tasks.")
    if inputs.count > settings.tasks_most:
        raise TooLarge(f"The job would have {inputs.count} tasks; {settings.tasks_most} is the limit.")
    if isinstance(inputs, Items):
        _check_unicode(inputs.items, "an input")


def _check_requests(wanted: Resources) -> None:
    _within("CPUs (in thousandths)", wanted.cpu_millis, 1, CPU_MILLIS_MOST)
    _within("memory", wanted.memory_bytes, 0, MEMORY_MOST_BYTES)
    _within("number of GPUs", wanted.gpus, 0, GPUS_MOST)


def _check_limits(limits: Limits) -> None:
    for seconds in msgspec.structs.astuple(limits):
        if seconds is not None and not (math.isfinite(seconds) and 0 < seconds <= SECONDS_MOST):
            raise BadInput("A time limit must be above zero seconds.", hint="Say it like 90s, 10m or 1.5h.")


def _check_after(conditions: tuple[After, ...]) -> None:
    if len(conditions) > AFTER_MOST:
        raise TooLarge(f"A job can wait for {AFTER_MOST} others at most, not for {len(conditions)}.")
    for after in conditions:
        if (
            After(after.job, Condition.SUCCESS) in conditions
            and After(after.job, Condition.FAILURE) in conditions
        ):
            raise BadInput(
                f"Job {clean(after.job, 60)} cannot both complete and fail, so this job would never run.",
                hint="To run however it ends: --after-any",
            )


def _check_chunk(spec: JobSpec, settings: Settings) -> None:
    """A task's inputs are sent to its machine in one frame."""
    if spec.chunk == 1:
        return
    if isinstance(spec.inputs, One):
        raise BadInput("A job without inputs cannot give several to each task.", hint="Leave --chunk away.")
    if spec.chunk == AUTO_CHUNK:
        return
    most = settings.frame_most_bytes - FRAME_RESERVE_BYTES
    for _, items in longest_tasks(spec):
        size = max(len(msgspec.msgpack.encode(items)), _most_own_bytes(spec))
        if size > most:
            raise TooLarge(
                f"{len(items)} inputs are {size} bytes long together; {most} is the limit for one task.",
                hint="Put fewer into one task: a smaller --chunk.",
            )


def _check_linger(spec: JobSpec) -> None:
    if not spec.linger_seconds:
        return
    if not (math.isfinite(spec.linger_seconds) and 0 < spec.linger_seconds <= LINGER_MOST_SECONDS):
        raise BadInput(
            f"A job may linger for {LINGER_MOST_SECONDS:g} seconds at most, and not for less than 0."
        )
    if (
        not isinstance(spec.inputs, Items)
        or spec.inputs.files
        or spec.chunk > 1
        or spec.max_failures is not None
    ):
        raise BadInput(
            "A job that lingers needs a list of inputs without files, no chunks of a fixed size, "
            "and no number of failures that end it."
        )


def _most_own_bytes(spec: JobSpec) -> int:
    """At most so many bytes are sent for the inputs of one task and the files that they name."""
    if not isinstance(spec.inputs, Items) or not spec.inputs.files:
        return 0
    sizes = [
        len(item.encode()) + (0 if file is None else len(file.name.encode()) + FILE_BYTES)
        for item, file in zip(spec.inputs.items, spec.inputs.files, strict=True)
    ]
    return max(sum(sizes[start : start + spec.chunk]) for start in range(0, len(sizes), spec.chunk))


def _check_files(spec: JobSpec) -> None:
    """Names that can lie in one folder, and digests; whether those are there is asked later."""
    if len(spec.files) > FILES_MOST:
        raise TooLarge(
            f"The job stages {len(spec.files)} files one by one; {FILES_MOST} is the limit.",
            hint="Put them into a folder and stage that: --in FOLDER",
        )
    taken: set[str] = set()
    for file in spec.files:
        _check_file(file)
        if folded(file.name) in taken and not file.is_tree:
            raise BadInput(f"Two staged files would be {clean(file.name, 80)!r} in the task's folder.")
        taken.add(folded(file.name))
    if isinstance(spec.inputs, Items) and spec.inputs.files:
        _check_own_files(spec.inputs, taken)


def _check_own_files(inputs: Items, taken: set[str]) -> None:
    if len(inputs.files) != len(inputs.items):
        raise BadInput("There must be a file, or none, for each input.")
    for own in inputs.files:
        if own is None:
            continue
        _check_file(own)
        if folded(own.name) in taken:
            raise BadInput(f"An input and a staged file would both be {clean(own.name, 80)!r}.")


def _check_outputs(patterns: tuple[str, ...]) -> None:
    if len(patterns) > OUTPUTS_MOST:
        raise TooLarge(f"{len(patterns)} output patterns are too many; {OUTPUTS_MOST} is the limit.")
    for pattern in patterns:
        check_pattern(pattern)


def _check_file(file: StagedFile) -> None:
    if not is_digest(file.digest):
        raise BadInput(f"The staged file {clean(file.name, 80)!r} has no valid digest.")
    if file.name or not file.is_tree:
        safe_parts(file.name)


def _check_env(env: dict[str, str]) -> None:
    if len(env) > ENV_MOST:
        raise TooLarge(f"The job sets {len(env)} variables; {ENV_MOST} is the limit.")
    size = 0
    for name, value in env.items():
        if _VARIABLE.fullmatch(name) is None:
            raise BadInput(f"'{clean(name, 60)}' is not a name of an environment variable.")
        if "\0" in value:
            raise BadInput(f"The variable {name} holds a NUL character, which no program can be given.")
        _check_unicode((value,), f"the variable {name}")
        size += len(name) + len(value.encode())
    if size > ENV_MOST_BYTES:
        raise TooLarge(f"The job's variables are {size} bytes long; {ENV_MOST_BYTES} is the limit.")


def _check_payload(spec: JobSpec, settings: Settings) -> None:
    """What is sent to every machine of the job must fit into one frame, in numbers that frames can hold."""
    if _depth(spec.payload) > DEEPEST_PAYLOAD:
        raise BadInput("The job's payload is nested too deeply.")
    try:
        size = len(
            msgspec.msgpack.encode(
                (spec.payload, spec.env, spec.requests, spec.limits, spec.files, spec.outputs)
            )
        )
    except (OverflowError, ValueError, TypeError) as error:
        raise BadInput(f"The job's payload cannot be sent: {error}.") from error
    most = settings.frame_most_bytes - FRAME_RESERVE_BYTES
    if size > most:
        raise TooLarge(
            f"The job's command, script and variables are {size} bytes long together; {most} is the limit.",
            hint="Give long data to the program in a file.",
        )


def _depth(value: object) -> int:
    """How deep lists and objects lie in each other; stops counting beyond the limit."""
    level: list[object] = [value]
    for depth in range(DEEPEST_PAYLOAD + 2):
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        if not inner:
            return depth
        level = inner
    return DEEPEST_PAYLOAD + 2


def check_key(key: str) -> None:
    if _KEY.fullmatch(key) is None:
        raise BadInput(f"The key of a submit has at most {KEY_MOST} plain characters.")


def check_reason(reason: str) -> str:
    """Why something is done, in one printable line."""
    return clean(reason, REASON_MOST).strip()


def check_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    """The tags, each once."""
    if len(tags) > TAGS_MOST:
        raise TooLarge(f"{len(tags)} tags are too many; {TAGS_MOST} is the limit.")
    for tag in tags:
        if _TAG.fullmatch(tag) is None:
            raise BadInput(
                f"'{clean(tag, 60)}' is not a tag.",
                hint="Tags are letters, digits and _.:=+/- without blanks, 64 at most.",
            )
    return tuple(dict.fromkeys(tags))


def check_node_name(name: str) -> str:
    """The name as it is kept: one way of writing it, so that two that look the same are the same."""
    written = unicodedata.normalize("NFKC", name).strip()
    if len(written) > NODE_NAME_MOST or _NODE_NAME.fullmatch(written) is None or clean(written) != written:
        raise BadInput(
            f"'{clean(name, 60)}' is not a name for a node.",
            hint=f"Names are letters, digits, blanks and _.- , {NODE_NAME_MOST} at most.",
        )
    return written


def _check_unicode(texts: Iterable[str], what: str) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadInput(f"The text of {what} is not valid Unicode.") from error


def _within(what: str, number: int, least: int, most: int) -> None:
    if not least <= number <= most:
        raise BadInput(f"The {what} must be between {least} and {most}.")
