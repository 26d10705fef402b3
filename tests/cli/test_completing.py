"""What a Tab offers: in a real bash, and as zsh and fish are told it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from api_double import Double
from click.shell_completion import ShellComplete
from terminal import Terminal

from planetmesh.cli.face import Face
from planetmesh.cli.main import make_group
from planetmesh.paths import Home

NASTY = ("$(touch pwned)", "a b", "`id`", "x;y", "-rf", "*", "[red]", "a\nb", "\x1b[31m")


def offered(home: Home, *typed: str, incomplete: str = "") -> dict[str, str]:
    """The words, with what is said about each."""
    completion = ShellComplete(make_group(), {"obj": Face(home.root)}, "planetmesh", "_X")
    return {item.value: item.help or "" for item in completion.get_completions(list(typed), incomplete)}


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """For tests on a busy machine; a shell's own process has its second."""
    monkeypatch.setattr("planetmesh.cli.completing.PATIENT_SECONDS", 30.0)


@pytest.fixture
def job(say, double: Double) -> str:
    return say("run", "--detach", "--name", "render", "true").text.strip()


@pytest.mark.parametrize(
    "command",
    [("job",), ("logs",), ("results",), ("fetch",), ("retry",), ("wait",), ("cancel",), ("explain",),
     ("pause",), ("resume",), ("edit",), ("run", "--after"), ("run", "--after-any"),
     ("edit", "x", "--after")],
    ids=" ".join,
)  # fmt: skip
def test_jobs_by_id_by_name_and_last(home: Home, double: Double, job: str, command):
    found = offered(home, *command)
    assert {"last", "render", job} <= found.keys()
    assert "render" in found[job]
    assert list(offered(home, *command, incomplete=job[:4])) == [job]
    assert list(offered(home, *command, incomplete="la")) == ["last"]


@pytest.mark.parametrize(
    "command", [("node", "drain"), ("node", "tag"), ("run", "--node"), ("submit", "--node"), ("explain",)],
    ids=" ".join,
)  # fmt: skip
def test_machines_by_name(home: Home, double: Double, command):
    assert "HEALTHY" in offered(home, *command, incomplete="d")["desk"]


def test_tags(home: Home, double: Double):
    assert "fast" in offered(home, "run", "--tag")
    assert "fast" in offered(home, "node", "tag", "desk")


@pytest.mark.parametrize("name", NASTY)
def test_a_name_that_a_shell_would_read_is_never_offered(home: Home, double: Double, say, name: str):
    double.node = msgspec.structs.replace(double.node, name=name, tags=(name,))
    say("run", "--detach", "--name", name, "true")
    for command in (("explain",), ("job",), ("node", "drain"), ("run", "--tag"), ("run", "--node")):
        found = offered(home, *command)
        assert name not in found
        assert not any("\x1b" in about or "\n" in about for about in found.values())
    # By its id instead.
    assert double.node.id[:12] in offered(home, "node", "drain")


def test_files_and_folders_are_the_shells_business(home: Home):
    completion = ShellComplete(make_group(), {"obj": Face(home.root)}, "planetmesh", "_X")
    kinds = {
        (): "file", ("--script",): "file", ("--in",): "file", ("-o",): "dir",
    }  # fmt: skip
    for typed, kind in kinds.items():
        assert [each.type for each in completion.get_completions(["run", *typed], "x")] == [kind]


def test_options_complete_also_those_that_stand_everywhere(home: Home):
    assert {"--json", "--limit", "--mine", "--watch"} <= offered(home, "jobs", incomplete="--").keys()
    assert "--home" in offered(home, "node", "drain", incomplete="--")
    assert set(offered(home, incomplete="to")) == {"top"}


def surroundings(folder: Path, home: Home) -> dict[str, str]:
    """Environment in which `planetmesh` is this one."""
    program = folder / "planetmesh"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m planetmesh "$@"\n')
    program.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PLANETMESH_HOME": str(home.root), "HOME": str(folder)}


class Bash:
    """A bash that has our completion."""

    def __init__(self, folder: Path, home: Home) -> None:
        self._env = surroundings(folder, home)

    def offers(self, *words: str) -> list[str]:
        """What it would put there for the last of the words; nothing may be said on stderr."""
        script = 'eval "$(planetmesh completion bash)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        script += '_planetmesh_completion planetmesh; printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(
            ["bash", "--norc", "-c", script, "bash", "planetmesh", *words],
            env=self._env, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout.split()

    def offers_some(self, *words: str) -> list[str]:
        """The same from the mesh, which has a second to answer: a busy machine may need another try."""
        for _ in range(20):
            if found := self.offers(*words):
                return found
        raise AssertionError(f"nothing is offered for {words}")


@pytest.fixture
def bash(tmp_path: Path, home: Home) -> Bash:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    return Bash(tmp_path, home)


@pytest.mark.slow
def test_a_real_bash_completes(bash: Bash, double: Double, job: str):
    assert bash.offers("canc") == ["cancel"]
    assert "--watch" in bash.offers("jobs", "--w")
    assert bash.offers_some("job", "") == ["last", "render", job]
    assert bash.offers_some("node", "drain", "d") == ["desk"]


@pytest.mark.slow
def test_without_a_mesh_a_tab_is_silent(bash: Bash):
    assert bash.offers("job", "") == []
    assert bash.offers("nonsense", "x") == []


@pytest.mark.slow
def test_a_coordinator_that_is_away_is_not_waited_for(bash: Bash, double: Double, say, home: Home):
    double.port, port = 1, double.port
    identity = home.operator / "mesh.json"
    identity.write_bytes(identity.read_bytes().replace(str(port).encode(), b"9"))
    assert bash.offers("job", "") == []


@pytest.mark.parametrize(("shell", "words"), [("zsh", 3), ("fish", 1)])
def test_what_other_shells_are_told(say, double: Double, job: str, monkeypatch, shell: str, words: int):
    monkeypatch.setenv("_PLANETMESH_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "planetmesh job ")
    monkeypatch.setenv("COMP_CWORD", "2" if shell == "zsh" else "")
    said = say()
    assert said.status == 0
    assert job in said.text
    assert "render" in said.text
    assert len(said.text.splitlines()) % words == 0
    assert said.error == ""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh here")
def test_a_real_zsh_completes_also_where_nothing_else_began_its_completion(
    tmp_path: Path, home: Home, double: Double, job: str
):
    (tmp_path / ".zshrc").write_text("PS1='> '\nunsetopt prompt_sp\neval \"$(planetmesh completion zsh)\"\n")
    env = {**surroundings(tmp_path, home), "ZDOTDIR": str(tmp_path), "TERM": "dumb"}
    with Terminal([shutil.which("zsh") or "", "-o", "noglobalrcs", "-i"], env) as zsh:
        zsh.until(lambda text: text.endswith(">"))
        zsh.type("planetmesh canc\t")
        zsh.until(lambda text: "planetmesh cancel" in text)
        for _ in range(10):  # the mesh has a second to answer, on a busy machine too
            zsh.type("ren\t")
            with suppress(AssertionError):
                zsh.until(lambda text: "cancel render" in text, seconds=3.0)
                break
            zsh.type("\x7f\x7f\x7f")
        assert "planetmesh cancel render" in zsh.screen.text
        assert "not found" not in zsh.screen.text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish here")
def test_a_real_fish_completes(tmp_path: Path, home: Home, double: Double, job: str):
    def offers(typed: str) -> dict[str, str]:
        script = f"planetmesh completion fish | source; complete -C '{typed}'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", script], env=surroundings(tmp_path, home), capture_output=True,
            text=True, timeout=60, check=True,
        )  # fmt: skip
        assert done.stderr == ""
        return dict(line.partition("\t")[::2] for line in done.stdout.splitlines())

    assert list(offers("planetmesh canc")) == ["cancel"]
    # Also what stands behind a comma.
    assert offers("planetmesh jobs --w")["--watch"].startswith("Show it again as it changes, until")
    for _ in range(20):
        if found := offers("planetmesh job "):
            break
    assert {"last", "render", job} <= found.keys()
    assert "render" in found[job]
