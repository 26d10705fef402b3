"""Options of `run` and keys of `submit` for how a job's tasks are cut, when it runs and stops."""

from __future__ import annotations

import pytest
from api_double import Double

from planetmesh.model.job import AUTO_CHUNK, After, Condition


def submitted(say, double: Double, *arguments: str):
    """The spec as it reached the mesh."""
    double.hold = True
    said = say("run", "--detach", *arguments)
    assert said.status == 0, said.error
    return double.jobs[said.text.strip()].spec


def test_options_become_the_spec(say, double: Double) -> None:
    spec = submitted(
        say, double, "--chunk", "50", "--queue-timeout", "1h", "--task-timeout", "2h", "--max-failures", "10",
        "--no-duplicates", "x", ":::", "1",
    )  # fmt: skip
    assert (spec.chunk, spec.max_failures, spec.duplicates) == (50, 10, False)
    assert (spec.limits.queue_seconds, spec.limits.total_seconds) == (3600, 7200)
    assert submitted(say, double, "--chunk", "auto", "x", ":::", "1").chunk == AUTO_CHUNK
    usual = submitted(say, double, "x", ":::", "1")
    assert (usual.chunk, usual.max_failures, usual.duplicates, usual.after) == (1, None, True, ())


def test_jobs_to_wait_for_are_looked_up_before_the_submit(say, double: Double) -> None:
    submitted(say, double, "x")
    submitted(say, double, "y")
    first, second = list(double.jobs)
    spec = submitted(
        say, double, "--after", first, "--after-any", "last", "--after-any", second,
        "--after-failure", second, "z",
    )  # fmt: skip
    assert spec.after == (
        After(first, Condition.SUCCESS), After(second, Condition.FAILURE), After(second, Condition.END),
    )  # fmt: skip


def test_an_unknown_job_to_wait_for_hands_nothing_in(say, double: Double) -> None:
    said = say("run", "--detach", "--after", "nobody", "x")
    assert said.status == 5
    assert "no job nobody" in said.error
    assert not double.jobs


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--chunk", "5", "x"], "there are no inputs"),
        (["--chunk", "0", "x", ":::", "a"], "'0' is not a number of inputs"),
        (["--chunk", "100001", "x", ":::", "a"], "not a number of inputs"),
        (["--chunk", "-1", "x", ":::", "a"], "not a number of inputs"),
        (["--chunk", "many", "x", ":::", "a"], "Say 1 to 100000, or auto"),
        (["--chunk", "2", "cp {} {/.}", ":::", "a"], "for x in {}; do"),
        (["--chunk", "auto", "echo {//}", ":::", "a"], "for x in {}; do"),
        (["--chunk", "9", "--range", "1..1000000000000", "x"], "10 000 000"),
        (["--chunk", "100000", "--range", "1..1000000", "x", "a{}", "b{}"], "smaller --chunk"),
        (["--queue-timeout", "0", "x"], "not a length of time"),
        (["--task-timeout", "soon", "x"], "not a length of time"),
        (["--max-failures", "0", "x"], "--max-failures"),
        (["--after", "a"] * 65 + ["x"], "64 others at most"),
        (["--glob", "/nonexistent/*", "x"], "no file matches"),
    ],
)
def test_refused_before_anything_is_sent(say, arguments, sentence) -> None:
    """There is no mesh here at all: whatever looked for one would exit with 4."""
    said = say("run", *arguments)
    assert (said.status, said.out) == (2, b"")
    assert sentence in said.error


def test_dry_run_shows_fixed_chunks_as_they_are(say) -> None:
    said = say("run", "--dry-run", "--json", "--chunk", "2", "gzip", ":::", "a b", "c", "d")
    assert [task["command"] for task in said.json] == ["gzip 'a b' c", "gzip d"]
    said = say("run", "--dry-run", "--chunk", "2", "cat {} | wc", ":::", "a", "b", "c")
    assert "cat a b | wc" in said.text
    assert "2 tasks; nothing was sent" in said.error


def test_dry_run_says_who_cuts_automatic_chunks(say) -> None:
    said = say("run", "--dry-run", "--chunk", "auto", "gzip", ":::", "a", "b")
    assert "gzip a\n" in said.text
    assert "gzip b\n" in said.text
    assert "2 inputs; the scheduler puts several into one task" in said.error


def test_keys_of_a_job_file(say, double: Double, tmp_path) -> None:
    submitted(say, double, "x")
    (first,) = double.jobs
    (tmp_path / "b.png").touch()
    (tmp_path / "a.png").touch()
    job = tmp_path / "job.toml"
    job.write_text(
        'command = "optipng"\nglob = "*.png"\nchunk = 2\nqueue-timeout = "1h"\ntask-timeout = 90\n'
        'max-failures = 3\nduplicates = false\nafter = "last"\nafter-any = ["last"]\n'
    )
    spec = double.jobs[say("submit", str(job)).text.strip()].spec
    assert spec.inputs.items == ("a.png", "b.png")
    assert (spec.chunk, spec.max_failures, spec.duplicates) == (2, 3, False)
    assert (spec.limits.queue_seconds, spec.limits.total_seconds) == (3600, 90)
    assert spec.after == (After(first), After(first, Condition.END))
    job.write_text('command = "x"\ninputs = [1]\nchunk = "auto"\nglob = []\n')
    assert "'glob' is empty" in say("submit", str(job)).error
    job.write_text('command = "x"\ninputs = [1]\nchunk = "auto"\n')
    assert double.jobs[say("submit", str(job)).text.strip()].spec.chunk == AUTO_CHUNK


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("chunk = 0", "'0' is not a number of inputs"),
        ("chunk = true", "'chunk' must be a whole number or a text"),
        ("max-failures = 0", "at least 1"),
        ("duplicates = 1", "true or false"),
        ("after = 3", "'after' must be"),
        ("after-any = [[1]]", "'after-any' may hold"),
        ('after-al = "x"', "Did you mean 'after-any'?"),
    ],
)
def test_wrong_keys_are_refused(say, tmp_path, line: str, sentence: str) -> None:
    job = tmp_path / "job.toml"
    job.write_text(f'command = "x"\ninputs = ["a"]\n{line}\n')
    said = say("submit", str(job))
    assert said.status == 2
    assert sentence in said.error
