"""Memory that ends in the network halves the tile, and the run goes on; nothing else is retried."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import weakref
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from onnx import TensorProto, helper, numpy_helper

import biozoo_runners
from biozoo.errors import Cancelled, OutOfMemoryError
from biozoo_runners import Progress, Runner
from biozoo_runners import stitch as stitching
from biozoo_runners.batch import run_batch
from biozoo_runners.prepare import as_image, fit
from biozoo_runners.retile import halved
from biozoo_runners.tiling import plan_tiles
from packages import change_rdf, make_package, read_rdf, sha256

Array = np.ndarray[Any, Any]


def noise(*shape: int) -> Array:
    return np.random.default_rng(7).random(shape, np.float32)


class Small:
    """Stands before a backend: memory ends for inputs of more than `limit` pixels."""

    def __init__(self, runner: Runner, limit: int, *, kind: type[Exception] = OutOfMemoryError):
        self.limit, self.kind = limit, kind
        self.shapes: list[tuple[int, ...]] = []
        self.failed = self.freed = 0
        self._run, self._backend = runner.backend.run, runner.backend
        self._backend.run = self.run  # type: ignore[method-assign]
        self._backend.free_cached = self.free  # type: ignore[method-assign]

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        shape = next(iter(inputs.values())).shape
        self.shapes.append(shape)
        if prod(shape) > self.limit:
            self.failed += 1
            raise self.kind("CUDA out of memory. Tried to allocate 20.00 GiB")
        return self._run(inputs)

    def free(self) -> None:
        self.freed += 1


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Runner]:
    """A model that takes 8 + n * 4 pixels along y and x, with a halo of 1."""
    with biozoo_runners.load(make_package(tmp_path / "tiny", halo=1), device="cpu") as runner:
        yield runner


def test_the_tile_is_halved_and_the_run_goes_on(tiny: Runner) -> None:
    """The result is that of the small tile from the start, and the report says what happened."""
    image = noise(120, 120)
    expected = tiny(image, tile={"y": 64, "x": 32})
    memory = Small(tiny, 64 * 32)
    got = tiny(image, tile={"y": 64, "x": 64})
    np.testing.assert_array_equal(got["prediction"], expected["prediction"])
    assert memory.shapes[:2] == [(1, 1, 64, 64), (1, 1, 64, 32)]
    assert (memory.failed, memory.freed) == (1, 1)
    report = got.report
    assert report.plan == expected.report.plan
    assert report.tiles == expected.report.tiles
    assert report.notes[0] == (
        "ran out of memory on cpu with tiles of y 64, x 64: went on with y 64, x 32, "
        "smaller than the asked --tile x=64"
    )
    assert report.notes[0] in str(report)
    assert report.asked.tile == {"y": 64, "x": 64}


def test_without_an_asked_tile_too(tiny: Runner) -> None:
    """The tile that the plan chose is halved as well, several times where it must be."""
    image = noise(100, 60)
    expected = tiny(image, tile={"y": 28, "x": 32})
    memory = Small(tiny, 1000)
    got = tiny(image)
    assert memory.shapes[:3] == [(1, 1, 104, 64), (1, 1, 52, 64), (1, 1, 52, 32)]
    assert memory.shapes[3] == (1, 1, 24, 32)
    assert "with tiles of y 104, x 64, then y 52, x 64, then y 52, x 32: went on with" in str(
        got.report
    )
    np.testing.assert_allclose(got["prediction"], expected["prediction"], rtol=1e-5)


@pytest.mark.parametrize("kind", [MemoryError, OutOfMemoryError])
def test_whatever_says_that_memory_ended(tiny: Runner, kind: type[Exception]) -> None:
    """Python's own error, and the backend's."""
    memory = Small(tiny, 600, kind=kind)
    tiny(noise(60, 60))
    assert memory.failed == 3


def test_another_error_is_no_reason_for_smaller_tiles(tiny: Runner) -> None:
    memory = Small(tiny, 0, kind=RuntimeError)
    with pytest.raises(RuntimeError):
        tiny(noise(60, 60))
    assert memory.failed == 1


# --------------------------------------------------------------------------- which axis, how far


@pytest.mark.parametrize(
    ("options", "image", "tile", "expected"),
    [
        # the largest axis; of equal ones the last
        ({"size": (8, 4)}, (90, 90), {"y": 64, "x": 64}, {"y": 64, "x": 32}),
        ({"size": (8, 4)}, (90, 90), {"y": 64, "x": 32}, {"y": 32, "x": 32}),
        ({"axes": "bczyx", "size": (8, 4)}, (30, 90, 90), {"z": 16, "y": 32, "x": 24},
         {"z": 16, "y": 16, "x": 24}),
        # half is not allowed: the next one below, and if there is none the smallest
        ({"size": (10, 7)}, (90, 90), {"y": 17, "x": 45}, {"y": 17, "x": 17}),
        ({"size": (40, 8)}, (90, 90), {"y": 40, "x": 64}, {"y": 40, "x": 40}),
        # the halo leaves nothing of a smaller tile
        ({"size": (18, 2), "halo": 8, "kernel": 5}, (90, 90), {"y": 18, "x": 34},
         {"y": 18, "x": 18}),
        # one axis is fixed, or at its smallest
        ({"size": {"y": 64, "x": (8, 4)}}, (90, 90), {"x": 32}, {"y": 64, "x": 16}),
        ({"size": {"y": (64, 8), "x": (8, 4)}}, (90, 90), {"y": 64, "x": 32}, {"y": 64, "x": 16}),
        # several inputs, an output of half the size, valid convolutions
        ({"size": (8, 4), "inputs": 2}, (90, 90), {"y": 64, "x": 32}, {"y": 32, "x": 32}),
        ({"size": (8, 4), "scale": 2}, (90, 90), {"y": 64, "x": 32}, {"y": 32, "x": 32}),
        ({"size": (8, 4), "valid": True}, (90, 90), {"y": 64, "x": 32}, {"y": 32, "x": 32}),
    ],
)  # fmt: skip
def test_what_is_halved(
    tmp_path: Path,
    options: dict[str, Any],
    image: tuple[int, ...],
    tile: dict[str, int],
    expected: dict[str, int],
) -> None:
    """And the halved run equals one with that tile from the start."""
    pixels: Any = noise(*image)
    if options.get("inputs", 1) > 1:
        pixels = {"raw": pixels, "raw1": noise(*image)}
    with biozoo_runners.load(make_package(tmp_path / "p", **options), device="cpu") as runner:
        letters = "zyx"[-len(image) :]
        right = runner(pixels, axes=letters, tile={k: v for k, v in expected.items() if k in tile})
        memory = Small(runner, prod(expected.values()))
        got = runner(pixels, axes=letters, tile=tile)
        assert memory.failed == 1
        assert dict(zip(letters, memory.shapes[-1][2:], strict=True)) == expected
        np.testing.assert_array_equal(got["prediction"], right["prediction"])


def test_halving_ends_at_the_smallest_tile(tmp_path: Path) -> None:
    """Every plan on the way is one that the model allows, and smaller than the one before."""
    with biozoo_runners.load(make_package(tmp_path / "p", halo=2, kernel=5), device="cpu") as r:
        sizes = fit(r.geometry, as_image(noise(300, 200), "yx")).sizes
        plan, pixels = plan_tiles(r.geometry, sizes), []
        while plan is not None:
            for g in plan.grid:
                assert (g.tile - 8) % 4 == 0
                assert g.inner > 0
                assert g.starts[-1] + g.inner >= g.size
            pixels.append(prod(g.tile for g in plan.grid))
            made = halved(r.geometry, sizes, plan)
            if made is None:
                break
            plan = made
        assert pixels == sorted(set(pixels), reverse=True)
        assert [g.tile for g in plan.grid] == [8, 8]


def test_a_fixed_size_cannot_be_smaller(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "fixed", size=32, halo=1)
    with biozoo_runners.load(folder, device="cpu") as runner:
        memory = Small(runner, 10)
        with pytest.raises(OutOfMemoryError) as caught:
            runner(noise(90, 90))
    assert (memory.failed, memory.freed) == (1, 0)
    told = caught.value.message
    assert "'tiny' ran out of memory on cpu with a tile of y 32, x 32, and the model takes" in told
    assert "no smaller one. Close other programs" in told
    assert "The framework says CUDA out of memory. Tried" in told
    assert caught.value.__cause__ is not None


def test_the_smallest_tile_is_the_last_that_is_tried(tiny: Runner) -> None:
    memory = Small(tiny, 10)
    with pytest.raises(OutOfMemoryError, match=r"even with the smallest .* takes \(y 8, x 8\)"):
        tiny(noise(60, 60))
    assert memory.shapes[-1] == (1, 1, 8, 8)
    memory.limit = 10_000  # other programs were closed: the runner is as good as before
    assert tiny(noise(60, 60)).report.notes


# ------------------------------------------------------------------ what is kept, what is told


class SmallAfter(Small):
    """Memory ends from the call of this number on."""

    calls = 0

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        self.calls += 1
        if self.calls <= 8:
            self.shapes.append(next(iter(inputs.values())).shape)
            return self._run(inputs)
        return super().run(inputs)


def test_finished_positions_are_kept(tiny: Runner) -> None:
    """Memory ends in the third of four planes, which starts again; two are not run twice."""
    image = noise(4, 56, 56)
    expected = tiny(image, axes="zyx", tile={"y": 32, "x": 16})
    memory = SmallAfter(tiny, 32 * 16)
    seen: list[Progress] = []
    got = tiny(image, axes="zyx", tile={"y": 32, "x": 32}, on_progress=seen.append)
    np.testing.assert_allclose(got["prediction"], expected["prediction"], rtol=1e-5)
    per_plane = expected.report.tiles
    assert memory.shapes.count((1, 1, 32, 32)) == 2 * 4 + 1
    assert memory.shapes.count((1, 1, 32, 16)) == 2 * per_plane
    # The bar begins the third plane anew in terms of the new plan, and never goes beyond its end.
    assert all(0 <= p.done <= p.total for p in seen)
    assert [p.done for p in seen[:9]] == list(range(9))
    assert {p.total for p in seen[:9]} == {16}
    assert [p.done for p in seen[9:]] == [*range(2 * per_plane, 4 * per_plane + 1)]
    assert {p.total for p in seen[9:]} == {4 * per_plane}
    assert seen[-1].stage == "done"


def test_a_run_can_be_stopped_after_memory_ended(tiny: Runner) -> None:
    memory = Small(tiny, 600)
    with pytest.raises(Cancelled):
        tiny(noise(90, 90), cancelled=lambda: memory.failed > 1)


def test_the_next_images_begin_with_the_smaller_tile(tiny: Runner, tmp_path: Path) -> None:
    """A batch fails once, not once for each image."""
    images = []
    for name in "abc":
        images.append(tmp_path / f"{name}.tif")
        tifffile.imwrite(images[-1], noise(60, 60), metadata={"axes": "YX"})
    memory = Small(tiny, 600)
    done = run_batch(tiny, images, tmp_path / "out/")
    assert done.ok
    assert memory.failed == 3  # 60 x 64, 32 x 64, 32 x 32 with the first image
    first, second, third = (f.report for f in done.files)
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.plan == second.plan == third.plan
    assert first.notes[0].startswith("ran out of memory on cpu with tiles of y 64, x 64, then")
    assert second.notes[0] == (
        "an earlier image ran out of memory on cpu: tiles of y 32, x 16 in place of y 64, x 64"
    )
    assert second.notes[0] in str(done)


def test_an_image_that_needs_less_is_left_alone(tiny: Runner) -> None:
    Small(tiny, 600)
    tiny(noise(60, 60))
    assert tiny(noise(16, 16)).report.notes == tiny(noise(16, 16), tile={"x": 20}).report.notes


# ----------------------------------------------------------------------------- what is not retried


def test_a_result_that_does_not_fit_is_no_matter_of_tiles(
    tiny: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> Any:
        raise OutOfMemoryError("The result 'prediction' of shape (1, 1) needs 99 GiB")

    monkeypatch.setattr(stitching, "allocate", none)
    memory = Small(tiny, 10**9)
    with pytest.raises(OutOfMemoryError, match="needs 99 GiB"):
        tiny(noise(60, 60))
    assert len(memory.shapes) == 1


def test_a_result_gets_the_memory_that_the_network_keeps(
    tiny: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tile fits, the result does only after the network gave its memory back."""
    expected = tiny(noise(60, 60))
    memory, real = Small(tiny, 10**9), stitching.allocate

    def once_free(*wanted: Any) -> Any:
        if not memory.freed:
            raise OutOfMemoryError("The result 'prediction' needs more than is free")
        return real(*wanted)

    monkeypatch.setattr(stitching, "allocate", once_free)
    got = tiny(noise(60, 60))
    assert (len(memory.shapes), memory.freed) == (2, 1)
    assert got.report.plan == expected.report.plan
    np.testing.assert_array_equal(got["prediction"], expected["prediction"])


def test_memory_is_free_before_the_next_try(tiny: Runner) -> None:
    """The exception is gone, and with it the arrays that its frames held."""
    memory = Small(tiny, 600)
    held: list[weakref.ref[Any]] = []
    alive: list[int] = []

    class Held:
        pass

    def run(inputs: dict[str, Array], real: Any = memory.run) -> dict[str, Array]:
        of_the_tile = Held()
        held.append(weakref.ref(of_the_tile))
        made: dict[str, Array] = real(inputs)
        return made

    tiny.backend.run = run  # type: ignore[method-assign]
    tiny.backend.free_cached = lambda: alive.append(  # type: ignore[method-assign]
        sum(ref() is not None for ref in held)
    )
    tiny(noise(60, 60))
    assert alive == [0, 0, 0]


# ---------------------------------------------------------------------------- with ONNX Runtime


def test_onnxruntime_begins_with_a_new_session(tiny: Runner) -> None:
    """It gives memory back in no other way."""
    image = noise(60, 60)
    expected = tiny(image, tile={"y": 32, "x": 16})
    backend: Any = tiny.backend
    first = backend._session

    class Failing:
        def run(self, names: Any, feed: Any) -> Any:
            raise RuntimeError("std::bad_alloc")

        def __getattr__(self, name: str) -> Any:
            return getattr(first, name)

    backend._session = Failing()
    got = tiny(image, tile={"y": 32, "x": 32})
    assert backend._session is not first
    np.testing.assert_array_equal(got["prediction"], expected["prediction"])
    assert got.report.notes[0].startswith("ran out of memory on cpu with tiles of y 32, x 32")


def widen(folder: Path, channels: int) -> None:
    """Put a network of many features in the place of the blur: its tiles take far more than they
    give.
    """
    nodes = [
        helper.make_node("Conv", ["raw", "first"], ["wide"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["wide"], ["bent"]),
        helper.make_node("Conv", ["bent", "second"], ["prediction"]),
    ]
    weights = {
        "first": np.full((channels, 1, 3, 3), 1 / 9, np.float32),
        "second": np.full((1, channels, 1, 1), 1 / channels, np.float32),
    }
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ("b", 1, f"{name}y", f"{name}x"))
        for name in ("raw", "prediction")
    ]
    made = helper.make_graph(
        nodes,
        "g",
        ports[:1],
        ports[1:],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "weights.onnx").write_bytes(model.SerializeToString())
    weights_entry = read_rdf(folder)["weights"]
    weights_entry["onnx"]["sha256"] = sha256(folder / "weights.onnx")
    change_rdf(folder, weights=weights_entry)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of address space is Linux's")
def test_memory_that_really_ends(tmp_path: Path) -> None:
    """In a process with little memory the first tile does not fit; smaller ones do."""
    folder = make_package(tmp_path / "wide", halo=1)
    widen(folder, 64)
    code = f"""
        import resource
        from pathlib import Path
        import numpy as np
        import biozoo_runners

        image = np.random.default_rng(7).random((1000, 1000), np.float32)
        with biozoo_runners.load({str(folder)!r}, device="cpu", threads=1) as model:
            model(image[:64, :64], axes="yx")
            status = Path("/proc/self/status").read_text().splitlines()
            now = dict(line.split(":", 1) for line in status)["VmSize"].split()[0]
            limit = int(now) * 1024 + 200_000_000  # a tile takes 260 MB twice
            _, most = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (limit, most))
            result = model(image, axes="yx")
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            print(result.report.notes)
        with biozoo_runners.load({str(folder)!r}, device="cpu", threads=1) as model:
            whole = model(image, axes="yx")["prediction"]
        print("equal", np.allclose(result["prediction"], whole, rtol=1e-5))
        """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert "ran out of memory on cpu with tiles of y 1004, x 1004" in answer.stdout
    assert "equal True" in answer.stdout
