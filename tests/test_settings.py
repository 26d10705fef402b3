"""Numbers that fit each other, and a file of changes that is read or refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.errors import BadInput
from planetmesh.settings import (
    ABOUT,
    MIB,
    SETTINGS_MOST_BYTES,
    TOGETHER,
    Settings,
    Weights,
    check_together,
    load_settings,
    read_value,
    show_value,
    values,
    with_values,
)
from planetmesh.wire.codec import FRAME_MOST_BYTES


def test_the_defaults_fit_each_other():
    """Other tests lean on these relations: a canary for whoever turns one knob."""
    known = Settings()
    assert known.heartbeat_seconds * 3 <= known.suspect_after_seconds < known.offline_after_seconds
    assert known.restart_grace_seconds >= known.offline_after_seconds
    assert known.retry_first_seconds < known.retry_longest_seconds
    assert 0 < known.retry_spread < 1
    assert 0 < known.reliability_memory < 1
    assert known.prefill_seconds < known.pull_back_after_seconds
    assert known.frame_most_bytes == FRAME_MOST_BYTES
    assert known.tasks_most == 10_000_000
    assert all(weight >= 0 for weight in msgspec.structs.astuple(known.weights))


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "settings.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_no_file_means_the_defaults(tmp_path: Path):
    assert load_settings(tmp_path / "settings.json") == Settings()


def test_only_what_is_given_changes(tmp_path: Path):
    path = written(tmp_path, {"prefill_most": 8, "weights": {"rtt": 3.0}})
    assert load_settings(path) == Settings(prefill_most=8, weights=Weights(rtt=3.0))


def test_the_file_speaks_of_times_and_sizes_as_people_do(tmp_path: Path):
    path = written(
        tmp_path,
        {"keep_jobs_seconds": "2d", "output_most_bytes": "1 MiB", "weights.load": 3, "tasks_most": 9.0},
    )
    assert load_settings(path) == Settings(
        keep_jobs_seconds=2 * 86400.0, output_most_bytes=MIB, weights=Weights(load=3.0), tasks_most=9
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"prefil_most": 8}, "no setting 'prefil_most'"),
        ({"weights": {"rrt": 1.0}}, "no setting 'weights.rrt'"),
        ({"weights": 1.0}, "no setting 'weights'"),
        ({"rtt": {"weights": {}}, "prefill_most": []}, "'prefill_most' must be a number"),
        ({"prefill_most": "eight"}, "'prefill_most' must be a number"),
        ({"prefill_most": True}, "'prefill_most' must be a number"),
        ({"prefill_most": None}, "'prefill_most' must be a number"),
        ({"retry_first_seconds": -1}, "must be between 0s and 1h"),
        ({"heartbeat_seconds": 0}, "must be between 100ms and 1m"),
        ({"suspect_after_seconds": 20}, "below 'offline_after_seconds'"),
        ({"heartbeat_seconds": 4}, "twice 'heartbeat_seconds'"),
        ({"retry_first_seconds": "2m"}, "must not be above 'retry_longest_seconds'"),
        ([], "cannot be used"),
        (b"", "cannot be used"),
        (b"{", "cannot be used"),
        (b'{"prefill_seconds": NaN}', "cannot be used"),
        (b'{"prefill_seconds": 1e999}', "cannot be used"),
        (b"\xff\xfe", "cannot be used"),
        (b"[" * 60_000, "cannot be used"),
        (b'{"a":' * 12_000, "cannot be used"),
        (b" " * (SETTINGS_MOST_BYTES + 1), "far too large"),
    ],
)
def test_nonsense_is_refused_with_the_files_name_and_the_reason(tmp_path: Path, content: object, words: str):
    path = written(tmp_path, content)
    with pytest.raises(BadInput, match=words) as refused:
        load_settings(path)
    assert str(path) in refused.value.message


def test_a_folder_in_its_place_is_a_users_mistake(tmp_path: Path):
    with pytest.raises(BadInput, match="cannot be read"):
        load_settings(tmp_path)


DEFAULTS = values(Settings())


def test_each_setting_has_its_line_in_the_table_and_each_line_its_setting():
    assert list(ABOUT) == list(DEFAULTS), (
        "add a line to ABOUT in planetmesh/settings.py, in the fields' order"
    )
    for name, known in ABOUT.items():
        assert known.sentence.endswith("."), name
        assert len(known.sentence) <= 100, f"{name}: a short sentence"
        assert known.least < known.most or isinstance(DEFAULTS[name], bool), name
        assert type(DEFAULTS[name]) in {bool, int, float}, name


def test_the_defaults_are_lawful_and_stay_what_they_are_when_shown_and_read():
    for name, value in DEFAULTS.items():
        assert read_value(name, value) == value, name
        assert read_value(name, show_value(name, value)) == value, name
    check_together(Settings())
    assert with_values(Settings(), DEFAULTS) == Settings()


def test_the_rules_speak_of_settings_that_there_are():
    for rule in TOGETHER:
        assert set(rule.names) <= ABOUT.keys()
        assert any(name in rule.sentence for name in rule.names)


@given(st.sampled_from(sorted(ABOUT)), st.data())
def test_what_is_within_the_bounds_is_taken_and_read_back_as_shown(name, data):
    least, most = ABOUT[name].least, ABOUT[name].most
    kind = type(DEFAULTS[name])
    numbers = {bool: st.booleans(), int: st.integers(int(least), int(most)), float: st.floats(least, most)}
    value = read_value(name, data.draw(numbers[kind]))
    assert type(value) is kind
    assert read_value(name, show_value(name, value)) == pytest.approx(value, rel=1e-12)
    assert values(with_values(Settings(), {name: value})) == DEFAULTS | {name: value}


NONSENSE = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=30) | st.just([])


@given(st.sampled_from(sorted(ABOUT)), NONSENSE)
def test_whatever_is_given_is_a_lawful_value_or_refused_in_words(name, anything):
    value, refusal = None, ""
    try:
        value = read_value(name, anything)
    except BadInput as refused:
        refusal = refused.message
    if value is None:
        assert f"'{name}' must be " in refusal
    else:
        assert ABOUT[name].least <= value <= ABOUT[name].most


@pytest.mark.parametrize(
    ("name", "given_", "value"),
    [
        ("heartbeat_seconds", "500ms", 0.5),
        ("heartbeat_seconds", "1", 1.0),
        ("offline_after_seconds", "2m", 120.0),
        ("output_most_bytes", "16MiB", 16 * MIB),
        ("output_most_bytes", "2048", 2048),
        ("weights.rtt", "0", 0.0),
        ("tasks_most", "1e6", 1_000_000),
    ],
)
def test_values_as_typed(name, given_, value):
    assert read_value(name, given_) == value
    assert type(read_value(name, given_)) is type(value)


@pytest.mark.parametrize(
    ("name", "given_", "words"),
    [
        ("heartbeat_seconds", "0", "between 100ms and 1m"),
        ("heartbeat_seconds", "-2s", "between 100ms and 1m"),
        ("heartbeat_seconds", "often", "length of time"),
        ("heartbeat_seconds", "10MiB", "length of time"),
        ("output_most_bytes", "2m lines", "a size"),
        ("weights.load", "nan", "between 0 and 1000"),
        ("weights.load", "inf", "between 0 and 1000"),
        ("weights.load", "-1", "between 0 and 1000"),
        ("weights.load", "2s", "a number"),
        ("prefill_most", "1.5", "a whole number"),
        ("prefill_most", 10**400, "between 0 and 4096"),
    ],
)
def test_what_is_refused(name, given_, words):
    with pytest.raises(BadInput, match=words):
        read_value(name, given_)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("rtt", "weights.rtt"),
        ("heartbeat", "heartbeat_seconds"),
        ("hartbeat_secs", "heartbeat_seconds"),
        ("weights.que", "weights.queue"),
        ("keep_jobs", "keep_jobs_seconds"),
    ],
)
def test_the_name_that_was_meant_is_named(typed, meant):
    with pytest.raises(BadInput) as refused:
        read_value(typed, 1)
    assert refused.value.hint == f"Did you mean '{meant}'?"


def test_a_name_like_no_other_points_to_the_list():
    with pytest.raises(BadInput, match="no setting") as refused:
        read_value("\x1b[31mzzz" * 100, 1)
    assert "planetmesh settings" in refused.value.hint
    assert "\x1b" not in refused.value.message
    assert len(refused.value.message) < 100
