"""The agent beside a coordinator: a process of its own, kept running for as long as `up` runs.

It pairs with nobody: the coordinator issued its identity; otherwise it is an agent like any other. It holds
the read end of a pipe as its stdin: when `up` dies, however it dies, the agent sees the end, lets its running
tasks end and goes too. An `up` that is started meanwhile waits for that: those tasks must not run twice.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import logging
import sys
import time
from collections.abc import Callable

from planetmesh.cli.own_program import own_command, own_environment
from planetmesh.cli.part import Part, Role, write_part
from planetmesh.errors import Conflict, NotAllowed
from planetmesh.groups import TaskGroup
from planetmesh.paths import Home

log = logging.getLogger(__name__)

STOP_SECONDS = 20.0
"""For the agent to give its running tasks a moment and its work back; then it is killed."""
PIECE_BYTES = 64 * 1024
FINISHING_LOOK_SECONDS = 0.5
RESTART_FIRST_SECONDS = 1.0
RESTART_MOST_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""After so long alive an end is news, not part of a row of failures."""


class LocalAgent:
    """`run` it inside the coordinator's context; cancelling it stops the process in order."""

    def __init__(
        self,
        home: Home,
        part: Part,
        arguments: tuple[str, ...],
        *,
        passes_on: bool = False,
        on_stopping: Callable[[], None] = lambda: None,
    ) -> None:
        """`passes_on`: what it writes to stderr goes through ours. `on_stopping`: it is about to be told."""
        self._passes_on = passes_on
        self._on_stopping = on_stopping
        self._process: asyncio.subprocess.Process | None = None
        self._home = Home(home.local_agent)
        self._part = Part(
            role=Role.AGENT,
            name=part.name,
            bind=part.bind,
            mdns=part.mdns,
            tags=part.tags,
            offer=part.offer,
            shares=part.shares,
            hides=(str(home.root), *part.hides),
            embedding_server=part.embedding_server,
        )
        self._arguments = arguments

    async def run(self) -> None:
        """Start it, and again when it ends; until cancelled, or until it is not wanted in the mesh."""
        self._home.prepare()
        write_part(self._home, self._part)
        pause = RESTART_FIRST_SECONDS
        while True:
            await self._let_the_last_one_finish()
            started = time.monotonic()
            status = await self._live()
            if status == NotAllowed.exit_code:
                log.error("local_agent.refused", extra={"hint": "see the lines above"})
                return
            if time.monotonic() - started > STEADY_SECONDS:
                pause = RESTART_FIRST_SECONDS
            log.warning("local_agent.ended", extra={"status": status, "again_in_seconds": pause})
            await asyncio.sleep(pause)
            pause = min(pause * 2, RESTART_MOST_SECONDS)

    def hurry(self) -> None:
        """Told to stop a second time it kills what still runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    async def _let_the_last_one_finish(self) -> None:
        """Wait while the agent of a coordinator that crashed still has tasks in hand."""
        is_told = False
        while self._is_taken():
            if not is_told:
                log.warning(
                    "local_agent.finishing", extra={"hint": "its tasks end first, then a new one begins"}
                )
                is_told = True
            await asyncio.sleep(FINISHING_LOOK_SECONDS)

    def _is_taken(self) -> bool:
        try:
            with self._home.locked():
                return False
        except Conflict:
            return True

    async def _live(self) -> int:
        """One life of the process; its status."""
        process = await asyncio.create_subprocess_exec(
            *own_command(),
            "_agent",
            "--home",
            str(self._home.root),
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE if self._passes_on else None,
            env=own_environment(alone=True),
            # A Ctrl-C at the terminal is for `up`, which passes it on in its own time.
            start_new_session=True,
        )
        self._process = process
        async with TaskGroup() as group:
            passing = group.create_task(_pass_on(process.stderr)) if process.stderr else None
            try:
                return await process.wait()
            finally:
                if process.returncode is None:
                    self._on_stopping()
                    await _stop(process)
                if passing is not None:
                    passing.cancel()


async def _pass_on(stream: asyncio.StreamReader) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while piece := await stream.read(PIECE_BYTES):
        sys.stderr.write(decoder.decode(piece))


async def _stop(process: asyncio.subprocess.Process) -> None:
    """SIGTERM and a while to go, then SIGKILL: also when the wait itself is cancelled."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
