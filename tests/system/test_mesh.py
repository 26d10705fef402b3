"""The first mesh as a stranger meets it: three machines, a code, and work on all of them."""

from __future__ import annotations

import time

import pytest
from fleet import Fleet, Watched
from meshes import Machine, wait_until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(240)]

RAW = bytes(range(256))


@pytest.fixture
def home_mesh(fleet: Fleet, make_lan, tmp_path) -> Fleet:
    """`up` on three hosts of one LAN: the first founds, the others find it by mDNS and pair."""
    fleet.lan = make_lan(3)
    fleet.desk = Machine(tmp_path / "desk", lan=fleet.lan, host="h1")
    fleet.desk.up("--name", "desk")
    for name, host in (("shelf", "h2"), ("attic", "h3")):
        machine = fleet.agents[name] = Machine(tmp_path / name, lan=fleet.lan, host=host)
        code = fleet.desk.code()["code"]
        entered = time.monotonic()
        machine.up("--name", name, code=code)
        registered = time.monotonic() - entered
        wait_until(lambda: fleet.desk.nodes()[name]["state"] == "HEALTHY", 60, fleet.tell)  # noqa: B023
        healthy = time.monotonic() - entered
        print(
            f"{name}: registered {registered:.1f} s, shown HEALTHY {healthy:.1f} s after start with the code"
        )
    return fleet


def test_three_machines_do_real_work(home_mesh: Fleet) -> None:
    desk = home_mesh.desk
    wait_until(
        lambda: [node["state"] for node in desk.nodes().values()] == ["HEALTHY"] * 3, 40, home_mesh.tell
    )

    began = time.monotonic()
    inputs = [str(number) for number in range(200)]
    said = desk.call("run", "sh", "-c", "echo task {}; sleep 0.2", ":::", *inputs, seconds=60)
    assert said.status == 0, said.error
    print(f"200 tasks of 0.2 s: {time.monotonic() - began:.1f} s")
    assert sorted(said.out.split("\n")[:-1]) == sorted(f"task {each}" for each in inputs)
    (job,) = desk.json("jobs")
    tasks = home_mesh.assert_all_completed(job["id"], 200)
    share = {name: sum(task["node"] == name for task in tasks) for name in ("desk", "shelf", "attic")}
    print(f"by node: {share}")
    assert all(share.values()), share


def test_run_is_the_command_itself(home_mesh: Fleet) -> None:
    """Streams as they come, byte for byte, and the command's own exit status."""
    desk = home_mesh.desk
    stream = Watched(desk, ("--node", "attic", "sh", "-c", "echo first; sleep 3; echo second"))
    try:
        wait_until(lambda: stream.out == b"first\n", 60, lambda: stream.error)
        assert stream.process.poll() is None
        assert stream.wait(60) == 0
        assert stream.out == b"first\nsecond\n"
    finally:
        stream.close()
    for command, status in (("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("true", 0)):
        assert desk.call("run", "sh", "-c", command).status == status, command
    octal = "".join(f"\\{byte:03o}" for byte in RAW)
    raw = Watched(desk, ("--", "sh", "-c", f"printf '{octal}'; printf '{octal}' >&2; exit 3"))
    try:
        assert raw.wait(60) == 3
        assert raw.out == RAW
        assert raw.error_bytes == RAW
    finally:
        raw.close()
