"""TorchScript weights for the tiny packages of `packages.py`, which compute what their ONNX does.

    folder = add_torchscript(make_package(tmp_path / "tiny"))               # both formats
    folder = add_torchscript(make_package(tmp_path / "tiny"), only=True)    # torchscript alone

The ONNX graph is walked node by node in torch and traced, so every axis order, box filter, scale
and number of tensors of the factory has its TorchScript twin, at every size.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packages import change_rdf, read_rdf, sha256


def add_torchscript(
    folder: Path, name: str = "weights.pt", *, only: bool = False, frozen: bool = False
) -> Path:
    """Write the TorchScript twin of a package's ONNX weights, declare it, return the folder.

    Parameters
    ----------
    name
        The file's name in the package.
    only
        Whether the ONNX weights are taken out.
    frozen
        Whether the weights are constants of the code, as torch.jit.freeze leaves them.
    """
    import numpy as np
    import torch

    network = twin(folder / "weights.onnx")
    example = tuple(
        torch.from_numpy(np.load(folder / f"test_{tensor['id']}.npy").astype("float32"))
        for tensor in read_rdf(folder)["inputs"]
    )
    save_torchscript(network, folder / name, example=example, frozen=frozen)
    weights = {} if only else read_rdf(folder)["weights"]
    if only:
        (folder / "weights.onnx").unlink()
    weights["torchscript"] = {
        "source": name,
        "sha256": sha256(folder / name),
        "pytorch_version": torch.__version__.partition("+")[0],
    }
    change_rdf(folder, weights=weights)
    return folder


def save_torchscript(
    network: Any, path: Path, *, example: tuple[Any, ...] = (), frozen: bool = False
) -> Path:
    """A module as a TorchScript archive: traced with `example`, else compiled."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript at each of these
        made = torch.jit.trace(network.eval(), example) if example else torch.jit.script(network)
        if frozen and example:
            made = torch.jit.freeze(made)
        torch.jit.save(made, str(path))
    return path


def twin(graph: Path) -> Any:
    """A torch module that computes what an ONNX graph of `packages.py` computes."""
    import onnx
    import torch
    from onnx import numpy_helper

    model = onnx.load(graph)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}

    class Twin(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for label, value in constants.items():
                if value.dtype == "float32":
                    parameter = torch.nn.Parameter(torch.tensor(value), requires_grad=False)
                    self.register_parameter(f"of_{label}", parameter)

        def forward(self, *tensors: Any) -> Any:
            known = dict(zip((i.name for i in model.graph.input), tensors, strict=True))
            weights = {label: getattr(self, f"of_{label}", None) for label in constants}
            for node in model.graph.node:
                given = [known.get(n, weights.get(n)) for n in node.input]
                plain = [constants.get(n) for n in node.input]
                known[node.output[0]] = _apply(node, given, plain)
            made = tuple(known[o.name] for o in model.graph.output)
            return made if len(made) > 1 else made[0]

    return Twin()


def _apply(node: Any, given: list[Any], plain: list[Any]) -> Any:
    """One node in torch; only what the factory makes."""
    import torch
    import torch.nn.functional as F
    from onnx import helper

    options: Mapping[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    first = given[0]
    match node.op_type:
        case "Mean":
            return torch.stack(given).mean(0)
        case "Mul":
            return first * given[1]
        case "Add":
            return first + given[1]
        case "Transpose":
            return first.permute(*options["perm"])
        case "Unsqueeze":
            for axis in plain[1]:
                first = first.unsqueeze(int(axis))
            return first
        case "Squeeze":
            for axis in reversed(plain[1]):
                first = first.squeeze(int(axis))
            return first
        case "Conv":
            space = given[1].dim() - 2
            convolve = (F.conv1d, F.conv2d, F.conv3d)[space - 1]
            return convolve(first, given[1], padding=list(options["pads"][:space]))
        case "AveragePool":
            space = len(options["kernel_shape"])
            pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[space - 1]
            return pool(first, list(options["kernel_shape"]), list(options["strides"]))
        case "Resize":
            factors = [float(f) for f in plain[2][2:]]
            return F.interpolate(first, scale_factor=factors, mode="nearest")
        case other:
            raise ValueError(f"the factory of TorchScript twins knows no {other}")
