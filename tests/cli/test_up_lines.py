"""What `up`'s panel says, at every size, whatever nodes call themselves."""

from __future__ import annotations

import os
import time
import unicodedata

import msgspec
import pytest

from planetmesh.agent.state import AgentNumbers, AgentState, Phase
from planetmesh.cli.up_lines import Host, agent_rows, coordinator_rows, panel, show_uptime
from planetmesh.coordinator.glance import Glance, NodeGlance, OpenCode
from planetmesh.model.node import NodeState, Sandbox

HOST = Host(
    mesh="home",
    endpoints=("192.168.1.5:7433", "10.0.0.5:7433"),
    fingerprint="d968 0684 af44 7e88",
    join_line="planetmesh up",
    has_agent=True,
    began=time.monotonic(),
)
CALM = Glance(nodes={"HEALTHY": 2, "SUSPECT": 0, "OFFLINE": 0}, running=0, running_here=0, waiting=0, jobs=0)
PLENTY = 2**40
HOSTILE = "\x1b]0;x\x07\u202e[red]evil\n字👩\u200d🚀" + "e\u0301\u0302\u0303" * 20 + "n" * 10_000


def text_of(rows, columns=80, lines=24):
    made = panel("planetmesh: coordinator of 'home'", HOST.began, rows, os.terminal_size((columns, lines)))
    return "\n".join(line.plain for line in made)


def test_a_calm_mesh_says_who_it_is_and_how_one_more_joins():
    said = text_of(coordinator_rows(HOST, CALM, PLENTY))
    for part in ("coordinator of 'home'", "2 HEALTHY", "there: planetmesh up", "here: planetmesh code",
                 "192.168.1.5:7433", "d968 0684 af44 7e88", "planetmesh run hostname"):  # fmt: skip
        assert part in said
    assert "!" not in said


def test_what_runs_is_counted_here_and_in_the_mesh():
    busy = Glance(nodes={"HEALTHY": 2}, running=40, running_here=12, waiting=120, jobs=3)
    said = text_of(coordinator_rows(HOST, busy, PLENTY))
    assert "40 tasks running (12 here)" in said
    assert "120 waiting" in said
    assert "3 jobs" in said


def test_an_open_code_shows_its_countdown_and_what_to_type_but_not_itself():
    glance = Glance(nodes={"HEALTHY": 1}, running=0, running_here=0, waiting=0, jobs=0,
                    codes=(OpenCode(7, "agent", 512.0, 4), OpenCode(3, "viewer", 61.0, 5)))  # fmt: skip
    said = text_of(coordinator_rows(HOST, glance, PLENTY), columns=100)
    assert "7-…  for a machine  8:32 left  4 attempts left  there: planetmesh up" in said
    assert "3-…  for one viewer  1:01 left  there: planetmesh login --role viewer" in said


def test_warnings_come_with_the_next_command():
    glance = Glance(
        nodes={"HEALTHY": 1, "OFFLINE": 4}, running=0, running_here=0, waiting=0, jobs=0,
        away=(*(NodeGlance(f"n{number}", NodeState.OFFLINE) for number in range(4)),
              NodeGlance("attic", NodeState.HEALTHY, "Its sandbox is not proven (`planetmesh doctor`).")),
        storage_error="disk full",
    )  # fmt: skip
    said = text_of(coordinator_rows(HOST, glance, 5 * 2**20), columns=100)
    assert "The coordinator cannot write: disk full  planetmesh doctor" in said
    assert "Only 5.0 MiB are free on this disk.  planetmesh doctor" in said
    assert "n0, n1, n2 and 1 more are OFFLINE.  planetmesh nodes" in said
    assert "attic: Its sandbox is not proven" in said


@pytest.mark.parametrize("lines", [3, 6, 10, 24])
@pytest.mark.parametrize("columns", [10, 40, 80, 200])
def test_it_fits_whatever_nodes_call_themselves(columns, lines):
    glance = Glance(
        nodes={"HEALTHY": 1, "OFFLINE": 1}, running=1, running_here=1, waiting=1, jobs=1,
        codes=(OpenCode(7, "agent", 512.0, 5),),
        away=(NodeGlance(HOSTILE, NodeState.OFFLINE), NodeGlance(HOSTILE, NodeState.HEALTHY, HOSTILE)),
        storage_error=HOSTILE,
    )  # fmt: skip
    size = os.terminal_size((columns, lines))
    made = panel("planetmesh: coordinator of 'home'", HOST.began, coordinator_rows(HOST, glance, 1), size)
    assert 1 <= len(made) <= max(2, lines - 4)
    said = "".join(line.plain for line in made)
    assert not [each for each in said if unicodedata.category(each) in {"Cc", "Cf", "Cs"}]


def test_on_ten_rows_the_first_warning_outlasts_the_address():
    glance = Glance(nodes={"HEALTHY": 1, "OFFLINE": 1}, running=0, running_here=0, waiting=0, jobs=0,
                    away=(NodeGlance("bunk", NodeState.OFFLINE),))  # fmt: skip
    said = text_of(coordinator_rows(HOST, glance, PLENTY), columns=40, lines=10)
    assert "bunk is OFFLINE." in said
    assert "add a node" in said
    assert "10.0.0.5" not in said


def test_ctrl_c_says_what_it_waits_for_instead_of_how_to_join():
    said = text_of(coordinator_rows(HOST, CALM, PLENTY, ending="Finishing 3 tasks; Ctrl-C again stops now."))
    assert "ending       Finishing 3 tasks; Ctrl-C again stops now." in said
    assert "add a node" not in said


def agent_text(state, numbers=None, **size):
    return text_of(agent_rows(state, "12:00:01", numbers, "d968 0684", "192.168.1.5:7433"), **size)


def test_an_agent_shows_its_link_and_what_it_has_in_hand():
    numbers = AgentNumbers(running=2, waiting=4, unsent=3, sandbox=Sandbox("landlock", proven=True))
    said = agent_text(AgentState(Phase.REGISTERED, endpoint="10.0.0.9:7433"), numbers)
    assert "connected  since 12:00:01" in said
    assert "2 running  4 sent ahead  3 reports to be sent" in said
    assert "10.0.0.9:7433" in said
    assert "not proven" not in said


def test_an_agent_that_lost_its_coordinator_says_since_when_why_and_what_to_do():
    lost = AgentState(Phase.LOST, "The link is lost.", "Is `planetmesh up` running there?",
                      reason="Nobody answers at 192.168.1.5:7433: Connection refused.")  # fmt: skip
    said = agent_text(lost, columns=100)
    assert "reconnecting  since 12:00:01" in said
    assert "why          Nobody answers at 192.168.1.5:7433: Connection refused." in said
    assert "! The link is lost. Is `planetmesh up` running there?  planetmesh doctor" in said
    assert "coordinator  192.168.1.5:7433" in said


def test_an_agent_warns_of_its_sandbox_its_clock_and_its_disk():
    numbers = AgentNumbers(sandbox=Sandbox("rlimits"), refuses="tasks are not kept from it",
                           clock_ahead_seconds=-400.0, disk_free_bytes=2**20)  # fmt: skip
    said = agent_text(AgentState(Phase.REGISTERED), numbers, columns=100, lines=40)
    assert "rlimits  not proven" in said
    assert "It takes no tasks: tasks are not kept from it  planetmesh doctor" in said
    assert "This clock is 400 seconds behind the coordinator's." in said
    assert "Only 1.0 MiB are free" in said


def test_an_agent_that_ends_says_how_many_tasks_it_waits_for():
    assert "Finishing 1 task; Ctrl-C again stops now." in agent_text(AgentState(Phase.DRAINING, running=1))
    assert "Stopping." in agent_text(AgentState(Phase.DRAINING))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(5, "just begun"), (125, "up 2 min"), (3 * 3600 + 720, "up 3 h 12 min"), (5 * 86400, "up 5 days")],
)
def test_the_uptime_does_not_change_each_second(seconds, said):
    assert show_uptime(seconds) == said


def test_this_machines_own_agent_is_starting_and_not_offline_at_first():
    early = msgspec.structs.replace(CALM, nodes={"HEALTHY": 0, "OFFLINE": 0}, is_starting=True)
    said = text_of(coordinator_rows(HOST, early, PLENTY))
    assert "nodes        this one is starting" in said
    assert "none yet" not in said
    among = msgspec.structs.replace(CALM, is_starting=True)
    assert "2 HEALTHY  this one is starting" in text_of(coordinator_rows(HOST, among, PLENTY))
