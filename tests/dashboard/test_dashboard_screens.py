"""Every screen and action, by keys and mouse, against a real coordinator."""

from __future__ import annotations

import pytest
from textual.widgets import Input
from watch_world import LARGE, Role, World, seated

from planetmesh.dashboard.app import LIGHT
from planetmesh.dashboard.screens.help import KEYS
from planetmesh.dashboard.screens.log import LogScreen
from planetmesh.model.job import Outcome, TaskState

RANGE = {"type": "range", "first": 0, "last": 9}


async def test_the_overview_shows_who_and_what(world: World) -> None:
    await world.add_node("desk", cpus=4)
    await world.add_node("attic", join=False)
    client = await world.client()
    await client.submit(name="holiday", inputs=RANGE)
    await client.submit(name="needs gpus", requests={"gpus": 8})
    async with seated(world) as seat:
        fingerprint = world.authority.short_fingerprint
        await seat.sees("home", fingerprint, "1 HEALTHY", "1 OFFLINE", "holiday", "0/10", "attic is OFFLINE")
        await seat.sees("planetmesh explain attic", "operator")
        # The frames reach the edge of the screen.
        assert seat.text.splitlines()[1].endswith("╮")


@pytest.mark.slow
async def test_an_event_is_on_screen_a_few_looks_later(world: World) -> None:
    await world.add_node("desk")
    async with seated(world) as seat:
        await seat.press("2")
        await seat.sees("desk")
        await seat.pilot.pause(0.5)
        await world.add_node("attic")
        before = seat.app.repaints
        await seat.sees("attic")
        # One picture may have been on its way, and the feed's thread may have had to wait for its turn.
        assert seat.app.repaints - before <= 3


@pytest.mark.slow
async def test_nodes_are_drained_resumed_renamed_and_tagged(world: World) -> None:
    node_id = await world.add_node("desk", tags=("linux",))
    async with seated(world, size=LARGE) as seat:
        await seat.press("2")
        await seat.sees("desk", "HEALTHY", "linux")
        await seat.press("d")
        await seat.hears("gets no new work")
        await seat.sees("HEALTHY, draining")
        await seat.press("u")
        await seat.until(lambda: not world.engine.state.nodes[node_id].node.draining)
        await seat.press("n")
        await seat.sees("A new name for desk")
        seat.app.screen.query_one(Input).value = ""
        await seat.type("workshop")
        await seat.press("enter")
        await seat.hears("It is called workshop now.")
        await seat.until(lambda: seat.app.screen.grid.selected.name == "workshop")
        await seat.press("t")
        await seat.sees("Tags of workshop", "(linux)")
        seat.app.screen.query_one(Input).value = "fast, gpu"
        await seat.press("enter")
        await seat.until(lambda: seat.app.screen.grid.selected.given_tags)
        await seat.sees("fast,gpu,linux")
        await seat.press("t")
        assert seat.app.screen.query_one(Input).value == "fast gpu"
        await seat.press("escape")
    assert world.engine.state.nodes[node_id].node.tags == ("fast", "gpu")


@pytest.mark.slow
async def test_revoking_and_forgetting_ask_first(world: World) -> None:
    node_id = await world.add_node("desk")
    async with seated(world) as seat:
        await seat.press("2")
        await seat.sees("desk")
        await seat.press("R")
        await seat.sees("Revoke desk?")
        await seat.press("n")
        await seat.until(lambda: "Revoke desk?" not in seat.text)
        assert world.engine.state.nodes[node_id].node.state == "HEALTHY"
        await seat.press("F")
        await seat.hears("only who is OFFLINE can be forgotten")
        await seat.press("R", "y")
        await seat.hears("desk is revoked")
        await seat.sees("OFFLINE", "It belongs to the mesh no more")
        await seat.press("F")
        await seat.sees("Forget desk?")
        await seat.press("escape")
        assert node_id in world.engine.state.nodes
        await seat.press("F", "y")
        await seat.hears("desk is struck from the list.")
        await seat.until(lambda: node_id not in world.engine.state.nodes)
        await seat.sees("There are no nodes yet.")


@pytest.mark.slow
async def test_a_refusal_of_the_coordinator_is_said_in_its_words(world: World) -> None:
    await world.add_node("desk")
    await world.add_node("attic")
    async with seated(world) as seat:
        await seat.press("2")
        await seat.sees("desk", "attic")
        await seat.press("n")
        seat.app.screen.query_one(Input).value = "desk"
        await seat.press("enter")
        await seat.hears("Another node has the name")


@pytest.mark.slow
async def test_jobs_are_paused_ranked_and_cancelled(world: World) -> None:
    client = await world.client()
    job_id = await client.submit(name="holiday", inputs=RANGE)
    state = world.engine.state
    async with seated(world, size=LARGE) as seat:
        await seat.press("3")
        await seat.sees("holiday", "QUEUED")
        await seat.press("p")
        await seat.sees("QUEUED paused")
        await seat.press("p")
        await seat.until(lambda: state.jobs[job_id].job.paused_at is None)
        await seat.press("plus")
        seat.app.screen.query_one(Input).value = "much"
        await seat.press("enter")
        await seat.hears("'much' is not a whole number.")
        await seat.press("plus")
        seat.app.screen.query_one(Input).value = "7"
        await seat.press("enter")
        await seat.until(lambda: state.jobs[job_id].job.priority == 7)
        await seat.press("x")
        await seat.sees("Cancel holiday?", "It drops all that waits.")
        await seat.press("y")
        await seat.sees("CANCELLED", "from the dashboard")
        await seat.press("x")
        await seat.hears("has ended already")


@pytest.mark.slow
async def test_failed_tasks_are_seen_and_retried(world: World) -> None:
    await world.add_node("desk", cpus=4)
    client = await world.client()
    job_id = await client.submit(name="holiday", inputs=RANGE, max_attempts=1)
    await world.finish(job_id, 0, Outcome.EXIT_CODE)
    await world.finish(job_id, 1)
    async with seated(world, size=LARGE) as seat:
        await seat.press("3")
        await seat.sees("2/10", "1 failed")
        await seat.press("enter")
        await seat.sees("$ true", "Exit status 3.", "tasks 0 to 9 of 10", "desk")
        await seat.press("f")
        await seat.sees("only FAILED", "tasks 0 to 0 of 10")
        await seat.press("r")
        await seat.until(lambda: world.engine.state.jobs[job_id].counts.failed == 0)
        await seat.sees("No FAILED task here.")
        await seat.press("w")
        await seat.sees("tasks by node", "on none")
        await seat.press("escape")
        await seat.sees("PROGRESS")
        await seat.press("enter")
        await seat.sees("tasks 0 to 9 of 10")
        await seat.press("3")
        await seat.sees("PROGRESS")


@pytest.mark.slow
async def test_a_log_is_read_live_and_searched(world: World) -> None:
    await world.add_node("desk")
    client = await world.client()
    job_id = await client.submit(name="holiday")
    await world.start(job_id)
    await world.write(job_id, 0, b"first line\n" + b"dots\n" * 100)
    async with seated(world) as seat:
        await seat.press("3", "enter")
        await seat.sees("task 0")
        await seat.press("enter")
        await seat.sees("dots", "following the end")
        await world.write(job_id, 0, b"the last line\n", offset=511)
        await seat.sees("the last line")
        await seat.press("slash")
        await seat.type("first")
        await seat.until(lambda: seat.text.splitlines()[-2].strip() == "first")
        await seat.press("enter")
        await seat.sees("first line", "f follows the end")
        await seat.press("f")
        await seat.sees("the last line")
        await world.finish(job_id)
        await seat.sees("ended", "COMPLETED")
        await seat.press("escape")
        await seat.sees("tasks 0 to 0 of 1")


@pytest.mark.slow
async def test_whatever_is_selected_is_explained(world: World) -> None:
    await world.add_node("desk")
    client = await world.client()
    await client.submit(name="needs gpus", requests={"gpus": 8})
    async with seated(world) as seat:
        await seat.press("2", "e")
        await seat.sees("why", "node desk is HEALTHY")
        await seat.press("3", "e")
        await seat.sees("is QUEUED: 0 of 1 tasks completed")
        await seat.press("enter")
        await seat.sees("task 0")
        await seat.press("e")
        await seat.sees("/0 is QUEUED: 0 attempts")
        await seat.press("e")
        await seat.until(lambda: "/0 is QUEUED" not in seat.text)


@pytest.mark.slow
async def test_rows_are_filtered_and_sorted(world: World) -> None:
    for name in ("desk", "attic", "nas"):
        await world.add_node(name)
    async with seated(world) as seat:
        await seat.press("2")
        await seat.sees("attic", "desk", "nas")
        await seat.press("slash")
        await seat.type("des")
        await seat.until(lambda: "attic" not in seat.text)
        # What is typed stands right above the keys.
        assert seat.text.splitlines()[-2].strip() == "des"
        await seat.press("x")
        await seat.sees("No row has the words 'desx'")
        await seat.press("escape")
        await seat.sees("attic", "nas")
        await seat.press("o")
        await seat.sees("NAME▲")
        await seat.press("O")
        await seat.sees("NAME▼")
        names = [node.name for node in seat.app.screen.grid.rows]
        assert names == ["nas", "desk", "attic"]


@pytest.mark.slow
async def test_the_mouse_does_what_keys_do(world: World) -> None:
    for name in ("desk", "attic"):
        await world.add_node(name)
    client = await world.client()
    await client.submit(name="holiday")
    async with seated(world) as seat:
        await seat.pilot.click("#tab-nodes")
        await seat.sees("attic", "desk")
        await seat.pilot.click("#grid", offset=(3, 2))
        assert seat.app.screen.grid.selected.name == "desk"
        await seat.pilot.click("#grid", offset=(3, 0))
        await seat.sees("NAME▲")
        await seat.pilot.click("#tab-jobs")
        await seat.sees("holiday")
        await seat.pilot.click("#grid", offset=(3, 1), times=2)
        await seat.sees("tasks 0 to 0 of 1")


@pytest.mark.slow
async def test_help_names_every_key(world: World) -> None:
    async with seated(world, size=LARGE) as seat:
        await seat.press("question_mark")
        await seat.sees("help (Escape closes)", *(title for title, _keys in KEYS))
        await seat.press("escape")
        await seat.until(lambda: "help (Escape" not in seat.text)


@pytest.mark.slow
async def test_the_palette_has_the_screens_actions(world: World) -> None:
    await world.add_node("desk")
    async with seated(world, size=LARGE) as seat:
        await seat.press("2")
        await seat.sees("desk")
        await seat.press("ctrl+p")
        await seat.type("drain")
        await seat.sees("Drain", "On this screen: key d")
        await seat.press("down", "enter")
        await seat.sees("HEALTHY, draining")


@pytest.mark.slow
async def test_both_themes_show_the_same(world: World) -> None:
    await world.add_node("desk")
    async with seated(world, theme=LIGHT) as seat:
        await seat.sees("1 HEALTHY")
        light = seat.app.screen.styles.background
        await seat.press("T")
        await seat.until(lambda: seat.app.current_theme.dark)
        await seat.sees("1 HEALTHY")
        assert seat.app.screen.styles.background != light


@pytest.mark.slow
async def test_a_viewer_sees_all_and_is_refused_in_words(world: World) -> None:
    node_id = await world.add_node("desk")
    client = await world.client()
    job_id = await client.submit(name="holiday", inputs=RANGE)
    state = world.engine.state
    async with seated(world, role=Role.VIEWER) as seat:
        await seat.sees("home viewer")
        await seat.press("2")
        await seat.sees("desk")
        for key in ("d", "u", "n", "t", "R", "F"):
            await seat.press(key)
            await seat.hears("You are a viewer of this mesh")
        await seat.pilot.pause(0.3)
        assert seat.text.count("You are a viewer of this mesh") == 1
        await seat.press("3")
        for key in ("x", "p", "plus"):
            await seat.press(key)
            await seat.hears("You are a viewer of this mesh")
        await seat.press("enter")
        await seat.sees("tasks 0 to 9 of 10")
    assert not state.nodes[node_id].node.draining
    assert state.jobs[job_id].job.paused_at is None


@pytest.mark.slow
async def test_a_question_is_not_hidden_and_help_is_always_offered(world: World) -> None:
    await world.add_node("desk")
    async with seated(world) as seat:
        await seat.press("2")
        await seat.sees("desk", "R Revoke", "? Help")
        for _ in range(4):
            seat.app.notify("a long warning " * 8, timeout=60)
        await seat.sees("a long warning")
        await seat.press("R")
        await seat.sees("Its certificate is taken away for good", "it must be", "No (n)", "Revoke (y)")


@pytest.mark.slow
async def test_what_was_said_does_not_pile_up_over_the_screen(world: World) -> None:
    await world.add_node("desk")
    async with seated(world) as seat:
        await seat.press("2")
        await seat.sees("desk", "HEALTHY")
        await seat.press("d")
        await seat.sees("gets no new work")
        await seat.press("u")
        await seat.sees("gets work again")
        assert "gets no new work" not in seat.text
        await seat.press("e")
        await seat.sees("why (e closes)")
        await seat.until(lambda: "gets work again" not in seat.text)


@pytest.mark.slow
async def test_a_narrow_terminal_shows_what_matters(world: World) -> None:
    await world.add_node("desk")
    client = await world.client()
    await client.submit(name="holiday", inputs=RANGE)
    async with seated(world, size=(40, 15)) as seat:
        # The frames are whole.
        await seat.sees("─ mesh ─", "╮")
        assert seat.text.splitlines()[1].rstrip().endswith("╮")
        await seat.press("2")
        await seat.sees("desk", "HEALTHY")
        await seat.press("3")
        await seat.sees("holiday", "RUNNING", "PROGRESS", " 0%")
        await seat.press("x")
        await seat.sees("No (n)", "Cancel it (y)")
        await seat.press("n", "enter")
        await seat.sees("ASSIGNED")
        await seat.press("s")
        await seat.sees("Name       for people", "Node       only there")
        await seat.press("escape", "c", "a")
        await seat.sees("machine", "operator", "viewer", "good for")
        assert seat.text.count(seat.app.window.code) == 1


@pytest.mark.slow
async def test_a_job_of_many_tasks_is_read_page_by_page(world: World) -> None:
    client = await world.client()
    await client.submit(name="huge", inputs={"type": "range", "first": 0, "last": 99_999})
    async with seated(world) as seat:
        await seat.press("3", "enter")
        await seat.sees("tasks 0 to 199 of 100000")
        await seat.press("right_square_bracket")
        await seat.sees("tasks 200 to 399 of 100000")
        assert len(seat.app.screen.tasks.rows) == 200
        await seat.press("left_square_bracket")
        await seat.sees("tasks 0 to 199 of 100000")
        assert seat.app.screen.tasks.rows[0].status is TaskState.QUEUED


@pytest.mark.slow
async def test_what_comes_while_a_screen_is_taken_down_is_no_crash(world: World) -> None:
    """Textual takes a screen's widgets away first; its timers and what it asked for end after them."""
    await world.add_node("desk", cpus=2)
    client = await world.client()
    job_id = await client.submit(name="sweep")
    await world.start(job_id)
    async with seated(world, size=LARGE) as seat:
        await seat.press("3", "enter")
        await seat.sees("sweep", "RUNNING")
        await seat.press("enter")
        await seat.sees("following the end")
        screen = seat.app.screen
        assert isinstance(screen, LogScreen)
        await screen.query("*").remove()
        await world.write(job_id, 0, b"last words\n")
        await world.finish(job_id)
        await seat.until(lambda: "last words" in str(screen._gathered.lines()) and screen._future is None)
        await screen._read_task()
        screen._explain_again()
        await screen._explain((0, lambda mesh: mesh.explain_task(job_id, 0)))
