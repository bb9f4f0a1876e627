"""The next batch is made while the network works on this one."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from biozoo.closing import Closing
from biozoo_runners.torch_devices import torch_threads

if TYPE_CHECKING:
    from ..patches import Batch, Patches

__all__ = ["Feed"]


class Feed(Closing):
    """Batches by step, one ahead; the same ones whoever makes them.

    Parameters
    ----------
    patches
        Where they come from.
    last
        Step after which nothing is made ahead.
    part, parts
        Which of several devices this is: each has a batch of its own.
    """

    def __init__(self, patches: Patches, last: int, part: int = 0, parts: int = 1) -> None:
        self._patches, self._last = patches, last
        self._part, self._parts = part, parts
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="patches")
        self._ahead: tuple[int, int, Future[Batch]] | None = None

    def get(self, step: int, count: int) -> Batch:
        """The batch of a step, of `count` patches."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[:2] == (step, count):
            batch = ahead[2].result()
        else:
            if ahead is not None:
                ahead[2].cancel()
            batch = self._pool.submit(self._make, step, count).result()
        if step + 1 < self._last:
            self._ahead = (step + 1, count, self._pool.submit(self._make, step + 1, count))
        return batch

    def _make(self, step: int, count: int) -> Batch:
        # More threads would take turns with those of the network, which wait for each other.
        with torch_threads(1):
            return self._patches.batch(step * self._parts + self._part, count)

    def close(self) -> None:
        """Stop making batches."""
        self._pool.shutdown(wait=True, cancel_futures=True)
