"""Where a task's folder lies when its task cannot reach it: before the start and after the end.

A place of the agent's own beside the job folders, on the same file system, so that a folder changes
hands by one rename. In a job's folder its tasks may put anything in place of anything else; here nobody can.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from planetmesh.agent.sandbox.folders import FOLDER_MODE, make_folder, remove_folder

OWN = "own"
"""Below the work root; the sweep at the agent's start removes it with all the rest."""


class TaskFolders:
    """One per agent. All of it is quick but `remove`, which belongs into a thread."""

    def __init__(self, work_root: Path) -> None:
        self._own = work_root / OWN

    def new(self) -> Path:
        """An empty folder of the agent's own; raises OSError."""
        self._own.mkdir(mode=FOLDER_MODE, exist_ok=True)
        path = self._own / secrets.token_hex(16)
        path.mkdir(mode=FOLDER_MODE)
        return path

    def hand_over(self, folder: Path, job_folder: Path) -> Path:
        """Give a prepared folder to the tasks of a job, under a name that nobody can guess; its new path."""
        make_folder(folder)
        given = job_folder / f"task-{secrets.token_hex(16)}"
        folder.rename(given)
        return given

    def take_back(self, given: Path) -> Path:
        """Out of the tasks' reach, whatever lies under that name now; its new path. Raises OSError."""
        self._own.mkdir(mode=FOLDER_MODE, exist_ok=True)
        taken = self._own / secrets.token_hex(16)
        try:
            given.rename(taken)
        except PermissionError:
            # A folder moves elsewhere only if it can be written to, and its task may have forbidden that.
            give_rights(str(given), None)
            given.rename(taken)
        return taken

    def remove(self, folder: Path) -> None:
        """With all that lies in it. Raises OSError."""
        remove_folder(folder)


def give_rights(name: str, parent: int | None) -> None:
    """Let the owner read and write a file or folder of his own; raises OSError, also for a link."""
    if sys.platform == "linux":
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=parent)
        try:
            # Of a link this is refused: it would be the link itself.
            Path(f"/proc/self/fd/{descriptor}").chmod(FOLDER_MODE)
        finally:
            os.close(descriptor)
    elif sys.platform != "win32":
        os.chmod(name, FOLDER_MODE, dir_fd=parent, follow_symlinks=False)
