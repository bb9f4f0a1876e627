"""Real architectures through `zoo pack`, each in a process of its own: `make coverage`.

    python benchmarks/coverage_table.py [--list] [--only NAME ...] [--again] [--table]

Results are kept in build/coverage/results, one file per architecture, and used again as long as the
architecture's line and the libraries' releases are the same, so an interrupted run goes on where it
was; --again measures anew. Ends with 1 if fewer than 95 % are certified.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.process import BaseProcess as Process
from pathlib import Path

from architectures import ARCHITECTURES, Architecture
from architectures.libraries import FOLDER, make_importable
from architectures.measured import Measured, measure
from architectures.table import markdown

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "coverage" / "results"
TABLE = ROOT / "docs" / "coverage.md"
GOAL = 0.95

#: How the fault of an architecture begins whose process ended, or was ended.
ENDED = "While "

#: Seconds of computing and bytes that one architecture may take; four and two times that where it
#: is heavy. A process that waits is stopped after `PATIENCE` times as long by the clock.
SECONDS, MEMORY, PATIENCE = 300, 8 * 2**30, 8

#: Children are copies of one process that has imported the frameworks and done nothing else.
CONTEXT = multiprocessing.get_context("forkserver")
PRELOADED = (
    "torch", "torch.onnx", "onnx", "onnxruntime", "onnxscript", "onnxslim", "scipy.ndimage",
    "monai.networks.nets", "segmentation_models_pytorch", "timm", "torchvision",
    "bioimageio.spec.model.v0_5", "bioimageio.core", "biozoo_converters.packing.build",
)  # fmt: skip

#: What a result depends on beside the architecture's own line.
LIBRARIES = ("torch", "onnx", "onnxruntime", "onnxscript", "onnxslim")
OF_LIBRARY = {
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "segment_anything": "segment-anything",
    "torch_em": "torch-em",
}


def main() -> int:
    """Measure what is not measured yet and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--list", action="store_true", help="name the architectures and end")
    parser.add_argument("--only", action="append", metavar="NAME", help="these (part of the name)")
    parser.add_argument("--again", action="store_true", help="measure also what is known")
    parser.add_argument("--table", action="store_true", help="measure nothing, write the table")
    parser.add_argument("--jobs", type=int, default=2, help="architectures at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each runtime")
    args = parser.parse_args()
    chosen = selected(args.only)
    if args.list:
        for a in chosen:
            print(f"{a.family:28} {a.name:36} {a.source}")
        return 0
    if not args.table:
        make_importable()
        os.environ.update(
            OMP_NUM_THREADS=str(args.threads), CUDA_VISIBLE_DEVICES="", TF_CPP_MIN_LOG_LEVEL="3"
        )
        CONTEXT.set_forkserver_preload(list(PRELOADED))
        todo = [a for a in chosen if args.again or unfinished(a)]
        print(f"{len(chosen)} architectures, {len(todo)} to measure", flush=True)
        with ThreadPoolExecutor(args.jobs) as pool:
            for done, result in enumerate(pool.map(lambda a: run(a, args.threads), todo), 1):
                print(f"[{done}/{len(todo)}] {line(result)}", flush=True)
    results = {a.name: r for a in ARCHITECTURES if (r := kept(a)) is not None}
    good = sum(r.certified for r in results.values())
    print(f"{good} of {len(results)} certified")
    if args.only:
        return 0 if all(results[a.name].certified for a in chosen if a.name in results) else 1
    TABLE.write_text(markdown(ARCHITECTURES, results, args.threads), encoding="utf-8")
    print(f"wrote {TABLE.relative_to(ROOT)}")
    return 0 if results and good / len(results) >= GOAL else 1


def selected(only: Sequence[str] | None) -> list[Architecture]:
    """Those whose name has one of the texts in it; all without."""
    if not only:
        return list(ARCHITECTURES)
    found = [a for a in ARCHITECTURES if a.name in only]
    found = found or [a for a in ARCHITECTURES if any(o.lower() in a.name.lower() for o in only)]
    if not found:
        raise SystemExit(f"No architecture is called {' or '.join(only)}; --list names them.")
    return found


def line(result: Measured) -> str:
    """One result for the terminal."""
    if not result.certified:
        return f"NOT  {result.name}: {result.fault[:200]} ({result.took:.0f} s)"
    speed = f", {result.ratio:.2f} x" if result.ratio else ""
    return f"ok   {result.name}: {result.strategy}, {result.sizes}{speed} ({result.took:.0f} s)"


# ------------------------------------------------------------------------------------ one process


def one(architecture: Architecture, folder: Path, threads: int) -> None:
    """Measure one architecture in this process; what the child does."""
    said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.environ["BIOZOO_HOME"] = str(folder / "home")
    tempfile.tempdir = str(folder)
    make_importable()

    def say(step: str) -> None:
        (folder / "step").write_text(step, encoding="utf-8")

    result = measure(architecture, folder, threads=threads, say=say)
    (folder / "result.json").write_text(result.to_json(), encoding="utf-8")


def run(architecture: Architecture, threads: int) -> Measured:
    """Measure in a process of its own, within bounds, and keep the result."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    heavy = architecture.heavy
    seconds, memory = SECONDS * (4 if heavy else 1), MEMORY * (2 if heavy else 1)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="biozoo-coverage-") as name:
        folder = Path(name)
        child = CONTEXT.Process(target=one, args=(architecture, folder, threads))
        child.start()
        with watched(child, seconds, memory) as stopped:
            child.join()
        if (folder / "result.json").exists():
            text = (folder / "result.json").read_text(encoding="utf-8")
            result = Measured.from_json(text)
        else:
            why = stopped[0] if stopped else f"the process ended with {child.exitcode}: "
            why += "" if stopped else _last_line(folder / "said")
            fault = f"{ENDED}{_text(folder / 'step') or 'starting'}: {why[:300]}"
            result = Measured(architecture.name, fault=fault)
    library = OF_LIBRARY.get(architecture.library, architecture.library)
    result = replace(
        result,
        took=round(time.monotonic() - begun, 1),
        releases={library: release(architecture.library)},
    )
    target = RESULTS / f"{key(architecture)}.json"
    target.write_text(result.to_json(), encoding="utf-8")
    return result


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _last_line(path: Path) -> str:
    return (_text(path).strip().splitlines() or ["it said nothing"])[-1]


@contextmanager
def watched(child: Process, seconds: float, memory: int) -> Iterator[list[str]]:
    """Kill the child when it takes too long or too much; the list then says which."""
    import psutil

    stopped: list[str] = []
    over = threading.Event()
    process = psutil.Process(child.pid)

    def watch() -> None:
        end = time.monotonic() + PATIENCE * seconds
        while not over.wait(0.5):
            try:
                used = process.memory_info().rss
                computed = sum(process.cpu_times()[:2])
            except psutil.Error:
                return
            if used > memory:
                stopped.append(f"it needs more than {memory / 2**30:.0f} GB of memory")
            elif computed > seconds:
                stopped.append(f"it computes for more than {seconds:.0f} s")
            elif time.monotonic() > end:
                stopped.append(f"it is not done after {PATIENCE * seconds:.0f} s")
            if stopped:
                child.kill()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield stopped
    finally:
        over.set()
        watcher.join()


# ------------------------------------------------------------------------------------------ cache


def kept(architecture: Architecture) -> Measured | None:
    """The result of an earlier run, where nothing it depends on is different now."""
    path = RESULTS / f"{key(architecture)}.json"
    if not path.exists():
        return None
    return Measured.from_json(path.read_text(encoding="utf-8"))


def unfinished(architecture: Architecture) -> bool:
    """Whether there is no result, or only that its process ended before there was one."""
    result = kept(architecture)
    return result is None or result.fault.startswith(ENDED)


def key(architecture: Architecture) -> str:
    """A file name: the architecture, its line, the releases."""
    text = repr((architecture, [release(n) for n in (*LIBRARIES, architecture.library)]))
    plain = "".join(c if c.isalnum() else "-" for c in architecture.name.lower())
    return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def release(library: str) -> str:
    """The installed release of a library, "" where it is not installed."""
    name = OF_LIBRARY.get(library, library)
    try:
        return version(name)
    except PackageNotFoundError:
        found = next(FOLDER.glob(f"{library}-*.dist-info"), None)
        return found.name.removesuffix(".dist-info").split("-")[1] if found else ""


if __name__ == "__main__":
    sys.exit(main())
