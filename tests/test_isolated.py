"""Foreign code in a child: arrays cross, faults and crashes are told, nothing gets out or stays."""

from __future__ import annotations

import _thread
import gc
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biozoo.errors import BackendError, DeviceError, OutOfMemoryError, UsageError
from biozoo_runners.devices import Machine
from biozoo_runners.isolated import process, seccomp
from biozoo_runners.isolated.backend import IsolatedBackend, Request
from biozoo_runners.isolated.client import Child, ForeignError
from biozoo_runners.isolated.confine import protections

Start = Callable[..., Child]

HOLDS = {p.name: p.holds for p in protections()}
ON_LINUX = sys.platform == "linux"

#: What a test's code is put into: `on_load` runs in the constructor, `on_run` for each call.
TEMPLATE = """
import os, sys, time, json, signal, socket, threading
from pathlib import Path
import numpy as np
{top}

class Code:
    def __init__(self, facts, scratch):
        self.told = {{}}
{on_load}

    def describe(self):
        return {{"version": "1", "providers": ["test"], "threads": 1, **self.told}}

    def run(self, arrays):
{on_run}
"""


def module(
    folder: Path, top: str = "", on_load: str = "pass", on_run: str = "return arrays"
) -> str:
    """Write an executor into a folder; its name for `Child.start`."""
    folder.mkdir(exist_ok=True)
    blocks = {
        name: textwrap.indent(textwrap.dedent(code), " " * 8)
        for name, code in (("on_load", on_load), ("on_run", on_run))
    }
    (folder / "its_code.py").write_text(TEMPLATE.format(top=textwrap.dedent(top), **blocks))
    return "its_code:Code"


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a child imports from besides what is installed."""
    ours = process.code_folders()
    folder = tmp_path / "code"
    monkeypatch.setattr(process, "code_folders", lambda: [*ours, str(folder)])
    return folder


@pytest.fixture
def start(code: Path) -> Iterator[Start]:
    """Start a child with some code; it is closed after the test."""
    children: list[Child] = []

    def begin(
        top: str = "", on_load: str = "pass", on_run: str = "return arrays", **more: Any
    ) -> Child:
        name = module(code, top, on_load, on_run)
        more = {"facts": {}, "model": "tiny", "doing": "run its code", "threads": 1, **more}
        children.append(Child.start(name, more.pop("facts"), **more))
        return children[-1]

    yield begin
    for child in children:
        child.close()


def pid_of(child: Child) -> int:
    return int(child.run([np.zeros(1)])[0][0])


def gone(pid: int, seconds: float = 30) -> bool:
    """Whether a process ends (or is a zombie that nobody waits for) within some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            if ON_LINUX and ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


PID = "return [np.array([os.getpid()])]"
ONE = np.array([1.0, 2.0])


# ---------------------------------------------------------------------------------------- arrays


def test_arrays_come_back_as_they_were(start: Start) -> None:
    """Every kind of number, shape and memory layout; absent ones stay absent."""
    child = start(on_run="return [a for a in arrays if a is not None]")
    rng = np.random.default_rng(0)
    given = [
        *(rng.random((3, 4, 5)).astype(t) for t in ("f2", "f4", "f8", "c8", ">f4", "u1", "i8")),
        rng.random((3, 4)) > 0.5,
        rng.random((6, 4)).T[::2],
        np.array(3.5, "f4"),
        np.empty((0, 3), "f4"),
    ]
    got = child.run([None, *given, None])
    assert len(got) == len(given)
    for expected, array in zip(given, got, strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
        assert array.shape == expected.shape


def test_results_outlive_the_child_and_inputs_are_left_alone(start: Start) -> None:
    """Also when the code writes into what it was given, and for sizes that grow and shrink."""
    child = start(on_run="arrays[0] *= 2\nreturn [arrays[0]]")
    given = [np.full(n, 1.5, "f4") for n in (10, 300_000, 3, 800_000)]
    got = [child.run([a])[0] for a in given]
    child.free_cached()
    again = child.run([given[1]])[0]
    child.close()
    for n, array in zip((10, 300_000, 3, 800_000, 300_000), [*got, again], strict=True):
        np.testing.assert_array_equal(array, np.full(n, 3, "f4"))
    assert all((a == 1.5).all() for a in given)


def test_what_is_no_array_of_numbers_is_refused(start: Start) -> None:
    """On the way in and on the way out; the child lives on."""
    child = start(on_run="return [np.array(['text']) if len(arrays[0]) == 3 else arrays[0]]")
    with pytest.raises(BackendError, match=r"object cannot be shared; it takes arrays of numbers"):
        child.run([np.array([None])])
    with pytest.raises(ForeignError, match=r"<U4 cannot be shared"):
        child.run([np.zeros(3)])
    np.testing.assert_array_equal(child.run([ONE])[0], ONE)


def test_without_anonymous_memory_a_file_does(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS and Windows."""
    monkeypatch.delattr(os, "memfd_create", raising=False)
    child = start()
    for n in (5, 50_000, 2):
        np.testing.assert_array_equal(child.run([np.arange(n)])[0], np.arange(n))


def test_peak_memory_is_the_childs(start: Start) -> None:
    child = start(on_run="big = np.ones(40_000_000, 'u1')\nreturn arrays")
    before = child.peak_memory
    child.run([ONE])
    assert child.peak_memory - before > 30e6
    assert child.peak_device_memory is None


# ---------------------------------------------------------------------------------------- faults


def test_an_exception_is_told_and_the_child_goes_on(start: Start) -> None:
    child = start(on_run="if len(arrays[0]) == 3: raise KeyError('no such key')\nreturn arrays")
    with pytest.raises(
        ForeignError, match=r"^Model 'tiny' failed to run its code: KeyError"
    ) as told:
        child.run([np.zeros(3)])
    assert told.value.kind == "KeyError"
    assert "its_code.py" in told.value.trace
    np.testing.assert_array_equal(child.run([ONE])[0], ONE)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("sys.exit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError"),
        ("class Odd(Exception):\n  def __str__(self): raise Odd()\nraise Odd()", "Odd"),
        ("os._exit(7)", "its process ended with exit code 7 while loading"),
        ("os.kill(os.getpid(), signal.SIGKILL)", r"signal 9 \(SIGKILL\).*when memory runs out"),
        ("import ctypes; ctypes.string_at(0)", r"signal 11 \(SIGSEGV\) while loading"),
        ("os.abort()", r"signal 6 \(SIGABRT\)"),
        ("os.closerange(0, 50)", "ended with exit code|closed its connection"),
        (
            "print('so far'); [os.write(f, b'rubbish' * 9) for f in range(3, 9) if pipe(f)]; "
            "time.sleep(60)",
            r"answered a message of \d+ bytes, which is no answer, and was stopped",
        ),
        (
            "[os.write(f, b'\\x02\\0\\0\\0[]') for f in range(3, 9) if pipe(f)]; time.sleep(60)",
            "answered a message that is no object",
        ),
        (
            "[os.write(f, b'\\x02\\0\\0\\0{]') for f in range(3, 9) if pipe(f)]; time.sleep(60)",
            "answered a message that is no JSON",
        ),
    ],
)
def test_code_that_ends_badly_is_an_error(start: Start, source: str, message: str) -> None:
    """Whatever it does: a sentence that names the model."""
    pipe = """
    import stat
    def pipe(fd):
        try:
            return stat.S_ISFIFO(os.fstat(fd).st_mode) and os.get_blocking(fd) and writable(fd)
        except OSError:
            return False
    def writable(fd):
        import fcntl
        return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    """
    with pytest.raises(BackendError, match=message) as told:
        start(top=textwrap.dedent(pipe) + source)
    assert told.value.message.startswith("Model 'tiny' failed to run its code: ")


def test_a_crash_while_running_closes_the_child(start: Start) -> None:
    child = start(on_run="print('last words', flush=True); os._exit(7)")
    with pytest.raises(BackendError, match=r"exit code 7 while running[^Z]*last words"):
        child.run([ONE])
    with pytest.raises(BackendError, match=r"its process has ended. Load the model again"):
        child.run([ONE])
    np.testing.assert_array_equal(start().run([ONE])[0], ONE)  # the next one works


@pytest.mark.parametrize(
    "slot",
    [
        ["<f4", [1000], 0],
        ["<f4", [2], 10**6],
        ["<f4", [-1], 0],
        ["<f4", [2**62, 2**62], 0],
        ["<f4", [0, 2**61, 2**61], 0],
        ["<f4", 3, 0],
        ["|O8", [1], 0],
        ["<f3", [1], 0],
        ["float32", [1], 0],
        None,
        "text",
        [["<f4"]],
    ],
)
def test_lies_about_arrays_are_not_believed(start: Start, slot: Any) -> None:
    """A child that forges an answer: shape, place and type are checked before memory is read."""
    forge = f"""
    import fcntl
    from biozoo_runners.isolated.wire import write_message
    for fd in range(3, 12):
        try:
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
                write_message(fd, {{"arrays": [{slot!r}]}})
        except OSError:
            pass
    return arrays
    """
    child = start(on_run=forge)
    with pytest.raises(BackendError, match="which is no answer, and was stopped"):
        child.run([np.zeros(2, "f4")])


def test_odd_answers_are_sentences(start: Start) -> None:
    """An exception without words, one whose name has a line's end, memory that no machine has."""
    child = start(
        on_load="self.peak_device_memory = lambda: 10**4000",
        top="Odd = type('A\\nB' + 'C' * 999, (OSError,), {})",
        on_run="raise ValueError if len(arrays[0]) == 3 else Odd",
    )
    with pytest.raises(ForeignError, match=r"run its code: ValueError\. Ask"):
        child.run([np.zeros(3)])
    with pytest.raises(ForeignError, match=r"run its code: A\. Ask") as told:
        child.run([ONE])
    assert told.value.kind == "A"
    assert child.peak_device_memory is None


def test_time_limits(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading and a call; the child is killed and the limit named."""
    loop = "while True: pass"
    with pytest.raises(BackendError, match=r"still loading after 0\.5 s and was stopped"):
        start(top=loop, seconds=0.5)
    child = start(on_run=f"while len(arrays[0]) == 3: pass\n{PID}")
    pid = pid_of(child)
    with pytest.raises(BackendError, match=r"still running after 0\.5 s"):
        child.run([np.zeros(3)], seconds=0.5)
    assert gone(pid)
    monkeypatch.setenv("BIOZOO_CODE_SECONDS", "0.6")
    with pytest.raises(BackendError, match=r"after 0\.6 s.*set BIOZOO_CODE_SECONDS to more"):
        start(top=loop)
    monkeypatch.setenv("BIOZOO_CODE_SECONDS", "soon")
    with pytest.raises(UsageError, match="BIOZOO_CODE_SECONDS is 'soon'"):
        start()


def test_prints_do_no_harm(start: Start) -> None:
    """Neither many, nor by a library in C, nor a wish for input."""
    child = start(
        top="print('x' * 3_000_000)\nos.write(1, b'raw')\nassert sys.stdin.read() == ''",
        on_run="print('y' * 300_000); print('the end'); sys.stdout.flush(); os._exit(1)",
    )
    with pytest.raises(BackendError, match=r"yyy\nthe end$") as told:
        child.run([ONE])
    assert len(told.value.message) < 2000


# ------------------------------------------------------------------------------------ confinement


def attempts(start: Start, *codes: str, **more: Any) -> list[str]:
    """What each expression gives in one child, or the name of its exception."""
    on_load = f"""
    self.told = {{"got": []}}
    for code in {codes!r}:
        try:
            got = repr(eval(code, globals(), {{"scratch": scratch}}))
        except Exception as exc:
            got = type(exc).__name__
        self.told["got"].append(got)
    """
    with start(on_load=on_load, **more) as child:
        return list(child.facts["got"])


def attempt(start: Start, code: str, **more: Any) -> str:
    """What an expression gives in a child, or the name of its exception."""
    return attempts(start, code, **more)[0]


def needs(protection: str) -> pytest.MarkDecorator:
    assert protection in HOLDS
    return pytest.mark.skipif(not HOLDS[protection], reason=f"not on this machine: {protection}")


def test_the_environment_is_made_anew(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No secret, no PYTHONPATH, no working folder of the parent; home is the scratch folder."""
    monkeypatch.setenv("MY_TOKEN", "very-secret")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", "x")
    monkeypatch.chdir(tmp_path)
    code = "[dict(os.environ), sys.path, os.getcwd(), str(scratch), str(Path.home())]"
    env, path, cwd, scratch, home = eval(attempt(start, code, env={"EXTRA": "1"}, threads=3))
    assert "very-secret" not in str(env)
    assert not [n for n in env if n.startswith("PYTHON")]
    assert str(tmp_path) not in path
    assert "" not in path
    assert cwd == home == scratch == env["TMPDIR"]
    assert env["EXTRA"] == "1"
    assert env["OMP_NUM_THREADS"] == "3"
    assert env["CUDA_VISIBLE_DEVICES"] == "-1"


@pytest.mark.skipif(not ON_LINUX, reason="looks into /proc")
def test_no_descriptor_is_inherited(start: Start, tmp_path: Path) -> None:
    """Even one that was made inheritable."""
    fd = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(fd, True)
    try:
        got = attempt(start, "[os.readlink(f'/proc/self/fd/{n}') for n in range(3, 64) if "
                             "os.path.lexists(f'/proc/self/fd/{n}')]")  # fmt: skip
    finally:
        os.close(fd)
    assert str(tmp_path) not in got


@needs("your files cannot be read")
def test_files_of_the_user_cannot_be_read(start: Start, tmp_path: Path) -> None:
    """Neither named ones nor the parent's environment; what was granted can be."""
    secret, granted = tmp_path / "secret.txt", tmp_path / "granted.txt"
    for path in (secret, granted):
        path.write_text("words")
    link = tmp_path / "link.txt"
    link.symlink_to(secret)
    *refused, given = attempts(
        start,
        f"open({str(secret)!r}).read()",
        f"os.listdir({str(Path.home())!r})",
        "open(f'/proc/{os.getppid()}/environ').read()",
        f"open({str(link)!r}).read()",
        f"open('/proc/self/root' + {str(secret)!r}).read()",
        f"open({str(granted)!r}).read()",
        readable=[granted],
    )
    assert refused == ["PermissionError"] * 5
    assert given == "'words'"


@needs("your files cannot be changed")
def test_what_was_allowed_and_other_models_are_out_of_reach(
    start: Start, biozoo_home: Path
) -> None:
    """Code that was trusted can neither see consents nor give one to another package."""
    trust = biozoo_home / "trust"
    trust.mkdir(parents=True)
    (trust / "abc.json").write_text("{}")
    (biozoo_home / "weights.pt").write_text("x")
    got = attempts(
        start,
        f"os.listdir({str(trust)!r})",
        f"open({str(trust / 'abc.json')!r})",
        f"open({str(trust / 'new.json')!r}, 'w')",
        f"open({str(biozoo_home / 'weights.pt')!r})",
    )
    assert got == ["PermissionError"] * 4


@needs("your files cannot be changed")
def test_nothing_is_written_outside_scratch(start: Start, tmp_path: Path) -> None:
    """Not even in what may be read; inside the scratch folder all is allowed."""
    path = tmp_path / "image.tif"
    path.write_text("pixels")
    name = repr(str(path))
    codes = (
        f"open({name}, 'w')",
        f"open({name}, 'a')",
        f"os.remove({name})",
        f"os.rename({name}, 'x')",
        f"os.truncate({name}, 0)",
        f"os.open({name}, os.O_RDONLY | os.O_TRUNC)",
        f"os.mkdir({str(tmp_path / 'new')!r})",
        f"os.symlink({name}, {str(tmp_path / 'new')!r})",
    )
    inside = "[(scratch / 'a').write_text('xy'), os.mkdir('b')]"
    *got, allowed = attempts(start, *codes, inside, readable=[tmp_path])
    assert got == ["PermissionError"] * len(codes)
    assert path.read_text() == "pixels"
    assert allowed == "[2, None]"


@needs("file attributes cannot be changed")
def test_attributes_of_files_cannot_be_changed(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    path.touch()
    codes = ("os.chmod({}, 0)", "os.utime({}, (1, 1))", "os.chown({}, 1, 1)")
    got = attempts(start, *(c.format(repr(str(path))) for c in codes), readable=[tmp_path])
    assert got == ["PermissionError"] * 3
    assert path.stat().st_mode & 0o400
    assert path.stat().st_mtime > 1


@needs("the network is shut off")
def test_the_network_is_shut_off(start: Start) -> None:
    """Neither this machine's own addresses nor a datagram; the parent's server is untouched."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = server.getsockname()
        connect = f"socket.create_connection({address!r}, 2)"
        datagram = f"socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', {address!r})"
        for got in attempts(start, connect, datagram):
            assert got in ("PermissionError", "OSError")
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


@needs("no program can be started")
def test_no_process_can_be_started(start: Start) -> None:
    """Threads can."""
    got = attempts(
        start,
        "__import__('subprocess').run([sys.executable, '-V'])",
        "os.fork()",
        "os.execv(sys.executable, ['python', '-V'])",
        "[t := threading.Thread(target=print), t.start(), t.join()][2]",
    )
    assert got == ["PermissionError"] * 3 + ["None"]


@needs("other programs cannot be looked into or ended")
def test_other_processes_are_out_of_reach(start: Start) -> None:
    """Nor by a pipe that signals its owner, which a pipe's reader may choose."""
    got = attempts(
        start,
        "os.kill(os.getppid(), 0)",
        "open(f'/proc/{os.getppid()}/mem')",
        "__import__('resource').prlimit(os.getppid(), 7)",
        "__import__('fcntl').fcntl(os.pipe()[0], 8, os.getppid())",
        "__import__('fcntl').fcntl(os.pipe()[0], 10, signal.SIGTERM)",
        "os.kill(os.getpid(), 0)",
    )
    assert got == ["PermissionError"] * 5 + ["None"]


@needs("it does not outlive the program")
def test_code_cannot_choose_to_stay(start: Start) -> None:
    """The system's word to end it with the program holds, and it goes first for lack of memory."""
    prctl = "__import__('ctypes').CDLL(None).prctl"
    refused, score = attempts(
        start, f"{prctl}(1, 0, 0, 0, 0)", "open('/proc/self/oom_score_adj').read()"
    )
    assert refused == "-1"
    assert int(eval(score)) >= 500


@needs("file attributes cannot be changed")
def test_a_folder_cannot_be_watched(start: Start, tmp_path: Path) -> None:
    """The names of the files that are used in it would be told."""
    libc = "__import__('ctypes').CDLL(None)"
    watch = f"{libc}.inotify_add_watch({libc}.inotify_init(), {os.fsencode(tmp_path)!r}, 0xFFF)"
    assert attempt(start, watch) == "-1"


def test_what_is_said_to_hold_is_what_a_child_says(start: Start) -> None:
    """`protections` looks from outside; a child says what it could do."""
    assert list(start().unprotected) == [p.name for p in protections() if not p.holds]
    assert all(p.how for p in protections())


WITHOUT = """
import os, socket, sys, tempfile
from pathlib import Path
from biozoo_runners.isolated import confine, landlock, seccomp
{patch}
scratch = Path(tempfile.mkdtemp())
told = [p.name for p in confine.protections() if not p.holds]
missing = confine.confine(
    scratch=scratch, readable=[], private=[], device="cpu", parent=os.getppid()
)
assert told == missing, (told, missing)
print(";".join(missing))
try:
    socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 9))
    print("sent")
except OSError as exc:
    print(type(exc).__name__)
try:
    os.listdir("/root" if os.getuid() == 0 else str(Path.home()))
    print("read")
except OSError as exc:
    print(type(exc).__name__)
"""


def without(patch: str, folder: Path) -> tuple[set[str], str, str]:
    """Missing protections, and what a datagram and a look into the home folder came to."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(patch=patch)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    missing, sent, read = done.stdout.split("\n")[:3]
    return set(missing.split(";")), sent, read


@pytest.mark.skipif(not ON_LINUX, reason="Linux has several ways")
def test_without_seccomp_the_network_is_emptied(tmp_path: Path) -> None:
    """What the filter did beyond that is told to be missing."""
    missing, sent, _ = without("seccomp.supported = lambda: False", tmp_path)
    assert "no program can be started" in missing
    assert "file attributes cannot be changed" in missing
    if "the network is shut off" not in missing:  # where user namespaces may be made
        assert sent == "OSError"


@pytest.mark.skipif(not ON_LINUX, reason="Landlock is Linux's")
@needs("the network is shut off")
def test_without_landlock_the_files_are_told_to_be_open(tmp_path: Path) -> None:
    missing, sent, read = without("landlock.abi = lambda: 0", tmp_path)
    assert {"your files cannot be read", "your files cannot be changed"} <= missing
    assert sent in ("PermissionError", "OSError")
    assert read == "read"


def test_a_folder_that_holds_the_home_is_never_granted(tmp_path: Path) -> None:
    """Though it stands on Python's path."""
    from biozoo_runners.isolated.confine import _without

    home = tmp_path / "users" / "me"
    for folder in (home / "venv", home.parent / "shared"):
        folder.mkdir(parents=True)
    folders = [tmp_path, home.parent, home, home / "venv", home.parent / "shared"]
    assert list(_without([home], folders)) == folders[3:]


def test_a_system_folder_that_holds_a_home_is_granted_around_it(tmp_path: Path) -> None:
    """As /opt is where a service's user lives in it."""
    from biozoo_runners.isolated.confine import _around

    home = tmp_path / "service" / "home"
    for folder in (home / "data", tmp_path / "service" / "program", tmp_path / "cuda"):
        folder.mkdir(parents=True)
    given = list(_around([home], [tmp_path]))
    assert given == [tmp_path / "cuda", tmp_path / "service" / "program"]
    assert list(_around([tmp_path / "elsewhere"], [home])) == [home]


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_it_is_said_what_does_not_hold(platform: str) -> None:
    from biozoo_runners.isolated.confine import _Held, _protections

    told = {p.name: p.holds for p in _protections(_Held(system=platform))}
    assert told["a crash stays in its process"]
    assert told["your environment variables are hidden"]
    assert not told["your files cannot be read"]
    assert not told["the network is shut off"]


def verdict(program: list[seccomp.Instruction], arch: int, nr: int, *arguments: int) -> int:
    """What the kernel would make of a filter: classic BPF, as much of it as is used."""
    data = {0: nr, 4: arch}
    data |= {16 + 8 * i: a & 0xFFFFFFFF for i, a in enumerate((*arguments, 0, 0, 0, 0))}
    at = value = 0
    while True:
        code, yes, no, constant = program[at]
        at += 1
        if code == 0x20:
            value = data[constant]
        elif code == 0x54:
            value &= constant
        elif code == 0x15:
            at += yes if value == constant else no
        elif code == 0x35:
            at += yes if value >= constant else no
        else:
            assert code == 0x06
            return constant


X86, ARM = (("x86_64", 0xC000003E), ("aarch64", 0xC00000B7))
ALLOWED, EPERM, ENOSYS, KILLED = 0x7FFF0000, 0x50001, 0x50026, 0x80000000


@pytest.mark.parametrize(
    ("machine", "nr", "arguments", "expected"),
    [
        (X86, 0, (), ALLOWED),  # read
        (X86, 9, (), ALLOWED),  # mmap
        (X86, 59, (), EPERM),  # execve
        (X86, 41, (2, 1), EPERM),  # socket(AF_INET)
        (X86, 41, (1, 1), EPERM),  # socket(AF_UNIX)
        (X86, 53, (1, 1 | 0o2000000), ALLOWED),  # socketpair(stream, cloexec)
        (X86, 53, (1, 2), EPERM),  # socketpair(datagram)
        (X86, 56, (0x3D0F00,), ALLOWED),  # clone, a thread
        (X86, 56, (17,), EPERM),  # clone, a process
        (X86, 435, (), ENOSYS),  # clone3
        (X86, 62, (77, 9), ALLOWED),  # kill itself
        (X86, 62, (1, 9), EPERM),
        (X86, 62, (-1, 9), EPERM),
        (X86, 302, (0,), ALLOWED),  # prlimit64 of itself
        (X86, 302, (1,), EPERM),
        (X86, 257, (0, 0, 0o101), ALLOWED),  # openat to write: Landlock's business
        (X86, 257, (0, 0, 0o1000), EPERM),  # openat to read, emptied
        (X86, 72, (3, 3), ALLOWED),  # fcntl(F_GETFL)
        (X86, 72, (3, 15), EPERM),  # fcntl(F_SETOWN_EX): signals to others
        (X86, 16, (3, 0x8901), EPERM),  # ioctl(FIOSETOWN)
        (X86, 16, (3, 0x5401), ALLOWED),
        (X86, 157, (1,), EPERM),  # prctl(PR_SET_PDEATHSIG)
        (X86, 157, (15,), ALLOWED),  # prctl(PR_SET_NAME)
        (X86, 144, (0,), ALLOWED),  # sched_setscheduler of itself
        (X86, 144, (1,), EPERM),
        (X86, 70, (1,), EPERM),  # msgrcv: of a queue that is known by its number
        (X86, 463, (), ENOSYS),  # newer than the list
        (X86, 41 | 0x40000000, (), ENOSYS),  # the x32 numbers
        (ARM, 63, (), ALLOWED),  # read
        (ARM, 221, (), EPERM),  # execve
        (ARM, 198, (2, 1), EPERM),  # socket
        (ARM, 220, (0x3D0F00,), ALLOWED),  # clone, a thread
        (ARM, 220, (17,), EPERM),
        (ARM, 56, (0, 0, 0o1000), EPERM),  # openat
        (ARM, 117, (), EPERM),  # ptrace
        (ARM, 25, (3, 8), EPERM),  # fcntl(F_SETOWN)
        (ARM, 167, (1,), EPERM),  # prctl(PR_SET_PDEATHSIG)
        (ARM, 41, (), EPERM),  # pivot_root there, socket on x86-64
    ],
)
def test_the_filter_says(
    machine: tuple[str, int], nr: int, arguments: tuple[int, ...], expected: int
) -> None:
    """Both processors, though only one of them runs this test."""
    name, arch = machine
    program = seccomp.filter_program(name, 77, cuda=False)
    assert verdict(program, arch, nr, *arguments) == expected
    assert verdict(program, 0x40000003, nr, *arguments) == KILLED  # 32-bit calls
    assert len(program) < 4096
    assert all(yes < 256 and no < 256 for _, yes, no, _ in program)


def test_with_a_card_a_local_socket_may_be_made_and_not_connected() -> None:
    program = seccomp.filter_program("x86_64", 77, cuda=True)
    assert verdict(program, X86[1], 41, 1, 5) == ALLOWED  # seqpacket
    for family, kind in ((1, 2), (1, 3), (2, 1), (16, 3)):  # datagram, raw, internet, netlink
        assert verdict(program, X86[1], 41, family, kind) == EPERM
    assert verdict(program, X86[1], 42) == EPERM  # connect


# -------------------------------------------------------------------------------------- its end


def test_close_ends_the_process_and_removes_its_folder(start: Start) -> None:
    child = start(on_load="self.told = {'scratch': str(scratch)}", on_run=PID)
    pid, scratch = pid_of(child), Path(child.facts["scratch"])
    assert scratch.is_dir()
    child.close()
    child.close()
    assert gone(pid)
    assert not scratch.exists()


def test_what_code_leaves_is_removed(start: Start) -> None:
    """Folders deeper than a recursion goes, closed ones, and links, which are not followed."""
    deep = "[(os.mkdir('d'), os.chdir('d')) for _ in range(1100)], os.chdir(scratch)"
    shut = "os.mkdir('shut', 0o300), open('shut/file', 'w').close(), os.mkfifo('pipe')"
    link = "os.symlink(scratch, 'link')"
    on_load = f"self.told = {{'scratch': str(scratch)}}\n{deep}\n{shut}\n{link}"
    child = start(on_load=on_load)
    scratch = Path(child.facts["scratch"])
    assert (scratch / "d/d/d").is_dir()
    child.close()
    assert not scratch.exists()


def test_a_forgotten_child_is_ended(code: Path) -> None:
    """As every object of Python."""
    name = module(code, on_run=PID)
    child = Child.start(name, {}, model="tiny", doing="run", threads=1)
    pid = pid_of(child)
    del child
    gc.collect()
    assert gone(pid)


def test_a_failed_start_leaves_nothing(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    with pytest.raises(ForeignError):
        start(top="raise ValueError")
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(BackendError, match="the process cannot be started"):
        start()
    assert {p.name for p in set(tmp_path.iterdir()) - before} <= {"code"}


ENDS = """
import os, sys, threading, time
import numpy as np
from biozoo_runners.isolated import process
from biozoo_runners.isolated.client import Child
ours = process.code_folders()
process.code_folders = lambda: [*ours, sys.argv[1]]
child = Child.start("its_code:Code", {{}}, model="tiny", doing="run", threads=1)
pid = int(child.run([np.zeros(1)])[0][0])
if {computing}:
    threading.Thread(target=child.run, args=([np.zeros(3)],), daemon=True).start()
    time.sleep(0.3)
print(pid, child.facts["scratch"], flush=True)
{end}
"""


@pytest.mark.parametrize(
    ("end", "cleans"),
    [("", True), ("sys.exit(3)", True), ("time.sleep(60)", False)],
    ids=["end of the program", "exit", "killed while the child computes"],
)
def test_no_child_outlives_its_program(code: Path, end: str, cleans: bool) -> None:
    """Also when the program is killed while its child loops for ever."""
    if not cleans and not HOLDS["it does not outlive the program"]:
        pytest.skip("not on this machine")
    told = "self.told = {'scratch': str(scratch)}"
    loop = "while len(arrays[0]) == 3: pass\nreturn [np.array([os.getpid()])]"
    module(code, on_load=told, on_run=loop)
    command = [sys.executable, "-c", ENDS.format(end=end, computing=not cleans), str(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        pid, scratch = program.stdout.readline().split()
        if not cleans:
            program.send_signal(signal.SIGKILL)
        program.wait(20)
    ended = gone(int(pid))
    if not ended:
        os.kill(int(pid), signal.SIGKILL)
    assert ended
    if cleans:
        assert not Path(scratch).exists()
    else:
        Path(scratch).rmdir()


def test_the_child_stays_when_the_thread_that_started_it_ends(start: Start) -> None:
    """A program may load in one thread and run in another."""
    made: list[Child] = []
    thread = threading.Thread(target=lambda: made.append(start()))
    thread.start()
    thread.join()
    time.sleep(0.1)
    np.testing.assert_array_equal(made[0].run([ONE])[0], ONE)


def test_two_children_work_at_once(start: Start) -> None:
    children = [start(on_run="return [arrays[0] * 2]") for _ in range(2)]
    got: dict[int, list[Any]] = {}

    def work(i: int) -> None:
        got[i] = [children[i].run([np.full(1000, i + n)])[0] for n in range(20)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        for n, array in enumerate(got[i]):
            np.testing.assert_array_equal(array, np.full(1000, 2 * (i + n)))


def test_ctrl_c_while_waiting_ends_the_child(start: Start) -> None:
    child = start(on_run="time.sleep(60 if len(arrays[0]) == 3 else 0)\n" + PID)
    pid = pid_of(child)
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        child.run([np.zeros(3)])
    assert gone(pid)


def test_ctrl_c_in_the_terminal_does_not_reach_the_child(start: Start) -> None:
    """It has a session of its own, so that the parent alone decides."""
    if sys.platform != "win32":
        assert attempt(start, "os.getsid(0) == os.getpid()") == "True"


def test_closing_from_another_thread_ends_a_call(start: Start) -> None:
    """A user who stops a run need not wait for it."""
    child = start(on_run="time.sleep(60)")
    threading.Timer(0.3, child.close).start()
    with pytest.raises(BackendError, match="it was closed while running"):
        child.run([ONE])


# -------------------------------------------------------------------------------------- backend


class Backend(IsolatedBackend):
    """Runs a test's code; opened from a request, not from a package."""

    name = "test"
    weights_formats = ("test",)
    executor = "its_code:Code"

    @classmethod
    def available(cls, machine: Machine) -> Any:
        raise NotImplementedError

    @classmethod
    def request(cls, package: Any, weights_format: str, *, device: str, threads: int) -> Request:
        raise NotImplementedError


def load(
    inputs: tuple[str, ...] = ("a", "b"), outputs: tuple[str, ...] = ("y",), **more: Any
) -> Backend:
    request = Request({}, weights_name="w.bin", **more.pop("request", {}))
    return Backend(
        request,
        model="tiny",
        weights_format="test",
        input_ids=inputs,
        output_ids=outputs,
        **more,
    )


def ports(**told: Any) -> str:
    return f"self.told = {told!r}"


def test_tensors_are_matched_as_in_every_backend(code: Path) -> None:
    """By name where names are ids, in the graph's order; results back in the description's."""
    told = ports(
        inputs=[["b", [None, "n"], "float32"], ["a", [2], "uint8"]],
        outputs=[["more", [], None], ["z", [], None], ["y", [], None]],
    )
    module(code, on_load=told, on_run="b, a = arrays\nreturn [a, b - a, a.astype('i2')]")
    with load(outputs=("y", "z")) as backend:
        got = backend.run({"a": np.array([1.0, 2.0]), "b": np.array([5.0, 5.0])})
        with pytest.raises(BackendError, match="the values do not survive"):
            backend.run({"a": np.array([0.5]), "b": ONE})
        with pytest.raises(BackendError, match="has no input 'c'"):
            backend.run({"a": ONE, "b": ONE, "c": ONE})
        with pytest.raises(BackendError, match="needs the input 'b'"):
            backend.run({"a": ONE})
    assert list(got) == ["y", "z"]
    assert got["y"].dtype == np.int16
    assert got["z"].dtype == np.float32
    np.testing.assert_array_equal(got["z"], [4, 3])


def test_without_names_the_order_of_the_description_counts(code: Path) -> None:
    run = "a, b = arrays\nreturn [a if b is None else a - b, np.zeros(1)]"
    module(code, on_run=run)
    with load(optional=frozenset("b")) as backend:
        np.testing.assert_array_equal(backend.run({"b": ONE, "a": 3 * ONE})["y"], 2 * ONE)
        np.testing.assert_array_equal(backend.run({"a": ONE})["y"], ONE)
    with load(outputs=("x", "y", "z")) as backend, pytest.raises(BackendError, match=r"2 output"):
        backend.run({"a": ONE, "b": ONE})


def test_complex_numbers_are_refused(code: Path) -> None:
    """Half of them would be lost in silence."""
    module(code, on_run="return [arrays[0] * 1j]")
    with load() as backend, pytest.raises(BackendError, match=r"output 'y' as complex numbers"):
        backend.run({"a": ONE, "b": ONE})


def test_a_description_that_does_not_fit_is_refused(code: Path) -> None:
    for told, message in (
        (ports(inputs=[["a", [1], None]]), r"description has 2 input\(s\)"),
        (ports(inputs=[["a", 5, None], 7]), "cannot be understood"),
        (ports(inputs=[["a", [], "no such type"], ["b", [], None]]), "cannot be understood"),
        (ports(inputs=[["a", [], ",,,"], ["b", [], None]]), "cannot be understood"),
    ):
        module(code, on_load=told)
        with pytest.raises(BackendError, match=message):
            load()


def test_what_runs_is_told(code: Path) -> None:
    module(code, on_load=ports(version="4.2", providers=["one", "two"], threads=3))
    with load(threads=5) as backend:
        info = backend.info
        assert backend.peak_host_memory > 1e6
        assert backend.peak_device_memory is None
    assert (info.backend, info.version, info.weights_format) == ("test", "4.2", "test")
    assert (info.device, info.providers, info.threads) == ("cpu", ("one", "two"), 3)
    assert info.notes == ()


def test_missing_protections_are_noted_where_the_authors_code_runs(code: Path) -> None:
    module(code)
    for foreign in (False, True):
        with load(request={"code": foreign}) as backend:
            backend._child.unprotected = ("the network is shut off",)
            notes = " ".join(backend.info.notes)
        assert ("without these protections: the network is shut off" in notes) is foreign


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("raise MemoryError()", OutOfMemoryError, r"tile|smaller"),
        ("raise RuntimeError('CUDA out of memory. Tried')", OutOfMemoryError, "out of memory"),
        ("raise ValueError('odd')", BackendError, "failed to run on cpu.*Given: a float64"),
        (
            "raise NotFitting('it is too thin. Feed it.')",
            BackendError,
            r"\(w.bin\): it is too thin",
        ),
    ],
)
def test_failures_are_told_as_in_every_backend(
    code: Path, fault: str, error: type[Exception], message: str
) -> None:
    top = "from biozoo_runners.isolated.executor import NotFitting"
    module(code, top=top, on_run=fault)
    with load() as backend, pytest.raises(error, match=message) as told:
        backend.run({"a": ONE, "b": ONE})
    assert "Model 'tiny'" in str(told.value)


def test_a_device_that_is_not_used_is_an_error(code: Path) -> None:
    module(code, on_load=ports(device="cpu"))
    with pytest.raises(DeviceError, match="test would run the model on cpu in its place"):
        load(device="cuda")
    module(code, on_load=ports(device="cuda:0"))
    with pytest.raises(DeviceError, match="on cuda:0 in its place"):
        load(device="cuda:1")
    module(code, on_load=ports(device="cuda:many"))
    with pytest.raises(DeviceError, match="on cuda:many in its place"):
        load(device="cuda")
    module(code, on_load=ports(device="cuda:0"))
    load(device="cuda").close()
    top = "from biozoo_runners.isolated.executor import DeviceRefused"
    said = "the card sleeps. Else: Use --device cpu or auto."
    module(code, top=top, on_load=f"raise DeviceRefused({said!r})")
    with pytest.raises(DeviceError, match=r"'cuda' cannot be used: the card sleeps\. Use --device"):
        load(device="cuda")


def test_a_closed_backend_says_so(code: Path) -> None:
    module(code)
    backend = load()
    backend.free_cached()
    backend.close()
    backend.close()
    backend.free_cached()
    with pytest.raises(BackendError, match="is closed"):
        backend.run({"a": ONE, "b": ONE})
