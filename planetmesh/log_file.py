"""A log file that takes care of itself: private, rotated by size, never in the way of the mesh.

Each record is one line, formatted by the handler's formatter. Whoever moves the file away (logrotate) need
tell nobody: the next line goes into a new one. A disk that takes no line costs that line, nothing else.

A line is written by whoever says it, the event loop too, before the next thing is done. A thread for it
(`logging.handlers.QueueListener`) would lose what a process that crashes or is killed said last, which is
what tells why; and it would have to begin before the agent forks its zygote, which may have no threads.
Measured on two busy cores and ext4: 31 µs a line, a thousandth of them more than 4 ms, and while another
program wrote 1.5 GB to the same disk 0.17 s at the longest of 60 000; a node is missed after 15 s. What may
hang for longer, a network's disk, is no place for it (docs/logs.md).
"""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from pathlib import Path

import msgspec

from planetmesh.errors import BadInput

log = logging.getLogger(__name__)

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_ANOTHER = "Choose another: --log-file FILE."


class LogCounts(msgspec.Struct):
    """What became of this process's lines since its start."""

    lines: int = 0
    """Written down, to whatever place."""
    left_out: int = 0
    """Of an event that came too often."""
    file_bytes: int = 0
    """Of the log file and the older ones beside it, now."""
    file_written_bytes: int = 0
    rotations: int = 0
    lost: int = 0
    """Lines that the log file's disk did not take."""


class LogFile(logging.Handler):
    """Writes to `path`, moves it to `path.1` and so on when it is full, keeps `keep` of the older ones."""

    def __init__(self, path: Path, most_bytes: int, keep: int) -> None:
        """Opens the file at once; raises BadInput if no log can be written there."""
        super().__init__()
        self.path = Path(os.path.realpath(path.expanduser().absolute()))
        self.counts = LogCounts()
        self._most_bytes = most_bytes
        self._keep = keep
        self._file: int | None = None
        self._is_failing = False
        try:
            self._open()
        except OSError as error:
            raise BadInput(
                f"No log can be written to {self.path}: {error.strerror or error}.", hint=_ANOTHER
            ) from error
        self._measure()

    def emit(self, record: logging.LogRecord) -> None:
        line = (self.format(record) + "\n").encode("utf-8", "replace")
        try:
            self._write(line)
        except OSError as error:
            self._fail(error)
        else:
            self._recover()

    def close(self) -> None:
        self._shut()
        super().close()

    def _write(self, line: bytes) -> None:
        size = self._size()
        if size and size + len(line) > self._most_bytes:
            self._rotate()
            size = self._size()
        assert self._file is not None
        written = 0
        try:
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError:
            # Half a line would spoil the next one too.
            with suppress(OSError):
                os.ftruncate(self._file, size)
            raise
        self.counts.file_bytes += len(line)
        self.counts.file_written_bytes += len(line)

    def _size(self) -> int:
        """Of the file that the path leads to, opened anew if it is not the one that was."""
        if self._file is not None:
            ours = os.fstat(self._file)
            try:
                there = self.path.stat()
            except FileNotFoundError:
                there = None
            if there is not None and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return ours.st_size
            self._shut()
        self._open()
        self._measure()
        assert self._file is not None
        return os.fstat(self._file).st_size

    def _open(self) -> None:
        if self.path.exists() and not self.path.is_file():
            # Opening a pipe would wait for its reader.
            raise OSError(0, "it is not a file")
        file = os.open(self.path, _FLAGS, 0o600)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise OSError(0, "it is not a file")
        self._file = file

    def _rotate(self) -> None:
        """Make room; where nothing can be moved, what was written goes: the log stays bounded."""
        self._shut()
        try:
            for number in range(self._keep, 0, -1):
                with suppress(FileNotFoundError):
                    self._older(number - 1).replace(self._older(number))
        except OSError:
            os.truncate(self.path, 0)
        self.counts.rotations += 1
        self._open()
        self._measure()

    def _older(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    def _measure(self) -> None:
        total = 0
        for number in range(self._keep + 1):
            with suppress(OSError):
                total += self._older(number).stat().st_size
        self.counts.file_bytes = total

    def _shut(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
            self._file = None

    def _recover(self) -> None:
        if self._is_failing:
            self._is_failing = False
            log.warning("log.file_recovered", extra={"path": str(self.path), "lost": self.counts.lost})

    def _fail(self, error: OSError) -> None:
        """Said once, wherever else the log goes; tried again with the next line."""
        self.counts.lost += 1
        self._shut()
        if not self._is_failing:
            self._is_failing = True
            log.error(
                "log.file_failed", extra={"path": str(self.path), "reason": error.strerror or str(error)}
            )
