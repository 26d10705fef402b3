"""`planetmesh dashboard` where it cannot be shown, and what it says before it serves browsers."""

from __future__ import annotations

import io
import socket
import subprocess
import sys


def test_without_a_terminal_it_says_what_programs_use(say) -> None:
    said = say("dashboard")
    assert said.status == 2
    assert "needs a terminal" in said.error
    assert "status --json" in said.error
    assert say("dashboard", "--json").json["error"]["code"] == "bad_input"


def test_textual_is_loaded_by_no_other_command() -> None:
    script = (
        "import sys; from planetmesh.cli.main import run; run(['dashboard', '--help']); "
        "sys.exit('textual' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0
    assert "Keys: ? shows all of them" in done.stdout


def test_what_belongs_to_the_web_says_so(say) -> None:
    for options in (("--web-port", "8433"), ("--no-open",)):
        said = say("dashboard", *options)
        assert said.status == 2
        assert "Add --web." in said.error
    assert say("dashboard", "--web", "--web-port", "70000").status == 2


def test_without_a_mesh_nothing_is_served(say, monkeypatch) -> None:
    monkeypatch.setenv("TEXTUAL_COLOR_SYSTEM", "truecolor")  # put back after what the command sets
    said = say("dashboard", "--web")
    assert said.status == 4
    assert said.out == b""
    assert "planetmesh up" in said.error


def test_a_port_that_is_taken_is_named(say, coordinator: None, monkeypatch) -> None:
    monkeypatch.setenv("TEXTUAL_COLOR_SYSTEM", "truecolor")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = say("dashboard", "--web", "--web-port", str(port))
    assert said.status == 2
    assert said.out == b""
    assert f"Port {port} cannot be opened: Address already in use.\n" in said.error
    assert "Without --web-port" in said.error


def test_a_browser_is_started_only_in_front_of_who_asked(monkeypatch) -> None:
    from planetmesh.cli.dashboard_web import has_desktop

    seat = {"DISPLAY": ":0"}
    assert not has_desktop("linux", seat.get)  # tests have no terminal
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("sys.stdout", Terminal())
    assert has_desktop("linux", seat.get)
    assert has_desktop("linux", {"WAYLAND_DISPLAY": "wayland-0"}.get)
    assert has_desktop("darwin", {}.get)
    assert not has_desktop("linux", {}.get)
    assert not has_desktop("linux", {"DISPLAY": "localhost:10", "SSH_CONNECTION": "x"}.get)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
