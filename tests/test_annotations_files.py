"""Annotations as files of other programs: out and in again exactly, and bad files in words."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

pytest.importorskip("fastapi")

import roifile

from biozoo.errors import BiozooError, ImageReadError, UsageError
from biozoo_runners import open_image
from biozoo_ui.annotations import FIRST_CLASSES, Annotation, Annotations, Edit, Facts, Plane
from biozoo_ui.annotations.exporting import export
from biozoo_ui.annotations.importing import Imported, import_file
from biozoo_ui.annotations.outlines import patches
from biozoo_ui.annotations.shapes import rings

Make = Callable[..., Annotation]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A new annotation, with these pixels if any."""

    def made(kind: Any = "instances", data: Any = None, **sizes: int) -> Annotation:
        every = {"time": 1, "z": 1, "y": 300, "x": 400} | sizes
        dims = tuple(axis for axis in every if axis in ("y", "x") or every[axis] > 1)
        classes = FIRST_CLASSES if kind == "classes" else ()
        facts = Facts(kind, "my cells.ome.tif", dims, every, {"y": 0.5, "x": 0.5}, classes)
        number = len(list((tmp_path / "kept").rglob("annotation.json")))
        annotation = Annotations(tmp_path / "kept").start("me", f"{number}", facts)
        if data is not None:
            path = tmp_path / f"{number}.npy"
            np.save(path, data)
            import_file(annotation, path, path.name)
        return annotation

    return made


def take(annotation: Annotation, path: Path, **more: Any) -> Imported:
    return import_file(annotation, path, path.name, **more)


def pixels(annotation: Annotation) -> np.ndarray[Any, Any]:
    return annotation.read().values


def crowd(shape: tuple[int, ...] = (300, 400)) -> np.ndarray[Any, Any]:
    """Objects that touch, have holes, lie in several patches, and reach the edge."""
    labels = np.zeros(shape, np.uint32)
    labels[..., 10:60, 10:60] = 1
    labels[..., 20:40, 20:40] = 0  # a hole
    labels[..., 25:30, 25:30] = 1  # an island in it
    labels[..., 10:60, 60:100] = 2  # side by side
    labels[..., 60:90, 100:120] = 2  # corner to corner with itself
    labels[..., 200:300, 300:400] = 5  # at the edge
    labels[..., 150, 150] = 9
    labels[..., 151, 151] = 9
    labels[..., 240:270, 250:270] = 70_000
    return labels


# ---------------------------------------------------------------------------------- both ways


def test_any_mask_comes_back_from_its_outlines() -> None:
    """None of them touches itself: other programs call such polygons invalid."""
    rng = np.random.default_rng(0)
    for _ in range(150):
        mask = rng.random(rng.integers(1, 10, 2)) < rng.random()
        found = np.zeros_like(mask)
        y, x = (3, 3 + mask.shape[0]), (5, 5 + mask.shape[1])
        for patch in patches(mask, y[0], x[0]):
            every = [patch.outer, *patch.holes]
            own = rings([ring.tolist() for ring in every], y, x)
            assert not (found & own).any()
            found |= own
            for ring in every:
                assert len({tuple(corner) for corner in ring.tolist()}) == len(ring)
        assert np.array_equal(found, mask)


@pytest.mark.parametrize("kind", ["tiff", "zarr", "rois", "geojson"])
def test_objects_come_back_as_they_were(kind: Any, make: Make, tmp_path: Path) -> None:
    labels = crowd()
    made = export(make(data=labels), kind, tmp_path)
    assert made.name.startswith("my cells.labels.")
    path = made.path
    if kind == "zarr":
        with zipfile.ZipFile(path) as packed:
            packed.extractall(tmp_path / "unpacked")
        path = tmp_path / "unpacked" / "my cells.labels.ome.zarr"
    again = make()
    assert take(again, path).notes == ()
    assert np.array_equal(pixels(again), labels)


@pytest.mark.parametrize("kind", ["tiff", "rois", "geojson"])
def test_classes_on_several_planes_come_back_with_their_names(
    kind: Any, make: Make, tmp_path: Path
) -> None:
    data = np.zeros((2, 3, 300, 400), np.uint8)
    data[0, 1, 20:80, 30:90] = 2
    data[1, 2, 20:80, 30:90] = 1
    data[1, 2, 100:150, 30:90] = 2
    made = export(make("classes", data, time=2, z=3), kind, tmp_path)
    again = make("classes", time=2, z=3)
    take(again, made.path)
    assert np.array_equal(pixels(again), data)
    assert [label.name for label in again.facts.classes] == ["Background", "Object"]


def test_a_label_tiff_has_the_pixel_size_and_16_bits_where_they_do(
    make: Make, tmp_path: Path
) -> None:
    image = open_image(export(make(data=crowd() % 60_000), "tiff", tmp_path).path)
    assert image.dtype == np.uint16
    assert image.pixel_size["x"] == 0.5
    assert open_image(export(make(data=crowd()), "tiff", tmp_path).path).dtype == np.uint32


def test_an_ome_zarr_names_its_classes(make: Make, tmp_path: Path) -> None:
    import zarr

    data = np.zeros((300, 400), np.uint8)
    data[5, 5] = 2
    path = export(make("classes", data), "zarr", tmp_path).path
    with zipfile.ZipFile(path) as packed:
        packed.extractall(tmp_path)
    told: Any = zarr.open_group(tmp_path / "my cells.classes.ome.zarr", mode="r").attrs["ome"]
    assert told["image-label"]["properties"][1] == {"label-value": 2, "class": "Object"}
    assert told["multiscales"][0]["datasets"]


def test_roifile_and_qupath_see_polygons_with_holes(make: Make, tmp_path: Path) -> None:
    annotation = make(data=crowd())
    found = roifile.roiread(export(annotation, "rois", tmp_path).path)
    assert sorted(roi.name for roi in found) == ["1", "2", "5", "70000", "9"]
    (square,) = (roi for roi in found if roi.name == "70000")
    assert (square.top, square.left, square.bottom, square.right) == (240, 250, 270, 270)
    told = json.loads(export(annotation, "geojson", tmp_path).path.read_text())
    one = told["features"][0]
    assert one["geometry"]["type"] == "MultiPolygon"
    assert sorted(len(polygon) for polygon in one["geometry"]["coordinates"]) == [1, 2]
    assert one["properties"]["objectType"] == "annotation"
    ring = told["features"][-1]["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1] == [250, 240]


def test_nothing_has_no_outlines(make: Make, tmp_path: Path) -> None:
    for kind in ("rois", "geojson"):
        with pytest.raises(UsageError, match="Nothing is painted"):
            export(make(), kind, tmp_path)  # type: ignore[arg-type]
    assert open_image(export(make(), "tiff", tmp_path).path).shape == (300, 400)


# ---------------------------------------------------------------------------------- label images


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.npy"])
def test_labels_of_any_image_format_are_taken(name: str, make: Make, tmp_path: Path) -> None:
    labels = (crowd() % 250).astype(np.uint8)
    path = tmp_path / name
    if name == "a.tif":
        tifffile.imwrite(path, labels)
    elif name == "a.png":
        Pillow.fromarray(labels).save(path)
    else:
        np.save(path, labels)
    annotation = make()
    imported = take(annotation, path)
    assert np.array_equal(pixels(annotation), labels)
    assert imported.done.undo == 1
    annotation.undo()
    assert not pixels(annotation).any()


def test_whole_numbers_as_floats_and_negative_ones_are_taken(make: Make, tmp_path: Path) -> None:
    labels = crowd().astype(np.float32)
    labels[0, :5] = -1
    path = tmp_path / "a.npy"
    np.save(path, labels)
    annotation = make()
    take(annotation, path)
    assert np.array_equal(pixels(annotation), crowd())


def test_a_mask_becomes_one_object_per_patch_and_says_so(make: Make, tmp_path: Path) -> None:
    mask = (crowd() > 0).astype(np.uint8) * 255
    path = tmp_path / "mask.png"
    Pillow.fromarray(mask).save(path)
    annotation = make()
    imported = take(annotation, path)
    assert imported.done.counts.objects == 5  # two of them touch
    assert "one value only, so its 5 separate patches" in imported.notes[0]
    assert np.array_equal(pixels(annotation) > 0, mask > 0)


def test_one_plane_lies_on_the_plane_that_is_looked_at(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, crowd())
    annotation = make(z=3)
    annotation.edit(Edit("brush", Plane(0, 0), ((50, 50),), radius=9, value=3))
    take(annotation, path, here=Plane(0, 2))
    found = pixels(annotation)
    assert np.array_equal(found[2], crowd())
    assert (found[0] == 3).any(), "other planes stay"


def test_laid_over_what_is_painted_objects_get_numbers_of_their_own(
    make: Make, tmp_path: Path
) -> None:
    annotation = make(data=crowd())
    labels = np.zeros((300, 400), np.uint16)
    labels[100:140, 200:240] = 1
    labels[240:250, 250:260] = 2  # on an object
    np.save(tmp_path / "more.npy", labels)
    take(annotation, tmp_path / "more.npy", add=True)
    found = pixels(annotation)
    assert found[120, 220] == 70_001
    assert found[245, 255] == 70_002
    assert found[265, 265] == 70_000
    assert found[30, 80] == 2


def test_numbers_without_a_class_become_classes(make: Make, tmp_path: Path) -> None:
    labels = (crowd() % 10).astype(np.uint8)  # 1, 2, 5, 9, and 0
    np.save(tmp_path / "a.npy", labels)
    annotation = make("classes")
    imported = take(annotation, tmp_path / "a.npy")
    assert [c.name for c in annotation.facts.classes] == [
        "Background", "Object", "Class 5", "Class 9",
    ]  # fmt: skip
    assert len({c.color for c in annotation.facts.classes}) == 4
    assert imported.notes == ("New classes: Class 5, Class 9.",)


def _saved(path: Path, data: np.ndarray[Any, Any]) -> Path:
    np.save(path, data) if path.suffix == ".npy" else tifffile.imwrite(path, data)
    return path


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("small.tif", np.ones((30, 40), np.uint8), "30 x 40 pixels .y x., this image 300 x 400"),
        ("empty.tif", np.zeros((300, 400), np.uint8), "all its pixels are 0"),
        ("soft.npy", np.full((300, 400), 0.5), "no whole numbers.*probabilities"),
        ("huge.npy", np.full((300, 400), 2**40), "larger than"),
        ("deep.npy", np.ones((2, 2, 300, 400), np.uint8), "more dimensions"),
    ],
)
def test_labels_that_do_not_fit_are_refused_in_words(
    name: str, data: np.ndarray[Any, Any], words: str, make: Make, tmp_path: Path
) -> None:
    annotation = make()
    with pytest.raises(UsageError, match=words) as told:
        take(annotation, _saved(tmp_path / name, data))
    assert str(tmp_path) not in told.value.message
    assert annotation.version == 0


def test_pictures_and_too_many_classes_are_refused(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "colour.png"
    Pillow.fromarray(np.zeros((300, 400, 3), np.uint8)).save(path)
    with pytest.raises(UsageError, match="colour picture"):
        take(make(), path)
    with pytest.raises(UsageError, match="these are objects"):
        take(make("classes"), _saved(tmp_path / "many.tif", crowd()))
    stack = np.zeros((4, 300, 400), np.uint8)
    with pytest.raises(UsageError, match="4 planes, this image 3"):
        take(make(z=3), _saved(tmp_path / "deep.npy", stack))


# ---------------------------------------------------------------------------------- shapes


def _rois(path: Path, *rois: Any) -> Path:
    for roi in rois:
        roi.tofile(path)
    return path


def test_rois_of_all_kinds_of_areas(make: Make, tmp_path: Path) -> None:
    kinds = roifile.ROI_TYPE
    box = {"top": 10, "left": 20, "bottom": 40, "right": 60}
    rect = roifile.ImagejRoi(roitype=kinds.RECT, name="rect", **box)
    oval = roifile.ImagejRoi(
        roitype=kinds.OVAL, name="oval", top=100, left=100, bottom=200, right=140
    )
    corners = np.array([[200.5, 50.0], [260.25, 50.0], [230.0, 90.75]], np.float32)
    free = roifile.ImagejRoi.frompoints(corners, name="free")
    line = roifile.ImagejRoi(roitype=kinds.LINE, name="line")
    point = roifile.ImagejRoi.frompoints(np.array([[5, 5]]), name="point")
    point.roitype = kinds.POINT
    annotation = make()
    imported = take(annotation, _rois(tmp_path / "RoiSet.zip", rect, oval, free, line, point))
    found = pixels(annotation)
    assert imported.notes == ("2 lines or points are left out: only areas can be labels.",)
    expected = np.zeros_like(found)
    expected[10:40, 20:60] = 1
    assert np.array_equal(found == 1, expected == 1)
    y, x = np.mgrid[:300, :400] + 0.5
    inside = ((y - 150) / 50) ** 2 + ((x - 120) / 20) ** 2 <= 1
    assert ((found == 2) != inside).sum() < 20
    assert found[60, 230] == 3
    assert abs(int((found == 3).sum()) - 0.5 * 59.75 * 40.75) < 30


def test_one_roi_alone_and_its_stack_position(make: Make, tmp_path: Path) -> None:
    box = {"top": 10, "left": 20, "bottom": 40, "right": 60}
    roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, position=3, name="Nucleus", **box)
    roi.tofile(tmp_path / "one.roi")
    annotation = make("classes", z=3)
    imported = take(annotation, tmp_path / "one.roi")
    assert imported.notes == ("New classes: Nucleus.",)
    assert np.unique(pixels(annotation)[2]).tolist() == [0, 3]
    assert not pixels(annotation)[:2].any()


def _geojson(path: Path, *features: Any) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def _box(y0: int, x0: int, y1: int, x1: int) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def test_qupath_annotations_with_holes_planes_and_classes(make: Make, tmp_path: Path) -> None:
    tumor = {"name": "Tumor", "color": [200, 0, 0]}
    features = [
        {
            "type": "Feature",
            "id": "PathAnnotationObject",
            "geometry": {
                "type": "Polygon",
                "coordinates": [_box(10, 10, 90, 90), _box(30, 30, 60, 60)],
            },
            "properties": {"objectType": "annotation", "classification": tumor},
        },
        {
            "type": "Feature",
            "geometry": {
                "type": "MultiPolygon",
                "coordinates": [[_box(100, 100, 120, 120)], [_box(140, 140, 160, 160)]],
                "plane": {"c": -1, "z": 1, "t": 0},
            },
            "properties": {"classification": {"name": "Background", "colorRGB": -377282}},
        },
        {
            "type": "Feature",
            "geometry": {"type": "LineString", "coordinates": [[0, 0], [9, 9]]},
            "properties": {},
        },
    ]
    annotation = make("classes", z=2)
    imported = take(annotation, _geojson(tmp_path / "a.geojson", *features))
    found = pixels(annotation)
    assert (found[0] == 3).sum() == 80 * 80 - 30 * 30
    assert (found[1] == 1).sum() == 2 * 400
    new = annotation.facts.classes[-1]
    assert (new.value, new.name, new.color) == (3, "Tumor", "#c80000")
    assert imported.notes[0].startswith("1 line or point is left out")


def test_shapes_that_overlap_or_lie_beside_the_image_are_told(make: Make, tmp_path: Path) -> None:
    def polygon(*box: int) -> Any:
        return {"type": "Polygon", "coordinates": [_box(*box)]}

    annotation = make()
    path = tmp_path / "a.json"
    geometries = [polygon(10, 10, 50, 50), polygon(40, 40, 80, 80), polygon(900, 900, 950, 950)]
    path.write_text(json.dumps(geometries))
    imported = take(annotation, path)
    assert imported.notes == (
        "1 shape lies beside the image.",
        "1 shape overlaps others; what came later lies on top.",
    )
    assert pixels(annotation)[45, 45] == 2
    path.write_text(json.dumps(geometries[2:]))
    with pytest.raises(UsageError, match=r"Nothing of a\.json lies in this image"):
        take(annotation, path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.geojson", b"{", "it is no JSON"),
        ("a.geojson", b'{"some": 1}', "not GeoJSON"),
        ("a.geojson", b'{"type": "FeatureCollection", "features": []}', "holds no shapes"),
        (
            "a.geojson",
            b'{"type": "Polygon", "coordinates": [[["a", 1], [2, 3], [4, 5]]]}',
            "no such coordinates",
        ),
        (
            "a.geojson",
            b'{"type": "Polygon", "coordinates": [[[1, 1], [2, 3]]]}',
            "fewer than three",
        ),
        ("a.geojson", b'{"type": "Point", "coordinates": [1, 1]}', "1 line or point and no areas"),
        ("a.geojson", b"[" * 100_000, "it is no JSON"),
        ("a.roi", b"Iout", "is damaged"),
        ("a.roi", b"PK\x03\x04 broken", "is damaged"),
        ("a.tif", b"II*\x00 broken", "a.tif"),
        ("a.txt", b"hello", "Taken are TIFF"),
    ],
)
def test_damaged_files_are_refused_in_words(
    name: str, content: bytes, words: str, make: Make, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    annotation = make()
    with pytest.raises((ImageReadError, UsageError), match=words) as told:
        take(annotation, path)
    assert str(tmp_path) not in told.value.message
    assert annotation.version == 0


def test_a_zip_that_would_write_elsewhere_is_refused(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, bottom=9, right=9)
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("../../evil.roi", roi.tobytes())
    with pytest.raises(BiozooError, match="evil"):
        take(make(), path)
