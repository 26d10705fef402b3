"""What a job type offers, and the bounds that all of them keep.

Called by the coordinator's API (`check`, `describe`, `gather`) and by the agent's runner (`launch`).
Nothing here starts, reads or writes anything.
"""

from __future__ import annotations

import codecs
import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import msgspec

from planetmesh.errors import BadInput, TooLarge
from planetmesh.logs import clean
from planetmesh.model.job import AUTO_CHUNK, AUTO_INPUTS_MOST, Items, JobSpec, One
from planetmesh.wire.api import Encoding, Parse
from planetmesh.wire.calls import DEEPEST, is_deeper

ARGUMENT_MOST_BYTES = 128 * 1024 - 1
"""Linux refuses to start a program with a longer single argument or variable."""
COMMAND_MOST_BYTES = 128 * 1024
"""Of all arguments together as they were submitted."""
LAUNCH_MOST_BYTES = 1024 * 1024
"""Of all arguments and variables together after the input was put in: half of Linux' usual limit."""
PLACE_BYTES = 9
"""What an argument costs beside its text: its end and the pointer to it."""
PLACES_MOST_BYTES = LAUNCH_MOST_BYTES * 3 // 2
"""Of all arguments with that."""
KIND_MOST = 60

T = TypeVar("T")


class JobFile(msgspec.Struct, frozen=True):
    """Stands in `Launch.argv` for the path of one of its files, which only the agent knows."""

    name: str


class LaunchFile(msgspec.Struct, frozen=True):
    """A file in the job's folder, shared by all tasks of the job on that node."""

    name: str
    content: bytes
    executable: bool = False


class Launch(msgspec.Struct, frozen=True):
    """What is to be started for one task: a program, or a function of ours in a warm worker."""

    argv: tuple[str | JobFile, ...] = ()
    env: dict[str, str] = {}
    """Added to the job's own variables, and stronger than them."""
    files: tuple[LaunchFile, ...] = ()
    call: str = ""
    """Instead of `argv`: `module:function`, called in a warm worker with a `child.call.Call` that holds the
    job's payload and the task's inputs. Our own code or an installed job type's, never a submitter's."""


class Value(msgspec.Struct, frozen=True):
    """What came of one task, ready to be written as JSON."""

    value: Any
    """For JSON the task's own text in one line, as `msgspec.Raw`: no number of it loses a digit."""
    encoding: Encoding


class JobType(Protocol):
    """One kind of job. Implementations hold no state; one that derives from this gets the usual answers."""

    @property
    def name(self) -> str: ...

    @property
    def result_stream(self) -> int:
        """Which of a task's streams holds what came of it: 1 stdout, or 3 the values of calls."""
        return 1

    @property
    def needs(self) -> tuple[str, ...]:
        """Modules that a node must have: one without them does not offer the type."""
        return ()

    def complete(self, spec: JobSpec) -> JobSpec:
        """The spec with what follows from it: outputs, tags. Called before `check`; may raise BadInput."""
        return spec

    def check(self, spec: JobSpec) -> None:
        """Raise BadInput for what can never run, before the submit is acknowledged."""

    def launch(self, payload: dict[str, Any], items: tuple[str, ...], index: int) -> Launch:
        """What the task `index` with these inputs starts; raises BadInput like `check`."""
        ...

    def describe(self, payload: dict[str, Any], items: tuple[str, ...] = (), index: int = 0) -> str:
        """One line for people: what this job, or this task of it, runs."""
        return " ".join((self.name, *items))

    def gather(self, data: bytes, parse: Parse, *, is_cut: bool, count: int = 1) -> Value:
        """What came of a task that wrote this to its result stream; `is_cut`: and more, which is not here.

        Of a COMPLETED task; where results are values of calls, of any that has ended. `count`: its inputs.
        """
        return value_of(data, parse, is_cut=is_cut)

    def kind(self, payload: dict[str, Any]) -> str:
        """`command ffmpeg`: jobs of the same kind are alike in how long a task takes and where it fails."""
        return kind_of(self.name, "")


def kind_of(job_type: str, program: str) -> str:
    """A job type and the last part of a program's path, printable and short."""
    name = re.split(r"[/\\]", program.rstrip("/\\"))[-1]
    return f"{job_type} {clean(name, KIND_MOST)}".rstrip()


def read_payload(payload: dict[str, Any], kind: type[T], job_type: str) -> T:
    """The payload as the job type's own struct; raises BadInput with where it is wrong."""
    try:
        return msgspec.convert(payload, kind)
    except msgspec.ValidationError as error:
        raise BadInput(f"The payload of this {job_type} job cannot be used: {error}.") from error


def check_texts(texts: tuple[str, ...], what: str, most_bytes: int = COMMAND_MOST_BYTES) -> None:
    """Raise BadInput unless every text can be handed to a program, and TooLarge beyond `most_bytes`."""
    total = 0
    for text in texts:
        total += check_text(text, what)
    if total > most_bytes:
        raise TooLarge(f"The {what} is {total} bytes long; {most_bytes} is the limit.")


def check_text(text: str, what: str) -> int:
    """The length in bytes of a text that a program can be given as an argument; raises BadInput."""
    if "\0" in text:
        raise BadInput(f"The {what} holds a NUL character, which no program can be given.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise BadInput(f"The {what} holds text that is not valid Unicode.") from error
    if size > ARGUMENT_MOST_BYTES:
        raise TooLarge(
            f"One part of the {what} is {size} bytes long; {ARGUMENT_MOST_BYTES} is the limit.",
            hint="Give long data to the program in a file.",
        )
    return size


def check_inputs(spec: JobSpec, job_type: JobType) -> None:
    """Raise BadInput for inputs that cannot be given to a program, by trying the longest tasks."""
    if isinstance(spec.inputs, Items):
        for index, item in enumerate(spec.inputs.items):
            check_text(item, f"input number {index + 1}")
    for task, items in longest_tasks(spec):
        try:
            job_type.launch(spec.payload, items, task)
        except TooLarge as error:
            if len(items) == 1 or spec.chunk == 1:
                raise
            raise TooLarge(
                f"{len(items)} inputs are too many for one command. {error.message}",
                hint="Put fewer into one task: a smaller --chunk.",
            ) from error


def longest_tasks(spec: JobSpec) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Index and inputs of the tasks with the most text; if they can be started, all others can."""
    if isinstance(spec.inputs, One):
        yield 0, ()
        return
    if spec.inputs.count == 0:
        return
    if spec.chunk != AUTO_CHUNK:
        yield _longest(spec, spec.chunk)
        return
    yield _longest(spec, 1)
    yield _longest(spec, AUTO_INPUTS_MOST)


def _longest(spec: JobSpec, size: int) -> tuple[int, tuple[str, ...]]:
    """The longest task of so many inputs. With automatic chunks an index counts inputs, not chunks."""
    inputs, step = spec.inputs, size if spec.chunk == AUTO_CHUNK else 1
    tasks = -(-inputs.count // size)
    if isinstance(inputs, Items):
        lengths = [0] * tasks
        for number, item in enumerate(inputs.items):
            lengths[number // size] += len(item.encode()) + PLACE_BYTES
        task = lengths.index(max(lengths))
    else:
        # The longest numbers stand at an end of a range; the last task may be short of some.
        sizes = {
            task: sum(map(len, _items(spec, task, step, size))) for task in {0, max(0, tasks - 2), tasks - 1}
        }
        task = max(sizes, key=sizes.__getitem__)
    return task * step, _items(spec, task, step, size)


def _items(spec: JobSpec, task: int, step: int, size: int) -> tuple[str, ...]:
    if spec.chunk != AUTO_CHUNK:
        return spec.items_of(task)
    return spec.chunk_at(task * step, size)


def check_launch(launch: Launch, what: str) -> Launch:
    """The launch itself, if the operating system will take it; raises TooLarge."""
    texts = tuple(part for part in launch.argv if isinstance(part, str))
    check_texts((*texts, *launch.env.values()), what, LAUNCH_MOST_BYTES)
    size = sum(len(text.encode()) + PLACE_BYTES for text in texts)
    if size > PLACES_MOST_BYTES:
        raise TooLarge(f"The {what} has {len(texts)} parts, more than a program can be started with.")
    return launch


def value_of(stdout: bytes, parse: Parse, *, is_cut: bool) -> Value:
    """A program's output as a value: text, base64 if it is no text, or its JSON if that is asked for.

    Whether output is JSON is never guessed: `1e3` and `"yes"` are texts until somebody says otherwise.
    """
    if parse is Parse.JSON and not is_cut:
        found = _json_in(stdout)
        if found is not None:
            return Value(found, Encoding.JSON)
    try:
        # A cut may go through the middle of a character, which does not make it less of a text.
        return Value(codecs.getincrementaldecoder("utf-8")().decode(stdout, final=not is_cut), Encoding.TEXT)
    except UnicodeDecodeError:
        return Value(b64encode(stdout).decode(), Encoding.BASE64)


def _json_in(stdout: bytes) -> msgspec.Raw | None:
    try:
        value = msgspec.json.decode(stdout)
        if stdout.count(b"[") + stdout.count(b"{") > DEEPEST and is_deeper(value, DEEPEST):
            return None
        return msgspec.Raw(msgspec.json.format(stdout, indent=-1))
    except (ValueError, RecursionError):
        return None
