"""Handing in a job by the form, and letting somebody in, against a real coordinator."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input, TextArea
from watch_world import LARGE, Role, Seat, World, seated

from planetmesh.model.identity import Role as MemberRole
from planetmesh.model.job import Items, Range


def fill(seat: Seat, **texts: str) -> None:
    for name, text in texts.items():
        if name == "inputs":
            seat.app.screen.query_one("#inputs", TextArea).text = text
        else:
            seat.app.screen.query_one(f"#{name}", Input).value = text


@pytest.mark.slow
async def test_a_command_is_handed_in(world: World) -> None:
    async with seated(world) as seat:
        await seat.press("s")
        await seat.sees("Say what to run")
        await seat.type("echo {}")
        fill(seat, inputs="one\ntwo words\n\nthree", name="greet", cpus="2", tags="fast, gpu", priority="3")
        await seat.sees("3 tasks, each 2 CPUs")
        await seat.press("ctrl+s")
        await seat.hears("is handed in")
        await seat.sees("greet", "0/3 tasks", "$ echo '{}'")
    (live,) = world.engine.state.jobs.values()
    spec = live.job.spec
    assert spec.payload == {"argv": ["echo", "{}"]}
    assert isinstance(spec.inputs, Items)
    assert spec.inputs.items == ("one", "two words", "three")
    assert (spec.requests.cpu_millis, spec.tags, spec.priority) == (2000, ("fast", "gpu"), 3)


@pytest.mark.slow
async def test_a_script_goes_along_and_its_line_is_its_arguments(world: World, tmp_path: Path) -> None:
    script = tmp_path / "count.sh"
    script.write_text("#!/bin/sh\necho $1\n")
    async with seated(world) as seat:
        await seat.press("s")
        fill(seat, script=str(script), command="--fast {}", inputs="1..50")
        await seat.sees("50 tasks")
        await seat.press("ctrl+s")
        await seat.hears("is handed in")
    (live,) = world.engine.state.jobs.values()
    assert live.job.spec.payload["args"] == ["--fast", "{}"]
    assert live.job.spec.inputs == Range(1, 50)


@pytest.mark.slow
async def test_local_files_go_along(world: World, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "data.txt").write_text("x" * 100)
    monkeypatch.chdir(tmp_path)
    async with seated(world) as seat:
        await seat.press("s")
        fill(seat, command="wc data.txt", take="data.txt")
        await seat.sees("at most 100 B of files to send")
        await seat.press("ctrl+s")
        await seat.hears("is handed in")
    (live,) = world.engine.state.jobs.values()
    assert [file.name for file in live.job.spec.files] == ["data.txt"]


@pytest.mark.slow
async def test_mistakes_are_said_while_one_types_and_nothing_is_sent(world: World) -> None:
    mistakes = {
        ("command", "echo 'open"): "quote that is not closed",
        ("cpus", "many"): "'many' is not a number of CPUs",
        ("memory", "much"): "is not a size",
        ("timeout", "soon"): "is not a length of time",
        ("gpus", "-1"): "is not a number of GPUs",
        ("retries", "1000"): "is not a number of retries",
        ("priority", "high"): "is not a number of",
        ("take", "/nowhere/at/all"): "There is no file or folder",
        ("script", "/nowhere/x.py"): "There is no script",
        ("inputs", "9..1"): "leads away from its end",
    }
    async with seated(world, size=LARGE) as seat:
        await seat.press("s")
        for (name, text), sentence in mistakes.items():
            fill(seat, **({"command": "true"} | {name: text}))
            await seat.sees("✗", sentence)
            fill(seat, **{name: ""})
        fill(seat, command="true", cpus="0")
        await seat.press("ctrl+s")
        await seat.hears("Nothing was handed in")
        await seat.press("escape")
        await seat.sees("going on")
        await seat.press("s")
        await seat.until(lambda: seat.app.screen.query_one("#cpus", Input).value == "0")
    assert not world.engine.state.jobs


@pytest.mark.slow
async def test_what_the_coordinator_refuses_is_said_in_the_form(world: World) -> None:
    async with seated(world) as seat:
        await seat.press("s")
        fill(seat, command="true", node="nowhere")
        await seat.sees("one task")
        await seat.press("ctrl+s")
        await seat.sees("✗", "nowhere")
        fill(seat, node="")
        await seat.sees("✓ one task")


@pytest.mark.slow
async def test_a_viewer_may_fill_in_the_form_and_is_refused(world: World) -> None:
    async with seated(world, role=Role.VIEWER) as seat:
        await seat.sees("home viewer")
        await seat.press("s")
        fill(seat, command="true")
        await seat.press("ctrl+s")
        await seat.hears("You are a viewer")
        await seat.press("escape", "c", "a")
        await seat.hears("You are a viewer")
    assert not world.engine.state.jobs


@pytest.mark.slow
async def test_a_code_is_shown_and_the_machine_arrives(world: World) -> None:
    await world.add_node("desk")
    async with seated(world, size=LARGE) as seat:
        await seat.press("c")
        await seat.sees("Whom do you want to let in?")
        await seat.press("a")
        await seat.sees("Good for one machine", "planetmesh up", "██", "good for", "5 attempts are left")
        window = seat.app.window
        assert window.code in seat.text
        await seat.press("escape")
        await seat.sees("going on")
        await seat.press("c")
        await seat.sees(window.code)
        await world.add_node("attic")
        await seat.sees("✓ attic has joined.")
        await seat.press("x")
        await seat.sees("You closed the window")
        await seat.until(lambda: not world.desk.windows())


@pytest.mark.slow
async def test_a_code_for_a_person_fits_a_small_terminal(world: World) -> None:
    async with seated(world) as seat:
        await seat.press("c", "v")
        await seat.sees("Good for one person who may look", "planetmesh login --role viewer", "▀")
        (window,) = world.desk.windows()
        assert window.role is MemberRole.VIEWER
        world.desk.close(window.slot)
        await seat.sees("The window is gone: the coordinator was started again.")


@pytest.mark.slow
async def test_what_became_of_a_code_is_said(world: World) -> None:
    """Closed here, also while the list of windows is on its way; closed elsewhere; used."""
    client = await world.client()
    async with seated(world, size=LARGE) as seat:
        await seat.press("c", "a")
        await seat.sees("Good for one machine")
        for _ in range(3):
            seat.app.screen._look()
        await seat.press("x")
        await seat.sees("You closed the window")
        await seat.until(lambda: not world.desk.windows())
        await seat.pilot.pause(1.5)
        await seat.sees("You closed the window")

        await seat.press("o")
        await seat.sees("Good for one person who may act")
        (window,) = world.desk.windows()
        await client.ask("DELETE", f"/v1/pair/{window.slot}")
        await seat.sees("operator closed the window")

        await seat.press("v")
        await seat.sees("Good for one person who may look")
        (window,) = world.desk.windows()
        await world.member(Role.VIEWER)
        world.desk.close(window.slot)
        await seat.sees("The code is used: viewer came in as viewer.")

        await seat.press("a")
        await seat.sees("Good for one machine")
        (window,) = world.desk.windows()
        await world.add_node("[red]at\u202etic\x1b[0m")
        world.desk.close(window.slot)
        await seat.sees("The code is used.", "✓ [red]at", "has joined.")
