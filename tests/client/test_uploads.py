"""Files to the coordinator: only what it lacks, each byte once, and never one that changed meanwhile."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from api_double import Double
from blob_double import digest_of

from planetmesh.client import local_files, uploads
from planetmesh.client.async_client import AsyncMesh
from planetmesh.client.plan import Plan
from planetmesh.client.progress import Progress
from planetmesh.errors import BadInput, MeshError, NotFound
from planetmesh.model.blob import StagedFile
from planetmesh.model.job import Items, JobSpec
from planetmesh.paths import Home
from planetmesh.wire.manifest import decode_manifest

COMMAND = JobSpec(type="command", payload={"argv": ["true"]})
LARGE = bytes(range(256)) * 4 * 4096  # 4 MiB
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of POSIX")


@pytest.fixture
async def mesh(double: Double, home: Home):
    async with AsyncMesh(home.root, patience_seconds=5) as mesh:
        await mesh.status()
        yield mesh


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def plan_of(folder: Path, *given: str, items: tuple[str, ...] = ()) -> tuple[Plan, JobSpec]:
    plan = Plan(folder)
    for each in given:
        plan.add(each)
    spec = COMMAND
    if items:
        spec = JobSpec(type="command", payload=COMMAND.payload, inputs=plan.add_own(Items(items)))
    return plan, spec


async def test_small_and_large_files_and_folders_arrive_and_are_sent_once(mesh, double, folder) -> None:
    files = {
        "a.txt": b"a",
        "sub/large.bin": LARGE,
        "tree/x/y.txt": b"y",
        "tree/empty.txt": b"",
        "tree/a": b"a",
    }
    write(folder, files)
    (folder / "tree/hollow").mkdir()
    (folder / "a.txt").chmod(0o755)
    spec = await mesh.stage(*plan_of(folder, "a.txt", "sub/*", "tree"))
    first, second, tree = spec.files
    assert first == StagedFile("a.txt", digest_of(b"a"), 1, executable=sys.platform != "win32")
    assert second == StagedFile("sub/large.bin", digest_of(LARGE), len(LARGE))
    assert (tree.name, tree.is_tree) == ("tree", True)
    manifest = decode_manifest(double.blobs[tree.digest])
    assert [file.name for file in manifest.files] == ["a", "empty.txt", "x/y.txt"]
    assert manifest.folders == ("hollow",)
    assert all(double.blobs[digest_of(content)] == content for content in files.values())
    before = len(double.requests)
    again = await mesh.stage(*plan_of(folder, "a.txt", "sub/*", "tree"))
    assert again == spec
    assert double.requests[before:] == [("POST", "/v1/blobs/missing")]


async def test_each_input_that_is_a_file_gets_its_own(mesh, double, folder) -> None:
    write(folder, {"a.png": b"A", "sub/b.png": b"B"})
    outside = folder.parent / "c.png"
    outside.write_bytes(b"C")
    plan, spec = plan_of(folder, items=("a.png", "./sub/b.png", "../c.png", str(outside), "7", ""))
    spec = await mesh.stage(plan, spec)
    assert spec.inputs.items == ("a.png", "sub/b.png", "c.png", "c.png", "7", "")
    assert [file and file.digest for file in spec.inputs.files] == [
        *(digest_of(content) for content in (b"A", b"B", b"C", b"C")),
        None,
        None,
    ]
    assert spec.files == ()


async def test_what_all_tasks_get_does_not_come_again_as_an_input(mesh, double, folder) -> None:
    write(folder, {"data/a": b"A", "b": b"B"})
    spec = await mesh.stage(*plan_of(folder, "data", items=("data/a", "b")))
    assert spec.inputs.items == ("data/a", "b")
    assert [file and file.name for file in spec.inputs.files] == [None, "b"]


async def test_many_single_files_travel_as_one_list(mesh, double, folder) -> None:
    write(folder, {f"f{number}": b"%d" % number for number in range(300)})
    spec = await mesh.stage(*plan_of(folder, "f*"))
    (tree,) = spec.files
    assert (tree.name, tree.is_tree) == ("", True)
    assert len(decode_manifest(double.blobs[tree.digest]).files) == 300


async def test_a_cut_upload_goes_on_where_it_ended(mesh, double, folder) -> None:
    write(folder, {"large.bin": LARGE})
    double.cuts = [1_000_000, 500_000]
    await mesh.stage(*plan_of(folder, "large.bin"))
    assert double.blobs[digest_of(LARGE)] == LARGE
    starts = [start for _digest, start, _count in double.received]
    ends = [start + count for _digest, start, count in double.received]
    assert starts == [0, *ends[:-1]]
    assert sum(count for _digest, _start, count in double.received) == len(LARGE)


async def test_progress_is_told_and_ends_complete(mesh, double, folder) -> None:
    write(folder, {"large.bin": LARGE, "small": b"1"})
    seen: list[tuple[str, int, int]] = []

    def note(progress: Progress) -> None:
        seen.append((progress.phase, progress.done_bytes, progress.total_bytes))

    await mesh.stage(*plan_of(folder, "*"), on_progress=note)
    assert seen[-1] == ("sending", len(LARGE) + 1, len(LARGE) + 1)


async def test_a_file_that_changes_while_it_is_read_submits_nothing(
    mesh, double, folder, monkeypatch
) -> None:
    write(folder, {"log.txt": LARGE})
    plan, spec = plan_of(folder, "log.txt")
    real = local_files.pieces

    def growing(descriptor: int, limit: int | None = None):
        for piece in real(descriptor, limit):
            with (folder / "log.txt").open("ab") as file:
                file.write(b"one more line\n")
            yield piece

    monkeypatch.setattr(local_files, "pieces", growing)
    with pytest.raises(BadInput, match=r"log\.txt changed while it was read"):
        await mesh.stage(plan, spec)
    assert double.blobs == {}


@pytest.mark.parametrize("size", [10, 4 * 1024 * 1024])
async def test_a_file_that_changes_between_hashing_and_sending(
    mesh, double, folder, monkeypatch, size: int
) -> None:
    write(folder, {"log.txt": bytes(size)})
    plan, spec = plan_of(folder, "log.txt")
    real = uploads.Uploader._missing

    async def changed_meanwhile(self, digests):
        (folder / "log.txt").write_bytes(b"x" * size)
        return await real(self, digests)

    monkeypatch.setattr(uploads.Uploader, "_missing", changed_meanwhile)
    with pytest.raises(BadInput, match=r"log\.txt changed while it was read"):
        await mesh.stage(plan, spec)
    assert double.blobs == {}


async def test_a_file_that_vanishes_is_named(mesh, double, folder) -> None:
    write(folder, {"sub/a": b"1"})
    plan, spec = plan_of(folder, "sub/a")
    (folder / "sub/a").unlink()
    with pytest.raises(NotFound, match="sub/a is gone"):
        await mesh.stage(plan, spec)


def test_what_is_not_there_or_no_file_is_named(folder) -> None:
    with pytest.raises(NotFound, match="no file or folder 'nothing'"):
        plan_of(folder, "nothing")
    with pytest.raises(NotFound, match=r"No file matches '\*\.png'"):
        plan_of(folder, "*.png")


@posix_only
def test_pipes_sockets_and_devices_are_refused(folder) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(BadInput, match="pipe is no ordinary file"):
        plan_of(folder, "pipe")
    (folder / "tree").mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "tree/socket"))
        with pytest.raises(BadInput, match="tree/socket is no ordinary file"):
            plan_of(folder, "tree")
    with pytest.raises(BadInput, match="/dev/null is no ordinary file"):
        plan_of(folder, "/dev/null")


@posix_only
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may read everything")
async def test_an_unreadable_file_is_named(mesh, double, folder) -> None:
    write(folder, {"secret": b"1"})
    (folder / "secret").chmod(0)
    with pytest.raises(BadInput, match="secret cannot be read: Permission denied"):
        await mesh.stage(*plan_of(folder, "secret"))


@posix_only
async def test_links_are_followed_within_their_folder_only(mesh, double, folder) -> None:
    write(folder, {"tree/a": b"A", "tree/sub/b": b"B", "secret": b"S"})
    (folder / "tree/to_a").symlink_to("a")
    (folder / "tree/to_sub").symlink_to("sub")
    (folder / "named").symlink_to("secret")
    spec = await mesh.stage(*plan_of(folder, "tree", "named"))
    assert spec.files[0] == StagedFile("named", digest_of(b"S"), 1)
    manifest = decode_manifest(double.blobs[spec.files[1].digest])
    assert {file.name: file.digest for file in manifest.files} == {
        "a": digest_of(b"A"),
        "to_a": digest_of(b"A"),
        "sub/b": digest_of(b"B"),
        "to_sub/b": digest_of(b"B"),
    }
    for target, sentence in (
        ("../secret", r"tree/bad leads out of the folder tree"),
        ("/etc/passwd", r"tree/bad leads out of the folder tree"),
        ("nowhere", r"tree/bad leads nowhere"),
        (".", r"tree/bad leads to a folder that it lies in"),
    ):
        (folder / "tree/bad").symlink_to(target)
        with pytest.raises(BadInput, match=sentence):
            plan_of(folder, "tree")
        (folder / "tree/bad").unlink()


@posix_only
def test_a_circle_of_links_ends(folder) -> None:
    (folder / "tree/a").mkdir(parents=True)
    (folder / "tree/b").mkdir()
    (folder / "tree/a/over").symlink_to("../b")
    (folder / "tree/b/back").symlink_to("../a")
    with pytest.raises(BadInput, match="so many folders in each other"):
        plan_of(folder, "tree")


@posix_only
async def test_names_that_not_every_platform_allows_are_mapped_and_told(mesh, double, folder) -> None:
    write(folder, {"Title: Part 2.mkv": b"1", "tree/what?.jpg": b"2", "tree/CON": b"3", "end. ": b"4"})
    plan, spec = plan_of(folder, "tree", items=("Title: Part 2.mkv", "end. "))
    spec = await mesh.stage(plan, spec)
    assert spec.inputs.items == ("Title_ Part 2.mkv", "end__")
    manifest = decode_manifest(double.blobs[spec.files[0].digest])
    assert [file.name for file in manifest.files] == ["_CON", "what_.jpg"]
    assert plan.renamed == {
        "Title: Part 2.mkv": "Title_ Part 2.mkv",
        "end. ": "end__",
        "CON": "_CON",
        "what?.jpg": "what_.jpg",
    }


@posix_only
def test_two_files_of_one_name_are_both_named(folder) -> None:
    write(folder, {"a?.png": b"1", "a*.png": b"2", "A_.png": b"3", "x": b"4", "sub/x": b"5"})
    with pytest.raises(BadInput, match=r"'a\?\.png' and 'a\*\.png'|'a\*\.png' and 'a\?\.png'"):
        plan_of(folder, "a?.png", "a[*].png")
    plan, _spec = plan_of(folder, "a?.png", items=("A_.png",))
    with pytest.raises(BadInput, match=r"'a\?\.png' and 'A_\.png' would both be"):
        plan.check()
    plan, _spec = plan_of(folder, items=("x", str(folder / "sub/x")))
    with pytest.raises(BadInput, match=r"'x' and '.*/sub/x' would both be 'x'"):
        plan.check()


async def test_a_coordinator_without_room_is_told_once(mesh, double, folder) -> None:
    write(folder, {"large.bin": LARGE})

    async def full(request, digest):
        raise MeshError("No room.")

    double._put_blobs = full
    with pytest.raises(MeshError, match=r"No room\."):
        await mesh.stage(*plan_of(folder, "large.bin"))
