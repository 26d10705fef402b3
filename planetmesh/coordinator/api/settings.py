"""Settings of the running mesh: list, change, reset."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from planetmesh.coordinator.api.call import Call
from planetmesh.coordinator.tuning import Tuning
from planetmesh.errors import BadInput
from planetmesh.settings import ABOUT, show_value, values
from planetmesh.wire.api import ChangeSettings, SettingView

WHOLE = "mesh"
"""What the audit trail says was changed."""


async def list_settings(call: Call) -> web.StreamResponse:
    return call.answer(_views(call.parts.engine.tuning, ABOUT))


async def change_settings(call: Call) -> web.StreamResponse:
    asked: ChangeSettings = await call.body(ChangeSettings)
    if not asked:
        raise BadInput("Nothing is to be changed.", hint="Give names with their new values; null resets one.")
    engine = call.parts.engine
    words = _in_words(engine.tuning.changed(asked), asked)
    mesh_name = call.parts.enrolment.coordinator.membership.mesh_name
    await engine.tune(asked, mesh_name, call.audited("change_settings", WHOLE, words))
    return call.answer(_views(engine.tuning, asked))


def _in_words(tuning: Tuning, asked: Iterable[str]) -> str:
    """For the audit trail."""
    now = values(tuning.settings)
    resets = {name for name in asked if name not in tuning.overrides}
    return " ".join(f"{name}={show_value(name, now[name])}{' (reset)' * (name in resets)}" for name in asked)


def _views(tuning: Tuning, names: Iterable[str]) -> list[SettingView]:
    now, before = values(tuning.settings), values(tuning.base)
    return [
        SettingView(
            name=name,
            value=now[name],
            default=before[name],
            changed=name in tuning.overrides,
            live=ABOUT[name].live,
            least=ABOUT[name].least,
            most=ABOUT[name].most,
            about=ABOUT[name].sentence,
        )
        for name in names
    ]
