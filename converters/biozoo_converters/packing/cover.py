"""The cover of a package: its test input beside its test output, twice as wide as high.

Deterministic: the same tensors give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_cover", "picture"]

#: Pixels of one half.
EDGE = 384

#: One colour per channel, told apart also by those who see few of them (Okabe and Ito).
_COLOURS = np.array(
    [
        (0.0, 0.62, 0.45), (0.84, 0.37, 0.0), (0.34, 0.71, 0.91), (0.94, 0.89, 0.26),
        (0.8, 0.47, 0.65), (0.9, 0.62, 0.0), (0.0, 0.45, 0.7),
    ]
)  # fmt: skip


def draw_cover(
    before: NDArray[Any],
    before_axes: Sequence[str],
    after: NDArray[Any],
    after_axes: Sequence[str],
    *,
    rgb: bool = False,
) -> bytes:
    """A PNG of two squares: left the input, right the output.

    Parameters
    ----------
    before, after
        Tensors of any axes; of a volume the middle plane is shown.
    rgb
        Whether the input's three channels are red, green and blue.
    """
    from PIL import Image

    halves = [
        _square(picture(before, before_axes, rgb=rgb)),
        _square(picture(after, after_axes)),
    ]
    line = np.full((EDGE, 2, 3), 255, np.uint8)
    both = np.concatenate([halves[0][:, :-1], line, halves[1][:, 1:]], axis=1)
    file = io.BytesIO()
    Image.fromarray(both).save(file, "PNG", optimize=False, compress_level=9)
    return file.getvalue()


def picture(array: NDArray[Any], axes: Sequence[str], *, rgb: bool = False) -> NDArray[np.uint8]:
    """A tensor as a picture, y x rgb: the middle of every axis but channel, y and x.

    Numbers of objects get a colour each, one channel is shown in gray, several in one colour each.
    A tensor without y and x becomes bars, one per value.
    """
    dims = list(axes)
    if "y" not in dims or "x" not in dims:
        return _bars(np.asarray(array))
    for axis in [a for a in dims if a not in ("channel", "y", "x")]:
        i = dims.index(axis)
        array = array.take(0 if axis == "batch" else array.shape[i] // 2, axis=i)
        dims.remove(axis)
    if "channel" not in dims:
        array, dims = array[None], ["channel", *dims]
    array = array.transpose([dims.index(a) for a in ("channel", "y", "x")])
    if array.dtype.kind in "iu" and len(array) == 1 and _is_labels(array):
        return _labels(array[0])
    array = np.nan_to_num(array.astype(np.float32))
    if rgb and len(array) == 3:
        low, high = float(array.min()), float(array.max())
        scaled = array / 255 if low >= 0 and 1 < high <= 255 else _spread(array, low, high)
        return _bytes(scaled.transpose(1, 2, 0))
    if len(array) == 1:
        return _bytes(_contrast(array[0])[..., None].repeat(3, axis=2))
    shown = array[: len(_COLOURS)]
    between = shown.min() >= 0 and shown.max() <= 1
    mixed = np.zeros((*shown.shape[1:], 3))
    for channel, colour in zip(shown, _COLOURS, strict=False):
        mixed += (channel if between else _contrast(channel))[..., None] * colour
    return _bytes(mixed)


def _is_labels(array: NDArray[Any]) -> bool:
    """Whether integers look like numbers of objects: few of them, in flat areas."""
    flat = np.mean(array[..., 1:] == array[..., :-1])
    return bool(flat > 0.85 and array.min() >= 0 and len(np.unique(array)) < array.size / 16)


def _labels(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """A colour per object, neighbours in number far apart in hue; 0 is black."""
    import colorsys

    top = int(labels.max())
    colours = np.array(
        [(0, 0, 0)]
        + [colorsys.hsv_to_rgb(i * 0.618 % 1, 0.6, 1) for i in range(1, min(top, 4096) + 1)]
    )
    index = np.where(labels > 0, (labels.astype(np.int64) - 1) % max(len(colours) - 1, 1) + 1, 0)
    return _bytes(colours[np.minimum(index, len(colours) - 1)])


def _contrast(plane: NDArray[Any]) -> NDArray[Any]:
    """To 0..1 between the percentiles 1 and 99.7; probabilities stay what they are."""
    if plane.min() >= 0 and plane.max() <= 1 and plane.max() > 0.5:
        return plane
    low, high = np.percentile(plane, [1, 99.7])
    if high <= low:
        low, high = plane.min(), plane.max()
    return _spread(plane, float(low), float(high))


def _spread(array: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    return (array - low) / (high - low if high > low else 1.0)


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    made: NDArray[np.uint8] = (np.clip(array, 0, 1) * 255 + 0.5).astype(np.uint8)
    return made


def _bars(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Up to 64 values as bars from the left, the largest in colour."""
    values = np.nan_to_num(array.astype(np.float64).ravel()[:64])
    low = min(0.0, float(values.min()))
    heights = _spread(values, low, float(values.max()))
    drawn = np.full((EDGE, EDGE, 3), 24, np.uint8)
    edges = np.linspace(16, EDGE - 16, len(values) + 1).astype(int)
    for i, height in enumerate(heights):
        colour = _bytes(_COLOURS[2] if i == int(values.argmax()) else np.full(3, 0.6))
        top = EDGE - 16 - int(height * (EDGE - 48))
        drawn[top : EDGE - 16, edges[i] : max(edges[i] + 1, edges[i + 1] - 2)] = colour
    return drawn


def _square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle square, enlarged or made smaller to EDGE pixels."""
    from PIL import Image

    y, x = image.shape[:2]
    edge = min(y, x)
    strip = max(y, x) > 4 * edge  # all of it, stretched
    cut = image if strip else image[(y - edge) // 2 :, (x - edge) // 2 :][:edge, :edge]
    how = Image.Resampling.NEAREST if edge < EDGE else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(cut).resize((EDGE, EDGE), how))
