"""A real Prometheus reads us over mutual TLS, sure whom it asks, with a viewer's credential and no more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from meshes import Machine, free_port, wait_until

TOOLS = Path(sys.prefix) / "prometheus" / "usr" / "bin"


def tool(name: str) -> str | None:
    return shutil.which(name, path=f"{TOOLS}{os.pathsep}{os.environ.get('PATH', '')}")


pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not tool("prometheus"), reason="no Prometheus here (.ci/run unpacks one)"),
]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "desk")
    try:
        machine.up(
            *("--new", "--no-mdns", "--bind", "127.0.0.1", "--port", free_port(), "--name", "desk"),
            *("--cpus", "2"),
        )
        yield machine
        print(machine.log[-5000:])
    finally:
        machine.kill()
        machine.close()


class Scraper:
    """Prometheus on loopback."""

    def __init__(self, folder: Path, config: str) -> None:
        self._port = free_port()
        self.log = folder / "prometheus.log"
        folder.mkdir()
        (folder / "prometheus.yml").write_text(f"global: {{scrape_interval: 1s}}\n{config}")
        program = tool("prometheus")
        assert program is not None
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=log,
                stderr=log,
            )

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}", timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            return {}

    def target(self) -> dict[str, Any]:
        targets = self._get("targets").get("activeTargets") or [{}]
        return dict(targets[0])

    def value(self, query: str) -> float | None:
        found = self._get(f"query?query={quote(query)}").get("result") or []
        return float(found[0]["value"][1]) if found else None

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(60)


def test_prometheus_scrapes_the_coordinator(desk: Machine, tmp_path: Path) -> None:
    viewer = Machine(tmp_path / "viewer")
    where = f"127.0.0.1:{next(each['port'] for each in desk.events if each.get('event') == 'up')}"
    code = desk.code("--role", "viewer")["code"]
    said = viewer.call("login", "--role", "viewer", "--join", where, "--code-stdin", stdin=code)
    assert said.status == 0, said.error
    assert desk.call("run", "true", ":::", "a", "b").status == 0

    config = viewer.call("metrics", "--scrape-config")
    assert (config.status, config.error) == (0, "")
    scraper = Scraper(tmp_path / "prometheus", config.out)
    try:
        wait_until(lambda: scraper.target().get("health") == "up", 60, lambda: scraper.log.read_text())
        wait_until(lambda: scraper.value('planetmesh_node_up{node="desk"}') == 1, 60)
        wait_until(lambda: scraper.value('planetmesh_tasks_ended_total{status="COMPLETED"}') == 2, 60)
        wait_until(lambda: scraper.value("planetmesh_job_seconds_count") == 1, 60)
        assert desk.call("run", "true").status == 0
        wait_until(lambda: scraper.value('planetmesh_tasks_ended_total{status="COMPLETED"}') == 3, 60)
    finally:
        scraper.close()

    wrong = Scraper(tmp_path / "wrong", config.out.replace("server_name: ", "server_name: not-"))
    try:
        # On a busy machine the first try may just take too long, and be down for that.
        words = "x509: certificate is not valid for"
        wait_until(lambda: words in wrong.target().get("lastError", ""), 60, lambda: f"{wrong.target()}")
        assert wrong.target().get("health") == "down"
    finally:
        wrong.close()


def test_the_form_is_what_promtool_asks_for(desk: Machine) -> None:
    desk.call("run", "true")
    promtool = tool("promtool")
    assert promtool is not None
    text = desk.call("metrics").out
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
