"""From where a node fetches a large blob: a ticket for what its attempt was given, and for nothing else."""

from __future__ import annotations

import time

from api_world import Client, World
from test_api_blobs import CONTENT, NAME, Hand, hand, name_of, staged, stored

from planetmesh.mesh import nodes
from planetmesh.trust.ticket import Grant, read_ticket


async def two_hands(world: World, operator: Client) -> tuple[Hand, Hand]:
    await stored(operator, CONTENT)
    files = [staged("f", CONTENT)]
    return await hand(world, "desk", operator, files=files), await hand(world, "nas", operator, files=files)


async def serving(world: World, node: Hand, *, holds: bool = True) -> None:
    world.parts.distribution.on_serving(node.client.id, "127.0.0.1", 40_000)
    if holds:
        await world.engine.do(lambda state, _now: nodes.on_blobs_held(state, node.client.id, (NAME,), ()))
        world.engine.state.nodes[node.client.id].session = 1


async def ask(node: Hand, query: str = "", more: str = "") -> dict[str, object]:
    answer = await node.client.post(f"/v1/blobs/{NAME}/sources{query or node.query}{more}", {})
    assert answer.status == 200, answer.body
    return answer.json


async def test_without_anybody_else_it_is_the_coordinator(world: World, operator: Client):
    desk, _nas = await two_hands(world, operator)
    assert await ask(desk) == {"node": None, "address": "", "port": 0, "ticket": ""}


async def test_a_node_that_has_it_is_named_with_a_ticket_for_this_reader(world: World, operator: Client):
    desk, nas = await two_hands(world, operator)
    await serving(world, nas)
    said = await ask(desk)
    assert (said["node"], said["address"], said["port"]) == (nas.client.id, "127.0.0.1", 40_000)
    membership, ca_pem = world.enrolment.coordinator.membership, world.authority.ca_pem
    grant = read_ticket(str(said["ticket"]), ca_pem, membership, time.time())
    assert grant == Grant(NAME, nas.client.id, desk.client.id, grant.expires_at)
    assert 0 < grant.expires_at - time.time() <= 3600


async def test_one_that_is_getting_it_passes_it_on_until_it_fails(world: World, operator: Client):
    desk, nas = await two_hands(world, operator)
    await serving(world, nas, holds=False)
    assert (await ask(nas))["node"] is None
    assert (await ask(desk))["node"] == nas.client.id
    assert (await ask(desk, more=f"&failed={nas.client.id}"))["node"] is None


async def test_what_an_attempt_was_not_given_is_not_told(world: World, operator: Client):
    desk, nas = await two_hands(world, operator)
    await serving(world, nas)
    other = await hand(world, "other", operator)
    for client, query, status in (
        (other.client, other.query, 403),
        (other.client, desk.query, 409),
        (desk.client, "", 400),
        (desk.client, f"{desk.query}&failed=me", 400),
        (operator, desk.query, 403),
    ):
        answer = await client.post(f"/v1/blobs/{NAME}/sources{query}", {})
        assert answer.status == status, (query, answer.body)
        assert b"ticket" not in answer.body
    unknown = await desk.client.post(f"/v1/blobs/{name_of(b'never sent')}/sources{desk.query}", {})
    assert unknown.status == 403


async def test_the_ticket_is_signed_by_the_certificate_of_today(world: World, operator: Client):
    desk, nas = await two_hands(world, operator)
    await serving(world, nas)
    await ask(desk)
    world.authority.renew_local(world.enrolment.coordinator)
    said = await ask(desk)
    membership = world.enrolment.coordinator.membership
    assert read_ticket(str(said["ticket"]), world.authority.ca_pem, membership, time.time()).digest == NAME
