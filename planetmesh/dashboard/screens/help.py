"""All keys, what the signs mean, and where to read more."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen

from planetmesh.dashboard.plain import DIM, STRONG, Cell
from planetmesh.dashboard.widgets.sheet import Sheet

KEYS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "everywhere",
        (
            ("1 2 3", "overview, nodes, jobs (or click)"),
            ("s", "submit a job"),
            ("c", "open a pairing code for a machine or a person"),
            ("e", "why is it as it is? and what to type next"),
            ("T", "light or dark"),
            ("Ctrl+P", "all commands by name"),
            ("? or F1", "this help"),
            ("Escape", "back"),
            ("q", "quit"),
        ),
    ),
    (
        "lists",
        (
            ("↑ ↓ PgUp PgDn", "move; also j and k, g and G"),
            ("Enter", "open (or click twice)"),
            ("/", "only rows with some words; Escape shows all"),
            ("o, O", "sort by the next column, turn it (or click a title)"),
        ),
    ),
    (
        "nodes",
        (
            ("d", "drain: no new work, what runs ends first"),
            ("u", "resume: work again, quarantine lifted"),
            ("n, t", "rename, change its tags"),
            ("R", "revoke its certificate for good; asks first"),
            ("F", "forget one that is OFFLINE; asks first"),
        ),
    ),
    (
        "jobs",
        (
            ("x", "cancel; asks first"),
            ("r", "run the failed tasks again"),
            ("p", "pause or resume"),
            ("+", "change the priority"),
        ),
    ),
    (
        "one job",
        (
            ("Enter", "a task's log, live: / searches, n and N go on"),
            ("f", "only FAILED tasks, RUNNING ones, …"),
            ("w", "counted by node, with errors"),
            ("[ ]", "pages of tasks"),
        ),
    ),
)


def help_lines() -> list[Cell]:
    lines: list[Cell] = []
    for title, keys in KEYS:
        lines += [((title, STRONG),)]
        lines += [((f"  {key:<15}", ""), (what, DIM)) for key, what in keys]
        lines.append((("", ""),))
    lines.append((("RUN 3+2", ""), (": three tasks run there, two wait in its short backlog", DIM)))
    lines.append((("REL", ""), (": share of attempts that went well lately", DIM)))
    return lines


class HelpScreen(ModalScreen[None]):
    """See the module."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1", "leave", "Close", show=False),
    ]
    DEFAULT_CSS = """
    HelpScreen {
        align: center middle;
        & > VerticalScroll {
            width: 84; max-width: 100%; height: auto; max-height: 95%; padding: 0 2; background: $surface;
            border: round $primary; border-title-color: $foreground;
        }
    }
    """

    def compose(self) -> ComposeResult:
        scroll = VerticalScroll(Sheet(id="help"))
        scroll.border_title = "help (Escape closes)"
        yield scroll

    def on_mount(self) -> None:
        self.query_one("#help", Sheet).show(help_lines())

    def action_leave(self) -> None:
        self.dismiss()
