"""How good a model is on labelled images: the package's own run, scored image by image.

    scorer = Scorer.of(package, recipe, channel)
    with load(package) as runner:
        before = scorer.measure(runner, split.held_out)

Parent and child are run as `zoo run` runs them: whole images, tiles, the packaged processing, and
the rule by which each makes its objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import BiozooError, UsageError

from .gate import Forgetting, Measured

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from biozoo.package import ModelPackage
    from biozoo_runners.instances import InstancesConfig
    from biozoo_runners.pipeline import Runner
    from biozoo_runners.prepare import Channel, ImageLike
    from biozoo_runners.sizes import ModelGeometry

    from .pairs import Pair
    from .recipe import Recipe
    from .scores import Scores
    from .targets.base import Target

__all__ = ["Scorer"]

#: Called with (what, done, total).
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Scorer:
    """Runs models of one description on images and scores what comes out.

    Attributes
    ----------
    package, recipe
        The parent and how it is taught.
    target
        What its channels mean.
    metric
        The score that counts, higher is better.
    rule
        How objects are made where a model does not say so itself; None where the target decodes,
        or makes none.
    spatial
        Axes along which labels are one image; others (time, z of a 2D model) are gone through.
    geometry
        The description's tensors.
    channel
        Which channel(s) of the images are taken.
    """

    package: ModelPackage
    recipe: Recipe
    target: Target
    metric: str
    rule: InstancesConfig | None
    spatial: tuple[str, ...]
    geometry: ModelGeometry
    channel: Channel | None = None

    @classmethod
    def of(cls, package: ModelPackage, recipe: Recipe, channel: Channel | None = None) -> Scorer:
        """The scorer of a package that is taught by a recipe.

        Raises
        ------
        UsageError
            The recipe's gate names a score that such a model does not have.
        """
        from biozoo_runners.program import program_of

        from .rules import rule_of
        from .scores import METRICS, main_metric
        from .targets.base import make_target

        assert recipe.target is not None
        target = make_target(recipe.target.kind, recipe.target.options)
        program = program_of(package)
        metric = recipe.gate.metric
        known = METRICS[target.supplies]
        if metric not in ("auto", *known):
            raise UsageError(
                f"The recipe's gate compares {metric}, which a model with the target "
                f"'{target.name}' does not have. Choose {' or '.join(known)}, or auto."
            )
        dims = program.geometry.tensor(recipe.input).dims
        return cls(
            package,
            recipe,
            target,
            main_metric(target.supplies) if metric == "auto" else metric,
            rule_of(package, recipe, target),
            tuple(a for a in dims if a not in ("batch", "channel")),
            program.geometry,
            channel,
        )

    def measure(
        self,
        runner: Runner,
        pairs: Sequence[Pair],
        *,
        what: str = "measuring",
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Measured:
        """The scores of a model on labelled images.

        Raises
        ------
        BiozooError
            It cannot be run on one of them.
        Cancelled
            Stopped by `cancelled`.
        """
        from .scores import mean_scores

        each: list[Scores] = []
        objects = 0
        for done, pair in enumerate(pairs):
            if progress is not None:
                progress(what, done, len(pairs))
            if self.target.supplies == "nothing":
                each.append(self._hidden(runner, pair, cancelled))
                continue
            found = self.found(runner, pair.image, self.channel, cancelled=cancelled)
            each.append(self._on(pair, found))
            if self.target.supplies == "instances":
                objects += _count(found, self.spatial)
        further = dict(mean_scores(each))
        further.pop(self.metric)
        return Measured(
            self.metric,
            tuple(p.stem for p in pairs),
            tuple(e[self.metric] for e in each),
            further,
            objects,
        )

    def found(
        self,
        runner: Runner,
        image: ImageLike,
        channel: Channel | None = None,
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> xr.DataArray:
        """What a model makes of an image: objects, classes or an image.

        Returns
        -------
        DataArray
            Instances and classes: int32, dims the spatial axes and those that are gone through.
            Images: float32 with "channel" besides.
        """
        from biozoo_runners.instances import instances

        result = runner(image, channel=channel, cancelled=cancelled)
        if self.target.supplies == "instances" and runner.instances is not None:
            return result["labels"]
        maps = result[self.recipe.output]
        if "channel" not in maps.dims:
            maps = maps.expand_dims("channel")
        if self.rule is not None:
            return instances(maps, self.rule)
        return _each(maps, self.spatial, self.target.decode)

    def own_result(self, runner: Runner) -> xr.DataArray | None:
        """What the parent makes of the package's own test input, as the truth for `kept`.

        None where there is no test input, or nothing is found in it.
        """
        image = self._test_image()
        if image is None:
            return None
        truth = self.found(runner, image)
        if self.target.supplies in ("instances", "classes") and not (truth.values > 0).any():
            return None
        return truth

    def kept(self, truth: xr.DataArray, runner: Runner, limit: float) -> Forgetting:
        """How well a model still does what its parent did on the package's own test input.

        Parameters
        ----------
        truth
            What `own_result` gave with the parent's weights.
        runner
            Of the child.
        limit
            How much may be lost.
        """
        image = self._test_image()
        assert image is not None
        found = self.found(runner, image)
        metric = "SSIM" if self.target.supplies in ("image", "nothing") else self.metric
        places = [
            self._score(truth[at].values, found[at].values)[metric]
            for at in _positions(found, self.spatial)
        ]
        on = f"the test image of {self.package.id}"
        return Forgetting(metric, on, 1.0, float(np.mean(places)), limit)

    def _test_image(self) -> xr.DataArray | None:
        from biozoo_runners.testing import read_test_tensors

        try:
            inputs, _ = read_test_tensors(self.package)
        except BiozooError:
            return None
        return inputs.get(self.recipe.input) if len(inputs) == 1 else None

    def _on(self, pair: Pair, found: xr.DataArray) -> Scores:
        """The scores on one image: means over the positions that the model goes through."""
        from .items import items_of
        from .scores import mean_scores

        items, _ = items_of(self.package, self.recipe, [pair], self.channel)
        each = []
        for item in items:
            here = found.isel({a: n for a, n in item.at.items() if a in found.dims})
            lead = [d for d in here.dims if d == "channel"]
            values = here.transpose(*lead, *item.spatial).values
            each.append(self._score(item.read(item.whole)[1], values))
        return mean_scores(each)

    def _score(self, truth: NDArray[Any], found: NDArray[Any]) -> Scores:
        """All scores of one plane or volume; ignored pixels do not count."""
        from .scores import score

        if self.target.supplies == "image":
            found = _fitted(truth, found)
        return score(self.target.supplies, truth, found)

    def _hidden(self, runner: Runner, pair: Pair, cancelled: Callable[[], bool] | None) -> Scores:
        """How well pixels that are hidden from a model are foretold, where nobody knows the truth.

        PSNR between what was hidden and what came out there. The same pixels are hidden from every
        model.
        """
        import xarray as xr

        from biozoo_runners.prepare import fit

        from .scores import Scores, score_images

        hide: Any = self.target
        rng = np.random.default_rng(int(pair.digest[:16], 16))
        fitting = fit(self.geometry, {self.recipe.input: pair.image}, self.channel)
        fitted = fitting.inputs[0]
        dims = fitted.tensor.dims
        lead = [d for d in dims if d == "channel"]
        known, foretold = [], []
        for at in fitting.items():
            raw = xr.DataArray(fitted.read(at).astype(np.float32), dims=dims)
            plain = raw.isel({d: 0 for d in dims if d == "batch"}).transpose(*lead, *self.spatial)
            values = plain.values if lead else plain.values[None]
            masked, truth, weight = hide.mask(values, rng)
            shown = plain.copy(data=masked if lead else masked[0])
            made = runner(shown, cancelled=cancelled)[self.recipe.output]
            out = made.transpose(*[d for d in made.dims if d == "channel"], *self.spatial).values
            known.append(truth[weight > 0])
            foretold.append(out.reshape(truth.shape)[weight > 0])
        hidden, said = np.concatenate(known)[None], np.concatenate(foretold)[None]
        found = score_images(hidden, _fitted(hidden, said))
        return Scores("PSNR", {"PSNR": found["PSNR"]}, found.counts)


def _positions(found: xr.DataArray, spatial: Sequence[str]) -> Iterator[dict[str, int]]:
    """Every position along the axes that are gone through."""
    others = [str(d) for d in found.dims if d not in (*spatial, "channel")]
    for index in np.ndindex(*(found.sizes[a] for a in others)):
        yield dict(zip(others, index, strict=True))


def _count(found: xr.DataArray, spatial: Sequence[str]) -> int:
    """Objects, which are numbered anew at every position."""
    return sum(int(found[at].max()) for at in _positions(found, spatial))


def _each(
    maps: xr.DataArray, spatial: Sequence[str], decode: Callable[[NDArray[Any]], NDArray[Any]]
) -> xr.DataArray:
    """Maps decoded position by position; dims: those gone through, a channel of images, spatial."""
    import xarray as xr

    others = [str(d) for d in maps.dims if d not in (*spatial, "channel")]
    ordered = maps.transpose(*others, "channel", *spatial)
    made = [decode(ordered[at].values) for at in _positions(ordered, spatial)]
    inner = ("channel", *spatial) if made[0].ndim > len(spatial) else tuple(spatial)
    shape = [maps.sizes[a] for a in others]
    return xr.DataArray(np.stack(made).reshape(*shape, *made[0].shape), dims=(*others, *inner))


def _fitted(truth: NDArray[Any], found: NDArray[Any]) -> NDArray[np.float64]:
    """An image after the scale and offset that bring it nearest to the truth.

    A network's output may be in units of its own; what counts is what it shows (as in Weigert et
    al., Content-aware image restoration, 2018).
    """
    known = np.isfinite(truth) & np.isfinite(found)
    x, y = found[known].astype(np.float64), truth[known].astype(np.float64)
    spread = float(x.var()) if x.size else 0.0
    slope = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread > 0 else 0.0
    offset = float(y.mean() - slope * x.mean()) if x.size else 0.0
    made: NDArray[np.float64] = slope * found.astype(np.float64) + offset
    return made
