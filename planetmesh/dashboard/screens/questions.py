"""Small windows that ask: yes or no, or for a word."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label

_WINDOW = """
    align: center middle;
    & > Vertical {
        width: 64; max-width: 95%; height: auto; padding: 1 2; background: $surface; border: round $primary;
    }
    & Label { width: 100%; margin-bottom: 1; }
    & Horizontal { height: auto; align-horizontal: right; margin-top: 1; }
    & Button { margin-left: 2; min-width: 8; }
"""


class Confirm(ModalScreen[bool]):
    """Asks before something that cannot be taken back."""

    DEFAULT_CSS = "Confirm {" + _WINDOW + "}"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n", "answer(False)", "No", show=False),
        Binding("y", "answer(True)", "Yes", show=False),
    ]

    def __init__(self, question: str, verb: str) -> None:
        """`question` is shown as it is: no markup."""
        super().__init__()
        self._question = question
        self._verb = verb

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Label(self._question, markup=False)
            with Horizontal():
                yield Button("No (n)", id="no", compact=True)
                yield Button(f"{self._verb} (y)", variant="error", id="yes", compact=True)

    def on_mount(self) -> None:
        # They lie over the question, and one must read what one answers.
        self.app.clear_notifications()
        self.query_one("#no").focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class Prompt(ModalScreen[str | None]):
    """Asks for a word; nothing if it was left."""

    DEFAULT_CSS = "Prompt {" + _WINDOW + "}"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave", show=False)]

    def __init__(self, title: str, value: str = "") -> None:
        super().__init__()
        self._title = title
        self._value = value

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Label(self._title, markup=False)
            yield Input(self._value, compact=True)
            with Horizontal():
                yield Label("Enter takes it, Escape leaves", markup=False)

    def on_mount(self) -> None:
        self.app.clear_notifications()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())

    def action_leave(self) -> None:
        self.dismiss(None)
