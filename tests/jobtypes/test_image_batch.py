"""What an image_batch job may ask for, and what follows from it."""

from __future__ import annotations

import pytest

from planetmesh.errors import BadInput, TooLarge
from planetmesh.jobtypes.image_batch import ImageBatch, output_of, read_images, sheet_size
from planetmesh.model.job import AUTO_CHUNK, Items, JobSpec, One, Range

KIND = ImageBatch()
RESIZE = {"op": "resize", "width": 800, "height": 600}
JPEG = {"op": "convert", "format": "jpeg"}
SHEET = {"op": "contact_sheet"}


def spec_of(*operations, items=("a.png",), inputs=None, chunk=1, outputs=(), **more):
    payload = {"operations": list(operations), **more}
    inputs = Items(items) if inputs is None else inputs
    return JobSpec(type="image_batch", payload=payload, inputs=inputs, chunk=chunk, outputs=outputs)


def checked(*operations, **more):
    spec = KIND.complete(spec_of(*operations, **more))
    KIND.check(spec)
    return spec


def test_who_has_heic_asks_for_nodes_that_know_it():
    assert checked(RESIZE, JPEG, items=("a.png", "b.HEIC")).tags == ("image:heic",)
    assert checked(RESIZE, {"op": "convert", "format": "heic"}).tags == ("image:heic",)
    assert checked(RESIZE, JPEG, items=("heic", "b.jpg")).tags == ()


@pytest.mark.parametrize(
    "operation",
    [
        {},
        {"op": "sharpen"},
        {"op": "resize"},
        {"op": "resize", "width": -1},
        {"op": "resize", "width": 10, "how": "fill"},
        {"op": "resize", "width": 10, "how": "stretch"},
        {"op": "resize", "width": 10, "percent": 50},
        {"op": "resize", "percent": 150},
        {"op": "resize", "percent": -1},
        {"op": "resize", "width": 100_001},
        {"op": "resize", "width": 10, "colour": "red"},
        {"op": "thumbnail", "size": 0},
        {"op": "convert", "format": "jpg"},
        {"op": "convert", "format": "exe"},
        {"op": "convert", "format": "png", "quality": 101},
        {"op": "convert", "format": "jpeg", "lossless": True},
        {"op": "convert", "format": "jpeg", "background": "url(x)"},
        {"op": "crop", "width": 10},
        {"op": "crop", "width": 10, "height": 10, "left": 3},
        {"op": "crop", "width": 10, "height": 10, "left": -3, "top": 0},
        {"op": "rotate", "degrees": 1e9},
        {"op": "contact_sheet", "width": 1},
        {"op": "contact_sheet", "labels": "exif"},
    ],
)
def test_operations_that_make_no_sense_are_refused(operation):
    with pytest.raises(BadInput):
        checked(operation)


@pytest.mark.parametrize(
    ("operations", "more"),
    [
        ((), {}),
        ([RESIZE] * 33, {}),
        ([RESIZE], {"output": "{name}"}),
        ([RESIZE], {"output": "x/"}),
        ([RESIZE], {"output": "../{/}"}),
        ([RESIZE], {"pixels_most": 0}),
        ([RESIZE], {"inputs": One()}),
        ([RESIZE], {"inputs": Range(1, 3)}),
        ([RESIZE], {"items": ("a.psd",)}),
        ([RESIZE], {"items": ("noextension",)}),
        ([RESIZE], {"items": ("../a.png",), "output": "{}"}),
        ([RESIZE], {"items": (".hidden.png",)}),
        ([JPEG], {"output": "{/.}.png"}),
        ([JPEG], {"items": ("a/x.png", "b/x.png")}),
        ([JPEG], {"items": ("x.png", "X.gif")}),
        ([SHEET, SHEET], {}),
        ([SHEET, RESIZE], {}),
        ([SHEET], {"output": "{/.}.jpg"}),
        ([SHEET], {"items": ("a.png", "b.png"), "chunk": AUTO_CHUNK, "output": "x.exe"}),
    ],
)
def test_jobs_that_can_never_run_are_refused(operations, more):
    with pytest.raises(BadInput):
        checked(*operations, **more)


def test_a_wrong_format_is_told_the_right_one():
    with pytest.raises(BadInput) as caught:
        checked({"op": "convert", "format": "jpg"})
    assert "jpeg" in caught.value.hint


def test_outputs_follow_from_the_pattern_unless_they_are_given():
    assert checked(JPEG).outputs == ("*.jpg",)
    assert checked(RESIZE).outputs == ("*.*",)
    assert checked(RESIZE, output="small/{.}.{ext}").outputs == ("small/**/*.*",)
    assert checked(SHEET).outputs == ("contact-sheet.jpg",)
    assert checked(JPEG, outputs=("x/*",)).outputs == ("x/*",)


def test_the_format_is_that_of_convert_or_else_of_the_name():
    def output(*operations, item="dir/a.PNG", **more):
        made = output_of(read_images(spec_of(*operations, **more).payload), item, 0)
        return made.name, made.format

    assert output(RESIZE) == ("a.png", "png")
    assert output(RESIZE, JPEG) == ("a.jpg", "jpeg")
    assert output(RESIZE, output="{/.}.avif") == ("a.avif", "avif")
    assert output(JPEG, output="{/.}-x") == ("a-x", "jpeg")
    assert output(SHEET, {"op": "convert", "format": "webp"}) == ("contact-sheet.webp", "webp")


def test_a_contact_sheet_is_one_task_over_all_images():
    names = tuple(f"{number}.png" for number in range(50))
    assert checked(SHEET, items=names).task_count == 1
    assert checked(SHEET, items=names, chunk=AUTO_CHUNK).task_count == 1
    with pytest.raises(BadInput):
        checked(SHEET, items=names, chunk=10)


def test_a_contact_sheet_that_would_be_too_large_is_refused():
    assert sheet_size(read_images(spec_of(SHEET).payload).sheet, 9) == (768, 819)
    names = tuple(f"{number}.png" for number in range(5000))
    with pytest.raises(TooLarge):
        checked({"op": "contact_sheet", "columns": 1}, items=names)
    with pytest.raises(TooLarge):
        checked(SHEET, items=(*names, "one-more.png"))


def test_numbers_count_inputs_also_where_tasks_have_several():
    assert checked(JPEG, items=("a.png", "b.png", "c.png"), chunk=2).payload["chunk"] == 2
    assert checked(JPEG, items=("a.png", "b.png"), chunk=AUTO_CHUNK).payload.get("chunk", 1) == 1


def test_jobs_are_described_and_alike_by_their_operations():
    payload = spec_of({"op": "rotate"}, RESIZE, {"op": "strip"}, JPEG).payload
    assert (
        KIND.describe(payload, ("a.png",))
        == "rotate upright then resize 800×600 then strip then convert jpeg: a.png"
    )
    assert KIND.kind(payload) == "image_batch rotate+resize+strip+convert"


def test_images_are_made_by_a_call_and_only_where_pillow_is():
    assert KIND.launch(spec_of(RESIZE).payload, ("a.png",), 0).call == "planetmesh.child.images:run"
    assert KIND.needs == ("PIL",)
