"""What `doctor` asks the mesh: is the coordinator reached, does it take us, and do we fit together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from planetmesh import __version__
from planetmesh.cli import way
from planetmesh.cli.finding import FAIL, OK, WARN, Finding
from planetmesh.errors import MeshError, NotAllowed, NotFound, OtherMesh, Unreachable
from planetmesh.model.identity import Role
from planetmesh.paths import Home

if TYPE_CHECKING:
    from planetmesh.trust.identity import Identity
    from planetmesh.wire.api import MeshStatus, NodeView
    from planetmesh.wire.members import SelfView

CLOCK_WARN_SECONDS = 30.0
"""What a handshake and a slow machine may take; far below what breaks certificates."""
CLOCK_FAIL_SECONDS = 24 * 3600.0
NAMED_MOST = 5


class Mesh(msgspec.Struct):
    """What was seen of it."""

    findings: list[Finding] = []
    is_reached: bool = False
    """The coordinator's port takes connections."""
    endpoints: tuple[str, ...] = ()
    """Where it was looked for."""


async def look_at_mesh(home: Home, networks: Sequence[str]) -> Mesh:
    """With each identity of this home that dials out; nothing where there is none that counts."""
    from planetmesh.trust.identity import Identity

    found = Mesh()
    for folder in (home.agent, home.operator):
        if not Identity.exists(folder):
            continue
        try:
            identity = Identity.load(folder)
        except MeshError:
            continue  # said by the check of the certificates
        found.endpoints += identity.membership.endpoints
        found.findings += await _ask(home, identity, networks, found)
    return found


async def _ask(home: Home, identity: Identity, networks: Sequence[str], mesh: Mesh) -> list[Finding]:
    from planetmesh.client.calls import Caller
    from planetmesh.client.connect import Call, Link
    from planetmesh.wire.api import MeshStatus, NodeView
    from planetmesh.wire.members import SelfView

    caller = Caller(Link(identity), patience_seconds=0.0, on_wait=None)
    asked_at = time.time()
    try:
        seen = await caller.ask(Call("GET", "/v1/self"), SelfView)
        answered_at = time.time()
        findings = [*_fits(home, seen), _clock(seen, (asked_at + answered_at) / 2)]
        if identity.principal.role is not Role.AGENT:
            findings += _status(await caller.ask(Call("GET", "/v1/status"), MeshStatus))
            findings += _nodes(await caller.ask(Call("GET", "/v1/nodes"), list[NodeView]))
    except Unreachable:
        return [await _unreached(identity, networks, mesh)]
    except OtherMesh:
        return [_other_mesh(identity)]
    except NotAllowed as error:
        mesh.is_reached = True
        return [_refused(identity, error)]
    except NotFound:
        mesh.is_reached = True
        hint = "Bring all machines to one version, the coordinator first."
        return [Finding("version", WARN, "The coordinator answers, but is older and cannot tell more.", hint)]
    except MeshError as error:
        return [Finding("coordinator", FAIL, error.message, error.hint)]
    finally:
        await caller.link.close()
    mesh.is_reached = True
    return findings


async def _unreached(identity: Identity, networks: Sequence[str], mesh: Mesh) -> Finding:
    tried = await way.try_all(identity.membership.endpoints)
    mesh.is_reached = any(each.outcome is way.Outcome.OPEN for each in tried)
    detail, hint = way.explain(tried, networks)
    return Finding("coordinator", FAIL, detail, hint)


def _other_mesh(identity: Identity) -> Finding:
    known = identity.membership
    return Finding(
        "coordinator",
        FAIL,
        f"Who answers at {', '.join(known.endpoints[:2])} is not of the mesh '{known.mesh_name}': another "
        "mesh's coordinator, or another program.",
        f"If the coordinator has moved: `planetmesh up --join HOST:PORT`. If its mesh was founded anew: "
        f"{again(identity.principal.role)}",
    )


def _refused(identity: Identity, error: NotAllowed) -> Finding:
    """The right coordinator does not take us. What helps is a new certificate, unless it is the clock."""
    is_clock = "clock" in error.hint and "code" not in error.hint
    return Finding(
        "coordinator", FAIL, error.message, error.hint if is_clock else again(identity.principal.role)
    )


def again(role: Role) -> str:
    """How whoever is not taken any more comes in again."""
    words = "up" if role is Role.AGENT else f"login --role {role}"
    code = "planetmesh code" if role is Role.AGENT else f"planetmesh code --role {role}"
    return f"`{code}` at the coordinator, then `planetmesh leave` and `planetmesh {words}` here."


def _fits(home: Home, seen: SelfView) -> list[Finding]:
    """Who answers, and whether this machine is the one that it knows."""
    found = [Finding("coordinator", OK, f"The mesh '{seen.mesh}' answers, version {seen.version}.")]
    if seen.version != __version__:
        found.append(
            Finding(
                "version",
                WARN,
                f"The coordinator runs {seen.version}, this machine has {__version__}.",
                "Bring all machines to one version, the coordinator first.",
            )
        )
    if seen.role != Role.AGENT:
        return found
    from planetmesh.agent.probe import machine_hash

    if seen.machine and seen.machine != machine_hash():
        found.append(
            Finding(
                "identity",
                FAIL,
                f"Another machine took part as '{seen.name}' last: this home, or the disk, was copied.",
                "On the copy: `planetmesh leave`, then `planetmesh up` with a code of its own.",
            )
        )
    elif not seen.connected:
        found.append(_not_connected(home, seen))
    else:
        found.append(Finding("agent", OK, f"The node '{seen.name}' is {seen.state} (from {seen.address})."))
    return found


def _not_connected(home: Home, seen: SelfView) -> Finding:
    if home.is_taken():
        detail = f"`planetmesh up` runs here, but the node '{seen.name}' has no link at the moment."
        hint = "It tries again within half a minute. If it stays so, what `up` says tells why."
    else:
        detail = f"The node '{seen.name}' is not connected: `planetmesh up` does not run here."
        hint = "Start `planetmesh up` here."
    if seen.version != __version__:
        detail += " Different versions may not understand each other."
        return Finding("agent", FAIL, detail, "Bring all machines to one version, the coordinator first.")
    return Finding("agent", WARN, detail, hint)


def _clock(seen: SelfView, asked_at: float) -> Finding:
    """This clock against the coordinator's, at the middle of a round trip."""
    return compare_clocks(asked_at - datetime.fromisoformat(seen.now).timestamp())


def compare_clocks(ahead_seconds: float) -> Finding:
    apart = abs(ahead_seconds)
    if apart <= CLOCK_WARN_SECONDS:
        return Finding("clock", OK, "As the coordinator's.")
    detail = f"{_roughly(apart)} {'ahead of' if ahead_seconds > 0 else 'behind'} the coordinator's."
    status = FAIL if apart > CLOCK_FAIL_SECONDS else WARN
    return Finding("clock", status, detail, "Set both by NTP: `timedatectl set-ntp true`.")


def _roughly(seconds: float) -> str:
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _status(seen: MeshStatus) -> list[Finding]:
    if not seen.storage_error:
        return []
    hint = "Free some disk space on the coordinator's machine."
    return [Finding("coordinator", FAIL, f"It cannot write: {seen.storage_error}", hint)]


def _nodes(nodes: list[NodeView]) -> list[Finding]:
    """What is wrong with machines, seen from here."""
    found = []
    for state in ("OFFLINE", "SUSPECT"):
        names = [node.name for node in nodes if node.state == state]
        if names:
            hint = "Start `planetmesh up` there; if it runs, `planetmesh doctor` there says what is wrong."
            found.append(Finding("nodes", WARN, f"{state}: {_some(names)}.", hint))
    old = [node.name for node in nodes if node.version and node.version != __version__]
    if old:
        hint = "Bring all machines to one version, the coordinator first."
        found.append(Finding("version", WARN, f"Not of version {__version__}: {_some(old)}.", hint))
    return found or [Finding("nodes", OK, f"{len(nodes)}, none of them missing.")]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED_MOST} more" if len(names) > NAMED_MOST else ""
    return ", ".join(names[:NAMED_MOST]) + more
