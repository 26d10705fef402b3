"""The part this home plays in its mesh: decided by the first `up` and kept in HOME/role.json.

Options given to a later `up` override what is kept and are kept in turn. Nothing here talks to anybody.
"""

from __future__ import annotations

import platform
from enum import StrEnum
from pathlib import Path

import msgspec

from planetmesh.errors import BadInput, UnsafeHome
from planetmesh.logs import clean
from planetmesh.model.endpoint import DEFAULT_PORT
from planetmesh.model.resources import Resources
from planetmesh.paths import Home, read_private, write_private

NAME_MOST_LETTERS = 64
NOT_SAID = Resources(0, 0, -1)
"""As the agent reads an offer: it works out what its owner did not say."""


class Role(StrEnum):
    """What `up` does in this home."""

    COORDINATOR = "coordinator"
    AGENT = "agent"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What role.json holds."""

    role: Role
    name: str
    port: int = DEFAULT_PORT
    bind: tuple[str, ...] = ()
    mdns: bool = True
    agent: bool = True
    """A coordinator runs an agent of its own beside it."""
    tags: tuple[str, ...] = ()
    offer: Resources = NOT_SAID
    shares: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()
    """Kept from tasks besides the state directory."""
    embedding_server: str = ""
    """Where an OpenAI-compatible server listens on this machine's loopback."""


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says of the part; None where it says nothing."""

    name: str | None = None
    port: int | None = None
    bind: tuple[str, ...] | None = None
    mdns: bool | None = None
    agent: bool | None = None
    tags: tuple[str, ...] | None = None
    cpu_millis: int | None = None
    memory_bytes: int | None = None
    gpus: int | None = None
    shares: tuple[str, ...] | None = None
    hides: tuple[str, ...] | None = None
    embedding_server: str | None = None

    def begin(self, role: Role) -> Part:
        """The part of a first `up`."""
        return self.change(Part(role=role, name=self.name or own_name()))

    def change(self, part: Part) -> Part:
        """`part` with everything that was said."""
        said = {name: getattr(self, name) for name in _PLAIN if getattr(self, name) is not None}
        offer = msgspec.structs.replace(
            part.offer, **{name: getattr(self, name) for name in _OFFER if getattr(self, name) is not None}
        )
        return msgspec.structs.replace(part, offer=offer, **said)


_PLAIN = ("name", "port", "bind", "mdns", "agent", "tags", "shares", "hides", "embedding_server")
_OFFER = ("cpu_millis", "memory_bytes", "gpus")


def own_name() -> str:
    """What this machine calls itself, up to the first dot."""
    return clean(platform.node().split(".", 1)[0], NAME_MOST_LETTERS) or "machine"


def check_name(name: str) -> str:
    """Raise BadInput for a name that no table could show."""
    if not name.strip() or len(name) > NAME_MOST_LETTERS or clean(name) != name:
        raise BadInput(
            f"A name has 1 to {NAME_MOST_LETTERS} printable letters.", hint="For example: --name desk"
        )
    return name.strip()


def read_part(home: Home) -> Part | None:
    """What this home does; None before its first `up` got so far."""
    if home.role_file.exists():
        return _read_file(home.role_file)
    return _from_what_lies_there(home)


def write_part(home: Home, part: Part) -> None:
    write_private(home.role_file, msgspec.json.format(msgspec.json.encode(part)))


def _read_file(path: Path) -> Part:
    try:
        return msgspec.json.decode(read_private(path), type=Part)
    except (OSError, msgspec.MsgspecError) as error:
        raise UnsafeHome(
            f"{path} cannot be used: {error}.", hint=f"Mend it, or remove it and run `up` again: rm {path}"
        ) from error


def _from_what_lies_there(home: Home) -> Part | None:
    """An `up` that was cut off after it founded or joined a mesh did decide."""
    if (home.authority / "key.pem").exists():
        return Part(role=Role.COORDINATOR, name=own_name())
    if (home.agent / "key.pem").exists():
        return Part(role=Role.AGENT, name=own_name())
    return None
