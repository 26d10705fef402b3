"""`up`, `code` and `login` on a LAN of namespaces: found by mDNS, paired by a code, nothing guessed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lan import Lan
from meshes import Machine, free_port, join, wait_until

pytestmark = pytest.mark.system

MakeMachine = Callable[..., Machine]


@pytest.fixture
def alone(machine: MakeMachine) -> Machine:
    """A coordinator on loopback, without an agent."""
    desk = machine("desk")
    desk.up(
        "--new", "--no-mdns", "--no-agent", "--bind", "127.0.0.1", "--port", free_port(), "--name", "desk"
    )
    return desk


def port_of(coordinator: Machine) -> str:
    return next(each["port"] for each in coordinator.events if each.get("event") == "up")


def endpoint_of(coordinator: Machine) -> str:
    return f"127.0.0.1:{port_of(coordinator)}"


def mistyped(code: str) -> str:
    """Another code of the same slot that passes its own check."""
    from planetmesh.trust.codes import new_code

    slot = int(code.split("-", maxsplit=1)[0])
    while True:
        other = new_code(slot).text
        if other != code:
            return other


def test_a_lost_laptop_is_revoked_by_its_owners_name(alone: Machine, machine: MakeMachine) -> None:
    laptop = machine("laptop")
    code = alone.code("--role", "operator")["code"]
    where = ("--join", endpoint_of(alone), "--code-stdin")
    assert laptop.call("login", "--name", "anna on laptop", *where, stdin=code).status == 0
    assert laptop.call("status").status == 0
    assert "anna on laptop" in alone.call("people").out
    assert [each["name"] for each in alone.json("people")] == ["anna on laptop", "operator on desk"]
    own = laptop.call("people", "revoke", "anna on laptop")
    assert (own.status, "Let another operator" in own.error) == (2, True), own
    said = alone.call("people", "revoke", "anna on laptop")
    assert (said.status, "revoked and cut off" in said.error + said.out) == (0, True), said
    refused = laptop.call("nodes")
    assert (refused.status, "revoked" in refused.error) == (4, True), refused
    assert [each["name"] for each in alone.json("people")] == ["operator on desk"]
    assert alone.call("people", "revoke", "anna on laptop").status == 5
    row = next(each for each in alone.json("audit") if each["action"] == "revoke_member")
    assert row["detail"] == "anna on laptop"


@pytest.mark.slow
def test_three_machines_find_each_other_and_pair(lan: Lan, machine: MakeMachine) -> None:
    desk, shelf, attic = (
        machine(name, lan=lan, host=host)
        for name, host in zip(("desk", "shelf", "attic"), lan.hosts, strict=True)
    )
    desk.up("--name", "desk")
    assert "No mesh was heard" in desk.log
    for newcomer in (shelf, attic):
        code = desk.code()["code"]
        newcomer.up("--name", newcomer.home.name, code=code)
        wait_until(
            lambda name=newcomer.home.name: desk.nodes().get(name, {}).get("state") == "HEALTHY",
            60,
            lambda: desk.log,
        )
    nodes = desk.nodes()
    assert len(nodes) == 3
    assert {node["state"] for node in nodes.values()} == {"HEALTHY"}
    assert {"shelf", "attic"} <= set(nodes)


@pytest.mark.slow
def test_a_found_coordinator_without_a_terminal_needs_a_code(lan: Lan, machine: MakeMachine) -> None:
    desk, shelf = machine("desk", lan=lan, host="h1"), machine("shelf", lan=lan, host="h2")
    desk.up("--new", "--no-agent")
    said = shelf.call("up")
    assert said.status == 2
    assert "--code-stdin" in said.error
    assert not (shelf.home / "role.json").exists()


@pytest.mark.slow
def test_two_coordinators_are_shown_and_never_guessed_between(lan: Lan, machine: MakeMachine) -> None:
    for name, host in (("desk", "h1"), ("shelf", "h2")):
        machine(name, lan=lan, host=host).up("--new", "--no-agent")
    said = machine("attic", lan=lan, host="h3").call("up")
    assert said.status == 2
    assert lan.address("h1") in said.error
    assert lan.address("h2") in said.error
    assert "--join" in said.error


@pytest.mark.slow
def test_nothing_heard_with_a_code_founds_no_mesh(lan: Lan, machine: MakeMachine) -> None:
    shelf = machine("shelf", lan=lan, host="h2")
    said = shelf.call("up", "--code-stdin", stdin="3-5GF2-AEMQ-0")
    assert said.status == 3
    assert not (shelf.home / "authority").exists()


def test_join_by_address_and_go_on_without_a_question(alone: Machine, machine: MakeMachine) -> None:
    shelf = machine("shelf")
    join(alone, shelf, "--join", endpoint_of(alone), "--name", "shelf", "--no-mdns")
    assert alone.nodes()["shelf"]["state"] == "HEALTHY"
    assert shelf.stop() == 0
    shelf.up()
    wait_until(lambda: alone.nodes()["shelf"]["state"] == "HEALTHY", 60, lambda: shelf.log)


def test_a_coordinator_goes_on_as_itself(alone: Machine) -> None:
    first = alone.json("status")["mesh_id"]
    assert alone.stop() == 0
    alone.up()
    assert alone.json("status")["mesh_id"] == first


def test_a_wrong_code_is_refused_in_words(alone: Machine, machine: MakeMachine) -> None:
    code = alone.code()["code"]
    shelf = machine("shelf")
    said = shelf.call("up", "--join", endpoint_of(alone), "--code-stdin", stdin=mistyped(code))
    assert said.status == 4
    assert "did not match" in said.error
    assert "hint:" in said.error
    assert not (shelf.home / "agent").exists()


def test_a_code_with_a_typing_error_never_leaves_the_machine(alone: Machine, machine: MakeMachine) -> None:
    code = alone.code()["code"]
    shelf = machine("shelf")
    for wrong in (code[:-1] + ("1" if code[-1] == "0" else "0"), "hello", ""):
        said = shelf.call("up", "--join", endpoint_of(alone), "--code-stdin", stdin=wrong)
        assert said.status == 2


def test_a_used_code_is_refused(alone: Machine, machine: MakeMachine) -> None:
    code = alone.code()["code"]
    machine("shelf").up("--join", endpoint_of(alone), code=code)
    said = machine("attic").call("up", "--join", endpoint_of(alone), "--code-stdin", stdin=code)
    assert said.status == 4


def test_a_code_for_another_role_is_refused(alone: Machine, machine: MakeMachine) -> None:
    code = alone.code("--role", "viewer")["code"]
    said = machine("shelf").call("up", "--join", endpoint_of(alone), "--code-stdin", stdin=code)
    assert said.status == 4
    assert "role" in said.error


def test_a_code_is_burned_by_five_wrong_tries(alone: Machine, machine: MakeMachine) -> None:
    code = alone.code()["code"]
    shelf = machine("shelf")
    for _ in range(5):
        said = shelf.call("up", "--join", endpoint_of(alone), "--code-stdin", stdin=mistyped(code))
        assert said.status == 4
    said = shelf.call("up", "--join", endpoint_of(alone), "--code-stdin", stdin=code)
    assert said.status == 4


@pytest.mark.slow
def test_an_expired_code_is_refused(alone: Machine, machine: MakeMachine) -> None:
    code = alone.code("--ttl", "30s")["code"]
    time.sleep(31)
    said = machine("shelf").call("up", "--join", endpoint_of(alone), "--code-stdin", stdin=code)
    assert said.status == 4


def test_a_wrong_address_is_said_plainly(machine: MakeMachine) -> None:
    where = f"127.0.0.1:{free_port()}"
    said = machine("shelf").call("up", "--join", where, "--code-stdin", stdin="3-5GF2-AEMQ-0")
    assert said.status == 3
    assert "hint:" in said.error
    said = machine("shelf").call("up", "--join", "http://nowhere", "--code-stdin", stdin="3-5GF2-AEMQ-0")
    assert said.status == 2


def test_login_makes_a_viewer(alone: Machine, machine: MakeMachine) -> None:
    code = alone.code("--role", "viewer")["code"]
    person = machine("person")
    said = person.call("login", "--role", "viewer", "--join", endpoint_of(alone), "--code-stdin", stdin=code)
    assert said.status == 0, said.error
    assert person.json("status")["role"] == "viewer"
    assert person.call("code").status == 4
    again = person.call("login", "--join", endpoint_of(alone), "--code-stdin", stdin=code)
    assert again.status == 2


def test_a_second_up_on_the_same_home_is_refused(alone: Machine) -> None:
    said = alone.call("up")
    assert said.status == 2
    assert "already running" in said.error


def test_a_taken_port_is_said_before_a_mesh_is_made(machine: MakeMachine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        desk = machine("desk")
        said = desk.call("up", "--new", "--no-mdns", "--bind", "127.0.0.1", "--port", port)
    assert said.status == 2
    assert port in said.error
    assert "--port" in said.error
    assert not (desk.home / "authority").exists()


def test_a_home_that_others_can_look_into_is_refused(alone: Machine, machine: MakeMachine) -> None:
    open_home = machine("open")
    open_home.home.mkdir(mode=0o755)
    open_home.home.chmod(0o755)
    said = open_home.call("up", "--new")
    assert said.status == 2
    assert "chmod" in said.error
    alone.stop()
    (alone.home / "authority" / "key.pem").chmod(0o644)
    said = alone.call("up")
    assert said.status == 2
    assert "key.pem" in said.error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_home_that_cannot_be_written_is_refused(machine: MakeMachine) -> None:
    locked = machine("locked")
    locked.home.mkdir(mode=0o500)
    assert locked.call("up", "--new").status == 2


def test_a_home_below_a_file_is_refused(machine: MakeMachine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = machine("file").call("--home", str(tmp_path / "file" / "home"), "up", "--new")
    assert said.status == 2
    assert "--home" in said.error


def test_a_bad_settings_file_names_the_key(alone: Machine) -> None:
    alone.stop()
    (alone.home / "settings.json").write_text('{"heartbeat_seconds": "often"}')
    said = alone.call("up")
    assert said.status == 2
    assert "heartbeat_seconds" in said.error


def test_a_member_never_changes_sides(alone: Machine, machine: MakeMachine) -> None:
    shelf = machine("shelf")
    join(alone, shelf, "--join", endpoint_of(alone))
    shelf.stop()
    assert shelf.call("up", "--new").status == 2
    endpoint = endpoint_of(alone)
    alone.stop()
    said = alone.call("up", "--join", endpoint, "--code-stdin", stdin="3-5GF2-AEMQ-0")
    assert said.status == 2


@pytest.mark.slow
def test_the_local_agent_dies_with_up(machine: MakeMachine) -> None:
    import psutil

    desk = machine("desk")
    desk.up("--new", "--no-mdns", "--bind", "127.0.0.1", "--port", "0")
    wait_until(
        lambda: any(node["state"] == "HEALTHY" for node in desk.nodes().values()), 60, lambda: desk.log
    )
    assert desk.process is not None
    below = psutil.Process(desk.process.pid).children(recursive=True)
    assert below
    desk.kill()
    _, alive = psutil.wait_procs(below, timeout=60)
    assert not alive, alive
