"""Who gets in, and how far: the matrix of route × method × role, revocation, expiry, copies, headers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import msgspec
import pytest
from api_world import COMMAND, Client, World
from builders import hello

from planetmesh.coordinator.access import RULES
from planetmesh.coordinator.api.app import build_from
from planetmesh.mesh import nodes
from planetmesh.model.identity import CertificateState, Role
from planetmesh.model.node import Node

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
ROLES = (Role.AGENT, Role.OPERATOR, Role.VIEWER)
SAMPLES = {
    "{job}": "0000000000",
    "{index}": "0",
    "{node}": "nobody",
    "{slot}": "7",
    "{member}": "f" * 32,
    "{digest}": "0" * 64,
}
ALSO = {"/v1/blobs/missing": "/v1/blobs/{digest}", "/v1/blobs/read": "/v1/blobs/{digest}"}
"""Paths that a pattern fits too, for methods of its own."""


BY_THEMSELVES = {("GET", "/v1/feed"), ("GET", "/v1/values"), ("DELETE", "/v1/self")}
"""Tested for themselves: these never answer to the end, or are the caller's last word."""


def _filled(path: str) -> str:
    for part, sample in SAMPLES.items():
        path = path.replace(part, sample)
    return path


def test_what_each_role_may_do_is_what_security_says():
    """Written out a second time on purpose: a slip in the table must not be copied into its test."""
    allowed = {role: {rule for rule, roles in RULES.items() if role in roles} for role in Role}
    reads = {("GET", "/v1/blobs/{digest}"), ("POST", "/v1/blobs/read")}
    sends = {("POST", "/v1/blobs/missing"), ("POST", "/v1/blobs"), ("PUT", "/v1/blobs/{digest}")}
    assert allowed[Role.AGENT] == {
        ("GET", "/v1/agent"),
        ("GET", "/v1/self"),
        ("DELETE", "/v1/self"),
        ("POST", "/v1/certs/renew"),
        ("POST", "/v1/certs/peer"),
        ("POST", "/v1/blobs/{digest}/sources"),
        *reads,
        *sends,
    }
    assert allowed[Role.COORDINATOR] == set()
    assert allowed[Role.PEER] == set()
    others = {("POST", "/v1/certs/renew"), ("POST", "/v1/blobs/read"), ("DELETE", "/v1/self")}
    assert {rule for rule in allowed[Role.VIEWER] if rule[0] != "GET"} == others
    assert not {path for _method, path in allowed[Role.VIEWER] if path.startswith("/v1/pair")}
    assert ("GET", "/v1/agent") not in allowed[Role.OPERATOR]
    assert allowed[Role.VIEWER] < allowed[Role.OPERATOR]


async def test_every_route_of_the_server_stands_in_the_table(world: World):
    async def nothing(_request: Any) -> Any: ...

    app = build_from(world.parts, nothing)
    routes = {(route.method, route.resource.canonical) for route in app.router.routes()}
    assert routes == set(RULES)


@pytest.mark.parametrize("role", ROLES)
async def test_matrix(world: World, role: Role):
    """Every method on every path: what the table allows is not refused, everything else is."""
    client = world.open(await world.member(role))
    for path in sorted({path for _method, path in RULES}):
        for method in METHODS:
            if (method, path) in BY_THEMSELVES and role in RULES[method, path]:
                continue
            answer = await client.ask(method, _filled(path))
            roles = RULES.get((method, path)) or RULES.get((method, ALSO.get(path, "")))
            if roles is None:
                assert answer.status == 405, (method, path)
            elif role in roles:
                assert answer.status not in {403, 405, 500}, (method, path, answer.body)
            else:
                assert answer.status == 403, (method, path, answer.body)
    assert (await client.get("/v1/nothing")).status == 404
    assert (await client.get("/")).status == 404


async def test_an_unknown_certificate_of_our_own_authority_is_refused(world: World):
    membership = world.enrolment._membership(Role.OPERATOR, "a" * 32, "ghost")
    identity, _leaf = world.authority.issue_local(world.folder / "ghost", membership)
    answer = await world.open(identity).get("/v1/status")
    assert (answer.status, answer.code) == (403, "certificate_refused")


async def test_a_certificate_that_expired_since_it_connected_is_refused(world: World, operator: Client):
    assert (await operator.get("/v1/status")).status == 200
    serial = operator.identity.principal.serial
    record = msgspec.structs.replace(world.serials.get(serial), not_after=time.time() - 1)
    world.serials._put(record)
    answer = await operator.get("/v1/status")
    assert answer.status == 403
    assert "expired" in answer.json["error"]["message"]


async def test_first_use_is_written_down(world: World):
    membership = world.enrolment._membership(Role.VIEWER, "b" * 32, "new")
    identity, leaf = world.authority.issue_local(world.folder / "new", membership)
    world.serials.allow(leaf.record(), time.time())
    assert (await world.open(identity).get("/v1/nodes")).status == 200
    stored = {row.serial: row.state for row in (await world.engine.store.load()).certificates}
    assert stored[leaf.serial] is CertificateState.ACTIVE


async def test_a_copied_certificate_raises_an_alarm_once(world: World, operator: Client):
    old = await world.member(Role.VIEWER)
    thief = world.open(old)
    new_leaf = world.authority.issue(Role.VIEWER, old.principal.id, _public_key(world, old))
    world.serials.rotate(old.principal.serial, new_leaf.record(CertificateState.ACTIVE))
    retired = msgspec.structs.replace(world.serials.get(old.principal.serial), state=CertificateState.RETIRED)
    world.serials._put(retired)
    for _ in range(3):
        answer = await thief.get("/v1/nodes")
        assert (answer.status, answer.code) == (403, "copied_identity")
    audit = (await operator.get("/v1/audit")).json
    assert [row["action"] for row in audit].count("copied_identity") == 1


def _public_key(world: World, identity: Any) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1()).public_key()


async def test_headers_and_bodies_never_say_who_asks(world: World, viewer: Client, operator: Client):
    forged = {
        "X-Forwarded-For": "127.0.0.1",
        "X-Client-Cert": operator.id,
        "X-Planetmesh-Role": "operator",
        "Forwarded": "for=127.0.0.1",
        "Authorization": f"Bearer {operator.id}",
    }
    answer = await viewer.post("/v1/jobs", {"spec": COMMAND}, headers=forged)
    assert answer.status == 403
    status = (await viewer.get("/v1/status", headers=forged)).json
    assert (status["role"], status["node"]) == ("viewer", viewer.id)
    claimed = {"spec": COMMAND, "submitter": operator.id, "node_id": "f" * 32}
    assert (await operator.post("/v1/jobs", claimed)).status == 400


async def test_web_pages_may_not_call(operator: Client):
    answer = await operator.get("/v1/status", headers={"Origin": "https://evil.example"})
    assert answer.status == 403


async def test_revoking_a_node_closes_its_connections_at_once(world: World, operator: Client):
    identity = await world.member(Role.AGENT)
    agent = world.open(identity)
    name = await _enrolled(world, identity)
    link = await agent.session.ws_connect(agent.base + "/v1/agent", compress=0)
    assert await link.receive_str() == identity.principal.id
    idle_reader, _idle_writer = await world.raw(identity)

    answer = await operator.post(f"/v1/nodes/{name}/revoke")
    assert answer.status == 200
    message = await link.receive(timeout=5.0)
    assert message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR}
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(idle_reader.readexactly(1), 5.0)
    assert world.access.connections.of(identity.principal.id) == frozenset()

    refused = await world.open(identity).get("/v1/agent")
    assert (refused.status, refused.code) == (403, "revoked")
    stored = {row.serial: row.state for row in (await world.engine.store.load()).certificates}
    assert stored[identity.principal.serial] is CertificateState.REVOKED
    assert "revoke_node" in [row["action"] for row in (await operator.get("/v1/audit")).json]


async def test_who_leaves_is_refused_from_then_on_and_nobody_else(world: World, operator: Client):
    leaver, stays = await world.member(Role.AGENT), world.open(await world.member(Role.AGENT))
    agent = world.open(leaver)
    name = await _enrolled(world, leaver)
    assert (await agent.ask("DELETE", "/v1/self", {"id": stays.id})).status == 200
    refused = await world.open(leaver).get("/v1/self")
    assert (refused.status, refused.code) == (403, "revoked")
    assert (await stays.get("/v1/self")).status == 200
    (row,) = [row for row in (await operator.get("/v1/audit")).json if row["action"] == "leave"]
    (node,) = [node for node in (await operator.get("/v1/nodes")).json if node["name"] == name]
    assert node["note"].startswith("It belongs to the mesh no more")
    said = (await operator.get(f"/v1/nodes/{name}/explain")).json["findings"][0]
    assert "planetmesh up` there" not in said["sentence"]
    assert f"planetmesh node forget {name}" in said["hint"]
    assert (row["actor"], row["who"], row["detail"], row["address"]) == (
        leaver.principal.id, name, f"agent {name}", "127.0.0.1",
    )  # fmt: skip
    assert (await operator.ask("DELETE", f"/v1/nodes/{name}")).status == 200


async def test_a_copy_of_a_home_does_not_throw_the_connected_machine_out(world: World, operator: Client):
    identity = await world.member(Role.AGENT)
    name = await _enrolled(world, identity)
    joining = nodes.Joining(identity.principal.id, 1, hello())
    await world.engine.do(lambda state, now: nodes.on_node_joined(state, joining, "home", now))
    copy = world.open(identity)
    refused = await copy.ask("DELETE", "/v1/self")
    assert (refused.status, f"'{name}' is connected at" in refused.json["error"]["message"]) == (409, True)
    assert (await copy.get("/v1/self")).status == 200
    assert "leave" not in [row["action"] for row in (await operator.get("/v1/audit")).json]


async def test_the_only_operator_cannot_leave(world: World, operator: Client):
    refused = await operator.ask("DELETE", "/v1/self")
    assert (refused.status, refused.json["error"]["hint"]) == (
        409, "Let another one in first: planetmesh code --role operator",
    )  # fmt: skip
    stays = world.open(await world.member(Role.OPERATOR))
    assert (await operator.ask("DELETE", "/v1/self")).status == 200
    assert (await stays.get("/v1/self")).status == 200


async def _enrolled(world: World, identity: Any) -> str:
    record = Node(id=identity.principal.id, name="thief")
    await world.engine.do(lambda state, now: nodes.on_node_enrolled(state, record, now))
    return record.name


async def test_revoking_an_operator_cuts_its_streams(world: World, operator: Client):
    lost = world.open(await world.member(Role.OPERATOR))
    async with lost.lines("/v1/feed") as stream:
        assert stream.status == 200
        assert (await operator.ask("DELETE", f"/v1/members/{lost.id}")).status == 200
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(stream.content.read(), 5.0)
    assert (await lost.get("/v1/status")).status == 403
    assert (await operator.ask("DELETE", f"/v1/members/{operator.id}")).status == 409
    assert (await operator.ask("DELETE", f"/v1/members/{'e' * 32}")).status == 404


async def test_people_are_listed_and_a_revoked_one_is_not(world: World, operator: Client):
    guest = world.open(await world.member(Role.VIEWER))
    await world.member(Role.AGENT)
    listed = (await operator.get("/v1/people")).json
    assert {(each["id"], each["role"]) for each in listed} >= {
        (guest.id, "viewer"),
        (operator.id, "operator"),
    }
    assert {each["role"] for each in listed} == {"operator", "viewer"}
    assert (await guest.get("/v1/people")).status == 403
    assert (await operator.ask("DELETE", f"/v1/members/{guest.id}")).status == 200
    assert guest.id not in {each["id"] for each in (await operator.get("/v1/people")).json}


async def test_a_role_that_is_missing_gets_a_hint(viewer: Client):
    answer = await viewer.post("/v1/jobs", {"spec": COMMAND})
    assert answer.code == "not_allowed"
    assert "planetmesh login" in answer.json["error"]["hint"]
