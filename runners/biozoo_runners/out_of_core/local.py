"""Tasks done in this process; reading, computing and writing overlap where a stage is split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from biozoo.closing import Closing
from biozoo.errors import Cancelled

from ..memory import trim_heap
from .stages import SplitStage, Work, naming

__all__ = ["LocalExecutor"]

#: Seconds between two looks at whether to stop, while waiting.
LOOK = 0.1


class LocalExecutor(Closing):
    """Does tasks in this process, in their order.

    Of a split stage the next task is read and the previous one written, in a thread each, while one
    is computed in the caller's thread. At most two tasks' pixels (computed, and read ahead) and two
    tasks' results (made, and written) are in memory at a time.

    A stop or an interrupt (Ctrl-C) waits for the reading and the writing under way. The one
    computed ends where the stage itself looks whether to stop, or where the interrupt finds it.
    """

    notes: tuple[str, ...] = ()

    def run(
        self, work: Work, on_done: Callable[[int], None], cancelled: Callable[[], bool]
    ) -> None:
        """See `Executor.run`; of a split stage `on_done` is called by the thread that writes."""

        def check() -> None:
            if cancelled():
                raise Cancelled

        if isinstance(work.stage, SplitStage):
            _overlap(work.stage, work.tasks, on_done, check)
            return
        for task in work.tasks:
            check()
            with naming(work.stage.name, task):
                work.stage.run(task)
            trim_heap()
            on_done(task)

    def close(self) -> None:
        """Nothing outlives `run`."""


def _overlap(
    stage: SplitStage,
    tasks: Sequence[int],
    on_done: Callable[[int], None],
    check: Callable[[], None],
) -> None:
    def prepare(task: int) -> Any:
        with naming(stage.name, task):
            return stage.prepare(task)

    def write(task: int, made: Any) -> None:
        with naming(stage.name, task):
            stage.write(task, made)
        trim_heap()  # arrays of many sizes come and go in three threads: the heap keeps holes
        on_done(task)  # at once, not when the next is computed: that may be minutes later

    with (
        ThreadPoolExecutor(1, "biozoo-read") as reader,
        ThreadPoolExecutor(1, "biozoo-write") as writer,
    ):
        written: Future[None] | None = None
        coming: Future[Any] | None = reader.submit(prepare, tasks[0])
        try:
            for number, task in enumerate(tasks):
                assert coming is not None
                check()
                prepared = _result(coming, check)
                following = tasks[number + 1] if number + 1 < len(tasks) else None
                coming = None if following is None else reader.submit(prepare, following)
                with naming(stage.name, task):
                    made = stage.compute(task, prepared)
                if written is not None:
                    _result(written, check)
                written = writer.submit(write, task, made)
                del made  # freed once it is written, while the next is computed
            assert written is not None
            _result(written, check)
        except BaseException:
            # One error is told. What was being written is still noted: leaving waits for it.
            if coming is not None:
                coming.cancel()
            raise


def _result(future: Future[Any], check: Callable[[], None]) -> Any:
    """Wait for it, looking whether to stop."""
    while not wait([future], timeout=LOOK).done:
        check()
    return future.result()
