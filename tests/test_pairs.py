"""Images and labels: paired by name, and every fault of every pair told at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from biozoo.errors import IncompleteError, MissingFileError, UsageError
from biozoo.package import ModelPackage
from biozoo_runners.images.base import Image
from biozoo_trainers.inference import infer_recipe
from biozoo_trainers.pairs import Pair, check_pairs, content_digest, find_pairs
from trainable import disc_image, discs, trainable


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return trainable(tmp_path_factory.mktemp("package") / "p")


def folders(tmp_path: Path) -> tuple[Path, Path]:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    return images, labels


def save(path: Path, array: np.ndarray) -> None:
    if path.suffix == ".png":
        Pillow.fromarray(array).save(path)
    else:
        tifffile.imwrite(path, array)


def checked(
    package: ModelPackage, pairs: list[Pair], **options: bool
) -> tuple[list[Pair], tuple[str, ...]]:
    return check_pairs(package, pairs, infer_recipe(package).recipe, **options)


def with_labels(pair: Pair, labels: np.ndarray) -> Pair:
    return Pair(pair.stem, pair.image, Image.from_array(labels), pair.digest)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("cells.ome.tif", "cells.labels.ome.tif"),
        ("cells.ome.tif", "cells.tif"),
        ("cells.png", "cells_mask.png"),
        ("cells.tif", "CELLS-Masks.png".replace("CELLS", "cells")),
        ("cells_image.tif", "cells_labels.tif"),
        ("img_007.tif", "mask_007.tif"),
    ],
)
def test_a_label_file_is_found_by_its_name(tmp_path: Path, image: str, label: str) -> None:
    images, labels = folders(tmp_path)
    pixels, numbers = disc_image(0)
    save(images / image, pixels)
    save(labels / label, numbers)
    (pair,) = find_pairs(images, labels)
    assert pair.labels is not None
    assert pair.labels.path == labels / label
    assert pair.image.path == images / image


def test_images_and_labels_may_lie_in_one_folder(tmp_path: Path) -> None:
    for n in range(2):
        pixels, numbers = disc_image(n)
        save(tmp_path / f"a{n}.tif", pixels)
        save(tmp_path / f"a{n}_mask.tif", numbers)
    pairs = find_pairs(tmp_path, tmp_path)
    assert [p.stem for p in pairs] == ["a0", "a1"]
    assert [p.labels.path.name for p in pairs if p.labels and p.labels.path] == [
        "a0_mask.tif",
        "a1_mask.tif",
    ]


def test_names_that_do_not_pair_are_listed(tmp_path: Path) -> None:
    images, labels = folders(tmp_path)
    pixels, numbers = disc_image(0)
    for name in ("a", "b"):
        save(images / f"{name}.tif", pixels)
    for name in ("a", "c"):
        save(labels / f"{name}.tif", numbers)
    with pytest.raises(IncompleteError, match="1 of 2 images have labels") as error:
        find_pairs(images, labels)
    assert error.value.faults == {"without labels": "b", "labels without an image": "c.tif"}
    (labels / "a.tif").unlink()
    with pytest.raises(IncompleteError, match="share a name") as error:
        find_pairs(images, labels)
    assert error.value.faults == {"images": "a, b", "labels": "c.tif"}
    with pytest.raises(MissingFileError):
        find_pairs(tmp_path / "nowhere", labels)


def test_arrays_are_paired_by_their_place() -> None:
    made = [disc_image(n) for n in range(2)]
    pairs = find_pairs([i for i, _ in made], [n for _, n in made])
    assert [p.stem for p in pairs] == ["image 1", "image 2"]
    with pytest.raises(UsageError, match="2 images and 1 labels"):
        find_pairs([i for i, _ in made], [made[0][1]])


def test_a_digest_is_of_the_pixels_alone(tmp_path: Path) -> None:
    pixels, _ = disc_image(0)
    save(tmp_path / "a.tif", pixels)
    save(tmp_path / "b.png", pixels)
    one, two = (find_pairs([tmp_path / n], None)[0] for n in ("a.tif", "b.png"))
    assert one.digest == two.digest
    pixels[0, 0] += 1
    assert content_digest(Image.from_array(pixels)) != one.digest


def test_good_pairs_pass_without_a_word(package: ModelPackage) -> None:
    pairs, notes = checked(package, discs(3))
    assert [p.stem for p in pairs] == ["disc00", "disc01", "disc02"]
    assert notes == ()


def test_all_faults_are_told_at_once(package: ModelPackage) -> None:
    good, size, fraction, mask, colour = discs(5)
    numbers = disc_image(2)[1]
    rgb = np.stack([numbers, numbers // 2, numbers], -1).astype(np.uint8)
    coloured = Pair(colour.stem, colour.image, Image.from_array(rgb, axes="yxc"), colour.digest)
    with pytest.raises(IncompleteError, match="4 of 5 images cannot be trained on") as error:
        checked(
            package,
            [
                good,
                with_labels(size, disc_image(1, 48)[1]),
                with_labels(fraction, numbers / 7),
                with_labels(mask, (disc_image(3)[1] > 0).astype(np.uint8) * 255),
                coloured,
            ],
        )
    faults = error.value.faults
    assert "measure y 48 x x 48, the image y 64 x x 64" in faults["disc01"]
    assert "float64 with fractions" in faults["disc02"]
    assert "are a mask: the one value 255" in faults["disc03"]
    assert "--split-masks" in faults["disc03"]
    assert "3 channels that differ" in faults["disc04"]


def test_a_mask_is_cut_into_objects_where_asked(package: ModelPackage) -> None:
    pair, other = discs(2)
    numbers = disc_image(0)[1]
    mask = with_labels(pair, (numbers > 0).astype(np.uint8))
    pairs, notes = checked(package, [mask, other], split_masks=True)
    assert pairs[0].labels is not None
    split = pairs[0].labels.read().values
    assert len(np.unique(split)) == len(np.unique(numbers))
    assert ((split > 0) == (numbers > 0)).all()
    assert any("its mask was cut into" in n for n in notes)


def test_labels_without_objects(package: ModelPackage) -> None:
    """One image of background is a fact; nothing but background is a mistake."""
    one, two = discs(2)
    empty = np.zeros((64, 64), np.uint16)
    _, notes = checked(package, [with_labels(one, empty), two])
    assert any("'disc00': it has no objects" in n for n in notes)
    with pytest.raises(IncompleteError, match="nothing but background"):
        checked(package, [with_labels(one, empty), with_labels(two, empty)])


def test_whole_numbers_saved_as_floats_are_taken_and_told(package: ModelPackage) -> None:
    one, two = discs(2)
    pairs, notes = checked(package, [with_labels(one, disc_image(0)[1].astype(np.float32)), two])
    assert len(pairs) == 2
    assert notes == ("'disc00': labels of type float32 hold whole numbers",)


def test_one_image_and_the_same_image_twice(package: ModelPackage) -> None:
    (one,) = discs(1)
    with pytest.raises(IncompleteError, match="it is the only image"):
        checked(package, [one])
    copy = Pair("copy", one.image, one.labels, one.digest)
    with pytest.raises(IncompleteError, match="it is the only image"):
        checked(package, [one, copy])
    pairs, notes = checked(package, [one, copy, *discs(1, first=1)])
    assert [p.stem for p in pairs] == ["disc00", "disc01"]
    assert "same pixels as 'disc00'" in notes[0]


def test_scribbles_may_leave_out_nearly_everything(package: ModelPackage) -> None:
    one, two = discs(2)
    painted = np.zeros((64, 64), np.uint8)
    with pytest.raises(IncompleteError, match="nothing is painted"):
        checked(package, [with_labels(one, painted), with_labels(two, painted)], scribbles=True)
    painted[:2, :2], painted[30, 30] = 1, 2
    pairs, _ = checked(
        package, [with_labels(one, painted), with_labels(two, painted)], scribbles=True
    )
    assert all(p.scribbles for p in pairs)


def test_an_image_that_the_model_does_not_take_is_told_with_the_others(
    package: ModelPackage,
) -> None:
    rgb = np.zeros((64, 64, 3), np.uint8)
    image = Image.from_array(rgb, axes="yxc")
    pair = Pair("colour", image, Image.from_array(disc_image(0)[1]), content_digest(image))
    with pytest.raises(IncompleteError, match="Choose with --channel"):
        checked(package, [pair, *discs(1)])
