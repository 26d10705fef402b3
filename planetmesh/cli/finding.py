"""One line of what `doctor` says."""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["ok", "warn", "fail"]
OK: Status = "ok"
WARN: Status = "warn"
FAIL: Status = "fail"


class Finding(msgspec.Struct, frozen=True):
    """One line of the report; the keys of its JSON."""

    check: str
    status: Status
    detail: str
    hint: str = ""
