"""Which images train, choose or test: decided by the bytes of each image file, by nothing else.

The rule needs no list and no seed, gives the same answer on every machine, and a renamed copy of a
test image is still a test image. Only the standard library is imported, so that benchmarks can load
this file by itself.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

TEST_FRACTION = 0.2  # never trained on, and no choice is made on it
VALIDATION_FRACTION = 0.1  # not trained on; thresholds and the checkpoint are chosen on it


def split_of(image_file: Path | str) -> str:
    """Return ``"test"``, ``"validation"`` or ``"train"`` for one image file.

    The first 32 bits of the SHA-256 of the file's bytes, read as a fraction of 2**32, fall into
    [0, 0.2) for the test part, [0.2, 0.3) for validation, and above for training.
    """
    digest = hashlib.sha256(Path(image_file).read_bytes()).hexdigest()
    position = int(digest[:8], 16) / 2**32
    if position < TEST_FRACTION:
        return "test"
    return "validation" if position < TEST_FRACTION + VALIDATION_FRACTION else "train"


def image_files(folder: Path | str, split: str) -> list[Path]:
    """Return the image files of `split` (or of ``"all"``) in `folder`, sorted by name."""
    files = sorted(p for p in Path(folder).iterdir() if p.suffix in {".png", ".tif", ".tiff"})
    return [p for p in files if split in ("all", split_of(p))]
