"""Targets: what each promises, and what their channels mean."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biozoo.errors import MissingDependencyError, NotFoundError, UsageError
from biozoo_trainers.contract import TargetContract, touching_objects
from biozoo_trainers.labels import as_labels, from_scribbles, to_scribbles
from biozoo_trainers.scores import score_instances
from biozoo_trainers.targets import IGNORE, Target, make_target
from biozoo_trainers.targets.affinities import Affinities
from biozoo_trainers.targets.base import Encoded
from biozoo_trainers.targets.blind_spot import BlindSpot
from biozoo_trainers.targets.boundary import ForegroundBoundary
from biozoo_trainers.targets.classes import Classes
from biozoo_trainers.targets.distance import ForegroundDistance, ForegroundDistanceBoundary
from biozoo_trainers.targets.foreground import Foreground
from biozoo_trainers.targets.image import ImageToImage

pytest.importorskip("edt")

SOURCES = Path(__file__).resolve().parents[1] / "zoo" / "models"
KINDS = {
    "affinities": Affinities,
    "blind-spot": BlindSpot,
    "classes": Classes,
    "foreground": Foreground,
    "foreground-boundary": ForegroundBoundary,
    "foreground-distance": ForegroundDistance,
    "foreground-distance-boundary": ForegroundDistanceBoundary,
    "image": ImageToImage,
}
OBJECTS = [
    Foreground(),
    ForegroundBoundary(),
    ForegroundBoundary(boundary="between"),
    ForegroundDistance(),
    ForegroundDistance(channels=["background", "foreground", "distance"], full_distance=4),
    ForegroundDistanceBoundary(),
]


def idea(target: Target) -> str:
    return f"{target.name} {'+'.join(target.channels(2))}"


class TestObjectMaps(TargetContract):
    @pytest.fixture(params=OBJECTS, ids=idea)
    def target(self, request: pytest.FixtureRequest) -> Any:
        return request.param


class TestAffinities(TargetContract):
    @pytest.fixture(params=[Affinities(), Affinities(foreground=True)], ids=["pairs", "with more"])
    def target(self, request: pytest.FixtureRequest) -> Any:
        return request.param


class TestClasses(TargetContract):
    @pytest.fixture(
        params=[
            Classes(names=["background", "cell", "nucleus"]),
            Classes(names=["cell", "nucleus"], activation="sigmoid"),
            Classes(names=["out", "cell", "nucleus"], activation="sigmoid", background=True),
            Classes(names=["cell", "nucleus"], background=False),
        ],
        ids=["softmax", "sigmoid", "sigmoid with background", "softmax without background"],
    )
    def target(self, request: pytest.FixtureRequest) -> Any:
        return request.param


class TestImageToImage(TargetContract):
    @pytest.fixture
    def target(self) -> Target:
        return ImageToImage(names=["red", "green"])


class TestBlindSpot(TargetContract):
    @pytest.fixture
    def target(self) -> Target:
        return BlindSpot(names=["red", "green"])


# ---------------------------------------------------------------------------------------- by name


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_names_a_target(kind: str) -> None:
    """Each is found by its kind, which is its own name for itself."""
    target = make_target(kind)
    assert type(target) is KINDS[kind]
    assert target.name == kind


def test_an_unknown_kind_or_option_is_named_with_what_there_is() -> None:
    with pytest.raises(NotFoundError, match="foreground-distance"):
        make_target("foreground-distanze")
    with pytest.raises(UsageError, match=r"'depth'.*full_distance"):
        make_target("foreground", {"depth": 3})


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("foreground", {"channels": ["nuclei"]}, "'nuclei'.*foreground, background"),
        ("foreground", {"channels": []}, "none"),
        ("foreground-distance", {"channels": ["distance"]}, "Add the channel 'foreground'"),
        ("foreground-distance", {"channels": ["distance", "distance"]}, "each once"),
        ("foreground-distance", {"full_distance": 0.5}, "at least 1 pixel"),
        ("foreground-distance", {"decoding": {"seed_treshold": 0.5}}, "seed_treshold"),
        ("foreground-boundary", {"boundary": "thick"}, "'between' or 'outline'"),
        ("classes", {"names": ["cell"]}, "at least 2"),
        ("classes", {"names": ["a", "a"]}, "all different"),
        ("classes", {"activation": "relu"}, "'softmax' or 'sigmoid'"),
        ("affinities", {"offsets": [[0, 1], [1, 0], [0, 1]]}, "different steps"),
        ("affinities", {"offsets": [[0, 1], [3, 0]]}, "step of 1 along each axis"),
        ("affinities", {"offsets": [[0, 1], [1, 0, 0]]}, "all of two numbers"),
        ("image", {"loss": "bce"}, "'l1' or 'mse' or 'huber'"),
        ("blind-spot", {"share": 0}, "share above 0"),
    ],
)
def test_wrong_options_are_told(kind: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        make_target(kind, options)


def test_importing_targets_imports_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys, biozoo_trainers.targets, biozoo_trainers.scores, biozoo_trainers.masks;"
        "import biozoo_trainers.targets.star_convex, biozoo_trainers.targets.flow;"
        "print([m for m in ('torch', 'scipy', 'skimage', 'stardist') if m in sys.modules])"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "[]"


# ----------------------------------------------------------------------------------------- labels


def test_scribbles_become_labels_and_back() -> None:
    """0 unpainted, 1 background, 2 the first class."""
    painted = np.array([[0, 1], [2, 3]], np.uint8)
    labels = from_scribbles(painted)
    assert labels.dtype == np.int32
    assert labels.tolist() == [[IGNORE, 0], [1, 2]]
    assert to_scribbles(labels).tolist() == painted.tolist()


def test_labels_of_any_integer_type_are_taken_and_no_others() -> None:
    for kind in (np.uint8, np.uint16, np.int64, np.uint32, bool):
        assert as_labels(np.ones((2, 2), kind)).dtype == np.int32
    with pytest.raises(UsageError, match="float32"):
        as_labels(np.ones((2, 2), np.float32))
    with pytest.raises(UsageError, match="Number the objects anew"):
        as_labels(np.array([2**40]))


# ------------------------------------------------------------------------------- what maps mean


def test_maps_by_hand() -> None:
    """Two objects that touch, one that does not: every pixel of a row."""
    row = np.array([0, 1, 1, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 3, 3, 3, 0], np.int32)
    labels = np.repeat(row[None], 9, axis=0)  # so high that only sides count
    maps = ForegroundDistanceBoundary().encode(labels).target[:, 4]
    assert maps[0].astype(int).tolist() == (row > 0).astype(int).tolist()
    third = np.float32(1 / 3)
    distance = [0, third, 2 * third, 1, 2 * third, third, 0.5, 1, 0.5, *[0] * 5, 0.5, 1, 0.5, 0]
    np.testing.assert_allclose(maps[1], distance, rtol=1e-6)
    assert np.flatnonzero(maps[2]).tolist() == [4, 5, 6, 7]  # 2 pixels to each side
    outline = ForegroundBoundary().encode(labels).target[1, 4]
    assert np.flatnonzero(outline).tolist() == [0, 1, 5, 6, 8, 9, 13, 14, 16, 17]
    gap = Foreground().encode(labels).target[0, 4]
    assert np.flatnonzero(gap).tolist() == [1, 2, 3, 4, 7, 8, 14, 15, 16]


def test_a_small_object_keeps_its_pixels_where_it_touches_a_large_one() -> None:
    """The gap would take most of it: the large one gives instead, and both are found."""
    labels = np.ones((20, 20), np.int32)
    labels[8:10, 8:11] = 2
    made = Foreground().encode(labels).target[0]
    assert made[8:10, 8:11].all()
    assert not made[7, 8:11].any()
    assert score_instances(labels, Foreground().decode(made[None])).value == 1


def test_an_object_that_an_outline_covers_is_open_in_its_middle() -> None:
    """Else a boundary model could never find it."""
    labels = np.zeros((14, 14), np.int32)
    labels[4:9, 4:9] = 1
    labels[4:9, 9:11] = 2  # two pixels wide: all of it is outline
    target = ForegroundBoundary()
    made = target.decode(target.encode(labels).target)
    assert score_instances(labels, made).value == 1


@pytest.mark.parametrize("seed", range(3))
def test_channels_mean_what_the_built_in_nuclei_models_were_taught(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Targets and weights are those of the training code of nuclei-fluo, pixel by pixel."""
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(SOURCES))
    from common.nuclei import CHANNEL_NAMES, targets
    from common.views import make_item

    labels = touching_objects(2, seed=seed)
    assert labels.max() > 10
    item = make_item(np.zeros((1, *labels.shape), np.float32), labels)
    maps, weight = targets(item.labels, item.distance, item, 1.0)
    target = ForegroundDistanceBoundary()
    made = target.encode(labels)
    assert target.channels(2) == CHANNEL_NAMES
    np.testing.assert_allclose(made.target, maps.numpy(), atol=1e-5)
    inside, boundary = maps[0:1], maps[2:3]
    expected = torch.cat((weight, weight * (1 + inside), weight * (1 + boundary)))
    np.testing.assert_allclose(made.weight, expected.numpy(), rtol=1e-5)


def test_channels_mean_what_em_membrane_was_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Membrane, cell and distance up to 8 pixels, by the options of a target."""
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(SOURCES))
    from common.recipes import load_recipe
    from common.views import make_item

    recipe = load_recipe("em-membrane")
    labels = touching_objects(2, seed=4)
    item = make_item(np.zeros((1, *labels.shape), np.float32), labels)
    full = item.reach.clamp(max=recipe.FULL_DISTANCE)[item.labels.long()]
    distance = (item.distance / full).clamp(max=1) * (item.labels > 0)
    target = ForegroundDistance(
        channels=["background", "foreground", "distance"], full_distance=recipe.FULL_DISTANCE
    )
    made = target.encode(labels).target
    np.testing.assert_allclose(made[2], distance[0].numpy(), atol=1e-5)
    np.testing.assert_array_equal(made[0], labels == 0)
    entry = target.instances("probability", recipe.CHANNEL_NAMES)
    assert (entry["foreground"], entry["distance"]) == ("cell", "distance")


def test_the_rule_of_a_package_is_decoded_by() -> None:
    """Thresholds of config.biozoo.instances stand in the options, and in the entry again."""
    target = ForegroundDistance(decoding={"seed_threshold": 0.9, "min_size": 150})
    entry = target.instances("maps", ["nuclei", "depth"])
    assert entry["seed_threshold"] == 0.9
    assert entry["min_size"] == 150
    assert entry["foreground"] == "nuclei"
    assert entry["output"] == "maps"
    labels = touching_objects(2)
    small = np.bincount(labels.ravel()) < 150
    assert small.any()
    found = target.decode(target.encode(labels).target)
    assert np.bincount(found.ravel())[1:].min() >= 150
    with pytest.raises(UsageError, match="2 channels, 1 names"):
        target.instances("maps", ["nuclei"])


def test_an_outline_alone_numbers_every_side_and_has_no_rule_for_a_run() -> None:
    target = ForegroundBoundary(channels=["boundary"])
    labels = np.repeat([1, 2, 3], 20)[None].repeat(30, axis=0).astype(np.int32)
    assert score_instances(labels, target.decode(target.encode(labels).target)).value == 1
    assert target.instances("maps", ["boundary"]) is None


# ------------------------------------------------------------------------------------ ignored


def test_only_what_is_surely_known_beside_unpainted_pixels_is_taught() -> None:
    """A stroke inside an object teaches the foreground, but neither its depth nor its outline."""
    labels = np.full((30, 30), IGNORE, np.int32)
    labels[10:13, 5:20] = 1
    labels[20:23, 5:20] = 0
    made = ForegroundDistanceBoundary().encode(labels)
    stroke, back = (11, slice(8, 16)), (21, slice(8, 16))
    assert (made.weight[0][stroke] > 0).all()
    assert (made.target[0][stroke] == 1).all()
    assert (made.target[0][back] == 0).all()
    assert not made.weight[1][stroke].any()
    assert (made.weight[1][back] > 0).all()
    assert not made.weight[2][stroke].any()
    outline = ForegroundBoundary().encode(labels)
    assert (outline.weight[1][stroke] > 0).all()  # its own row is surely inside
    assert not outline.weight[1][10, 8:16].any()  # at the rim of the stroke nobody knows


def test_a_boundary_that_is_there_whatever_is_hidden_is_taught() -> None:
    labels = np.repeat([1, 2], 15)[None].repeat(30, axis=0).astype(np.int32)
    labels[:10] = IGNORE
    made = ForegroundDistanceBoundary().encode(labels)
    assert (made.weight[2][10:, 14:16] > 0).all()
    assert (made.target[2][10:, 14:16] == 1).all()
    assert not made.weight[2][10, :10].any()


def test_an_affinity_to_a_hidden_pixel_counts_only_from_the_background() -> None:
    """A background pixel shares no object with whatever is hidden."""
    labels = np.array([[0, IGNORE, 1, 1, 0, IGNORE, 0]], np.int32)
    target = Affinities(offsets=[(0, -1), (-1, 0)])
    made = target.encode(labels)
    assert made.weight[0, 0].tolist() == [0, 0, 0, 1, 1, 0, 1]
    assert made.target[0, 0].tolist() == [0, 0, 0, 1, 0, 0, 0]
    assert not made.weight[1].any()  # there is no row above


# ------------------------------------------------------------------------------------ affinities


def test_affinities_survive_what_a_network_gets_wrong() -> None:
    """A leak through one pixel of a wall joins two objects for neighbours alone, and not here."""
    labels = np.zeros((24, 44), np.int32)
    labels[2:22, 2:22], labels[2:22, 22:42] = 1, 2
    target = Affinities()
    maps = target.encode(labels).target.copy()
    names = target.channels(2)
    leak = names.index("affinity_0_-1")
    maps[leak, 10, 22] = 0.9
    assert target.decode(maps).max() == 2
    near = Affinities(offsets=[(-1, 0), (0, -1)])
    assert near.decode(maps[[names.index(n) for n in near.channels(2)]]).max() == 1


def test_the_mutex_watershed_is_that_of_one_pair_at_a_time() -> None:
    """Joining the surest at once changes nothing: against the definition, each pair different."""
    from biozoo_trainers.targets.mutex import mutex_watershed
    from biozoo_trainers.targets.offsets import ahead, behind

    rng = np.random.default_rng(0)
    offsets, shape = [(-1, 0), (0, -1), (-2, 1), (0, 3)], (5, 6)
    index = np.arange(30).reshape(shape)
    counts = set()
    for _ in range(40):
        maps = np.full((4, *shape), np.nan, np.float32)
        levels = iter(rng.permutation(np.arange(128, 255)))
        pairs = []
        for c, offset in enumerate(offsets):
            near = sum(map(abs, offset)) == 1
            here, there = index[ahead(offset)], index[behind(offset)]
            for a, b in zip(here.ravel(), there.ravel(), strict=True):
                if rng.random() < 0.3:  # on the side of the threshold that says nothing
                    maps[c].flat[a] = 0.2 if near else 0.8
                    continue
                sure = int(next(levels))
                maps[c].flat[a] = (sure if near else 255 - sure) / 255
                pairs.append((-sure, near, int(a), int(b)))
        part, forbidden = list(range(30)), set()
        for _, near, a, b in sorted(pairs):
            x, y = part[a], part[b]
            if x == y:
                continue
            if not near:
                forbidden.add(frozenset((x, y)))
            elif frozenset((x, y)) not in forbidden:
                part = [x if p == y else p for p in part]
                forbidden = {frozenset(x if p == y else p for p in f) for f in forbidden}
        found = mutex_watershed(maps, offsets, inside=np.ones(shape, bool)).ravel()
        assert len(set(zip(part, found, strict=True))) == len(set(part)) == found.max()
        counts.add(len(set(part)))
    assert len(counts) > 3


# -------------------------------------------------------------------------------------- classes


def test_classes_are_one_hot_and_a_class_too_many_is_named() -> None:
    labels = np.array([[0, 1, 2, -1]], np.int32)
    made = Classes(names=["background", "cell", "wall"]).encode(labels)
    assert made.target[:, 0].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert made.weight.tolist() == [[[1, 1, 1, 0]]]
    single = Classes(names=["wall"], activation="sigmoid")
    assert single.encode(np.minimum(labels, 1)).target[0, 0].tolist() == [0, 1, 1, 0]
    with pytest.raises(UsageError, match=r"Class 2 .*0 \(none of them\), 1 \(wall\)"):
        single.encode(labels)


def test_a_sigmoid_says_a_class_only_above_the_threshold() -> None:
    target = Classes(names=["cell", "wall"], activation="sigmoid", threshold=0.6)
    maps = np.array([[[0.5, 0.7, 0.7, np.nan]], [[0.5, 0.1, 0.9, 0.2]]], np.float32)
    assert target.decode(maps).tolist() == [[0, 1, 2, 0]]


# ---------------------------------------------------------------------------------- self-supervised


def test_hidden_pixels_show_a_neighbour_and_only_they_count() -> None:
    """What is asked for is never shown: its value comes from nearby, never from itself."""
    rng = np.random.default_rng(0)
    patch = np.arange(2 * 40 * 40, dtype=np.float32).reshape(2, 40, 40)  # all different
    target = BlindSpot(names=["a", "b"], share=0.05, radius=3)
    before = patch.copy()
    masked, goal, weight = target.mask(patch, rng)
    np.testing.assert_array_equal(patch, before)
    np.testing.assert_array_equal(goal, patch)
    hidden = weight > 0
    assert set(np.unique(weight)) == {0, 1}
    assert [int(h.sum()) for h in hidden] == [80, 80]
    assert (masked != patch).sum() == hidden.sum()  # every hidden pixel is changed, no other
    assert (masked[~hidden] == patch[~hidden]).all()
    for c, y, x in np.argwhere(hidden):
        from_c, from_y, from_x = np.unravel_index(int(masked[c, y, x]), patch.shape)
        assert from_c == c
        assert max(abs(from_y - y), abs(from_x - x)) <= 3


def test_all_neighbours_are_shown_alike_and_masks_follow_the_seed() -> None:
    patch = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
    target = BlindSpot(share=0.12, radius=1)
    rng = np.random.default_rng(1)
    shown: dict[int, set[int]] = {}
    for _ in range(600):
        masked, _, weight = target.mask(patch, rng)
        assert weight.sum() == 1
        at = int(np.flatnonzero(weight)[0])
        shown.setdefault(at, set()).add(int(masked.ravel()[at]))
    assert shown[4] == {0, 1, 2, 3, 5, 6, 7, 8}
    assert shown[0] == {1, 3, 4}
    again = [BlindSpot().mask(patch, np.random.default_rng(5))[0] for _ in range(2)]
    np.testing.assert_array_equal(*again)


def test_pixels_that_are_no_number_are_not_asked_for() -> None:
    patch = np.full((1, 8, 8, 8), np.nan, np.float32)
    patch[:, :2] = 1.0
    masked, goal, weight = BlindSpot(share=0.5).mask(patch, np.random.default_rng(0))
    assert np.isfinite(masked).all()
    assert np.isfinite(goal).all()
    assert weight[:, :2].any()
    assert not weight[:, 2:].any()


# ----------------------------------------------------------------------------------- dependencies


@pytest.mark.parametrize(("kind", "library"), [("star-convex", "stardist"), ("flow", "cellpose")])
def test_a_missing_library_is_named_with_its_install_line(
    kind: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target can be made and described; only its work needs the library."""
    monkeypatch.setattr("biozoo_runners.steps_external.is_installed", lambda name: False)
    target = make_target(kind)
    assert target.channels(2)
    with pytest.raises(MissingDependencyError, match=library):
        target.encode(touching_objects(2))


def test_encoded_is_a_fact() -> None:
    """Nobody changes by accident what others read."""
    made = Encoded(np.zeros((1, 2, 2), np.float32), np.ones((1, 2, 2), np.float32))
    with pytest.raises(AttributeError):
        made.target = made.weight  # type: ignore[misc]
