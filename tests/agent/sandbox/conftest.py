"""One launcher per test, of the session's zygote."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the zygote stands on Linux", allow_module_level=True)

from left_alive import PATIENCE_SECONDS, marked

from planetmesh.agent.sandbox import folders
from planetmesh.agent.sandbox.handle import LauncherHandle, Zygote
from planetmesh.agent.sandbox.messages import (
    Ended,
    LauncherSpec,
    Limits,
    Output,
    Recalled,
    Report,
    Share,
    Start,
    Started,
)


@pytest.fixture
def ground() -> Iterator[Path]:
    """Not tmp_path: another user could not pass through to it."""
    root = Path(tempfile.mkdtemp(prefix="planetmesh-test-", dir="/var/tmp"))
    root.chmod(0o711)
    yield root
    shutil.rmtree(root)


@pytest.fixture
def work_root(ground: Path) -> Path:
    root = ground / "work"
    root.mkdir()
    root.chmod(0o711)
    return root


class Job:
    """One launcher and all that it has reported."""

    def __init__(self, spec: LauncherSpec) -> None:
        self.spec = spec
        self.handle: LauncherHandle
        self.reports: list[Report] = []
        self.lost: list[str] = []
        self._news = asyncio.Event()
        self._index = 0

    def on_reports(self, batch: list[Report]) -> None:
        self.reports += batch
        self._news.set()

    def on_lost(self, reason: str) -> None:
        self.lost.append(reason)
        self._news.set()

    def of(self, kind: type) -> list:
        return [report for report in self.reports if isinstance(report, kind)]

    def ends(self) -> dict[int, Ended]:
        found = {report.index: report for report in self.of(Ended)}
        assert len(found) == len(self.of(Ended)), "an attempt ended twice"
        return found

    def text(self, index: int, stream: int = 1) -> str:
        parts = [r for r in self.of(Output) if r.index == index and r.stream == stream]
        at = 0
        for part in parts:
            assert part.offset == at
            at += len(part.data)
        return b"".join(part.data for part in parts).decode()

    def start(self, *argv: str, **fields) -> int:
        self._index += 1
        self.handle.start([Start(self._index, 1, list(argv), **fields)])
        return self._index

    async def until(self, what: str, true: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not true():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pytest.fail(f"waited for {what}; last: {self.reports[-3:]} {self.lost}")

    async def end(self, index: int) -> Ended:
        await self.until(f"the end of {index}", lambda: index in self.ends())
        return self.ends()[index]

    async def started(self, index: int) -> Started:
        await self.until(f"the start of {index}", lambda: any(r.index == index for r in self.of(Started)))
        return next(r for r in self.of(Started) if r.index == index)

    async def run(self, *argv: str, **fields) -> Ended:
        return await self.end(self.start(*argv, **fields))

    async def shell(self, script: str, **fields) -> Ended:
        return await self.run("/bin/sh", "-c", script, **fields)

    async def recalled(self) -> list[tuple[int, int]]:
        await self.until("a recall", lambda: self.of(Recalled))
        return self.of(Recalled)[0].attempts

    def alive(self) -> list[int]:
        return marked(self.spec.folder)


@pytest.fixture
async def open_job(zygote: Zygote, work_root: Path, tmp_path: Path) -> AsyncIterator[Callable]:
    opened: list[Job] = []

    async def open_one(
        *, slots: int = 2, shares: tuple[Share, ...] = (), env=None, hidden=(), **limits
    ) -> Job:
        job_id = f"job-{os.getpid()}-{work_root.parent.name}-{len(opened)}"
        folder = folders.make_job_folder(work_root, job_id)
        hidden = (str(tmp_path), *hidden)
        spec = LauncherSpec(job_id, str(folder), hidden, shares, env or {}, Limits(**limits), slots)
        job = Job(spec)
        job.handle = await zygote.open(spec, job.on_reports, job.on_lost)
        opened.append(job)
        return job

    yield open_one
    for job in opened:
        await job.handle.close()
        assert job.alive() == []


@pytest.fixture
async def job(open_job) -> Job:
    return await open_job()
