"""Networks to TorchScript: written only when asked for, as torch 2.14 gives TorchScript up.

What a state dict is built with is its author's code: it is compiled or traced in the confined child
that also runs it. The archive is written anew without its debug records, which hold the paths and
the source lines of the machine where it was made.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from biozoo.errors import NetworkError
from biozoo.install import install_line
from biozoo_runners.base import Availability
from biozoo_runners.devices import importable

from .base import Attempt, Converter, Job

if TYPE_CHECKING:
    from ..networks.network import Network

__all__ = ["NAME", "NOTE", "STRATEGIES", "TorchToTorchScript", "script", "torchscript_attempts"]

#: The weights' file in a package.
NAME = "weights.torchscript.pt"

#: Compiling keeps Python's control flow; tracing takes what the compiler does not know.
STRATEGIES = ("script", "trace")

NOTE = (
    "TorchScript is deprecated since torch 2.14 and only old programs need it: ONNX weights last "
    "longer (zoo convert MODEL --to onnx)."
)


def torchscript_attempts(
    network: Network, inputs: Sequence[npt.NDArray[Any]], *, name: str = NAME
) -> Iterator[Attempt]:
    """Attempts for a network whose module is in this process (`Network.module`).

    Parameters
    ----------
    network
        What is compiled or traced; there are no attempts where it has no module.
    inputs
        One array per input, axes as described.
    name
        The weights' file in the package.
    """
    module = network.module
    for strategy in STRATEGIES if module is not None else ():
        yield Attempt(strategy, partial(_written, partial(script, module, inputs), strategy, name))


def script(module: Any, inputs: Sequence[npt.NDArray[Any]], strategy: str) -> bytes:
    """A module as a TorchScript archive.

    Parameters
    ----------
    module
        A `torch.nn.Module` in evaluation mode.
    inputs
        One array per input, for tracing.
    strategy
        One of `STRATEGIES`.

    Raises
    ------
    NetworkError
        It cannot be compiled or traced.
    """
    import torch

    given = tuple(torch.from_numpy(np.array(a)) for a in inputs)
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript at each of these
        try:
            if isinstance(module, torch.jit.ScriptModule):
                made = module
            elif strategy == "script":
                made = torch.jit.script(module)
            else:
                trace: Any = torch.jit.trace
                made = trace(module, given, check_trace=False, strict=False)
            torch.jit.save(made, file)
        except Exception as exc:  # the compiler's own, and whatever the module raises
            lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
            raise NetworkError(
                f"torch.jit.{strategy} does not manage: {' '.join(lines[:2])[:400]}"
            ) from exc
    return _without_debug(torch, file.getvalue())


def _without_debug(torch: Any, archive: bytes) -> bytes:
    """The same archive without the records that only serve tracebacks."""
    reader = torch._C.PyTorchFileReader(io.BytesIO(archive))
    out = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(out)
    for record in reader.get_all_records():
        if not record.endswith(".debug_pkl") and record not in _BY_WRITER:
            content = reader.get_record(record)
            writer.write_record(record, content, len(content))
    writer.write_end_of_file()
    return out.getvalue()


#: Records that the writer makes itself.
_BY_WRITER = ("version", "byteorder", ".data/serialization_id", ".format_version")


def _written(
    make: Callable[[str], bytes], strategy: str, name: str, folder: Path
) -> dict[str, Any]:
    from importlib.metadata import version

    content = make(strategy)
    (folder / name).write_bytes(content)
    return {
        "source": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "pytorch_version": version("torch").partition("+")[0],
    }


class TorchToTorchScript(Converter):
    """PyTorch state dicts to TorchScript."""

    name: ClassVar[str] = "torch-torchscript"
    sources: ClassVar[tuple[str, ...]] = ("pytorch_state_dict",)
    target: ClassVar[str] = "torchscript"
    note: ClassVar[str] = NOTE

    @classmethod
    def available(cls) -> Availability:
        """Whether torch is installed."""
        ok = importable("torch")
        reason = "" if ok else "torch is not installed"
        return Availability(ok, reason, ("cpu",), install_line("torch"))

    @classmethod
    def attempts(cls, job: Job) -> Iterable[Attempt]:
        """Compiled, then traced, in a confined child."""
        from biozoo_runners.base import described
        from biozoo_runners.devices import usable_cores
        from biozoo_runners.isolated.client import Child, ForeignError
        from biozoo_runners.state_dict import StateDictBackend

        threads = usable_cores()[1]
        request = StateDictBackend.request(job.package, job.source, device="cpu", threads=threads)
        ids = described(job.package)
        inputs = [job.inputs[i] for i in ids["input_ids"] if i in job.inputs]
        facts = {**request.facts, "device": "cpu", "threads": threads}
        facts |= {"input_ids": list(ids["input_ids"]), "output_ids": list(ids["output_ids"])}

        def make(child: Child, strategy: str) -> bytes:
            asked = np.frombuffer(json.dumps({"strategy": strategy}).encode(), np.uint8)
            try:
                return child.run([asked, *inputs])[0].tobytes()
            except ForeignError as exc:
                text = exc.text if exc.kind == "NotFitting" else f"{exc.kind}: {exc.text}"
                raise NetworkError(text) from exc

        with Child.start(
            "biozoo_converters.executors.script_code:ScriptCode",
            facts,
            model=job.package.id,
            doing=f"make TorchScript of its weights {request.weights_name}",
            threads=threads,
            readable=request.readable,
        ) as child:
            for strategy in STRATEGIES:
                yield Attempt(strategy, partial(_written, partial(make, child), strategy, NAME))
