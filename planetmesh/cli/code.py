"""`planetmesh code`: open a pairing window, show its code, and say who came."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

import click

from planetmesh.cli.face import Face
from planetmesh.cli.output import cell
from planetmesh.model.endpoint import parse_endpoint

if TYPE_CHECKING:
    from planetmesh.client.async_client import AsyncMesh
    from planetmesh.wire.api import PairingWindow

LOOK_SECONDS = 1.0
"""Between two looks at the window while somebody watches."""
_EXAMPLES = """
\b
Examples:
  planetmesh code                                 for one more machine
  planetmesh code --role operator --ttl 5m        for a person: `planetmesh login`
  planetmesh code --json | jq -r .code            for a script
  planetmesh code --ttl 24h --json | jq -r .code  a long code, for unattended installs
  planetmesh code --close                         somebody saw one

A code is good for one newcomer in one role; a wrong one may be tried five times.
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--role", type=click.Choice(["agent", "operator", "viewer"]), default="agent", show_default=True
)
@click.option("--ttl", metavar="TIME", default="10m", show_default=True, help="How long the code lives.")
@click.option("--wait/--no-wait", default=None, help="Stay and say who came (default: on a terminal).")
@click.option(
    "--close", is_flag=True, help="Open none: close all that are open, their codes are worth nothing."
)
@click.pass_obj
def code(face: Face, *, role: str, ttl: str, wait: bool | None, close: bool) -> int:
    """Open a pairing window and show its code (operators only)."""
    from planetmesh.model.resources import parse_duration

    if close:
        closed = face.with_mesh(_close_all)
        many = f"{len(closed)} open {'code is' if len(closed) == 1 else 'codes are'} worth nothing any more."
        face.printer.done(many if closed else "No code was open.", {"closed": closed}, word=" ".join(closed))
        return 0

    seconds = parse_duration(ttl)
    stays = wait if wait is not None else face.printer.form == "table" and sys.stdout.isatty()
    return face.run(_open(face, role, seconds, stays=stays))


async def _close_all(mesh: AsyncMesh) -> list[str]:
    """Close every window; the slots. One that was used or ran out meanwhile is closed all the same."""
    from planetmesh.errors import NotFound

    slots = [window.slot for window in await mesh.pairings()]
    for slot in slots:
        with suppress(NotFound):
            await mesh.close_pairing(slot)
    return slots


async def _open(face: Face, role: str, seconds: float, *, stays: bool) -> int:
    from planetmesh.cli.interrupt import INTERRUPTED, Interruption

    async with face.mesh() as mesh:
        window = await mesh.open_pairing(role, seconds)
        _show(face, window)
        if not stays:
            return 0
        with Interruption() as interruption:
            ended = await interruption.interruptible(_watch(face, mesh, window))
        return INTERRUPTED if ended is None else ended


def _show(face: Face, window: PairingWindow) -> None:
    document = {
        "code": window.code,
        "role": window.role,
        "expires_at": window.expires_at,
        "address": window.address,
    }
    if face.printer.form != "table":
        face.printer.done("", document, word=window.code)
        return
    command = "up" if window.role == "agent" else "login"
    role = "" if window.role in {"agent", "operator"} else f" --role {window.role}"
    print(f"\n    {cell(window.code)}\n", flush=True)
    say = face.printer.note
    who = "machine" if window.role == "agent" else window.role
    say(f"Good for one {who}, for {_life(window)}. Type there:")
    say(f"    planetmesh {command}{role}")
    if window.address:
        say(f"or, where multicast is blocked:  planetmesh {command}{role} --join {window.address}")


def _life(window: PairingWindow) -> str:
    left = max(0.0, datetime.fromisoformat(window.expires_at).timestamp() - time.time())
    if left < 90:
        return f"{left:.0f} seconds"
    return f"{left / 60:.0f} minutes" if left < 90 * 60 else f"{left / 3600:.0f} hours"


async def _watch(face: Face, mesh: AsyncMesh, window: PairingWindow) -> int:
    """Until the code is used or gone: who tried, who came."""
    from planetmesh.client.newcomers import members_of

    if window.address:
        face.printer.note(
            f"Waiting at {parse_endpoint(window.address)[0]}… (Ctrl-C: leave, the code stays good)"
        )
    known = frozenset(await members_of(mesh, window.role))
    tried: tuple[str, ...] = ()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        present = next((each for each in await mesh.pairings() if each.slot == window.slot), None)
        if present is None:
            return await _tell_end(face, mesh, window, known)
        for address in present.last_failures[len(tried) :]:
            face.printer.warn(f"{address} tried a wrong code; {present.attempts_left} attempts are left.")
        tried = present.last_failures


async def _tell_end(face: Face, mesh: AsyncMesh, window: PairingWindow, known: frozenset[str]) -> int:
    from planetmesh.client.newcomers import closer_of, newcomers

    came = await newcomers(mesh, window.role, known)
    if came:
        what = "joined" if window.role == "agent" else f"came in as {window.role}"
        face.printer.note(f"{', '.join(came)} {what}.")
        return 0
    closer = await closer_of(mesh, window.slot)
    if closer:
        face.printer.warn(f"{closer} closed the window. `planetmesh code` opens a new one.")
    elif datetime.fromisoformat(window.expires_at).timestamp() <= time.time():
        face.printer.warn("The code has expired. `planetmesh code` makes a new one.")
    else:
        face.printer.warn(
            "The window was closed: too many wrong codes, or the coordinator was started again. "
            "`planetmesh code` opens a new one."
        )
    return 1
