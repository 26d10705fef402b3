"""Which message is refused: transcripts of links, and any coordinator that refuses some."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from planetmesh.agent.suspicion import PROOFS, LinkEnd, Suspicion, Verdict

CUT, LOST = True, False
NOTHING, CLOSER, GUILTY = Verdict.NOTHING, Verdict.LOOK_CLOSER, Verdict.GUILTY


def verdicts(*ends, alone=True):
    suspicion = Suspicion()
    return [suspicion.on_end(LinkEnd(*numbers, alone, refused)) for *numbers, refused in ends]


def test_the_transcript_of_one_refused_message():
    """Start of the link, first unconfirmed, first unsent."""
    assert verdicts(
        (0, 4, 9, CUT),  # 4 were taken, 5 are on the wire
        (4, 6, 7, CUT),  # 4 and 5 were taken one by one
        (6, 6, 7, CUT),  # 6 alone on its link, and once more
        (6, 6, 7, CUT),
        (6, 9, 9, CUT),  # something else told in its place was taken, all is confirmed
    ) == [CLOSER, CLOSER, CLOSER, GUILTY, NOTHING]


def test_what_is_told_instead_needs_its_own_proofs():
    assert verdicts(*[(6, 6, 7, CUT)] * (1 + 2 * PROOFS)) == [CLOSER] + [CLOSER, GUILTY] * 2


def test_lost_links_blame_nothing():
    assert set(verdicts(*[(0, 0, 5, LOST)] * 20)) == {NOTHING}


def test_goodbyes_that_were_lost_with_the_link_make_careful():
    suspicion = Suspicion()
    for _ in range(2):
        assert not suspicion.is_careful(0)
        suspicion.on_end(LinkEnd(0, 0, 5, alone=False, refused=False))
    assert suspicion.is_careful(4)
    assert not suspicion.is_careful(5)


def test_a_link_on_which_something_moved_is_no_reason_for_care():
    suspicion = Suspicion()
    for start in range(20):
        suspicion.on_end(LinkEnd(start, start + 1, start + 5, alone=False, refused=False))
    assert not suspicion.is_careful(20)


def test_nonsense_that_was_no_durable_message_blames_none():
    assert verdicts((3, 3, 3, CUT), (3, 3, 3, CUT), (3, 3, 3, CUT)) == [NOTHING] * 3
    assert verdicts(*[(3, 3, 4, CUT)] * 5, alone=False) == [CLOSER] + [NOTHING] * 4


@settings(deadline=None)
@given(
    count=st.integers(1, 30),
    refused=st.sets(st.integers(0, 29), max_size=6),
    batch=st.integers(1, 12),
    acknowledged=st.randoms(use_true_random=False),
)
def test_exactly_those_that_are_refused_are_found(count, refused, batch, acknowledged):
    """A coordinator that takes whole frames or none, and whose last confirmations may be lost."""
    suspicion = Suspicion()
    refused = {number for number in refused if number < count}
    left, found, first = set(refused), [], 0
    for _link in range(4 * len(refused) + 4):
        start = sent = first
        refuses = False
        while sent < count and not refuses:
            width = 1 if suspicion.is_careful(sent) else batch
            frame = range(sent, min(sent + width, count))
            sent = frame.stop
            refuses = bool(left.intersection(frame))
            if not refuses and (width == 1 or acknowledged.random() < 0.7):
                first = sent
        if suspicion.on_end(LinkEnd(start, first, sent, first == start, refuses)) is GUILTY:
            found.append(first)
            left.remove(first)
    assert (found, left) == (sorted(refused), set())
