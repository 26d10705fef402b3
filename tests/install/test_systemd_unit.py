"""The unit: what stands in it, and that systemd reads back every word as it was meant."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.errors import BadInput
from planetmesh.install.order import Order
from planetmesh.install.systemd import command_line, quoted, read_order, unit_text

PROGRAM = "/opt/planetmesh/bin/planetmesh"
ORDER = Order((PROGRAM,), Path("/var/lib/planetmesh"))
SYSTEM_UNIT = """\
# Written by `planetmesh service install`, which replaces it. Changes of yours: `systemctl edit planetmesh`.
# planetmesh-service {"program": ["/opt/planetmesh/bin/planetmesh"], "home": "/var/lib/planetmesh", "env": {}}
[Unit]
Description=planetmesh: this machine's part in its mesh
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
ExecStart=/opt/planetmesh/bin/planetmesh up --home /var/lib/planetmesh --known
UMask=0077
# SIGTERM for planetmesh alone: it lets running tasks end for ten seconds, then ends them itself.
KillMode=mixed
TimeoutStopSec=45
# A task that took too much memory fails; the machine stays.
OOMPolicy=continue
Restart=on-failure
RestartSec=10
# 4: not allowed any more. 5: this home has left its mesh. Trying again helps neither, but 2: an
# address or a port may be there later.
RestartPreventExitStatus=4 5

[Install]
WantedBy=multi-user.target
"""
_CODES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"',
          "'": "'", "s": " "}  # fmt: skip
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=40)
hard = st.text("ab /%$\"'\\\n\t;{}#:@-+!=", min_size=1, max_size=20)


def read_words(line: str) -> list[str]:
    """As systemd.syntax(7) has it: words, quotes, escapes in the manner of C, then specifiers."""
    words: list[str] = []
    word, is_word, quote, at = "", False, "", 0
    while at < len(line):
        letter = line[at]
        at += 1
        if letter == "\\":
            code = line[at]
            at += 1
            if code == "x":
                word, at = word + chr(int(line[at : at + 2], 16)), at + 2
            else:
                word += _CODES[code]
            is_word = True
        elif quote:
            quote = "" if letter == quote else quote
            word += letter if quote else ""
        elif letter in "\"'" and not is_word:
            quote, is_word = letter, True
        elif letter in " \t\n\r":
            words += [word] if is_word else []
            word, is_word = "", False
        else:
            word, is_word = word + letter, True
    assert not quote, "an open quote"
    words += [word] if is_word else []
    assert not any(re.search(r"%(?!%)", each.replace("%%", "")) for each in words), "a specifier"
    return [each.replace("%%", "%") for each in words]


def read_command(line: str) -> list[str]:
    """COMMAND LINES in systemd.service(5): `:` in front turns variables off, else `$$` is a `$`."""
    assert ";" not in line.split(" "), "a second command"
    program, *words = read_words(line)
    if program.startswith(":"):
        return [program[1:], *words]
    assert program.startswith("/")
    assert not any("$" in each.replace("$$", "") for each in words), "a variable"
    return [program, *(each.replace("$$", "$") for each in words)]


@given(st.one_of(texts, hard))
def test_a_word_is_read_back_and_stays_on_its_line(text: str) -> None:
    assert "\n" not in quoted(text)
    assert read_words(quoted(text)) == [text]


@given(
    st.text(st.characters(categories=("L", "N", "P", "Zs"), exclude_characters="\"'\\"), max_size=20).filter(
        str.isprintable
    ),
    st.lists(st.one_of(texts, hard), max_size=4),
)
def test_a_command_line_is_read_back(name: str, arguments: list[str]) -> None:
    argv = (f"/opt/{name}$x", *arguments)
    assert read_command(command_line(argv)) == list(argv)
    argv = (f"/opt/{name.replace('$', '')}x", *arguments)
    assert read_command(command_line(argv)) == list(argv)


def test_the_reader_of_these_tests_can_tell() -> None:
    assert read_words(r'a "b c" d\x20e "x\"y" 100%%') == ["a", "b c", "d e", 'x"y', "100%"]
    for line in ("%h", '"open'):
        with pytest.raises(AssertionError):
            read_words(line)
    for line in ("/bin/x $HOME", "/bin/x ; /bin/y"):
        with pytest.raises(AssertionError):
            read_command(line)


def test_the_unit_for_the_whole_machine() -> None:
    assert unit_text(ORDER, is_for_all=True).decode() == SYSTEM_UNIT


def test_the_unit_for_a_user_waits_for_no_network_target() -> None:
    text = unit_text(ORDER, is_for_all=False).decode()
    assert "network-online" not in text
    assert text.endswith("WantedBy=default.target\n")
    assert "systemctl --user edit planetmesh" in text


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), hard, max_size=3), hard)
def test_a_unit_says_what_it_runs(env: dict[str, str], name: str) -> None:
    order = Order((PROGRAM,), Path("/srv") / name.replace("/", "_"), tuple(env.items()))
    text = unit_text(order, is_for_all=True)
    assert read_order(text) == order
    lines = text.decode().split("\n")
    (start,) = [line for line in lines if line.startswith("ExecStart=")]
    assert read_command(start.removeprefix("ExecStart=")) == list(order.argv)
    said = [
        read_words(line.removeprefix("Environment=")) for line in lines if line.startswith("Environment=")
    ]
    assert said == [[f"{key}={value}"] for key, value in env.items()]
    # Nothing of a name has become a line of its own.
    assert len(lines) == len(SYSTEM_UNIT.split("\n")) + len(env)


@pytest.mark.parametrize("text", [b"", b"# planetmesh-service {", b"# planetmesh-service []", b"\xff"])
def test_what_cannot_be_read_is_no_order(text: bytes) -> None:
    assert read_order(text) is None


@pytest.mark.parametrize("name", ["a'b", 'a"b', "a\\b", "a\nb", "a\x7fb", "a\u2028b", "a\udcffb"])
def test_a_program_that_systemd_refuses_is_refused_before(name: str) -> None:
    with pytest.raises(BadInput, match="systemd starts no program"):
        command_line((f"/opt/{name}/planetmesh", "up"))


@pytest.mark.parametrize(
    "order",
    [
        Order((PROGRAM,), Path("/srv/\udcff")),
        Order((PROGRAM,), Path("/srv"), (("NAME", "\udcff"),)),
        Order((PROGRAM,), Path("/srv"), (("NAME", "a\x01"),)),
    ],
)
def test_what_systemd_cannot_be_told(order: Order) -> None:
    with pytest.raises(BadInput):
        unit_text(order, is_for_all=True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
@pytest.mark.parametrize("is_for_all", [True, False])
def test_systemd_finds_nothing_wrong(is_for_all: bool, tmp_path: Path) -> None:
    order = Order(
        (sys.executable,), tmp_path / "a b%$'\"\\\n;", (("Q", "a'b\"c\\d$e %n\nf"), ("PATH", "/x y"))
    )
    unit = tmp_path / "planetmesh.service"
    unit.write_bytes(unit_text(order, is_for_all=is_for_all))
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--generators=no", str(unit)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    # Of this machine's other units it may say what it likes.
    assert [line for line in said.stderr.splitlines() if "planetmesh" in line] == []
