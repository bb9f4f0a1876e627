"""A biozoo backend inside bioimageio.core's own pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bioimageio.core import create_prediction_pipeline
from bioimageio.core.digest_spec import create_sample_for_model

import biozoo
from biozoo.errors import BackendError
from biozoo_runners.core_adapter import BackendAdapter
from biozoo_runners.onnx import OnnxBackend
from packages import ZERO_MEAN, make_package


def test_core_runs_on_our_backend(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", axes="byxc", halo=2, preprocessing=[ZERO_MEAN], inputs=1)
    package = biozoo.open(folder)
    backend = OnnxBackend.open(package, "onnx", device="cpu")
    image = np.random.default_rng(0).random((1, 40, 48, 1), dtype=np.float32)
    sample = create_sample_for_model(package.descr, inputs=image)
    adapter = BackendAdapter(package.descr, backend)
    with create_prediction_pipeline(package.descr, model_adapter=adapter) as ours:
        got = ours.predict_sample_with_blocking(sample, ns=2)
    with create_prediction_pipeline(package.descr, weight_format="onnx") as own:
        expected = own.predict_sample_with_blocking(sample, ns=2)
    for tensor, values in expected.members.items():
        np.testing.assert_allclose(got.members[tensor].to_numpy(), values.to_numpy(), atol=1e-6)
    with pytest.raises(BackendError, match="closed"):  # leaving the pipeline closed it
        backend.run({"raw": image})
