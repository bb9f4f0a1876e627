"""What a child may not do, and what of that holds on this machine.

`confine` runs in the child before anything foreign is imported; `protections` says in any process
what it would achieve here. Standard library only, and nothing that starts a thread.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Protection", "confine", "protections"]

#: Installed software and facts about the machine; no folder of a user's, no secrets of the system.
_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store", "/gnu/store",
    "/etc/alternatives", "/etc/fonts", "/etc/group", "/etc/hosts", "/etc/ld.so.cache",
    "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/nsswitch.conf",
    "/etc/os-release", "/etc/passwd", "/etc/pki", "/etc/ssl", "/etc/timezone",
    "/proc/cpuinfo", "/proc/devices", "/proc/driver", "/proc/filesystems", "/proc/loadavg",
    "/proc/meminfo", "/proc/modules", "/proc/stat", "/proc/sys", "/proc/uptime", "/proc/version",
    "/proc/vmstat", "/sys",
    "/dev/full", "/dev/random", "/dev/urandom", "/dev/zero",
)  # fmt: skip
#: The driver's files on ordinary machines, in WSL, on Jetson, on NixOS.
_CUDA_DEVICES = ("nvidia*", "nvidia-caps/*", "dxg", "nvhost*", "nvmap", "dri/*")
_CUDA_FOLDERS = ("/run/opengl-driver", "/run/nvidia-persistenced", "/etc/OpenCL", "/etc/nvidia")

_NET = 0x40000000 | 0x10000000  # new network namespace, in a new user namespace

#: Descriptors that stay open: Landlock's word on /proc/self holds while its entry is in use.
_PINNED: list[int] = []


@dataclass(frozen=True, slots=True)
class Protection:
    """One thing that foreign code cannot do, whether that holds, and by what (or why not)."""

    name: str
    holds: bool
    how: str

    def __str__(self) -> str:
        return f"{'yes' if self.holds else 'NO '}  {self.name}: {self.how}"


@dataclass(frozen=True, slots=True)
class _Held:
    """Which mechanisms work: Landlock's version (0 none), the seccomp filter, an empty network."""

    landlock: int = 0
    seccomp: bool = False
    empty_network: bool = False
    system: str = sys.platform


def confine(
    *, scratch: Path, readable: Sequence[Path], private: Sequence[Path], device: str, parent: int
) -> list[str]:
    """Give up, for good, what foreign code does not need.

    Parameters
    ----------
    scratch
        The only folder that may be written to.
    readable
        Files and folders that may be read besides the installed software.
    private
        Folders that must not be readable through an installed folder that holds them: the
        person's home first, then where models and what was allowed are kept.
    device
        ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    parent
        The parent's process id.

    Returns
    -------
    list of str
        Names of the `Protection`s that do not hold.
    """
    if sys.platform != "win32":
        _limit_files()
    held = _Held()
    if sys.platform == "linux":
        held = _confine_linux(scratch, readable, private, device.startswith("cuda"), parent)
    return [p.name for p in _protections(held) if not p.holds]


@cache
def protections() -> tuple[Protection, ...]:
    """What holds for a child on this machine; nothing about this process changes."""
    if sys.platform != "linux":
        return _protections(_Held())
    from . import landlock, seccomp

    filtered = seccomp.supported()
    empty = False if filtered else _can_empty_network()
    return _protections(_Held(landlock.abi(), filtered, empty))


def _protections(held: _Held) -> tuple[Protection, ...]:
    if held.system != "linux":
        name = {"darwin": "macOS", "win32": "Windows"}.get(held.system, held.system)
        no_files = no_network = no_others = f"nothing on {name} is set up for it"
    else:
        no_files = "this kernel has no Landlock (Linux 5.13 or newer, and switched on)"
        no_network = no_others = "this kernel takes no seccomp filter on this processor"
    files, calls = bool(held.landlock), held.seccomp
    version = f"Landlock version {held.landlock}"
    if calls:
        network = "seccomp filter: no socket can be connected"
    elif held.empty_network:
        network = "an empty network namespace; local services with a socket file can be reached"
    else:
        network = no_network
    emptied = files and (held.landlock >= 3 or calls)
    if held.system != "linux":
        end = "its pipe closes when the program ends; code that loops for ever goes on"
    elif calls:
        end = "the system ends it with the program"
    else:
        end = "the system ends it with the program, but not what it may have forked"
    return (
        Protection("a crash stays in its process", True, "a process of its own"),
        Protection("it does not outlive the program", calls, end),
        Protection("your environment variables are hidden", True, "the environment is made anew"),
        Protection("your files cannot be read", files, version if files else no_files),
        Protection(
            "your files cannot be changed",
            emptied,
            version if emptied else no_files if not files else f"{version} lets files be emptied",
        ),
        Protection(
            "file attributes cannot be changed",
            calls,
            "seccomp filter" if calls else no_others,
        ),
        Protection("the network is shut off", calls or held.empty_network, network),
        Protection(
            "other programs cannot be looked into or ended",
            calls and files,
            f"seccomp filter and {version}" if calls and files else no_others if not calls
            else no_files,
        ),
        Protection(
            "no program can be started",
            calls,
            "seccomp filter: threads only" if calls
            else "Landlock: processes can be forked, no program started" if files
            else no_others,
        ),
    )  # fmt: skip


# --------------------------------------------------------------------------------------- Linux


def _confine_linux(
    scratch: Path, readable: Sequence[Path], private: Sequence[Path], cuda: bool, parent: int
) -> _Held:
    from . import landlock, linux, seccomp

    linux.die_with_parent(signal.SIGKILL, parent)
    with contextlib.suppress(OSError):  # where memory runs out, it goes before the program does
        Path("/proc/self/oom_score_adj").write_text("500")
    try:
        linux.no_new_privileges()
    except OSError:
        return _Held()
    filtered = seccomp.supported()
    empty = False if filtered else _empty_network()
    hidden = [p.resolve() for p in private]
    _PINNED.append(os.open("/proc/self", os.O_PATH | os.O_CLOEXEC))
    version = landlock.restrict(
        read=[*_software(hidden), *readable, *(_cuda_folders(hidden) if cuda else ())],
        write=[scratch, Path("/proc/self")],
        devices=[Path("/dev/null"), *(_cuda_devices() if cuda else ())],
    )
    with contextlib.suppress(OSError):  # none to drop
        linux.drop_capabilities(files_confined=bool(version))
    if filtered:
        filtered = seccomp.install(os.getpid(), cuda=cuda)
    return _Held(version, filtered, empty)


def _software(private: Sequence[Path]) -> Iterable[Path]:
    """Folders of the system, of this Python, and of what is installed in it."""
    system = [Path(folder) for folder in _SYSTEM]
    # The home of a service may be a folder of the system itself: nobody's files are there.
    own = [home for home in private if home not in {folder.resolve() for folder in system}]
    yield from _around(own, system)
    folders = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    folders |= {entry for entry in sys.path if entry}
    for finder in sys.meta_path:  # editable installations that setuptools made
        module = sys.modules.get(getattr(finder, "__module__", None) or type(finder).__module__)
        mapping = getattr(module, "MAPPING", None)
        folders |= set(map(str, mapping.values())) if isinstance(mapping, dict) else set()
    yield from _around(own, _without(private[:1], map(Path, sorted(folders))))


def _without(private: Sequence[Path], folders: Iterable[Path]) -> Iterable[Path]:
    """The folders that neither are a private one nor hold it."""
    for folder in folders:
        there = folder.resolve()
        if not any(home == there or there in home.parents for home in private):
            yield folder


def _around(private: Sequence[Path], folders: Iterable[Path]) -> Iterable[Path]:
    """The folders, and of one that holds a private one what else it holds."""
    for folder in folders:
        there = folder.resolve()
        if there in private:
            continue
        if not any(there in home.parents for home in private):
            yield folder
            continue
        with contextlib.suppress(OSError):
            yield from _around(private, sorted(there.iterdir()))


def _cuda_devices() -> list[Path]:
    return [path for pattern in _CUDA_DEVICES for path in Path("/dev").glob(pattern)]


def _cuda_folders(private: Sequence[Path]) -> Iterable[Path]:
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    yield from map(Path, _CUDA_FOLDERS)
    yield from _without(private, [Path(folder) for folder in libraries if folder])


def _empty_network() -> bool:
    """Move to a network without any interface; where seccomp is not to be had."""
    from .linux import NoSuchCall, unshare

    uid, gid = os.getuid(), os.getgid()
    try:
        unshare(_NET)
    except (NoSuchCall, AttributeError):
        return False
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with contextlib.suppress(OSError):  # the files' owner then looks like nobody, that is all
            Path("/proc/self", name).write_text(text)
    return True


def _can_empty_network() -> bool:
    """Whether `_empty_network` works here, tried in a process that ends at once."""
    import subprocess

    folder = str(Path(__file__).resolve().parents[2])
    code = (
        f"import sys; sys.path.insert(0, {folder!r}); "
        "from biozoo_runners.isolated.confine import _empty_network; "
        "sys.exit(0 if _empty_network() else 1)"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", code], capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _limit_files() -> None:
    """No core dump of the user's pixels, and no file larger than the machine's memory."""
    import resource

    most = max(4 * 2**30, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for what, limit in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, most)):
        hard = resource.getrlimit(what)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (limit, limit))
