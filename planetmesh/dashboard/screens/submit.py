"""A job typed into a form, checked while it is typed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.events import Resize
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Button, Input, Static, TextArea

from planetmesh.client.async_client import AsyncMesh
from planetmesh.client.handles import JobHandle
from planetmesh.dashboard.draft import Draft, Order, order_lines, problem_lines
from planetmesh.dashboard.plain import DIM, cell, plain
from planetmesh.dashboard.screens.job import JobScreen
from planetmesh.dashboard.screens.mesh_screen import MeshScreen
from planetmesh.dashboard.snapshot import Snapshot
from planetmesh.dashboard.widgets.sheet import Sheet
from planetmesh.dashboard.working import begin
from planetmesh.errors import MeshError

CHECK_SECONDS = 0.3
"""After the last key."""

NARROW = 64
"""Below this a line has room for one field only."""
ROWS: tuple[tuple[tuple[str, str, str], ...], ...] = (
    (("command", "Command", "like: ffmpeg -i {} {.}.mp4   ({} is the input)"),),
    (("script", "Script", "a file here that is sent along; the command line is its arguments then"),),
    (("inputs", "Inputs", ""),),
    (("name", "Name", "for people"), ("node", "Node", "only there")),
    (("cpus", "CPUs", "1"), ("memory", "Memory", "500MB"), ("gpus", "GPUs", "0")),
    (
        ("tags", "Tags", "of the node"),
        ("timeout", "Timeout", "10m"),
        ("retries", "Retries", "2"),
    ),
    (("priority", "Priority", "0"), ("take", "Take along", "files, folders, patterns")),
    (("bring", "Keep", "files that tasks make, like *.mp4; `planetmesh fetch` brings them"),),
)
"""Field, label, what may stand there."""


class Field(Horizontal):
    """A label and where to type."""

    DEFAULT_CSS = """
    Field {
        height: auto; width: 1fr;
        & Static { width: 11; color: $foreground 70%; }
        & Input { width: 1fr; background: $panel; }
        & TextArea { width: 1fr; height: 4; background: $panel; }
        & Input:focus, & TextArea:focus { background: $primary 25%; }
    }
    """

    def __init__(self, name: str, label: str, hint: str) -> None:
        super().__init__()
        self._called, self._label, self._hint = name, label, hint

    def compose(self) -> ComposeResult:
        yield Static(self._label, markup=False)
        if self._called == "inputs":
            yield TextArea(
                id="inputs",
                compact=True,
                placeholder="one input a line, or a range like 1..100, or none",
            )
        else:
            yield Input(placeholder=self._hint, id=self._called, compact=True)


class SubmitScreen(MeshScreen):
    """See the module."""

    MODE = "submit"
    CAN_EXPLAIN = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "submit", "Submit", priority=True),
        Binding("escape", "back", "Back"),
    ]
    DEFAULT_CSS = """
    SubmitScreen {
        & #form { height: 1fr; padding: 1 1 0 1; }
        & .row { height: auto; margin-bottom: 0; }
        & .row Field { margin-right: 2; }
        & #verdict { height: 3; padding: 0 1; border-top: solid $foreground 30%; }
        & #buttons { height: 1; align-horizontal: right; }
        & Button { margin-right: 2; }
        &.-narrow .row { layout: vertical; }
        &.-narrow .row Field { width: 100%; margin-right: 0; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._order: Order | None = None
        self._wait: Timer | None = None
        self._is_sending = False

    def body(self) -> Iterable[Widget]:
        rows = [Horizontal(*(Field(*each) for each in row), classes="row") for row in ROWS]
        yield VerticalScroll(*rows, id="form", can_focus=False)
        yield Sheet(id="verdict")
        yield Horizontal(
            Button("Submit (Ctrl+S)", id="submit", variant="primary", compact=True),
            Button("Back (Esc)", id="back", compact=True),
            id="buttons",
        )

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#command", Input).focus()
        for name in Draft.__struct_fields__:
            self._put(name, getattr(self.dashboard.draft, name))
        self._check_soon()

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.width < NARROW, "-narrow")

    def show(self, snapshot: Snapshot) -> None:
        pass

    @property
    def draft(self) -> Draft:
        """What is typed now."""
        texts = {each.id: each.value for each in self.query(Input) if each.id}
        texts["inputs"] = self.query_one("#inputs", TextArea).text
        return Draft(**texts)

    def _put(self, name: str, text: str) -> None:
        if name == "inputs":
            self.query_one("#inputs", TextArea).text = text
        else:
            self.query_one(f"#{name}", Input).value = text

    @on(Input.Changed)
    @on(TextArea.Changed)
    def _check_soon(self) -> None:
        self._order = None
        if self._wait is not None:
            self._wait.stop()
        self._wait = self.set_timer(CHECK_SECONDS, lambda: begin(self, self._check, "check"))

    async def _check(self) -> None:
        draft = self.draft
        self.dashboard.draft = draft
        verdict = self.query_one("#verdict", Sheet)
        if not (draft.command.strip() or draft.script.strip()):
            verdict.show([cell("Say what to run: a command, or a script that lies here.", DIM)])
            return
        try:
            order = await asyncio.to_thread(self.dashboard.make_order, draft)
        except MeshError as error:
            verdict.show(problem_lines(error.message, error.hint))
            return
        self._order = order
        verdict.show(order_lines(order))

    async def _send(self) -> None:
        """Check what stands there now, then hand it in."""
        await self._check()
        order = self._order
        if order is None:
            self.dashboard.say("Nothing was handed in: see what is wrong above the buttons.", is_error=True)
            return

        async def hand_in(mesh: AsyncMesh) -> JobHandle:
            return await (mesh.submit_with(order.plan, order.spec) if order.plan else mesh.submit(order.spec))

        try:
            handle = await self.dashboard.watcher.ask(hand_in)
        except MeshError as error:
            self.query_one("#verdict", Sheet).show(problem_lines(error.message, error.hint))
            return
        self.dashboard.draft = Draft()
        self.dashboard.say(f"Job {handle.id} is handed in.")
        for warning in handle.warnings:
            self.dashboard.say(plain(warning, 300), is_error=True)
        self.dismiss()
        await self.app.push_screen(JobScreen(handle.view))

    @on(Button.Pressed, "#submit")
    def action_submit(self) -> None:
        if not self.dashboard.refuses_viewer():
            begin(self, self._send, "send")

    @on(Button.Pressed, "#back")
    def action_back(self) -> None:
        self.dismiss()
