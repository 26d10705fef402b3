"""The part a home plays: said once, kept, changed by what is said later."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.cli.part import Part, Role, Wishes, check_name, own_name, read_part, write_part
from planetmesh.errors import BadInput, UnsafeHome
from planetmesh.model.resources import Resources
from planetmesh.paths import Home

texts = st.lists(st.text(min_size=1, max_size=5), max_size=3).map(tuple)
wishes = st.builds(
    Wishes,
    name=st.none() | st.just("desk"),
    port=st.none() | st.integers(0, 65534),
    bind=st.none() | texts,
    mdns=st.none() | st.booleans(),
    agent=st.none() | st.booleans(),
    tags=st.none() | texts,
    cpu_millis=st.none() | st.integers(1, 10**6),
    memory_bytes=st.none() | st.integers(1, 2**40),
    gpus=st.none() | st.integers(0, 16),
    shares=st.none() | texts,
    hides=st.none() | texts,
)


def test_a_home_without_a_history_plays_no_part(home: Home):
    home.prepare()
    assert read_part(home) is None


@given(wishes, wishes)
def test_what_is_said_later_wins_and_the_rest_stays(first: Wishes, later: Wishes):
    part = first.begin(Role.AGENT)
    changed = later.change(part)
    for name in ("port", "bind", "mdns", "agent", "tags", "shares", "hides"):
        said = getattr(later, name)
        assert getattr(changed, name) == (said if said is not None else getattr(part, name))
    for name in ("cpu_millis", "memory_bytes", "gpus"):
        said = getattr(later, name)
        assert getattr(changed.offer, name) == (said if said is not None else getattr(part.offer, name))
    assert changed.role is part.role
    assert Wishes().change(changed) == changed


def test_it_is_kept_and_read_back(home: Home):
    home.prepare()
    part = Part(role=Role.COORDINATOR, name="desk", tags=("gpu",), offer=Resources(2000, 0, -1))
    write_part(home, part)
    assert read_part(home) == part
    assert home.role_file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", ["", "{", '{"role": "king", "name": "x"}', '{"role": "agent"}', "[]"])
def test_a_damaged_file_is_said_with_its_name(home: Home, content: str):
    home.prepare()
    home.role_file.touch(0o600)
    home.role_file.write_text(content)
    with pytest.raises(UnsafeHome, match=r"role\.json") as caught:
        read_part(home)
    assert "rm " in caught.value.hint


@pytest.mark.parametrize(("folder", "role"), [("authority", Role.COORDINATOR), ("agent", Role.AGENT)])
def test_an_up_that_was_cut_off_after_it_decided_goes_on(home: Home, folder: str, role: Role):
    home.prepare()
    (home.root / folder).mkdir()
    (home.root / folder / "key.pem").touch()
    part = read_part(home)
    assert part is not None
    assert part.role is role


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "a\nb", "a\x1b[2Jb", "a\u202eb"])
def test_names_that_no_table_could_show_are_refused(name: str):
    with pytest.raises(BadInput):
        check_name(name)


def test_this_machine_has_a_name():
    assert check_name(own_name()) == own_name()
