"""`planetmesh dashboard --web` as people use it: a real mesh, the real command, a real browser.

With PLANETMESH_PICTURES=FOLDER the pictures that are taken are kept there, to be looked at.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web
from chromium import PROGRAM, Browser, chromium
from meshes import STOP_SECONDS, Machine, free_port, wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.timeout(480),
    pytest.mark.skipif(PROGRAM is None, reason="no chromium here"),
]

ROWS = "[...document.querySelectorAll('.xterm-rows > div')].map((row) => row.textContent).join('\\n')"
SIGHT = f"({ROWS}).replaceAll('\\u00a0', ' ')"
PANEL = "(document.querySelector('#panel:not([hidden]) > #said')?.textContent ?? '')"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Machine]:
    """A mesh with one node, this machine: observatory."""
    machine = Machine(tmp_path / "home")
    machine.up("--new", "--name", "observatory", "--no-mdns", "--bind", "127.0.0.1", "--port", free_port())
    yield machine
    machine.close()


class Served:
    """`planetmesh dashboard --web` as a process."""

    def __init__(self, mesh: Machine, folder: Path, *options: str) -> None:
        self.log = folder / "web.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*mesh._program, "--home", str(mesh.home), "--json", "dashboard", "--web", *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.url: str = json.loads(line)["url"]
        self.address, _, self.token = self.url.partition("/#")

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@asynccontextmanager
async def opened(mesh: Machine, folder: Path) -> AsyncIterator[tuple[Served, Browser]]:
    served = Served(mesh, folder, "--light")
    try:
        async with chromium(folder) as browser:
            await browser.open(served.url)
            await sees(browser, "● live")
            yield served, browser
    finally:
        served.close()


async def sees(browser: Browser, *texts: str) -> None:
    """Wait until all of these stand on the page's terminal."""
    for text in texts:
        await browser.until(f"{SIGHT}.includes({json.dumps(text)})")


async def says(browser: Browser, text: str) -> None:
    """Wait until this stands before the terminal."""
    await browser.until(f"({PANEL}).includes({json.dumps(text)})")


async def keep(browser: Browser, name: str) -> bytes:
    """A picture of the page."""
    picture = await browser.screenshot()
    if folder := os.environ.get("PLANETMESH_PICTURES"):
        (Path(folder) / f"{name}.png").write_bytes(picture)
    return picture


async def test_a_browser_shows_the_mesh_and_drives_it(mesh: Machine, tmp_path: Path) -> None:
    name = mesh.json("status")["mesh"]
    async with opened(mesh, tmp_path) as (served, browser):
        await sees(browser, name, "1 HEALTHY")
        first = await keep(browser, "overview")
        # The token has left the address bar, lies in no cookie, and was never part of a request.
        assert await browser.ask("location.href") == served.address + "/"
        assert await browser.ask("document.cookie") == ""
        assert not [each for each in browser.requests if served.token in each]

        await browser.press("2", "Digit2")
        await sees(browser, "observatory", "Drain")
        assert await keep(browser, "nodes") != first
        await browser.press("Escape", "Escape", 27)
        await browser.press("1", "Digit1")

        # By mouse: the third of the words on top.
        column = await browser.ask(f"{SIGHT}.split('\\n')[0].indexOf('3 Jobs')")
        cell = await browser.ask(
            "(({width}, columns) => width / columns)(document.querySelector('.xterm-screen')"
            f".getBoundingClientRect(), {SIGHT}.split('\\n')[0].length)"
        )
        await browser.click((column + 1) * cell, 5)
        await sees(browser, "There are no jobs yet")

        # Another size, and the page anew: still let in, by what this tab keeps.
        await browser.do(
            "Emulation.setDeviceMetricsOverride", width=700, height=500, deviceScaleFactor=1, mobile=False
        )
        await browser.until(f"{SIGHT}.split('\\n').length < 35")
        await browser.do("Page.reload")
        await sees(browser, "● live")
        await keep(browser, "narrow")

        await browser.press("q")
        await says(browser, "You have left the dashboard")
        await keep(browser, "left")
        await browser.press("Enter", "Enter", 13)
        await browser.ask("document.getElementById('again').click()")
        await sees(browser, "● live")
        assert await browser.ask(PANEL) == ""

        # Nothing came from anywhere else, and nothing was amiss.
        assert len(browser.requests) > 6
        ours = (f"{served.address}/", f"ws{served.address.removeprefix('http')}/session?", "data:,")
        assert [each for each in browser.requests if not each.startswith(ours)] == []
        assert browser.complaints == []

        assert served.stop() == 0
        await says(browser, "has ended")
        assert "Stopped; the mesh goes on." in served.log.read_text()
        assert served.token not in served.log.read_text()


async def test_a_browser_without_the_token_sees_nothing(mesh: Machine, tmp_path: Path) -> None:
    async with opened(mesh, tmp_path) as (served, browser):
        for token in ("", "#", "#" + "A" * 43, "#<b>&"):
            await browser.open("about:blank")
            await browser.ask("1")
            await browser.open(f"http://localhost:{served.address.rpartition(':')[2]}/{token}")
            await says(browser, "Not let in")
            assert (await browser.ask(SIGHT)).strip() == ""
        # The right one, typed behind the wrong: the page takes it without more ado.
        await browser.ask(f"location.hash = {json.dumps(served.token)}")
        await sees(browser, "● live")


async def test_pages_of_other_servers_on_this_machine_get_nothing(mesh: Machine, tmp_path: Path) -> None:
    """Even one that knows the token: another user's server, which this browser was led to."""
    seen: list[dict[str, str]] = []

    async def page(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(text="<!doctype html><title>evil</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/{any:.*}", page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        async with opened(mesh, tmp_path) as (served, browser):
            await browser.open(f"http://127.0.0.1:{port}/")
            await browser.until("document.title == 'evil'")
            host = served.address.removeprefix("http://")
            offered = ["planetmesh-dashboard", served.token]
            script = f"""
                window.came = {{}};
                const socket = new WebSocket("ws://{host}/session", {json.dumps(offered)});
                socket.onopen = () => {{ came.socket = "open"; }};
                socket.onerror = () => {{ came.socket = "refused"; }};
                fetch("{served.address}/").then(
                    () => {{ came.page = "read"; }},
                    () => {{ came.page = "refused"; }},
                );
                const frame = document.body.appendChild(document.createElement("iframe"));
                frame.onload = () => {{
                    try {{ came.frame = frame.contentWindow.document.body.innerHTML; }}
                    catch {{ came.frame = "refused"; }}
                }};
                frame.src = "{served.url}";
            """
            await browser.ask(script)
            await browser.until("came.socket && came.page && came.frame")
            assert await browser.ask("came") == {"socket": "refused", "page": "refused", "frame": "refused"}
            assert any("frame-ancestors" in each for each in browser.complaints)
            # What it is told itself: no cookie, no token.
            assert served.token not in json.dumps(seen)
            assert not any("Cookie" in each for each in seen)
    finally:
        await runner.cleanup()


def test_other_users_see_no_token(mesh: Machine, tmp_path: Path) -> None:
    """In no process's arguments or environment, in no file that others may read; gone with the server."""
    served = Served(mesh, tmp_path)
    try:
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    content = (process / name).read_bytes()
                except OSError:
                    continue
                assert served.token.encode() not in content, process
        kept = dict(files_in(mesh.home))
        assert kept
        assert not [path for path, content in kept.items() if served.token.encode() in content]
        assert served.stop(signal.SIGTERM) == 0
        assert not list(mesh.home.glob("dashboard-*"))
    finally:
        served.close()


def files_in(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """But for those that go while they are looked for: a mesh is at work here."""
    for top, _folders, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                yield Path(top, name), Path(top, name).read_bytes()


def test_its_browser_is_started_with_a_page_of_the_home(mesh: Machine, tmp_path: Path) -> None:
    """On a terminal with a desktop; what stands in a browser's arguments, everybody may read."""
    told = tmp_path / "told"
    browser = tmp_path / "browser"
    browser.write_text(
        f"#!/bin/sh\ncat ${{1#file://}} >{told}.page && printf %s $1 >{told}.new && mv {told}.new {told}\n"
    )
    browser.chmod(0o755)
    master, terminal = os.openpty()
    env = dict(os.environ, BROWSER=f"{browser} %s", DISPLAY=":99")
    env.pop("SSH_CONNECTION", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "planetmesh", "--home", str(mesh.home), "dashboard", "--web"],
        env=env,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    try:
        url = os.read(master, 1000).decode().split()[0]
        wait_until(told.exists, STOP_SECONDS)
        token = url.partition("#")[2]
        assert len(token) == 43
        argument = told.read_text()
        assert argument.startswith("file://")
        assert token not in argument
        page = Path(argument.removeprefix("file://"))
        assert page.parent == mesh.home
        assert page.stat().st_mode & 0o077 == 0
        assert f'url={url}"' in Path(f"{told}.page").read_text()
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_SECONDS) == 0
        assert not page.exists()
    finally:
        process.kill()
        process.wait()
        os.close(master)
