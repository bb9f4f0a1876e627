"""bioimageio.spec's word on a package: its description object, and its checks on test tensors.

The only module of this layer that imports bioimageio.spec, and only when called. It never lets
spec reach the network or its own cache: io checks are off (biozoo has hashed the files itself), and
what spec would fetch even so (the model named by `output_of`) is left out.
"""

from __future__ import annotations

import contextlib
import copy
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InvalidPackageError
from .mending import mend, without_weights

if TYPE_CHECKING:
    import numpy as np
    from bioimageio.spec.model.v0_5 import InputTensorDescr, ModelDescr, OutputTensorDescr

    from .package import ModelPackage

__all__ = ["build_descr", "build_mended", "validate"]


def build_descr(
    raw: Mapping[str, Any], root: Path, *, links: Mapping[str, str] | None = None, source: str
) -> ModelDescr:
    """The description as bioimageio.spec's latest `ModelDescr`, its files relative to `root`.

    Raises
    ------
    InvalidPackageError
        Naming each field that fails, or the format version that cannot be converted.
    """
    return build_mended(raw, root, links=links, source=source)[0]


def build_mended(
    raw: Mapping[str, Any], root: Path, *, links: Mapping[str, str] | None = None, source: str
) -> tuple[ModelDescr, tuple[str, ...]]:
    """The same, and what had to be repaired (see `mending`) for spec to take it.

    Raises
    ------
    InvalidPackageError
        Of the description as written, where no repair helps.
    """
    try:
        return _build(raw, root, links, source), ()
    except InvalidPackageError as exc:
        refused = exc
    mended, notes = mend(raw)
    last = refused
    if notes:
        try:
            return _build(mended, root, links, source), notes
        except InvalidPackageError as exc:
            last = exc
    fewer, dropped = without_weights(mended, last.fields)
    if dropped:
        with contextlib.suppress(InvalidPackageError):
            return _build(fewer, root, links, source), (*notes, *dropped)
    raise refused


def _build(
    raw: Mapping[str, Any], root: Path, links: Mapping[str, str] | None, source: str
) -> ModelDescr:
    """What spec makes of a description."""
    _keep_cache_at_home()
    from bioimageio.spec import ValidationContext
    from bioimageio.spec.model.v0_5 import ModelDescr

    content = _prepared(raw, links or {})
    context = ValidationContext(root=root, perform_io_checks=False, log_warnings=False)
    declared = raw.get("format_version", "?")
    try:
        with _quiet():
            descr = ModelDescr.load(content, context=context)
    except Exception as exc:  # its converters fail in many ways on old descriptions
        why = f"converting it from format {declared} fails: {type(exc).__name__}: {exc}"
        raise InvalidPackageError(source=source, why=why) from exc
    if isinstance(descr, ModelDescr):
        return descr
    faults: dict[str, dict[str, None]] = {}  # by field, each fault once
    for detail in descr.validation_summary.details:
        for error in detail.errors:
            # a part like "function-after[LicenseId(), str]" is one of pydantic's tries, no field
            parts = [str(part) for part in error.loc if not set(str(part)) & set("[(")]
            faults.setdefault(".".join(parts) or "(the whole)", {})[error.msg] = None
    fields = {name: "; or: ".join(messages) for name, messages in faults.items()}
    raise InvalidPackageError(
        source=source,
        fields=fields,
        why=f"{len(fields)} field(s) fail the bioimage.io specification (format {declared}):",
    )


def validate(package: ModelPackage) -> ModelDescr:
    """Everything spec checks without a network: the description, and the test tensors' shapes and
    data types against it.

    Raises
    ------
    InvalidPackageError
    """
    descr = package.descr
    from bioimageio.spec.model.v0_5 import validate_tensors

    tensors: dict[Any, tuple[Any, np.ndarray | None]] = {}
    described: list[InputTensorDescr | OutputTensorDescr] = [*descr.inputs, *descr.outputs]
    for tensor in described:
        test = tensor.test_tensor
        array = None
        if test is not None and str(test.source).endswith(".npy"):
            array = _load(package.path(test), f"test_tensor of {tensor.id}", package)
        tensors[tensor.id] = (tensor, array)
    try:
        validate_tensors(
            tensors, tensor_origin="test_tensor", pad_inputs="allow", crop_outputs="allow"
        )
    except ValueError as exc:
        raise InvalidPackageError(source=package.rdf, fields={"test_tensor": str(exc)}) from exc
    return descr


def _load(path: Path, what: str, package: ModelPackage) -> np.ndarray:
    import numpy as np

    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as exc:
        raise InvalidPackageError(
            source=package.rdf, fields={what: f"file '{path.name}' is no readable array ({exc})"}
        ) from exc
    return array


def _prepared(raw: Mapping[str, Any], links: Mapping[str, str]) -> dict[str, Any]:
    """A copy with URLs replaced by local files and without what spec would fetch."""
    content: dict[str, Any] = copy.deepcopy(dict(raw))
    for tensor in content.get("inputs") or ():
        if isinstance(tensor, dict):
            tensor.pop("output_of", None)
    if links:
        for key in content:
            content[key] = _linked(content[key], links)
    return content


def _linked(value: Any, links: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return links.get(value, value)
    if isinstance(value, dict):
        return {k: _linked(v, links) for k, v in value.items()}
    if isinstance(value, list):
        return [_linked(v, links) for v in value]
    return value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Spec tells on stderr what it normalizes; that is no news to who runs a model."""
    from loguru import logger

    logger.disable("pydantic")
    logger.disable("bioimageio.spec")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.enable("pydantic")
        logger.enable("bioimageio.spec")


def _keep_cache_at_home() -> None:
    """Point spec's cache below BIOZOO_HOME; it reads the variable once, when it is imported."""
    if "BIOIMAGEIO_CACHE_PATH" not in os.environ:
        from .settings import Settings

        with contextlib.suppress(OSError):
            os.environ["BIOIMAGEIO_CACHE_PATH"] = str(Settings.from_env().cache / "spec")
