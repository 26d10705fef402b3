"""The keys at the bottom."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Footer, Static


class Keys(Footer):
    """Where there is no room for all keys, help is there all the same, at the right: it names the others."""

    DEFAULT_CSS = """
    Keys .help-key {
        dock: right; width: auto; padding: 0 1; background: $footer-background;
        link-color: $footer-foreground; link-style: none;
    }
    """

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield Static("[b $footer-key-foreground]?[/] [@click=app.help]Help[/]", classes="help-key")
