"""What every command gets: the home, how to print, how to reach the mesh.

Made once by `main` and filled by the global options, wherever on the line they stand. Commands take it with
`@click.pass_obj`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from planetmesh.paths import Home, default_home

if TYPE_CHECKING:
    from planetmesh.cli.output import Printer
    from planetmesh.client.async_client import AsyncMesh
    from planetmesh.errors import MeshError

T = TypeVar("T")


@dataclass
class Face:
    """The global options' values."""

    home_path: Path | None = None
    json: bool = False
    quiet: bool = False
    verbose: int = 0

    @property
    def home(self) -> Home:
        """The state directory: `--home`, else PLANETMESH_HOME, else the platform's usual one."""
        return Home(self.home_path.expanduser().absolute() if self.home_path else default_home())

    @cached_property
    def printer(self) -> Printer:
        """Ask for it only inside a command: the options are complete then."""
        from planetmesh.cli.output import printer_for

        return printer_for(json=self.json, quiet=self.quiet)

    def mesh(self, **options: Any) -> AsyncMesh:
        """The mesh with this user's identity, to be used as `async with face.mesh() as mesh:`."""
        from planetmesh.client.async_client import AsyncMesh

        usual: dict[str, Any] = {"finder": find_coordinator, "on_wait": self._say_waiting}
        return AsyncMesh(self.home.root, **(usual | options))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a command's asynchronous part to its end."""
        import asyncio

        return asyncio.run(work)

    def with_mesh(self, work: Callable[[AsyncMesh], Coroutine[Any, Any, T]]) -> T:
        """Open the mesh, do one piece of work with it, close it."""

        async def go() -> T:
            async with self.mesh() as mesh:
                return await work(mesh)

        return self.run(go())

    def _say_waiting(self, error: MeshError) -> None:
        self.printer.note(f"{error.message.rstrip('.')}; trying again…")


FIND_SECONDS = 3.0
"""A coordinator on the same LAN answers within one."""


async def find_coordinator(mesh_id: str) -> Sequence[str]:
    """Addresses of this mesh's coordinator by mDNS, for the client when the remembered ones fail."""
    from planetmesh.discovery import Found, find
    from planetmesh.model.endpoint import format_endpoint

    def ours(found: list[Found]) -> list[Found]:
        return [each for each in found if mesh_id.startswith(each.mesh8)]

    heard = await find(FIND_SECONDS, until=lambda found: bool(ours(found)))
    return [format_endpoint(address, each.port) for each in ours(heard) for address in each.addresses]
