"""What is taken from a task's folder, and what never is: real folders, hostile ones too (T26, T27, T29)."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest

from planetmesh.agent import collecting
from planetmesh.agent.collecting import OutputRefused, Reader, collect
from planetmesh.agent.staging import Stamp, Stopped
from planetmesh.wire.manifest import decode_manifest, encode_manifest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="folders are walked by descriptors")
GIB = 2**30


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "task"
    made.mkdir()
    return made


def write(folder: Path, name: str, content: bytes = b"made") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def take(folder, *patterns, staged=None, most_bytes=GIB, stop=None, **more):
    return collect(folder, patterns, staged or {}, most_bytes, stop or threading.Event(), **more)


def stamp(path: Path) -> Stamp:
    status = path.lstat()
    digest = sha256(path.read_bytes()).hexdigest()
    return Stamp(digest, status.st_dev, status.st_ino, status.st_ctime_ns)


def names(collected):
    return [file.name for file in collected.files]


def test_what_the_patterns_ask_for_is_taken_with_digest_size_and_bits(folder):
    write(folder, "a.png", b"picture")
    write(folder, "out/deep/größe.bin", b"")
    write(folder, "out/tool").chmod(0o755)
    write(folder, "scratch.tmp")
    (folder / "out/hollow").mkdir()
    made = take(folder, "*.png", "out/")
    assert names(made) == ["a.png", "out/deep/größe.bin", "out/tool"]
    assert made.folders == ("out/hollow",)
    assert made.files[0].digest == sha256(b"picture").hexdigest()
    assert [file.is_program for file in made.files] == [False, False, True]
    assert made.size == 7 + 0 + 4
    assert decode_manifest(encode_manifest(made.manifest)) == made.manifest


def test_a_pattern_that_matches_nothing_says_what_there_is_instead(folder):
    write(folder, "a.jpg")
    write(folder, "b\x1b[31m.bin")
    with pytest.raises(OutputRefused) as caught:
        take(folder, "*.jpg", "*.png")
    text = str(caught.value)
    assert "made no file that matches '*.png'" in text
    assert "'a.jpg'" in text
    assert "\x1b" not in text


def test_a_pattern_that_stops_at_the_top_is_told_how_to_go_deeper(folder):
    kept = write(folder, "films/a.mkv")
    write(folder, "films/a.mp4")
    with pytest.raises(OutputRefused, match=r"matches '\*\.mp4' \('\*\*/\*\.mp4' would match\); its folder"):
        take(folder, "*.mp4")
    with pytest.raises(OutputRefused, match=r"matches '\*\.mkv'; its folder"):
        take(folder, "*.mkv", staged={"films/a.mkv": stamp(kept)})


def test_an_empty_folder_is_called_that(folder):
    with pytest.raises(OutputRefused, match="holds nothing"):
        take(folder, "*")


def test_where_inputs_were_no_good_there_may_be_nothing(folder):
    assert names(take(folder, "*.png", needs_all=False)) == []
    write(folder, "a.jpg")
    assert names(take(folder, "*.jpg", "*.png", needs_all=False)) == ["a.jpg"]


def test_inputs_that_nobody_changed_are_no_outputs_unless_named(folder):
    kept, written, touched = (write(folder, f"{name}.txt", name.encode()) for name in "abc")
    staged = {path.name: stamp(path) for path in (kept, written, touched)}
    written.write_bytes(b"new")
    os.utime(touched, (1, 1))
    assert names(take(folder, "*.txt", staged=staged)) == ["b.txt"]
    assert names(take(folder, "*.txt", "./a.txt", staged=staged)) == ["a.txt", "b.txt"]
    written.unlink()
    with pytest.raises(OutputRefused, match="made no file"):
        take(folder, "*.txt", staged=staged)


def test_an_input_that_is_the_caches_own_may_be_asked_for_by_name(folder, tmp_path):
    blob = write(tmp_path, "blob", b"input")
    os.link(blob, folder / "in.bin")
    staged = {"in.bin": Stamp(sha256(b"input").hexdigest(), blob.stat().st_dev, blob.stat().st_ino)}
    assert names(take(folder, "in.bin", staged=staged)) == ["in.bin"]
    (folder / "in.bin").rename(folder / "other.bin")
    with pytest.raises(OutputRefused, match="hard link"):
        take(folder, "*.bin", staged=staged)


def link(folder):
    (folder / "out.bin").symlink_to("/etc/passwd")


def link_to_nothing(folder):
    (folder / "out.bin").symlink_to("/nonexistent")


def hard_link(folder):
    write(folder.parent, "key", b"secret")
    os.link(folder.parent / "key", folder / "out.bin")


def pipe(folder):
    os.mkfifo(folder / "out.bin")


def listener(folder):
    here = os.open(".", os.O_RDONLY)
    try:
        # A path of a socket must be short.
        os.chdir(folder)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("out.bin")
    finally:
        os.fchdir(here)
        os.close(here)


def device(folder):
    if os.geteuid() != 0:
        pytest.skip("only root makes devices")
    try:
        os.mknod(folder / "out.bin", 0o600 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("no devices can be made here")


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (link, "a link"),
        (link_to_nothing, "a link"),
        (hard_link, "hard link"),
        (pipe, "a pipe"),
        (listener, "a socket"),
        (device, "a device"),
    ],
)
def test_nothing_but_ordinary_files_with_one_name_is_taken(plant, reason, folder):
    write(folder, "good.bin")
    plant(folder)
    with pytest.raises(OutputRefused, match=reason) as caught:
        take(folder, "*.bin")
    assert "'out.bin'" in str(caught.value)
    assert names(take(folder, "good.bin")) == ["good.bin"]


def test_no_link_above_a_file_is_followed(folder, tmp_path):
    write(tmp_path, "secret/out/key.bin")
    (folder / "out").symlink_to(tmp_path / "secret/out")
    for pattern in ("out/*.bin", "**"):
        with pytest.raises(OutputRefused, match=r"no file that matches|a link"):
            take(folder, pattern)
    (folder / "task").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="directory"):
        take(folder / "task", "**")


@pytest.mark.parametrize(
    "name",
    [
        "a:b",
        "CON",
        "aux.txt",
        "dot.",
        " blank",
        "back\\slash",
        "line\nfeed",
        "bidi\u202ename",
        "w" * 254 + "é",
    ],
)
def test_a_name_that_some_platform_reads_differently_is_refused_by_name(name, folder):
    try:
        write(folder, name)
    except OSError:
        pytest.skip("this disk has no such names")
    with pytest.raises(OutputRefused, match="file name") as caught:
        take(folder, "**")
    assert "\u202e" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_no_text_is_refused(folder):
    try:
        (Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff"))).write_bytes(b"")
    except OSError:
        pytest.skip("this disk has no such names")
    with pytest.raises(OutputRefused, match="cannot be used"):
        take(folder, "*")


@pytest.mark.parametrize(
    "pair", [("a.bin", "A.bin"), ("caf\u00e9.bin", "cafe\u0301.bin"), ("x/y.bin", "X/y.bin")]
)
def test_two_names_that_are_one_elsewhere_are_refused(pair, folder):
    for name in pair:
        write(folder, name)
    if len(list(folder.iterdir())) < 2:
        pytest.skip("they are one here too")
    with pytest.raises(OutputRefused, match="side by side"):
        take(folder, "**")


def test_a_file_far_larger_than_may_be_taken_is_refused_before_it_is_read(folder):
    with (folder / "out.bin").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OutputRefused, match=r"1\.0 TiB.*output_files_most_bytes"):
        take(folder, "*")


def test_many_that_are_too_large_together_are_refused(folder):
    for number in range(5):
        write(folder, f"{number}.bin", b"x" * 100)
    assert take(folder, "*", most_bytes=500).size == 500
    with pytest.raises(OutputRefused, match="together"):
        take(folder, "*", most_bytes=499)


def test_too_many_files_are_refused(folder, monkeypatch):
    for number in range(5):
        write(folder, f"{number}.bin")
    monkeypatch.setattr(collecting, "FILES_MOST", 4)
    with pytest.raises(OutputRefused, match="more than 4"):
        take(folder, "*")
    monkeypatch.setattr(collecting, "ENTRIES_MOST", 4)
    with pytest.raises(OutputRefused, match="more than 4"):
        take(folder, "0.bin")


def test_folders_without_end_are_not_walked_to_the_end(folder):
    write(folder, "good.bin")
    here = os.open(folder, os.O_RDONLY)
    for _ in range(500):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert names(take(folder, "good.bin")) == ["good.bin"]
    with pytest.raises(OutputRefused, match="too many folders"):
        take(folder, "**")


def test_rights_that_the_task_took_away_do_not_hide_a_file(folder):
    write(folder, "out/a.bin").chmod(0)
    (folder / "out").chmod(0)
    assert names(take(folder, "out/*.bin")) == ["out/a.bin"]


def test_a_file_that_changes_while_it_is_read_is_refused(folder):
    """A process with the file open is all that can still reach it."""
    path = write(folder, "out.bin", b"x" * 40_000_000)
    done = threading.Event()

    def append():
        with path.open("r+b") as file:
            while not done.is_set():
                file.seek(0)
                file.write(os.urandom(8))
                file.flush()
                time.sleep(0.001)

    writer = threading.Thread(target=append)
    writer.start()
    try:
        with pytest.raises(OutputRefused, match="changed while it was read"):
            take(folder, "*")
    finally:
        done.set()
        writer.join()


def test_one_that_grows_is_cut_off(folder):
    path = write(folder, "out.bin", b"x")
    (found,) = take(folder, "*").files
    path.write_bytes(b"xy")
    with pytest.raises(OutputRefused, match="changed"):
        Reader(folder).open(found)


def test_links_that_are_swapped_in_meanwhile_show_nothing_of_others(folder, tmp_path):
    """As if the folder were still in reach: whatever is found is the task's own, or it is refused."""
    secret = write(tmp_path, "secret/out.bin", b"SECRET")
    mine = write(folder, "sub/out.bin", b"mine")
    done = threading.Event()

    def swap():
        while not done.is_set():
            for target, place in ((secret, folder / "sub/out.bin"), (secret.parent, folder / "sub")):
                aside = folder / "aside"
                try:
                    place.rename(aside)
                    place.symlink_to(target)
                    place.unlink()
                    aside.rename(place)
                except OSError:
                    continue

    swapper = threading.Thread(target=swap)
    swapper.start()
    refusals = 0
    try:
        for _ in range(400):
            try:
                for file in take(folder, "sub/out.bin").files:
                    assert file.digest == sha256(b"mine").hexdigest()
            except OutputRefused:
                refusals += 1
    finally:
        done.set()
        swapper.join()
    assert refusals
    assert secret.read_bytes() == b"SECRET"
    assert mine.name == "out.bin"


def test_it_stops_when_told(folder):
    write(folder, "out.bin")
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        take(folder, "*", stop=stop)


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_hundred_thousand_small_files(folder):
    for number in range(100_000):
        if number % 1000 == 0:
            (folder / f"d{number // 1000}").mkdir()
        (folder / f"d{number // 1000}" / str(number)).write_bytes(b"x")
    assert len(take(folder, "**").files) == 100_000
