"""Test tensors as pictures: any axes, any values, any size, and files that mean harm."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from biozoo.package import ModelPackage
from biozoo_model_cards import ModelCard
from biozoo_model_cards.drawing import draw
from biozoo_model_cards.pictures import Picture, package_image
from biozoo_model_cards.pictures import test_pictures as pictures_of
from biozoo_model_cards.views import View
from packages import change_rdf, make_package

IDS = {"b": "batch", "c": "channel", "t": "time", "z": "z", "y": "y", "x": "x", "i": "index"}


def _axes(letters: str) -> list[str]:
    return [IDS[letter] for letter in letters]


def _pixels(view: View) -> np.ndarray:
    with Image.open(io.BytesIO(view.content)) as picture:
        assert picture.size == (view.width, view.height)
        return np.asarray(picture.convert("RGB"))


def _rising(shape: tuple[int, int] = (200, 300)) -> np.ndarray:
    """Dark at the top left, bright at the bottom right."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (x + 2 * y).astype(np.float32)


@pytest.mark.parametrize("letters", ["yx", "xy", "bcyx", "byxc", "bcxy", "tbyxc", "cyx", "bczyx"])
def test_rows_are_y_and_columns_are_x_in_any_order_of_axes(letters: str) -> None:
    plane = _rising()
    array = np.zeros([200 if a == "y" else 300 if a == "x" else 1 for a in letters], np.float32)
    array += plane.T if letters.index("x") < letters.index("y") else (
        plane[..., None] if letters.endswith("c") else plane
    )  # fmt: skip
    (view,) = draw(array, _axes(letters), is_input=True).views[:1]
    pixels = _pixels(view)
    assert pixels.shape[:2] == (200, 300)
    assert pixels[0, 0, 0] < 3
    assert pixels[-1, -1, 0] > 250
    assert pixels[-1, 0, 0] > pixels[0, -1, 0]  # y counts twice


def test_what_is_left_out_is_said() -> None:
    array = np.random.default_rng(0).random((3, 2, 9, 40, 50)).astype(np.float32)
    drawn = draw(array, _axes("btzyx"), is_input=True)
    assert drawn.about == "middle z plane (5 of 9); first of 3 along batch; first of 2 along time"
    assert [v.title for v in drawn.views] == ["", "maximum along z"]
    middle = _pixels(drawn.views[0])[::1, ::1, 0].astype(int)
    brightest = _pixels(drawn.views[1])[..., 0].astype(int)
    assert brightest.mean() != middle.mean()


def test_channels_stand_side_by_side_and_three_of_an_image_are_its_colours() -> None:
    array = np.zeros((1, 3, 64, 64), np.uint8)
    array[0, 0] = 255
    (colour,) = draw(array, _axes("bcyx"), names=("R", "G", "B"), is_input=True).views
    assert tuple(_pixels(colour)[5, 5]) == (255, 0, 0)
    assert "red, green and blue" in colour.caption
    named = draw(array, _axes("bcyx"), names=("dapi", "actin", "er"), is_input=True).views
    assert [v.title for v in named] == ["dapi", "actin", "er"]
    stack = np.random.default_rng(0).random((300, 60, 70)).astype(np.float32)
    _, brightest = draw(stack, _axes("zyx"), is_input=True).views
    assert "of every 5th plane" in brightest.caption
    many = draw(np.zeros((40, 8, 8), np.float32), _axes("cyx"), is_input=False)
    assert len(many.views) == 6
    assert many.note == "34 more channels not shown"


def test_probabilities_are_drawn_between_0_and_1_and_images_by_their_percentiles() -> None:
    dim = np.full((50, 50), 0.1, np.float32)
    dim[0, 0] = 0.2
    (view,) = draw(dim, _axes("yx"), is_input=False).views
    assert _pixels(view)[30, 30, 0] == 26
    assert "black is 0, white is 1" in view.caption
    image = np.full((50, 50), 1000, np.uint16)
    image[:25] = 1200
    image[0, 0] = 65535  # a hot pixel must not make the rest black
    (view,) = draw(image, _axes("yx"), is_input=True).views
    pixels = _pixels(view)
    assert pixels[5, 100, 0] > 250
    assert pixels[-1, -1, 0] < 5


def test_objects_and_classes_have_colours() -> None:
    labels = np.zeros((60, 60), np.int32)
    labels[:20], labels[40:] = 1, 2
    for array, title in ((labels, "output0"), (labels.astype(np.float32), "mask of cells")):
        (view,) = draw(array, _axes("yx"), title=title, is_input=False).views
        pixels = _pixels(view)
        first, none, second = (tuple(pixels[round(view.height * f), 5]) for f in (0.1, 0.5, 0.9))
        assert none == (0, 0, 0)
        assert len({first, none, second}) == 3
        assert "each number has a colour" in view.caption
    (view,) = draw(labels.astype(np.uint16), _axes("yx"), title="raw", is_input=True).views
    assert "colour" not in view.caption


@pytest.mark.parametrize("value", [0.0, 7.5, float("nan"), float("inf")])
def test_a_constant_is_no_fault(value: float) -> None:
    (view,) = draw(np.full((30, 30), value, np.float32), _axes("yx"), is_input=True).views
    pixels = _pixels(view)
    assert len(np.unique(pixels)) == 1
    assert ("100 % is not a number" in view.caption) is not np.isfinite(value)


def test_values_that_are_no_numbers_are_black_and_counted() -> None:
    image = _rising((100, 200))
    image[:, :100] = np.nan
    image[50, 150] = np.inf
    (view,) = draw(image, _axes("yx"), is_input=True).views
    pixels = _pixels(view)
    assert pixels[:, :100].max() < 3
    assert pixels[:, 110:].mean() > 60
    assert "50 % is not a number" in view.caption


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int64", "uint64", "float16", "float64", "bool"]
)
def test_every_number_type_is_drawn(dtype: str) -> None:
    array = (_rising((70, 80)) % 100).astype(dtype)
    for is_input in (True, False):
        (view,) = draw(array, _axes("yx"), is_input=is_input).views
        assert len(np.unique(_pixels(view))) > 1


def test_extreme_values_are_no_fault() -> None:
    array = np.array([[np.finfo(np.float64).max, -np.finfo(np.float64).max], [0, 1]])
    (view,) = draw(array, _axes("yx"), is_input=True).views
    assert _pixels(view).max() == 255


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 400), (4000, 3)])
def test_tiny_and_thin_tensors_can_be_seen(shape: tuple[int, int]) -> None:
    (view,) = draw(_rising(shape), _axes("yx"), is_input=True).views
    assert min(view.width, view.height) >= 12
    assert 24 <= max(view.width, view.height) <= 600
    if max(shape) < 10:
        assert view.enlarged > 20
        whole = view.enlarged
        assert (view.height, view.width) == (shape[0] * whole, shape[1] * whole)


def test_a_huge_tensor_is_subsampled_and_small_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "huge.npy"
    shape = (1, 1, 300, 10_000, 10_000)  # 120 GB, of which the file has holes for nearly all
    array = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    array[0, 0, 150, :200, :200] = 1
    del array
    drawn = draw(np.load(path, mmap_mode="r"), _axes("bczyx"), is_input=False)
    assert drawn.about == "middle z plane (151 of 300); every 10th pixel"
    assert len(drawn.views) == 1  # to find the brightest of 300 planes would take minutes
    assert _pixels(drawn.views[0])[0, 0, 0] == 255
    assert all(max(v.width, v.height) <= 512 and len(v.content) < 150_000 for v in drawn.views)


def test_noise_does_not_make_a_large_file() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 900, 900), dtype=np.uint8)
    (view,) = draw(noise, _axes("cyx"), is_input=True).views
    assert view.media == "image/jpeg"
    assert len(view.content) < 250_000


@pytest.mark.parametrize(
    ("array", "letters", "words"),
    [
        (np.zeros((1, 3), np.float32) + 0.5, "bc", "no image (1 × 3): 0.5, 0.5, 0.5"),
        (np.arange(28.0), "c", "no image (28), values from 0 to 27"),
        (np.zeros((2, 2), complex), "yx", "values of type complex128 cannot be drawn"),
        (np.zeros((2, 2, 2)), "yx", "it has 3 dimensions, the description has 2 axes"),
        (np.zeros((0, 5)), "yx", "it holds no values"),
        (np.array(["a"]), "x", "values of type <U1 cannot be drawn"),
        (np.full((1, 40), np.nan), "bc", "no image (1 × 40), without a finite value"),
    ],
)
def test_what_is_no_image_is_told_in_words(array: np.ndarray, letters: str, words: str) -> None:
    drawn = draw(array, _axes(letters), is_input=False)
    assert drawn.views == ()
    assert drawn.note == words


def test_an_axis_that_stands_twice_is_no_fault() -> None:
    assert draw(np.zeros((2, 2)), ["y", "y"], is_input=True).views == ()


# ---------------------------------------------------------------------------------------- package


def _pictures(folder: Path) -> tuple[Picture, ...]:
    package = ModelPackage.from_folder(folder)
    card = ModelCard.of(package)
    return pictures_of(package, card.inputs, card.outputs)


def test_the_pictures_are_those_of_the_test_tensors(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "tiny", inputs=2, outputs=1, validate=False)
    shown = _pictures(folder)
    assert [(p.tensor, p.is_input, p.shape) for p in shown] == [
        ("raw", True, (1, 1, 16, 16)),
        ("raw1", True, (1, 1, 16, 16)),
        ("prediction", False, (1, 1, 16, 16)),
    ]
    raw = np.load(folder / "test_raw.npy")[0, 0]
    view = shown[0].views[0]
    brightest = np.unravel_index(raw.argmax(), raw.shape)
    drawn = _pixels(view)[view.enlarged // 2 :: view.enlarged, view.enlarged // 2 :: view.enlarged]
    assert drawn.shape[:2] == raw.shape
    assert drawn[brightest][0] == 255
    assert shown[0].alt(view).startswith("Test input raw")


def test_old_descriptions_name_their_tensors_elsewhere(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "tiny", validate=False)
    change_rdf(
        folder,
        format_version="0.4.10",
        inputs=[{"name": "raw", "axes": "bcyx", "shape": [1, 1, 16, 16]}],
        outputs=[{"name": "out", "axes": "bcyx", "shape": [1, 1, 16, 16]}],
        test_inputs=["test_raw.npy"], test_outputs=["test_prediction.npy"],
    )  # fmt: skip
    assert [len(p.views) for p in _pictures(folder)] == [1, 1]


class _Attack:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("pwned"),))


@pytest.mark.parametrize("kind", ["pickle", "object", "zip", "cut", "text", "missing", "huge"])
def test_a_tensor_that_cannot_be_read_says_so(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make_package(tmp_path / "tiny", validate=False)
    change_rdf(
        folder,
        outputs=[{"id": "prediction", "test_tensor": {"source": "test_prediction.npy"},
                  "axes": [{"type": "batch"}, {"type": "channel", "channel_names": ["a"]},
                           {"type": "space", "id": "y"}, {"type": "space", "id": "x"}]}],
    )  # fmt: skip
    file = folder / "test_prediction.npy"  # no sha256 is declared of it
    if kind == "pickle":
        file.write_bytes(pickle.dumps(_Attack()))
    elif kind == "object":
        np.save(file, np.array([_Attack()], dtype=object), allow_pickle=True)
    elif kind == "zip":
        with file.open("wb") as out:
            np.savez(out, a=np.zeros(3))
    elif kind == "cut":
        file.write_bytes(file.read_bytes()[:200])
    elif kind == "text":
        file.write_text("no array")
    elif kind == "huge":
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 99999999), }"
        file.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    else:
        file.unlink()
    output = _pictures(folder)[1]
    assert output.views == ()
    assert output.note in (
        "test_prediction.npy cannot be read", "test_prediction.npy is not at hand",
    )  # fmt: skip
    assert not (tmp_path / "pwned").exists()


def test_a_tensor_that_is_not_the_described_one_is_not_shown(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "tiny", validate=False)
    np.save(folder / "test_raw.npy", np.ones((1, 1, 16, 16), np.float32))
    raw = _pictures(folder)[0]
    assert raw.views == ()
    assert raw.note == "test_raw.npy is not the file that is described"


@pytest.mark.parametrize("source", ["../secret.npy", "/etc/passwd", "https://evil.example/x.npy"])
def test_a_tensor_outside_the_package_is_not_read(tmp_path: Path, source: str) -> None:
    np.save(tmp_path / "secret.npy", np.ones((1, 1, 16, 16), np.float32))
    folder = make_package(tmp_path / "tiny", validate=False)
    change_rdf(
        folder,
        inputs=[{"id": "raw", "axes": [{"type": "space", "id": "y"}, {"type": "space"}],
                 "test_tensor": {"source": source}}],
    )  # fmt: skip
    assert _pictures(folder)[0].views == ()


def test_images_of_documents_are_those_of_the_package_only(tmp_path: Path) -> None:
    root = tmp_path / "package"
    root.mkdir()
    big = Image.new("RGB", (3000, 100), "red")
    for path in (root / "in side.png", tmp_path / "out.png"):
        big.save(path)
    (root / "link.png").symlink_to(tmp_path / "out.png")
    (root / "script.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>")
    (root / "fake.png").write_text("<script>alert(1)</script>")
    made = package_image(root, "in%20side.png")
    assert made is not None
    with Image.open(io.BytesIO(made[0])) as picture:
        assert picture.size == (900, 30)
    for source in (
        "../out.png", "link.png", str(tmp_path / "out.png"), "script.svg", "fake.png", "none.png",
        "https://evil.example/x.png", "data:image/png;base64,x", "\\\\host\\x.png", "",
        "..%2fout.png",
    ):  # fmt: skip
        assert package_image(root, source) is None, source


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    Image.new("1", (8000, 8000)).save(tmp_path / "bomb.png")
    assert package_image(tmp_path, "bomb.png") is None
