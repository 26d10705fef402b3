"""`planetmesh backup` and `planetmesh restore`: the mesh itself in one file, under a passphrase."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from planetmesh.cli import passphrase
from planetmesh.cli.face import Face
from planetmesh.cli.new_file import new_file
from planetmesh.cli.part import Role, read_part
from planetmesh.cli.passphrase import check_source, passphrase_options
from planetmesh.cli.shapes import show_time
from planetmesh.errors import BadInput, Conflict, NotFound
from planetmesh.logs import clean
from planetmesh.model.resources import show_size
from planetmesh.wire.api import rfc3339

if TYPE_CHECKING:
    from planetmesh.coordinator.backup import Restored

FILE_MOST_BYTES = 1024 * 1024 * 1024


@click.command(
    epilog="\b\nExamples:\n"
    "  planetmesh backup mesh.backup                            asks for a passphrase\n"
    "  planetmesh backup --passphrase-file F mesh-$(date +%F)   from cron",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace a file of that name.")
@passphrase_options
@click.pass_obj
def backup(face: Face, /, file: Path, *, overwrite: bool, **given: object) -> int:
    """Put the mesh itself into one file, sealed with a passphrase.

    On the coordinator's machine, while `planetmesh up` runs or not. The file holds the
    mesh's CA key, its nodes and people, its settings and its audit trail; no jobs, no
    outputs, no files. With it the mesh can be had back on another machine:
    `planetmesh restore`.
    """
    source = _source(given)
    home = face.home
    part = read_part(home) if home.exists() else None
    if part is None:
        raise NotFound(f"The home {home.root} belongs to no mesh.", hint="Name another one with --home DIR.")
    if part.role is not Role.COORDINATOR:
        raise Conflict(
            "This home is an agent's: there is nothing in it that pairing anew would not give.",
            hint="Run it on the coordinator's machine; `planetmesh status` names it.",
        )
    from planetmesh.coordinator.backup import pack
    from planetmesh.trust.sealed import seal

    secret, is_made = passphrase.new(source)
    content, coordinator = pack(home)
    sealed = seal(content, secret)
    with new_file(file, overwrite=overwrite) as out:
        Path(out.name).chmod(0o600)
        out.write(sealed)
    said = {"file": str(file), "bytes": len(sealed), "mesh": coordinator.mesh_name}
    mesh = f"the mesh '{clean(coordinator.mesh_name)}'"
    if is_made:
        # Whatever the form of what is printed: it is shown this once.
        click.echo(f"Passphrase: {secret}\nWrite it down: without it nobody can use the file.", err=True)
    face.printer.done(f"{file} holds {mesh} ({show_size(len(sealed))}).", said, str(file))
    return 0


@click.command(
    epilog="\b\nExamples:\n"
    "  planetmesh restore mesh.backup && planetmesh up\n"
    "  planetmesh --home /var/lib/planetmesh restore mesh.backup",
)
@click.argument("file", type=click.Path(path_type=Path))
@passphrase_options
@click.pass_obj
def restore(face: Face, /, file: Path, **given: object) -> int:
    """Make this machine the coordinator of a mesh that `planetmesh backup` kept.

    Into a fresh home. Then `planetmesh up`: nodes find it by mDNS and go on. Never start
    the old coordinator again beside it.
    """
    source = _source(given)
    home = face.home
    sealed = _read(file)
    from planetmesh.coordinator.backup import read, refuse_if_used, unpack
    from planetmesh.trust.sealed import unseal

    home.prepare()
    with home.locked(hint="Restore into another one with --home DIR."):
        refuse_if_used(home)
        content = read(unseal(sealed, passphrase.known(source)))
        restored = face.run(unpack(home, content))
    document = {
        "mesh": restored.mesh_name,
        "mesh_id": restored.mesh_id,
        "made_at": rfc3339(restored.made_at),
        "nodes": restored.nodes,
        "people": restored.people,
    }
    face.printer.done(_sentence(restored), document, restored.mesh_id)
    face.printer.note("Start it: planetmesh up")
    face.printer.note(
        "Never start the old coordinator again. Who came after that day pairs again. Who was revoked "
        "after it counts again: look at `planetmesh nodes` and `planetmesh people`."
    )
    return 0


def _sentence(restored: Restored) -> str:
    mesh = f"the mesh '{clean(restored.mesh_name)}' ({restored.mesh_id[:8]})"
    nodes = "1 node" if restored.nodes == 1 else f"{restored.nodes} nodes"
    people = "1 person" if restored.people == 1 else f"{restored.people} people"
    return (
        f"This home is now the coordinator's of {mesh}, as it was on {show_time(rfc3339(restored.made_at))}: "
        f"{nodes}, {people}. Fingerprint: {restored.fingerprint}"
    )


def _source(given: dict[str, object]) -> passphrase.Source:
    file = given["passphrase_file"]
    return check_source(stdin=bool(given["passphrase_stdin"]), file=file if isinstance(file, Path) else None)


def _read(file: Path) -> bytes:
    try:
        if file.is_file() and file.stat().st_size > FILE_MOST_BYTES:
            raise BadInput(f"'{file}' is too large to be the backup of a mesh.")
        with file.open("rb") as content:
            return content.read(FILE_MOST_BYTES)
    except FileNotFoundError as error:
        raise NotFound(f"There is no file '{file}'.") from error
    except OSError as error:
        raise BadInput(f"'{file}' cannot be read: {error.strerror}.") from error
