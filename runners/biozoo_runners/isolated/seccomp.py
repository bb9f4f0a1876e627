"""System calls that a child may not make, as a seccomp filter (Linux on x86-64 and ARM64).

The filter is a short program that the kernel runs at every call: it looks at the call's number and
at arguments that are plain numbers. A refused call fails with EPERM, as a call without permission
does, and ENOSYS where libraries have another way to do the same. What is allowed is everything
else: a list of refusals, because a framework's needs are not known beforehand. Calls newer than
this list are refused.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from .linux import NoSuchCall, call, prctl

__all__ = ["install", "supported"]

#: Name -> number on x86-64, on ARM64 (None: there is none).
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # files: attributes are not Landlock's, nor is emptying a file before its third version
    "truncate": (76, 45),
    "open": (2, None),
    "openat": (257, 56),
    "openat2": (437, 437),
    "open_by_handle_at": (304, 265),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    # what happens in a folder is told with the names of files, and Landlock is not asked
    "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    # network, and other ways to talk to other programs
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "kcmp": (312, 272),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "prlimit64": (302, 261),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "prctl": (157, 167),
    # programs and processes of its own
    "fork": (57, None),
    "vfork": (58, None),
    "clone": (56, 220),
    "clone3": (435, 435),
    "execve": (59, 221),
    "execveat": (322, 281),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    # the system itself: most need root, which a container's user may be
    "mount": (165, 40),
    "umount2": (166, 39),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "setns": (308, 268),
    "unshare": (272, 97),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "syslog": (103, 116),
    "iopl": (172, None),
    "ioperm": (173, None),
    "vhangup": (153, 58),
}

#: Refused as if the kernel did not know them: the C library then takes the older call, whose
#: arguments can be looked at.
_UNKNOWN = ("clone3", "openat2", "io_uring_setup", "io_uring_enter", "io_uring_register")

#: The first call that is newer than the list: setxattrat, Linux 6.13. The same on both.
_FIRST_NEW = 463

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COLUMN = {"x86_64": 0, "aarch64": 1}

# Instructions of classic BPF, and where struct seccomp_data has what (little-endian).
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_IF_EQUAL, _IF_AT_LEAST = 0x15, 0x35
_NR, _ARCH, _ARGUMENTS = 0, 4, 16
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_SECCOMP_CALL = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _TSYNC = 1, 1

_AF_UNIX, _SOCK_STREAM, _SOCK_SEQPACKET, _SOCK_TYPE = 1, 1, 5, 0xF
_CLONE_THREAD = 0x10000
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902
_PR_SET_PDEATHSIG = 1
_O_ACCMODE, _O_TRUNC = 0o3, 0o1000
_WHOLE = 0xFFFFFFFF

Instruction = tuple[int, int, int, int]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def supported() -> bool:
    """Whether this kernel takes filters, on a processor whose numbers are known."""
    if os.uname().machine not in _AUDIT_ARCH or struct.calcsize("P") != 8:
        return False
    try:
        prctl(_PR_SET_SECCOMP, _MODE_FILTER, 0)
    except NoSuchCall as exc:
        return exc.errno == errno.EFAULT  # it would take one, had there been one
    return False


def install(pid: int, *, cuda: bool) -> bool:
    """Refuse the listed calls to this process for good; whether that worked.

    Parameters
    ----------
    pid
        This process: it may send signals to itself.
    cuda
        NVIDIA's driver opens a local socket of its own: that is allowed then, connecting is not.
    """
    if not supported():
        return False
    machine = os.uname().machine
    code = filter_program(machine, pid, cuda=cuda)
    packed = b"".join(struct.pack("<HBBI", *instruction) for instruction in code)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    program = _Program(len(code), ctypes.cast(buffer, ctypes.c_void_p))
    try:
        call(_SECCOMP_CALL[machine], _SET_MODE_FILTER, _TSYNC, ctypes.byref(program))
    except NoSuchCall:
        return False
    return True


def filter_program(machine: str, pid: int, *, cuda: bool) -> list[Instruction]:
    """The filter as (code, jump if true, jump if false, value)."""
    column = _COLUMN[machine]
    conditional = {"open", "openat", "socketpair", "kill", "tgkill", "rt_tgsigqueueinfo"}
    conditional |= {"prlimit64", "clone", "fcntl", "ioctl", "prctl"}
    conditional |= {"sched_setparam", "sched_setscheduler", "sched_setattr"}
    conditional |= {"socket"} if cuda else set()
    made: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_IF_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NR),
        (_IF_AT_LEAST, 0, 1, _FIRST_NEW),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]
    for name, numbers in _NUMBERS.items():
        if name not in conditional and (number := numbers[column]) is not None:
            code = errno.ENOSYS if name in _UNKNOWN else errno.EPERM
            made += [(_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | code)]

    def rule(name: str, argument: int, mask: int, tests: list[Instruction]) -> None:
        """A rule for one call; `tests` look at the masked argument and may jump the refusal."""
        number = _NUMBERS[name][column]
        if number is not None:
            load = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument), (_AND, 0, 0, mask)]
            body = [*load, *tests, (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
            made.extend([(_LOAD, 0, 0, _NR), (_IF_EQUAL, 0, len(body), number), *body])

    def refuse_if(name: str, argument: int, mask: int, value: int) -> None:
        rule(name, argument, mask, [(_IF_EQUAL, 0, 1, value)])

    def refuse_unless(name: str, argument: int, mask: int, *values: int) -> None:
        tests = [(_IF_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
        rule(name, argument, mask, tests)

    # Emptying a file that is opened for reading: no right to write is asked for it.
    refuse_if("open", 1, _O_ACCMODE | _O_TRUNC, _O_TRUNC)
    refuse_if("openat", 2, _O_ACCMODE | _O_TRUNC, _O_TRUNC)
    # Pairs of sockets connect a process with itself; a datagram could be sent elsewhere.
    refuse_unless("socketpair", 1, _SOCK_TYPE, _SOCK_STREAM)
    if cuda:
        refuse_unless("socket", 0, _WHOLE, _AF_UNIX)
        refuse_unless("socket", 1, _SOCK_TYPE, _SOCK_STREAM, _SOCK_SEQPACKET)
    for name in ("kill", "tgkill", "rt_tgsigqueueinfo"):
        refuse_unless(name, 0, _WHOLE, pid)
    for name in ("prlimit64", "sched_setparam", "sched_setscheduler", "sched_setattr"):
        refuse_unless(name, 0, _WHOLE, 0, pid)
    # A pipe can be told to signal any process of this user when something comes.
    for command in (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX):
        refuse_if("fcntl", 1, _WHOLE, command)
    for command in (_FIOSETOWN, _SIOCSPGRP):
        refuse_if("ioctl", 1, _WHOLE, command)
    # It ends with the program, and may not take that back.
    refuse_if("prctl", 0, _WHOLE, _PR_SET_PDEATHSIG)
    refuse_unless("clone", 0, _CLONE_THREAD, _CLONE_THREAD)
    made.append((_RETURN, 0, 0, _ALLOW))
    return made
