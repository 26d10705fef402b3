"""One frozen value with every number that may be tuned, its unit and its reason.

Pure rooms and services receive a `Settings`; nobody reads the environment elsewhere. `load_settings` reads
what an owner changed; the faces call it once at the start.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from planetmesh.errors import BadInput

MIB = 1024 * 1024


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of the score's terms (docs/architecture.md, Scheduling)."""

    rtt: float = 1.0
    load: float = 2.0
    queue: float = 4.0
    reliability: float = 2.0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults for a LAN with a few to a few hundred machines."""

    heartbeat_seconds: float = 2.0
    suspect_after_seconds: float = 6.0
    """Three heartbeats missed: give no new work."""
    offline_after_seconds: float = 15.0
    """Longer than a Wi-Fi roam or a busy disk; after it the node's tasks go elsewhere."""
    restart_grace_seconds: float = 15.0
    """After the coordinator's own start (or sleep) nobody is declared dead for so long."""

    max_attempts: int = 3
    """Failures of one task (exit code, time-out, staging), first run included."""
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

    output_most_bytes: int = 16 * MIB
    """Kept of one stream of one attempt; the rest is counted and dropped with a note."""
    frame_most_bytes: int = MIB
    api_body_most_bytes: int = 64 * MIB
    tasks_most: int = 10_000_000
    """Tasks in one job (CLI.md)."""

    keep_jobs_seconds: float = 14 * 86400.0
    """Finished jobs and their output are swept after this."""
    feed_keep_rows: int = 100_000


SETTINGS_MOST_BYTES = 64 * 1024


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
        settings = msgspec.json.decode(content, type=Settings)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BadInput(
            f"{path} cannot be used: {error}.", hint="Mend that key, or remove it to get its default."
        ) from error
    _check(settings, path)
    return settings


def _check(settings: Settings, path: Path) -> None:
    """Numbers that would make a mesh do nothing, or everything at once."""
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, int | float) and value < 0:
            raise BadInput(f"{path}: '{name}' must not be below zero.")
    for name in ("heartbeat_seconds", "max_attempts", "frame_most_bytes", "tasks_most", "keep_jobs_seconds"):
        if getattr(settings, name) <= 0:
            raise BadInput(f"{path}: '{name}' must be above zero.")
    order = (settings.heartbeat_seconds, settings.suspect_after_seconds, settings.offline_after_seconds)
    if list(order) != sorted(set(order)):
        raise BadInput(
            f"{path}: 'heartbeat_seconds' must be below 'suspect_after_seconds', "
            "and that below 'offline_after_seconds'."
        )
