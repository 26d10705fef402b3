"""Files that tasks made: all of them or a clear word, never over something else, never out of the folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import pytest
from api_double import Double
from blob_double import digest_of

from planetmesh.client.async_client import AsyncMesh
from planetmesh.client.wanted import Wanted
from planetmesh.errors import Conflict, MeshError, NotFound, PeerMisbehaved, WrongDigest
from planetmesh.model.blob import Manifest, ManifestFile
from planetmesh.paths import Home

LARGE = bytes(range(256)) * 4 * 4096  # 4 MiB
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")


@pytest.fixture
async def mesh(double: Double, home: Home):
    async with AsyncMesh(home.root, patience_seconds=5) as mesh:
        await mesh.status()
        yield mesh


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "made"


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


async def test_small_and_large_files_arrive_and_are_not_fetched_twice(mesh, double, folder) -> None:
    first = {"a.txt": b"a", "sub/x/b.txt": b"", "large.bin": LARGE}
    double.bring("job", 0, first, executable=True)
    double.bring("job", 3, {"ü ß.txt": b"3", "sub/c": b"a"})
    manifest = Manifest((ManifestFile("d", double.put(b"d"), 1),), ("hollow/deep",))
    double.bring_manifest("job", 4, msgspec.json.encode(manifest))
    fetched = await mesh.fetch("job", folder)
    assert content_of(folder) == first | {"ü ß.txt": b"3", "sub/c": b"a", "d": b"d"}
    assert (folder / "hollow/deep").is_dir()
    assert [(file.index, file.name, file.present) for file in fetched[:2]] == [
        (0, "a.txt", False),
        (0, "sub/x/b.txt", False),
    ]
    if sys.platform != "win32":
        assert os.access(folder / "a.txt", os.X_OK)
        assert not (folder / "d").stat().st_mode & 0o111
    double.ranges.clear()
    again = await mesh.fetch("job", folder)
    assert all(file.present for file in again)
    assert double.ranges == []


async def test_a_cut_transfer_goes_on_where_it_ended(mesh, double, folder) -> None:
    double.bring("job", 0, {"large.bin": LARGE})
    double.cuts = [1_500_000, 700_000]
    await mesh.fetch("job", folder)
    assert content_of(folder) == {"large.bin": LARGE}
    first, second, third = double.ranges
    assert first == ""
    assert 0 < int(second[6:-1]) < int(third[6:-1]) < len(LARGE)


async def test_another_command_goes_on_too_and_wrong_beginnings_are_noticed(mesh, double, folder) -> None:
    double.bring("job", 0, {"sub/large.bin": LARGE})
    wanted = (await mesh.files("job"))[0]
    (folder / "sub").mkdir(parents=True)
    (folder / wanted.part_path).write_bytes(LARGE[:1_000_000])
    await mesh.fetch("job", folder)
    assert double.ranges == ["bytes=1000000-"]
    (folder / "sub/large.bin").unlink()
    (folder / wanted.part_path).write_bytes(b"x" * 1_000_000)
    await mesh.fetch("job", folder)
    assert double.ranges[1:] == ["bytes=1000000-", ""]
    assert content_of(folder) == {"sub/large.bin": LARGE}


async def test_other_content_is_never_replaced_unasked(mesh, double, folder) -> None:
    double.bring("job", 0, {"a": b"new", "b": b"b", "c": LARGE})
    folder.mkdir()
    (folder / "a").write_bytes(b"old")
    (folder / "c").write_bytes(b"old")
    with pytest.raises(Conflict, match=r"made/a, .*made/c exist already with other content"):
        await mesh.fetch("job", folder)
    assert content_of(folder) == {"a": b"old", "c": b"old"}
    await mesh.fetch("job", folder, overwrite=True)
    assert content_of(folder) == {"a": b"new", "b": b"b", "c": LARGE}
    (folder / "b").unlink()
    (folder / "b").mkdir()
    with pytest.raises(Conflict, match="is a folder"):
        await mesh.fetch("job", folder, overwrite=True)


async def test_clashes_are_listed_before_anything_is_written(mesh, double, folder) -> None:
    for index in range(8):
        double.bring("job", index, {f"out{number}.txt": b"%d" % index for number in range(7)})
    with pytest.raises(Conflict) as raised:
        await mesh.fetch("job", folder)
    assert raised.value.message.count("of tasks") == 5
    assert "and 2 more" in raised.value.message
    assert "--by-task" in raised.value.hint
    assert not folder.exists()
    await mesh.fetch("job", folder, by_task=True)
    assert (folder / "7/out6.txt").read_bytes() == b"7"
    assert len(content_of(folder)) == 56


@pytest.mark.parametrize(
    ("first", "second"), [({"A.txt": b"1"}, {"a.txt": b"1"}), ({"a": b"1"}, {"a/b": b"2"})]
)
async def test_names_that_clash_on_some_platform_clash_everywhere(
    mesh, double, folder, first, second
) -> None:
    double.bring("job", 0, first)
    double.bring("job", 1, second)
    with pytest.raises(Conflict, match="Several tasks made files of one name"):
        await mesh.fetch("job", folder)


async def test_the_same_content_under_one_name_is_no_clash(mesh, double, folder) -> None:
    for index in range(3):
        double.bring("job", index, {"LICENSE": b"same"})
    fetched = await mesh.fetch("job", folder)
    assert [file.index for file in fetched] == [0, 1, 2]
    assert content_of(folder) == {"LICENSE": b"same"}
    assert [file.index for file in await mesh.fetch("job", folder, index=1)] == [1]


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/../../x", "C:\\x", "CON", "a\\b", "a\x1b[31m", "a.", "", "x" * 300]
)
async def test_names_that_lead_elsewhere_write_nothing(mesh, double, folder, name: str) -> None:
    double.bring("job", 0, {"good": b"1"})
    manifest = Manifest((ManifestFile(name, double.put(b"x"), 1),))
    double.bring_manifest("job", 1, msgspec.json.encode(manifest))
    with pytest.raises(PeerMisbehaved, match="cannot be used"):
        await mesh.fetch("job", folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"files":[["a","xyz",1]]}', b'{"files":1}', b"\xff" * 99]
)
async def test_what_is_no_manifest_is_refused(mesh, double, folder, raw: bytes) -> None:
    double.bring_manifest("job", 0, raw)
    with pytest.raises(PeerMisbehaved, match="cannot be used"):
        await mesh.fetch("job", folder)


@pytest.mark.parametrize("content", [b"12345", LARGE])
@pytest.mark.parametrize("by", [-1, 1])
async def test_a_size_that_lies_is_refused(mesh, double, folder, content: bytes, by: int) -> None:
    manifest = Manifest((ManifestFile("a", double.put(content), len(content) + by),))
    double.bring_manifest("job", 0, msgspec.json.encode(manifest))
    with pytest.raises(PeerMisbehaved, match="which is not so"):
        await mesh.fetch("job", folder)
    assert not (folder / "a").exists()


@pytest.mark.parametrize("content", [b"12345", LARGE])
async def test_a_digest_that_lies_is_refused(mesh, double, folder, content: bytes) -> None:
    double.bring("job", 0, {"a": content})
    double.blobs[digest_of(content)] = content[:-1] + b"?"
    with pytest.raises(WrongDigest, match="arrived damaged"):
        await mesh.fetch("job", folder)
    assert not (folder / "a").exists()
    double.blobs[digest_of(content)] = content
    await mesh.fetch("job", folder)
    assert content_of(folder) == {"a": content}


async def test_a_blob_that_is_gone_is_told(mesh, double, folder) -> None:
    double.bring("job", 0, {"a": LARGE})
    del double.blobs[digest_of(LARGE)]
    with pytest.raises(NotFound):
        await mesh.fetch("job", folder)


@posix_only
async def test_planted_links_are_never_followed(mesh, double, folder, tmp_path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"precious")
    folder.mkdir()
    double.bring("job", 0, {"sub/a": b"1", "sub/large": LARGE})
    (folder / "sub").symlink_to(outside)
    for overwrite in (False, True):
        with pytest.raises(Conflict, match="made/sub is a link"):
            await mesh.fetch("job", folder, overwrite=overwrite)
    (folder / "sub").unlink()
    (folder / "sub").mkdir()
    (folder / "sub/a").symlink_to(outside / "victim")
    with pytest.raises(Conflict, match="other content"):
        await mesh.fetch("job", folder)
    for wanted in await mesh.files("job"):
        (folder / wanted.part_path).symlink_to(outside / "victim")
    await mesh.fetch("job", folder, overwrite=True)
    assert (outside / "victim").read_bytes() == b"precious"
    assert not (folder / "sub/a").is_symlink()
    assert content_of(folder) == {"sub/a": b"1", "sub/large": LARGE}
    (folder / "sub/large").unlink()
    os.link(outside / "victim", folder / (await mesh.files("job"))[1].part_path)
    await mesh.fetch("job", folder)
    assert (outside / "victim").read_bytes() == b"precious"


async def test_many_small_files_come_together(mesh, double, folder) -> None:
    for index in range(3):
        double.bring("job", index, {f"{index}/f{number}": b"%d" % number for number in range(900)})
    before = len(double.requests)
    await mesh.fetch("job", folder)
    assert len(content_of(folder)) == 2700
    assert len(double.requests) - before < 12


async def test_a_folder_that_cannot_be_is_told(mesh, double, tmp_path) -> None:
    double.bring("job", 0, {"a": b"1"})
    (tmp_path / "file").touch()
    with pytest.raises(MeshError, match="cannot be made"):
        await mesh.fetch("job", tmp_path / "file")


def test_the_name_of_a_part_fits_and_is_its_own() -> None:
    long = Wanted(0, "a/" + "ü" * 120, digest_of(b"1"), 1)
    assert len(long.part.encode()) < 255
    other = Wanted(0, "a/" + "ü" * 119 + "x", digest_of(b"1"), 1)
    assert long.part != other.part
    assert long.part_path == f"a/{long.part}"
