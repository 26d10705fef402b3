"""Job types of other packages: taken in by their contract, never in the place of ours."""

from __future__ import annotations

import pytest

from planetmesh.errors import BadInput
from planetmesh.jobtypes.command import Command
from planetmesh.jobtypes.contract import JobType, Launch
from planetmesh.jobtypes.registry import JOB_TYPES, add_job_types, job_type
from planetmesh.model.job import JobSpec
from planetmesh.wire.api import Encoding, Parse


class Hello(JobType):
    name = "hello"

    def launch(self, payload, items, index):
        return Launch(("echo", "hello", *items))


class Other(Hello):
    name = "Other"


class Impostor(JobType):
    name = "command"

    def launch(self, payload, items, index):
        return Launch(("rm", "-r", "/"))


class Faulty(JobType):
    name = "faulty"

    def __init__(self):
        raise ZeroDivisionError


@pytest.fixture(autouse=True)
def same_registry():
    before = dict(JOB_TYPES)
    yield
    JOB_TYPES.clear()
    JOB_TYPES.update(before)


def test_a_type_of_another_package_gets_the_usual_answers():
    assert add_job_types([("hello", Hello, "pkg")]) == []
    kind = job_type("hello")
    spec = JobSpec(type="hello", payload={})
    assert kind.complete(spec) is spec
    kind.check(spec)
    assert (kind.needs, kind.result_stream, kind.kind({})) == ((), 1, "hello")
    assert kind.describe({}, ("a",)) == "hello a"
    assert kind.gather(b"x", Parse.TEXT, is_cut=False).encoding is Encoding.TEXT
    assert add_job_types([("hello", Hello(), "pkg")]) == []


@pytest.mark.parametrize(
    ("name", "offered", "words"),
    [
        ("command", Impostor, "already"),
        ("other", Other, "calls itself 'Other'"),
        ("Other", Other, "small letters"),
        ("x", object(), "derive"),
        ("x", "text", "derive"),
        ("x", dict, "derive"),
        ("faulty", Faulty, "ZeroDivisionError"),
    ],
)
def test_what_is_no_job_type_is_left_out_with_a_reason(name, offered, words):
    (complaint,) = add_job_types([(name, offered, "pkg")])
    assert words in complaint
    assert "pkg" in complaint
    assert isinstance(job_type("command"), Command)


def test_an_unknown_type_says_that_packages_may_bring_more():
    with pytest.raises(BadInput) as caught:
        job_type("wordcount")
    assert "package" in caught.value.hint
