"""The mesh at a glance: who it is, what is there, what goes on, what to look at."""

from __future__ import annotations

from collections.abc import Iterable

from textual.containers import Horizontal, VerticalScroll
from textual.widget import Widget

from planetmesh.client.pace import show_rate
from planetmesh.dashboard.alarms import alarms_of
from planetmesh.dashboard.plain import BAD, BUSY
from planetmesh.dashboard.screens.mesh_screen import MeshScreen
from planetmesh.dashboard.sheets import (
    active_lines,
    alarm_lines,
    job_count_lines,
    mesh_lines,
    node_count_lines,
)
from planetmesh.dashboard.snapshot import Snapshot
from planetmesh.dashboard.widgets.chart import Chart
from planetmesh.dashboard.widgets.sheet import Sheet

ALARMS_MOST = 30
ACTIVE_MOST = 30
RATE_SECONDS = 10
NARROW, WIDE = 76, 130
"""Columns: below the first everything stands in one column that scrolls, from the second on in two."""


class OverviewScreen(MeshScreen):
    """See the module."""

    MODE = "overview"
    CAN_EXPLAIN = False
    DEFAULT_CSS = """
    OverviewScreen {
        & .card { border: round $foreground 30%; border-title-color: $foreground 80%; padding: 0 1; }
        /* A grid, whose columns leave no column of the screen over. */
        & #cards { height: 8; layout: grid; grid-size: 3; grid-columns: 6fr 5fr 7fr; }
        & #cards Sheet { width: 100%; height: 8; }
        & #charts { height: 4; }
        & Chart { border: round $foreground 30%; border-title-color: $foreground 80%; height: 4;
                  border-subtitle-color: $foreground 80%; }
        & #below { height: 1fr; }
        & #below VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
        & #below.-stacked { layout: vertical; }
        &.-narrow #cards { layout: vertical; height: auto; }
        &.-narrow #cards Sheet { width: 100%; height: auto; }
        &.-narrow #below { height: auto; }
        &.-narrow #below VerticalScroll { height: auto; }
        &.-tall #charts, &.-tall Chart { height: 10; }
    }
    """

    def body(self) -> Iterable[Widget]:
        with VerticalScroll(id="all"):
            yield Horizontal(
                _titled(Sheet(id="about", classes="card"), "mesh"),
                _titled(Sheet(id="node-counts", classes="card"), "nodes"),
                _titled(Sheet(id="job-counts", classes="card"), "jobs"),
                id="cards",
            )
            yield Horizontal(
                Chart("completed", BUSY, id="throughput"), Chart("failed", BAD, id="failures"), id="charts"
            )
            yield Horizontal(
                _titled(VerticalScroll(Sheet(id="active"), classes="card", can_focus=False), "going on"),
                _titled(VerticalScroll(Sheet(id="alarms"), classes="card", can_focus=False), "look at"),
                id="below",
            )

    def show(self, snapshot: Snapshot) -> None:
        self.set_class(self.size.height >= 40, "-tall")
        self.set_class(self.size.width < NARROW, "-narrow")
        self.query_one("#below").set_class(self.size.width < WIDE, "-stacked")
        self.query_one("#about", Sheet).show(mesh_lines(snapshot))
        self.query_one("#node-counts", Sheet).show(node_count_lines(snapshot))
        self.query_one("#job-counts", Sheet).show(job_count_lines(snapshot))
        done, failed = snapshot.done, snapshot.failed
        self.query_one("#throughput", Chart).show(done, _said(done, snapshot.watched_seconds))
        self.query_one("#failures", Chart).show(failed, _said(failed, snapshot.watched_seconds))
        active = self.query_one("#active", Sheet)
        active.show(active_lines(snapshot, active.size.width, ACTIVE_MOST))
        self.query_one("#alarms", Sheet).show(alarm_lines(alarms_of(snapshot), ALARMS_MOST))


def _titled(widget: Widget, title: str) -> Widget:
    widget.border_title = title
    return widget


def _said(values: tuple[float, ...], watched_seconds: int) -> str:
    """The rate of the last whole seconds."""
    seconds = max(1, min(RATE_SECONDS, watched_seconds))
    newest = values[-1 - seconds : -1]
    return show_rate(sum(newest) / seconds) if any(newest) else "0/s"
