"""The settings of a running mesh: those of the home's file, and over them what an operator changed.

The changes lie in the store's meta table as one JSON object, flat name → value. What cannot be used any
more (another version, another file) is passed over with a line of log: a mesh starts all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from planetmesh.errors import BadInput
from planetmesh.logs import clean
from planetmesh.settings import (
    TOGETHER,
    Settings,
    Together,
    Value,
    about,
    check_together,
    read_value,
    with_values,
)

log = logging.getLogger(__name__)

META_NAME = "settings"


class Tuning(msgspec.Struct, frozen=True):
    """`overrides` pass all checks over `base`."""

    base: Settings
    overrides: dict[str, Value] = {}

    @property
    def settings(self) -> Settings:
        return with_values(self.base, self.overrides)

    def changed(self, asked: Mapping[str, object]) -> Tuning:
        """With these values, by flat name; None takes a change back. Raises BadInput."""
        overrides = dict(self.overrides)
        for name, given in asked.items():
            about(name)
            if given is None:
                overrides.pop(name, None)
            else:
                overrides[name] = read_value(name, given)
        changed = Tuning(self.base, overrides)
        check_together(changed.settings)
        return changed

    def kept(self) -> dict[str, str]:
        """The row of the meta table."""
        return {META_NAME: msgspec.json.encode(self.overrides).decode()}


def read_tuning(base: Settings, meta: Mapping[str, str]) -> Tuning:
    """What was kept, over `base`; never fails."""
    try:
        kept = msgspec.json.decode(meta.get(META_NAME, "{}"), type=dict[str, Value])
    except msgspec.MsgspecError as error:
        _pass_over(META_NAME, str(error))
        return Tuning(base)
    overrides: dict[str, Value] = {}
    for name, value in kept.items():
        try:
            overrides[name] = read_value(name, value)
        except BadInput as error:
            _pass_over(name, error.message)
    while rule := _broken_by(base, overrides):
        for name in overrides.keys() & set(rule.names):
            del overrides[name]
            _pass_over(name, rule.sentence)
    return Tuning(base, overrides)


def _broken_by(base: Settings, overrides: dict[str, Value]) -> Together | None:
    """A rule that these overrides, or some of them, break."""
    settings = with_values(base, overrides)
    broken = (rule for rule in TOGETHER if overrides.keys() & set(rule.names) and not rule.holds(settings))
    return next(broken, None)


def _pass_over(name: str, reason: str) -> None:
    log.warning("settings.passed_over", extra={"setting": clean(name, 60), "reason": reason})
