"""The JSON of `/v1`: the keys and words of the contract, and times."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.model.job import Counts, JobState, TaskState
from planetmesh.model.node import NodeState, Sandbox
from planetmesh.wire import api

CONTRACT = {
    api.NodeView: "id name state cpus memory_bytes gpus tags running load rtt_ms reliability "
    "last_heartbeat_at draining sandbox version",
    api.JobView: "id name type status priority submitter created_at started_at completed_at tasks",
    api.TaskCounts: "total queued assigned running retrying completed failed cancelled",
    api.TaskView: "id job_id index status node attempts exit_code started_at finished_at last_error payload "
    "node_id",
}
"""As CLI.md names them."""


@pytest.mark.parametrize("kind", CONTRACT)
def test_the_keys_of_the_contract_are_there(kind: type):
    assert set(CONTRACT[kind].split()) <= set(kind.__struct_fields__)


def test_the_state_words_are_the_capital_ones():
    assert [state.value for state in TaskState] == [
        "QUEUED", "ASSIGNED", "RUNNING", "RETRYING", "COMPLETED", "FAILED", "CANCELLED",
    ]  # fmt: skip
    assert [state.value for state in JobState] == [
        "QUEUED", "RUNNING", "COMPLETED", "FAILED", "PARTIALLY_COMPLETED", "CANCELLED",
    ]  # fmt: skip
    assert [state.value for state in NodeState] == ["HEALTHY", "SUSPECT", "OFFLINE"]


def test_an_error_is_what_programs_expect():
    answer = api.ErrorAnswer(api.ApiError("not_found", "No such job.", "planetmesh jobs"))
    assert json.loads(msgspec.json.encode(answer)) == {
        "error": {"code": "not_found", "message": "No such job.", "hint": "planetmesh jobs"}
    }


def test_times_are_rfc_3339_in_utc():
    assert api.rfc3339(None) is None
    assert api.rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert api.rfc3339(1_769_860_800.1239) == "2026-01-31T12:00:00.123Z"


@given(st.floats(0, 4e9))
def test_times_sort_as_text(at):
    text = api.rfc3339(at)
    assert len(text) == 24
    assert text <= api.rfc3339(at + 0.002)


def test_counts_are_copied_field_by_field():
    counts = Counts(1, 2, 3, 4, 5, 6, 7)
    view = api.TaskCounts.of(counts)
    assert msgspec.structs.astuple(view) == (28, 1, 2, 3, 4, 5, 6, 7)
    for field in CONTRACT[api.TaskCounts].split():
        assert getattr(view, field) == getattr(counts, field)


def test_what_people_send_may_hold_nothing_unknown():
    for kind in (api.SubmitJob, api.CancelJob, api.ChangeNode, api.OpenPairing, api.RenewCertificate):
        assert kind.__struct_config__.forbid_unknown_fields, kind


def test_a_sandbox_is_shown_with_its_proof():
    assert json.loads(msgspec.json.encode(Sandbox("landlock", proven=True))) == {
        "tier": "landlock", "proven": True, "detail": "",
    }  # fmt: skip
