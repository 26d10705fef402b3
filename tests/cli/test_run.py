"""`planetmesh run` against a real TLS server: bytes, exit status, order, failures, interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from api_double import Does, Double

from planetmesh.client.async_client import AsyncMesh

IMPATIENT = """
import sys
from planetmesh.cli import follow, main
follow.PATIENT_SECONDS = 0.1
sys.exit(main.run())
"""
NOT_UTF8 = b"\x00\xff\xfe raw \x1b[31m\n"


def test_a_single_task_streams_exact_bytes_and_gives_its_own_status(say, double: Double) -> None:
    double.plan = lambda _spec, _index: Does(
        exit_code=7, outcome="exit_code", pieces=((1, NOT_UTF8), (2, b"oops\n"), (1, b"no newline"))
    )
    said = say("run", "tool", "--flag", "-x")
    assert said.status == 7
    assert said.out == NOT_UTF8 + b"no newline"
    assert said.error == "oops\n"
    (job,) = double.jobs.values()
    assert job.spec.payload == {"argv": ["tool", "--flag", "-x"]}
    assert job.spec.max_attempts == 1


@pytest.mark.parametrize(
    ("does", "status", "sentence"),
    [
        (Does(exit_code=137, outcome="signal"), 137, ""),
        (Does(exit_code=None, outcome="not_found", error="No program 'x' on desk."), 1, "No program 'x'"),
        (Does(exit_code=143, outcome="timed_out", error="Over 1 s."), 143, "Over 1 s."),
    ],
)
def test_ends_of_a_single_task(say, double: Double, does: Does, status: int, sentence: str) -> None:
    double.plan = lambda _spec, _index: does
    said = say("run", "x")
    assert said.status == status
    assert sentence in said.error


def test_many_tasks_keep_each_output_together(say, double: Double) -> None:
    double.plan = lambda spec, index: Does(
        pieces=((1, b"begin %d\n" % index), (1, b"end %d\n" % index)), seconds=0.01
    )
    said = say("run", "echo", ":::", *"abcdef")
    assert said.status == 0
    blocks = [said.text.splitlines()[place : place + 2] for place in range(0, 12, 2)]
    assert sorted(blocks) == [[f"begin {n}", f"end {n}"] for n in range(6)]


def test_keep_order_prints_by_input_whatever_ends_first(say, double: Double) -> None:
    double.order = [3, 1, 0, 2]
    double.plan = lambda spec, index: Does(pieces=((1, b"%d\n" % index),), seconds=0.05)
    assert say("run", "-k", "--range", "0..3", "echo").text == "0\n1\n2\n3\n"
    assert say("run", "--range", "0..3", "echo").text == "3\n1\n0\n2\n"


def test_only_the_last_try_of_a_task_of_many_is_shown(say, double: Double) -> None:
    double.plan = lambda spec, index: Does(first_fails=index == 0, pieces=((1, b"good %d\n" % index),))
    assert sorted(say("run", "x", ":::", "a", "b").text.splitlines()) == ["good 0", "good 1"]
    assert sorted(say("run", "-k", "x", ":::", "a", "b").text.splitlines()) == ["good 0", "good 1"]


def test_failures_are_listed_with_node_reason_and_next_command(say, double: Double) -> None:
    double.plan = lambda spec, index: Does(exit_code=3 if index == 1 else 0, outcome="exit_code")
    said = say("run", "x", ":::", "good.png", "bad.png")
    (job_id,) = double.jobs
    assert said.status == 1
    assert "1 of 2 tasks failed" in said.error
    assert f"{job_id}/1  bad.png  on desk: exit code 3" in said.error
    assert f"planetmesh logs {job_id}/INDEX" in said.error
    assert next(iter(double.jobs.values())).spec.max_attempts == 3


def test_many_failures_are_ten_short_lines_and_a_count(say, double: Double) -> None:
    double.plan = lambda _spec, _index: Does(exit_code=3, error="\x1b[31mno\n" + "x" * 10_000)
    said = say("run", "false", ":::", *(f"{number:04d}" + "y" * 5000 for number in range(25)))
    assert said.status == 1
    listed = [line for line in said.error.splitlines() if line.startswith("  ")]
    assert len(listed) == 11
    assert all(len(line) < 320 for line in listed)
    job = listed[0].split("/")[0].strip()
    assert listed[-1] == f"  … and 15 more: `planetmesh job {job} --tasks --failed`"
    assert "\x1b" not in said.error


@pytest.mark.parametrize("length", [256, 1000])
def test_an_input_too_long_for_a_files_name_is_a_text(say, double: Double, length: int) -> None:
    assert say("run", "echo", ":::", "x" * length).status == 0
    assert say("run", f"./{'x' * length}", "a").status == 0


def test_a_retry_of_a_single_task_is_told(say, double: Double, monkeypatch) -> None:
    monkeypatch.setattr("planetmesh.cli.follow.PATIENT_SECONDS", 0.05)
    double.plan = lambda spec, index: Does(first_fails=True, seconds=0.3, error="exit code 9")
    said = say("run", "--retries", "1", "x")
    assert said.status == 0
    assert "Attempt 1 did not succeed on desk: exit code 9; it will run again." in said.error


def test_json_is_one_object_a_line(say, double: Double) -> None:
    double.plan = lambda spec, index: Does(pieces=((1, b"text\n"), (2, b"\xff")))
    kinds = {}
    for line in say("run", "--json", "x", ":::", "a").lines:
        kinds.setdefault(line["kind"], []).append(line)
    assert [job["job"]["status"] for job in kinds["job"]][-1] == "COMPLETED"
    assert kinds["output"][0] | {"attempt": 1} == {
        "kind": "output", "index": 0, "attempt": 1, "stream": "stdout", "text": "text\n",
    }  # fmt: skip
    assert kinds["output"][1]["base64"] == "/w=="
    assert kinds["task"][0]["task"]["payload"] == "a"
    single = say("run", "--json", "x").lines
    assert [line["kind"] for line in single] == ["job", "output", "output", "task", "job"]


def test_detach_prints_the_id_alone(say, double: Double) -> None:
    double.hold = True
    said = say("run", "--detach", "--name", "big", "sleep", "9")
    assert said.text.strip() in double.jobs
    assert said.error == ""
    assert say("run", "--detach", "--json", "x").json["status"] == "QUEUED"


def test_options_become_the_spec(say, double: Double, monkeypatch) -> None:
    monkeypatch.setenv("FROM_HERE", "yes")
    double.hold = True
    said = say(
        "run", "--detach", "--cpus", "0.5", "--memory", "1g", "--gpus", "1", "--tag", "a", "--tag", "b",
        "--env", "A=1=2", "--env", "FROM_HERE", "--timeout", "10m", "--silence-timeout", "5s", "--retries",
        "4", "--priority", "-3", "-j", "2", "--partial", "--name", "n", "--node", "de", "x", "{}", ":::", "1",
    )  # fmt: skip
    spec = double.jobs[said.text.strip()].spec
    assert (spec.requests.cpu_millis, spec.requests.memory_bytes, spec.requests.gpus) == (500, 2**30, 1)
    assert spec.env == {"A": "1=2", "FROM_HERE": "yes"}
    assert (spec.limits.attempt_seconds, spec.limits.silence_seconds) == (600, 5)
    assert (spec.max_attempts, spec.priority, spec.max_running) == (5, -3, 2)
    assert (spec.tags, spec.name, spec.partial, spec.node) == (("a", "b"), "n", True, "ab" * 16)


def test_a_script_travels_along(say, double: Double, tmp_path) -> None:
    script = tmp_path / "job.py"
    script.write_text("print('hi')\n")
    double.hold = True
    said = say(
        "run", "--detach", "--script", str(script), "--interpreter", "python3 -u", "--", "-v", ":::", "a"
    )
    spec = double.jobs[said.text.strip()].spec
    assert spec.type == "script"
    assert spec.payload == {
        "source": "print('hi')\n", "args": ["-v"], "name": "job.py", "interpreter": ["python3", "-u"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["x", ":::"], "no inputs after ':::'"),
        ([":::", "a"], "no command"),
        ([], "no command"),
        (["--range", "1..1000000000000", "x"], "10 000 000"),
        (["--range", "5..1", "x"], "empty"),
        (["--range", "1..5:0", "x"], "step is zero"),
        (["--range", "one..two", "x"], "not a range"),
        (["--range", "1..2", "x", ":::", "a"], "one place only"),
        (["--lines", "/nonexistent", "x"], "cannot be read"),
        (["--cpus", "0", "x"], "not a number of CPUs"),
        (["--cpus", "nan", "x"], "not a number of CPUs"),
        (["--memory", "0", "x"], "not a size"),
        (["--timeout", "0", "x"], "not a length of time"),
        (["--timeout", "-1s", "x"], "not a length of time"),
        (["--env", "=x", "x"], "names no variable"),
        (["--at-most-once", "--retries", "1", "x"], "contradict"),
        (["--interpreter", "sh", "x"], "--script"),
        (["x", "::::", "file"], "not known"),
        (["x", "nul\0"], "NUL"),
        (["--retries", "-1", "x"], "retries"),
    ],
)
def test_refused_before_anything_is_sent(say, arguments, sentence) -> None:
    """There is no mesh here at all: whatever looked for one would exit with 4."""
    said = say("run", *arguments)
    assert said.status == 2
    assert sentence in said.error
    assert said.out == b""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mv", "{1}", "{2}", ":::", "a", ":::", "b"], "{1} is not replaced here"),
        (["--env", "HOME=/data", "x"], "own HOME"),
        (["--env", "PLANETMESH_TASK=1", "x"], "own PLANETMESH_TASK"),
        (["--retries", "100", "x"], "--retries"),
    ],
)
def test_what_would_not_be_done_as_it_was_said_is_refused(say, arguments, words: str) -> None:
    said = say("run", "--dry-run", *arguments)
    assert (said.status, said.out) == (2, b"")
    assert words in said.error


def test_a_brace_with_a_number_stays_what_it_is_where_it_can_mean_nothing_else(say) -> None:
    assert say("run", "--dry-run", "grep", "a{2}", ":::", "x").status == 0
    assert say("run", "--dry-run", "grep", "a{2}", "{}", ":::", "x", ":::", "y").status == 0


def test_dry_run_shows_tasks_and_sends_nothing(say) -> None:
    said = say("run", "--dry-run", "--json", "mv", "{}", "{.}.bak", ":::", "a b.txt", "c.txt")
    assert [task["command"] for task in said.json] == ["mv 'a b.txt' 'a b.bak'", "mv c.txt c.bak"]


def test_says_why_nothing_runs(say, double: Double, home) -> None:
    double.hold = True
    double.waiting = "No machine has the tag \x1b[31mgpu."
    with running("run", "--tag", "gpu", "x", home=home) as process:
        heard = read_until(process.stderr, b"Waiting", seconds=10)
        assert b"No machine has the tag" in heard
        assert b"\x1b" not in heard
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(10) == 130
    (job,) = double.jobs.values()
    assert job.cancelled == "interrupted by its user"
    assert f"Job {job.id} is cancelled".encode() in rest


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run x ::: a b", "wait last", "logs -f last"])
def test_whoever_waits_is_told_why_nothing_runs(say, double: Double, home, command: str) -> None:
    double.hold = True
    double.waiting = "No machine has the tag gpu."
    say("run", "--detach", "x", ":::", "a", "b")
    with running(*command.split(), home=home) as process:
        heard = read_until(process.stderr, b"Waiting", seconds=10)
        assert b"Waiting: No machine has the tag gpu." in heard
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def test_a_second_interrupt_leaves_at_once(double: Double, home) -> None:
    double.plan = lambda spec, index: Does(seconds=60, pieces=((1, b"started\n"),))
    with running("run", "x", home=home) as process:
        assert process.stdout.readline() == b"started\n"
        double.breaks = ["before"] * 1000
        process.send_signal(signal.SIGINT)
        read_until(process.stderr, b"Interrupted", seconds=5)
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130


@pytest.mark.slow
def test_a_job_whose_reader_went_away_is_stopped(double: Double, home) -> None:
    double.plan = lambda spec, index: Does(pieces=((1, b"y\n"),), seconds=0.1)
    with running("run", "yes", ":::", *map(str, range(200)), home=home) as process:
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.wait(10) == 141
        assert process.stderr.read() == b""
    (job,) = double.jobs.values()
    assert job.cancelled == "its output was no longer read"


def test_losing_the_mesh_for_good_says_that_the_job_goes_on(say, double: Double, monkeypatch) -> None:
    monkeypatch.setitem(AsyncMesh.__init__.__kwdefaults__, "patience_seconds", 0.1)
    monkeypatch.setattr("planetmesh.cli.face.FIND_SECONDS", 0.05)
    double.hold = True
    real = double._post_jobs

    async def post_then_break(request, *rest):
        double.breaks = ["before"] * 10_000
        return await real(request, *rest)

    monkeypatch.setattr(double, "_post_jobs", post_then_break)
    said = say("run", "x")
    (job,) = double.jobs.values()
    assert said.status == 3
    assert f"Job {job.id} goes on" in said.error


def running(*arguments: str, home) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", IMPATIENT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PLANETMESH_HOME": str(home.root)},
    )


def read_until(stream, word: bytes, seconds: float) -> bytes:
    until, heard = time.monotonic() + seconds, b""
    while word not in heard and time.monotonic() < until:
        heard += stream.readline()
    assert word in heard
    return heard
