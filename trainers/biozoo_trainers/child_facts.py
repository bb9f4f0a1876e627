"""What a retrained package says of itself: lineage, recipe, scores, how it was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .child import ChildFacts
from .lineage import RETRAINING, Ancestor, Round, called
from .report import duration, percent

if TYPE_CHECKING:
    from .gate import GateReport
    from .learning import Learned
    from .pairs import Pair
    from .prepared import Prepared

__all__ = ["LIMITS", "Naming", "child_facts"]

LIMITS = (
    "It was measured on images of one user only. On other images it may be worse than the model it "
    "was made from: measure before you trust it."
)

_EXPLAINED = {
    "AP50": "TP / (TP + FP + FN) of objects at IoU 0.5, mean over images",
    "AP50:90": "mean of the same at IoU 0.5, 0.55 ... 0.9, mean over images",
    "Dice": "2 |A and B| / (|A| + |B|), mean over classes and images",
    "IoU": "|A and B| / |A or B|, mean over classes and images",
    "PSNR": "peak signal-to-noise ratio in decibel, mean over images",
    "SSIM": "structural similarity, mean over images",
}


@dataclass(frozen=True)
class Naming:
    """What a person calls the new model; "" is made from the parent's and the file's name."""

    name: str = ""
    id: str = ""
    author: str = ""
    version: str = "0.1.0"


def child_facts(ready: Prepared, done: Learned, naming: Naming) -> ChildFacts:
    """The facts of a child that passed the gate."""
    gate, trained = done.gate, done.trained
    facts: dict[str, Any] = {
        "forgetting": [
            {
                "on": f.on,
                "metric": f.metric,
                "parent": round(f.parent, 4),
                "child": round(f.child, 4),
            }
            for f in gate.forgetting
        ],
        "chance": round(gate.chance, 4),
        "target": ready.recipe.target.kind if ready.recipe.target else "",
        "steps": trained.steps,
        "seconds": round(trained.seconds),
    }
    if done.trained.inverted:
        facts["inverted"] = True
    if done.replayed:
        facts["replayed"] = len(done.replayed)
    if done.mixed.share < 1:
        facts["share"] = done.mixed.share
    made = Round(
        RETRAINING,
        Ancestor.of(ready.package),
        trained=tuple(p.digest for p in (*done.train, *done.replayed)),
        held_out=tuple(p.digest for p in done.held_out),
        metric=gate.rule.metric,
        scores={"parent": gate.parent.mean, "child": gate.child.mean},
        facts=facts,
    )
    return ChildFacts(
        lineage=ready.lineage.then(made),
        recipe=ready.recipe.plain(),
        name=naming.name,
        id=naming.id,
        version=naming.version,
        author=naming.author,
        instances=_instances(ready, done),
        evaluations=[_evaluation(gate)],
        training=_training(ready, done),
        limits=LIMITS,
        text=_text(ready, done),
        sample=lambda: _sample(ready, done.train),
    )


def _instances(ready: Prepared, done: Learned) -> dict[str, Any] | None:
    """How objects are made, channels by name where they have some; None where there are none."""
    rule = done.trained.rule or ready.scorer.rule
    if rule is None:
        return None
    output = next(t for t in ready.scorer.geometry.outputs if t.id == rule.output)
    names = output.axis("channel").channels if "channel" in output.dims else ()
    made = rule.model_dump(exclude_none=True)
    for field in ("foreground", "distance", "boundary"):
        if isinstance(made.get(field), int) and made[field] < len(names):
            made[field] = str(names[made[field]])
    return made


def _evaluation(gate: GateReport) -> dict[str, Any]:
    """As an entry of `config.bioimageio.evaluations`."""
    rows = {gate.rule.metric: (gate.parent.mean, gate.child.mean)}
    rows |= {
        n: (v, gate.child.further[n])
        for n, v in gate.parent.further.items()
        if n in gate.child.further
    }
    return {
        "dataset_id": "held-out part of the images it was retrained for",
        "dataset_role": "test",
        "sample_count": len(gate.child.values),
        "evaluation_factors": ["parent", "this model"],
        "evaluation_factors_long": ["the model it was made from", "after retraining"],
        "metrics": list(rows),
        "metrics_long": [_EXPLAINED.get(n, n) for n in rows],
        "results": [[round(a, 4), round(b, 4)] for a, b in rows.values()],
        "results_summary": gate.why,
    }


def _training(ready: Prepared, done: Learned) -> dict[str, Any]:
    """As `config.bioimageio.training`."""
    recipe = ready.recipe
    losses = " + ".join(f"{s.weight:g} {s.kind}" for s in recipe.losses)
    made = {
        "training_preprocessing": "the package's own; varied by "
        + (", ".join(a.kind for a in recipe.augmentations) or "nothing"),
        "initial_learning_rate": recipe.optimiser.learning_rate,
        "learning_rate_schedule": "rises, then falls as a cosine",
        "loss_function": losses,
        "optimizer": recipe.optimiser.kind,
        "training_duration": round(done.trained.seconds / 3600, 3),
    }
    return {k: v for k, v in made.items() if v != ""}


def _text(ready: Prepared, done: Learned) -> Sequence[str]:
    """Sections of the README."""
    gate, recipe = done.gate, ready.recipe
    taught = recipe.target.kind if recipe.target else "?"
    images, held = len(done.train), len(done.held_out)
    how = (
        f"Made from `{called(ready.package)}` by training it on {_images(images)} of its user with "
        f"biozoo: {done.trained.steps} steps in {duration(done.trained.seconds)}, target "
        f"`{taught}`."
    )
    if done.replayed:
        how += (
            f" So that less is forgotten it also learned {_images(len(done.replayed))} with its "
            "parent's own results as labels."
        )
    if done.trained.inverted:
        how += (
            " Its user's images are the negative of what its parent knew, so the last step of "
            "preprocessing inverts them: it is for such images only."
        )
    if done.mixed.share < 1:
        share = done.mixed.share
        how += f" Its weights are {share:.0%} the trained ones and {1 - share:.0%} the parent's."
    rows = [(gate.rule.metric, gate.parent.mean, gate.child.mean)]
    rows += [
        (n, v, gate.child.further[n])
        for n, v in gate.parent.further.items()
        if n in gate.child.further
    ]
    table = [
        "| score | the model it was made from | this model |",
        "| --- | --- | --- |",
        *(f"| {n} | {a:.3f} | {b:.3f} |" for n, a, b in rows),
    ]
    told = [
        f"Measured on {_images(held)} of the same user, held out before the training began, chosen "
        "by a hash of their content, and never trained on:",
        "",
        *table,
        "",
        f"Better on {gate.better} of {_images(held)}. If both were equally good, chance alone "
        f"would give as large a gain in {percent(gate.chance)} of such comparisons.",
    ]
    if gate.forgetting:
        told += ["", "What it kept of what its parent could, whose own results are the truth here:"]
        told += ["", *(f"- {f}" for f in gate.forgetting)]
    return [
        "## Retraining\n\n" + how,
        "## Validation\n\n" + "\n".join(told),
        "## Limits\n\n" + LIMITS,
    ]


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _sample(ready: Prepared, pairs: Sequence[Pair]) -> Mapping[str, Any]:
    """The middle of an image that was learned from, in the shape of the package's test input."""
    import xarray as xr

    from biozoo_converters.packing.samples import grown
    from biozoo_runners.prepare import fit
    from biozoo_runners.testing import read_test_tensors

    name = ready.recipe.input
    test = read_test_tensors(ready.package)[0][name]
    geometry = ready.scorer.geometry
    fitted = fit(geometry, {name: pairs[0].image}, ready.channel).inputs[0]
    first = dict.fromkeys(fitted.loops, 0)
    whole = xr.DataArray(fitted.read(first), dims=fitted.tensor.dims)
    sizes = {str(a): n for a, n in test.sizes.items() if a not in ("batch", "channel")}
    cut = {
        a: slice(start := (whole.sizes[a] - n) // 2, start + n)
        for a, n in sizes.items()
        if whole.sizes[a] > n
    }
    piece = grown(whole.isel(cut), sizes)
    return {name: piece.transpose(*test.dims).astype(test.dtype)}
