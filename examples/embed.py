"""Embed the runner in another program: open a model, run it on an array, read the report.

    python examples/embed.py

Everything here works offline with the built-in model on a simulated image.
"""

from __future__ import annotations

import biozoo
import biozoo_runners
from biozoo.samples import simulate_nuclei


def main() -> int:
    """Find the nuclei of a simulated image; return how many there are."""
    package = biozoo.open("nuclei-fluo")  # or a folder, a .zip, an https URL, a bioimage.io id
    sample = simulate_nuclei((384, 512), seed=7)

    # Will it run here, and does it fit? Every "no" says why and what to do.
    fit = biozoo_runners.check(package, sample.image, axes="yx")
    print(fit)

    # A loaded model is a context manager and may be called many times.
    with biozoo_runners.load(package, device="auto") as model:
        print(model.plan(sample.image, axes="yx"))
        result = model(sample.image, axes="yx", on_progress=lambda p: print(p.done, "/", p.total))

    probability = result["probability"]  # xr.DataArray: channel y x
    labels = result["labels"]  # xr.DataArray int32: y x, one number per nucleus
    print(probability.dims, probability.shape, labels.dims, labels.dtype)
    print(result.report)

    found, true = int(labels.max()), int(sample.labels.max())
    print(f"{found} nuclei found, {true} simulated")
    return found


if __name__ == "__main__":
    main()
