"""Executors of confined processes, constructed and called in one plain process, case after case.

A process that imports TensorFlow takes seconds to start, so cases that are about one executor and
not about its process share one::

    cases = Cases(folder)
    cases.add("lambda", "biozoo_runners.executors.keras:Keras", path, [array], engine="torch", ...)
    cases.start()                      # in the background
    cases.told("lambda")               # waits; what describe() said, the outputs, or the error
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Told:
    """What one case gave: an error as "Kind: text", or a description and outputs."""

    error: str = ""
    described: dict[str, Any] = field(default_factory=dict)
    outputs: list[np.ndarray] = field(default_factory=list)


class Cases:
    """Cases that run in one process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._cases: dict[str, dict[str, Any]] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def add(
        self,
        name: str,
        executor: str,
        weights: Path,
        arrays: list[np.ndarray],
        *,
        inputs: tuple[str, ...] = ("raw",),
        outputs: tuple[str, ...] = ("prediction",),
        **facts: Any,
    ) -> None:
        for n, array in enumerate(arrays):
            np.save(self._folder / f"{name}-given-{n}.npy", array)
        facts = {
            "weights": str(weights),
            "device": "cpu",
            "threads": 1,
            "input_ids": inputs,
            "output_ids": outputs,
            **facts,
        }
        self._cases[name] = {"executor": executor, "facts": facts, "arrays": len(arrays)}

    def start(self) -> None:
        from weights_keras import quiet_environment

        (self._folder / "cases.json").write_text(json.dumps(self._cases))
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(self._folder)],
                stdout=log,
                stderr=log,
                env=quiet_environment(HOME=str(self._folder)),
            )

    def told(self, name: str) -> Told:
        assert self._process is not None
        if self._process.wait(250):
            raise AssertionError((self._folder / "log").read_text()[-3000:])
        value = json.loads((self._folder / "told.json").read_text())[name]
        count = value.pop("outputs", 0)
        outputs = [np.load(self._folder / f"{name}-made-{n}.npy") for n in range(count)]
        return Told(**value, outputs=outputs)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def run_case(folder: Path, name: str, case: dict[str, Any]) -> dict[str, Any]:
    from importlib import import_module

    module, _, cls = case["executor"].partition(":")
    scratch = folder / f"{name}-scratch"
    scratch.mkdir()
    try:
        executor = getattr(import_module(module), cls)(case["facts"], scratch)
        described = executor.describe()
        arrays = [np.load(folder / f"{name}-given-{n}.npy") for n in range(case["arrays"])]
        made = executor.run(arrays)
    except Exception as exc:
        return {"error": f"{type(exc).__name__}: {exc}"}
    for n, array in enumerate(made):
        np.save(folder / f"{name}-made-{n}.npy", array)
    return {"described": described, "outputs": len(made)}


def main(folder: Path) -> None:
    cases = json.loads((folder / "cases.json").read_text())
    told = {name: run_case(folder, name, case) for name, case in cases.items()}
    (folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
