"""The list of job types, written out."""

from __future__ import annotations

from planetmesh.errors import BadInput
from planetmesh.jobtypes.command import Command
from planetmesh.jobtypes.contract import JobType
from planetmesh.jobtypes.python import Python
from planetmesh.jobtypes.script import Script

JOB_TYPES: dict[str, JobType] = {"command": Command(), "script": Script(), "python": Python()}


def job_type(name: str) -> JobType:
    """Raises BadInput with the names that exist."""
    found = JOB_TYPES.get(name)
    if found is None:
        raise BadInput(f"There is no job type '{name}'.", hint=f"Known ones: {', '.join(JOB_TYPES)}.")
    return found
