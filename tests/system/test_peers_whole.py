"""A large input for several nodes leaves the coordinator about once: nodes hand it on to each other."""

from __future__ import annotations

import random
from hashlib import sha256
from pathlib import Path

import pytest
from fleet import Fleet
from meshes import wait_until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(240)]

LARGE_BYTES = 60_000_000
NODES = 3
END_SECONDS = 60.0


@pytest.fixture
def large(tmp_path: Path) -> tuple[Path, str]:
    content = random.Random(5).randbytes(LARGE_BYTES)
    path = tmp_path / "large.bin"
    path.write_bytes(content)
    return path, sha256(content).hexdigest()


def sent_bytes(fleet: Fleet, host: str) -> int:
    """Out of the host's network cards so far."""
    lines = fleet.lan.check(host, ["cat", "/proc/net/dev"]).splitlines()[2:]
    cards = dict(line.split(":", 1) for line in lines)
    return sum(int(numbers.split()[8]) for name, numbers in cards.items() if name.strip() != "lo")


def wait_for_peers(fleet: Fleet) -> None:
    wait_until(lambda: all("peer.open" in agent.log for agent in fleet.agents.values()), 60, fleet.tell)


def sums(fleet: Fleet, path: Path, *nodes: str) -> list[str]:
    """A job for each node that reads the file; begun all at once."""
    script = "sha256sum < large.bin"
    return [
        fleet.submit("--in", str(path), "--node", node, "--retries", "0", "sh", "-c", script)
        for node in nodes
    ]


def assert_right(fleet: Fleet, jobs: list[str], digest: str) -> None:
    for job in jobs:
        fleet.wait(job, END_SECONDS)
        assert digest in fleet.desk.call("results", job).out, fleet.tell()


def test_it_leaves_the_coordinator_about_once(fleet: Fleet, large: tuple[Path, str]) -> None:
    fleet.start(agents=NODES)
    wait_for_peers(fleet)
    path, digest = large
    before = sent_bytes(fleet, "h1")
    assert_right(fleet, sums(fleet, path, *fleet.agents), digest)
    sent = sent_bytes(fleet, "h1") - before
    assert LARGE_BYTES < sent < 1.5 * LARGE_BYTES
    others = sum(sent_bytes(fleet, f"h{number + 2}") for number in range(NODES))
    assert others > (NODES - 1) * LARGE_BYTES


def test_who_comes_later_gets_it_from_who_has_it(fleet: Fleet, large: tuple[Path, str]) -> None:
    fleet.start(agents=2)
    wait_for_peers(fleet)
    path, digest = large
    assert_right(fleet, sums(fleet, path, "a1"), digest)
    before = sent_bytes(fleet, "h1")
    assert_right(fleet, sums(fleet, path, "a2"), digest)
    assert sent_bytes(fleet, "h1") - before < LARGE_BYTES / 10


def test_a_node_that_is_killed_while_it_hands_on_costs_nobody_the_file(
    fleet: Fleet, large: tuple[Path, str]
) -> None:
    fleet.start(agents=2)
    wait_for_peers(fleet)
    path, digest = large
    (first,) = sums(fleet, path, "a1")
    fleet.wait(first, END_SECONDS)
    (second,) = sums(fleet, path, "a2")
    wait_until(lambda: sent_bytes(fleet, "h2") > 2_000_000, 60, fleet.tell)
    fleet.agents["a1"].kill()
    assert_right(fleet, [second], digest)
