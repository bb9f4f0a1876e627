"""A run without model and image: tasks that write files, some of which wait, fail or kill."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biozoo.errors import ImageReadError
from biozoo.files import write_atomic


@dataclass(frozen=True)
class FilesSpec:
    """Two stages: `tasks` files with a text each, then one file with all of them.

    `trouble` names what a task does besides: task number and what.
    """

    folder: str
    tasks: int = 4
    trouble: tuple[tuple[int, str], ...] = ()
    threads: int | None = None

    def open(self) -> FilesJob:
        if any(what == "cannot open" for _, what in self.trouble):
            raise ImageReadError(path="cells.zarr", why="it is damaged.")
        with Path(self.folder, "opened").open("a") as file:
            file.write(f"{os.getpid()} {self.threads}\n")
        return FilesJob(self)


class FilesJob:
    def __init__(self, spec: FilesSpec) -> None:
        self.spec = spec

    @property
    def stages(self) -> Iterable[Files | Joined]:
        return [Files(self.spec), Joined(self.spec)]

    def stage(self, name: str) -> Files | Joined:
        return next(s for s in self.stages if s.name == name)

    def close(self) -> None:
        with Path(self.spec.folder, "closed").open("a") as file:
            file.write(f"{os.getpid()}\n")


class Files:
    name = "files"

    def __init__(self, spec: FilesSpec) -> None:
        self._spec, self._folder = spec, Path(spec.folder)

    def __len__(self) -> int:
        return self._spec.tasks

    def run(self, task: int) -> None:
        with (self._folder / "run").open("a") as file:
            file.write(f"{task}\n")
        what = dict(self._spec.trouble).get(task)
        if what == "fail":
            raise ImageReadError(path="cells.zarr", why="a chunk is damaged.")
        if what == "bug":
            raise ZeroDivisionError("divided by zero")
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "wait":  # until the test lets it go, or kills this process
            write_atomic(self._folder / f"{task}.pid", str(os.getpid()).encode())
            wait_for(self._folder / "go")
        write_atomic(self._folder / f"{task}.txt", f"file {task}".encode())


class Joined:
    name = "joined"

    def __init__(self, spec: FilesSpec) -> None:
        self._folder = Path(spec.folder)

    def __len__(self) -> int:  # known only when the files are there
        return len(list(self._folder.glob("*.txt"))) // 4

    def run(self, task: int) -> None:
        texts = [p.read_text() for p in sorted(self._folder.glob("*.txt"))]
        write_atomic(self._folder / f"all-{task}", "\n".join(texts).encode())


@dataclass
class ListJournal:
    """Marks in memory, in their order."""

    marks: list[tuple[str, int]] = field(default_factory=list)

    def done(self, stage: str) -> set[int]:
        return {task for name, task in self.marks if name == stage}

    def mark(self, stage: str, task: int) -> None:
        self.marks.append((stage, task))


@dataclass
class Parts:
    """A split stage that notes what it does; hooks are called with the task."""

    tasks: int
    name: str = "split"
    prepare_hook: Callable[[int], None] = lambda task: None
    compute_hook: Callable[[int], None] = lambda task: None
    write_hook: Callable[[int], None] = lambda task: None
    log: list[tuple[str, int]] = field(default_factory=list)
    alive: list[int] = field(default_factory=lambda: [0, 0])
    most: list[int] = field(default_factory=lambda: [0, 0])
    written: dict[int, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return self.tasks

    def run(self, task: int) -> None:
        self.write(task, self.compute(task, self.prepare(task)))

    def prepare(self, task: int) -> Any:
        self.log.append(("prepare", task))
        self.prepare_hook(task)
        return Counted(self, 0, f"read {task}")

    def compute(self, task: int, prepared: Any) -> Any:
        self.log.append(("compute", task))
        made = Counted(self, 1, f"made of {prepared.text}")
        self.compute_hook(task)
        return made

    def write(self, task: int, made: Any) -> None:
        self.log.append(("write", task))
        self.write_hook(task)
        self.written[task] = made.text


class Counted:
    """A value whose being in memory is counted: kind 0 is read, 1 is made."""

    def __init__(self, parts: Parts, kind: int, text: str) -> None:
        self._parts, self._kind, self.text = parts, kind, text
        with parts.lock:
            parts.alive[kind] += 1
            parts.most[kind] = max(parts.most[kind], parts.alive[kind])

    def __del__(self) -> None:
        with self._parts.lock:
            self._parts.alive[self._kind] -= 1


@dataclass
class OneStage:
    """A job of these stages alone."""

    stages: list[Any]

    def stage(self, name: str) -> Any:
        return next(s for s in self.stages if s.name == name)

    def close(self) -> None:
        pass


def wait_for(path: Path, seconds: float = 60) -> None:
    """Until the file is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path} did not come")
        time.sleep(0.02)
