"""systemd: the unit, its quoting, and what is asked of `systemctl`.

Quoting as systemd.syntax(7) and COMMAND LINES in systemd.service(5) have it. Hardening options are left out
on purpose. The agent confines each job itself, and most of them would take that away or break tasks:
PrivateDevices hides GPUs, ProtectHome and ProtectSystem what its owner shares, PrivateTmp what he shares of
/tmp; ProtectKernelTunables forbids a mount of /proc in a namespace, RestrictNamespaces the namespaces, and a
filter of system calls what tasks may do on machines where there is no service.
"""

from __future__ import annotations

import json
import os
import string
import sys
from collections.abc import Sequence
from pathlib import Path

from planetmesh.errors import BadInput, Conflict, ServiceFailed
from planetmesh.install.order import MARK, STOP_SECONDS, Argv, Order, Plan, State
from planetmesh.install.service import Commands, read_file, remove_file, write_file

UNIT = "planetmesh.service"
SYSTEM_UNITS = Path("/etc/systemd/system")
BOOTED = Path("/run/systemd/system")
"""Is there where systemd is process 1: sd_booted(3)."""
LINGER = Path("/var/lib/systemd/linger")
"""A file for each user whose systemd runs from boot on."""
ORDER_LINE = "# planetmesh-service "
"""Behind it stands the order once more, as JSON: nobody has to read systemd's quoting back."""
PLAIN = frozenset(string.ascii_letters + string.digits + "/._-+=:,@%")
ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
PROPERTIES = ("LoadState", "UnitFileState", "ActiveState", "SubState", "MainPID", "NeedDaemonReload")
ACTIVE = frozenset({"active", "activating", "deactivating", "reloading"})


def quoted(text: str) -> str:
    """One word of a line. A `%` in it begins no specifier; a `$` is left as it is."""
    if text and PLAIN.issuperset(text):
        return text.replace("%", "%%")
    return '"' + "".join(ESCAPES.get(letter) or _letter(letter) for letter in text.replace("%", "%%")) + '"'


def _letter(letter: str) -> str:
    return f"\\x{ord(letter):02x}" if ord(letter) < 0x20 or ord(letter) == 0x7F else letter


def command_line(argv: Argv) -> str:
    """The value of ExecStart=; raises BadInput for a program that systemd refuses to start."""
    program, *arguments = argv
    refused = sorted({letter for letter in program if letter in "\"'\\" or not letter.isprintable()})
    if refused:
        raise BadInput(
            f"systemd starts no program with {' '.join(map(repr, refused))} in its path: {program}",
            hint="Install planetmesh into another folder.",
        )
    if "$" in program:
        # Doubling does not help in the program's own path; `:` switches variables off for the whole line.
        return " ".join([quoted(f":{program}"), *map(quoted, arguments)])
    return " ".join([quoted(program), *(quoted(each).replace("$", "$$") for each in arguments)])


def unit_text(order: Order, *, is_for_all: bool) -> bytes:
    """The whole unit; raises BadInput for what systemd cannot be told."""
    record = {"program": order.program, "home": str(order.home), "env": dict(order.env)}
    try:
        for each in (*order.argv, *dict(order.env).values()):
            each.encode()
    except UnicodeEncodeError as error:
        raise BadInput("systemd takes UTF-8 only, and a path or a variable is none.") from error
    network = ["Wants=network-online.target", "After=network-online.target"] if is_for_all else []
    variables = [f"Environment={_variable(name, value)}" for name, value in order.env]
    user = "" if is_for_all else "--user "
    lines = [
        f"# {MARK}, which replaces it. Changes of yours: `systemctl {user}edit planetmesh`.",
        ORDER_LINE + json.dumps(record),
        "[Unit]",
        "Description=planetmesh: this machine's part in its mesh",
        *network,
        "",
        "[Service]",
        "Type=exec",
        *variables,
        f"ExecStart={command_line(order.argv)}",
        "UMask=0077",
        "# SIGTERM for planetmesh alone: it lets running tasks end for ten seconds, then ends them itself.",
        "KillMode=mixed",
        f"TimeoutStopSec={STOP_SECONDS}",
        "# A task that took too much memory fails; the machine stays.",
        "OOMPolicy=continue",
        "Restart=on-failure",
        "RestartSec=10",
        "# 4: not allowed any more. 5: this home has left its mesh. Trying again helps neither, but 2: an",
        "# address or a port may be there later.",
        "RestartPreventExitStatus=4 5",
        "",
        "[Install]",
        f"WantedBy={'multi-user' if is_for_all else 'default'}.target",
    ]
    return ("\n".join(lines) + "\n").encode()


def _variable(name: str, value: str) -> str:
    if any((ord(letter) < 0x20 and letter not in "\t\n") or letter == "\x7f" for letter in value):
        raise BadInput(f"systemd takes no control characters in a variable: {name}.")
    return quoted(f"{name}={value}")


def read_order(text: bytes) -> Order | None:
    """What a unit of ours says that it runs; None if nobody can tell."""
    for line in text.decode(errors="replace").splitlines():
        if line.startswith(ORDER_LINE):
            try:
                said = json.loads(line.removeprefix(ORDER_LINE))
                env = tuple((str(name), str(value)) for name, value in said["env"].items())
                program = tuple(str(each) for each in said["program"])
                return Order(program, Path(str(said["home"])), env) if program else None
            except (ValueError, LookupError, TypeError, AttributeError):
                return None
    return None


def systemd_here(commands: Commands) -> Systemd:
    """For root the manager of the whole machine, else this user's."""
    if sys.platform == "win32":
        raise AssertionError("systemd is asked for on Linux only")
    uid = os.geteuid()
    if uid == 0:
        return Systemd(SYSTEM_UNITS, commands, is_for_all=True)
    commands.find_user_manager(Path(f"/run/user/{uid}"))
    config = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    return Systemd(Path(config) / "systemd" / "user", commands, is_for_all=False)


def _user_name() -> str:
    if sys.platform == "win32":
        return ""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


class Systemd:
    """One systemd: the machine's or one user's."""

    name = "systemd"

    def __init__(self, folder: Path, commands: Commands, *, is_for_all: bool, booted: Path = BOOTED) -> None:
        self.is_for_all = is_for_all
        self._path = folder / UNIT
        self._commands = commands
        self._booted = booted
        self._systemctl: Argv = ("systemctl",) if is_for_all else ("systemctl", "--user")

    def check(self) -> None:
        if not self._booted.is_dir():
            raise Conflict(
                "systemd does not run this machine (it is not process 1), so it cannot start planetmesh.",
                hint="In a container let `planetmesh up --known` be its command; elsewhere have your own "
                "service manager run that at boot.",
            )
        if self.is_for_all:
            return
        answer = self._commands.ask((*self._systemctl, "show", "--property=Version"))
        if answer.status:
            raise Conflict(
                f"This user's systemd cannot be reached: {' '.join(answer.error.split())}",
                hint="Log in as this user (ssh, or at the machine; not by su or sudo) and try again, or "
                "install the service as root.",
            )

    def look(self, *, blindly: bool = False) -> State:
        text, is_ours = read_file(self._path, lambda text: MARK.encode() in text)
        said = self._properties(blindly=blindly)
        active, sub = said.get("ActiveState", ""), said.get("SubState", "")
        return State(
            path=self._path,
            exists=os.path.lexists(self._path),
            is_ours=is_ours,
            order=read_order(text) if is_ours else None,
            text=text,
            enabled=said.get("UnitFileState") == "enabled",
            word=f"{active} ({sub})" if active else "not asked",
            is_active=active in ACTIVE,
            is_failing=active == "failed" or sub == "auto-restart",
            pid=int(pid) if (pid := said.get("MainPID", "")).isdecimal() else 0,
            is_stale=said.get("NeedDaemonReload") == "yes",
        )

    def _properties(self, *, blindly: bool) -> dict[str, str]:
        argv = (*self._systemctl, "show", UNIT, f"--property={','.join(PROPERTIES)}")
        try:
            answer = self._commands.ask(argv)
        except ServiceFailed:
            if blindly:
                return {}
            raise
        if answer.status and not blindly:
            raise Conflict(
                f"systemd does not answer: {' '.join(answer.error.split())}",
                hint=f"`{' '.join(self._systemctl)} status` says more.",
            )
        return dict(line.split("=", 1) for line in answer.out.splitlines() if "=" in line)

    def write(self, order: Order) -> bytes:
        return unit_text(order, is_for_all=self.is_for_all)

    def plan(self, order: Order, state: State) -> Plan:
        text = self.write(order)
        is_changed = text != state.text
        commands: list[Argv] = []
        if is_changed or state.is_stale:
            commands.append((*self._systemctl, "daemon-reload"))
        if state.is_active and commands:
            commands += [(*self._systemctl, "enable", UNIT), (*self._systemctl, "restart", UNIT)]
        elif commands or not (state.enabled and state.pid):
            commands.append((*self._systemctl, "enable", "--now", UNIT))
        return Plan(self._path, text, not state.exists, is_changed, tuple(commands))

    def carry_out(self, plan: Plan) -> None:
        if plan.is_changed:
            write_file(plan.path, plan.text)
        for argv in plan.commands:
            self._commands.tell(argv, f"The log may say more: {self.log_command('-n 20')}")

    def removal(self) -> Sequence[Argv]:
        return ((*self._systemctl, "disable", "--now", UNIT), (*self._systemctl, "daemon-reload"))

    def remove(self) -> None:
        stop, reload = self.removal()
        hint = f"The service is still there. `{' '.join(self._systemctl)} status planetmesh` says more."
        self._commands.tell(stop, hint)
        remove_file(self._path)
        self._commands.tell(reload, f"The file is gone already. Try it again: {' '.join(reload)}")
        # A unit that failed is remembered otherwise; where it did not there is nothing to forget.
        self._commands.ask((*self._systemctl, "reset-failed", UNIT))

    def boot_hint(self) -> str:
        if self.is_for_all or (LINGER / _user_name()).exists():
            return ""
        return "It runs while you are logged in. At boot, and after you log out, too: loginctl enable-linger"

    def show_command(self) -> str:
        return f"{' '.join(self._systemctl)} cat planetmesh"

    def log_command(self, option: str) -> str:
        return f"journalctl {'' if self.is_for_all else '--user '}-u planetmesh {option}"
