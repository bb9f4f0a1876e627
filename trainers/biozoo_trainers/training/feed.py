"""The batch of a step: made in turns with the network, or while it works on the one before."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from biozoo.closing import Closing
from biozoo_runners.torch_devices import torch_threads

if TYPE_CHECKING:
    from ..patches import Batch, Patches

__all__ = ["Feed"]


class Feed(Closing):
    """Batches by step; the same ones whoever makes them, and when.

    Parameters
    ----------
    patches
        Where they come from.
    last
        Step after which nothing is made ahead.
    part, parts
        Which of several devices this is: each has a batch of its own.
    ahead
        Whether the next batch is made while the network works on this one: for a network on a
        card. One on the CPU takes all cores, and its threads wait for the slowest of them: where
        one shares its core with the making of patches, all are held up for longer than that takes.
    """

    def __init__(
        self, patches: Patches, last: int, part: int = 0, parts: int = 1, *, ahead: bool = False
    ) -> None:
        self._patches, self._last, self._is_ahead = patches, last, ahead
        self._part, self._parts = part, parts
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="patches")
        self._next: tuple[int, int, Future[Batch]] | None = None

    def get(self, step: int, count: int) -> Batch:
        """The batch of a step, of `count` patches."""
        made, self._next = self._next, None
        if made is not None and made[:2] == (step, count):
            batch = made[2].result()
        else:
            if made is not None:
                made[2].cancel()
            batch = self._pool.submit(self._make, step, count).result()
        if self._is_ahead and step + 1 < self._last:
            self._next = (step + 1, count, self._pool.submit(self._make, step + 1, count))
        return batch

    def _make(self, step: int, count: int) -> Batch:
        # Patches are small: more threads take longer to meet than they save, and they would be
        # others than the network's own, which stay with the main thread.
        with torch_threads(1):
            return self._patches.batch(step * self._parts + self._part, count)

    def close(self) -> None:
        """Stop making batches."""
        self._pool.shutdown(wait=True, cancel_futures=True)
