"""What is told of the inputs of a task that failed."""

from __future__ import annotations

import pytest

from planetmesh.cli.faults import fates_in
from planetmesh.model.job import TaskState
from planetmesh.wire.api import Encoding, TaskResult


def failed(
    inputs: tuple[str, ...], value=None, encoding=Encoding.CALLS, error="desk: it was ended by signal 11."
):
    only = inputs[0] if len(inputs) == 1 else " ".join(inputs)
    return TaskResult(
        index=3, input=only, inputs=inputs if len(inputs) > 1 else None, status=TaskState.FAILED, exit_code=1,
        node="desk", attempts=1, seconds=1.0, error="desk: it was ended by signal 11.", value=value,
        encoding=encoding,
    )  # fmt: skip


def test_each_input_has_its_own_reason_or_none():
    parts = [{"value": 1}, {"error": {"type": "ImageRefused", "message": "b.jpg: It is cut off."}}, None]
    good, bad, lost = fates_in(failed(("a.jpg", "b.jpg", "c.jpg"), parts))
    assert (good.error, good.task, good.number) == ("", 3, 0)
    assert (bad.sentence, bad.is_whole) == ("b.jpg: It is cut off.", False)
    assert (lost.sentence, lost.is_whole) == ("c.jpg: desk: it was ended by signal 11.", True)


@pytest.mark.parametrize("value", [None, [], "text", [7], [{"error": 7}], [{"error": {}}]])
def test_where_nothing_is_said_of_an_input_the_task_speaks(value):
    fates = fates_in(failed(("a.jpg", "b.jpg"), value))
    assert [fate.is_whole for fate in fates] == [True, True]
    assert all("signal 11" in fate.error for fate in fates)


def test_a_task_of_one_input_takes_no_other_with_it():
    (fate,) = fates_in(failed(("a.jpg",), [None]))
    assert (fate.input, fate.is_whole) == ("a.jpg", False)
    (fate,) = fates_in(failed(("a.jpg",), {"output": "x"}, Encoding.JSON))
    assert fate.error == ""
