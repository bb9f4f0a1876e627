"""Tiles kept from an earlier run are not computed again, and never change a result."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import biozoo
import biozoo_runners
from biozoo.errors import Cancelled, MissingFileError, OutOfMemoryError, StorageError
from biozoo_runners import Progress, Runner
from biozoo_runners.images import atomic
from biozoo_runners.kept_tiles import TileFolder, model_digest
from packages import SIGMOID, ZERO_MEAN, make_package

Array = np.ndarray[Any, Any]
TILE = {"y": 16, "x": 16}
OWN_STATISTICS = {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["channel", "y", "x"]}}


def noise(*shape: int, seed: int = 7) -> Array:
    return np.random.default_rng(seed).random(shape, np.float32)


class Counted:
    """Counts what a runner's backend computes, and may stop it: see `after`."""

    def __init__(self, runner: Runner) -> None:
        self.tiles = 0
        self._run = runner.backend.run
        runner.backend.run = self.run  # type: ignore[method-assign]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.tiles += 1
        return self._run(inputs)

    def after(self, tiles: int) -> Any:
        return lambda: self.tiles >= tiles

    def since(self) -> int:
        tiles, self.tiles = self.tiles, 0
        return tiles


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package that normalises by the whole image, before and after its network."""
    return make_package(
        tmp_path / "tiny",
        halo=1,
        outputs=2,
        preprocessing=[ZERO_MEAN],
        postprocessing=[SIGMOID, OWN_STATISTICS],
        validate=False,
    )


@pytest.fixture
def tiny(folder: Path) -> Iterator[Runner]:
    with biozoo_runners.load(folder, device="cpu") as runner:
        yield runner


def same(got: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert list(got) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name].values, array.values, strict=True)


def test_a_stopped_run_goes_on_where_it_was_with_the_same_result(
    tiny: Runner, tmp_path: Path
) -> None:
    """Over several planes: the finished plane and the tiles of the next are not computed again."""
    image, kept = noise(3, 60, 50), TileFolder(tmp_path / "kept")
    expected = tiny(image, axes="zyx", tile=TILE)
    total = expected.report.tiles * expected.report.items
    count = Counted(tiny)
    with pytest.raises(Cancelled):
        tiny(image, axes="zyx", tile=TILE, kept=kept, cancelled=count.after(27))
    assert (count.since(), len(kept)) == (27, 27)
    seen: list[Progress] = []
    got = tiny(image, axes="zyx", tile=TILE, kept=kept, on_progress=seen.append)
    same(got, expected)
    assert count.since() == total - 27
    assert seen[0] == Progress(0, total, "running", 0)
    assert seen[27] == Progress(27, total, "running", 27)
    assert seen[-1] == Progress(total, total, "done", 27)
    assert f"27 of {total} tiles were kept from an earlier run" in got.report.notes
    same(tiny(image, axes="zyx", tile=TILE, kept=kept), expected)
    assert count.since() == 0


def test_a_run_that_keeps_tiles_gives_what_one_without_gives(tiny: Runner, tmp_path: Path) -> None:
    image = noise(45, 70)
    got = tiny(image, tile=TILE, kept=TileFolder(tmp_path / "kept"))
    expected = tiny(image, tile=TILE)
    same(got, expected)
    assert got.report.notes == expected.report.notes


@pytest.mark.parametrize("what", ["pixel", "tile", "scale", "weights", "description", "threads"])
def test_tiles_of_another_run_are_never_taken(tiny: Runner, tmp_path: Path, what: str) -> None:
    """One pixel, another tile or scale, a changed model or machine: everything is computed."""
    image, kept = noise(40, 40), TileFolder(tmp_path / "kept")
    options: dict[str, Any] = {"tile": TILE}
    tiny(image, **options, kept=kept)
    root, threads = tiny.package.root, tiny.info.threads
    if what == "pixel":
        image = image.copy()
        image[39, 39] += 1e-6
    elif what == "tile":
        options["tile"] = {"y": 20, "x": 16}
    elif what == "scale":
        options["scale"] = 0.5
    elif what == "weights":
        path = root / "weights.onnx"
        path.write_bytes(path.read_bytes() + b"\x12\x00")  # producer_name = ""
    elif what == "description":
        (root / "rdf.yaml").write_text((root / "rdf.yaml").read_text() + "\n")
    else:
        threads += 1
    package = biozoo.ModelPackage.from_folder(root)  # as it is now, whatever hashes it declares
    with biozoo_runners.load(package, device="cpu", threads=threads) as other:
        count = Counted(other)
        same(other(image, **options, kept=kept), other(image, **options))
        assert count.tiles == 2 * len(other.plan(image, **options))


def test_planes_that_look_the_same_are_kept_each_for_itself(tiny: Runner, tmp_path: Path) -> None:
    got = tiny(np.ones((4, 20, 20), np.uint8), axes="zyx", kept=TileFolder(tmp_path / "kept"))
    assert not [note for note in got.report.notes if "earlier run" in note]


def test_a_damaged_tile_is_computed_again(tiny: Runner, tmp_path: Path) -> None:
    """Cut short, emptied or with wrong bytes, as after a loss of power."""
    image, kept = noise(40, 40), TileFolder(tmp_path / "kept")
    expected = tiny(image, tile=TILE, kept=kept)
    files = sorted(kept.folder.rglob("*.npz"))
    files[0].write_bytes(files[0].read_bytes()[:-30])
    files[1].write_bytes(b"")
    whole = bytearray(files[2].read_bytes())
    whole[len(whole) // 2] ^= 1
    files[2].write_bytes(whole)
    files[3].write_bytes(bytes(len(whole)))
    count = Counted(tiny)
    same(tiny(image, tile=TILE, kept=kept), expected)
    assert count.tiles == 4


def test_memory_that_ends_makes_smaller_tiles_which_are_kept_too(
    tiny: Runner, tmp_path: Path
) -> None:
    image, kept = noise(60, 60), TileFolder(tmp_path / "kept")
    expected = tiny(image, tile={"y": 16, "x": 16})
    count, run = Counted(tiny), tiny.backend.run

    def small(inputs: Mapping[str, Array]) -> dict[str, Array]:
        if next(iter(inputs.values())).size > 16 * 16:
            raise OutOfMemoryError("out of memory")
        return run(inputs)

    tiny.backend.run = small  # type: ignore[method-assign,assignment]
    same(tiny(image, tile={"y": 16, "x": 32}, kept=kept), expected)
    assert count.since() == len(kept) == expected.report.tiles
    tiny._too_large = None  # as after a new start
    got = tiny(image, tile={"y": 16, "x": 32}, kept=kept)
    same(got, expected)
    assert count.since() == 0
    assert got.report.notes[0].startswith("ran out of memory on cpu with tiles of y 16, x 32")


def test_a_full_disk_ends_the_run_with_a_sentence_and_leaves_whole_tiles(
    tiny: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, kept = noise(40, 40), TileFolder(tmp_path / "kept")
    expected = tiny(image, tile=TILE)
    written, replace = [], atomic.os.replace

    def full(source: Any, target: Any) -> None:
        written.append(target)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", full)
        with pytest.raises(StorageError, match="the disk is full"):
            tiny(image, tile=TILE, kept=kept)
    assert len([*kept.folder.rglob("*.*")]) == len(kept) == 2
    count = Counted(tiny)
    same(tiny(image, tile=TILE, kept=kept), expected)
    assert count.tiles == expected.report.tiles - 2


def test_the_digest_is_of_what_runs_and_not_of_pictures(folder: Path) -> None:
    def digest() -> str:
        return model_digest(biozoo.ModelPackage.from_folder(folder))

    first = digest()
    (folder / "cover.png").write_bytes(b"another")
    (folder / "README.md").write_text("another")
    assert digest() == first
    (folder / "weights.onnx").unlink()
    with pytest.raises(MissingFileError, match=r"weights\.onnx"):
        digest()


def test_without_a_store_nothing_is_hashed(tiny: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biozoo_runners.pipeline.model_digest", None)
    monkeypatch.setattr("biozoo_runners.kept_tiles.hashlib", None)
    tiny(noise(20, 20), tile=TILE)
