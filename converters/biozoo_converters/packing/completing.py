"""The parts of an existing package that can be added to its description; see `existing`."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo import rdf as rdfs
from biozoo.errors import InvalidPackageError

from .describe import FORMAT_VERSION, ordered, tolerances
from .drafting import add_sample, file_entry
from .metadata import check_metadata
from .pack_file import PackFile, require

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from biozoo.package import ModelPackage

    from ..conversion.drafts import Draft
    from .build import Progress

__all__ = [
    "FACTS",
    "Work",
    "cover",
    "explicit_ids",
    "facts",
    "samples",
    "test_outputs",
    "tolerance",
    "upgrade",
    "upgraded",
]

#: Ids that bioimageio.spec leaves out when it saves, because they are the default.
_DEFAULT_IDS = {
    "batch": "batch",
    "channel": "channel",
    "time": "time",
    "index": "index",
    "space": "x",
}

#: What a pack.yaml may say of a package that exists: facts, and what is wanted of it.
FACTS = (
    "name", "description", "authors", "maintainers", "license", "cite", "documentation", "covers",
    "tags", "id", "version", "git_repo", "parent", "training_data", "timestamp",
)  # fmt: skip


@dataclass
class Work:
    """A package being completed."""

    draft: Draft
    package: ModelPackage
    added: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def upgrade(work: Work) -> None:
    raw = work.draft.raw
    before = str(raw.get("format_version"))
    made, notes = upgraded(raw, work.package)
    if notes:
        work.added += [f"repaired: {note}" for note in notes]
    if before != FORMAT_VERSION:
        work.added.append(f"format {FORMAT_VERSION} in place of {before}")
    if count := explicit_ids(made):
        work.added.append(f"{count} ids that were left out because they are the default")
    hashes = _hash(made, work.draft.root)
    if hashes:
        work.added.append(f"sha256 of {hashes} files")
    work.draft.raw = ordered(made)
    work.draft.package().descr  # noqa: B018  # raises where something was lost


def upgraded(
    raw: Mapping[str, Any], package: ModelPackage
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A description in the newest format, and what had to be repaired for it.

    Format 0.5 keeps every field as written; older ones are converted by bioimageio.spec.
    """
    from biozoo.mending import mend

    made: dict[str, Any] = copy.deepcopy(dict(raw))
    notes: tuple[str, ...] = ()
    if package.mended:
        made, notes = mend(made)
    if str(made.get("format_version", "")).startswith("0.5"):
        for name in ("documentation", "icon"):
            if isinstance(made.get(name), str) and (name != "icon" or "." in made[name]):
                made[name] = {"source": made[name]}
        for name in ("covers", "attachments"):
            if isinstance(made.get(name), list):
                made[name] = [{"source": c} if isinstance(c, str) else c for c in made[name]]
    else:
        made = _converted(package)
    made["format_version"] = FORMAT_VERSION
    return made, notes


def _converted(package: ModelPackage) -> dict[str, Any]:
    """bioimageio.spec's conversion of an older format, its files named as in the package."""
    from bioimageio.spec import ValidationContext, dump_description

    with ValidationContext(root=package.root, perform_io_checks=False, log_warnings=False):
        made: dict[str, Any] = dict(dump_description(package.descr, exclude_unset=False))
    found: dict[str, Any] = _without_empty(_plain(made, str(package.root)))
    return found


def _plain(value: Any, root: str) -> Any:
    """With paths relative to the package."""
    if isinstance(value, dict):
        return {k: _plain(v, root) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v, root) for v in value]
    if isinstance(value, str) and value.startswith(root):
        return value[len(root) :].lstrip("/\\")
    return value


def _without_empty(value: Any) -> Any:
    """Without what says nothing: None and empty collections, at any depth."""
    if isinstance(value, dict):
        made = {k: _without_empty(v) for k, v in value.items()}
        return {k: v for k, v in made.items() if v not in (None, {}, [], "")}
    return [_without_empty(v) for v in value] if isinstance(value, list) else value


def explicit_ids(raw: dict[str, Any]) -> int:
    """Write out ids of tensors and axes that a description leaves to their default; how many."""
    count = 0
    for side, default in (("inputs", "input"), ("outputs", "output")):
        for tensor in raw.get(side, ()):
            if "id" not in tensor:
                tensor["id"] = default
                count += 1
            for axis in tensor.get("axes", ()):
                if isinstance(axis, dict) and "id" not in axis:
                    axis["id"] = _DEFAULT_IDS[str(axis.get("type"))]
                    count += 1
    return count


def _hash(raw: Mapping[str, Any], folder: Path) -> int:
    """Add the sha256 of files that have none declared; how many."""
    count = 0

    def walk(value: Any) -> None:
        nonlocal count
        if isinstance(value, dict):
            source = value.get("source")
            name = source if isinstance(source, str) and not value.get("sha256") else ""
            if name and not rdfs.is_url(name) and (folder / name).is_file():
                value["sha256"] = file_entry(folder, name)["sha256"]
                count += 1
            for below in value.values():
                walk(below)
        elif isinstance(value, list):
            for below in value:
                walk(below)

    for name in ("documentation", "covers", "attachments", "inputs", "outputs", "weights"):
        walk(raw.get(name))
    return count


def facts(work: Work, file: PackFile) -> None:
    """What the author says now, where it was missing."""
    metadata, faults = check_metadata(file)
    given = {n for n in FACTS if getattr(file, n)}
    wrong = {n: f for n, f in faults.items() if {"author": "authors"}.get(n, n) in given}
    require(wrong, what=f"The package '{work.package.id}' cannot be completed:")
    raw = work.draft.raw
    for name in sorted(given & set(metadata.fields)):
        raw[name] = metadata.fields[name]
        work.added.append(name)
    if file.tags:
        raw["tags"] = list(dict.fromkeys([*raw.get("tags", ()), *file.tags]))
        work.added.append("tags")
    for name, paths in (("documentation", [file.documentation]), ("covers", file.covers)):
        entries = []
        for path in filter(None, paths):
            shutil.copyfile(path, work.draft.root / path.name)
            entries.append(file_entry(work.draft.root, path.name))
        if entries:
            raw[name] = entries if name == "covers" else entries[0]
            work.added.append(name)


# ------------------------------------------------------------------------------------------ tensors


def test_outputs(work: Work, progress: Progress) -> None:
    """Test outputs by the author's own weights, where there are test inputs and no outputs."""
    raw = work.draft.raw
    missing = [t for t in raw["outputs"] if not t.get("test_tensor")]
    if not missing:
        return
    lacking = [t["id"] for t in raw["inputs"] if not t.get("test_tensor") and not t.get("optional")]
    if lacking:
        raise InvalidPackageError(
            source=work.package.source,
            fields={f"{i}.test_tensor": "is not given" for i in lacking},
            hint="Nothing can be proven without a test input: add one to the description.",
        )
    import xarray as xr

    from biozoo_runners import load
    from biozoo_runners.testing import run_whole

    progress("making test outputs", 0, None)
    inputs = {
        t["id"]: xr.DataArray(
            np.load(work.draft.root / t["test_tensor"]["source"], allow_pickle=False),
            dims=[a["id"] for a in t["axes"]],
        )
        for t in raw["inputs"]
        if t.get("test_tensor")
    }
    with load(work.package, device="cpu") as runner:
        made = run_whole(runner, inputs)
    for tensor in missing:
        name = f"test_{tensor['id']}.npy"
        np.save(work.draft.root / name, made[tensor["id"]], allow_pickle=False)
        tensor["test_tensor"] = file_entry(work.draft.root, name)
        work.added.append(f"test output of {tensor['id']}")


def cover(work: Work) -> None:
    raw = work.draft.raw
    if raw.get("covers"):
        return
    from .cover import draw_cover

    first, last = raw["inputs"][0], raw["outputs"][0]
    if not (first.get("test_tensor") and last.get("test_tensor")):
        return
    arrays = [_array(work, t) for t in (first, last)]
    names = [c.lower() for a in first["axes"] for c in a.get("channel_names", ())]
    name = "cover.png"
    (work.draft.root / name).write_bytes(
        draw_cover(
            arrays[0],
            [a["id"] for a in first["axes"]],
            arrays[1],
            [a["id"] for a in last["axes"]],
            rgb=names == ["red", "green", "blue"],
        )
    )
    raw["covers"] = [file_entry(work.draft.root, name)]
    work.added.append("a cover: test input beside test output")


def samples(work: Work) -> None:
    """The test tensors as images, where the author gave none."""
    for tensor in (*work.draft.raw["inputs"], *work.draft.raw["outputs"]):
        if tensor.get("test_tensor") and not tensor.get("sample_tensor"):
            array = _array(work, tensor)
            if array.dtype.kind in "uif" and add_sample(work.draft.root, tensor, array):
                work.added.append(f"{tensor['id']} as an image to look at")


def _array(work: Work, tensor: Mapping[str, Any]) -> NDArray[Any]:
    array: NDArray[Any] = np.load(
        work.draft.root / tensor["test_tensor"]["source"], allow_pickle=False
    )
    return array


def tolerance(work: Work) -> None:
    """bioimageio.spec's default, written out, where nothing is declared."""
    raw = work.draft.raw
    config = raw.setdefault("config", {})
    own = config.setdefault("bioimageio", {})
    if own.get("reproducibility_tolerance") or own.get("test_kwargs"):
        return
    largest = {
        t["id"]: float(_array(work, t).max()) for t in raw["outputs"] if t.get("test_tensor")
    }
    own["reproducibility_tolerance"] = tolerances(
        largest, relative=1e-3, absolute=None, per_million=100
    )
    work.added.append("a tolerance for its test outputs")
