"""What the silence of an address means, in words, with the next step."""

from __future__ import annotations

import socket

import pytest

from planetmesh.cli import way
from planetmesh.cli.way import Outcome, Tried, explain

HERE = ["192.168.1.0/24", "fe80::/64"]


@pytest.mark.parametrize(
    ("outcome", "host", "said", "hint"),
    [
        (Outcome.REFUSED, "192.168.1.20", "nothing listens on its port 7433", "Start `planetmesh up` there"),
        (Outcome.SILENT, "192.168.1.20", "Nothing comes back", "TCP port 7433"),
        (Outcome.NO_MACHINE, "192.168.1.20", "No machine answers", "client isolation"),
        (Outcome.NO_MACHINE, "10.0.0.1", "has no way to 10.0.0.1; it is in 192.168.1.0/24", "one network"),
        (Outcome.NO_WAY, "10.0.0.1", "has no way to", "one network"),
        (Outcome.NO_NAME, "attic.local", "Nobody knows the name attic.local", "planetmesh up --join"),
        (Outcome.OPEN, "192.168.1.20", "does not answer us", "overloaded"),
    ],
)
def test_each_has_its_words(outcome: Outcome, host: str, said: str, hint: str):
    detail, next_step = explain([Tried(f"{host}:7433", outcome)], HERE)
    assert said in detail
    assert f"{host}:7433 ({outcome})" in detail
    assert hint in next_step
    assert "{" not in detail + next_step


def test_what_a_machine_said_itself_counts_most():
    tried = [
        Tried("10.0.0.1:7433", Outcome.NO_WAY),
        Tried("192.168.1.20:7433", Outcome.SILENT),
        Tried("192.168.1.21:7433", Outcome.REFUSED),
    ]
    assert "nothing listens" in explain(tried, HERE)[0]
    assert "Nothing comes back from 192.168.1.20" in explain(tried[:2], HERE)[0]
    assert explain([], HERE) == ("No address of the coordinator is known here.", way.JOIN_HINT)
    assert "it is in no network itself" in explain(tried[:1], [])[0]


async def test_real_ports():
    with socket.create_server(("127.0.0.1", 0)) as server:
        is_open = f"127.0.0.1:{server.getsockname()[1]}"
        (found,) = await way.try_all([is_open])
        assert found == Tried(is_open, Outcome.OPEN)
    found = await way.try_all([is_open, "no such name.invalid:7433", "what is this"])
    assert [each.outcome for each in found] == [Outcome.REFUSED, Outcome.NO_NAME, Outcome.NO_NAME]
