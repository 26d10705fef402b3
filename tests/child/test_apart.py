"""Work that kills its process: only the guilty piece is lost, whatever it does."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from pathlib import Path

import pytest
from image_files import Kept, make
from PIL import Image, ImageFile

from planetmesh.child.apart import Died, allowance, one_by_one
from planetmesh.child.image_open import register_formats
from planetmesh.child.images import run

MIB = 1024 * 1024
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux only")


def die(how):
    faulthandler.disable()
    if how == "leave":
        os._exit(9)
    if how == "eat":
        # A chunk at a time, each one touched, as a decoder fills its rows.
        held = []
        while True:
            held.append(bytearray(8 * MIB))
    os.kill(os.getpid(), getattr(signal, how))


def outcomes(count, guilty, how="SIGKILL", memory_bytes=0):
    def work(number):
        if number in guilty:
            die(how)
        return [number, os.getpid()]

    return list(one_by_one(count, work, memory_bytes))


# Each way to die, and each place in the row: no way depends on the place.
@pytest.mark.parametrize(
    ("how", "guilty"),
    [
        *((how, {5}) for how in ("SIGSEGV", "SIGABRT", "leave")),
        *(("SIGKILL", guilty) for guilty in ({0}, {5}, {9}, {2, 3, 7}, set(range(10)))),
    ],
    ids=str,
)
def test_the_guilty_fail_alone(how, guilty):
    found = outcomes(10, guilty, how)
    assert {number for number, each in enumerate(found) if isinstance(each, Died)} == guilty
    assert all(found[number][0] == number for number in set(range(10)) - guilty)
    words = "exit code 9" if how == "leave" else how
    assert all(words in found[number].sentence for number in guilty)
    assert not any(found[number].is_passing for number in guilty)


def test_one_child_does_all_that_goes_well():
    processes = {each[1] for each in outcomes(50, set())}
    assert len(processes) == 1
    assert os.getpid() not in processes
    assert len({each[1] for each in outcomes(50, {20}) if not isinstance(each, Died)}) == 2


def test_what_only_failed_in_company_is_done_by_a_fresh_child(tmp_path):
    seen = tmp_path / "seen"

    def work(number):
        if number == 3 and not seen.exists():
            seen.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    assert list(one_by_one(5, work)) == [0, 1, 2, 3, 4]


@only_linux
def test_memory_ends_for_the_child_and_not_for_us():
    found = outcomes(3, {1}, "eat", memory_bytes=64 * MIB)
    assert found[1] == Died(
        "It needs more memory than the 64 MiB that it may use: give its task more.", False
    )
    assert (found[0][0], found[2][0]) == (0, 2)


@only_linux
def test_the_bound_is_below_the_tasks():
    assert allowance(1024 * MIB, 0) < 0.9 * 1024 * MIB
    assert allowance(MIB, 0) == 32 * MIB
    assert allowance(0, 5 * MIB) == 5 * MIB
    assert 0 < allowance(0, 2**60) < 2**60


def test_an_exception_of_our_own_is_not_hidden(capfd):
    def work(number):
        return 1 // (1 - number)

    found = one_by_one(3, work)
    assert next(found) == 1
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        next(found)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_large_results_are_whole():
    assert list(one_by_one(2, lambda number: bytes([number]) * 5 * MIB)) == [b"\0" * 5 * MIB, b"\1" * 5 * MIB]


def test_nothing_is_left_when_nobody_reads_on():
    found = one_by_one(5, lambda number: [number, os.getpid()])
    _, pid = next(found)
    found.close()
    assert not Path(f"/proc/{pid}").exists() or sys.platform != "linux"
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)


# Images


@pytest.fixture
def deadly(tmp_path, monkeypatch):
    """A format whose reader does what the file says."""

    class Deadly(ImageFile.ImageFile):
        format = "QOI"

        def _open(self):
            how = self.fp.read()[4:].decode()
            if how.startswith("late "):
                how = how.removeprefix("late ")
                self.load = lambda: die(how)
            else:
                die(how)
            self._size, self._mode = (8, 8), "RGB"

    register_formats()
    monkeypatch.setitem(Image.OPEN, "QOI", (Deadly, lambda head: head.startswith(b"qoif")))

    def write(name, how):
        (tmp_path / name).write_bytes(b"qoif" + how.encode())
        return name

    return write


@only_linux
def test_an_image_that_kills_its_reader_fails_alone(tmp_path, deadly):
    names = {
        1: deadly("segv.qoi", "SIGSEGV"),
        2: deadly("kill.qoi", "late SIGKILL"),
        4: deadly("eat.qoi", "eat"),
        5: deadly("leave.qoi", "leave"),
    }
    items = [names.get(number) or f"{number}.png" for number in range(8)]
    for item in items:
        if item.endswith(".png"):
            make(tmp_path / item)

    def limited(call):
        call.memory_bytes = 512 * MIB
        run(call)

    payload = {"operations": [{"op": "resize", "width": 8}, {"op": "convert", "format": "png"}]}
    kept = Kept(limited, tmp_path, {**payload, "output": "out/{/.}.png"}, items)
    assert set(kept.values) == set(range(8)) - names.keys()
    assert kept.has_bad_inputs, "the others' files are kept, and nobody tries again"
    assert kept.sentence.startswith("4 of 8 images cannot be used; first: ImageRefused: segv.qoi: It kills")
    words = {1: "SIGSEGV", 2: "SIGKILL", 4: "more memory than the", 5: "exit code 9"}
    assert all(words[number] in kept.faults[number] for number in names)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "3.png", "6.png", "7.png"]


def test_a_contact_sheet_survives_it_too(tmp_path, deadly, capsys):
    deadly("evil.qoi", "SIGSEGV")
    make(tmp_path / "a.png", mode="P")
    make(tmp_path / "b.png", mode="LA")
    sheet = {"op": "contact_sheet", "width": 40, "height": 40}
    kept = Kept(run, tmp_path, {"operations": [sheet]}, ["a.png", "evil.qoi", "b.png"])
    assert (kept.exit_code, len(kept.values)) == (0, 3)
    assert "SIGSEGV" in kept.values[1]["error"]
    assert "evil.qoi: It kills" in capsys.readouterr().err
