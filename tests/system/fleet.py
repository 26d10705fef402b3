"""A mesh to be hurt: a coordinator without tasks, agents on other hosts, and a diary that tells the truth.

    fleet.start(agents=2)
    job = fleet.submit("--range", "1..300", *fleet.task(seconds="0.2"))
    fleet.kill_agent("a1")
    fleet.wait(job)
    fleet.diary.starts()        # how often the task of each input really ran

What the mesh says is compared with the diary: a file that tasks append to, in a folder that all nodes share.
Used by the `fleet` fixture (conftest.py), which prints everybody's log when a test fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import msgspec
from lan import Lan
from meshes import PROGRAM, Machine, wait_until

LOG_SHOWN = 12_000
"""Letters of each node's log that a failed test prints."""
PORT = "7433"


class Diary:
    """What tasks wrote down themselves: `start INPUT PID HOST` and `end INPUT PID HOST`, a line each."""

    def __init__(self) -> None:
        # Not below pytest's own folder: that is closed to the user that tasks run as.
        self.folder = Path(tempfile.mkdtemp(prefix="planetmesh-diary-", dir="/var/tmp"))
        self.folder.chmod(0o777)
        self.file = self.folder / "diary"
        self.file.touch()
        self.file.chmod(0o666)

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.file.read_text().splitlines()]

    def starts(self) -> Counter[str]:
        return Counter(line[1] for line in self.lines() if line[0] == "start")

    def ends(self) -> Counter[str]:
        return Counter(line[1] for line in self.lines() if line[0] == "end")

    def pids(self) -> set[int]:
        """Of every task that ever started."""
        return {int(line[2]) for line in self.lines() if line[0] == "start"}

    def close(self) -> None:
        shutil.rmtree(self.folder)


HURRIED = {"suspect_after_seconds": 4.0, "offline_after_seconds": 8.0, "restart_grace_seconds": 8.0}
"""Settings for tests that wait until a node is given up; with the defaults that takes 15 s."""


class Fleet:
    """Made for one test; `close` ends everything."""

    def __init__(self, folder: Path, make_lan: Callable[[int], Lan]) -> None:
        self._folder = folder
        self._make_lan = make_lan
        self.lan: Lan
        self.desk: Machine
        self.agents: dict[str, Machine] = {}
        self.diary = Diary()
        self.watched: list[Watched] = []
        self.submitters: list[Submitter] = []

    # Making

    def start(
        self, agents: int = 2, *, spare: int = 0, settings: dict[str, Any] | None = None, cpus: str = "8"
    ) -> None:
        """A coordinator on h1 and agents a1, a2… on the other hosts, paired; `spare` hosts stay empty."""
        self.lan = self._make_lan(1 + agents + spare)
        self.start_desk(settings=settings)
        for number in range(1, agents + 1):
            self.add_agent(f"a{number}", f"h{number + 1}", cpus=cpus)

    def start_desk(
        self, *options: str, home: Path | None = None, settings: dict[str, Any] | None = None
    ) -> None:
        self.desk = Machine(home or self._folder / "desk", lan=self.lan, host="h1")
        if settings is not None:
            self.desk.home.mkdir(mode=0o700, exist_ok=True)
            (self.desk.home / "settings.json").write_text(json.dumps(settings))
        self.desk.up("--new", "--no-agent", "--no-mdns", "--port", PORT, "--name", "desk", *options)

    def add_agent(self, name: str, host: str, *, cpus: str = "8") -> Machine:
        agent = Machine(self._folder / name, lan=self.lan, host=host)
        self.agents[name] = agent
        agent.up(
            *("--join", f"{self.lan.address('h1')}:{PORT}", "--no-mdns", "--name", name),
            *("--cpus", cpus, "--share", f"{self.diary.folder}:rw"),
            code=self.desk.code()["code"],
        )
        return agent

    # Work

    def task(self, seconds: str = "0.2") -> list[str]:
        """The command of a task that writes its start and its end into the diary."""
        diary = self.diary.file
        note = f'echo "$0 {{}} $$ $(hostname)" >> {diary}'
        script = note.replace("$0", "start") + f"; sleep {seconds}; " + note.replace("$0", "end")
        return ["sh", "-c", script]

    def once_long(self, seconds: str) -> list[str]:
        """The command of a task that takes so long when it is first run, and no time when it is run again."""
        argv = self.task("0")
        first = f"mkdir {self.diary.folder}/first-{{}} 2>/dev/null && sleep {seconds}"
        return [*argv[:2], argv[2].replace("sleep 0;", f"{first};")]

    def submit_for_ever(self) -> Submitter:
        """Somebody who hands in one small job after the other until told to end or refused."""
        submitter = Submitter(self.desk)
        self.submitters.append(submitter)
        return submitter

    def submit(self, *arguments: str) -> str:
        """`run --detach`; the job's id."""
        said = self.desk.call("run", "--detach", *arguments)
        assert said.status == 0, said.error
        return said.out.strip()

    def watch(self, *arguments: str, machine: Machine | None = None) -> Watched:
        """`run` in the background, as a user sits before it."""
        watched = Watched(machine or self.desk, arguments)
        self.watched.append(watched)
        return watched

    def wait(self, job: str, seconds: float = 60.0) -> int:
        return self.desk.call("wait", job, seconds=seconds).status

    def job(self, job: str) -> dict[str, Any]:
        return dict(self.desk.json("job", job))

    def tasks(self, job: str) -> list[dict[str, Any]]:
        return list(self.desk.json("job", job, "--tasks"))

    def assert_all_completed(self, job: str, count: int) -> list[dict[str, Any]]:
        """Each task has exactly one end, and it is COMPLETED, wherever one asks; gives the tasks."""
        view, tasks = self.job(job), self.tasks(job)
        assert view["status"] == "COMPLETED", view
        others = {name: n for name, n in view["tasks"].items() if n and name not in {"total", "completed"}}
        assert (view["tasks"]["total"], view["tasks"]["completed"], others) == (count, count, {}), view
        assert sorted(task["index"] for task in tasks) == list(range(count))
        assert {task["status"] for task in tasks} == {"COMPLETED"}
        return tasks

    # Watching

    def kept_ends(self, name: str) -> int:
        """Ends of tasks in an agent's outbox: there a moment after the task's own last line."""
        found = 0
        for path in (self.agents[name].home / "outbox").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += path.read_bytes().count(msgspec.msgpack.encode("result"))
        return found

    def state_of(self, name: str) -> str:
        return str(self.desk.nodes()[name]["state"])

    def wait_for_state(self, name: str, state: str, seconds: float) -> float:
        """Until the mesh says so; how long it took."""
        began = time.monotonic()
        wait_until(lambda: self.state_of(name) == state, seconds, lambda: f"{name} is {self.state_of(name)}")
        return time.monotonic() - began

    def wait_for_starts(self, count: int, seconds: float = 60.0) -> None:
        wait_until(lambda: len(self.diary.lines()) >= count, seconds, lambda: f"{self.diary.lines()}")

    def tell(self) -> str:
        """Everybody's log and what watched commands said, for a failed test."""
        machines = [self.desk, *self.agents.values()] if hasattr(self, "desk") else []
        logs = [f"──── {each.home.name}\n{each.log[-LOG_SHOWN:]}" for each in machines]
        said = [f"──── {each.arguments}\n{each.error[-2000:]}" for each in self.watched]
        return "\n".join([*logs, *said])

    def close(self) -> None:
        for machine in [*self.agents.values(), *([self.desk] if hasattr(self, "desk") else [])]:
            machine.kill()
            machine.close()
        for each in [*self.watched, *self.submitters]:
            each.close()
        self.diary.close()


class Watched:
    """A command that runs while the test goes on."""

    def __init__(self, machine: Machine, arguments: tuple[str, ...]) -> None:
        self.arguments = arguments
        self._out, self._error = _new_file(), _new_file()
        self.process = machine._start([*PROGRAM, "run", *arguments], None, self._out, self._error)

    @property
    def out(self) -> bytes:
        return os.pread(self._out.fileno(), 1 << 24, 0)

    @property
    def error_bytes(self) -> bytes:
        return os.pread(self._error.fileno(), 1 << 24, 0)

    @property
    def error(self) -> str:
        return self.error_bytes.decode(errors="replace")

    def wait(self, seconds: float) -> int:
        return self.process.wait(seconds)

    def close(self) -> None:
        _end(self.process)
        self._out.close()
        self._error.close()


class Submitter:
    """One `run --detach` after the other, in a shell."""

    def __init__(self, desk: Machine) -> None:
        self._out = _new_file()
        loop = 'while "$@"; do :; done'
        argv = ["sh", "-c", loop, "sh", *PROGRAM, "run", "--detach", "true"]
        self._process = desk._start(argv, None, self._out, subprocess.DEVNULL)

    @property
    def ids(self) -> list[str]:
        """Of the jobs that were acknowledged so far."""
        return os.pread(self._out.fileno(), 1 << 20, 0).decode().split()

    def end(self) -> list[str]:
        """Wait until it is refused; all acknowledged jobs."""
        self._process.wait(60)
        return self.ids

    def close(self) -> None:
        _end(self._process)
        self._out.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait(60)


def _new_file() -> IO[bytes]:
    return tempfile.TemporaryFile()


def is_alive(pid: int) -> bool:
    """Whether a process still runs; one that has ended and waits for its parent does not."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)
