"""What a model is for, in words to filter by: tables from the words of real descriptions.

Descriptions have no field for the kind of microscope or the structure that is looked for; their
authors say it in tags, names and sentences. The tables list the words that people use. A word
matches at a word's start, case, "-" and "_" aside; one that ends in "." matches whole words only.
What no word tells is left empty, nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from biozoo import ModelSummary

__all__ = ["MODALITIES", "STRUCTURES", "TASK_LABELS", "Kind", "modalities", "plain", "structures"]


class Kind(NamedTuple):
    """One value to filter by: its name in addresses, what people read, the words that tell it."""

    value: str
    label: str
    words: tuple[str, ...]


TASK_LABELS = {
    "segmentation": "Segmentation",
    "detection": "Detection",
    "restoration": "Denoising and restoration",
    "unmixing": "Unmixing",
    "reconstruction": "Reconstruction",
    "translation": "Image to image",
    "registration": "Registration",
    "tracking": "Tracking",
    "classification": "Classification",
    "": "Other",
}
"""Task of `biozoo.summary.TASKS` -> what people read."""

MODALITIES = (
    Kind(
        "fluorescence",
        "Fluorescence",
        ("fluoresc", "confocal", "light sheet", "lightsheet", "light field", "spinning disk",
         "two photon", "multiphoton", "widefield", "wide field", "dapi.", "hoechst", "gfp.",
         "to pro 3", "mitotracker", "human protein atlas", "hpa.", "storm.", "palm.",
         "superimposed image", "super imposed image", "semantic unmixing"),
    ),
    Kind(
        "electron",
        "Electron microscopy",
        ("electron micro", "em.", "sem.", "fib sem", "fibsem", "cryo em", "cryoem", "vem.",
         "connectom", "cremi", "isbi2012"),
    ),
    Kind("brightfield", "Brightfield", ("brightfield", "bright field")),
    Kind(
        "histology",
        "Stained tissue",
        ("histolog", "histopatholog", "patholog", "h&e", "hne.", "haematoxylin", "hematoxylin",
         "immunohistochem", "ihc."),
    ),
    Kind(
        "phase",
        "Phase contrast",
        ("phase contrast", "dic.", "differential interference", "phase image"),
    ),
    Kind("magnetic", "Magnetic resonance", ("mri.", "magnetic resonance")),
    Kind("x-ray", "X-ray", ("x ray", "micro ct", "microct", "tomograph")),
    Kind("gel", "Gels", ("gel electrophoresis",)),
)  # fmt: skip
"""Kinds of images."""

STRUCTURES = (
    Kind("nuclei", "Nuclei", ("nuclei", "nucleus", "nuclear", "dapi.", "hoechst", "dsb.")),
    Kind("cells", "Cells", ("cell.", "cells.", "cellular", "epitheli", "macrophage")),
    Kind(
        "membranes",
        "Membranes and borders",
        ("membrane", "cell boundar", "cell border", "cell outline"),
    ),
    Kind("mitochondria", "Mitochondria", ("mitochond", "mitchond", "mito.", "mitonet", "tom20")),
    Kind("neurons", "Neurons", ("neuron", "neurite", "axon", "connectom", "synap", "dendrit")),
    Kind("bacteria", "Bacteria", ("bacteri", "e. coli", "e coli", "bacillus", "subtilis")),
    Kind(
        "cytoskeleton",
        "Cytoskeleton",
        ("actin.", "f actin", "factin", "tubulin", "microtubul", "filament", "cytoskelet"),
    ),
    Kind(
        "organelles",
        "Other organelles",
        ("organelle", "vesicle", "exosome", "lysosom", "endoplasmic", "golgi", "peroxisom",
         "protein localization"),
    ),
    Kind("spots", "Spots and particles", ("spot.", "spots.", "puncta", "particle", "fish.")),
    Kind("plants", "Plants", ("plant.", "plants.", "arabidopsis", "ovule", "primordia")),
    Kind("embryos", "Embryos and eggs", ("embryo", "oocyte", "zebrafish", "planaria", "medaka")),
    Kind("cysts", "Cysts and organoids", ("cyst.", "cysts.", "organoid", "spheroid")),
    Kind("muscle", "Muscle", ("muscle", "myotube", "myosin", "cardiomyocyte")),
    Kind(
        "tissue",
        "Tissue and organs",
        ("tissue", "histolog", "patholog", "spinal cord", "brain.", "organ.", "organs."),
    ),
    Kind("gel-bands", "Gel bands", ("gel band", "gel electrophoresis")),
)  # fmt: skip
"""What is looked for in an image."""

MISLEADING = ("cell painting", "cell tracking challenge", "superpixel")
"""Names of methods and data sets that hold a word of the tables and do not mean it."""


def modalities(summary: ModelSummary, told: Iterable[str] = ()) -> tuple[str, ...]:
    """Values of `MODALITIES` that the description tells; `told` is what it says in fields."""
    return _found(summary, told, MODALITIES)


def structures(summary: ModelSummary, told: Iterable[str] = ()) -> tuple[str, ...]:
    """Values of `STRUCTURES` that the description tells; `told` is what it says in fields."""
    return _found(summary, told, STRUCTURES)


def plain(text: str) -> str:
    """Text to search in: lower case, "-" and "_" as spaces, single spaces.

    Examples
    --------
    >>> plain("H&E  Whole-Slide")
    'h&e whole slide'
    """
    return " ".join(re.split(r"[-_\s]+", text.lower())).strip()


def _found(summary: ModelSummary, told: Iterable[str], kinds: tuple[Kind, ...]) -> tuple[str, ...]:
    # A line between them: no match goes from one tag into the next.
    name = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", summary.name)  # DenoiseOnPlanaria
    said = plain(" | ".join((*summary.tags, *told, name, summary.description)))
    for words in MISLEADING:
        said = said.replace(words, " ")
    return tuple(kind.value for kind in kinds if _pattern(kind.words).search(said))


@cache
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    each = (re.escape(w[:-1]) + r"(?!\w)" if w.endswith(".") else re.escape(w) for w in words)
    return re.compile(rf"(?<!\w)(?:{'|'.join(each)})")
