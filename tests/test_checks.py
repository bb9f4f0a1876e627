"""Bad images and labels: found before the training, told once, with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from biozoo.errors import IncompleteError, MissingFileError, UsageError
from biozoo.package import ModelPackage
from biozoo_runners.images.base import Image
from biozoo_trainers.checks import check_pairs, without_copies
from biozoo_trainers.faults import grouped, notes_of
from biozoo_trainers.inference import infer_recipe
from biozoo_trainers.lineage import RETRAINING, Ancestor, Lineage, Round
from biozoo_trainers.masks import is_scattered
from biozoo_trainers.measuring import Scorer
from biozoo_trainers.pairs import Pair, content_digest, find_pairs
from biozoo_trainers.prepared import replayed
from biozoo_trainers.recipe import TargetSpec
from trainable import disc_image, discs, trainable

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return trainable(tmp_path_factory.mktemp("package") / "p")


def checked(
    package: ModelPackage, pairs: list[Pair], target: TargetSpec | None = None, **options: bool
) -> tuple[list[Pair], tuple[str, ...]]:
    recipe = infer_recipe(package).recipe
    if target is not None:
        recipe = recipe.model_copy(update={"target": target})
    return check_pairs(package, pairs, recipe, **options)


def faults(package: ModelPackage, pairs: list[Pair], **options: Any) -> Mapping[str, str]:
    with pytest.raises(IncompleteError) as error:
        checked(package, pairs, **options)
    return error.value.faults


def labelled(pair: Pair, labels: Array) -> Pair:
    return Pair(pair.stem, pair.image, Image.from_array(labels), pair.digest)


def pictured(stem: str, pixels: Array, axes: str = "yx") -> Pair:
    image = Image.from_array(pixels, axes=axes)
    return Pair(stem, image, Image.from_array(disc_image(0)[1]), content_digest(image))


def scattered(seed: int = 0) -> Array:
    """Two classes, each in many places."""
    return np.kron(np.random.default_rng(seed).integers(0, 3, (16, 16)), np.ones((4, 4), int))


# ---------------------------------------------------------------------------------- told together


def test_one_fault_of_many_images_is_told_once(package: ModelPackage) -> None:
    small = [labelled(p, disc_image(0, 48)[1]) for p in discs(5)]
    found = faults(package, [*small, *discs(1, first=5)])
    assert list(found) == ["5 images (disc00, disc01, disc02 and 2 more)"]
    assert "of one size" in next(iter(found.values()))


def test_faults_that_differ_in_numbers_are_one_and_say_whose_they_are() -> None:
    told = [("a1", "a1.tif has 3 channels"), ("b", "it is empty"), ("c2", "c2.tif has 4 channels")]
    assert grouped(told) == {
        "2 images (a1, c2)": "a1.tif has 3 channels (a1; the others alike)",
        "b": "it is empty",
    }
    assert len(grouped([("a", "one"), ("a", "another")])) == 2  # two images of one name


def test_a_note_of_many_images_is_told_once(package: ModelPackage) -> None:
    floats = [labelled(p, disc_image(n)[1].astype(np.float32)) for n, p in enumerate(discs(4))]
    _, notes = checked(package, floats)
    assert notes == (
        "4 images (disc00, disc01, disc02 and 1 more): labels of type float32 hold whole numbers",
    )


def test_two_notes_of_one_image_keep_its_name() -> None:
    assert notes_of([("a", "it is small"), ("a", "it is dark")]) == (
        "'a': it is small",
        "'a': it is dark",
    )


def test_files_that_cannot_be_read_are_told_once(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.tif").write_bytes(b"")
    with pytest.raises(IncompleteError, match="3 of 3 images cannot be read") as error:
        find_pairs(tmp_path, None)
    assert len(error.value.faults) == 1


@pytest.mark.parametrize("side", ["images", "labels"])
def test_a_folder_that_is_missing_or_empty_is_called_what_it_is(tmp_path: Path, side: str) -> None:
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    empty.mkdir()
    tifffile.imwrite(full / "a.tif", disc_image(0)[0])
    with pytest.raises(UsageError, match=f"The folder of {side}, .*empty, holds no image"):
        find_pairs(*((empty, full) if side == "images" else (full, empty)))
    nowhere = tmp_path / "fulll"
    with pytest.raises(MissingFileError, match=f"The folder of {side} .*Did you mean full"):
        find_pairs(*((nowhere, full) if side == "images" else (full, nowhere)))


# ------------------------------------------------------------------------------------- of labels


def test_labels_that_were_forgotten_are_asked_for(package: ModelPackage) -> None:
    bare = [Pair(p.stem, p.image, None, p.digest) for p in discs(3)]
    with pytest.raises(UsageError, match=r"numbered objects.*zoo train MODEL IMAGES LABELS"):
        checked(package, bare)


@pytest.mark.parametrize(
    ("value", "told"),
    [(np.inf, "infinite"), (3e10, "numbers up to 16777216"), (-3e10, "run from -30000000000")],
)
def test_numbers_that_no_label_can_be_are_told(
    package: ModelPackage, value: float, told: str
) -> None:
    one, two = discs(2)
    labels = disc_image(0)[1].astype(np.float64)
    labels[0, 0] = value
    assert told in faults(package, [labelled(one, labels), two])["disc00"]


def test_integers_beyond_what_labels_can_be_are_told(package: ModelPackage) -> None:
    one, two = discs(2)
    labels = disc_image(0)[1].astype(np.uint64) * np.uint64(2**40)
    assert "Number the objects anew" in faults(package, [labelled(one, labels), two])["disc00"]


def test_numbers_that_would_run_into_each_other_are_told(package: ModelPackage) -> None:
    """20,000,000 and 20,000,001 are one number in float32, in which views are turned."""
    one, two = discs(2)
    labels = np.where(disc_image(0)[1] > 0, disc_image(0)[1] + np.int32(20_000_000), 0)
    assert "Number the objects anew" in faults(package, [labelled(one, labels), two])["disc00"]


def test_a_label_that_is_no_number_is_not_painted(package: ModelPackage) -> None:
    one, two = discs(2)
    labels = disc_image(0)[1].astype(np.float32)
    labels[:2] = np.nan
    pairs, notes = checked(package, [labelled(one, labels), two])
    assert len(pairs) == 2
    assert any("128 pixels of its labels are NaN: taken as not painted" in n for n in notes)


def test_labels_that_were_compressed_with_loss_are_refused(
    package: ModelPackage, tmp_path: Path
) -> None:
    for n in range(2):
        tifffile.imwrite(tmp_path / f"a{n}.tif", disc_image(n)[0])
        mask = (disc_image(n)[1] > 0).astype(np.uint8) * 255
        Pillow.fromarray(mask).save(tmp_path / f"a{n}_mask.jpg")
    found = faults(package, find_pairs(tmp_path, tmp_path))
    assert "JPEG" in next(iter(found.values()))


def test_classes_where_objects_are_needed_are_told(package: ModelPackage) -> None:
    one, two = discs(2)
    found = faults(package, [labelled(one, scattered()), labelled(two, scattered(1))])
    assert "number no objects" in next(iter(found.values()))


def test_numbers_of_objects_in_pieces_and_with_specks_are_no_classes() -> None:
    labels = np.zeros((128, 128), np.int32)
    for n, (y, x) in enumerate(np.ndindex(4, 4), start=1):
        labels[y * 32 : y * 32 + 20, x * 32 : x * 32 + 20] = n
        labels[y * 32 + 8, x * 32 : x * 32 + 20] = 0  # in two pieces
        labels[y * 32 + 22 : y * 32 + 32 : 2, x * 32 + 22 : x * 32 + 32 : 2] = n  # and specks
    assert not is_scattered(labels)
    assert is_scattered(scattered())
    assert not is_scattered(np.zeros((8, 8), np.int32))


def test_one_value_of_a_mask_is_the_class_of_a_model_with_one(package: ModelPackage) -> None:
    target = TargetSpec(kind="classes", options={"names": ["cell"], "activation": "sigmoid"})
    masks = [labelled(p, (disc_image(n)[1] > 0) * np.uint8(255)) for n, p in enumerate(discs(2))]
    pairs, notes = checked(package, masks, target)
    assert pairs[0].labels is not None
    assert np.unique(pairs[0].labels.read().values).tolist() == [0, 1]
    assert any("the one value 255 of its labels is taken as the class 1" in n for n in notes)
    numbered = [labelled(p, disc_image(n)[1]) for n, p in enumerate(discs(2))]
    found = faults(package, numbered, target=target)
    assert "one by one are no classes" in next(iter(found.values()))


def test_painted_classes_that_the_model_lacks_are_told_before_the_training(
    package: ModelPackage,
) -> None:
    target = TargetSpec(kind="classes", options={"names": ["cell"], "activation": "sigmoid"})
    painted = np.zeros((64, 64), np.uint8)
    painted[:4], painted[8:12] = 1, 5
    pairs = [labelled(p, painted) for p in discs(2)]
    found = faults(package, pairs, target=target, scribbles=True)
    assert "scribbles hold the number 5" in next(iter(found.values()))


def test_objects_that_are_given_as_scribbles_are_pointed_out(package: ModelPackage) -> None:
    painted = np.zeros((64, 64), np.uint8)
    painted[:4], painted[8:12] = 1, 7
    _, notes = checked(package, [labelled(p, painted) for p in discs(2)], scribbles=True)
    assert any("leave --scribbles out" in n for n in notes)


# ------------------------------------------------------------------------------------- of images


def test_pixels_that_are_no_number_are_told(package: ModelPackage) -> None:
    some = disc_image(0)[0].astype(np.float32)
    some[:2] = np.nan
    pairs = [pictured("some", some), *discs(2, first=1)]
    _, notes = checked(package, pairs)
    assert any(n.startswith("'some': 128 of 4096 pixels are NaN") for n in notes)
    nothing = np.full((64, 64), np.nan, np.float32)
    assert "all its pixels are NaN" in faults(package, [*pairs, pictured("none", nothing)])["none"]


def test_a_picture_that_was_saved_in_two_ways_is_one(package: ModelPackage) -> None:
    """Else one of them could be learned from and the other measured on."""
    pixels = (disc_image(0)[0] * 200).astype(np.uint8)
    pairs = [
        pictured("a", pixels),
        pictured("deeper", pixels.astype(np.uint16)),
        pictured("one plane", pixels[None], "zyx"),
        *discs(1, first=1),
    ]
    kept, notes = checked(package, pairs)
    assert [p.stem for p in kept] == ["a", "disc01"]
    assert sum("the same pixels as 'a'" in n for n in notes) == 1  # one note for both
    colour = pictured("colour", np.stack([pixels] * 3, -1), "yxc")
    assert without_copies([colour, *discs(1, first=2)], pairs)[0].stem == "disc02"


def test_images_to_be_kept_are_not_those_that_are_measured_on(package: ModelPackage) -> None:
    """Nothing is learned of held-out images, not even by another name."""
    own = tuple(discs(2))
    lineage = Lineage((Round(RETRAINING, Ancestor("p"), held_out=(discs(3)[2].digest,)),))
    ready: Any = SimpleNamespace(package=package, pairs=own, lineage=lineage)
    with pytest.raises(UsageError, match=r"leave --replay out"):
        replayed(ready, [p.image for p in discs(3)])


def test_a_gate_that_compares_what_the_model_does_not_have_is_told(package: ModelPackage) -> None:
    recipe = infer_recipe(package).recipe
    gate = recipe.gate.model_copy(update={"metric": "Dice"})
    with pytest.raises(UsageError, match=r"compares Dice.*Choose AP50 or AP50:90"):
        Scorer.of(package, recipe.model_copy(update={"gate": gate}))


def test_copies_with_other_labels_are_pointed_out(package: ModelPackage) -> None:
    one, two = discs(2)
    copy = Pair("copy", one.image, Image.from_array(disc_image(1)[1]), one.digest)
    _, notes = checked(package, [one, copy, two])
    assert "same pixels as 'disc00' (but other labels) and was left out" in notes[0]


def test_copies_alone_are_one_image(package: ModelPackage) -> None:
    (one,) = discs(1)
    copy = Pair("copy", one.image, one.labels, one.digest)
    assert "(copy shows the same pixels)" in faults(package, [one, copy])["disc00"]
