"""What a mesh in use leaves lying around: modes, process lists, logs; and what a task gets at (T34, T40)."""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from meshes import Machine, free_port, wait_until

from planetmesh.agent.sandbox import landlock
from planetmesh.paths import Home, work_root

pytestmark = pytest.mark.system
SECRET = f"hunter2-{secrets.token_hex(8)}"
ARGUMENT = f"argument-{secrets.token_hex(8)}"
"""Of this test process alone: on the command lines of the one beside it stand its own."""
NAP = f"321.{secrets.randbelow(10**9):09}"
needs_sandbox = pytest.mark.skipif(
    os.geteuid() != 0 or landlock.supported_abi() < 6, reason="no full sandbox here"
)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Machine]:
    """A coordinator with its agent beside it, as the first machine of a mesh is."""
    machine = Machine(tmp_path / "desk")
    try:
        machine.up("--new", "--no-mdns", "--bind", "127.0.0.1", "--port", free_port(), "--name", "desk")
        wait_until(lambda: "HEALTHY" in machine.call("nodes").out, 60, lambda: machine.log)
        yield machine
    finally:
        machine.close()


def below(folder: Path) -> list[Path]:
    return [Path(top) / name for top, folders, files in os.walk(folder) for name in (*folders, *files)]


@needs_sandbox
def test_a_mesh_in_use_leaves_no_secret_where_others_can_read_it(desk, tmp_path):
    code = desk.code()["code"]
    assert desk.call("run", "--env", f"TOKEN={SECRET}", "--", "sh", "-c", f"echo {ARGUMENT}").status == 0
    running = desk.call("run", "--detach", "--env", f"TOKEN={SECRET}", "--", "sleep", "60").out.strip()
    wait_until(lambda: desk.json("job", running)["tasks"]["running"] == 1, 60)

    open_to_others = [p for p in [desk.home, *below(desk.home)] if others_may(p)]
    assert list(map(str, open_to_others)) == []

    titles = {pid: read(f"/proc/{pid}/cmdline") + read(f"/proc/{pid}/comm") for pid in processes()}
    for word in (code, code.replace("-", ""), SECRET):
        assert [pid for pid, title in titles.items() if word.encode() in title] == []

    said = [desk.log.encode(), *(read(str(path)) for path in below(Home(desk.home).logs) if path.is_file())]
    for word in (code, SECRET, ARGUMENT):
        assert not any(word.encode() in text for text in said)
    assert code not in desk.call("--json", "audit").out
    for path in below(desk.home):
        if path.is_file() and not path.name.startswith(("mesh.db", "outputs.db")):
            content = read(str(path))
            assert SECRET.encode() not in content, path
            assert code.encode() not in content, path
    desk.call("cancel", running)


@needs_sandbox
def test_no_log_of_any_process_holds_a_secret(tmp_path):
    """With every line written: debug too, on both machines, in both forms."""
    desk, shelf = (Machine(tmp_path / name, program_options=("-v",)) for name in ("desk", "shelf"))
    logs = {name: tmp_path / f"{name}.jsonl" for name in ("desk", "shelf")}
    port = free_port()
    here = ("--no-mdns", "--bind", "127.0.0.1")
    try:
        desk.up("--new", *here, "--port", port, "--name", "desk", "--log-file", str(logs["desk"]))
        window = desk.code()
        code = window["code"]
        join_at = ("--join", f"127.0.0.1:{port}", "--name", "shelf")
        shelf.up(*join_at, *here, "--log-file", str(logs["shelf"]), code=code)
        task = f"echo {ARGUMENT} $TOKEN; echo {ARGUMENT} >&2; exit $1"
        for status, node in (("0", "desk"), ("1", "shelf")):
            argv = ("--env", f"TOKEN={SECRET}", "--node", node, "--retries", "0")
            desk.call("run", *argv, "--", "sh", "-c", task, "sh", status)
        missing = ("--env", f"TOKEN={SECRET}", "--retries", "0", "--", f"no-such-{ARGUMENT}", ARGUMENT)
        assert desk.call("run", *missing).status != 0
    finally:
        for machine in (shelf, desk):
            machine.close()
    written = {*logs.values(), tmp_path / "desk.jsonl.agent"}
    said = {path: path.read_text() for path in written} | {"desk": desk.log, "shelf": shelf.log}
    assert "task.failed" in said[logs["shelf"]]
    assert "task.accepted" in said[tmp_path / "desk.jsonl.agent"]
    keys = [path.read_text().split("\n")[1] for path in below(tmp_path) if path.name == "key.pem"]
    assert len(keys) >= 4
    for word in (code, code.replace("-", ""), code.split("-", 1)[1], SECRET, ARGUMENT, *keys):
        assert [str(place) for place, text in said.items() if word in text] == []
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in written)
    events = {json.loads(line)["event"] for path in written for line in path.read_text().splitlines()}
    wanted = {"member.enrolled", "node.registered", "job.submitted", "job.ended", "task.assigned", "link.up"}
    assert wanted <= events


def others_may(path: Path) -> bool:
    """Group and others have rights on it; sockets and the lock count too. Not on what has gone meanwhile."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISLNK(mode) and bool(stat.S_IMODE(mode) & 0o077)


def processes() -> list[str]:
    return [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


STEAL = r"""
home="$1"; agent="$2"
for f in $(cat /proc/self/mounts >/dev/null; echo authority/key.pem operator/key.pem coordinator/key.pem \
    local-agent/agent/key.pem mesh.db outputs.db mesh.db-wal local-agent/outbox role.json); do
  cat "$home/$f" 2>/dev/null && echo "GOT $f"
  cat "/proc/$agent/root$home/$f" 2>/dev/null && echo "GOT $f by root"
  ln "$home/$f" ./stolen 2>/dev/null && echo "GOT $f by link"
done
ls "$home" 2>/dev/null && echo "GOT the home"
for p in $agent $PPID $(ls /proc | grep -E '^[0-9]+$'); do
  test "$p" = "$$" && continue
  # Agents of other tests run beside us, and those of their tasks that have our user.
  case "$(tr '\0' ' ' < /proc/$p/cmdline 2>/dev/null)" in *"--home $home"*) ;; *--home*) continue;; esac
  case "$(tr '\0' ' ' < /proc/$p/cmdline 2>/dev/null)" in *planetmesh*)
    head -c 1 /proc/$p/environ >/dev/null 2>&1 && echo "GOT environ of $p"
    head -c 1 /proc/$p/maps 2>/dev/null | grep -q . && echo "GOT maps of $p"
    (ls /proc/$p/fd/ 2>/dev/null) | grep -q . && echo "GOT fds of $p"
    test "$p" != "$PPID" && kill -0 $p 2>/dev/null && echo "GOT a signal to $p";;
  esac
done
echo tried
"""


@needs_sandbox
def test_a_task_beside_the_coordinator_gets_at_no_key(desk):
    assert desk.process is not None
    said = desk.call("run", "--", "sh", "-c", STEAL, "sh", str(desk.home), str(desk.process.pid))
    assert said.out == "tried\n", said.out + said.error


@needs_sandbox
def test_a_task_that_stops_its_launcher_is_lost_and_leaves_nothing(desk):
    job = desk.call("run", "--detach", "--", "sh", "-c", f"kill -STOP $PPID; exec sleep {NAP}").out.strip()
    wait_until(lambda: "launcher.lost" in desk.log, 60, lambda: desk.log)
    desk.call("cancel", job)
    wait_until(lambda: not sleeping(), 60)


def sleeping() -> list[str]:
    return [pid for pid in processes() if f"sleep\0{NAP}".encode() in read(f"/proc/{pid}/cmdline")]


@needs_sandbox
@pytest.mark.parametrize("key", ["authority", "operator"])
def test_a_key_that_others_could_read_is_refused_with_a_way_out(desk, key):
    desk.stop()
    path = next((desk.home / key).glob("key.pem"))
    path.chmod(0o644)
    options = ("--no-mdns", "--bind", "127.0.0.1", "--port", free_port())
    desk.begin(*options)
    assert desk.process.wait(60) != 0
    said = desk.log + desk._events.read_text()
    assert "can be used by other users" in said
    assert "chmod go=" in said
    path.chmod(0o600)


@needs_sandbox
def test_a_damaged_database_is_refused_with_a_way_out(desk):
    desk.stop()
    database = Home(desk.home).database
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8192))
    desk.begin("--no-mdns", "--bind", "127.0.0.1", "--port", free_port())
    assert desk.process.wait(60) != 0
    said = desk.log + desk._events.read_text()
    assert "is damaged" in said
    assert "Traceback" not in said


def test_nothing_of_root_stays_in_the_shared_folder(desk):
    place = work_root(Home(Home(desk.home).local_agent))
    assert desk.call("run", "--", "true").status == 0
    desk.stop()
    assert not place.exists()
