"""Patches: the same whenever they are made, image and labels aligned, read in regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from biozoo.errors import UsageError
from biozoo.package import ModelPackage
from biozoo_runners.images.base import Image
from biozoo_trainers.augment import Augmentation, Variant
from biozoo_trainers.inference import infer_recipe
from biozoo_trainers.items import Cache, Item, items_of
from biozoo_trainers.pairs import Pair, content_digest, find_pairs
from biozoo_trainers.patches import Patches, covered
from biozoo_trainers.recipe import AugmentationSpec, Recipe
from biozoo_trainers.targets.base import make_target
from trainable import disc_image, discs, trainable

pytest.importorskip("torch")
pytest.importorskip("monai")

SIZE = {"y": 32, "x": 32}
TURNED = (AugmentationSpec(kind="flip"), AugmentationSpec(kind="turn", probability=1.0))
FREE = (*TURNED, AugmentationSpec(kind="affine", probability=1.0))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return trainable(tmp_path_factory.mktemp("package") / "p")


def recipe_of(package: ModelPackage, *augmentations: AugmentationSpec, **more: Any) -> Recipe:
    values = infer_recipe(package).recipe.model_dump()
    return Recipe.model_validate(values | {"augmentations": augmentations} | more)


def patches_of(
    package: ModelPackage,
    pairs: list[Pair],
    *augmentations: AugmentationSpec,
    seed: int = 0,
    cache: Cache | None = None,
    **more: Any,
) -> Patches:
    recipe = recipe_of(package, *augmentations, **more)
    items, _ = items_of(package, recipe, pairs, cache=cache)
    return Patches(recipe, items, SIZE, seed)


def test_a_step_has_the_same_patches_whatever_was_drawn_before(package: ModelPackage) -> None:
    recipe = infer_recipe(package).recipe
    pairs = discs(4)
    one = patches_of(package, pairs, *recipe.augmentations)
    later = patches_of(package, pairs, *recipe.augmentations)
    for step in range(3):
        last = one.batch(step, 3)
    again = later.batch(2, 3)
    for a, b in zip(vars(last).values(), vars(again).values(), strict=True):
        assert (a == b).all()
    other = patches_of(package, pairs, *recipe.augmentations, seed=1).batch(2, 3)
    assert not (other.image == again.image).all()


@pytest.mark.parametrize("augmentations", [(), TURNED, FREE], ids=["plain", "turned", "free"])
@pytest.mark.parametrize("budget", [2**30, 1], ids=["in memory", "in regions"])
def test_image_and_target_are_moved_alike(
    package: ModelPackage, augmentations: tuple[AugmentationSpec, ...], budget: int
) -> None:
    """What is bright is an object, wherever it went; nothing is lost at the edges of regions."""
    patches = patches_of(package, discs(3), *augmentations, cache=Cache(budget))
    for step in range(4):
        batch = patches.batch(step, 2)
        assert batch.image.shape == (2, 1, 32, 32)
        bright, inside = batch.image > 1.0, batch.target > 0.5
        assert float((bright == inside).float().mean()) > 0.97
        assert 0.02 < float(inside.float().mean()) < 0.5
        assert float(batch.weight.min()) > 0


def test_regions_are_preprocessed_with_the_statistics_of_the_whole(package: ModelPackage) -> None:
    """Also where the image is never read whole at once but for these."""
    pairs = discs(1)
    recipe = recipe_of(package)
    (whole,), _ = items_of(package, recipe, pairs, cache=Cache(2**30))
    (piece,), _ = items_of(package, recipe, pairs, cache=Cache(1))
    region = (slice(8, 40), slice(30, 64))
    assert whole.small
    assert not piece.small
    for a, b in zip(whole.read(region), piece.read(region), strict=True):
        np.testing.assert_array_equal(a, b)
    pixels = pairs[0].image.read().values.astype(np.float32)
    expected = ((pixels - pixels.mean()) / (pixels.std() + 1e-6))[region]
    np.testing.assert_allclose(piece.read(region)[0][0], expected, rtol=1e-4, atol=1e-5)


def test_a_large_image_is_read_in_regions_only(package: ModelPackage) -> None:
    """Once whole for its statistics and once for the places of objects, then a region per patch."""
    asked: list[int] = []
    pixels, labels = disc_image(0, 768, count=40)

    def reader(index: tuple[Any, ...]) -> np.ndarray:
        found: np.ndarray = pixels[index]
        asked.append(found.size)
        return found

    image = Image(None, "large", ("y", "x"), pixels.shape, pixels.dtype, reader)
    pair = Pair("large", image, Image.from_array(labels), content_digest(image))
    patches = patches_of(package, [pair], *FREE, cache=Cache(1))
    asked.clear()
    for step in range(3):
        patches.batch(step, 2)
    assert asked
    assert max(asked) < 768 * 768 / 8


def test_patches_are_drawn_where_something_is_painted(package: ModelPackage) -> None:
    pixels = np.zeros((512, 512), np.uint8)
    painted = np.zeros((512, 512), np.uint8)
    painted[400:404, 400:404], painted[404:408, 400:404] = 1, 2
    image = Image.from_array(pixels)
    pair = Pair("scribbles", image, Image.from_array(painted), "d", scribbles=True)
    patches = patches_of(package, [pair])
    seen = sum(float(patches.patch(0, n, 40).weight.max()) > 0 for n in range(40))
    assert seen > 20
    batch = patches.batch(1, 4)
    unpainted = batch.weight == 0
    assert float(unpainted.float().mean()) > 0.9


def test_an_image_smaller_than_the_patch_is_mirrored_and_its_outside_ignored(
    package: ModelPackage,
) -> None:
    pixels, labels = disc_image(0, 20, count=1)
    image = Image.from_array(pixels)
    pair = Pair("small", image, Image.from_array(labels), "d")
    batch = patches_of(package, [pair]).batch(0, 1)
    assert batch.image.shape == (1, 1, 32, 32)
    assert int((batch.weight > 0).sum()) == 20 * 20
    values, counts = np.unique(batch.image.numpy().round(5), return_counts=True)
    assert set(values) <= set(np.unique(patches_values(package, pair).round(5)))
    assert counts.sum() == 32 * 32


def patches_values(package: ModelPackage, pair: Pair) -> np.ndarray:
    (item,), _ = items_of(package, recipe_of(package), [pair])
    return item.read(item.whole)[0]


def test_planes_of_a_stack_are_items_and_unlabelled_ones_are_left_out(
    package: ModelPackage, tmp_path: Path
) -> None:
    made = [disc_image(n) for n in range(4)]
    labels = np.stack([m[1] for m in made])
    labels[2] = 0
    (tmp_path / "i").mkdir()
    (tmp_path / "l").mkdir()
    stack = np.stack([m[0] for m in made])
    tifffile.imwrite(tmp_path / "i" / "a.ome.tif", stack, metadata={"axes": "ZYX"})
    # Labels whose first axis is called channel: it is the image's z.
    tifffile.imwrite(tmp_path / "l" / "a.tif", labels, metadata={"axes": "CYX"}, imagej=True)
    (pair,) = find_pairs(tmp_path / "i", tmp_path / "l")
    items, notes = items_of(package, recipe_of(package), [pair])
    assert [i.at["z"] for i in items] == [0, 1, 3]
    assert any("3 of 4 planes have labels" in n for n in notes)
    np.testing.assert_array_equal(items[2].read(items[2].whole)[1], labels[3])


def test_a_volume_has_volumes_as_patches(tmp_path: Path) -> None:
    package = trainable(tmp_path / "p", axes="bczyx", size=(8, 4))
    rng = np.random.default_rng(0)
    labels = np.zeros((10, 24, 24), np.uint16)
    labels[2:8, 4:12, 4:12] = 1
    pixels = (labels * 100 + rng.integers(0, 20, labels.shape)).astype(np.uint8)
    pair = Pair("v", Image.from_array(pixels, "zyx"), Image.from_array(labels, "zyx"), "d")
    recipe = recipe_of(package, *FREE)
    items, _ = items_of(package, recipe, [pair])
    patches = Patches(recipe, items, {"z": 8, "y": 16, "x": 16}, 0)
    batch = patches.batch(0, 2)
    assert batch.image.shape == batch.target.shape == (2, 1, 8, 16, 16)
    assert float(((batch.image > 1) == (batch.target > 0.5)).float().mean()) > 0.9


def test_hidden_pixels_of_self_supervision_are_asked_for_alone(package: ModelPackage) -> None:
    pair = discs(1)[0]
    alone = Pair(pair.stem, pair.image, None, pair.digest)
    patches = patches_of(
        package, [alone], target={"kind": "blind-spot", "options": {"share": 0.05}}
    )
    batch = patches.batch(0, 1)
    hidden = batch.weight[0, 0] > 0
    assert 20 < int(hidden.sum()) < 100
    assert (batch.image[0, 0][~hidden] == batch.target[0, 0][~hidden]).all()
    assert (batch.image[0, 0][hidden] != batch.target[0, 0][hidden]).float().mean() > 0.8


def test_a_clean_image_is_preprocessed_by_itself_and_may_have_holes(package: ModelPackage) -> None:
    pair = discs(1)[0]
    clean = pair.image.read().values.astype(np.float32) * 3
    clean[:8] = np.nan
    given = Pair(pair.stem, pair.image, Image.from_array(clean), pair.digest)
    patches = patches_of(package, [given], target={"kind": "image", "options": {"names": ["a"]}})
    (item,) = patches.items
    image, target = item.read(item.whole)
    assert np.isnan(target[0, :8]).all()
    assert abs(float(np.nanmean(target))) < 1e-3
    assert abs(float(np.nanstd(target)) - 1) < 0.1  # holes count as the mean
    assert image.shape == target.shape


def test_encoding_a_patch_equals_encoding_the_whole(package: ModelPackage) -> None:
    """With the context that the target asks for, and straight views."""
    target = {"kind": "foreground-distance-boundary"}
    pairs = discs(1, 128)
    whole = patches_of(package, pairs, cache=Cache(2**30), target=target)
    piece = patches_of(package, pairs, cache=Cache(1), target=target)
    assert piece.reach >= whole.target.needs(pairs[0].labels.read().values.astype(np.int32))
    for n in range(4):
        a, b = whole.patch(0, n, 4), piece.patch(0, n, 4)
        np.testing.assert_allclose(a.target, b.target, atol=1e-6)
        np.testing.assert_array_equal(a.image, b.image)


def test_every_way_to_lay_an_image_is_exact() -> None:
    array = np.arange(12).reshape(3, 4)
    ways = {Variant(f, t) for f in ((), (0,), (1,), (0, 1)) for t in range(4)}
    for way in ways:
        laid = way.of(array, 2)
        assert laid.shape == way.shape((3, 4))
        np.testing.assert_array_equal(way.reduced(2).of(array, 2), laid)
        places = np.argwhere(array >= 0)
        moved = way.places(places, (3, 4))
        np.testing.assert_array_equal(laid[moved[:, 0], moved[:, 1]], array.ravel())
    assert len({w.reduced(2) for w in ways}) == 8


def test_magnification_makes_objects_larger() -> None:
    free = Augmentation([AugmentationSpec(kind="affine")], ("y", "x"))
    disc = np.hypot(*np.mgrid[-32:32, -32:32]) < 10
    labels = disc[None].astype(np.int32)
    [made] = free.resample([(labels, True)], (0.4, 2.0), (32, 32), (64, 64))
    assert made.dtype == np.int32
    assert 3.6 < made.sum() / disc.sum() < 4.4


def test_a_view_is_centred_and_goes_on_mirrored_beyond_the_edge() -> None:
    free = Augmentation([AugmentationSpec(kind="affine")], ("y", "x"))
    plane = np.random.default_rng(0).normal(size=(1, 20, 30)).astype(np.float32)
    [straight] = free.resample([(plane, False)], (0.0, 1.0), (9, 12), (11, 15))
    np.testing.assert_allclose(straight, plane[:, 4:15, 5:20], atol=1e-5)
    [beyond] = free.resample([(plane, False)], (0.0, 1.0), (2, 29), (11, 15))
    mirrored = np.pad(plane, ((0, 0), (8, 8), (8, 8)), mode="symmetric")
    np.testing.assert_allclose(beyond, mirrored[:, 5:16, 30:45], atol=1e-5)
    [turned] = free.resample([(plane, False)], (np.pi / 2, 1.0), (10, 10), (7, 7))
    expected = np.rot90(plane[:, 7:14, 7:14], -1, (1, 2))
    np.testing.assert_allclose(turned, expected, atol=1e-4)


def test_an_unknown_option_names_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"no option 'sigma'. Its options: by"):
        Augmentation([AugmentationSpec(kind="noise", options={"sigma": 3})], ("y", "x"))


@pytest.mark.parametrize("mode", ["symmetric", "constant"])
def test_regions_beyond_the_edge_are_as_numpy_pads(mode: Any) -> None:
    array = np.arange(20).reshape(4, 5)
    expected = np.pad(array, ((2, 3), (1, 4)), mode=mode)
    np.testing.assert_array_equal(covered(array, (-2, -1), (9, 10), mode), expected)
    np.testing.assert_array_equal(covered(array, (1, 2), (2, 2), mode), array[1:3, 2:4])


def test_a_cache_drops_what_was_not_used_for_longest() -> None:
    made: list[str] = []

    def make(name: str) -> tuple[np.ndarray, ...]:
        made.append(name)
        return (np.zeros(40, np.uint8),)

    cache = Cache(100)
    for name in ("a", "b", "a", "c", "a", "b"):
        cache.get(name, lambda name=name: make(name))
    assert made == ["a", "b", "c", "b"]


def test_items_say_which_plane_they_are(package: ModelPackage) -> None:
    stack = np.stack([disc_image(n)[0] for n in range(2)])
    pair = Pair("s", Image.from_array(stack, "zyx"), None, "d")
    recipe = recipe_of(package, target={"kind": "blind-spot"})
    items, _ = items_of(package, recipe, [pair])
    assert [i.name for i in items] == ["s (z 0)", "s (z 1)"]
    assert isinstance(items[0], Item)
    assert make_target("blind-spot").supplies == "nothing"
