"""What a run gives: arrays by name and the report; and how far a run is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from biozoo.errors import UsageError

from .report import RunReport

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Progress", "Result", "main_of"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: `done` of `total` tiles; `stage` says what is being done.

    Of those done `kept` were not computed, as an earlier run had kept them.
    """

    done: int
    total: int
    stage: str
    kept: int = 0


class Result(Mapping[str, "xr.DataArray"]):
    """Output tensors by id, plus "labels" where the package says how to make objects.

    Each array's dims are those of the output, without the model's batch axis, plus the image's
    axes that the model lacks (then in the order of OME); coordinate "channel" holds the output's
    channel names, attrs "pixel_size" and "unit" are the image's, scaled where the output is.
    """

    def __init__(
        self,
        tensors: Mapping[str, xr.DataArray],
        report: RunReport,
        label_images: Sequence[str] = (),
    ) -> None:
        """`label_images`: ids of the results that hold numbers of objects."""
        self._tensors = dict(tensors)
        self.report = report
        self.label_images = tuple(label_images)

    def __getitem__(self, tensor: str) -> xr.DataArray:
        return self._tensors[tensor]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"Result({', '.join(f'{i} {dict(a.sizes)}' for i, a in self.items())})"

    @property
    def main(self) -> xr.DataArray:
        """The labels where there are any, else the only output.

        Raises
        ------
        UsageError
            If there are several outputs, and none or several are labels.
        """
        main = main_of(tuple(self), self.label_images)
        if main is None:
            raise UsageError(
                f"The model has {len(self)} outputs: {', '.join(self)}. Name the one you want; on "
                "the command line give a folder: -o FOLDER."
            )
        return self[main]


def main_of(results: Sequence[str], label_images: Sequence[str]) -> str | None:
    """Which result one file gets: "labels", the only image of labels, the only one; None: none."""
    if "labels" in results:
        return "labels"
    return next((ids[0] for ids in (label_images, results) if len(ids) == 1), None)
