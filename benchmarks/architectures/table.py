"""docs/coverage.md, from the results of a run: no number in it comes from anywhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from .entry import Architecture
from .measured import Measured

__all__ = ["markdown"]

HEAD = """\
# Which architectures are covered

Real architectures, taken from their libraries as they are, with random weights: each was packed by
`zoo pack`, that is probed, exported to ONNX, and the graph compared with the network at the sizes
that the description allows. This file is written by `make coverage`; every number is from its run.
"""

COLUMNS = """\
## What the columns say

- **architecture**: the library's class with narrow settings. What was called with which arguments
  stands in `benchmarks/architectures/`, as one would write it in a `pack.yaml`.
- **input**: 2D or 3D, and the sizes found by running it, per axis: `32 + n*16` is variable, a
  number alone is the only size that it takes. "b" in front: batches of any size too.
- **way**: how it was exported. dynamo: torch.export; torchscript and trace: the older exporter. A
  later way is used where the comparison refused the earlier one. "+ onnxslim" and the like: the
  graph was optimised and compared again.
- **cases**: comparisons with the original network (in brackets: at how many different shapes).
- **error**: the largest of all cases, relative to the value or to the output's root mean square,
  whichever is larger.
- **off**: elements per million that differ by more than the tolerance (100 are allowed).
- **speed**: time of torch / time of ONNX Runtime on one input: 2.0 is twice as fast. Medians of
  pairs, taken in turn in one process, {threads}. Below 1 the graph is slower than torch.
- **s/MP**: seconds per million pixels or voxels of input in torch and in ONNX Runtime.
- **MB**: size of the graph with its weights.

A footnote says what is special about a line.
"""

LIMITS = """\
## What it does not say

Weights are random, so nothing is said about images. Batch norms have seen two batches of noise and
constant parameters were drawn anew, so that outputs vary: a comparison of constants would prove
nothing. Networks are narrower than their authors use them; the operators are the same, the speeds
are those of narrow networks on small images. One library may stand for many networks of a family.
"""


def markdown(
    architectures: Sequence[Architecture], results: Mapping[str, Measured], threads: int
) -> str:
    """The whole file.

    Parameters
    ----------
    architectures
        In any order; those without a result are left out.
    results
        By name.
    threads
        That both runtimes had.
    """
    lines = sorted(
        ((a, results[a.name]) for a in architectures if a.name in results),
        key=lambda pair: (pair[0].family, pair[0].name.lower()),
    )
    with_threads = "one thread each" if threads == 1 else f"{threads} threads each"
    parts = [
        HEAD,
        _summary(lines),
        COLUMNS.format(threads=with_threads),
        _table(lines),
        _failures(lines),
        LIMITS,
        _repeat(lines),
    ]
    return "\n".join(part for part in parts if part)


def _summary(lines: Sequence[tuple[Architecture, Measured]]) -> str:
    good = [(a, r) for a, r in lines if r.certified]
    ratios = [r.ratio for _, r in good if r.ratio]
    flat = sum(len(a.axes) == 4 for a, _ in lines)
    free = sum("n*" in r.sizes for _, r in good)
    ways = {w: sum(r.strategy == w for _, r in good) for w in ("dynamo", "torchscript", "trace")}
    told = ", ".join(f"{n} by {w}" for w, n in ways.items() if n)
    share = 100 * len(good) / max(1, len(lines))
    text = (
        f"**{len(lines)} architectures ({flat} in 2D, {len(lines) - flat} in 3D) of "
        f"{len({a.library for a, _ in lines})} libraries, {len(good)} certified: {share:.1f} %.** "
        f"Exported {told}. {free} take variable sizes."
    )
    if ratios:
        faster = sum(r > 1 for r in ratios)
        text += (
            f" ONNX Runtime is faster than torch for {faster} of {len(ratios)}, "
            f"{median(ratios):.2f} times in the middle ({min(ratios):.2f} to {max(ratios):.2f})."
        )
    return text + "\n"


def _table(lines: Sequence[tuple[Architecture, Measured]]) -> str:
    notes = list(dict.fromkeys(a.note for a, _ in lines if a.note))
    rows = [
        "| architecture | library | input | way | cases | error | off | speed | s/MP | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    family = ""
    for a, r in lines:
        if a.family != family:
            family = a.family
            rows.append(f"| **{family}** | | | | | | | | | |")
        mark = f" [{notes.index(a.note) + 1}]" if a.note else ""
        rows.append(f"| {a.name}{mark} | {a.library} | " + " | ".join(_cells(a, r)) + " |")
    rows += ["", *(f"[{i}] {note}  " for i, note in enumerate(notes, 1))]
    return "## The table\n\n" + "\n".join(rows) + "\n"


def _cells(architecture: Architecture, r: Measured) -> Iterable[str]:
    nd = f"{len(architecture.axes) - 2}D"
    if not r.certified:
        return (nd, "not certified", "", "", "", "", "", "")
    way = " + ".join(filter(None, (r.strategy, r.optimised)))
    speed = "" if r.ratio is None else f"{r.ratio:.2f}"
    pace = ""
    if r.seconds is not None and r.original_seconds is not None:
        pace = f"{r.original_seconds:.3g} / {r.seconds:.3g}"
    return (
        f"{nd} {'b, ' if r.batch else ''}{r.sizes}",
        way,
        f"{r.cases} ({r.shapes})",
        f"{r.relative_error:.1e}",
        f"{r.off_per_million:.0f}",
        speed,
        pace,
        f"{r.graph_megabytes:.2g}" if r.graph_megabytes < 10 else f"{r.graph_megabytes:.0f}",
    )


def _failures(lines: Sequence[tuple[Architecture, Measured]]) -> str:
    made = []
    for a, r in lines:
        if r.certified:
            continue
        made.append(f"### {a.name} ({a.library})\n\n`{a.source}`: {_plain(r.fault)}\n")
        made += [f"- {way}: {_plain(why)}" for way, why in r.tried.items()]
        made.append("")
    return "## Not certified, and why\n\n" + "\n".join(made) if made else ""


def _plain(text: str) -> str:
    """One line that Markdown leaves alone."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")[:600]


def _repeat(lines: Sequence[tuple[Architecture, Measured]]) -> str:
    versions: dict[str, str] = {}
    for _, r in lines:
        versions |= r.versions | r.releases
    told = ", ".join(f"{n} {v}" for n, v in sorted(versions.items()))
    minutes = sum(r.took for _, r in lines) / 60
    return f"""\
## How to repeat it

```
make coverage                                          # everything that is not measured yet
python benchmarks/coverage_table.py --list             # the names
python benchmarks/coverage_table.py --only "UNETR 2D" --again
```

`make coverage` installs what the `coverage` extra names. Some libraries cannot be installed beside
the releases used here (careamics 0.3.5 asks for torch below 2.14, biapy for an older
bioimageio.spec, torch-em for compiled packages of python-elf), although their networks run: these
are put into `build/coverage/libraries` without their dependencies:

```
pip install --no-deps --target build/coverage/libraries -r benchmarks/architectures/libraries.txt
```

biapy's and torch_em's networks are imported from there without running those packages' own
`__init__`, which needs what is missing; the files of the networks are as published.

Each architecture runs in a process of its own with bounded time and memory; results are kept in
`build/coverage/results` and used again while the line, the libraries and the releases are the same.
The {len(lines)} lines took {minutes:.0f} minutes, added up over their processes.

Releases: {told}.
"""
