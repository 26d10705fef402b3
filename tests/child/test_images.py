"""What image_batch does to images, and what it does with those that are no good."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from image_files import COLOURS, Kept, bomb, encoded, make, moving, srgb_profile
from PIL import Image

from planetmesh.child import images
from planetmesh.child.images import run

RESIZE = {"op": "resize", "width": 32, "height": 32}
STRIP = {"op": "strip"}


def to(kind, **more):
    return {"op": "convert", "format": kind, **more}


def batch(folder, items, *operations, **more):
    return Kept(run, folder, {"operations": list(operations), **more}, items)


def one(folder, item, *operations, **more):
    """The made image, loaded."""
    return each(folder, [item], *operations, **more)[0]


def each(folder, items, *operations, **more):
    """The made images, loaded; one batch is one process, and that is what these tests' time goes to."""
    kept = batch(folder, items, *operations, **more)
    assert kept.faults == {}
    images = []
    for number in range(len(items)):
        value = kept.values[number]
        image = look(folder / value["output"])
        assert image.size == (value["width"], value["height"])
        assert (folder / value["output"]).stat().st_size == value["bytes"]
        images.append(image)
    return images


def look(path):
    """No file stays open: an animation's would until its last frame."""
    image = Image.open(io.BytesIO(path.read_bytes()))
    image.load()
    return image


# Operations


@pytest.mark.parametrize(
    ("operation", "size"),
    [
        ({"op": "resize", "width": 32, "height": 32}, (32, 24)),
        ({"op": "resize", "width": 32}, (32, 24)),
        ({"op": "resize", "height": 24}, (32, 24)),
        ({"op": "resize", "width": 32, "height": 32, "how": "fill"}, (32, 32)),
        ({"op": "resize", "width": 32, "height": 32, "how": "exact"}, (32, 32)),
        ({"op": "resize", "percent": 25}, (16, 12)),
        ({"op": "resize", "width": 640, "height": 480}, (64, 48)),
        ({"op": "resize", "width": 640, "height": 480, "enlarge": True}, (640, 480)),
        ({"op": "resize", "width": 96, "height": 96, "how": "fill"}, (48, 48)),
        ({"op": "resize", "width": 96, "height": 96, "how": "fill", "enlarge": True}, (96, 96)),
        ({"op": "resize", "width": 100, "height": 10, "how": "exact"}, (64, 10)),
        ({"op": "resize", "percent": 200, "enlarge": True}, (128, 96)),
        ({"op": "resize", "width": 1}, (1, 1)),
        ({"op": "thumbnail", "size": 16}, (16, 12)),
        ({"op": "thumbnail", "size": 16, "square": True}, (16, 16)),
        ({"op": "crop", "width": 10, "height": 20}, (10, 20)),
        ({"op": "crop", "width": 10, "height": 20, "left": 54, "top": 28}, (10, 20)),
        ({"op": "rotate", "degrees": 90}, (48, 64)),
        ({"op": "rotate", "degrees": -180}, (64, 48)),
        ({"op": "rotate", "degrees": 360}, (64, 48)),
        ({"op": "rotate"}, (64, 48)),
    ],
)
def test_sizes(tmp_path, operation, size):
    names = ["a.png", "b.jpg"]
    for name in names:
        make(tmp_path / name)
    assert [made.size for made in each(tmp_path, names, operation)] == [size, size]


def test_an_image_is_turned_clockwise(tmp_path):
    make(tmp_path / "a.png")
    turned = one(tmp_path, "a.png", {"op": "rotate", "degrees": 90}, output="turned.png")
    assert turned.getpixel((10, 5)) == COLOURS["RGB"][0]
    assert turned.getpixel((10, 60)) == COLOURS["RGB"][1]


def test_corners_of_a_turned_image_are_filled(tmp_path):
    make(tmp_path / "a.png")
    make(tmp_path / "b.png", mode="RGBA")
    slanted = {"op": "rotate", "degrees": 30, "background": "#102030"}
    assert one(tmp_path, "a.png", slanted).getpixel((0, 0)) == (16, 32, 48)
    assert one(tmp_path, "b.png", slanted).getpixel((0, 0))[3] == 0


def test_images_are_turned_upright_as_their_exif_says_and_only_once(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a cat"
    make(tmp_path / "a.jpg", exif=exif)
    made = one(tmp_path, "a.jpg", RESIZE, output="b.jpg")
    assert made.size == (24, 32)
    assert made.getexif().get(0x0112, 1) == 1
    assert made.getexif()[0x010E] == "a cat"


def test_operations_follow_each_other(tmp_path):
    make(tmp_path / "a.png", (100, 100))
    steps = [{"op": "crop", "width": 80, "height": 40}, {"op": "rotate", "degrees": 90}, RESIZE, to("webp")]
    made = one(tmp_path, "a.png", *steps)
    assert (made.size, made.format) == ((16, 32), "WEBP")


# Formats and modes


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "avif", "heic", "gif", "tiff", "bmp"])
def test_every_kind_of_image_becomes_every_format(tmp_path, kind):
    sources = {
        mode: f"{mode.replace(';', '-')}.{'tif' if mode == 'CMYK' else 'png'}"
        for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "CMYK", "I;16")
    }
    for mode, source in sources.items():
        make(tmp_path / source, mode=mode)
    images = each(tmp_path, [*sources.values()], RESIZE, to(kind), output="out/{/.}")
    for (mode, source), made in zip(sources.items(), images, strict=True):
        assert made.size == (32, 24), mode
        seen = made.convert("RGBA").getpixel((4, 12))
        before = look(tmp_path / source)
        if mode == "I;16":
            before = before.point(lambda value: value / 256).convert("L")
        wanted = before.convert("RGBA").getpixel((8, 24))
        if mode == "I;16" and made.mode.startswith("I"):
            assert abs(made.getpixel((4, 12)) - COLOURS[mode][0]) < 600
        else:
            close = all(abs(a - b) < 26 for a, b in zip(seen[:3], wanted[:3], strict=True))
            assert close, (mode, seen, wanted)


def test_sixteen_bits_stay_where_the_format_has_them(tmp_path):
    make(tmp_path / "a.png", mode="I;16")
    assert one(tmp_path, "a.png", {"op": "rotate", "degrees": 90}, output="b.png").getpixel((0, 0)) == 1000
    assert one(tmp_path, "a.png", RESIZE, output="c.png").getpixel((1, 1)) == pytest.approx(1000, abs=2)
    assert one(tmp_path, "a.png", to("jpeg")).getpixel((60, 10)) == pytest.approx(60_000 >> 8, abs=3)


def test_transparent_places_get_the_background_where_a_format_has_none(tmp_path):
    make(tmp_path / "a.png", mode="RGBA")
    made = one(tmp_path, "a.png", to("jpeg", background="#00ff00"))
    assert made.getpixel((60, 10)) == pytest.approx((0, 255, 0), abs=3)
    assert one(tmp_path, "a.png", to("webp")).getpixel((60, 10))[3] == 0


def test_numbers_that_are_no_colours_are_said(tmp_path):
    make(tmp_path / "a.tif", mode="F")
    kept = batch(tmp_path, ["a.tif"], to("jpeg"))
    assert "floating-point" in kept.faults[0]
    assert one(tmp_path, "a.tif", RESIZE, output="b.tif").mode == "F"


def test_quality_and_lossless_count(tmp_path):
    Image.effect_noise((200, 200), 80).convert("RGB").save(tmp_path / "a.png")
    sizes = [
        batch(tmp_path, ["a.png"], to("webp", **how)).values[0]["bytes"]
        for how in ({"quality": 10}, {"quality": 90}, {"lossless": True})
    ]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3


def test_an_animation_stays_one_where_the_format_can(tmp_path):
    moving(tmp_path / "a.gif")
    for kind in ("gif", "webp", "png"):
        made = look(tmp_path / batch(tmp_path, ["a.gif"], RESIZE, to(kind), output="b").values[0]["output"])
        assert (made.n_frames, made.size) == (4, (32, 24))
        made.seek(2)
        assert made.convert("RGB").getpixel((16, 12)) == pytest.approx((120, 20, 120), abs=12)
    still = one(tmp_path, "a.gif", to("jpeg"))
    assert still.getpixel((20, 15)) == pytest.approx((0, 20, 200), abs=6)


def test_the_times_of_an_animation_are_kept(tmp_path):
    moving(tmp_path / "a.gif")
    made = one(tmp_path, "a.gif", RESIZE, output="b.gif")
    assert made.info["loop"] == 3
    assert [frame_time(made, number) for number in range(4)] == [50, 60, 70, 80]


def frame_time(image, number):
    image.seek(number)
    return image.info["duration"]


# What is known about the picture


def test_the_profile_and_the_exif_stay_unless_they_are_stripped(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    make(tmp_path / "a.jpg", exif=exif, icc_profile=srgb_profile(), comment=b"secret place", dpi=(300, 300))
    for kind in ("jpeg", "png", "webp", "avif"):
        made = one(tmp_path, "a.jpg", RESIZE, to(kind), output="b")
        assert made.info["icc_profile"] == srgb_profile()
        assert made.getexif()[0x010F] == "Maker"
        bare = one(tmp_path, "a.jpg", RESIZE, STRIP, to(kind), output="b")
        assert not bare.info.get("icc_profile")
        assert not bare.getexif()
        assert b"secret" not in (tmp_path / "b").read_bytes()


def test_thumbnails_hold_nothing_but_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    make(tmp_path / "a.jpg", (640, 480), exif=exif, icc_profile=srgb_profile())
    made = one(tmp_path, "a.jpg", {"op": "thumbnail", "size": 64}, output="b.jpg")
    assert not made.getexif()
    assert "icc_profile" not in made.info


def test_stripping_keeps_the_look_of_colours(tmp_path):
    """The same numbers mean other colours by the profile than in sRGB."""
    swapped = bytearray(srgb_profile())
    red, blue = (swapped.index(tag, 128, 400) for tag in (b"rXYZ", b"bXYZ"))
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    make(tmp_path / "a.png", icc_profile=bytes(swapped))
    red, _, blue = one(tmp_path, "a.png", STRIP, output="b.png").getpixel((10, 10))
    assert red < 100 < blue


def test_a_profile_of_other_colours_is_left_behind(tmp_path):
    make(tmp_path / "a.tif", mode="CMYK", icc_profile=b"\0" * 16 + b"CMYK" + b"\0" * 200)
    made = one(tmp_path, "a.tif", to("webp"))
    assert "icc_profile" not in made.info


# Broken and hostile ones


@pytest.fixture
def evil(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not an image at all")
    (tmp_path / "cut.jpg").write_bytes(encoded("JPEG")[:-200])
    (tmp_path / "cut.png").write_bytes(encoded("PNG")[:60])
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(x) run\n")
    (tmp_path / "head.webp").write_bytes(encoded("WEBP")[:30])
    (tmp_path / "noise.gif").write_bytes(b"GIF89a" + bytes(range(256)) * 4)
    os.mkfifo(tmp_path / "pipe.png")
    bomb(tmp_path / "bomb.png")
    return tmp_path


def test_each_broken_image_fails_alone_with_a_reason(evil):
    make(evil / "first.png")
    make(evil / "last.png")
    broken = {
        "empty.jpg": "is empty",
        "text.jpg": "no image",
        "cut.jpg": "cut off",
        "cut.png": "",
        "folder.png": "folder",
        "script.png": "no image",
        "head.webp": "",
        "noise.gif": "",
        "pipe.png": "no file",
        "bomb.png": "far more pixels",
        "missing.png": "no such file",
    }
    items = ["first.png", *broken, "last.png"]
    kept = batch(evil, items, RESIZE, to("webp"))
    assert set(kept.values) == {0, len(items) - 1}
    assert (kept.exit_code, kept.sentence[:31]) == (1, "11 of 13 images cannot be used;")
    for number, (name, words) in enumerate(broken.items(), start=1):
        assert kept.faults[number].startswith(f"ImageRefused: {name}: ")
        assert words in kept.faults[number]
    assert not list(evil.glob(".*"))
    assert kept.has_bad_inputs


def test_what_this_node_cannot_do_may_go_well_elsewhere(tmp_path, monkeypatch):
    make(tmp_path / "a.heic")
    make(tmp_path / "b.png")
    monkeypatch.setattr(images, "register_formats", Image.init)
    monkeypatch.delitem(Image.OPEN, "HEIF")
    monkeypatch.delitem(Image.SAVE, "HEIF")
    for item, words in (("a.heic", "lacks pillow-heif"), ("b.png", "cannot write heic")):
        kept = batch(tmp_path, [item], RESIZE, to("heic"), output="out.heic")
        assert words in kept.faults[0]
        assert not kept.has_bad_inputs


def test_a_full_disk_is_no_fault_of_the_image(tmp_path):
    make(tmp_path / "a.png")
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("there is no /dev/full here")
    from planetmesh.child.image_open import ImageRefused, refusing

    with pytest.raises(ImageRefused) as caught, refusing(), Path("/dev/full").open("wb", 0) as full:
        Image.open(tmp_path / "a.png").save(full, "PNG")
    assert caught.value.is_passing


@pytest.mark.parametrize("name", ["ein Bild.png", "größe ☃ 図.png", "-rf.png", "--strip.png"])
def test_odd_names_are_names(tmp_path, name):
    make(tmp_path / name)
    assert one(tmp_path, name, RESIZE, to("webp")).size == (32, 24)


def test_formats_of_phones_and_printers_are_read(tmp_path):
    make(tmp_path / "a.heic")
    make(tmp_path / "b.avif")
    make(tmp_path / "c.jpg", mode="CMYK")
    make(tmp_path / "d.png", mode="I;16")
    moving(tmp_path / "e.gif")
    moving(tmp_path / "f.webp")
    items = [path.name for path in sorted(tmp_path.iterdir())]
    kept = batch(tmp_path, items, RESIZE, to("jpeg"))
    assert [value["output"] for value in kept.values.values()] == [f"{name[0]}.jpg" for name in items]
    assert kept.faults == {}


def test_a_bomb_costs_no_memory(evil):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "far more pixels" in batch(evil, ["bomb.png"], RESIZE).faults[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_results_are_bounded_too(tmp_path):
    make(tmp_path / "a.png")
    wide = {"op": "resize", "width": 20_000, "height": 20_000, "how": "exact", "enlarge": True}
    kept = batch(tmp_path, ["a.png"], wide, pixels_most=1_000_000)
    assert "result would have 20000×20000" in kept.faults[0]
    kept = batch(
        tmp_path,
        ["a.png"],
        {**RESIZE, "width": 20_000, "height": 4, "how": "exact", "enlarge": True},
        to("webp"),
    )
    assert "webp cannot hold 20000×4" in kept.faults[0]


def test_an_animation_of_many_pixels_is_refused(tmp_path):
    moving(tmp_path / "a.gif", size=(100, 100))
    kept = batch(tmp_path, ["a.gif"], RESIZE, pixels_most=20_000)
    assert "All its frames" in kept.faults[0]


def test_the_content_decides_what_is_read_and_the_name_what_is_written(tmp_path):
    (tmp_path / "really.jpg").write_bytes(encoded("PNG"))
    assert one(tmp_path, "really.jpg", RESIZE).format == "JPEG"


def test_a_crop_outside_of_the_image_is_said(tmp_path):
    make(tmp_path / "a.png")
    kept = batch(tmp_path, ["a.png"], {"op": "crop", "width": 65, "height": 10})
    assert "65×10 does not lie within its 64×48" in kept.faults[0]


def test_nothing_is_written_through_a_link_out_of_the_folder(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    outside.mkdir()
    make(inside / "a.png")
    (inside / "sub").symlink_to(outside)
    kept = batch(inside, ["a.png"], RESIZE, output="sub/{/}")
    assert "outside" in kept.faults[0]
    assert list(outside.iterdir()) == []
    (inside / "b.png").symlink_to(outside / "b.png")
    one(inside, "a.png", RESIZE, output="b.png")
    assert list(outside.iterdir()) == []


def test_an_image_may_take_the_place_of_its_source_and_a_broken_one_does_not(tmp_path):
    make(tmp_path / "a.png")
    assert one(tmp_path, "a.png", RESIZE).size == (32, 24)
    (tmp_path / "b.png").write_bytes(b"nonsense")
    assert batch(tmp_path, ["b.png"], RESIZE).faults
    assert (tmp_path / "b.png").read_bytes() == b"nonsense"


# Contact sheets


SHEET = {"op": "contact_sheet", "width": 40, "height": 40, "gap": 4}


def test_a_contact_sheet_shows_every_image_in_its_cell(tmp_path):
    names = [f"{number}.png" for number in range(5)]
    for name in names:
        make(tmp_path / name, (80, 40), mode="RGBA")
    kept = batch(tmp_path, names, {**SHEET, "columns": 3, "labels": "none", "background": "black"})
    assert [(v["column"], v["row"]) for v in kept.values.values()] == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)]
    sheet = look(tmp_path / "contact-sheet.jpg")
    assert sheet.size == (3 * 44 + 4, 2 * 44 + 4) == (kept.values[0]["width"], kept.values[0]["height"])
    assert sheet.getpixel((10, 24)) == pytest.approx(COLOURS["RGB"][0], abs=20)
    assert sheet.getpixel((40, 24)) == pytest.approx((0, 0, 0), abs=20)
    assert sheet.getpixel((110, 70)) == pytest.approx((0, 0, 0), abs=6)


def test_labels_are_drawn_and_shortened(tmp_path):
    names = [f"{'långt' * 40}{number}.png" for number in range(2)] + ["\u202ee.png"]
    for name in names:
        make(tmp_path / name)
    plain = batch(tmp_path, names, {**SHEET, "labels": "none"}, to("png"), output="plain.png")
    for labels in ("name", "number"):
        made = batch(tmp_path, names, {**SHEET, "labels": labels}, to("png"), output=f"{labels}.png")
        assert made.values[0]["height"] > plain.values[0]["height"]
        assert made.values[0]["width"] == plain.values[0]["width"]


def test_a_broken_image_leaves_a_mark_and_the_others_stay(evil, capsys):
    make(evil / "good.png")
    kept = batch(evil, ["good.png", "cut.jpg", "bomb.png"], SHEET)
    assert (kept.exit_code, len(kept.values)) == (0, 3)
    assert "error" not in kept.values[0]
    assert "cut off" in kept.values[1]["error"]
    assert "cut.jpg: It is cut off" in capsys.readouterr().err
    assert look(evil / "contact-sheet.jpg").size[0] == kept.values[0]["width"]


def test_a_sheet_of_broken_images_only_is_none(evil):
    kept = batch(evil, ["cut.jpg", "empty.jpg"], SHEET)
    assert kept.exit_code == 1
    assert len(kept.faults) == 2
    assert not (evil / "contact-sheet.jpg").exists()


def test_operations_before_a_sheet_are_done_to_each_image(tmp_path):
    make(tmp_path / "a.png", (80, 80))
    batch(
        tmp_path,
        ["a.png"],
        {"op": "crop", "width": 20, "height": 80, "left": 0, "top": 0},
        {**SHEET, "labels": "none"},
    )
    sheet = look(tmp_path / "contact-sheet.jpg")
    assert sheet.getpixel((24, 24)) == pytest.approx(COLOURS["RGB"][0], abs=20)
    assert sheet.getpixel((6, 24)) == pytest.approx((255, 255, 255), abs=20)
