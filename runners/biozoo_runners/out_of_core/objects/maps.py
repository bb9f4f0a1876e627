"""What objects are made of, read by regions: the foreground, and the core map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biozoo.errors import UsageError

from ...instances import InstancesConfig, core_map
from .grid import Region, grown, starts, within


class Readable(Protocol):
    """The channels of one plane or volume, read by regions.

    Attributes
    ----------
    shape
        Pixels along each spatial axis.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def read(self, channel: int, region: Region) -> NDArray[np.float32]:
        """Values of a channel, spatial axes only."""


@dataclass(frozen=True)
class Maps:
    """The maps of `InstancesConfig` for any region, with the values that they have in the whole.

    A Gaussian reaches `int(4 * sigma + 0.5)` pixels (scipy's `truncate`). So many more are read
    around the region; where the map ends, so does what is read, and is mirrored there.
    """

    prediction: Readable
    config: InstancesConfig

    def inside(self, region: Region) -> NDArray[np.bool_]:
        """Where the foreground is; NaN is not."""
        return self._read(self.config.foreground, region) > self.config.foreground_threshold

    def core(self, region: Region) -> NDArray[np.float32]:
        """The map that rises towards the middle of objects; see `InstancesConfig`."""
        config = self.config
        sigma = float(config.smoothing)
        wide = grown(region, int(4 * sigma + 0.5), self.prediction.shape)
        middle = config.foreground if config.distance is None else config.distance
        boundary = None if config.boundary is None else self._read(config.boundary, wide)
        core = core_map(self._read(middle, wide), None, boundary, sigma)
        cut: NDArray[np.float32] = core[within(region, starts(wide))]
        return cut

    def _read(self, channel: int | str, region: Region) -> NDArray[np.float32]:
        if isinstance(channel, str):
            raise UsageError(
                f"Channel {channel!r} is asked for by its name, and this image has none. Use an "
                "index counted from 0."
            )
        return self.prediction.read(channel, region)
