"""Work folders: where a job's tasks may write, and who owns them.

The agent calls these before it opens a launcher. Where the agent is root, tasks run as `planetmesh` if
that user exists, else as `nobody`, and the folders are theirs; everywhere else they are the agent's own.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from planetmesh.errors import UnsafeHome
from planetmesh.paths import Home, work_root

USERS = ("planetmesh", "nobody")
WORK_ROOT_MODE = 0o711
"""Others may pass through to a name they know, not list."""
FOLDER_MODE = 0o700


class TaskUser(NamedTuple):
    name: str
    uid: int
    gid: int


def task_user() -> TaskUser | None:
    """The user that tasks run as, where that is not the agent's own."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import pwd

    for name in USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return TaskUser(name, entry.pw_uid, entry.pw_gid)
    raise UnsafeHome(
        "The agent is root and there is neither a user `planetmesh` nor `nobody` here: no task is started.",
        hint="useradd --system --no-create-home planetmesh",
    )


def prepare_work_root(home: Home) -> Path:
    """Make the folder above all job folders; raise UnsafeHome if somebody else got there first."""
    root = work_root(home)
    user = task_user()
    with suppress(FileExistsError):
        root.mkdir(mode=FOLDER_MODE, parents=True)
    if not is_own_root(root):
        raise UnsafeHome(f"{root} is not a directory of this user.", hint=f"Look at it, then: rm -r {root}")
    if sys.platform != "win32":
        root.chmod(WORK_ROOT_MODE if user else FOLDER_MODE)
    return root


def is_own_root(root: Path) -> bool:
    """Whether this is our directory, not somebody's link or folder under a name that can be guessed.

    Ask before anything below it is touched: root's lies where everybody may make files.
    """
    try:
        found = root.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and (sys.platform == "win32" or found.st_uid == os.geteuid())


def make_job_folder(root: Path, job_id: str) -> Path:
    """Make (or find again) the folder of one job, owned by the task user."""
    return make_folder(root / job_id)


def make_folder(path: Path) -> Path:
    """Make a folder that the task user owns and nobody else can enter.

    For a job's folder, and for a task's own inside it before anything of the task has run.
    """
    path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    user = task_user()
    if user is not None and sys.platform != "win32":
        os.chown(path, user.uid, user.gid, follow_symlinks=False)
    return path


def remove_folder(path: Path) -> None:
    """Remove a tree that tasks have written, whatever modes they left. Never follows a link."""
    if not path.is_symlink():
        shutil.rmtree(path, onerror=_open_and_retry)


def _open_and_retry(_function: object, path: str, _error: object) -> None:
    """A task may take its own folders' rights away; the owner gives them back once."""
    if sys.platform != "win32" and os.geteuid() == 0:
        # Root needs no rights, and must change none: a name in there may have become a link meanwhile.
        return
    parent = os.path.dirname(path)
    try:
        for folder in (parent, path):
            if stat.S_ISDIR(os.lstat(folder).st_mode):
                os.chmod(folder, FOLDER_MODE)
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    except OSError:
        # Still there: the sweep at the agent's next start tries again.
        return
