"""A real browser without a window, driven by its own DevTools protocol; it can reach this machine only.

async with chromium(tmp_path) as browser:
    await browser.open("http://127.0.0.1:…")
    await browser.until("document.title == 'planetmesh'")
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
START_SECONDS = 60.0
"""On a busy machine the first start reads some hundred megabytes."""
PATIENCE_SECONDS = 60.0
OPTIONS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--remote-debugging-port=0",
    "--window-size=1280,800",
)


class Browser:
    """One page of it, and what it asked for and said so far."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requests: list[str] = []
        """Addresses as they go out: of WebSockets too, without what stands behind a #."""
        self.complaints: list[str] = []
        """Errors and warnings in its console: broken scripts, refused by policy, files not found."""

    async def listen(self) -> None:
        async for message in self._socket:
            said = message.json()
            if (number := said.get("id")) is not None:
                if not (answer := self._answers.pop(number)).done():
                    answer.set_result(said)
                continue
            given = said["params"]
            match said["method"]:
                case "Network.requestWillBeSent":
                    self.requests.append(given["request"]["url"])
                case "Network.webSocketCreated":
                    self.requests.append(given["url"])
                case "Runtime.exceptionThrown":
                    self.complaints.append(str(given["exceptionDetails"]))
                case "Runtime.consoleAPICalled" if given["type"] in {"error", "warning"}:
                    self.complaints.append(str(given["args"]))
                case "Log.entryAdded":
                    self.complaints.append(f"{given['entry']['text']} {given['entry'].get('url', '')}")

    async def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One order of the DevTools protocol, and what came of it."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(PATIENCE_SECONDS):
            said = await answer
        assert "error" not in said, (method, said)
        return said["result"]

    async def open(self, address: str) -> None:
        await self.do("Page.navigate", url=address)

    async def ask(self, script: str) -> Any:
        """What a piece of script gives in the page."""
        result = await self.do("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until a piece of script gives something true."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not await self.ask(script):  # noqa: ASYNC110  the page does not tell
                    await asyncio.sleep(0.1)
        except TimeoutError:
            text = await self.ask("document.body?.innerText")
            raise AssertionError(f"never: {script}\n{text}\n{self.complaints}") from None

    async def press(self, key: str, code: str = "", number: int = 0) -> None:
        """A key; a letter needs nothing but itself."""
        text = {"text": key} if len(key) == 1 else {}
        given = {
            "key": key,
            "code": code or f"Key{key.upper()}",
            "windowsVirtualKeyCode": number or ord(key[0].upper()),
        }
        await self.do("Input.dispatchKeyEvent", type="keyDown", **given, **text)
        await self.do("Input.dispatchKeyEvent", type="keyUp", **given)

    async def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            await self.do("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def screenshot(self) -> bytes:
        """As PNG."""
        return base64.b64decode((await self.do("Page.captureScreenshot", format="png"))["data"])


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Browser]:
    """Started with a profile of its own in `folder`, ended with all its processes."""
    assert PROGRAM is not None
    profile = folder / "profile"
    options = [*OPTIONS, f"--user-data-dir={profile}"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")
    # Whatever it asks of a display, a keyring or a bus goes nowhere.
    env = {"HOME": str(folder), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    with (folder / "chromium.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            PROGRAM, *options, "about:blank", env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        port = await _port(profile / "DevToolsActivePort", process, folder / "chromium.log")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                pages = [each for each in await answer.json() if each["type"] == "page"]
            async with (
                session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket,
                asyncio.TaskGroup() as group,
            ):
                browser = Browser(socket)
                listening = group.create_task(browser.listen())
                for domain in ("Page", "Runtime", "Network", "Log"):
                    await browser.do(f"{domain}.enable")
                yield browser
                listening.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()


async def _port(file: Path, process: asyncio.subprocess.Process, log: Path) -> int:
    """Where it listens, as it writes down itself."""
    async with asyncio.timeout(START_SECONDS):
        while not (file.exists() and file.read_text().count("\n")):
            assert process.returncode is None, log.read_text(errors="replace")
            await asyncio.sleep(0.05)
    return int(file.read_text().splitlines()[0])
