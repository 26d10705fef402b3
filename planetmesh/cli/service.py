"""`planetmesh service`: have the machine's service manager start `planetmesh up` at boot."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec

from planetmesh.cli.face import Face

if TYPE_CHECKING:
    from planetmesh.cli.part import Part
    from planetmesh.install.order import Manager, Order, Plan, State

_EXAMPLES = """
\b
Examples:
  sudo planetmesh --home /var/lib/planetmesh service install
  planetmesh service install --dry-run
  planetmesh service status
  planetmesh service uninstall
"""
_INSTALL_EXAMPLES = """
\b
Examples:
  planetmesh service install --dry-run
  planetmesh service install --env PATH=/opt/tools/bin:/usr/bin:/bin

What --env said is kept when the service is installed again without it; --env '' takes it back.
Everybody on this machine can read it: no passwords.
"""
_STATUS_EXAMPLES = """
\b
Example:
  planetmesh service status --json | jq -r .pid

Exit status: 0 if it runs, 1 if it is installed and does not, 5 if it is not installed.
"""
SETTLE_SECONDS = 4.0
"""A part that cannot be played (a home that is not safe, a port that is taken) has ended by then."""
LOOK_SECONDS = 0.25
NOT_RUNNING = 1
TASK_USER = "planetmesh"
"""Whom a root agent runs tasks as, where there is such a user."""


@click.group(epilog=_EXAMPLES)
def service() -> None:
    """Start `planetmesh up` whenever this machine boots.

    As root for the whole machine, else for this user: with systemd on Linux, with launchd on
    macOS.
    """


@service.command(epilog=_INSTALL_EXAMPLES)
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="A variable for it, e.g. PATH. Repeatable.")
@click.option("--dry-run", is_flag=True, help="Show what would be written and run, and do nothing.")
@click.pass_obj
def install(face: Face, *, env: tuple[str, ...], dry_run: bool) -> None:
    """Install it, start it now and at every boot.

    This home must have its part already: run `planetmesh up` once, and stop it again. The program and the
    home must be out of other users' reach. Done twice it changes nothing; after a change of the home, the
    variables or the program it is written anew and started again.
    """
    from planetmesh.cli.up import check_known
    from planetmesh.install.order import Order

    variables = None if not env else tuple(_variable(each) for each in env if each)
    manager = _manager()
    part = check_known(face.home)
    program = _program(face.home.root)
    if not dry_run:
        manager.check()
    # A dry run answers also where the manager does not: as if nothing ran yet.
    state = manager.look(blindly=dry_run)
    kept = state.order.env if state.order else ()
    order = Order(program, face.home.root, kept if variables is None else variables)
    plan = manager.plan(order, state)
    _refuse_strangers(manager, state)
    if dry_run:
        _show(face, manager, plan)
        return
    is_its_own = state.pid and state.order and state.order.home == face.home.root
    if not is_its_own and face.home.is_taken():
        raise _runs_by_hand(face)
    manager.carry_out(plan)
    if plan.commands:
        _settle(manager)
    state = manager.look()
    _say_installed(face, manager, state, plan, part)


@service.command(epilog="Example: planetmesh service uninstall")
@click.option("--dry-run", is_flag=True, help="Show what would be run, and do nothing.")
@click.pass_obj
def uninstall(face: Face, *, dry_run: bool) -> None:
    """Stop it and take it away. The home stays as it is."""
    manager = _manager()
    manager.check()
    state = manager.look()
    if not state.exists:
        raise _not_installed(state)
    _refuse_strangers(manager, state)
    if dry_run:
        stop, *rest = (shlex.join(argv) for argv in manager.removal())
        commands = [stop, shlex.join(["rm", str(state.path)]), *rest]
        _lines(face, {"file": str(state.path), "commands": commands}, commands)
        return
    if state.pid:
        face.printer.note("Stopping it: running tasks have ten seconds to end.")
    manager.remove()
    home = str(state.order.home) if state.order else None
    kept = f" The home {home} stays as it is." if home else ""
    document = {"uninstalled": str(state.path), "home": home}
    face.printer.done(f"The service is gone.{kept}", document, word=str(state.path))


@service.command(epilog=_STATUS_EXAMPLES)
@click.pass_obj
def status(face: Face) -> int:
    """Is it installed, does it start at boot, does it run?"""
    from planetmesh.cli.output import Shape
    from planetmesh.errors import NotFound

    manager = _manager()
    manager.check()
    state = manager.look()
    view = _view(manager, state)
    shape: Shape[_View] = Shape((), key=lambda each: each.state)
    face.printer.sheet(view, _sheet(view), shape)
    if view.note:
        face.printer.note(view.note)
    if not state.exists:
        return NotFound.exit_code
    return 0 if state.pid else NOT_RUNNING


def _manager() -> Manager:
    from planetmesh.cli.own_program import own_environment
    from planetmesh.install.service import manager_of_this_machine

    return manager_of_this_machine(own_environment(alone=True))


def _program(home: Path) -> tuple[str, ...]:
    """What the service is to start; raises where somebody else could put another in its place."""
    from planetmesh import __version__
    from planetmesh.cli.own_program import is_frozen, service_program
    from planetmesh.errors import BadInput, UnsafeHome
    from planetmesh.install.guard import weak_spot, weak_spot_below
    from planetmesh.install.service import try_program

    program = service_program()
    if sys.platform != "win32":
        uid = os.geteuid()
        who = "as root" if uid == 0 else "as you"
        imported = [] if is_frozen() else _imported()
        ways = [Path(program[0]), Path(sys.executable), *imported]
        if imported:
            ways.append(Path(os.__file__))  # Python's own
        weak = weak_spot(ways, uid) or weak_spot_below(imported, uid)
        if weak:
            raise BadInput(
                f"{weak}, so others could change the program that the service runs {who}.",
                hint="Install planetmesh where only root writes (python3 -m venv /opt/planetmesh && "
                "/opt/planetmesh/bin/pip install .) and use the command from there."
                if uid == 0
                else "Mend that (chmod go-w), or install planetmesh in a folder of your own.",
            )
        if weak := weak_spot([home], uid):
            raise UnsafeHome(
                f"{weak}, so others could change the home {home} that the service uses {who}.",
                hint="Choose another with --home DIR, for example /var/lib/planetmesh."
                if uid == 0
                else "Mend that (chmod go-w), or choose another with --home DIR.",
            )
    try_program(program, __version__)
    return program


def _imported() -> list[Path]:
    """The folders that modules come from, beside Python's own."""
    import planetmesh

    folders = [Path(planetmesh.__file__).parent]
    folders += [Path(each) for each in sys.path if Path(each).name in {"site-packages", "dist-packages"}]
    return [each for each in folders if each.is_dir()]


def _variable(text: str) -> tuple[str, str]:
    from planetmesh.errors import BadInput

    name, is_there, value = text.partition("=")
    if not (is_there and name.isascii() and name.isidentifier()):
        raise BadInput(
            f"'{text}' is no variable.", hint="For example: --env PATH=/opt/tools/bin:/usr/bin:/bin"
        )
    return name, value


def _refuse_strangers(manager: Manager, state: State) -> None:
    from planetmesh.errors import Conflict

    if state.exists and not state.is_ours:
        raise Conflict(
            f"{state.path} was not written by `planetmesh service install`, so it stays.",
            hint=f"If it is not needed: stop that service, move the file away, and try again. "
            f"{manager.name} knows more: {manager.show_command()}",
        )


def _runs_by_hand(face: Face) -> Exception:
    from planetmesh.errors import Conflict

    return Conflict(
        f"`planetmesh up` runs with the home {face.home.root} now: the service could not start beside it.",
        hint="Stop it first, with Ctrl-C where it runs; then install the service.",
    )


def _not_installed(state: State) -> Exception:
    from planetmesh.errors import NotFound

    return NotFound(
        f"There is no service: no {state.path}.", hint="Install one with `planetmesh service install`."
    )


def _settle(manager: Manager) -> None:
    """Raise ServiceFailed if it ends at once."""
    from planetmesh.errors import ServiceFailed

    end = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
        state = manager.look()
        if state.is_failing or not state.is_active:
            raise ServiceFailed(
                f"The service is installed, but ended as soon as it was started: {state.word}.",
                hint=f"It says why: {manager.log_command('-n 20')}",
            )


def _show(face: Face, manager: Manager, plan: Plan) -> None:
    text = plan.text.decode()
    document = {
        "manager": manager.name,
        "file": str(plan.path),
        "changed": plan.is_changed,
        "text": text,
        "commands": [shlex.join(argv) for argv in plan.commands],
    }
    lines = [f"# {plan.path}" + ("" if plan.is_changed else " (as it is)"), *text.splitlines()]
    lines += ["", "# then" if plan.commands else "# nothing to run", *map(shlex.join, plan.commands)]
    _lines(face, document, lines)


def _lines(face: Face, document: object, lines: list[str]) -> None:
    """A document, or for people many lines."""
    from planetmesh.cli.output import whole_cell

    if face.printer.form == "json":
        face.printer.done("", document)
        return
    for line in lines:
        print(whole_cell(line))


def _say_installed(face: Face, manager: Manager, state: State, plan: Plan, part: Part) -> None:
    if not plan.commands:
        sentence = "The service is installed and runs already; nothing was changed."
    elif plan.is_new:
        sentence = f"The service is installed: `planetmesh up` runs as {part.role} now and at every boot."
    elif plan.is_changed:
        sentence = "The service is written anew, and runs with that now and at every boot."
    else:
        sentence = "The service was installed already; it is started now and at every boot."
    document = {**msgspec.structs.asdict(_view(manager, state)), "changed": bool(plan.commands)}
    face.printer.done(sentence, document, word=str(plan.path))
    note = face.printer.note
    note(f"  file  {plan.path}")
    note(f"  home  {face.home.root}")
    note(f"  log   {manager.log_command('-f')}")
    if manager.is_for_all and not _has_user(TASK_USER):
        note(
            "Tasks run as `nobody`. Better is a user of their own: "
            f"useradd --system --no-create-home {TASK_USER}"
        )
    if hint := manager.boot_hint():
        note(hint)


def _has_user(name: str) -> bool:
    if sys.platform == "win32":
        return False
    import pwd

    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False


class _View(msgspec.Struct, frozen=True):
    """The keys of the JSON."""

    manager: str
    scope: Literal["system", "user"]
    file: str
    installed: bool
    ours: bool
    enabled: bool
    running: bool
    state: str
    pid: int | None
    since: str | None
    program: str | None
    home: str | None
    env: dict[str, str]
    matches: bool | None
    note: str


def _view(manager: Manager, state: State) -> _View:
    order = state.order
    return _View(
        manager=manager.name,
        scope="system" if manager.is_for_all else "user",
        file=str(state.path),
        installed=state.exists,
        ours=state.is_ours,
        enabled=state.enabled,
        running=bool(state.pid),
        state=state.word,
        pid=state.pid or None,
        since=_since(state.pid),
        program=shlex.join(order.program) if order else None,
        home=str(order.home) if order else None,
        env=dict(order.env) if order else {},
        matches=_matches(manager, order, state) if order else None,
        note=_note(manager, state),
    )


def _since(pid: int) -> str | None:
    """When that process began."""
    import psutil

    from planetmesh.wire.api import rfc3339

    try:
        return rfc3339(psutil.Process(pid).create_time()) if pid else None
    except psutil.Error:
        return None


def _matches(manager: Manager, order: Order, state: State) -> bool:
    """Installing it again, from this program and with that home, would change nothing."""
    from dataclasses import replace

    from planetmesh.cli.own_program import service_program
    from planetmesh.errors import BadInput

    try:
        return manager.write(replace(order, program=service_program())) == state.text
    except BadInput:
        return False


def _note(manager: Manager, state: State) -> str:
    """What to do about it, if anything."""
    if not state.exists:
        return "Install it with `planetmesh service install`."
    if not state.is_ours:
        return f"{state.path} was not written by `planetmesh service install`."
    if state.order is None or not _matches(manager, state.order, state):
        return (
            "The file is not what this planetmesh would write: it was changed by hand, or is of another "
            "version or place. `planetmesh service install` writes it anew."
        )
    if state.is_stale:
        return f"{manager.name} has not read the file yet: `planetmesh service install` has it do so."
    if not state.pid:
        return f"It does not run. It says why: {manager.log_command('-n 20')}"
    return "" if state.enabled else "It does not start at boot: `planetmesh service install` mends that."


def _sheet(view: _View) -> list[tuple[str, str]]:
    from planetmesh.cli.shapes import show_time

    whose = "for the whole machine" if view.scope == "system" else "for this user"
    lines = [
        ("service", f"{view.manager}, {whose}"),
        ("file", view.file if view.installed else f"none ({view.file})"),
        ("at boot", "yes" if view.enabled else "no"),
        ("running", f"process {view.pid} since {show_time(view.since)}" if view.pid else f"no: {view.state}"),
        ("program", view.program or ""),
        ("home", view.home or ""),
        *(("variable", f"{name}={value}") for name, value in view.env.items()),
    ]
    return [(title, text) for title, text in lines if text]
