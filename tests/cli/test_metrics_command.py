"""`metrics` and `audit` against the real coordinator; the dashboard for Grafana asks for what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import planetmesh

REPOSITORY = Path(planetmesh.__file__).parent.parent


def test_metrics_for_people_programs_and_prometheus(say, coordinator: None) -> None:
    assert "planetmesh_jobs_submitted_total 0.0\n" in say("metrics").text
    samples = {each["name"]: each for each in say("metrics", "--json").json}
    assert samples["planetmesh_mesh_info"]["labels"]["mesh"] == "den"
    assert say("metrics", "-q").out == b""
    said = say("metrics", "--scrape-config")
    assert "scheme: https" in said.text
    assert re.search(r"server_name: [0-9a-f]{32}\.planetmesh\n", said.text)
    assert "operator's credential" in said.error
    for name in ("ca.pem", "cert.pem", "key.pem"):
        path = re.search(rf"_file: (.*{name})", said.text)
        assert path is not None
        assert Path(path[1]).is_file()


def test_audit_says_who_did_what(say, coordinator: None) -> None:
    job_id = say("run", "--detach", "true").text.strip()
    say("cancel", job_id, "--reason", "wrong \x1b[31minput")
    rows = say("audit", "--json").json
    assert [(row["action"], row["object"], row["who"]) for row in rows[:2]] == [
        ("cancel", job_id, "operator on den"),
        ("submit", job_id, "operator on den"),
    ]
    shown = say("audit").text
    assert "operator on den" in shown
    assert "\x1b" not in shown
    assert [row["action"] for row in say("audit", "--action", "submit", "--json").json] == ["submit"]
    assert len(say("audit", "--limit", "1", "--json").json) == 1
    assert say("audit", "--limit", "0").status == 2


def test_logs_wants_a_job_or_the_mesh(say, coordinator: None) -> None:
    assert "--mesh" in say("logs").error
    assert say("logs").status == say("logs", "last", "--mesh").status == 2


def test_what_grafana_shows_is_there_and_what_is_there_is_documented(say, coordinator: None) -> None:
    text = say("metrics").text
    families = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    dashboard = json.loads((REPOSITORY / "packaging" / "grafana.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"planetmesh_\w+", target["expr"])
    }
    assert asked
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in asked} <= families
    # What has no panel is named here.
    shown = {re.sub("_(bucket|count|sum)$", "", name) for name in asked}
    assert families - shown == {
        "planetmesh_mesh_info", "planetmesh_blobs", "planetmesh_engine_happenings_total",
        "planetmesh_feed_bytes", "planetmesh_feed_events",
    }  # fmt: skip
    documented = set(re.findall(r"`(planetmesh_\w+)`", (REPOSITORY / "docs" / "metrics.md").read_text()))
    assert documented == families


def test_grafanas_panels_lie_side_by_side() -> None:
    panels = json.loads((REPOSITORY / "packaging" / "grafana.json").read_text())["panels"]
    taken = [
        (panel["gridPos"]["x"] + right, panel["gridPos"]["y"] + down)
        for panel in panels
        for right in range(panel["gridPos"]["w"])
        for down in range(panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert all(x < 24 for x, _y in taken)
    assert len({panel["id"] for panel in panels}) == len(panels)
