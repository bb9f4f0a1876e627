"""The models that jobs used last, loaded; the others are closed. For one thread only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from biozoo.closing import Closing
from biozoo.errors import UsageError

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_runners import Runner

Load = Callable[["ModelPackage"], "Runner"]


class LoadedModels(Closing):
    """At most `most` runners, by what their files hold."""

    def __init__(self, most: int, load: Load | None = None) -> None:
        self._most, self._load = most, load or _load
        self._runners: OrderedDict[str, tuple[Runner, ExitStack]] = OrderedDict()

    def get(self, package: ModelPackage, digest: str) -> Runner:
        """The runner of a package whose `model_digest` this is.

        Raises
        ------
        UsageError
            The files were changed while they were loaded.
        BiozooError
            See `biozoo_runners.load`.
        """
        if digest in self._runners:
            self._runners.move_to_end(digest)
            return self._runners[digest][0]
        while len(self._runners) >= self._most:  # before loading: two may not fit in memory
            self._runners.popitem(last=False)[1][1].close()
        with ExitStack() as stack:
            runner = stack.enter_context(self._load(package))
            if runner.digest != digest:  # hashed now, when what it loaded is in memory
                raise UsageError(
                    f"The files of model '{package.id}' were changed while it was loaded. "
                    "Try again once nothing writes to them."
                )
            self._runners[digest] = (runner, stack.pop_all())
        return runner

    def close(self) -> None:
        """Close all; may be called twice."""
        while self._runners:
            self._runners.popitem()[1][1].close()


def _load(package: ModelPackage) -> Runner:
    from biozoo_runners import load

    return load(package)
