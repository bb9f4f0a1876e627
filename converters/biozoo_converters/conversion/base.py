"""The seam of converters: what makes weights of one format from those of another.

A converter does not decide whether its result is right. It offers attempts, best first, and
`convert.first_proven` keeps the first whose results agree with the original's (see `prove`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy.typing as npt

from biozoo_runners.base import Availability

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

    from ..networks.network import ExportRequest

__all__ = ["GROUP", "Attempt", "Converter", "Job", "converters"]

GROUP = "biozoo.converters"


@dataclass(frozen=True)
class Attempt:
    """One way to make the weights.

    Attributes
    ----------
    strategy
        How, in a few words, for the certificate: ``"dynamo"``, ``"trace"``, ``"tf2onnx"``.
    make
        Writes the files into the folder it is given and returns the weights' entry of the
        description (``source``, ``sha256``, ...). May raise any `BiozooError`: the next attempt is
        tried then.
    optimised
        What worked over the weights afterwards, ``""`` for nothing.
    doubts
        Asked when the result is not proven: what the making may have lost, a sentence each.
    """

    strategy: str
    make: Callable[[Path], dict[str, Any]]
    optimised: str = ""
    doubts: Callable[[], Sequence[str]] = tuple


@dataclass(frozen=True)
class Job:
    """What a converter is asked for.

    Attributes
    ----------
    package
        Has the source weights; its description says what the weights take and give.
    source
        Weights format to convert from, one of the converter's `sources`.
    inputs
        Per input tensor id an array as the network takes it (preprocessed; axes as described): the
        test tensors, for what has to be traced or calibrated.
    """

    package: ModelPackage
    source: str
    inputs: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def request(self) -> ExportRequest:
        """What an ONNX graph of this model has to look like: variable is what is described so."""
        from biozoo_runners.sizes import geometry

        from .to_onnx import export_request

        batch = any(
            axis.type == "batch" and axis.size is None
            for tensor in self.package.descr.inputs
            for axis in tensor.axes
        )
        return export_request(geometry(self.package.descr), self.inputs, batch=batch)


class Converter(ABC):
    """Makes one weights format from others; registered in the entry-point group `GROUP`."""

    #: For messages and ``zoo convert --json``.
    name: ClassVar[str]
    #: Weights formats of bioimageio.spec that it reads, best first.
    sources: ClassVar[tuple[str, ...]]
    #: The one that it makes.
    target: ClassVar[str]
    #: What a user should know before it is used; "" for nothing.
    note: ClassVar[str] = ""

    @classmethod
    @abstractmethod
    def available(cls) -> Availability:
        """Whether what it needs is installed, and if not how to get it; imports no framework."""

    @classmethod
    @abstractmethod
    def attempts(cls, job: Job) -> Iterable[Attempt]:
        """Ways to convert, best first; made as they are asked for.

        Raises
        ------
        UntrustedCodeError
            The package's own code would have to run, and nobody has allowed it.
        BiozooError
            The source weights cannot be read at all.
        """


def converters() -> tuple[dict[str, type[Converter]], dict[str, str]]:
    """Every installed converter by name, and those that fail to load with why."""
    from biozoo.plugins import load_group

    group = load_group(GROUP)
    good: dict[str, type[Converter]] = {}
    failed = dict(group.failed)
    for name, found in group.loaded.items():
        if isinstance(found, type) and issubclass(found, Converter):
            good[name] = found
        else:
            failed[name] = f"{found!r} is no subclass of biozoo_converters.Converter"
    return good, failed
