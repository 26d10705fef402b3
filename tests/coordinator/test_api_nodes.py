"""Nodes, pairing, certificates, status and the document over the API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from pathlib import Path

import msgspec
from api_world import Client, World, running_world, small

from planetmesh.coordinator.access import RULES
from planetmesh.mesh import nodes
from planetmesh.model.identity import CertificateState, Role
from planetmesh.model.job import Outcome
from planetmesh.settings import Settings
from planetmesh.trust.codes import parse_code
from planetmesh.trust.renewal import make_csr
from planetmesh.trust.tls import pinned_context

NODE_KEYS = set(
    "id name state cpus memory_bytes gpus tags running load rtt_ms reliability last_heartbeat_at "  # noqa: SIM905
    "draining sandbox version".split()
)


async def test_nodes_are_listed_and_found(world: World, operator: Client, viewer: Client):
    desk = await world.add_node("desk")
    await world.add_node("desktop")
    nodes = (await viewer.get("/v1/nodes")).json
    assert [node["name"] for node in nodes] == ["desk", "desktop"]
    assert nodes[0].keys() >= NODE_KEYS
    assert (nodes[0]["state"], nodes[0]["cpus"], nodes[0]["offer_cpus"]) == ("HEALTHY", 4, 4.0)
    for text in ("desk", "DESK", desk, desk[:12] + desk[12:20]):
        assert (await viewer.get(f"/v1/nodes/{text}")).json["id"] == desk
    unclear = await operator.get("/v1/nodes/des")
    assert unclear.status == 400
    assert "desktop" in unclear.json["error"]["message"]
    assert (await operator.get("/v1/nodes/nas")).status == 404


async def test_a_node_is_renamed_tagged_and_drained(world: World, operator: Client):
    await world.add_node("desk")
    await world.add_node("nas")
    answer = await operator.ask(
        "PATCH", "/v1/nodes/desk", {"name": " Big desk ", "tags": ["gpu", "gpu", "fast"]}
    )
    assert (answer.json["name"], answer.json["tags"]) == ("Big desk", ["fast", "gpu"])
    drained = (await operator.ask("PATCH", "/v1/nodes/big desk", {"draining": True, "now": True})).json
    assert drained["draining"] is True
    assert drained["note"] == "It is draining (`planetmesh node resume 'Big desk'`)."
    taken = await operator.ask("PATCH", "/v1/nodes/nas", {"name": "BIG DESK"})
    assert (taken.status, taken.code) == (409, "conflict")
    bad = (
        {}, {"name": ""}, {"name": "a/b"}, {"name": "x" * 65}, {"name": "a\u202eb"}, {"name": "\x1b[31m"},
        {"tags": ["a b"]}, {"tags": ["t"] * 100}, {"now": True}, {"id": "f" * 32}, {"draining": "yes"},
    )  # fmt: skip
    for change in bad:
        answer = await operator.ask("PATCH", "/v1/nodes/nas", change)
        assert answer.status in {400, 413}, (change, answer.body)
    assert (await world.engine.store.load()).nodes[0].name == "Big desk"


async def test_a_node_is_forgotten_only_when_it_is_gone(world: World, operator: Client):
    await world.add_node("desk")
    refused = await operator.ask("DELETE", "/v1/nodes/desk")
    assert (refused.status, refused.code) == (409, "conflict")
    await world.leave("desk")
    assert (await operator.ask("DELETE", "/v1/nodes/desk")).status == 200
    assert (await operator.get("/v1/nodes")).json == []
    assert (await operator.ask("DELETE", "/v1/nodes/desk")).status == 404
    assert (await world.engine.store.load()).nodes == []


async def test_a_pairing_window_is_opened_listed_and_closed(world: World, operator: Client, viewer: Client):
    answer = await operator.post("/v1/pair", {"role": "viewer", "ttl_seconds": 60})
    assert answer.status == 201
    window = answer.json
    code = parse_code(window["code"])
    assert (window["slot"], window["role"], code.is_long) == (str(code.slot), "viewer", False)
    assert window["address"] == f"127.0.0.1:{world.desk.port}"
    assert re.match(r"\d{4}-\d\d-\d\dT.*Z", window["expires_at"])
    world.parts.failures.note(code.slot, "192.0.2.7", 4)
    listed = (await operator.get("/v1/pair")).json
    assert [(each["slot"], each["code"], each["last_failures"]) for each in listed] == [
        (window["slot"], "", ["192.0.2.7"])
    ]
    assert code.secret not in (await operator.get("/v1/audit")).body.decode()
    assert (await viewer.get("/v1/pair")).status == 403
    assert (await operator.ask("DELETE", f"/v1/pair/{window['slot']}")).status == 200
    assert (await operator.get("/v1/pair")).json == []
    assert (await operator.ask("DELETE", f"/v1/pair/{window['slot']}")).status == 404
    assert (await operator.ask("DELETE", "/v1/pair/x")).status == 400
    audit = (await operator.get("/v1/audit?limit=2")).json
    assert [(row["action"], row["actor"]) for row in audit] == [
        ("close_pairing", operator.id),
        ("open_pairing", operator.id),
    ]


async def test_windows_keep_to_their_bounds(operator: Client):
    for bad in (
        {"role": "coordinator"},
        {"role": "peer"},
        {"role": "root"},
        {"ttl_seconds": 29},
        {"ttl_seconds": 90_000},
    ):
        assert (await operator.post("/v1/pair", bad)).status == 400, bad
    long = (await operator.post("/v1/pair", {"ttl_seconds": 86_400})).json
    assert parse_code(long["code"]).is_long
    assert (await operator.post("/v1/pair")).status == 201


def _pem(der: bytes) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_der_x509_csr(der).public_bytes(Encoding.PEM).decode()


async def test_a_cluster_certificate_opens_nothing_here(world: World):
    operator = await world.client()
    key_pem, csr_der = make_csr()
    answer = await operator.post("/v1/certs/cluster", {"csr_pem": _pem(csr_der)})
    assert answer.status == 200, answer.body
    assert (await operator.post("/v1/certs/cluster", {"csr_pem": "nonsense"})).status == 400
    for role in (Role.VIEWER, Role.AGENT):
        refused = await (await world.client(role)).post("/v1/certs/cluster", {"csr_pem": _pem(csr_der)})
        assert refused.status == 403
    rows = (await operator.get("/v1/audit")).json
    assert "certify_cluster" in str(rows)
    certificate, ca_pem = answer.json["certificate_pem"], answer.json["ca_pem"]
    context = pinned_context(key_pem.decode(), certificate, ca_pem, serves=False)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port, ssl=context, server_hostname="x")
    writer.write(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.transport.abort()


async def test_a_member_renews_its_own_certificate(world: World):
    for role in (Role.AGENT, Role.OPERATOR, Role.VIEWER):
        identity = await world.member(role)
        client = world.open(identity)
        key_pem, csr_der = make_csr()
        answer = await client.post("/v1/certs/renew", {"csr_pem": _pem(csr_der)})
        assert answer.status == 200, answer.body
        old = identity.principal
        identity.replace_certificate(answer.json["certificate_pem"].encode(), key_pem)
        new = identity.principal
        assert (new.role, new.id) == (old.role, old.id)
        assert new.serial != old.serial
        renewed = world.open(identity)
        await renewed.get("/v1/status")
        assert world.serials.get(new.serial).state is CertificateState.ACTIVE
        assert world.serials.get(old.serial).state is CertificateState.RETIRED


async def test_odd_certificate_requests_are_refused(operator: Client):
    head, foot = "-----BEGIN CERTIFICATE REQUEST-----", "-----END CERTIFICATE REQUEST-----"
    for pem in ("", "x", f"{head}\nAAAA\n{foot}", f"{head}\nA\n{foot}", f"{head}\n{'A' * 20_000}\n{foot}"):
        assert (await operator.post("/v1/certs/renew", {"csr_pem": pem})).status in {400, 413}, pem[:50]


async def test_status(world: World, operator: Client, viewer: Client):
    await world.add_node("desk")
    await operator.submit()
    status = (await viewer.get("/v1/status")).json
    assert (status["mesh"], status["role"], status["node"]) == ("home", "viewer", viewer.id)
    assert status["nodes"] == {"HEALTHY": 1, "SUSPECT": 0, "OFFLINE": 0}
    assert status["jobs"]["RUNNING"] == 1
    assert status["mesh_id"] == world.authority.mesh_id
    assert status["storage_error"] == ""


async def test_the_document_describes_every_route(operator: Client):
    answer = await operator.get("/v1/openapi.json")
    document = answer.json
    assert document["openapi"] == "3.1.0"
    described = {(method.upper(), path) for path, each in document["paths"].items() for method in each}
    assert described == set(RULES)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["x-roles"] == sorted(RULES[method.upper(), path])
            assert operation["summary"]
            named = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))
    ids = [operation["operationId"] for each in document["paths"].values() for operation in each.values()]
    assert len(ids) == len(set(ids))
    references = set(re.findall(r'"\$ref":\s*"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= document["components"]["schemas"].keys()
    assert {"JobView", "TaskView", "NodeView", "SubmitJob", "ErrorAnswer"} <= references


async def test_answers_fit_what_the_document_says(world: World, operator: Client):
    """Keys of an answer and of its schema are the same words."""
    await world.add_node("desk")
    await operator.submit()
    schemas = (await operator.get("/v1/openapi.json")).json["components"]["schemas"]
    for path, name in (
        ("/v1/jobs/last", "JobView"),
        ("/v1/nodes/desk", "NodeView"),
        ("/v1/status", "MeshStatus"),
    ):
        answer = (await operator.get(path)).json
        assert answer.keys() == schemas[name]["properties"].keys(), name


async def test_a_full_disk_is_said_and_nothing_is_taken(tmp_path: Path):
    async with running_world(tmp_path, settings=Settings()) as world:
        operator = await world.client()
        assert (await operator.get("/v1/status")).status == 200
        world.engine.storage_error = "The disk is full."
        answer = await operator.post("/v1/jobs", {"spec": {"type": "command", "payload": {"argv": ["a"]}}})
        assert (answer.status, answer.code) == (507, "storage_failed")
        status = (await operator.get("/v1/status")).json
        assert status["storage_error"] == "The disk is full."
        assert msgspec.json.decode(answer.body)["error"]["hint"]


async def test_a_change_of_a_nodes_state_is_one_line_of_log(world: World, caplog) -> None:
    with caplog.at_level("INFO", logger="planetmesh.news"):
        await world.add_node("desk")
        await world.add_node("attic")
        await world.leave("desk")
        await world.join("desk", session=2)
        client = await world.client()
        await client.ask("PATCH", "/v1/nodes/desk", {"draining": True})
    told = [(record.message, record.node) for record in caplog.records if record.message.startswith("node.")]
    assert told == [
        ("node.healthy", "desk"),
        ("node.healthy", "attic"),
        ("node.offline", "desk"),
        ("node.healthy", "desk"),
        ("node.draining", "desk"),
    ]


async def test_silence_and_revocation_are_warnings_and_an_orderly_stop_is_none(world: World, caplog) -> None:
    caplog.set_level("INFO", "planetmesh.news")
    client = await world.client()
    for name in ("stopped", "silent", "revoked"):
        await world.add_node(name)
    await world.leave("stopped")
    assert (await client.post("/v1/nodes/revoked/revoke")).status == 200
    late = world.engine.read_clock().steady + world.engine.settings.offline_after_seconds
    await world.engine.do(lambda state, now: nodes.on_tick(state, msgspec.structs.replace(now, steady=late)))
    ends = [each for each in caplog.records if each.message == "node.offline"]
    assert {each.node: (each.reason, each.levelname) for each in ends} == {
        "stopped": ("stopped", "INFO"),
        "silent": ("silent", "WARNING"),
        "revoked": ("revoked", "WARNING"),
    }


async def test_the_log_says_quarantine_as_everything_else_does(world: World, caplog) -> None:
    caplog.set_level("INFO", "planetmesh.news")
    client = await world.client()
    desk, _attic = [await world.add_node(name, cpus=1) for name in ("desk", "attic")]
    for _number in range(world.engine.settings.quarantine_failures):
        job_id = await client.submit(**small(2), max_attempts=1, partial=True)
        for index, task in list(world.engine.state.jobs[job_id].tasks.items()):
            outcome = Outcome.EXIT_CODE if task.node_id == desk else Outcome.OK
            await world.finish(job_id, index, outcome)
    assert (await client.ask("PATCH", "/v1/nodes/desk", {"draining": False})).status == 200
    told = [(each.message, each.node) for each in caplog.records if "quarantine" in each.message]
    assert told == [("node.quarantined", "desk"), ("node.quarantine_over", "desk")]
