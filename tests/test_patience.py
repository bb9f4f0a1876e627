"""Exports that would not end are ended, by what they computed and not by the clock."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from biozoo_converters.exporting.patience import Overdue, computing_at_most

counted = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="not counted here")


def compute(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))


@counted
def test_computing_is_ended_although_every_exception_is_caught() -> None:
    def stubborn() -> None:
        while True:
            try:
                compute(0.05)
            except Exception:
                continue

    with pytest.raises(Overdue), computing_at_most(0.2):
        stubborn()


@counted
def test_waiting_does_not_count() -> None:
    with computing_at_most(0.2):
        time.sleep(0.6)


@counted
def test_nothing_comes_after_the_block() -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    with computing_at_most(0.2):
        pass
    compute(0.4)
    assert signal.getsignal(signal.SIGVTALRM) == before


def test_another_thread_is_left_alone() -> None:
    done = []

    def work() -> None:
        with computing_at_most(0.05):
            compute(0.2)
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


@counted
def test_an_export_that_is_not_done_says_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    import numpy as np

    from biozoo_converters.exporting import export_dynamo
    from biozoo_converters.exporting.diagnosis import ExportError
    from biozoo_converters.exporting.export import export_onnx
    from biozoo_converters.networks.network import ExportRequest

    class Slow(torch.nn.Module):
        def forward(self, x):  # type: ignore[no-untyped-def]
            compute(10)
            return x + 1

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neck = Slow()

        def forward(self, x):  # type: ignore[no-untyped-def]
            return self.neck(x)

    array = np.zeros((1, 1, 8, 8), "float32")
    request = ExportRequest((array,), ("raw",), ("prediction",), ({0: ("batch", 1, 1)},))
    export_onnx(torch.nn.ReLU().eval(), request, "dynamo")  # torch imports half of itself
    monkeypatch.setattr(export_dynamo, "MOST_SECONDS", 1.0)
    with pytest.raises(ExportError, match=r"neck: torch\.export .* after 1 s \(test_patience\.py"):
        export_onnx(Net().eval(), request, "dynamo")
