"""`planetmesh demo`: a whole mesh on this machine, for a look.

Nothing is staged but the scene: real processes, paired over real TLS, a real job; half-way one of them is
killed like a power cut would, and its tiles come from the others. It leaves nothing but the picture.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planetmesh.cli.face import Face
from planetmesh.cli.interrupt import INTERRUPTED, Interruption
from planetmesh.errors import BadInput, Conflict
from planetmesh.groups import TaskGroup

if TYPE_CHECKING:
    from planetmesh.cli.demo_job import Assembly, Plan
    from planetmesh.cli.demo_mesh import DemoMesh
    from planetmesh.cli.demo_screen import LiveScreen, PlainScreen, View
    from planetmesh.client.handles import JobHandle
    from planetmesh.wire.api import JobView

LOOK_SECONDS = 0.2
KILL_AT_SHARE = 0.5
LONGEST_SECONDS = 600.0
"""A slow machine with a large picture; beyond it something is wrong."""
SIZE_MOST = 8000
AGENTS_MOST = 8
PICTURE_NAME = "planetmesh-demo.png"
_EXAMPLES = """
\b
Examples:
  planetmesh demo
  planetmesh demo -o julia.png --size 1600x1000 --agents 2
  planetmesh demo --no-kill --json
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path),
    help=f"Where the picture goes (default: {PICTURE_NAME} here, under a free name).",
)  # fmt: skip
@click.option("--agents", type=click.IntRange(1, AGENTS_MOST), default=3, show_default=True, metavar="N")
@click.option("--size", metavar="WxH", default="3200x2000", show_default=True, help="Of the picture.")
@click.option("--no-kill", is_flag=True, help="Let every machine live.")
@click.pass_obj
def demo(face: Face, *, output: Path | None, agents: int, size: str, no_kill: bool) -> int:
    """Show a whole mesh at work on this machine, in a throw-away home.

    A coordinator and three agents start as real processes and pair; a real job draws a picture; one agent is
    killed half-way and its work goes elsewhere.
    """
    from planetmesh.cli.demo_job import Plan

    if sys.platform == "win32":
        raise Conflict("The demo runs agents, and tasks cannot be run on Windows yet.")
    plan = Plan.of(read_size(size))
    show = Show(face, plan, agents, free_path(output), kill=not no_kill and agents > 1)
    summary = asyncio.run(_interruptible(show))
    if summary is None:
        return INTERRUPTED
    face.printer.done(f"The picture is in {summary['path']}", summary, word=str(summary["path"]))
    return 0 if summary["complete"] else 1


def read_size(text: str) -> Any:
    """`3200x2000`; raises BadInput."""
    from planetmesh.cli.demo_scene import Picture

    match = re.fullmatch(r"([0-9]{1,5})[x×]([0-9]{1,5})", text)
    if match is None or not all(16 <= int(side) <= SIZE_MOST for side in match.groups()):
        raise BadInput(
            f"'{text}' is not the size of a picture.",
            hint=f"Say it like 3200x2000; at most {SIZE_MOST} each.",
        )
    return Picture(int(match[1]), int(match[2]))


def free_path(output: Path | None) -> Path:
    """Where the picture will go, tried before any work is done for it. An earlier picture is never lost."""
    path = (output or _free_name()).absolute()
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise BadInput(f"No picture can be written to {path}.", hint="Choose another file with -o FILE.")
    return path


def _free_name() -> Path:
    path, number = Path(PICTURE_NAME), 1
    while path.exists():
        number += 1
        path = path.with_name(f"{PICTURE_NAME.removesuffix('.png')}-{number}.png")
    return path


def cpus_each(agents: int) -> int:
    """So many that all agents together use the whole machine, and at least one."""
    if sys.platform == "linux":
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    return max(1, -(-cpus // agents))


async def _interruptible(show: Show) -> dict[str, Any] | None:
    """The summary; None after Ctrl-C, when everything has been cleared away."""
    with Interruption() as interruption:
        return await interruption.interruptible(show.run())


@dataclass
class Show:
    """One run of the demo."""

    face: Face
    plan: Plan
    agents: int
    path: Path
    kill: bool
    killed: str = ""

    async def run(self) -> dict[str, Any]:
        from planetmesh.cli.demo_job import Assembly
        from planetmesh.cli.demo_mesh import demo_mesh

        began = time.monotonic()
        tiles = self.plan.tiles
        assembly = Assembly(tiles)
        job = await asyncio.to_thread(self.plan.job)
        async with demo_mesh(self.agents, cpus_each(self.agents), self.face.printer.note) as mesh:
            view = self._view(mesh)
            with self._screen(view) as screen:
                async with asyncio.timeout(LONGEST_SECONDS):
                    handle = await mesh.client.submit(job)
                    canvas = await self._draw(mesh, handle, assembly, screen, view)
                ended = await handle.status()
                counts = await self._count(handle, assembly)
            complete = ended.tasks.completed == len(tiles) == sum(counts.values())
            await asyncio.to_thread(canvas.write, self.path)
        summary = self._summary(ended, counts)
        seconds = round(time.monotonic() - began, 1)
        return {**summary, "complete": complete and not canvas.is_blank(), "seconds": seconds}

    def _view(self, mesh: DemoMesh) -> View:
        from planetmesh.cli.demo_screen import NodeLine, View

        nodes = [NodeLine(each.name) for each in mesh.agents]
        return View(len(self.plan.tiles), nodes)

    def _screen(self, view: View) -> LiveScreen | PlainScreen:
        from planetmesh.cli.demo_screen import LiveScreen, PlainScreen

        if self.face.printer.form == "table" and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            return LiveScreen(view, self.plan.picture)
        return PlainScreen(view, quiet=self.face.quiet)

    async def _draw(
        self,
        mesh: DemoMesh,
        handle: JobHandle,
        assembly: Assembly,
        screen: LiveScreen | PlainScreen,
        view: View,
    ) -> Any:
        """Take the output as it comes until the job has ended; watch, kill and tell beside it."""
        from planetmesh.cli.demo_canvas import Canvas

        canvas = Canvas(self.plan.picture)
        width, height = self.plan.picture
        screen.tell(f"{view.total} tiles of a Julia set, {width}×{height}.")
        async with TaskGroup() as group:
            watching = group.create_task(self._watch(mesh, handle, screen, view))
            async for piece in handle.output():
                pixels = assembly.take(piece)
                if pixels is not None:
                    tile = assembly.tiles[piece.index]
                    canvas.put(tile, pixels)
                    screen.put(tile, pixels)
            watching.cancel()
        await self._look(mesh, handle, view)
        screen.refresh()
        return canvas

    async def _watch(
        self, mesh: DemoMesh, handle: JobHandle, screen: LiveScreen | PlainScreen, view: View
    ) -> None:
        """Look at the mesh now and then; half-way, be the power cut."""
        killed_at = 0.0
        while True:
            await self._look(mesh, handle, view)
            if self.kill and not self.killed and view.done >= view.total * KILL_AT_SHARE:
                killed_at = time.monotonic()
                self._kill_one(mesh, screen, view)
            elif killed_at and any(each.was_killed and each.state == "OFFLINE" for each in view.nodes):
                screen.tell(
                    f"The mesh noticed after {time.monotonic() - killed_at:.1f} s; "
                    f"what {self.killed} had in hand goes elsewhere."
                )
                killed_at = 0.0
            screen.refresh()
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, mesh: DemoMesh, handle: JobHandle, view: View) -> None:
        nodes = {node.name: node for node in await mesh.client.nodes()}
        status = await handle.status()
        view.done, view.retrying = status.tasks.completed, status.tasks.retrying
        done = await self._done_by_node(handle)
        for line in view.nodes:
            node = nodes.get(line.name)
            if node is not None:
                line.state, line.running = str(node.state), node.running
            line.done = done[line.name]

    async def _done_by_node(self, handle: JobHandle) -> Counter[str]:
        from planetmesh.model.job import TaskState

        return Counter([task.node or "" async for task in handle.tasks(status=TaskState.COMPLETED)])

    def _kill_one(self, mesh: DemoMesh, screen: LiveScreen | PlainScreen, view: View) -> None:
        busiest = max(view.nodes, key=lambda line: line.running)
        busiest.was_killed = True
        self.killed = busiest.name
        mesh.kill(busiest.name)
        held = "1 task" if busiest.running == 1 else f"{busiest.running} tasks"
        screen.tell(f"{busiest.name} was killed with SIGKILL; {held} ran there.")

    async def _count(self, handle: JobHandle, assembly: Assembly) -> Counter[str]:
        """Tiles by machine: only those whose accepted attempt delivered the whole tile count."""
        counts: Counter[str] = Counter()
        seen: set[int] = set()
        async for task in handle.tasks():
            if task.index in seen or task.status != "COMPLETED":
                continue
            seen.add(task.index)
            if task.attempts in assembly.whole.get(task.index, ()):
                counts[task.node or "?"] += 1
        return counts

    def _summary(self, ended: JobView, counts: Counter[str]) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "width": self.plan.picture.width,
            "height": self.plan.picture.height,
            "tiles": ended.tasks.total,
            "status": str(ended.status),
            "by_node": dict(sorted(counts.items())),
            "killed": self.killed or None,
        }
