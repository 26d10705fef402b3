"""The property list, and what is asked of `launchctl`, against a program that answers as it does.

On a Mac nobody has run this yet.
"""

from __future__ import annotations

import os
import plistlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.errors import BadInput, Conflict, ServiceFailed
from planetmesh.install.launchd import LABEL, USER_PATH, Launchd, property_list, read_order
from planetmesh.install.order import MARK, Order
from planetmesh.install.service import Commands

if os.name != "posix":
    pytest.skip("launchd is macOS's", allow_module_level=True)

ORDER = Order(("/opt/planetmesh/bin/planetmesh",), Path("/var/planetmesh"))
LOG = Path("/Library/Logs/planetmesh.log")
LAUNCHCTL = """#!/bin/sh
echo "$@" >> {folder}/said
if [ -e "{folder}/fail-$1" ]; then cat "{folder}/fail-$1" >&2; exit "$(cat {folder}/status)"; fi
case "$1 $2" in
"print "*/{label})
  [ -e {folder}/state ] || {{ echo 'Could not find service "{label}" in domain' >&2; exit 113; }}
  cat {folder}/state;;
"bootout "*) rm -f {folder}/state;;
"bootstrap "*) cp {folder}/fresh {folder}/state;;
esac
"""
RUNS = """\
gui/501/org.planetmesh.up = {
\tactive count = 1
\tstate = running

\targuments = {
\t\t/opt/planetmesh/bin/planetmesh
\t}

\truns = 1
\tpid = 4242
\tlast exit code = (never exited)

\tresource coalition = {
\t\tstate = active
\t\tpid = 7
\t}
}
"""
ENDED = RUNS.replace("state = running", "state = not running").replace("\tpid = 4242\n", "")
FAILED = ENDED.replace("(never exited)", "78: EX_CONFIG")


class World:
    """A folder of property lists and a launchctl."""

    def __init__(self, folder: Path, domain: str) -> None:
        self.folder, self.domain = folder, domain
        self.file = folder / "lists" / f"{LABEL}.plist"
        tool = folder / "bin" / "launchctl"
        tool.parent.mkdir()
        tool.write_text(LAUNCHCTL.format(folder=folder, label=LABEL))
        tool.chmod(0o755)
        (folder / "fresh").write_text(RUNS)
        commands = Commands({"PATH": f"{tool.parent}:/usr/bin:/bin"})
        self.launchd = Launchd(self.file.parent, folder / "log", commands, domain=domain)

    def answer(self, state: str) -> None:
        (self.folder / "state").write_text(state)

    def fail(self, command: str, status: int, text: str) -> None:
        (self.folder / f"fail-{command}").write_text(text)
        (self.folder / "status").write_text(str(status))

    def install(self, order: Order = ORDER) -> list[str]:
        """What launchctl was told, but for questions."""
        (self.folder / "said").write_text("")
        self.launchd.carry_out(self.launchd.plan(order, self.launchd.look()))
        return self.told()

    def told(self) -> list[str]:
        lines = (self.folder / "said").read_text().splitlines()
        return [line for line in lines if not line.startswith("print ")]


@pytest.fixture(params=["system", "gui/501"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(tmp_path, request.param)


def test_the_property_list() -> None:
    text = property_list(ORDER, LOG, is_for_all=True)
    assert MARK.encode() in text.split(b"<plist")[0]
    assert plistlib.loads(text) == {
        "Label": LABEL,
        "ProgramArguments": [
            "/opt/planetmesh/bin/planetmesh", "up", "--home", "/var/planetmesh", "--known",
        ],
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 30,
        "ExitTimeOut": 45,
        "Umask": 63,
        "StandardErrorPath": str(LOG),
    }  # fmt: skip


def test_only_a_user_has_folders_in_his_path_that_users_write() -> None:
    for is_for_all, path in ((True, None), (False, USER_PATH)):
        read = plistlib.loads(property_list(ORDER, LOG, is_for_all=is_for_all))
        assert read.get("EnvironmentVariables", {}).get("PATH") == path
    own = replace(ORDER, env=(("PATH", "/own"),))
    read = plistlib.loads(property_list(own, LOG, is_for_all=False))
    assert read["EnvironmentVariables"] == {"PATH": "/own"}


@given(
    st.text("ab /%$\"'\\\n\t;<>&]-!\u00e9", min_size=1, max_size=20),
    st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), st.text("a <&>\n'\"-"), max_size=3),
    st.booleans(),
)
def test_it_says_what_it_runs(name: str, env: dict[str, str], is_for_all: bool) -> None:
    order = Order(("/opt/a b/planetmesh", "-m"), Path("/srv") / name.replace("/", "_"), tuple(env.items()))
    assert read_order(property_list(order, LOG, is_for_all=is_for_all), is_for_all=is_for_all) == order


@pytest.mark.parametrize("name", ["a\rb", "a\x01b", "a\udcffb"])
def test_what_a_property_list_cannot_hold(name: str) -> None:
    with pytest.raises(BadInput, match="property list cannot hold"):
        property_list(replace(ORDER, home=Path(f"/srv/{name}")), LOG, is_for_all=True)


@pytest.mark.parametrize(
    "text", [b"", b"<plist", b"\xff", b"<plist><string>x</string></plist>", plistlib.dumps({}),
             plistlib.dumps({"ProgramArguments": ["x", "up"]})]
)  # fmt: skip
def test_what_cannot_be_read_is_no_order(text: bytes) -> None:
    assert read_order(text, is_for_all=True) is None


def test_the_first_time_it_is_written_and_loaded(world: World) -> None:
    target = f"{world.domain}/{LABEL}"
    assert world.install() == [f"enable {target}", f"bootstrap {world.domain} {world.file}"]
    assert world.file.stat().st_mode & 0o777 == 0o644
    state = world.launchd.look()
    assert (state.order, state.pid, state.word, state.is_active) == (ORDER, 4242, "running", True)


def test_the_second_time_nothing_is_done(world: World) -> None:
    world.install()
    assert world.install() == []


def test_a_change_is_loaded_once_the_old_one_is_gone(world: World) -> None:
    world.install()
    target = f"{world.domain}/{LABEL}"
    other = replace(ORDER, home=Path("/srv/mesh"))
    expected = [f"bootout {target}", f"enable {target}", f"bootstrap {world.domain} {world.file}"]
    assert world.install(other) == expected
    assert world.launchd.look().order == other


def test_one_that_ended_is_started(world: World) -> None:
    world.install()
    world.answer(ENDED)
    assert world.install() == [f"kickstart {world.domain}/{LABEL}"]
    assert not world.launchd.look().is_failing
    world.answer(FAILED)
    assert world.launchd.look().is_failing


def test_it_goes_away(world: World) -> None:
    world.install()
    world.launchd.remove()
    assert not world.file.exists()
    assert world.launchd.look().word == "not loaded"


def test_one_that_is_not_loaded_goes_away_too(world: World) -> None:
    world.install()
    (world.folder / "state").unlink()
    world.fail("bootout", 3, "Boot-out failed: 3: No such process")
    world.launchd.remove()
    assert not world.file.exists()


def test_what_cannot_be_stopped_stays(world: World) -> None:
    world.install()
    world.fail("bootout", 1, "Boot-out failed: 1: Operation not permitted")
    with pytest.raises(ServiceFailed, match="Operation not permitted"):
        world.launchd.remove()
    assert world.file.exists()


def test_a_refusal_is_told_in_its_own_words(world: World) -> None:
    world.fail("bootstrap", 5, "Bootstrap failed: 5: Input/output error")
    with pytest.raises(ServiceFailed, match=r"failed \(5\): Bootstrap failed: 5: Input/output error"):
        world.install()


def test_a_user_who_is_not_logged_in(world: World) -> None:
    world.launchd.check()
    world.fail("print", 113, "Could not find domain for user gui: 501")
    with pytest.raises(Conflict, match="Could not find domain"):
        world.launchd.check()


def test_what_somebody_else_made_is_not_ours(world: World) -> None:
    world.file.parent.mkdir()
    world.file.write_bytes(plistlib.dumps({"Label": LABEL}))
    state = world.launchd.look()
    assert (state.exists, state.is_ours, state.order) == (True, False, None)
