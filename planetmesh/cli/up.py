"""`planetmesh up`: take part.

The first run decides once: a mesh is found and joined as agent, or, where there is none, this machine becomes
its coordinator. Later runs go on as before. A home that knows a mesh never looks for another.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from planetmesh.cli.codes_in import Way, check_way, way_options
from planetmesh.cli.face import Face
from planetmesh.cli.hangup import stops_in_order
from planetmesh.cli.own_program import keep_unpacked
from planetmesh.cli.part import Part, Role, Wishes, check_name, read_part, write_part
from planetmesh.cli.secret_lines import is_asked
from planetmesh.errors import BadInput, Conflict, NotFound
from planetmesh.paths import Home

if TYPE_CHECKING:
    from planetmesh.discovery import Found
    from planetmesh.log_file import LogFile
    from planetmesh.settings import Settings

LogFormat = Literal["text", "json"]
_EXAMPLES = """
\b
Examples:
  planetmesh up                              the first machine, and every other
  planetmesh up --tag gpu --share /data      say more about this machine
  planetmesh up --join 192.168.1.20          where multicast is blocked
  planetmesh up --code-file code.txt         without a terminal
  planetmesh up --log-file /var/log/mesh.log a log for programs, rotated by itself

What is said once is kept: later runs need no options. An empty text (--tag '') takes a list back.
On a terminal a panel at the bottom shows the mesh; --log-format json, -q or TERM=dumb: none.
Ctrl-C stops in order and gives running tasks a moment, a second one stops at once.
"""


@dataclass(frozen=True)
class How:
    """What is not about the part, but about this run."""

    new: bool
    tied: bool
    log_format: LogFormat
    log_file: Path | None = None


@click.command(epilog=_EXAMPLES)
@click.option("--new", is_flag=True, help="Become the coordinator of a new mesh, without a search.")
@click.option("--known", is_flag=True, help="Go on with the mesh of this home or fail: for services.")
@way_options
@click.option("--name", metavar="TEXT", help="This machine's name in the mesh (default: its host name).")
@click.option(
    "--port", type=click.IntRange(0, 65534), metavar="N", help="Coordinator: the port (default 7433, 0: any)."
)
@click.option("--bind", multiple=True, metavar="ADDR", help="Use only this address. Repeatable.")
@click.option("--tag", multiple=True, metavar="T", help="What tasks can ask for. Repeatable.")
@click.option("--cpus", metavar="N", help="Offer so many CPUs to tasks (default: all).")
@click.option("--memory", metavar="SIZE", help="Offer so much memory to tasks (default: nine tenths).")
@click.option(
    "--gpus", type=click.IntRange(0), metavar="N", help="Offer so many GPUs to tasks (default: all)."
)
@click.option("--share", multiple=True, metavar="PATH[:rw]", help="Let tasks see this folder. Repeatable.")
@click.option("--hide", multiple=True, metavar="PATH", help="Keep this from tasks too. Repeatable.")
@click.option(
    "--embedding-server",
    metavar="URL",
    help="An OpenAI-compatible model server on this machine's loopback. Ollama is found by itself.",
)
@click.option("--agent/--no-agent", default=None, help="Coordinator: run tasks here too (default: yes).")
@click.option("--mdns/--no-mdns", default=None, help="Announce and search by mDNS (default: yes).")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Of stderr. Text on a terminal: warnings and news only; -v: all.",
)
@click.option(
    "--log-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Log into this file too, as JSON lines. A coordinator's own agent writes into FILE.agent.",
)
@click.option("--tied", is_flag=True, hidden=True, help="End when stdin ends.")
@click.pass_obj
def up(
    face: Face,
    /,
    *,
    new: bool,
    known: bool,
    log_format: LogFormat,
    log_file: Path | None,
    tied: bool,
    **given: Any,
) -> int:
    """Take part: become the coordinator, or join one as an agent.

    The first run looks for a coordinator on this LAN. Found: it asks for the pairing code that
    `planetmesh code` shows there. None: this machine becomes the coordinator, and runs tasks too.
    """
    way = check_way(given["join"], code_stdin=given["code_stdin"], code_file=given["code_file"])
    if new and way.is_given:
        raise click.UsageError("--new founds a mesh: it goes with neither --join nor a code.")
    if known and new:
        raise click.UsageError("--known goes on as before: it does not go with --new.")
    wishes = read_wishes(given)
    home = face.home
    if known:
        check_known(home)
    home.prepare()
    keep_unpacked()
    with home.locked(), stops_in_order():
        log_file = log_file and log_file.expanduser().absolute()
        return _take_part(face, home, way, wishes, How(new, tied, log_format, log_file))


def check_known(home: Home) -> Part:
    """Raise NotFound for a home without a part: a service must neither found a mesh nor ask for a code."""
    part = read_part(home)
    if part is None:
        raise NotFound(
            f"The home {home.root} belongs to no mesh.",
            hint=f"Run this once in a terminal, and stop it with Ctrl-C: planetmesh up {home_option(home)}",
        )
    return part


def home_option(home: Home) -> str:
    return f"--home {shlex.quote(str(home.root))}"


def read_wishes(given: dict[str, Any]) -> Wishes:
    """The options that say something about the part; raises BadInput."""
    from planetmesh.discovery import check_bind
    from planetmesh.model.resources import parse_cpus, parse_size

    bind = _texts(given["bind"])
    if bind:
        check_bind(bind)
    return Wishes(
        name=None if given["name"] is None else check_name(given["name"]),
        port=given["port"],
        bind=bind,
        mdns=given["mdns"],
        agent=given["agent"],
        tags=_texts(given["tag"], _check_tag),
        cpu_millis=None if given["cpus"] is None else parse_cpus(given["cpus"]),
        memory_bytes=None if given["memory"] is None else parse_size(given["memory"]),
        gpus=given["gpus"],
        shares=_texts(given["share"], _check_share),
        hides=_texts(given["hide"], lambda text: str(Path(text).expanduser().absolute())),
        embedding_server=_check_server(given["embedding_server"]),
    )


def _take_part(face: Face, home: Home, way: Way, wishes: Wishes, how: How) -> int:
    from planetmesh import logs
    from planetmesh.settings import load_settings

    settings = load_settings(home.settings_file)
    part = read_part(home)
    if part is None:
        part = _decide(face, home, way, wishes, new=how.new)
    else:
        part = wishes.change(part)
        _go_on(home, part, way, new=how.new)
    file = open_log_file(how.log_file, settings)
    process: logs.Process = "coordinator" if part.role is Role.COORDINATOR else "agent"
    logs.set_up(how.log_format, verbose=face.verbose > 0, file=file, process=process)
    if part.role is Role.COORDINATOR:
        return _coordinate(face, home, part, settings, how)
    from planetmesh.cli.be_agent import be_agent

    write_part(home, part)
    return be_agent(face, home, part, settings, tied=how.tied, log_format=how.log_format)


def open_log_file(path: Path | None, settings: Settings) -> LogFile | None:
    """Raises BadInput where no log can be written."""
    from planetmesh.log_file import LogFile

    return None if path is None else LogFile(path, settings.log_file_most_bytes, settings.log_files_kept)


def _decide(face: Face, home: Home, way: Way, wishes: Wishes, *, new: bool) -> Part:
    """The first run. Joining leaves an identity behind; founding waits until the port is open."""
    if new:
        return wishes.begin(Role.COORDINATOR)
    heard: list[Found] | None = None
    if not way.is_given and wishes.mdns is not False:
        heard = _look(face, wishes)
        if not heard:
            return _found_instead(face, wishes)
    elif not way.is_given:
        return _found_instead(face, wishes)
    return _join(face, home, way, wishes, heard)


def _look(face: Face, wishes: Wishes) -> list[Found]:
    from planetmesh.cli.joining import describe, look, several

    face.printer.note("Looking for a mesh on this LAN…")
    heard = look(wishes.bind or ())
    if len(heard) > 1 and not is_asked():
        raise several(heard)
    if heard:
        face.printer.note(f"Found {describe(heard)}.")
    return heard


def _found_instead(face: Face, wishes: Wishes) -> Part:
    """Nothing was heard, or nobody listened: say plainly what follows."""
    from planetmesh.discovery import NOTHING_HEARD_HINT

    if wishes.mdns is False:
        face.printer.note("--no-mdns and no --join: this machine founds a new mesh.")
    else:
        face.printer.note("No mesh was heard, so this machine founds a new one and becomes its coordinator.")
        face.printer.note(f"If that is not what you meant: Ctrl-C. {NOTHING_HEARD_HINT}")
    return wishes.begin(Role.COORDINATOR)


def _join(face: Face, home: Home, way: Way, wishes: Wishes, heard: list[Found] | None) -> Part:
    from planetmesh.cli.joining import Newcomer, join
    from planetmesh.model.identity import Role as MeshRole

    part = wishes.begin(Role.AGENT)
    identity = join(face, way, Newcomer(MeshRole.AGENT, part.name, home.agent, part.bind), heard)
    known = identity.membership
    face.printer.note(
        f"Joined the mesh '{known.mesh_name}' ({known.mesh_id[:8]}) as '{known.name}'. "
        f"Fingerprint: {identity.short_fingerprint}"
    )
    return part


def _go_on(home: Home, part: Part, way: Way, *, new: bool) -> None:
    """A home that knows its mesh: the options must not mean another one."""
    leave = "Leave it first with `planetmesh leave`, or choose another home with --home DIR."
    if part.role is Role.COORDINATOR:
        if way.is_given:
            raise Conflict("This home belongs to the coordinator of a mesh; it cannot join one.", hint=leave)
        return
    if new:
        raise Conflict("This home belongs to a mesh already.", hint=leave)
    if way.join:
        _remember(home, way.join)


def _remember(home: Home, endpoint: str) -> None:
    """`--join` of a member is an address to try first. A code that comes with it is not needed."""
    from planetmesh.model.endpoint import format_endpoint, parse_endpoint
    from planetmesh.trust.identity import Identity

    Identity.load(home.agent).remember_endpoint(format_endpoint(*parse_endpoint(endpoint)))


def _coordinate(face: Face, home: Home, part: Part, settings: Settings, how: How) -> int:
    from planetmesh.cli.coordinate import coordinate
    from planetmesh.cli.life_line import LifeLine

    if how.tied:
        LifeLine().hold()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(coordinate(face, home, part, settings, log_format=how.log_format, log_file=how.log_file))
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def _texts(given: tuple[str, ...], check: Callable[[str], str] = str) -> tuple[str, ...] | None:
    """None if the option was not given; an empty text takes the list back."""
    return tuple(check(text) for text in given if text) if given else None


def _check_tag(text: str) -> str:
    if len(text) > 64 or not all(letter.isalnum() or letter in "._:=-" for letter in text):
        raise BadInput(
            f"'{text}' is not a tag.", hint="A tag has letters, digits and . _ : = - only, at most 64."
        )
    return text


def _check_server(url: str | None) -> str | None:
    """An empty text takes it back."""
    if url:
        from planetmesh.jobtypes.loopback import read_loopback

        read_loopback(url)
    return url


def _check_share(text: str) -> str:
    """`PATH` or `PATH:rw`, made absolute; what is shared must be there."""
    writable = text.endswith(":rw")
    path = Path(text.removesuffix(":rw")).expanduser().absolute()
    if not path.exists():
        raise BadInput(f"There is no {path} to share.")
    return f"{path}:rw" if writable else str(path)
