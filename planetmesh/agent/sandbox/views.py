"""What a task may see: which paths are granted, worked out from what is hidden.

Landlock only grants, and a grant covers all that lies below. So the walk goes from `/` down and grants
the siblings on the way to each hidden path, never a parent of one. It reads directories and decides;
landlock.py does. Symbolic links are never followed: a link in a home that points to `/` would open all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

ENTRIES_MOST = 8192
"""Siblings granted in one directory; a fuller one keeps the rest unseen, which is the safe side."""

TOOLCHAINS = (
    ".asdf",
    ".bun/bin",
    ".cargo/bin",
    ".conda",
    ".deno/bin",
    ".dotnet",
    ".juliaup",
    ".local/bin",
    ".local/lib",
    ".local/share/pipx",
    ".local/share/uv",
    ".nvm",
    ".pyenv",
    ".rbenv",
    ".rustup",
    ".sdkman",
)
"""Programs live here, not secrets: what a job's command may well be."""

WRITABLE_DEVICES = (
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
)
SHARED_MEMORY = "/dev/shm"  # noqa: S108  many programs need POSIX shared memory; files in it have owners
GPU_DEVICES = ("/dev/nvidia", "/dev/dri/renderD", "/dev/kfd", "/dev/dxg", "/dev/accel")
RUNTIME_FOLDER = "/run/user"
"""Session sockets and keys of people who are logged in."""


def real(paths: Iterable[str]) -> list[str]:
    """Absolute, without links, without doubles, in order."""
    return list(dict.fromkeys(os.path.realpath(path) for path in paths))


def home_of(uid: int) -> str:
    """Where a person's secrets lie. A container's user may have no entry: then where programs put them."""
    if sys.platform == "win32":
        return os.path.expanduser("~")  # there are no such numbers
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        home = os.environ.get("HOME", "")
        return home if os.path.isabs(home) else "/nonexistent"


def private_paths(user_home: str) -> list[str]:
    """The dot entries of a person's home: keys, tokens, browsers, histories. Toolchains are handed back."""
    found = [RUNTIME_FOLDER]
    try:
        names = os.listdir(user_home)
    except OSError:
        return found
    return found + [os.path.join(user_home, name) for name in names if name.startswith(".")]


def toolchain_paths(user_home: str) -> list[str]:
    """Granted although they lie in dot folders: toolchains and the Python that runs planetmesh."""
    own = [sys.prefix, sys.base_prefix, sys.exec_prefix, getattr(sys, "_MEIPASS", "")]
    return [path for path in own if path] + [os.path.join(user_home, name) for name in TOOLCHAINS]


def visible(top: str, hidden: Iterable[str]) -> Iterator[str]:
    """Paths whose grant shows all under `top` but what is hidden. Both must be real paths."""
    inside = [path for path in hidden if _is_below(path, top)]
    if top in inside:
        return
    if not inside:
        yield top
        return
    for path in _children(top):
        yield from visible(path, inside)


def covers_hidden(path: str, hidden: Iterable[str]) -> bool:
    """Whether a grant of `path` would show something hidden, or lies inside it."""
    return any(_is_below(secret, path) or _is_below(path, secret) for secret in hidden)


def gpu_devices() -> list[str]:
    """Device files that a GPU program opens; their own modes still decide who may."""
    found: list[str] = []
    for prefix in GPU_DEVICES:
        folder, _, start = prefix.rpartition("/")
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        found += [f"{folder}/{name}" for name in names if name.startswith(start)]
    return found


def _children(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [
                entry.path
                for entry, _ in zip(entries, range(ENTRIES_MOST), strict=False)
                if not entry.is_symlink()
            ]
    except OSError:
        return []


def _is_below(path: str, top: str) -> bool:
    """Both are real paths. As text: each launcher asks this some hundred times before it can start a task."""
    return path == top or path.startswith(top if top == "/" else f"{top}/")
