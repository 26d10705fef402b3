"""Measures what the sandbox of this machine really keeps a task from, by trying.

A real task, started like any other, tries to read the state directory and the agent's memory, to write
beside its folder and to signal the agent. The agent calls this once at its start and tells the coordinator;
on a coordinator's own host nothing runs unless `proven` (the CA key lies there).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import sys
from enum import StrEnum
from pathlib import Path

import msgspec

assert sys.platform != "win32"  # for the type checker: another way stands there or none

from planetmesh.agent.sandbox import folders
from planetmesh.agent.sandbox.handle import Zygote
from planetmesh.agent.sandbox.messages import Ended, LauncherSpec, Limits, Output, Ready, Report, Start
from planetmesh.errors import MeshError

PROBE_SECONDS = 10.0
CANARY = "sandbox-canary"


class Tier(StrEnum):
    UNCONFINED = "unconfined"
    LANDLOCK = "landlock"
    """Same user as the agent, kept in by Landlock."""
    USER = "user"
    """Another user, no Landlock in this kernel."""
    USER_LANDLOCK = "user+landlock"


class SandboxReport(msgspec.Struct, frozen=True):
    tier: Tier
    proven: bool
    """Every attempt to get at the agent's secrets failed."""
    detail: str
    """In words: what holds, or what a task got at."""


async def measure_tier(zygote: Zygote, home_root: Path, work_root: Path) -> SandboxReport:
    """Start a confined task that tries what a task must not; say what it got at."""
    job_id = f"probe-{secrets.token_hex(8)}"
    folder = folders.make_job_folder(work_root, job_id)
    canary, secret = home_root / CANARY, secrets.token_hex(16)
    beside = work_root / f"{job_id}-beside"
    try:
        canary.write_text(secret)
        canary.chmod(0o644)  # so that only the sandbox stands before it
        ready, text = await _try(zygote, job_id, folder, _script(canary, beside), home_root)
    except (MeshError, OSError, TimeoutError) as error:
        return SandboxReport(Tier.UNCONFINED, False, f"The sandbox could not be tried: {error}")
    finally:
        canary.unlink(missing_ok=True)
        beside.unlink(missing_ok=True)
        await asyncio.to_thread(folders.remove_folder, folder)
    return _judge(ready, text, secret)


def _script(canary: Path, beside: Path) -> str:
    """Each line names what it got at; nothing may be named but `ran`."""
    agent = os.getpid()
    return "\n".join(
        [
            f"cat {shlex.quote(str(canary))}",
            f"ls {shlex.quote(str(canary.parent))} >/dev/null && echo the state directory",
            f"head -c 1 /proc/{agent}/environ >/dev/null && echo the environment of the agent",
            f"head -c 0 /proc/{agent}/mem >/dev/null && echo the memory of the agent",
            f"ls /proc/{agent}/fd/ >/dev/null && echo the descriptors of the agent",
            f"echo x > {shlex.quote(str(beside))} && echo a file outside its folder",
            f"kill -0 {agent} && echo a signal to the agent",
            "echo x > own && cat own && echo ran",
        ]
    )


async def _try(zygote: Zygote, job_id: str, folder: Path, script: str, home_root: Path) -> tuple[Ready, str]:
    parts: list[str] = []
    ended = asyncio.Event()

    def on_reports(reports: list[Report]) -> None:
        for report in reports:
            if isinstance(report, Output) and report.stream == 1:
                parts.append(report.data.decode(errors="replace"))
            elif isinstance(report, Ended):
                ended.set()

    spec = LauncherSpec(job_id, str(folder), (str(home_root),), limits=Limits(timeout_seconds=PROBE_SECONDS))
    handle = await zygote.open(spec, on_reports, lambda _reason: ended.set())
    try:
        handle.start([Start(0, 1, ["/bin/sh", "-c", script])])
        async with asyncio.timeout(PROBE_SECONDS):
            await ended.wait()
    finally:
        await handle.close()
    if handle.ready is None:
        raise TimeoutError("the launcher was not ready")
    return handle.ready, "".join(parts)


def _judge(ready: Ready, text: str, secret: str) -> SandboxReport:
    other_user = ready.uid != os.geteuid()
    tier = _tier(other_user=other_user, landlock=bool(ready.landlock_abi))
    lines = [line for line in text.splitlines() if line not in {"x", "ran"} and secret not in line]
    got = ["a file of the state directory"] * (secret in text) + lines
    if "ran" not in text.splitlines():
        return SandboxReport(
            Tier.UNCONFINED, False, "The sandbox could not be tried: the test task did not finish."
        )
    if got:
        return SandboxReport(tier, False, f"A task got at: {', '.join(got)}.")
    if ready.open_doors:
        doors = ", ".join(ready.open_doors[:3])
        return SandboxReport(
            tier, False, f"A task can ask programs outside the sandbox to act for it: {doors}."
        )
    held = [f"runs as uid {ready.uid}"] * other_user + [f"Landlock {ready.landlock_abi}"] * bool(
        ready.landlock_abi
    )
    return SandboxReport(tier, True, f"A task reaches none of the agent's secrets ({', '.join(held)}).")


def _tier(*, other_user: bool, landlock: bool) -> Tier:
    if landlock:
        return Tier.USER_LANDLOCK if other_user else Tier.LANDLOCK
    return Tier.USER if other_user else Tier.UNCONFINED
