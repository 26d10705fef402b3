"""Numbers that fit each other, and a file of changes that is read or refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from planetmesh.errors import BadInput
from planetmesh.settings import SETTINGS_MOST_BYTES, Settings, Weights, load_settings
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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"prefil_most": 8}, "prefil_most"),
        ({"weights": {"rrt": 1.0}}, "rrt"),
        ({"prefill_most": "8"}, "prefill_most"),
        ({"retry_first_seconds": -1}, "must not be below zero"),
        ({"heartbeat_seconds": 0}, "must be above zero"),
        ({"suspect_after_seconds": 20}, "must be below"),
        ({"heartbeat_seconds": 6}, "must be below"),
        ([], "cannot be used"),
        (b"", "cannot be used"),
        (b"{", "cannot be used"),
        (b'{"prefill_seconds": NaN}', "cannot be used"),
        (b'{"prefill_seconds": 1e999}', "cannot be used"),
        (b"\xff\xfe", "cannot be used"),
        (b"[" * 60_000, "cannot be used"),
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
