"""The list of job types: our own, written out, and those that a service was given at its start."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import cast

from planetmesh.errors import BadInput
from planetmesh.jobtypes.command import Command
from planetmesh.jobtypes.contract import JobType
from planetmesh.jobtypes.dask import Dask
from planetmesh.jobtypes.embedding import Embedding
from planetmesh.jobtypes.image_batch import ImageBatch
from planetmesh.jobtypes.python import Python
from planetmesh.jobtypes.script import Script

JOB_TYPES: dict[str, JobType] = {
    kind.name: kind for kind in (Command(), Script(), Python(), ImageBatch(), Embedding(), Dask())
}
NAME_MOST = 40
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


def job_type(name: str) -> JobType:
    """Raises BadInput with the names that exist."""
    found = JOB_TYPES.get(name)
    if found is None:
        raise BadInput(
            f"There is no job type '{name}' here.",
            hint=f"Known ones: {', '.join(JOB_TYPES)}. A package with others must be installed here too.",
        )
    return found


def add_job_types(offers: Iterable[tuple[str, object, str]]) -> list[str]:
    """Take in (name, class or object, package); what cannot be taken is told in sentences."""
    complaints: list[str] = []
    for name, offered, package in offers:
        try:
            _add(name, offered)
        except Exception as error:  # a stranger's class may fail in any way
            reason = error.message if isinstance(error, BadInput) else repr(error)
            complaints.append(f"The job type {name[:NAME_MOST]!a} of {package} is left out: {reason}")
    return complaints


def _add(name: str, offered: object) -> None:
    kind = offered() if isinstance(offered, type) else offered
    if JobType not in type(kind).__mro__:
        raise BadInput("it does not derive from planetmesh.jobtypes.contract.JobType.")
    made = cast("JobType", kind)
    if made.name != name or _NAME.fullmatch(name) is None:
        raise BadInput(
            f"it calls itself {str(made.name)[:NAME_MOST]!a}; both names must be the same, in small letters, "
            "digits, - and _."
        )
    if name in JOB_TYPES and type(JOB_TYPES[name]) is not type(made):
        # A package may not change what a job of ours, or of another's, means.
        raise BadInput("there is one of that name already.")
    JOB_TYPES[name] = made
