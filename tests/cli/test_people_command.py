"""`people` and `code --close` against the real coordinator: who has got in, and who shall not."""

from __future__ import annotations

import pytest

from planetmesh.cli.people import find_person
from planetmesh.errors import BadInput, NotFound
from planetmesh.paths import Home
from planetmesh.wire.members import PersonView

ANNA, OTHER_ANNA, BEN = (
    PersonView(id=letter * 32, name=name, role="operator", expires_at="2026-01-02T03:04:05Z")
    for letter, name in (("a", "anna"), ("b", "anna"), ("c", "ben"))
)


def test_people_are_listed_and_revoked(say, coordinator, tmp_path) -> None:
    coordinator.admit_viewer(Home(tmp_path / "guest"))
    people = say("people", "--json").json
    assert [(each["name"], each["role"]) for each in people] == [
        ("operator on den", "operator"),
        ("guest", "viewer"),
    ]
    assert "guest" in say("people").text
    assert say("people", "-q").text.split() == [each["id"] for each in people]
    said = say("people", "revoke", "guest", "--json")
    assert (said.status, said.json["name"]) == (0, "guest")
    assert len(say("people", "--json").json) == 1
    assert say("people", "revoke", "guest").status == 5
    mine = say("people", "revoke", "operator on den")
    assert (mine.status, "that you are using" in mine.error) == (2, True)


def test_codes_that_somebody_saw_are_closed(say, coordinator: None) -> None:
    assert say("code", "--close", "--json").json == {"closed": []}
    first, second = (say("code", "--no-wait", "-q").text.strip() for _ in range(2))
    said = say("code", "--close")
    assert (said.status, "2 open codes" in said.error + said.text) == (0, True)
    assert say("code", "--close", "--json").json == {"closed": []}
    third = say("code", "--no-wait", "-q").text.strip()
    assert len({first, second, third}) == 3
    assert say("code", "--close", "-q").text.strip() == third.split("-")[0]


def test_a_person_is_meant_by_name_or_by_id() -> None:
    people = [ANNA, OTHER_ANNA, BEN]
    assert find_person(people, "ben") is BEN
    assert find_person(people, "bb") is OTHER_ANNA
    with pytest.raises(BadInput, match="2 people") as several:
        find_person(people, "anna")
    assert several.value.hint == "Say which one by its id: aaaaaaaa, bbbbbbbb"
    for nobody in ("dora", ""):
        with pytest.raises(NotFound):
            find_person(people, nobody)
