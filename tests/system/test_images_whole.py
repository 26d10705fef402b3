"""`images` and `embed` on a real mesh: broken images among many, one sheet; many texts, one file."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from meshes import Machine
from PIL import Image

from planetmesh.child.model_folder import ModelFolder

sys.path.insert(0, str(Path(__file__).parent.parent / "child"))

from image_files import bomb, encoded, make, moving

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(360)]

GOOD = 30


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where tasks may look, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="planetmesh-test-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "home")
    try:
        machine.up("--new", "--no-mdns", "--bind", "127.0.0.1", "--port", "0", "--cpus", "2")
        assert machine.call("status", "--wait", "--timeout", "20").status == 0, machine.log
        yield machine
        print(machine.log[-6000:])
    finally:
        machine.close()


def photos(folder: Path) -> set[str]:
    """Good ones and bad ones; the names of the bad ones."""
    for number in range(GOOD - 8):
        make(folder / f"IMG_{number}.jpg", (320, 240))
    exif = Image.Exif()
    exif[0x0112] = 6
    make(folder / "turned.jpg", (320, 240), exif=exif)
    make(folder / "cmyk.jpg", mode="CMYK")
    make(folder / "deep.png", mode="I;16")
    moving(folder / "moving.gif")
    (folder / "phone.heic").write_bytes(_heic())
    make(folder / "new.avif")
    make(folder / "deeper/größe ☃ 図.webp")
    make(folder / "-rf.png")
    (folder / "cut.jpg").write_bytes(encoded("JPEG")[:-200])
    (folder / "text.jpg").write_text("not an image")
    (folder / "empty.png").touch()
    bomb(folder / "bomb.png")
    return {"cut.jpg", "text.jpg", "empty.png", "bomb.png"}


def _heic() -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    out = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(out, "HEIF")
    return out.getvalue()


def test_many_images_with_broken_ones_and_one_sheet(machine: Machine, folder: Path) -> None:
    bad = photos(folder / "photos")
    small, sheet = folder / "small", folder / "sheet.png"
    said = machine.call(
        "images", "--thumbnail", "64", "--convert", "webp", "-o", str(small), "--contact-sheet", str(sheet),
        "--columns", "6", "--cell", "64", "--chunk", "5", str(folder / "photos"), seconds=90,
    )  # fmt: skip
    assert said.status == 1, said.error
    assert f"4 of {GOOD + 4} images have no result:" in said.error
    for name, words in (
        ("cut.jpg", "cut off"),
        ("text.jpg", "no image"),
        ("empty.png", "empty"),
        ("bomb.png", "pixels"),
    ):
        assert any(name in line and words in line for line in said.error.splitlines()), said.error
    made = {path.stem for path in small.rglob("*.webp")}
    assert len(made) == GOOD
    assert made.isdisjoint(name.partition(".")[0] for name in bad)
    with Image.open(small / "turned.webp") as image:
        assert image.size == (48, 64)
    with Image.open(sheet) as image:
        assert image.size[0] == 6 * (64 + 12) + 12
    jobs = {job["name"]: job for job in machine.json("jobs")}
    tasks = machine.json("job", jobs["images"]["id"], "--tasks")
    assert {task["attempts"] for task in tasks} == {1}, "a broken image is not tried again"
    again_later(machine, folder)
    vectors(machine, folder)


def again_later(machine: Machine, folder: Path) -> None:
    """Detached, and all of one task's images broken: the sheet comes with `fetch`, twice the same."""
    inputs = [str(folder / "photos" / name) for name in ("IMG_0.jpg", "cut.jpg", "-rf.png")]
    said = machine.call("images", "--contact-sheet", "later.jpg", "--detach", "--", *inputs)
    assert said.status == 0, said.error
    job = said.out.strip()
    assert machine.call("wait", job).status == 1
    assert machine.nodes().popitem()[1]["state"] == "HEALTHY"
    for target in ("one", "two"):
        said = machine.call("fetch", job, "-o", str(folder / target))
        assert said.status == 1, said.error
        assert "1 of 3 images has no result:" in said.error
        assert "cut.jpg: It is cut off" in said.error
        assert [path.name for path in (folder / target).iterdir()] == ["later.jpg"]
    assert (folder / "one/later.jpg").read_bytes() == (folder / "two/later.jpg").read_bytes()
    sheets = [job for job in machine.json("jobs") if job["name"].startswith("contact sheet")]
    assert len(sheets) == 2, "the same sheet is made once"


def vectors(machine: Machine, folder: Path) -> None:
    texts = [f"the cat sits on mat {number} a dog" for number in range(1500)]
    (folder / "texts.txt").write_text("\n\n".join(texts))
    model = tiny_model.make(folder / "model")
    out = folder / "vectors.npy"
    said = machine.call("embed", "--model", str(model), "-o", str(out), str(folder / "texts.txt"), seconds=90)
    assert said.status == 0, said.error
    np.testing.assert_allclose(np.load(out), ModelFolder(model).encode(texts), atol=1e-5)
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []
    said = machine.call("embed", "--model", str(model), "-o", str(out), str(folder / "texts.txt"))
    assert (said.status, "exists already" in said.error) == (2, True)
    (folder / "notes").mkdir()
    (folder / "notes/a.txt").write_text("a dog")
    (folder / "notes/b.txt").write_bytes(b"\xff\xfe no text")
    (folder / "notes/c.txt").write_text("\ufeffthe cat")
    files = [str(folder / "notes" / name) for name in ("a.txt", "b.txt", "c.txt")]
    said = machine.call(
        "embed", "--model", str(model), "-o", "n.npy", "--per", "file", "--chunk", "3", "--detach", *files
    )
    assert said.status == 0, said.error
    job = said.out.strip()
    machine.call("wait", job)
    said = machine.call("fetch", job, "-o", str(folder / "n"))
    assert said.status == 1, said.error
    assert "1 of 3 texts has no vector" in said.error
    found = np.load(folder / "n/n.npy")
    assert np.isnan(found).any(axis=1).tolist() == [False, True, False]
    np.testing.assert_allclose(found[[0, 2]], ModelFolder(model).encode(["a dog", "the cat"]), atol=1e-5)
    assert [path.name for path in (folder / "n").iterdir()] == ["n.npy"]
