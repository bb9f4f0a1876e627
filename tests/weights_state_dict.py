"""Tiny packages whose weights are a PyTorch state dict with its author's architecture.

    folder = add_state_dict(make_package(tmp_path / "tiny"))          # the same blur, in torch
    folder = add_state_dict(make_package(tmp_path / "p", channels=2, outputs=2))
    folder = add_state_dict(make_package(tmp_path / "p"), text=MY_SOURCE, state=my_tensors)
    folder = add_state_dict(make_package(tmp_path / "p"), library="torch.nn", callable="Identity",
                            kwargs={}, state={})

`weights.onnx` is taken out of the description unless `keep_onnx`, so that the package runs by its
author's code alone; the test tensors stay what they were. Hashes are declared. torch is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packages import read_rdf, sha256, write_rdf

#: The box filter of `packages.make_package`; inputs are averaged, output k is (k + 1) times.
BLUR = '''\
"""A box filter, made for tests."""

import torch
from torch import nn


class Blur(nn.Module):
    def __init__(self, channels=1, out_channels=1, kernel=3, dims=2, outputs=1):
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
        self.conv = conv(channels, out_channels, kernel, padding=kernel // 2, bias=False)
        self.outputs = outputs

    def forward(self, *images):
        given = [image for image in images if image is not None]
        made = self.conv(torch.stack(given).mean(0))
        many = tuple(made * (k + 1) for k in range(self.outputs))
        return many if self.outputs > 1 else many[0]
'''


def add_state_dict(
    folder: Path,
    *,
    text: str = BLUR,
    source: str = "network.py",
    library: str | None = None,
    callable: str = "Blur",
    kwargs: Mapping[str, Any] | None = None,
    state: Any = None,
    weights: str = "weights.pt",
    strict: bool = True,
    keep_onnx: bool = False,
) -> Path:
    """Give a package of `make_package` the weights ``pytorch_state_dict``; returns its folder.

    Parameters
    ----------
    text, source
        The architecture file and its name.
    library
        A module to import the architecture from in place of a file.
    kwargs
        Default: those with which `Blur` is the package's own network (axes b, c, then space).
    state
        What is saved; bytes are written as they are. Default: the blur's own weights.
    weights
        File name; ``.safetensors`` is written in that format.
    """
    rdf = read_rdf(folder)
    blur = _blur_of(rdf)
    kwargs = blur if kwargs is None else dict(kwargs)
    save(folder / weights, blur_state(**blur) if state is None else state)
    architecture: dict[str, Any] = {"callable": callable, "kwargs": dict(kwargs)}
    if library is None:
        (folder / source).write_text(text, encoding="utf-8")
        architecture |= {"source": source, "sha256": sha256(folder / source)}
    else:
        architecture |= {"import_from": library}
    entry = {
        "source": weights,
        "sha256": sha256(folder / weights),
        "architecture": architecture,
        "pytorch_version": "2.6",
    }
    if not strict:
        entry["strict"] = False
    kept = rdf["weights"] if keep_onnx else {}
    write_rdf(folder, rdf | {"weights": {**kept, "pytorch_state_dict": entry}})
    return folder


def blur_state(
    channels: int = 1, out_channels: int = 1, kernel: int = 3, dims: int = 2, outputs: int = 1
) -> dict[str, Any]:
    """The weights with which `Blur` is the box filter of `make_package`."""
    import torch

    window = [kernel] * dims
    weight = torch.ones(out_channels, channels, *window) / (channels * kernel**dims)
    gains = torch.arange(1, out_channels + 1).reshape(-1, *[1] * (dims + 1))
    return {"conv.weight": weight * gains}


def save(path: Path, state: Any) -> None:
    """Write a weights file."""
    import torch

    if isinstance(state, bytes):
        path.write_bytes(state)
    elif path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save(state, path)


def _blur_of(rdf: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `Blur` for a description of `make_package` (kernel 3)."""

    def channels(tensor: Mapping[str, Any]) -> int:
        return next(len(a["channel_names"]) for a in tensor["axes"] if a["type"] == "channel")

    made, given = rdf["outputs"], rdf["inputs"]
    return {
        "channels": channels(given[0]),
        "out_channels": channels(made[0]),
        "kernel": 3,
        "dims": sum(a["type"] == "space" for a in given[0]["axes"]),
        "outputs": len(made),
    }
