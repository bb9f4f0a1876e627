"""A process that trains nothing but tells all that a real one does, at the pace of a test.

`begin_fake(child)` starts one for `Trainings(begin=...)`. What it does is chosen by the seed: 0 two
epochs of three steps, then a verdict and a child; 1 fails in words; 2 fails in a way nobody
foresaw; 3 takes a step each time that the file `step` in its folder counts one more, for ever; 4
refuses the child. A step is kept in `work/step`, as a checkpoint is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["begin_fake", "faked", "let"]

# A server's own processes become these, while a file is there.
FAKED = """
import os, subprocess, sys
begin = subprocess.Popen.__init__
def faked(self, command, *arguments, **more):
    if "biozoo_ui.trainings.process" in command and os.path.exists({on!r}):
        command = [sys.executable, {path!r}, command[-1]]
    begin(self, command, *arguments, **more)
subprocess.Popen.__init__ = faked
"""


def begin_fake(child: Path | None = None) -> Callable[[Any], Any]:
    """Starts processes that pack a copy of `child`."""
    from biozoo_ui.trainings.running import Running

    def begin(place: Any) -> Any:
        with place.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, __file__, str(place.path)],
                stdin=subprocess.PIPE, stdout=log, stderr=log, text=True,
                env={**os.environ, "FAKE_CHILD": str(child or "")},
            )  # fmt: skip
        running = Running(process)
        running.pid = process.pid  # type: ignore[attr-defined]
        return running

    return begin


def faked(folder: Path, child: Path) -> dict[str, str]:
    """Variables for a server in a process of its own that starts these, which pack `child`, while
    `folder / "on"` exists.
    """
    folder.mkdir()
    (folder / "on").touch()
    code = FAKED.format(path=str(Path(__file__).resolve()), on=str(folder / "on"))
    (folder / "sitecustomize.py").write_text(code)
    paths = (str(folder), os.environ.get("PYTHONPATH", ""))
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "FAKE_CHILD": str(child),
    }


def let(folder: Path, steps: int) -> None:
    """Let a process of the seed 3 do so many steps in all."""
    _write(folder / "step", steps)


def held_at(folder: Path) -> int | None:
    """How many steps a paused process of the seed 3 last saw that it may do; None: none waits."""
    try:
        return int((folder / "held").read_text())
    except FileNotFoundError:
        return None


def _write(path: Path, number: int) -> None:
    """All of a number at once: another process reads it."""
    part = path.with_suffix(".part")
    part.write_text(str(number))
    part.replace(path)


def work(training: Any, place: Any, events: Any, control: Any) -> None:
    from biozoo.errors import Cancelled, UsageError

    def layer(stem: str, row: int) -> Any:
        return _band(place.files, f"{stem}.labels.ome.tif", row, training.seen.region)

    events.tell("facts", recipe={"version": 1}, reasons=["One channel."])
    seed = training.choices.seed
    if seed == 1:
        raise UsageError("All labels are empty. Paint something, or use --labels.")
    if seed == 2:
        raise ZeroDivisionError("oh")
    place.work.mkdir(exist_ok=True)
    kept = place.work / "step"
    done = int(kept.read_text()) if kept.exists() else 0
    total = 1000 if seed == 3 else 6
    events.tell("facts", step=done, steps=total, metric="AP50", device="cpu")
    events.tell("stage", words="Trains")
    while done < total:
        step = place.path / "step"
        allowed = int(step.read_text()) if step.exists() else 0
        if seed == 3 and control.paused and not control.cancelled:
            _write(place.path / "held", allowed)
            time.sleep(0.01)
            continue
        (place.path / "held").unlink(missing_ok=True)
        if not control.wait():
            raise Cancelled("The training")
        if seed == 3 and done >= allowed:
            time.sleep(0.01)
            continue
        done += 1
        kept.write_text(str(done))
        events.tell("facts", step=done, steps=total, loss=1 / done, seconds_left=total - done)
        if done % 3 == 0:
            events.tell("epoch", number=done // 3, step=done, loss=1 / done, score=0.1 * done)
            layers = layer(f"preview-{done // 3}", 40) if training.seen is not None else ()
            events.layers("preview", layers, epoch=done // 3)
    passed = seed != 4
    why = "It is better than its parent." if passed else "It is worse than its parent."
    means = (0.2, 0.7) if passed else (0.2, 0.1)
    scores = [{"metric": "AP50", "mean": mean, "values": [mean, mean]} for mean in means]
    told = {"passed": passed, "why": why, "gain": float("nan"), "rule": {"metric": "AP50"}}
    events.tell("gate", report=told | dict(zip(("parent", "child"), scores, strict=True)))
    if training.seen is not None:
        events.layers("before", layer("before", 20))
        events.layers("after", layer("after", 60))
    child = os.environ["FAKE_CHILD"]
    if child and passed:
        shutil.copy(child, place.path / "child.zip")
        events.tell("facts", child="child.zip")


def _band(folder: Path, name: str, row: int, region: Any) -> Any:
    """One object from side to side, 20 pixels high, as a layer over the region."""
    import numpy as np
    import tifffile

    from biozoo_ui.trainings.model import Layer

    (top, low), (left, right) = region["y"], region["x"]
    labels = np.zeros((low - top, right - left), np.int32)
    labels[row : row + 20] = 1
    tifffile.imwrite(folder / name, labels, metadata={"axes": "YX"})
    return (Layer(name, "Labels", "labels", {"y": top, "x": left}),)


if __name__ == "__main__":
    module = ModuleType("biozoo_ui.trainings.work")
    module.work = work  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    from biozoo_ui.trainings.process import main

    sys.exit(main(Path(sys.argv[1])))
