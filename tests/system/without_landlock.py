"""Runs a program as on a kernel without Landlock: `python without_landlock.py PROGRAM ARG…`.

A seccomp filter answers the system call that begins every use of it with "not implemented", for this process
and all that it starts.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

LANDLOCK_CREATE_RULESET = 444
"""The same number on all of Linux's architectures."""
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ERRNO, ALLOW = 0x0005_0000, 0x7FFF_0000


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def forbid() -> None:
    steps = [
        (LOAD_NUMBER, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 1, LANDLOCK_CREATE_RULESET),
        (RETURN, 0, 0, ERRNO | errno.ENOSYS),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = Program(len(steps), ctypes.addressof(code))
    kernel = ctypes.CDLL(None, use_errno=True)
    assert kernel.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert kernel.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0) == 0, ctypes.get_errno()


if __name__ == "__main__":
    forbid()
    os.execv(sys.argv[1], sys.argv[1:])
