"""The job that makes the contact sheet of another one's results."""

from __future__ import annotations

import pytest

from planetmesh.client.overview import sheet_spec
from planetmesh.errors import BadInput
from planetmesh.jobtypes.image_batch import read_images
from planetmesh.model.job import Items, JobSpec


def test_it_shows_each_result_below_the_name_of_its_image():
    payload = {
        "operations": [{"op": "thumbnail", "size": 90}, {"op": "convert", "format": "webp"}],
        "output": "cells/{#}.{ext}",
        "overview": {"sheet": {"columns": 2, "labels": "name"}, "output": "sheet.png"},
    }
    spec = JobSpec(
        type="image_batch", payload=payload, inputs=Items(("p/a.heic", "b.jpg", "c.png")), priority=3
    )
    made = sheet_spec(spec, "holiday")
    assert made.inputs == Items(("cells/1.webp", "cells/2.webp", "cells/3.webp"))
    assert (made.name, made.priority, made.chunk, made.tags) == ("contact sheet of holiday", 3, 3, ())
    assert made.outputs == ("sheet.png",)
    sheet = read_images(made.payload).sheet
    assert (sheet.titles, sheet.columns) == (("a.heic", "b.jpg", "c.png"), 2)


def test_a_job_without_one_is_refused():
    payload = {"operations": [{"op": "strip"}]}
    with pytest.raises(BadInput):
        sheet_spec(JobSpec(type="image_batch", payload=payload, inputs=Items(("a.jpg",))), "x")
