"""What the shell offers for a Tab: ids and names from the mesh, files from here. Silent whatever goes wrong.

Each key press asks the mesh anew, so it may take a second at most; without one there is nothing to offer. A
shell takes what we offer for a piece of the line that is typed: a name with anything in it that a shell reads
is never offered, its id is.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

import click
from click.shell_completion import CompletionItem

from planetmesh.cli.face import Face

if TYPE_CHECKING:
    from planetmesh.client.async_client import AsyncMesh
    from planetmesh.wire.api import JobView

T = TypeVar("T")

PATIENT_SECONDS = 1.0
JOBS_MOST = 50
ID_LETTERS = 12
HELP_MOST_LETTERS = 60
LAST = "last"
_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@%+-]*")
"""Means the same to every shell, in any place of a line, and is no option of ours."""

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_job(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Any job."""
    return _jobs(context, incomplete, live=None)


def complete_live_job(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """A job that has not ended."""
    return _jobs(context, incomplete, live=True)


def complete_ended_job(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """A job that has ended."""
    return _jobs(context, incomplete, live=False)


def complete_node(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """A machine."""
    nodes = _ask(context, lambda mesh: mesh.nodes()) or []
    return _fitting(incomplete, (_named(node.name, node.id, node.state) for node in nodes))


def complete_tag(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """What machines say that they can do."""
    nodes = _ask(context, lambda mesh: mesh.nodes()) or []
    tags = sorted({tag for node in nodes for tag in node.tags})
    return _fitting(incomplete, ((tag, "") for tag in tags))


def complete_person(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """An operator or viewer."""
    people = _ask(context, lambda mesh: mesh.people()) or []
    return _fitting(incomplete, (_named(each.name, each.id, each.role) for each in people))


def complete_job_or_node(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """What `explain` takes."""
    return [*complete_node(context, parameter, incomplete), *complete_job(context, parameter, incomplete)]


def complete_file(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The shell's own completion of files."""
    return [CompletionItem(incomplete, type="file")]


def complete_folder(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="dir")]


def _jobs(context: click.Context, incomplete: str, *, live: bool | None) -> list[CompletionItem]:
    jobs = _ask(context, lambda mesh: mesh.jobs(limit=JOBS_MOST, live=live)) or []
    offers = [(LAST, "the newest of yours")] if jobs else []
    offers += [(job.name, _about(job)) for job in jobs if job.name]
    offers += [(job.id, _about(job)) for job in jobs]
    return _fitting(incomplete, offers)


def _about(job: JobView) -> str:
    return f"{job.status} {job.name or job.type}"


def _named(name: str, full_id: str, about: str) -> tuple[str, str]:
    """By name, or by the beginning of the id where a shell would read more than a name in it."""
    return (name, about) if _SAFE.fullmatch(name) else (full_id[:ID_LETTERS], f"{about} {name}")


def _fitting(incomplete: str, offers: Iterable[tuple[str, str]]) -> list[CompletionItem]:
    from planetmesh.cli.output import cell

    found = {word: about for word, about in offers if word.startswith(incomplete) and _SAFE.fullmatch(word)}
    return [
        CompletionItem(word, help=cell(about, HELP_MOST_LETTERS) or None) for word, about in found.items()
    ]


def _ask(context: click.Context, work: Callable[[AsyncMesh], Awaitable[T]]) -> T | None:
    import asyncio

    face = context.find_object(Face) or Face()
    # Before the time is counted: loading the client takes a moment.
    opening = face.mesh(patience_seconds=0.0, on_wait=None, finder=None)

    async def ask() -> T:
        async with asyncio.timeout(PATIENT_SECONDS), opening as mesh:
            return await work(mesh)

    logging.disable()
    try:
        return face.run(ask())
    except Exception:
        return None
    finally:
        logging.disable(logging.NOTSET)
