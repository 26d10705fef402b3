"""Joining a mesh: find its coordinator, get the code, pair. Shared by `up` (as agent) and `login`.

Whoever speaks mDNS can claim anything, so nothing is ever guessed: a code goes to one coordinator only,
chosen by the slot it names, by the user, or by the address that was typed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from planetmesh.cli.codes_in import Way, ask_code, read_code
from planetmesh.cli.face import Face
from planetmesh.cli.secret_lines import is_asked
from planetmesh.errors import BadInput, MeshError, PairingFailed, Unreachable
from planetmesh.logs import clean
from planetmesh.model.endpoint import DEFAULT_PORT, format_endpoint, parse_endpoint
from planetmesh.model.identity import Role

if TYPE_CHECKING:
    from planetmesh.discovery import Found
    from planetmesh.trust.codes import Code
    from planetmesh.trust.identity import Identity

LOOK_SECONDS = 3.0
"""A coordinator on the LAN answers within one; the rest is for a sleepy Wi-Fi."""
SLOT_SECONDS = 6.0
"""A window is announced the moment it opens."""
SLOT_ASKED_SECONDS = 60.0
"""While somebody sits there: they may have to walk to the other machine first."""
TRIES = 3


@dataclass(frozen=True)
class Newcomer:
    """Who wants to join, and where its identity will lie."""

    role: Role
    name: str
    folder: Path
    bind: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """One coordinator's addresses, with the port to try."""

    addresses: tuple[str, ...]
    port: int

    @property
    def text(self) -> str:
        return format_endpoint(self.addresses[0], self.port)


def look(bind: tuple[str, ...]) -> list[Found]:
    """Every coordinator that is heard within a few seconds."""
    from planetmesh.discovery import find

    return asyncio.run(find(LOOK_SECONDS, until=bool, bind=bind))


def join(face: Face, way: Way, newcomer: Newcomer, heard: list[Found] | None = None) -> Identity:
    """Pair; the identity is on disk when this returns. `heard`: what a search before found.

    Raises PairingFailed, Unreachable, BadInput (several meshes, or nobody there to type the code).
    """
    if way.has_code:
        code = read_code(way)
        return _pair(face, code, _target(face, way, newcomer, code), newcomer)
    if not is_asked():
        raise _code_needed(way, heard or [])
    return _join_asking(face, way, newcomer, heard)


def describe(found: list[Found]) -> str:
    """`mesh ab12cd34 at 192.168.1.20:7433`, one after the other."""
    return ", ".join(f"mesh {each.mesh8} at {_address(each)}" for each in found)


def _join_asking(face: Face, way: Way, newcomer: Newcomer, heard: list[Found] | None) -> Identity:
    """Let the person at the terminal choose the mesh and type the code, three times at most."""
    chosen = None if way.join else _choose(heard if heard is not None else look(newcomer.bind))
    where = way.join or (_address(chosen) if chosen else "the coordinator")
    if chosen is None or not chosen.slots:
        face.printer.note(f"On {where}, run `planetmesh code{_role_option(newcomer.role)}`.")
    for tries_left in reversed(range(TRIES)):
        code = ask_code()
        try:
            return _pair(face, code, _target(face, way, newcomer, code, chosen), newcomer)
        except PairingFailed as error:
            if not tries_left:
                raise
            from planetmesh.cli.failure import show_error

            show_error(error.code, error.message, error.hint, as_json=False)
    raise AssertionError


def _role_option(role: Role) -> str:
    return "" if role is Role.AGENT else f" --role {role}"


def _choose(found: list[Found]) -> Found:
    """The only one, or the one that the user picks."""
    if not found:
        raise nothing_heard()
    if len(found) == 1:
        return found[0]
    click.echo("Several meshes are on this LAN:", err=True)
    for number, each in enumerate(found, 1):
        click.echo(f"  {number}  mesh {clean(each.mesh8)} at {clean(_address(each))}", err=True)
    number = click.prompt("Which one", type=click.IntRange(1, len(found)), err=True)
    return found[number - 1]


def _target(face: Face, way: Way, newcomer: Newcomer, code: Code, chosen: Found | None = None) -> Target:
    """Where this code belongs."""
    if way.join:
        host, port = parse_endpoint(way.join, DEFAULT_PORT)
        return Target((host,), port)
    slot = str(code.slot)
    if chosen is not None and slot in chosen.slots and chosen.pair_port:
        return Target(chosen.addresses, chosen.pair_port)
    face.printer.note("Looking for the coordinator of this code on this LAN…")
    heard = asyncio.run(_find_slot(slot, newcomer.bind, SLOT_ASKED_SECONDS if chosen else SLOT_SECONDS))
    if chosen is not None:
        heard = [each for each in heard if (each.mesh8, each.node8) == (chosen.mesh8, chosen.node8)] or [
            chosen
        ]
    return _only(heard, slot)


async def _find_slot(slot: str, bind: tuple[str, ...], seconds: float) -> list[Found]:
    from planetmesh.discovery import find

    return await find(seconds, until=lambda found: any(slot in each.slots for each in found), bind=bind)


def _only(heard: list[Found], slot: str) -> Target:
    """The one coordinator with a window of this slot; without one, the only coordinator there is."""
    if not heard:
        raise nothing_heard()
    matching = [each for each in heard if slot in each.slots] or heard
    if len(matching) > 1:
        raise several(matching)
    only = matching[0]
    # An announcement can be late or lost: the coordinator itself knows whether the window is open.
    return Target(only.addresses, only.pair_port or only.port)


def _pair(face: Face, code: Code, target: Target, newcomer: Newcomer) -> Identity:
    face.printer.note(f"Pairing with {target.text}…")
    identity = asyncio.run(_enroll(code, target, newcomer))
    offset = identity.clock_offset_seconds
    if offset:
        face.printer.warn(
            f"This machine's clock is {abs(offset):.0f} s {'behind' if offset > 0 else 'ahead of'} the "
            "coordinator's. Set it, or certificates will seem expired: `planetmesh doctor`."
        )
    return identity


async def _enroll(code: Code, target: Target, newcomer: Newcomer) -> Identity:
    """At the first address that answers; one that does not answer has not seen the code."""
    from planetmesh.trust.enroll import enroll

    missed: MeshError | None = None
    for address in target.addresses:
        try:
            return await enroll(
                address, target.port, code, role=newcomer.role, name=newcomer.name, folder=newcomer.folder
            )
        except Unreachable as error:
            missed = missed or error
    raise missed or nothing_heard()


def nothing_heard() -> Unreachable:
    from planetmesh.discovery import NOTHING_HEARD_HINT

    return Unreachable("No coordinator was heard on this LAN.", hint=NOTHING_HEARD_HINT)


def several(found: list[Found]) -> BadInput:
    return BadInput(
        f"Several meshes are on this LAN: {describe(found)}.",
        hint="Say which one with --join HOST:PORT, or start another one with `planetmesh up --new`.",
    )


def _code_needed(way: Way, heard: list[Found]) -> BadInput:
    if way.join:
        what = f"Joining at {way.join} needs the pairing code"
    elif heard:
        what = f"There is a coordinator on this LAN ({describe(heard)}); joining it needs its pairing code"
    else:
        what = "Joining a mesh needs its pairing code"
    return BadInput(
        f"{what}, and nobody is at a terminal to type it.",
        hint="Run `planetmesh code` there, and give the code with --code-stdin or --code-file.",
    )


def _address(found: Found) -> str:
    return format_endpoint(found.addresses[0], found.port)
