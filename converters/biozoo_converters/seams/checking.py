"""The check itself: measure the context once, run a part of an image whole and in tiles, say why.

load -> fit the image -> context (remembered, or measured) -> settle the part and its plans
-> whole and in tiles, statistics of all of the image in both -> differences -> cause
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo.errors import BiozooError, NetworkError
from biozoo_runners.check_memory import FEATURES
from biozoo_runners.contexts import (
    KnownContext,
    bare_axes,
    is_costly,
    recall,
    remember,
    with_context,
)
from biozoo_runners.devices import detect
from biozoo_runners.pipeline import images_of, load
from biozoo_runners.prepare import fit, replace_not_finite
from biozoo_runners.run import measure_whole
from biozoo_runners.tiling import TilePlan, plan_tiles

from ..networks.package_network import Executed
from ..proof.setting import network_inputs
from .causes import global_operators
from .measuring import measure_context
from .region import Part, settle
from .report import Cause, SeamReport, TiledRun
from .running import Scene, compare

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_runners.pipeline import Runner
    from biozoo_runners.prepare import Channel, Fitting, ImageLike

    from ..networks.network import Progress

__all__ = ["check_seams"]

#: Pixels that a network sees at once for the whole, by number of tiled axes: more takes minutes.
MOST = {1: 2**20, 2: 2**22, 3: 2**22}
#: Part of the free memory that the whole may take.
SHARE = 0.5


def check_seams(
    package: ModelPackage | str | Path,
    image: ImageLike | Mapping[str, ImageLike],
    *,
    axes: str | Sequence[str] | None = None,
    channel: Channel | Mapping[str, Channel] | None = None,
    tile: Mapping[str, int] | None = None,
    device: str = "auto",
    weights: str | None = None,
    backend: str | None = None,
    progress: Progress | None = None,
) -> SeamReport:
    """Compare a part of an image in tiles with the same in one piece.

    Parameters
    ----------
    package, device, weights, backend
        As for `biozoo_runners.load`.
    image, axes, channel, tile
        As for a call of a `Runner`. Of axes that the model lacks the middle position is taken.
    progress
        Called with what is being done, how many runs of the network were needed so far, and None.

    Returns
    -------
    SeamReport
        What the network's context was measured to be is remembered below the zoo's home: later
        checks, and runs of a package without a halo, use it.

    Raises
    ------
    UsageError
        The image is too small for two tiles, or two do not fit into memory; and as a run raises.
    NoBackendError, BackendError, OutOfMemoryError, ImageReadError
        As a run raises.
    """
    with load(package, device=device, weights=weights, backend=backend) as runner:
        fitting = fit(runner.geometry, images_of(image, axes), channel)
        known, how = _context(runner, progress)
        at = {a: n // 2 for a, n in fitting.loops.items()}
        pixels = {f.tensor.id: replace_not_finite(f.read(at))[0] for f in fitting.inputs}
        stats = measure_whole(fitting, pixels, runner.preprocessing, runner.postprocessing)
        scene = Scene(runner, pixels, stats)
        part = settle(runner.geometry, fitting.sizes, tile, most=_most(fitting))
        if progress is not None:
            progress("running whole and in tiles", 0, None)
        runs = [_tiled(scene, part, known, measured=False)]
        wider = _with_halo(part, known)
        if wider is not None:
            runs.append(_tiled(scene, wider, known, measured=True))
        operators = global_operators(runner.package, runner.info.weights_format)
        cause = _cause(runs[-1], (wider or part).tiles, known)
        verdict, todo = _said(runs, part, cause, known, operators)
        return SeamReport(
            model=runner.package.id,
            image=_name(image),
            part={
                **{a: (n, n + 1) for a, n in at.items()},
                **{g.id: (part.start[g.id], part.start[g.id] + g.size) for g in part.tiles.grid},
            },
            against=_against(part),
            runs=tuple(runs),
            declared={g.id: g.halo for g in part.tiles.grid},
            context=known,
            measured_how=how,
            cause=cause,
            operators=operators if known is None or not known.local else (),
            verdict=verdict,
            todo=todo,
            notes=tuple(_notes(part, wider, known)),
        )


def _name(image: ImageLike | Mapping[str, ImageLike]) -> str:
    if isinstance(image, Mapping):
        return ", ".join(f"{i}={_name(one)}" for i, one in image.items())
    return str(image) if isinstance(image, str | Path) else "the image"


def _context(runner: Runner, progress: Progress | None) -> tuple[KnownContext | None, str]:
    """What is remembered of the network, else what is measured now; and which of the two."""
    import xarray as xr

    package = runner.package
    if (known := recall(package)) is not None:
        return known, "measured earlier"
    start = time.perf_counter()
    count = 0

    def counted(what: str, done: int, total: int | None) -> None:
        nonlocal count
        count = done
        if progress is not None:
            progress(what, done, total)

    dims = {t.id: t.dims for t in runner.geometry.inputs}
    try:
        inputs = {t: xr.DataArray(a, dims=dims[t]) for t, a in network_inputs(package).items()}
        network = Executed(package, runner.info.weights_format, runner.backend)
        known = measure_context(network, runner.geometry, inputs, counted)
    except NetworkError as exc:
        return None, f"it cannot be measured: {exc.message}"
    seconds = time.perf_counter() - start
    how = f"measured now in {count} runs of the network, {seconds:.1f} s"
    try:
        remember(package, known)
    except BiozooError as exc:  # a zoo that cannot be written to is no reason not to tell
        return known, f"{how}; it cannot be remembered: {exc.message}"
    return known, f"{how}; remembered"


def _most(fitting: Fitting) -> int:
    """Pixels that a network may see at once."""
    axes = max(sum(a.can_tile for a in f.tensor.axes) for f in fitting.inputs)
    free = detect().memory_available
    most = MOST.get(axes, MOST[3])
    return min(most, int(SHARE * free / (4 * FEATURES))) if free else most


def _tiled(scene: Scene, part: Part, known: KnownContext | None, *, measured: bool) -> TiledRun:
    outputs, objects = compare(scene, part, known)
    halo = {g.id: g.halo for g in part.tiles.grid}
    return TiledRun(part.tiles.summary, halo, measured, outputs, objects)


def _with_halo(part: Part, known: KnownContext | None) -> Part | None:
    """The same part as a run lays it from now on, where the package has no halo and needs one."""
    bare = bare_axes(part.tiles)
    if known is None or not known.local or not any(known.halo.get(a) for a in bare):
        return None
    model = with_context(part.model, part.tiles, known)
    try:
        tiles = plan_tiles(model, part.sizes, tile={g.id: g.tile for g in part.tiles.grid})
        whole = None
        if part.whole is not None:
            whole = plan_tiles(model, part.sizes, max_tile_pixels=2**62)
    except BiozooError:  # the tile has no room for so large a halo
        return None
    if is_costly(tiles, part.tiles):
        return None
    return replace(part, model=model, tiles=tiles, whole=whole)


# ------------------------------------------------------------------------------------------- words


def _cause(run: TiledRun, plan: TilePlan, known: KnownContext | None) -> Cause:
    """Why tiles differ."""
    if run.ok:
        return "none"
    if known is None:
        return "unknown"
    if not known.local:
        return "whole image"
    cut = [g for g in plan.grid if len(g.starts) > 1]
    short = any(g.halo < known.halo.get(g.id, 0) for g in cut)
    shifted = any(s % known.unit.get(g.id, 1) for g in cut for s in g.starts)
    # Too small a halo shows near seams only, a tile off the strides is another one all over.
    furthest = max((o.reach or 0 for o in run.outputs), default=0)
    if shifted and (not short or furthest > max(known.halo.values())):
        return "strides"
    return "halo" if short else "unknown"


def _said(
    runs: Sequence[TiledRun],
    part: Part,
    cause: Cause,
    known: KnownContext | None,
    operators: Sequence[str],
) -> tuple[str, str]:
    """The verdict and what to do."""
    worst = max((o.relative for o in runs[-1].outputs), default=0.0)
    looks = f"the network looks at the whole image ({', '.join(operators)})"
    if not operators:
        looks = "what the network looks at has no end that could be measured"
    if cause == "none":
        if known is not None and not known.local:
            return (
                f"no seams in this part, though {looks}",
                "Other images may differ: let one tile cover the image where memory allows.",
            )
        if runs[-1].measured and not runs[0].ok:
            return (
                "no seams with the measured halo; with none, as the package declares, there are",
                "Nothing: zoo run uses the measured halo on this machine. To have it in the "
                "package, for everybody: zoo pack MODEL -o OUT.zip.",
            )
        return "no seams: tiles give what the whole gives", ""
    if cause == "whole image":
        return (
            f"tiles can never agree with the whole: {looks}, so each tile is answered by itself; "
            f"they differ by up to {worst:.2g} of the range",
            "Let one tile cover the image where memory allows (--tile), or crop it. Compare images "
            "only if they were run with tiles of one size.",
        )
    if cause == "halo":
        assert known is not None
        need = ", ".join(f"{a} {n}" for a, n in known.halo.items() if n)
        return (
            f"seams: the halo is smaller than what the network looks at ({need} pixels)",
            "Have the package's author declare that halo; until then use larger tiles where memory "
            "allows: --tile.",
        )
    if cause == "strides":
        assert known is not None
        unit = ", ".join(f"{a} {n}" for a, n in known.unit.items() if n > 1)
        return (
            f"tiles differ: they do not all lie whole strides ({unit} pixels) apart, as the last "
            "one is shifted back to end with the image",
            "Crop or pad the image to a multiple of the strides, or use one tile: --tile. Tiles of "
            "a package that declares sizes in steps of its strides have none of this.",
        )
    return (
        f"tiles differ from the whole by up to {worst:.2g} of the range, and nothing that was "
        "measured explains it",
        "Use larger tiles where memory allows (--tile), and look at the seams.",
    )


def _against(part: Part) -> str:
    if part.whole is not None:
        return "the same in one piece"
    size = ", ".join(f"{g.id} {g.tile}" for g in part.tiles.grid)
    return f"one tile ({size}) laid across a seam: the network takes no larger size"


def _notes(part: Part, wider: Part | None, known: KnownContext | None) -> Sequence[str]:
    notes = []
    if wider is None and known is not None and known.local:
        short = [a for a in bare_axes(part.tiles) if known.halo.get(a)]
        if short:
            notes.append(
                "runs do not use the measured context: a tile has no room for it, or so little is "
                "left of each that a run would take several times as long"
            )
    if part.forced:
        notes.append(
            "a run takes this image in one tile, so it has no seams; smaller tiles were taken here"
        )
    if part.smaller:
        notes.append("smaller tiles than those of a run were taken, for two to fit into memory")
    if known is not None:
        notes += known.notes
    return notes
