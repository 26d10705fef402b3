"""What it looks like in both themes and two sizes; and that no mistake of ours is ever a traceback."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time

import pytest
from rich.color import Color
from watch_world import LARGE, SMALL, World, seated

from planetmesh.dashboard import feed
from planetmesh.dashboard.app import DARK, LIGHT
from planetmesh.dashboard.widgets.sheet import Sheet
from planetmesh.dashboard.widgets.tones import tones_of

READABLE, FAINT = 4.5, 3.0
"""Contrast, as WCAG counts it."""


def luminance(color: Color) -> float:
    parts = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4
        for part in color.get_truecolor().normalized
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: Color, other: Color) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [DARK, LIGHT])
async def test_every_tone_can_be_read(world: World, theme: str) -> None:
    async with seated(world, theme=theme) as seat:
        sheet = seat.app.screen.query_one("#about", Sheet)
        ground = sheet.rich_style.bgcolor
        for tone, style in tones_of(sheet).items():
            if style.color is not None:
                assert contrast(style.color, ground) >= (FAINT if tone == "dim" else READABLE), tone


@pytest.mark.slow
async def test_both_themes_show_the_same_text_at_two_sizes(world: World) -> None:
    await world.add_node("desk", cpus=4)
    client = await world.client()
    await client.submit(name="holiday", inputs={"type": "range", "first": 0, "last": 9})
    for size, titles in ((SMALL, ("NAME", "LOAD")), (LARGE, ("NAME", "LOAD", "MEMORY", "SANDBOX", "TAGS"))):
        shown = []
        for theme in (DARK, LIGHT):
            async with seated(world, size=size, theme=theme) as seat:
                await seat.sees("1 HEALTHY", "holiday", "0/10", "completed", "failed", "look at")
                await seat.press("2")
                await seat.sees("desk", *titles)
                shown.append([line.split("HEALTHY")[0] for line in seat.text.splitlines()[1:3]])
                assert all(len(line) == size[0] for line in seat.text.splitlines())
        assert shown[0] == shown[1]


@pytest.mark.slow
async def test_a_dashboard_that_is_left_open_opens_the_mesh_anew_now_and_then(
    world: World, monkeypatch
) -> None:
    monkeypatch.setattr(feed, "REOPEN_SECONDS", 0.5)
    async with seated(world) as seat:
        before = seat.app.watcher._mesh
        await seat.until(lambda: seat.app.watcher._mesh is not before)
        await world.add_node("desk")
        await seat.sees("1 HEALTHY")


CRASH = """
from planetmesh.dashboard.app import Dashboard

class Broken:
    latest, crash = __import__("planetmesh.dashboard.snapshot", fromlist=["x"]).Snapshot(), None
    def start(self): self.crash = ValueError("a secret of ours")
    def stop(self): pass

app = Dashboard(Broken(), None)
app.run()
print("crash kept:", type(app.crash).__name__)
"""


@pytest.mark.slow
def test_a_mistake_of_ours_is_no_traceback_on_the_terminal() -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CRASH], stdin=follower, stdout=follower, stderr=follower,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    )  # fmt: skip
    os.close(follower)
    said = b""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if not select.select([leader], [], [], 0.2)[0]:
            continue
        try:
            said += os.read(leader, 65536)
        except OSError:
            break
    assert process.wait(10) == 0
    os.close(leader)
    assert b"crash kept: ValueError" in said
    assert b"Traceback" not in said
    assert b"a secret of ours" not in said
