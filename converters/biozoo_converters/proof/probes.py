"""Values of the original network at fixed places, so that a proof can be repeated without it.

`certificate.json` beside the description holds the inputs that were tried (sizes, seeds, how values
are distributed, a sha256 of each) and, per case and output, the original's values at 64 places that
the case's seed chooses. All of it is text of a few kilobytes, the same bytes each time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import InvalidPackageError

from .agreement import Agreement, agree, nothing_alike, rms_of
from .inputs import Draw, Trial, digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo_runners.tolerance import Tolerance

    from .setting import Remembered, Setting

__all__ = ["NAME", "Probe", "Probes", "take"]

NAME = "certificate.json"
FORMAT = 1
PLACES = 64
#: A stranger's file may ask for no more than this: values of one input, and cases.
MOST_VALUES, MOST_CASES, MOST_BYTES = 2**26, 256, 64 * 2**20


@dataclass(frozen=True)
class Values:
    """Of one output: its shape, its root mean square, and its values at the places."""

    shape: tuple[int, ...]
    rms: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Probe:
    """One case: what went in, and what the original made of it."""

    trial: Trial
    inputs: Mapping[str, str]
    outputs: Mapping[str, Values]

    def compare(self, got: Mapping[str, NDArray[Any]], tolerance: Tolerance) -> Agreement:
        """A network's outputs against the original's at the places."""
        for o, known in self.outputs.items():
            if o in got and got[o].shape != known.shape:
                fault = f"'{o}' has the shape {got[o].shape}, the original's is {known.shape}"
                return nothing_alike(fault, o)
        taken = {o: _real(_at(got[o], self.trial.seed)) for o in self.outputs if o in got}
        found = agree(
            taken,
            {o: np.array(v.values) for o, v in self.outputs.items()},
            tolerance,
            dict.fromkeys(self.outputs, ("probed place",)),
            {o: v.rms for o, v in self.outputs.items()},
        )
        return found


@dataclass(frozen=True)
class Probes:
    """All cases of a package."""

    draws: Mapping[str, Draw]
    cases: tuple[Probe, ...]

    def to_bytes(self) -> bytes:
        """The content of `certificate.json`."""
        plain = {
            "format": FORMAT,
            "inputs": {i: d.to_dict() for i, d in self.draws.items()},
            "cases": [
                {
                    **c.trial.to_dict(),
                    "sha256": dict(c.inputs),
                    "outputs": {
                        o: {
                            "shape": list(v.shape),
                            "rms": _plain(v.rms),
                            "values": [_plain(x) for x in v.values],
                        }
                        for o, v in c.outputs.items()
                    },
                }
                for c in self.cases
            ],
        }
        return (json.dumps(plain, allow_nan=False) + "\n").encode()

    @classmethod
    def read(cls, path: Path) -> Probes:
        """What `to_bytes` gave.

        Raises
        ------
        InvalidPackageError
            It is something else, or asks for more than a proof ever needs.
        """
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ValueError("it is too large")
            raw = json.loads(path.read_bytes())
            if raw["format"] != FORMAT:
                raise ValueError(f"its format is {raw['format']!r}, this biozoo reads {FORMAT}")
            cases = tuple(map(_probe, raw["cases"]))
            draws = {str(i): Draw.from_dict(d) for i, d in raw["inputs"].items()}
            if len(cases) > MOST_CASES:
                raise ValueError(f"it has {len(cases)} cases")
            return cls(draws, cases)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OSError) as exc:
            raise InvalidPackageError(
                source=path,
                why=f"it holds no values of an original network ({type(exc).__name__}: {exc}).",
                hint="Get the whole package again, or pack the model again.",
            ) from exc


def take(setting: Setting, reference: Remembered) -> Probes:
    """The original's values for every case of a setting."""
    from .prove import judged

    found = [
        Probe(
            trial,
            digest(inputs),
            {
                o: Values(
                    array.shape,
                    float(f"{rms_of(array):.6g}"),
                    tuple(map(_short, _at(array, trial.seed))),
                )
                for o, array in expected.items()
            },
        )
        for trial, inputs, expected in judged(setting, reference, [], [])
    ]
    return Probes(setting.draws, tuple(found))


def _probe(raw: Mapping[str, Any]) -> Probe:
    trial = Trial.from_dict(raw)
    for shape in trial.shapes.values():
        if min(shape, default=1) < 1 or prod(shape) > MOST_VALUES:
            raise ValueError(f"it asks for an input of {shape}")
    outputs = {
        str(o): Values(tuple(map(int, v["shape"])), float(v["rms"]), tuple(map(float, v["values"])))
        for o, v in raw["outputs"].items()
    }
    for o, v in outputs.items():
        if len(v.values) != min(PLACES, prod(v.shape)):
            raise ValueError(f"output '{o}' has {len(v.values)} values")
    return Probe(trial, {str(i): str(s) for i, s in raw["sha256"].items()}, outputs)


def _at(array: NDArray[Any], seed: int) -> NDArray[Any]:
    """Values at the places that a seed chooses; all of a small array."""
    if array.size <= PLACES:
        return array.reshape(-1)
    places = np.random.PCG64(seed + 77).random_raw(PLACES) % np.uint64(array.size)
    return array.reshape(-1)[np.asarray(places, np.intp)]


def _real(array: NDArray[Any]) -> NDArray[Any]:
    """As the original's values are read: real numbers; what is none stays what it is."""
    return array.astype(np.float64) if array.dtype.kind in "biuf" else array


def _short(value: Any) -> float:
    """The shortest number that is this value in its own precision."""
    return float(str(value)) if isinstance(value, np.floating) else float(value)


def _plain(value: float) -> float | int | str:
    """As JSON has it: whole numbers without a point, others than numbers as text."""
    if not np.isfinite(value):
        return str(value)
    return int(value) if value == int(value) and abs(value) < 2**53 else value
