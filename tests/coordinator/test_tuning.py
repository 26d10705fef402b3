"""What an operator changed, over the home's file: read back after a start, whatever has become of it."""

from __future__ import annotations

import logging

import msgspec
import pytest

from planetmesh.coordinator.tuning import META_NAME, Tuning, read_tuning
from planetmesh.errors import BadInput
from planetmesh.settings import Settings, Weights

FILE = Settings(max_node_losses=5, weights=Weights(load=7.0))


def kept(**overrides: object) -> dict[str, str]:
    return {META_NAME: msgspec.json.encode(overrides).decode()}


def test_changes_lie_over_the_file_and_a_reset_goes_back_to_it():
    changed = Tuning(FILE).changed({"weights.load": "3", "weights.rtt": 0, "prefill_most": 8})
    assert changed.settings == msgspec.structs.replace(
        FILE, prefill_most=8, weights=Weights(rtt=0.0, load=3.0)
    )
    again = changed.changed({"weights.load": None, "prefill_most": None, "tasks_most": None})
    assert again.settings.weights == Weights(rtt=0.0, load=7.0)
    assert again.overrides == {"weights.rtt": 0.0}
    assert read_tuning(FILE, again.kept()) == again


def test_one_wrong_value_and_nothing_is_changed():
    before = Tuning(FILE).changed({"prefill_most": 8})
    for wrong in ({"weights.rtt": -1}, {"offline_after_seconds": "1s"}, {"no_such": None}, {"no_such": 1}):
        with pytest.raises(BadInput):
            before.changed({"prefill_most": 9} | wrong)
    assert before.overrides == {"prefill_most": 8}


def test_what_belongs_together_is_changed_in_one_go():
    slow = {"heartbeat_seconds": "20s", "suspect_after_seconds": "1m", "offline_after_seconds": "2m"}
    settings = Tuning(FILE).changed(slow).settings
    assert (settings.heartbeat_seconds, settings.offline_after_seconds) == (20.0, 120.0)
    with pytest.raises(BadInput, match="twice") as refused:
        Tuning(FILE).changed({"heartbeat_seconds": "20s"})
    assert "suspect_after_seconds = 6s" in refused.value.hint


@pytest.mark.parametrize(
    "meta",
    [{}, {META_NAME: ""}, {META_NAME: "[]"}, {META_NAME: "{"}, {META_NAME: '{"prefill_most": {}}'}, kept()],
)
def test_nothing_or_nonsense_means_the_file(meta):
    assert read_tuning(FILE, meta) == Tuning(FILE)


def test_what_this_version_does_not_know_is_passed_over_and_said(caplog):
    meta = kept(prefill_most=8, gone_most=1, max_node_losses=-4)
    with caplog.at_level(logging.WARNING):
        assert read_tuning(FILE, meta).overrides == {"prefill_most": 8}
    assert {record.setting for record in caplog.records} == {"gone_most", "max_node_losses"}


def test_changes_that_do_not_fit_a_newer_file_give_way(caplog):
    """The file was edited below them: the mesh starts with what fits."""
    slower = msgspec.structs.replace(FILE, suspect_after_seconds=60.0, offline_after_seconds=90.0)
    with caplog.at_level(logging.WARNING):
        found = read_tuning(slower, kept(offline_after_seconds=20.0, heartbeat_seconds=1.0, prefill_most=8))
    assert found.overrides == {"prefill_most": 8}
    assert found.settings == msgspec.structs.replace(slower, prefill_most=8)
    assert len(caplog.records) == 2
