"""Only a node's own loopback is ever asked."""

from __future__ import annotations

import pytest

from planetmesh.errors import BadInput
from planetmesh.jobtypes.loopback import Loopback, ollama_address, read_loopback


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("http://127.0.0.1:8080/v1", Loopback("127.0.0.1", 8080, "/v1")),
        ("http://localhost:8080/v1/", Loopback("127.0.0.1", 8080, "/v1")),
        ("localhost", Loopback("127.0.0.1", 11434)),
        ("[::1]:99", Loopback("::1", 99)),
        ("127.3.4.5:1", Loopback("127.3.4.5", 1)),
        ("0.0.0.0:11434", Loopback("127.0.0.1", 11434)),
        (" http://127.0.0.1 ", Loopback("127.0.0.1", 11434)),
    ],
)
def test_addresses_of_this_machine(text, found):
    assert read_loopback(text, 11434) == found


@pytest.mark.parametrize(
    "text",
    [
        "", "http://example.org", "https://127.0.0.1", "http://192.168.1.2:11434", "http://10.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:99999", "http://user@127.0.0.1", "http://127.0.0.1@192.0.2.1", "http://127.0.0.1/?x=http://a",
        "http://[2001:db8::1]", "127.1.1.1.1", "http://127.0.0.1:80#x", "localhost.example.org",
        "127.0.0.1\n.x",
        "http://127.0.0.1/\r\nHost: x",
    ],
)  # fmt: skip
def test_all_others_are_refused(text):
    with pytest.raises(BadInput):
        read_loopback(text)


def test_ollama_says_less_than_an_address():
    assert read_loopback(ollama_address(""), 1) == Loopback("127.0.0.1", 11434)
    assert read_loopback(ollama_address(":7000"), 1) == Loopback("127.0.0.1", 7000)
    assert read_loopback(ollama_address("127.0.0.1"), 11434) == Loopback("127.0.0.1", 11434)
