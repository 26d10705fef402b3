"""What other installed packages offer to planetmesh, by their entry points.

Looked for once by each service at its start. A package that cannot be loaded is told in the log and left
out: it must not keep a mesh from running.
"""

from __future__ import annotations

import logging
from importlib import metadata
from typing import NamedTuple

log = logging.getLogger(__name__)

JOB_TYPES = "planetmesh.job_types"


class Offer(NamedTuple):
    """One entry point, loaded."""

    name: str
    found: object
    package: str


def offers(group: str) -> list[Offer]:
    """What is offered under a group's name, sorted; of packages on this Python's path."""
    loaded: list[Offer] = []
    for point in sorted(metadata.entry_points(group=group), key=lambda each: (each.name, each.value)):
        package = point.dist.name if point.dist else "?"
        try:
            loaded.append(Offer(point.name, point.load(), package))
        except Exception as error:  # a stranger's module may fail in any way
            log.warning(
                "entry_point.unusable",
                extra={"group": group, "entry": point.name, "package": package, "reason": repr(error)},
            )
    return loaded
