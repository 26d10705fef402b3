"""Keeps tasks of the agent's own user from programs of that user's session that would act for them.

Landlock before its ninth version does not stop connect() to a socket in the file system. A session bus, a
tmux server or a container engine starts any program outside the sandbox for its owner. Where user
namespaces are allowed, the folders with such sockets are covered by empty ones; where they are not, the
doors that stay open are found by knocking, and reported (probe.py). The same namespace gives each launcher
shared memory of its own, for root's launchers too.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import sys
from collections.abc import Iterator

from planetmesh.agent.sandbox.views import RUNTIME_FOLDER, SHARED_MEMORY, home_of

assert sys.platform == "linux"  # tells the type checker; nobody imports this elsewhere

PR_SET_DUMPABLE = 4
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWIPC = 0x08000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = 0x1000, 0x4000, 0x40000, 0x80000

ENGINES = (
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/libvirt/libvirt-sock",
    "/run/snapd.socket",
    "/var/lib/incus/unix.socket",
    "/var/lib/lxd/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
)
"""They act as root, or as the user, for whoever may connect."""
SHARED_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108  looked at for sockets of tmux, ssh-agent, X11 and their like
HOME_FOLDERS = (".gnupg", ".docker", ".ssh", ".local/share/containers")
ENTRIES_MOST = 2048
KNOCK_SECONDS = 0.2
SHARED_MEMORY_OPTIONS = "size=50%,nr_inodes=65536,mode=1777"
"""As the system's own has it; what lies there counts as memory."""

_libc = ctypes.CDLL(None, use_errno=True)


def draw() -> bool:
    """Move this process into a mount namespace without those sockets; False where that is not allowed."""
    if os.getuid() == 0 or not _is_allowed():
        return False
    _draw()
    return True


def part() -> bool:
    """Give this process, which is root, shared memory of its own; False where that is not allowed.

    Tasks of all jobs run as one user here: in the system's shared memory they could read and change each
    other's, and what they leave there would stay.
    """
    if _libc.unshare(CLONE_NEWNS | CLONE_NEWIPC) != 0:
        return False
    try:
        # What the owner mounts later is still to be seen in here.
        _mount("none", "/", "", MS_REC | MS_SLAVE)
        _mount_shared_memory()
    except OSError:
        return False
    return True


def _mount_shared_memory() -> None:
    _mount("none", SHARED_MEMORY, "tmpfs", MS_NOSUID | MS_NODEV, SHARED_MEMORY_OPTIONS)


def _is_allowed() -> bool:
    """Try in a child: a process that has left its namespace halfway could not go on."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _draw()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _draw() -> None:
    uid, gid = os.getuid(), os.getgid()
    folders = [path for path in _folders(uid) if os.path.isdir(path)]
    engines = [path for path in ENGINES if os.path.exists(path)]
    # The maps belong to root in a process that may not be inspected; confine.py forbids it again.
    _check(_libc.prctl(PR_SET_DUMPABLE, ctypes.c_ulong(1), 0, 0, 0))
    _check(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC))
    _map("/proc/self/setgroups", "deny")
    _map("/proc/self/uid_map", f"{uid} {uid} 1")
    _map("/proc/self/gid_map", f"{gid} {gid} 1")
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    for path in folders:
        _mount("none", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,mode=0500")
    for path in engines:
        _mount(os.devnull, path, "", MS_BIND)
    _mount_shared_memory()


def open_doors(uid: int) -> list[str]:
    """Known sockets that this process can connect to. Call once confined."""
    found = [path for path in ENGINES if _answers(path)]
    for folder in _folders(uid):
        found += [path for path in _sockets(folder) if _answers(path)]
    return found


def _folders(uid: int) -> list[str]:
    """Folders of one user that hold sockets of running programs."""
    home = home_of(uid)
    found = [f"{RUNTIME_FOLDER}/{uid}", *(os.path.join(home, name) for name in HOME_FOLDERS)]
    for top in SHARED_TEMPORARY:
        found += [path for path in _entries(top) if _is_folder_of(path, uid) and any(_sockets(path))]
    return [*found, "/tmp/.X11-unix"]  # noqa: S108  the screen's socket: whoever may connect can type


def _sockets(folder: str) -> Iterator[str]:
    """In a folder and in its own folders, no deeper: where such programs put them."""
    for path in _entries(folder):
        mode = _mode(path)
        if stat.S_ISSOCK(mode):
            yield path
        elif stat.S_ISDIR(mode):
            yield from (inner for inner in _entries(path) if stat.S_ISSOCK(_mode(inner)))


def _entries(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry, _ in zip(entries, range(ENTRIES_MOST), strict=False)]
    except OSError:
        return []


def _is_folder_of(path: str, uid: int) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.settimeout(KNOCK_SECONDS)
        try:
            knock.connect(path)
        except OSError:
            return False
        return True


def _map(path: str, line: str) -> None:
    with open(path, "wb") as file:
        file.write(line.encode())


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    result = _libc.mount(
        source.encode(),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _check(result)


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
