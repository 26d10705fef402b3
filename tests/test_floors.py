"""The rules of the house, checked on the source: who imports whom, who owns what, how large, what name.

Each rule is a function from a source file to complaints; below each stands proof that it can complain.
"""

from __future__ import annotations

import ast
import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
PACKAGE = "planetmesh"

# What is allowed

FLOORS = (
    {"model", "errors", "groups", "settings", "paths", "log_file", "logs", "entry_points"},
    {"wire"},
    {"mesh", "jobtypes", "trust", "store", "blobs", "discovery"},
    {"coordinator", "agent", "client", "child"},
    {"cli", "dashboard", "install", "joblib", "dask"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
GROUND_ORDER = ("errors", "groups", "model", "log_file", "logs", "paths", "settings", "entry_points")
"""On the ground a file may use those named before it."""
COORDINATOR_ONLY = {"mesh", "store"}
PURE = {"model", "wire", "mesh", "jobtypes"}
PURE_FILES = {
    f"dashboard/{name}.py"
    for name in (
        "alarms",
        "big_code",
        "draft",
        "log_lines",
        "meter",
        "plain",
        "rows",
        "sheets",
        "snapshot",
        "tally",
    )
}  # fmt: skip
"""Of rooms that are not pure otherwise."""
IMPURE_MODULES = {
    "aiohttp", "aiosqlite", "asyncio", "logging", "os", "pathlib", "random", "secrets", "shutil", "socket",
    "sqlite3", "subprocess", "tempfile", "threading", "time",
}  # fmt: skip
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__"}
MOST_LINES = 500
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "core"}
FACES_MAY_USE = {
    "cli/backup.py": {"coordinator.backup"},
    "cli/coordinate.py": {"coordinator.service"},
    "cli/be_agent.py": {"agent.service", "agent.state"},
    "cli/up_lines.py": {"agent.state", "coordinator.glance"},
    "cli/inner.py": {"child", "agent.sandbox"},
    "cli/demo_job.py": {"agent.sandbox.folders"},
    "cli/examination.py": {
        "agent.sandbox.folders",
        "agent.sandbox.probe",
        "agent.service.start_zygote",
    },
    "cli/leave.py": {"agent.probe.machine_hash"},
    "cli/mesh_checks.py": {"agent.probe.machine_hash"},
    "joblib.py": {"child.nested"},
    "dask.py": {"child.dask_security"},
}
"""The only faces that name a service other than the client."""
OWNERS = {
    "sqlite3": ("store/",),
    "aiosqlite": ("store/",),
    "zeroconf": ("discovery/",),
    "ssl": ("trust/",),
    "cryptography": ("trust/",),
    "spake2": ("trust/",),
    "textual": ("dashboard/",),
    "rich": ("cli/", "dashboard/"),
    "click": ("cli/",),
    "landlockpy": ("agent/sandbox/",),
    "aiohttp": (
        *("coordinator/", "agent/link.py", "agent/carrier.py", "client/", "blobs/transfer.py"),
        "dashboard/web/",
    ),
    "subprocess": ("agent/sandbox/", "agent/probe.py", "install/", "cli/demo_job.py"),
    "webbrowser": ("cli/dashboard_web.py",),
    "multiprocessing": (),
    "pickle": ("child/",),
    "marshal": (),
}
"""Which folders and files may import a driver."""
STARTERS = ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system", "popen", "startfile")
STARTER_PREFIXES = ("exec", "spawn")
SPAWNING = ("create_subprocess_exec", "create_subprocess_shell")
MAY_START = (*OWNERS["subprocess"], "cli/local_agent.py", "cli/demo_mesh.py", "child/apart.py")
"""The local agent and the demo's machines are processes of our own program; `apart` forks in a sandbox."""

# What is not as it should be yet: these lists may only shrink.

EXCEPTIONS: dict[str, set[str]] = {}
"""Rule → files that break it, each with a reason beside it."""
TESTED_ELSEWHERE = {
    "jobtypes/call_type.py": "jobtypes/test_python_type.py",
    "jobtypes/command.py": "jobtypes/test_types.py",
    "jobtypes/contract.py": "jobtypes/test_types.py",
    "jobtypes/script.py": "jobtypes/test_types.py",
    "model/clock.py": "mesh/test_mesh_nodes.py",
    "jobtypes/python.py": "jobtypes/test_python_type.py",
    "wire/python.py": "child/test_python_call.py",
    "wire/worker.py": "agent/sandbox/test_worker_attacks.py",
}


class Source(NamedTuple):
    """One file of the package; `path` is relative to the package, with slashes."""

    path: str
    text: str

    @property
    def room(self) -> str:
        first = self.path.split("/")[0]
        return first.removesuffix(".py")

    @property
    def tree(self) -> ast.Module:
        return _parse(self.text)

    @property
    def nodes(self) -> list[ast.AST]:
        return _walk(self.text)

    def is_in(self, places: tuple[str, ...]) -> bool:
        return any(
            self.path == place or (place.endswith("/") and self.path.startswith(place)) for place in places
        )


@cache
def _parse(text: str) -> ast.Module:
    # All of it stays: nothing for the collector, which would look through the whole package again and again.
    gc.disable()
    tree = ast.parse(text)
    gc.freeze()
    gc.enable()
    return tree


@cache
def _walk(text: str) -> list[ast.AST]:
    return list(ast.walk(_parse(text)))


@pytest.fixture(scope="module", autouse=True)
def _forget() -> Iterator[None]:
    """The trees take 100 MB; each process that a later test forks would begin with them."""
    yield
    _parse.cache_clear()
    _walk.cache_clear()


def _sources() -> list[Source]:
    package = ROOT / PACKAGE
    return [
        Source(path.relative_to(package).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted(package.rglob("*.py"))
    ]


SOURCES = _sources()


def imported(source: Source) -> Iterator[str]:
    """Full dotted names of everything a file imports, wherever in it; relative ones made absolute."""
    folder = (PACKAGE, *source.path.split("/")[:-1])
    for node in source.nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = list(folder[: len(folder) - node.level + 1]) if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in {"import_module", "__import__"}:
                yield str(node.args[0].value)


def inside(source: Source) -> Iterator[str]:
    """What a file imports of our own, without the package's name."""
    for name in imported(source):
        if name == PACKAGE or name.startswith(PACKAGE + "."):
            yield name.removeprefix(PACKAGE).lstrip(".")


# The rules


def imports_go_down(source: Source) -> Iterator[str]:
    if source.path in {"__init__.py", "__main__.py"}:
        return  # the front door hands out names on demand; its cheapness is tested below
    for name in inside(source):
        room = name.split(".")[0]
        if room in {"", "__version__"} or room == source.room:
            continue
        if room not in FLOOR or source.room not in FLOOR:
            yield f"{name}: no room of the house"
        elif FLOOR[room] > FLOOR[source.room]:
            yield f"{name}: imports go down only"
        elif FLOOR[room] == FLOOR[source.room]:
            yield from _sideways(source, name, room)
        elif room in COORDINATOR_ONLY and source.room != "coordinator":
            yield f"{name}: {room}/ belongs to the coordinator alone"
        elif FLOOR[source.room] == 4 and FLOOR[room] == 3 and room != "client":
            allowed = FACES_MAY_USE.get(source.path, set())
            if not any(name == each or name.startswith(each + ".") for each in allowed):
                yield f"{name}: a face uses client/ only"


def _sideways(source: Source, name: str, room: str) -> Iterator[str]:
    if FLOOR[room] > 0:
        if {source.room, room} not in ({"cli", "dashboard"}, {"cli", "install"}):
            yield f"{name}: rooms of one floor do not import each other"
        elif source.room != "cli":
            yield f"{name}: the command line opens the other faces, not they it"
    elif GROUND_ORDER.index(room) >= GROUND_ORDER.index(source.room):
        yield f"{name}: on the ground a file uses only those before it in {GROUND_ORDER}"


def pure_rooms_decide_only(source: Source) -> Iterator[str]:
    if source.room not in PURE and source.path not in PURE_FILES:
        return
    allowed = {"secrets"} if source.path == "model/ids.py" else set()
    for name in imported(source):
        if name.startswith("pathlib.Pure"):
            continue  # only text
        if (top := name.split(".")[0]) in IMPURE_MODULES - allowed:
            yield f"imports {top}"
    for node in source.nodes:
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncWith | ast.AsyncFor):
            yield f"line {node.lineno}: async"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            yield f"line {node.lineno}: calls {node.func.id}()"
        elif isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today"}:
            yield f"line {node.lineno}: reads a clock"


def each_driver_has_one_owner(source: Source) -> Iterator[str]:
    for name in imported(source):
        top = name.split(".")[0]
        if top == "ssl" and _only_names_a_context(source):
            continue
        if top in OWNERS and not source.is_in(OWNERS[top]):
            yield f"imports {top}, which belongs to {', '.join(OWNERS[top]) or 'nobody'}"


def _only_names_a_context(source: Source) -> bool:
    """A ready context is received and handed on; it is made in trust/."""
    if source.room not in {"coordinator", "agent", "client"} or "ssl.SSLContext" not in source.text:
        return False
    used = {
        node.attr
        for node in source.nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ssl"
    }
    made = any(isinstance(n, ast.Call) and "SSLContext" in ast.unparse(n.func) for n in source.nodes)
    return used == {"SSLContext"} and not made


def few_start_programs(source: Source) -> Iterator[str]:
    if source.is_in(MAY_START):
        return
    for node in source.nodes:
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        starts = node.attr in STARTERS or node.attr.startswith(STARTER_PREFIXES)
        if (owner == "os" and starts) or node.attr in SPAWNING:
            yield f"line {node.lineno}: starts a program by {node.attr}"
    for name in imported(source):
        module, _, what = name.rpartition(".")
        if module == "os" and (what in STARTERS or what.startswith(STARTER_PREFIXES)):
            yield f"imports os.{what}"


def no_file_is_too_long(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > MOST_LINES:
        yield f"{lines} lines; {MOST_LINES} is the limit"


def names_say_something(source: Source) -> Iterator[str]:
    for part in source.path.removesuffix(".py").split("/"):
        if part in BANNED_NAMES:
            yield f"'{part}' says nothing about what lives there"


def no_lost_tasks(source: Source) -> Iterator[str]:
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and node.attr in {"create_task", "ensure_future"}:
            owner = node.value
            loop = isinstance(owner, ast.Call) and "loop" in ast.unparse(owner.func)
            if loop or (isinstance(owner, ast.Name) and (owner.id == "asyncio" or "loop" in owner.id)):
                yield f"line {node.lineno}: a task without an owner"
    if any(name in {"asyncio.create_task", "asyncio.ensure_future"} for name in imported(source)):
        yield "imports create_task"


def errors_are_not_swallowed(source: Source) -> Iterator[str]:
    for node in source.nodes:
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
            if broad and all(isinstance(each, ast.Pass) for each in node.body):
                yield f"line {node.lineno}: swallows every error"


def modules_say_what_they_are(source: Source) -> Iterator[str]:
    if source.text.strip() and not ast.get_docstring(source.tree):
        yield "has no docstring"


Rule = Callable[[Source], Iterator[str]]
RULES: tuple[Rule, ...] = (
    imports_go_down,
    pure_rooms_decide_only,
    each_driver_has_one_owner,
    few_start_programs,
    no_file_is_too_long,
    names_say_something,
    no_lost_tasks,
    errors_are_not_swallowed,
    modules_say_what_they_are,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rules(rule: Rule):
    broken = {source.path: found for source in SOURCES if (found := list(rule(source)))}
    excepted = EXCEPTIONS.get(rule.__name__, set())
    unknown = {path: found for path, found in broken.items() if path not in excepted}
    assert not unknown, "\n".join(f"{path}: {'; '.join(found)}" for path, found in unknown.items())
    assert excepted <= broken.keys(), f"no longer needed as exceptions: {excepted - broken.keys()}"


BAD: tuple[tuple[Rule, str, str], ...] = (
    (imports_go_down, "wire/x.py", "from planetmesh.mesh import state"),
    (imports_go_down, "model/x.py", "import planetmesh.wire.codec"),
    (imports_go_down, "mesh/x.py", "from planetmesh.store.store import Store"),
    (imports_go_down, "mesh/x.py", "from planetmesh.jobtypes import registry"),
    (imports_go_down, "mesh/x.py", "from ..jobtypes import registry"),
    (imports_go_down, "coordinator/api/x.py", "from ...client import connect"),
    (imports_go_down, "agent/x.py", "from planetmesh.coordinator.engine import Engine"),
    (imports_go_down, "agent/x.py", "def f():\n    from planetmesh.client import calls"),
    (imports_go_down, "agent/x.py", "from planetmesh.mesh.state import MeshState"),
    (imports_go_down, "client/x.py", "import planetmesh.store.store"),
    (imports_go_down, "cli/x.py", "from planetmesh.mesh import fitness"),
    (imports_go_down, "cli/nodes.py", "from planetmesh.coordinator.service import serve"),
    (imports_go_down, "cli/coordinate.py", "from planetmesh.coordinator.engine import Engine"),
    (
        imports_go_down,
        "cli/x.py",
        "from importlib import import_module\nimport_module('planetmesh.agent.link')",
    ),
    (imports_go_down, "dashboard/x.py", "from planetmesh.cli import face"),
    (imports_go_down, "dashboard/x.py", "from planetmesh.install import systemd"),
    (imports_go_down, "errors.py", "from planetmesh.paths import Home"),
    (imports_go_down, "model/x.py", "from planetmesh.settings import Settings"),
    (imports_go_down, "cellar/x.py", "from planetmesh.model import job"),
    (imports_go_down, "cli/x.py", "from planetmesh.cellar import wine"),
    (pure_rooms_decide_only, "mesh/x.py", "import time"),
    (pure_rooms_decide_only, "mesh/x.py", "def f():\n    from random import random"),
    (pure_rooms_decide_only, "wire/x.py", "import os.path"),
    (pure_rooms_decide_only, "wire/x.py", "from pathlib import Path"),
    (pure_rooms_decide_only, "model/job.py", "import secrets"),
    (pure_rooms_decide_only, "model/x.py", "async def f(): pass"),
    (pure_rooms_decide_only, "jobtypes/x.py", "open('x')"),
    (pure_rooms_decide_only, "dashboard/rows.py", "import time"),
    (pure_rooms_decide_only, "mesh/x.py", "from datetime import datetime\ndatetime.now()"),
    (each_driver_has_one_owner, "coordinator/x.py", "import sqlite3"),
    (each_driver_has_one_owner, "agent/outbox.py", "from aiosqlite import connect"),
    (each_driver_has_one_owner, "client/x.py", "import ssl"),
    (each_driver_has_one_owner, "client/x.py", "import ssl\nssl.SSLContext(ssl.PROTOCOL_TLS)"),
    (each_driver_has_one_owner, "client/x.py", "import ssl\nssl.SSLContext()"),
    (each_driver_has_one_owner, "store/x.py", "import ssl\ndef f(x: ssl.SSLContext): pass"),
    (each_driver_has_one_owner, "discovery/x.py", "from cryptography import x509"),
    (each_driver_has_one_owner, "coordinator/x.py", "from zeroconf import Zeroconf"),
    (each_driver_has_one_owner, "coordinator/x.py", "from rich import print"),
    (each_driver_has_one_owner, "cli/x.py", "from textual.app import App"),
    (each_driver_has_one_owner, "agent/runner.py", "import aiohttp.web"),
    (each_driver_has_one_owner, "agent/runner.py", "import subprocess"),
    (each_driver_has_one_owner, "cli/run.py", "from subprocess import run"),
    (each_driver_has_one_owner, "coordinator/x.py", "import pickle"),
    (each_driver_has_one_owner, "dashboard/app.py", "import aiohttp"),
    (each_driver_has_one_owner, "cli/x.py", "import webbrowser"),
    (few_start_programs, "agent/runner.py", "import os\nos.fork()"),
    (few_start_programs, "cli/run.py", "import os\nos.execvpe('x', [], {})"),
    (few_start_programs, "cli/run.py", "from os import posix_spawn"),
    (few_start_programs, "coordinator/x.py", "import asyncio\nasyncio.create_subprocess_exec('x')"),
    (no_file_is_too_long, "mesh/x.py", "x = 1\n" * 501),
    (names_say_something, "mesh/utils.py", ""),
    (names_say_something, "core/x.py", ""),
    (no_lost_tasks, "agent/x.py", "import asyncio\nasyncio.create_task(f())"),
    (no_lost_tasks, "agent/x.py", "asyncio.get_running_loop().create_task(f())"),
    (no_lost_tasks, "agent/x.py", "from asyncio import ensure_future"),
    (errors_are_not_swallowed, "agent/x.py", "try:\n    f()\nexcept Exception:\n    pass"),
    (errors_are_not_swallowed, "agent/x.py", "try:\n    f()\nexcept:\n    pass"),
    (modules_say_what_they_are, "agent/x.py", "import asyncio"),
)
GOOD: tuple[tuple[Rule, str, str], ...] = (
    (imports_go_down, "coordinator/api/jobs.py", "from planetmesh.mesh import fitness\nfrom . import app"),
    (imports_go_down, "cli/coordinate.py", "from planetmesh.coordinator.service import serve"),
    (imports_go_down, "cli/x.py", "from planetmesh import __version__"),
    (imports_go_down, "cli/x.py", "from planetmesh.client import connect"),
    (imports_go_down, "cli/dash.py", "from planetmesh.dashboard.app import Dashboard"),
    (imports_go_down, "settings.py", "from planetmesh.errors import BadInput"),
    (pure_rooms_decide_only, "model/ids.py", "import secrets"),
    (pure_rooms_decide_only, "jobtypes/x.py", "from pathlib import PurePosixPath"),
    (pure_rooms_decide_only, "agent/x.py", "import time\nasync def f(): pass"),
    (each_driver_has_one_owner, "agent/link.py", "import aiohttp"),
    (each_driver_has_one_owner, "coordinator/x.py", "import ssl\ndef f(x: ssl.SSLContext): pass"),
    (each_driver_has_one_owner, "store/x.py", "import sqlite3"),
    (few_start_programs, "agent/sandbox/launcher.py", "import os\nos.fork()"),
    (few_start_programs, "store/x.py", "connection.execute('x'); cursor.executemany('x')"),
    (no_file_is_too_long, "mesh/x.py", "x = 1\n" * 500),
    (names_say_something, "store/database.py", ""),
    (no_lost_tasks, "agent/x.py", "group.create_task(f())"),
    (errors_are_not_swallowed, "agent/x.py", "try:\n    f()\nexcept OSError:\n    pass"),
    (modules_say_what_they_are, "agent/__init__.py", ""),
)  # fmt: skip


@pytest.mark.parametrize(("rule", "path", "text"), BAD, ids=lambda each: getattr(each, "__name__", None))
def test_each_rule_can_complain(rule: Rule, path: str, text: str):
    assert list(rule(Source(path, text)))


@pytest.mark.parametrize(("rule", "path", "text"), GOOD, ids=lambda each: getattr(each, "__name__", None))
def test_no_rule_complains_without_need(rule: Rule, path: str, text: str):
    assert list(rule(Source(path, text))) == []


def test_every_rule_was_shown_to_complain():
    assert {rule for rule, _path, _text in BAD} == set(RULES) == {rule for rule, _path, _text in GOOD}


# The mirror: each file of the pure rooms has its tests


def untested(paths: list[str], tests: set[str], elsewhere: dict[str, str]) -> list[str]:
    """Files without `tests/<room>/test_<name>.py` or `tests/<room>/test_<room>_<name>.py`."""
    missing = []
    for path in paths:
        room, _, name = path.rpartition("/")
        if name == "__init__.py" or (room.split("/")[0] not in PURE and path not in PURE_FILES):
            continue
        here = {f"{room}/test_{name}", f"{room}/test_{room}_{name}"}
        if not here & tests and elsewhere.get(path) not in tests:
            missing.append(path)
    return missing


def test_the_tests_mirror_the_pure_rooms():
    tests = {path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")}
    paths = [source.path for source in SOURCES]
    assert untested(paths, tests, TESTED_ELSEWHERE) == []
    needed = set(untested(paths, tests, {}))
    assert TESTED_ELSEWHERE.keys() <= needed, f"no longer needed: {TESTED_ELSEWHERE.keys() - needed}"


def test_the_mirror_can_complain():
    paths = ["mesh/state.py", "mesh/score.py", "mesh/__init__.py", "agent/link.py", "wire/api.py"]
    tests = {"mesh/test_state.py", "wire/test_wire_api.py"}
    assert untested(paths, tests, {}) == ["mesh/score.py"]
    assert untested(paths, tests, {"mesh/score.py": "mesh/test_state.py"}) == []
    assert untested(paths, tests, {"mesh/score.py": "mesh/test_gone.py"}) == ["mesh/score.py"]


def test_test_files_have_names_of_their_own():
    """Test folders are no packages, so two files of one name would hide each other."""
    names = [path.name for path in TESTS.rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))


# What an import costs

HEAVY = (
    "aiohttp", "aiosqlite", "asyncio", "click", "cryptography", "psutil", "rich", "spake2", "ssl", "textual",
    "zeroconf", "joblib", "distributed", "dask",
)  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    """Which heavy modules a fresh interpreter has after a statement."""
    script = f"import sys\n{statement}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True, timeout=30
    )
    return set(done.stdout.split())


def test_importing_the_package_is_cheap():
    assert loaded_by("import planetmesh") == set()


def test_the_pure_rooms_pull_in_no_network():
    rooms = (
        "planetmesh.mesh.reactor, planetmesh.mesh.nodes, planetmesh.wire.codec, planetmesh.jobtypes.registry"
    )
    assert loaded_by(f"import {rooms}") <= {"asyncio"}
    assert loaded_by("import planetmesh.mesh") == set()


def test_a_heavy_import_is_noticed():
    assert "asyncio" in loaded_by("import asyncio")
