"""Logging set-up: JSON lines for machines, short lines for people.

Every message is an event name with `extra` fields: `log.info("node.lost", extra={"node": name})`.
Text that came from a peer is made printable here, so one event is always one line.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import unicodedata
from typing import Any, Literal

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LONGEST_FIELD = 2000
NEWS = "planetmesh.news"
"""Loggers below this one tell what somebody at the terminal wants to know as it happens."""


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


def set_up(form: Literal["text", "json"], *, verbose: bool = False, calm: bool | None = None) -> None:
    """Send this process's log to stderr in the given form.

    Lines for people on a terminal are warnings and news only: the log's details would bury what `up` says.
    `calm`: so it is where what we write is passed on to a terminal.
    """
    calm = form == "text" and not verbose and (sys.stderr.isatty() if calm is None else calm)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger("planetmesh")
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.WARNING if calm else logging.INFO)
    logging.getLogger(NEWS).setLevel(logging.INFO if calm else logging.NOTSET)
    root.propagate = False


def follow_stderr() -> None:
    """Another stream stands for stderr now."""
    for handler in logging.getLogger("planetmesh").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class JsonLines(logging.Formatter):
    """One JSON object a line; times are RFC 3339 UTC."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": _rfc3339(record.created),
            "level": record.levelname.lower(),
            "event": clean(record.getMessage()),
            "logger": record.name,
        }
        for key, value in _fields(record).items():
            line[key] = clean(value) if isinstance(value, str) else value
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextLines(logging.Formatter):
    """`12:00:01 node.lost node=desk reason=silence`."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [time.strftime("%H:%M:%S", time.localtime(record.created))]
        if record.levelno >= logging.WARNING:
            parts.append(record.levelname)
        parts.append(clean(record.getMessage()))
        parts += [f"{key}={clean(str(value))}" for key, value in _fields(record).items()]
        lines = [" ".join(parts)]
        if record.exc_info:
            # An exception's words may be a peer's, too.
            lines += [clean(line) for line in self.formatException(record.exc_info).splitlines()]
        return "\n".join(lines)


def _rfc3339(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
