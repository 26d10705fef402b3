"""What `up`'s panel says: who this machine is, how one more joins, what runs, what to look at.

Views in, lines out; nothing here draws. What does not fit goes, the least important first, and a line that
is too long goes on below itself, with a command never torn apart.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from planetmesh.cli.output import cell
from planetmesh.cli.shapes import colour
from planetmesh.model.node import NodeState
from planetmesh.model.resources import show_size

if TYPE_CHECKING:
    from rich.text import Text

    from planetmesh.agent.state import AgentNumbers, AgentState
    from planetmesh.coordinator.glance import Glance, OpenCode

LABEL_LETTERS = 13
ROWS_LEFT = 4
"""For what is said above the panel."""
LINES_MOST = 14
NAME_LETTERS = 40
AWAY_NAMED = 3
DISK_LEAST_BYTES = 2 * 2**30
CLOCK_MOST_SECONDS = 30.0
MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
DAY_SECONDS = 86400

HINT = "dim italic"
"""Left out where it would need a line of its own."""

Piece = tuple[str, str]
"""A text that is not torn apart, and its style."""


class Warned(NamedTuple):
    """Something to look at, with the next command."""

    sentence: str
    command: str = ""


class Row(msgspec.Struct, frozen=True):
    """A label and what stands beside it. A low `rank` stays longest on a small terminal."""

    label: str
    pieces: tuple[Piece, ...]
    rank: int
    style: str = "dim"


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while `up` runs on a coordinator."""

    mesh: str
    endpoints: tuple[str, ...]
    fingerprint: str
    join_line: str
    """What to type on another machine."""
    has_agent: bool
    began: float
    """Steady time."""


def coordinator_rows(host: Host, glance: Glance, disk_free: int | None, ending: str = "") -> list[Row]:
    """The coordinator's; `ending` is said instead of how to join."""
    rows = [_nodes(glance), _work(glance, has_agent=host.has_agent)]
    if ending:
        rows.insert(0, Row("ending", words(ending, "bold yellow"), 0, "bold yellow"))
    else:
        rows += [_open_code(each, host) for each in glance.codes[:2]] or [_how_to_join(host)]
    addresses = tuple((each, "") for each in host.endpoints[:2])
    rows.append(Row("address", addresses, 4))
    rows.append(Row("fingerprint", ((host.fingerprint, ""),), 5))
    return [*rows, *_warnings(coordinator_warnings(glance, disk_free))]


def coordinator_warnings(glance: Glance, disk_free: int | None) -> list[Warned]:
    """The gravest first."""
    found: list[Warned] = []
    if glance.storage_error:
        found.append(
            Warned(f"The coordinator cannot write: {cell(glance.storage_error)}", "planetmesh doctor")
        )
    found += _disk(disk_free)
    for state in (NodeState.OFFLINE, NodeState.SUSPECT):
        names = [cell(each.name, NAME_LETTERS) for each in glance.away if each.state is state]
        if names:
            more = f" and {len(names) - AWAY_NAMED} more" if len(names) > AWAY_NAMED else ""
            verb = "is" if len(names) == 1 else "are"
            sentence = f"{', '.join(names[:AWAY_NAMED])}{more} {verb} {state}."
            found.append(Warned(sentence, "planetmesh nodes"))
    found += [
        Warned(f"{cell(each.name, NAME_LETTERS)}: {cell(each.note)}") for each in glance.away if each.note
    ]
    return found


def agent_title(name: str, mesh: str) -> str:
    return f"planetmesh: '{cell(name, NAME_LETTERS)}' in '{cell(mesh, NAME_LETTERS)}'"


def agent_rows(
    state: AgentState, since: str, numbers: AgentNumbers | None, fingerprint: str, endpoint: str = ""
) -> list[Row]:
    """An agent's; `since`: when it came to stand so, as a clock shows it. `endpoint`: where it last was."""
    from planetmesh.agent.state import Phase

    rows: list[Row] = []
    if state.phase is Phase.REGISTERED:
        rows.append(Row("link", (("connected", "green"), (f"since {since}", "")), 1))
    elif state.phase is Phase.DRAINING:
        rows.append(Row("ending", words(finishing(state.running), "bold yellow"), 0, "bold yellow"))
    elif state.phase is Phase.CONNECTING:
        rows.append(Row("link", (("connecting…", "yellow"),), 1))
    else:
        word = "refused" if state.phase is Phase.REFUSED else "reconnecting"
        rows.append(Row("link", ((word, "red"), (f"since {since}", "")), 1))
        if state.reason:
            rows.append(Row("why", words(cell(state.reason)), 2, ""))
    if numbers is not None:
        rows.append(Row("tasks", _in_hand(numbers), 1))
        proven = "" if numbers.sandbox.proven else "not proven"
        tier = ((numbers.sandbox.tier, ""), *(((proven, "yellow"),) if proven else ()))
        rows.append(Row("sandbox", tier, 4))
    if state.endpoint or endpoint:
        rows.append(Row("coordinator", ((cell(state.endpoint or endpoint), ""),), 3))
    rows.append(Row("fingerprint", ((fingerprint, ""),), 5))
    return [*rows, *_warnings(agent_warnings(state, numbers))]


def agent_warnings(state: AgentState, numbers: AgentNumbers | None) -> list[Warned]:
    from planetmesh.agent.state import Phase

    found: list[Warned] = []
    if state.phase in {Phase.LOST, Phase.REFUSED}:
        found.append(Warned(f"{cell(state.detail)} {cell(state.hint)}".strip(), "planetmesh doctor"))
    if numbers is None:
        return found
    if numbers.refuses:
        found.append(Warned(f"It takes no tasks: {cell(numbers.refuses)}", "planetmesh doctor"))
    if abs(numbers.clock_ahead_seconds) > CLOCK_MOST_SECONDS:
        ahead = "ahead of" if numbers.clock_ahead_seconds > 0 else "behind"
        seconds = abs(numbers.clock_ahead_seconds)
        found.append(
            Warned(f"This clock is {seconds:.0f} seconds {ahead} the coordinator's.", "planetmesh doctor")
        )
    return found + _disk(numbers.disk_free_bytes)


def panel(title: str, began: float, rows: Sequence[Row], size: os.terminal_size) -> list[Text]:
    """All lines that fit, the title first. `began`: steady time of the start."""
    room = min(LINES_MOST, max(2, size.lines - ROWS_LEFT)) - 1
    laid = [(row, flow(row, size.columns - 1)) for row in rows]
    kept: set[int] = set()
    for number in sorted(range(len(laid)), key=lambda each: laid[each][0].rank):
        need = len(laid[number][1])
        if need <= room:
            kept.add(number)
            room -= need
    lines = [_head(title, show_uptime(time.monotonic() - began), size.columns - 1)]
    return [*lines, *(line for number, (_, some) in enumerate(laid) if number in kept for line in some)]


def flow(row: Row, width: int) -> list[Text]:
    """The row in lines of so many cells; a piece that has no room goes to the next line."""
    from rich.text import Text

    indent = {"!": 2, "": 0}.get(row.label, LABEL_LETTERS)
    lines = [Text.assemble((f"{row.label:<{indent}}", row.style))]
    is_begun = False  # something stands beside the label, or on the new line
    for text, style, goes_on in _whole_or_torn(row.pieces, width - 2):
        piece = Text(text, style)
        gap = "" if not is_begun else " " if goes_on or style == row.style else "  "
        if lines[-1].cell_len + len(gap) + piece.cell_len > width:
            if style == HINT:
                continue
            # What is too long for the place beside the label gets all there is.
            fits = indent + piece.cell_len <= width
            lines.append(Text(" " * (indent if fits else min(indent, max(2, width - piece.cell_len)))))
        else:
            lines[-1].append(gap)
        lines[-1].append_text(piece)
        is_begun = True
    return lines


def shortened(row: Row, tail: tuple[Piece, ...], width: int, most: int) -> list[Text]:
    """The row, then `tail`, in `most` lines: what is too much of the row becomes "…", of the tail nothing."""
    lines = flow(msgspec.structs.replace(row, pieces=(*row.pieces, *tail)), width)
    for kept in range(len(row.pieces) - 1, 0, -1):
        if len(lines) <= most:
            break
        last, style = row.pieces[kept - 1]
        pieces = (*row.pieces[: kept - 1], (last.rstrip(".,:;") + "…", style), *tail)
        lines = flow(msgspec.structs.replace(row, pieces=pieces), width)
    return lines[:most]


def finishing(running: int) -> str:
    """What a person who pressed Ctrl-C wants to know."""
    if not running:
        return "Stopping."
    return f"Finishing {_count(running, 'task')}; Ctrl-C again stops now."


def words(sentence: str, style: str = "") -> tuple[Piece, ...]:
    """A sentence may break at each blank, but not inside a `command`."""
    import re

    return tuple((each, style) for each in re.findall(r"`[^`]*`\S*|\S+", sentence))


def show_uptime(seconds: float) -> str:
    """`2 min`, `3 h 12 min`, `5 days`: nothing that changes each second."""
    if seconds < MINUTE_SECONDS:
        return "just begun"
    if seconds < HOUR_SECONDS:
        return f"up {seconds // MINUTE_SECONDS:.0f} min"
    if seconds < 2 * DAY_SECONDS:
        return f"up {seconds // HOUR_SECONDS:.0f} h {seconds % HOUR_SECONDS // MINUTE_SECONDS:02.0f} min"
    return f"up {seconds // DAY_SECONDS:.0f} days"


def _whole_or_torn(pieces: Iterable[Piece], width: int) -> Iterator[tuple[str, str, bool]]:
    """Only what has no room in any line is torn apart, at its blanks: else its end would be cut off.

    The last of each three: it goes on with what was torn before it.
    """
    for text, style in pieces:
        parts = text.split() if len(text) > width else [text]
        yield from ((part, style, number > 0) for number, part in enumerate(parts))


def _head(title: str, right: str, width: int) -> Text:
    from rich.text import Text

    line = Text.assemble(("── ", "dim"), (title, "bold"), (" ", ""))
    rest = width - line.cell_len - len(right) - 4
    if rest < 2:
        line.append("─" * max(0, width - line.cell_len), "dim")
        return line
    return line.append("─" * rest, "dim").append(f" {right} ", "dim").append("──", "dim")


def _nodes(glance: Glance) -> Row:
    pieces = [(f"{count} {state}", colour(state)) for state, count in glance.nodes.items() if count]
    if glance.is_starting:
        pieces.append(("this one is starting", "cyan"))
    return Row("nodes", tuple(pieces) or (("none yet", "yellow"),), 1)


def _work(glance: Glance, *, has_agent: bool) -> Row:
    here = f" ({glance.running_here} here)" if has_agent and glance.running else ""
    running = (f"{_count(glance.running, 'task')} running{here}", "cyan" if glance.running else "")
    waiting = ((f"{glance.waiting} waiting", ""),) if glance.waiting else ()
    jobs = ((_count(glance.jobs, "job"), ""),) if glance.jobs else ()
    if not (glance.running or glance.waiting or glance.jobs):
        return Row("work", (("nothing to do", ""), ("planetmesh run hostname", HINT)), 1)
    return Row("work", (running, *waiting, *jobs), 1)


def _how_to_join(host: Host) -> Row:
    return Row(
        "add a node",
        ((f"there: {host.join_line}", ""), ("here: planetmesh code", "")),
        3,
    )


def _open_code(code: OpenCode, host: Host) -> Row:
    minutes, seconds = divmod(int(code.seconds_left), MINUTE_SECONDS)
    command = host.join_line
    if code.role != "agent":
        command = command.replace("planetmesh up", "planetmesh login", 1)
        command += f" --role {code.role}" if code.role == "viewer" else ""
    attempts = () if code.attempts_left == 5 else ((f"{code.attempts_left} attempts left", "yellow"),)
    return Row(
        "code open",
        (
            (f"{code.slot}-…", "bold"),
            (f"for {'a machine' if code.role == 'agent' else f'one {code.role}'}", ""),
            (f"{minutes}:{seconds:02d} left", "yellow"),
            *attempts,
            (f"there: {command}", ""),
        ),
        2,
        "bold",
    )


def _in_hand(numbers: AgentNumbers) -> tuple[Piece, ...]:
    pieces = [(f"{numbers.running} running", "cyan" if numbers.running else "")]
    if numbers.waiting:
        pieces.append((f"{numbers.waiting} sent ahead", ""))
    if numbers.unsent:
        pieces.append((f"{numbers.unsent} reports to be sent", ""))
    return tuple(pieces)


def _warnings(found: Sequence[Warned]) -> list[Row]:
    rows: list[Row] = []
    for number, (sentence, command) in enumerate(found):
        pieces = words(sentence, "yellow")
        if command:
            pieces = (*pieces, (command, "bold"))
        rows.append(Row("!", pieces, 2 if not number else 6, "yellow"))
    return rows


def _disk(free: int | None) -> list[Warned]:
    if free is None or free >= DISK_LEAST_BYTES:
        return []
    return [Warned(f"Only {show_size(free)} are free on this disk.", "planetmesh doctor")]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
