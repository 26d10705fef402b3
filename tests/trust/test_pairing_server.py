"""The pairing desk over real TLS: honest joiners get in, everybody else gets nothing. Abuse T02-T08."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from evil import Evil, guess
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from identities import FAST, Mesh

from planetmesh.errors import BadInput, Conflict, NotFound, PairingFailed, StorageFailed, Unreachable
from planetmesh.model.identity import Role
from planetmesh.trust import enroll as joining
from planetmesh.trust.codes import Code
from planetmesh.trust.enroll import candidate_ports, enroll
from planetmesh.trust.frames import read_frame, write_frames
from planetmesh.trust.identity import Identity
from planetmesh.trust.pairing import Busy, PairingLimits, decode
from planetmesh.trust.pairing_server import PairingDesk
from planetmesh.trust.tls import pairing_client_context, pairing_serve_context
from planetmesh.trust.windows import ATTEMPTS

WRONG = "AAAAAAAA"

loops = [asyncio.DefaultEventLoopPolicy]
try:
    import uvloop

    loops.append(uvloop.EventLoopPolicy)
except ImportError:  # Windows
    pass


def wrong(code: Code) -> Code:
    return Code(code.slot, WRONG)


async def join(mesh: Mesh, desk: PairingDesk, code: Code, *, role: Role = Role.AGENT, name="box", port=0):
    return await enroll(
        "127.0.0.1", port or desk.port or 1, code, role=role, name=name, folder=mesh.folder / f"joined-{name}"
    )


async def until(condition, seconds=30.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  the condition is another party's state
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("role", [Role.AGENT, Role.OPERATOR, Role.VIEWER])
async def test_who_knows_the_code_is_enrolled(mesh, role):
    async with mesh.desk() as desk:
        code, expires_at = await desk.open(role, 600)
        assert 595 < expires_at - time.time() <= 600
        port = desk.port
        assert mesh.listening == [(port, (code.slot,))]
        identity = await join(mesh, desk, code, role=role, name="laptop")
        await until(lambda: desk.port is None)
    assert identity.principal.role is role
    assert identity.fingerprint == mesh.authority.fingerprint
    assert identity.membership.name == "laptop"
    assert identity.membership.endpoints == ("127.0.0.1:7433", "192.0.2.1:7433")
    assert identity.clock_offset_seconds == 0
    assert Identity.load(identity.folder).principal == identity.principal
    assert [(each.role, each.display_name, each.peer_address) for each in mesh.enrolled] == [
        (role, "laptop", "127.0.0.1")
    ]
    assert mesh.listening[-1] == (None, ())
    assert mesh.failures == []


async def test_nothing_listens_without_a_window_and_a_used_code_is_gone(mesh):
    async with mesh.desk() as desk:
        assert desk.port is None
        code, _ = await desk.open(Role.AGENT, 600)
        other, _ = await desk.open(Role.AGENT, 600)
        port = desk.port
        await join(mesh, desk, code, name="first")
        await until(lambda: len(desk.windows()) == 1)
        with pytest.raises(PairingFailed) as caught:
            await join(mesh, desk, code, name="second")
        assert "used" in caught.value.message
        desk.close(other.slot)
        with pytest.raises(Unreachable):
            await join(mesh, desk, other, name="third", port=port)
    assert len(mesh.enrolled) == 1


async def test_five_wrong_codes_close_the_window_for_the_right_one(mesh):
    """T02."""
    async with mesh.desk() as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        port = desk.port
        for _ in range(ATTEMPTS):
            with pytest.raises(PairingFailed) as caught:
                await join(mesh, desk, wrong(code), port=port)
            assert "code did not match" in caught.value.message
            assert "planetmesh code" in caught.value.hint
        await until(lambda: desk.port is None)
        with pytest.raises(Unreachable):
            await join(mesh, desk, code, port=port)
    assert [left for _, _, left in mesh.failures] == [4, 3, 2, 1, 0]
    assert mesh.enrolled == []
    assert not (mesh.folder / "joined-box").exists()


@pytest.mark.slow
async def test_two_hundred_parallel_guesses_get_five_answers(mesh):
    """T03."""
    async with mesh.desk() as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        keeps_listening, _ = await desk.open(Role.VIEWER, 600)
        port = desk.port
        together = asyncio.Semaphore(40)

        async def one() -> str:
            async with together:
                return await guess(port, wrong(code))

        async with asyncio.TaskGroup() as group:
            guesses = [group.create_task(one()) for _ in range(200)]
        results = [each.result() for each in guesses]
        assert desk.port == port
        assert [each.slot for each in desk.windows()] == [keeps_listening.slot]
    assert results.count("pake") == ATTEMPTS
    assert set(results) <= {"pake", "hello", "closed"}
    assert len(mesh.failures) == ATTEMPTS
    assert mesh.enrolled == []


async def test_leaving_after_the_answer_counts(mesh):
    """T04."""
    async with mesh.desk() as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        port = desk.port
        for _ in range(ATTEMPTS):
            async with await Evil.connect(port) as evil:
                exchange = evil.exchange(code)
                assert await evil.ask(exchange.pake(await evil.ask(exchange.hello())))
        await until(lambda: len(mesh.failures) == ATTEMPTS)
        await until(lambda: desk.port is None)
    assert mesh.enrolled == []


async def test_a_recorded_session_is_worth_nothing(mesh):
    """T05: replayed whole and frame by frame against a window that is open still."""
    recorded: list[bytes] = []
    async with mesh.desk() as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        async with await Evil.connect(desk.port) as evil:
            exchange = evil.exchange(code)
            recorded.append(exchange.hello())
            recorded.append(exchange.pake(await evil.ask(recorded[0])))
            recorded.append(exchange.confirm(await evil.ask(recorded[1])))
            exchange.confirmed(await evil.ask(recorded[2]))
            exchange.welcome(await evil.receive())
        async with await Evil.connect(desk.port) as evil:
            assert await evil.ask(recorded[0])
            assert await evil.ask(recorded[1])
            assert await evil.ask(recorded[2]) is None
        for frame in recorded[1:]:
            async with await Evil.connect(desk.port) as evil:
                assert await evil.ask(frame) is None
        async with await Evil.connect(desk.port) as evil:
            await evil.send(*recorded)
            answers = [await evil.receive() for _ in range(3)]
            assert answers[2] is None
    assert mesh.enrolled == []


async def test_a_machine_in_between_gets_nothing(mesh, tmp_path):
    """T06: its own certificate towards the joiner, all frames passed on untouched, the right code typed."""
    middle = Mesh(tmp_path / "middle", mesh_id=mesh.mesh_id)
    passed: list[bytes] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = await Evil.connect(desk.port)
        with suppress(asyncio.IncompleteReadError, OSError):
            for _ in range(6):
                frame = await read_frame(reader)
                passed.append(frame)
                answer = await onward.ask(frame)
                if answer is None:
                    break
                await write_frames(writer, answer)
        writer.close()
        onward.writer.close()

    async with mesh.desk() as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        proxy = await asyncio.start_server(
            pass_on, "127.0.0.1", 0, ssl=pairing_serve_context(middle.coordinator)
        )
        async with proxy:
            with pytest.raises(PairingFailed) as caught:
                await join(mesh, desk, code, port=proxy.sockets[0].getsockname()[1])
        assert "another machine" in caught.value.message
        await until(lambda: mesh.failures)
    assert len(passed) == 3
    assert not any(b"CERTIFICATE" in frame for frame in passed)
    assert mesh.enrolled == []


async def test_a_false_desk_learns_nothing_and_gets_no_request(mesh, tmp_path):
    """It guesses the code wrong: it cannot prove itself, and sees no frame after the joiner's proof."""
    seen: list[bytes] = []
    false = Mesh(tmp_path / "false")

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = await Evil.connect(desk.port)
        with suppress(asyncio.IncompleteReadError, OSError):
            for number in range(4):
                seen.append(await read_frame(reader))
                if number == 2:
                    # Whatever it says instead of a proof, for instance the joiner's own proof reflected.
                    await write_frames(writer, seen[-1].replace(b"JoinerConfirm", b"\xabDeskConfirm"[1:]))
                    continue
                await write_frames(writer, await onward.ask(seen[-1]) or b"x")
        writer.close()
        onward.writer.close()

    async with false.desk() as desk:
        await desk.open(Role.AGENT, 600)
        slot = desk.windows()[0].slot
        server = await asyncio.start_server(
            play, "127.0.0.1", 0, ssl=pairing_serve_context(false.coordinator)
        )
        async with server:
            with pytest.raises(PairingFailed):
                await join(mesh, desk, Code(slot, WRONG), port=server.sockets[0].getsockname()[1])
    assert len(seen) == 3
    assert not (mesh.folder / "joined-box").exists()


POINTS = {
    "empty": b"",
    "one byte": b"A",
    "a byte short": b"A" + bytes(31),
    "a byte long": b"A" + bytes(33),
    "identity": b"A" + (1).to_bytes(32, "little"),
    "identity, not canonical": b"A" + (2**255 - 18).to_bytes(32, "little"),
    "y = p": b"A" + (2**255 - 19).to_bytes(32, "little"),
    "all ones": b"A" + b"\xff" * 32,
    "order two": b"A" + (2**255 - 20).to_bytes(32, "little"),
    "order four": b"A" + bytes(32),
    "off the curve": b"A" + (2).to_bytes(32, "little"),
    "wrong side": b"B" + (3).to_bytes(32, "little"),
    "no side": b"S" + (3).to_bytes(32, "little"),
}


async def try_point(mesh: Mesh, point: bytes) -> None:
    from planetmesh.trust.pairing import JoinerConfirm, JoinerPake, encode

    async with mesh.desk() as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        async with await Evil.connect(desk.port) as evil:
            exchange = evil.exchange(code)
            assert await evil.ask(exchange.hello())
            await evil.ask(encode(JoinerPake(point)))
            assert await evil.ask(encode(JoinerConfirm(bytes(32)))) is None
        await until(lambda: mesh.failures)
    assert [left for _, _, left in mesh.failures] == [ATTEMPTS - 1]
    mesh.failures.clear()
    assert mesh.enrolled == []


@pytest.mark.parametrize("which", list(POINTS))
async def test_a_bad_point_is_one_failed_attempt(mesh, which, caplog):
    """T07."""
    await try_point(mesh, POINTS[which])
    assert not [each for each in caplog.records if each.levelname in {"ERROR", "CRITICAL"}]


async def test_our_own_point_reflected_is_one_failed_attempt(mesh):
    """T07: the desk's message sent back as if it were the joiner's."""
    async with mesh.desk() as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        async with await Evil.connect(desk.port) as first:
            exchange = first.exchange(code)
            answer = await first.ask(exchange.pake(await first.ask(exchange.hello())))
        async with await Evil.connect(desk.port) as second:
            exchange = second.exchange(code)
            assert await second.ask(exchange.hello())
            assert await second.ask(answer.replace(b"DeskPake", b"\xaaJoinerPake"[1:])) is None
        await until(lambda: len(mesh.failures) == 2)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(frames=st.lists(st.binary(max_size=80), min_size=1, max_size=4))
def test_no_frames_whatever_upset_the_desk(mesh, frames, caplog):
    """T07, T30: random bytes instead of any frame."""

    async def play() -> None:
        async with mesh.desk() as desk:
            await desk.open(Role.AGENT, 600)
            async with await Evil.connect(desk.port) as evil:
                with suppress(OSError):
                    await evil.send(*frames)
                assert await evil.receive() is None

    asyncio.run(play())
    assert mesh.enrolled == []
    assert not [each for each in caplog.records if each.levelname in {"ERROR", "CRITICAL"}]


@pytest.mark.parametrize("raw", [b"\x00\x00", b"\xff\xff" + b"x" * 100, b"\x20\x01" + b"x" * 8193])
async def test_a_frame_of_a_forbidden_length_ends_it(mesh, raw):
    async with mesh.desk() as desk:
        await desk.open(Role.AGENT, 600)
        async with await Evil.connect(desk.port) as evil:
            evil.writer.write(raw)
            assert await evil.receive() is None


@pytest.mark.parametrize("asked", [Role.OPERATOR, Role.VIEWER])
async def test_a_code_is_good_for_its_own_role_only(mesh, asked):
    """T08."""
    async with mesh.desk() as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        with pytest.raises(PairingFailed) as caught:
            await join(mesh, desk, code, role=asked)
        assert "another role" in caught.value.message
    assert mesh.enrolled == []


async def test_an_expired_code_is_refused_and_the_listener_ends_by_itself(mesh):
    """T08: also while an exchange is under way."""
    now = [1000.0]
    async with mesh.desk(clock=lambda: now[0]) as desk:
        code, _ = await desk.open(Role.AGENT, 10)
        async with await Evil.connect(desk.port) as evil:
            exchange = evil.exchange(code)
            greeting = await evil.ask(exchange.hello())
            now[0] += 10
            assert await evil.ask(exchange.pake(greeting)) is None
        with pytest.raises(PairingFailed):
            await join(mesh, desk, code)
    assert mesh.enrolled == []


async def test_the_listener_ends_when_the_last_window_expires(mesh, monkeypatch):
    monkeypatch.setattr("planetmesh.trust.pairing_server.CHECK_SECONDS", 0.05)
    start = time.monotonic()
    async with mesh.desk(clock=lambda: start + (time.monotonic() - start) * 100) as desk:
        await desk.open(Role.AGENT, 10)
        await until(lambda: desk.port is None)
    assert mesh.listening[-1] == (None, ())


async def test_leaving_waits_for_no_stranger(mesh):
    async with mesh.desk(PairingLimits()) as desk:
        await desk.open(Role.AGENT, 600)
        reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
        await asyncio.sleep(0.05)
        left = time.monotonic()
    assert time.monotonic() - left < PairingLimits().step_seconds
    assert await reader.read() == b""
    writer.close()


async def test_a_code_does_not_outlive_its_desk(mesh):
    """T08: restart."""
    async with mesh.desk() as desk:
        code, _ = await desk.open(Role.AGENT, 600)
    async with mesh.desk() as desk:
        other, _ = await desk.open(Role.AGENT, 600)
        while other.slot == code.slot:
            other, _ = await desk.open(Role.AGENT, 600)
        with pytest.raises(PairingFailed):
            await join(mesh, desk, code)


async def test_one_code_never_makes_two_certificates(mesh):
    """Two joiners with the right code at once, and a coordinator that cannot store."""
    async with mesh.desk() as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        results = await asyncio.gather(
            join(mesh, desk, code, name="one"), join(mesh, desk, code, name="two"), return_exceptions=True
        )
    assert sorted(isinstance(each, Identity) for each in results) == [False, True]
    assert len(mesh.enrolled) == 1


def _all_logged(caplog):
    """Events with all their fields: what the text of a record leaves out counts too."""
    return "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)


async def test_a_coordinator_that_cannot_store_burns_the_code_and_says_so(mesh, caplog):
    async def cannot(_request):
        raise StorageFailed("The disk is full.")

    async with mesh.desk(on_enrol=cannot) as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        with pytest.raises(PairingFailed) as caught:
            await join(mesh, desk, code)
        assert "log" in caught.value.message
        await until(lambda: desk.port is None)
    assert "disk is full" in _all_logged(caplog)


async def test_who_has_an_identity_does_not_join_again(mesh):
    async with mesh.desk() as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        await join(mesh, desk, code)
        again, _ = await desk.open(Role.AGENT, 600)
        with pytest.raises(Conflict):
            await join(mesh, desk, again)
        assert len(desk.windows()) == 1


async def test_the_main_port_leads_to_the_pairing_port_next_to_it(mesh):
    from planetmesh.trust.tls import serve_context

    main = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=serve_context(mesh.coordinator))
    port = main.sockets[0].getsockname()[1]
    async with main, mesh.desk(port=port + 1) as desk:
        with pytest.raises(PairingFailed) as caught:
            await join(mesh, desk, Code(1, WRONG), port=port)
        assert "planetmesh code" in caught.value.hint
        code, _ = await desk.open(Role.AGENT, 600)
        if desk.port == port + 1:
            assert (await join(mesh, desk, code, port=port)).principal.role is Role.AGENT
    assert candidate_ports(7433) == (7433, 7434)
    assert candidate_ports(65535) == (65535,)


async def test_the_next_code_is_paired_at_the_same_port(mesh):
    async with mesh.desk() as finder:
        await finder.open(Role.AGENT, 600)
        port = finder.port
    async with mesh.desk(port=port) as desk:
        for name in ("one", "two"):
            code, _ = await desk.open(Role.AGENT, 600)
            assert desk.port == port
            await join(mesh, desk, code, name=name)
            await until(lambda: desk.port is None)


async def test_next_to_the_largest_port_is_any_port(mesh):
    async with mesh.desk(port=65536) as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        assert await join(mesh, desk, code)


async def test_a_taken_port_is_no_obstacle(mesh):
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    async with taken, mesh.desk(port=port) as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        assert desk.port != port
        assert await join(mesh, desk, code)


async def test_a_long_code_works_unattended_and_names_the_authority(mesh):
    async with mesh.desk() as desk:
        code, _ = await desk.open(Role.AGENT, 86400, unattended=True)
        for _ in range(ATTEMPTS + 1):
            assert await guess(desk.port, Code(code.slot, WRONG)) == "pake"
        with pytest.raises(PairingFailed) as caught:
            await join(mesh, desk, Code(code.slot, code.secret, "00" * 32))
        assert "mesh of this code" in caught.value.message
        assert await join(mesh, desk, code)


async def test_clocks_far_apart_are_noticed(mesh, monkeypatch):
    behind = SimpleNamespace(time=lambda: time.time() - 3600, monotonic=time.monotonic)
    monkeypatch.setattr(joining, "time", behind)
    async with mesh.desk() as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        identity = await join(mesh, desk, code)
    assert 3590 < identity.clock_offset_seconds < 3610


async def test_the_verdict_leaves_at_a_fixed_time(mesh):
    limits = PairingLimits(between_seconds=0.0, reply_seconds=0.1)
    async with mesh.desk(limits) as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        times = []
        for tried in (wrong(code), code):
            async with await Evil.connect(desk.port) as evil:
                exchange = evil.exchange(tried)
                proof = exchange.confirm(await evil.ask(exchange.pake(await evil.ask(exchange.hello()))))
                sent = time.monotonic()
                await evil.ask(proof)
                times.append(time.monotonic() - sent)
    assert all(0.095 <= each < PairingLimits().step_seconds for each in times)


async def test_one_exchange_a_second_from_one_address_and_the_joiner_waits_for_it(mesh):
    limits = PairingLimits(between_seconds=1.0, reply_seconds=0.0)
    async with mesh.desk(limits) as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        async with await Evil.connect(desk.port) as evil:
            second = evil.exchange(code).hello()  # ready, so that nothing slow comes between the two
            assert await guess(desk.port, wrong(code)) == "pake"
            assert decode(await evil.ask(second), Busy).retry_seconds == 1.0
        assert await join(mesh, desk, code)
    assert len(mesh.failures) == 1


@pytest.mark.parametrize("policy", loops)
def test_pairing_works_on_both_event_loops(mesh, policy):
    async def play() -> None:
        async with mesh.desk() as desk:
            code, _ = await desk.open(Role.AGENT, 600)
            with pytest.raises(PairingFailed):
                await join(mesh, desk, wrong(code))
            assert await guess(desk.port, code, Role.VIEWER) == "pake"
            async with await Evil.connect(desk.port) as evil:
                assert await evil.ask(b"junk") is None
            assert (await join(mesh, desk, code)).principal.role is Role.AGENT

    with asyncio.Runner(loop_factory=policy().new_event_loop) as runner:
        runner.run(asyncio.wait_for(play(), 10))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(frames=st.lists(st.binary(min_size=1, max_size=60), max_size=3))
def test_a_desk_that_talks_nonsense_is_one_error_for_the_joiner(mesh, frames):
    async def nonsense(reader, writer):
        with suppress(asyncio.IncompleteReadError, OSError):
            for frame in frames:
                await read_frame(reader)
                await write_frames(writer, frame)
        writer.close()

    async def play() -> None:
        server = await asyncio.start_server(
            nonsense, "127.0.0.1", 0, ssl=pairing_serve_context(mesh.coordinator)
        )
        async with server, mesh.desk() as desk:
            with pytest.raises(PairingFailed):
                await join(mesh, desk, Code(1, WRONG), port=server.sockets[0].getsockname()[1])

    asyncio.run(play())
    assert not (mesh.folder / "joined-box").exists()


async def test_silent_sockets_are_few_and_short(mesh):
    limits = PairingLimits(exchange_seconds=1.0, sockets_most=6, sockets_each_most=4, between_seconds=0.0)
    async with mesh.desk(limits) as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        port = desk.port
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        ended = await asyncio.wait_for(
            asyncio.gather(*(each[0].read() for each in silent), return_exceptions=True), 10
        )
        assert len(ended) == 20
        for _, writer in silent:
            writer.transport.abort()
        assert await join(mesh, desk, code)


async def test_who_dawdles_within_an_exchange_keeps_nobody_out(mesh):
    limits = PairingLimits(step_seconds=0.8, between_seconds=0.0, running_most=1, reply_seconds=0.0)
    async with mesh.desk(limits) as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        async with await Evil.connect(desk.port) as evil:
            assert await evil.ask(evil.exchange(code).hello())
            assert await join(mesh, desk, code)
    assert mesh.failures == []


async def test_windows_can_be_closed_and_bad_ones_are_not_opened(mesh):
    async with mesh.desk() as desk:
        with pytest.raises(BadInput):
            await desk.open(Role.COORDINATOR, 600)
        with pytest.raises(BadInput):
            await desk.open(Role.AGENT, 10**9)
        assert desk.port is None
        with pytest.raises(NotFound):
            desk.close(1)


async def test_a_server_that_is_not_ours_is_told_from_a_wrong_code(mesh):
    async def chatter(_reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    plain = await asyncio.start_server(chatter, "127.0.0.1", 0)
    async with plain, mesh.desk() as desk:
        with pytest.raises(Unreachable):
            await join(mesh, desk, Code(1, WRONG), port=plain.sockets[0].getsockname()[1])
    assert pairing_client_context().verify_mode == 0


@pytest.mark.parametrize("host", ["", "a..b", "x" * 70, "no-such-host.invalid", "\x00"])
async def test_a_host_that_is_none_is_unreachable(mesh, host):
    with pytest.raises(Unreachable):
        await enroll(
            host or "127.0.0.1", 1, Code(1, WRONG), role=Role.AGENT, name="x", folder=mesh.folder / "x"
        )


async def test_nothing_of_the_code_is_logged_or_sent_in_the_clear(mesh, caplog):
    """T01, the part that is ours."""
    caplog.set_level("DEBUG")
    async with mesh.desk(FAST) as desk:
        code, _ = await desk.open(Role.AGENT, 600)
        with suppress(PairingFailed):
            await join(mesh, desk, code, role=Role.VIEWER)
        await join(mesh, desk, code, name="secretname")
    logged = _all_logged(caplog)
    assert "pairing." in logged
    assert code.secret not in logged
    assert code.text not in logged
