"""`planetmesh top`: nodes and jobs as they change, on the whole terminal; once where there is none."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click

from planetmesh.cli.face import Face

if TYPE_CHECKING:
    from planetmesh.cli.full_screen import FullScreen
    from planetmesh.cli.top_lines import Order
    from planetmesh.client.async_client import AsyncMesh
    from planetmesh.dashboard.feed import Watcher
    from planetmesh.dashboard.snapshot import Snapshot

SORTS = ("name", "running", "load", "memory", "rtt", "reliability")
DRAW_SECONDS = 0.25
JOBS_AT_ONCE = 100
"""Of one look: those that go on, and as many that have ended."""
_EXAMPLES = """
\b
Examples:
  planetmesh top
  planetmesh top --sort load
  planetmesh top --once                       also: where stdout is no terminal
  planetmesh top --json | jq '.jobs[] | [.id, .rate, .left_seconds]'

Keys: q quits, s sorts the nodes by the next column, r turns the order. Ctrl-C quits too (status 130).
"""


@click.command(epilog=_EXAMPLES)
@click.option("--once", is_flag=True, help="Print it once.")
@click.option(
    "--sort", type=click.Choice(SORTS), default="name", show_default=True, help="Sort the nodes by this."
)
@click.pass_obj
def top(face: Face, *, once: bool, sort: str) -> int:
    """Nodes and running jobs as they change: load, memory, rates, time left.

    With --json, --once, or without a terminal it is printed once; rates are then means since each
    job's start.
    """
    from planetmesh.cli.full_screen import has_full_screen
    from planetmesh.cli.top_lines import Order

    order = Order(sort)
    if once or face.printer.form != "table" or not has_full_screen():
        _print_once(face, order)
        return 0
    from planetmesh.client.connect import load_identity

    load_identity(face.home)  # said here in words if there is none
    return face.run(_show(face, order))


def _print_once(face: Face, order: Order) -> None:
    from planetmesh.cli.top_lines import NODES, document_of, jobs_shape, shown_jobs, sorted_nodes

    snapshot = face.with_mesh(_look_once)
    if face.json:
        face.printer.done("", document_of(snapshot, order))
        return
    face.printer.rows(sorted_nodes(snapshot, order), NODES)
    if face.printer.form == "table":
        jobs = shown_jobs(snapshot)
        print()
        face.printer.rows(jobs, jobs_shape(snapshot))


async def _look_once(mesh: AsyncMesh) -> Snapshot:
    from planetmesh.cli.top_lines import with_mean_rates
    from planetmesh.dashboard.snapshot import Board

    board = Board()
    board.read_status(await mesh.status())
    live = await mesh.jobs(limit=JOBS_AT_ONCE, live=True)
    ended = await mesh.jobs(limit=JOBS_AT_ONCE, live=False)
    board.read_lists({job.id: job for job in [*live, *ended]}.values(), await mesh.nodes())
    return with_mean_rates(board.take(time.time(), time.monotonic()))


async def _show(face: Face, order: Order) -> int:
    from planetmesh.cli.full_screen import FullScreen
    from planetmesh.cli.interrupt import INTERRUPTED, Interruption
    from planetmesh.dashboard.feed import Watcher

    done, pressed = asyncio.Event(), asyncio.Event()

    def on_key(key: str) -> None:
        if key in "qQ\x04":
            done.set()
        elif key in "sS":
            order.next()
        elif key in "rR":
            order.turned = not order.turned
        pressed.set()

    watcher = Watcher(lambda: face.mesh(patience_seconds=0.0, on_wait=None))
    screen = FullScreen(on_key, pressed.set)
    with Interruption(screen.leave) as interruption:
        watcher.start()
        try:
            with screen:
                quit_by_key = await interruption.interruptible(_redraw(watcher, screen, order, done, pressed))
        finally:
            watcher.stop()
    if watcher.crash is not None:
        raise watcher.crash
    return 0 if quit_by_key else INTERRUPTED


async def _redraw(
    watcher: Watcher, screen: FullScreen, order: Order, done: asyncio.Event, pressed: asyncio.Event
) -> bool:
    from planetmesh.cli.top_lines import top_lines

    while not done.is_set() and watcher.crash is None:
        screen.draw(top_lines(watcher.latest, order, screen.size))
        pressed.clear()
        try:
            async with asyncio.timeout(DRAW_SECONDS):
                await pressed.wait()
        except TimeoutError:
            continue
    return True
