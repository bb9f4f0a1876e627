"""Where a training runs: Lightning Fabric, with the device proven to work before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from biozoo.errors import MissingDependencyError, UsageError
from biozoo.install import install_line
from biozoo_runners.devices import usable_cores
from biozoo_runners.torch_devices import resolve

if TYPE_CHECKING:
    from .options import TrainOptions

__all__ = ["fabric_of", "threads_of"]


def threads_of(options: TrainOptions) -> int:
    """CPU threads of one operation."""
    return options.threads or usable_cores()[1]


def fabric_of(options: TrainOptions) -> Any:
    """A `lightning_fabric.Fabric`, not yet launched.

    Raises
    ------
    DeviceError
        The asked card cannot be used.
    MissingDependencyError
        Fabric is not installed.
    UsageError
        A number of devices below 1.
    """
    import torch

    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError as exc:
        raise MissingDependencyError(
            what="Retraining", library="lightning-fabric", install=install_line("train")
        ) from exc
    if options.devices < 1:
        raise UsageError(f"A training needs 1 device or more, not {options.devices}.")
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.devices > 1:
        # Forked, not started anew: a network that came from ONNX cannot be pickled.
        strategy = DDPStrategy(start_method="fork")
        return Fabric(
            accelerator="cuda" if device.startswith("cuda") else "cpu",
            devices=options.devices,
            strategy=strategy,
            precision=options.precision,
        )
    on = resolve(device, extra="train")
    return Fabric(
        accelerator=on.type,
        devices=[on.index or 0] if on.type == "cuda" else 1,
        precision=options.precision,
    )
