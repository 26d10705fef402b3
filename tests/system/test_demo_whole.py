"""The demo as a user runs it: the picture, a killed machine, and nothing left behind, also after Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from lan import REPOSITORY
from meshes import PROGRAM, wait_until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(240)]

DEMO_SECONDS = 200.0
WORK_FOLDERS = Path("/var/tmp")


def start(temporary: Path, *options: str) -> subprocess.Popen[str]:
    """Its own temporary folder, so that what is left can be told from others' files."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(temporary)}
    return subprocess.Popen(
        [*PROGRAM, "demo", *options],
        env=env,
        cwd=temporary.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def running_in(temporary: Path) -> list[str]:
    """Programs whose command line names the demo's folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if str(temporary) in line:
            found.append(line)
    return found


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def test_the_picture_and_nothing_else(temporary: Path) -> None:
    from PIL import Image

    before = set(WORK_FOLDERS.glob("planetmesh-*"))
    demo = start(temporary, "--json", "--size", "960x600", "-o", "picture.png")
    out, error = demo.communicate(timeout=DEMO_SECONDS)
    assert demo.returncode == 0, error
    summary = json.loads(out)
    assert summary["complete"]
    assert summary["killed"] in error
    assert sum(summary["by_node"].values()) == summary["tiles"]
    with Image.open(temporary.parent / "picture.png") as image:
        assert image.size == (960, 600)
        assert len(image.getcolors(960 * 600) or ()) > 10_000
    assert not list(temporary.iterdir())
    assert running_in(temporary) == []
    # Other tests may have made some meanwhile; ours are gone within the demo.
    names = {path.name for path in set(WORK_FOLDERS.glob("planetmesh-*")) - before}
    assert not [name for name in names if name in error]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_nothing(temporary: Path, number: signal.Signals) -> None:
    demo = start(temporary, "--size", "1600x1000", "-o", "picture.png")
    try:
        wait_until(lambda: len(running_in(temporary)) >= 8, 60)
        time.sleep(1)
        demo.send_signal(number)
        assert demo.wait(60) == 130
        wait_until(lambda: running_in(temporary) == [], 60)
        assert not list(temporary.iterdir())
        assert not (temporary.parent / "picture.png").exists()
    finally:
        demo.kill()
        demo.communicate()


def test_its_machines_die_with_it(temporary: Path) -> None:
    demo = start(temporary, "--size", "1600x1000", "-o", "picture.png")
    try:
        wait_until(lambda: len(running_in(temporary)) >= 8, 60)
    finally:
        demo.kill()
        demo.communicate()
    wait_until(lambda: running_in(temporary) == [], 60)
