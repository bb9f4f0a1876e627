"""The process of a training without a process: `Trainings(begin=lambda place: Scripted())`."""

from __future__ import annotations

import threading

__all__ = ["Scripted"]


class Scripted:
    """A process in words: it ends when the test says how."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.code: int | None = None
        self._ended = threading.Event()

    def tell(self, order: str) -> None:
        self.orders.append(order)

    def wait(self, seconds: float | None = None) -> int | None:
        return self.code if self._ended.wait(seconds) else None

    def end(self) -> None:
        self.finish(0)

    def finish(self, code: int) -> None:
        if self.code is None:
            self.code = code
        self._ended.set()
