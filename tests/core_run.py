"""What bioimageio.core computes with Keras and TensorFlow weights, in one process of its own.

    core_run().output("keras_v3")      # of core_run().raw, by the blur of `weights_keras`

Started once per session, beside the tests. Of a SavedModel it runs one whose only signature is
`serving_default`; of what Keras 3 exports it takes another endpoint and then expects a mapping.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

SCRIPT = """
import sys
import numpy as np
from bioimageio.core import create_prediction_pipeline
from bioimageio.core.digest_spec import create_sample_for_model
from bioimageio.spec import load_description
folder = sys.argv[1]
descr = load_description(f"{folder}/tiny/rdf.yaml", perform_io_checks=False)
for weights in ("tensorflow_saved_model_bundle", "keras_v3", "keras_hdf5"):
    sample = create_sample_for_model(descr, inputs={"raw": np.load(f"{folder}/raw.npy")})
    with create_prediction_pipeline(descr, weights_format=weights) as pipeline:
        found = pipeline.predict_sample_without_blocking(sample)
    np.save(f"{folder}/{weights}.npy", found.members["prediction"].data.values)
"""


class CoreRun:
    """The process, and what it is given."""

    def __init__(self) -> None:
        from packages import make_package
        from weights_keras import add_keras, material, quiet_environment, set_weights

        self.folder = Path(tempfile.mkdtemp(prefix="biozoo-tests-core-"))
        atexit.register(self.end)
        made = make_package(self.folder / "tiny", axes="byxc")
        add_keras(made, "keras_v3", "keras_hdf5")
        set_weights(made, "tensorflow_saved_model_bundle", material("plain.zip"))
        self.raw = np.random.default_rng(0).random((1, 24, 20, 1), np.float32)
        np.save(self.folder / "raw.npy", self.raw)
        environment = quiet_environment(
            HOME=str(self.folder),
            BIOIMAGEIO_CACHE_PATH=str(self.folder / "spec"),
            KERAS_BACKEND="tensorflow",
        )
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(self.folder)],
                env=environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def output(self, weights_format: str) -> np.ndarray:
        """Waits for it."""
        if self._process.wait(250):
            raise AssertionError((self.folder / "log").read_text()[-3000:])
        made: np.ndarray = np.load(self.folder / f"{weights_format}.npy")
        return made

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def core_run() -> CoreRun:
    return CoreRun()
