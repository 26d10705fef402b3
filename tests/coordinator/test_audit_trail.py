"""Every call that changes the mesh leaves a row: who, when, what, from where. A new route must be here."""

from __future__ import annotations

import base64
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256

import pytest
from api_world import COMMAND, Answer, Client, World, small

from planetmesh.coordinator.api.routes import ROUTES
from planetmesh.model.identity import Role
from planetmesh.model.job import Outcome
from planetmesh.trust.renewal import make_csr

Call = Callable[[World, Client], Awaitable[tuple[Answer, str]]]
"""Makes one change by one request; gives the answer, and what the trail must name."""
CHANGES: dict[tuple[str, str], tuple[str, Call]] = {}
"""By route: the action's name in the trail, and a call."""
NO_CHANGE = {
    ("POST", "/v1/blobs/missing"): "asks what is there",
    ("POST", "/v1/blobs/read"): "reads",
    ("POST", "/v1/blobs/{digest}/sources"): "asks where to fetch",
    ("PUT", "/v1/blobs/{digest}"): "bytes by their own name; the submit that names them is audited",
    ("POST", "/v1/blobs"): "the same, many at a time",
}
"""Not GET, and yet nothing of the mesh is changed, with the reason."""


def change(method: str, path: str, action: str) -> Callable[[Call], Call]:
    def keep(call: Call) -> Call:
        CHANGES[method, path] = (action, call)
        return call

    return keep


@change("POST", "/v1/jobs", "submit")
async def submit(_world: World, client: Client) -> tuple[Answer, str]:
    answer = await client.post("/v1/jobs", {"spec": COMMAND})
    return answer, answer.json["job"]["id"]


@change("POST", "/v1/jobs/{job}/inputs", "add_inputs")
async def add_inputs(_world: World, client: Client) -> tuple[Answer, str]:
    job_id = await client.submit(
        type="command", payload={"argv": ["true", "{}"]}, inputs={"type": "items", "items": ["a"]},
        linger_seconds=60,
    )  # fmt: skip
    return await client.post(f"/v1/jobs/{job_id}/inputs", {"first": 1, "items": ["b"]}), job_id


@change("POST", "/v1/jobs/{job}/cancel", "cancel")
async def cancel(_world: World, client: Client) -> tuple[Answer, str]:
    job_id = await client.submit(**small(1))
    return await client.post(f"/v1/jobs/{job_id}/cancel"), job_id


@change("POST", "/v1/jobs/{job}/tasks/{index}/cancel", "cancel")
async def cancel_task(_world: World, client: Client) -> tuple[Answer, str]:
    job_id = await client.submit(**small(2))
    return await client.post(f"/v1/jobs/{job_id}/tasks/1/cancel"), f"{job_id}/1"


@change("PATCH", "/v1/jobs/{job}", "change")
async def pause(_world: World, client: Client) -> tuple[Answer, str]:
    job_id = await client.submit(**small(1))
    return await client.ask("PATCH", f"/v1/jobs/{job_id}", {"paused": True}), job_id


@change("POST", "/v1/jobs/{job}/retry", "retry")
async def retry(world: World, client: Client) -> tuple[Answer, str]:
    await world.add_node("retrier")
    job_id = await client.submit(**small(1), max_attempts=1)
    await world.start(job_id)
    await world.finish(job_id, outcome=Outcome.EXIT_CODE)
    return await client.post(f"/v1/jobs/{job_id}/retry"), job_id


@change("PATCH", "/v1/settings", "change_settings")
async def settings(_world: World, client: Client) -> tuple[Answer, str]:
    return await client.ask("PATCH", "/v1/settings", {"prefill_most": 7}), "prefill_most"


@change("PATCH", "/v1/nodes/{node}", "change_node")
async def change_node(world: World, client: Client) -> tuple[Answer, str]:
    node_id = await world.add_node("shelf")
    asked = {"name": "rack", "tags": ["old"], "draining": True}
    return await client.ask("PATCH", "/v1/nodes/shelf", asked), node_id


@change("DELETE", "/v1/nodes/{node}", "forget_node")
async def forget_node(world: World, client: Client) -> tuple[Answer, str]:
    node_id = await world.add_node("gone", join=False)
    return await client.ask("DELETE", "/v1/nodes/gone"), node_id


@change("POST", "/v1/nodes/{node}/revoke", "revoke_node")
async def revoke_node(world: World, client: Client) -> tuple[Answer, str]:
    node_id = await world.add_node("thief")
    return await client.post("/v1/nodes/thief/revoke"), node_id


@change("POST", "/v1/pair", "open_pairing")
async def open_window(_world: World, client: Client) -> tuple[Answer, str]:
    answer = await client.post("/v1/pair", {"role": "viewer", "ttl_seconds": 60})
    return answer, answer.json["slot"]


@change("DELETE", "/v1/pair/{slot}", "close_pairing")
async def close_window(_world: World, client: Client) -> tuple[Answer, str]:
    slot = (await client.post("/v1/pair", {"role": "viewer", "ttl_seconds": 60})).json["slot"]
    return await client.ask("DELETE", f"/v1/pair/{slot}"), slot


@change("POST", "/v1/certs/renew", "renew")
async def renew(_world: World, client: Client) -> tuple[Answer, str]:
    return await client.post("/v1/certs/renew", request()), client.id


@change("POST", "/v1/certs/peer", "certify_peer")
async def certify_peer(_world: World, client: Client) -> tuple[Answer, str]:
    return await client.post("/v1/certs/peer", request()), client.id


@change("POST", "/v1/certs/cluster", "certify_cluster")
async def certify_cluster(_world: World, client: Client) -> tuple[Answer, str]:
    return await client.post("/v1/certs/cluster", request()), client.id


@change("DELETE", "/v1/members/{member}", "revoke_member")
async def revoke_member(world: World, client: Client) -> tuple[Answer, str]:
    member = (await world.member(Role.VIEWER)).principal.id
    return await client.ask("DELETE", f"/v1/members/{member}"), member


@change("DELETE", "/v1/self", "leave")
async def leave(world: World, client: Client) -> tuple[Answer, str]:
    await world.member(Role.OPERATOR)  # the last one could not
    return await client.ask("DELETE", "/v1/self"), client.id


def request() -> dict[str, str]:
    text = base64.encodebytes(make_csr()[1]).decode()
    return {"csr_pem": f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"}


def test_every_route_that_is_no_question_is_here():
    changing = {(route.method, route.path) for route in ROUTES if route.method != "GET"}
    assert changing == CHANGES.keys() | NO_CHANGE.keys()
    assert not CHANGES.keys() & NO_CHANGE.keys()


@pytest.mark.parametrize("route", CHANGES, ids=" ".join)
async def test_who_did_what_and_from_where(world: World, route: tuple[str, str]):
    action, call = CHANGES[route]
    client = await world.client(Role.AGENT if action == "certify_peer" else Role.OPERATOR)
    began = time.time()
    answer, what = await call(world, client)
    assert answer.status < 300, answer.body
    newest = (await world.engine.store.audit(1))[0]
    assert (newest.actor, newest.action, newest.address) == (client.id, action, "127.0.0.1")
    assert what in f"{newest.object} {newest.detail}"
    assert began - 1 <= newest.at <= time.time() + 1


async def test_what_was_refused_leaves_no_row(world: World, operator: Client):
    await world.add_node("desk")
    before = await world.engine.store.audit(100)
    viewer = await world.client(Role.VIEWER)
    assert (await viewer.post("/v1/jobs", {"spec": COMMAND})).status == 403
    assert (await operator.post("/v1/jobs", {"spec": {"type": "none", "payload": {}}})).status == 400
    assert (await operator.ask("PATCH", "/v1/settings", {"none": 7})).status == 400
    assert (await operator.ask("PATCH", "/v1/nodes/desk", {"name": ""})).status == 400
    assert (await operator.post("/v1/jobs/none/cancel")).status == 404
    assert await world.engine.store.audit(100) == before


async def test_nobody_pushes_the_rows_of_others_out(world: World, operator: Client):
    """A certificate may be asked for again and again; the trail keeps a bounded number of rows."""
    viewer, agent = await world.client(Role.VIEWER), await world.client(Role.AGENT)
    for _ in range(3):
        assert (await viewer.post("/v1/certs/renew", request())).status == 200
        assert (await agent.post("/v1/certs/peer", request())).status == 200
    rows = [(row.actor, row.action) for row in await world.engine.store.audit(10)]
    assert sorted(rows) == sorted([(viewer.id, "renew"), (agent.id, "certify_peer")])


async def test_questions_leave_no_row(world: World, operator: Client):
    digest = sha256(b"x").hexdigest()
    assert (await operator.post("/v1/blobs/missing", {"digests": [digest]})).status == 200
    assert await world.engine.store.audit(10) == []


async def test_the_trail_says_it_to_who_asks(world: World, operator: Client):
    job_id = await operator.submit(**small(1))
    (row,) = (await operator.get("/v1/audit")).json
    assert (row["actor"], row["action"], row["object"]) == (operator.id, "submit", job_id)
    assert row["address"] == "127.0.0.1"
