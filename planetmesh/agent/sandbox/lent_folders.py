"""Empty folders that a launcher lends to its tasks, so that most tasks cost no mkdir.

A folder that its task left empty is lent again. One with something in it goes to a thread that clears it
away: removing a million files must hold up neither the next start nor a kill.
"""

from __future__ import annotations

import os
import queue
import threading
from pathlib import Path

from planetmesh.agent.sandbox import folders

NAME = "run"
CLEARING_MOST = 64
"""Folders waiting to be cleared; beyond it the next task waits, so that a disk cannot fill with leftovers."""


class LentFolders:
    """Used by one launcher, from its one thread."""

    def __init__(self, job_folder: str) -> None:
        self._top = job_folder
        self._free: list[str] = []
        self._made = 0
        self._dirty: queue.Queue[str] = queue.Queue(CLEARING_MOST)
        self._cleaner: threading.Thread | None = None

    def lend(self) -> str:
        """Return an empty folder with mode 0700. Raise OSError if none can be made."""
        if self._free:
            return self._free.pop()
        while True:
            self._made += 1
            path = f"{self._top}/{NAME}-{self._made}"
            try:
                os.mkdir(path, folders.FOLDER_MODE)
            except FileExistsError:
                # Kept by an earlier launcher of this job.
                continue
            return path

    def take_back(self, path: str) -> None:
        try:
            is_empty = not os.listdir(path)
        except OSError:
            # The task removed its own folder or its rights on it.
            is_empty = False
        if is_empty:
            self._free.append(path)
        else:
            self._clear(path)

    def remove_free(self) -> None:
        """Remove the empty ones; the job's folder goes as a whole when the agent is done with the job."""
        for path in self._free:
            try:
                os.rmdir(path)
            except OSError:
                continue
        self._free.clear()

    def _clear(self, path: str) -> None:
        if self._cleaner is None:
            self._cleaner = threading.Thread(target=self._clean, name="clear", daemon=True)
            self._cleaner.start()
        self._dirty.put(path)

    def _clean(self) -> None:
        while True:
            path = self._dirty.get()
            try:
                folders.remove_folder(Path(path))
            except OSError:
                # Never lent again; the agent removes the whole job folder later.
                continue
