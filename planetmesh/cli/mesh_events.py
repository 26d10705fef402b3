"""What happens in the mesh, in words: `planetmesh logs --mesh`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

from planetmesh.cli.face import Face
from planetmesh.wire.api import FeedEvent

KNOWN_MOST = 10_000
"""Jobs and nodes whose last state is remembered, so that only changes are told."""
NARROW = 60
"""Columns; with fewer a date and a time beside the words leave too little for them."""
LINE_MOST_LETTERS = 1000
FAILURES_MOST = 20
"""Failed tasks of one event that are told one by one."""


class Telling:
    """Turns events of the feed into lines. Progress of a job is no news; its beginning and its end are."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()

    def lines(self, event: FeedEvent) -> Iterator[str]:
        data = event.data
        match event.kind:
            case "job":
                yield from self._job(data)
            case "node":
                yield from self._node(data)
            case "node_removed":
                yield f"node {data.get('name') or data.get('id')} is forgotten"
            case "pairing":
                yield f"pairing window {data.get('slot')}: {data.get('action')}"
            case "tasks":
                yield from _tasks(data)
            case "resync":
                yield "some events were missed"

    def _is_news(self, key: str, state: str) -> bool:
        before = self._known.get(key)
        self._known[key] = state
        self._known.move_to_end(key)
        while len(self._known) > KNOWN_MOST:
            self._known.popitem(last=False)
        return before != state

    def _job(self, job: dict[str, Any]) -> Iterator[str]:
        status = str(job["status"])
        if not self._is_news(f"job {job['id']}", status):
            return
        tasks = job["tasks"]
        name = f" '{job['name']}'" if job.get("name") else ""
        failed = f", {tasks['failed']} failed" if tasks["failed"] else ""
        yield f"job {job['id']}{name} is {status}: {tasks['completed']} of {tasks['total']} completed{failed}"

    def _node(self, node: dict[str, Any]) -> Iterator[str]:
        state = str(node["state"]) + (", draining" if node.get("draining") else "")
        if self._is_news(f"node {node['id']}", state):
            yield f"node {node['name']} is {state}"


def _tasks(tasks: list[dict[str, Any]]) -> Iterator[str]:
    failed = [task for task in tasks if task["status"] in {"FAILED", "RETRYING"} and task.get("last_error")]
    for task in failed[:FAILURES_MOST]:
        verb = "failed" if task["status"] == "FAILED" else "will be tried again"
        yield f"task {task['id']} {verb}: {task['last_error']}"
    if len(failed) > FAILURES_MOST:
        yield f"{len(failed) - FAILURES_MOST} more tasks failed"


async def follow(face: Face) -> int:
    """Until the user has had enough (130)."""
    from planetmesh.cli.interrupt import INTERRUPTED, Interruption

    with Interruption() as interruption:
        await interruption.interruptible(_tell(face))
    return INTERRUPTED


async def _tell(face: Face) -> None:
    """Goes on by itself when the coordinator was away."""
    import sys

    from planetmesh.cli.output import write_json

    telling = Telling()
    async with face.mesh(patience_seconds=float("inf")) as mesh, aclosing(mesh.feed()) as events:
        async for event in events:
            if face.json:
                write_json(event)
                continue
            for line in telling.lines(event):
                sys.stdout.write(_dated(event.at, line) + "\n")
            sys.stdout.flush()


def _dated(at: str, line: str) -> str:
    """Long ones go on below themselves on a terminal, on a narrow one below a short time."""
    import shutil
    import sys

    from planetmesh.cli.output import cell, wrapped
    from planetmesh.cli.shapes import show_brief_time, show_time

    narrow = sys.stdout.isatty() and shutil.get_terminal_size().columns < NARROW
    begin = (show_brief_time(at) if narrow else show_time(at)) + "  "
    return wrapped(begin + cell(line, LINE_MOST_LETTERS), sys.stdout, hang=2 if narrow else len(begin))
