"""One frozen value with every number that may be tuned, its bounds, its unit and its reason.

Pure rooms and services receive a `Settings`; nobody reads the environment elsewhere. `load_settings` reads
what an owner changed in the home's file; the faces call it once at the start. An operator's changes on the
running mesh lie over it (`coordinator.tuning`); both pass `read_value` and `check_together`. Settings go by
flat names: `heartbeat_seconds`, `weights.rtt`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from planetmesh.errors import BadInput
from planetmesh.logs import clean
from planetmesh.model.resources import parse_duration, parse_size

MIB = 1024 * 1024
DAY = 86400.0
SETTINGS_MOST_BYTES = 64 * 1024
Value = bool | int | float

_SECONDS = (("d", DAY), ("h", 3600.0), ("m", 60.0))
_STEPS = {"seconds": _SECONDS, "bytes": (("GiB", 1024 * MIB), ("MiB", MIB), ("KiB", 1024))}
_SWITCH = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}
_MEND = "Mend that key, or remove it to get its default."


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of the score's terms (docs/architecture.md, Scheduling)."""

    rtt: float = 1.0
    load: float = 2.0
    queue: float = 4.0
    reliability: float = 2.0
    missing_input: float = 2.0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults for a LAN with a few to a few hundred machines."""

    heartbeat_seconds: float = 2.0
    suspect_after_seconds: float = 6.0
    """Three heartbeats missed: give no new work."""
    offline_after_seconds: float = 15.0
    """Longer than a Wi-Fi roam or a busy disk; after it the node's tasks go elsewhere."""
    restart_grace_seconds: float = 15.0
    """After the coordinator's own start (or sleep) nobody is declared dead for so long."""

    max_node_losses: int = 3
    """A task that was on three machines when they died is the culprit."""
    retry_first_seconds: float = 1.0
    retry_longest_seconds: float = 60.0
    retry_spread: float = 0.25
    """Back-offs are spread by this share, so that tasks do not march in step."""

    weights: Weights = Weights()
    reliability_memory: float = 0.95
    """Share of the old reliability kept with each further end."""
    schedule_pass_seconds: float = 0.010
    """A pass stops after this long and carries on in the next turn."""
    prefill_seconds: float = 0.25
    """Backlog an agent may hold beyond its free slots, in seconds of work."""
    prefill_most: int = 64
    """And in tasks."""
    pull_back_after_seconds: float = 1.0
    """Backlog that has not started after this long is recalled if another node could run it."""
    coalesce_seconds: float = 0.005
    """How long an agent may hold back ends while more work is waiting. Never when idle."""

    quick_failure_seconds: float = 10.0
    """A failure sooner than this may be the machine's: a missing program, a full disk, a broken driver."""
    quarantine_failures: int = 3
    """So many quick failures in a row of one kind of job, where others do well, confine a machine."""
    quarantine_seconds: float = 60.0
    """Before it may try that kind again with one task; doubled each time that fails too."""
    quarantine_longest_seconds: float = 3600.0

    chunk_seconds: float = 5.0
    """Work that a task gets at a time where the scheduler cuts the chunks."""
    straggler_factor: float = 2.0
    """A job's last tasks run a second time elsewhere after so many times the mean, where machines idle."""
    straggler_least_seconds: float = 5.0
    """And after so long at least: a short task is not worth it."""

    output_most_bytes: int = 16 * MIB
    """Kept of one stream of one attempt; the rest is counted and dropped with a note."""
    frame_most_bytes: int = MIB
    api_body_most_bytes: int = 64 * MIB
    tasks_most: int = 10_000_000
    """Tasks in one job (CLI.md)."""

    output_files_most_bytes: int = 64 * 1024 * MIB
    """Of all files that one attempt made and its job asked for."""
    blob_cache_bytes: int = 0
    """0: a tenth of the node's disk."""
    peer_staging: bool = True
    """The node hands large input files to other nodes, on a port of its own."""

    keep_jobs_seconds: float = 14 * 86400.0
    """Finished jobs and their output are swept after this."""
    feed_keep_rows: int = 100_000

    blob_quota_bytes: int = 0
    """Of files in and out on the coordinator's disk; 0: half of what is free at its start."""
    disk_reserve_bytes: int = 512 * MIB
    """Files never take the rest of the disk: the databases, and the machine's owner, need it."""
    blob_most_bytes: int = 256 * 1024 * MIB
    job_files_most_bytes: int = 1024 * 1024 * MIB
    """Of all files that a job's tasks bring, in all their attempts: a node that went mad stops there."""
    blob_grace_seconds: float = DAY
    """From an upload to the submit that names it, and from a job's removal to that of its files."""

    log_file_most_bytes: int = 16 * MIB
    """Of the file that `up --log-file` writes; then it is moved aside."""
    log_files_kept: int = 5
    """Older ones that stay beside it."""


class About(msgspec.Struct, frozen=True):
    """What people are told of one setting, and the values that a mesh stays alive with."""

    sentence: str
    least: float = 0.0
    most: float = 1.0
    live: bool = True
    """False: only what happens at a start of the coordinator reads it."""


ABOUT: dict[str, About] = {
    "heartbeat_seconds": About("How often nodes and coordinator show each other that they live.", 0.1, 60),
    "suspect_after_seconds": About("A node silent for so long gets no new work.", 0.2, 3600),
    "offline_after_seconds": About("A node silent for so long is OFFLINE; its tasks go elsewhere.", 0.3, DAY),
    "restart_grace_seconds": About(
        "Nobody is declared OFFLINE for so long after the coordinator's own start or sleep.",
        0,
        3600,
        live=False,
    ),
    "max_node_losses": About("A task that was on so many nodes when they died is FAILED.", 1, 100),
    "retry_first_seconds": About("Pause before a task's first retry; each further one doubles it.", 0, 3600),
    "retry_longest_seconds": About("The longest pause before a retry.", 0, DAY),
    "retry_spread": About("Share by which these pauses are spread, so that tasks do not march in step."),
    "weights.rtt": About("Weight of a node's round trip time when a task is placed.", 0, 1000),
    "weights.load": About("Weight of a node's processor load when a task is placed.", 0, 1000),
    "weights.queue": About("Weight of the work that a node has in hand when a task is placed.", 0, 1000),
    "weights.reliability": About("Weight of a node's past failures when a task is placed.", 0, 1000),
    "weights.missing_input": About("Weight of large input files that a node does not hold yet.", 0, 1000),
    "reliability_memory": About("Share of a node's old reliability that is kept with each further end."),
    "schedule_pass_seconds": About("A scheduling pass stops after so long and goes on later.", 0.001, 1),
    "prefill_seconds": About("Work that a node may hold beyond its free slots, in seconds of it.", 0, 60),
    "prefill_most": About("Tasks that a node may hold beyond its free slots.", 0, 4096),
    "pull_back_after_seconds": About(
        "Backlog not started after so long is recalled if another node could run it.", 0.1, 3600
    ),
    "coalesce_seconds": About("How long a busy agent may hold back ends, to send several at once.", 0, 1),
    "quick_failure_seconds": About(
        "A failure sooner than this may be the node's fault, not the task's.", 0.1, 3600
    ),
    "quarantine_failures": About(
        "So many quick failures in a row, where others do well, put a node in quarantine.", 1, 1000
    ),
    "quarantine_seconds": About("Before a node in quarantine may try again with one task.", 1, DAY),
    "quarantine_longest_seconds": About(
        "The longest such time; it doubles with each failed attempt.", 1, DAY
    ),
    "chunk_seconds": About("Work in one task where the scheduler cuts the chunks.", 0.1, 3600),
    "straggler_factor": About(
        "A job's last tasks run twice after so many times the mean, where nodes idle; 0: never.", 0, 1000
    ),
    "straggler_least_seconds": About("And after so long at least.", 0, DAY),
    "output_most_bytes": About("Kept of one stream of one attempt; the rest is dropped.", 1024, 2**40),
    "frame_most_bytes": About(
        "A job's command, script and variables must fit into so much.", 128 * 1024, MIB
    ),
    "api_body_most_bytes": About("The longest job that is taken in one request.", 64 * 1024, 64 * MIB),
    "tasks_most": About("Tasks in one job.", 1, 10_000_000),
    "output_files_most_bytes": About(
        "Files that one attempt may bring back, together; a node reads this in its own settings.", MIB, 2**50
    ),
    "blob_cache_bytes": About(
        "Input files that a node keeps for later tasks; 0: a tenth of its disk. Read in its own settings.",
        0,
        2**50,
        live=False,
    ),
    "peer_staging": About(
        "A node hands large input files to other nodes, on a port of its own. Read in its own settings.",
        0,
        1,
        live=False,
    ),
    "keep_jobs_seconds": About("Jobs and their output are removed so long after their end.", 60, 3650 * DAY),
    "feed_keep_rows": About(
        "Events of the feed that are kept, for those who come back later.", 100, 10_000_000
    ),
    "blob_quota_bytes": About(
        "Files of jobs that the coordinator holds; 0: half of its disk's free space.", 0, 2**60
    ),
    "disk_reserve_bytes": About("Left free on the coordinator's disk, whatever else is allowed.", 0, 2**60),
    "blob_most_bytes": About("The largest file that goes into or comes out of a job.", MIB, 2**50),
    "job_files_most_bytes": About(
        "Files that the tasks of one job may bring back, together and in all attempts.", MIB, 2**60
    ),
    "blob_grace_seconds": About("Files that no job uses are removed after so long.", 60, 3650 * DAY),
    "log_file_most_bytes": About(
        "A log file (`up --log-file`) is moved aside at this size. Read in each machine's own settings.",
        64 * 1024,
        2**40,
        live=False,
    ),
    "log_files_kept": About(
        "Older log files that stay beside it. Read in each machine's own settings.", 1, 1000, live=False
    ),
}
"""By flat name, in the order of the fields. A setting whose name ends in `_seconds` or `_bytes` is a time or
a size, and may be given like `10s` or `16MiB`."""


class Together(msgspec.Struct, frozen=True):
    """A rule that several settings keep together."""

    names: tuple[str, ...]
    holds: Callable[[Settings], bool]
    sentence: str


TOGETHER = (
    Together(
        ("heartbeat_seconds", "suspect_after_seconds", "offline_after_seconds"),
        lambda it: 2 * it.heartbeat_seconds <= it.suspect_after_seconds < it.offline_after_seconds,
        "'suspect_after_seconds' must be at least twice 'heartbeat_seconds', and below "
        "'offline_after_seconds': one late word would make a node look dead.",
    ),
    Together(
        ("retry_first_seconds", "retry_longest_seconds"),
        lambda it: it.retry_first_seconds <= it.retry_longest_seconds,
        "'retry_first_seconds' must not be above 'retry_longest_seconds'.",
    ),
    Together(
        ("quarantine_seconds", "quarantine_longest_seconds"),
        lambda it: it.quarantine_seconds <= it.quarantine_longest_seconds,
        "'quarantine_seconds' must not be above 'quarantine_longest_seconds'.",
    ),
)


def values(settings: Settings) -> dict[str, Value]:
    """Every setting by its flat name."""
    return dict(_flat(msgspec.structs.asdict(settings)))


def with_values(settings: Settings, given: Mapping[str, Value]) -> Settings:
    """The settings with these values, by flat name; each is one that `read_value` let pass."""
    changes: dict[str, Any] = {}
    for name, value in given.items():
        field, _, inner = name.partition(".")
        if inner:
            group = changes.get(field, getattr(settings, field))
            changes[field] = msgspec.structs.replace(group, **{inner: value})
        else:
            changes[field] = value
    return msgspec.structs.replace(settings, **changes)


def about(name: str) -> About:
    """What there is to say of a setting; raises BadInput for a name that none has."""
    found = ABOUT.get(name)
    if found is None:
        raise unknown(name, ABOUT)
    return found


def read_value(name: str, given: object) -> Value:
    """One setting's value from what a person, a program or a file gave; raises BadInput."""
    bounds = about(name)
    kind = type(_DEFAULTS[name])
    number = _parse(name, given) if isinstance(given, str) else given
    if kind is bool:
        if not isinstance(number, bool):
            raise BadInput(f"'{name}' must be on or off.")
        return number
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise BadInput(f"'{name}' must be {_words(name)}.")
    if not bounds.least <= number <= bounds.most:  # also what is not a number
        low, high = show_value(name, bounds.least), show_value(name, bounds.most)
        raise BadInput(f"'{name}' must be between {low} and {high}.")
    if kind is int and number != int(number):
        raise BadInput(f"'{name}' must be a whole number.")
    return kind(number)


def check_together(settings: Settings) -> None:
    """Raise BadInput for values that are fine alone and not beside each other."""
    for rule in TOGETHER:
        if not rule.holds(settings):
            now = ", ".join(f"{name} = {show_value(name, values(settings)[name])}" for name in rule.names)
            raise BadInput(rule.sentence, hint=f"They would be: {now}. Change them in one go.")


def show_value(name: str, value: Value) -> str:
    """As a person would say it, and as it may be typed: `10s`, `14d`, `16MiB`, `0.25`, `on`."""
    if isinstance(value, bool):
        return "on" if value else "off"
    steps = _STEPS.get(name.rpartition("_")[2], ())
    for unit, size in steps:
        if value >= size and value % size == 0:
            return f"{value // size:.0f}{unit}"
    if steps is _SECONDS and 0.001 <= value < 1:
        return f"{value * 1000:.15g}ms"
    return f"{value:.15g}{'s' if steps is _SECONDS else ''}"


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings by their flat names."""
    for name, value in tree.items():
        below = msgspec.structs.asdict(value) if isinstance(value, msgspec.Struct) else value
        if isinstance(below, dict):
            yield from _flat(below, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


_DEFAULTS = values(Settings())


def _parse(name: str, text: str) -> object:
    """A value as typed. What it cannot be is refused by `read_value`, in its words."""
    if isinstance(_DEFAULTS[name], bool):
        return _SWITCH.get(text.strip().lower())
    try:
        # Also `0s` and `-1s`: whether they make sense here is for the bounds to say.
        return float(text.strip().removesuffix("s") if name.endswith("_seconds") else text)
    except ValueError:
        pass
    try:
        if name.endswith("_seconds"):
            return parse_duration(text)
        return parse_size(text) if name.endswith("_bytes") else None
    except BadInput:
        return None


def _words(name: str) -> str:
    if name.endswith("_seconds"):
        return "a length of time, like 500ms, 10s or 2m"
    if name.endswith("_bytes"):
        return "a size, like 64KiB or 16MiB"
    return "a number"


def unknown(name: str, names: Iterable[str]) -> BadInput:
    """Says which of the names was probably meant: misspelled, or without its group or unit."""
    import difflib

    known = list(names)
    near = [each for each in known if name in (each.rpartition(".")[2], each.rpartition("_")[0])]
    near += difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else "`planetmesh settings` lists them."
    return BadInput(f"There is no setting '{clean(name, 60)}'.", hint=hint)


def load_settings(path: Path) -> Settings:
    """The settings of a home: the defaults, with what its JSON file changes. Raises BadInput."""
    try:
        with path.open("rb") as file:
            content = file.read(SETTINGS_MOST_BYTES + 1)
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > SETTINGS_MOST_BYTES:
        raise BadInput(f"{path} is far too large for settings.")
    try:
        given = dict(_flat(msgspec.json.decode(content, type=dict[str, Any])))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadInput(f"{path} cannot be used: {error}.", hint=_MEND) from error
    try:
        settings = with_values(Settings(), {name: read_value(name, value) for name, value in given.items()})
        check_together(settings)
    except BadInput as error:
        raise BadInput(f"{path}: {error.message}", hint=error.hint or _MEND) from error
    return settings
