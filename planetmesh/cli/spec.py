"""From options to a JobSpec: what `run` and `submit` share, with every check that needs no mesh."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from msgspec.structs import replace

from planetmesh.cli.completing import complete_file, complete_job, complete_node, complete_tag
from planetmesh.errors import BadInput, NotFound, TooLarge
from planetmesh.jobtypes.replace import STRINGS
from planetmesh.model.blob import StagedFile
from planetmesh.model.job import AUTO_CHUNK, Condition, Inputs, JobSpec, Limits, One
from planetmesh.model.patterns import check_pattern
from planetmesh.model.resources import Resources, parse_cpus, parse_duration, parse_size

if TYPE_CHECKING:
    from planetmesh.jobtypes.contract import JobType

SCRIPT_MOST_BYTES = 1024 * 1024
"""As `jobtypes.script` allows; said here before the whole file is read."""
RETRIES_OF_MANY = 2
"""One flaky task should not spoil a batch; a single command is its user's to repeat."""
RETRIES_MOST = 99
"""A task is tried a hundred times at most."""
OWN_VARIABLES = frozenset({"HOME", "TMPDIR"})
"""Each task's own folder; what a job says of them would be overwritten."""
PRIORITY_MOST = 1000
CHUNK_MOST = 100_000
AFTER_MOST = 64
OUTPUTS_MOST = 64
"""Both as `coordinator/api/checks` allows."""

_VARIABLE = re.compile(r"[^=\0]+")
C = TypeVar("C", bound=Callable[..., Any])


@dataclass(frozen=True)
class JobOptions:
    """The options as they were typed."""

    env: tuple[str, ...] = ()
    cpus: str | None = None
    memory: str | None = None
    gpus: int = 0
    tag: tuple[str, ...] = ()
    node: str | None = None
    timeout: str | None = None
    silence_timeout: str | None = None
    retries: int | None = None
    priority: int = 0
    max_running: int | None = None
    at_most_once: bool = False
    partial: bool = False
    name: str = ""
    chunk: str | None = None
    after: tuple[str, ...] = ()
    after_failure: tuple[str, ...] = ()
    after_any: tuple[str, ...] = ()
    queue_timeout: str | None = None
    task_timeout: str | None = None
    max_failures: int | None = None
    no_duplicates: bool = False
    stage_in: tuple[str, ...] = ()
    out: tuple[str, ...] = ()
    no_stage: bool = False

    @property
    def conditions(self) -> tuple[tuple[str, Condition], ...]:
        """The jobs to wait for, as they were named, and how each must end."""
        return (
            *((job, Condition.SUCCESS) for job in self.after),
            *((job, Condition.FAILURE) for job in self.after_failure),
            *((job, Condition.END) for job in self.after_any),
        )


_FILE_OPTIONS = (
    click.option("--in", "stage_in", multiple=True, metavar="PATH", shell_complete=complete_file,
                 help="Take this file, folder or pattern along, into each task's folder (repeatable)."),
    click.option("--out", multiple=True, metavar="PATTERN",
                 help="Bring these files back from each task's folder, like '*.mp4' or 'out/' (repeatable)."),
    click.option("--no-stage", is_flag=True,
                 help="Inputs and a program that are local files are not taken along by themselves."),
    click.option("--env", multiple=True, metavar="K=V", help="Set a variable; K alone: this shell's value."),
)  # fmt: skip
_OPTIONS = (
    click.option("--cpus", metavar="N", help="CPUs for each task, like 2 or 0.5 (default 1)."),
    click.option("--memory", metavar="SIZE", help="Memory for each task, like 500MB or 2g."),
    click.option("--gpus", type=click.IntRange(0, 64), default=0, metavar="N", help="GPUs for each task."),
    click.option("--tag", multiple=True, metavar="T", shell_complete=complete_tag,
                 help="Only on nodes with this tag (repeatable)."),
    click.option("--node", metavar="NAME", shell_complete=complete_node, help="Only on this node."),
    click.option("--timeout", metavar="TIME", help="Stop an attempt after this long, like 90s, 10m or 1.5h."),
    click.option("--silence-timeout", metavar="TIME",
                 help="Stop an attempt that wrote nothing for this long."),
    click.option("--queue-timeout", metavar="TIME",
                 help="A task that no machine took for this long fails, like 1h."),
    click.option("--task-timeout", metavar="TIME",
                 help="A task fails this long after its first start, retries included, like 2h."),
    click.option(
        "--retries", type=click.IntRange(0, RETRIES_MOST), metavar="N",
        help="Try a failed task again N times (default 0 for one task, 2 for many). "
        "A task whose node was lost runs again in any case.",
    ),
    click.option("--priority", type=click.IntRange(-PRIORITY_MOST, PRIORITY_MOST), default=0, metavar="N",
                 help="Higher ones go first."),
    click.option("-j", "--max-running", type=click.IntRange(1), metavar="N", help="At most N at a time."),
    click.option("--at-most-once", is_flag=True, help="Never run a task twice, even if its node was lost."),
    click.option("--partial", is_flag=True, help="A failed task does not fail the job."),
    click.option("--max-failures", type=click.IntRange(1), metavar="N",
                 help="Stop the job when N tasks failed, like 10."),
    click.option("--no-duplicates", is_flag=True,
                 help="Never run a slow task a second time on an idle machine meanwhile."),
    click.option("--chunk", metavar="N|auto",
                 help="Give each task N inputs, like 50, or a few seconds' worth (auto)."),
    click.option("--after", multiple=True, metavar="JOB", shell_complete=complete_job,
                 help="Run once this job has completed: its id or `last` (repeatable)."),
    click.option("--after-failure", multiple=True, metavar="JOB", shell_complete=complete_job,
                 help="The same if it failed."),
    click.option("--after-any", multiple=True, metavar="JOB", shell_complete=complete_job,
                 help="The same however it ended."),
    click.option("--name", default="", metavar="TEXT", help="A name for people."),
)  # fmt: skip


def job_options(command: C) -> C:
    """Give a click command the options of `JobOptions`."""
    return work_options(_given(_FILE_OPTIONS, command))


def work_options(command: C) -> C:
    """The same without those about files and variables: for commands that know what to take along."""
    return _given(_OPTIONS, command)


def _given(options: tuple[Callable[[C], C], ...], command: C) -> C:
    for option in reversed(options):
        command = option(command)
    return command


def take_options(values: dict[str, Any]) -> JobOptions:
    """Move the options of `JobOptions` out of what click gave."""
    known = JobOptions.__dataclass_fields__
    return JobOptions(**{name: values.pop(name) for name in list(values) if name in known})


def command_payload(command: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """Job type and payload of a command line."""
    if not command:
        raise BadInput("There is no command to run.", hint="Say it like: planetmesh run CMD ARG…")
    return "command", {"argv": list(command)}


def script_payload(
    path: str, arguments: tuple[str, ...], interpreter: str | None
) -> tuple[str, dict[str, Any]]:
    """Job type and payload of a local script that travels with the job."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(SCRIPT_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"There is no script {path}.") from error
    except OSError as error:
        raise BadInput(f"The script {path} cannot be read: {error.strerror}.") from error
    if len(content) > SCRIPT_MOST_BYTES:
        raise TooLarge(f"The script {path} is longer than {SCRIPT_MOST_BYTES} bytes.")
    try:
        source = content.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"The script {path} is not UTF-8 text.") from error
    payload: dict[str, Any] = {"source": source, "args": list(arguments), "name": Path(path).name}
    if interpreter:
        payload["interpreter"] = shlex.split(interpreter)
    return "script", payload


def build_spec(
    kind: tuple[str, dict[str, Any]],
    inputs: Inputs,
    options: JobOptions,
    *,
    planned: tuple[StagedFile, ...] = (),
) -> JobSpec:
    """The spec, checked as the coordinator will check it. `planned`: files that all tasks will get.

    `node` and the jobs to wait for are looked up later: that needs the mesh.
    """
    if len(options.conditions) > AFTER_MOST:
        raise TooLarge(f"A job can wait for {AFTER_MOST} others at most, not for {len(options.conditions)}.")
    spec = JobSpec(
        type=kind[0],
        payload=kind[1],
        inputs=inputs,
        name=options.name,
        requests=_resources(options),
        tags=options.tag,
        env=parse_env(options.env),
        priority=options.priority,
        max_running=options.max_running,
        max_attempts=1 + _retries(options, inputs),
        limits=_limits(options),
        at_most_once=options.at_most_once,
        partial=options.partial,
        chunk=_chunk(options.chunk, inputs),
        max_failures=options.max_failures,
        duplicates=not options.no_duplicates,
        outputs=_outputs(options.out),
    )
    known = find_job_type(spec.type)
    if known is not None:
        spec = known.complete(spec)
        known.check(replace(spec, files=planned))
    return spec


def find_job_type(name: str) -> JobType | None:
    """None for one that only the mesh knows: it belongs to a package that is not installed here."""
    from planetmesh import entry_points
    from planetmesh.jobtypes.registry import JOB_TYPES, add_job_types

    if name not in JOB_TYPES:
        add_job_types(entry_points.offers(entry_points.JOB_TYPES))
    return JOB_TYPES.get(name)


def parse_env(given: tuple[str, ...]) -> dict[str, str]:
    """`K=V` sets, `K` alone takes this process's value."""
    found: dict[str, str] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not _VARIABLE.fullmatch(name):
            raise BadInput(f"--env '{text}' names no variable.", hint="Say it like --env LEVEL=3.")
        if name in OWN_VARIABLES or name.startswith("PLANETMESH_"):
            raise BadInput(
                f"--env {name}: each task has its own {name}.",
                hint=f"Set it inside the command: planetmesh run '{name}=… COMMAND'",
            )
        if not sign and name not in os.environ:
            raise BadInput(f"--env {name}: this shell has no such variable.", hint=f"Say --env {name}=VALUE.")
        found[name] = value if sign else os.environ[name]
    return found


def _outputs(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if len(patterns) > OUTPUTS_MOST:
        raise TooLarge(f"{len(patterns)} --out patterns are too many; {OUTPUTS_MOST} is the limit.")
    for pattern in patterns:
        if any(string in pattern for string in STRINGS):
            raise BadInput(
                f"--out {pattern!r}: the same patterns hold for all tasks, nothing is replaced in them.",
                hint="Say it with *: --out '**/*.mp4' takes what a task made in whichever folder.",
            )
        check_pattern(pattern)
    return tuple(dict.fromkeys(patterns))


def _resources(options: JobOptions) -> Resources:
    usual = Resources()
    return Resources(
        cpu_millis=parse_cpus(options.cpus) if options.cpus is not None else usual.cpu_millis,
        memory_bytes=parse_size(options.memory) if options.memory is not None else usual.memory_bytes,
        gpus=options.gpus,
    )


def _limits(options: JobOptions) -> Limits:
    return Limits(
        attempt_seconds=_seconds(options.timeout),
        silence_seconds=_seconds(options.silence_timeout),
        queue_seconds=_seconds(options.queue_timeout),
        total_seconds=_seconds(options.task_timeout),
    )


def _seconds(text: str | None) -> float | None:
    return None if text is None else parse_duration(text)


def _chunk(text: str | None, inputs: Inputs) -> int:
    """How many inputs a task gets, from `50` or `auto`."""
    if text is None:
        return 1
    if isinstance(inputs, One):
        raise BadInput(
            "--chunk says how many inputs a task gets, and there are no inputs.",
            hint="Say it like: planetmesh run --chunk 50 gzip ::: *.txt",
        )
    if text == "auto":
        return AUTO_CHUNK
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= CHUNK_MOST:
        raise BadInput(
            f"'{text}' is not a number of inputs for a task.",
            hint=f"Say 1 to {CHUNK_MOST}, or auto.",
        )
    return int(text)


def _retries(options: JobOptions, inputs: Inputs) -> int:
    if options.at_most_once and options.retries:
        raise BadInput("--at-most-once and --retries contradict each other.")
    if options.at_most_once:
        return 0
    if options.retries is not None:
        return options.retries
    return 0 if isinstance(inputs, One) else RETRIES_OF_MANY
