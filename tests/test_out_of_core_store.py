"""Results on disk, shard by shard: what readers see, what a kill leaves, what damage is noticed."""

from __future__ import annotations

import errno
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biozoo.errors import ImageMismatchError, ImageReadError, StorageError
from biozoo_runners.images import open_image, pyramid, write_image
from biozoo_runners.images.ome_layout import ome_facts
from biozoo_runners.out_of_core import store as store_module
from biozoo_runners.out_of_core.levels import levels_of
from biozoo_runners.out_of_core.store import ResultStore

MICRO = {"y": "micrometer", "x": "micrometer"}


def store_of(path: Path, shape: Sequence[int], axes: str = "yx", **more: Any) -> ResultStore:
    ids = {"t": "time", "c": "channel", "z": "z", "y": "y", "x": "x"}
    more.setdefault("dtype", np.dtype("float32"))
    more.setdefault("chunks", [{"y": 256, "x": 256, "z": 16}.get(a, 1) for a in axes])
    more.setdefault("shards", [2 * c for c in more["chunks"]])
    return ResultStore.create(path, axes=[ids[a] for a in axes], shape=shape, **more)


def fill(store: ResultStore, values: np.ndarray) -> None:
    for region in pyramid.pieces(pyramid.whole(store.shape), store.shards):
        store.write(region, values[region])


def complete(store: ResultStore, values: np.ndarray) -> None:
    fill(store, values)
    for stage in levels_of(store):
        for task in reversed(range(len(stage))):
            stage.run(task)
    store.finish()


def digest(folder: Path) -> dict[str, str]:
    """Every file and its bytes."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def noise(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).integers(1, 200, shape).astype(dtype)


# --- what is written ------------------------------------------------------------------------------


def test_a_finished_store_is_what_the_writer_of_arrays_makes(tmp_path: Path) -> None:
    """Levels, metadata and pixels, whichever way an image gets into an OME-Zarr."""
    values = noise(2, 2060, 300)
    data = xr.DataArray(
        values,
        dims=("channel", "y", "x"),
        coords={"channel": ["DAPI", "GFP"]},
        attrs={"name": "cells", "pixel_size": {"y": 0.5, "x": 0.5}, "unit": MICRO},
    )
    whole = write_image(tmp_path / "whole" / "a.ome.zarr", data)
    path = tmp_path / "parts" / "a.ome.zarr"
    store = store_of(
        path, values.shape, "cyx", name="cells", channel_names=["DAPI", "GFP"],
        pixel_size={"y": 0.5, "x": 0.5}, unit=MICRO,
    )  # fmt: skip
    assert [s.name for s in levels_of(store, prefix="labels ")] == [
        "labels level-1", "labels level-2",
    ]  # fmt: skip
    complete(ResultStore.open(path), values)
    xr.testing.assert_identical(open_image(path).read(), open_image(whole).read())
    ours, theirs = (json.loads((p / "zarr.json").read_text())["attributes"]["ome"]
                    for p in (path, whole))  # fmt: skip
    assert ours["multiscales"] == theirs["multiscales"]
    assert [c["label"] for c in ours["omero"]["channels"]] == ["DAPI", "GFP"]
    for level in range(3):
        a, b = (zarr.open_array(p / str(level)) for p in (path, whole))
        np.testing.assert_array_equal(a[...], b[...])
        assert a.shards == (2, 512, 512)
    half: Any = zarr.open_array(path / "2")[...]
    window = ours["omero"]["channels"][0]["window"]
    assert (window["start"], window["end"]) == (half.min(), half.max())


def test_it_is_no_image_before_it_is_finished(tmp_path: Path) -> None:
    """A viewer does not show half a result."""
    store = store_of(tmp_path / "a.ome.zarr", (20, 30))
    fill(store, noise(20, 30))
    with pytest.raises(ImageReadError, match="multiscales"):
        open_image(store.path)
    store.finish()
    store.finish()
    assert open_image(store.path).shape == (20, 30)


def test_labels_are_picked_and_zeros_take_no_file(tmp_path: Path) -> None:
    """Objects keep their numbers; an empty part of a slide costs nothing."""
    values = np.zeros((1400, 1100), np.int32)
    values[:300, :300] = noise(300, 300, dtype="int32") * 70_000
    store = store_of(tmp_path / "a.ome.zarr", values.shape, dtype=values.dtype, labels=True)
    complete(store, values)
    np.testing.assert_array_equal(zarr.open_array(store.path / "1")[...], values[::2, ::2])
    shards = [p for p in (store.path / "0" / "c").rglob("*") if p.is_file()]
    assert [str(p.relative_to(store.path)) for p in shards] == ["0/c/0/0"]
    assert json.loads((store.path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][
        0
    ]["datasets"][1]["coordinateTransformations"] == [{"type": "scale", "scale": [2.0, 2.0]}]


def test_axes_come_in_any_order_and_are_filed_in_omes(tmp_path: Path) -> None:
    """Some networks put their channels last."""
    values = noise(300, 500, 3)
    store = store_of(tmp_path / "a.ome.zarr", values.shape, "yxc")
    assert (store.shape, store.shards) == ((300, 500, 3), (512, 512, 2))
    fill(store, values)
    store.finish()
    part = (slice(10, 20), slice(30, 70), slice(1, 3))
    np.testing.assert_array_equal(store.read(part), values[part])
    image = open_image(store.path)
    assert image.axes == ("channel", "y", "x")
    np.testing.assert_array_equal(image.read().values, values.transpose(2, 0, 1))
    with pytest.raises(ImageMismatchError, match="axes byx"):
        ResultStore.create(
            tmp_path / "b.zarr", axes=["batch", "y", "x"], shape=(2, 8, 8),
            dtype=np.dtype("uint8"), chunks=(1, 8, 8), shards=(1, 8, 8),
        )  # fmt: skip


def test_part_of_a_shard_is_refused(tmp_path: Path) -> None:
    """It would be read, changed and written, by two tasks at once."""
    store = store_of(tmp_path / "a.ome.zarr", (600, 600))
    with pytest.raises(ValueError, match="whole shards"):
        store.write((slice(0, 256), slice(0, 600)), noise(256, 600))
    with pytest.raises(ValueError, match="whole shards"):
        store.write((slice(100, 600), slice(0, 600)), noise(500, 600))
    store.write((slice(512, 600), slice(0, 600)), noise(88, 600))
    store.write((slice(600, 600), slice(0, 600)), noise(0, 600))
    assert store.read((slice(0, 512), slice(0, 600))).max() == 0


# --- levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "shape", "size", "expected"),
    [
        ("yx", (1024, 1024), {}, []),
        ("zyx", (20, 3000, 3000), {}, [(20, 1500, 1500), (20, 750, 750)]),
        ("zyx", (700, 900, 900), {}, [(350, 450, 450), (175, 225, 225)]),
        ("zyx", (200, 4096, 4096), {}, [(100, 2048, 2048), (50, 1024, 1024)]),
        # Planes four times as far apart as pixels: halved once pixels have grown to that.
        ("zyx", (300, 4096, 4096), {"z": 2, "y": 0.5},
         [(300, 2048, 2048), (300, 1024, 1024), (150, 512, 512)]),
        ("tcyx", (500, 2, 1025, 1), {}, [(500, 2, 512, 1)]),
    ],
)  # fmt: skip
def test_which_levels_there_are(
    axes: str, shape: tuple[int, ...], size: dict[str, float], expected: list[tuple[int, ...]]
) -> None:
    """As `pyramid` says; a stack that is thin or coarse keeps its planes."""
    ids = [{"t": "time", "c": "channel"}.get(a, a) for a in axes]
    facts = ome_facts(Path(), ids, np.dtype("u1"), name="", channel_names=(), pixel_size=size,
                      unit={})  # fmt: skip
    assert [level.shape for level in pyramid.levels(facts, shape)[1:]] == expected


def test_a_volume_is_halved_along_z_too(tmp_path: Path) -> None:
    """Mean of 8, rounded once; the metadata say where the voxels lie."""
    values = noise(258, 40, 60, dtype="uint8")
    path = tmp_path / "a.ome.zarr"
    sizes = {"z": 1.2, "y": 1.0, "x": 1.0}
    complete(store_of(path, values.shape, "zyx", dtype=values.dtype, pixel_size=sizes), values)
    mean = values.reshape(129, 2, 20, 2, 30, 2).mean((1, 3, 5))
    np.testing.assert_array_equal(zarr.open_array(path / "1")[...], np.rint(mean))
    sets = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]
    assert sets["datasets"][1]["coordinateTransformations"] == [
        {"type": "scale", "scale": [2.4, 2.0, 2.0]},
        {"type": "translation", "translation": [0.6, 0.5, 0.5]},
    ]
    data = xr.DataArray(values, dims=("z", "y", "x"), attrs={"pixel_size": sizes})
    other = write_image(tmp_path / "b.ome.zarr", data)
    np.testing.assert_array_equal(zarr.open_array(other / "1")[...], np.rint(mean))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shape=st.tuples(st.integers(30, 90), st.integers(30, 90)),
    chunk=st.integers(9, 30),
    times=st.integers(1, 3),
    dtype=st.sampled_from(["uint8", "uint16", "float32", "int32"]),
    labels=st.booleans(),
)
def test_levels_do_not_depend_on_how_they_are_cut(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, int],
    chunk: int,
    times: int,
    dtype: str,
    labels: bool,
) -> None:
    """To the bit, also where shards of one level do not end with those of the next."""
    monkeypatch.setattr(pyramid, "LARGEST_PLANE", 20)
    values = np.random.default_rng(1).uniform(0, 250, shape).astype(dtype)
    store = store_of(
        tmp_path_factory.mktemp("cut") / "a.zarr", shape, dtype=values.dtype, labels=labels,
        chunks=(chunk, chunk + 2), shards=(times * chunk, times * (chunk + 2)),
    )  # fmt: skip
    complete(store, values)
    expected = values
    for level in range(1, len(store.levels)):
        y, x = (n // 2 for n in expected.shape)
        expected = expected[: 2 * y, : 2 * x]
        expected = pyramid.halve(expected, (2, 2), nearest=labels)
        np.testing.assert_array_equal(zarr.open_array(store.path / str(level))[...], expected)
    assert max(expected.shape) <= 20


# --- damage, kills, full disks --------------------------------------------------------------------


def test_any_damaged_byte_is_noticed(tmp_path: Path) -> None:
    """Of a chunk or of the index of a shard, by our reader and by zarr itself."""
    values = noise(60, 60, dtype="uint8") % 4
    store = store_of(tmp_path / "a.zarr", (60, 60), dtype=values.dtype, chunks=(30, 30))
    store.write((slice(0, 60), slice(0, 60)), values)
    file = store.path / "0" / "c" / "0" / "0"
    sound = file.read_bytes()
    everything = (slice(0, 60), slice(0, 60))
    noticed = 0
    for at in range(0, len(sound), 13):
        file.write_bytes(sound[:at] + bytes([sound[at] ^ 16]) + sound[at + 1 :])
        try:
            read = store.read(everything)
        except ImageReadError:
            noticed += 1
        else:  # a bit that has no meaning
            np.testing.assert_array_equal(read, values)
    assert noticed > 0.9 * len(range(0, len(sound), 13))
    file.write_bytes(sound[: len(sound) // 2])
    with pytest.raises(ImageReadError, match="damaged"):
        store.read(everything)


def test_writing_again_makes_the_same_bytes(tmp_path: Path) -> None:
    """A block that was finished but not noted is simply done again."""
    values = noise(700, 900)
    store = store_of(tmp_path / "a.ome.zarr", values.shape)
    complete(store, values)
    before = digest(store.path)
    complete(ResultStore.open(store.path), values)
    assert digest(store.path) == before
    complete(store_of(tmp_path / "b.ome.zarr", values.shape), values)
    assert digest(tmp_path / "b.ome.zarr") == before


WRITER = """
import sys
from pathlib import Path
import numpy as np
from biozoo_runners.out_of_core.store import ResultStore
store = ResultStore.open(Path(sys.argv[1]))
values = np.random.default_rng(0).integers(1, 200, (512, 512)).astype("float32")
print("begun", flush=True)
while True:
    for x in range(4):
        store.write((slice(0, 512), slice(512 * x, 512 * x + 512)), values)
"""


def test_a_killed_writer_leaves_whole_shards(tmp_path: Path) -> None:
    """SIGKILL at some moment of writing; what it leaves beside them is cleared away at the end."""
    store = store_of(tmp_path / "a.ome.zarr", (512, 2048))
    expected = noise(512, 512)
    for wait in (0.03, 0.11, 0.19):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.path)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for x in range(4):
            part = store.read((slice(0, 512), slice(512 * x, 512 * x + 512)))
            assert not part.any() or (part == expected).all()
    (store.path / "0" / "c" / "0" / "0.77.partial").parent.mkdir(parents=True, exist_ok=True)
    (store.path / "0" / "c" / "0" / "0.77.partial").write_bytes(b"half")
    complete(store, np.tile(expected, 4))
    assert not list(store.path.rglob("*.partial"))
    complete(store_of(tmp_path / "b.ome.zarr", (512, 2048)), np.tile(expected, 4))
    assert digest(store.path) == digest(tmp_path / "b.ome.zarr")


def test_every_shard_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is noted as done survives a loss of power: its files are flushed before that."""
    flushed: list[Path] = []
    real = store_module.flush

    def flush(path: Path) -> None:
        assert path.is_file()
        flushed.append(path)
        real(path)

    monkeypatch.setattr(store_module, "flush", flush)
    store = store_of(tmp_path / "a.ome.zarr", (600, 1100))
    store.write((slice(0, 600), slice(0, 1100)), noise(600, 1100))
    written = [p for p in (store.path / "0" / "c").rglob("*") if p.is_file()]
    assert sorted(flushed) == sorted(written)
    assert len(written) == 6


def test_a_full_disk_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a shard is written, and while a store is made; nothing half-made is left."""
    store = store_of(tmp_path / "a.ome.zarr", (60, 60))

    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.raises(StorageError, match=r"a\.ome\.zarr: the disk is full.*Free some space"):
            store.write((slice(0, 60), slice(0, 60)), noise(60, 60))
        with pytest.raises(StorageError, match="the disk is full"):
            store_of(tmp_path / "b.ome.zarr", (60, 60))
    assert [p.name for p in tmp_path.iterdir()] == ["a.ome.zarr"]
    assert not store.read((slice(0, 60), slice(0, 60))).any()


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    """Or that is no store of ours."""
    with pytest.raises(ImageReadError, match="damaged"):
        ResultStore.open(tmp_path / "none.zarr")
    other = write_image(tmp_path / "a.zarr", xr.DataArray(noise(8, 8), dims=("y", "x")))
    with pytest.raises(ImageReadError, match="damaged"):
        ResultStore.open(other)
