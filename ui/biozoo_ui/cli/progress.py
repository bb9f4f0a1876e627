"""Progress bars on a terminal, silence elsewhere; drawn on stderr and erased at the end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

#: Called with (what, done, total or None).
Update = Callable[[str, int, int | None], None]


@contextlib.contextmanager
def progress_bar(what: str, *, wanted: bool = True) -> Iterator[Update | None]:
    """A callback (what, done, total) that draws one bar; None where nobody would see it."""
    if not (wanted and sys.stderr.isatty()):
        yield None
        return
    from rich.progress import TextColumn

    with _bar(TextColumn("{task.completed}/{task.total}")) as bar:
        task = bar.add_task(what, total=None)

        def update(stage: str, done: int, total: int | None) -> None:
            bar.update(task, description=stage, completed=done, total=total)

        yield update


@contextlib.contextmanager
def download_bar(what: str) -> Iterator[Update | None]:
    """The same in bytes. The bar appears with the first byte: most sources are on this machine."""
    if not sys.stderr.isatty():
        yield None
        return
    with contextlib.ExitStack() as stack:
        bar: Bar | None = None

        def update(name: str, done: int, total: int | None) -> None:
            nonlocal bar
            if bar is None:
                from rich.progress import DownloadColumn

                bar = stack.enter_context(_bar(DownloadColumn()))
                bar.add_task(what)
            bar.update(bar.task_ids[0], description=f"{what} {name}", completed=done, total=total)

        yield update


def _bar(count: object) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    assert isinstance(count, ProgressColumn)
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        count,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
