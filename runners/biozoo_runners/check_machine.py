"""The part of a check that needs no image: description, licence, weights, libraries, device.

What the author's code is about is in `check_trust`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from biozoo.errors import (
    BiozooError,
    DeviceError,
    InvalidPackageError,
    MissingDependencyError,
    UntrustedCodeError,
    UsageError,
)
from biozoo.files import size_text

from .check import CheckItem
from .devices import (
    cuda_index,
    installed,
    is_cuda,
    no_such_card,
    parse_device,
    what_to_do,
)
from .selection import Obstacle, Rejection, Selection, Wish, weigh

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

    from .devices import Machine


@dataclass(frozen=True, slots=True)
class Choice:
    """What would run.

    Attributes
    ----------
    wish
        What was asked for.
    chosen
        What runs; None where nothing does.
    otherwise
        What would run if the one obstacle were not there: `chosen` where there is none.
    rejected
        Every other candidate.
    fault, topic
        The wish itself cannot be met, as it names what does not exist; which part of it.
    """

    wish: Wish
    chosen: Selection | None = None
    otherwise: Selection | None = None
    rejected: tuple[Rejection, ...] = ()
    fault: BiozooError | None = None
    topic: str = "weights"

    @property
    def obstacles(self) -> set[Obstacle]:
        """What stands against a run, where nothing was chosen."""
        left = {r.obstacle for r in self.rejected} - {"asked", "later"}
        return left - {"backend"} or left if self.chosen is None else set()

    @property
    def asks_trust(self) -> bool:
        """Whether code that nobody has allowed is the one thing that stands against a run."""
        return self.obstacles == {"trust"}


def choose(package: ModelPackage, machine: Machine, wish: Wish) -> Choice:
    """Weigh the candidates, and find what would run without the one obstacle."""
    from biozoo.consent import is_trusted

    from .pipeline import known_backends

    known = known_backends()
    try:
        parse_device(wish.device)
    except UsageError as exc:
        return Choice(wish, fault=exc, topic="device")
    try:
        chosen, rejected = weigh(package, machine, wish, *known, trusted=is_trusted(package))
    except DeviceError as exc:
        otherwise = _on_any_device(package, machine, wish)
        return Choice(wish, otherwise=otherwise, fault=exc, topic="device")
    except BiozooError as exc:
        return Choice(wish, fault=exc)
    choice = Choice(wish, chosen, chosen, rejected)
    if choice.asks_trust:
        otherwise, _ = weigh(package, machine, wish, *known, trusted=True)
        return replace(choice, otherwise=otherwise)
    if choice.obstacles == {"device"}:
        return replace(choice, otherwise=_on_any_device(package, machine, wish))
    return choice


def _on_any_device(package: ModelPackage, machine: Machine, wish: Wish) -> Selection | None:
    from .pipeline import known_backends

    anywhere = replace(wish, device="auto")
    try:
        return weigh(package, machine, anywhere, *known_backends(), trusted=True)[0]
    except BiozooError:
        return None


# -------------------------------------------------------------------------- description, licence


def description(package: ModelPackage) -> CheckItem:
    """Whether the description can be used."""
    from .instances import read_instances_config

    declared = str(package.raw.get("format_version", "?"))
    facts = {"format_version": declared}
    try:
        descr = package.descr
        read_instances_config(descr)
    except InvalidPackageError as exc:
        faults = tuple(f"{where}: {fault}" for where, fault in exc.fields.items())
        why = exc.why.rstrip(":.") or f"{len(faults)} field(s) cannot be used"
        todo = "Ask its author, or try another version of the model."
        return CheckItem("format", "no", f"bioimage.io {declared}: {why}", todo, faults, facts)
    except BiozooError as exc:
        todo = "Ask its author, or try another version of the model."
        return CheckItem("format", "no", exc.message, todo, facts=facts)
    current = ".".join(str(descr.format_version).split(".")[:2])
    read_as = "" if declared.startswith(f"{current}.") else f", read as {current}"
    if package.mended:
        return CheckItem(
            "format", "note", f"bioimage.io {declared}{read_as}, with faults that were mended",
            "Nothing to do; tell its author.", package.mended, facts,
        )  # fmt: skip
    return CheckItem("format", "yes", f"bioimage.io {declared}{read_as}, valid", facts=facts)


def licence(package: ModelPackage) -> CheckItem:
    """Whether one may use the model, as far as its licence tells."""
    text = package.summary.license
    if not text:
        return CheckItem(
            "licence", "note", "the description names none",
            "Ask its author what you may do with it.",
        )  # fmt: skip
    facts = {"licence": text}
    if re.search(r"-NC\b|non-?commercial", text, re.IGNORECASE):
        return CheckItem(
            "licence", "note", f"{text}, which excludes commercial use",
            "Ask its author before any commercial use.", facts=facts,
        )  # fmt: skip
    if not _is_spdx(text):
        return CheckItem(
            "licence", "note", f"{text}, which is no SPDX licence",
            "Read it, or ask its author what you may do with the model.", facts=facts,
        )  # fmt: skip
    return CheckItem("licence", "yes", text, facts=facts)


def _is_spdx(text: str) -> bool:
    """Whether this is the id of a licence in the list of SPDX, as bioimageio.spec has it."""
    from bioimageio.spec.generic.v0_3 import DeprecatedLicenseId, LicenseId

    for known in (LicenseId, DeprecatedLicenseId):
        try:
            known(text)
        except ValueError:
            continue
        return True
    return False


# ---------------------------------------------------------------------------- weights, libraries


def weights(package: ModelPackage, choice: Choice) -> Iterator[CheckItem]:
    """Which weights run on which backend, and why every other candidate does not."""
    from biozoo.consent import typed
    from biozoo.peek import is_here, weights_size

    told = tuple(f"not {r.candidate}: {r.reason}" for r in choice.rejected)
    facts: dict[str, Any] = {
        "formats": list(package.summary.weights),
        "chosen": None,
        "rejected": [asdict(r) for r in choice.rejected],
    }
    would = choice.otherwise
    if choice.fault is not None and choice.topic == "weights":
        what, _, todo = choice.fault.message.partition(". ")
        yield CheckItem("weights", "no", what, todo or "Leave --backend out.", facts=facts)
        return
    if would is None and choice.fault is not None:
        return
    if would is None:
        what = f"nothing here runs its weights ({', '.join(package.summary.weights) or 'none'})"
        yield CheckItem("weights", "no", what, _todo(package, choice), told, facts)
        return
    what = f"{would.weights_format} with {would.backend.name} on {would.device}"
    facts["chosen"] = {
        "weights": would.weights_format,
        "backend": would.backend.name,
        "device": would.device,
    }
    if choice.chosen is not None:
        yield CheckItem("weights", "yes", what, details=told, facts=facts)
    elif choice.asks_trust:
        todo = f"Look at that code and decide: zoo trust {typed(package)}"
        yield CheckItem("weights", "note", f"{what}, once its code is allowed", todo, told, facts)
    else:
        todo = _ANY_DEVICE
        yield CheckItem(
            "weights", "note", f"{what}, not on {choice.wish.device}", todo, told, facts
        )
    if not is_here(package, would.weights_format):
        size = weights_size(package, would.weights_format)
        of_size = f" ({size_text(size)})" if size is not None else ", of unknown size,"
        yield CheckItem(
            "weights", "note", f"its {would.weights_format} weights{of_size} are not here yet",
            f"Get them: zoo add {typed(package)}", facts={"size": size},
        )  # fmt: skip


def _todo(package: ModelPackage, choice: Choice) -> str:
    """What to do where nothing runs."""
    from biozoo.consent import typed

    ways = [f"Install what is missing: {line}" for line in _installs(choice)]
    if "trust" in choice.obstacles:
        ways.append(f"Look at its code and decide: zoo trust {typed(package)}")
    if "device" in choice.obstacles:
        ways.append(_ANY_DEVICE)
    if any(r.obstacle == "asked" for r in choice.rejected):
        ways.append("Leave --weights and --backend out.")
    return " Or: ".join(ways) or "Ask its author for ONNX weights, or take another model."


def _installs(choice: Choice) -> list[str]:
    left = choice.rejected if choice.chosen is None else ()
    return list(dict.fromkeys(r.install for r in left if r.install))


def dependencies(package: ModelPackage, machine: Machine, choice: Choice) -> Iterator[CheckItem]:
    """The libraries that a run needs."""
    from biozoo.install import install_line

    if choice.otherwise is not None:
        name = choice.otherwise.backend.name
        # "torch-code" is torch, "onnxruntime" is also onnxruntime-gpu.
        root = name.partition("-")[0]
        found = {k: v for k, v in machine.libraries.items() if k.partition("-")[0] == root}
        listed = ", ".join(f"{k} {v}" for k, v in sorted(found.items()))
        yield CheckItem("dependency", "yes", listed or name, facts={"libraries": found})
    else:
        for r in choice.rejected:
            if r.obstacle == "library":
                todo = f"Install it: {r.install}" if r.install else ""
                why = r.reason.partition(". Install it:")[0]
                yield CheckItem("dependency", "no", f"{r.candidate}: {why}", todo)
    for library, why in _step_libraries(package).items():
        version = installed([library]).get(library)
        facts = {"libraries": {library: version}}
        if version is not None:
            yield CheckItem("dependency", "yes", f"{library} {version}: {why}", facts=facts)
            continue
        what = f"{library} is not installed: {why}"
        todo = f"Install it: {install_line(library)}"
        yield CheckItem("dependency", "no", what, todo, facts=facts)


def _step_libraries(package: ModelPackage) -> dict[str, str]:
    """Libraries that make a step of the postprocessing, and which."""
    from .steps_external import required_libraries

    try:
        return required_libraries(package.descr)
    except BiozooError:  # told of the description
        return {}


# ---------------------------------------------------------------------------- device, processing


def device(machine: Machine, choice: Choice) -> Iterator[CheckItem]:
    """Where it would run, against what was asked."""
    wish, would = choice.wish.device, choice.otherwise
    card = None
    if would is not None and is_cuda(would.device) and machine.cuda:
        card = machine.cuda[min(cuda_index(would.device), len(machine.cuda) - 1)]
    facts = {
        "asked": wish,
        "would_be": would.device if would is not None else None,
        "card": asdict(card) if card is not None else None,
        "driver": machine.driver,
        "cards": [asdict(c) for c in machine.cuda],
        "memory": machine.memory,
        "memory_available": machine.memory_available,
    }
    if choice.fault is not None:
        if choice.topic == "device":
            yield _fault(machine, choice.fault, wish, facts)
    elif choice.obstacles == {"device"}:
        causes = "; ".join(r.reason for r in choice.rejected if r.obstacle == "device")
        todo = f"Mend that. Or: {_ANY_DEVICE}"
        yield CheckItem("device", "no", f"{wish} cannot be used: {causes}", todo, facts=facts)
    elif would is None:
        return
    elif would.why:
        todo = what_to_do(machine).replace(_ANY_DEVICE, "It only takes longer.")
        yield CheckItem("device", "note", would.why, todo or _MEND, facts=facts)
    else:
        named = f"{would.device}, {card.name}" if card is not None else would.device
        more = f" ({size_text(card.memory)})" if card is not None and card.memory else ""
        driver = f", driver {machine.driver}" if card is not None and machine.driver else ""
        how = "as asked" if wish == would.device else f"{wish} was asked for"
        yield CheckItem("device", "yes", f"{named}{more}{driver}, {how}", facts=facts)


_ANY_DEVICE = "Use --device cpu or auto."
_MEND = "Mend that, or say --device cpu."


def _fault(machine: Machine, fault: BiozooError, wish: str, facts: dict[str, Any]) -> CheckItem:
    """A device that does not exist, or that nobody calls so."""
    if isinstance(fault, DeviceError):
        why, todo = no_such_card(machine, cuda_index(wish))
        return CheckItem("device", "no", f"{wish} cannot be used: {why}", todo, facts=facts)
    return CheckItem("device", "no", fault.message, _ANY_DEVICE, facts=facts)


def processing(package: ModelPackage) -> Iterator[CheckItem]:
    """Steps that are not executed here; what code or a library is missing for is told elsewhere."""
    from .processing import postprocessing, preprocessing

    try:
        preprocessing(package.descr)
        postprocessing(package.descr)
    except (UntrustedCodeError, MissingDependencyError):
        return
    except BiozooError as exc:
        yield CheckItem("processing", "no", exc.message)
