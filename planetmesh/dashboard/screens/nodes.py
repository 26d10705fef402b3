"""The machines, and what may be done with one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from planetmesh.dashboard import rows, sheets
from planetmesh.dashboard.plain import Cell, plain
from planetmesh.dashboard.screens.listing import ListScreen
from planetmesh.dashboard.screens.mesh_screen import Explaining
from planetmesh.dashboard.screens.questions import Confirm, Prompt
from planetmesh.dashboard.snapshot import Snapshot
from planetmesh.model.node import NodeState
from planetmesh.wire.api import ChangeNode, NodeView


class NodesScreen(ListScreen[NodeView]):
    """See the module."""

    MODE = "nodes"
    COLUMNS = rows.NODES
    EMPTY = "There are no nodes yet. Press c for a pairing code, then `planetmesh up` on a machine."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "drain", "Drain"),
        Binding("u", "undrain", "Resume"),
        Binding("n", "rename", "Rename"),
        Binding("t", "tag", "Tags"),
        Binding("R", "revoke", "Revoke", key_display="R"),
        Binding("F", "forget", "Forget", key_display="F"),
    ]

    def key_of(self, thing: NodeView) -> str:
        return thing.id

    def things(self, snapshot: Snapshot) -> Sequence[NodeView]:
        return snapshot.nodes

    def about(self, thing: NodeView, snapshot: Snapshot) -> list[Cell]:
        return sheets.node_lines(thing, snapshot)

    def matches(self) -> Callable[[NodeView, str], bool]:
        return rows.node_matches

    def explained(self) -> Explaining | None:
        node = self.grid.selected
        return None if node is None else (node.id, lambda mesh: mesh.explain_node(node.id))

    def action_drain(self) -> None:
        self._change(ChangeNode(draining=True), "{} gets no new work; its running tasks end first.")

    def action_undrain(self) -> None:
        self._change(ChangeNode(draining=False), "{} gets work again.")

    def action_rename(self) -> None:
        node = self.grid.selected
        if node is None or self.dashboard.refuses_viewer():
            return

        def rename(name: str | None) -> None:
            if name is not None:
                self._change(ChangeNode(name=name), "It is called {} now.", node)

        self.app.push_screen(Prompt(f"A new name for {plain(node.name, 40)}", plain(node.name)), rename)

    def action_tag(self) -> None:
        node = self.grid.selected
        if node is None or self.dashboard.refuses_viewer():
            return

        def tag(text: str | None) -> None:
            if text is not None:
                tags = tuple(text.replace(",", " ").split())
                self._change(ChangeNode(tags=tags), "The tags of {} are changed.", node)

        reported = ", ".join(each for each in node.tags if each not in node.given_tags) or "none"
        title = f"Tags of {plain(node.name, 40)}, besides those that it reports itself ({plain(reported)})"
        self.app.push_screen(Prompt(title, plain(" ".join(node.given_tags))), tag)

    def action_revoke(self) -> None:
        node = self.grid.selected
        if node is None or self.dashboard.refuses_viewer():
            return

        def revoke(sure: bool | None) -> None:
            if sure:
                self.dashboard.order(
                    lambda mesh: mesh.revoke_node(node.id),
                    lambda after: f"{plain(after.name)} is revoked: its connection is closed.",
                )

        question = f"Revoke {plain(node.name, 40)}? Its certificate is taken away for good: it is cut off at "
        question += "once, its tasks go elsewhere, and it must be paired again."
        self.app.push_screen(Confirm(question, "Revoke"), revoke)

    def action_forget(self) -> None:
        node = self.grid.selected
        if node is None or self.dashboard.refuses_viewer():
            return
        name = plain(node.name, 40)
        if node.state is not NodeState.OFFLINE:
            self.dashboard.say(f"{name} is {node.state}: only who is OFFLINE can be forgotten. R revokes it.")
            return

        def forget(sure: bool | None) -> None:
            if sure:
                self.dashboard.order(
                    lambda mesh: mesh.forget_node(node.id), lambda _: f"{name} is struck from the list."
                )

        question = (
            f"Forget {name}? It is struck from the list, its certificate is taken away for good, and it "
        )
        question += "must be paired again to come back."
        self.app.push_screen(Confirm(question, "Forget"), forget)

    def _change(self, change: ChangeNode, said: str, node: NodeView | None = None) -> None:
        node = node or self.grid.selected
        if node is not None:
            node_id = node.id
            self.dashboard.order(
                lambda mesh: mesh.change_node(node_id, change), lambda after: said.format(plain(after.name))
            )
