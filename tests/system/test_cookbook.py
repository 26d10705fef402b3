"""docs/cookbook.md: every command block is taken out of the page and run on a mesh of two nodes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lan import REPOSITORY
from meshes import Machine, free_port, join

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(360)]

PAGE = (REPOSITORY / "docs" / "cookbook.md").read_text(encoding="utf-8")
BLOCK_SECONDS = 90
PHOTOS = REPOSITORY / "examples" / "photos"

BLENDER = """#!/bin/sh
# blender -b FILE -o //frame-#### -F PNG -s FIRST -e LAST -a
[ "$#" = 11 ] && [ "$1$3$5$7$9${11}" = -b-o-F-s-e-a ] && [ -f "$2" ] && [ "$4" = '//frame-####' ] || exit 64
shift 7
frame=$1
while [ "$frame" -le "$3" ]; do
    printf 'frame %d' "$frame" > "$(printf 'frame-%04d.png' "$frame")"
    frame=$((frame + 1))
done
"""


@dataclass(frozen=True)
class Recipe:
    """What a recipe finds here before, and what it must have brought afterwards."""

    prepare: Callable[[Path], None]
    check: Callable[[Path, str], None]
    programs: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def film(here: Path) -> None:
    (here / "movies").mkdir()
    for name in ("one", "two"):
        made = ["-v", "error", "-f", "lavfi", "-i", "testsrc=d=1:s=64x64:r=5", "-c:v", "mpeg4"]
        subprocess.run(["ffmpeg", *made, str(here / "movies" / f"{name}.mkv")], check=True, timeout=60)


def filmed(here: Path, _said: str) -> None:
    assert names(here / "films") == ["movies/one.mp4", "movies/two.mp4"]


def photographed(here: Path, _said: str) -> None:
    assert names(here / "small") == ["dusk.webp", "meadow.webp", "sea.webp"]
    sheets = [path for path in here.rglob("sheet.jpg") if path.stat().st_size > 1000]
    assert len(sheets) == 1


def rendered(here: Path, _said: str) -> None:
    assert names(here / "frames") == [f"frame-{number:04d}.png" for number in range(1, 251)]
    assert (here / "frames" / "frame-0250.png").read_text() == "frame 250"


def swept(here: Path, _said: str) -> None:
    assert (here / "sweep.csv").read_text().splitlines() == [
        f"{rate},{size},{rate * size:.2f}" for rate in (0.1, 0.2, 0.4) for size in (16, 32)
    ]


def model(here: Path) -> None:
    sys.path.insert(0, str(REPOSITORY / "tests"))
    try:
        import tiny_model
    finally:
        sys.path.pop(0)
    tiny_model.make(here / "all-MiniLM-L6-v2")
    put(here / "texts.txt", "the cat sits on the mat\n\nrevenue grew by percent\nthe cat sleeps on the mat\n")


def embedded(_here: Path, said: str) -> None:
    assert "the cat sits on the mat  ->  the cat sleeps on the mat" in said


def folders(here: Path) -> None:
    for name in ("garden", "house"):
        put(here / "projects" / name / "plan.txt", name)


def archived(here: Path, _said: str) -> None:
    assert names(here / "backup") == ["garden.tar.gz", "house.tar.gz"]
    sums = (here / "sums.txt").read_text().splitlines()
    assert [line.split()[1] for line in sums] == ["./plan.txt", "./plan.txt"]


def sources(here: Path) -> None:
    put(here / "main.c", "int main(void) { return 0; }\n")
    for name in ("add", "take"):
        body = f"import unittest\nclass T(unittest.TestCase):\n    def test_{name}(self): print('{name}')\n"
        put(here / "tests" / f"test_{name}.py", body)


def built(here: Path, said: str) -> None:
    assert names(here / "bin") == ["main-O0", "main-O2"]
    assert re.search(r"^add$.*^take$", said, re.MULTILINE | re.DOTALL), said


def counted(_here: Path, said: str) -> None:
    assert said.split() == ["333283335000"]


def training(here: Path) -> None:
    put(here / "train.py", "open('model.bin', 'w').write('trained')\n")


def trained(here: Path, said: str) -> None:
    assert "1 GPU" in said
    assert (here / "model.bin").read_text() == "trained"


def nothing(_here: Path) -> None:
    pass


RECIPES = {
    "Video with ffmpeg": Recipe(film, filmed, programs=("ffmpeg",)),
    "Photos": Recipe(lambda here: shutil.copytree(PHOTOS, here / "photos"), photographed, modules=("PIL",)),
    "Frames with Blender": Recipe(lambda here: put(here / "scene.blend", "scene"), rendered),
    "A parameter sweep": Recipe(nothing, swept),
    "Embeddings, and what is nearest": Recipe(model, embedded, modules=("numpy", "tokenizers")),
    "Checksums and archives of many folders": Recipe(folders, archived, programs=("tar",)),
    "Builds and tests": Recipe(sources, built, programs=("cc",)),
    "A map in Python": Recipe(nothing, counted),
    "GPUs": Recipe(training, trained),
}


@dataclass(frozen=True)
class Kitchen:
    """The mesh that all recipes are cooked on, and where its nodes look for files and programs."""

    desk: Machine
    path: str
    nas: Path

    def cook(self, block: str, here: Path) -> str:
        """Run one block as somebody at a shell would; what it said on stdout."""
        env = {
            **os.environ,
            "PATH": self.path,
            "PLANETMESH_HOME": str(self.desk.home),
            "PYTHONPATH": str(REPOSITORY),
        }
        script = block.replace("/mnt/nas", str(self.nas))
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            env=env,
            cwd=here,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BLOCK_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kitchen]:
    folder = tmp_path_factory.mktemp("kitchen")
    # Not below pytest's own folder: that is closed to the user that tasks run as.
    lent = Path(tempfile.mkdtemp(prefix="planetmesh-cookbook-", dir="/var/tmp"))
    lent.chmod(0o755)
    put(lent / "bin" / "blender", BLENDER)
    (lent / "bin" / "blender").chmod(0o755)
    folders(lent / "nas")
    put(folder / "bin" / "planetmesh", f'#!/bin/sh\nexec "{sys.executable}" -m planetmesh "$@"\n')
    (folder / "bin" / "planetmesh").chmod(0o755)
    nodes_path = {"PATH": f"{lent / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    desk, attic = (Machine(folder / name, env=nodes_path) for name in ("desk", "attic"))
    try:
        port, offer = free_port(), ("--cpus", "2", "--share", str(lent), "--no-mdns")
        desk.up("--new", "--bind", "127.0.0.1", "--port", port, "--name", "desk", *offer)
        join(desk, attic, "--join", f"127.0.0.1:{port}", "--name", "attic", *offer)
        own = os.pathsep.join((str(folder / "bin"), str(Path(sys.executable).parent)))
        yield Kitchen(desk, f"{own}{os.pathsep}{os.environ['PATH']}", lent / "nas")
        print(desk.log[-4000:], attic.log[-4000:])
    finally:
        attic.close()
        desk.close()
        shutil.rmtree(lent)


def test_every_recipe_is_tried() -> None:
    with_commands = {title for title, text in sections().items() if blocks(text, "sh")}
    assert with_commands == set(RECIPES)


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe(title: str, kitchen: Kitchen, tmp_path: Path) -> None:
    recipe, text = RECIPES[title], sections()[title]
    for program in recipe.programs:
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here")
    for module in recipe.modules:
        pytest.importorskip(module)
    recipe.prepare(tmp_path)
    for source in blocks(text, "python"):
        name = re.match(r"# (\w+\.py)\n", source)
        assert name, "a block of Python begins with the name of its file"
        put(tmp_path / name[1], source)
    said = "".join(kitchen.cook(block, tmp_path) for block in blocks(text, "sh"))
    recipe.check(tmp_path, said)
