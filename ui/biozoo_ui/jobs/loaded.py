"""The models that were used last, loaded: lent to one user at a time, the idle ones beyond a few
closed.

A runner does one call at a time. Who wants a model that is lent out gets another instance of it,
so that a preview does not wait for a job.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from biozoo.closing import Closing
from biozoo.errors import UsageError

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_runners import Runner

Load = Callable[["ModelPackage"], "Runner"]


class _Instance:
    """One loaded runner, or a place that is kept for one."""

    def __init__(self, digest: str) -> None:
        self.digest, self.lent = digest, True
        self.runner: Runner | None = None
        self.stack = ExitStack()


class LoadedModels(Closing):
    """Runners by what their files hold; of those that nobody uses at most `most` in all stay."""

    def __init__(self, most: int, load: Load | None = None) -> None:
        self._most, self._load = most, load or _load
        self._lock = threading.Lock()
        self._instances: list[_Instance] = []  # the longest unused first
        self._closed = False

    @contextmanager
    def lend(self, package: ModelPackage, digest: str) -> Iterator[Runner]:
        """The runner of a package whose `model_digest` this is, for the `with` block alone.

        Raises
        ------
        UsageError
            The files were changed while they were loaded.
        BiozooError
            See `biozoo_runners.load`.
        """
        instance = self._take(digest)
        try:
            if instance.runner is None:
                self._fill(instance, package)
            assert instance.runner is not None
            yield instance.runner
        finally:
            self._give_back(instance)

    def has(self, digest: str) -> bool:
        """Whether one is loaded that nobody uses."""
        with self._lock:
            return any(i.digest == digest and not i.lent for i in self._instances)

    def close(self) -> None:
        """Close all that nobody uses, and the others when they are given back."""
        with self._lock:
            self._closed = True
            gone = self._surplus(0)
        _end(gone)

    def _take(self, digest: str) -> _Instance:
        """An idle instance of this model, now lent, or a new place."""
        with self._lock:
            for instance in reversed(self._instances):
                if instance.digest == digest and not instance.lent:
                    instance.lent = True
                    return instance
            gone = self._surplus(self._most - 1)  # before loading: two may not fit in memory
            instance = _Instance(digest)
            self._instances.append(instance)
        _end(gone)
        return instance

    def _fill(self, instance: _Instance, package: ModelPackage) -> None:
        with ExitStack() as stack:
            runner = stack.enter_context(self._load(package))
            if runner.digest != instance.digest:  # hashed now, when what it loaded is in memory
                raise UsageError(
                    f"The files of model '{package.id}' were changed while it was loaded. "
                    "Try again once nothing writes to them."
                )
            instance.runner, instance.stack = runner, stack.pop_all()

    def _give_back(self, instance: _Instance) -> None:
        with self._lock:
            instance.lent = False
            self._instances.remove(instance)
            if instance.runner is not None:
                self._instances.append(instance)
            gone = self._surplus(0 if self._closed else self._most)
        _end(gone)

    def _surplus(self, most: int) -> list[_Instance]:
        """Take out idle ones, the longest unused first, until there are `most` with the lent."""
        gone = []
        for instance in [i for i in self._instances if not i.lent]:
            if len(self._instances) <= most:
                break
            self._instances.remove(instance)
            gone.append(instance)
        return gone


def _end(instances: list[_Instance]) -> None:
    for instance in instances:
        instance.stack.close()


def _load(package: ModelPackage) -> Runner:
    from biozoo_runners import load

    return load(package)
