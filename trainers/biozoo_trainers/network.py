"""The network of a package as a torch module that can be trained, checked against the package.

    net = differentiable(package, recipe)
    logits = net.module(patches)                      # b c y x -> b c y x

Three kinds of weights can be the start: ONNX (by `biozoo_converters.to_module`), TorchScript, and a
state dict whose architecture's code was allowed (`biozoo.consent`); that code then runs in this
process. Before anything is trained the module is compared with what the runner executes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from biozoo.errors import BiozooError, MissingDependencyError, NotTrainableError
from biozoo.install import install_line

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_converters.proof.certificate import FormatProof
    from biozoo_runners.pipeline import Runner

    from .recipe import Recipe

__all__ = ["Differentiable", "differentiable", "runner_of"]


@dataclass(frozen=True)
class Differentiable:
    """A package's network, ready to be trained.

    Attributes
    ----------
    module
        `torch.nn.Module`. In: float32 (b c, then the spatial axes of the input in their order),
        preprocessed. Out: the LOGITS of the target output, float32 (b c, the same spatial axes):
        the numbers before its activation, or what undoes it.
    network
        `torch.nn.Module` as the description has it: one tensor per input, the activation in place,
        one tensor or a tuple of all outputs. It shares its parameters with `module`.
    weights_format
        The entry of the description's weights that the trained values replace.
    proof
        The comparison with the package's own weights as the runner executes them.
    notes
        What a person should know: how the activation was taken off, what was tried before.
    """

    module: Any
    network: Any
    weights_format: str
    proof: FormatProof
    notes: tuple[str, ...] = field(default=())

    def module_for_export(self) -> Any:
        """`network`, in evaluation mode on the CPU."""
        return self.network.cpu().eval()


def differentiable(package: ModelPackage, recipe: Recipe) -> Differentiable:
    """The first of the recipe's weights formats that gives a module equal to the package.

    Raises
    ------
    NotTrainableError
        The recipe says no, or no format gives a module; says why for each.
    MissingDependencyError
        A library for all that is left to try is not installed.
    """
    if recipe.trainable == "no":
        raise NotTrainableError(model=package.id, why=recipe.why)
    import_torch()
    have = [f for f in recipe.weights if f in package.summary.weights]
    if not have:
        listed = ", ".join(package.summary.weights) or "none"
        raise NotTrainableError(
            model=package.id,
            why=f"its weights are {listed}, of which none can be trained "
            f"(those that can: {', '.join(recipe.weights)})",
        )
    tried: dict[str, str] = {}
    absent: MissingDependencyError | None = None
    for weights_format in have:
        try:
            network, proof = _opened(package, weights_format)
            module, note = _with_logits(package, recipe, network)
        except MissingDependencyError as exc:
            absent = absent or exc
            tried[weights_format] = first_line(exc)
        except BiozooError as exc:
            tried[weights_format] = first_line(exc)
        else:
            notes = [f"{f} weights were not used: {why}" for f, why in tried.items()]
            return Differentiable(module, network, weights_format, proof, (*notes, *note))
    if absent is not None and len(tried) == 1:
        raise absent
    why = "; ".join(f"{f}: {w.rstrip('.')}" for f, w in tried.items())
    raise NotTrainableError(model=package.id, why=why)


def runner_of(package: ModelPackage, network: Any, *, device: str = "cpu") -> Runner:
    """A runner of the package that executes this network in place of its weights.

    What surrounds the network (tiles, statistics, processing, objects) is the package's.

    Parameters
    ----------
    network
        As `Differentiable.network`.
    device
        A torch device; the network is moved there.
    """
    from biozoo_runners.pipeline import Runner

    from .module_backend import ModuleBackend

    return Runner(package, ModuleBackend(package, network, device=device))


def import_torch() -> Any:
    """Torch, or the sentence that says how to get it."""
    try:
        import torch
    except ImportError as exc:
        raise MissingDependencyError(
            what="Retraining", library="torch", install=install_line("train")
        ) from exc
    return torch


# ------------------------------------------------------------------------------- weights formats


def _opened(package: ModelPackage, weights_format: str) -> tuple[Any, FormatProof]:
    """The network with tensors as described, and its proof.

    Raises
    ------
    BiozooError
        It cannot be had, or gives other results.
    """
    if weights_format == "onnx":
        from biozoo_converters import to_module

        return to_module(package)
    from biozoo_converters.networks.opening import open_weights
    from biozoo_converters.proof.prove import prove, remembered

    from .module_backend import ModuleBackend

    with open_weights(package, weights_format) as backend:
        made = _script(package) if weights_format == "torchscript" else _built(package)
        network = in_order(made, package)
        proof = prove(
            package,
            remembered(backend),
            weights_format,
            strategy="torch module",
            candidate=ModuleBackend(package, network),
        )
    if not proof.ok:
        raise _refused(package, f"as a module it gives other results ({proof.fault})")
    return network, proof


def _script(package: ModelPackage) -> Any:
    """The TorchScript archive, looked at before it is loaded; its parameters may change."""
    from biozoo_converters.networks.torchscript_network import open_torchscript

    path = package.path(package.raw["weights"]["torchscript"]["source"])
    module = open_torchscript(path).module
    count = 0
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
        count += 1
    if not count:
        raise _refused(package, "the archive was frozen: its weights are constants of the code")
    return module


def _built(package: ModelPackage) -> Any:
    """The network that the package's own code builds: only where that was allowed."""
    from biozoo.consent import require
    from biozoo_converters.networks.torch_building import build

    item = next(i for i in require(package) if i.weights == "pytorch_state_dict")
    entry = package.raw["weights"]["pytorch_state_dict"]
    return build(
        item.module or item.source,
        item.callable,
        dict(item.kwargs),
        root=package.root,
        weights=package.path(entry["source"]),
        strict=entry.get("strict", True) is not False,
    ).module


def in_order(module: Any, package: ModelPackage) -> Any:
    """A module whose outputs are a tensor or a tuple, in the order of the description."""
    import torch

    from biozoo_converters.networks.returned import flat
    from biozoo_runners.base import described

    wanted = described(package)["output_ids"]

    class InOrder(torch.nn.Module):
        """A network that gives what its description lists."""

        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def forward(self, *tensors: Any) -> Any:
            made = self.network(*tensors)
            if isinstance(made, torch.Tensor):
                return made
            named = dict(flat(made))
            values = list(named.values())
            if all(i in named for i in wanted):
                values = [named[i] for i in wanted]
            return tuple(values[: len(wanted)]) if len(wanted) > 1 else values[0]

    return InOrder(module).eval()


# ---------------------------------------------------------------------------------------- logits


def _with_logits(
    package: ModelPackage, recipe: Recipe, network: Any
) -> tuple[Any, tuple[str, ...]]:
    """The module that gives logits, and how, checked on the package's test input."""
    import torch

    from biozoo_converters.proof.setting import Setting

    from .logits import logits_module
    from .targets.base import make_target

    assert recipe.target is not None
    target = make_target(recipe.target.kind, recipe.target.options)
    real: Mapping[str, Any] = Setting.of(package).real
    assert recipe.patch is not None
    activation = target.activation_of(len(recipe.patch.size))
    module, notes = logits_module(package, recipe, network, activation, real)
    sample = torch.from_numpy(module.to_standard(real[recipe.input]))
    module.zero_grad(set_to_none=True)
    with torch.enable_grad():
        made = module(sample)
        if made.requires_grad:
            made.float().pow(2).mean().backward()
    grads = []
    for parameter in module.parameters():
        if parameter.grad is not None:
            grads.append(parameter.grad)
        else:  # of another output, or no number that can be moved
            parameter.requires_grad_(False)
    module.zero_grad(set_to_none=True)
    if not grads:
        raise _refused(package, f"no gradient of output '{recipe.output}' reaches a parameter")
    if not all(bool(torch.isfinite(g).all()) for g in grads):
        raise _refused(package, f"gradients of output '{recipe.output}' are not finite")
    return module, notes


def first_line(error: BaseException) -> str:
    """What an error says, on one line."""
    lines = (line.strip() for line in str(error).splitlines() if line.strip())
    return " ".join(lines)[:600]


def _refused(package: ModelPackage, why: str) -> NotTrainableError:
    return NotTrainableError(model=package.id, why=why)
