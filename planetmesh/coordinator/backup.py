"""What makes a mesh this mesh, in one piece: its CA, who belongs to it, its settings; and back again.

No jobs, outputs or files, and no key but the CA's: this machine's own identities are made anew by it.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import msgspec

from planetmesh import __version__
from planetmesh.errors import BadInput, Conflict, MeshError, UnsafeHome
from planetmesh.model.identity import CertificateState, Role
from planetmesh.paths import Home, write_private
from planetmesh.store.changes import AuditRow, Changes
from planetmesh.store.members import copy_of_members
from planetmesh.store.store import Store
from planetmesh.trust.authority import Authority
from planetmesh.trust.identity import Identity, Membership
from planetmesh.wire.api import rfc3339

FORMAT = 1
COUNTING = frozenset({CertificateState.PENDING, CertificateState.ACTIVE})


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """What lies under the passphrase, as MessagePack."""

    format: int
    made_at: float
    version: str
    """Of the program that made it."""
    authority_key: bytes
    authority_certificate: bytes
    coordinator: Membership
    operator: Membership | None
    local_agent: Membership | None
    part: bytes
    """role.json."""
    settings: bytes | None
    """settings.json."""
    database: bytes
    """Its tables of members, see `store.members`."""


class Restored(msgspec.Struct, frozen=True):
    """What came back."""

    mesh_id: str
    mesh_name: str
    fingerprint: str
    made_at: float
    nodes: int
    people: int


def pack(home: Home) -> tuple[bytes, Membership]:
    """The backup of the mesh whose coordinator lives in this home, in the clear; and what mesh that is.

    May be called while the mesh is up. Raises MeshErrors for a home that cannot be read.
    """
    authority = Authority.open(home.authority)
    key_pem, certificate_pem = Authority.as_stored(home.authority)
    coordinator = Identity.load(home.coordinator, accept_expired=True).membership
    backup = Backup(
        format=FORMAT,
        made_at=time.time(),
        version=__version__,
        authority_key=key_pem,
        authority_certificate=certificate_pem,
        coordinator=coordinator,
        operator=_membership(home.operator, Role.OPERATOR, authority.mesh_id),
        local_agent=_membership(Home(home.local_agent).agent, Role.AGENT, authority.mesh_id),
        part=_content(home.role_file) or b"",
        settings=_content(home.settings_file),
        database=copy_of_members(home),
    )
    return msgspec.msgpack.encode(backup), coordinator


def read(content: bytes) -> Backup:
    """What `pack` gave; raises BadInput."""
    try:
        backup = msgspec.msgpack.decode(content, type=Backup)
    except msgspec.MsgspecError as error:
        raise BadInput(
            "The backup was made by a newer planetmesh.", hint="Upgrade planetmesh on this machine."
        ) from error
    if backup.format != FORMAT:
        raise BadInput(
            f"The backup was made by a newer planetmesh ({backup.version}).",
            hint="Upgrade planetmesh on this machine.",
        )
    return backup


async def unpack(home: Home, backup: Backup) -> Restored:
    """Make this home the coordinator's. It must be prepared, locked and hold no mesh: `refuse_if_used`.

    All or nothing, but for a power cut: role.json comes last, and what came before it can be removed.
    Raises MeshErrors.
    """
    refuse_if_used(home)
    try:
        return await _unpack(home, backup)
    except BaseException:
        for path in _places(home):
            _remove(path)
        raise


def refuse_if_used(home: Home) -> None:
    """Raise Conflict if there is anything here that a restored mesh would take the place of."""
    found = [path for path in _places(home) if path.exists()]
    if found:
        raise Conflict(
            f"The home {home.root} is in use already: it holds {found[0].name}.",
            hint="Restore into a fresh one with --home DIR, or move this one aside first.",
        )


async def _unpack(home: Home, backup: Backup) -> Restored:
    authority = Authority.bring_back(home.authority, backup.authority_key, backup.authority_certificate)
    own = backup.coordinator
    if own.mesh_id != authority.mesh_id:
        raise UnsafeHome("The backup's parts do not belong together.", hint="Take another backup.")
    if backup.settings is not None:
        write_private(home.settings_file, backup.settings)
    write_private(home.database, backup.database)
    nodes, people = await _begin_anew(home, backup)
    authority.issue_local(home.coordinator, own)
    if backup.operator is not None:
        authority.issue_local(home.operator, backup.operator)
    if backup.local_agent is not None:
        Home(home.local_agent).prepare()
        authority.issue_local(Home(home.local_agent).agent, backup.local_agent)
    if backup.part:
        write_private(home.role_file, backup.part)
    return Restored(
        mesh_id=authority.mesh_id,
        mesh_name=own.mesh_name,
        fingerprint=authority.short_fingerprint,
        made_at=backup.made_at,
        nodes=nodes,
        people=people,
    )


async def _begin_anew(home: Home, backup: Backup) -> tuple[int, int]:
    """Check the database, note the restore in it; gives how many nodes and people it knows.

    The old machine's own identities get new certificates here, so what its disk still holds counts no more.
    """
    own = {each.id for each in (backup.operator, backup.local_agent) if each is not None}
    detail = f"as of {rfc3339(backup.made_at)}"
    store = await Store.open(home)
    try:
        await store.check()
        found = await store.load()
        living = [each for each in found.certificates if each.state in COUNTING]
        changes = Changes(
            certificates=[
                msgspec.structs.replace(each, state=CertificateState.REVOKED)
                for each in living
                if each.id in own
            ],
            audit=[AuditRow(time.time(), "this machine", "restore", backup.coordinator.mesh_id, detail)],
        )
        await store.commit(changes)
    finally:
        await store.close()
    people = {each.id for each in living if each.role in {Role.OPERATOR, Role.VIEWER}}
    return len(found.nodes), len(people)


def _membership(folder: Path, role: Role, mesh_id: str) -> Membership | None:
    """Whose identity lies there, if it is one of this very mesh."""
    if not Identity.exists(folder):
        return None
    try:
        found = Identity.load(folder, accept_expired=True).membership
    except MeshError:
        return None  # `up` makes it anew
    return found if (found.role, found.mesh_id) == (role, mesh_id) else None


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _places(home: Home) -> list[Path]:
    """All that a restore writes, role.json first."""
    folders = [home.authority, home.coordinator, home.operator, home.agent, home.local_agent]
    return [home.role_file, *folders, *home.database_files, home.settings_file]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
