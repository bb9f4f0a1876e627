"""The trainings of a server: asked for, watched, paused, resumed, decided on by their owners.

Each is a folder. One process trains at a time, in the order in which they were asked for (`queue`);
jobs go on beside it.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo.closing import Closing
from biozoo.errors import BiozooError, MissingFileError, NotFoundError
from biozoo.files import writing

from ..jobs.model import now
from ..jobs.servers import Server
from ..jobs.trash import clean_trash, throw_away
from .events import Reader
from .folder import Folder
from .model import Choices, Folders, Sample, Seen, Training, TrainingStateError
from .queue import SERVER_ENDED, Queue, ended_as
from .running import Start, start

if TYPE_CHECKING:
    from biozoo import ModelPackage, Settings

    Install = Callable[[Path], ModelPackage]
    Remove = Callable[[str, str | None], object]

KEPT = 20
"""Ended trainings of one owner that stay; older ones are deleted with their files."""


class Trainings(Closing):
    """The trainings of one server; several may share a folder.

    Parameters
    ----------
    folder
        Holds a folder per training.
    settings
        The zoo, for the processes.
    install
        Adds a package to the zoo.
    remove
        Removes a model from it: id, version.
    begin
        Starts a process; `running.start` unless a test says otherwise.
    kept
        How many ended ones of one owner stay.

    Attributes
    ----------
    closed
        Whether the server ends.

    Raises
    ------
    StorageError
        The folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: Settings,
        install: Install,
        remove: Remove,
        begin: Start | None = None,
        kept: int = KEPT,
    ) -> None:
        self._folder, self._kept = folder, kept
        self._install, self._remove_model = install, remove
        start_process = begin or (lambda place: start(place, settings))
        self._server = Server(folder / "servers")
        self._deciding = threading.Lock()  # taken before that of the queue, never after
        self._readers: dict[str, Reader] = {}
        self._queue = Queue(self._place, self._reader, start_process)
        self._lock = self._queue.lock
        self.closed = False
        clean_trash(folder)

    def get(self, training_id: str, owner: str | None = None) -> Training:
        """A training as it is now; None as owner sees all.

        Raises
        ------
        NotFoundError
            There is none, or it is another owner's.
        """
        found = self._look(training_id) if training_id.isalnum() else None
        if found is None or owner not in (None, found.owner):
            raise NotFoundError(
                kind="training", got=training_id, known=(), hint="It may be deleted."
            )
        return found

    def of_owner(self, owner: str) -> list[Training]:
        """All trainings of an owner, the newest first."""
        mine = [one.id for one in self._records() if one.owner == owner]
        found = [one for i in mine if (one := self._look(i)) is not None]
        return sorted(found, key=lambda one: one.created, reverse=True)

    def claimed(self) -> set[str]:
        """Ids that new models of trainings have, kept or not; of all owners."""
        return {one.choices.id for one in self._records() if one.choices.id}

    def file(self, training_id: str, name: str, owner: str | None = None) -> Path:
        """The path of a layer's file.

        Raises
        ------
        MissingFileError
            The training has no such file now.
        """
        training = self.get(training_id, owner)
        progress = training.progress
        layers = (*progress.preview, *progress.before, *progress.after)
        path = self._place(training.id).files / name
        if name not in (layer.file for layer in layers) or not path.is_file():
            raise MissingFileError(what="The file", path=name)
        return path

    def wait(self, training_id: str, seconds: float | None = None) -> Training:
        """The training once it has ended, or after `seconds`."""
        live = self._queue.get(training_id)
        if live is not None:
            live.ended.wait(seconds)
        return self.get(training_id)

    def submit(
        self,
        package: ModelPackage,
        samples: Sequence[Sample] = (),
        choices: Choices | Callable[[], Choices] | None = None,
        *,
        owner: str,
        folders: Folders | None = None,
        seen: Seen | None = None,
    ) -> Training:
        """Ask for a training; it runs after those before it.

        Parameters
        ----------
        samples, folders
            One of both, see `Training`.
        choices
            How; None leaves it to the model's recipe. A function is asked while no other training
            is made, so that what it finds `claimed` is true.
        seen
            What is looked at after each epoch, and before and after the training.

        Raises
        ------
        StorageError
            It cannot be written down.
        MissingFileError
            A file of a sample has gone.
        TrainingStateError
            The server ends.
        """
        self._prune(owner)
        training_id = secrets.token_hex(8)
        place = self._place(training_id)
        try:
            with writing(self._folder):
                place.files.mkdir(parents=True)
            kept, seen = place.keep(samples, seen)
            with self._lock:
                self._refuse_when_closed()
                training = Training(
                    id=training_id,
                    owner=owner,
                    model=package.id,
                    version=package.version,
                    samples=tuple(kept),
                    folders=folders,
                    choices=choices() if callable(choices) else choices or Choices(),
                    created=now(),
                    seen=seen,
                    server=self._server.id,
                )
                place.write(training)
                self._queue.add(training)
        except BaseException:
            shutil.rmtree(place.path, ignore_errors=True)
            raise
        return self.get(training_id)

    def pause(self, training_id: str, owner: str | None = None) -> Training:
        """Let a training that runs wait after its next step; it keeps its place.

        Raises
        ------
        TrainingStateError
            It does not run here.
        """
        self.get(training_id, owner)
        live = self._queue.get(training_id)
        if live is None:
            raise TrainingStateError("This training does not run here, so it cannot be paused.")
        if not self._queue.pause(live):
            raise TrainingStateError("This training has not begun yet. Cancel it instead.")
        return self.get(training_id)

    def resume(self, training_id: str, owner: str | None = None) -> Training:
        """Let a paused training go on, or run one again that did not end well, from its checkpoint.

        Raises
        ------
        TrainingStateError
            It is done, its last process still stops, or the server ends.
        StorageError
            It cannot be written down.
        """
        self.get(training_id, owner)
        with self._lock:
            self._refuse_when_closed()
            if live := self._queue.get(training_id):
                self._queue.go_on(live)
                return self.get(training_id)
            training = self.get(training_id)
            if training.state == "done":
                raise TrainingStateError(
                    "This training is done. Start a new one, with more images perhaps."
                )
            if self._place(training_id).lives() and not self._server.lives(training.server):
                raise TrainingStateError(
                    "The last attempt at this training is still stopping. Try again in a moment."
                )
            if training.active:
                raise TrainingStateError(
                    f"Training {training_id} runs in another biozoo server. Look at it there."
                )
            again = replace(training, state="waiting", error="", ended=None, server=self._server.id)
            self._place(training_id).write(again)
            self._queue.add(again)
        return self.get(training_id)

    def cancel(self, training_id: str, owner: str | None = None) -> Training:
        """Stop a training after its next step; one that has ended stays as it is.

        Raises
        ------
        TrainingStateError
            It runs in another server.
        """
        self.get(training_id, owner)
        with self._lock:
            live = self._queue.get(training_id)
            if live is not None:
                self._queue.stop(live, "cancelled")
            elif (training := self.get(training_id)).active and not training.stopping:
                raise TrainingStateError(
                    f"Training {training_id} runs in another biozoo server. Cancel it there."
                )
        return self.get(training_id)

    def delete(self, training_id: str, owner: str | None = None) -> None:
        """Forget a training and remove its files; a model that was kept stays in the zoo.

        Raises
        ------
        TrainingStateError
            It runs.
        """
        training = self.get(training_id, owner)
        if training.state == "waiting":
            training = self.cancel(training_id, owner)
        with self._deciding, self._lock:  # not while its new model is on the way into the zoo
            if self._queue.get(training_id) or training.active:
                raise TrainingStateError("This training runs. Cancel it first, then delete it.")
            self._readers.pop(training_id, None)
            self._queue.forget(training_id)
            throw_away(self._place(training_id).path)

    def keep(self, training_id: str, owner: str | None = None) -> Training:
        """Add the new model to the zoo; asked for twice it is added once.

        Raises
        ------
        TrainingStateError
            The training has no new model.
        BiozooError
            As `Zoo.add`.
        """
        with self._deciding:
            training = self.get(training_id, owner)
            child = self._child(training)
            if training.decision == "kept":
                return training
            package = self._install(child)
            self._decide(replace(training, decision="kept", kept=package.id))
        return self.get(training_id)

    def discard(self, training_id: str, owner: str | None = None) -> Training:
        """Remove the new model's files; it cannot be kept any more.

        Raises
        ------
        TrainingStateError
            The training has no new model, or it was kept: undo that first.
        """
        with self._deciding:
            training = self.get(training_id, owner)
            if training.decision == "discarded":
                return training
            child = self._child(training)
            if training.decision == "kept":
                raise TrainingStateError("The new model is in your zoo. Undo that first.")
            self._decide(replace(training, decision="discarded"))
            with contextlib.suppress(OSError):
                shutil.rmtree(child) if child.is_dir() else child.unlink()
        return self.get(training_id)

    def undo(self, training_id: str, owner: str | None = None) -> Training:
        """Go back to the parent: what was kept leaves the zoo, and can be kept again.

        Raises
        ------
        TrainingStateError
            Nothing was kept.
        """
        with self._deciding:
            training = self.get(training_id, owner)
            if training.decision != "kept":
                raise TrainingStateError("Nothing of this training is in your zoo.")
            with contextlib.suppress(NotFoundError):  # its owner removed it already
                self._remove_model(training.kept, None)
            self._decide(replace(training, decision="", kept=""))
        return self.get(training_id)

    def close(self) -> None:
        """End: what runs stops after its next step and, like what waits, can be resumed."""
        with self._lock:
            self.closed = True
        self._queue.close()
        self._server.close()

    def _place(self, training_id: str) -> Folder:
        return Folder(self._folder / training_id)

    def _reader(self, training_id: str) -> Reader:
        return self._readers.setdefault(training_id, Reader(self._place(training_id).events))

    def _records(self) -> Iterator[Training]:
        """What was asked, of all owners; how far each is has to be looked for."""
        for place in self._folder.glob("*"):
            if place.name.isalnum() and (found := Folder(place).read()) is not None:
                yield found

    def _look(self, training_id: str) -> Training | None:
        """A training as it is; one whose server was killed ends when its process has stopped."""
        place = self._place(training_id)
        with self._lock:
            live = self._queue.get(training_id)
            training = live.training if live is not None else self._queue.read(training_id)
            if training is None:
                return None
            stopping = live is not None and live.wanted is not None
            lost = live is None and training.active and not self._server.lives(training.server)
            if lost and place.lives():
                lost, stopping = False, True
            progress, end = self._reader(training_id).look()
            if lost:
                training = ended_as(training, end, SERVER_ENDED)
                with contextlib.suppress(BiozooError):
                    place.write(training)
        return replace(training, progress=progress, stopping=stopping)

    def _refuse_when_closed(self) -> None:
        if self.closed:
            raise TrainingStateError("The server is ending. Start it again.")

    def _child(self, training: Training) -> Path:
        child = self._place(training.id).path / training.progress.child
        if training.state != "done" or not training.progress.child or not child.exists():
            raise TrainingStateError("This training has no new model that could be kept.")
        return child

    def _decide(self, training: Training) -> None:
        with self._lock:
            self._place(training.id).write(training)

    def _prune(self, owner: str) -> None:
        for one in [t for t in self.of_owner(owner) if not t.active][max(0, self._kept - 1) :]:
            with contextlib.suppress(BiozooError):
                self.delete(one.id)
