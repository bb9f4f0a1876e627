"""System calls that Python has no function for. Linux only, standard library only."""

from __future__ import annotations

import ctypes
import os
from typing import Any

__all__ = [
    "NoSuchCall",
    "call",
    "die_with_parent",
    "drop_capabilities",
    "no_new_privileges",
    "prctl",
    "unshare",
]

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1

#: capset has other numbers on other processors; where it is not known, capabilities stay.
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPGET = {"x86_64": 125, "aarch64": 90}


class NoSuchCall(OSError):
    """The system refused."""


def call(number: int, *arguments: Any) -> int:
    """A system call by number; integers and ctypes pointers.

    Raises
    ------
    NoSuchCall
        It failed, with its errno.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    long = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *long)
    if result < 0:
        code = ctypes.get_errno()
        raise NoSuchCall(code, os.strerror(code))
    return result


def prctl(option: int, *arguments: int) -> int:
    """The C library's prctl; raises `NoSuchCall`."""
    libc = ctypes.CDLL(None, use_errno=True)
    four = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
    result: int = libc.prctl(ctypes.c_int(option), *four)
    if result < 0:
        code = ctypes.get_errno()
        raise NoSuchCall(code, os.strerror(code))
    return result


def die_with_parent(signal: int, parent: int) -> None:
    """Have the kernel send `signal` when the thread that started this process ends."""
    prctl(_PR_SET_PDEATHSIG, signal)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)


def no_new_privileges() -> None:
    """Give up set-uid programs; Landlock and seccomp ask for it."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities(*, files_confined: bool) -> None:
    """Give up what a process of root, or of a container's root, may do beyond others.

    Where Landlock decides about files, the right to read files of other users stays if it was
    there: in containers, root reads a mounted folder of the host's user with it.
    """
    machine = os.uname().machine
    if machine not in _CAPSET:
        return
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, twice
    call(_CAPGET[machine], ctypes.byref(header), ctypes.byref(data))
    kept = data[1] & (1 << _CAP_DAC_OVERRIDE) if files_confined else 0
    data[:] = [kept, kept, 0, 0, 0, 0]
    call(_CAPSET[machine], ctypes.byref(header), ctypes.byref(data))


def unshare(flags: int) -> None:
    """The C library's unshare; raises `NoSuchCall`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(ctypes.c_int(flags)) < 0:
        code = ctypes.get_errno()
        raise NoSuchCall(code, os.strerror(code))
