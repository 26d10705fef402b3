"""Who else could change what a service runs.

A service runs at every boot, as root or as its user. If somebody else can replace its program, a module that
the program imports, a folder on the way to them or the home, the service hands its rights to that person.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

LINKS_MOST = 40
"""As the kernel has it."""
WRITABLE = 0o022
"""By group and others."""


def weak_spot(paths: Iterable[Path], uid: int) -> str:
    """The first thing on the ways to `paths` that others than root and `uid` can change, in words; or ''."""
    for path in paths:
        for step in way_to(path):
            if complaint := _complaint(step, os.lstat(step), uid):
                return complaint
    return ""


def weak_spot_below(folders: Iterable[Path], uid: int) -> str:
    """The same for all that lies in these folders. Links are looked at, not followed."""
    for folder in folders:
        for below, names, files in os.walk(folder):
            for name in (*names, *files):
                path = os.path.join(below, name)  # noqa: PTH118  tens of thousands of them
                try:
                    found = os.lstat(path)
                except FileNotFoundError:
                    continue  # compiled modules come and go
                if complaint := _complaint(path, found, uid):
                    return complaint
    return ""


def way_to(path: Path) -> Iterator[str]:
    """Each folder and link passed on the way to `path`, and the end; raises OSError if there is none."""
    links, passed = 0, Path("/")
    ahead = list(reversed(path.absolute().parts[1:]))
    yield str(passed)
    while ahead:
        part = ahead.pop()
        if part == "..":
            passed = passed.parent
            continue
        step = passed / part
        if not step.is_symlink():
            passed = step
            yield str(step)
            continue
        yield str(step)
        links += 1
        if links > LINKS_MOST:
            raise OSError(f"too many links on the way to {path}")
        target = step.readlink()
        if target.is_absolute():
            passed = Path("/")
        ahead += reversed([each for each in target.parts if each != "/"])


def _complaint(path: str, found: os.stat_result, uid: int) -> str:
    if found.st_uid not in {0, uid}:
        return f"{path} belongs to {_user(found.st_uid)}"
    if stat.S_ISLNK(found.st_mode):
        return ""  # a link's own mode means nothing
    loose = found.st_mode & WRITABLE
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
        return ""  # like /tmp: what lies in it can be replaced by its owner only
    if loose & stat.S_IWOTH:
        return f"{path} can be changed by everybody"
    if loose & stat.S_IWGRP and not _is_own_group(found.st_gid, uid):
        return f"{path} can be changed by the group {_group(found.st_gid)}"
    return ""


def _user(uid: int) -> str:
    if sys.platform != "win32":
        import pwd

        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            pass
    return f"the user {uid}"


def _group(gid: int) -> str:
    if sys.platform != "win32":
        import grp

        try:
            return grp.getgrgid(gid).gr_name
        except KeyError:
            pass
    return str(gid)


def _is_own_group(gid: int, uid: int) -> bool:
    """Root's, or a group of nobody but this user, as many systems make one for each."""
    if gid == 0 or sys.platform == "win32":
        return gid == 0
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(uid)
    except KeyError:
        return False
    return group.gr_name == user.pw_name and user.pw_gid == gid and set(group.gr_mem) <= {user.pw_name}
