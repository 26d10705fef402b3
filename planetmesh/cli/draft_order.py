"""From the dashboard's form to a job, by the same road as `run`: the same checks, the same files."""

from __future__ import annotations

import msgspec

from planetmesh.cli.inputs import Sources, read_inputs
from planetmesh.cli.spec import PRIORITY_MOST, RETRIES_MOST, JobOptions, command_payload, script_payload
from planetmesh.cli.staging import Order, make_order
from planetmesh.dashboard.draft import Draft, command_words, inputs_of, whole_number, words_of
from planetmesh.model.ids import NodeId

GPUS_MOST = 64


def order_of(draft: Draft) -> Order:
    """Raises BadInput and NotFound; relative names begin in the current folder. Blocks on the disk."""
    options = JobOptions(
        name=draft.name.strip(),
        cpus=draft.cpus.strip() or None,
        memory=draft.memory.strip() or None,
        gpus=whole_number(draft.gpus, "GPUs", 0, GPUS_MOST) or 0,
        tag=tuple(draft.tags.replace(",", " ").split()),
        timeout=draft.timeout.strip() or None,
        retries=whole_number(draft.retries, "retries", 0, RETRIES_MOST),
        priority=whole_number(draft.priority, "a priority", -PRIORITY_MOST, PRIORITY_MOST) or 0,
        stage_in=words_of(draft.take, "list of files"),
        out=words_of(draft.bring, "list of patterns"),
    )
    if draft.script.strip():
        kind = script_payload(draft.script.strip(), words_of(draft.command, "line of arguments"), None)
    else:
        kind = command_payload(command_words(draft.command))
    span, lines = inputs_of(draft.inputs)
    inputs = read_inputs(Sources(lists=(lines,) if lines else (), range=span or None))
    order = make_order(kind, inputs, options, may_name_files=bool(lines))
    if not draft.node.strip():
        return order
    # The coordinator looks the name up.
    spec = msgspec.structs.replace(order.spec, node=NodeId(draft.node.strip()))
    return Order(spec, order.options, order.plan, order.notes)
