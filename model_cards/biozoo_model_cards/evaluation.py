"""How a model was measured, as its description tells (`config.bioimageio.evaluations`).

Also what packages had before that field: one mapping in place of the list, results of one
condition as a plain list, and a mapping of metric to value.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .clean import items, one_line, sequence, web

__all__ = ["Evaluation", "evaluation_text", "evaluations"]

ROLES = {
    "train": "images it was trained with",
    "validation": "images by which it was chosen",
    "test": "images it had not seen, of the same source",
    "independent": "images it had not seen, of another source",
}

#: Tables larger than this are cut.
MAX_ROWS, MAX_COLUMNS = 60, 20


@dataclass(frozen=True)
class Evaluation:
    """A measurement that the description reports.

    Attributes
    ----------
    dataset, role, samples
        On what it was measured; `role` says whether the model had seen those images. `samples` is
        0 where that is not told.
    conditions
        (short name, explanation) of each column.
    rows
        (metric, explanation, one value per condition).
    summary
        The author's reading of it.
    source
        Address of the data, or "".
    """

    dataset: str
    role: str
    samples: int
    conditions: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]
    summary: str = ""
    source: str = ""

    @property
    def on(self) -> str:
        """On what it was measured, in words."""
        seen = ROLES.get(self.role, "")
        many = f"{self.samples:,} images of " if self.samples else ""
        return f"{many}{self.dataset or 'data that is not named'}" + (f" ({seen})" if seen else "")


def evaluations(config: Mapping[str, Any]) -> tuple[Evaluation, ...]:
    """The evaluations of `config.bioimageio`, those without a word about anything left out."""
    given = config.get("evaluations")
    if given is None:
        given = config.get("evaluation")
    entries = [given] if isinstance(given, Mapping) else items(given)
    made = (_evaluation(entry) for entry in entries[:20])
    return tuple(e for e in made if e.rows or e.summary or e.dataset)


def _evaluation(entry: Mapping[str, Any]) -> Evaluation:
    metrics = entry.get("metrics")
    rows: list[tuple[str, str, tuple[str, ...]]]
    if isinstance(metrics, Mapping):
        rows = [(one_line(k, 80), one_line(k), (_value(v),)) for k, v in metrics.items()]
        conditions = [("value", "")]
    else:
        names = [one_line(m, 80) for m in sequence(metrics)]
        explained = [one_line(m) for m in sequence(entry.get("metrics_long"))]
        explained += [""] * (len(names) - len(explained))
        table = sequence(entry.get("results"))
        rows = [
            (name, long, tuple(_value(v) for v in (sequence(row) or [row]))[:MAX_COLUMNS])
            for name, long, row in zip(names, explained, table, strict=False)
            if not isinstance(row, Mapping)
        ]
        conditions = _conditions(entry, max((len(r[2]) for r in rows), default=0))
    samples = entry.get("sample_count")
    return Evaluation(
        dataset=one_line(entry.get("dataset_id") or entry.get("dataset"), 200),
        role=one_line(entry.get("dataset_role"), 40) or "unknown",
        samples=samples if isinstance(samples, int) and samples > 0 else 0,
        conditions=tuple(conditions),
        rows=tuple(rows[:MAX_ROWS]),
        summary=one_line(entry.get("results_summary")),
        source=web(entry.get("dataset_source")),
    )


def _conditions(entry: Mapping[str, Any], columns: int) -> list[tuple[str, str]]:
    """As many heads as the widest row has cells."""
    short = [one_line(f, 80) for f in sequence(entry.get("evaluation_factors"))][:columns]
    long = [one_line(f) for f in sequence(entry.get("evaluation_factors_long"))][:columns]
    short += [""] * (columns - len(short))
    long += [""] * (columns - len(long))
    return list(zip(short, long, strict=True))


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else one_line(value, 60)


def evaluation_text(evaluation: Evaluation, width: int) -> list[str]:
    """The measurement for a terminal."""
    lines = textwrap.wrap(f"Measured on {evaluation.on}", width)
    if evaluation.rows:
        first = max(len(metric) for metric, _, _ in evaluation.rows)
        heads = [short for short, _ in evaluation.conditions]
        widths = [
            max(
                6,
                len(head),
                *(len(values[i]) for _, _, values in evaluation.rows if i < len(values)),
            )
            for i, head in enumerate(heads)
        ]
        spaces = "  ".join(f"{h:>{w}}" for h, w in zip(heads, widths, strict=True))
        lines.append(f"  {'':{first}}  {spaces}".rstrip())
        for metric, _, values in evaluation.rows:
            cells = "  ".join(f"{v:>{w}}" for v, w in zip(values, widths, strict=False))
            lines.append(f"  {metric:{first}}  {cells}".rstrip())
    indent: dict[str, Any] = {"initial_indent": "  ", "subsequent_indent": "  "}
    return lines + textwrap.wrap(evaluation.summary, width, **indent)
