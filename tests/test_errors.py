"""Every error: its builtin, exit code, HTTP status, and a sentence that ends in an action."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from biozoo import errors
from biozoo.errors import BiozooError, closest

# class -> an example, the builtin callers catch, exit code, HTTP status,
#          what happened, what was expected or why, what to do
LEAVES: dict[type[BiozooError], tuple[BiozooError, type[Exception], int, int, tuple[str, ...]]] = {
    errors.AxesError: (
        errors.AxesError("Axes 'q': unknown 'q'. Known are y, x. Use --axes yx."),
        ValueError,
        2,
        422,
        ("unknown 'q'", "Known are", "--axes yx"),
    ),
    errors.ChannelChoiceError: (
        errors.ChannelChoiceError(tensor="raw", wanted=1, channels=["DAPI", "GFP"]),
        ValueError,
        2,
        422,
        (
            "has 2: 0 (DAPI), 1 (GFP)",
            "'raw' takes one channel",
            "--channel NUMBER or NAME, for example --channel 0",
        ),
    ),
    errors.ImageMismatchError: (
        errors.ImageMismatchError("The image has no z. Input 'raw' takes zyx. Choose a 2D model."),
        ValueError,
        2,
        422,
        ("has no z", "takes zyx", "Choose"),
    ),
    errors.IncompleteError: (
        errors.IncompleteError(
            what="The package is not complete:",
            faults={"license": "'MIT Licence' is no SPDX id; closest: MIT"},
            hint="Give them as options, or in pack.yaml.",
        ),
        ValueError,
        2,
        422,
        ("not complete", "license: 'MIT Licence' is no SPDX id", "Give them"),
    ),
    errors.NetworkError: (
        errors.NetworkError("'net.py:Net' needs the argument 'width'. Add --kwargs width=..."),
        ValueError,
        2,
        422,
        ("needs the argument", "'width'", "--kwargs"),
    ),
    errors.ConversionError: (
        errors.ConversionError(
            what="'net.py:Net'",
            target="onnx",
            tried={"dynamo": "differs at 1 1 96 64"},
            hint="Replace the operator.",
        ),
        RuntimeError,
        1,
        422,
        ("cannot be converted to onnx", "dynamo: differs", "Replace"),
    ),
    errors.PrecisionError: (
        errors.PrecisionError(
            model="cells", precision="bfloat16", measured=["changes values by 0.0051"], error=0.0051
        ),
        RuntimeError,
        1,
        422,
        ("does not agree with float32 in bfloat16", "by 0.0051", "--tolerance 0.01"),
    ),
    errors.NotTrainableError: (
        errors.NotTrainableError(model="cells", why="its weights are keras_hdf5."),
        RuntimeError,
        1,
        422,
        ("'cells' cannot be retrained", "keras_hdf5. Live mode", "zoo search"),
    ),
    errors.NotFoundError: (
        errors.NotFoundError(
            kind="model", got="nuclei-flu", known=["nuclei-fluo", "cells"], hint="zoo list."
        ),
        LookupError,
        2,
        404,
        ("No model is called 'nuclei-flu'", "Did you mean nuclei-fluo?", "zoo list"),
    ),
    errors.MissingFileError: (
        errors.MissingFileError(what="The package", path="a.zip", hint="Give a folder."),
        FileNotFoundError,
        2,
        404,
        ("The package a.zip does not exist", "Give a folder"),
    ),
    errors.ImageReadError: (
        errors.ImageReadError(path="a.tif", why="it is truncated.", hint="Save it again."),
        OSError,
        2,
        422,
        ("Cannot read the image a.tif", "truncated", "Save it again"),
    ),
    errors.InvalidPackageError: (
        errors.InvalidPackageError(source="a.zip", fields={"inputs.0.axes": "is missing"}),
        ValueError,
        1,
        422,
        ("a.zip is not a valid model package", "inputs.0.axes: is missing", "Correct the"),
    ),
    errors.HashMismatchError: (
        errors.HashMismatchError(file="w.onnx", expected="ab" * 32, got="cd" * 32),
        ValueError,
        1,
        422,
        ("w.onnx is not the one described", "expected abab", "fetch the package again"),
    ),
    errors.UnsafeArchiveError: (
        errors.UnsafeArchiveError(archive="a.zip", member="../x", why="would leave the folder"),
        ValueError,
        1,
        422,
        ("a.zip was not unpacked", "'../x' would leave the folder", "do not use this one"),
    ),
    errors.CollectionError: (
        errors.CollectionError(url="https://a.b/c", why="no answer within 5 seconds"),
        ConnectionError,
        3,
        503,
        ("Cannot get https://a.b/c", "no answer within 5 seconds", "try again"),
    ),
    errors.StorageError: (
        errors.StorageError(path="/full", why="no space is left on the disk"),
        OSError,
        3,
        507,
        ("Cannot write /full", "no space is left", "Choose another folder"),
    ),
    errors.MissingDependencyError: (
        errors.MissingDependencyError(
            what="A torch model", library="torch", install="pip install 'biozoo[torch]'"
        ),
        ImportError,
        3,
        501,
        ("A torch model needs torch", "not installed", "Install it: pip install"),
    ),
    errors.NoBackendError: (
        errors.NoBackendError(package="m", reasons={"onnx": "install onnxruntime"}),
        RuntimeError,
        3,
        501,
        ("Model 'm' cannot run here", "onnx: install onnxruntime"),
    ),
    errors.DeviceError: (
        errors.DeviceError(device="cuda", why="there is no NVIDIA driver"),
        RuntimeError,
        3,
        503,
        ("Device 'cuda' cannot be used", "no NVIDIA driver", "--device cpu"),
    ),
    errors.BackendError: (
        errors.BackendError("The graph failed: bad shape. Expected 4 axes. Check the model."),
        RuntimeError,
        3,
        500,
        ("failed", "Expected", "Check"),
    ),
    errors.OutOfMemoryError: (
        errors.OutOfMemoryError("The tile needs 9 GB, 4 GB are free. Use --tile y=512,x=512."),
        MemoryError,
        3,
        507,
        ("9 GB", "4 GB are free", "--tile"),
    ),
    errors.UntrustedCodeError: (
        errors.UntrustedCodeError("Model 'm' runs unet.py. Only trusted code runs. Take another."),
        PermissionError,
        3,
        403,
        ("unet.py", "trusted", "Take another"),
    ),
    errors.Cancelled: (
        errors.Cancelled(),
        BiozooError,
        130,
        409,
        ("was stopped", "nothing half-written"),
    ),
}


def _classes(root: type[BiozooError] = BiozooError) -> Iterator[type[BiozooError]]:
    for below in root.__subclasses__():
        if below.__module__ == errors.__name__:
            yield below
            yield from _classes(below)


def test_every_error_has_its_row_here() -> None:
    # Other modules may refine a leaf for their own use (isolated.client.ForeignError): of this
    # module's classes, a leaf is one that none of them refines.
    own = {c for c in _classes() if c.__module__ == errors.__name__}
    assert {c for c in own if not own & set(c.__subclasses__())} == set(LEAVES)


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda c: c.__name__)
def test_a_leaf_has_its_builtin_exit_code_status_and_a_whole_sentence(
    leaf: type[BiozooError],
) -> None:
    error, builtin, exit_code, status, told = LEAVES[leaf]
    assert isinstance(error, leaf)
    assert isinstance(error, (builtin, BiozooError))
    assert issubclass(leaf, builtin)
    assert (leaf.exit_code, leaf.http_status) == (exit_code, status)
    assert str(error) == error.message
    assert [part for part in told if part not in error.message] == []


def test_the_docstring_draws_every_class_with_its_builtin() -> None:
    lines = (errors.__doc__ or "").splitlines()
    for leaf, (_, builtin, *_rest) in LEAVES.items():
        (drawn,) = [line for line in lines if f"- {leaf.__name__} " in f"{line} "]
        if builtin not in (BiozooError, ValueError) or not issubclass(leaf, errors.UsageError):
            assert builtin is BiozooError or f"({builtin.__name__})" in drawn


def test_closest_puts_the_best_first_and_offers_nothing_far() -> None:
    assert closest("afable-shark", ["wild-pig", "affable-shark", "romantic-shark"])[0] == (
        "affable-shark"
    )
    assert closest("xyz", ["wild-pig"]) == []


def test_an_invalid_package_can_be_told_of_another_place() -> None:
    error = errors.InvalidPackageError(source="/far/.staging-1", fields={"name": "is missing"})
    assert "/far/.staging-1" not in error.renamed("model.zip").message
    assert error.renamed("model.zip").fields == {"name": "is missing"}
