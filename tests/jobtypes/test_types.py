"""The job types `command` and `script`: what they refuse and what they start."""

from __future__ import annotations

import msgspec
import pytest

from planetmesh.errors import BadInput, TooLarge
from planetmesh.jobtypes.contract import JobFile, Value, longest_tasks
from planetmesh.jobtypes.registry import JOB_TYPES, job_type
from planetmesh.jobtypes.script import file_name
from planetmesh.model.job import AUTO_CHUNK, Items, JobSpec, Range
from planetmesh.wire.api import Encoding, Parse


def check(kind, payload, inputs=None, chunk=1):
    spec = JobSpec(type=kind, payload=payload, chunk=chunk, **({"inputs": inputs} if inputs else {}))
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


def gathered(stdout: bytes, parse: Parse = Parse.TEXT, *, is_cut: bool = False) -> tuple[object, str]:
    """What every kind of command makes of an output, as its reader gets it."""
    kinds = [kind for kind in JOB_TYPES.values() if kind.result_stream == 1]
    made: list[Value] = [kind.gather(stdout, parse, is_cut=is_cut) for kind in kinds]
    assert made == made[:1] * len(made)
    return msgspec.json.decode(msgspec.json.encode(made[0].value)), made[0].encoding


def test_an_output_is_text_until_somebody_says_otherwise():
    assert gathered(b"") == ("", Encoding.TEXT)
    assert gathered("ü \x1b\n".encode()) == ("ü \x1b\n", Encoding.TEXT)
    assert gathered(b"1e3\n") == ("1e3\n", Encoding.TEXT)
    assert gathered(b'{"a": 1}') == ('{"a": 1}', Encoding.TEXT)
    assert gathered(b"\xff\x00") == ("/wA=", Encoding.BASE64)


def test_an_output_that_is_json_becomes_its_value_if_asked():
    assert gathered(b' {"a" : [1, 2.50,\n null]}\n', Parse.JSON) == ({"a": [1, 2.5, None]}, Encoding.JSON)
    assert gathered(b"null", Parse.JSON) == (None, Encoding.JSON)
    number = b"1" * 40
    assert gathered(number, Parse.JSON) == (int(number), Encoding.JSON)
    value = job_type("command").gather(b"[1.10000000000000000000001,\n2]", Parse.JSON, is_cut=False).value
    assert msgspec.json.encode(value) == b"[1.10000000000000000000001,2]", "one line, and every digit"


@pytest.mark.parametrize(
    "stdout",
    [
        b"",
        b"yes",
        b"1 2",
        b'{"a": 1',
        b"NaN",
        b"1e400",
        b'"\\ud800"',
        b"9" * 5000,
        b"[" * 101 + b"]" * 101,
        b"[" * 9999,
    ],
)
def test_what_is_no_json_that_everybody_can_read_stays_text(stdout):
    assert gathered(stdout, Parse.JSON) == (stdout.decode(), Encoding.TEXT)


def test_json_may_be_nested_as_deep_as_that():
    assert gathered(b"[" * 100 + b"]" * 100, Parse.JSON)[1] == Encoding.JSON
    assert gathered(b"[" + b"[]," * 500 + b"1]", Parse.JSON)[1] == Encoding.JSON
    assert gathered(b"\xff", Parse.JSON)[1] == Encoding.BASE64


def test_a_cut_output_stays_text_and_is_never_parsed():
    assert gathered("a€".encode()[:-1], is_cut=True) == ("a", Encoding.TEXT)
    assert gathered("a€".encode()[:-1]) == ("YeKC", Encoding.BASE64)
    assert gathered(b"12", Parse.JSON, is_cut=True) == ("12", Encoding.TEXT)

    assert job_type("command").describe({"argv": ["cat {} | wc"]}, ("a b", "c"), 0) == "cat 'a b' c | wc"
    assert job_type("command").describe({"argv": ["wc", "-l"]}, ("a b", "c"), 0) == "wc -l 'a b' c"


def test_several_inputs_are_arguments_of_the_shell():
    launch = job_type("command").launch({"argv": ["cat {} | wc -c"]}, ("it's", "-x"), 0)
    assert launch.argv == ("/bin/sh", "-c", 'cat "${@}" | wc -c', "sh", "it's", "-x")
    assert launch.env == {}


@pytest.mark.parametrize("chunk", [AUTO_CHUNK, 2])
def test_a_line_that_is_not_made_for_chunks_is_refused_at_once(chunk):
    check("command", {"argv": ["echo {/} x"]}, Items(("a",)))
    with pytest.raises(BadInput) as caught:
        check("command", {"argv": ["echo {/} x"]}, Items(("a",)), chunk)
    assert "for x in {}; do" in caught.value.hint
    check("command", {"argv": ["echo", "{/}"]}, Items(("a", "b")), chunk)


@pytest.mark.parametrize(
    ("inputs", "chunk", "argv"),
    [
        (Items(("x",) * 20 + ("y" * 1000,) * 2000), 2000, ["cat"]),
        (Items(("x", "x", "y" * 100_000, "y" * 100_000)), 2, ["cat", *["{}"] * 6]),
        (Items(("",) * 100_000), 100_000, ["cat", "x" * 100 + "{}"]),
        (Items(("y" * 10,) * 90_000), 90_000, ["cat"]),
        (Range(1, 1_000_000), 100_000, ["cat", "x{}", "y{}"]),
        (Items(("x",) * 2000), AUTO_CHUNK, ["cat", "x" * 2000 + "{}"]),
        (Range(1, 10**6), AUTO_CHUNK, ["cat", "x" * 2000 + "{}"]),
    ],
)
def test_chunks_that_no_program_can_be_given_are_refused(inputs, chunk, argv):
    with pytest.raises(TooLarge) as caught:
        check("command", {"argv": argv}, inputs, chunk)
    assert "--chunk" in caught.value.hint
    check("command", {"argv": argv}, inputs, 1)


def test_the_longest_chunk_is_tried_wherever_it_stands():
    inputs = Items(("a", "b", "c" * 9, "d", "e" * 6, "f" * 6, "g"))
    spec = JobSpec(type="command", payload={}, inputs=inputs, chunk=2)
    assert list(longest_tasks(spec)) == [(2, ("e" * 6, "f" * 6))]
    spec = JobSpec(type="command", payload={}, inputs=Range(-1, 10_000), chunk=3)
    assert list(longest_tasks(spec)) == [(3333, ("9998", "9999", "10000"))]


@pytest.mark.parametrize(
    ("argv", "kind"),
    [
        (["ffmpeg", "-i", "x"], "command ffmpeg"),
        (["/usr/bin/ffmpeg"], "command ffmpeg"),
        (["C:\\Tools\\ffmpeg.exe", "x"], "command ffmpeg.exe"),
        (["./dir/"], "command dir"),
        (["cat {} | wc"], "command cat"),
        (['  LEVEL=3 A=\'b c\' B="d \\" e" /opt/my/run {}'], "command run"),
        (["(cd x; ls)"], "command cd"),
        (["{ ls; }"], "command ls"),
        (["{} --help"], "command {}"),
        (["A=b "], "command"),
        (["'my' prog"], "command my"),
        (["a\x1b[31m\u202eb", "x"], "command a\ufffd[31m\ufffdb"),
        (["x" * 100, "y"], "command " + "x" * 60 + "…"),
    ],
)
def test_the_kind_of_a_command(argv, kind):
    assert job_type("command").kind({"argv": argv}) == kind


def test_the_kind_of_a_script():
    assert job_type("script").kind({"source": "x", "name": "a/resize.py"}) == "script resize.py"
    assert job_type("script").kind({"source": "#!/bin/sh\n", "name": ""}) == "script"
