"""Dashboards in browsers, each for itself: drawn, driven by keys, and gone with their tab."""

from __future__ import annotations

import asyncio
import sys
import threading

import aiohttp
import pytest
from watch_world import PATIENCE_SECONDS, Role, World
from web_world import until, web_of

from planetmesh.dashboard.web import driver
from planetmesh.dashboard.web.driver import Line
from planetmesh.dashboard.web.server import SESSIONS_MOST
from planetmesh.dashboard.web.session import End, size_asked
from planetmesh.errors import Conflict
from planetmesh.groups import TaskGroup


def watching() -> int:
    """Each dashboard follows the mesh in a thread of its own."""
    return sum(thread.name == "planetmesh-client" for thread in threading.enumerate())


async def test_a_tab_sees_the_mesh_and_drives_it_by_keys(world: World) -> None:
    await world.add_node("attic")
    async with web_of(world) as web:
        tab = await web.open()
        await tab.sees("● live", "home", "1 HEALTHY")
        await tab.press("2")
        await tab.sees("attic", "Drain")
        await tab.press("n")
        await tab.sees("A new name for attic")
        await tab.press("\x1b[200~loft\x1b[201~\r")
        await tab.sees("loft")
        await until(lambda: [live.node.name for live in world.engine.state.nodes.values()] == ["loft"])


@pytest.mark.slow
async def test_escape_alone_is_a_key(world: World) -> None:
    async with web_of(world) as web:
        tab = await web.open()
        await tab.sees("● live")
        await tab.press("?")
        await until(lambda: len(web.apps[0].screen_stack) == 2)
        await tab.press("\x1b")
        await until(lambda: len(web.apps[0].screen_stack) == 1)


@pytest.mark.slow
async def test_letters_that_come_in_two_parts(world: World) -> None:
    async with web_of(world) as web:
        tab = await web.open()
        await tab.sees("● live")
        await tab.press("s")
        await until(lambda: len(web.apps[0].screen_stack) == 2)
        first, second = "ü".encode()
        await tab.socket.send_bytes(bytes([first]))
        await tab.socket.send_bytes(bytes([second]))
        await tab.sees("ü")


@pytest.mark.slow
async def test_it_follows_the_size_of_its_window(world: World) -> None:
    async with web_of(world) as web:
        tab = await web.open(query="?columns=60&rows=20")
        await tab.sees("● live")
        assert web.apps[0].size == (60, 20)
        await tab.resize(130, 40)
        await until(lambda: web.apps[0].size == (130, 40))
        await tab.resize(-3, 10**9)
        await until(lambda: web.apps[0].size == (20, 300))


@pytest.mark.parametrize(
    ("columns", "rows", "size"),
    [
        ("100", "30", (100, 30)),
        ("1", "99999", (20, 300)),
        ("", "", (80, 24)),
        ("-1", "5", (80, 24)),
        ("1e3", "5", (80, 24)),
        ("9" * 5000, "5", (80, 24)),
        ("١٢٣", "٤٥", (123, 45)),
    ],
)
def test_the_size_that_is_asked_for_is_bounded(columns: str, rows: str, size: tuple[int, int]) -> None:
    assert size_asked(columns, rows) == size


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", '{"columns": "1", "rows": 1}', '{"columns": 80}', '{"rows":1,"columns":1,"x":1}'],
)
async def test_nonsense_ends_the_session(world: World, text: str) -> None:
    async with web_of(world) as web:
        tab = await web.open()
        await tab.socket.send_str(text)
        assert await tab.ends() == End.NONSENSE


@pytest.mark.slow
async def test_bytes_that_are_no_keys_are_borne(world: World) -> None:
    async with web_of(world) as web:
        tab = await web.open()
        await tab.sees("● live")
        await tab.socket.send_bytes(
            bytes(range(128, 256)) + b"\x1b[<999999999999;1;1M\x1b[48;1;1;1;1t\x1b]x" * 20
        )
        await tab.press("\x1b\x1b")
        await tab.resize(101, 30)
        await until(lambda: web.apps[0].size == (101, 30))
        assert not web.crashes


async def test_a_message_too_large_ends_the_session(world: World) -> None:
    async with web_of(world) as web:
        tab = await web.open()
        await tab.socket.send_bytes(b"x" * (256 * 1024 + 1))
        assert await tab.ends() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


@pytest.mark.slow
async def test_who_quits_is_told_and_can_come_again(world: World) -> None:
    async with web_of(world) as web:
        tab = await web.open()
        await tab.sees("● live")
        await tab.press("q")
        assert await tab.ends() == End.LEFT
        await (await web.open()).sees("● live")


@pytest.mark.slow
async def test_nothing_is_left_of_a_tab_that_goes(world: World) -> None:
    before = watching()
    async with web_of(world) as web:
        said_well, dropped = await web.open(), await web.open()
        await said_well.sees("● live")
        await dropped.sees("● live")
        assert watching() == before + 2
        await said_well.socket.close()
        await until(lambda: watching() == before + 1)
        transport = dropped.socket.get_extra_info("socket")
        assert transport is not None
        dropped.socket._response.connection.transport.abort()
        await until(lambda: watching() == before and not any(app.is_running for app in web.apps))


@pytest.mark.slow
async def test_a_tab_that_goes_before_anything_was_drawn(world: World) -> None:
    before = watching()
    async with web_of(world) as web:
        for _ in range(5):
            tab = await web.open()
            tab.socket._response.connection.transport.abort()
        await until(lambda: len(web.apps) == 5 and watching() == before)
        await (await web.open()).sees("● live")
        assert not web.crashes


@pytest.mark.slow
async def test_the_end_of_the_server_ends_all_and_says_so(world: World) -> None:
    before, streams = watching(), (sys.stdout, sys.stderr)
    async with TaskGroup() as group, web_of(world) as web:
        tabs = [await web.open() for _ in range(3)]
        for tab in tabs:
            await tab.sees("● live")
        endings = [group.create_task(tab.ends()) for tab in tabs]
    assert [ending.result() for ending in endings] == [End.STOPPED] * 3
    assert watching() == before
    assert (sys.stdout, sys.stderr) == streams


@pytest.mark.slow
async def test_what_is_printed_between_two_sessions_is_printed(world: World, capsys) -> None:
    """Apps take what is printed while they run, and end in another order than they began."""
    streams = sys.stdout, sys.stderr
    async with web_of(world) as web:
        first, second = await web.open(), await web.open()
        await first.sees("● live")
        await second.sees("● live")
        await first.socket.close()
        await until(lambda: not web.apps[0].is_running)
        await second.socket.close()
        # An app that runs no more may still be tidying up, and has them until it is done.
        await until(lambda: (sys.stdout, sys.stderr) == streams)
        capsys.readouterr()
        print("heard")
        assert capsys.readouterr().out == "heard\n"


@pytest.mark.slow
async def test_one_too_many_is_told_so(world: World) -> None:
    async with web_of(world) as web:
        tabs = [await web.open() for _ in range(SESSIONS_MOST)]
        assert await (await web.open()).ends() == End.FULL
        await tabs[0].socket.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await (tab := await web.open()).socket.receive()).type is not aiohttp.WSMsgType.BINARY:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await tab.sees("● live")


@pytest.mark.slow
async def test_a_mistake_of_ours_ends_one_session_and_is_reported(world: World) -> None:
    async with web_of(world) as web:
        tab, other = await web.open(), await web.open()
        await tab.sees("● live")
        await other.sees("● live")
        web.apps[0].call_later(_fail)
        assert await tab.ends() == End.MISTAKE
        await until(lambda: web.crashes)
        assert str(web.crashes[0]) == "on purpose"
        await other.press("?")
        await until(lambda: len(web.apps[1].screen_stack) == 2)


def _fail() -> None:
    raise RuntimeError("on purpose")


@pytest.mark.slow
async def test_a_viewer_looks_and_is_refused_in_words(world: World) -> None:
    await world.add_node("attic")
    async with web_of(world, role=Role.VIEWER) as web:
        tab = await web.open()
        await tab.sees("home viewer")
        await tab.press("2")
        await tab.sees("attic")
        await tab.press("d")
        await tab.sees("You are a viewer of this mesh")


async def test_a_port_that_is_taken(world: World) -> None:
    async with web_of(world) as web:
        with pytest.raises(Conflict, match=f"Port {web.serving.port} cannot be opened"):
            async with web_of(world, port=web.serving.port):
                pass
    async with web_of(world, port=web.serving.port) as again:
        assert again.serving.token != web.serving.token


async def test_who_does_not_read_is_cut_off(monkeypatch) -> None:
    monkeypatch.setattr(driver, "WAITING_MOST_LETTERS", 100)
    line, cut = Line(), []
    line.on_full = lambda: cut.append(True)
    line.write("a" * 100)
    assert not cut
    line.write("b")
    assert cut
    line.write("c")
    assert await line.take() == b"a" * 100 + b"b"
    assert await line.take() == b""
