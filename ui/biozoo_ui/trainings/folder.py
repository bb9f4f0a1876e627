"""The folder of one training: what is written by whom, so that no file has two writers.

training.json       the server: what was asked, the state, what became of the new model
events.jsonl        the process: what it does, how it ended
process.lock        held by the process while it lives
samples/            images that would go with the server, labels as they were when it was asked
work/               the trainer's checkpoints
files/              what lies over the image: previews, before and after
log.txt             what the process's libraries print
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from biozoo.errors import MissingFileError, StorageError
from biozoo.files import write_atomic, writing

from ..jobs.images import keep_images
from . import events
from .model import Choices, Folders, Sample, Seen, Training

RECORD = "training.json"

_VERSION = 1


class Folder:
    """One training's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = path / events.FILE
        self.work = path / "work"
        self.files = path / "files"
        self.log = path / "log.txt"

    def write(self, training: Training) -> None:
        """Write the record, whole or not at all.

        Raises
        ------
        StorageError
            The disk is full.
        """
        write_atomic(self.path / RECORD, json.dumps(_to_dict(training)).encode())

    def read(self) -> Training | None:
        """The record; None where there is none, or none that can be read."""
        try:
            plain = json.loads((self.path / RECORD).read_text("utf-8"))
            return _from_dict(plain)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(
        self, samples: Sequence[Sample], seen: Seen | None
    ) -> tuple[list[Sample], Seen | None]:
        """The same with files of the training's own where the given ones go with the server.

        Raises
        ------
        StorageError
            They cannot be written.
        MissingFileError
            One has gone.
        """
        images = {f"image {n}": sample.image for n, sample in enumerate(samples)}
        if seen is not None:
            images["seen"] = seen.image
        painted = {}
        for n, sample in enumerate(samples):
            if sample.labels is not None and sample.kind == "image":
                images[f"labels {n}"] = sample.labels
            elif sample.labels is not None:
                folder = self.path / "samples" / "labels" / str(n)
                with sample.hold():
                    path = _copied(sample.labels.path, folder)
                painted[f"labels {n}"] = replace(sample.labels, path=path)
        kept = {**keep_images(images, self.path / "samples" / "images"), **painted}
        found = [
            Sample(kept[f"image {n}"], kept.get(f"labels {n}"), sample.kind)
            for n, sample in enumerate(samples)
        ]
        return found, None if seen is None else replace(seen, image=kept["seen"])

    def lock(self) -> FileLock:
        """What its process holds while it lives."""
        return FileLock(self.path / "process.lock", thread_local=False)

    def lives(self) -> bool:
        """Whether a process works in it, of this server or of one that was killed."""
        if not (self.path / "process.lock").exists():
            return False
        try:
            with self.lock().acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return True

    def last_words(self) -> str:
        """The last line that its process printed, for who reports that it ended."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 4096))  # of what may be gigabytes
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
            return lines[-1][:400] if lines else ""
        return ""


def _copied(source: Path, folder: Path) -> Path:
    """A copy of what is being painted: no link, as it goes on changing."""
    if not source.exists():
        raise MissingFileError(what="The annotation", path=source.name)
    target = folder / source.name
    with writing(folder):
        try:
            shutil.copytree(source, target)
        except shutil.Error as exc:
            raise StorageError(path=target, why=str(exc)) from exc
    return target


def _to_dict(training: Training) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "id": training.id,
        "owner": training.owner,
        "model": training.model,
        "model_version": training.version,
        "samples": [sample.to_dict() for sample in training.samples],
        "folders": training.folders and [p and str(p) for p in training.folders],
        "choices": training.choices.to_dict(),
        "seen": None if training.seen is None else training.seen.to_dict(),
        "state": training.state,
        "created": training.created.isoformat(),
        "started": _text(training.started),
        "ended": _text(training.ended),
        "error": training.error,
        "server": training.server,
        "decision": training.decision,
        "kept": training.kept,
    }


def _from_dict(plain: dict[str, Any]) -> Training:
    if plain["version"] != _VERSION:
        raise ValueError(f"version {plain['version']}")
    return Training(
        id=plain["id"],
        owner=plain["owner"],
        model=plain["model"],
        version=plain["model_version"],
        samples=tuple(map(Sample.from_dict, plain["samples"])),
        folders=_folders(plain["folders"]),
        choices=Choices(**plain["choices"]),
        seen=None if plain["seen"] is None else Seen.from_dict(plain["seen"]),
        state=plain["state"],
        created=datetime.fromisoformat(plain["created"]),
        started=_time(plain["started"]),
        ended=_time(plain["ended"]),
        error=plain["error"],
        server=plain["server"],
        decision=plain["decision"],
        kept=plain["kept"],
    )


def _folders(plain: list[str | None] | None) -> Folders | None:
    if plain is None:
        return None
    images, labels = plain
    return Path(images or ""), None if labels is None else Path(labels)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
