"""A real systemd as process 1 of namespaces of its own, with hardly any unit but ours.

Linux and root only. Files are shared with the machine, but for those that systemd reads and writes: units,
`/run`, `/var/tmp`, `/etc/passwd`. It has its own network, and cgroups that go with it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from planetmesh.paths import closed_to_others

SYSTEMD = Path("/usr/lib/systemd/systemd")
BOOT_SECONDS = 60.0
COMMAND_SECONDS = 90.0
USER, UID = "meshuser", 47_433
CGROUPS = Path("/sys/fs/cgroup")
UNITS = {
    "default.target": "[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes",
    **{f"{name}.target": "[Unit]" for name in ("basic", "sysinit", "multi-user", "network-online")},
    "shutdown.target": "[Unit]\nDefaultDependencies=no",
    "user@.service": "[Service]\nType=notify\nUser=%i\nSlice=user-%i.slice\nDelegate=yes\nKillMode=mixed\n"
    "Environment=XDG_RUNTIME_DIR=/run/user/%i\nExecStart=/usr/lib/systemd/systemd --user",
}
_HIDDEN = (
    "/run",
    "/etc/systemd",
    "/var/lib/systemd",
    "/usr/lib/systemd/system",
    "/usr/lib/systemd/system-generators",
    "/usr/lib/systemd/user-generators",
)


def why_not() -> str:
    """Why no systemd can be started here, or an empty string."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "a systemd of its own needs root"
    if not SYSTEMD.exists() or shutil.which("nsenter") is None:
        return "there is no systemd here (package systemd)"
    if not Path("/etc/machine-id").exists():
        return "there is no /etc/machine-id, and systemd would write one"
    if not _own_places():
        return "the cgroups of this machine cannot be written"
    return ""


class Booted:
    """`with Booted(folder) as machine:`; raises OSError if it does not come up."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._groups = [place / f"planetmesh-test-{secrets.token_hex(3)}" for place in _own_places()]
        self._outer: subprocess.Popen[bytes] | None = None
        self._first = 0
        self.log = folder / "systemd.log"

    def run(self, *argv: object, check: bool = True, user: bool = False) -> subprocess.CompletedProcess[str]:
        """A command in there, as root or as the user."""
        as_user = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups") if user else ()
        whole = ("nsenter", "-t", str(self._first), "-a", *as_user, *map(str, argv))
        home = {"HOME": str(self.user_home), "XDG_CONFIG_HOME": ""} if user else {}
        done = subprocess.run(
            whole, env={**os.environ, **home}, cwd="/", capture_output=True, text=True,
            timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{shlex.join(whole)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    @property
    def user_home(self) -> Path:
        return self._folder / "home"

    def start_user_manager(self) -> None:
        """As a login of the user does."""
        self.run("mkdir", "-p", f"/run/user/{UID}")
        self.run("chown", f"{UID}:{UID}", f"/run/user/{UID}")
        self.run("systemctl", "start", f"user@{UID}.service")

    def __enter__(self) -> Self:
        for group in self._groups:
            group.mkdir()
        for name in ("units", "home"):
            (self._folder / name).mkdir()
        os.chown(self.user_home, UID, UID)
        for name, text in UNITS.items():
            (self._folder / "units" / name).write_text(text + "\n")
        passwd = Path("/etc/passwd").read_text()
        (self._folder / "passwd").write_text(f"{passwd}{USER}:x:{UID}:{UID}::{self.user_home}:/bin/sh\n")
        script = self._folder / "boot.sh"
        script.write_text(self._script())
        (self._folder / "systemd.sh").write_text(self._second_script())
        namespaces = ["--pid", "--mount", "--uts", "--ipc", "--net", "--fork", "--kill-child"]
        try:
            with self.log.open("wb") as log:
                self._outer = subprocess.Popen(
                    ["unshare", *namespaces, "bash", str(script)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._outer is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._first or self._outer.pid, signal.SIGKILL)
            self._outer.wait(60)
        end = time.monotonic() + 10
        while self._groups and time.monotonic() < end:
            for group in self._groups:
                _remove(group)
            self._groups = [group for group in self._groups if group.exists()]
            time.sleep(0.05)

    def _script(self) -> str:
        folder = shlex.quote(str(self._folder))
        lines = ["set -e"]
        lines += [f"echo $$ > {shlex.quote(str(group / 'cgroup.procs'))}" for group in self._groups]
        lines += ["mount --make-rprivate /", "mount -t proc proc /proc"]
        lines += [f"mkdir -p {place}; mount -t tmpfs tmpfs {place}" for place in _HIDDEN]
        lines += [
            "mount -t tmpfs -o mode=1777 tmpfs /var/tmp",  # root's tasks leave their folder there if killed
            "mkdir -p /etc/systemd/system /etc/systemd/user /run/lock",
            f"cp {folder}/units/* /usr/lib/systemd/system/",
            f"mount --bind {folder}/passwd /etc/passwd",
            *self._opened_python(),
            # Only a hierarchy that is mounted in there has the group that was just entered as its root.
            f"exec unshare --cgroup bash {folder}/systemd.sh",
        ]
        return "\n".join(lines) + "\n"

    def _opened_python(self) -> list[str]:
        """A Python below a folder that only root may pass (/root) is of no use to the user: lay it anew."""
        base, aside = shlex.quote(sys.base_prefix), shlex.quote(str(self._folder / "python"))
        closed = closed_to_others(Path(sys.base_prefix))
        if closed is None:
            return []
        return [
            f"mkdir {aside} && mount --bind {base} {aside}",
            f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(closed))}",
            f"mkdir -p -m 755 {base} && mount --bind {aside} {base}",
        ]

    def _second_script(self) -> str:
        lines = ["set -e", f"umount -R {CGROUPS}"]
        if _is_hybrid():
            lines += [
                f"mount -t tmpfs -o mode=755 tmpfs {CGROUPS}",
                f"mkdir {CGROUPS}/systemd {CGROUPS}/unified",
            ]
            lines += [f"mount -t cgroup -o none,name=systemd systemd {CGROUPS}/systemd"]
        clean = "env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        lines += [
            f"mount -t cgroup2 cgroup2 {CGROUPS / 'unified' if _is_hybrid() else CGROUPS}",
            f"exec {clean} {SYSTEMD} --system --log-target=console --show-status=0",
        ]
        return "\n".join(lines) + "\n"

    def _wait(self) -> None:
        assert self._outer is not None
        end = time.monotonic() + BOOT_SECONDS
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        while time.monotonic() < end and self._outer.poll() is None:
            with contextlib.suppress(OSError, ValueError, IndexError):
                self._first = int(children.read_text().split()[0])
                said = self.run("systemctl", "is-system-running", check=False)
                if said.stdout.strip() in {"running", "degraded"}:
                    return
            time.sleep(0.1)
        raise OSError(f"systemd did not come up: {self.log.read_text(errors='replace')[-2000:]}")


def _is_hybrid() -> bool:
    return (CGROUPS / "unified").is_dir()


def _own_places() -> list[Path]:
    """Where this process is, in each hierarchy that systemd names its processes in."""
    roots = {"name=systemd": CGROUPS / "systemd", "": CGROUPS / "unified"} if _is_hybrid() else {"": CGROUPS}
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _number, names, path = line.split(":", 2)
        if names in roots and os.access(place := roots[names] / path.lstrip("/"), os.W_OK):
            found.append(place)
    return found


def _remove(group: Path) -> None:
    for below in sorted(group.rglob("*/"), reverse=True):
        with contextlib.suppress(OSError):
            below.rmdir()
    with contextlib.suppress(OSError):
        group.rmdir()
