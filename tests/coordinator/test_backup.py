"""A mesh goes into a backup and comes back in another home, with everything that makes it that mesh."""

from __future__ import annotations

import secrets
import time
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from planetmesh.coordinator import backup as backup_module
from planetmesh.coordinator.backup import Backup, pack, read, refuse_if_used, unpack
from planetmesh.coordinator.service import Coordinator, CoordinatorOptions, running_coordinator
from planetmesh.errors import BadInput, Conflict, MeshError, StorageFailed, UnsafeHome
from planetmesh.model.identity import CertificateState, Role
from planetmesh.model.ids import NodeId
from planetmesh.paths import Home
from planetmesh.settings import Settings
from planetmesh.store.changes import Changes
from planetmesh.trust.authority import Authority
from planetmesh.trust.identity import Identity

PART = b'{"role":"coordinator","name":"desk"}'


class Old:
    """The mesh as it was: its home, its backup, and the ids of a node and of a person."""

    def __init__(self, home: Home, content: bytes, node: NodeId, person: str) -> None:
        self.home = home
        self.content = content
        self.node = node
        self.person = person


def coordinator_in(home: Home):
    options = CoordinatorOptions(
        home=home, mesh_name="den", port=0, bind=("127.0.0.1",), mdns=False, settings=Settings()
    )
    return running_coordinator(options)


async def member(coordinator: Coordinator, folder: Path, role: Role, name: str) -> Identity:
    enrolment = coordinator.enrolment
    membership = enrolment._membership(role, secrets.token_hex(16), name)
    identity, leaf = enrolment.authority.issue_local(folder, membership)
    rows = list(enrolment.serials.allow(leaf.record(CertificateState.ACTIVE, name), time.time()))
    happening = enrolment._enrolled(NodeId(membership.id), name)
    await coordinator.engine.do(
        happening if role is Role.AGENT else lambda *_: [], Changes(certificates=rows)
    )
    return identity


@pytest.fixture
async def old(tmp_path: Path) -> Old:
    home = Home(tmp_path / "old")
    home.prepare()
    home.role_file.write_bytes(PART)
    home.settings_file.write_bytes(b"{}")
    async with AsyncExitStack() as stack:
        coordinator = await stack.enter_async_context(coordinator_in(home))
        node = await member(coordinator, tmp_path / "shelf", Role.AGENT, "shelf")
        person = await member(coordinator, tmp_path / "anna", Role.OPERATOR, "anna")
        await coordinator.engine.tune({"prefill_most": 7}, "anna", Changes())
        # While it is up.
        content, membership = pack(home)
    assert membership.mesh_name == "den"
    return Old(home, content, NodeId(node.principal.id), person.principal.id)


@pytest.fixture
def new(tmp_path: Path) -> Home:
    home = Home(tmp_path / "new")
    home.prepare()
    return home


def files(home: Home) -> set[str]:
    return {path.name for path in home.root.iterdir()} - {"lock"}


async def test_it_is_the_same_mesh_again(old: Old, new: Home, tmp_path: Path):
    restored = await unpack(new, read(old.content))
    authority = Authority.open(old.home.authority)
    assert (restored.mesh_id, restored.mesh_name) == (authority.mesh_id, "den")
    assert restored.fingerprint == authority.short_fingerprint
    # Besides those that came: the agent and the operator of the coordinator's own machine.
    assert (restored.nodes, restored.people) == (2, 2)
    assert new.role_file.read_bytes() == PART
    assert new.settings_file.read_bytes() == b"{}"
    async with coordinator_in(new) as coordinator:
        assert old.node in coordinator.engine.state.nodes
        assert coordinator.engine.settings.prefill_most == 7
        shelf = Identity.load(tmp_path / "shelf").principal
        assert coordinator.enrolment.serials.check(shelf, time.time()) == ()
        own = Identity.load(Home(new.local_agent).agent).principal
        assert own.id == Identity.load(Home(old.home.local_agent).agent).principal.id
        assert len(coordinator.engine.state.nodes) == 2
        rows = await coordinator.engine.store.audit(10)
        assert ("this machine", "restore") in [(row.actor, row.action) for row in rows]


async def test_what_the_old_disk_holds_counts_no_more(old: Old, new: Home):
    await unpack(new, read(old.content))
    async with coordinator_in(new) as coordinator:
        for folder in (old.home.operator, Home(old.home.local_agent).agent):
            with pytest.raises(MeshError, match="revoked"):
                coordinator.enrolment.serials.check(Identity.load(folder).principal, time.time())
        for folder in (new.operator, Home(new.local_agent).agent):
            assert coordinator.enrolment.serials.check(Identity.load(folder).principal, time.time()) == ()


async def test_who_came_after_it_is_refused_and_told_to_pair_again(old: Old, new: Home, tmp_path: Path):
    async with coordinator_in(old.home) as coordinator:
        late = await member(coordinator, tmp_path / "late", Role.AGENT, "late")
    await unpack(new, read(old.content))
    async with coordinator_in(new) as coordinator:
        with pytest.raises(MeshError, match="not in the coordinator's table") as caught:
            coordinator.enrolment.serials.check(late.principal, time.time())
        assert "planetmesh code" in caught.value.hint


def test_the_only_key_in_it_is_the_authoritys(old: Old):
    assert old.content.count(b"PRIVATE KEY-----") == 2  # the beginning and the end of one
    key = (old.home.authority / "key.pem").read_bytes()
    assert key in old.content
    for folder in (old.home.coordinator, old.home.operator, Home(old.home.local_agent).agent):
        assert Identity.load(folder).key_path.read_bytes() not in old.content


@pytest.mark.parametrize("name", ["authority", "mesh.db", "role.json", "agent", "operator", "settings.json"])
async def test_a_home_in_use_is_left_alone(old: Old, new: Home, name: str):
    (new.root / name).mkdir()
    with pytest.raises(Conflict, match=name):
        await unpack(new, read(old.content))
    assert files(new) == {name}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"database": b"SQLite format 3\0" + b"\xff" * 9999}, StorageFailed),
        ({"database": b"no database"}, StorageFailed),
        ({"authority_key": b"no key"}, UnsafeHome),
        ({"authority_certificate": b""}, UnsafeHome),
    ],
)
async def test_what_cannot_be_used_leaves_nothing_behind(old: Old, new: Home, changes: dict, error: type):
    broken = msgspec.structs.replace(read(old.content), **changes)
    with pytest.raises(error):
        await unpack(new, broken)
    assert files(new) == set()
    await unpack(new, read(old.content))


async def test_parts_of_two_meshes_are_refused(old: Old, new: Home, tmp_path: Path):
    other = Authority.create(tmp_path / "other", secrets.token_hex(16))
    key_pem, certificate_pem = Authority.as_stored(tmp_path / "other")
    assert other.mesh_id != read(old.content).coordinator.mesh_id
    mixed = msgspec.structs.replace(
        read(old.content), authority_key=key_pem, authority_certificate=certificate_pem
    )
    with pytest.raises(UnsafeHome, match="do not belong together"):
        await unpack(new, mixed)
    assert files(new) == set()


async def test_a_key_that_does_not_fit_its_certificate_is_refused(old: Old, new: Home, tmp_path: Path):
    Authority.create(tmp_path / "other", secrets.token_hex(16))
    key_pem, _certificate = Authority.as_stored(tmp_path / "other")
    with pytest.raises(UnsafeHome):
        await unpack(new, msgspec.structs.replace(read(old.content), authority_key=key_pem))
    assert files(new) == set()


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x80", msgspec.msgpack.encode({"format": 1})])
def test_another_content_is_said(content: bytes):
    with pytest.raises(BadInput, match="newer planetmesh"):
        read(content)


def test_a_later_format_is_said(old: Old):
    later = msgspec.structs.replace(read(old.content), format=backup_module.FORMAT + 1, version="9.1")
    with pytest.raises(BadInput, match=r"newer planetmesh \(9\.1\)"):
        read(msgspec.msgpack.encode(later))


async def test_without_what_may_be_missing(old: Old, new: Home):
    bare: Backup = msgspec.structs.replace(
        read(old.content), operator=None, local_agent=None, part=b"", settings=None
    )
    await unpack(new, bare)
    assert files(new) == {"authority", "coordinator", "mesh.db"}
    async with coordinator_in(new) as coordinator:
        assert old.node in coordinator.engine.state.nodes
    with pytest.raises(Conflict):
        refuse_if_used(new)
