"""What of a run is done: the working folder, and who may work in it.

The folder lies beside the result, on its disk:

    run.json    what the run is of (model, image, plan, ...), as digests
    lock        held while a process works here; the system releases it at its end, however it ends
    process     who holds it, for the message to another
    done        the journal: a line "STAGE TASK" for each finished task, only ever added to
    moves.json  once all is done: which of the things in here go where
    ...         stores and scratch files of the stages

A task is noted after its files are on the disk, so what is noted is there. What was finished but
not noted when the process was killed is done again, with the same bytes. A last line that was torn
does not count. Nothing in a folder without `run.json` counts.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo.errors import StorageError, UsageError

from ..images.atomic import flush, storage_errors, written_beside

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["Journal", "known_identity"]

_RUN, _LOCK, _PROCESS, _DONE, _MOVES = "run.json", "lock", "process", "done", "moves.json"
_REPLACED = "replaced"
_LINE = re.compile(r"([\w.:-]+(?: [\w.:-]+)*) (\d+)")


class Journal:
    """The working folder of one run, locked; made by `begin`.

    Attributes
    ----------
    folder
        Where the run works.
    resumed
        Whether a run that was begun before goes on.
    finished
        Whether all of it is done and in place already: there is nothing to run.
    notes
        What the user should know about it.
    """

    def __init__(self, folder: Path, lock: BaseFileLock, *, resumed: bool) -> None:
        self.folder, self.resumed = folder, resumed
        self.finished = False
        self.notes: tuple[str, ...] = ()
        self._lock = lock
        self._done = _read(folder / _DONE)
        self._file = os.open(folder / _DONE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    @classmethod
    def begin(cls, folder: Path, identity: Mapping[str, str], *, resume: bool) -> Journal:
        """Make the working folder of a run, or go on with the run that it is of.

        A run that was killed while its results were moved into place is brought to its end; the
        journal is then `finished`.

        Parameters
        ----------
        folder
            On the disk of the results.
        identity
            All that the values of the result depend on, in parts: what a user calls it ("model",
            "image") -> a digest of it.
        resume
            Whether an unfinished run may go on; where there is none, one is begun.

        Raises
        ------
        UsageError
            An unfinished run is there and `resume` does not say that it shall go on, or it is of
            something else.
        StorageError
            Another process works there, the folder is no working folder, or cannot be written.
        """
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = _locked(folder)
            try:
                return cls._begun(folder, dict(identity), resume, lock)
            except BaseException:
                lock.release()
                raise

    @classmethod
    def _begun(
        cls, folder: Path, identity: dict[str, str], resume: bool, lock: BaseFileLock
    ) -> Journal:
        resumed = (folder / _RUN).exists()
        if resumed and not resume:
            count = sum(map(len, _read(folder / _DONE).values()))
            raise UsageError(
                f"An unfinished run is in {folder}, with {count} of its tasks done. Go on with "
                "--resume, or remove this folder to begin anew."
            )
        if resumed:
            _check_identity(folder, identity)
        else:
            _check_empty(folder)
            for left in (_DONE, _MOVES):
                (folder / left).unlink(missing_ok=True)
            with written_beside(folder / _RUN) as part:
                part.write_text(json.dumps({"version": 1, "of": identity}, indent=1))
                flush(part)
        (folder / _PROCESS).write_text(f"process {os.getpid()} on {socket.gethostname()}")
        journal = cls(folder, lock, resumed=resumed)
        if resume and not resumed:
            journal.notes = (f"there is no unfinished run in {folder}: a new one is begun",)
        if (folder / _MOVES).exists():
            journal._move()
        return journal

    def done(self, stage: str) -> frozenset[int]:
        """The tasks of a stage that are done."""
        return frozenset(self._done.get(stage, ()))

    @property
    def count(self) -> int:
        """How many tasks are done, of all stages."""
        return sum(map(len, self._done.values()))

    def mark(self, stage: str, task: int) -> None:
        """Note a task as done; its files must be on the disk. From one thread at a time.

        Raises
        ------
        StorageError
            No space is left.
        """
        line = f"{stage} {task}"
        if not _LINE.fullmatch(line):
            raise ValueError(f"{line!r} cannot be noted")
        with storage_errors(self.folder / _DONE):
            if os.write(self._file, f"{line}\n".encode()) <= len(line):
                raise OSError(errno.ENOSPC, "only a part of the line was written")
            os.fsync(self._file)
        self._done.setdefault(stage, set()).add(task)

    def finish(self, moves: Mapping[Path, Path]) -> None:
        """Move results to their places and remove the folder; the journal is closed then.

        What stands in a place is replaced, and put back where the result cannot get there. A kill
        at any moment leaves what `begin` brings to its end.

        Parameters
        ----------
        moves
            A file or folder in the working folder -> its place, on the same disk.

        Raises
        ------
        StorageError
            A place cannot be written.
        """
        with storage_errors(self.folder), written_beside(self.folder / _MOVES) as part:
            inside = {str(s.relative_to(self.folder)): str(t.absolute()) for s, t in moves.items()}
            part.write_text(json.dumps(inside, indent=1))
            flush(part)
        self._move()

    def _move(self) -> None:
        moves = json.loads((self.folder / _MOVES).read_text())
        replaced = self.folder / _REPLACED
        for number, (inside, place) in enumerate(moves.items()):
            source, target, old = self.folder / inside, Path(place), replaced / str(number)
            with storage_errors(target):
                if not source.exists():
                    continue  # moved before a kill
                target.parent.mkdir(parents=True, exist_ok=True)
                replaced.mkdir(exist_ok=True)
                if os.path.lexists(target) and not old.exists():
                    os.rename(target, old)
                try:
                    os.rename(source, target)
                except BaseException:
                    if old.exists():
                        os.rename(old, target)
                    raise
                flush(target)
        self.finished = True
        self.close(remove=True)

    def close(self, *, remove: bool = False) -> None:
        """Let another process have the folder; `remove`: remove it first."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if remove:
            # What says that a run is here goes after all that is large, so that a kill in between
            # leaves a run that ends when it is resumed.
            with storage_errors(self.folder):
                for child in self.folder.iterdir():
                    if child.is_dir() and not child.is_symlink():
                        shutil.rmtree(child, ignore_errors=True)
                (self.folder / _RUN).unlink(missing_ok=True)
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()
        if remove and os.name != "posix":  # Windows deletes no file that is open
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def known_identity(folder: Path) -> dict[str, str]:
    """What the unfinished run in a folder is of; empty where there is none, or it is damaged."""
    try:
        return dict(json.loads((folder / _RUN).read_text())["of"])
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _locked(folder: Path) -> BaseFileLock:
    """The folder's lock, held by this process."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as exc:
        process = folder / _PROCESS
        who = process.read_text() if process.exists() else "another process"
        raise StorageError(
            path=folder,
            why=f"another run works there ({who})",
            hint="Wait for its end, or write to another place.",
        ) from exc
    return lock


def _check_identity(folder: Path, identity: Mapping[str, str]) -> None:
    """Refuse to go on with a run of something else, naming what differs."""
    known = known_identity(folder)
    if not known:
        raise UsageError(
            f"{folder / _RUN} is damaged, so that the run cannot go on. Remove the folder {folder} "
            "to begin anew."
        )
    parts = [*identity, *(p for p in known if p not in identity)]
    if other := [p for p in parts if known.get(p) != identity.get(p)]:
        listed = ", ".join(other[:-1]) + " and " * (len(other) > 1) + other[-1]
        raise UsageError(
            f"The unfinished run in {folder} differs from this one in: {listed}. Resume with what "
            "it was begun with, or remove this folder to begin anew."
        )


def _check_empty(folder: Path) -> None:
    """Refuse a folder that somebody made for something else."""
    known = {_LOCK, _PROCESS, _DONE, _MOVES}
    # A hidden part is what a kill left of a file that was being written.
    if any(p.name not in known and not p.name.endswith(".part") for p in folder.iterdir()):
        raise StorageError(
            path=folder,
            why="a folder of that name exists and is of no run",
            hint="Remove it, or write to another place.",
        )


def _read(path: Path) -> dict[str, set[int]]:
    """Finished tasks by stage; a torn last line is cut off, so that the next one is whole."""
    done: dict[str, set[int]] = {}
    if not path.exists():
        return done
    text = path.read_bytes()
    lines, torn = text[: text.rfind(b"\n") + 1], text[text.rfind(b"\n") + 1 :]
    if torn:
        os.truncate(path, len(lines))
    for line in lines.decode("ascii", "replace").splitlines():
        if found := _LINE.fullmatch(line):
            done.setdefault(found[1], set()).add(int(found[2]))
    return done
