"""Landlock for one launcher: build the rules as the agent's user, enforce them for good.

Uses landlockpy; which paths are granted comes from views.py. Without Landlock in the kernel it says so
and grants nothing away: the caller decides whether that is good enough (probe.py).
"""

from __future__ import annotations

import os
import stat
import sys

from planetmesh.agent.sandbox import views
from planetmesh.agent.sandbox.messages import LauncherSpec
from planetmesh.errors import BadInput

assert sys.platform == "linux"  # tells the type checker; nobody imports this elsewhere

from landlockpy import AccessFS, AccessNet, Ruleset, Scope, UnsupportedError, abi_version

READ = AccessFS.EXECUTE | AccessFS.READ_FILE | AccessFS.READ_DIR
WRITE = READ | (
    AccessFS.WRITE_FILE
    | AccessFS.REMOVE_DIR
    | AccessFS.REMOVE_FILE
    | AccessFS.MAKE_DIR
    | AccessFS.MAKE_REG
    | AccessFS.MAKE_SOCK
    | AccessFS.MAKE_FIFO
    | AccessFS.MAKE_SYM
    | AccessFS.REFER
    | AccessFS.TRUNCATE
    | AccessFS.RESOLVE_UNIX
)
DEVICE = AccessFS.READ_FILE | AccessFS.WRITE_FILE | AccessFS.TRUNCATE | AccessFS.IOCTL_DEV
OF_FILES = (
    AccessFS.EXECUTE
    | AccessFS.READ_FILE
    | AccessFS.WRITE_FILE
    | AccessFS.TRUNCATE
    | AccessFS.IOCTL_DEV
    | AccessFS.RESOLVE_UNIX
)
"""The kernel refuses a rule that gives a file a directory's right."""


def supported_abi() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    try:
        return abi_version()
    except UnsupportedError:
        return 0


def build(spec: LauncherSpec, user_home: str) -> Ruleset:
    """Make the ruleset of a job. Raise BadInput if the owner shares what must stay hidden."""
    # Other jobs' folders lie beside this one.
    kept = views.real([*spec.hidden, os.path.dirname(spec.folder)])
    private = views.real(views.private_paths(user_home))
    rules = Ruleset(handled_net=AccessNet.NONE, scoped=Scope.SIGNAL | Scope.ABSTRACT_UNIX_SOCKET)
    for path in views.visible("/", kept + private):
        _grant(rules, path, READ)
    for top in views.real(views.toolchain_paths(user_home)):
        for path in views.visible(top, kept):
            _grant(rules, path, READ)
    for path in (*views.WRITABLE_DEVICES, *views.gpu_devices()):
        _grant(rules, path, DEVICE)
    _grant(rules, views.SHARED_MEMORY, WRITE)
    for share in spec.shares:
        path = os.path.realpath(share.path)
        if views.covers_hidden(path, kept):
            raise BadInput(
                f"{share.path} cannot be shared: it would show the state directory or other jobs to tasks."
            )
        _grant(rules, path, WRITE if share.writable else READ)
    _grant(rules, os.path.realpath(spec.folder), WRITE)
    return rules


def _grant(rules: Ruleset, path: str, access: AccessFS) -> None:
    try:
        is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
        rules.allow_path(path, access if is_folder else access & OF_FILES)
    except OSError:
        # Gone since it was listed, or not reachable by this user: then it stays unseen.
        return
