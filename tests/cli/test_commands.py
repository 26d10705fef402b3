"""All the other commands against a real TLS server: what they print in each form, and their exit status."""

from __future__ import annotations

import shutil

import pytest
from api_double import AT, Does, Double

from planetmesh.model.identity import Role
from planetmesh.trust.identity import Identity

HOSTILE = "\x1b]52;c;AAAA\x07\x9b31m\u202e[red]x[/]\n\x00" + "宽" * 10_000
JOB_KEYS = {
    "id", "name", "type", "status", "priority", "submitter", "created_at", "started_at", "completed_at",
    "tasks",
}  # fmt: skip
TASK_KEYS = {
    "id", "job_id", "index", "status", "node", "attempts", "exit_code", "started_at", "finished_at",
    "last_error", "payload", "node_id",
}  # fmt: skip
NODE_KEYS = {
    "id", "name", "state", "cpus", "memory_bytes", "gpus", "tags", "running", "load", "rtt_ms", "reliability",
    "last_heartbeat_at", "draining", "sandbox", "version",
}  # fmt: skip


def test_status_of_a_mesh(say, double: Double, home) -> None:
    said = say("status", "--json")
    assert said.status == 0
    assert {"mesh", "node", "role", "coordinator", "reachable", "nodes", "jobs"} <= said.json.keys()
    assert said.json["reachable"] is True
    known = Identity.load(home.operator).membership
    assert (said.json["node"], said.json["coordinator"]) == (known.name, known.endpoints[0])
    assert "mesh         home" in say("status").text


def test_status_without_an_identity(say, double: Double, home) -> None:
    shutil.rmtree(home.operator)
    said = say("status", "--json")
    assert said.status == 3
    assert said.json == {
        "mesh": None, "node": None, "role": None, "coordinator": None, "reachable": False, "nodes": {},
        "jobs": {},
    }  # fmt: skip
    assert "planetmesh up" in say("status").error


def test_status_on_a_machine_that_only_runs_tasks_points_to_login(say, double: Double, home) -> None:
    double.member(home.agent, Role.AGENT)
    shutil.rmtree(home.operator)
    said = say("status", "--json")
    assert (said.status, said.json["mesh"], said.json["role"]) == (3, "home", "agent")
    assert "planetmesh login" in say("status").error


def test_status_of_a_mesh_that_is_gone(say, double: Double, home, monkeypatch) -> None:
    monkeypatch.setattr("planetmesh.cli.face.FIND_SECONDS", 0.2)
    for file in home.operator.glob("mesh.json"):
        file.write_bytes(file.read_bytes().replace(str(double.port).encode(), b"1"))
    said = say("status", "--json")
    assert said.status == 3
    assert (said.json["mesh"], said.json["reachable"]) == ("home", False)


def test_status_waits_for_a_node_and_gives_up(say, double: Double, monkeypatch) -> None:
    assert say("status", "--wait", "--timeout", "5s").status == 0

    async def nobody(request):
        from api_double import _json

        from planetmesh.wire.api import MeshStatus

        return _json(
            MeshStatus(
                mesh="home", mesh_id="0" * 32, coordinator="c", version="1", role="operator", node="me",
                nodes={"OFFLINE": 1}, jobs={},
            )
        )  # fmt: skip

    monkeypatch.setattr(double, "_get_status", nobody)
    said = say("status", "--wait", "--timeout", "0.3s")
    assert said.status == 3
    assert "no HEALTHY node" in said.error


def test_jobs_and_job_and_tasks(say, double: Double) -> None:
    assert say("jobs", "--json").json == []
    double.plan = lambda spec, index: Does(exit_code=index, outcome="exit_code" if index else "ok")
    say("run", "--name", "pair", "x", "{}", ":::", "a", "b")
    (job_id,) = double.jobs
    listed = say("jobs", "--json").json
    assert listed[0].keys() >= JOB_KEYS
    assert listed[0]["tasks"]["failed"] == 1
    table = say("jobs").text
    assert table.splitlines()[0].split() == ["JOB", "NAME", "STATUS", "TASKS", "CREATED", "TIME"]
    assert job_id in table
    assert "2/2, 1 failed" in table
    assert say("jobs", "-q").text == f"{job_id}\n"

    sheet = say("job", "last").text
    assert "command    x '{}'" in sheet
    assert say("job", job_id[:6], "--json").json["id"] == job_id
    tasks = say("job", "last", "--tasks", "--json").json
    assert [task["status"] for task in tasks] == ["COMPLETED", "FAILED"]
    assert tasks[0].keys() >= TASK_KEYS
    assert say("job", "last", "--tasks", "--failed", "-q").text == f"{job_id}/1\n"
    assert "exit code 1" in say("job", "last", "--tasks").text
    assert say("job", f"{job_id[:6]}/1", "--json").json["id"] == f"{job_id}/1"
    assert "input      b" in say("job", "last/1").text


def test_wait_says_how_they_ended(say, double: Double) -> None:
    double.plan = lambda spec, index: Does(exit_code=0 if spec.name == "good" else 1, seconds=0.2)
    good = say("run", "--detach", "--name", "good", "x").text.strip()
    bad = say("run", "--detach", "--name", "bad", "x").text.strip()
    assert say("wait", good).status == 0
    said = say("wait", good, bad, "--json")
    assert said.status == 1
    assert [job["status"] for job in said.json] == ["COMPLETED", "FAILED"]
    double.hold = True
    say("run", "--detach", "x")
    said = say("wait", "last", "--timeout", "0.2s")
    assert said.status == 1
    assert "0.2s" in said.error


def test_cancel(say, double: Double) -> None:
    double.hold = True
    job_id = say("run", "--detach", "x").text.strip()
    assert say("cancel", job_id, "nothing").status == 5
    assert double.jobs[job_id].cancelled is None
    said = say("cancel", job_id, "--reason", "wrong input")
    assert (said.status, said.text) == (0, f"Job {job_id} is cancelled.\n")
    assert double.jobs[job_id].cancelled == "wrong input"
    said = say("cancel", job_id, "--json")
    assert said.status == 2
    assert said.json["error"]["code"] == "conflict"


def test_logs(say, double: Double) -> None:
    double.order = [1, 0]
    double.plan = lambda spec, index: Does(pieces=((1, b"out %d\xff\n" % index), (2, b"err %d\n" % index)))
    say("run", "x", ":::", "a", "b")
    said = say("logs", "last")
    assert said.out == b"out 0\xff\nout 1\xff\n"
    assert said.error == "err 0\nerr 1\n"
    (job_id,) = double.jobs
    assert say("logs", f"{job_id}/1").out == b"out 1\xff\n"
    assert say("logs", "last", "-f").out == b"out 1\xff\nout 0\xff\n"
    assert say("logs", f"{job_id}/2").status == 2
    assert say("logs", f"{job_id}/x").status == 2
    assert say("logs", "nothing").status == 5


def test_nodes_and_node(say, double: Double) -> None:
    listed = say("nodes", "--json").json
    assert listed[0].keys() >= NODE_KEYS
    assert say("nodes").text.split("\n")[1].split()[:2] == ["desk", "HEALTHY"]
    assert say("nodes", "-q").text == "desk\n"
    assert say("node", "drain", "desk", "--now").text.startswith("desk gets no new work")
    assert say("nodes").text.split("\n")[1].split()[:2] == ["desk", "draining"]
    assert say("node", "resume", "desk", "--json").json["draining"] is False
    assert say("node", "tag", "desk", "gpu", "big").text == "desk has the tags: gpu, big.\n"
    assert say("node", "tag", "desk").text == "desk has the tags: none.\n"
    assert say("node", "rename", "desk", "attic", "-q").text == "attic\n"
    assert say("node", "revoke", "attic").status == 0
    said = say("node", "forget", "attic")
    assert (said.status, said.error) == (
        2, "error: attic is HEALTHY.\nhint: First: planetmesh node revoke attic\n",
    )  # fmt: skip
    assert say("node", "drain", "nobody").status == 5


def test_submit_from_a_file(say, double: Double, tmp_path) -> None:
    double.hold = True
    (tmp_path / "items.txt").write_text("a\n\nb\r\n")
    job = tmp_path / "job.toml"
    job.write_text(
        'command = ["convert", "{}", "-resize", 50]\nlines = "items.txt"\nname = "thumbs"\ncpus = 2\n'
        'memory = "1g"\ntimeout = "5m"\nmax-running = 3\nretries = 0\nenv = { LEVEL = 3 }\ntags = ["fast"]\n'
    )
    said = say("submit", str(job))
    spec = double.jobs[said.text.strip()].spec
    assert spec.payload == {"argv": ["convert", "{}", "-resize", "50"]}
    assert spec.inputs.items == ("a", "b")
    assert (spec.requests.cpu_millis, spec.max_running, spec.max_attempts) == (2000, 3, 1)
    assert (spec.env, spec.tags, spec.limits.attempt_seconds) == ({"LEVEL": "3"}, ("fast",), 300)
    assert say("submit", str(job), "--dry-run").status == 0
    assert len(double.jobs) == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('comand = "x"', "Did you mean 'command'?"),
        ('command = "x"\nmaxrunning = 2', "Did you mean 'max-running'?"),
        ("", "needs either"),
        ('command = "x"\nscript = "y"', "needs either"),
        ('command = "x"\ncpus = true', "'cpus' must be"),
        ('command = "x"\nretries = "many"', "'retries' must be a whole number"),
        ('command = "x"\nmax-running = 0', "at least 1"),
        ('command = "x"\ninputs = []', "empty"),
        ('command = "x"\ninputs = [[1]]', "texts and numbers only"),
        ('command = "x"\ninputs = ["a"]\nrange = "1..2"', "one place only"),
        ("command = ", "not TOML"),
        ("\xff", "not TOML"),
    ],
)
def test_a_wrong_job_file_is_refused(say, tmp_path, content, sentence) -> None:
    job = tmp_path / "job.toml"
    job.write_bytes(content.encode("latin-1"))
    said = say("submit", str(job))
    assert said.status == 2
    assert sentence in said.error


def test_no_text_from_the_mesh_reaches_the_terminal_as_a_command(say, double: Double) -> None:
    import msgspec

    double.node = msgspec.structs.replace(double.node, name=HOSTILE, tags=(HOSTILE,), note=HOSTILE)
    double.plan = lambda spec, index: Does(exit_code=1, error=HOSTILE, node=HOSTILE)
    double.hold = False
    say("run", "--name", HOSTILE, "x", ":::", HOSTILE.replace("\x00", ""))
    for command in (
        ["nodes"], ["jobs"], ["job", "last"], ["job", "last", "--tasks"], ["node", "tag", "", "x"],
        ["cancel", HOSTILE],
        ["run", "--tag", HOSTILE, "x", ":::", "a"], ["jobs", "--json"], ["nodes", "--json"], ["nodes", "-q"],
    ):  # fmt: skip
        said = say(*command)
        shown = said.out + said.error.encode()
        for forbidden in ("\x1b", "\x9b", "\x07", "\x00", "\u202e"):
            assert forbidden.encode() not in shown, command
        if command == ["jobs"]:
            assert len(shown.splitlines()) == 2


def test_times_are_shown_in_words(say, double: Double) -> None:
    say("run", "x")
    assert "5.0 s" in say("jobs").text
    assert AT in say("jobs", "--json").text
