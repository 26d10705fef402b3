"""A task's environment, built from nothing.

Only names listed here pass from the agent's own environment, none of which holds a secret. The job's own
variables come on top; the ones that say which attempt this is come last and cannot be replaced.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

assert sys.platform != "win32"  # for the type checker: another way stands there or none

from planetmesh.agent.sandbox.messages import LauncherSpec, Start
from planetmesh.agent.sandbox.tree import MARKER

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_LANGUAGE = "C.UTF-8"
PASSED = ("TZ", "OLLAMA_HOST", "PLANETMESH_EMBEDDING_SERVER")
"""The last two say where model servers listen on this machine's loopback."""
LOADER_VARIABLE = "LD_LIBRARY_PATH"


def job_environment(spec: LauncherSpec, agent: Mapping[str, str], user_name: str) -> dict[str, str]:
    """What all tasks of a job share. Call once confined: it leaves out what cannot be reached."""
    language = agent.get("LC_ALL") or agent.get("LANG") or DEFAULT_LANGUAGE
    built = {"PATH": _path(agent), "LANG": language, "USER": user_name, "LOGNAME": user_name}
    if agent.get("LC_ALL"):
        built["LC_ALL"] = language
    for name in PASSED:
        if agent.get(name):
            built[name] = agent[name]
    loader = _loader_path(agent)
    if loader:
        built[LOADER_VARIABLE] = loader
    built.update(spec.env)
    built["PATH"] = _reachable(built["PATH"])
    built["PLANETMESH_JOB"] = spec.job_id
    built[MARKER] = spec.folder
    return built


def task_environment(shared: dict[str, str], start: Start, folder: str) -> dict[str, str]:
    """One attempt's environment."""
    built = shared.copy()
    # Programs keep caches and temporary files here; it goes when the task goes.
    built["HOME"] = built["TMPDIR"] = folder
    if start.env:
        built.update(start.env)
        built["PLANETMESH_JOB"] = shared["PLANETMESH_JOB"]
    built["PLANETMESH_TASK"] = str(start.index)
    built["PLANETMESH_ATTEMPT"] = str(start.attempt)
    built[MARKER] = marker(shared[MARKER], start.index, start.attempt)
    return built


def marker(folder: str, index: int, attempt: int) -> str:
    """Unique on a machine: a job folder lies in one home."""
    return f"{folder}/{index}/{attempt}"


def _path(agent: Mapping[str, str]) -> str:
    """The agent's own search path without relative entries, which would mean a task's own folder."""
    kept = [part for part in agent.get("PATH", "").split(os.pathsep) if os.path.isabs(part)]
    return os.pathsep.join(kept) or DEFAULT_PATH


def _reachable(path: str) -> str:
    """Without folders that a task may not look into: one of them would turn "not found" into "denied"."""
    kept: list[str] = []
    for part in path.split(os.pathsep):
        try:
            os.close(os.open(part, os.O_RDONLY | os.O_DIRECTORY))
        except PermissionError:
            continue
        except OSError:
            pass
        kept.append(part)
    return os.pathsep.join(kept) or DEFAULT_PATH


def _loader_path(agent: Mapping[str, str]) -> str:
    """A frozen program is started with its own libraries first; tasks get what was there before."""
    if getattr(sys, "frozen", False):
        return agent.get(f"{LOADER_VARIABLE}_ORIG", "")
    return agent.get(LOADER_VARIABLE, "")
