"""Names, errors and outputs made to harm a terminal: what reaches the screen only shows."""

from __future__ import annotations

import unicodedata

import pytest
from builders import node_id
from textual.events import Paste
from textual.markup import MarkupError
from textual.widgets import Input
from watch_world import LARGE, SMALL, Seat, World, seated

from planetmesh.mesh import nodes, reactor
from planetmesh.model.ids import NodeId
from planetmesh.model.job import Items, Outcome
from planetmesh.model.node import Gpu, Node, Sandbox
from planetmesh.wire.agent import TaskResult

EVIL = (
    "\x1b]0;owned\x07\x1b[31m\x9b2J [red]markup[/red] [@click=app.quit()]x[/] [/nothing] \u202egnp.exe "
    "\u2066 "
    "\u200d\u200b" + "e" + "\u0301" * 60 + " 日本語 \U0001f469\u200d\U0001f4bb \ufeff\u2028\x00\x85 "
)
LONG = EVIL + "W" * 10_000
NEVER = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def assert_harmless(seat: Seat) -> None:
    text = seat.text.replace("\n", "")
    bad = {hex(ord(letter)) for letter in text if unicodedata.category(letter) in NEVER}
    assert not bad
    marks = "".join("m" if unicodedata.combining(letter) else " " for letter in text)
    assert "mmm" not in marks
    width = seat.app.size.width
    for strip in seat.app.screen._compositor.render_strips():
        assert strip.cell_length == width
        for segment in strip:
            assert "\x1b" not in segment.text
            assert not (segment.style and segment.style.link)
            assert not (segment.style and "app.quit()" in str(segment.style.meta))


async def fill(world: World) -> str:
    """A mesh in which everybody lies."""
    await world.add_node(
        "desk", cpus=4, hostname=EVIL[:200], os=EVIL[:200], version=EVIL[:200], tags=(EVIL[:200],),
        sandbox=Sandbox(EVIL[:200], detail=EVIL), gpus=(Gpu("g", EVIL[:200], 2**30),), python=EVIL[:200],
    )  # fmt: skip
    client = await world.client()
    job_id = await client.submit(
        name="[red]holiday[/red] [/nothing]", max_attempts=1,
        inputs={"type": "items", "items": ["[b]日本[/b] \u202ex", "two", "three"]},
    )  # fmt: skip
    await world.start(job_id, 0)
    await world.write(job_id, 0, LONG.encode() + b"\n\x1b[2J\xff\xfe\n[bold]not bold[/bold]\n")
    task = world.engine.state.jobs[job_id].tasks[0]
    result = TaskResult(job_id, 0, task.attempt, Outcome.EXIT_CODE, 3, LONG[:4000], wall_seconds=1.0)
    await world.engine.do(lambda state, now: reactor.on_task_ended(state, task.node_id, result, now))
    return job_id


@pytest.mark.slow
@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
async def test_no_byte_of_theirs_commands_this_terminal(world: World, size: tuple[int, int]) -> None:
    await fill(world)
    async with seated(world, size=size) as seat:
        await seat.sees("[red]holiday[/red]")
        assert_harmless(seat)
        await seat.press("2")
        await seat.sees("desk")
        assert_harmless(seat)
        await seat.press("e")
        await seat.sees("node desk is")
        assert_harmless(seat)
        await seat.press("3")
        await seat.sees("[red]holiday[/red] [/nothing]")
        assert_harmless(seat)
        await seat.press("x")
        await seat.sees("Cancel [red]holiday[/red]")
        assert_harmless(seat)
        await seat.press("escape", "enter")
        await seat.sees("tasks 0 to 2 of 3", "FAILED")
        assert_harmless(seat)
        await seat.press("enter")
        await seat.sees("[bold]not bold[/bold]")
        assert_harmless(seat)
        await seat.press("escape", "escape", "plus", "escape", "r")
        await seat.hears("will run again")
        assert_harmless(seat)


async def enrol_liar(world: World) -> NodeId:
    """A node whose very name is hostile, which no coordinator of ours lets in."""
    record = Node(id=node_id("liar"), name=EVIL, created_at=1.0, tags=(EVIL[:60],))
    await world.engine.do(lambda state, now: nodes.on_node_enrolled(state, record, now))
    await world.join("liar")
    return record.id


@pytest.mark.slow
async def test_every_action_on_a_hostile_node_ends_as_on_others(world: World) -> None:
    liar = await enrol_liar(world)
    live = world.engine.state.nodes[liar]
    async with seated(world) as seat:
        await seat.press("2")
        await seat.sees("markup", "HEALTHY")
        await seat.press("d")
        await seat.hears("gets no new work")
        assert_harmless(seat)
        await seat.press("u")
        await seat.hears("gets work again")
        await seat.press("e")
        await seat.sees("why (e closes)", "0 tasks in hand")
        assert_harmless(seat)
        await seat.press("e", "t")
        await seat.sees("Tags of ")
        assert_harmless(seat)
        seat.app.screen.query_one(Input).value = "fast"
        await seat.press("enter")
        await seat.until(lambda: live.node.tags == ("fast",))
        await seat.press("n")
        await seat.sees("A new name for ")
        assert_harmless(seat)
        # Who leaves it as it stands is refused in words, not in a traceback.
        await seat.press("enter")
        await seat.hears("name")
        assert_harmless(seat)
        await seat.press("R")
        await seat.sees("Revoke ", "taken away for good")
        assert_harmless(seat)
        await seat.press("y")
        await seat.hears("is revoked")
        await seat.until(lambda: live.node.state == "OFFLINE")
        assert_harmless(seat)


@pytest.mark.slow
async def test_every_action_on_a_hostile_job_ends_as_on_others(world: World) -> None:
    await fill(world)
    async with seated(world) as seat:
        await seat.press("3")
        await seat.sees("[red]holiday[/red]")
        await seat.press("p")
        await seat.hears("[red]holiday[/red] [/nothing] starts nothing more")
        await seat.sees("RUNNING paused")
        await seat.press("p")
        await seat.hears("goes on")
        await seat.press("plus")
        await seat.sees("Priority of [red]holiday[/red]")
        seat.app.screen.query_one(Input).value = EVIL
        await seat.press("enter")
        await seat.hears("is not a whole number")
        assert_harmless(seat)
        await seat.press("plus")
        seat.app.screen.query_one(Input).value = "-3"
        await seat.press("enter")
        await seat.hears("has the priority -3 now")
        await seat.press("e")
        await seat.sees("why (e closes)", "tasks completed")
        assert_harmless(seat)
        await seat.press("e", "slash")
        await seat.type("[red]nobody")
        await seat.sees("No row has the words '[red]nobody'")
        assert_harmless(seat)
        await seat.press("escape", "enter")
        await seat.sees("tasks 0 to 2 of 3")
        await seat.press("enter")
        await seat.sees("[bold]not bold[/bold]")
        await seat.press("slash")
        await seat.type("[bold]not")
        await seat.press("enter")
        await seat.sees("[bold]not bold[/bold]")
        assert_harmless(seat)
        await seat.press("escape", "escape", "escape", "x")
        await seat.sees("Cancel [red]holiday[/red]")
        await seat.press("y")
        await seat.hears("is cancelled")
        await seat.sees("CANCELLED")
        assert_harmless(seat)


@pytest.mark.slow
async def test_what_is_pasted_into_the_form_is_seen_whole_or_left_out(world: World) -> None:
    hidden = "\x1b]0;owned\x07echo\xa0\u202e '[red]{}[/nothing]'\u200b\x00\r\nsecond line"
    async with seated(world) as seat:
        await seat.press("s")
        await seat.sees("Say what to run")
        seat.app.post_message(Paste(hidden))
        await seat.hears("5 letters that cannot be seen did not go in")
        assert seat.app.screen.query_one("#command", Input).value == "]0;ownedecho  '[red]{}[/nothing]'"
        assert_harmless(seat)
        seat.app.screen.query_one("#command", Input).value = "echo '[red]{}[/nothing]'"
        seat.app.screen.query_one("#inputs").focus()
        seat.app.post_message(Paste("[/b]\r\ntw\x1bo"))
        seat.app.screen.query_one("#name", Input).value = "[red]markup[/nothing]"
        await seat.sees("2 tasks")
        assert_harmless(seat)
        await seat.press("ctrl+s")
        await seat.hears("is handed in")
        await seat.sees("[red]markup[/nothing]", "2 tasks")
        assert_harmless(seat)
    (live,) = world.engine.state.jobs.values()
    assert live.job.spec.inputs == Items(("[/b]", "two"))


async def test_the_same_text_as_markup_would_have_been_an_error() -> None:
    from textual.content import Content

    with pytest.raises(MarkupError):
        Content.from_markup("[/nothing]")
