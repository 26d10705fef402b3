"""Separate types for separate things, and the only place that draws fresh ones.

Fresh ids are drawn at the doors (API, enrolment) and passed in; pure rooms never call these.
"""

from __future__ import annotations

import re
import secrets
from typing import NewType

MeshId = NewType("MeshId", str)
"""32 hex digits; stands in every certificate."""
NodeId = NewType("NodeId", str)
"""32 hex digits; chosen by the coordinator at enrolment, stands in the node's certificate."""
JobId = NewType("JobId", str)
"""10 symbols of Crockford's alphabet in lower case: short enough to type, no look-alikes."""
Serial = NewType("Serial", str)
"""A certificate's serial number in hex."""

TaskKey = tuple[JobId, int]
"""A task is its job and its index (0-based). People write it `JOB/INDEX`."""

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_HEX32 = re.compile(r"[0-9a-f]{32}")
_JOB = re.compile(rf"[{_CROCKFORD}]{{10}}")


def new_mesh_id() -> MeshId:
    return MeshId(secrets.token_hex(16))


def new_node_id() -> NodeId:
    return NodeId(secrets.token_hex(16))


def new_job_id() -> JobId:
    return JobId("".join(secrets.choice(_CROCKFORD) for _ in range(10)))


def is_node_id(text: str) -> bool:
    return _HEX32.fullmatch(text) is not None


def is_job_id(text: str) -> bool:
    return _JOB.fullmatch(text) is not None
