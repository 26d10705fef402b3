"""`planetmesh results` against a real coordinator whose tasks do what a test says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "coordinator"))

from api_world import World

from planetmesh.cli import results as room
from planetmesh.cli.results import missing_sentence
from planetmesh.client.sync_client import Mesh
from planetmesh.errors import NotFound
from planetmesh.model.ids import JobId
from planetmesh.model.job import Outcome, TaskState
from planetmesh.wire.api import JobView, Parse, TaskCounts

RAW = bytes(range(256))
KEYS = {
    "index", "input", "inputs", "status", "exit_code", "node", "attempts", "seconds", "error",
    "value", "encoding", "is_cut", "dropped_bytes",
}  # fmt: skip


class Hands:
    """Stands for a node's agent."""

    def __init__(self, real, folder: Path) -> None:
        self._real = real
        self._world = World(folder)
        self._world.engine = real.engine
        real.call(self._world.add_node(cpus=64))

    def end(
        self, job_id: str, index: int, stdout: bytes = b"", outcome: Outcome = Outcome.OK, dropped: int = 0
    ) -> None:
        if stdout:
            self._real.call(self._world.write(JobId(job_id), index, stdout))
        written = len(stdout) + dropped
        self._real.call(self._world.finish(JobId(job_id), index, outcome, stdout_bytes=written))


@pytest.fixture
def hands(coordinator, tmp_path: Path) -> Hands:
    return Hands(coordinator, tmp_path)


@pytest.fixture
def mixed(say, hands: Hands) -> str:
    """A job of four: b"zero\\n", all bytes, nothing, FAILED."""
    job_id = say("run", "--detach", "--retries", "0", "x", ":::", "a", "b", "c", "d").text.strip()
    for index, stdout in enumerate((b"zero\n", RAW, b"")):
        hands.end(job_id, index, stdout)
    hands.end(job_id, 3, b"broken", Outcome.EXIT_CODE)
    return job_id


@pytest.fixture
def good(say, hands: Hands) -> str:
    """A job of two that completed."""
    job_id = say("run", "--detach", "--name", "good", "x", ":::", "a", "b").text.strip()
    hands.end(job_id, 1, b"[2]\n")
    hands.end(job_id, 0, b"one\x1b[31m\x7f\n")
    return job_id


def test_text_is_what_completed_tasks_wrote(say, mixed: str) -> None:
    said = say("results", "last")
    assert (said.status, said.out) == (1, b"zero\n" + RAW)
    assert said.error == f"warning: Of 4 tasks 1 failed (`planetmesh logs {mixed}/3`).\n"
    assert say("results", mixed[:5], "-q").out == b"zero\n" + RAW
    assert say("results", "zzzzz").status == 5


def test_a_job_that_completed_is_0(say, good: str) -> None:
    for more in ((), ("--json",), ("--form", "codes"), ("--failed",)):
        said = say("results", "good", *more)
        assert said.status == 0, more
        assert "warning" not in said.error


def test_json_is_one_array(say, mixed: str) -> None:
    said = say("results", mixed, "--json")
    assert said.status == 1
    assert said.out.isascii()
    assert [set(each) for each in said.json] == [KEYS] * 4
    assert [each["value"] for each in said.json][::2] == ["zero\n", ""]
    assert [each["encoding"] for each in said.json] == ["text", "base64", "text", None]
    assert [each["exit_code"] for each in said.json] == [0, 0, 0, 3]
    assert say("results", mixed, "--form", "json").json == said.json
    (failed,) = say("results", mixed, "--json", "--failed").json
    assert (failed["index"], failed["input"], failed["value"]) == (3, "d", None)
    codes = say("results", mixed, "--json", "--form", "codes").json
    assert codes == [{k: v for k, v in each.items() if k in codes[0]} for each in said.json]
    assert "value" not in codes[0]


def test_outputs_are_read_as_json_if_asked(say, good: str) -> None:
    said = say("results", good, "--parse", "json")
    assert [each["value"] for each in said.json] == ["one\x1b[31m\x7f\n", [2]]
    assert "\x7f" not in said.text
    assert said.error == "warning: 1 output was not read as JSON; `encoding` says which.\n"


def test_what_was_not_kept_is_said_and_is_not_success(say, hands: Hands, monkeypatch) -> None:
    """The agent sends no more than the bound; how much the task wrote it says at the end."""
    job_id = say("run", "--detach", "x", ":::", "a", "b", "c").text.strip()
    for index, dropped in enumerate((5_000_000, 0, 1)):
        hands.end(job_id, index, b"x" * 2048, dropped=dropped)
    said = say("results", job_id)
    assert (said.status, len(said.out)) == (1, 3 * 2048)
    assert "Not all that 2 tasks (0 (2.0 KiB), 2 (2.0 KiB)) wrote to stdout was kept" in said.error
    assert "planetmesh settings output_most_bytes=" in said.error
    said = say("results", job_id, "--json")
    assert said.status == 1
    assert [(each["is_cut"], each["dropped_bytes"]) for each in said.json] == [
        (True, 5_000_000),
        (False, 0),
        (True, 1),
    ]
    assert "Not all that 2 tasks (0, 2) wrote" in said.error
    assert say("results", job_id, "--form", "codes").status == 0
    monkeypatch.setattr(room, "SHORT_NAMED", 1)
    assert "2 tasks (0 (2.0 KiB), …)" in say("results", job_id).error


def test_codes_are_a_table_with_its_sums(say, mixed: str) -> None:
    table, _, sums = say("results", mixed, "--form", "codes").text.partition("\n\n")
    heads, *rows = [line.split() for line in table.splitlines()]
    assert heads == ["TASK", "STATUS", "EXIT", "NODE", "ATTEMPTS", "TIME", "INPUT", "ERROR"]
    assert [row[:4] for row in rows[2:]] == [["2", "COMPLETED", "0", "desk"], ["3", "FAILED", "3", "desk"]]
    assert [line.split() for line in sums.splitlines()] == [
        ["STATUS", "EXIT", "TASKS"],
        ["COMPLETED", "0", "3"],
        ["FAILED", "3", "1"],
    ]
    assert say("results", mixed, "--failed", "-q").text == f"{mixed}/3\n"
    assert say("results", mixed, "--failed").text.splitlines()[1].split()[:3] == ["3", "FAILED", "3"]


def test_a_long_table_has_one_head_in_a_pipe(say, mixed: str, monkeypatch) -> None:
    whole = say("results", mixed, "--form", "codes").text
    monkeypatch.setattr(room, "BLOCK_ROWS", 1)
    lines = say("results", mixed, "--form", "codes").text.splitlines()
    assert [line.split() for line in lines] == [line.split() for line in whole.splitlines()]


def test_what_is_missing_of_a_job_that_goes_on(say, hands: Hands) -> None:
    job_id = say("run", "--detach", "--retries", "0", "x", ":::", *"abcdef").text.strip()
    said = say("results", job_id, "--form", "codes")
    assert (said.status, said.out) == (1, b"")
    assert "No task has ended yet." in said.error
    assert say("results", job_id, "--json").json == []
    assert say("results", job_id).out == b""
    hands.end(job_id, 4, b"four")
    hands.end(job_id, 0, outcome=Outcome.EXIT_CODE)
    said = say("results", job_id)
    assert (said.status, said.out) == (1, b"four")
    assert "Of 6 tasks 1 failed and 4 have not ended yet" in said.error
    assert f"`planetmesh wait {job_id}`" in said.error


def test_a_cancelled_job_that_never_ran(say, coordinator) -> None:
    say("run", "--detach", "--range", "1..3", "x")
    say("cancel", "last")
    said = say("results", "last", "--json")
    assert (said.status, [each["status"] for each in said.json]) == (1, ["CANCELLED"] * 3)
    assert "Of 3 tasks 3 were cancelled." in said.error
    assert say("results", "last").out == b""


def test_a_file_is_written_whole_and_never_over_another(say, mixed: str, good: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / "all.txt"
    said = say("results", mixed, "-o", str(target))
    assert (said.status, said.out, target.read_bytes()) == (1, b"", b"zero\n" + RAW)
    assert str(target) in said.error
    for more in ((), ("--json",), ("--form", "codes")):
        said = say("results", good, "-o", str(target), *more)
        assert said.status == 2
        assert "exists already" in said.error or said.json["error"]["code"] == "conflict"
    assert target.read_bytes() == b"zero\n" + RAW
    assert say("results", good, "--json", "-o", str(target), "--overwrite").status == 0
    assert [each["index"] for each in json.loads(target.read_bytes())] == [0, 1]
    assert say("results", good, "--form", "codes", "-q", "-o", str(folder / "table")).status == 0
    assert (folder / "table").read_text().split()[0] == "TASK"
    assert say("results", "zzzzz", "-o", str(folder / "never")).status == 5
    assert say("results", good, "-o", str(folder)).status == 2
    assert say("results", good, "-o", "/dev/null", "--overwrite").status == 2
    assert say("results", good, "-o", str(folder / "no" / "where")).status == 2
    assert sorted(path.name for path in folder.iterdir()) == ["all.txt", "table"]


@pytest.mark.parametrize(
    "line",
    [
        ("--form", "xml"),
        ("--form", "text", "--failed"),
        ("--form", "text", "--json"),
        ("--form", "codes", "--parse", "json"),
        ("--form", "text", "--parse", "json"),
        ("--overwrite",),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(say, line: tuple[str, ...]) -> None:
    assert say("results", "last", *line).status == 2


def on_terminal(home: Path, *arguments: str) -> bytes:
    """What a terminal is sent."""
    import pty  # not everywhere

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "planetmesh", "results", *arguments],
        stdout=follower,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PLANETMESH_HOME": str(home)},
    )
    os.close(follower)
    shown = b""
    try:
        while piece := os.read(leader, 65536):
            shown += piece
    except OSError:  # so Linux says that the other end was closed
        pass
    finally:
        os.close(leader)
        process.wait(20)
    return shown


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="another end of file on other terminals")
def test_a_terminal_gets_nothing_that_it_would_obey(home, good: str) -> None:
    shown = on_terminal(home.root, good)
    assert shown == "one\ufffd[31m\ufffd\r\n[2]\r\n".encode()
    assert on_terminal(home.root, good, "--raw") == b"one\x1b[31m\x7f\r\n[2]\r\n"
    assert b"\x1b[31m" not in on_terminal(home.root, good, "--json")


@pytest.mark.slow
def test_a_closed_pipe_ends_it_quietly(say, hands: Hands, home) -> None:
    say("run", "--detach", "--range", "1..40", "x")
    job_id = say("jobs", "-q").text.split()[0]
    for index in range(40):
        hands.end(job_id, index, b"line\n" * 20_000)
    for form in ("text", "json", "codes"):
        command = f"{sys.executable} -m planetmesh results last --form {form} | head -c 10"
        environment = {**os.environ, "PLANETMESH_HOME": str(home.root)}
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, env=environment)
        assert (len(done.stdout), done.stderr) == (10, b""), form


def test_the_sentence_on_what_is_missing() -> None:
    def said(completed: int, failed: int, cancelled: int, live: int, first: int | None = None) -> str:
        total = completed + failed + cancelled + live
        counts = TaskCounts(total, live, 0, 0, 0, completed, failed, cancelled)
        view = JobView(
            id=JobId("abc"), name="", type="command", status="RUNNING", priority=0, submitter="me",
            created_at="", started_at=None, completed_at=None, tasks=counts,
        )  # fmt: skip
        return missing_sentence(view, first)

    assert said(5, 0, 0, 0) == ""
    assert said(0, 0, 1, 0) == "Of 1 task 1 was cancelled."
    assert said(1, 2, 3, 1, 4) == (
        "Of 7 tasks 2 failed, 3 were cancelled and 1 has not ended yet "
        "(`planetmesh logs abc/4`, `planetmesh wait abc`)."
    )


def test_programs_get_results_too(home, good: str) -> None:
    with Mesh(home.root) as mesh:
        job = mesh.handle("good")
        assert b"".join(job.text()) == b"one\x1b[31m\x7f\n[2]\n"
        assert [(code.index, code.exit_code) for code in job.codes()] == [(0, 0), (1, 0)]
        assert [result.value for result in job.results(parse=Parse.JSON)] == ["one\x1b[31m\x7f\n", [2]]
        assert [result.index for result in mesh.results("last", start=1)] == [1]
        assert list(job.codes(status=TaskState.FAILED)) == []
        with pytest.raises(NotFound):
            list(mesh.text("zzzzz"))
