"""Who fetches a large blob from whom: it leaves the coordinator about once, and nobody waits for himself."""

from __future__ import annotations

import builders
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.coordinator.distribution import CHAIN_MOST, CLAIM_SECONDS, Distribution
from planetmesh.model.blob import Digest

BLOB = Digest("ab" * 32)
OTHER = Digest("cd" * 32)
NODES = [builders.node_id(name) for name in "abcdefgh"]
A, B, C, D = NODES[:4]


def served(*nodes, address: str = "192.0.2.1") -> Distribution:
    distribution = Distribution()
    for number, node in enumerate(nodes):
        distribution.on_serving(node, address, 7000 + number)
    return distribution


def ask(distribution: Distribution, reader, holders=(), now: float = 0.0, failed=(), address="192.0.2.9"):
    return distribution.choose(BLOB, reader, address, holders, now, failed)


def test_the_first_reader_goes_to_the_coordinator_and_the_next_ones_follow_each_other():
    distribution = served(A, B, C)
    assert [ask(distribution, node) for node in (A, B, C, D)] == [None, A, B, C]


def test_who_has_it_whole_hands_it_out():
    distribution = served(A, B)
    assert ask(distribution, C, holders={A}) == A


def test_readers_spread_over_those_who_have_it():
    distribution = served(A, B)
    assert {ask(distribution, C, holders={A, B}), ask(distribution, D, holders={A, B})} == {A, B}


def test_an_idle_coordinator_sends_no_second_copy_while_nodes_can_pass_it_on():
    distribution = served(A, B, C)
    assert ask(distribution, A) is None
    distribution.on_over(A, BLOB)
    assert ask(distribution, B, holders={A}) == A
    assert ask(distribution, C, holders={A}) == B


def test_the_coordinator_helps_where_each_node_feeds_two_already():
    distribution = served(A)
    assert [ask(distribution, node, holders={A}) for node in (B, C, D)] == [A, A, None]


def test_a_node_that_could_not_be_reached_is_not_named_again():
    distribution = served(A)
    assert ask(distribution, B, holders={A}) == A
    assert ask(distribution, B, holders={A}, failed={A}) is None


def test_nobody_is_sent_to_a_node_that_serves_nothing():
    distribution = served()
    ask(distribution, A)
    assert ask(distribution, B, holders={C}) is None


def test_a_node_beside_the_coordinator_serves_only_there():
    distribution = served(A, address="127.0.0.1")
    assert ask(distribution, B, holders={A}) is None
    assert ask(distribution, C, holders={A}, address="127.0.0.1") == A


def test_two_who_fetch_never_wait_for_each_other():
    distribution = served(A, B)
    assert ask(distribution, A) is None
    assert ask(distribution, B) == A
    assert ask(distribution, A, failed=()) is None


def test_who_is_done_or_gone_is_not_busy_any_more():
    distribution = served(A, B)
    assert ask(distribution, A) is None
    distribution.on_over(A, BLOB)
    assert ask(distribution, B) is None
    distribution.on_gone(B)
    assert ask(distribution, C) is None


def test_a_reader_that_fell_silent_is_forgotten():
    distribution = served(A, B)
    ask(distribution, A)
    assert ask(distribution, B, now=CLAIM_SECONDS + 1) is None


def test_blobs_are_counted_apart():
    distribution = served(A, B)
    ask(distribution, A)
    assert distribution.choose(OTHER, B, "192.0.2.9", (), 0.0) is None


@given(st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from(["ask", "over", "serve"])), max_size=60))
def test_every_way_ends_at_one_who_has_it_and_is_short(story):
    distribution = served(*NODES)
    sources = {}
    for reader, what in story:
        if what == "ask":
            sources[reader] = ask(distribution, reader)
        elif what == "over":
            distribution.on_over(reader, BLOB)
            sources.pop(reader, None)
        elif what == "gone":
            distribution.on_gone(reader)
            sources.pop(reader, None)
        else:
            distribution.on_serving(reader, "192.0.2.1", 7000)
        if what != "ask":
            continue
        way, node = [reader], sources[reader]
        while node is not None:
            assert node not in way
            way.append(node)
            node = sources[node]
        assert len(way) <= CHAIN_MOST
