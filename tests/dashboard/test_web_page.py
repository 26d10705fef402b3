"""What the browser is given: complete, ours or unchanged from xterm.js, and from nowhere else."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from planetmesh.dashboard.web import server
from planetmesh.dashboard.web.session import End

PAGE = Path(server.__file__).parent / "page"
OURS = ("index.html", "client.mjs", "client.css")
ELSEWHERE = re.compile(r"""(?:src|href|from|import|url)\s*[=(]?\s*["'(]?\s*(?:https?:)?//""")


def test_xterm_is_what_its_authors_published() -> None:
    text = (PAGE / "README.md").read_text()
    rows = re.findall(r"^\| (\S+) \| @xterm/\S+ [\d.]+, \w+/ \| `(\w{64})` \|$", text, re.MULTILINE)
    assert {name for name, _digest in rows} | set(OURS) == set(server._page())
    for name, digest in rows:
        assert hashlib.sha256((PAGE / name).read_bytes()).hexdigest() == digest, name


def test_nothing_is_fetched_from_elsewhere() -> None:
    for name, (body, _kind) in server._page().items():
        text = body.decode()
        assert not ELSEWHERE.search(text), name
        named = (
            set(re.findall(r"""(?:from|src=|href=)\s*"(?:\./)?([^":]+)";?""", text))
            if name in OURS
            else set()
        )
        assert named <= server._page().keys(), name


def test_a_page_that_fetches_is_noticed() -> None:
    for text in ('<script src="https://x/y.js">', "@import '//x/y.css'", "url(//x)", 'from "http://x/y.mjs"'):
        assert ELSEWHERE.search(text), text


def test_the_page_has_no_script_or_style_of_its_own() -> None:
    text = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|style=|\son\w+=|<script(?! type=\"module\" src=)", text)


def test_the_page_knows_why_sessions_end() -> None:
    known = {
        int(code) for code in re.findall(r"^  (\d{4}): ", (PAGE / "client.mjs").read_text(), re.MULTILINE)
    }
    assert known == set(End) - {End.NONSENSE}
