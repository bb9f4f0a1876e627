"""Twins of the 101 real descriptions: our run against bioimageio.core's, whole and tiled.

    python benchmarks/twins.py [NAME...] [--shared ../shared]

Prints a row per description, then the counts; exit code 1 where one is not as it
should be. `pytest -s tests/test_twins.py` prints the same. See docs/design/twins.md.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="beginnings of names; default all")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"BIOZOO_HOME": home, "TQDM_DISABLE": "1"}
        return _run(tuple(wanted.names), wanted.shared)


def _run(names: tuple[str, ...], shared: Path) -> int:
    import bioimageio.core  # noqa: F401
    import torch
    from loguru import logger

    from twins_compare import compare_description, descriptions, summary, table

    logger.disable("bioimageio")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # small networks: threads would only wait for each other
    gc.collect()
    gc.freeze()  # closing a model collects garbage, and the libraries are none
    paths = [p for p in descriptions(shared) if not names or p.stem.startswith(names)]
    if not paths:
        print(f"No description in {shared / 'corpus' / 'rdfs'} is called so.")
        return 2
    start, rows = time.perf_counter(), []
    for k, path in enumerate(paths, start=1):
        rows.append(compare_description(path))
        print(f"\r{k} of {len(paths)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(table(rows))
    print(summary(rows))
    print(f"{time.perf_counter() - start:.0f} s")
    for row in rows:
        for fault in row.faults:
            print(f"{row.id}: {fault}")
    return 1 if any(row.faults or not row.runs for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
