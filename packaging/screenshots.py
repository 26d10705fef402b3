"""Draw the documents' pictures from the real dashboard: `python packaging/screenshots.py [--into DIR]`.

Starts the demo's mesh (real processes, really paired), gives it work, looks at it with the dashboard and
saves what is on screen as SVG. Everything but the pictures is gone afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from planetmesh.cli.demo_mesh import demo_mesh
from planetmesh.cli.draft_order import order_of
from planetmesh.client.async_client import AsyncMesh
from planetmesh.dashboard.app import DARK, LIGHT, Dashboard
from planetmesh.dashboard.feed import Watcher
from planetmesh.model.job import JobSpec, Range
from planetmesh.model.resources import Resources

REPOSITORY = Path(__file__).resolve().parents[1]
SIZE = (110, 32)
AGENTS, CPUS = 4, 2
PATIENCE_SECONDS = 60.0
WORK_SECONDS = 15.0
"""Until the charts have something to show."""

RENDER = "i=0; while [ $i -lt 4 ]; do i=$((i+1)); echo frame {}: sample $((i*64)) of 256; sleep 0.2; done"
FLAKY = "sleep 0.3; [ $(expr {} % 9) -ne 4 ] || { echo unexpected end of file >&2; exit 65; }"


def line_job(name: str, line: str, count: int, **more: object) -> JobSpec:
    """A job of so many lines for the shell."""
    spec = {"type": "command", "payload": {"argv": [line]}, "inputs": Range(1, count), "name": name}
    return JobSpec(**(spec | more))


async def give_work(mesh: AsyncMesh) -> None:
    await mesh.submit(line_job("render intro", RENDER, 480, max_attempts=1))
    await mesh.submit(line_job("check archive", FLAKY, 45, max_attempts=1, priority=1))
    await mesh.submit(line_job("train", "true", 1, requests=Resources(gpus=1)))


def own_fonts(svg: str) -> str:
    """Without fonts that a reader would have to fetch from somewhere."""
    svg = re.sub(r"@font-face \{[^}]*\}", "", svg)
    return re.sub(
        r"font-family: Fira Code,", "font-family: Fira Code, Menlo, Consolas, DejaVu Sans Mono,", svg
    )


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():
            await pilot.pause(0.1)


async def draw(home: Path, into: Path, theme: str, suffix: str) -> None:
    app = Dashboard(Watcher(lambda: AsyncMesh(home, patience_seconds=0.0)), order_of, theme=theme)
    async with app.run_test(size=SIZE) as pilot:

        async def save(name: str) -> None:
            await pilot.pause(1.0)
            picture = own_fonts(app.export_screenshot(title="planetmesh dashboard"))
            (into / f"{name}{suffix}.svg").write_text(picture, encoding="utf-8")

        await until(pilot, lambda: sum(app.snapshot.done) > WORK_SECONDS)
        await pilot.pause(WORK_SECONDS)
        await save("dashboard-overview")
        if theme == LIGHT:
            return
        await pilot.press("2")
        await save("dashboard-nodes")
        await pilot.press("3")
        await pilot.pause(0.5)
        await pilot.press("enter", "e")
        await save("dashboard-explain")
        await pilot.press("e", "escape", "down", "enter", "f")
        await save("dashboard-job")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=REPOSITORY / "docs" / "pictures", help="where they go")
    into: Path = parser.parse_args().into
    into.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240
    for theme, suffix in ((DARK, ""), (LIGHT, "-light")):
        async with demo_mesh(AGENTS, CPUS, print) as mesh:
            await give_work(mesh.client)
            await draw(mesh.home, into, theme, suffix)
    print(*sorted(path.name for path in into.glob("dashboard-*.svg")))  # noqa: ASYNC240


if __name__ == "__main__":
    asyncio.run(main())
