"""`:::` and its relatives, as properties."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.cli.inputs import MARK, Sources, combine, find_files, parse_range, read_inputs, split_command
from planetmesh.errors import BadInput, TooLarge
from planetmesh.model.job import One
from planetmesh.settings import Settings

words = st.text(max_size=8).filter(lambda word: word not in {":::", "::::", ":::+", "::::+"})
lists = st.lists(st.lists(words, min_size=1, max_size=4), max_size=3)


@given(st.lists(words, max_size=5), lists)
def test_splitting_takes_apart_what_was_put_together(command, given_lists) -> None:
    line = list(command)
    for each in given_lists:
        line += [MARK, *each]
    assert split_command(line) == (tuple(command), tuple(tuple(each) for each in given_lists))


@given(st.lists(words, max_size=3), lists, st.integers(0, 3))
def test_an_empty_list_anywhere_is_refused(command, given_lists, place) -> None:
    line = list(command)
    for each in [*given_lists[:place], [], *given_lists[place:]]:
        line += [MARK, *each]
    with pytest.raises(BadInput, match="no inputs"):
        split_command(line)


@given(lists.filter(bool))
def test_several_lists_give_every_combination_the_last_fastest(given_lists) -> None:
    found = combine(given_lists).items
    assert list(found) == [" ".join(each) for each in itertools.product(*given_lists)]


def test_too_many_combinations_are_refused_before_they_are_made() -> None:
    with pytest.raises(TooLarge, match="10 000 000"):
        combine([["x"] * 1000] * 5)


@given(st.integers(-500, 500), st.integers(-500, 500), st.integers(-50, 50))
def test_ranges_hold_what_python_says(first, last, step) -> None:
    text = f"{first}..{last}:{step}"
    expected = list(range(first, last + (1 if step > 0 else -1), step)) if step else []
    if not expected:
        with pytest.raises(BadInput):
            parse_range(text)
        return
    found = parse_range(text)
    assert [found.text(index) for index in range(found.count)] == [str(number) for number in expected]


@given(st.text(max_size=30))
def test_no_text_makes_the_range_parser_stumble(text) -> None:
    with contextlib.suppress(BadInput):
        parse_range(text)


def test_lines_from_a_file_and_from_stdin(tmp_path, monkeypatch) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"one\r\n\n  \n two \nthree")
    assert read_inputs(Sources(lines=str(file))).items == ("one", " two ", "three")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\n")))
    assert read_inputs(Sources(lines="-")).items == ("a", "b")
    file.write_bytes(b"good\nb\xffd\n")
    with pytest.raises(BadInput, match="Line 2"):
        read_inputs(Sources(lines=str(file)))
    file.write_bytes(b"\n \n")
    with pytest.raises(BadInput, match="no inputs"):
        read_inputs(Sources(lines=str(file)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(json_values, min_size=1, max_size=6))
def test_json_items_keep_their_values(new_folder, values) -> None:
    file = new_folder() / "items"
    file.write_text(json.dumps(values))
    found = read_inputs(Sources(json_items=str(file))).items
    assert [
        item if isinstance(value, str) else json.loads(item)
        for item, value in zip(found, values, strict=True)
    ] == values


def test_json_lines_and_wrong_json(tmp_path) -> None:
    file = tmp_path / "items"
    file.write_text('{"a": 1}\n"text"\n3\n')
    assert read_inputs(Sources(json_items=str(file))).items == ('{"a":1}', "text", "3")
    for wrong in ("[1,", "nope", "[" * 100_000):
        file.write_text(wrong)
        with pytest.raises(BadInput, match="not JSON"):
            read_inputs(Sources(json_items=str(file)))


def test_nothing_given_is_one_task() -> None:
    assert read_inputs(Sources()) == One()


def test_files_by_pattern_are_sorted_once_each_and_never_folders(tmp_path) -> None:
    for name in ("b.png", "a b.png", "deep/er/c.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert find_files(["*.png"], tmp_path).items == ("a b.png", "b.png")
    assert find_files(["**/*.png", "b.*"], tmp_path).items == ("a b.png", "b.png", "deep/er/c.png")
    whole = str(tmp_path / "*.txt")
    assert read_inputs(Sources(globs=(whole,))).items == (str(tmp_path / "notes.txt"),)


def test_a_pattern_that_finds_nothing_is_refused(tmp_path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "folder").mkdir()
    for pattern in ("*.jpg", "folder", "", "a.png/*"):
        with pytest.raises(BadInput, match="no file matches"):
            find_files(["*.png", pattern], tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="names there are bytes")
def test_a_file_whose_name_is_no_text_is_refused(tmp_path) -> None:
    (tmp_path / os.fsdecode(b"a\xff.png")).touch()
    with pytest.raises(BadInput, match="not valid UTF-8"):
        find_files(["*.png"], tmp_path)


def test_more_files_than_a_job_holds_are_refused(tmp_path, monkeypatch) -> None:
    for number in range(4):
        (tmp_path / f"{number}.png").touch()
    monkeypatch.setattr("planetmesh.cli.inputs.Settings", lambda: Settings(tasks_most=3))
    with pytest.raises(TooLarge):
        find_files(["*.png"], tmp_path)
    assert find_files(["[0-2].png"], tmp_path).count == 3


def test_files_are_one_source_among_others() -> None:
    with pytest.raises(BadInput, match="--range and --glob"):
        read_inputs(Sources(range="1..2", globs=("*",)))
