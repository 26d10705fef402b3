"""`leave`: a member gives up its place, a coordinator cannot, and nothing else is touched."""

from __future__ import annotations

import secrets

import pytest
from builders import hello

from planetmesh.cli.part import Part, Role, write_part
from planetmesh.mesh import nodes
from planetmesh.model.identity import Role as MeshRole
from planetmesh.paths import Home
from planetmesh.trust.authority import Authority
from planetmesh.trust.identity import Identity, Membership


@pytest.fixture
def member(home: Home, tmp_path) -> Home:
    """A home that is an agent of a mesh called den."""
    authority = Authority.create(tmp_path / "authority", secrets.token_hex(16))
    membership = Membership(
        authority.mesh_id, "den", MeshRole.AGENT, secrets.token_hex(16), "desk", secrets.token_hex(16)
    )
    home.prepare()
    authority.issue_local(home.agent, membership)
    write_part(home, Part(role=Role.AGENT, name="desk"))
    (home.root / "settings.json").write_text("{}")
    return home


def test_a_member_leaves_and_keeps_its_settings(member: Home, say) -> None:
    said = say("leave")
    assert said.status == 0
    assert "the mesh 'den' as agent 'desk'" in said.error
    assert "planetmesh node forget desk" in said.error
    assert not Identity.exists(member.agent)
    assert not member.role_file.exists()
    assert member.settings_file.exists()
    assert say("leave").status == 5


def test_a_person_is_struck_from_another_list_than_a_machine(home: Home, tmp_path, say) -> None:
    authority = Authority.create(tmp_path / "authority", secrets.token_hex(16))
    membership = Membership(
        authority.mesh_id,
        "den",
        MeshRole.OPERATOR,
        secrets.token_hex(16),
        "anna on desk",
        secrets.token_hex(16),
    )
    home.prepare()
    authority.issue_local(home.operator, membership)
    said = say("leave")
    assert (said.status, "planetmesh people revoke 'anna on desk'" in said.error) == (0, True)
    assert "node forget" not in said.error


def test_not_while_it_takes_part(member: Home, say) -> None:
    with member.locked():
        said = say("leave")
    assert said.status == 2
    assert "then leave" in said.error
    assert "--home" not in said.error
    assert Identity.exists(member.agent)


def test_a_coordinator_cannot_leave_its_own_mesh(home: Home, say) -> None:
    home.prepare()
    write_part(home, Part(role=Role.COORDINATOR, name="den"))
    said = say("leave")
    assert said.status == 2
    assert str(home.root) in said.error
    assert home.role_file.exists()


def test_a_home_without_a_mesh(home: Home, say) -> None:
    assert say("leave").status == 5


class TestWithACoordinator:
    @pytest.fixture
    def desk(self, coordinator, tmp_path) -> Home:
        """The home of a node of the mesh den."""
        desk = Home(tmp_path / "desk")
        coordinator.admit_agent(desk, "desk")
        return desk

    def test_it_is_told_and_audits_it(self, coordinator, desk: Home, say) -> None:
        coordinator.admit_viewer(desk)
        said = say("leave", "--home", str(desk.root))
        assert (said.status, said.text) == (0, "")
        assert "as agent 'desk' and the mesh 'den' as viewer 'guest'" in said.error
        assert "The coordinator knows, and still lists it. To strike it from there" in said.error
        rows = say("audit", "--action", "leave", "--json").json
        assert [(row["who"], row["detail"], row["address"]) for row in rows] == [
            ("guest", "viewer guest", "127.0.0.1"),
            ("desk", "agent desk", "127.0.0.1"),
        ]
        assert [each["name"] for each in say("people", "--json").json] == ["operator on den"]
        assert say("node", "forget", "desk").status == 0

    def test_it_need_not_be_there(self, coordinator, desk: Home, say, monkeypatch) -> None:
        monkeypatch.setattr("planetmesh.cli.face.FIND_SECONDS", 0.05)  # nobody answers, however long
        coordinator.stop()
        said = say("leave", "--home", str(desk.root))
        coordinator.start()
        assert said.status == 0
        assert "warning: The coordinator does not know: " in said.error
        assert "Tell it there: planetmesh node forget desk" in said.error
        assert not Identity.exists(desk.agent)

    def test_a_copy_leaves_and_the_machine_stays(self, coordinator, desk: Home, say) -> None:
        identity = Identity.load(desk.agent)
        joining = nodes.Joining(identity.principal.id, 1, hello(machine="another"))

        async def join() -> None:
            await coordinator.engine.do(lambda state, now: nodes.on_node_joined(state, joining, "den", now))

        coordinator.call(join())
        said = say("leave", "--home", str(desk.root))
        assert said.status == 0
        assert "this home is a copy of its own. That one stays a member." in said.error
        assert not Identity.exists(desk.agent)
        assert say("audit", "--action", "leave", "--json").json == []

    def test_who_was_revoked_before_leaves_without_a_word_of_it(self, coordinator, desk: Home, say) -> None:
        assert say("node", "revoke", "desk").status == 0
        said = say("leave", "--home", str(desk.root))
        assert (said.status, "warning" in said.error) == (0, False)
