"""What owner and process of a cluster tell each other."""

from __future__ import annotations

import msgspec
import pytest

from planetmesh.wire.dask import Beat, Begin, End, Failed, FromOwner, FromTask, Hello, Running, dask_tag


def test_a_tag_for_each_version() -> None:
    assert dask_tag("2026.8.0") == "dask2026.8.0"


@pytest.mark.parametrize("said", [Begin("key", "10.0.0.1"), Beat(), End()])
def test_the_owner_is_understood(said: FromOwner) -> None:
    assert msgspec.json.decode(msgspec.json.encode(said), type=FromOwner) == said


@pytest.mark.parametrize("said", [Running("tls://10.0.0.1:1"), Failed("no")])
def test_the_process_is_understood(said: FromTask) -> None:
    assert msgspec.json.decode(msgspec.json.encode(said), type=FromTask) == said


@pytest.mark.parametrize(
    "text",
    [
        b'{"places": [], "certificate": "x"}',
        b'{"places": ["%s"], "certificate": "x"}' % (b"h" * 300),
        b'{"places": ["h:1"], "certificate": ""}',
        b'{"places": ["h:1"], "certificate": "%s"}' % (b"x" * 9000),
        b'{"places": [%s"h:1"], "certificate": "x"}' % (b'"h:1",' * 32),
    ],
)
def test_a_hello_is_bounded(text: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Hello)
