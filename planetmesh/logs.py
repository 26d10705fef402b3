"""Logging set-up: JSON lines for machines, short lines for people.

Every message is an event name with `extra` fields: `log.info("node.lost", extra={"node": name})`; all of them
stand in docs/logs.md. Text that came from a peer is made printable here, so one event is always one line,
and no event, however often it happens, fills a disk.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import unicodedata
from collections.abc import Callable
from typing import Any, Literal

from planetmesh.log_file import LogCounts, LogFile

Process = Literal["coordinator", "agent"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LONGEST_FIELD = 2000
NEWS = "planetmesh.news"
"""Loggers below this one tell what somebody at the terminal wants to know as it happens."""
BURST = 100
"""Lines of one event that are written as they come …"""
REFILL_SECONDS = 2.0
"""… and then one in so long: half a line a second, whatever a mesh with a million tasks does."""
TELL_SECONDS = 60.0
"""So long after a line was left out it is said how many were."""
EVENTS_MOST = 1000


def clean(text: str, longest: int = _LONGEST_FIELD) -> str:
    """Text from a peer made fit for a terminal or a log: no control, bidi or zero-width characters."""
    cut = text[:longest]
    if cut.isascii() and cut.isprintable():
        return cut if len(text) <= longest else cut + "…"
    shown = "".join(
        c
        if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        else "\N{REPLACEMENT CHARACTER}"
        for c in cut
    )
    return shown if len(text) <= longest else shown + "…"


def set_up(
    form: Literal["text", "json"],
    *,
    verbose: bool = False,
    calm: bool | None = None,
    file: LogFile | None = None,
    process: Process | None = None,
) -> None:
    """Send this process's log to stderr in the given form, and to a file as JSON lines.

    Lines for people on a terminal are warnings and news only: the log's details would bury what `up` says.
    `calm`: so it is where what we write is passed on to a terminal.
    """
    calm = form == "text" and not verbose and (sys.stderr.isatty() if calm is None else calm)
    stderr = logging.StreamHandler(sys.stderr)
    said = Always(process=process) if process else Always()
    stderr.setFormatter(JsonLines(said) if form == "json" else TextLines())
    if calm:
        stderr.addFilter(_is_for_people)
    places: list[logging.Handler] = [stderr]
    if file is not None:
        file.setFormatter(JsonLines(said))
        places.append(file)
    tap = Tap(places, file.counts if file else LogCounts(), said, budget=None if verbose else Budget())
    root = logging.getLogger("planetmesh")
    root.handlers[:] = [tap]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    root.propagate = False
    # What libraries warn of: else it would reach the terminal as it is.
    logging.getLogger().handlers[:] = [tap]


def always(**fields: str) -> None:
    """Have every further JSON line of this process say this too, unless it says otherwise itself."""
    tap = _tap()
    if tap is not None:
        tap.always.update(fields)


def counts() -> LogCounts:
    """What became of this process's lines; all zero where no log was set up."""
    tap = _tap()
    return LogCounts() if tap is None else tap.counts


def _tap() -> Tap | None:
    return next((each for each in logging.getLogger("planetmesh").handlers if isinstance(each, Tap)), None)


def _is_for_people(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.startswith(NEWS)


Always = dict[str, str]
"""Fields of every JSON line."""


class Budget:
    """So many lines of each event as may be written: a burst, then one after the other."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spent: dict[str, tuple[float, float]] = {}
        """By event: lines spent of the burst, and when that was so."""
        self._left_out: dict[str, int] = {}
        self._left_out_at = 0.0

    def allows(self, event: str) -> bool:
        now = self._clock()
        spent, at = self._spent.get(event, (0.0, now))
        spent = max(0.0, spent - (now - at) / REFILL_SECONDS)
        if len(self._spent) >= EVENTS_MOST and event not in self._spent:
            self._spent.clear()
        if spent > BURST - 1:
            if not self._left_out:
                self._left_out_at = now
            self._left_out[event] = self._left_out.get(event, 0) + 1
            self._spent[event] = spent, now
            return False
        self._spent[event] = spent + 1, now
        return True

    def take_left_out(self) -> dict[str, int]:
        """What is to be told now: how many lines of which event were left out."""
        if not self._left_out or self._clock() - self._left_out_at < TELL_SECONDS:
            return {}
        told, self._left_out = self._left_out, {}
        return told


class Tap(logging.Handler):
    """All lines of this process pass here: counted, kept to their budget, then handed to each place."""

    def __init__(
        self,
        places: list[logging.Handler],
        counts: LogCounts,
        always: Always,
        *,
        budget: Budget | None,
    ) -> None:
        super().__init__()
        self.counts = counts
        self.always = always
        self._places = places
        self._budget = budget

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("planetmesh"):
            record = _of_library(record)
        if self._budget is not None:
            if not self._budget.allows(f"{record.name} {record.msg}"):
                self.counts.left_out += 1
                return
            for event, lines in self._budget.take_left_out().items():
                name, _, message = event.partition(" ")
                told = {"of": message, "lines": lines}
                self._hand_over(_record(name, logging.INFO, "log.left_out", told))
        self._hand_over(record)

    def follow_stderr(self) -> None:
        for place in self._places:
            if isinstance(place, logging.StreamHandler):
                place.setStream(sys.stderr)

    def close(self) -> None:
        for place in self._places:
            place.close()
        super().close()

    def _hand_over(self, record: logging.LogRecord) -> None:
        self.counts.lines += 1
        for place in self._places:
            if record.levelno >= place.level:
                place.handle(record)


def _record(name: str, level: int, event: str, fields: dict[str, Any]) -> logging.LogRecord:
    return logging.getLogger(name).makeRecord(name, level, "", 0, event, (), None, extra=fields)


def _of_library(record: logging.LogRecord) -> logging.LogRecord:
    """A library's own words are a field, not an event."""
    told = _record(record.name, record.levelno, "library.said", {"text": record.getMessage()})
    told.created, told.exc_info = record.created, record.exc_info
    return told


def follow_stderr() -> None:
    """Another stream stands for stderr now."""
    tap = _tap()
    if tap is not None:
        tap.follow_stderr()


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _shown(value: object) -> object:
    """A field's value for JSON, with no text in it that is not clean, however deep."""
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {clean(str(key)): _shown(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(each) for each in value]
    return clean(str(value))


class JsonLines(logging.Formatter):
    """One JSON object a line; times are RFC 3339 UTC."""

    def __init__(self, always: Always | None = None) -> None:
        super().__init__()
        self._always = {} if always is None else always

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": _rfc3339(record.created),
            "level": record.levelname.lower(),
            "event": clean(record.getMessage()),
            "logger": record.name,
            **self._always,
        }
        for key, value in _fields(record).items():
            line[key] = _shown(value)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextLines(logging.Formatter):
    """`12:00:01 node.lost node=desk reason="no word for 15 s"`."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [time.strftime("%H:%M:%S", time.localtime(record.created))]
        if record.levelno >= logging.WARNING:
            parts.append(record.levelname)
        parts.append(clean(record.getMessage()))
        parts += [f"{key}={_quoted(clean(str(value)))}" for key, value in _fields(record).items()]
        lines = [" ".join(parts)]
        if record.exc_info:
            # An exception's words may be a peer's, too.
            lines += ["    " + clean(line) for line in self.formatException(record.exc_info).splitlines()]
        return "\n".join(lines)


def _quoted(text: str) -> str:
    """What holds spaces could pass for further fields."""
    if text and not any(letter in text for letter in ' "='):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _rfc3339(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
