"""What came of a job that real agents ran: odd bytes, silence, a second try, a failure, a long output."""

from __future__ import annotations

import base64

import pytest
from fleet import Fleet

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(240)]

ODD = bytes(range(256)) + b"\r\n\x1b[31m"
LONG_BYTES = 2 * 1024 * 1024

SCRIPT = """#!/bin/sh
case $1 in
odd) printf '{octal}' ;;
silent) echo said to nobody >&2 ;;
again) if mkdir {folder}/again; then echo first; exit 1; fi; echo '{{"try": 2}}' ;;
bad) echo wrong; exit 3 ;;
long) head -c {long} /dev/zero | tr '\\0' x ;;
esac
"""
INPUTS = ("odd", "silent", "again", "bad", "long")


def test_results_of_tasks_that_really_ran(fleet: Fleet, tmp_path) -> None:
    fleet.start(agents=2)
    octal = "".join(f"\\{byte:03o}" for byte in ODD)
    script = tmp_path / "work.sh"
    script.write_text(SCRIPT.format(octal=octal, folder=fleet.diary.folder, long=LONG_BYTES))
    job = fleet.submit("--retries", "1", "--script", str(script), ":::", *INPUTS)
    fleet.wait(job)

    target = tmp_path / "all"
    said = fleet.desk.call("results", job, "-o", str(target))
    assert said.status == 1
    assert f"planetmesh logs {job}/3" in said.error
    assert target.read_bytes() == ODD + b'{"try": 2}\n' + b"x" * LONG_BYTES

    said = fleet.desk.call("results", "last", "--parse", "json")
    assert said.status == 1
    odd, silent, again, bad, long = said.json
    assert base64.b64decode(odd["value"]) == ODD
    assert (silent["value"], silent["status"]) == ("", "COMPLETED")
    assert (again["value"], again["attempts"], again["encoding"]) == ({"try": 2}, 2, "json")
    assert (bad["value"], bad["exit_code"], bad["attempts"], bad["status"]) == (None, 3, 2, "FAILED")
    assert (long["value"], long["is_cut"]) == ("x" * 1024 * 1024, True)
    assert [each["input"] for each in said.json] == list(INPUTS)
    assert {each["node"] for each in said.json} <= {"a1", "a2"}
    assert "1 output was cut" in said.error

    sums = fleet.desk.call("results", job, "--form", "codes").out.partition("\n\n")[2]
    assert [line.split() for line in sums.splitlines()[1:]] == [["COMPLETED", "0", "4"], ["FAILED", "3", "1"]]
