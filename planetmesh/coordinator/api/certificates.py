"""Certificates: renew one's own, see whose there are, revoke a member's."""

from __future__ import annotations

import base64
import binascii
import re

from aiohttp import web

from planetmesh.coordinator.access import OPERATORS, READERS
from planetmesh.coordinator.api.call import Call
from planetmesh.errors import BadInput, Conflict
from planetmesh.mesh import effects as fx
from planetmesh.mesh import nodes
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import NodeId
from planetmesh.wire.api import RenewCertificate, RenewedCertificate, rfc3339
from planetmesh.wire.members import PersonView

_PEM = re.compile(
    r"\s*-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----([A-Za-z0-9+/=\s]+)"
    r"-----END (?:NEW )?CERTIFICATE REQUEST-----\s*"
)
BODY_MOST_BYTES = 16 * 1024
"""A request for a P-256 key is half a kilobyte."""


async def renew_certificate(call: Call) -> web.StreamResponse:
    """A new certificate for the caller's own name and role; only the key of the request counts."""
    asked = await call.body(RenewCertificate, most_bytes=BODY_MOST_BYTES)
    enrolment = call.parts.enrolment
    leaf = await enrolment.renew(call.principal, _der(asked.csr_pem), call.connection.address)
    answer = RenewedCertificate(
        certificate_pem=leaf.cert_pem.decode("ascii"), ca_pem=enrolment.authority.ca_pem.decode("ascii")
    )
    return call.answer(answer)


async def certify_peer(call: Call) -> web.StreamResponse:
    """A certificate for the port on which the calling node hands blobs to others."""
    asked = await call.body(RenewCertificate, most_bytes=BODY_MOST_BYTES)
    enrolment = call.parts.enrolment
    leaf = await enrolment.certify_peer(call.principal, _der(asked.csr_pem), call.connection.address)
    answer = RenewedCertificate(
        certificate_pem=leaf.cert_pem.decode("ascii"), ca_pem=enrolment.authority.ca_pem.decode("ascii")
    )
    return call.answer(answer)


async def certify_cluster(call: Call) -> web.StreamResponse:
    """A certificate for the processes of a Dask cluster that the caller is about to start."""
    asked = await call.body(RenewCertificate, most_bytes=BODY_MOST_BYTES)
    enrolment = call.parts.enrolment
    address = call.connection.address
    certificate = await enrolment.certify_cluster(call.principal, _der(asked.csr_pem), address)
    ca_pem = enrolment.authority.ca_pem.decode("ascii")
    return call.answer(RenewedCertificate(certificate_pem=certificate.decode("ascii"), ca_pem=ca_pem))


def _der(pem: str) -> bytes:
    match = _PEM.fullmatch(pem)
    try:
        if match is None:
            raise BadInput("This is not a certificate request in PEM form.")
        return base64.b64decode("".join(match[1].split()), validate=True)
    except binascii.Error as error:
        raise BadInput("The certificate request cannot be read.") from error


async def list_people(call: Call) -> web.StreamResponse:
    """Who may give orders or look, so that one of them can be refused."""
    now = call.parts.engine.read_clock().wall
    people = call.parts.access.serials.living(READERS, now)
    return call.answer(
        [
            PersonView(
                id=each.id,
                name=each.name,
                role=each.role.value,
                expires_at=rfc3339(each.not_after) or "",
            )
            for each in sorted(people, key=lambda each: (each.role, each.name, each.id))
        ]
    )


async def revoke_member(call: Call) -> web.StreamResponse:
    """Refuse a member by its id, or one certificate by its serial: the way out for a lost laptop."""
    access, named = call.parts.access, call.part("member")
    if named in (call.principal.id, call.principal.serial):
        raise Conflict("This is the certificate that you are using.", hint="Let another operator revoke it.")
    known = access.serials.get(named)
    member = NodeId(known.id if known else named)
    changes = access.revoke(named)

    def revoke(state: MeshState, now: Moment) -> fx.Effects:
        if member not in state.nodes:
            return []
        return nodes.on_node_revoked(state, member, now)

    changes.audit.append(call.audit("revoke_member", named, access.serials.name_of(member)))
    await access.change(revoke, changes)
    return call.answer({})


async def leave(call: Call) -> web.StreamResponse:
    """The caller gives up its place: none of its certificates counts any more. Nobody's but its own."""
    parts, member = call.parts, NodeId(call.principal.id)
    live = parts.engine.state.nodes.get(member)
    if live is not None and live.connected:
        # Who leaves has stopped its agent. Another one with this identity is no reason to throw that out.
        raise Conflict(
            f"The node '{live.node.name}' is connected at this moment.",
            hint="If this home is a copy of another machine's, its own certificate is left alone.",
        )
    operators = {
        each.id for each in parts.access.serials.living(OPERATORS, call.parts.engine.read_clock().wall)
    }
    if operators == {member}:
        raise Conflict(
            "You are the only operator: nobody could give orders any more.",
            hint="Let another one in first: planetmesh code --role operator",
        )
    name = live.node.name if live is not None else parts.access.serials.name_of(member)
    changes = parts.access.revoke(member)
    changes.audit.append(call.audit("leave", member, f"{call.principal.role} {name}".strip()))
    await parts.access.change(lambda state, now: nodes.on_node_left(state, member, now), changes)
    return call.answer({})
