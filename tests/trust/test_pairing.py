"""The exchange without sockets: order of frames, what is bound to what, sealed frames."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planetmesh.errors import PairingFailed
from planetmesh.model.identity import Role
from planetmesh.trust.codes import Code
from planetmesh.trust.identity import Membership
from planetmesh.trust.pairing import (
    NEXT,
    VERSION,
    Channel,
    DeskExchange,
    DeskHello,
    Granted,
    JoinerExchange,
    JoinerHello,
    Request,
    Step,
    Welcome,
    decode,
    encode,
)
from planetmesh.trust.windows import Window

MESH, ID = "ab" * 16, "cd" * 16
CODE = Code(7, "K3QF9TXA")
SHOWN, AUTHORITY = b"h" * 32, b"a" * 32
MEMBERSHIP = Membership(MESH, "home", Role.AGENT, ID, "box", ID)


def desk(code=CODE, role=Role.AGENT, shown=SHOWN, mesh_id=MESH):
    return DeskExchange(Window(code, role, 1e9), mesh_id, AUTHORITY, shown, secrets.token_bytes(16))


def joiner(code=CODE, role=Role.AGENT, shown=SHOWN):
    return JoinerExchange(code, role, shown, secrets.token_bytes(16))


def prove(a, b, greet=lambda raw: raw):
    """As far as both proofs."""
    greeting = greet(b.hello(a.hello()))
    a.confirmed(b.confirm(a.confirm(b.pake(a.pake(greeting)))))


def test_the_whole_exchange():
    a, b = joiner(), desk()
    prove(a, b)
    welcome = Welcome(ca_pem=b"ca", mesh_id=MESH, coordinator_id=ID, server_time=1.0)
    assert a.welcome(b.welcome(welcome)) == welcome
    request = Request(csr_der=b"csr", display_name="box", os="Linux")
    assert b.request(a.request(request)) == request
    granted = Granted(cert_pem=b"cert", membership=MEMBERSHIP)
    assert a.granted(b.granted(granted)) == granted
    assert a.step is b.step is Step.DONE


@pytest.mark.parametrize(
    "other",
    [
        lambda: desk(code=Code(7, "K3QF9TXB")),
        lambda: desk(role=Role.OPERATOR),
        lambda: desk(shown=b"i" * 32),
    ],
    ids=["code", "role", "certificate"],
)
def test_code_role_and_certificate_must_all_agree(other):
    a, b = joiner(), other()
    with pytest.raises(PairingFailed):
        prove(a, b)
    assert b.step is Step.FAILED


@pytest.mark.parametrize("changed", ["mesh_id", "authority", "nonce"])
def test_a_changed_greeting_is_noticed(changed):
    values = {"mesh_id": "ef" * 16, "authority": b"b" * 32, "nonce": b"n" * 16}

    def greet(raw):
        from msgspec.structs import replace

        return encode(replace(decode(raw, DeskHello), **{changed: values[changed]}))

    with pytest.raises(PairingFailed):
        prove(joiner(), desk(), greet)


def test_a_desk_that_does_not_know_the_code_is_found_out_before_anything_is_sent():
    a, b = joiner(), desk()
    a.confirm(b.pake(a.pake(b.hello(a.hello()))))
    from planetmesh.trust.pairing import DeskConfirm

    with pytest.raises(PairingFailed):
        a.confirmed(encode(DeskConfirm(bytes(32))))
    with pytest.raises(PairingFailed):
        a.request(Request(csr_der=b"csr", display_name="", os=""))


def test_the_joiners_own_proof_reflected_is_no_proof():
    from planetmesh.trust.pairing import DeskConfirm, JoinerConfirm

    a, b = joiner(), desk()
    mine = decode(a.confirm(b.pake(a.pake(b.hello(a.hello())))), JoinerConfirm)
    with pytest.raises(PairingFailed):
        a.confirmed(encode(DeskConfirm(mine.proof)))


def test_another_version_is_refused():
    with pytest.raises(PairingFailed):
        desk().hello(encode(JoinerHello(VERSION + 1, 7, bytes(16))))


def test_a_long_code_refuses_another_authority_before_any_mathematics():
    a, b = joiner(code=Code(7, "K" * 26, "00" * 32)), desk(code=Code(7, "K" * 26, AUTHORITY.hex()))
    with pytest.raises(PairingFailed):
        a.pake(b.hello(a.hello()))


STEPS = ["hello", "pake", "confirm", "request"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=5))
def test_no_other_order_of_frames_leads_anywhere(order):
    """Each is a frame that was right in a session of its own; only the due one may pass, and once."""
    b = desk()
    passed = []
    for step in order:
        try:
            getattr(b, step)(FRAMES[step])
        except PairingFailed:
            assert b.step is Step.FAILED
            break
        passed.append(step)
    assert passed == STEPS[: len(passed)]
    assert len(passed) <= 2


def recorded() -> dict[str, bytes]:
    a, b = joiner(), desk()
    frames = {"hello": a.hello()}
    frames["pake"] = a.pake(b.hello(frames["hello"]))
    frames["confirm"] = a.confirm(b.pake(frames["pake"]))
    a.confirmed(b.confirm(frames["confirm"]))
    a.welcome(b.welcome(Welcome(ca_pem=b"", mesh_id=MESH, coordinator_id=ID, server_time=0.0)))
    frames["request"] = a.request(Request(csr_der=b"", display_name="", os=""))
    return frames


FRAMES = recorded()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mangled_frames_are_one_error(data):
    raw = bytearray(FRAMES[data.draw(st.sampled_from(STEPS))])
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for kind in (JoinerHello, DeskHello, Welcome, Granted):
        try:
            decode(bytes(raw), kind)
        except PairingFailed as error:
            assert error.message == "The pairing failed."  # noqa: PT017  most examples do not raise


@pytest.mark.parametrize("raw", [b"", b"\x91" * 5000, b"\xdd\xff\xff\xff\xff", b"\xc1", bytes(9000)])
def test_hostile_msgpack_is_one_error(raw):
    with pytest.raises(PairingFailed):
        decode(raw, DeskHello)


def test_sealed_frames_cannot_be_changed_repeated_or_swapped():
    key, transcript = secrets.token_bytes(32), secrets.token_bytes(32)
    sealing = Channel(key, transcript)
    request = Request(csr_der=b"csr", display_name="box", os="Linux")
    first, second = sealing.seal(request), sealing.seal(request)
    assert first != second
    opening = Channel(key, transcript)
    with pytest.raises(PairingFailed):
        Channel(key, transcript).open(second, Request)
    with pytest.raises(PairingFailed):
        Channel(key, bytes(32)).open(first, Request)
    with pytest.raises(PairingFailed):
        Channel(key, transcript).open(first[:-1] + bytes([first[-1] ^ 1]), Request)
    assert opening.open(first, Request) == request
    with pytest.raises(PairingFailed):
        opening.open(first, Request)


def test_the_table_is_one_road_without_branches():
    steps = [Step.NEW]
    while steps[-1] in NEXT:
        steps.append(NEXT[steps[-1]][1])
    assert steps == [step for step in Step if step is not Step.FAILED]
