"""Ids: their shapes, and that nothing else passes for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.model.ids import is_job_id, is_node_id, new_job_id, new_mesh_id, new_node_id


def test_fresh_ones_have_their_shape_and_differ():
    assert len({new_job_id() for _ in range(200)}) == 200
    assert all(is_job_id(new_job_id()) for _ in range(200))
    assert all(is_node_id(new_node_id()) for _ in range(20))
    assert len(new_mesh_id()) == 32
    assert new_mesh_id() != new_mesh_id()


def test_look_alikes_are_never_drawn():
    assert not set("ilou") & set("".join(new_job_id() for _ in range(300)))


@pytest.mark.parametrize(
    "text", ["", "abc", "0123456789\n", "012345678i", "012345678O", "0123456789a", "01234 6789", "../../../x"]
)
def test_what_is_no_job_id(text: str):
    assert not is_job_id(text)


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "0" * 32 + "\n", "A" * 32, "g" * 32])
def test_what_is_no_node_id(text: str):
    assert not is_node_id(text)


@given(st.text(max_size=40))
def test_nothing_that_could_be_a_path_is_an_id(text: str):
    if is_job_id(text) or is_node_id(text):
        assert text.isalnum()
        assert text.isascii()
