"""Tags that can be told: from the axes and the source surely, from the author's words likely."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["missing_tags", "tags_for"]

#: bioimage.io's own tags -> words that tell them, matched at word starts.
_WORDS: dict[str, tuple[str, ...]] = {
    "instance-segmentation": (
        "instance segment", "stardist", "cellpose", "each nucleus", "each cell",
    ),
    "semantic-segmentation": (
        "semantic segment", "segment", "foreground", "mask", "boundar", "membrane predict",
    ),
    "object-detection": ("detect", "spot"),
    "denoising": ("denois", "noise2", "n2v"),
    "image-restoration": ("restor", "deconv", "super-resolution", "super resolution", "deblur"),
    "image-reconstruction": ("reconstruct",),
    "image-classification": ("classif",),
    "in-silico-labeling": ("in silico", "virtual stain", "label-free"),
    "fluorescence-light-microscopy": ("fluoresc", "dapi", "hoechst", "gfp", "confocal"),
    "electron-microscopy": ("electron micro", "sstem", "fib-sem", "fibsem", "serial section"),
    "transmission-light-microscopy": ("brightfield", "bright-field", "phase contrast", "h&e",
                                      "stained tissue", "histolog"),
    "nuclei": ("nucle",),
    "cells": ("cell",),
    "mitochondria": ("mitochond",),
    "cell-membrane": ("membrane",),
    "tissue": ("tissue", "histolog"),
    "plant": ("plant", "ovule", "arabidopsis"),
    "brain": ("brain", "neuron"),
}  # fmt: skip

_NETWORKS = {
    "unet": ("unet", "u-net", "unetplusplus"),
    "resnet": ("resnet", "resunet", "residualunet"),
    "densenet": ("densenet",),
}

_TASKS = (
    "instance-segmentation", "semantic-segmentation", "object-detection", "denoising",
    "image-restoration", "image-reconstruction", "image-classification", "in-silico-labeling",
)  # fmt: skip


def tags_for(
    raw: Mapping[str, Any], *, source: str, torch: bool, instances: bool, given: Sequence[str]
) -> list[str]:
    """All tags, the author's own first.

    Parameters
    ----------
    raw
        The description: its tensors, name and description.
    source
        What the network is called, ``"net.py:UNet"``.
    torch
        Whether it is a PyTorch network.
    instances
        Whether the package makes numbered objects.
    given
        The author's own tags: they come first, and where they name a task, none is guessed.
    """
    axes = {a["id"] for t in raw["inputs"] for a in t["axes"]}
    sure = [("3d" if "z" in axes else "2d") + ("-t" if "time" in axes else "")]
    if torch:
        sure.append("pytorch")
    said = f" {raw.get('name', '')} {raw.get('description', '')} ".lower()
    called = source.lower()
    for tag, words in _NETWORKS.items():
        if any(w in called or w in said for w in words):
            sure.append(tag)
    if instances:
        sure.append("instance-segmentation")
    guesses = [t for t, words in _WORDS.items() if _told(said, words)]
    named = {*given, *sure}
    tasks = [t for t in guesses if t in _TASKS]
    if any(t in named for t in _TASKS):
        guesses = [t for t in guesses if t not in _TASKS]
    elif len(tasks) > 1:  # the first is the most specific
        guesses = [t for t in guesses if t not in tasks[1:]]
    return list(dict.fromkeys([*given, *sure, *guesses]))


def _told(text: str, words: Iterable[str]) -> bool:
    return any(re.search(rf"\b{re.escape(word)}", text) for word in words)


def missing_tags(tags: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """bioimage.io's categories that no tag is of, and their tags; those only that an author of a
    network can answer honestly (not the software that it works with).
    """
    from bioimageio.spec._internal.constants import TAG_CATEGORIES

    categories = TAG_CATEGORIES.get("model", {})
    wanted = ("modality", "content", "task", "network")
    return {
        c: tuple(categories[c])
        for c in wanted
        if c in categories and not set(categories[c]) & set(tags)
    }
