"""What a program that embeds the runner relies on: threads, memory given back, memory told."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

import biozoo
import biozoo_runners
from biozoo import consent
from biozoo_runners import memory
from biozoo_runners.memory import HostMemory, resident, trim_heap
from packages import change_rdf, make_package, read_rdf, sha256

Array = np.ndarray[Any, Any]

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of threads")


def noise(*shape: int) -> Array:
    return np.random.default_rng(7).random(shape, np.float32)


# --------------------------------------------------------------------------------- packages


def with_onnx(folder: Path, **more: Any) -> Path:
    return make_package(folder, validate=False, **more)


def with_torchscript(folder: Path, **more: Any) -> Path:
    from weights_torch import add_torchscript

    return add_torchscript(with_onnx(folder, **more), only=True)


def with_state_dict(folder: Path, **more: Any) -> Path:
    from weights_state_dict import add_state_dict

    return add_state_dict(with_onnx(folder, **more))


def with_keras(folder: Path, weights: str = "keras_v3", **more: Any) -> Path:
    from weights_keras import add_keras

    made = with_onnx(folder, axes="byxc", **more)
    return add_keras(made, weights, kernel=more.get("kernel", 3))


def with_saved_model(folder: Path, **more: Any) -> Path:
    return with_keras(folder, "tensorflow_saved_model_bundle", **more)


#: Backend -> how its package is made.
MAKERS: dict[str, Callable[..., Path]] = {
    "onnxruntime": with_onnx,
    "openvino": with_onnx,
    "torch": with_torchscript,
    "torch-code": with_state_dict,
    "keras": with_keras,
    "tensorflow": with_saved_model,
}


IN_PROCESS = ("onnxruntime", "openvino", "torch")


def loaded(folder: Path, backend: str, **more: Any) -> biozoo_runners.Runner:
    package = biozoo.open(folder)
    if backend == "torch-code":
        consent.grant(package)
    return biozoo_runners.load(package, device="cpu", backend=backend, **more)


# ---------------------------------------------------------------------------------- threads


def ticks(processes: list[int]) -> dict[tuple[int, int], int]:
    """Clock ticks that each thread of these processes has computed."""
    found = {}
    for pid in processes:
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                fields = (task / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # ended meanwhile
                continue
            found[pid, int(task.name)] = int(fields[11]) + int(fields[12])
    return found


@linux
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core only")
@pytest.mark.parametrize(
    ("backend", "threads"),
    [
        *((backend, threads) for backend in IN_PROCESS for threads in (1, 2)),
        ("torch-code", 1), ("torch-code", 2), ("keras", 1), ("tensorflow", 1),
    ],
)  # fmt: skip
def test_so_many_threads_compute(tmp_path: Path, backend: str, threads: int) -> None:
    """Counted are the threads that did a good part of the work: two that share it may share it
    unevenly, and beside one that does it all another one feeds it.
    """
    folder = MAKERS[backend](tmp_path / "p", channels=16, out_channels=16, kernel=9)
    channels_last = backend in ("keras", "tensorflow")
    feed = {"raw": noise(1, 160, 160, 16) if channels_last else noise(1, 16, 160, 160)}
    me = psutil.Process()
    others = set(me.children(recursive=True))  # of other tests
    with loaded(folder, backend, threads=threads) as model:
        assert model.info.threads == threads
        model.backend.run(feed)
        # Where a child computes, this process copies arrays, which counts for nothing here.
        processes = [c.pid for c in set(me.children(recursive=True)) - others] or [me.pid]
        time.sleep(0.5)  # pools spin for a while after their last work
        start = ticks(processes)
        time.sleep(0.5)
        before, spent = ticks(processes), {}
        # A thread that another test left behind and that is busy by itself counts for nothing.
        busy = {key for key in before if before[key] - start.get(key, 0) > 1}
        for _ in range(100):
            for _ in range(8):  # looking takes time as well
                model.backend.run(feed)
            now = ticks(processes)
            spent = {key: now[key] - before.get(key, 0) for key in now if key not in busy}
            if sum(spent.values()) >= 40:
                break
    share = 1 / 3 if threads == 1 else 1 / 7
    working = [n for n in spent.values() if n >= share * sum(spent.values())]
    assert len(working) == threads


@pytest.mark.parametrize("other", ["openvino", "torch", "torch-code"])
def test_two_runners_work_in_two_threads(tmp_path: Path, other: str) -> None:
    """Of different packages; each gives what it gives alone, and calls back in its own thread."""
    images = [noise(70, 60 + 4 * k) for k in range(4)]
    folders = [
        with_onnx(tmp_path / "one", id="one", halo=1),
        MAKERS[other](tmp_path / "two", id="two", channels=1, out_channels=3, halo=2, kernel=5),
    ]
    with (
        loaded(folders[0], "onnxruntime", threads=2) as one,
        loaded(folders[1], other, threads=1) as two,
    ):

        def work(model: biozoo_runners.Runner) -> list[Array]:
            tile = {"y": 32, "x": 32}
            return [model(i, axes="yx", tile=tile)["prediction"].values for i in images]

        alone = [work(one), work(two)]
        with ThreadPoolExecutor(2) as pool:
            together = [f.result() for f in [pool.submit(work, m) for m in (one, two)]]
    for expected, got in zip(alone, together, strict=True):
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_array_equal(a, b)


# -------------------------------------------------------------------------- memory given back


def heavy(folder: Path, megabytes: int) -> Path:
    """A package whose weights are large: a chain of matrices over the channels."""
    make_package(folder, channels=4, out_channels=4, validate=False)
    side = 1024
    count = megabytes * 2**20 // (4 * side * side)
    block = noise(side, side) / side
    weights = {f"w{k}": np.roll(block, k) for k in range(count)}
    weights["in"] = np.ones((4, side), np.float32) / 4
    weights["out"] = np.ones((side, 4), np.float32) / side
    weights["axes"] = np.array([2, 3])
    chain = ["in", *(f"w{k}" for k in range(count)), "out"]
    last = [helper.make_node("ReduceMean", ["raw", "axes"], ["row"], keepdims=0)]
    name = "row"
    for k, weight in enumerate(chain):
        last.append(helper.make_node("MatMul", [name, weight], [f"x{k}"]))
        name = f"x{k}"
    last += [
        helper.make_node("Unsqueeze", [name, "axes"], ["small"]),
        helper.make_node("Add", ["raw", "small"], ["prediction"]),
    ]
    ports = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ("b", 4, f"{n}y", f"{n}x"))
        for n in ("raw", "prediction")
    ]
    initial = [numpy_helper.from_array(v, k) for k, v in weights.items()]
    graph = helper.make_graph(last, "g", ports[:1], ports[1:], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (folder / "weights.onnx").write_bytes(model.SerializeToString())
    entry = read_rdf(folder)["weights"]
    entry["onnx"]["sha256"] = sha256(folder / "weights.onnx")
    change_rdf(folder, weights=entry)
    return folder


@pytest.fixture(scope="module")
def heavy_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return heavy(tmp_path_factory.mktemp("heavy"), 96)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_closed_runner_gives_its_memory_back(heavy_package: Path, backend: str) -> None:
    """96 MB of weights and what the network needed besides are gone from the process."""
    code = f"""
        import gc, numpy as np, psutil, biozoo_runners
        folder = {str(heavy_package)!r}
        image = np.ones((4, 64, 64), np.float32)
        def size():
            gc.collect()
            return psutil.Process().memory_info().rss / 2**20
        def turn():
            with biozoo_runners.load(folder, device="cpu", backend={backend!r}) as model:
                result = model(image, axes="cyx")
                return size(), result
        turn()  # what the framework loads once and keeps
        before = size()
        during, result = turn()
        print(during - before, size() - before, float(result.main.max()))
    """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    taken, kept, _ = map(float, answer.stdout.split())
    assert taken > 90
    assert kept < 0.25 * taken


def test_a_closed_runner_ends_its_process(tmp_path: Path) -> None:
    me = psutil.Process()
    before = {c.pid for c in me.children(recursive=True)}
    with loaded(with_state_dict(tmp_path / "p"), "torch-code") as model:
        model(noise(20, 20), axes="yx")
        assert {c.pid for c in me.children(recursive=True)} - before
    assert not {c.pid for c in me.children(recursive=True)} - before


# ----------------------------------------------------------------------------- memory told


@linux
def test_what_linux_tells_of_memory(tmp_path: Path) -> None:
    now, most = resident()
    assert 10_000_000 < now <= most
    assert now == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t  316112 kB\nVmRSS:\t    8908 kB\n")
    assert resident(status) == (8908 * 1024, 316112 * 1024)
    status.write_text("Name:\tpython\n")  # another system's words
    assert resident(status)[0] > 10_000_000


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Now and the most so far, for the test to set."""
    told = [100, 500]
    monkeypatch.setattr(memory, "resident", lambda: (told[0], told[1]))
    return told


def test_what_a_run_adds_below_the_peak_of_the_program(sizes: list[int]) -> None:
    """The program was larger before: the run's sizes that were looked at stand for its peak."""
    measured = HostMemory()
    sizes[0] = 180
    measured.look()
    sizes[0] = 120
    assert (measured.added, measured.peak) == (80, 500)
    sizes[0] = 50
    assert HostMemory().added == 0


def test_what_a_run_adds_where_it_sets_the_peak(sizes: list[int]) -> None:
    """Exact, even where nobody looked."""
    measured = HostMemory()
    sizes[:] = [110, 900]
    assert (measured.added, measured.peak) == (800, 900)


@linux
def test_the_report_tells_what_the_run_added(tmp_path: Path) -> None:
    """Of a network whose tile takes 64 arrays of the image's size; a small run adds far less."""
    folder = with_onnx(tmp_path / "p", out_channels=64)
    with loaded(folder, "onnxruntime") as model:
        small = model(noise(32, 32), axes="yx").report
        trim_heap()  # what earlier tests freed would be taken again, and add nothing
        large = model(noise(512, 512), axes="yx").report
    result = 64 * 512 * 512 * 4
    assert small.added_memory < 0.5 * result
    assert result <= large.added_memory < 8 * result
    assert large.peak_memory >= large.added_memory
    assert (large.child_memory, large.device_memory) == (0, None)
    assert "(this run added " in str(large)
    assert large.to_dict()["added_memory"] == large.added_memory


def test_the_report_tells_the_memory_of_a_child(tmp_path: Path) -> None:
    """The one that torch and the author's code live in."""
    with loaded(with_state_dict(tmp_path / "p"), "torch-code") as model:
        report = model(noise(20, 20), axes="yx").report
    assert report.child_memory > 100_000_000
    assert "in its child process" in str(report)
    assert report.ran.providers
