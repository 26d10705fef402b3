"""Who gets into the dashboard's web server, and what all others get: the page's files or a refusal."""

from __future__ import annotations

import asyncio
import logging

import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from watch_world import PATIENCE_SECONDS, World
from web_world import web_of

from planetmesh.dashboard.web import connections, server
from planetmesh.dashboard.web.door import PROTOCOL, Door
from planetmesh.dashboard.web.server import REFUSAL

WRONG_TOKENS = ("", "x", "A" * 43, "planetmesh-dashboard")


def headers(**changes: str | None) -> CIMultiDict[str]:
    """What the page's own request has."""
    usual = {"Host": "127.0.0.1:8433", "Origin": "http://127.0.0.1:8433"}
    changed = usual | {name.replace("_", "-"): value for name, value in changes.items()}
    return CIMultiDict({name: value for name, value in changed.items() if value is not None})


def offered(door: Door, *, token: str | None = None) -> str:
    return f"{PROTOCOL}, {door.token if token is None else token}"


@pytest.mark.parametrize("name", ["127.0.0.1:8433", "localhost:8433", "LOCALHOST", "127.0.0.1"])
def test_names_of_this_machine_are_let_in(name: str) -> None:
    door = Door()
    asked = headers(Host=name, Origin=f"http://{name}", Sec_WebSocket_Protocol=offered(door))
    assert door.lets_in(CIMultiDictProxy(asked))


@pytest.mark.parametrize(
    "name",
    [
        *("", "evil.example", "127.0.0.1.evil.example:8433", "evil.example:8433", "localhost.evil.example"),
        *("0.0.0.0:8433", "127.0.0.2:8433", "[::1]:8433", "192.168.1.5:8433", "2130706433:8433", "127.1"),
        *("127.0.0.1:8433@evil.example", "127.0.0.1:8433\n", " 127.0.0.1", "127.0.0.1:", "127.0.0.1:١"),
    ],
)
def test_any_other_name_is_refused_even_with_the_token(name: str) -> None:
    door = Door()
    asked = headers(Host=name, Origin=f"http://{name}", Sec_WebSocket_Protocol=offered(door))
    assert not door.lets_in(CIMultiDictProxy(asked))
    assert not door.lets_look(CIMultiDictProxy(headers(Host=name, Origin=None)))


@pytest.mark.parametrize(
    "origin",
    [
        *(None, "", "null", "http://evil.example", "http://127.0.0.1:9999", "http://localhost:8433"),
        *(
            "https://127.0.0.1:8433",
            "http://127.0.0.1",
            "http://127.0.0.1:8433/",
            "file://",
            "127.0.0.1:8433",
        ),
    ],
)
def test_any_other_page_is_refused_even_with_the_token(origin: str | None) -> None:
    door = Door()
    asked = headers(Origin=origin, Sec_WebSocket_Protocol=offered(door))
    assert not door.lets_in(CIMultiDictProxy(asked))


@pytest.mark.parametrize("token", [*WRONG_TOKENS, "ü", "\udcff"])
def test_a_wrong_token_is_refused(token: str) -> None:
    door = Door()
    asked = headers(Sec_WebSocket_Protocol=offered(door, token=token))
    assert not door.lets_in(CIMultiDictProxy(asked))


def test_headers_that_are_missing_or_stand_there_twice_are_refused() -> None:
    door = Door()
    good = headers(Sec_WebSocket_Protocol=offered(door))
    assert door.lets_in(CIMultiDictProxy(good))
    for name in good:
        without, twice = CIMultiDict(good), CIMultiDict(good)
        del without[name]
        twice.add(name, good[name])
        assert not door.lets_in(CIMultiDictProxy(without))
        assert not door.lets_in(CIMultiDictProxy(twice))


@pytest.mark.parametrize("protocols", ["{token}", "{token}, planetmesh-dashboard", "planetmesh-dashboard",
                                       "planetmesh-dashboard, {token}, x", "x, {token}"])  # fmt: skip
def test_the_token_has_one_place(protocols: str) -> None:
    door = Door()
    asked = headers(Sec_WebSocket_Protocol=protocols.format(token=door.token))
    assert not door.lets_in(CIMultiDictProxy(asked))


def test_each_server_has_a_token_of_its_own() -> None:
    assert len({Door().token for _ in range(100)}) == 100
    assert len(Door().token) == 43


# Against the real server


async def test_without_the_token_there_is_the_page_and_nothing_else(world: World) -> None:
    await world.add_node("attic")
    async with web_of(world) as web, web_of(world) as other:
        for path in ("/", "/index.html", "/client.mjs", "/client.css", "/xterm.mjs", "/xterm.css"):
            async with (
                web.session.get(web.address + path) as answer,
                other.session.get(other.address + path) as same,
            ):
                body = await answer.read()
                assert answer.status == 200
                # The same from any server: nothing of this mesh, user or token can be in it.
                assert body == await same.read()
                assert web.serving.token.encode() not in body
        for path in (
            "/session",
            "/x",
            "/../server.py",
            "/%2e%2e/server.py",
            "/page/",
            "/README.md",
            "//",
            "/static/",
        ):
            async with web.session.get(web.address + path) as answer:
                assert answer.status in {403, 404}
                assert await answer.text() == REFUSAL
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "PATCH"):
            for path in ("/", "/session"):
                async with web.session.request(method, web.address + path) as answer:
                    assert answer.status == 405
                    assert not any("Access-Control" in name for name in answer.headers)
        assert not web.apps


@pytest.mark.slow
async def test_sessions_are_refused_without_the_right_token_however_often(world: World) -> None:
    async with web_of(world) as web:
        assert await web.refusal(protocols=()) == 403
        assert await web.refusal(protocols=(PROTOCOL,)) == 403
        for token in WRONG_TOKENS[1:]:
            assert await web.refusal(token=token) == 403
        # As a cookie, in the address or as an Authorization header it is worth nothing.
        token = web.serving.token
        elsewhere = {"Origin": web.address, "Cookie": f"token={token}", "Authorization": f"Bearer {token}"}
        assert await web.refusal(protocols=(PROTOCOL,), headers=elsewhere, query=f"?token={token}") == 403
        for _ in range(200):
            assert await web.refusal(token="A" * 43) == 403
        assert not web.apps
        # Nobody is locked out by a guesser: with 256 bits there is no need.
        await (await web.open()).sees("● live")


async def test_pages_from_elsewhere_are_refused_with_the_right_token(world: World) -> None:
    async with web_of(world) as web:
        for origin in (
            "http://evil.example",
            "null",
            "http://127.0.0.1:1",
            f"http://localhost:{web.serving.port}",
        ):
            assert await web.refusal(headers={"Origin": origin}) == 403
        assert await web.refusal(headers={}) == 403
        rebound = f"evil.example:{web.serving.port}"
        assert await web.refusal(headers={"Host": rebound, "Origin": f"http://{rebound}"}) == 403
        async with web.session.get(web.address, headers={"Host": rebound}) as answer:
            assert (answer.status, await answer.text()) == (403, REFUSAL)
        assert not web.apps


async def test_through_a_forwarded_port_it_has_another_number(world: World) -> None:
    async with web_of(world) as web:
        there = "localhost:8433"
        tab = await web.open(headers={"Host": there, "Origin": f"http://{there}"})
        await tab.sees("● live")


async def test_every_answer_says_what_browsers_may_do_with_it(world: World) -> None:
    async with web_of(world) as web:
        for path in ("/", "/client.mjs", "/nothing", "/session"):
            async with web.session.get(web.address + path) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "frame-ancestors 'none'" in policy
                assert f"connect-src 'self' ws://127.0.0.1:{web.serving.port};" in policy
                assert "unsafe" not in policy.replace("style-src 'self' 'unsafe-inline'", "")
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
                assert answer.headers["Server"] == "planetmesh"
                assert "Set-Cookie" not in answer.headers


async def test_it_listens_on_loopback_only(world: World) -> None:
    async with web_of(world) as web:
        for address in ("127.0.0.2", "::1"):
            with pytest.raises(OSError):
                await asyncio.open_connection(address, web.serving.port)


async def test_the_token_is_in_no_log(world: World, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    async with web_of(world) as web:
        token = web.serving.token
        assert await web.refusal(protocols=(token,)) == 403
        assert await web.refusal(protocols=(PROTOCOL, token, "x")) == 403
        tab = await web.open()
        await tab.sees("● live")
        await tab.socket.close()
    assert token not in caplog.text


@pytest.mark.slow
async def test_connections_that_say_nothing_are_few_and_short(world: World, monkeypatch) -> None:
    monkeypatch.setattr(server, "Connections", lambda: connections.Connections(seconds=0.5, most=3))
    async with web_of(world) as web:
        tab = await web.open()
        silent = [await asyncio.open_connection("127.0.0.1", web.serving.port) for _ in range(3)]
        silent[0][1].write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        fourth, writer = await asyncio.open_connection("127.0.0.1", web.serving.port)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await _is_cut(fourth)
            for reader, _writer in silent:
                assert await _is_cut(reader)
        writer.close()
        for _reader, each in silent:
            each.close()
        # A session is none of them.
        await tab.sees("● live")
        await tab.press("2")
        await tab.sees("Drain")


async def _is_cut(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def test_what_is_not_http_gets_no_more_than_a_refusal(world: World) -> None:
    async with web_of(world) as web:
        for sent in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"nonsense\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", web.serving.port)
            writer.write(sent)
            writer.write_eof()
            async with asyncio.timeout(PATIENCE_SECONDS):
                said = await reader.read()
            assert b"Traceback" not in said
            assert b"aiohttp" not in said
            assert not said or b" 40" in said.split(b"\r\n")[0]
            writer.close()
