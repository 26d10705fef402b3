"""`doctor` on a home without a mesh, and what it makes of numbers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import msgspec
import pytest

from planetmesh import __version__
from planetmesh.cli import examination, mesh_checks
from planetmesh.cli.own_program import own_command, own_environment
from planetmesh.cli.part import Part, Role, write_part
from planetmesh.paths import Home
from planetmesh.wire.members import SelfView


@pytest.mark.slow
def test_without_a_mesh_nothing_fails_and_all_is_looked_at(tmp_path: Path):
    """In a process of its own: it forks to try the sandbox, which a process with threads must not."""
    home = tmp_path / "home"
    argv = [*own_command(), "--home", str(home), "doctor", "--json"]
    done = subprocess.run(argv, env=own_environment(), capture_output=True, check=False)
    assert done.returncode == 0, done
    findings = json.loads(done.stdout)
    checks = {finding["check"]: finding for finding in findings}
    wanted = {"home", "clock", "addresses", "multicast", "port", "certificate", "sandbox", "disk"}
    assert wanted <= set(checks)
    assert all(set(finding) == {"check", "status", "detail", "hint"} for finding in findings)
    assert "planetmesh up" in checks["home"]["hint"]
    assert not home.exists()


def test_a_home_that_others_can_use_fails(home: Home):
    home.prepare()
    home.root.chmod(0o755)
    (finding,) = examination._home(home)
    assert finding.status == "fail"
    assert "chmod" in finding.hint


def test_a_coordinator_that_does_not_run_is_said(home: Home):
    home.prepare()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        write_part(home, Part(role=Role.COORDINATOR, name="desk", port=port))
        assert examination._port(home)[0].status == "ok"
    (finding,) = examination._port(home)
    assert finding.status == "warn"
    assert "planetmesh up" in finding.hint


@pytest.mark.parametrize(
    ("apart", "status"), [(0.0, "ok"), (-20.0, "ok"), (40.0, "warn"), (-4000.0, "warn"), (2e5, "fail")]
)
def test_clocks_are_compared(apart: float, status: str):
    finding = mesh_checks.compare_clocks(apart)
    assert finding.status == status
    assert bool(finding.hint) == (status != "ok")


def test_a_clock_before_the_program_was_made_fails(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert examination._clock()[0].status == "fail"


def test_free_space_is_measured_where_the_folder_will_be(tmp_path: Path):
    finding = examination._free_space("state", tmp_path / "a" / "b")
    assert str(tmp_path) in finding.detail
    assert f"{tmp_path / 'a'}" not in finding.detail


def test_our_own_program_can_be_started_again():
    done = subprocess.run(
        [*own_command(), "--version"], env=own_environment(), cwd="/", capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"planetmesh ")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root's tasks are another's")
def test_a_python_that_tasks_cannot_read_is_said(tmp_path: Path):
    closed = tmp_path / "closed"
    (closed / "python").mkdir(parents=True)
    closed.chmod(0o700)
    (finding,) = examination._python([str(closed / "python")])
    assert finding.status == "warn"
    assert "everybody may read" in finding.hint
    assert examination._python(["/usr"])[0].status == "ok"


def test_an_agent_without_a_link_is_told_from_one_that_does_not_run(home: Home):
    home.prepare()
    seen = SelfView("1", "agent", "shelf", "desk", __version__, "", "")
    finding = mesh_checks._not_connected(home, seen)
    assert "does not run here" in finding.detail
    assert finding.hint == "Start `planetmesh up` here."
    with home.locked():
        finding = mesh_checks._not_connected(home, seen)
        assert "runs here, but the node 'shelf' has no link" in finding.detail
        assert "tries again" in finding.hint
    old = msgspec.structs.replace(seen, version="0.0.1")
    assert "one version" in mesh_checks._not_connected(home, old).hint
