"""Files through the whole agent: real transfers over TLS, real folders, real programs under the sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import shutil
import sys
from glob import glob
from pathlib import Path

import msgspec
import pytest
from coordinator_double import SETTINGS
from cutting_proxy import DOWN, UP, CuttingProxy

from planetmesh.agent import reconnect
from planetmesh.agent import service as service_module
from planetmesh.agent.service import AgentOptions, Stops, run_agent
from planetmesh.agent.state import Phase
from planetmesh.model.blob import Manifest, ManifestFile, StagedFile
from planetmesh.model.ids import JobId
from planetmesh.model.job import Outcome
from planetmesh.model.resources import Resources
from planetmesh.paths import work_root
from planetmesh.wire.agent import (
    AssignTask,
    BlobsHeld,
    CloseJob,
    Drain,
    Heartbeat,
    Held,
    StopTask,
    TaskReturned,
    TaskStarted,
)
from planetmesh.wire.manifest import decode_manifest, encode_manifest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux' so far")

JOB = "aaaaaaaaaa"
OTHER = "bbbbbbbbbb"
LARGE = bytes(range(256)) * 20_000


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reconnect, "BACK_OFF_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(reconnect, "BACK_OFF_MOST_SECONDS", 0.1)
    monkeypatch.setattr(service_module, "DRAIN_SECONDS", 1.0)


class Running:
    def __init__(self, home, stops, states):
        self.home = home
        self.stops = stops
        self.states = states

    @property
    def own(self) -> Path:
        """Where folders lie that no task can reach."""
        return work_root(self.home) / "own"

    def folders(self) -> list[Path]:
        return list(self.own.iterdir()) if self.own.exists() else []


@contextlib.asynccontextmanager
async def running_agent(zygote, coordinator, home=None, settings=SETTINGS):
    home = home or coordinator.agent_home()
    options = AgentOptions(home=home, settings=settings, offers=Resources(2000, 2**30, 0))
    running = Running(home, Stops(), [])
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(run_agent(options, zygote, running.states.append, running.stops))
            await coordinator.until(lambda: any(s.phase is Phase.REGISTERED for s in running.states))
            try:
                yield running
            finally:
                running.stops.tell()
                running.stops.tell()
    finally:
        shutil.rmtree(work_root(home), ignore_errors=True)


@pytest.fixture
def agent(zygote):
    return functools.partial(running_agent, zygote)


def staged(coordinator, name, content, **changes):
    return StagedFile(name, coordinator.store.put(content), len(content), **changes)


def tree(coordinator, name, files, folders=()):
    put = coordinator.store.put
    listed = [ManifestFile(path, put(content), len(content)) for path, content in files.items()]
    return staged(coordinator, name, encode_manifest(Manifest(tuple(listed), folders)), is_tree=True)


async def run(coordinator, script, files=(), outputs=(), job=JOB, **changes):
    """One task of its own job, to its end."""
    files = {"files": tuple(files), "outputs": tuple(outputs)}
    await coordinator.open_job(job, ["sh", "-c", script], **files, **changes)
    await coordinator.assign(job, [0])
    await coordinator.until(lambda: 0 in coordinator.results(), "the result")
    return coordinator.results()[0]


def made(coordinator, result):
    """What came back, by name."""
    manifest = decode_manifest(coordinator.store.blobs[result.made.manifest])
    return {file.name: coordinator.store.blobs[file.digest] for file in manifest.files}, manifest


async def test_what_a_task_needs_arrives_and_what_it_makes_comes_back(agent, coordinator):
    tool = "#!/bin/sh\ncat größe/in.bin tree/a/b > out/copy.bin\n".encode()
    files = [
        staged(coordinator, "größe/in.bin", LARGE),
        staged(coordinator, "tool", tool, executable=True),
        staged(coordinator, "empty", b""),
        tree(coordinator, "tree", {"a/b": b"leaf"}, ("hollow",)),
    ]
    script = "test -d tree/hollow && test -f empty && mkdir -p out/none && ./tool && chmod +x out/copy.bin"
    async with agent(coordinator) as running:
        result = await run(coordinator, script, files, ["out/"])
        assert (result.outcome, result.exit_code, result.error) == (Outcome.OK, 0, "")
        content, manifest = made(coordinator, result)
        assert content == {"out/copy.bin": LARGE + b"leaf"}
        assert manifest.folders == ("out/none",)
        assert manifest.files[0].executable
        assert (result.made.count, result.made.size) == (1, len(LARGE) + 4)
        # The attempt for which everything is asked is named each time.
        whose = {"job": JOB, "index": "0", "attempt": "1"}
        assert all(query == whose for _, _, query in coordinator.store.asked)
        await coordinator.until(lambda: not running.folders(), "the folder is gone")
        expected = {files[0].digest, manifest.files[0].digest}
        await coordinator.until(lambda: held(coordinator) == expected, "what lies there is told")


def held(coordinator):
    return {digest for message in coordinator.of(BlobsHeld) for digest in message.gained}


async def test_what_a_node_made_it_need_not_fetch(agent, coordinator):
    files = [staged(coordinator, "in.bin", LARGE)]
    script = "cat in.bin in.bin > twice.bin; echo small > small; touch empty"
    async with agent(coordinator) as running:
        result = await run(coordinator, script, files, ["twice.bin", "small", "empty"])
        content, manifest = made(coordinator, result)
        await coordinator.until(lambda: not running.folders(), "the folder is gone")
        asked = coordinator.store.count("GET"), coordinator.store.count("POST", "read")
        again = [StagedFile(file.name, file.digest, file.size) for file in manifest.files if file.size]
        await coordinator.open_job(OTHER, ["sh", "-c", "cat twice.bin small | cksum"], files=tuple(again))
        await coordinator.assign(OTHER, [1])
        await coordinator.until(lambda: 1 in coordinator.results(), "the result")
        assert coordinator.results()[1].outcome is Outcome.OK
        assert (coordinator.store.count("GET"), coordinator.store.count("POST", "read")) == asked
        assert content["twice.bin"] == LARGE * 2


async def test_what_it_made_never_takes_most_of_a_nodes_cache(agent, coordinator):
    settings = msgspec.structs.replace(SETTINGS, blob_cache_bytes=3 * len(LARGE))
    files = [staged(coordinator, "in.bin", LARGE)]
    async with agent(coordinator, settings=settings) as running:
        result = await run(
            coordinator,
            "cat in.bin - > out.bin < in.bin; head -c 2000000 in.bin > part",
            files,
            ["out.bin", "part"],
        )
        assert result.outcome is Outcome.OK
        await coordinator.until(lambda: not running.folders(), "the folder is gone")
        _content, manifest = made(coordinator, result)
        part = next(file.digest for file in manifest.files if file.name == "part")
        await coordinator.until(lambda: held(coordinator) == {files[0].digest, part})


async def test_each_task_gets_the_file_that_its_input_names(agent, coordinator):
    async with agent(coordinator):
        await coordinator.open_job(JOB, ["sh", "-c", 'cat "$0"'])
        for index in range(20):
            name = f"in-{index}"
            file = staged(coordinator, name, b"%d" % index)
            await coordinator.send(AssignTask(JobId(JOB), index, 1, (name,), (file,)))
        await coordinator.until(lambda: len(coordinator.results()) == 20)
    assert [coordinator.output(index) for index in range(20)] == [b"%d" % index for index in range(20)]


@pytest.mark.slow
async def test_what_several_tasks_want_comes_once_and_stays_for_the_next(agent, coordinator):
    coordinator.store.slow_seconds = 0.002
    files = (staged(coordinator, "in.bin", LARGE), staged(coordinator, "small", b"s"))
    home = coordinator.agent_home()
    for life in range(2):
        async with agent(coordinator, home):
            job = f"{JOB[:-1]}{life}"
            await coordinator.open_job(job, ["cmp", "in.bin", "in.bin"], files=files)
            await coordinator.assign(job, range(life * 10, life * 10 + 6))
            await coordinator.until(lambda: len(coordinator.results()) == 6 * (life + 1))  # noqa: B023
    assert all(result.outcome is Outcome.OK for result in coordinator.results().values())
    assert coordinator.store.count("GET") == 1
    assert coordinator.store.count("POST", "read") == 1


@pytest.mark.slow
async def test_others_run_and_heartbeats_flow_while_a_large_file_comes(agent, coordinator):
    coordinator.store.slow_seconds = 0.05
    files = (staged(coordinator, "in.bin", LARGE),)
    async with agent(coordinator):
        await coordinator.open_job(JOB, ["true"], files=files)
        await coordinator.assign(JOB, [0])
        await coordinator.until(lambda: coordinator.store.count("GET"), "the transfer")
        beats = len(coordinator.of(Heartbeat))
        await coordinator.open_job(OTHER, ["true"])
        await coordinator.assign(OTHER, range(100, 103))
        await coordinator.until(lambda: len(coordinator.results()) == 3)
        await coordinator.until(lambda: len(coordinator.of(Heartbeat)) > beats + 3)
        assert 0 not in coordinator.results()
        assert not [each for each in coordinator.of(TaskStarted) if each.job_id == JOB]
        coordinator.store.slow_seconds = 0
        await coordinator.until(lambda: 0 in coordinator.results())


@pytest.mark.slow
async def test_a_transfer_that_is_cut_anywhere_goes_on(agent, coordinator):
    coordinator.store.cuts = [0, 1, 65536, 1_500_000, 3_000_000]
    files = [staged(coordinator, "in.bin", LARGE)]
    async with agent(coordinator):
        result = await run(coordinator, "sha256sum < in.bin | cut -d' ' -f1", files)
    assert result.outcome is Outcome.OK
    assert coordinator.output(0).decode().strip() == files[0].digest
    assert coordinator.store.count("GET") == 6


@pytest.mark.slow
async def test_any_cut_of_a_connection_is_gone_on_with(agent, coordinator):
    """In and out, at random bytes of the connections: of handshakes, of headers, of files."""
    draw = random.Random(7)
    async with CuttingProxy(coordinator.port) as proxy:
        own, coordinator.port = coordinator.port, proxy.port
        home = coordinator.agent_home()
        coordinator.port = own
        async with agent(coordinator, home):
            for number in range(8):
                content = draw.randbytes(2_500_000)
                files = [staged(coordinator, "in", content), staged(coordinator, "small", b"%d" % number)]
                most = (6000, 2_600_000)
                proxy.cuts = [(draw.choice([UP, DOWN]), draw.randrange(draw.choice(most))) for _ in range(4)]
                proxy.drop(but_first=1)  # that is the link
                job = f"{JOB[:-1]}{number}"
                script = "cat in in small > out; cp small again"
                await coordinator.open_job(
                    job, ["sh", "-c", script], files=tuple(files), outputs=("out", "again")
                )
                await coordinator.assign(job, [number])
                await coordinator.until(lambda: number in coordinator.results(), "the result")  # noqa: B023
                result = coordinator.results()[number]
                assert result.outcome is Outcome.OK, result
                assert made(coordinator, result)[0]["out"] == content * 2 + b"%d" % number
        assert proxy.done >= 8


async def test_small_files_that_are_cut_come_again(agent, coordinator):
    contents = {f"f{index}": b"%d" % index * 1000 for index in range(200)}
    files = [tree(coordinator, "", contents)]
    coordinator.store.cuts = [10, 200_000]
    async with agent(coordinator):
        result = await run(coordinator, "cat f* | wc -c", files)
    assert result.outcome is Outcome.OK
    assert int(coordinator.output(0)) == sum(map(len, contents.values()))


async def test_a_fetch_waits_for_a_coordinator_that_is_away(agent, coordinator):
    coordinator.store.slow_seconds = 0.05
    files = (staged(coordinator, "in.bin", LARGE),)
    async with agent(coordinator):
        await coordinator.open_job(JOB, ["true"], files=files)
        await coordinator.assign(JOB, [0])
        await coordinator.until(lambda: coordinator.store.count("GET"))
        await coordinator.close()
        coordinator.store.slow_seconds = 0
        await asyncio.sleep(0.3)
        await coordinator.open()
        await coordinator.until(lambda: 0 in coordinator.results(), "the result")
        assert coordinator.results()[0].outcome is Outcome.OK
        assert Held(JobId(JOB), 0, 1, running=False) in coordinator.hellos[1].held


@pytest.mark.slow
async def test_damage_on_the_way_is_seen_and_mended_and_told_when_it_stays(agent, coordinator):
    files = [staged(coordinator, "in.bin", LARGE), staged(coordinator, "small", b"small")]
    coordinator.store.spoiled = 2
    async with agent(coordinator):
        assert (await run(coordinator, "true", files)).outcome is Outcome.OK
    coordinator.store.spoiled = 100
    coordinator.numbers.clear()
    async with agent(coordinator, coordinator.agent_home("other-home")):
        result = await run(coordinator, "true", [staged(coordinator, "in.bin", LARGE[1:])])
    assert result.outcome is Outcome.STAGING
    assert "SHA-256 differs" in result.error


@pytest.mark.parametrize("status", [403, 404, 409])
async def test_what_the_coordinator_does_not_give_is_told_with_its_sentence(agent, coordinator, status):
    coordinator.store.refusal = ("GET", status, "not_allowed", "This attempt was not given that file.")
    files = [staged(coordinator, "in.bin", LARGE)]
    async with agent(coordinator):
        result = await run(coordinator, "true", files)
        assert result.outcome is Outcome.STAGING
        assert "were not brought here: This attempt was not given that file." in result.error
        assert coordinator.store.refusals == 1
        coordinator.numbers.clear()
        assert (await run(coordinator, "true", job=OTHER)).outcome is Outcome.OK


async def test_trouble_of_the_coordinator_passes(agent, coordinator):
    coordinator.store.refusal = ("GET", 503, "storage_failed", "The disk is busy.")
    files = [staged(coordinator, "in.bin", LARGE)]
    async with agent(coordinator):
        await coordinator.open_job(JOB, ["true"], files=tuple(files))
        await coordinator.assign(JOB, [0])
        await coordinator.until(lambda: coordinator.store.refusals > 1)
        coordinator.store.refusal = None
        await coordinator.until(lambda: 0 in coordinator.results())
    assert coordinator.results()[0].outcome is Outcome.OK


async def test_a_folder_that_cannot_be_laid_is_refused_in_words(agent, coordinator):
    two = [staged(coordinator, "a", b"1"), tree(coordinator, "", {"A": b"2"})]
    bad = [staged(coordinator, "tree", b'{"files":[["../x","' + b"a" * 64 + b'",1,false]]}', is_tree=True)]
    none = [staged(coordinator, "tree", b"not a manifest", is_tree=True)]
    async with agent(coordinator):
        for files, words in ((two, "side by side"), (bad, "cannot be used"), (none, "could not be read")):
            coordinator.numbers.clear()
            result = await run(coordinator, "true", files, job=f"{words[:4].strip():a<10}")
            assert result.outcome is Outcome.STAGING
            assert words in result.error


async def test_a_cancel_stops_a_fetch_and_what_has_come_is_kept(agent, coordinator):
    coordinator.store.slow_seconds = 0.2
    files = (staged(coordinator, "in.bin", LARGE),)
    async with agent(coordinator):
        await coordinator.open_job(JOB, ["true"], files=files)
        await coordinator.assign(JOB, [0])
        await coordinator.until(lambda: coordinator.store.count("GET"))
        await asyncio.sleep(0.6)
        await coordinator.send(StopTask(JobId(JOB), 0, 1))
        await coordinator.until(lambda: 0 in coordinator.results())
        assert coordinator.results()[0].outcome is Outcome.CANCELLED
        coordinator.store.slow_seconds = 0
        await coordinator.assign(JOB, [1])
        await coordinator.until(lambda: 1 in coordinator.results())
        assert coordinator.results()[1].outcome is Outcome.OK


async def test_a_drain_gives_back_what_is_still_fetched(agent, coordinator):
    coordinator.store.slow_seconds = 0.05
    files = (staged(coordinator, "in.bin", LARGE),)
    async with agent(coordinator):
        await coordinator.open_job(JOB, ["true"], files=files)
        await coordinator.assign(JOB, range(3))
        await coordinator.until(lambda: coordinator.store.count("GET"))
        await coordinator.send(Drain(on=True))
        await coordinator.until(lambda: len(coordinator.of(TaskReturned)) == 3)


def held_by(coordinator) -> set[str]:
    """What the agent said that it has."""
    held: set[str] = set()
    for message in coordinator.of(BlobsHeld):
        held |= set(message.gained)
        held -= set(message.lost)
    return held


@pytest.mark.slow
async def test_a_cache_that_is_full_of_what_runs_makes_others_wait(agent, coordinator):
    settings = msgspec.structs.replace(SETTINGS, blob_cache_bytes=8_000_000)
    contents = [bytes([number]) * 5_000_000 for number in range(3)]
    async with agent(coordinator, settings=settings):
        for number, content in enumerate(contents):
            job = f"{JOB[:-1]}{number}"
            await coordinator.open_job(job, ["sleep", "0.3"], files=(staged(coordinator, "in.bin", content),))
            await coordinator.assign(job, [number])
        await coordinator.until(lambda: len(coordinator.results()) == 3)
        assert all(result.outcome is Outcome.OK for result in coordinator.results().values())
        coordinator.numbers.clear()
        result = await run(coordinator, "true", [staged(coordinator, "in.bin", b"x" * 9_000_000)], job=OTHER)
        assert result.outcome is Outcome.STAGING
        assert "blob_cache_bytes" in result.error
        # One of five megabytes fits; what came and went between two messages is never told.
        await coordinator.until(lambda: len(held_by(coordinator)) == 1)


# Out


async def test_what_no_pattern_matches_fails_the_attempt_with_what_there_is(agent, coordinator):
    async with agent(coordinator):
        result = await run(coordinator, "echo x > a.jpg", outputs=["*.png"])
        assert result.outcome is Outcome.OUTPUT
        assert "made no file that matches '*.png'; its folder holds 'a.jpg'" in result.error
        assert result.made is None
        assert not coordinator.store.asked


async def test_a_failed_attempt_brings_nothing(agent, coordinator):
    async with agent(coordinator) as running:
        result = await run(coordinator, "echo x > a.png; exit 3", outputs=["*.png"])
        assert (result.outcome, result.exit_code, result.made) == (Outcome.EXIT_CODE, 3, None)
        await coordinator.until(lambda: not running.folders())
    assert not coordinator.store.blobs


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("ln -s /etc/passwd out.bin", "a link"),
        ("echo x > a; ln a out.bin", "hard link"),
        ("mkfifo out.bin", "a pipe"),
        ("truncate -s 1T out.bin", "output_files_most_bytes"),
        ("echo x > 'a:b.bin'", "cannot be used"),
        ("cd ..; mv task-* gone; mkdir other; mv other gone/; exit 0", "folder"),
    ],
)
async def test_hostile_outputs_are_refused_by_name_and_nothing_is_sent(agent, coordinator, script, reason):
    async with agent(coordinator):
        result = await run(coordinator, script, outputs=["*.bin"])
    assert result.outcome is Outcome.OUTPUT
    assert reason in result.error
    assert not coordinator.store.blobs


async def test_many_small_files_go_together_and_equal_ones_once(agent, coordinator):
    async with agent(coordinator):
        result = await run(
            coordinator, "for i in $(seq 300); do echo $((i % 100)) > $i.txt; done", outputs=["*.txt"]
        )
        assert result.outcome is Outcome.OK
    content, _ = made(coordinator, result)
    assert len(content) == result.made.count == 300
    assert content["250.txt"] == b"50\n"
    assert coordinator.store.count("PUT") == 0
    assert coordinator.store.count("POST", "frames") == 2


@pytest.mark.slow
async def test_an_upload_that_is_cut_anywhere_goes_on(agent, coordinator):
    coordinator.store.cuts = [1, 700_000, 1_300_000]
    script = "head -c 5120000 /dev/urandom > out.bin; sha256sum < out.bin | cut -d' ' -f1"
    async with agent(coordinator):
        result = await run(coordinator, script, outputs=["out.bin"])
        assert result.outcome is Outcome.OK
    content, manifest = made(coordinator, result)
    assert coordinator.output(0).decode().strip() == manifest.files[0].digest
    assert len(content["out.bin"]) == 5_120_000
    assert coordinator.store.count("PUT") == 4


@pytest.mark.slow
async def test_an_upload_goes_on_after_the_coordinator_was_away_and_the_hello_holds_the_task(
    agent, coordinator
):
    coordinator.store.cuts = [100_000]
    async with agent(coordinator):
        script = "head -c 5000000 /dev/urandom > out.bin"
        await coordinator.open_job(JOB, ["sh", "-c", script], outputs=("*",))
        coordinator.store.refusal = ("frames", 503, "storage_failed", "Not now.")
        await coordinator.assign(JOB, [0])
        await coordinator.until(lambda: coordinator.store.count("PUT") > 1)
        await coordinator.close()
        assert not coordinator.results()
        coordinator.store.refusal = None
        await coordinator.open()
        await coordinator.until(lambda: 0 in coordinator.results())
        assert Held(JobId(JOB), 0, 1, running=True) in coordinator.hellos[1].held
    assert coordinator.results()[0].outcome is Outcome.OK
    assert len(made(coordinator, coordinator.results()[0])[0]["out.bin"]) == 5_000_000


@pytest.mark.parametrize(("status", "method"), [(413, "PUT"), (507, "PUT"), (507, "frames")])
async def test_a_full_coordinator_fails_the_attempt_with_its_sentence(agent, coordinator, status, method):
    coordinator.store.refusal = (method, status, "storage_failed", "The disk of the coordinator is full.")
    async with agent(coordinator):
        script = "head -c 5000000 /dev/zero > a.bin; echo x > b.bin"
        result = await run(coordinator, script, outputs=["*.bin"])
        assert result.outcome is Outcome.OUTPUT
        assert "The disk of the coordinator is full." in result.error


async def test_slots_are_free_while_files_leave_and_a_cancel_stops_them(agent, coordinator):
    coordinator.store.refusal = ("missing", 503, "storage_failed", "Not now.")
    async with agent(coordinator) as running:
        await coordinator.open_job(
            JOB, ["sh", "-c", "echo x > out.bin"], outputs=("*",), requests=Resources(2000, 0, 0)
        )
        await coordinator.assign(JOB, [0])
        await coordinator.until(lambda: coordinator.store.refusals)
        await coordinator.until(lambda: any(each.index == 0 for each in coordinator.of(TaskStarted)))
        await coordinator.open_job(OTHER, ["true"], requests=Resources(2000, 0, 0))
        await coordinator.assign(OTHER, [7])
        await coordinator.until(lambda: 7 in coordinator.results())
        await coordinator.send(StopTask(JobId(JOB), 0, 1))
        await coordinator.until(lambda: 0 in coordinator.results())
        assert coordinator.results()[0].outcome is Outcome.CANCELLED
        assert "files were on their way" in coordinator.results()[0].error
        await coordinator.until(lambda: not running.folders())


async def test_a_job_that_ends_leaves_nothing_of_its_files(agent, coordinator):
    coordinator.store.refusal = ("missing", 503, "storage_failed", "Not now.")
    async with agent(coordinator) as running:
        files = (staged(coordinator, "in.bin", b"x"),)
        await coordinator.open_job(JOB, ["sleep", "60"], files=files, outputs=("*",))
        await coordinator.assign(JOB, [0, 1])
        await coordinator.until(lambda: len(coordinator.of(TaskStarted)) == 2)
        await coordinator.send(CloseJob(JobId(JOB)))
        # pathlib's own fails where a folder goes while it looks.
        own = str(work_root(running.home) / "job-*" / "task-*")
        await coordinator.until(lambda: not running.folders() and not glob(own))  # noqa: PTH207


async def test_a_change_of_an_input_is_an_output_and_the_input_itself_if_named(agent, coordinator):
    files = [staged(coordinator, name, name.encode()) for name in ("a.txt", "b.txt", "c.txt")]
    async with agent(coordinator):
        result = await run(coordinator, "echo more >> b.txt", files, ["*.txt", "c.txt"])
        content, _ = made(coordinator, result)
    assert content == {"b.txt": b"b.txtmore\n", "c.txt": b"c.txt"}
