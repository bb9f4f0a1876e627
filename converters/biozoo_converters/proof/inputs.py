"""Inputs of a comparison, made again from a few numbers: the real one resized, or random ones.

The random ones are the same bits on every machine: the raw stream of PCG64, which numpy guarantees,
then sums of integers and single float32 operations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .growing import grow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo_runners.sizes import ModelGeometry

__all__ = ["Draw", "Trial", "digest", "draws_of", "make", "normal"]


@dataclass(frozen=True)
class Trial:
    """One set of inputs, made anew from this and the `Draw`s."""

    shapes: Mapping[str, tuple[int, ...]]
    kind: Literal["real", "random"]
    seed: int
    draw: Literal["", "like", "normal"] = ""
    scale: float = 1.0
    own: bool = False
    """the sample's own size: what is timed"""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "shapes": {i: list(s) for i, s in self.shapes.items()},
            "kind": self.kind,
            "seed": self.seed,
            "draw": self.draw,
            "scale": self.scale,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Trial:
        """What `to_dict` gave."""
        if raw["kind"] not in ("real", "random") or raw["draw"] not in ("", "like", "normal"):
            raise ValueError(f"no case of kind {raw['kind']!r}, {raw['draw']!r}")
        if int(raw["seed"]) < 0 or not 0 < float(raw["scale"]) < inf:
            raise ValueError(f"no case of seed {raw['seed']}, scale {raw['scale']}")
        return cls(
            {str(i): tuple(map(int, s)) for i, s in raw["shapes"].items()},
            raw["kind"],
            int(raw["seed"]),
            raw["draw"],
            float(raw["scale"]),
        )


@dataclass(frozen=True)
class Draw:
    """How random values of one input are distributed: as in the real input, channel by channel."""

    dtype: str = "float32"
    axis: int | None = None
    """of the channels; None: all values are of one distribution"""
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    low: float = -4.0
    high: float = 4.0
    places: tuple[int, ...] = ()
    """axes along which neighbours are alike"""

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether arrays of this shape can be drawn."""
        axes = (*self.places, *(() if self.axis is None else (self.axis,)))
        if not all(0 <= n < len(shape) for n in axes):
            return False
        channels = 1 if self.axis is None else shape[self.axis]
        return len(self.mean) == len(self.std) == channels

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "dtype": self.dtype,
            "axis": self.axis,
            "mean": list(self.mean),
            "std": list(self.std),
            "range": [self.low, self.high],
            "places": list(self.places),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Draw:
        """What `to_dict` gave."""
        low, high = map(float, raw["range"])
        if (dtype := np.dtype(str(raw["dtype"]))).kind not in "biuf":
            raise ValueError(f"no input of type {dtype}")
        return cls(
            dtype.name,
            None if raw["axis"] is None else int(raw["axis"]),
            tuple(map(float, raw["mean"])),
            tuple(map(float, raw["std"])),
            low,
            high,
            tuple(map(int, raw["places"])),
        )


def draws_of(model: ModelGeometry, real: Mapping[str, NDArray[Any]]) -> dict[str, Draw]:
    """How the values of the real inputs are distributed, to six digits.

    Rounded, so that a machine that sums in another order finds the same.
    """
    return {i: _draw(model, i, array) for i, array in real.items()}


def _draw(model: ModelGeometry, tensor: str, array: NDArray[Any]) -> Draw:
    kinds = [a.kind for a in model.tensor(tensor).axes]
    axis = kinds.index("channel") if "channel" in kinds else None
    values = array.astype(np.float64)
    values = np.where(np.isfinite(values), values, 0.0)
    rows = values.reshape(1, -1) if axis is None else np.moveaxis(values, axis, 0)
    rows = rows.reshape(len(rows), -1)
    places = tuple(i for i, k in enumerate(kinds) if k in ("space", "time"))
    mean = tuple(_six(m) for m in rows.mean(1))
    std = tuple(_six(s) or 1.0 for s in rows.std(1))
    low, high = (_six(values.min()), _six(values.max())) if values.size else (0.0, 0.0)
    if low == high and array.dtype.kind == "f":
        low, high = low - 4.0, high + 4.0
    return Draw(array.dtype.name, axis, mean, std, low, high, places)


def _six(value: float) -> float:
    return float(f"{value:.6g}")


def make(
    trial: Trial, draws: Mapping[str, Draw], real: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """The inputs of a trial, by tensor id.

    Parameters
    ----------
    real
        The real inputs, as the network takes them; needed for trials of kind "real".
    """
    made: dict[str, NDArray[Any]] = {}
    for n, (tensor, shape) in enumerate(trial.shapes.items()):
        if trial.kind == "real":
            made[tensor] = grow(real[tensor], dict(enumerate(shape)))
        else:
            made[tensor] = _random(trial, draws[tensor], shape, 1000 * trial.seed + n)
    return made


def _random(trial: Trial, draw: Draw, shape: tuple[int, ...], seed: int) -> NDArray[Any]:
    one = np.float32
    fine = normal(seed, shape)
    dtype = np.dtype(draw.dtype)
    if trial.draw == "normal" and dtype.kind == "f":
        return (fine * one(trial.scale)).astype(dtype)
    # Structure of some pixels' size: networks answer it, while they average plain noise away.
    coarse = normal(
        seed + 500, tuple(ceil(s / 8) if i in draw.places else s for i, s in enumerate(shape))
    )
    for i in draw.places:
        coarse = np.repeat(coarse, 8, axis=i)
    coarse = coarse[tuple(slice(s) for s in shape)]
    values = coarse * one(0.8) + fine * one(0.6)
    sides = [1] * len(shape)
    if draw.axis is not None:
        sides[draw.axis] = len(draw.mean)
    std = np.array(draw.std, one).reshape(sides) * one(trial.scale)
    values = values * std + np.array(draw.mean, one).reshape(sides)
    if trial.scale == 1 or dtype.kind != "f":
        values = np.clip(values, one(draw.low), one(draw.high))
    if dtype.kind == "b":
        middle = np.array(draw.mean, one).reshape(sides)
        return np.asarray(values > middle)
    return np.asarray((values if dtype.kind == "f" else np.rint(values)).astype(dtype))


#: Standard deviation of the sum of four whole numbers, each from 0 to 65535.
_DEVIATION = float(np.sqrt(4 * (65536.0**2 - 1) / 12))


def normal(seed: int, shape: Sequence[int]) -> NDArray[np.float32]:
    """Values of mean 0 and deviation 1, nearly normal: sums of four uniform ones, up to 3.46."""
    raw = np.random.PCG64(seed).random_raw(max(prod(shape), 1))
    parts = np.asarray(raw, np.uint64).view(np.uint16).reshape(-1, 4)
    total = parts.sum(axis=1, dtype=np.int32) - np.int32(131070)
    values = total.astype(np.float32) * np.float32(1 / _DEVIATION)
    return np.asarray(values[: prod(shape)].reshape(tuple(shape)))


def digest(inputs: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """sha256 of each input's values, little-endian, with shape and type."""
    found = {}
    for tensor, array in inputs.items():
        plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        head = f"{array.dtype.name} {array.shape} ".encode()
        found[tensor] = hashlib.sha256(head + plain.tobytes()).hexdigest()
    return found
