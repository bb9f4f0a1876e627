"""Models being added to the zoo: one download per model, however many people ask for it.

An addition belongs to the server and not to a session: what is added is there for everyone. It is
done by a thread; its numbers are written by that thread and read by others.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from biozoo import Zoo
from biozoo.download import file_name
from biozoo.errors import BiozooError, Cancelled, NotFoundError

if TYPE_CHECKING:
    from biozoo import ModelPackage, Settings
    from biozoo.download import Progress

__all__ = ["Addition", "Additions"]

State = Literal["running", "done", "failed", "cancelled"]

AT_ONCE = 2
PATIENCE = 2.0  # seconds that the end of the server waits for them
KEPT = 100  # ended ones that can still be asked for

Add = Callable[[str, "Progress"], object]
Sizes = Callable[[str], "dict[str, int]"]


@dataclass
class Addition:
    """One model on its way into the zoo.

    Attributes
    ----------
    id, model
        Of this addition, and of the model.
    state
        "running" also while it waits for others.
    words
        What is being done, for a reader.
    error
        Why it failed and what to do.
    """

    id: str
    model: str
    state: State = "running"
    words: str = "Waiting for another model to be added."
    error: str = ""
    _files: dict[str, tuple[int, int | None]] = field(default_factory=dict, repr=False)
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def done(self) -> int:
        """Bytes that are here."""
        return sum(done for done, _ in tuple(self._files.values()))

    @property
    def total(self) -> int | None:
        """Bytes in all, None while that of a file is not known."""
        sizes = [size for _, size in tuple(self._files.values())]
        known = [size for size in sizes if size is not None]
        return sum(known) if known and len(known) == len(sizes) else None

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended; False where `seconds` passed first."""
        return self._ended.wait(seconds)

    def expect(self, sizes: dict[str, int]) -> None:
        """Take note of how large files will be, by their name."""
        for name, size in sizes.items():
            self._files.setdefault(name, (0, size))

    def report(self, what: str, done: int, total: int | None) -> None:
        """Take note of how far it is. Raises Cancelled where it was asked to stop."""
        if self._stop.is_set():
            raise Cancelled("Adding the model")
        expected = self._files.get(what, (0, None))[1]
        self._files[what] = (done, total or (expected if expected and expected >= done else None))
        self.words = f"Getting {what}." if " " not in what else f"{what.capitalize()}."
        if total is not None and done >= total and self._all_here():
            self.words = "Checking the package."

    def _all_here(self) -> bool:
        return all(size is not None and done >= size for done, size in self._files.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "id": self.id,
            "model": self.model,
            "state": self.state,
            "stopping": self.stopping and self.state == "running",
            "done": self.done,
            "total": self.total,
            "words": self.words,
            "error": self.error,
        }


class Additions:
    """The additions of one server.

    Parameters
    ----------
    settings
        The zoo that models are added to.
    name
        What a model of the list is called where it is got from.
    sizes
        Model id -> bytes of its weights files by their names, as far as they are known.
    """

    def __init__(self, settings: Settings, *, name: Callable[[str], str], sizes: Sizes) -> None:
        self._settings, self._name, self._sizes = settings, name, sizes
        self._all: OrderedDict[str, Addition] = OrderedDict()
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(AT_ONCE)

    def start(self, model: str) -> Addition:
        """Add a model of the list; the addition under way where there is one.

        Raises
        ------
        NotFoundError
            Where the list has no such model.
        """
        name = self._name(model)
        with self._lock:
            for running in self._all.values():
                if running.model == model and running.state == "running" and not running.stopping:
                    return running
            addition = Addition(secrets.token_hex(8), model)
            self._all[addition.id] = addition
            ended = [a.id for a in self._all.values() if a.state != "running"]
            for old in ended[:-KEPT]:
                del self._all[old]
        # A daemon: the end of the server does not wait for a host that is silent. What it leaves
        # behind is removed by the next one who adds a model.
        threading.Thread(
            target=self._do, args=(addition, name), name="biozoo-add", daemon=True
        ).start()
        return addition

    def get(self, addition: str) -> Addition:
        """The addition of this id.

        Raises
        ------
        NotFoundError
            Where there is none, or not any more.
        """
        with self._lock:
            if addition in self._all:
                return self._all[addition]
        raise NotFoundError(
            kind="addition", got=addition, known=(), hint="The server was started again; add anew."
        )

    def of_model(self, model: str) -> Addition | None:
        """The addition of this model that is under way, None where there is none."""
        with self._lock:
            running = [a for a in self._all.values() if a.model == model and a.state == "running"]
        return running[-1] if running else None

    def cancel(self, addition: str) -> Addition:
        """Ask it to stop: it does with the next piece that arrives, and leaves nothing behind."""
        found = self.get(addition)
        if found.state == "running":
            found._stop.set()
            found.words = "Stopping."
        return found

    def close(self) -> None:
        """Stop all of them, and give them a moment to clean up."""
        with self._lock:
            running = [a for a in self._all.values() if a.state == "running"]
        for addition in running:
            addition._stop.set()
        until = time.monotonic() + PATIENCE
        for addition in running:
            addition.wait(max(0.0, until - time.monotonic()))

    def _do(self, addition: Addition, name: str) -> None:
        with self._free:
            self._add(addition, name)

    def _add(self, addition: Addition, name: str) -> None:
        try:
            if addition.stopping:
                raise Cancelled("Adding the model")
            addition.words = "Asking for its files."
            addition.expect(self._sizes(addition.model))
            Zoo(self._settings).add(name, progress=addition.report)
            addition.words, addition.state = "It is in your zoo.", "done"
        except Cancelled as exc:
            addition.words, addition.state = exc.message, "cancelled"
        except BiozooError as exc:
            addition.words, addition.error = "It was not added.", exc.message
            addition.state = "failed"
        except Exception as exc:  # a thread must not end without telling the reader
            logging.getLogger(__name__).exception("adding %s", addition.model)
            addition.words = "It was not added."
            addition.error = (
                f"Adding it failed in a way nobody foresaw: {type(exc).__name__}: {exc}"
            )
            addition.state = "failed"
        finally:
            addition._ended.set()


def weights_sizes(package: ModelPackage) -> dict[str, int]:
    """Bytes of the weights files by the names that progress is told with, as far as known."""
    from biozoo.peek import weights_size

    found = {}
    weights = package.raw.get("weights")
    for name, entry in weights.items() if isinstance(weights, dict) else ():
        source = entry.get("source") if isinstance(entry, dict) else None
        size = weights_size(package, str(name))
        if source and size is not None:
            found[file_name(str(source))] = size
    return found
