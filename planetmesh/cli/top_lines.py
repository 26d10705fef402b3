"""What `top` shows: the mesh in a line, its nodes, its jobs. Snapshots in, lines out; nothing here draws.

On a terminal the dashboard's columns, whose widths stay as they are while numbers change; in a pipe plain
tables.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from planetmesh.cli.output import Column, Shape
from planetmesh.cli.shapes import colour, node_word, parse_time, show_tasks
from planetmesh.cli.up_lines import HINT, Piece, Row, flow, shortened, words
from planetmesh.client.pace import show_rate, show_seconds
from planetmesh.dashboard import rows as dashboard
from planetmesh.dashboard.alarms import Alarm, alarms_of
from planetmesh.dashboard.meter import ended_of
from planetmesh.dashboard.plain import BAD, BUSY, DIM, GOOD, STRONG, WARN, Cell, plain
from planetmesh.dashboard.snapshot import LinkState, Snapshot, is_over
from planetmesh.model.node import NodeState
from planetmesh.wire.api import JobView, NodeView

if TYPE_CHECKING:
    from rich.text import Text

T = TypeVar("T")

STYLES = {GOOD: "green", WARN: "yellow", BAD: "red", BUSY: "cyan", DIM: "dim", STRONG: "bold"}
SUMMARY_LINES_MOST = 2
ALARMS_MOST = 2
ALARM_LINES_MOST = 4
ALARM_LINES_LEAST = 2
"""For each: a sentence and its command."""
ENDED_MOST = 5
"""Jobs that have ended, below those that go on."""
SORTS = {
    "name": "NAME",
    "running": "RUN",
    "load": "LOAD",
    "memory": "MEMORY",
    "rtt": "RTT",
    "reliability": "REL",
}
"""What nodes can be sorted by: as it is said → the column's title."""
_NODE_COLUMNS = tuple(
    each for each in dashboard.NODES if each.title in {"NAME", "STATE", "RUN", "LOAD", "MEMORY", "RTT", "REL"}
)
_JOB_TITLES = ("JOB", "NAME", "STATUS", "PROGRESS", "DONE", "FAILED", "RATE", "LEFT")
_JOB_COLUMNS = tuple(each for each in dashboard.JOBS if each.title in _JOB_TITLES)


class Order(msgspec.Struct):
    """How nodes are sorted."""

    by: str = "name"
    turned: bool = False

    def next(self) -> None:
        names = list(SORTS)
        self.by = names[(names.index(self.by) + 1) % len(names)]
        self.turned = False


def top_lines(snapshot: Snapshot, order: Order, size: os.terminal_size) -> list[Text]:
    """As many lines as the terminal has: the nodes get half of them at most, unless the jobs need less."""
    from rich.text import Text

    width = size.columns - 1
    head = [*_summary(snapshot, width), *_link(snapshot, width), *_alarms(snapshot, width)]
    keys = ("q quit", f"s sort by {_next_sort(order)}", "r turn")
    foot = flow(_one_line(*((each, "dim") for each in keys), (f"(by {order.by})", HINT)), width)[0]
    room = max(4, size.lines - len(head) - 5)  # three blanks, the foot, and the row where the cursor stands
    nodes, jobs = sorted_nodes(snapshot, order), shown_jobs(snapshot)
    for_nodes = min(len(nodes) + 1, max(room // 2, room - len(jobs) - 1))
    node_rows = _table(nodes, _NODE_COLUMNS, snapshot, width, for_nodes, "nodes")
    job_rows = _table(jobs, _JOB_COLUMNS, snapshot, width, max(2, room - len(node_rows)), "jobs")
    if not nodes:
        node_rows = [Text("There are no nodes yet. On each machine: planetmesh up", "dim")]
    if not jobs:
        job_rows = [Text("Nothing to do. Try: planetmesh run hostname", "dim")]
    blank = Text()
    return [*head, blank, *node_rows, blank, *job_rows, blank, foot]


def sorted_nodes(snapshot: Snapshot, order: Order) -> list[NodeView]:
    column = next(each for each in _NODE_COLUMNS if each.title == SORTS[order.by])
    return dashboard.arrange(snapshot.nodes, snapshot, column, turned=order.turned)


def shown_jobs(snapshot: Snapshot) -> list[JobView]:
    """Those that go on, newest first, then the last few that ended."""
    live = [job for job in snapshot.jobs if not is_over(job)]
    return live + [job for job in snapshot.jobs if is_over(job)][:ENDED_MOST]


def with_mean_rates(snapshot: Snapshot) -> Snapshot:
    """For one look, which sees no change: how quickly each job went on since its start."""
    paces = dict(snapshot.paces)
    for job in snapshot.jobs:
        begun = parse_time(job.started_at)
        if is_over(job) or begun is None or not ended_of(job.tasks):
            continue
        seconds = snapshot.at - begun.timestamp()
        if seconds > 0:
            paces[job.id] = ended_of(job.tasks) / seconds
    return msgspec.structs.replace(snapshot, paces=paces)


def document_of(snapshot: Snapshot, order: Order) -> dict[str, Any]:
    """For programs. `rate`: tasks a second; `left_seconds`: for the rest at that rate."""
    jobs = []
    for job in shown_jobs(snapshot):
        rate = snapshot.paces.get(job.id)
        left = dashboard.seconds_left(job, snapshot)
        seconds = None if left is None else round(left, 1)
        jobs.append(
            msgspec.to_builtins(job)
            | {"rate": float(f"{rate:.4g}") if rate else None, "left_seconds": seconds}
        )
    return {"mesh": snapshot.status, "nodes": sorted_nodes(snapshot, order), "jobs": jobs}


NODES = Shape[NodeView](
    (
        Column("NAME", lambda node: node.name, most=40),
        Column("STATE", node_word, style=lambda node: colour(node.state)),
        Column("RUNNING", lambda node: str(node.running), right=True),
        Column("LOAD", lambda node: "-" if node.load is None else f"{node.load:.0%}", right=True, drop=1),
        Column("MEMORY", lambda node: _share(dashboard.memory_share(node)), right=True, drop=2),
        Column(
            "RTT", lambda node: "-" if node.rtt_ms is None else f"{node.rtt_ms:.1f} ms", right=True, drop=4
        ),
        Column("RELIABILITY", lambda node: f"{node.reliability:.0%}", right=True, drop=3),
    ),
    key=lambda node: node.name,
)


def jobs_shape(snapshot: Snapshot) -> Shape[JobView]:
    """With rates, which only a snapshot knows."""

    def rate(job: JobView) -> str:
        pace = dashboard.pace_of(job, snapshot)
        return show_rate(pace) if pace else "-"

    def left(job: JobView) -> str:
        return dashboard.time_left(job, snapshot) or "-"

    return Shape(
        (
            Column("JOB", lambda job: job.id),
            Column("NAME", lambda job: job.name or "-", most=40, drop=4),
            Column("STATUS", lambda job: job.status, style=lambda job: colour(job.status)),
            Column("TASKS", show_tasks, right=True, drop=1),
            Column("RATE", rate, right=True, drop=3),
            Column("LEFT", left, right=True, drop=2),
        ),
        key=lambda job: job.id,
    )


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _next_sort(order: Order) -> str:
    after = Order(order.by)
    after.next()
    return after.by


def _one_line(*pieces: Piece) -> Row:
    """Pieces side by side; they are apart, as none has the row's own style."""
    return Row("", pieces, 0, "conceal")


def _summary(snapshot: Snapshot, width: int) -> list[Text]:
    status = snapshot.status
    pieces = [(plain(status.mesh, 40) if status else "planetmesh", "bold")]
    counts = {state: sum(node.state is state for node in snapshot.nodes) for state in NodeState}
    pieces += [(f"{count} {state}", colour(state)) for state, count in counts.items() if count]
    pieces.append((f"{snapshot.running} running", "cyan" if snapshot.running else "dim"))
    if snapshot.queued:
        pieces.append((f"{snapshot.queued} waiting", ""))
    recent = snapshot.done[-RATE_SECONDS:]
    if any(recent):
        pieces.append((show_rate(sum(recent) / max(1, len(recent))), ""))
    return flow(_one_line(*pieces), width)[:SUMMARY_LINES_MOST]


RATE_SECONDS = 10
"""The mesh's own rate is a mean over so long."""


def _link(snapshot: Snapshot, width: int) -> list[Text]:
    from rich.text import Text

    link = snapshot.link
    if link.state is LinkState.LIVE:
        return []
    if link.state is LinkState.CONNECTING:
        return [Text("connecting…", "yellow")]
    again = max(0.0, link.again_at - time.time())
    sentence = f"{plain(link.sentence)} Again in {show_seconds(again)}."
    return flow(Row("!", words(sentence, "red"), 0, "red"), width)


def _alarms(snapshot: Snapshot, width: int) -> list[Text]:
    """The gravest, each with its command whole; a sentence that is too long for them all ends in "…"."""
    found = [_alarm(each) for each in alarms_of(snapshot)[:ALARMS_MOST]]
    needs = [len(shortened(row, tail, width, ALARM_LINES_MOST)) for row, tail in found]
    lines: list[Text] = []
    for number, (row, tail) in enumerate(found):
        for_others = sum(min(each, ALARM_LINES_LEAST) for each in needs[number + 1 :])
        lines += shortened(row, tail, width, ALARM_LINES_MOST - len(lines) - for_others)
    return lines


def _alarm(alarm: Alarm) -> tuple[Row, tuple[Piece, ...]]:
    """What may be shortened, and the command that may not: its own, or the last one in its sentence."""
    style = STYLES[alarm.tone]
    pieces = words(alarm.sentence, style)
    if alarm.command:
        return Row("!", pieces, 0, style), ((alarm.command, "bold"),)
    named = [number for number, (text, _) in enumerate(pieces) if text.startswith("`")]
    cut = named[-1] if named else len(pieces)
    return Row("!", pieces[:cut], 0, style), pieces[cut:]


def _table(
    things: Sequence[T],
    columns: Sequence[dashboard.Column[T]],
    snapshot: Snapshot,
    width: int,
    rows: int,
    noun: str,
) -> list[Text]:
    """The head and what fits below it; the last line says how many are left out."""
    from rich.text import Text

    laid = dashboard.lay_out(columns, width)
    lines = [_row([(Text(each.title, "bold dim"), size, each.right) for each, size in laid])]
    left_out = len(things) - (rows - 1)
    shown = things if left_out <= 0 else things[: max(0, rows - 2)]
    lines += [
        _row([(_text(each.show(thing, snapshot)), size, each.right) for each, size in laid])
        for thing in shown
    ]
    if left_out > 0:
        lines.append(Text(f"… {len(things) - len(shown)} more {noun}", "dim"))
    return lines


def _row(cells: Sequence[tuple[Text, int, bool]]) -> Text:
    from rich.text import Text

    line = Text()
    for number, (text, size, right) in enumerate(cells):
        text.truncate(size, overflow="ellipsis")
        space = " " * (size - text.cell_len)
        line.append("  " if number else "")
        line.append_text(Text(space).append_text(text) if right else text.append(space))
    return line


def _text(made: Cell) -> Text:
    from rich.text import Text

    return Text.assemble(*((text, STYLES.get(tone, "")) for text, tone in made))
