"""launchd: the property list, and what is asked of `launchctl`. Nobody has tried it on a Mac yet.

launchd knows no exit status after which it should not start a service again: one whose node was revoked, or
whose home has left its mesh, is tried every `ThrottleInterval`.
"""

from __future__ import annotations

import os
import plistlib
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from planetmesh.errors import BadInput, Conflict, ServiceFailed
from planetmesh.install.order import MARK, STOP_SECONDS, Argv, Order, Plan, State
from planetmesh.install.service import Commands, read_file, remove_file, write_file

LABEL = "org.planetmesh.up"
DAEMONS = Path("/Library/LaunchDaemons")
DAEMON_LOG = Path("/Library/Logs/planetmesh.log")
USER_PATH = "/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
"""For tasks of a user; root gets launchd's own, without folders that a user may write."""
AGAIN_SECONDS = 30
GONE_SECONDS = STOP_SECONDS + 15.0
LOOK_SECONDS = 0.2
NO_SUCH_PROCESS, IN_PROGRESS = 3, 36
"""`bootout` of what is not there, and of what takes its time to stop."""
STARTING = frozenset({"running", "spawn scheduled", "xpcproxy"})


def property_list(order: Order, log: Path, *, is_for_all: bool) -> bytes:
    """The whole file; raises BadInput for what no property list can hold."""
    variables = dict(order.env) if is_for_all else {"PATH": USER_PATH, **dict(order.env)}
    document = {
        "Label": LABEL,
        "ProgramArguments": list(order.argv),
        **({"EnvironmentVariables": variables} if variables else {}),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": AGAIN_SECONDS,
        "ExitTimeOut": STOP_SECONDS,
        "Umask": 0o077,
        "StandardErrorPath": str(log),
    }
    try:
        text = plistlib.dumps(document, sort_keys=False)
        # XML has no carriage return and launchd no NUL: what does not come back was not said.
        is_whole = plistlib.loads(text) == document
    except (ValueError, TypeError) as error:
        raise BadInput(f"A property list cannot hold this: {error}.") from error
    if not is_whole:
        raise BadInput("A property list cannot hold a path or a variable with carriage returns.")
    return text.replace(b"<plist", f"<!-- {MARK}, which replaces it. -->\n<plist".encode(), 1)


def read_order(text: bytes, *, is_for_all: bool) -> Order | None:
    """What a property list of ours says that it runs; None if nobody can tell."""
    try:
        said = plistlib.loads(text)
        argv = tuple(map(str, said["ProgramArguments"]))
        variables = {str(name): str(value) for name, value in said.get("EnvironmentVariables", {}).items()}
    except (plistlib.InvalidFileException, ValueError, LookupError, TypeError, AttributeError):
        return None
    except Exception as error:  # expat's own, which is no ValueError
        if type(error).__module__.startswith("xml"):
            return None
        raise
    *program, up, option, home, known = argv if len(argv) > 4 else ("",) * 5
    if (up, option, known) != ("up", "--home", "--known"):
        return None
    if not is_for_all and variables.get("PATH") == USER_PATH:
        del variables["PATH"]
    return Order(tuple(program), Path(home), tuple(variables.items()))


def launchd_here(commands: Commands) -> Launchd:
    """For root the daemons of the whole machine, else this user's agents."""
    if sys.platform == "win32":
        raise AssertionError("launchd is asked for on macOS only")
    uid = os.geteuid()
    if uid == 0:
        return Launchd(DAEMONS, DAEMON_LOG, commands, domain="system")
    library = Path("~/Library").expanduser()
    return Launchd(library / "LaunchAgents", library / "Logs/planetmesh.log", commands, domain=f"gui/{uid}")


class Launchd:
    """One domain of launchd: `system`, or `gui/UID` for a user."""

    name = "launchd"

    def __init__(self, folder: Path, log: Path, commands: Commands, *, domain: str) -> None:
        self.is_for_all = domain == "system"
        self._path = folder / f"{LABEL}.plist"
        self._log = log
        self._commands = commands
        self._domain = domain
        self._target = f"{domain}/{LABEL}"

    def check(self) -> None:
        answer = self._commands.ask(("launchctl", "print", self._domain))
        if answer.status:
            raise Conflict(
                f"launchd has nothing for this user: {' '.join(answer.error.split())}",
                hint="Log in at the Mac itself as this user, or install the service as root.",
            )

    def look(self, *, blindly: bool = False) -> State:
        text, is_ours = read_file(self._path, lambda text: MARK.encode() in text)
        said = self._properties(blindly=blindly)
        word = said.get("state", "")
        pid = int(said["pid"]) if said.get("pid", "").isdecimal() else 0
        ended = said.get("last exit code", "").split(":")[0]
        return State(
            path=self._path,
            exists=os.path.lexists(self._path),
            is_ours=is_ours,
            order=read_order(text, is_for_all=self.is_for_all) if is_ours else None,
            text=text,
            enabled=bool(said),
            word=word or "not loaded",
            is_active=bool(pid) or word in STARTING,
            is_failing=bool(said) and not pid and ended.isdecimal() and ended != "0",
            pid=pid,
        )

    def _properties(self, *, blindly: bool) -> dict[str, str]:
        """Of a service that is loaded; nothing for one that is not."""
        try:
            answer = self._commands.ask(("launchctl", "print", self._target))
        except ServiceFailed:
            if blindly:
                return {}
            raise
        if answer.status:
            return {}
        # One tab deep: what is deeper belongs to its sockets, events and the like.
        return dict(re.findall(r"^\t([\w ]+) = (.*)$", answer.out, re.MULTILINE))

    def write(self, order: Order) -> bytes:
        return property_list(order, self._log, is_for_all=self.is_for_all)

    def plan(self, order: Order, state: State) -> Plan:
        text = self.write(order)
        is_changed = text != state.text
        commands: list[Argv] = []
        if is_changed or not state.enabled:
            commands += [("launchctl", "bootout", self._target)] if state.enabled else []
            commands += [
                ("launchctl", "enable", self._target),
                ("launchctl", "bootstrap", self._domain, str(self._path)),
            ]
        elif not state.is_active:
            commands.append(("launchctl", "kickstart", self._target))
        return Plan(self._path, text, not state.exists, is_changed, tuple(commands))

    def carry_out(self, plan: Plan) -> None:
        if plan.is_changed:
            write_file(plan.path, plan.text)
        for argv in plan.commands:
            if argv[1] == "bootout":
                self._stop(argv)
            else:
                self._commands.tell(argv, f"The log may say more: {self.log_command('-n 20')}")

    def removal(self) -> Sequence[Argv]:
        return (("launchctl", "bootout", self._target),)

    def remove(self) -> None:
        self._stop(*self.removal())
        remove_file(self._path)

    def _stop(self, argv: Argv) -> None:
        """Returns once it is gone: what is still being stopped cannot be loaded again."""
        hint = f"The service is still there. `{self.show_command()}` says more."
        self._commands.tell(argv, hint, also_well=(NO_SUCH_PROCESS, IN_PROGRESS))
        end = time.monotonic() + GONE_SECONDS
        while self._properties(blindly=False):
            if time.monotonic() > end:
                raise ServiceFailed(
                    f"launchd has not stopped {self._target} within {GONE_SECONDS:.0f} s.", hint=hint
                )
            time.sleep(LOOK_SECONDS)

    def boot_hint(self) -> str:
        if self.is_for_all:
            return ""
        return "It starts when you log in at this Mac. For one that starts without that: install it as root."

    def show_command(self) -> str:
        return f"launchctl print {self._target}"

    def log_command(self, option: str) -> str:
        return f"tail {option} {self._log}"
