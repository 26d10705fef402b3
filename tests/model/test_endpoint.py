"""What people type after --join."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.errors import BadInput
from planetmesh.model.endpoint import DEFAULT_PORT, format_endpoint, is_link_local, parse_endpoint


@pytest.mark.parametrize(
    ("typed", "endpoint"),
    [
        ("192.168.1.20:7433", ("192.168.1.20", 7433)),
        ("192.168.1.20", ("192.168.1.20", DEFAULT_PORT)),
        ("  nas.local:80 \n", ("nas.local", 80)),
        ("nas", ("nas", DEFAULT_PORT)),
        ("my_nas.home.arpa.", ("my_nas.home.arpa.", DEFAULT_PORT)),
        ("[fe80::1%eth0]:7000", ("fe80::1%eth0", 7000)),
        ("[2001:DB8::0:1]", ("2001:db8::1", DEFAULT_PORT)),
        ("fe80::1%3", ("fe80::1%3", DEFAULT_PORT)),
        ("::1", ("::1", DEFAULT_PORT)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_endpoint_is_understood(typed: str, endpoint: tuple[str, int]) -> None:
    assert parse_endpoint(typed) == endpoint


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "   ",
        ":7433",
        "nas:",
        "nas:0",
        "nas:65536",
        "nas:123456",
        "nas:seven",
        "nas:-1",
        "nas:+7",
        "nas:１",
        "nas:7433:7433",
        "http://nas:7433",
        "nas:7433/path",
        "user@nas",
        "-nas",
        "nas-.local",
        "nas..local",
        "a" * 64,
        ("a" * 60 + ".") * 5,
        "1.2.3",
        "1.2.3.256",
        "01.2.3.4",
        "0.0.0.0",
        "224.0.0.251",
        "255.255.255.255",
        "[::]:7433",
        "ff02::fb",
        "[nas]:7433",
        "[fe80::1",
        "[fe80::1]7433",
        "[fe80::1]:",
        "fe80::1%",
        "fe80::1%eth0;id",
        "nás",
        "nas\x1b[31m",
        "na s",
        "nas\x00",
        "x" * 10_000,
    ],
)
def test_nonsense_is_refused_with_an_example(typed: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_endpoint(typed)
    assert "192.168.1.20:7433" in caught.value.hint
    assert caught.value.message.isprintable()


def test_default_port_is_the_callers() -> None:
    assert parse_endpoint("nas", default_port=99) == ("nas", 99)


@given(st.text(max_size=400))
def test_any_text_gives_an_endpoint_that_survives_a_round_trip_or_bad_input(typed: str) -> None:
    try:
        host, port = parse_endpoint(typed)
    except BadInput:
        return
    assert parse_endpoint(format_endpoint(host, port)) == (host, port)


@given(
    st.one_of(st.ip_addresses().map(str), st.from_regex(r"[a-z]{1,9}(\.[a-z]{1,9}){0,3}", fullmatch=True)),
    st.integers(1, 65535),
)
def test_what_we_print_can_be_typed(host: str, port: int) -> None:
    try:
        assert parse_endpoint(format_endpoint(host, port)) == (host, port)
    except BadInput as refused:
        assert "not the address of one machine" in refused.message  # noqa: PT017  drawn by chance


@pytest.mark.parametrize("host", ["fe80::1", "fe80::1%eth0", "febf::1"])
def test_link_local_addresses_are_told_apart(host: str):
    assert is_link_local(host)


@pytest.mark.parametrize("host", ["169.254.1.1", "10.0.0.1", "2001:db8::1", "::1", "nas.local", ""])
def test_others_are_not_link_local(host: str):
    assert not is_link_local(host)
