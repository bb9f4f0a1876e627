"""Real annotations through each encoder and back; and the targets that need a library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from biozoo_trainers.contract import TargetContract, touching_objects
from biozoo_trainers.scores import mean_scores, score_instances
from biozoo_trainers.targets import Target, make_target
from biozoo_trainers.targets.base import as_labels

pytest.importorskip("edt")

LOCAL = (
    "affinities",
    "foreground",
    "foreground-boundary",
    "foreground-distance",
    "foreground-distance-boundary",
)


@pytest.fixture
def star_convex() -> Target:
    pytest.importorskip("stardist")
    return make_target("star-convex")


@pytest.fixture
def flow() -> Target:
    pytest.importorskip("cellpose")
    return make_target("flow")


class TestStarConvex(TargetContract):
    @pytest.fixture
    def target(self, star_convex: Target) -> Target:
        return star_convex


class TestFlow(TargetContract):
    ndims = (2,)  # in 3D the library takes seconds per object; see below

    @pytest.fixture
    def target(self, flow: Target) -> Target:
        return flow


def test_flows_point_to_the_middle_five_long(flow: Target) -> None:
    """In the units of cellpose's networks, and found again in 3D."""
    labels = np.zeros((20, 20), np.int32)
    labels[4:15, 5:16] = 3
    made = flow.encode(labels)
    length = np.hypot(*made.target[:2])
    assert length[9, 10] == 0  # the middle itself
    length[9, 10] = 5
    np.testing.assert_allclose(length[labels > 0], 5, atol=0.01)
    assert not length[labels == 0].any()
    assert made.target[0, 5, 10] > 4.5  # from above the middle: down
    assert made.target[1, 9, 6] > 4.5  # from left of it: right
    assert (made.weight[0] > 0).tolist() == (labels > 0).tolist()
    assert (made.weight[2] > 0).all()
    beside = np.zeros((20, 60), np.int32)  # a larger object elsewhere changes no flow
    beside[:, :20], beside[2:18, 22:58] = labels, 4
    np.testing.assert_allclose(flow.encode(beside).target[:, :, :20], made.target, atol=1e-5)
    ball = np.zeros((14, 16, 24), np.int32)
    ball[3:11, 3:12, 2:11], ball[3:11, 3:12, 11:21] = 1, 2
    assert score_instances(ball, flow.decode(flow.encode(ball).target)).value == 1


def test_rays_reach_the_edge_of_the_object(star_convex: Target) -> None:
    """Distances in pixels, the first ray along x, as the library's own networks have them."""
    labels = np.zeros((30, 40), np.int32)
    labels[5:16, 8:31] = 9
    made = star_convex.encode(labels)
    assert made.target[0, 10, 19] == 1
    assert made.target[1, 10, 19] == pytest.approx(11.5, abs=0.1)
    assert made.target[9, 10, 19] == pytest.approx(5.5, abs=0.1)
    assert made.weight[5, 10, 19] == 1
    assert 0 < made.weight[5, 10, 9] < 0.5
    assert not made.weight[5, 0, 0].any()


@pytest.mark.shared
@pytest.mark.parametrize("kind", [*LOCAL, "star-convex", "flow"])
def test_real_nuclei_come_back(kind: str, shared: Path) -> None:
    """AP50 of 0.98 or better, in fluorescence and in stained tissue."""
    for library, of in (("stardist", "star-convex"), ("cellpose", "flow")):
        if kind == of:
            pytest.importorskip(library)
    target = make_target(kind)
    for world in ("fluo", "stained"):
        files = sorted((shared / "data" / "nuclei" / world / "labels").glob("*.tif"))
        few = {"star-convex": 20, "flow": 40}.get(kind, 7)
        part = slice(128 if kind == "flow" else None)  # the heat spreads slowly
        images = [without_specks(labels_of(f)[part, part]) for f in files[::few]]
        scores = [_again(target, labels) for labels in images]
        assert mean_scores(scores).value >= 0.98, (world, [s.value for s in scores])


@pytest.mark.shared
@pytest.mark.parametrize("kind", LOCAL)
def test_real_cells_come_back_in_3d(kind: str, shared: Path) -> None:
    """The cells of an ovule, each touching others on all sides."""
    labels = without_specks(_ovule(shared, "1135_mini")[20:80, 20:80, 20:80])
    assert labels.max() > 10
    assert _again(make_target(kind), labels).value >= 0.98


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["foreground", "affinities"])
def test_slices_of_cells_at_the_edge_come_back(kind: str, shared: Path) -> None:
    """Of one plane, as a crop leaves them; boundaries and distances lose these."""
    labels = without_specks(in_pieces(_ovule(shared, "sample_ovule")))
    assert labels.max() > 40
    assert _again(make_target(kind), labels).value >= 0.98


def _ovule(shared: Path, name: str) -> NDArray[np.int32]:
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared / "data" / "plantseg_ovules_3d" / f"{name}.h5") as file:
        return as_labels(file["label"][:])


def in_pieces(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Each connected piece of a label as an object."""
    from skimage.measure import label

    return as_labels(label(labels, connectivity=1))


def _again(target: Target, labels: NDArray[Any]) -> Any:
    return score_instances(labels, target.decode(target.encode(labels).target))


def labels_of(path: Path) -> NDArray[np.int32]:
    import tifffile

    return as_labels(tifffile.imread(path))


def without_specks(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """A cut leaves a few pixels of some objects at its edge, and a slip of the hand left some in
    the annotations: no objects that anyone looks for.
    """
    sizes = np.bincount(labels.ravel())
    keep = sizes >= 30 if labels.ndim == 3 else sizes >= 10
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]


def test_the_objects_of_the_contract_touch() -> None:
    """What every target is tried on is hard: most objects share a side with another."""
    from biozoo_trainers.targets.maps import gaps

    for ndim in (2, 3):
        labels = touching_objects(ndim)
        n = int(labels.max())
        assert n > 8
        assert len(np.unique(labels[gaps(labels)])) > n / 2
