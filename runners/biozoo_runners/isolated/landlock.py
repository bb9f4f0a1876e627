"""Files and signals of a process restricted by Landlock (Linux 5.13 and newer, no root needed).

Numbers are those of ``linux/landlock.h``; the kernel says which version ("ABI") it knows. Rights
that are handled and not granted below some folder are refused everywhere else.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from .linux import NoSuchCall, call

__all__ = ["abi", "restrict"]

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1  # flag of create_ruleset
_PATH_BENEATH = 1

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_ALL_OF = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_ON_FILES = 1 | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_EXECUTE = 1

_TCP = 0b11  # bind and connect, ABI 4
_SCOPES = 0b11  # abstract Unix sockets and signals, ABI 6


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def abi() -> int:
    """The version that this kernel knows; 0 without Landlock."""
    try:
        return call(_CREATE_RULESET, 0, 0, _VERSION)
    except (NoSuchCall, AttributeError):
        return 0


def restrict(*, read: Iterable[Path], write: Iterable[Path], devices: Iterable[Path] = ()) -> int:
    """Restrict this thread, and all that it starts, for good.

    Parameters
    ----------
    read
        Files and folders that may be read, with all below. What does not exist is passed over.
    write
        Folders below which everything but starting programs is allowed.
    devices
        Device files that may be read, written and controlled.

    Returns
    -------
    int
        The version that holds; 0 where nothing does.
    """
    version = abi()
    if not version:
        return 0
    everything = _ALL_OF[max(known for known in _ALL_OF if known <= version)]
    attributes = _Ruleset(everything, _TCP, _SCOPES)
    size = 8 if version < 4 else 16 if version < 6 else 24
    try:
        ruleset = call(_CREATE_RULESET, ctypes.byref(attributes), size, 0)
    except NoSuchCall:
        return 0
    try:
        for path in read:
            _allow(ruleset, path, _READ_FILE | _READ_DIR)
        for path in write:
            _allow(ruleset, path, everything & ~_EXECUTE & ~_IOCTL_DEV)
        for path in devices:
            _allow(ruleset, path, everything & ~_EXECUTE)
        call(_RESTRICT_SELF, ruleset, 0)
    except NoSuchCall:
        return 0
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _ON_FILES
        call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(_Beneath(rights, fd)), 0)
    finally:
        os.close(fd)
