"""Annotations on disk: what each tool does to the pixels, and that nothing of it is lost."""

from __future__ import annotations

import errno
import math
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

import zarr

from biozoo.errors import NotFoundError, StorageError, UsageError
from biozoo_runners import open_image
from biozoo_ui.annotations import (
    FIRST_CLASSES,
    Annotation,
    Annotations,
    AnnotationStateError,
    ClassLabel,
    Edit,
    Facts,
    Plane,
)
from biozoo_ui.annotations.blocks import Blocks, Key
from biozoo_ui.annotations.history import History, Pending
from biozoo_ui.annotations.shapes import polygon, rings, stroke

SQUARE = ((100, 100), (100, 200), (200, 200), (200, 100))
Make = Callable[..., Annotation]


def facts(kind: Any = "instances", **sizes: int) -> Facts:
    """Of an image of 600 x 700 pixels, or as told."""
    every = {"time": 1, "z": 1, "y": 600, "x": 700} | sizes
    dims = tuple(axis for axis in every if axis in ("y", "x") or every[axis] > 1)
    classes = FIRST_CLASSES if kind == "classes" else ()
    return Facts(kind, "cells.tif", dims, every, None, classes)


@pytest.fixture
def store(tmp_path: Path) -> Annotations:
    return Annotations(tmp_path / "annotations")


@pytest.fixture
def objects(store: Annotations) -> Annotation:
    return store.start("me", "image", facts())


@pytest.fixture
def classes(store: Annotations) -> Annotation:
    return store.start("me", "image", facts("classes"))


def draw(annotation: Annotation, tool: Any, *points: Sequence[float], **more: Any) -> Any:
    plane = more.pop("plane", Plane())
    return annotation.edit(Edit(tool, plane, tuple((y, x) for y, x in points), **more))


def pixels(annotation: Annotation) -> np.ndarray[Any, Any]:
    return annotation.read().values


# ---------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize("radius", [0.5, 1.0, 3.7, 20.0])
def test_a_stroke_covers_the_pixels_whose_middle_is_within_its_radius(radius: float) -> None:
    points = ((10.2, 12.7), (30.0, 41.5), (31.0, 20.0))
    found = stroke(points, radius, (0, 60), (5, 70))
    for y in range(60):
        for x in range(5, 70):
            near = min(_apart(y + 0.5, x + 0.5, a, b) for a, b in pairwise(points))
            under = any((math.floor(b), math.floor(c)) == (y, x) for b, c in points)
            assert found[y, x - 5] == (near <= radius or under), (y, x)


def _apart(y: float, x: float, a: tuple[float, float], b: tuple[float, float]) -> float:
    length = (b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2
    along = ((y - a[0]) * (b[0] - a[0]) + (x - a[1]) * (b[1] - a[1])) / length
    along = min(1, max(0, along))
    return math.hypot(y - a[0] - along * (b[0] - a[0]), x - a[1] - along * (b[1] - a[1]))


def test_an_outline_covers_the_pixels_whose_middle_is_inside() -> None:
    from skimage.draw import polygon2mask

    rng = np.random.default_rng(0)
    for _ in range(20):
        points = rng.uniform(0, 40, (7, 2))
        found = polygon(tuple(map(tuple, points)), (0, 40), (0, 40))
        # Middles of pixels are at whole numbers there; its rule crosses lines too.
        expected = polygon2mask((40, 40), points - 0.5)
        assert np.array_equal(found, expected)


def test_outlines_that_share_an_edge_share_no_pixel() -> None:
    left = ((0, 0), (0, 5.5), (10, 3.5), (10, 0))
    right = ((0, 5.5), (0, 10), (10, 10), (10, 3.5))
    one, two = (polygon(points, (0, 10), (0, 10)) for points in (left, right))
    assert not (one & two).any()
    assert (one | two).all()


def test_an_outline_within_another_is_a_hole() -> None:
    outer, inner = ((0, 0), (0, 10), (10, 10), (10, 0)), ((2, 2), (2, 8), (8, 8), (8, 2))
    found = rings([outer, inner], (0, 10), (0, 10))
    assert found.sum() == 100 - 36
    assert not found[5, 5]


# ---------------------------------------------------------------------------------- tools


def test_a_brush_that_begins_on_an_object_adds_to_it_elsewhere_it_makes_a_new_one(
    objects: Annotation,
) -> None:
    first = draw(objects, "brush", (50, 50), radius=10)
    second = draw(objects, "brush", (50, 150), radius=10)
    more = draw(objects, "brush", (50, 50), (80, 50), radius=5)
    assert (first.made, second.made, more.made) == ((1,), (2,), ())
    assert more.counts.objects == 2
    assert pixels(objects)[80, 50] == 1
    assert pixels(objects)[50, 150] == 2


def test_a_brush_leaves_other_objects_alone_where_it_is_told_to(objects: Annotation) -> None:
    draw(objects, "add", *SQUARE)
    draw(objects, "brush", (150, 50), (150, 250), radius=5, over=False)
    found = pixels(objects)
    assert (found == 1).sum() == 100 * 100
    assert found[150, 60] == found[150, 240] == 2
    draw(objects, "brush", (150, 50), (150, 250), radius=5, over=True)
    assert pixels(objects)[150, 150] == 2


def test_erasing_takes_everything_or_one_number(objects: Annotation) -> None:
    draw(objects, "add", *SQUARE)
    draw(objects, "add", (100, 200), (100, 300), (200, 300), (200, 200))
    draw(objects, "erase", (150, 150), (150, 250), radius=5, value=2)
    assert (pixels(objects)[150, 150], pixels(objects)[150, 250]) == (1, 0)
    draw(objects, "erase", (150, 150), radius=5)
    assert pixels(objects)[150, 150] == 0


def test_an_object_is_split_by_a_line_and_merged_again(objects: Annotation) -> None:
    draw(objects, "add", *SQUARE)
    done = draw(objects, "split", (90, 140), (210, 140))
    found = pixels(objects)
    assert done.made == (2,)
    assert done.counts.objects == 2
    assert (found > 0).sum() == 100 * 100, "no pixel is lost to the cut"
    assert found[150, 180] == 1, "the larger part keeps the number"
    assert found[150, 110] == 2
    assert np.array_equal(found[100:200, 100:200] == 2, np.indices((100, 100))[1] < 40)
    done = draw(objects, "merge", (150, 110), (150, 190))
    assert done.counts.objects == 1
    assert (pixels(objects) == 2).sum() == 100 * 100, "the first one's number"


@pytest.mark.parametrize("line", [((90, 95), (205, 210)), ((150, 102), (160, 198))])
def test_a_slanted_cut_leaves_no_corner_that_touches(
    objects: Annotation, line: tuple[tuple[float, float], ...]
) -> None:
    """A line that ends just inside still cuts; the parts do not hang together."""
    from scipy import ndimage

    draw(objects, "add", *SQUARE)
    assert draw(objects, "split", *line).counts.objects == 2
    for number in (1, 2):
        _, parts = ndimage.label(pixels(objects) == number, np.ones((3, 3)))
        assert parts == 1


def test_one_line_splits_every_object_that_it_crosses(objects: Annotation) -> None:
    for x in (100, 300, 500):
        draw(objects, "add", (100, x), (100, x + 80), (180, x + 80), (180, x))
    assert draw(objects, "split", (140, 50), (140, 650)).counts.objects == 6


def test_a_line_that_does_not_cut_is_told(objects: Annotation) -> None:
    draw(objects, "add", *SQUARE)
    for points, words in (
        (((150, 90), (150, 150)), "does not cut"),
        (((10, 10), (20, 20)), "touches no object"),
    ):
        with pytest.raises(UsageError, match=words):
            draw(objects, "split", *points)
    with pytest.raises(UsageError, match="one object"):
        draw(objects, "merge", (110, 110), (120, 120))
    assert objects.version == 1


def test_deleting_takes_the_whole_object_wherever_it_is(store: Annotations) -> None:
    deep = store.start("me", "deep", facts(z=3, time=2))
    for z in range(3):
        draw(deep, "outline", *SQUARE, plane=Plane(0, z), value=7)
    draw(deep, "outline", *SQUARE, plane=Plane(1, 0), value=7)
    done = draw(deep, "delete", (150, 150), plane=Plane(0, 1))
    found = pixels(deep)
    assert not found[0].any()
    assert found[1, 0, 150, 150] == 7, "another time point"
    assert done.changes[-1].z == (0, 3)
    with pytest.raises(UsageError, match="no object"):
        draw(deep, "delete", (150, 150))


def test_a_cut_goes_through_all_planes_of_an_object(store: Annotations) -> None:
    deep = store.start("me", "deep", facts(z=3))
    for z in range(3):
        draw(deep, "outline", *SQUARE, plane=Plane(0, z), value=1)
    draw(deep, "split", (90, 140), (210, 140), plane=Plane(0, 1))
    found = pixels(deep)
    assert [found[z, 150, 110] for z in range(3)] == [2, 2, 2]
    assert [found[z, 150, 190] for z in range(3)] == [1, 1, 1]


def test_a_hole_is_filled_with_the_object_around_it(objects: Annotation) -> None:
    draw(objects, "add", (200, 200), (200, 320), (320, 320), (320, 200))  # over four blocks
    draw(objects, "erase", (256, 256), (258, 270), radius=20)
    draw(objects, "fill", (256, 256))
    assert (pixels(objects) == 1).sum() == 120 * 120
    with pytest.raises(UsageError, match="edge of the image"):
        draw(objects, "fill", (10, 10))


def test_filling_stops_at_a_closed_line_and_goes_through_blocks(classes: Annotation) -> None:
    draw(classes, "brush", (100, 300), (500, 300), radius=2, value=2)
    draw(classes, "brush", (100, 100), (100, 300), radius=2, value=2)
    draw(classes, "brush", (500, 100), (500, 300), radius=2, value=2)
    draw(classes, "brush", (100, 100), (500, 100), radius=2, value=2)
    draw(classes, "fill", (300, 200), value=1)
    found = pixels(classes)
    assert found[300, 200] == found[103, 103] == found[496, 297] == 1
    assert found[300, 300] == 2
    assert found[50, 50] == found[300, 320] == 0
    draw(classes, "delete", (300, 200))
    assert pixels(classes)[300, 200] == 0


def test_classes_cannot_be_split_and_must_be_known(classes: Annotation) -> None:
    with pytest.raises(UsageError, match="for objects"):
        draw(classes, "split", (1, 1), (5, 5))
    with pytest.raises(UsageError, match="no class 9"):
        draw(classes, "brush", (1, 1), value=9)


def test_classes_are_named_added_and_kept_while_they_are_painted(classes: Annotation) -> None:
    named = [ClassLabel(1, "Background", "#000000"), ClassLabel(3, "Nucleus", "#ff0000")]
    classes.set_classes([*named, ClassLabel(2, "Object", "#00ff00")])
    draw(classes, "brush", (10, 10), value=3)
    with pytest.raises(UsageError, match="'Nucleus' is painted"):
        classes.set_classes(named[:1])
    with pytest.raises(UsageError, match="same name"):
        classes.set_classes([*named, ClassLabel(2, "nucleus ", "#00ff00")])
    classes.set_classes(named)
    assert [label.value for label in classes.facts.classes] == [1, 3]


@pytest.mark.parametrize(
    ("points", "more", "words"),
    [
        (((math.nan, 1),), {}, "not near"),
        (((1e9, 1),), {}, "not near"),
        (((1, 1),), {"plane": Plane(0, 3)}, "no plane 3"),
        ((), {}, "at least one point"),
        (((1, 1),), {"value": 2**32}, "cannot be the number"),
    ],
)
def test_what_makes_no_sense_is_refused(
    objects: Annotation, points: Any, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        draw(objects, "brush", *points, **more)
    with pytest.raises(UsageError, match="three points"):
        draw(objects, "add", (1, 1), (5, 5))
    assert objects.version == 0


def test_a_stroke_beside_the_image_changes_nothing(objects: Annotation) -> None:
    done = draw(objects, "brush", (-500, -500), radius=5)
    assert (done.version, done.changes, done.undo) == (0, (), 0)
    draw(objects, "brush", (-3, -3), radius=8)
    assert objects.version == 1


# ---------------------------------------------------------------------------------- history


def test_any_row_of_edits_is_counted_tiled_and_undone_exactly(objects: Annotation) -> None:
    """Tiles of all levels, counts and undo agree with the pixels, whatever was done."""
    rng = np.random.default_rng(7)
    seen = [pixels(objects)]
    for _ in range(30):
        tool = rng.choice(["brush", "erase", "add", "split", "merge", "delete"])
        points = rng.uniform((0, 0), (600, 700), (4, 2))
        before = objects.version
        try:
            done = draw(
                objects, tool, *points, radius=rng.uniform(1, 60), over=bool(rng.integers(2))
            )
        except UsageError:
            assert objects.version == before
            continue
        if done.version == before:
            continue
        now = pixels(objects)
        change = done.changes[-1]
        ys, xs = np.nonzero(now != seen[-1])
        assert change.y == (ys.min(), ys.max() + 1)
        assert change.x == (xs.min(), xs.max() + 1)
        assert done.counts.objects == len(set(np.unique(now)) - {0})
        seen.append(now)
    assert len(seen) > 12
    for level in range(objects.levels):
        assert np.array_equal(tiled(objects, level), seen[-1][:: 2**level, :: 2**level])
    for expected in seen[-2::-1]:
        objects.undo()
        assert np.array_equal(pixels(objects), expected)
    with pytest.raises(AnnotationStateError, match="nothing to undo"):
        objects.undo()
    for expected in seen[1:]:
        done = objects.redo()
        assert np.array_equal(pixels(objects), expected)
        assert done.counts.objects == len(set(np.unique(expected)) - {0})
    with pytest.raises(AnnotationStateError):
        objects.redo()


def tiled(annotation: Annotation, level: int) -> np.ndarray[Any, Any]:
    tall, wide = (-(-annotation.facts.sizes[a] // 2**level) for a in ("y", "x"))
    return np.block([
        [annotation.tile(level, Plane(), row, column) for column in range(-(-wide // 256))]
        for row in range(-(-tall // 256))
    ])  # fmt: skip


def test_an_edit_after_an_undo_ends_what_could_be_done_again(objects: Annotation) -> None:
    for x in (50, 90, 130):
        draw(objects, "brush", (x, x))
    objects.undo()
    assert objects.undo().redo == 2
    done = draw(objects, "brush", (200, 200))
    assert (done.undo, done.redo) == (2, 0)
    objects.undo()
    assert objects.redo().counts.objects == 2


def test_all_is_found_again_with_its_history(store: Annotations, tmp_path: Path) -> None:
    one = store.start("me", "image", facts())
    draw(one, "add", *SQUARE)
    draw(one, "brush", (300, 300), radius=9)
    again = Annotations(tmp_path / "annotations").start("me", "image", facts())
    assert again.id == one.id
    assert again.version == 2
    assert np.array_equal(pixels(again), pixels(one))
    done = again.undo()
    assert done.counts.objects == 1
    assert draw(again, "add", *SQUARE, over=True).made == (3,), "a number is never used twice"


def test_it_is_an_ome_zarr_label_image(store: Annotations) -> None:
    one = store.start("me", "image", facts("classes", z=2))
    draw(one, "brush", (300, 300), radius=9, value=2, plane=Plane(0, 1))
    image = open_image(one.path)
    assert image.axes == ("z", "y", "x")
    assert np.array_equal(image.read().values, pixels(one))


def test_the_history_is_bounded_and_the_newest_steps_stay(
    objects: Annotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biozoo_ui.annotations.history.MOST_STEPS", 3)
    for i in range(6):
        done = draw(objects, "brush", (50 * i + 20, 50))
    assert done.undo == 3
    for _ in range(3):
        done = objects.undo()
    assert (done.undo, done.redo, done.counts.objects) == (0, 3, 3)


def test_what_a_killed_server_had_half_written_is_taken_back(
    objects: Annotation, tmp_path: Path
) -> None:
    draw(objects, "add", (200, 200), (200, 320), (320, 320), (320, 200))
    before = pixels(objects)
    # As the next edit leaves it that is killed after the first of its blocks.
    blocks = Blocks(objects.path, objects.facts.sizes, objects.facts.dims)
    keys = [Key(0, 0, 0, 0), Key(0, 0, 0, 1)]
    old = {key: blocks.get(key) for key in keys}
    History(objects.folder / "history").begin(Pending(2, 1, old))
    blocks.put({keys[0]: np.full_like(old[keys[0]], 9)})
    again = Annotations(tmp_path / "annotations").get(objects.id, "me")
    done = draw(again, "brush", (500, 500))
    assert done.version == 2
    found = pixels(again)
    found[found == 2] = 0
    assert np.array_equal(found, before)
    assert done.undo == 2


def test_a_full_disk_changes_nothing(objects: Annotation, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(objects, "add", *SQUARE)
    before, write, count = pixels(objects), zarr.Array.__setitem__, [0]

    def full(self: Any, where: Any, new: Any) -> None:
        count[0] += 1
        if count[0] == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, where, new)

    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with pytest.raises(StorageError, match="space"):
        draw(objects, "brush", (100, 250), (550, 250), radius=20)
    monkeypatch.undo()
    assert count[0] > 2, "what was written is taken back"
    assert objects.version == 1
    assert np.array_equal(pixels(objects), before)
    assert draw(objects, "brush", (100, 250), (550, 250), radius=20).undo == 2


# ---------------------------------------------------------------------------------- together


def test_two_processes_and_many_threads_edit_one_after_the_other(
    store: Annotations, tmp_path: Path
) -> None:
    """Two stores know nothing of each other, as two servers on one zoo."""
    one = store.start("me", "image", facts())
    other = Annotations(tmp_path / "annotations").get(one.id, "me")

    def paint(annotation: Annotation, first: int) -> None:
        for i in range(first, 12, 4):
            draw(annotation, "brush", (40 + 40 * i, 50 + 30 * i), radius=8)

    threads = [
        threading.Thread(target=paint, args=(annotation, first))
        for first, annotation in enumerate((one, other, one, other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for annotation in (one, other):
        assert annotation.version == 12
        assert annotation.numbers() == list(range(1, 13))
        assert annotation.stands().undo == 12
    assert np.array_equal(pixels(one), pixels(other))


def test_who_has_seen_a_version_is_told_what_changed_since(
    store: Annotations, tmp_path: Path
) -> None:
    one = store.start("me", "image", facts())
    draw(one, "add", *SQUARE)
    draw(one, "brush", (300, 300), radius=2)
    assert [change.version for change in one.stands(0).changes] == [1, 2]
    assert one.stands(1).changes[0].y == (298, 302)
    assert one.stands(2).changes == ()
    # Another server knows only that something did.
    (every,) = Annotations(tmp_path / "annotations").get(one.id, "me").stands(1).changes
    assert (every.version, every.y, every.x) == (2, (0, 600), (0, 700))


def test_an_edit_that_is_sent_twice_counts_once(objects: Annotation) -> None:
    first = draw(objects, "add", *SQUARE, key="stroke")
    again = draw(objects, "add", *SQUARE, key="stroke")
    assert (first.version, again.version, again.made) == (1, 1, (1,))
    assert again.changes == first.changes


def test_annotations_are_of_their_owner_image_and_kind(store: Annotations) -> None:
    mine = store.start("me", "image", facts())
    draw(mine, "add", *SQUARE)
    others = [
        store.start("you", "image", facts()),
        store.start("me", "other image", facts()),
        store.start("me", "image", facts("classes")),
    ]
    assert len({one.id for one in (mine, *others)}) == 4
    assert all(one.version == 0 for one in others)
    for wanted, owner in ((mine.id, "you"), ("../../etc", "me"), ("0" * 32, "me")):
        with pytest.raises(NotFoundError):
            store.get(wanted, owner)
    assert [one.kind for one in store.of("me", "image")] == ["classes", "instances"]
    store.remove(mine.id, "me")
    assert [one.kind for one in store.of("me", "image")] == ["classes"]
    with pytest.raises(NotFoundError):
        mine.undo()


def test_no_secret_of_a_session_is_written(store: Annotations, tmp_path: Path) -> None:
    store.start("a-secret-session", "image", facts())
    for path in tmp_path.rglob("*"):
        assert "a-secret-session" not in str(path)
        assert path.is_dir() or b"a-secret-session" not in path.read_bytes()


def test_beginning_anew_can_be_undone(objects: Annotation, store: Annotations) -> None:
    draw(objects, "add", *SQUARE)
    found = store.start("me", "image", facts(), again=True)
    assert not pixels(found).any()
    found.undo()
    assert (pixels(found) == 1).sum() == 100 * 100


def test_a_large_image_costs_no_more_than_what_is_painted(store: Annotations) -> None:
    """30,000 x 30,000 pixels: only blocks that are touched are on disk and in memory."""
    large = store.start("me", "large", facts(y=30_000, x=30_000))
    draw(large, "brush", (29_000, 100), (29_100, 900), radius=5)
    chunks = [p for p in (large.path / "0" / "c").rglob("*") if p.is_file()]
    assert len(chunks) <= 8
    whole = large.tile(large.levels - 1, Plane(), 0, 0)
    assert whole.shape == (235, 235)
    assert set(np.unique(large.tile(3, Plane(), 14, 0))) == {0, 1}
