"""Consent of this person, on this machine, to run exactly one package's code.

One small file per consent, `<home>/trust/<key>.json`. The key is a sha256 over the package's id and
every item of its code (`biozoo.code`): place, callable, source, arguments and the sha256 of the
source. So a changed byte or argument has another key and is asked for again; the version and place
of the package do not matter. What stands in a file must give the key that the file is named by,
else it is no consent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .code import CodeItem, code_items
from .errors import BiozooError, UntrustedCodeError, UsageError
from .files import write_atomic, writing
from .settings import Settings

if TYPE_CHECKING:
    from .package import ModelPackage

__all__ = [
    "Consent",
    "consent_of",
    "grant",
    "is_trusted",
    "key_of",
    "refusal",
    "require",
    "typed",
    "withdraw",
]

_FIELDS = ("kind", "where", "callable", "source", "kwargs", "sha256")


@dataclass(frozen=True)
class Consent:
    """That the code of these items may run.

    Attributes
    ----------
    key
        See `key_of`; names the file.
    id
        Of the package.
    granted
        Date and time, ISO 8601, UTC.
    items
        The items without their text.
    """

    key: str
    id: str
    granted: str
    items: tuple[Mapping[str, Any], ...]


def key_of(id: str, items: Sequence[CodeItem]) -> str:
    """What a consent is bound to, as a sha256."""
    return _key(id, [_facts(item) for item in items])


def is_trusted(package: ModelPackage, *, settings: Settings | None = None) -> bool:
    """Whether the package has code, and consent was given for exactly this code.

    Reads no file of the package where no consent was ever given for one of its id.
    """
    settings = settings or Settings.from_env()
    if not _of_id(package.id, settings):
        return False
    try:
        return _found(package.id, code_items(package), settings) is not None
    except BiozooError:  # a source is missing or not the one described
        return False


def consent_of(
    package: ModelPackage,
    items: Sequence[CodeItem] | None = None,
    *,
    settings: Settings | None = None,
) -> Consent | None:
    """The consent for the package's code as it is now, or for these items of it. Raises as
    `code_items`.
    """
    items = code_items(package) if items is None else items
    return _found(package.id, items, settings or Settings.from_env())


def require(package: ModelPackage) -> tuple[CodeItem, ...]:
    """The package's code, if it may run: what was hashed is in each item's `text`.

    Empty for a package without code.

    Raises
    ------
    UntrustedCodeError
        Nobody has allowed it.
    HashMismatchError, InvalidPackageError, MissingFileError
        A source is not the one described, or cannot be read.
    """
    items = code_items(package)
    if items and _found(package.id, items, Settings.from_env()) is None:
        raise refusal(package, items)
    return items


def grant(package: ModelPackage, items: Sequence[CodeItem] | None = None) -> Consent:
    """Allow the package's code to run.

    Parameters
    ----------
    package
        The model.
    items
        What the person was shown; None takes what is there now.

    Raises
    ------
    UsageError
        There is no code.
    StorageError
        The consent cannot be written.
    """
    items = code_items(package) if items is None else items
    if not items:
        raise UsageError(
            f"Model '{package.id}' runs no code of its author: there is nothing to allow. Run it."
        )
    facts = tuple(_facts(item) for item in items)
    consent = Consent(
        key=_key(package.id, facts),
        id=package.id,
        granted=datetime.now(UTC).isoformat(timespec="seconds"),
        items=facts,
    )
    content = json.dumps(asdict(consent), indent=1, default=str).encode()
    write_atomic(_folder(Settings.from_env()) / f"{consent.key}.json", content)
    return consent


def withdraw(package: ModelPackage | str) -> bool:
    """Take back every consent that was given for a package of this id, also for code that it had
    before; whether there was one. The id alone does where the package is no longer there.

    Raises
    ------
    StorageError
        A consent cannot be removed.
    """
    settings = Settings.from_env()
    id = package if isinstance(package, str) else package.id
    keys = set()
    if not isinstance(package, str):
        with contextlib.suppress(BiozooError):
            keys.add(key_of(id, code_items(package)))
    found = False
    for path in list(_files(settings)):
        consent = _consent(path)
        if path.stem in keys or (consent is not None and consent.id == id):
            with writing(path):
                path.unlink(missing_ok=True)
            found = found or consent is not None
    return found


def refusal(package: ModelPackage, items: Sequence[CodeItem] | None = None) -> BiozooError:
    """The error for code that nobody has allowed.

    An `UntrustedCodeError` that names the items; where `items` is None and a source is missing or
    not the one described, the error that says so.
    """
    try:
        items = code_items(package) if items is None else items
    except BiozooError as exc:
        return exc
    before = _of_id(package.id, Settings.from_env())
    why = "which is not the code that was allowed before" if before else "which nobody has allowed"
    return UntrustedCodeError(
        f"Model '{package.id}' would run its author's code, {why}: "
        f"{'; '.join(map(str, items))}. Look at it and decide: zoo trust {typed(package)}"
    )


def typed(package: ModelPackage) -> str:
    """What a person types to name this package, quoted for a shell."""
    if package.origin not in ("built-in", "installed"):
        return shlex.quote(package.source)
    from .sources import find_here

    newest = find_here(package.id, None, Settings.from_env())
    if newest is None or newest.version == package.version:
        return package.id
    return f"{package.id}@{package.version}"


# ------------------------------------------------------------------------------------------- files


def _folder(settings: Settings) -> Path:
    return settings.home / "trust"


def _files(settings: Settings) -> Iterator[Path]:
    return _folder(settings).glob("[0-9a-f]*.json")


def _of_id(id: str, settings: Settings) -> bool:
    """Whether any code of a package of this id was ever allowed."""
    return any(c is not None and c.id == id for c in map(_consent, _files(settings)))


def _found(id: str, items: Sequence[CodeItem], settings: Settings) -> Consent | None:
    if not items:
        return None
    key = key_of(id, items)
    consent = _consent(_folder(settings) / f"{key}.json")
    return consent if consent is not None and consent.key == key else None


def _consent(path: Path) -> Consent | None:
    """The consent in a file, None where its content does not give the key it is named by."""
    try:
        values = json.loads(path.read_bytes())
        consent = Consent(
            str(values["key"]),
            str(values["id"]),
            str(values["granted"]),
            tuple({k: item[k] for k in _FIELDS} for item in values["items"]),
        )
        genuine = consent.key == path.stem == _key(consent.id, consent.items)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return consent if genuine and consent.items else None


def _facts(item: CodeItem) -> dict[str, Any]:
    """What of an item a consent is bound to, as JSON has it."""
    values = {name: getattr(item, name) for name in _FIELDS}
    return values | {"kwargs": _plain(item.kwargs)}


def _key(id: str, items: Sequence[Mapping[str, Any]]) -> str:
    content = json.dumps({"id": id, "items": list(items)}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A value of a description so that JSON keeps every difference.

    Keys of a mapping may be numbers, which JSON would make text.
    """
    if isinstance(value, Mapping):
        return {k if isinstance(k, str) else f"{k!r}!": _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)
