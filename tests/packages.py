"""Tiny model packages for tests, built in a temporary folder. No torch, no network.

    folder = make_package(tmp_path / "tiny")                        # bcyx, 8 + n*4, 3 x 3 blur
    folder = make_package(tmp_path / "p", axes="bczyx", size=16, halo=2)      # 3D, fixed size
    folder = make_package(tmp_path / "p", axes="byxc", channels=3, out_channels=2)
    folder = make_package(tmp_path / "p", size={"y": (16, 8), "x": 32})    # y = 16 + n*8, x = 32
    folder = make_package(tmp_path / "p", inputs=2, outputs=2, dtype="uint8")
    folder = make_package(tmp_path / "p", preprocessing=[ZERO_MEAN], postprocessing=[SIGMOID])
    archive = zip_package(folder)                                          # tiny.zip beside it

What is made
------------
A folder with `rdf.yaml` (format 0.5, every axis id written out), `weights.onnx`, `README.md`,
`cover.png` and one `test_<tensor id>.npy` per tensor, sha256 of each declared. The description has
been accepted by bioimageio.spec before the function returns, and the test outputs are what the
network gives (the halo is not cropped), pre- and postprocessing included.

Tensor ids are `raw`, `raw1`, ... and `prediction`, `prediction1`, ...

The networks
------------
"blur" (default): a box filter of `kernel` pixels per space axis with zeros beyond the border, over
the mean of all inputs; output channel c (of output tensor k) is the mean of the input channels
times (c + 1) * (k + 1). Its receptive field is known exactly, kernel // 2 pixels to each side, so
tiles with halo >= kernel // 2 equal the whole image.
"pointwise": 2 * x + 1 (k + 1 times for output k); the channels stay, no context.
With `valid=True` the blur crops itself: the output has `offset` -(kernel - 1) and no halo.
With `scale=2` the output has half the pixels (axis scale 2), with `scale=0.5` twice as many.
With `fixed_batch=True` the ONNX graph and the description take batches of one only.
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

LETTERS = {"b": "batch", "t": "time", "c": "channel", "z": "z", "y": "y", "x": "x", "i": "index"}

ENSURE_FLOAT: dict[str, Any] = {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}
ZERO_MEAN: dict[str, Any] = {
    "id": "zero_mean_unit_variance",
    "kwargs": {"axes": ["channel", "y", "x"], "eps": 1e-6},
}
SIGMOID: dict[str, Any] = {"id": "sigmoid"}

Size = int | tuple[int, int]


def make_package(
    folder: Path,
    *,
    id: str | None = "tiny",
    name: str = "Tiny blur",
    version: str | None = "1.0",
    axes: str = "bcyx",
    size: Size | Mapping[str, Size] = (8, 4),
    test_size: int | Mapping[str, int] | None = None,
    channels: int = 1,
    out_channels: int = 1,
    halo: int | Mapping[str, int] = 0,
    network: str = "blur",
    kernel: int = 3,
    valid: bool = False,
    scale: float = 1,
    fixed_batch: bool = False,
    inputs: int = 1,
    outputs: int = 1,
    dtype: str = "float32",
    preprocessing: Sequence[Mapping[str, Any]] = (),
    postprocessing: Sequence[Mapping[str, Any]] = (),
    pixel_size: Mapping[str, float] | None = None,
    channel_names: Sequence[str] | None = None,
    config: Mapping[str, Any] | None = None,
    tags: Sequence[str] = ("nuclei", "segmentation"),
    fields: Mapping[str, Any] | None = None,
    seed: int = 0,
    validate: bool = True,
) -> Path:
    """Write a tiny package into `folder` and return it.

    Parameters
    ----------
    id, name, version, tags
        Of the description; `id=None` and `version=None` leave the field out.
    axes
        Letters of all tensors' axes in order, any order: b t c z y x. `c` left out means the
        tensors have no channel axis, `b` left out no batch axis.
    size
        Of the space (and time) axes: N fixed, (min, step), or one of those per axis letter.
    test_size
        Pixels of the test tensors; default the fixed size, or min + 2 * step.
    halo
        Of the output, per side, in output pixels; per axis letter or for every space axis.
    dtype
        Of the test input and the declared data type. Where it is not float32, `ensure_dtype` to
        float32 is the first preprocessing step, as the network computes in float32.
    preprocessing, postprocessing
        Steps as in the description; the same for each tensor.
    pixel_size
        Axis letter -> micrometres, written as the axes' scale and unit.
    config, fields
        `config` of the description, and any other top-level fields (they replace what is there).
    validate
        False skips bioimageio.spec (1 s to import) where the description itself is not the point.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    space = [a for a in axes if a in "tzyx"]
    sizes: dict[str, Size] = (
        {a: size[a] for a in space} if isinstance(size, Mapping) else dict.fromkeys(space, size)
    )
    halos = dict(halo) if isinstance(halo, Mapping) else {a: halo for a in space if a != "t"}
    halos = {a: h for a, h in halos.items() if h}
    pixels = {
        a: test_size[a]
        if isinstance(test_size, Mapping)
        else test_size or (s if isinstance(s, int) else s[0] + 2 * s[1])
        for a, s in sizes.items()
    }
    in_ids = ["raw", *(f"raw{i}" for i in range(1, inputs))]
    out_ids = ["prediction", *(f"prediction{i}" for i in range(1, outputs))]
    if network == "pointwise":
        out_channels = channels
    if dtype != "float32" and not preprocessing:
        preprocessing = [ENSURE_FLOAT]

    graph = _network(
        axes, channels, out_channels, network, kernel, valid, scale, fixed_batch, in_ids, out_ids
    )
    (folder / "weights.onnx").write_bytes(graph)
    (folder / "README.md").write_text("# Tiny\n\nMade for tests.\n\n## Validation\n\nNone.\n")
    (folder / "cover.png").write_bytes(tiny_png())

    rng = np.random.default_rng(seed)
    counts = {"b": 1, "c": channels, **pixels}
    shape = tuple(counts[a] for a in axes)
    high = 255 if np.dtype(dtype).kind in "ui" else 1
    tensors = {i: (rng.random(shape) * high).astype(dtype) for i in in_ids}
    for tensor_id, array in tensors.items():
        np.save(folder / f"test_{tensor_id}.npy", array)

    rdf = _description(
        folder, id, name, version, axes, sizes, channels, out_channels, halos, kernel, valid,
        scale, fixed_batch, in_ids, out_ids, dtype, preprocessing, postprocessing, pixel_size or {},
        channel_names, tags,
    )  # fmt: skip
    rdf["config"] = dict(config or {})
    for tensor_id, array in _expected(graph, rdf, tensors, axes, out_ids).items():
        np.save(folder / f"test_{tensor_id}.npy", array)
    for output in rdf["outputs"]:
        output["test_tensor"] = _file(folder, output["test_tensor"]["source"])
    rdf.update(fields or {})
    write_rdf(folder, rdf)
    if validate:
        _validate(folder, rdf)
    return folder


def read_rdf(folder: Path) -> dict[str, Any]:
    """The raw description of a package folder."""
    content: dict[str, Any] = yaml.safe_load((folder / "rdf.yaml").read_text())
    return content


def write_rdf(folder: Path, rdf: Mapping[str, Any]) -> None:
    """Write a raw description, valid or not."""
    (folder / "rdf.yaml").write_text(yaml.safe_dump(dict(rdf), sort_keys=False))


def change_rdf(folder: Path, **fields: Any) -> None:
    """Replace top-level fields of a description; None takes the field away."""
    rdf = read_rdf(folder) | fields
    write_rdf(folder, {k: v for k, v in rdf.items() if v is not None})


def zip_package(folder: Path, path: Path | None = None, *, top: str = "") -> Path:
    """Zip a package folder, flat or below one folder `top`."""
    path = path or folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, f"{top}/{file.relative_to(folder)}".lstrip("/"))
    return path


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tiny_png(width: int = 16, height: int = 8) -> bytes:
    """A valid gray PNG (2:1, as covers are)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + bytes(range(0, 8 * width, 8)) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


# ---------------------------------------------------------------------------------------- network


def _network(
    axes: str,
    channels: int,
    out_channels: int,
    network: str,
    kernel: int,
    valid: bool,
    scale: float,
    fixed_batch: bool,
    in_ids: list[str],
    out_ids: list[str],
) -> bytes:
    """A serialized ONNX graph with float32 inputs and outputs in the order `axes`."""
    from onnx import TensorProto, checker, helper, numpy_helper

    space = [a for a in axes if a in "tzyx"]
    inner = ["b", "c", *space]  # the order Conv wants
    nodes: list[Any] = []
    constants: dict[str, np.ndarray] = {}

    def add(op: str, sources: list[str], target: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, sources, [target], **attributes))
        return target

    def const(label: str, value: np.ndarray) -> str:
        constants[label] = value
        return label

    mean = in_ids[0]
    if len(in_ids) > 1:
        mean = add("Mean", in_ids, "mean_of_inputs")
    if network == "pointwise":
        doubled = add("Mul", [mean, const("two", _floats([2]))], "doubled")
        base = add("Add", [doubled, const("one", _floats([1]))], "plus_one")
    elif network == "blur":
        present = [a for a in inner if a in axes]
        base = add("Transpose", [mean], "ordered", perm=[axes.index(a) for a in present])
        missing = [i for i, a in enumerate(inner) if a not in axes]
        if missing:
            base = add("Unsqueeze", [base, const("missing", np.array(missing, np.int64))], "full")
        window = [1 if a == "t" else kernel for a in space]
        weight = np.ones((out_channels, channels, *window), np.float32)
        weight *= _floats(range(1, out_channels + 1)).reshape(-1, *[1] * (weight.ndim - 1))
        weight /= channels * np.prod(window)
        pads = [0 if valid or a == "t" else kernel // 2 for a in space]
        base = add("Conv", [base, const("weight", weight)], "blurred", pads=pads * 2)
        steps = [1 if a == "t" else int(scale) for a in space]
        if scale > 1:
            base = add("AveragePool", [base], "pooled", kernel_shape=steps, strides=steps)
        elif scale < 1:
            factors = _floats([1, 1, *(1 if a == "t" else 1 / scale for a in space)])
            base = add(
                "Resize",
                [base, "", const("factors", factors)],
                "enlarged",
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        if missing:
            base = add("Squeeze", [base, "missing"], "squeezed")
        base = add("Transpose", [base], "back", perm=[present.index(a) for a in axes])
    else:
        raise ValueError(f"unknown network {network!r}")
    for k, target in enumerate(out_ids):
        add("Mul", [base, const(f"gain{k}", _floats([k + 1]))], target)

    def value(tensor_id: str, count: int) -> Any:
        counts: dict[str, int | str] = {"c": count, "b": 1 if fixed_batch else "b"}
        dims = [counts.get(a, f"{tensor_id}_{a}") for a in axes]
        return helper.make_tensor_value_info(tensor_id, TensorProto.FLOAT, dims)

    graph = helper.make_graph(
        nodes,
        "tiny",
        [value(i, channels) for i in in_ids],
        [value(i, out_channels) for i in out_ids],
        [numpy_helper.from_array(np.asarray(v), label) for label, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized


def _floats(values: Iterable[float]) -> np.ndarray:
    return np.array(list(values), np.float32)


# ------------------------------------------------------------------------------------ description


def _file(folder: Path, name: str) -> dict[str, str]:
    return {"source": name, "sha256": sha256(folder / name)}


def _description(
    folder: Path,
    id: str | None,
    name: str,
    version: str | None,
    axes: str,
    sizes: Mapping[str, Size],
    channels: int,
    out_channels: int,
    halos: Mapping[str, int],
    kernel: int,
    valid: bool,
    scale: float,
    fixed_batch: bool,
    in_ids: list[str],
    out_ids: list[str],
    dtype: str,
    preprocessing: Sequence[Mapping[str, Any]],
    postprocessing: Sequence[Mapping[str, Any]],
    pixel_size: Mapping[str, float],
    channel_names: Sequence[str] | None,
    tags: Sequence[str],
) -> dict[str, Any]:
    def axis(letter: str, count: int, names: Sequence[str] | None) -> dict[str, Any]:
        if letter == "b":
            batch: dict[str, Any] = {"type": "batch", "id": "batch"}
            return batch | ({"size": 1} if fixed_batch else {})
        if letter == "c":
            labels = list(names or [f"channel{i}" for i in range(count)])
            return {"type": "channel", "id": "channel", "channel_names": labels}
        made: dict[str, Any] = {"type": "time" if letter == "t" else "space", "id": LETTERS[letter]}
        if letter in pixel_size:
            made |= {"scale": pixel_size[letter], "unit": "micrometer"}
        return made

    def input_axis(letter: str) -> dict[str, Any]:
        made = axis(letter, channels, channel_names)
        if letter in sizes:
            wanted = sizes[letter]
            made["size"] = (
                wanted if isinstance(wanted, int) else {"min": wanted[0], "step": wanted[1]}
            )
        return made

    def output_axis(letter: str) -> dict[str, Any]:
        made = axis(letter, out_channels, None)
        if letter in sizes:
            made["size"] = {"tensor_id": in_ids[0], "axis_id": LETTERS[letter]}
            if letter != "t":
                if valid:
                    made["size"]["offset"] = -(kernel - 1)
                if scale != 1:
                    made["scale"] = made.get("scale", 1.0) * scale
            if letter in halos:
                made["halo"] = halos[letter]
        return made

    rdf: dict[str, Any] = {
        "type": "model",
        "format_version": "0.5.4",
        "id": id,
        "name": name,
        "version": version,
        "description": "A box filter, made for tests.",
        "authors": [{"name": "Test Author", "affiliation": "Test Institute"}],
        "cite": [{"text": "None, made for tests.", "url": "https://example.com/"}],
        "license": "BSD-3-Clause",
        "tags": list(tags),
        "timestamp": "2026-01-01T00:00:00+00:00",
        "documentation": "README.md",
        "covers": ["cover.png"],
        "inputs": [
            {
                "id": i,
                "description": "grey values",
                "axes": [input_axis(a) for a in axes],
                "data": {"type": dtype},
                "preprocessing": [dict(step) for step in preprocessing],
                "test_tensor": _file(folder, f"test_{i}.npy"),
            }
            for i in in_ids
        ],
        "outputs": [
            {
                "id": i,
                "description": "blurred grey values",
                "axes": [output_axis(a) for a in axes],
                "data": {"type": "float32"},
                "postprocessing": [dict(step) for step in postprocessing],
                "test_tensor": {"source": f"test_{i}.npy"},
            }
            for i in out_ids
        ],
        "weights": {"onnx": {**_file(folder, "weights.onnx"), "opset_version": 18}},
    }
    return {k: v for k, v in rdf.items() if v is not None}


def _validate(folder: Path, rdf: Mapping[str, Any]) -> None:
    """Refuse to hand out a package that bioimageio.spec would not take."""
    from bioimageio.spec import ValidationContext
    from bioimageio.spec.model.v0_5 import ModelDescr

    context = ValidationContext(root=folder, perform_io_checks=False, log_warnings=False)
    descr = ModelDescr.load(dict(rdf), context=context)
    if not isinstance(descr, ModelDescr):
        raise AssertionError(descr.validation_summary.format())


# ---------------------------------------------------------------------------------- test tensors


def _expected(
    graph: bytes,
    rdf: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    axes: str,
    out_ids: list[str],
) -> dict[str, np.ndarray]:
    """What the package gives for its test inputs, by onnx's own reference evaluator."""
    from onnx import load_model_from_string
    from onnx.reference import ReferenceEvaluator

    feeds = {}
    for tensor in rdf["inputs"]:
        array = tensors[tensor["id"]]
        for step in tensor["preprocessing"]:
            array = _apply(step, array, axes)
        feeds[tensor["id"]] = array.astype("float32")
    results = ReferenceEvaluator(load_model_from_string(graph)).run(out_ids, feeds)
    made = {}
    for tensor, result in zip(rdf["outputs"], results, strict=True):
        for step in tensor["postprocessing"]:
            result = _apply(step, result, axes)
        made[tensor["id"]] = np.asarray(result)
    return made


def _apply(step: Mapping[str, Any], array: np.ndarray, axes: str) -> np.ndarray:
    """One pre- or postprocessing step, in the plainest numpy; only what tests use."""
    return np.asarray(_applied(step, array, axes))


def _applied(step: Mapping[str, Any], array: np.ndarray, axes: str) -> Any:
    kwargs = step.get("kwargs", {})
    names = [LETTERS[a] for a in axes]
    over = tuple(i for i, name in enumerate(names) if name in kwargs.get("axes", names))
    if step["id"] == "ensure_dtype":
        return array.astype(kwargs["dtype"])
    if step["id"] == "scale_linear":
        gain, offset = np.float32(kwargs.get("gain", 1)), np.float32(kwargs.get("offset", 0))
        return array.astype("float32") * gain + offset
    if step["id"] == "zero_mean_unit_variance":
        data = array.astype("float32")
        mean, std = data.mean(over, keepdims=True), data.std(over, keepdims=True)
        return (data - mean) / (std + np.float32(kwargs.get("eps", 1e-6)))
    if step["id"] == "scale_range":
        low, high = np.percentile(
            array,
            [kwargs.get("min_percentile", 0.0), kwargs.get("max_percentile", 100.0)],
            axis=over,
            keepdims=True,
        )
        scaled = (array - low) / (high - low + kwargs.get("eps", 1e-6))
        return np.asarray(scaled, dtype="float32")
    if step["id"] == "sigmoid":
        return 1 / (1 + np.exp(-array))
    if step["id"] == "softmax":
        axis = names.index(kwargs.get("axis", "channel"))
        exp = np.exp(array - array.max(axis, keepdims=True))
        return np.asarray(exp / exp.sum(axis, keepdims=True))
    if step["id"] == "clip":
        return np.clip(array, kwargs.get("min"), kwargs.get("max"))
    if step["id"] == "binarize":
        return (array > kwargs["threshold"]).astype("float32")
    raise ValueError(f"the factory computes no test tensor for step {step['id']!r}")
