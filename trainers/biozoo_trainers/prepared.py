"""What a retraining needs before its first step, checked: recipe, pairs, network, scorer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo.errors import IncompleteError, NotTrainableError, UsageError

from .inference import Inferred, recipe_of
from .lineage import Lineage
from .measuring import Scorer
from .network import Differentiable, differentiable
from .pairs import Pair, check_pairs, find_pairs

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_runners.prepare import Channel

    from .pairs import Source
    from .recipe import Recipe

__all__ = ["Prepared", "Progress", "opened", "place_of", "prepare", "recipe_for", "replayed"]

#: Called with (what, done, total or None).
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Prepared:
    """A package and images that it can be trained on.

    Attributes
    ----------
    package
        The parent.
    inferred
        The recipe, and why it is this one.
    pairs
        Images with labels, checked.
    lineage
        The parent's own.
    scorer
        Measures parent and child alike.
    network
        The parent's, proven equal to the package; training changes its weights.
    channel
        Which channel(s) of the images are taken.
    seconds
        That the network took.
    notes
        What a person should know.
    """

    package: ModelPackage
    inferred: Inferred
    pairs: tuple[Pair, ...]
    lineage: Lineage
    scorer: Scorer
    network: Differentiable
    channel: Channel | None
    seconds: float
    notes: tuple[str, ...]

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return self.inferred.recipe


def prepare(
    package: ModelPackage,
    inferred: Inferred,
    images: Source,
    labels: Source | None,
    *,
    channel: Channel | None = None,
    axes: str | Sequence[str] | None = None,
    scribbles: bool = False,
    split_masks: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Check the images, then make the network; raises as `retraining.retrain` does."""
    tell = progress or (lambda what, done, total: None)
    recipe = inferred.recipe
    lineage = Lineage.of(package)
    scorer = Scorer.of(package, recipe, channel)
    tell("reading the images", 0, None)
    found = find_pairs(images, labels, axes=axes)
    pairs, notes = check_pairs(
        package, found, recipe, channel=channel, scribbles=scribbles, split_masks=split_masks
    )
    tell("comparing the network with the package", 0, None)
    start = time.perf_counter()
    network = differentiable(package, recipe)
    return Prepared(
        package,
        inferred,
        tuple(pairs),
        lineage,
        scorer,
        network,
        channel,
        time.perf_counter() - start,
        (*notes, *network.notes),
    )


def place_of(output: Path | str | None, *, overwrite: bool) -> Path | None:
    """Where the child goes, asked before long work whether it may be written there.

    Raises
    ------
    UsageError
        A file that is no package would be replaced.
    StorageError
        It cannot be written there.
    """
    from biozoo_converters.packing.build import check_place

    target = None if output is None else Path(output)
    check_place(target, dry_run=False, overwrite=overwrite)
    return target


def opened(package: ModelPackage | str | Path) -> ModelPackage:
    """A package, or what `biozoo.open` takes."""
    if not isinstance(package, str | Path):
        return package
    import biozoo

    return biozoo.open(package)


def recipe_for(package: ModelPackage, recipe: Recipe | None = None) -> Inferred:
    """The given recipe, else the package's own, else the inferred one.

    Raises
    ------
    NotTrainableError
        It says that the package cannot be trained.
    """
    found = recipe_of(package) if recipe is None else Inferred(recipe, ("It was given.",), True)
    if found.recipe.trainable == "no":
        raise NotTrainableError(model=package.id, why=found.recipe.why)
    return found


def replayed(
    ready: Prepared, images: Source, *, progress: Progress | None = None
) -> tuple[Pair, ...]:
    """Images that the parent does well on, with its own results as their labels.

    Images that are among the person's own, or that an earlier round held out, are left out: of the
    former the labels are known better, and nothing is learned of what is measured on.

    Raises
    ------
    UsageError
        No image is left.
    IncompleteError
        The parent's results on them cannot be used as labels.
    """
    from biozoo_runners import load
    from biozoo_runners.images.base import Image

    from .checks import without_copies

    given = find_pairs(images, None)
    found = [
        p for p in without_copies(given, ready.pairs) if p.digest not in ready.lineage.held_out
    ]
    if not found:
        raise UsageError(
            "All images to be kept are among those to learn from, or were held out in an earlier "
            "round. Give others, or leave --replay out."
        )
    pairs = []
    with load(ready.package) as runner:
        for done, pair in enumerate(found):
            if progress is not None:
                progress("running the parent on the images to be kept", done, len(found))
            image = pair.image
            if ready.channel is not None and "channel" not in image.axes:
                image = replace(image, channel=str(ready.channel))  # the one that it has
            made = ready.scorer.found(runner, image)
            labels = Image.from_array(made.values, [str(d) for d in made.dims], name=pair.stem)
            pairs.append(replace(pair, image=image, labels=labels))
    try:
        kept, _ = check_pairs(ready.package, pairs, ready.recipe, channel=ready.channel, least=1)
    except IncompleteError as exc:
        raise IncompleteError(
            what="The images to be kept cannot be used, with the model's own results as labels:",
            faults=exc.faults,
            hint="Give images that it does well on, or leave --replay out.",
        ) from exc
    return tuple(kept)
