"""Why a task may not run on a node: the same checks for the scheduler and for people.

Ordered from cheap and lasting to costly and passing; the first that objects gives the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from shlex import quote

import msgspec

from planetmesh.mesh.lifecycle import Phase
from planetmesh.mesh.live_job import LiveJob, Signature
from planetmesh.mesh.live_node import LiveNode
from planetmesh.model.ids import JobId
from planetmesh.model.node import NodeState
from planetmesh.model.resources import Resources, show_resources
from planetmesh.settings import Settings
from planetmesh.wire.dask import dask_tag

HELD_MOST = 4096
"""Tasks that one node may have in hand: a bound for tasks that ask for (nearly) nothing."""
DASK = dask_tag("")
"""How the tags of all versions begin."""


IMAGES_HINT = "there: pip install 'planetmesh[images]', then `planetmesh up` again"


NO_MEMBER = "it belongs to the mesh no more: it has left, or its certificate was revoked or ran out"
PAIR_AGAIN = "pair it again (`planetmesh code` here, `planetmesh leave` and `planetmesh up` there)"


class Reason(msgspec.Struct, frozen=True):
    """One objection, in words for people, with the next command to type."""

    code: str
    sentence: str
    hint: str = ""
    lasting: bool = False
    """True if it will not go away by waiting: somebody has to change the job or the node."""


def _not_this_node(signature: Signature, live: LiveNode) -> Reason | None:
    wanted = signature[2]
    if wanted is None or wanted == live.node.id:
        return None
    return Reason("other_node", "the job asks for another node", lasting=True)


def _missing_tags(signature: Signature, live: LiveNode) -> Reason | None:
    missing = [tag for tag in signature[1] if tag not in live.node.all_tags]
    if not missing:
        return None
    words = ", ".join(missing)
    if live.node.info is not None and missing[0].startswith("python3."):
        # Nodes have such a tag by themselves; giving it to another one would only move the failure there.
        asked = missing[0].removeprefix("python")
        return Reason(
            "tags", f"it has Python {live.node.info.python}, and the job needs {asked}", lasting=True
        )
    if missing[0].startswith(DASK):
        has = [tag.removeprefix(DASK) for tag in live.node.all_tags if tag.startswith(DASK)]
        found = f"it has Dask {has[0]}" if has else "it has no Dask (planetmesh[dask])"
        return Reason(
            "tags", f"{found}, and the cluster's owner has {missing[0].removeprefix(DASK)}", lasting=True
        )
    if missing[0].startswith("embed:"):
        # Nodes find out by themselves; with the tag alone nothing would be there.
        return Reason(
            "tags",
            f"it lacks {words}: a model server with that model, or planetmesh[embedding] for model folders",
            lasting=True,
        )
    if missing[0].startswith("image:"):
        return Reason("tags", f"it cannot read or write {missing[0][6:].upper()}", IMAGES_HINT, lasting=True)
    return Reason(
        "tags",
        f"it lacks the tag {words}",
        f"planetmesh node tag {quote(live.node.name)} {missing[0]}",
        lasting=True,
    )


def _unknown_type(signature: Signature, live: LiveNode) -> Reason | None:
    if live.node.info is None or signature[3] in live.node.info.job_types:
        return None
    if signature[3] == "image_batch":
        return Reason("job_type", "it has no Pillow, which images need", IMAGES_HINT, lasting=True)
    return Reason(
        "job_type",
        f"it cannot run jobs of type {signature[3]}: it lacks a package for them, or its version is older",
        lasting=True,
    )


def _refuses(_signature: Signature, live: LiveNode) -> Reason | None:
    if live.node.info is None or not live.node.info.refuses:
        return None
    return Reason("refuses", live.node.info.refuses, "planetmesh doctor", lasting=True)


def _too_small(signature: Signature, live: LiveNode) -> Reason | None:
    wanted, offer = signature[0], live.offer
    if live.node.info is None or wanted.fits_in(offer):
        return None
    return Reason(
        "too_small",
        f"it offers only {show_resources(offer)} and the task asks for {show_resources(wanted)}",
        lasting=True,
    )


def _no_member(_signature: Signature, live: LiveNode) -> Reason | None:
    if live.is_member:
        return None
    return Reason("no_member", NO_MEMBER, no_member_hint(live), lasting=True)


def no_member_hint(live: LiveNode) -> str:
    return f"{PAIR_AGAIN}, or strike it: planetmesh node forget {quote(live.node.name)}"


def _offline(_signature: Signature, live: LiveNode) -> Reason | None:
    if live.node.state is NodeState.OFFLINE or not live.connected:
        return Reason("offline", "it is not connected", "start `planetmesh up` there")
    return None


def _suspect(_signature: Signature, live: LiveNode) -> Reason | None:
    if live.node.state is NodeState.SUSPECT:
        return Reason("suspect", "it has been silent for some seconds")
    return None


def _draining(_signature: Signature, live: LiveNode) -> Reason | None:
    if live.node.draining:
        return Reason("draining", "it is draining", f"planetmesh node resume {quote(live.node.name)}")
    return None


def _quarantined(signature: Signature, live: LiveNode) -> Reason | None:
    record = live.records.get(signature[4])
    if record is None or record.phase in {Phase.GOOD, Phase.PROBE}:
        return None
    why = f"it failed '{signature[4]}' {record.streak} times quickly while others did well"
    if record.streak < 1:
        why = f"it failed '{signature[4]}' while others did well"
    then = (
        "one task is trying it again" if record.phase is Phase.PROBING else "it gets one to try after a pause"
    )
    said = f" ({record.reason.rstrip('.')})" if record.reason else ""
    return Reason("quarantine", f"{why}{said}; {then}", f"planetmesh node resume {quote(live.node.name)}")


CHECKS: tuple[Callable[[Signature, LiveNode], Reason | None], ...] = (
    _not_this_node,
    _missing_tags,
    _unknown_type,
    _refuses,
    _too_small,
    _no_member,
    _draining,
    _offline,
    _suspect,
    _quarantined,
)


def objection(signature: Signature, live: LiveNode) -> Reason | None:
    """The first reason why no task of this signature may run on the node; None if it may."""
    for check in CHECKS:
        reason = check(signature, live)
        if reason is not None:
            return reason
    return None


def has_slot(live: LiveNode, requests: Resources, now_steady: float) -> bool:
    """Could the node start one more such task at once?"""
    return (
        (live.used + requests).fits_in(live.offer)
        and len(live.held) < HELD_MOST
        and live.resting_until <= now_steady
    )


def is_trusted(live: LiveNode, kind: str) -> bool:
    """No quarantine stands between the node and this kind of job."""
    record = live.records.get(kind)
    return record is None or record.phase is Phase.GOOD


def may_try(live: LiveNode, kind: str) -> bool:
    """It is trusted, or the next task is to show whether it can be."""
    record = live.records.get(kind)
    return record is None or record.phase in {Phase.GOOD, Phase.PROBE}


def may_stand_in_backlog(job: LiveJob, settings: Settings) -> bool:
    """Only tasks whose length is known and short may be given to a node that is busy."""
    seconds = job.task_seconds
    return seconds is not None and seconds <= settings.prefill_seconds and settings.prefill_most > 0


def has_backlog_room(
    live: LiveNode, job: LiveJob, jobs: Mapping[JobId, LiveJob], settings: Settings, now_steady: float
) -> bool:
    """May one more task of `job` wait at the node? The backlog is bounded in seconds of work and in tasks."""
    slots = job.job.spec.requests.how_often_in(live.offer)
    if slots == 0 or len(live.held) - slots >= settings.prefill_most:
        return False
    if max(live.prefill_after, live.resting_until) > now_steady:
        return False
    work_seconds = job.task_seconds or 0.0
    for job_id, count in live.held_by_job.items():
        mean = jobs[job_id].task_seconds
        if mean is None:
            return False
        work_seconds += count * mean
    return work_seconds <= settings.prefill_seconds * slots


def full(live: LiveNode) -> Reason:
    tasks = "1 task" if len(live.held) == 1 else f"{len(live.held)} tasks"
    return Reason("full", f"all it offers is taken ({tasks} in hand)")
