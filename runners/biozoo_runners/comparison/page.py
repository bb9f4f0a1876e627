"""The comparison as one HTML file: it holds its pictures, asks nothing of any server, runs nothing.

Names of models and messages are texts of strangers, and are escaped; the page's own policy forbids
everything but inlined pictures and styles.
"""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.visible import visible

from .drawing import drawn, outlined, shown
from .result import one_line
from .sheet import png

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from .result import Comparison, Entry

__all__ = ["page"]

#: Longest side of a picture in the page, enough to enlarge it.
BOX = 640

#: Headers of the table as sentences have them.
HEADERS = {
    "MODEL": "Model",
    "SCALE": "Scale",
    "OBJECTS": "Objects",
    "SCORE": "Score",
    "SECONDS": "Seconds",
    "S/MPIXEL": "Seconds per megapixel",
    "NOTE": "Note",
}


def page(comparison: Comparison) -> str:
    """The page of a comparison."""
    from jinja2 import Environment, StrictUndefined

    import biozoo

    source = files(__package__).joinpath("page.html").read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    headers, table = comparison.rows()
    picture, truth = comparison.picture, comparison.truth
    assert picture is not None
    return environment.from_string(source).render(
        name=visible(Path(comparison.image).name),
        region=str(comparison.region),
        how=comparison.region.how,
        labels=visible(Path(comparison.labels).name) if comparison.labels else "",
        image=_inlined(shown(picture, BOX)),
        truth=None if truth is None else _inlined(outlined(picture, truth, BOX)),
        explanations=(*comparison.how_to_read, *comparison.explanations),
        scales=[f"{s:g}" for s in comparison.scales],
        rows=[_row(comparison, model) for model in comparison.models],
        headers=[HEADERS.get(h, h) for h in headers],
        table=table,
        skipped=[{"model": visible(s.model), "why": one_line(s.why)} for s in comparison.skipped],
        version=biozoo.__version__,
    )


def _row(comparison: Comparison, model: str) -> dict[str, Any]:
    """A model's name, what is to be said of it, and its cells."""
    entries = comparison.of(model)
    lines = [f"version {entries[0].version}"] if entries[0].version else []
    lines += dict.fromkeys(e.ran for e in entries if e.ran)
    lines += dict.fromkeys(f"shown: {e.output}" for e in entries if e.output)
    return {
        "model": visible(model),
        "lines": [one_line(line) for line in lines],
        "cells": [_cell(comparison, e) for e in entries],
    }


def _cell(comparison: Comparison, entry: Entry) -> dict[str, Any]:
    assert comparison.picture is not None
    picture = drawn(entry, comparison.picture, BOX)
    objects = "" if entry.objects is None else f"{entry.objects} objects"
    took = "" if entry.seconds is None else f"{entry.seconds:.2f} s"
    head = entry.score_text or objects
    more = ", ".join(t for t in (objects if head != objects else "", took, entry.note) if t)
    fault = f"failed: {entry.fault}" if entry.fault else ""
    return {
        "image": None if picture is None else _inlined(picture),
        "best": entry in comparison.best,
        "scale": f"{entry.scale:g}",
        "head": head,
        "more": one_line(fault or more),
    }


def _inlined(picture: Picture) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(picture)).decode()}"
