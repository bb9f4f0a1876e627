"""A torch module from a class or function of the author's, with a state dict loaded into it.

Every fault is told as one sentence to the author: which argument is missing, which tensors do not
fit, how weights are saved so that they may be loaded. Exceptions of the author's own code are told
with the line of that code.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biozoo.errors import NetworkError, OutOfMemoryError, closest
from biozoo.files import sha256_of
from biozoo_runners.base import ran_out_of_memory
from biozoo_runners.torch_devices import import_torch

from .author_code import imported, place_in, said

__all__ = ["SAVE_SAFELY", "Built", "build", "hash_of_state"]

#: How an author saves weights that anyone can load without running what is in them.
SAVE_SAFELY = (
    "Save the numbers alone: torch.save(model.state_dict(), 'weights.pt'), or "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
)


@dataclass(frozen=True)
class Built:
    """A network in evaluation mode.

    Attributes
    ----------
    module
        The `torch.nn.Module`, float32.
    sha256
        Of the weights file, or of the tensors that it was constructed with (`hash_of_state`).
    notes
        What the author should know: random weights, a prefix that was taken off, another precision.
    """

    module: Any
    sha256: str
    notes: tuple[str, ...] = ()


def build(
    place: str,
    name: str,
    kwargs: Mapping[str, Any],
    *,
    root: Path,
    weights: Path | None,
    strict: bool,
) -> Built:
    """The network that `name` of the file or module `place` makes; see `open_network`."""
    import_torch("Building a PyTorch network", extra="pack")
    who = f"{place}:{name}"
    with imported(place, root=root) as module:
        found = _attribute(module, name, place)
        network = _constructed(found, kwargs, who)
    notes = []
    if weights is None:
        sha256 = hash_of_state(network)
        if any(True for _ in network.parameters()):
            notes.append(
                "No weights were given: the network has the numbers it is constructed with "
                "(random ones, made with seed 0, unless its own code loads some)."
            )
    else:
        notes += _load(network, weights, strict=strict, who=who, kwargs=kwargs)
        sha256 = sha256_of(weights)
    network.eval()
    kinds = sorted({str(p.dtype).removeprefix("torch.") for p in _floating(network)})
    if other := [k for k in kinds if k != "float32"]:
        network.float()
        notes.append(f"Its {' and '.join(other)} numbers are computed with as float32.")
    return Built(network, sha256, tuple(notes))


def hash_of_state(network: Any) -> str:
    """sha256 over the names, types, shapes and values of all tensors, sorted by name."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(plain.view(torch.uint8).numpy().data if plain.numel() else b"")
    return digest.hexdigest()


def _floating(network: Any) -> list[Any]:
    tensors = [*network.parameters(), *network.buffers()]
    return [t for t in tensors if t.is_floating_point()]


# ------------------------------------------------------------------------------- the constructor


def _attribute(module: Any, name: str, place: str) -> Any:
    """What `name` (dots lead into classes) is in a module."""
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise NetworkError(
                f"{place} has no '{name}'.{_offered(module, name)} Name the class or function "
                f"that makes the network: {place}:NAME."
            )
        found = getattr(found, part)
    return found


def _offered(module: Any, name: str) -> str:
    import torch

    public = {n: v for n, v in vars(module).items() if not n.startswith("_")}
    own = [
        n
        for n, v in public.items()
        if (isinstance(v, type) and issubclass(v, torch.nn.Module))
        or (inspect.isfunction(v) and v.__module__ == module.__name__)
    ]
    by_lower = {n.lower(): n for n in own}
    near = [by_lower[n] for n in closest(name, by_lower)]
    if near:
        return f" Did you mean {' or '.join(near)}?"
    return f" It has {', '.join(own[:8])}{', ...' if len(own) > 8 else ''}." if own else ""


def _constructed(found: Any, kwargs: Mapping[str, Any], who: str) -> Any:
    """The network, constructed, on the CPU."""
    import torch

    found = _unwrapped(found)
    if isinstance(found, torch.nn.Module):
        if kwargs:
            raise NetworkError(
                f"{who} is a network already and takes no arguments ({', '.join(kwargs)}). Leave "
                "--kwargs out, or name its class."
            )
        return found.cpu()
    if not callable(found):
        raise NetworkError(
            f"{who} is {_kind(found)}, which makes no network. Name a class or function."
        )
    _check_arguments(found, kwargs, who)
    try:
        with torch.random.fork_rng(devices=[]):  # the same numbers each time it is packed
            torch.manual_seed(0)
            made = found(**kwargs)
    except Exception as exc:
        raise _author_error(exc, f"{who}({_shown(kwargs)})") from exc
    made = _unwrapped(made)
    if not isinstance(made, torch.nn.Module):
        raise NetworkError(
            f"{who} made {_kind(made)} and no torch.nn.Module. Name a class that derives from "
            "torch.nn.Module, or a function that returns one."
        )
    return made.cpu()


def _unwrapped(network: Any) -> Any:
    """The network itself where it is compiled (torch.compile) or spread over several cards."""
    import torch

    while True:
        if isinstance(network, torch.nn.DataParallel):
            network = network.module
        elif isinstance(network, torch.nn.Module) and hasattr(network, "_orig_mod"):
            network = network._orig_mod
        else:
            return network


def _check_arguments(found: Any, kwargs: Mapping[str, Any], who: str) -> None:
    try:
        parameters = inspect.signature(found).parameters
    except (TypeError, ValueError):  # written in C: calling it tells
        return
    named = {
        n: p
        for n, p in parameters.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY, p.POSITIONAL_ONLY)
    }
    more = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = [k for k in kwargs if k not in named]
    if unknown and not more:
        near = closest(unknown[0], named)
        offer = f" Did you mean {' or '.join(near)}?" if near else ""
        raise NetworkError(
            f"{who} takes no argument '{unknown[0]}'.{offer} It takes {', '.join(named) or 'none'}."
        )
    missing = [n for n, p in named.items() if p.default is p.empty and n not in kwargs]
    if missing:
        values = " ".join(f"{n}=VALUE" for n in missing)
        raise NetworkError(
            f"{who} needs {'an argument' if len(missing) == 1 else 'arguments'} that "
            f"{'was' if len(missing) == 1 else 'were'} not given: {', '.join(missing)}. "
            f"Add --kwargs {values}"
        )


def _author_error(exc: Exception, what: str) -> NetworkError | OutOfMemoryError:
    if ran_out_of_memory(exc):
        return OutOfMemoryError(f"{what} does not fit in memory ({said(exc)}).")
    where = place_in(exc)
    return NetworkError(
        f"{what} raised {type(exc).__name__}: {said(exc)}{f' ({where})' if where else ''}. Correct "
        "its arguments (--kwargs NAME=VALUE) or its code."
    )


def _shown(kwargs: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v!r}" for k, v in kwargs.items())[:300]


def _kind(value: Any) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


# ------------------------------------------------------------------------------------- weights


def _load(
    network: Any, path: Path, *, strict: bool, who: str, kwargs: Mapping[str, Any]
) -> list[str]:
    """Load a state dict; what was done to it beyond that, as notes."""
    from biozoo_runners.executors.torch_weights import load_into, read_state
    from biozoo_runners.isolated.executor import NotFitting

    from .weights_files import kind_of, refusal

    kind = kind_of(path)
    if kind not in ("state", "safetensors"):
        raise NetworkError(refusal(path, kind))
    try:
        state = read_state(path, network)
        state, notes = _without_prefix(state, network)
        load_into(network, state, strict=strict, what=who, kwargs=kwargs)
    except NotFitting as exc:
        raise NetworkError(_for_the_author(str(exc))) from exc
    except Exception as exc:
        if ran_out_of_memory(exc):
            raise OutOfMemoryError(f"'{path.name}' does not fit in memory ({said(exc)}).") from exc
        raise NetworkError(
            f"'{path.name}' cannot be loaded into {who}: {type(exc).__name__}: {said(exc)}. "
            f"{SAVE_SAFELY}."
        ) from exc
    if not strict and (left := _left(network, state)):
        notes.append(left)
    return notes


def _without_prefix(state: Any, network: Any) -> tuple[Any, list[str]]:
    """The tensors without a common first name ("model.", "_orig_mod."), where only that fits.

    Training frameworks and torch.compile wrap the network in a module of theirs. Tensors outside
    that wrapper (of a loss, say) are left out, which the note tells.
    """
    own = network.state_dict()
    if not own or any(k in own for k in state):
        return state, []
    first = next(iter(own))
    for key in state:
        prefix = key.removesuffix(first)
        if prefix == key or not prefix.endswith("."):
            continue
        inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if set(own) <= set(inside):
            rest = [k for k in state if not k.startswith(prefix)]
            outside = f"; {len(rest)} tensors of others were left ({rest[0]}, ...)" if rest else ""
            return inside, [f"Its tensors were stored below '{prefix}'{outside}."]
    return state, []


def _left(network: Any, state: Mapping[str, Any]) -> str:
    own = network.state_dict()
    missing, unknown = [k for k in own if k not in state], [k for k in state if k not in own]
    parts = []
    if missing:
        parts.append(f"{len(missing)} tensors were not in the weights ({missing[0]}, ...)")
    if unknown:
        parts.append(f"{len(unknown)} tensors are not in the network ({unknown[0]}, ...)")
    return f"Not strict: {', '.join(parts)}." if parts else ""


def _for_the_author(text: str) -> str:
    """The executor's sentence, which speaks to whoever got a package, to who makes one."""
    fault, found, _ = text.partition(" One of the two is not the described one")
    if found:
        fault = f"{fault[0].upper()}{fault[1:]}".replace(" ():", ":", 1)  # without arguments
        return (
            f"{fault} Give the arguments that it was trained with (--kwargs NAME=VALUE), or the "
            "weights of this network."
        )
    for end in ("Ask the package's author", "Run `zoo verify`"):
        fault, found, _ = text.partition(f" {end}")
        if found:
            return f"{fault} {SAVE_SAFELY}."
    return text
