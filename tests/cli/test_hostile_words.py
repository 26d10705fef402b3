"""Every command that shows something of the mesh, fed with words that a terminal would obey.

The coordinator here says the worst it can in every field that is a text. Neither a terminal nor a pipe may
get a control byte, an invisible letter or a bidi control out of that; what tasks wrote is another matter
(`bytes_out`): into a pipe it goes byte for byte.
"""

from __future__ import annotations

import re
import unicodedata

import msgspec
import pytest
from aiohttp import web
from api_double import AT, Does, Double, FakeJob, _json
from rich.cells import cell_len
from terminal import Terminal

from planetmesh.cli.main import COMMANDS
from planetmesh.client.sync_client import LoopThread
from planetmesh.errors import Conflict
from planetmesh.model.job import TaskState
from planetmesh.model.node import Gpu, Sandbox
from planetmesh.paths import Home
from planetmesh.wire.api import (
    AttemptView,
    Explanation,
    FindingView,
    JobView,
    MeshStatus,
    PairingWindow,
    RetriedJob,
    SettingView,
    TaskCode,
)
from planetmesh.wire.members import AuditView, PersonView, SelfView

HOSTILE = (
    "\x1b]52;c;AAAA\x07\x1b]8;;http://x\x1b\\\x1b[2J\x1b[38;5;99m\x9b31m\x85\x7f\u202e\u2066\u200b\ufeff\u2028"
    "[red]x[/]\n\r\b\t\ud7ff" + "e\u0301\u0302\u0303\u0304" * 3 + "👩\u200d🚀" + "宽" * 10_000
)
WORD, TEXT = HOSTILE[:250], HOSTILE[:4000]
"""Some texts are refused when they are longer."""
MARKUP = "[red]x[/]"
OURS = re.compile(r"\x1b\[[0-9;]*m")
"""Colours are ours; the hostile one of 256 is looked for by itself."""
NAMES_NOTHING = {
    "up": "pairs first; its panel is tested in test_up_lines",
    "login": "pairs; the name is checked when it is given",
    "images": "as run",
    "embed": "as run",
    "submit": "prints the id, as run --detach",
    "dashboard": "Textual; tests/dashboard",
    "demo": "a mesh of its own",
    "completion": "a script",
    "doctor": "a test of its own, for it looks around on the LAN",
    "backup": "its mesh name is checked when it is given",
    "restore": "as backup",
    "service": "asks the service manager of this machine, not the mesh",
    "leave": "asks nobody where there is no agent",
    "_agent": "inner",
    "_zygote": "inner",
    "_tile": "inner",
}
"""Commands that are not below, each with its reason."""


class Hostile(Double):
    """Answers all that commands ask, with HOSTILE wherever a text may stand."""

    def __init__(self, folder, **more) -> None:
        super().__init__(folder, **more)
        self.node = msgspec.structs.replace(
            self.node, name=HOSTILE, tags=(HOSTILE,), given_tags=(HOSTILE,), note=HOSTILE, hostname=HOSTILE,
            os=HOSTILE, version=HOSTILE, sandbox=Sandbox(WORD, proven=True, detail=TEXT),
            gpus=(Gpu(WORD, WORD, 1),),
        )  # fmt: skip
        self.waiting = HOSTILE
        self.plan = lambda _spec, _index: Does(
            exit_code=1, error=HOSTILE, node=HOSTILE, pieces=((1, b"out\n"),)
        )

    def _find(self, name: str) -> FakeJob:
        return super()._find("last")

    def _job_view(self) -> JobView:
        view = self._find("last").view(with_spec=True)
        return msgspec.structs.replace(
            view, name=HOSTILE, submitter=HOSTILE, submitter_name=HOSTILE, error=HOSTILE,
            cancel_reason=HOSTILE, type=HOSTILE,
        )  # fmt: skip

    async def _get_nodes(self, _request, name: str = "") -> web.Response:
        return _json(self.node if name else [self.node])

    async def _get_nodes_explain(self, _request, _name: str) -> web.Response:
        return self._explained()

    async def _get_jobs_explain(self, _request, _name: str) -> web.Response:
        return self._explained()

    def _explained(self) -> web.Response:
        attempt = AttemptView(
            attempt=1, node=HOSTILE, outcome=HOSTILE, exit_code=1, error=HOSTILE, started_at=AT,
            finished_at=HOSTILE, why_there=HOSTILE,
        )  # fmt: skip
        finding = FindingView(HOSTILE, HOSTILE, HOSTILE)
        return _json(
            Explanation(
                subject=HOSTILE, status=HOSTILE, summary=HOSTILE, findings=(finding,), attempts=(attempt,)
            )
        )

    async def _get_jobs(self, request, job_id: str = "") -> web.Response:
        if not job_id:
            return _json({"jobs": [self._job_view()], "next": None})
        await self._until_ended(self._find(job_id), request)
        return _json(self._job_view())

    async def _get_jobs_tasks(self, request, job_id: str, index: str = "", what: str = "") -> web.Response:
        return self._explained() if what else await super()._get_jobs_tasks(request, job_id, index)

    async def _delete_nodes(self, _request, _name: str) -> web.Response:
        raise Conflict(HOSTILE, hint=HOSTILE)

    async def _post_jobs_retry(self, _request, _job: str) -> web.Response:
        return _json(RetriedJob(self._job_view(), 1, 2, (HOSTILE,), (HOSTILE,)))

    async def _patch_jobs(self, _request, _job: str) -> web.Response:
        return _json(self._job_view())

    async def _get_jobs_results(self, request, _job: str) -> web.Response:
        if request.query["form"] == "short":
            return web.Response(body=b"")
        code = TaskCode(
            index=0, input=HOSTILE, inputs=None, status=TaskState.FAILED, exit_code=1, node=HOSTILE,
            attempts=1, seconds=1.0, error=HOSTILE,
        )  # fmt: skip
        return web.Response(body=msgspec.json.encode(code) + b"\n")

    async def _get_audit(self, _request) -> web.Response:
        return _json([AuditView(1, AT, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)])

    async def _get_people(self, _request) -> web.Response:
        return _json([PersonView(HOSTILE, HOSTILE, HOSTILE, AT)])

    def _setting(self) -> SettingView:
        return SettingView(
            name="heartbeat_seconds", value=1.0, default=1.0, changed=True, live=False, least=0, most=9,
            about=HOSTILE,
        )  # fmt: skip

    async def _get_settings(self, _request) -> web.Response:
        return _json([self._setting()])

    async def _patch_settings(self, _request) -> web.Response:
        return _json([self._setting()])

    async def _get_self(self, _request) -> web.Response:
        return _json(SelfView(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, AT, HOSTILE))

    async def _get_status(self, _request) -> web.Response:
        return _json(
            MeshStatus(
                mesh=HOSTILE, mesh_id=HOSTILE, coordinator=HOSTILE, version=HOSTILE, role=HOSTILE,
                node=HOSTILE, nodes={"HEALTHY": 1, HOSTILE: 1}, jobs={HOSTILE: 1}, storage_error=HOSTILE,
                feed_number=len(self.events), fingerprint=HOSTILE,
            )
        )  # fmt: skip

    async def _post_pair(self, _request) -> web.Response:
        return _json(PairingWindow("7", "agent", AT, "127.0.0.1:1", code=HOSTILE, last_failures=(HOSTILE,)))

    async def _get_metrics(self, _request) -> web.Response:
        word = HOSTILE.replace("\n", "")
        return web.Response(body=f'planetmesh_x{{node="{word}"}} 1.0\n'.encode(errors="replace"))


@pytest.fixture
def hostile(tmp_path, home: Home):
    thread = LoopThread()

    async def start() -> Hostile:
        double = Hostile(tmp_path / "double")
        await double.start()
        double.operator(home)
        return double

    double = thread.call(start())
    yield double
    thread.call(double.close())
    thread.stop()


@pytest.fixture
def job(hostile, say) -> None:
    said = say("run", "--name", "x", "true", ":::", HOSTILE.replace("\n", "").replace("\x00", "")[:3000])
    check(said.text)
    check(said.error)


def check(shown: str, command: tuple[str, ...] = (), *, on_terminal: bool = False) -> None:
    if on_terminal:
        assert "38;5;99m" not in shown.replace("\N{REPLACEMENT CHARACTER}[38;5;99m", "")
        shown = OURS.sub("", shown)
    for letter in set(shown):
        bad = unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and letter != "\n"
        assert not bad, (command, letter)


SHOWING = (
    ("status",), ("nodes",), ("nodes", "-q"), ("jobs",), ("jobs", "-q"), ("job", "last"), ("job", "last/0"),
    ("job", "last", "--tasks"), ("job", "last", "--tasks", "--failed"), ("top",), ("top", "-q"),
    ("explain", "last"), ("explain", "last/0"), ("explain", "last", "-q"), ("audit",), ("people",),
    ("settings",), ("settings", "heartbeat_seconds"), ("settings", "heartbeat_seconds=2s"), ("retry", "last"),
    ("edit", "last", "--priority", "1"), ("pause", "last"), ("resume", "last"), ("cancel", "last"),
    ("wait", "last"), ("results", "last", "--form", "codes"), ("results", "last", "--failed"),
    ("fetch", "last"), ("logs", "last"), ("node", "tag", "x", "y"), ("node", "drain", "x"),
    ("node", "rename", "x", "y"), ("node", "revoke", "x"), ("node", "forget", "x"), ("code", "--no-wait"),
    ("metrics",), ("run", "--tag", "a", "x", ":::", "a", "b"), ("run", "x"), ("run", "--detach", "x"),
)  # fmt: skip


REFUSED = (("cancel", "last"), ("fetch", "last"), ("node", "forget", "x"))
SAY_IDS_ONLY = (
    *REFUSED, ("edit", "last", "--priority", "1"), ("jobs", "-q"), ("logs", "last"),
    ("node", "rename", "x", "y"),
    ("node", "revoke", "x"), ("pause", "last"), ("resume", "last"), ("run", "--detach", "x"), ("run", "x"),
    ("run", "--tag", "a", "x", ":::", "a", "b"), ("settings", "heartbeat_seconds=2s"),
)  # fmt: skip
"""On stdout; each of the others must show a hostile word, or the test would not see it."""
TABLES = (
    ("nodes",), ("jobs",), ("job", "last"), ("job", "last/0"), ("job", "last", "--tasks"), ("status",),
    ("audit",), ("settings",), ("settings", "heartbeat_seconds"), ("results", "last", "--failed"),
    ("wait", "last"), ("top",),
)  # fmt: skip
"""What fits its terminal to the letter; in sentences a long word may run over."""


def test_every_command_is_here_or_says_why_not():
    here = {words[0] for words in SHOWING}
    assert here | NAMES_NOTHING.keys() == set(COMMANDS)
    assert not here & NAMES_NOTHING.keys()


def say_all(say, *more: str, on_terminal: bool = False, commands=SHOWING) -> dict[tuple[str, ...], str]:
    """Every command, checked; what each wrote to stdout."""
    shown = {}
    for command in commands:
        said = say(*command, *more)
        # The last job has ended and made no files, and the node is not gone.
        refused = said.status == 2 and command in REFUSED
        assert refused or said.status in {0, 1}, (command, said)
        assert "cannot be understood" not in said.error, command
        check(said.text, command, on_terminal=on_terminal)
        check(said.error.replace("\r", ""), command, on_terminal=on_terminal)
        shown[command] = said.text
    return shown


@pytest.mark.slow
def test_a_pipe_gets_nothing_that_a_terminal_would_obey(say, job):
    shown = say_all(say)
    # Markup is a text like any other, and nothing is cut.
    silent = {command for command in SHOWING if MARKUP not in shown[command]}
    assert silent == set(SAY_IDS_ONLY)
    assert "宽" * 10_000 in shown["nodes",]


@pytest.mark.slow
@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_terminal_gets_nothing_but_our_own_colours(say, job, width, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    shown = say_all(say, on_terminal=True)
    for command in TABLES:
        for line in OURS.sub("", shown[command]).splitlines():
            assert cell_len(line) <= width, (command, line)


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_doctor_says_nothing_that_a_terminal_would_obey(say, hostile, options):
    said = say("doctor", *options)
    check(said.text)
    check(said.error)
    assert "coordinator" in said.text


@pytest.mark.slow
def test_json_is_ascii(say, job):
    commands = [each for each in SHOWING if "-q" not in each and each[0] not in {"logs", "results"}]
    for text in say_all(say, "--json", commands=commands).values():
        assert text.isascii()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [("top",), ("jobs", "-w"), ("nodes", "-w"), ("job", "last", "-w"), ("status", "-w")],
    ids=" ".join,
)
@pytest.mark.parametrize("columns", [40, 80])
def test_live_screens_draw_nothing_of_what_they_were_told(home: Home, say, hostile, job, command, columns):
    # The screen of these tests refuses every control that it does not know.
    with Terminal.planetmesh(home.root, *command, columns=columns, rows=12) as terminal:
        terminal.until(lambda text: "HEALTHY" in text or "FAILED" in text)
        if command != ("job", "last", "-w"):
            terminal.type("\x03")
            assert terminal.end() == 130
        assert b"]52;" not in terminal.seen.replace("\N{REPLACEMENT CHARACTER}]52;".encode(), b"")


def test_what_a_task_wrote_goes_into_a_pipe_byte_for_byte(say, hostile):
    raw = b"\x1b[2J\x9b\xff\x00"
    hostile.plan = lambda _spec, _index: Does(pieces=((1, raw),))
    assert say("run", "x").out == raw
