"""The link against a double that speaks the real wire over real TLS: hello, resend, loss, refusal."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
from coordinator_double import SETTINGS

from planetmesh.agent import link as link_module
from planetmesh.agent import reconnect
from planetmesh.agent.link import Link
from planetmesh.agent.outbox import Outbox
from planetmesh.agent.reconnect import Reconnector, back_off
from planetmesh.agent.state import Phase
from planetmesh.errors import NotAllowed
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Limits, Outcome
from planetmesh.model.node import NodeInfo, NodeLoad
from planetmesh.model.resources import Resources
from planetmesh.trust.identity import Identity
from planetmesh.wire.agent import (
    Goodbye,
    Heartbeat,
    OpenJob,
    Pong,
    Registered,
    RegisterNode,
    TaskOutput,
    TaskResult,
    TaskStarted,
)
from planetmesh.wire.api import ApiError
from planetmesh.wire.codec import PROTOCOL

JOB = JobId("aaaaaaaaaa")
INFO = NodeInfo(hostname="h", os="linux", arch="x", version="1", python="3", cpus=1, memory_bytes=1)


class Side:
    """The agent's side without its tasks."""

    def __init__(self, home, find=None):
        self.identity = Identity.load(home.agent)
        self.outbox = Outbox(home.outbox)
        self.states = []
        self.orders = []
        self.told = []
        self.busy = False
        self.link = Link(self.identity, self.outbox, self, SETTINGS)
        self.reconnector = Reconnector(self.link, self.identity, find, self.states.append)

    def hello(self, first_unacknowledged):
        return RegisterNode(PROTOCOL, INFO, "instance", (), first_unacknowledged)

    def on_registered(self, registered, endpoint):
        self.reconnector.on_registered()

    def on_told(self, registered):
        self.told.append(registered)

    def on_messages(self, messages):
        self.orders += messages

    def on_confirmed(self):
        pass

    def is_busy(self):
        return self.busy

    def put(self, *messages):
        self.outbox.put(messages)
        self.link.wake()

    async def beat(self):
        while True:
            self.link.post(Heartbeat(NodeLoad()))
            await asyncio.sleep(SETTINGS.heartbeat_seconds)

    @contextlib.asynccontextmanager
    async def running(self):
        async with asyncio.TaskGroup() as group:
            loops = (self.reconnector.keep_connected(), self.reconnector.search(), self.beat())
            tasks = [group.create_task(loop) for loop in loops]
            yield self
            for task in tasks:
                task.cancel()
        self.outbox.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(link_module, "SILENT_LEAST_SECONDS", 0.5)
    monkeypatch.setattr(reconnect, "BACK_OFF_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(reconnect, "BACK_OFF_MOST_SECONDS", 0.1)


def result(index, attempt=1):
    return TaskResult(JOB, index, attempt, Outcome.OK, 0)


async def test_hello_heartbeats_and_pongs(coordinator):
    async with Side(coordinator.agent_home()).running() as side:
        await coordinator.until(lambda: len(coordinator.of(Heartbeat)) > 2 and coordinator.of(Pong))
        assert side.link.is_up
    assert len(coordinator.hellos) == 1


async def test_what_the_mesh_asks_of_agents_may_change_on_a_link(coordinator):
    async with Side(coordinator.agent_home()).running() as side:
        await coordinator.until(lambda: side.link.is_up)
        own = SETTINGS.coalesce_seconds, SETTINGS.prefill_most
        assert (side.link.settings.coalesce_seconds, side.link.settings.prefill_most) == own
        again = Registered(
            NodeId("a" * 32), "node-a", "test", 30.0, 0.0, coalesce_seconds=0.5, prefill_most=7
        )
        await coordinator.send(again)
        await coordinator.until(lambda: len(side.told) == 2)
        now = side.link.settings
        assert (now.heartbeat_seconds, now.coalesce_seconds, now.prefill_most) == (30.0, 0.5, 7)
        await coordinator.send(OpenJob(JOB, "command", {}, Resources(), {}, Limits()))
        await coordinator.until(lambda: side.orders)
    assert len(coordinator.hellos) == 1, "the link went on"


async def test_results_are_confirmed_and_leave_the_outbox(coordinator):
    async with Side(coordinator.agent_home()).running() as side:
        await coordinator.until(lambda: side.link.is_up)
        side.link.post(TaskStarted(JOB, 0, 1))
        side.put(result(0))
        await coordinator.until(lambda: side.outbox.first_unacknowledged == 1)
        kinds = [type(message).__name__ for message in coordinator.came]
        assert kinds.index("TaskStarted") < kinds.index("TaskResult")


async def test_what_was_not_confirmed_is_sent_again_after_a_loss(coordinator):
    coordinator.acknowledges = False
    async with Side(coordinator.agent_home()).running() as side:
        side.put(*map(result, range(50)))
        await coordinator.until(lambda: len(coordinator.results()) == 50)
        assert side.outbox.first_unacknowledged == 0
        coordinator.acknowledges = True
        coordinator.cut()
        await coordinator.until(lambda: side.outbox.first_unacknowledged == 50)
    assert [hello.first_unacknowledged for hello in coordinator.hellos] == [0, 0]
    assert [state.phase for state in side.states] == [Phase.LOST]


async def test_a_coordinator_that_comes_back_gets_everything_in_order(coordinator):
    async with Side(coordinator.agent_home()).running() as side:
        await coordinator.until(lambda: side.link.is_up)
        await coordinator.close()
        side.put(*map(result, range(3000)))
        await asyncio.sleep(0.1)
        side.put(*(TaskOutput(JOB, 3000 + each, 1, 1, 0, b"x" * 60_000) for each in range(200)))
        await coordinator.open()
        await coordinator.until(lambda: side.outbox.first_unacknowledged == 3200)
    indexes = [coordinator.numbers[number].index for number in sorted(coordinator.numbers)]
    assert indexes == list(range(3200))


async def test_a_long_absence_is_not_told_with_every_try(coordinator, caplog):
    caplog.set_level(logging.DEBUG, "planetmesh")
    async with Side(coordinator.agent_home()).running() as side:
        await coordinator.until(lambda: side.link.is_up)
        await coordinator.close()
        ends = lambda level: [r for r in caplog.records if (r.msg, r.levelno) == ("link.ended", level)]  # noqa: E731
        await coordinator.until(lambda: len(ends(logging.DEBUG)) > 3)
        assert len(ends(logging.INFO)) <= 2
        await coordinator.open()
        await coordinator.until(lambda: side.link.is_up)
        await coordinator.close()
        before = len(ends(logging.INFO))
        await coordinator.until(lambda: len(ends(logging.INFO)) > before)


async def test_no_more_is_sent_than_the_window_holds(coordinator):
    coordinator.acknowledges = False
    async with Side(coordinator.agent_home()).running() as side:
        side.put(*map(result, range(10_000)))
        await coordinator.until(lambda: len(coordinator.numbers) >= 4096)
        await asyncio.sleep(0.05)
        assert len(coordinator.numbers) == 4096


async def test_silence_is_a_loss(coordinator):
    """A cut cable says nothing: without pings the agent calls again."""
    async with Side(coordinator.agent_home()).running() as side:
        await coordinator.until(lambda: side.link.is_up)
        coordinator.mute = True
        await coordinator.until(lambda: len(coordinator.hellos) == 2, "a second hello")


async def test_while_it_is_busy_ends_wait_for_company_and_never_when_it_is_idle(coordinator):
    async with Side(coordinator.agent_home()).running() as side:
        await coordinator.until(lambda: side.link.is_up)
        side.busy = True
        for index in range(20):
            side.put(result(index))
            await asyncio.sleep(0)
        await coordinator.until(lambda: len(coordinator.results()) == 20)


async def test_while_it_is_busy_a_confirmation_alone_holds_nothing_up(coordinator):
    """What ends a moment later would else wait for company although nothing is in hand any more."""

    class Quiet(Side):
        async def beat(self):
            """Nothing but the test has anything to say."""

    async with Quiet(coordinator.agent_home()).running() as side:
        await coordinator.until(lambda: side.link.is_up)
        held_up = Registered(NodeId("a" * 32), "node-a", "test", 30.0, 0.0, coalesce_seconds=1000.0)
        await coordinator.send(held_up)
        await coordinator.until(lambda: side.link.settings.coalesce_seconds == 1000.0)
        side.busy = True
        side.link.wake()
        await asyncio.sleep(0.01)
        side.busy = False
        side.put(result(0))
        await coordinator.until(lambda: len(coordinator.results()) == 1)


async def test_orders_reach_the_owner(coordinator):
    async with Side(coordinator.agent_home()).running() as side:
        await coordinator.until(lambda: side.link.is_up)
        await coordinator.open_job(JOB, ["true"])
        await coordinator.until(lambda: bool(side.orders))
    assert isinstance(side.orders[0], OpenJob)


@pytest.mark.parametrize("code", ["revoked", "forgotten", "replaced", "duplicate"])
async def test_some_goodbyes_are_for_good(coordinator, code):
    coordinator.goodbye = Goodbye(code, "Because.")
    side = Side(coordinator.agent_home())
    with pytest.raises(NotAllowed) as caught:
        await side.reconnector.keep_connected()
    assert "Because." in caught.value.message
    assert "planetmesh code" in caught.value.hint
    side.outbox.close()


@pytest.mark.parametrize(
    ("code", "level"),
    [("shutdown", "INFO"), ("something new", "WARNING"), ("certificate_refused", "WARNING")],
)
async def test_after_others_it_comes_back(coordinator, code, level, caplog):
    caplog.set_level("INFO", "planetmesh.agent.reconnect")
    coordinator.goodbye = Goodbye(code, "")
    async with Side(coordinator.agent_home()).running() as side:
        await coordinator.until(lambda: len(coordinator.hellos) == 2)
        coordinator.goodbye = None
        await coordinator.until(lambda: side.link.is_up)
    said = {(each.code, each.levelname) for each in caplog.records if each.message == "link.goodbye"}
    assert said == {(code, level)}


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_at_the_first_contact_is_final(coordinator, status):
    coordinator.status = status
    side = Side(coordinator.agent_home())
    with pytest.raises(NotAllowed) as caught:
        await side.reconnector.keep_connected()
    assert caught.value.exit_code == 4
    side.outbox.close()


async def test_a_refusal_later_is_asked_about_again_but_slowly(coordinator, monkeypatch):
    monkeypatch.setattr(reconnect, "REFUSED_SECONDS", 0.05)
    async with Side(coordinator.agent_home()).running() as side:
        await coordinator.until(lambda: side.link.is_up)
        coordinator.status = 403
        coordinator.cut()
        await coordinator.until(lambda: any(state.phase is Phase.REFUSED for state in side.states))
        coordinator.status = 0
        await coordinator.until(lambda: side.link.is_up)


async def test_revoked_while_it_was_away_it_ends_at_the_next_contact(coordinator):
    coordinator.refusal = ApiError("revoked", "This certificate was revoked.")
    side = Side(coordinator.agent_home())
    side.reconnector._was_ever_up = True
    with pytest.raises(NotAllowed) as caught:
        await side.reconnector.keep_connected()
    assert "was revoked" in caught.value.message
    side.outbox.close()


async def test_a_stranger_at_the_address_is_no_refusal(coordinator, tmp_path):
    """Somebody else's coordinator on our address gets no say: the agent goes on looking."""
    from coordinator_double import CoordinatorDouble

    home = coordinator.agent_home()
    (tmp_path / "other").mkdir()
    other = CoordinatorDouble(tmp_path / "other")
    port = coordinator.port
    await coordinator.close()
    other.port = port
    await other.open()
    async with Side(home).running() as side:
        await asyncio.sleep(0.3)
        assert not other.hellos
        assert [state.phase for state in side.states] == [Phase.LOST]
        await other.close()
        await coordinator.open()
        await coordinator.until(lambda: side.link.is_up)


async def test_the_lan_is_asked_when_known_addresses_are_silent(coordinator):
    home = coordinator.agent_home()
    port = coordinator.port
    await coordinator.close()
    coordinator.port = 0
    await coordinator.open()
    asked = []

    async def find(mesh_id):
        asked.append(mesh_id)
        return [f"127.0.0.1:{coordinator.port}"]

    async with Side(home, find).running() as side:
        await coordinator.until(lambda: side.link.is_up)
    assert set(asked) == {coordinator.authority.mesh_id}
    assert side.identity.membership.endpoints[0] == f"127.0.0.1:{coordinator.port}"
    assert port != coordinator.port


async def test_link_local_addresses_and_nonsense_come_last_and_harm_nothing(coordinator):
    home = coordinator.agent_home()
    good = f"127.0.0.1:{coordinator.port}"
    identity = Identity.load(home.agent)
    for endpoint in (good, "no:such:thing", f"[fe80::1%lo]:{coordinator.port}"):
        identity.remember_endpoint(endpoint)
    side = Side(home)
    tried, talk = [], side.link.talk

    async def note(endpoint):
        tried.append(endpoint)
        await talk(endpoint)

    side.link.talk = note
    async with side.running():
        await coordinator.until(lambda: side.link.is_up)
    assert tried[0] == good


async def test_a_certificate_that_is_due_is_renewed_and_used_next_time(coordinator, monkeypatch):
    monkeypatch.setattr("planetmesh.agent.renewal.due", lambda _principal, _now: True)
    home = coordinator.agent_home()
    async with Side(home).running() as side:
        old = side.identity.principal.serial
        await coordinator.until(lambda: side.identity.principal.serial != old)
        coordinator.cut()
        await coordinator.until(lambda: len(coordinator.serials) == 2)
    assert coordinator.serials[0] == old
    assert coordinator.serials[1] != old
    assert Identity.load(home.agent).principal.id == side.identity.principal.id


async def test_nonsense_is_hung_up_on(coordinator, caplog):
    caplog.set_level(logging.INFO, "planetmesh")
    async with Side(coordinator.agent_home()).running() as side:
        await coordinator.until(lambda: side.link.is_up)
        await coordinator.socket.send_bytes(b"\xc1 nonsense")
        await coordinator.until(lambda: len(coordinator.hellos) == 2)
        await coordinator.socket.send_str("hello")
        await coordinator.until(lambda: len(coordinator.hellos) == 3)


async def test_one_refused_end_does_not_hold_up_the_others(coordinator):
    """What it was is told as a failed end; everything before and behind it is taken, each once."""
    coordinator.refuses = lambda message: (
        isinstance(message, TaskResult) and message.outcome is Outcome.OK and message.index in {7, 8, 30}
    )
    async with Side(coordinator.agent_home()).running() as side:
        side.put(*map(result, range(40)))
        await coordinator.until(lambda: side.outbox.first_unacknowledged == 40)
    results = coordinator.results()
    assert sorted(results) == list(range(40))
    failed = {index for index, each in results.items() if each.outcome is Outcome.OUTPUT}
    assert failed == {7, 8, 30}
    assert "refuses it (This is nonsense.)" in results[7].error
    assert side.outbox.aside.count == 3
    assert not any(state.phase is Phase.REFUSED for state in side.states)


async def test_a_refused_heartbeat_is_no_messages_fault(coordinator, monkeypatch):
    monkeypatch.setattr(reconnect, "REFUSED_SECONDS", 0.02)
    coordinator.refuses = lambda message: isinstance(message, Heartbeat)
    async with Side(coordinator.agent_home()).running() as side:
        for index in range(20):
            side.put(result(index))
            await asyncio.sleep(0.02)
        await coordinator.until(lambda: side.outbox.first_unacknowledged == 20)
    assert {each.outcome for each in coordinator.results().values()} == {Outcome.OK}
    assert side.outbox.aside.count == 0


@pytest.mark.slow
async def test_a_coordinator_that_refuses_everything_is_not_called_without_end(coordinator, monkeypatch):
    """Whatever we say instead: in the end nothing is left to say, and the pace is slow again."""
    monkeypatch.setattr(reconnect, "REFUSED_SECONDS", 0.05)
    coordinator.refuses = lambda message: isinstance(message, TaskResult)
    async with Side(coordinator.agent_home()).running() as side:
        side.put(*map(result, range(5)))
        await coordinator.until(lambda: side.outbox.first_unacknowledged == 5)
        await coordinator.until(lambda: len(coordinator.of(Heartbeat)) > 3)
    assert coordinator.results() == {}
    assert side.outbox.aside.count == 5
    assert len(coordinator.hellos) <= 2 + 5 * (1 + 2 + 2)


def test_back_off_grows_to_its_cap_and_is_spread(monkeypatch):
    monkeypatch.undo()
    drawn = [[back_off(rounds) for _ in range(50)] for rounds in range(12)]
    assert all(0.1 <= seconds <= 0.3 for seconds in drawn[0])
    assert all(5 <= seconds <= 15 for seconds in drawn[-1])
    assert len(set(drawn[3])) > 40
