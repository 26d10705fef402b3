"""The job type `dask` as coordinator and agent see it."""

from __future__ import annotations

from typing import Any

import pytest

from planetmesh.errors import BadInput
from planetmesh.jobtypes.dask import CALL, Dask
from planetmesh.jobtypes.registry import job_type
from planetmesh.model.job import Items, JobSpec

SCHEDULER = {"part": "scheduler", "version": "2026.8.0", "certificate": "-----BEGIN"}
WORKER = {**SCHEDULER, "part": "worker", "scheduler": "tls://10.0.0.1:4000", "name": "3"}


def spec_of(payload: dict[str, Any], **more: Any) -> JobSpec:
    return JobSpec(type="dask", payload=payload, at_most_once=payload.get("part") == "scheduler", **more)


def test_it_asks_for_the_version_of_its_cluster() -> None:
    spec = Dask().complete(spec_of(WORKER, tags=("fast",)))
    assert spec.tags == ("fast", "dask2026.8.0")
    assert Dask().complete(spec) is spec
    Dask().check(spec)
    Dask().check(spec_of(SCHEDULER))
    assert job_type("dask").needs == ("distributed",)


def test_it_is_a_call_and_says_what_it_is() -> None:
    assert Dask().launch(WORKER, (), 0).call == CALL
    assert [Dask().describe(each) for each in (SCHEDULER, WORKER)] == ["dask scheduler", "dask worker 3"]
    assert Dask().kind(WORKER) != Dask().kind(SCHEDULER)


@pytest.mark.parametrize(
    ("payload", "more", "sentence"),
    [
        (SCHEDULER, {"inputs": Items(("a",))}, "takes no inputs"),
        ({**SCHEDULER, "scheduler": "tls://10.0.0.1:4000"}, {}, "a scheduler has none"),
        ({**WORKER, "scheduler": ""}, {}, "the address of its scheduler"),
        ({**WORKER, "part": "nanny"}, {}, "cannot be used"),
        ({**WORKER, "version": "2026 or so"}, {}, "cannot be used"),
        ({**WORKER, "threads": 0}, {}, "cannot be used"),
        ({**WORKER, "patience_seconds": 0.0}, {}, "cannot be used"),
        ({**WORKER, "key": "secret"}, {}, "cannot be used"),
    ],
)
def test_bad_ones_are_refused(payload: dict[str, Any], more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        Dask().check(spec_of(payload, **more))


def test_a_scheduler_is_not_started_twice() -> None:
    with pytest.raises(BadInput, match="knows nothing"):
        Dask().check(JobSpec(type="dask", payload=SCHEDULER))
