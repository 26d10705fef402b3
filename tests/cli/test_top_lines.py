"""What `top` shows at every size, and how it is sorted."""

from __future__ import annotations

import os
import unicodedata

import pytest

from planetmesh.cli.block import fitted
from planetmesh.cli.top_lines import Order, document_of, sorted_nodes, top_lines, with_mean_rates
from planetmesh.dashboard.snapshot import Link, LinkState, Snapshot
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import JobState
from planetmesh.model.node import NodeState, Sandbox
from planetmesh.wire.api import JobView, NodeView, TaskCounts

HOSTILE = "\x1b[2J\u202e[red]evil\n字👩\u200d🚀" + "e\u0301\u0302\u0303" * 20 + "n" * 10_000
LIVE = Link(LinkState.LIVE)


def node(name: str, **more) -> NodeView:
    usual = {
        "id": NodeId(name), "name": name, "state": NodeState.HEALTHY, "cpus": 4, "memory_bytes": 2**33,
        "gpus": (), "tags": (), "running": 0, "load": 0.5, "rtt_ms": 1.0, "reliability": 1.0,
        "last_heartbeat_at": None, "draining": False, "sandbox": Sandbox("landlock", proven=True),
        "version": "1", "memory_free_bytes": 2**32,
    }  # fmt: skip
    return NodeView(**{**usual, **more})


def job(
    number: int, status=JobState.RUNNING, name: str = "", completed: int = 25, total: int = 100
) -> JobView:
    counts = TaskCounts(total, 0, 0, total - completed, 0, completed, 0, 0)
    return JobView(
        id=JobId(f"job{number:07d}"), name=name, type="command", status=status, priority=0, submitter="me",
        created_at=f"2026-01-31T12:00:{number % 60:02d}.000Z", started_at="2026-01-31T12:00:00.000Z",
        completed_at=None, tasks=counts,
    )  # fmt: skip


def shown(snapshot: Snapshot, columns: int = 100, rows: int = 24, order: Order | None = None) -> list[str]:
    lines = top_lines(snapshot, order or Order(), os.terminal_size((columns, rows)))
    return [line.plain.rstrip() for line in lines]


@pytest.mark.parametrize("rows", [3, 6, 10, 24])
@pytest.mark.parametrize("columns", [10, 40, 80, 200])
def test_it_fits_whatever_is_in_the_mesh(columns, rows):
    nodes = tuple(node(HOSTILE + str(number)) for number in range(40))
    jobs = tuple(job(number, name=HOSTILE) for number in range(40))
    snapshot = Snapshot(link=LIVE, nodes=nodes, jobs=jobs)
    lines = top_lines(snapshot, Order(), os.terminal_size((columns, rows)))
    assert len(lines) <= max(rows, 14)
    said = "".join(line.plain for line in lines)
    assert not [each for each in said if unicodedata.category(each) in {"Cc", "Cf", "Cs"}]
    assert "more nodes" in said
    assert "more jobs" in said


def test_the_jobs_that_go_on_come_first_with_rate_and_time_left():
    jobs = (job(9, JobState.COMPLETED, "old", 100), job(3, name="now"))
    lines = shown(Snapshot(link=LIVE, nodes=(node("desk"),), jobs=jobs, paces={JobId("job0000003"): 5.0}))
    rows = [line for line in lines if "old" in line or "now" in line]
    assert "now" in rows[0]
    assert rows[0].split()[-4:] == ["25/100", "-", "5/s", "0:15"]


def test_nodes_are_sorted_by_what_was_chosen():
    snapshot = Snapshot(link=LIVE, nodes=(node("a", load=0.1, running=5), node("b", load=0.9), node("c")))
    order = Order()
    assert [each.name for each in sorted_nodes(snapshot, order)] == ["a", "b", "c"]
    order.next()
    assert order.by == "running"
    assert sorted_nodes(snapshot, order)[0].name == "a"
    assert [each.name for each in sorted_nodes(snapshot, Order("load"))] == ["b", "c", "a"]
    assert [each.name for each in sorted_nodes(snapshot, Order("load", turned=True))] == ["a", "c", "b"]


def test_a_coordinator_that_is_away_is_said():
    link = Link(LinkState.AWAY, "The coordinator does not answer.")
    assert any(
        line.startswith("! The coordinator does not answer. Again in") for line in shown(Snapshot(link=link))
    )


def test_no_end_of_a_sentence_and_no_number_is_cut_off_at_eighty_columns():
    link = Link(
        LinkState.AWAY, "The coordinator cannot be reached: 127.0.0.1:7433 (refused), 10.1.2.3:7433 (no)."
    )
    jobs = (job(1, name="many", completed=9992, total=10_000), job(2, completed=999_999, total=1_000_000))
    lines = shown(Snapshot(link=link, nodes=(node("desk", draining=True),), jobs=jobs), columns=80)
    assert " ".join(lines[1:3]).startswith("! The coordinator cannot be reached")
    assert "Again in" in lines[2]
    rows = {line.split()[0]: line for line in lines if line}
    assert "9992/10000" in rows["many"]
    assert "999k/1.0M" in rows["job0000002"]
    assert "draining" in rows["desk"]


def test_one_look_gives_the_mean_rate_since_the_start():
    # A quarter of a hundred in fifty seconds.
    snapshot = with_mean_rates(Snapshot(link=LIVE, at=1769860850.0, jobs=(job(1),)))
    assert snapshot.paces == {JobId("job0000001"): pytest.approx(0.5)}
    document = document_of(snapshot, Order())
    assert document["jobs"][0]["rate"] == pytest.approx(0.5)
    assert document["jobs"][0]["left_seconds"] == pytest.approx(150.0)


NOTE = (
    "It gets no work: its sandbox is not proven, so its own files would not be kept from tasks, which may be "
    "anybody's. Look with `planetmesh doctor` there, or allow it with `planetmesh node tag`."
)


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_an_alarm_is_wrapped_at_words_and_its_command_is_whole_at_every_width(columns):
    nodes = (node("living-room-nas", state=NodeState.OFFLINE), node("attic", note=NOTE))
    lines = shown(Snapshot(link=LIVE, nodes=nodes, jobs=(job(1),)), columns)
    assert all(len(line) < columns for line in lines)
    said = " ".join(" ".join(lines[: lines.index("")]).split())
    assert "! living-room-nas is OFFLINE. planetmesh explain living-room-nas" in said
    assert said.endswith("`planetmesh node tag`.")
    told, dots, _command = said[said.index("attic: ") :].partition("… `")
    assert f"attic: {NOTE}".startswith(told)
    assert dots or told.endswith("`planetmesh node tag`.")


@pytest.mark.parametrize("rows", [14, 16, 24])
def test_the_keys_stand_in_the_last_line_that_is_drawn(rows):
    nodes = tuple(node(f"n{number}") for number in range(40))
    jobs = tuple(job(number) for number in range(40))
    size = os.terminal_size((40, rows))
    drawn = fitted(top_lines(Snapshot(link=LIVE, nodes=nodes, jobs=jobs), Order(), size), size)
    assert drawn[-1].plain.startswith("q quit")


def test_a_command_that_no_line_holds_is_torn_at_a_blank_and_not_cut_off():
    nodes = (node("a-machine-in-the-attic-of-my-house", state=NodeState.OFFLINE),)
    lines = shown(Snapshot(link=LIVE, nodes=nodes), columns=40)
    assert any(line.endswith("planetmesh explain") for line in lines)
    assert "  a-machine-in-the-attic-of-my-house" in lines


def test_at_forty_columns_how_far_a_job_is_stays():
    lines = shown(Snapshot(link=LIVE, nodes=(node("desk"),), jobs=(job(1, name="photos"),)), columns=40)
    assert any(line.startswith("photos") and line.endswith("25%") for line in lines)
    assert lines[-1] == "q quit  s sort by running  r turn"
