"""Replacement strings, and that no input is ever read as shell code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from posixpath import join, normpath

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planetmesh.errors import BadInput, TooLarge
from planetmesh.jobtypes.registry import job_type
from planetmesh.jobtypes.replace import (
    STRINGS,
    fill_arguments,
    fill_posix_line,
    fill_windows_line,
    value_of,
)
from planetmesh.model.job import Items, JobSpec, Range

INPUTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
NASTY = st.one_of(
    INPUTS,
    st.text(st.sampled_from(list("'\"`$(){}\\;&|<>\n #*?!~=x/.")), max_size=30),
    st.sampled_from(["$(echo hit)", "`echo hit`", "'; echo hit; '", '"; echo hit; "', "-n", "", "{}", "{/}"]),
)


@pytest.mark.parametrize(
    ("item", "values"),
    [
        (
            "a/b.c/photo.tar.gz",
            ["a/b.c/photo.tar.gz", "a/b.c/photo.tar", "photo.tar.gz", "a/b.c", "photo.tar"],
        ),
        ("photo", ["photo", "photo", "photo", ".", "photo"]),
        ("a.b/c", ["a.b/c", "a.b/c", "c", "a.b", "c"]),
        ("/x", ["/x", "/x", "x", "/", "x"]),
        ("", ["", "", "", ".", ""]),
        ("a/b/", ["a/b/", "a/b", "b", "a", "b"]),
        ("photos.d//", ["photos.d//", "photos", "photos.d", ".", "photos"]),
        ("/", ["/", "/", "/", "/", "/"]),
        ("a/.bashrc", ["a/.bashrc", "a/.bashrc", ".bashrc", "a", ".bashrc"]),
        (".a.txt", [".a.txt", ".a", ".a.txt", ".", ".a"]),
        ("..", ["..", "..", "..", ".", ".."]),
    ],
)
def test_each_string_means_what_it_means_in_gnu_parallel_or_at_least_something(item, values):
    assert [value_of(string, item, 6) for string in STRINGS] == [*values, "7"]


PATHS = st.one_of(NASTY, st.text(st.sampled_from(list("ab./")), max_size=12)).filter(bool)


@given(PATHS)
def test_the_parts_of_a_path_make_the_path_and_none_is_empty(item):
    _all, without, name, folder, bare, _number = (value_of(string, item, 0) for string in STRINGS)
    assert all((without, name, folder, bare))
    assert normpath(join(folder, name)) == normpath(item)
    assert normpath(join(folder, bare)) == normpath(without)
    assert name.startswith(bare)
    assert "/" not in name.rstrip("/")
    if item.strip("/"):
        assert "/" not in name
        assert [value_of(string, item + "/", 0) for string in STRINGS[1:]] == [
            value_of(string, item, 0) for string in STRINGS[1:]
        ]


def test_inside_every_argument():
    argv = fill_arguments(("convert", "{}", "-o", "out/{/.}-{#}.png"), ("in/a.jpg",), 0)
    assert argv == ("convert", "in/a.jpg", "-o", "out/a-1.png")


def test_a_command_without_any_gets_the_input_last():
    assert fill_arguments(("gzip", "-9"), ("a b",), 3) == ("gzip", "-9", "a b")


def test_without_an_input_nothing_is_replaced():
    assert fill_arguments(("find", "-exec", "ls", "{}", ";"), (), 0)[3] == "{}"
    assert fill_posix_line("ls {} | wc", (), 0).text == "ls {} | wc"


@given(NASTY)
def test_an_input_is_put_in_once_and_never_read_again(item):
    assert fill_arguments(("{}", "x{}y"), (item,), 0) == (item, f"x{item}y")


def run_line(line, item):
    filled = fill_posix_line(line, (item,), 4)
    done = subprocess.run(
        ["/bin/sh", "-c", filled.text],
        env={"PATH": os.environ["PATH"], **filled.env},
        capture_output=True,
        check=False,
        timeout=10,
    )
    return done.stdout, done.stderr


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    item=NASTY,
    form=st.sampled_from(
        [
            "printf %s {}",
            "printf %s",
            'printf %s "{}"',
            "printf %s '{}'",
            "true && printf %s {} # it's {}",
            "printf %s \"$(printf %s {}; printf .)\" | sed '$ s/[.]$//'",
            'for name in {}; do printf %s "$name"; done',
            'f() { printf %s {}; }; f "another"',
        ]
    ),
)
def test_the_shell_gives_the_program_exactly_the_input(item, form):
    out, errors = run_line(form, item)
    wanted = item.encode()
    if "sed" in form and wanted and not wanted.endswith(b"\n"):
        out, wanted = out.rstrip(b"\n"), wanted.rstrip(b"\n")
    assert not errors
    assert out == wanted or ("sed" in form and out.strip() == wanted.strip())


@settings(max_examples=60, deadline=None)
@given(line=st.text(st.sampled_from(list("'\"`$() {}#;x\\")), max_size=12), position=st.integers(0, 12))
def test_no_place_in_any_line_lets_an_input_out(line, position):
    """However broken the line is, the input's code does not run: the marker it would print is not there."""
    whole = line[:position] + " {} " + line[position:]
    try:
        out, errors = run_line(whole, '\'"`; printf "%s%s" HI T; #`"$(printf "%s%s" HI T)')
    except BadInput:
        return  # It is no number, and the shell would compute with it.
    assert b"HIT" not in out
    assert b"HIT" not in errors


ODD = ["7", "-7", "+7", "0x1f", "a", "a[$(printf HIT>&2)]", "1 2", "", "1+1", "9" * 19, "7\n"]


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize("item", ODD)
@pytest.mark.parametrize(
    ("line", "compute"),
    [
        ("echo $(({} * 2))", lambda number: number * 2),
        ('echo "$(( 10 -{} + (1)))"', lambda number: 11 - number),
        ("echo $(((1 + {})))", lambda number: 1 + number),
        ("echo $(( '{}' ))", None),  # Not all shells take quotes there.
        ('echo $(( "{}" + 1 ))', None),
    ],
    ids=["plain", "quoted", "brackets", "inside 1", "inside 2"],
)
def test_only_numbers_are_computed_with(line, compute, item, shell):
    if not Path(shell).exists():
        pytest.skip("no such shell here")
    if item not in ODD[:4]:
        with pytest.raises(BadInput, match="whole number"):
            fill_posix_line(line, (item,), 0)
        return
    filled = fill_posix_line(line, (item,), 0)
    env = {"PATH": os.environ["PATH"], **filled.env}
    done = subprocess.run([shell, "-c", filled.text], env=env, capture_output=True, check=False, timeout=10)
    assert b"HIT" not in done.stderr
    if compute:
        assert int(done.stdout) == compute(int(item, 0))


def test_a_command_inside_a_computation_is_quoted_as_ever():
    assert "PLANETMESH_INPUT" in fill_posix_line("echo $(( $(echo {} | wc -c) + 1 ))", ("a b",), 0).text
    assert fill_posix_line("echo $((1 + 1)) {}", ("a b",), 0).text.endswith('"${PLANETMESH_INPUT}"')
    assert fill_posix_line("echo $((1 + {#})) {}", ("a b",), 0).env["PLANETMESH_NUMBER"] == "1"


def test_inputs_that_would_be_computed_are_looked_at_when_they_are_handed_in():
    spec = JobSpec(type="command", payload={"argv": ["echo $(({} * 2))"]}, inputs=Items(("1", "22", "x")))
    with pytest.raises(BadInput, match="'x' is no whole number"):
        job_type("command").check(spec)
    job_type("command").check(msgspec.structs.replace(spec, inputs=Range(0, 9, 1)))
    with pytest.raises(BadInput, match="no meaning for several"):
        job_type("command").check(msgspec.structs.replace(spec, inputs=Range(0, 9, 1), chunk=3))


def run_line_of_many(line, items):
    """As the agent starts it."""
    launch = job_type("command").launch({"argv": [line]}, tuple(items), 4)
    done = subprocess.run(
        launch.argv,
        env={"PATH": os.environ["PATH"], **launch.env},
        capture_output=True,
        check=False,
        timeout=10,
    )
    return done.stdout, done.stderr


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    items=st.lists(NASTY, min_size=1, max_size=5),
    form=st.sampled_from(
        [
            "printf '%s|' {}",
            "printf '%s|'",
            "printf '%s|' \"{}\"",
            "printf '%s|' '{}'",
            "true && printf '%s|' {} # it's {}",
            "for x in {}; do printf '%s|' \"$x\"; done",
            "printf %s \"$(printf '%s|' {})\"",
            "printf %s \"`printf '%s|' {}`\"",
            "(printf '%s|' {})",
            "f() { printf '%s|' \"$@\"; }; f",
        ]
    ),
)
def test_the_shell_gives_the_program_each_of_several_inputs(items, form):
    out, errors = run_line_of_many(form, items)
    assert not errors
    assert out == "".join(item + "|" for item in items).encode()


@settings(max_examples=60, deadline=None)
@given(line=st.text(st.sampled_from(list("'\"`$() {}#;x\\")), max_size=12), position=st.integers(0, 12))
def test_no_place_in_any_line_lets_one_of_several_inputs_out(line, position):
    whole = line[:position] + " {} " + line[position:]
    hostile = '\'"`; printf "%s%s" HI T; #`"$(printf "%s%s" HI T)'
    try:
        out, errors = run_line_of_many(whole, [hostile, "$(printf '%s%s' HI T)", hostile])
    except BadInput:
        return  # It defines a function, which has arguments of its own.
    assert b"HIT" not in out
    assert b"HIT" not in errors


@given(items=st.lists(NASTY.filter(lambda item: len(item) > 3), min_size=2, max_size=4))
def test_the_text_of_several_inputs_is_never_in_the_line(items):
    filled = fill_posix_line("a {} \"{}\" '{}' `{}` $({}) {#}", tuple(items), 6)
    assert filled.text == fill_posix_line("a {} \"{}\" '{}' `{}` $({}) {#}", ("x", "y"), 6).text
    assert filled.arguments == tuple(items)
    assert filled.env == {"PLANETMESH_NUMBER": "7"}


@pytest.mark.parametrize("line", ["cp {.} x", "echo {/}", "echo '{//}'", 'echo "{/.}"', "f() { wc {}; }; f"])
def test_a_line_in_which_several_inputs_have_no_meaning_is_refused(line):
    fill_posix_line(line, ("a",), 0)
    with pytest.raises(BadInput) as caught:
        fill_posix_line(line, ("a", "b"), 0)
    assert caught.value.hint


def test_several_inputs_are_refused_in_a_line_for_windows():
    with pytest.raises(BadInput, match="one input at a time"):
        fill_windows_line("type {}", ("a", "b"), 0)


def test_an_argument_that_asks_for_an_input_is_repeated_for_each():
    argv = fill_arguments(("cat", "--number={#}", "--file={}", "-n"), ("a", "b"), 2)
    assert argv == ("cat", "--number=3", "--file=a", "--file=b", "-n")
    assert fill_arguments(("gzip",), ("a", "b"), 0) == ("gzip", "a", "b")


def test_a_long_argument_is_not_repeated_until_it_fills_the_memory():
    with pytest.raises(TooLarge):
        fill_arguments(("x" * 100_000 + "{}",), ("",) * 100_000, 0)


def test_the_line_for_windows_reads_delayed_variables():
    line = fill_windows_line('copy {} "out\\{/.}.txt"', ("a & b.c",), 0)
    assert line.text == 'copy "!PLANETMESH_INPUT!" "out\\!PLANETMESH_INPUT_NAME_STEM!.txt"'
    assert line.env == {"PLANETMESH_INPUT": "a & b.c", "PLANETMESH_INPUT_NAME_STEM": "a & b"}
