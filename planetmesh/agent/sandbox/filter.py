"""A filter of system calls with one rule: nobody sets the limits of another process.

All tasks of a node whose agent is root run as one user, and a user may set the limits of his processes by
their number: a task could end those of another job. Landlock does not know that call. Linux.
"""

from __future__ import annotations

import ctypes
import errno
import struct
import sys

assert sys.platform == "linux"  # tells the type checker; nobody imports this elsewhere

PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EPERM

LOAD, EQUALS, RETURN = 0x20, 0x15, 0x06
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16

X32_BIT = 0x40000000
PRLIMIT = (
    (0xC000003E, 302),  # x86_64
    (0xC000003E, 302 | X32_BIT),
    (0x40000003, 340),  # i386, which an x86_64 kernel may run too
    (0xC00000B7, 261),  # aarch64
    (0x40000028, 369),  # arm
    (0xC00000F3, 261),  # riscv64
)
"""Architecture and number of the call; the machines are little-endian."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def forbid_limits_of_others() -> bool:
    """For this process and all it starts; False where the kernel has no such filters.

    Call once no new privileges can be gained.
    """
    code = _code()
    program = _Program(len(code) // 8, code)
    return bool(_libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _code() -> bytes:
    """One comparison for each architecture, then the arguments: whose limits, and whether they are set."""
    lines: list[tuple[int, int, int, int]] = []
    for place, (architecture, number) in enumerate(PRLIMIT):
        left = (len(PRLIMIT) - 1 - place) * 4
        lines += [
            (LOAD, 0, 0, ARCHITECTURE_AT),
            (EQUALS, 0, 2, architecture),
            (LOAD, 0, 0, NUMBER_AT),
            (EQUALS, left + 1, 0, number),
        ]
    lines += [
        (RETURN, 0, 0, ALLOW),
        (LOAD, 0, 0, ARGUMENTS_AT),
        (EQUALS, 4, 0, 0),
        (LOAD, 0, 0, ARGUMENTS_AT + 16),
        (EQUALS, 0, 3, 0),
        (LOAD, 0, 0, ARGUMENTS_AT + 20),
        (EQUALS, 0, 1, 0),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ]
    return b"".join(struct.pack("<HBBI", *line) for line in lines)
