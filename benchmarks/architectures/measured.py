"""One architecture through `zoo pack`: what its line of the table says."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measure import compare, seconds

from .entry import Architecture
from .weights import enliven, image

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_converters.networks.network import Network

__all__ = ["Measured", "measure"]

#: Seconds that one timed sample takes at least: a call of a millisecond says little.
LONG_ENOUGH = 0.2

#: Edge of the image that is timed, by number of space axes, where the size is free.
TIMED = {2: 256, 3: 64}


@dataclass(frozen=True)
class Measured:
    """What came out.

    Attributes
    ----------
    fault
        Why there is no package, "" where there is one: a sentence.
    tried
        Per way of exporting that did not hold: why.
    sizes
        What was found of the input's space axes, ``"y 32 + n*16, x 32 + n*16"``.
    batch
        Whether batches of any size are allowed.
    cases, shapes
        Comparisons that decide, and how many different input shapes were among them.
    seconds, original_seconds
        Per megapixel (million voxels) of input in onnxruntime and in torch, same threads.
    ratio
        Median over pairs of torch / onnxruntime: above 1 the ONNX graph is faster.
    took
        Seconds of everything.
    versions, releases
        Of what the certificate names, and of the architecture's library.
    """

    name: str
    fault: str = ""
    tried: Mapping[str, str] = field(default_factory=dict)
    strategy: str = ""
    optimised: str = ""
    sizes: str = ""
    batch: bool = False
    outputs: int = 0
    cases: int = 0
    shapes: int = 0
    absolute_error: float = 0.0
    relative_error: float = 0.0
    off_per_million: float = 0.0
    parameters: float = 0.0
    graph_megabytes: float = 0.0
    seconds: float | None = None
    original_seconds: float | None = None
    ratio: float | None = None
    took: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    releases: Mapping[str, str] = field(default_factory=dict)

    @property
    def certified(self) -> bool:
        """Whether a package was made; there is none without proof."""
        return not self.fault

    def to_json(self) -> str:
        """For the cache."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Measured:
        """What `to_json` gave."""
        return cls(**json.loads(text))


def measure(
    architecture: Architecture,
    folder: Path,
    *,
    threads: int = 1,
    runs: int = 5,
    say: Callable[[str], None] = lambda text: None,
) -> Measured:
    """Pack one architecture and time the result.

    Parameters
    ----------
    folder
        Empty; weights, sample and package are written there.
    threads
        Of both runtimes.
    runs
        Pairs of timed calls.
    """
    import torch

    from biozoo.errors import BiozooError, ConversionError

    begun = time.perf_counter()
    torch.set_num_threads(threads)
    made: dict[str, Any] = {}
    try:
        say("building")
        weights, made["parameters"] = _weights(architecture, folder)
        sample = folder / "sample.npy"
        np.save(sample, image(architecture.shape))
        say("packing")
        package, certificate = _packed(architecture, weights, sample, folder)
        proof = certificate.proof("onnx")
        made |= {
            "strategy": proof.strategy,
            "optimised": proof.optimised,
            "cases": len(proof.counted),
            "shapes": len({str(sorted(c.shapes.items())) for c in proof.counted}),
            "absolute_error": proof.absolute_error,
            "relative_error": proof.relative_error,
            "off_per_million": proof.off_per_million,
            "versions": dict(certificate.versions),
            **_described(package),
        }
        say("timing")
        made |= _timed(architecture, weights, package, threads, runs)
    except ConversionError as exc:
        made |= {"fault": exc.message, "tried": dict(exc.tried)}
    except BiozooError as exc:
        made["fault"] = exc.message
    except Exception as exc:  # of the library: what its user would meet
        made["fault"] = f"{type(exc).__name__}: {' '.join(str(exc).split())[:300]}"
    took = time.perf_counter() - begun
    return Measured(name=architecture.name, took=round(took, 1), **made)


def _open(architecture: Architecture, weights: Path | None) -> Network:
    from biozoo_converters.networks.torch_source import open_network

    return open_network(
        architecture.source, callable_kwargs=dict(architecture.kwargs), weights=weights
    )


def _weights(architecture: Architecture, folder: Path) -> tuple[Path, float]:
    """A state dict, and the number of parameters in millions."""
    import torch

    with _open(architecture, None) as network:
        module = network.module
        enliven(module, architecture.shape)
        path = folder / "weights.pt"
        torch.save(module.state_dict(), path)
        return path, round(sum(p.numel() for p in module.parameters()) / 1e6, 2)


def _packed(
    architecture: Architecture, weights: Path, sample: Path, folder: Path
) -> tuple[ModelPackage, Any]:
    """The package, made as `zoo pack` makes it, and its certificate."""
    import biozoo
    from biozoo_converters.packing.build import pack

    values: dict[str, Any] = {
        "source": architecture.source,
        "kwargs": dict(architecture.kwargs),
        "weights": str(weights),
        "inputs": [{"sample": str(sample), "axes": architecture.axes}],
        "name": "coverage",
        "description": "An architecture with random weights.",
        "authors": ["biozoo"],
        "license": "MIT",
        "cite": ["None https://example.com/"],
        "timing": False,
    }
    if architecture.outputs:
        values["keep_outputs"] = list(architecture.outputs)
    report = pack(values, folder / "package", root=folder)
    return biozoo.open(folder / "package"), report.certificate


def _described(package: ModelPackage) -> dict[str, Any]:
    """Sizes of the one input, and what else the description says."""
    from biozoo_runners.sizes import geometry

    found = geometry(package.descr)
    space = [a for a in found.inputs[0].axes if a.kind == "space"]
    texts = {a.id: str(a.size).removeprefix("exactly ") for a in space}
    alike = len(set(texts.values())) == 1
    sizes = next(iter(texts.values())) if alike else ", ".join(f"{a} {t}" for a, t in texts.items())
    batch = package.raw["inputs"][0]["axes"][0]
    source = package.raw["weights"]["onnx"]["source"]
    return {
        "sizes": sizes,
        "batch": batch["type"] == "batch" and batch.get("size") is None,
        "outputs": len(found.outputs),
        "graph_megabytes": round((package.root / source).stat().st_size / 1e6, 2),
    }


def _timed(
    architecture: Architecture, weights: Path, package: ModelPackage, threads: int, runs: int
) -> dict[str, float]:
    """Both runtimes in turn on one input, in this process, with the same threads."""
    import torch

    import biozoo_runners

    torch.set_num_threads(threads)
    shape = _timed_shape(package)
    array = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    tensor = str(package.raw["inputs"][0]["id"])
    with (
        _open(architecture, weights) as network,
        biozoo_runners.load(package, device="cpu", weights="onnx", threads=threads) as runner,
    ):

        def original() -> None:
            network.run([array])

        def graph() -> None:
            runner.backend.run({tensor: array})

        original()
        once = seconds(original)
        calls = max(1, min(100, round(LONG_ENOUGH / once)))
        found = compare(
            repeated(original, calls),
            repeated(graph, calls),
            runs=min(3, runs) if once > 5 else runs,
        )
    megapixels = math.prod(shape[2:]) / 1e6
    return {
        "seconds": found.b / calls / megapixels,
        "original_seconds": found.a / calls / megapixels,
        "ratio": found.ratio,
    }


def repeated(call: Callable[[], None], times: int) -> Callable[[], None]:
    """So many calls as one."""

    def calls() -> None:
        for _ in range(times):
            call()

    return calls


def _timed_shape(package: ModelPackage) -> tuple[int, ...]:
    """An allowed shape of about `TIMED` pixels along every free space axis, batch 1."""
    from biozoo_runners.sizes import FixedSize, ParameterizedSize, geometry

    tensor = geometry(package.descr).inputs[0]
    goal = TIMED[sum(a.kind == "space" for a in tensor.axes)]
    shape = []
    for axis in tensor.axes:
        match axis.size:
            case ParameterizedSize(least, step):
                shape.append(least + step * max(0, math.ceil((goal - least) / step)))
            case FixedSize(size):
                shape.append(size)
            case other:
                raise AssertionError(f"{axis.id}: {other}")
    return tuple(shape)
