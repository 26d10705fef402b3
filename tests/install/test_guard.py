"""Who else could change what a service runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from planetmesh.install.guard import way_to, weak_spot, weak_spot_below

if os.name != "posix":
    pytest.skip("owners and modes are POSIX's", allow_module_level=True)

ME = os.geteuid()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    folder = tmp_path / "bin"
    folder.mkdir(mode=0o755)
    (folder / "tool").write_text("")
    (folder / "tool").chmod(0o755)
    return folder


def test_what_only_we_can_change_is_well(place: Path) -> None:
    assert weak_spot([place / "tool"], ME) == ""
    assert weak_spot_below([place], ME) == ""


@pytest.mark.parametrize("mode", [0o757, 0o777])
def test_a_file_that_everybody_can_change(place: Path, mode: int) -> None:
    (place / "tool").chmod(mode)
    said = f"{place}/tool can be changed by everybody"
    assert weak_spot([place / "tool"], ME) == weak_spot_below([place], ME) == said


def test_a_folder_on_the_way(place: Path) -> None:
    place.chmod(0o777)
    assert weak_spot([place / "tool"], ME) == f"{place} can be changed by everybody"
    place.chmod(0o1777)  # like /tmp
    assert weak_spot([place / "tool"], ME) == ""


def test_the_way_through_links(place: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / "link").symlink_to("../bin/tool")
    (tmp_path / "first").symlink_to(loose / "link")
    steps = list(way_to(tmp_path / "first"))
    assert [str(tmp_path / each) for each in ("first", "loose", "loose/link", "bin", "bin/tool")] == [
        each for each in steps if each.startswith(f"{tmp_path}/")
    ]
    assert weak_spot([tmp_path / "first"], ME) == ""
    loose.chmod(0o777)
    assert weak_spot([tmp_path / "first"], ME) == f"{loose} can be changed by everybody"


def test_links_in_a_ring_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="too many links"):
        list(way_to(tmp_path / "a"))


@pytest.mark.skipif(ME != 0, reason="needs root")
def test_what_belongs_to_somebody_else(place: Path) -> None:
    os.chown(place / "tool", 47_433, -1)
    said = f"{place}/tool belongs to the user 47433"
    assert weak_spot([place / "tool"], 0) == weak_spot_below([place], 0) == said
    assert weak_spot([place / "tool"], 47_433) == ""
    os.chown(place, 47_434, -1)
    assert weak_spot([place / "tool"], 47_433) == f"{place} belongs to the user 47434"


@pytest.mark.skipif(ME != 0, reason="needs root")
def test_a_group_of_others(place: Path) -> None:
    (place / "tool").chmod(0o775)
    assert weak_spot([place / "tool"], 0) == ""  # root's own group
    os.chown(place / "tool", -1, 47_433)
    assert weak_spot([place / "tool"], 0) == f"{place}/tool can be changed by the group 47433"
