"""What `doctor` looks at, one function a check. Each says what it found and what to do next; none mends."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from planetmesh.cli.finding import FAIL, OK, WARN, Finding
from planetmesh.cli.mesh_checks import Mesh, again, look_at_mesh
from planetmesh.cli.part import Part, Role, read_part
from planetmesh.errors import MeshError
from planetmesh.model.resources import show_size
from planetmesh.paths import Home, closed_to_others, work_root

if TYPE_CHECKING:
    from planetmesh.discovery import Found, InterfaceAddress

BUILD_AT = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
"""Some day before this version was made: a clock before it is wrong."""
MULTICAST_SECONDS = 2.0
HEARD_SECONDS = 4.0
"""A coordinator answers within two; an access point may keep multicast back for a second."""
RENEW_WARN_SECONDS = 3 * 86400.0
DISK_WARN_BYTES = 2 * 1024**3
DISK_FAIL_BYTES = 100 * 1024**2


def examine(home: Home) -> list[Finding]:
    """Every check, in the order in which a machine comes to its mesh."""
    sandbox = _sandbox(home)
    local = [*_home(home), *_clock(), *_addresses(_part_of(home))]
    lan = asyncio.run(_look_around(home))
    return [*local, *lan, *_port(home), *sandbox, *_python(), *_disk(home)]


async def _look_around(home: Home) -> list[Finding]:
    """What the network says: multicast, then the certificates and whom they lead to."""
    mesh, multicast, heard = await asyncio.gather(
        look_at_mesh(home, _networks(home)), _multicast(home), _heard(home)
    )
    return [*multicast, *_announced(home, heard, mesh), *_certificates(home), *mesh.findings]


def _networks(home: Home) -> list[str]:
    from planetmesh.discovery import usable_addresses

    part = _part_of(home)
    return [str(each.network) for each in usable_addresses(part.bind if part else ())]


def _home(home: Home) -> list[Finding]:
    if not home.exists():
        hint = "Start or join a mesh with `planetmesh up`."
        return [Finding("home", WARN, f"There is no {home.root}: this machine is in no mesh yet.", hint)]
    try:
        home.prepare()
        part = read_part(home)
    except MeshError as error:
        return [Finding("home", FAIL, error.message, error.hint)]
    if part is None:
        what = "gives orders" if home.operator.exists() else "is in no mesh yet"
        return [Finding("home", OK, f"{home.root}; this machine {what}.")]
    return [Finding("home", OK, f"{home.root}; this machine is {part.role} as '{part.name}'.")]


def _clock() -> list[Finding]:
    now = time.time()
    day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if now < BUILD_AT:
        hint = "Set it, by hand or with NTP (`timedatectl set-ntp true`): certificates depend on it."
        return [Finding("clock", FAIL, f"It says {day}, before this program was made.", hint)]
    return [Finding("clock", OK, f"It says {day}.")]


def _addresses(part: Part | None) -> list[Finding]:
    from planetmesh.discovery import skipped_interfaces, usable_addresses

    usable = usable_addresses()
    if part is not None and part.bind:
        return [_bound(part, usable)]
    skipped = "; ".join(f"{each.name}: {each.reason}" for each in skipped_interfaces())
    left_out = f" Left out: {skipped}." if skipped else ""
    if not usable:
        hint = "Connect this machine to a network; on one machine alone use --bind 127.0.0.1 --no-mdns."
        return [Finding("addresses", WARN, f"This machine has no address on a LAN.{left_out}", hint)]
    shown = ", ".join(f"{each.address} ({each.name})" for each in usable)
    return [Finding("addresses", OK, f"{shown}.{left_out}")]


def _bound(part: Part, usable: Sequence[InterfaceAddress]) -> Finding:
    """`--bind` chose once and for all; cables and address leases go on changing."""
    from planetmesh.discovery import usable_addresses

    used = usable_addresses(part.bind)
    said = f"--bind {' --bind '.join(part.bind)}"
    others = [each for each in usable if each.name not in {here.name for here in used}]
    back = f"planetmesh up --bind {others[0].address}" if others else "planetmesh up --bind ''"
    if not used:
        detail = f"This machine has no such address any more: {said}. It has {_named(usable) or 'none'}."
        return Finding("addresses", FAIL, detail, f"`{back}`, or `planetmesh up --bind ''` for all of them.")
    detail = f"Only {_named(used)} is used ({said})."
    if part.role is Role.COORDINATOR and others:
        detail += f" Machines that are only in the network of {_named(others)} cannot reach this one."
        return Finding("addresses", WARN, detail, "For all networks: `planetmesh up --bind ''`")
    return Finding("addresses", OK, detail + (f" Left out: {_named(others)}." if others else ""))


def _named(addresses: Sequence[InterfaceAddress]) -> str:
    return ", ".join(f"{each.address} ({each.name})" for each in addresses)


async def _multicast(home: Home) -> list[Finding]:
    from planetmesh.discovery import probe_multicast, usable_addresses

    part = _part_of(home)
    if part is not None and not part.mdns:
        return [Finding("multicast", OK, "Not used (--no-mdns).")]
    if not usable_addresses(part.bind if part else ()):
        return [Finding("multicast", WARN, "There is no address to try it on.")]
    hint = "Let UDP port 5353 through the firewall, or join with `planetmesh up --join HOST:PORT`."
    try:
        report = await probe_multicast(MULTICAST_SECONDS, part.bind if part else ())
    except MeshError as error:
        return [Finding("multicast", WARN, error.message, error.hint or hint)]
    deaf = [f"{each.name} {each.error}".strip() for each in report.interfaces if not each.heard_itself]
    if not report.works:
        return [Finding("multicast", WARN, f"Nothing comes back on {', '.join(deaf)}.", hint)]
    if not report.heard_others:
        return [Finding("multicast", OK, "It works here; no other machine was heard speaking mDNS.")]
    return [Finding("multicast", OK, "It works, and others are heard.")]


async def _heard(home: Home) -> list[Found] | None:
    """Coordinators that announce themselves; None where nobody listens for them."""
    from planetmesh.discovery import find

    part = _part_of(home)
    if part is not None and (not part.mdns or part.role is Role.COORDINATOR):
        return None
    mesh8 = _mesh8(home)
    try:
        return await find(
            HEARD_SECONDS,
            until=lambda found: any(mesh8 in {"", each.mesh8} for each in found),
            bind=part.bind if part else (),
        )
    except MeshError:
        return None


def _announced(home: Home, heard: list[Found] | None, mesh: Mesh) -> list[Finding]:
    """Whether those who look for a coordinator hear one, and what that means."""
    if heard is None:
        return []
    mesh8 = _mesh8(home)
    if not mesh8:
        return [_meshes_around(heard)]
    if any(each.mesh8 == mesh8 for each in heard):
        return [Finding("announcement", OK, "The coordinator is heard by mDNS.")]
    part = _part_of(home)
    if mesh.is_reached and part is not None and (wrong := _wrong_interface(part, mesh)):
        return [wrong]
    if mesh.is_reached:
        return [
            Finding(
                "announcement",
                WARN,
                "The coordinator is reached, but not heard by mDNS: multicast is blocked on the way.",
                "Work goes on. New machines need `planetmesh up --join HOST:PORT`, unless UDP port 5353 is "
                "let through both firewalls and multicast through the router (IGMP snooping).",
            )
        ]
    return [
        Finding(
            "announcement",
            WARN,
            f"The coordinator is not heard by mDNS.{_instead(heard)}",
            "Is `planetmesh up` running there, in this network?",
        )
    ]


def _wrong_interface(part: Part, mesh: Mesh) -> Finding | None:
    """Multicast that goes out of one network interface while the coordinator is behind another."""
    from planetmesh.cli.way import is_near
    from planetmesh.discovery import usable_addresses
    from planetmesh.model.endpoint import parse_endpoint

    bound = {each.name for each in usable_addresses(part.bind)} if part.bind else set()
    hosts = [parse_endpoint(endpoint)[0] for endpoint in mesh.endpoints]
    ways = [
        each
        for each in usable_addresses()
        # Every interface has the network of link-local addresses.
        if not each.network.is_link_local and any(is_near(host, [str(each.network)]) for host in hosts)
    ]
    if not bound or not ways or bound & {each.name for each in ways}:
        return None
    return Finding(
        "announcement",
        WARN,
        f"mDNS is used on {', '.join(sorted(bound))} only (--bind), but the coordinator is behind "
        f"{_named(ways)}.",
        f"`planetmesh up --bind {ways[0].address}`, or `planetmesh up --bind ''` for all networks.",
    )


def _instead(heard: list[Found]) -> str:
    """Other meshes that are heard: perhaps the machine's own was founded anew."""
    shown = _shown(heard)
    return f" Heard instead: {shown}." if shown else ""


def _shown(heard: list[Found]) -> str:
    from planetmesh.model.endpoint import format_endpoint

    return ", ".join(
        f"{each.mesh8} at {format_endpoint(each.addresses[0], each.port)}" for each in heard if each.addresses
    )


def _meshes_around(heard: list[Found]) -> Finding:
    shown = _shown(heard)
    if shown:
        return Finding("announcement", OK, f"Coordinators are heard: {shown}. `planetmesh up` joins one.")
    return Finding(
        "announcement",
        WARN,
        "No coordinator is heard by mDNS.",
        "If one runs here, join it by its address: `planetmesh up --join HOST:PORT`. "
        "To be heard, UDP port 5353 must pass both firewalls and the router, and the coordinator must use "
        "this network (`planetmesh doctor` there).",
    )


def _mesh8(home: Home) -> str:
    """What the mesh of this home announces itself by; empty if it is in none."""
    from planetmesh.trust.identity import Identity

    for folder in (home.agent, home.operator):
        if Identity.exists(folder):
            try:
                return Identity.load(folder, accept_expired=True).membership.mesh_id[:8]
            except MeshError:
                continue
    return ""


def _port(home: Home) -> list[Finding]:
    """Only a coordinator needs one."""
    part = _part_of(home)
    if part is None or part.role is not Role.COORDINATOR:
        return [Finding("port", OK, "None is needed: agents and people only dial out.")]
    address = part.bind[0] if part.bind else "127.0.0.1"
    try:
        with socket.create_connection((address, part.port), timeout=2.0):
            return [Finding("port", OK, f"Something answers on {part.port}: the check below says who.")]
    except OSError:
        hint = "Start it with `planetmesh up`."
        return [
            Finding("port", WARN, f"Nothing answers on {part.port}: the coordinator is not running.", hint)
        ]


def _certificates(home: Home) -> list[Finding]:
    from planetmesh.trust.identity import Identity

    folders = (home.coordinator, home.agent, Home(home.local_agent).agent, home.operator)
    is_own = home.coordinator.exists()
    found = [_certificate(folder, is_own=is_own) for folder in folders if Identity.exists(folder)]
    if not found:
        hint = "Join a mesh with `planetmesh up` (a machine) or `planetmesh login` (a person)."
        return [Finding("certificate", WARN, "There is none.", hint)]
    return found


def _certificate(folder: Path, *, is_own: bool) -> Finding:
    """`is_own`: the mesh's CA is on this machine too."""
    from planetmesh.trust.identity import Identity

    try:
        identity = Identity.load(folder, accept_expired=True)
    except MeshError as error:
        return Finding("certificate", FAIL, error.message, error.hint)
    left = identity.principal.not_after - time.time()
    who = f"{identity.membership.role} '{identity.membership.name}' of '{identity.membership.mesh_name}'"
    day = datetime.fromtimestamp(identity.principal.not_after, UTC).strftime("%Y-%m-%d")
    if left <= 0:
        hint = "Start `planetmesh up`: it renews its own." if is_own else again(identity.principal.role)
        return Finding("certificate", FAIL, f"{who} has expired on {day}.", hint)
    if left < RENEW_WARN_SECONDS:
        hint = "It is renewed by itself while the coordinator is reached."
        return Finding("certificate", WARN, f"{who} is good until {day} only.", hint)
    return Finding("certificate", OK, f"{who}, good until {day}.")


def _sandbox(home: Home) -> list[Finding]:
    """Tried by doing, as the agent does at its start. Comes first: it forks, so before any thread or loop."""
    with ExitStack() as stack:
        if not home.exists():
            home = Home(Path(stack.enter_context(TemporaryDirectory(prefix="planetmesh-doctor-"))))
        try:
            return [_tried_sandbox(home)]
        except (MeshError, OSError) as error:
            return [Finding("sandbox", FAIL, f"It could not be tried: {error}", getattr(error, "hint", ""))]


def _tried_sandbox(home: Home) -> Finding:
    if sys.platform != "win32":
        from planetmesh.agent.sandbox.folders import prepare_work_root
        from planetmesh.agent.sandbox.probe import measure_tier
        from planetmesh.agent.service import start_zygote

        was_there = work_root(home).exists()
        zygote = start_zygote()
        try:
            report = asyncio.run(measure_tier(zygote, home.root, prepare_work_root(home)))
        finally:
            zygote.close()
            if not was_there:
                shutil.rmtree(work_root(home), ignore_errors=True)
        hint = (
            "Tasks could read what this user can, so a coordinator's machine runs none. What keeps them from "
            "it: a kernel with Landlock (Linux 5.13 or later; `landlock` in its `lsm=`), or `planetmesh up` "
            "as root."
        )
        return Finding(
            "sandbox",
            OK if report.proven else WARN,
            f"{report.tier}: {report.detail}",
            hint * (not report.proven),
        )
    return Finding("sandbox", WARN, "Tasks cannot be run on Windows yet.")


def _python(folders: Sequence[str] = (sys.prefix, sys.base_prefix)) -> list[Finding]:
    """Where the agent is root its tasks run as somebody else, who may be kept from its Python."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return []
    for folder in folders:
        path = Path(folder).resolve()
        closed = closed_to_others(path)
        if closed is not None:
            return [
                Finding(
                    "python",
                    WARN,
                    f"Tasks run as a user without rights, and {closed} keeps them from {path}: what they "
                    "import from there is not found (functions, Dask, embeddings).",
                    "Install planetmesh with a Python that everybody may read: the system's, or below /opt.",
                )
            ]
    return [Finding("python", OK, "Tasks can read the Python that planetmesh runs on.")]


def _disk(home: Home) -> list[Finding]:
    return [_free_space("state", home.root), _free_space("work", work_root(home))]


def _free_space(name: str, path: Path) -> Finding:
    there = next(each for each in (path, *path.parents) if each.exists())
    free = shutil.disk_usage(there).free
    status = FAIL if free < DISK_FAIL_BYTES else WARN if free < DISK_WARN_BYTES else OK
    hint = "Free some space, or choose another home with --home DIR." if status != OK else ""
    return Finding("disk", status, f"{show_size(free)} free for {name} ({there}).", hint)


def _part_of(home: Home) -> Part | None:
    try:
        return read_part(home) if home.exists() else None
    except MeshError:
        return None
