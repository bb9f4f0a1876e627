"""Annotations that are asked too much of, or whose server was killed: in words, and quickly."""

from __future__ import annotations

import json
import math
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

import roifile

from biozoo.errors import ImageReadError, UsageError
from biozoo_ui.annotations import (
    FIRST_CLASSES,
    Annotation,
    Annotations,
    Edit,
    Facts,
    Plane,
    draft,
    outlined,
    shapes,
)
from biozoo_ui.annotations.exporting import export
from biozoo_ui.annotations.history import Pending
from biozoo_ui.annotations.importing import import_file

LARGE = 2**15


@pytest.fixture
def store(tmp_path: Path) -> Annotations:
    return Annotations(tmp_path / "annotations")


def begun(store: Annotations, kind: Any = "instances", side: int = 600) -> Annotation:
    sizes = {"time": 1, "z": 1, "y": side, "x": side}
    classes = FIRST_CLASSES if kind == "classes" else ()
    return store.start("me", "image", Facts(kind, "cells.tif", ("y", "x"), sizes, None, classes))


def draw(annotation: Annotation, tool: Any, *points: Sequence[float], **more: Any) -> Any:
    return annotation.edit(Edit(tool, Plane(), tuple((y, x) for y, x in points), **more))


# ------------------------------------------------------------------------------- large images


def test_a_stroke_costs_what_it_covers_not_the_box_around_it() -> None:
    """From corner to corner of 32,768 x 32,768 pixels: some hundred of 16,384 blocks."""
    side = LARGE // 256
    line = [(i * LARGE / 500, i * LARGE / 500) for i in range(501)]
    found = shapes.reached(line, 10, 256, side, side)
    assert len(found) < 4 * side
    assert max(map(len, found.values())) < 20
    assert list(found) == sorted(found)


@pytest.mark.parametrize("radius", [0.5, 3.0, 40.0])
def test_block_by_block_a_stroke_is_the_same(radius: float) -> None:
    line = [(-30.0, 20.0), (5.0, 5.0), (5.0, 99.5), (99.0, 3.0), (140.0, 60.0), (50.0, 50.0)]
    whole = shapes.stroke(line, radius, (0, 100), (0, 100))
    made = np.zeros((100, 100), bool)
    for (row, column), pieces in shapes.reached(line, radius, 20, 5, 5).items():
        y, x = (20 * row, 20 * row + 20), (20 * column, 20 * column + 20)
        made[slice(*y), slice(*x)] = shapes.covered(pieces, radius, y, x)
    np.testing.assert_array_equal(made, whole)


@pytest.mark.parametrize("tool", ["merge", "split", "brush"])
def test_a_line_that_is_endless_is_refused(store: Annotations, tool: str) -> None:
    """A few points far beside the image are a million pixels of a line."""
    line = [(0.0 if n % 2 else 1e6, float(n)) for n in range(200)]
    with pytest.raises(UsageError, match=r"more than is drawn at once. Draw it in parts"):
        draw(begun(store), tool, *line, radius=20.0)


def test_a_line_is_followed_within_the_image_only() -> None:
    assert shapes.trail([(2.5, -1e4), (2.5, 1e4)], 5, 4) == [(2, 0), (2, 1), (2, 2), (2, 3)]


def test_what_would_fill_the_memory_is_refused_and_nothing_changes(
    store: Annotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = begun(store)
    monkeypatch.setattr(draft, "MOST_BYTES", 3 * 256 * 256 * 4)
    with pytest.raises(UsageError, match="million pixels at once"):
        draw(objects, "add", (0, 0), (0, 600), (600, 600), (600, 0))
    assert not objects.read().values.any()
    draw(objects, "add", (0, 0), (0, 200), (200, 200), (200, 0))


def test_many_places_are_not_filled_at_once(store: Annotations) -> None:
    with pytest.raises(UsageError, match=r"21 places at once. Choose 20 at most"):
        draw(begun(store, "classes"), "fill", *[(5.0, 5.0)] * 21)


@pytest.mark.parametrize("level", [-1, 9, 10**12])
def test_there_is_no_tile_at_any_level(store: Annotations, level: int) -> None:
    """Not even looked for: 2 to the power of the level is a number as long as the memory."""
    from biozoo.errors import NotFoundError

    with pytest.raises(NotFoundError):
        begun(store).tile(level, Plane(), 0, 0)


# ------------------------------------------------------------------------------- killed servers


def test_what_a_killed_server_had_half_painted_is_not_shown(store: Annotations) -> None:
    objects = begun(store)
    draw(objects, "add", (0, 0), (0, 50), (50, 50), (50, 0))
    before = objects.read().values
    key = next(iter(objects.filled()))[0]
    block = objects._blocks.get(key)
    objects._history.begin(Pending(objects.version + 1, 1, {key: block}))
    objects._blocks.put({key: np.full_like(block, 7)})
    found = Annotations(store._folder).get(objects.id, "me")
    np.testing.assert_array_equal(found.read().values, before)


def test_one_whose_removal_was_killed_can_be_begun_again(
    store: Annotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = begun(store)
    draw(removed, "add", (0, 0), (0, 50), (50, 50), (50, 0))
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", lambda *_, **__: removed.folder / "annotation.json")
        store.remove(removed.id, "me")
    again = begun(store)
    assert not again.read().values.any()
    draw(again, "brush", (10, 10))
    assert [p.name for p in again.folder.parent.iterdir()] == [again.id]


# ------------------------------------------------------------------------------- bad files


def geojson(path: Path, *rings: Any) -> Path:
    polygons = [{"type": "Polygon", "coordinates": [ring]} for ring in rings]
    path.write_text(json.dumps({"type": "GeometryCollection", "geometries": polygons}))
    return path


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_coordinates_that_are_nowhere(store: Annotations, tmp_path: Path, value: float) -> None:
    path = geojson(tmp_path / "a.geojson", [[0, 0], [0, 50], [value, 50]])
    with pytest.raises(ImageReadError, match=r"a\.geojson.*no such coordinates"):
        import_file(begun(store), path, path.name)


def test_an_outline_far_beyond_the_image_is_cut_at_its_edges(
    store: Annotations, tmp_path: Path
) -> None:
    far = [[-1e8, -1e8], [1e8, -1e8], [1e8, 1e8], [-1e8, 1e8]]
    objects = begun(store)
    import_file(objects, geojson(tmp_path / "a.geojson", far), "a.geojson")
    assert (objects.read().values == 1).all()


def composite(*path: float) -> bytes:
    roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, name="one")
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    return bytes(roi.tobytes())


def oval(width: float) -> bytes:
    roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.OVAL, name="one")
    roi.options = roifile.ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    roi.subtype = roifile.ROI_SUBTYPE.UNDEFINED
    roi.version = 228
    roi.xd, roi.yd, roi.widthd, roi.heightd = 0.0, 0.0, width, 5.0
    return bytes(roi.tobytes())


@pytest.mark.parametrize(
    "roi",
    [
        composite(0, 0, 0, 1, math.nan, 5, 1, 5, 5, 4),
        composite(0, 0, 0, 1, 1e30, 5, 1, 5, 5, 4),
        oval(math.nan),
        oval(1e9),  # drawn point by point it would be 3 billion of them
    ],
)
def test_a_roi_whose_coordinates_are_nowhere(
    store: Annotations, tmp_path: Path, roi: bytes
) -> None:
    (tmp_path / "a.roi").write_bytes(roi)
    with pytest.raises(ImageReadError, match="is damaged"):
        import_file(begun(store), tmp_path / "a.roi", "a.roi")


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(f"{name}.roi", data)
    return path


def test_damaged_zips_of_rois_are_told_in_words(store: Annotations, tmp_path: Path) -> None:
    objects = begun(store)
    square = roifile.ImagejRoi.frompoints([[1, 1], [40, 1], [40, 40]]).tobytes()
    path = zipped(tmp_path / "a.zip", one=bytes(square) * 20)
    whole = path.read_bytes()
    begin = 30 + len("one.roi")
    path.write_bytes(whole[:begin] + b"\xff" * 8 + whole[begin + 8 :])  # its content
    with pytest.raises(ImageReadError, match="no complete zip file"):
        import_file(objects, path, path.name)
    at = whole.index(b"PK\x01\x02")
    path.write_bytes(whole[:at] + b"PK\x09\x09" + whole[at + 4 :])  # its list of contents
    with pytest.raises(ImageReadError):
        import_file(objects, path, path.name)


def test_a_zip_of_rois_that_unpacks_to_too_much_is_refused(
    store: Annotations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from biozoo_ui.annotations import imagej

    monkeypatch.setattr(imagej, "_MOST_BYTES", 2**16)
    path = zipped(tmp_path / "a.zip", one=bytes(2**17))
    with pytest.raises(ImageReadError, match="allowed"):
        import_file(begun(store), path, path.name)
    bomb = zipped(tmp_path / "b.zip", **{f"n{i}": bytes(2**24) for i in range(20)})
    with pytest.raises(ImageReadError, match=r"allowed|bomb"):
        import_file(begun(store), bomb, bomb.name)


def test_a_geojson_too_large_for_the_memory_is_refused(
    store: Annotations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from biozoo_ui.annotations import geojson as module

    monkeypatch.setattr(module, "_LARGEST", 20)
    path = geojson(tmp_path / "a.geojson", [[0, 0], [0, 50], [50, 50]])
    with pytest.raises(ImageReadError, match=r"larger than 0 MB.*in parts"):
        import_file(begun(store), path, path.name)


def test_an_import_of_more_blocks_than_fit_is_refused(
    store: Annotations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlined, "MOST_BLOCKS", 4)
    objects = begun(store)
    np.save(tmp_path / "a.npy", np.ones((600, 600), np.uint8))
    square = [[0, 0], [600, 0], [600, 600], [0, 600]]
    for path in (tmp_path / "a.npy", geojson(tmp_path / "a.geojson", square)):
        with pytest.raises(UsageError, match="more than is imported at once"):
            import_file(objects, path, path.name)
    assert not objects.read().values.any()


@pytest.mark.parametrize("here", [Plane(z=-1), Plane(z=1), Plane(time=-5)])
def test_nothing_is_imported_onto_a_plane_that_is_not_there(
    store: Annotations, tmp_path: Path, here: Plane
) -> None:
    path = geojson(tmp_path / "a.geojson", [[0, 0], [0, 50], [50, 50]])
    with pytest.raises(UsageError, match="There is no plane"):
        import_file(begun(store), path, path.name, here=here)


def test_a_million_corners_are_looked_at_once_per_row_of_blocks(store: Annotations) -> None:
    """One outline over 16 x 16 blocks, of as many corners as a traced tissue has."""
    turns = np.linspace(0, 2 * math.pi, 1_000_000, endpoint=False)
    wobble = 1900 + 50 * np.sin(400 * turns)
    ring = np.stack([2048 + wobble * np.sin(turns), 2048 + wobble * np.cos(turns)], axis=1)
    crossed: list[Any] = []

    class Counting(shapes.Area):
        def _cross(self, y: Any) -> Any:
            crossed.append(y)
            return super()._cross(y)

    area = Counting([ring])
    count = 0
    for row in range(16):
        for column in range(16):
            y, x = (256 * row, 256 * row + 256), (256 * column, 256 * column + 256)
            count += int(area.mask(y, x).sum())
    assert len(crossed) == 16
    assert count == pytest.approx(math.pi * (1900**2 + 50**2 / 2), rel=1e-3)


def test_an_export_is_the_same_with_and_without_what_is_in_memory(
    store: Annotations, tmp_path: Path
) -> None:
    objects = begun(store)
    draw(objects, "brush", (300.0, 10.0), (300.0, 590.0), radius=20.0)
    fresh = Annotations(store._folder).get(objects.id, "me")
    np.testing.assert_array_equal(fresh.read().values, objects.read().values)
    assert fresh.read({"y": (290, 310), "x": (0, 40)}).shape == (20, 40)
    assert export(fresh, "rois", tmp_path).path.stat().st_size
