"""What a task can and cannot reach: real files, real kernel (abuse test T34)."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from planetmesh.agent.sandbox import folders, landlock, views
from planetmesh.agent.sandbox.messages import LauncherSpec, Share, Why
from planetmesh.agent.sandbox.probe import Tier, measure_tier
from planetmesh.errors import BadInput, NotAllowed

needs_landlock = pytest.mark.skipif(not landlock.supported_abi(), reason="this kernel has no Landlock")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")


@pytest.fixture
def home(ground: Path) -> Path:
    """A state directory that file modes alone would show to everybody."""
    found = ground / "state"
    found.mkdir()
    (found / "key").write_text("secret")
    for path in (found, found / "key"):
        path.chmod(0o755)
    return found


@needs_landlock
async def test_the_state_directory_is_out_of_sight(open_job, home):
    job = await open_job(hidden=(str(home),))
    end = await job.shell(
        f"cat {home}/key; ls {home}; ls {home.parent}; cd {home} && cat key; cat /proc/self/root{home}/key"
    )
    assert end.exit_code != 0
    assert job.text(1) == ""


@needs_landlock
async def test_a_link_into_the_state_directory_opens_nothing(open_job, home):
    job = await open_job(hidden=(str(home),))
    await job.shell(f"ln -s {home} way; cat way/key; ln {home}/key copy; cat copy; mv {home}/key .")
    assert job.text(1) == ""
    assert (home / "key").read_text() == "secret"


@needs_landlock
async def test_what_lies_beside_the_hidden_is_readable(open_job, home):
    (home.parent / "data").write_text("for all")
    (home.parent / "data").chmod(0o644)
    job = await open_job(hidden=(str(home),))
    await job.run("/bin/cat", str(home.parent / "data"))
    assert job.text(1) == "for all"


@needs_landlock
async def test_nothing_is_written_outside_the_job(open_job, ground):
    open_to_all = ground / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    job = await open_job()
    await job.shell(
        f"for d in {open_to_all} /tmp /var/tmp /dev/shm/..; do echo x > $d/x-$$ && echo wrote $d; done"
    )
    assert job.text(1) == ""
    assert list(open_to_all.iterdir()) == []


async def test_what_every_program_needs_works(job):
    end = await job.shell(
        "set -e; echo x > /dev/null; head -c 1 /dev/urandom > r; echo y > $TMPDIR/t; mkdir d; mv t d/t;"
        " cat d/t; echo z > /dev/shm/planetmesh-$$; rm /dev/shm/planetmesh-$$;"
        " cat /etc/hostname > /dev/null; ls /usr/bin > /dev/null"
    )
    assert (end.exit_code, job.text(1)) == (0, "y\n"), job.text(1, 2)


@pytest.mark.parametrize("writable", [False, True])
@needs_landlock
async def test_a_share_gives_what_it_says(open_job, ground, writable):
    shared = folders.make_folder(ground / "shared")
    (shared / "in").write_text("given")
    (shared / "in").chmod(0o666)
    job = await open_job(hidden=(str(ground / "state"),), shares=(Share(str(shared), writable),))
    await job.shell(f"cat {shared}/in; echo y > {shared}/out && echo wrote")
    assert job.text(1) == ("givenwrote\n" if writable else "given")


@needs_landlock
async def test_a_share_of_the_hidden_is_refused(open_job, home):
    for path in (home, home.parent, home / "key"):
        with pytest.raises(NotAllowed, match="cannot be shared"):
            await open_job(hidden=(str(home),), shares=(Share(str(path)),))


@needs_root
async def test_root_starts_tasks_as_another_user_for_good(open_job):
    job = await open_job()
    await job.shell("id -u; id -G; grep -E 'NoNewPrivs|CapEff|CapBnd' /proc/self/status; umask; nice")
    user = folders.task_user()
    lines = job.text(1).split("\n")
    assert lines[:2] == [str(user.uid), str(user.gid)]
    assert "CapEff:\t0000000000000000" in lines
    assert "NoNewPrivs:\t1" in lines
    assert lines[-3:] == ["0077", "5", ""]


async def test_the_environment_holds_only_what_is_meant(open_job, monkeypatch):
    monkeypatch.setenv("AGENT_TOKEN", "secret")
    job = await open_job(env={"FROM_JOB": "1", "PLANETMESH_JOB": "lie"})
    await job.run("env", env={"FROM_TASK": "2", "PLANETMESH_ATTEMPT": "9", "PLANETMESH_ATTEMPT_OF": "lie"})
    found = dict(line.split("=", 1) for line in job.text(1).splitlines())
    allowed = {"PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "USER", "LOGNAME", "HOME", "TMPDIR"}
    assert {"PATH", "HOME", "TMPDIR", "USER", "LANG"} <= found.keys()
    ours = {name: value for name, value in found.items() if name not in allowed}
    assert ours == {
        "FROM_JOB": "1",
        "FROM_TASK": "2",
        "PLANETMESH_JOB": job.spec.job_id,
        "PLANETMESH_TASK": "1",
        "PLANETMESH_ATTEMPT": "1",
        "PLANETMESH_ATTEMPT_OF": f"{job.spec.folder}/1/1",
    }


async def test_limits_of_the_kernel_are_set(open_job):
    job = await open_job(file_bytes=1_000_000)
    end = await job.shell("ulimit -c; ulimit -n; head -c 2000000 /dev/zero > big")
    assert job.text(1).split() == ["0", "4096"]
    assert end.exit_code != 0


async def test_the_launcher_and_other_jobs_are_out_of_reach(open_job):
    other, job = await open_job(), await open_job()
    index = other.start("/bin/sleep", "60")
    pid = (await other.started(index)).pid
    launcher = job.handle.ready.pid
    await job.shell(
        f"cat /proc/{launcher}/environ && echo environ; head -c 0 /proc/{launcher}/mem && echo mem;"
        f" ls /proc/{launcher}/fd/ && echo fd; ls {other.spec.folder} && echo folder"
    )
    assert job.text(1) == ""
    if landlock.supported_abi() >= 6:
        await job.shell(f"kill -9 {pid} && echo killed; cat /proc/{pid}/environ && echo environ")
        assert job.text(2) == ""
        assert other.ends() == {}


async def test_a_task_that_kills_everybody_it_can_harms_only_its_job(open_job):
    if landlock.supported_abi() < 6:
        pytest.skip("signals are not scoped before Landlock 6")
    other, job = await open_job(), await open_job()
    index = other.start("/bin/sleep", "60")
    await other.started(index)
    job.start("/bin/sh", "-c", "kill -9 -1")
    await job.until("the loss", lambda: job.lost)
    assert other.ends() == {}
    assert (await other.run("/bin/true")).why is Why.EXIT


async def test_the_probe_proves_this_machine(zygote, work_root, home):
    report = await measure_tier(zygote, home, work_root)
    assert report.proven, report
    assert report.tier in {Tier.LANDLOCK, Tier.USER_LANDLOCK, Tier.USER}
    assert list(work_root.iterdir()) == []
    assert [p.name for p in home.iterdir()] == ["key"]


NOT_ROOT = """
import asyncio, concurrent.futures.thread, json, os, shutil, socket, sys, tempfile
from pathlib import Path
from planetmesh.agent.sandbox import confine, probe, zygote
from planetmesh.agent.sandbox.handle import Zygote
home, work, uid, hide = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
confine.forbid_inspection()
if hide == "no landlock":
    from planetmesh.agent.sandbox import landlock
    landlock.supported_abi = lambda: 0
if hide == "no veil":
    from planetmesh.agent.sandbox import veil
    veil.draw = lambda: False
folder = tempfile.mkdtemp(dir="/tmp")
door = socket.socket(socket.AF_UNIX)
door.bind(folder + "/default")
door.listen()
started = Zygote.start()
async def score():
    from planetmesh.agent.sandbox.messages import LauncherSpec
    handle = await started.open(LauncherSpec("score", str(work), ()), print, print)
    found = open(f"/proc/{handle.ready.pid}/oom_score_adj").read().strip()
    await handle.close()
    return found
assert asyncio.run(score()) == "500"
report = asyncio.run(probe.measure_tier(started, home, work))
started.close()
shutil.rmtree(folder)
print(json.dumps([report.tier, report.proven, report.detail]))
"""


@needs_root
@pytest.mark.parametrize("hide", ["yes", "no landlock", "no veil"])
async def test_landlock_alone_hides_the_home_from_the_same_user(ground, hide):
    # Not nobody, as whom root's tasks run: its open door would be found by tests that run at the same time.
    uid = pwd.getpwnam("daemon").pw_uid
    places = [ground / "home", ground / "work"]
    for path in places:
        path.mkdir(mode=0o700)
        os.chown(path, uid, uid)
    argv = [sys.executable, "-c", NOT_ROOT, *map(str, places), str(uid), hide]
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    tier, proven, detail = json.loads(done.stdout)
    if hide == "no veil":
        assert (tier, proven) == (Tier.LANDLOCK, landlock.supported_abi() >= 9), detail
        assert "outside the sandbox to act for it: /tmp/" in detail
    elif hide == "yes" and not proven:
        assert "outside the sandbox to act for it: /tmp/" in detail
        pytest.skip("user namespaces are not allowed here, and the probe says what that leaves open")
    elif hide == "yes":
        assert (tier, proven) == (Tier.LANDLOCK, True), detail
    else:
        # Proof that the probe can fail: without Landlock the same user gets at everything.
        assert (tier, proven) == (Tier.UNCONFINED, False)
        assert "the state directory" in detail
        assert "a file outside its folder" in detail


def test_whose_uid_has_no_entry_keeps_secrets_where_programs_put_them(tmp_path, monkeypatch):
    nobodys = next(uid for uid in range(54_321, 60_000) if not _has_entry(uid))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / "work").mkdir()
    assert views.home_of(nobodys) == str(tmp_path)
    private = views.private_paths(views.home_of(nobodys))
    assert str(tmp_path / ".ssh") in private
    assert str(tmp_path / "work") not in private
    monkeypatch.setenv("HOME", "here")
    assert views.home_of(nobodys) == "/nonexistent"
    assert views.home_of(os.getuid()) == pwd.getpwuid(os.getuid()).pw_dir


def _has_entry(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def test_a_link_is_never_granted(tmp_path):
    hidden = tmp_path / "a" / "hidden"
    hidden.mkdir(parents=True)
    (tmp_path / "a" / "beside").mkdir()
    (tmp_path / "a" / "link").symlink_to("/")
    (tmp_path / "b").mkdir()
    found = set(views.visible(str(tmp_path), [str(hidden)]))
    assert found == {str(tmp_path / "a" / "beside"), str(tmp_path / "b")}


def test_a_neighbour_whose_name_begins_alike_is_another(tmp_path):
    paths = [str(tmp_path / name) for name in ("a", "ab", "a.b", "abc")]
    for path in paths:
        Path(path).mkdir()
    for hidden in paths:
        others = {*paths} - {hidden}
        assert set(views.visible(str(tmp_path), [hidden])) == others
        assert not any(views.covers_hidden(path, [hidden]) for path in others)
        assert views.covers_hidden(hidden, [hidden])
        assert views.covers_hidden("/", [hidden])


def test_nothing_granted_is_above_or_below_the_hidden(tmp_path):
    hidden = [str(tmp_path / "x" / "y"), str(tmp_path / "x" / "y" / "z"), str(tmp_path / "w")]
    (tmp_path / "x" / "y" / "z").mkdir(parents=True)
    (tmp_path / "w").mkdir()
    for path in views.visible("/", hidden):
        assert not views.covers_hidden(path, hidden)


def test_a_share_in_the_state_directory_is_refused_before_anything_is_confined(tmp_path):
    spec = LauncherSpec("j", str(tmp_path), (str(tmp_path / "home"),), (Share(str(tmp_path)),))
    with pytest.raises(BadInput):
        landlock.build(spec, "/nonexistent")


@needs_root
def test_a_process_that_forbids_inspection_hides_its_environment():
    code = (
        "import os; from planetmesh.agent.sandbox import confine; confine.forbid_inspection();"
        "print(os.stat('/proc/self/environ').st_uid)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
