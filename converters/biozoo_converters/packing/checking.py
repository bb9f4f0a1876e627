"""The finished package through the eyes of others: bioimageio.spec, and its own test."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from biozoo.errors import (
    ConversionError,
    InvalidPackageError,
    NoBackendError,
    UntrustedCodeError,
)

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = ["check_finished", "spec_warnings"]


def check_finished(package: ModelPackage, *, strict: bool = True) -> list[str]:
    """What bioimageio.spec advises to add; everything else must be right.

    Parameters
    ----------
    strict
        Whether a package that does not reproduce its test outputs is refused.

    Raises
    ------
    InvalidPackageError
        The description, or a test tensor, is not what the specification wants.
    ConversionError
        The package does not reproduce its own test outputs.
    """
    from biozoo.package import check_files
    from biozoo.validation import validate
    from biozoo_runners.testing import test_package

    check_files(package)
    validate(package)
    _check_instances(package)
    failed: dict[str, str] = {}
    for weights_format in package.summary.weights:
        try:
            report = test_package(package, weights=weights_format)
        except (UntrustedCodeError, NoBackendError):  # what is not allowed to run here is not run
            continue
        failed |= {f.weights_format: str(f) for f in report.formats if not f.ok}
    if failed and strict:
        raise ConversionError(
            what=f"Model '{package.id}'",
            target="a package",
            tried=failed,
            hint="It does not reproduce its own test outputs within its tolerance. If that is as "
            "good as it gets, allow more in pack.yaml: tolerance: {relative: 0.01}.",
        )
    return spec_warnings(package)


def _check_instances(package: ModelPackage) -> None:
    """The author's `config.biozoo.instances` must name outputs and channels that there are."""
    if "instances" in (package.raw.get("config") or {}).get("biozoo", {}):
        from biozoo_runners.program import program_of

        program_of(package)


def spec_warnings(package: ModelPackage) -> list[str]:
    """bioimageio.spec's advice on a description, "field: sentence" each; nothing is fetched."""
    from bioimageio.spec import ValidationContext
    from bioimageio.spec.model.v0_5 import ModelDescr

    context = ValidationContext(root=package.root, perform_io_checks=False, log_warnings=False)
    with _quiet():
        descr = ModelDescr.load(_copy(package.raw), context=context)
    if not isinstance(descr, ModelDescr):
        fields = {
            ".".join(map(str, e.loc)): e.msg
            for d in descr.validation_summary.details
            for e in d.errors
        }
        raise InvalidPackageError(source=package.rdf, fields=fields)
    made: dict[str, None] = {}
    for detail in descr.validation_summary.details:
        for warning in detail.warnings:
            place = ".".join(str(p) for p in warning.loc if not set(str(p)) & set("[("))
            made[f"{place}: {' '.join(warning.msg.split())}"] = None
    return list(made)


def _copy(value: Any) -> Any:
    import copy

    return copy.deepcopy(dict(value))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    from loguru import logger

    logger.disable("bioimageio.spec")
    logger.disable("pydantic")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.enable("bioimageio.spec")
        logger.enable("pydantic")
