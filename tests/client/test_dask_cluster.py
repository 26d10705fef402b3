"""The cluster's owner before anything runs: what it says of nodes that do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import msgspec
import pytest
from api_double import Double, running_double

from planetmesh.client.functions import PYTHON_TAG
from planetmesh.dask import MeshCluster
from planetmesh.errors import BadInput, NotAllowed
from planetmesh.paths import Home

VERSION = metadata.version("distributed")


@pytest.fixture
def double(tmp_path: Path, home: Home) -> Iterator[Double]:
    with running_double(tmp_path / "double", home) as double:
        yield double


@pytest.mark.parametrize("tags", [("fast",), (PYTHON_TAG, "dask1.2.3"), ("python3.99", f"dask{VERSION}")])
def test_nodes_with_another_dask_or_python_are_named(
    double: Double, home: Home, tags: tuple[str, ...]
) -> None:
    double.node = msgspec.structs.replace(double.node, tags=tags)
    with pytest.raises(BadInput, match=f"No node has Dask {VERSION}") as caught:
        MeshCluster(home=home.root)
    shown = [tag for tag in tags if tag != "fast"]
    assert f"desk: {' '.join(shown)}" in caught.value.message
    assert f"distributed=={VERSION}" in caught.value.hint
    assert double.jobs == {}


def test_without_an_identity_there_is_no_cluster(tmp_path: Path) -> None:
    with pytest.raises(NotAllowed, match="no mesh"):
        MeshCluster(home=tmp_path / "nowhere")
    with pytest.raises(BadInput, match="cannot be -1 workers"):
        MeshCluster(-1)
