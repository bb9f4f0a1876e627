"""What every target and every loss promises, as tests to inherit.

    class TestMyTarget(TargetContract):
        @pytest.fixture
        def target(self):
            return MyTarget()

    class TestMyLoss(LossContract):
        @pytest.fixture
        def loss(self):
            return MyLoss()

What the tests feed is made here: round objects that touch, and noise. The tests of losses, and
those of a target's default losses, need torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from biozoo.errors import BiozooError

from .losses.contract import LossContract
from .targets.base import without_margin

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .targets.base import Target

__all__ = ["LossContract", "TargetContract", "touching_objects"]


def touching_objects(ndim: int, *, size: int = 0, seed: int = 0) -> NDArray[np.int32]:
    """Annotated objects to test with: round, of different sizes, many of them touching.

    Parameters
    ----------
    ndim
        Number of spatial axes, 2 or 3.
    size
        Pixels along each axis; 96 in 2D and 40 in 3D without it.
    seed
        Start of the random numbers.

    Returns
    -------
    NDArray
        int32: 0 background, 1..n objects.
    """
    rng = np.random.default_rng(seed)
    size = size or {2: 96, 3: 40}[ndim]
    radii = (6, 11) if ndim == 2 else (5, 8)
    grid = np.indices((size,) * ndim)
    labels = np.zeros((size,) * ndim, np.int32)
    nearest = np.full(labels.shape, np.inf)
    middles: list[tuple[NDArray[np.float64], float]] = []
    for _ in range(400):
        radius, middle = rng.uniform(*radii), rng.uniform(0, size, ndim)
        # Neighbours may overlap by a little: they share a long side then.
        if any(np.linalg.norm(middle - m) < 0.92 * (radius + r) for m, r in middles):
            continue
        middles.append((middle, radius))
        away = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, middle, strict=True))) / radius
        here = (away <= 1) & (away < nearest)
        labels[here] = len(middles)
        nearest[here] = away[here]
    sizes = np.bincount(labels.ravel())
    keep = sizes >= 30  # cut by the edge, little is left of some
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]


class TargetContract:
    """Tests that every target passes; see this module's docstring for how to inherit them.

    A subclass gives the fixture `target`.
    """

    #: The numbers of spatial axes that the target works on.
    ndims: ClassVar[tuple[int, ...]] = (2, 3)
    #: Average precision at IoU 0.5 that objects keep through encoder and decoder.
    precision: ClassVar[float] = 0.98
    #: Whether a person may leave pixels out.
    ignores: ClassVar[bool] = True

    def supplied(self, target: Target, ndim: int, seed: int = 0) -> NDArray[Any]:
        """What a person supplies for one image: override it for what only your target takes."""
        if target.supplies == "instances":
            return touching_objects(ndim, seed=seed)
        rng = np.random.default_rng(seed)
        shape = (24,) * ndim
        n = len(target.channels(ndim))
        if target.supplies == "classes":
            return rng.integers(0, n, shape).astype(np.int32)
        return rng.normal(size=(n, *shape)).astype(np.float32)

    def hidden(self, supplied: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[Any]:
        """The same with pixels left out."""
        changed = supplied.copy()
        changed[..., where] = np.nan if supplied.dtype.kind == "f" else -1
        return changed

    def somewhere(self, supplied: NDArray[Any], ndim: int) -> NDArray[np.bool_]:
        """A box in a corner, as large as a third of the image along each axis."""
        shape: tuple[int, ...] = supplied.shape[-ndim:]
        where = np.zeros(shape, bool)
        where[tuple(slice(0, s // 3) for s in shape)] = True
        return where

    # ------------------------------------------------------------------------------ what it says

    def test_channels_have_names_and_activations(self, target: Target) -> None:
        """Different names, and an activation for each channel."""
        for ndim in self.ndims:
            names = target.channels(ndim)
            assert names
            assert len(set(names)) == len(names)
            kinds = target.activations(ndim)
            assert len(kinds) == len(names)
            assert set(kinds) <= {"sigmoid", "softmax", "none"}
        assert target.reach >= 0

    def test_a_result_of_other_channels_is_a_clear_error(self, target: Target) -> None:
        """Maps with a channel too many are not decoded as if it were not there."""
        import pytest

        ndim = self.ndims[0]
        maps = np.zeros((len(target.channels(ndim)) + 1, *(16,) * ndim), np.float32)
        with pytest.raises(BiozooError, match="channel"):
            target.decode(maps)

    # ------------------------------------------------------------------------------ what it encodes

    def test_what_is_encoded_fits_the_channels(self, target: Target) -> None:
        """float32, one map per channel, numbers only, weights of 0 or more; nothing is changed."""
        for ndim in self.ndims:
            given = self.supplied(target, ndim)
            before = given.copy()
            encoded = target.encode(given)
            n, shape = len(target.channels(ndim)), given.shape[-ndim:]
            assert encoded.target.shape == (n, *shape)
            assert encoded.weight.shape in ((1, *shape), (n, *shape))
            for array in (encoded.target, encoded.weight):
                assert array.dtype == np.float32
                assert np.isfinite(array).all()
            assert (encoded.weight >= 0).all()
            assert encoded.weight.any()
            for values, kind in zip(encoded.target, target.activations(ndim), strict=True):
                assert kind == "none" or (values.min() >= 0 and values.max() <= 1)
            np.testing.assert_array_equal(given, before, "encoding changed what was supplied")

    def test_ignored_pixels_have_no_weight_and_no_meaning(self, target: Target) -> None:
        """The weight is 0 in every channel there, whatever negative number says so."""
        import pytest

        if not self.ignores:
            pytest.skip("nothing can be left out for this target")
        for ndim in self.ndims:
            given = self.supplied(target, ndim)
            where = self.somewhere(given, ndim)
            hidden = self.hidden(given, where)
            encoded = target.encode(hidden)
            assert not encoded.weight[:, where].any(), "an ignored pixel has a weight"
            assert encoded.weight.any(), "what was painted has no weight"
            if given.dtype.kind == "i":
                other = np.where(hidden < 0, np.int32(-7), hidden)
                _same(target.encode(other), encoded, "-7 is not ignored as -1 is")
            nothing = target.encode(self.hidden(given, np.ones_like(where)))
            assert not nothing.weight.any(), "nothing is painted, and something has a weight"

    def test_far_from_ignored_pixels_nothing_changes(self, target: Target) -> None:
        """Hiding a corner leaves the rest as it was, but for what reaches into the corner."""
        import pytest

        if not self.ignores:
            pytest.skip("nothing can be left out for this target")
        for ndim in self.ndims:
            given = self.supplied(target, ndim)
            where = self.somewhere(given, ndim)
            hidden = self.hidden(given, where)
            whole, part = target.encode(given), target.encode(hidden)
            counts = np.broadcast_to(part.weight > 0, part.target.shape)
            np.testing.assert_array_equal(
                np.where(counts, part.target, 0),
                np.where(counts, whole.target, 0),
                "what is hidden changed the target of a pixel that counts",
            )
            far = tuple(slice(-(s // 3), None) for s in where.shape)
            np.testing.assert_array_equal(
                part.weight[(slice(None), *far)] > 0, whole.weight[(slice(None), *far)] > 0
            )

    def test_a_patch_with_its_reach_is_encoded_as_in_the_whole(self, target: Target) -> None:
        """The context that `needs` asks for is enough."""
        for ndim in self.ndims:
            given = self.supplied(target, ndim)
            shape = given.shape[-ndim:]
            reach = target.needs(given)
            whole = target.encode(given)
            low = [s // 2 - 4 for s in shape]
            patch = tuple(slice(a, a + 8) for a in low)
            wide = tuple(slice(max(a - reach, 0), a + 8 + reach) for a in low)
            inner = tuple(
                slice(p.start - w.start, p.stop - w.start) for p, w in zip(patch, wide, strict=True)
            )
            lead = (slice(None),) * (given.ndim - ndim)
            part = target.encode(given[(*lead, *wide)])
            for name in ("target", "weight"):
                np.testing.assert_allclose(
                    getattr(part, name)[(slice(None), *inner)],
                    getattr(whole, name)[(slice(None), *patch)],
                    rtol=1e-5,
                    atol=1e-5,
                    err_msg=f"the {name} of a patch with {reach} pixels of context is another",
                )

    def test_what_is_context_only_is_left_out(self, target: Target) -> None:
        """`encode_inside` gives the middle of what `encode` gives, whatever it saves on the way."""
        for ndim in self.ndims:
            given = self.supplied(target, ndim)
            shown = [given]
            if self.ignores:
                shown.append(self.hidden(given, self.somewhere(given, ndim)))
            for hidden in shown:
                whole = target.encode(hidden)
                for margin in (0, 2, 5):
                    part = target.encode_inside(hidden, None, margin)
                    for name in ("target", "weight"):
                        np.testing.assert_allclose(
                            getattr(part, name),
                            without_margin(getattr(whole, name), margin, ndim),
                            rtol=1e-5,
                            err_msg=f"the {name} without {margin} pixels of context is another",
                        )

    def test_numbers_of_objects_do_not_matter(self, target: Target) -> None:
        """Objects may be numbered in any order, with gaps, and by large numbers."""
        import pytest

        if target.supplies != "instances":
            pytest.skip("these are no numbers of objects")
        for ndim in self.ndims:
            given = self.supplied(target, ndim)
            others = np.random.default_rng(1).permutation(int(given.max())) * 1000 + 70000
            other = np.concatenate([[0], others]).astype(np.int32)[given]
            _same(target.encode(other), target.encode(given), "other numbers, other target")

    def test_one_object_and_none(self, target: Target) -> None:
        """An image full of one object, and one of background only, are encoded and decoded."""
        import pytest

        if target.supplies != "instances":
            pytest.skip("there are no objects")
        for ndim in self.ndims:
            empty = np.zeros((16,) * ndim, np.int32)
            encoded = target.encode(empty)
            assert encoded.weight.any()
            assert not target.decode(encoded.target).any()
            full = target.encode(empty + 1)
            assert np.isfinite(full.target).all()
            assert np.isfinite(full.weight).all()

    # ------------------------------------------------------------------------------ what it decodes

    def test_decoding_what_was_encoded_gives_it_back(self, target: Target) -> None:
        """The objects, the classes or the image that were supplied."""
        for ndim in self.ndims:
            given = self.supplied(target, ndim)
            encoded = target.encode(given)
            before = encoded.target.copy()
            made = target.decode(encoded.target)
            np.testing.assert_array_equal(encoded.target, before, "decoding changed the maps")
            if target.supplies == "instances":
                from .scores import score_instances

                assert made.dtype == np.int32
                score = score_instances(given, made).value
                assert score >= self.precision, f"AP50 {score:.3f} in {ndim}D"
            elif target.supplies == "classes":
                assert made.dtype == np.int32
                painted = encoded.weight[0] > 0
                np.testing.assert_array_equal(made[painted], given[painted])
            else:
                np.testing.assert_array_equal(made, given)

    def test_what_a_network_says_of_nothing_is_decoded(self, target: Target) -> None:
        """NaN, as where a tile is missing, and noise give a result without an error."""
        rng = np.random.default_rng(0)
        for ndim in self.ndims:
            shape = (len(target.channels(ndim)), *(24,) * ndim)
            for maps in (
                np.full(shape, np.nan, np.float32),
                rng.random(shape, np.float32),
                np.zeros(shape, np.float32),
            ):
                assert target.decode(maps).shape[-ndim:] == shape[1:]

    def test_the_entry_for_zoo_run_decodes_alike(self, target: Target) -> None:
        """`config.biozoo.instances`, where the target has one, gives the labels of `decode`."""
        import pytest
        import xarray as xr

        from biozoo_runners.instances import InstancesConfig, instances

        for ndim in self.ndims:
            names = [f"channel of {n}" for n in target.channels(ndim)]
            entry = target.instances("output", names)
            if entry is None:
                pytest.skip("zoo run has no rule for this target")
            maps = target.encode(self.supplied(target, ndim)).target
            noise = np.random.default_rng(0).normal(scale=0.1, size=maps.shape)
            maps = np.clip(maps + noise, 0, 1).astype(np.float32)
            dims = ["channel", *"zyx"[-ndim:]]
            array = xr.DataArray(maps, dims=dims, coords={"channel": names})
            run = instances(array, InstancesConfig.model_validate(entry)).values
            np.testing.assert_array_equal(run, target.decode(maps))

    # ----------------------------------------------------------------------------- how it is taught

    def test_the_default_losses_teach_it(self, target: Target) -> None:
        """They are there, and logits that say the target have less loss than those that do not."""
        import torch

        from .losses import make_loss

        for ndim in self.ndims:
            terms = target.default_losses(ndim)
            assert terms
            encoded = target.encode(self.supplied(target, ndim))
            goal = torch.from_numpy(encoded.target)[None]
            weight = torch.from_numpy(encoded.weight)[None]
            kinds = target.activations(ndim)
            right = torch.stack(
                [g if k == "none" else 8 * (2 * g - 1) for g, k in zip(goal[0], kinds, strict=True)]
            )[None]
            other = torch.flip(right, dims=tuple(range(2, right.ndim)))
            for term in terms:
                assert term.weight > 0
                loss = make_loss(term.kind, term.options)
                chosen = list(range(len(kinds))) if term.channels is None else list(term.channels)
                w = weight if weight.shape[1] == 1 else weight[:, chosen]
                good = float(loss(right[:, chosen], goal[:, chosen], w))
                bad = float(loss(other[:, chosen], goal[:, chosen], w))
                assert good < bad, f"{term.kind} of channels {chosen}: {good} and {bad}"


def _same(got: Any, expected: Any, fault: str) -> None:
    for name in ("target", "weight"):
        np.testing.assert_allclose(
            getattr(got, name),
            getattr(expected, name),
            rtol=1e-5,
            atol=1e-6,
            err_msg=f"{fault} ({name})",
        )
