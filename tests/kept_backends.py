"""Backends that stay open from test to test, for those whose process takes seconds to start."""

from __future__ import annotations

from typing import Any

from biozoo_runners.base import Backend
from biozoo_runners.devices import usable_cores


class Kept:
    """A backend that leaving a `with` does not close; `close` does."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.is_open = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def close(self) -> None:
        self.is_open = False
        self._backend.close()

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class KeptBackends:
    """One open backend per number of threads."""

    def __init__(self) -> None:
        self._kept: dict[int, Kept] = {}

    def open(self, cls: type[Backend], *args: Any, device: str, threads: int | None = None) -> Any:
        key = threads or usable_cores()[1]
        if device != "cpu":
            return cls.open(*args, device=device, threads=threads)
        if key not in self._kept or not self._kept[key].is_open:
            self._kept[key] = Kept(cls.open(*args, device=device, threads=threads))
        return self._kept[key]

    def end(self) -> None:
        for backend in self._kept.values():
            backend.close()
