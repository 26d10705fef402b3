"""The job types `command` and `script`: what they refuse and what they start."""

from __future__ import annotations

import pytest

from planetmesh.errors import BadInput, TooLarge
from planetmesh.jobtypes.contract import JobFile
from planetmesh.jobtypes.registry import JOB_TYPES, job_type
from planetmesh.jobtypes.script import file_name
from planetmesh.model.job import Items, JobSpec, Range


def check(kind, payload, inputs=None):
    spec = JobSpec(type=kind, payload=payload, **({"inputs": inputs} if inputs else {}))
    job_type(kind).check(spec)


def test_an_unknown_type_is_refused_with_the_known_ones():
    with pytest.raises(BadInput) as caught:
        job_type("magic")
    assert "command" in caught.value.hint
    assert all(kind.name == name for name, kind in JOB_TYPES.items())


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"argv": []},
        {"argv": [""]},
        {"argv": ["  "]},
        {"argv": ["a\0b"]},
        {"argv": ["a", 1]},
        {"argv": "ls"},
        {"argv": ["\ud800"]},
        {"argv": ["ls"], "more": 1},
        {"argv": ["x" * 200_000]},
        {"argv": ["x", *["y" * 1000] * 140]},
    ],
)
def test_commands_that_can_never_run_are_refused(payload):
    with pytest.raises(BadInput):
        check("command", payload)


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        (Items(("fine", "a\0b")), BadInput),
        (Items(("x" * 140_000,)), TooLarge),
        (Items(("ok", "x" * 100_000)), TooLarge),
        (Items(("\udfff",)), BadInput),
    ],
)
def test_inputs_that_no_program_can_be_given_are_refused(inputs, error):
    with pytest.raises(error):
        check("command", {"argv": ["echo", *["{}{}"] * 6]}, inputs)


def test_a_long_input_in_many_places_is_refused_before_it_fills_the_memory():
    with pytest.raises(TooLarge):
        check("command", {"argv": ["echo", "{}" * 50_000]}, Items(("x" * 100_000,)))


def test_good_jobs_pass():
    check("command", {"argv": ["echo"]}, Range(1, 1_000_000))
    check("command", {"argv": ["echo {} | wc"]}, Items(("a", "b")))
    check("script", {"source": "print(1)", "name": "x.py"})
    check("command", {"argv": ["true"]}, Items(()))


def test_one_text_with_blanks_is_a_line_for_the_shell():
    launch = job_type("command").launch({"argv": ["cat {} | wc -c"]}, ("it's",), 0)
    assert launch.argv == ("/bin/sh", "-c", 'cat "${PLANETMESH_INPUT}" | wc -c')
    assert launch.env == {"PLANETMESH_INPUT": "it's"}


def test_other_commands_need_no_shell():
    launch = job_type("command").launch({"argv": ["my prog", "$(x)"]}, ("a;b",), 0)
    assert launch.argv == ("my prog", "$(x)", "a;b")
    assert launch.env == {}


@pytest.mark.parametrize(
    ("payload", "interpreter"),
    [
        ({"source": "#!/usr/bin/env python3\nx"}, ("python3",)),
        ({"source": "#!/usr/bin/env -S python3 -u\nx"}, ("python3", "-u")),
        ({"source": "#!/bin/bash -e\r\nx"}, ("/bin/bash", "-e")),
        ({"source": "x", "name": "a/b.PY"}, ("python3",)),
        ({"source": "x", "name": "b.sh"}, ("sh",)),
        ({"source": "#!/bin/sh\nx", "interpreter": ["dash"], "name": "x.py"}, ("dash",)),
    ],
)
def test_the_interpreter(payload, interpreter):
    argv = job_type("script").launch(payload, (), 0).argv
    assert argv[: len(interpreter)] == interpreter
    assert isinstance(argv[len(interpreter)], JobFile)


@pytest.mark.parametrize(
    "payload",
    [
        {"source": ""},
        {"source": "x"},
        {"source": "x", "name": "notes.txt"},
        {"source": "x", "name": "run.bat"},
        {"source": "x" * (1024 * 1024 + 1), "name": "x.py"},
        {"source": "x", "interpreter": [""]},
        {"source": "x", "name": "x.py", "args": ["\0"]},
        {"source": "\ud800", "name": "x.py"},
    ],
)
def test_scripts_that_can_never_run_are_refused(payload):
    with pytest.raises(BadInput):
        check("script", payload)


def test_a_script_gets_its_arguments_and_the_input():
    payload = {"source": "print(1)", "name": "sweep.py", "args": ["--out", "{#}.txt"]}
    launch = job_type("script").launch(payload, ("7",), 1)
    assert launch.argv == ("python3", JobFile("sweep.py"), "--out", "2.txt")
    assert launch.files[0].content == b"print(1)"
    payload = {"source": "print(1)", "name": "sweep.py"}
    assert job_type("script").launch(payload, ("7",), 1).argv[-1] == "7"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("x.py", "x.py"),
        ("../../etc/x.py", "x.py"),
        ("C:\\dir\\x.py", "x.py"),
        ("-rf.py", "script--rf.py"),
        (".profile", "script-.profile"),
        ("NUL.py", "script-NUL.py"),
        ("büro plan.py", "b_ro_plan.py"),
        ("a:b.py", "a_b.py"),
        ("", "script-"),
    ],
)
def test_names_of_scripts_are_harmless(name, kept):
    assert file_name(name) == kept


def test_descriptions_are_one_line_of_what_runs():
    assert job_type("command").describe({"argv": ["echo", "a b"]}) == "echo 'a b'"
    assert job_type("command").describe({"argv": ["cat {} | wc"]}, ("a b",), 0) == "cat 'a b' | wc"
    assert job_type("script").describe({"source": "x", "name": "x.py"}, ("3",), 2) == "x.py 3"
