"""What a launcher takes away from itself, once, before it starts anything.

In order: session, limits, Landlock rules (built while still able to look around), the unprivileged
user, no_new_privs, Landlock enforced, the filter of calls. Linux; called by launcher.py only.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from typing import NamedTuple

from planetmesh.agent.sandbox import tree
from planetmesh.agent.sandbox.folders import TaskUser
from planetmesh.agent.sandbox.messages import LauncherSpec, Limits
from planetmesh.errors import NotAllowed

assert sys.platform == "linux"  # tells the type checker; nobody imports this elsewhere

from landlockpy import Scope

from planetmesh.agent.sandbox import landlock, veil, views
from planetmesh.agent.sandbox.filter import forbid_limits_of_others

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

OOM_SCORE = 500
"""The kernel takes a task before the owner's programs and before the agent."""
OPEN_FILES = 4096
OPEN_FILES_MOST = 65_536
THREADS_EACH = 16
"""The kernel counts threads, for all processes of a user; only a wall against fork bombs, watch.py counts."""
THREADS_LEAST = 512


_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    """Raise OSError where the kernel refuses."""
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def adopt_orphans() -> None:
    """Children of dead children come to this process instead of to init."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def forbid_inspection() -> None:
    """Nobody of the same user may read this process's memory, environment or descriptors."""
    prctl(PR_SET_DUMPABLE, 0)


def die_with_parent(parent: int, number: int = signal.SIGTERM) -> None:
    """Ask for a signal when the parent ends; leave at once if it already has."""
    prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(0)


class Confinement(NamedTuple):
    """What was really reached."""

    landlock_abi: int
    """0: none."""
    is_scoped: bool
    """Signals from here reach only what is confined with this process."""
    is_veiled: bool
    has_own_memory: bool
    """Shared memory in which no other job's tasks can look, and which ends with the launcher."""


def confine(spec: LauncherSpec, user: TaskUser | None) -> Confinement:
    """Confine this process for good.

    Raise NotAllowed where the promised user cannot be taken, OSError where the kernel refuses a step.
    """
    os.umask(0o077)
    _raise_oom_score()
    set_limits(spec.limits, user.uid if user else os.getuid())
    is_scoped = False
    # Another user cannot knock at the owner's session; the same user is kept from it by the veil.
    is_veiled = user is None and veil.draw()
    has_own_memory = is_veiled or (user is not None and veil.part())
    abi = landlock.supported_abi()
    home = views.home_of(os.getuid())
    if not abi:
        _take_user(user)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    else:
        with landlock.build(spec, home) as rules:
            _take_user(user)
            rules.restrict()
            is_scoped = Scope.SIGNAL in rules.scoped and not _can_signal(os.getppid())
    forbid_limits_of_others()
    # A change of user clears it, so it comes last.
    forbid_inspection()
    return Confinement(abi, is_scoped, is_veiled, has_own_memory)


def set_limits(limits: Limits, uid: int) -> None:
    """Set the limits that the kernel keeps for each process by itself."""
    _lower(resource.RLIMIT_CORE, 0, 0)
    _lower(resource.RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES_MOST)
    if limits.processes:
        wall = tree.threads_of(uid) + max(THREADS_LEAST, limits.processes * THREADS_EACH)
        _lower(resource.RLIMIT_NPROC, wall, wall)
    if limits.cpu_seconds:
        _lower(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 5)
    if limits.file_bytes:
        _lower(resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes)


def _lower(which: int, soft: int, hard: int) -> None:
    _, present = resource.getrlimit(which)
    most = hard if present == resource.RLIM_INFINITY else min(hard, present)
    resource.setrlimit(which, (min(soft, most), most))


def _can_signal(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return False
    return True


def _raise_oom_score() -> None:
    # The files of a process that may not be inspected belong to root; it holds no secret of the agent yet.
    prctl(PR_SET_DUMPABLE, 1)
    try:
        with open("/proc/self/oom_score_adj", "r+b") as file:
            present = int(file.read())
            file.seek(0)
            file.write(str(max(present, OOM_SCORE)).encode())
    except OSError:
        # /proc may be read-only in a container; the score is a courtesy, not a wall.
        return
    finally:
        forbid_inspection()


def _take_user(user: TaskUser | None) -> None:
    if user is None:
        return
    try:
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:
        raise NotAllowed(
            f"Tasks cannot run as the user {user.name!r} here: {error.strerror}.",
            hint="Run the agent as an ordinary user, or give it CAP_SETUID and CAP_SETGID.",
        ) from error
    if os.geteuid() == 0 or 0 in os.getresuid():
        raise NotAllowed("The launcher is still root after the change of user; no task is started.")
