"""The certificate of a finished package: its proofs, speeds, versions, and the original's values.

attested = attest(package, reference, proofs, original_of(network), real=real)
raw["config"]["biozoo"]["certificate"] = attested.certificate.to_dict()
(folder / probes.NAME).write_bytes(attested.probes)              # and name it as an attachment
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from biozoo.errors import BiozooError

from ..networks.opening import open_weights
from .cases import pixels_of
from .certificate import Certificate, FormatProof, Original
from .inputs import Trial
from .probes import NAME, take
from .setting import Remembered, Setting, remembered
from .timing import interleaved, kept, versions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo.package import ModelPackage

    from ..networks.network import Network, Reference

__all__ = ["Attested", "attest", "original_of", "seconds_per_megapixel"]

#: Of the original, among the speeds.
ORIGINAL = "original"

#: Pixels below which a size is not timed.
FEW = 2**15

#: Libraries that are named only where such weights took part.
_ONLY_FOR = {"keras": "keras", "tensorflow": "tensorflow", "tensorflow-cpu": "tensorflow"}


@dataclass(frozen=True)
class Attested:
    """What is written into a package: for the description, and the content of `probes.NAME`."""

    certificate: Certificate
    probes: bytes


def original_of(network: Network) -> Original:
    """The network that is packed, as the certificate names it."""
    return Original(network.format, network.name, network.sha256)


def attest(
    package: ModelPackage,
    reference: Reference,
    proofs: Sequence[FormatProof],
    original: Original,
    *,
    real: Mapping[str, NDArray[Any]] | None = None,
    timing: bool = True,
) -> Attested:
    """The certificate of a package whose weights are proven.

    Parameters
    ----------
    package
        With all weights that the proofs are of.
    reference
        The original network; one made by `remembered` needs not run again.
    proofs
        What `prove` gave, for each weights format that is kept.
    real
        As for `prove`.
    timing
        False leaves the seconds per megapixel out: the certificate is then the same on every
        machine of the same versions and results.
    """
    setting = Setting.of(package, real)
    memory = remembered(reference)
    speeds: Mapping[str, float] = {}
    if timing:
        with contextlib.ExitStack() as stack:
            ways: dict[str, Reference] = {ORIGINAL: memory.network}
            for p in proofs:
                with contextlib.suppress(BiozooError):  # proven in another way than by a backend
                    ways[p.weights_format] = stack.enter_context(
                        open_weights(package, p.weights_format)
                    )
            key = {p.weights_format: dict(p.files) for p in proofs}
            speeds = seconds_per_megapixel(setting, ways, {**key, ORIGINAL: original.sha256})
    probes = take(setting, memory).to_bytes()
    certificate = Certificate(
        replace(original, seconds_per_megapixel=speeds.get(ORIGINAL)),
        tuple(replace(p, seconds_per_megapixel=speeds.get(p.weights_format)) for p in proofs),
        _versions(original, proofs),
    ).with_probes(NAME, hashlib.sha256(probes).hexdigest())
    return Attested(certificate, probes)


def seconds_per_megapixel(
    setting: Setting, ways: Mapping[str, Reference], key: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """How fast each way computes one image of the sample's own size, three digits.

    A sample of few pixels would measure calls and not pixels: the largest case is taken then.

    Parameters
    ----------
    ways
        Networks by name.
    key
        What the speeds depend on besides machine, versions and sizes; kept then (see
        `timing.kept`). None measures anew.
    """

    def pixels(trial: Trial) -> int:
        return max(pixels_of(setting.model, i, s) for i, s in trial.shapes.items())

    single = [t for t in setting.trials if setting.images(t) == 1]
    trial = next((t for t in single if t.own and pixels(t) >= FEW), max(single, key=pixels))
    inputs, megapixels = setting.inputs(trial), pixels(trial) / 1e6

    def call(way: Reference) -> Callable[[], object]:
        return lambda: way.run(inputs)

    def measure() -> dict[str, float]:
        able = {}
        for name, way in ways.items():
            with contextlib.suppress(BiozooError):
                way.run(inputs)
                able[name] = call(way.network if isinstance(way, Remembered) else way)
        seconds = interleaved(able)
        return {name: float(f"{s / megapixels:.3g}") for name, s in seconds.items()}

    if key is None:
        return measure()
    shapes = {i: list(s) for i, s in trial.shapes.items()}
    return kept({"ways": dict(key), "shapes": shapes}, measure)


def _versions(original: Original, proofs: Sequence[FormatProof]) -> dict[str, str]:
    """The versions that took part: of Keras and TensorFlow only where such weights did."""
    formats = {original.format, *(p.weights_format for p in proofs)}

    def took_part(library: str) -> bool:
        word = _ONLY_FOR.get(library)
        if library in ("tf2onnx", *_ONLY_FOR):
            return any(f.startswith(("keras", "tensorflow")) for f in formats) and (
                word is None or any(f.startswith((word, "keras")) for f in formats)
            )
        if library == "openvino":
            return any("openvino" in p.runs_on for p in proofs)
        return True

    return {name: v for name, v in versions().items() if took_part(name)}
