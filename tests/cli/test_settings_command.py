"""`planetmesh settings` against a real coordinator: look, change, reset, refuse, complete."""

from __future__ import annotations

import math
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from planetmesh.cli.main import make_group
from planetmesh.client.sync_client import Mesh
from planetmesh.errors import BadInput
from planetmesh.paths import Home
from planetmesh.settings import ABOUT

EXIT_NOT_ALLOWED = 4


def row_of(text: str, name: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(f"{name} "))


def test_look_change_and_reset(say, coordinator) -> None:
    table = say("settings").text
    assert row_of(table, "keep_jobs_seconds")[1:6] == ["14d", "14d", "-", "at", "once"]
    assert row_of(table, "restart_grace_seconds")[4:7] == ["at", "a", "start"]
    assert [line.split()[0] for line in table.splitlines()] == ["NAME", *ABOUT]

    said = say("settings", "weights.load", "5")
    assert (said.status, said.text, said.error) == (0, "weights.load is 5.\n", "")
    assert row_of(say("settings").text, "weights.load")[1:4] == ["5", "2", "yes"]
    one = say("settings", "weights.load").text
    assert "5 (changed)" in one
    assert "0, 1000" in one
    assert say("settings", "weights.load", "-q").text == "5\n"
    assert say("settings", "weights.load", "--json").json["value"] == 5.0
    changed = [view["name"] for view in say("settings", "--json").json if view["changed"]]
    assert changed == ["weights.load"]

    said = say("settings", "suspect_after_seconds=20s", "offline_after_seconds=1m", "--json")
    assert [(view["name"], view["value"]) for view in said.json] == [
        ("suspect_after_seconds", 20.0),
        ("offline_after_seconds", 60.0),
    ]
    said = say("settings", "--reset", "weights.load", "offline_after_seconds", "suspect_after_seconds")
    assert said.text == (
        "weights.load is 2 again; offline_after_seconds is 15s again; suspect_after_seconds is 6s again.\n"
    )
    assert not any(view["changed"] for view in say("settings", "--json").json)


def test_a_restart_keeps_a_change(say, coordinator) -> None:
    assert say("settings", "output_most_bytes", "2 MiB").text == "output_most_bytes is 2MiB.\n"
    coordinator.stop()
    coordinator.start()
    assert say("settings", "output_most_bytes", "-q").text == "2MiB\n"


def test_what_counts_at_a_start_only_is_said(say, coordinator) -> None:
    said = say("settings", "restart_grace_seconds", "30", "--json")
    assert said.json["live"] is False
    assert "next start" in said.error


def test_what_the_mesh_refuses(say, coordinator) -> None:
    for words, meant in (
        (("weights.lode", "1"), "weights.load"),
        (("weights.lode",), "weights.load"),
        (("--reset", "heartbeat"), "heartbeat_seconds"),
        (("tasks_mots=3", "prefill_most=4"), "tasks_most"),
    ):
        said = say("settings", *words)
        assert said.status == 2
        assert f"Did you mean '{meant}'?" in said.error, words
    for words, why in (
        (("weights.load", "-1"), "between 0 and 1000"),
        (("weights.load", "-.5"), "between 0 and 1000"),
        (("heartbeat_seconds", "0"), "between 100ms and 1m"),
        (("heartbeat_seconds", "4s"), "twice"),
        (("prefill_most", "many"), "must be a number"),
        (("prefill_most", "\udcff"), "Unicode"),
        (("prefill_most", ""), "must be a number"),
        (("", "1"), "no setting"),
    ):
        said = say("settings", *words)
        assert said.status == 2, words
        assert why in said.error, words
    assert not any(view["changed"] for view in say("settings", "--json").json)


@pytest.mark.parametrize(
    "words",
    [
        ("--reset",),
        ("--reset", "weights.load=1"),
        ("weights.load", "1", "2"),
        ("weights.load=1", "2"),
        ("prefill_most=1", "prefill_most=2"),
        ("--rest", "weights.load"),
        ("-x",),
    ],
)
def test_what_is_no_sentence_is_refused_before_anything_is_sent(say, words) -> None:
    said = say("settings", *words)
    assert said.status == 2
    assert "planetmesh settings --help" in said.error


def test_a_viewer_looks_and_may_not_touch(say, coordinator, tmp_path: Path) -> None:
    guest = Home(tmp_path / "guest")
    coordinator.admit_viewer(guest)
    at = ("--home", str(guest.root))
    assert say("settings", "weights.load", "-q", *at).text == "2\n"
    said = say("settings", "weights.load", "5", *at)
    assert said.status == EXIT_NOT_ALLOWED
    assert "viewer" in said.error
    assert say("settings", "weights.load", "-q").text == "2\n"


@pytest.mark.parametrize("typed", [["settings"], ["settings", "--reset", "prefill_most"]])
def test_the_shell_completes_names(typed: list[str]) -> None:
    found = ShellComplete(make_group(), {}, "planetmesh", "_X").get_completions(typed, "weights.")
    assert {item.value for item in found} == {name for name in ABOUT if name.startswith("weights.")}
    assert all(item.help for item in found)


def test_help_has_examples() -> None:
    context = click.Context(make_group().get_command(click.Context(make_group()), "settings"))
    assert "planetmesh settings --reset weights.load" in context.get_help()


def test_programs_change_settings_too(coordinator, home: Home) -> None:
    with Mesh(home.root) as mesh:
        (view,) = mesh.change_settings({"weights.rtt": 3})
        assert (view.value, view.default, view.changed) == (3.0, 1.0, True)
        with pytest.raises(BadInput, match="must be a number"):
            mesh.change_settings({"weights.rtt": math.nan})  # null in JSON: it would reset
        assert {each.name: each.value for each in mesh.settings()}["weights.rtt"] == 3.0
