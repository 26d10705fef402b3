"""`run` and `submit` take files along: which, under what names, and what is said of them."""

from __future__ import annotations

import sys

import pytest
from api_double import Double
from blob_double import digest_of

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="names that Windows cannot have")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder that the user is in."""
    folder = tmp_path / "here"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"A")
    (folder / "sub/b.png").write_bytes(b"BB")
    (folder / "data").mkdir()
    (folder / "data/table.csv").write_bytes(b"1,2\n")
    (folder / "convert.sh").write_text('#!/bin/sh\ncat "$1"\n')
    monkeypatch.chdir(folder)
    return folder


def spec_of(double: Double):
    return list(double.jobs.values())[-1].spec


def test_inputs_that_are_files_go_to_their_tasks(say, double: Double, here) -> None:
    said = say("run", "wc", "-c", ":::", "a.png", "./sub/b.png", "text")
    assert (said.status, said.error) == (0, "")
    spec = spec_of(double)
    assert spec.inputs.items == ("a.png", "sub/b.png", "text")
    assert [file and file.name for file in spec.inputs.files] == ["a.png", "sub/b.png", None]
    assert double.blobs[digest_of(b"BB")] == b"BB"


@pytest.mark.parametrize(
    "source", [("--glob", "**/*.png"), ("--lines", "list.txt"), (":::", "a.png", "sub/b.png")]
)
def test_lists_lines_and_globs_are_alike(say, double: Double, here, source) -> None:
    (here / "list.txt").write_text("a.png\nsub/b.png\n")
    command = ["wc", *source] if source[0] == ":::" else [*source, "wc"]
    assert say("run", *command).status == 0
    assert [file.name for file in spec_of(double).inputs.files] == ["a.png", "sub/b.png"]


def test_json_items_combinations_and_no_stage_stay_texts(say, double: Double, here) -> None:
    (here / "items.json").write_text('["a.png"]')
    (here / "a.png 1").touch()
    for command in (
        ("--json-items", "items.json", "wc"),
        ("wc", ":::", "a.png", ":::", "1"),
        ("--no-stage", "wc", ":::", "a.png"),
        ("--no-stage", "./convert.sh", "a.png"),
    ):
        assert say("run", *command).status == 0
        spec = spec_of(double)
        assert (spec.files, getattr(spec.inputs, "files", ())) == ((), ())
    assert double.blobs == {}


def test_in_and_out(say, double: Double, here) -> None:
    said = say("run", "--in", "data", "--in", "sub/*.png", "--out", "*.txt", "--out", "made/", "x")
    assert said.status == 0
    spec = spec_of(double)
    assert [(file.name, file.is_tree) for file in spec.files] == [("sub/b.png", False), ("data", True)]
    assert spec.outputs == ("*.txt", "made/")


def test_a_program_by_its_relative_path_is_taken_along(say, double: Double, here) -> None:
    assert say("run", "./convert.sh", "{}", ":::", "a.png").status == 0
    spec = spec_of(double)
    assert spec.payload == {"argv": ["./convert.sh", "{}"]}
    assert [(file.name, file.executable) for file in spec.files] == [("convert.sh", True)]
    assert say("run", "/bin/sh", "-c", "true").status == 0
    assert spec_of(double).files == ()
    assert say("run", "./missing", "x").status == 0
    assert spec_of(double).payload == {"argv": ["./missing", "x"]}


def test_what_is_left_behind_is_said(say, double: Double, here) -> None:
    said = say("run", "sh", "convert.sh", "x")
    assert "convert.sh is a file here, and is not taken along: --in convert.sh sends it." in said.error
    assert say("run", "--in", "convert.sh", "sh", "convert.sh").error == ""
    assert "--in data sends it" in say("run", "ls", ":::", "data").error
    assert say("run", "--no-stage", "sh", "convert.sh").error == ""


def test_dry_run_shows_what_would_be_sent_and_sends_nothing(say, double: Double, here) -> None:
    said = say("run", "--dry-run", "--in", "data", "./convert.sh", "{}", ":::", "a.png", "sub/b.png")
    assert said.status == 0
    assert "./convert.sh sub/b.png" in said.text
    for part in ("data/  1 files, 4 B", "convert.sh  ", "2 inputs are files here, 3 B together"):
        assert part in said.error
    tasks = say("run", "--dry-run", "--json", "wc", ":::", "a.png", "x").json
    assert [task["files"] for task in tasks] == [[{"name": "a.png", "size": 1}], []]
    assert double.requests == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--in", "nothing"), "There is no file or folder 'nothing'"),
        (("--in", ""), "The name of a file is empty"),
        (("--in", "*.gif"), "No file matches '*.gif'"),
        (("--in", "/"), "'/' cannot be sent as a whole"),
        (("--out", "../x"), "leads out of the task's folder"),
        (("--out", "/etc/*"), "leads out of the task's folder"),
        (("--out", "{.}.mp4"), "nothing is replaced in them"),
        (("-o", "made"), "-o needs --out"),
        (("--detach", "--out", "x", "-o", "made"), "planetmesh fetch"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_sent(
    say, double: Double, here, options: tuple[str, ...], sentence: str
) -> None:
    said = say("run", *options, "x")
    assert said.status in {2, 5}
    assert sentence in said.error
    assert double.requests == []


@posix_only
def test_odd_names_are_mapped_and_told_in_one_note(say, double: Double, here) -> None:
    names = ["Title: Part 2.mkv", "what?.jpg", "a|b", "c<d", 'quo"te']
    for name in names:
        (here / name).write_text(name)
    said = say("run", "ls", ":::", *names)
    assert spec_of(double).inputs.items == ("Title_ Part 2.mkv", "what_.jpg", "a_b", "c_d", "quo_te")
    assert said.error.count("\n") == 1
    assert "'Title: Part 2.mkv' is 'Title_ Part 2.mkv'" in said.error
    assert "and 2 more." in said.error


def test_keys_of_a_job_file_that_are_about_files(say, double: Double, here, monkeypatch) -> None:
    job = here / "job.toml"
    job.write_text(
        'command = ["./convert.sh", "{}"]\ninputs = ["a.png", "7"]\nin = "data"\nout = ["*.txt", "b/"]\n'
    )
    monkeypatch.chdir("/")
    assert say("submit", str(job)).status == 0
    spec = spec_of(double)
    assert [file.name for file in spec.files] == ["convert.sh", "data"]
    assert [file and file.name for file in spec.inputs.files] == ["a.png", None]
    assert spec.outputs == ("*.txt", "b/")
    job.write_text('command = "wc"\ninputs = ["a.png"]\nstage = false\n')
    assert say("submit", str(job)).status == 0
    assert spec_of(double).inputs.files == ()
