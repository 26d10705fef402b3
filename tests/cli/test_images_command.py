"""`images` up to the submit: which files, which operations, which names; all that is refused before."""

from __future__ import annotations

import click
import pytest

from planetmesh.cli.image_files import find_images, usual_pattern
from planetmesh.cli.image_options import operation_options, take_operations
from planetmesh.cli.images import chunk_for
from planetmesh.errors import BadInput, NotFound


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def put(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def operations(*arguments):
    found = []

    @click.command()
    @operation_options
    @click.pass_context
    def command(context, **values):
        found.extend(take_operations(context, values))

    command.main(list(arguments), standalone_mode=False)
    return found


def test_operations_are_done_in_the_order_in_which_they_stand():
    found = operations(
        "--strip", "--rotate", "-90", "--resize", "50%", "--crop", "10x20+1+2", "--convert", "JPG"
    )
    assert [each["op"] for each in found] == ["strip", "rotate", "resize", "crop", "convert"]
    assert found[1]["degrees"] == -90.0
    assert found[3] == {"op": "crop", "width": 10, "height": 20, "left": 1, "top": 2}
    assert found[4]["format"] == "jpeg"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1600x1200", {"width": 1600, "height": 1200, "how": "fit"}),
        ("1600x", {"width": 1600, "height": 0, "how": "fit"}),
        ("x1200", {"width": 0, "height": 1200, "how": "fit"}),
        ("1600", {"width": 1600, "height": 1600, "how": "fit"}),
        ("800x600:fill", {"width": 800, "height": 600, "how": "fill"}),
        ("800x600:exact", {"width": 800, "height": 600, "how": "exact"}),
        ("12.5%", {"percent": 12.5}),
    ],
)
def test_sizes(text, wanted):
    assert operations("--resize", text) == [{"op": "resize", **wanted}]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--resize", "x"),
        ("--resize", "big"),
        ("--resize", "10x10^"),
        ("--resize", "-5"),
        ("--thumbnail", "10x10"),
        ("--crop", "10"),
        ("--crop", "10x10+5"),
        ("--rotate", "left"),
        ("--convert", "exe"),
        ("--quality", "5"),
        ("--lossless",),
        ("--enlarge", "--strip"),
        ("--background", "red", "--strip"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments):
    with pytest.raises(BadInput):
        operations(*arguments)


def test_folders_and_patterns_stand_for_the_images_in_them(here):
    put(
        here,
        "a/img10.jpg",
        "a/img9.JPG",
        "a/notes.txt",
        "a/.hidden.jpg",
        "a/.git/x.png",
        "a/b/c.heic",
        "-d.png",
    )
    assert find_images(["a"]) == ["a/b/c.heic", "a/img9.JPG", "a/img10.jpg"]
    assert find_images(["a/*.jpg", "a/img10.jpg", "-d.png"]) == ["a/img10.jpg", "-d.png"]
    assert find_images(["a/notes.txt"]) == ["a/notes.txt"], "its content decides"
    for wrong in ("nothing.jpg", "*.gif", "a/.git/../../none"):
        with pytest.raises(NotFound):
            find_images([wrong])
    (here / "empty").mkdir()
    with pytest.raises(NotFound, match="no image in the folder"):
        find_images(["empty"])


def test_names_keep_their_folders_only_where_they_must():
    assert usual_pattern(["a/1.jpg", "b/2.jpg"]) == "{/.}.{ext}"
    assert usual_pattern(["a/1.jpg", "b/1.JPG"]) == "{.}.{ext}"


def test_tasks_get_several_images_and_there_are_enough_tasks():
    assert [chunk_for(count) for count in (1, 64, 65, 200, 5000)] == [1, 1, 2, 4, 20]


def test_a_dry_run_shows_the_tasks(say, here):
    put(here, *(f"{number}.jpg" for number in range(70)))
    said = say("images", "--resize", "100", "--convert", "webp", "-o", "small", "--dry-run", "--json", ".")
    assert said.status == 0, said.error
    assert len(said.json) == 35
    assert said.json[0]["command"] == "resize 100×100 then convert webp: 0.jpg 1.jpg"
    assert not (here / "small").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("a.jpg",), 2, "What is to be done"),
        (("--strip",), 2, "no images"),
        (("--strip", "none.jpg"), 5, "no file 'none.jpg'"),
        (("--strip", "a.jpg"), 2, "a.jpg exists already; nothing was sent"),
        (("--strip", "--columns", "3", "a.jpg"), 2, "--columns needs --contact-sheet"),
        (("--contact-sheet", "a.jpg", "a.jpg"), 2, "a.jpg exists already"),
        (("--contact-sheet", "sheet.xyz", "a.jpg"), 2, "in which format"),
        (("--contact-sheet", "s.jpg", "--cell", "x", "a.jpg"), 2, "no size"),
        (("--contact-sheet", "s.jpg", "--only-new", "a.jpg"), 2, "-o DIR"),
        (("--strip", "-o", "x", "notes.txt"), 2, "in which format 'notes.txt'"),
        (("--strip", "-o", "x", "plain"), 2, "in which format 'plain'"),
        (("--convert", "webp", "-o", "x", "a.jpg", "a.png"), 2, "would both be 'a.webp'"),
        (("--resize", "200%", "-o", "x", "a.jpg"), 2, "larger than the image"),
    ],
)
def test_what_is_refused_before_anything_is_sent(say, here, arguments, status, words):
    put(here, "a.jpg", "a.png", "notes.txt", "plain")
    said = say("images", *arguments)
    assert (said.status, words in said.error) == (status, True), said.error


def test_only_new_leaves_out_what_is_there(say, here):
    put(here, "a.jpg", "b.jpg", "small/a.jpg")
    said = say("images", "--strip", "-o", "small", "--only-new", "--dry-run", "--json", "a.jpg", "b.jpg")
    assert [task["inputs"] for task in said.json] == [["b.jpg"]]
    said = say("images", "--strip", "-o", "small", "--only-new", "a.jpg")
    assert (said.status, "nothing to do" in said.error) == (0, True)
