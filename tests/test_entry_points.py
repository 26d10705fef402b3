"""What other packages offer is found; what is broken in them keeps nobody from running."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from fake_install import install

from planetmesh.entry_points import JOB_TYPES, offers

EXAMPLE = Path(__file__).parents[1] / "examples" / "job_type_plugin"


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_package_is_found_by_its_entry_point(site):
    install(EXAMPLE, site)
    (offer,) = offers(JOB_TYPES)
    assert (offer.name, offer.package, offer.found.__name__) == (
        "wordcount",
        "planetmesh-wordcount",
        "WordCount",
    )


def test_a_broken_package_is_told_and_left_out(site, caplog):
    install(EXAMPLE, site)
    broken = site / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text(
        f"[{JOB_TYPES}]\nnothing = no_such_module_here:X\nodd = sys:no_such\n"
    )
    with caplog.at_level(logging.WARNING):
        assert [offer.name for offer in offers(JOB_TYPES)] == ["wordcount"]
    assert [record.entry for record in caplog.records] == ["nothing", "odd"]
