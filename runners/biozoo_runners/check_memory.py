"""The part of a check that is about memory: an estimate per device, and how it was made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from biozoo.errors import BiozooError
from biozoo.files import size_text

from .check import CheckItem
from .devices import cuda_index, is_cuda

if TYPE_CHECKING:
    from bioimageio.spec.model.v0_5 import InputTensorDescr

    from biozoo.package import ModelPackage

    from .check_image import Fits
    from .check_machine import Choice
    from .devices import Machine
    from .sizes import ModelGeometry
    from .tiling import TilePlan

#: Float32 features per pixel that a network is taken to hold at once, for the memory estimate.
#: Measured in ONNX Runtime on a CPU: nuclei-fluo 133, nuclei-broad 97, brain-meshnet3d 64.
FEATURES = 128

#: Bytes per pixel that finding objects takes besides its result (measured: 28 in 108 megapixels).
OBJECTS = 28

#: Bytes of the program with a backend's framework loaded and no model (measured on Linux).
PROGRAM = {
    "onnxruntime": 110_000_000,
    "openvino": 112_000_000,
    "torch": 570_000_000,
    "torch-code": 680_000_000,
    "keras": 890_000_000,
    "tensorflow": 720_000_000,
}

#: Pixels per space axis that are assumed without an image and without a test image.
ASSUMED = {2: 512, 3: 128}


@dataclass(frozen=True, slots=True)
class Load:
    """What a run holds, in bytes: the image, all results, one tile's arrays and features."""

    image: float
    results: float
    tile: float
    features: float
    of: str = ""


def with_image(package: ModelPackage, fits: Fits) -> Load | None:
    """The load of a run on an image; None where no tiles could be laid."""
    from .instances import read_instances_config

    if fits.fitting is None or fits.plan is None:
        return None
    loops = len(fits.fitting)
    whole = sum(f.image.nbytes for f in fits.fitting.inputs) / max(loops, 1)
    objects = read_instances_config(package.descr) is not None
    return _load(fits.plan, whole, loops, objects=objects)


def without_image(package: ModelPackage) -> Load | None:
    """The load of a run on an image as the model's test image, or of an assumed size."""
    from .instances import read_instances_config
    from .sizes import geometry
    from .tiling import plan_tiles

    try:
        model = geometry(package.descr)
        described = {str(t.id): t for t in package.descr.inputs}
        sizes = {
            t.id: _sizes(package, model, t.id, described[t.id])
            for t in model.inputs
            if not t.optional
        }
        plan = plan_tiles(model, sizes)
        objects = read_instances_config(package.descr) is not None
    except BiozooError:
        return None
    first = next(iter(sizes.values()), {})
    shown = " x ".join(str(n) for a, n in first.items() if a in ("time", "z", "y", "x"))
    whole = sum(4.0 * prod(s.values()) for s in sizes.values())
    return _load(plan, whole, 1, objects=objects, of=f"for an image of {shown}: " if shown else "")


def _sizes(
    package: ModelPackage, model: ModelGeometry, tensor: str, described: InputTensorDescr
) -> dict[str, int]:
    """Axis sizes of the test image, or of an assumed one."""
    import numpy as np

    here = model.tensor(tensor)
    if described.test_tensor is not None:
        try:
            array = np.load(package.path(described.test_tensor), mmap_mode="r", allow_pickle=False)
        except (BiozooError, OSError, ValueError, EOFError):
            pass
        else:
            if array.ndim == len(here.dims):
                return dict(zip(here.dims, array.shape, strict=True))
    space = sum(a.kind == "space" for a in here.axes)
    roots = {}
    for t in model.inputs:
        for a in t.axes:
            wanted = ASSUMED.get(space, 512) if a.kind == "space" else 1
            size = getattr(a.size, "size", None)  # FixedSize
            least, step = getattr(a.size, "min", 1), getattr(a.size, "step", 1)
            more = max(0, -(-(wanted - least) // max(step, 1)))
            roots[(t.id, a.id)] = size if size is not None else least + more * step
    found = {}
    for a in here.axes:
        size = model.size(tensor, a.id, roots)
        found[a.id] = len(a.channels) or (size or 1)
    return found


def _load(plan: TilePlan, whole: float, loops: int, *, objects: bool, of: str = "") -> Load:
    results = sum(4.0 * prod(n or 1 for n in t.shape) * loops for t in plan.outputs)
    if objects:
        results += (4.0 * loops + OBJECTS) * plan.pixels
    tile = sum(4.0 * prod(n or 1 for n in t.tile) for t in (*plan.inputs, *plan.outputs))
    features = 4.0 * FEATURES * prod(g.tile for g in plan.grid)
    return Load(whole, results, tile, features, of)


def items(
    package: ModelPackage, machine: Machine, choice: Choice, load: Load
) -> Iterator[CheckItem]:
    """Host memory, and the card's where it would run there."""
    from biozoo.peek import weights_size

    would = choice.otherwise
    on_card = would is not None and is_cuda(would.device)
    size = weights_size(package, would.weights_format) if would is not None else None
    weights = float(size or 0)
    program = float(PROGRAM.get(would.backend.name, PROGRAM["onnxruntime"]) if would else 0)
    tile = load.tile if on_card else load.tile + load.features
    parts = {
        "image": load.image,
        "results": load.results,
        "one tile": tile,
        "weights": weights,
        "program": program,
    }
    how = [
        f"estimated as {FEATURES} float32 values per pixel of a tile (64 to 133 were measured), "
        "the weights as large as their file, and the program as measured without a model"
    ]
    if size is None and would is not None:
        how.append("the size of the weights is not known here")
    need, free = sum(parts.values()), machine.memory_available
    text = f"{load.of}about {size_text(need)} ({_listed(parts)}), {size_text(free)} are free"
    facts = {
        "device": "host",
        "need": need,
        "free": free,
        "total": machine.memory,
        "parts": parts,
        "how": how,
    }
    if load.image + load.results > free:
        todo = "Write OME-Zarr, which takes images of any size: zoo run ... -o NAME.zarr."
        yield CheckItem("memory", "no", text, todo, tuple(how), facts)
    elif need > free:
        todo = "Use smaller tiles, for example --tile y=256,x=256."
        yield CheckItem("memory", "note", text, todo, tuple(how), facts)
    else:
        yield CheckItem("memory", "yes", text, "", tuple(how), facts)
    if on_card and would is not None and machine.cuda:
        yield _card(machine, would.device, load, weights)


def _card(machine: Machine, device: str, load: Load, weights: float) -> CheckItem:
    """Memory of the graphics card."""
    card = machine.cuda[min(cuda_index(device), len(machine.cuda) - 1)]
    parts = {"one tile": load.tile + load.features, "weights": weights}
    need = sum(parts.values())
    has = f"it has {size_text(card.memory)}" if card.memory else "its size is not known"
    text = f"on {device} about {size_text(need)} ({_listed(parts)}), {has}"
    how = (
        f"estimated as {FEATURES} float32 values per pixel of a tile, and the weights; what CUDA "
        "itself and other programs take of the card is not counted",
    )
    facts = {"device": device, "need": need, "total": card.memory, "parts": parts, "how": how}
    if card.memory and need > card.memory:
        todo = "Tiles are halved until one fits; to begin with smaller ones: --tile y=256,x=256."
        return CheckItem("memory", "note", text, todo, how, facts)
    return CheckItem("memory", "yes", text, "", how, facts)


def _listed(parts: dict[str, float]) -> str:
    return ", ".join(f"{k} {size_text(v)}" for k, v in parts.items() if v)
