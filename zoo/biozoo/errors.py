"""Every error that biozoo raises on purpose.

A constructor takes facts (ids, what was found, what was expected); the class writes the sentence:
what happened, what was expected, what to do. Each leaf also inherits the builtin that a caller
would catch anyway.

    BiozooError
    |- UsageError (ValueError)                  the call itself is wrong
    |  |- AxesError                             axes missing, unknown, or not those of the image
    |  |- ChannelChoiceError                    one of several channels must be chosen
    |  |- ImageMismatchError                    the image does not fit the model
    |  |- IncompleteError                       facts of the author are missing or wrong
    |  '- NetworkError                          the network to be packed cannot be built or run
    |- NotFoundError (LookupError)              an id that no zoo knows
    |- MissingFileError (FileNotFoundError)     a path that does not exist
    |- ImageReadError (OSError)                 a file that is no readable image
    |- InvalidPackageError (ValueError)         a description that fails validation
    |- HashMismatchError (ValueError)           a file that is not the one described
    |- UnsafeArchiveError (ValueError)          a zip that may not be unpacked
    |- CollectionError (ConnectionError)        the index, or a file on the network, cannot be had
    |- StorageError (OSError)                   no space, or no permission to write
    |- MissingDependencyError (ImportError)     an optional library is not installed
    |- NoBackendError (RuntimeError)            nothing here can execute these weights
    |- DeviceError (RuntimeError)               the asked device is not what would be used
    |- BackendError (RuntimeError)              the framework failed while loading or running
    |- ConversionError (RuntimeError)           no way to convert weights gave equal results
    |- PrecisionError (RuntimeError)            another precision does not agree with float32
    |- NotTrainableError (RuntimeError)         weights that cannot be trained on
    |- OutOfMemoryError (MemoryError)           a tile or an image does not fit in memory
    |- UntrustedCodeError (PermissionError)     the package would run its author's code
    '- Cancelled                                stopped on request

`exit_code` is what the command line ends with (1: the answer is no, 2: wrong use, 3: cannot run
here, 130: interrupted); `http_status` is what the web routes answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar


def closest(word: str, known: Iterable[str], *, n: int = 3) -> list[str]:
    """The up to `n` entries of `known` that look most like `word`, best first."""
    import difflib

    return difflib.get_close_matches(word.lower(), list(known), n=n, cutoff=0.5)


class BiozooError(Exception):
    """Root of all errors raised on purpose."""

    exit_code: ClassVar[int] = 3
    http_status: ClassVar[int] = 500

    @property
    def message(self) -> str:
        """The whole sentence: what happened, what was expected, what to do."""
        return str(self.args[0]) if self.args else type(self).__name__

    def __str__(self) -> str:  # OSError and KeyError would print their own arguments
        return self.message


class UsageError(BiozooError, ValueError):
    """The call cannot be understood or contradicts itself."""

    exit_code = 2
    http_status = 422


class AxesError(UsageError):
    """Axes are missing, unknown, or do not belong to the image."""


class ChannelChoiceError(UsageError):
    """The image has more channels than the model takes and none was chosen."""

    def __init__(self, *, tensor: str, wanted: int, channels: Sequence[str], rgb: bool = False):
        # Channels without names are called by their numbers.
        named = [str(i) for i in range(len(channels))] != list(channels)
        listed = ", ".join(f"{i} ({n})" if named else n for i, n in enumerate(channels))
        ways = ["NUMBER", *(["NAME"] if named else []), *(["gray (their mean)"] if rgb else [])]
        takes = "one channel" if wanted == 1 else f"{wanted} channels"
        example = ",".join(str(i) for i in range(wanted))
        super().__init__(
            f"Input '{tensor}' takes {takes}, the image has {len(channels)}: {listed}. "
            f"Choose with --channel {' or '.join(ways)}, for example --channel {example}."
        )
        self.tensor, self.wanted, self.channels = tensor, wanted, tuple(channels)


class ImageMismatchError(UsageError):
    """The image does not fit the model and biozoo may not decide how to make it fit."""


class IncompleteError(UsageError):
    """Facts or files that only the user can give are missing or cannot be used: all at once."""

    def __init__(self, *, what: str, faults: Mapping[str, str], hint: str = ""):
        listed = "".join(f"\n  {name}: {fault}" for name, fault in faults.items())
        super().__init__(f"{what}{listed}{chr(10) + hint if hint else ''}")
        self.faults = dict(faults)


class NetworkError(UsageError):
    """A network that is to be packed or converted cannot be built, loaded or run."""


class NotFoundError(BiozooError, LookupError):
    """An id that neither the built-in models, the zoo, nor the index knows."""

    exit_code = 2
    http_status = 404

    def __init__(self, *, kind: str, got: str, known: Iterable[str], hint: str = ""):
        near = closest(got, known)
        offer = f" Did you mean {' or '.join(near)}?" if near else ""
        super().__init__(f"No {kind} is called '{got}'.{offer}{' ' + hint if hint else ''}")
        self.got, self.closest = got, tuple(near)


class MissingFileError(BiozooError, FileNotFoundError):
    """A path that does not exist."""

    exit_code = 2
    http_status = 404

    def __init__(self, *, what: str, path: str | Path, hint: str = ""):
        super().__init__(f"{what} {path} does not exist.{' ' + hint if hint else ''}")
        self.path = Path(path)


class ImageReadError(BiozooError, OSError):
    """A file that cannot be read as an image."""

    exit_code = 2
    http_status = 422

    def __init__(self, *, path: str | Path, why: str, hint: str = ""):
        super().__init__(f"Cannot read the image {path}: {why}{' ' + hint if hint else ''}")
        self.path = Path(path)


class InvalidPackageError(BiozooError, ValueError):
    """A description that bioimageio.spec refuses; `fields` names each field and its fault."""

    exit_code = 1
    http_status = 422

    def __init__(
        self,
        *,
        source: str | Path,
        fields: Mapping[str, str] | None = None,
        why: str = "",
        hint: str = "",
    ):
        fields = dict(fields or {})
        faults = "".join(f"\n  {field}: {fault}" for field, fault in fields.items())
        reason = why or f"{len(fields)} field(s) of its description cannot be used:"
        todo = hint or "Correct the description (rdf.yaml), or ask its author to."
        end = "\n" if faults else " "
        super().__init__(f"{source} is not a valid model package: {reason}{faults}{end}{todo}")
        self.source, self.fields, self.why, self.hint = str(source), fields, why, hint

    def renamed(self, source: str | Path) -> InvalidPackageError:
        """The same fault told of another place: of what the user named, not of a staging folder."""
        return InvalidPackageError(source=source, fields=self.fields, why=self.why, hint=self.hint)


class HashMismatchError(BiozooError, ValueError):
    """A file whose sha256 is not the one its description declares."""

    exit_code = 1
    http_status = 422

    def __init__(self, *, file: str | Path, expected: str, got: str, hint: str = ""):
        todo = hint or "It is damaged or was changed; fetch the package again."
        super().__init__(
            f"File {file} is not the one described: sha256 {got[:16]}..., expected "
            f"{expected[:16]}.... {todo}"
        )
        self.file, self.expected, self.got = str(file), expected, got


class UnsafeArchiveError(BiozooError, ValueError):
    """A zip whose members may not be written to disk."""

    exit_code = 1
    http_status = 422

    def __init__(self, *, archive: str | Path, member: str, why: str):
        super().__init__(
            f"{archive} was not unpacked: member '{member}' {why}. "
            "A model package holds plain files below its own folder; do not use this one."
        )
        self.archive, self.member, self.why = str(archive), member, why


class CollectionError(BiozooError, ConnectionError):
    """The collection's index, or a file on the network, cannot be had.

    `status` is what the server answered, None where none did.
    """

    http_status = 503

    def __init__(self, *, url: str, why: str, hint: str = "", status: int | None = None):
        super().__init__(
            f"Cannot get {url}: {why}. "
            f"{hint or 'Check the address and the connection, then try again.'}"
        )
        self.url, self.why, self.status = url, why, status


class StorageError(BiozooError, OSError):
    """No space left, or no permission to write."""

    http_status = 507

    def __init__(self, *, path: str | Path, why: str, hint: str = ""):
        super().__init__(f"Cannot write {path}: {why}. {hint or 'Choose another folder.'}")
        self.path = Path(path)


class MissingDependencyError(BiozooError, ImportError):
    """A library that an optional part needs is not installed."""

    http_status = 501

    def __init__(self, *, what: str, library: str, install: str):
        super().__init__(f"{what} needs {library}, which is not installed. Install it: {install}")
        self.library, self.install = library, install


class NoBackendError(BiozooError, RuntimeError):
    """Nothing here can execute any of the package's weights; `reasons` says why for each."""

    http_status = 501

    def __init__(self, *, package: str, reasons: Mapping[str, str]):
        listed = "".join(f"\n  {candidate}: {why}" for candidate, why in reasons.items())
        super().__init__(f"Model '{package}' cannot run here:{listed}")
        self.package, self.reasons = package, dict(reasons)


class DeviceError(BiozooError, RuntimeError):
    """The asked device is missing, or something else would be used in its place."""

    http_status = 503

    def __init__(self, *, device: str, why: str, hint: str = ""):
        super().__init__(
            f"Device '{device}' cannot be used: {why}. {hint or 'Use --device cpu or auto.'}"
        )
        self.device = device


class BackendError(BiozooError, RuntimeError):
    """The framework that executes the weights failed."""


class ConversionError(BiozooError, RuntimeError):
    """No way to convert the weights gave results that agree with the original's."""

    exit_code = 1
    http_status = 422

    def __init__(self, *, what: str, target: str, tried: Mapping[str, str], hint: str = ""):
        listed = "".join(f"\n  {way}: {why}" for way, why in tried.items())
        todo = f"\n{hint}" if hint else ""
        super().__init__(f"{what} cannot be converted to {target} with proof:{listed}{todo}")
        self.target, self.tried = target, dict(tried)


class PrecisionError(BiozooError, RuntimeError):
    """Another precision than float32 gives other results than the package or the user allows.

    `measured` says by how much, a line per way to run it; `error` is the smallest of their largest
    differences, in units of the output.
    """

    exit_code = 1
    http_status = 422

    def __init__(self, *, model: str, precision: str, measured: Sequence[str], error: float | None):
        listed = "".join(f"\n  {line}" for line in measured)
        todo = "Use --precision float32."
        if error is not None and 0 < error < float("inf"):
            todo = f"Use --precision float32, or accept the error: --tolerance {_above(error)}"
        super().__init__(
            f"Model '{model}' does not agree with float32 in {precision} on this image:{listed}\n"
            f"{todo}"
        )
        self.precision, self.measured, self.error = precision, tuple(measured), error


def _above(error: float) -> str:
    """The next of 1, 2, 5 times a power of ten that is well above an error."""
    power = 10.0 ** math.floor(math.log10(error))
    return f"{next(n for n in (1, 2, 5, 10, 20) if n * power >= 1.2 * error) * power:g}"


class NotTrainableError(BiozooError, RuntimeError):
    """A package whose weights cannot be trained here; says why, and what else can be done."""

    exit_code = 1
    http_status = 422

    def __init__(self, *, model: str, why: str, hint: str = ""):
        todo = hint or (
            "Live mode (the page's step Correct) can refit its last layer where it has ONNX "
            "weights; or start from another model: zoo search."
        )
        super().__init__(f"Model '{model}' cannot be retrained: {why.rstrip('.')}. {todo}")
        self.model, self.why = model, why


class OutOfMemoryError(BiozooError, MemoryError):
    """A tile or an image does not fit in memory."""

    http_status = 507


class UntrustedCodeError(BiozooError, PermissionError):
    """The package would have to run its author's code, which nobody has allowed."""

    http_status = 403


class Cancelled(BiozooError):
    """Stopped on request, nothing half-written left behind."""

    exit_code = 130
    http_status = 409

    def __init__(self, what: str = "The run"):
        super().__init__(f"{what} was stopped; nothing half-written was left behind.")
