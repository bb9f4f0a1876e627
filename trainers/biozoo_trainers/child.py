"""A trained network as a package: its parent's description, new weights, everything proven anew.

    facts = ChildFacts(lineage, recipe.plain())
    report = make_child(parent, network.module_for_export(), facts, Path("mine.zip"))

What the author said of the parent stays: tensors, processing, sizes, tags, licence, citations,
authors. What was true of the parent alone goes: its weights, test outputs, cover, certificate,
evaluations, maintainers. At `target` there is a whole package that reproduces its test outputs, or
nothing new.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import NetworkError

from .child_text import child_id, child_name, readme
from .lineage import Lineage, called
from .onnx_back import came_from_onnx, written_back

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from biozoo.package import ModelPackage
    from biozoo_converters.conversion.base import Attempt
    from biozoo_converters.conversion.drafts import Draft
    from biozoo_converters.networks.network import ExportRequest, Network, Reference
    from biozoo_converters.packing.packed import PackReport

__all__ = ["ChildFacts", "Progress", "make_child", "pack_child"]

#: Called with (what, done, total or None).
Progress = Callable[[str, int, int | None], None]

#: Of a description: true of the parent alone.
_OF_PARENT = (
    "covers", "documentation", "git_repo", "maintainers", "packaged_by", "timestamp", "uploader",
    "version_comment", "weights",
)  # fmt: skip

#: The same below `config.bioimageio` and `config.biozoo`.
_MEASURED_OF_PARENT = (
    "bias_risks_limitations", "evaluation", "evaluations", "out_of_scope_use", "training",
)  # fmt: skip
_OURS_OF_PARENT = ("certificate", "evaluations", "variants")

BACK = "written back into the parent's graph"
README = "README.md"

#: Characters of a description, by the specification.
_LONGEST = 1024
_RETRAINED = re.compile(r" ?Retrained from \S+ on \d+ images?\.$")  # of an earlier round

#: bioimageio.spec takes no test output below this everywhere: nothing could be told from it.
SILENT = 1e-4


@dataclass(frozen=True)
class ChildFacts:
    """What is said of a child beside what is measured.

    Attributes
    ----------
    lineage
        All rounds, the one that made it being the last.
    recipe
        `config.biozoo.training`, plain values.
    name, id, version
        Of the package; "" makes a name and an id from the parent's and the file's.
    author
        Added to the parent's authors; "" adds nobody.
    instances
        `config.biozoo.instances`: how numbered objects are made of the outputs; None leaves the
        parent's, if it has one.
    evaluations
        `config.biozoo.evaluations`, in the form of `config.bioimageio.evaluations`.
    training
        `config.bioimageio.training`: how it was trained.
    done
        What was done to the parent, a sentence for its description; "" tells how many images it
        was retrained on.
    limits
        `config.bioimageio.bias_risks_limitations.limitations`, a sentence or two.
    text
        Sections of the README, Markdown; the parent's text follows them.
    sample
        Gives per input tensor id an array (dims as described, batch included) that takes the place
        of the parent's test input; called where the child finds nothing at all in that one.
    """

    lineage: Lineage
    recipe: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    id: str = ""
    version: str = "0.1.0"
    author: str = ""
    instances: Mapping[str, Any] | None = None
    evaluations: Sequence[Mapping[str, Any]] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    done: str = ""
    limits: str = ""
    text: Sequence[str] = ()
    sample: Callable[[], Mapping[str, Any]] | None = None


def make_child(
    parent: ModelPackage,
    module: Any,
    facts: ChildFacts,
    target: Path,
    *,
    timing: bool = False,
    progress: Progress | None = None,
) -> PackReport:
    """Write a trained network as a package.

    Parameters
    ----------
    parent
        Has test inputs; its description is the child's.
    module
        `torch.nn.Module` in evaluation mode on the CPU: takes one tensor per input of the
        description and gives one, or a tuple, in the order of its outputs.
    target
        A path that ends in ``.zip``, or a folder. An earlier package there is replaced.
    timing
        Whether the certificate says how fast it is here.

    Raises
    ------
    ConversionError
        No ONNX graph of it agrees with the module, or the package does not reproduce its own test
        outputs.
    NetworkError
        Its outputs are not finite, or all but zero for every test input.
    InvalidPackageError, StorageError
        The description is refused, or nothing can be written there.
    """
    from biozoo_converters.conversion.writing import check_target
    from biozoo_converters.networks.torch_network import TorchNetwork

    check_target(target)
    network = TorchNetwork(module.eval(), name=f"{parent.id}, retrained")
    attempts = partial(_attempts, network)
    return pack_child(parent, network, attempts, facts, target, timing=timing, progress=progress)


def pack_child(
    parent: ModelPackage,
    network: Network,
    attempts: Callable[[ExportRequest], Iterable[Attempt]],
    facts: ChildFacts,
    target: Path,
    *,
    timing: bool = False,
    progress: Progress | None = None,
) -> PackReport:
    """Write any network that takes a parent's place as a package; see `make_child`.

    Parameters
    ----------
    network
        Takes one array per input of the parent's description and gives one per output.
    attempts
        Ways to make its ONNX graph, best first.
    """
    from biozoo_converters.conversion.proving import first_proven
    from biozoo_converters.conversion.source_package import copied
    from biozoo_converters.conversion.writing import check_target
    from biozoo_converters.networks.network import Named
    from biozoo_converters.packing.checking import check_finished
    from biozoo_converters.packing.completing import Work, cover, samples, tolerance, upgrade
    from biozoo_converters.packing.finishing import (
        certified,
        network_inputs_of,
        report_of,
        wrote,
    )
    from biozoo_converters.proof.prove import remembered

    check_target(target)
    tell = progress or (lambda what, done, total: None)
    tell("packing", 0, None)

    def proving(what: str, done: int, total: int | None) -> None:
        tell(f"proving {what}", done, total)

    with tempfile.TemporaryDirectory(prefix="biozoo-child-") as folder:
        draft = copied(parent, Path(folder))
        work = Work(draft, parent)
        upgrade(work)
        _described(draft, parent, facts, target)
        ids = tuple(tuple(str(t["id"]) for t in draft.raw[s]) for s in ("inputs", "outputs"))
        named = Named(network, *ids)
        notes = _test_tensors(draft, named, facts.sample)
        real = network_inputs_of(draft)
        reference = remembered(named)
        request = _request(draft, parent, real)
        entry, proof = first_proven(
            draft, "onnx", attempts(request), reference, real=real, progress=proving
        )
        draft.raw["weights"] = {"onnx": dict(entry)}
        tolerance(work)
        tell("certificate", 0, None)
        certificate = certified(draft, reference, [proof], network, real, timing=timing)
        samples(work)
        cover(work)
        _documented(draft, parent, facts)
        _without_leftovers(draft)
        tell("testing the package", 0, None)
        check_finished(draft.package())
        wrote(draft, target)
        return report_of(
            draft,
            target,
            facts=[],
            notes=notes,
            certificate=certificate,
        )


# ---------------------------------------------------------------------------------------- weights


def _request(draft: Draft, parent: ModelPackage, real: Mapping[str, NDArray[Any]]) -> ExportRequest:
    """What the graph has to look like: as the parent's description says."""
    from biozoo_converters.conversion.to_onnx import export_request
    from biozoo_runners.program import program_of

    axes = [a for t in draft.raw["inputs"] for a in t["axes"] if a["type"] == "batch"]
    batch = bool(axes) and all(a.get("size") is None for a in axes)
    return export_request(program_of(parent).geometry, real, batch=batch)


def _attempts(network: Network, request: ExportRequest) -> Iterator[Attempt]:
    """The parent's graph with new values where the network came from one, then every exporter."""
    from biozoo_converters.conversion.base import Attempt
    from biozoo_converters.conversion.to_onnx import onnx_attempts

    if came_from_onnx(network.module):
        yield Attempt(BACK, partial(_back, network.module, request))
    yield from onnx_attempts(network, request)


def _back(module: Any, request: ExportRequest, folder: Path) -> dict[str, Any]:
    from biozoo_converters.conversion.onnx_tidy import tidy
    from biozoo_converters.conversion.to_onnx import NAME, onnx_entry

    (folder / NAME).write_bytes(tidy(written_back(module), request))
    return onnx_entry(folder, NAME)


# ------------------------------------------------------------------------------------ description


def _described(draft: Draft, parent: ModelPackage, facts: ChildFacts, target: Path) -> None:
    """Everything of the description that needs no network."""
    from biozoo_converters.proof.probes import NAME as PROBES

    raw = draft.raw
    for name in _OF_PARENT:
        raw.pop(name, None)
    raw["weights"] = {}
    last = facts.lineage.rounds[-1]
    raw["id"] = facts.id or child_id(parent.id, target)
    raw["name"] = facts.name or child_name(str(raw["name"]), len(facts.lineage.rounds))
    raw["version"] = facts.version
    own = len(last.trained) - int(last.facts.get("replayed", 0))
    count = f"{own} image{'' if own == 1 else 's'}"
    done = facts.done or f"Retrained from {last.parent.id} on {count}."
    about = _RETRAINED.sub("", str(raw.get("description") or ""))[: _LONGEST - len(done) - 1]
    raw["description"] = f"{about} {done}".strip()
    how = last.method if facts.done else f"{last.method} on {count}"
    raw["version_comment"] = f"Made from {called(parent)} by {how}, with biozoo."
    raw["parent"] = {k: v for k, v in last.parent.to_dict().items() if k != "sha256"}
    if facts.author:
        raw["authors"] = [*raw.get("authors", ()), {"name": facts.author}]
    for tensor in raw["outputs"]:
        tensor["data"] = _explicit(tensor.get("data") or {})
    config = raw["config"] = dict(raw.get("config") or {})
    measured = config["bioimageio"] = dict(config.get("bioimageio") or {})
    ours = config["biozoo"] = dict(config.get("biozoo") or {})
    for name in _MEASURED_OF_PARENT:
        measured.pop(name, None)
    gone = {PROBES, *(str(v.get("source")) for v in (ours.get("variants") or {}).values())}
    raw["attachments"] = [a for a in raw.get("attachments", ()) if a["source"] not in gone]
    for name in _OURS_OF_PARENT:
        ours.pop(name, None)
    if facts.limits:
        measured["bias_risks_limitations"] = {"limitations": facts.limits}
    if facts.training:
        measured["training"] = dict(facts.training)
    if facts.instances is not None:
        ours["instances"] = dict(facts.instances)
    if facts.evaluations:
        ours["evaluations"] = [dict(e) for e in facts.evaluations]
    if facts.recipe:
        ours["training"] = dict(facts.recipe)
    ours["lineage"] = facts.lineage.to_dict()


def _explicit(data: Any) -> Any:
    """The specification's `data` with the type that it has where none is written."""
    if isinstance(data, list):
        return [_explicit(d) for d in data]
    return {"type": "uint8" if "values" in data else "float32", **data}


def _documented(draft: Draft, parent: ModelPackage, facts: ChildFacts) -> None:
    """The README: what was done, then the parent's own text."""
    from biozoo_converters.packing.drafting import file_entry

    text = readme(str(draft.raw["name"]), called(parent), facts.text, parent.documentation)
    (draft.root / README).write_text(text, encoding="utf-8", newline="\n")
    draft.raw["documentation"] = file_entry(draft.root, README)


def _without_leftovers(draft: Draft) -> None:
    """Remove the files that only the parent's description names."""
    from biozoo import rdf as rdfs

    named = {str(PurePosixPath(ref.source)) for ref in rdfs.file_refs(draft.raw)}
    for path in sorted(draft.root.rglob("*")):
        name = path.relative_to(draft.root).as_posix()
        if path.is_file() and name not in named and name != "rdf.yaml":
            path.unlink()


# ------------------------------------------------------------------------------------ test tensors


def _test_tensors(
    draft: Draft, network: Reference, sample: Callable[[], Mapping[str, Any]] | None
) -> list[str]:
    """Test outputs by the trained network, in the draft; notes on what was done.

    Raises
    ------
    NetworkError
        They are not finite, or all but zero.
    """
    from biozoo_converters.packing.test_tensors import expected

    raw, notes = draft.raw, []
    arrays = _test_inputs(draft)
    results = expected(raw, arrays, network)
    if (silent := _silent(results)) and sample is not None:
        given = sample()
        notes.append(
            f"the child gives nothing for the parent's test image ({', '.join(silent)}): a piece "
            "of one of your images took its place in the package"
        )
        arrays = {i: given.get(i, a) for i, a in arrays.items()}
        results = expected(raw, arrays, network)
        silent = _silent(results)
        for tensor in raw["inputs"]:
            if tensor["id"] in given:
                _saved(draft, tensor, np.asarray(arrays[tensor["id"]].values))
    if silent:
        raise NetworkError(
            f"The retrained network gives nothing but zeros in {', '.join(silent)} for the test "
            "image, and a package must show something. Train longer, or check the labels."
        )
    for tensor in raw["outputs"]:
        array = results[tensor["id"]]
        data = tensor.get("data")
        if isinstance(data, dict) and isinstance(data.get("range"), list | tuple):
            low, high = data["range"]
            if (low is not None and array.min() < low) or (high is not None and array.max() > high):
                del data["range"]
        _saved(draft, tensor, array)
    return notes


def _test_inputs(draft: Draft) -> dict[str, xr.DataArray]:
    import xarray as xr

    return {
        t["id"]: xr.DataArray(
            np.load(draft.root / t["test_tensor"]["source"], allow_pickle=False),
            dims=[a["id"] for a in t["axes"]],
        )
        for t in draft.raw["inputs"]
        if t.get("test_tensor")
    }


def _silent(results: Mapping[str, NDArray[Any]]) -> list[str]:
    """Outputs that are all but zero, which bioimageio.spec takes for no test output."""
    return [i for i, a in results.items() if float(np.abs(a).max(initial=0)) < SILENT]


def _saved(draft: Draft, tensor: dict[str, Any], array: NDArray[Any]) -> None:
    """A new test tensor; its picture is made anew later."""
    from biozoo_converters.packing.drafting import file_entry

    name = f"test_{tensor['id']}.npy"
    np.save(draft.root / name, np.ascontiguousarray(array), allow_pickle=False)
    tensor["test_tensor"] = file_entry(draft.root, name)
    tensor.pop("sample_tensor", None)
