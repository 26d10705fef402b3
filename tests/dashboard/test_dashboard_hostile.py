"""Names, errors and outputs made to harm a terminal: what reaches the screen only shows."""

from __future__ import annotations

import unicodedata

import pytest
from textual.markup import MarkupError
from watch_world import LARGE, SMALL, Seat, World, seated

from planetmesh.mesh import reactor
from planetmesh.model.job import Outcome
from planetmesh.model.node import Gpu, Sandbox
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


@pytest.mark.parametrize("size", [SMALL, pytest.param(LARGE, marks=pytest.mark.slow)], ids=["small", "large"])
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


async def test_the_same_text_as_markup_would_have_been_an_error() -> None:
    from textual.content import Content

    with pytest.raises(MarkupError):
        Content.from_markup("[/nothing]")
