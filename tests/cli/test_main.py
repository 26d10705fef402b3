"""The one door: where options may stand, how failures look, what start costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from planetmesh import __version__
from planetmesh.cli import failure
from planetmesh.cli.face import Face
from planetmesh.cli.main import COMMANDS, make_group, run, the_cause
from planetmesh.errors import NotFound


@pytest.mark.parametrize("line", [["--version"], ["jobs", "--version"], ["node", "drain", "--version"]])
def test_version_stands_anywhere(say, line) -> None:
    said = say(*line)
    assert (said.status, said.text) == (0, f"planetmesh {__version__}\n")


def test_json_and_home_stand_before_and_behind_the_command(say, tmp_path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for line in (
        ["--home", str(elsewhere), "--json", "status"],
        ["status", "--json", "--home", str(elsewhere)],
    ):
        said = say(*line)
        assert said.json["reachable"] is False
        assert str(elsewhere) in said.error


def test_options_behind_a_command_line_are_the_commands_own(say) -> None:
    said = say("run", "--dry-run", "--json", "tool", "--json", "--home", "x", "-q")
    assert said.json[0]["command"] == "tool --json --home x -q"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["jbos"], "There is no command 'jbos'. Did you mean 'jobs'?"),
        (["jobs", "--limt", "3"], "No such option"),
        (["jobs", "--limit", "many"], "many"),
        (["node", "drain"], "NAME"),
        (["wait"], "ID"),
    ],
)
def test_wrong_usage_is_two_lines_and_two(say, line, sentence) -> None:
    said = say(*line)
    assert said.status == 2
    assert said.out == b""
    assert said.error.startswith("error: ")
    assert sentence in said.error
    assert "\nhint: " in said.error
    error = say(*line, "--json").json["error"]
    assert error.keys() == {"code", "message", "hint"}
    assert error["code"] == "usage"


def test_no_identity_is_not_allowed(say) -> None:
    said = say("jobs")
    assert said.status == 4
    assert "planetmesh login" in said.error
    assert say("jobs", "--json").json["error"]["code"] == "not_allowed"


def test_a_crash_is_one_line_and_a_private_file(say, home, monkeypatch) -> None:
    def burst(*_: object) -> None:
        raise RuntimeError("\x1b[2Jboom")

    monkeypatch.setattr("planetmesh.client.async_client.load_identity", burst)
    said = say("jobs")
    assert said.status == 1
    assert "Traceback" not in said.error
    assert "\x1b" not in said.error
    (kept,) = home.logs.glob("crash-*.txt")
    assert str(kept) in said.error
    assert "Traceback" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0


def test_a_crash_without_a_home_is_kept_elsewhere(tmp_path) -> None:
    kept = failure.keep_traceback(ValueError("x"), Face(home_path=tmp_path / "no" / "home"))
    assert kept is not None
    assert kept.exists()
    kept.unlink()


def test_an_interrupt_is_130(say, monkeypatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("planetmesh.client.async_client.load_identity", interrupt)
    assert say("jobs").status == 130


def test_the_cause_of_a_group_is_our_own_sentence() -> None:
    ours = NotFound("gone")
    group = BaseExceptionGroup("", [ValueError(), ExceptionGroup("", [ours])])
    assert the_cause(group) is ours
    assert isinstance(the_cause(ExceptionGroup("", [ValueError()])), ValueError)


def test_a_closed_pipe_is_quiet() -> None:
    command = f"{sys.executable} -m planetmesh run --dry-run --range 1..20000 echo | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert done.stdout.split() == [b"TASK", b"COMMAND"]
    assert done.stderr == b""


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from planetmesh.cli.main import run; run(['--help']); "
        "heavy = {'aiohttp', 'rich', 'msgspec', 'cryptography', 'asyncio', 'zeroconf'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name, listed in COMMANDS.items():
        assert (name in done.stdout) != listed.hidden


def test_every_command_of_this_room_has_help_with_an_example(say) -> None:
    for name in ("status", "run", "submit", "jobs", "job", "wait", "logs", "cancel", "nodes", "node"):
        said = say(name, "--help")
        assert said.status == 0
        assert "Example" in said.text, name
        assert "Everywhere: --home DIR" in said.text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(say, shell, monkeypatch) -> None:
    assert "_PLANETMESH_COMPLETE" in say("completion", shell).text
    monkeypatch.setenv("_PLANETMESH_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "planetmesh no")
    monkeypatch.setenv("COMP_CWORD", "no" if shell == "fish" else "1")
    assert "nodes" in say().text


def test_the_group_lists_the_contract() -> None:
    wanted = {
        "up",
        "code",
        "login",
        "status",
        "run",
        "submit",
        "jobs",
        "job",
        "wait",
        "logs",
        "cancel",
        "nodes",
    }
    assert wanted <= set(make_group().list_commands(None))


def test_run_without_arguments_shows_help(capfd) -> None:
    assert run([]) == 0
    assert "Give work:" in capfd.readouterr().out


def test_json_errors_are_one_document(say) -> None:
    assert json.loads(say("--json", "jobs").out)["error"]["hint"]


def test_a_command_of_a_group_that_is_sought_at_the_top_is_named(say) -> None:
    said = say("drain", "attic")
    assert said.status == 2
    assert "'node drain'" in said.error
