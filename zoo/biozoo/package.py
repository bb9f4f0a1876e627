"""One model: its folder, its description, its files and their hashes, its trust state.

A package that biozoo keeps (installed, or opened from an archive or the network) has a record
beside its files, `.biozoo.json`, written before the folder was renamed to its place. It holds what
lists show and the sha256 of every file, so that listing reads no description and verifying misses
no file. Packages that biozoo does not keep (built-in, a folder of the user's) have none; of them
the hashes in the description are checked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from . import rdf as rdfs
from .errors import HashMismatchError, InvalidPackageError, MissingFileError
from .files import LITTER, sha256_of
from .records import RECORD, Origin, Problem, Record, VerifyReport
from .summary import ModelSummary, package_id, package_version, slug
from .trust import Trust

if TYPE_CHECKING:
    from bioimageio.spec.model.v0_5 import ModelDescr

__all__ = [
    "BUILTIN",
    "ModelPackage",
    "VerifyReport",
    "builtin_packages",
    "check_files",
    "installed_packages",
    "is_called",
    "version_key",
]

#: Folder of the packages that come with biozoo, builtin/<id>/rdf.yaml.
BUILTIN = Path(__file__).parent / "builtin"


# ---------------------------------------------------------------------------------------- package


@dataclass(frozen=True)
class ModelPackage:
    """A model with its files on this machine.

    Attributes
    ----------
    id, version
        By which a zoo keeps it; `version` is "v0" where the description declares none.
    root
        Folder of its files.
    rdf
        Path of its description.
    origin
        Where it is: built-in, installed, or opened from a folder, zip, url or the collection.
    source
        What was given to open it, or where an installed one came from.
    summary
        What lists show.
    """

    id: str
    version: str | None
    root: Path
    rdf: Path
    origin: Origin
    source: str
    summary: ModelSummary = field(repr=False)
    record: Record | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_folder(
        cls,
        root: Path,
        *,
        origin: Origin = "folder",
        source: str | None = None,
        rdf: Path | None = None,
    ) -> ModelPackage:
        """A package folder without a record; its files are not looked at."""
        found = rdf or rdfs.find_rdf(root)
        raw = rdfs.read(found)
        made = cls(
            id=package_id(raw),
            version=package_version(raw),
            root=root,
            rdf=found,
            origin=origin,
            source=source or str(root),
            summary=ModelSummary.from_rdf(raw),
        )
        made.__dict__["raw"] = raw  # read once
        return made

    @classmethod
    def from_record(cls, root: Path, *, origin: Origin | None = None) -> ModelPackage:
        """A package folder that biozoo keeps; nothing but the record is read."""
        return cls.of_record(Record.read(root), root, origin=origin)

    @classmethod
    def of_record(cls, record: Record, root: Path, *, origin: Origin | None = None) -> ModelPackage:
        """The package of a record whose files are in `root`; nothing is read."""
        return cls(
            id=record.id,
            version=record.version,
            root=root,
            rdf=root / record.rdf,
            origin=origin or record.origin,
            source=record.source,
            summary=record.summary,
            record=record,
        )

    def __str__(self) -> str:
        return f"{self.id} {self.version}" if self.version else self.id

    @cached_property
    def raw(self) -> rdfs.Raw:
        """The description as written, in whatever format version. Do not change it."""
        return rdfs.read(self.rdf)

    @cached_property
    def descr(self) -> ModelDescr:
        """The description as bioimageio.spec's object, converted to its latest format.

        Sources that are URLs are replaced by the files they were downloaded to, so what spec opens
        lies in `root`. The first use imports bioimageio.spec.

        Raises
        ------
        InvalidPackageError
            Naming each field that fails.
        """
        return self._described[0]

    @property
    def mended(self) -> tuple[str, ...]:
        """What of the description had to be repaired for bioimageio.spec to take it, a sentence
        each; empty where nothing (see `biozoo.mending`). Imports bioimageio.spec as `descr` does.
        """
        return self._described[1]

    @cached_property
    def _described(self) -> tuple[ModelDescr, tuple[str, ...]]:
        from .validation import build_mended

        return build_mended(self.raw, self.root, links=self._links, source=str(self.rdf))

    @cached_property
    def size(self) -> int:
        """Bytes of all its files."""
        if self.record is not None:
            return sum(f.size for f in self.record.files.values())
        return sum(p.stat().st_size for p in (self.rdf, *self._present().values()))

    @property
    def trust(self) -> Trust:
        """Whether the package can run without its author's code only, and if not, whether somebody
        has allowed exactly that code: see `biozoo.code` and `biozoo.consent`.
        """
        from .code import needs_code
        from .consent import is_trusted

        if self.origin == "built-in":
            return "built-in"
        if not needs_code(self):
            return "no code"
        return "trusted code" if is_trusted(self) else "untrusted code"

    @property
    def covers(self) -> tuple[Path, ...]:
        """Its cover images that are on this machine."""
        refs = [r for r in rdfs.file_refs(self.raw) if r.field.startswith("covers")]
        present = self._present()
        return tuple(present[r.source] for r in refs if r.source in present)

    @property
    def documentation(self) -> str:
        """The text its author wrote (Markdown, not sanitized), "" where there is none."""
        refs = [r for r in rdfs.file_refs(self.raw) if r.field.startswith("documentation")]
        path = self._present().get(refs[0].source) if refs else None
        return path.read_text(encoding="utf-8", errors="replace") if path else ""

    def path(self, source: object) -> Path:
        """The file on this machine of a source in the description.

        Parameters
        ----------
        source
            A relative path or URL as written, or an object of bioimageio.spec that has or is one
            (`descr.weights.onnx`, `descr.inputs[0].test_tensor.source`).

        Raises
        ------
        InvalidPackageError
            Where it leaves the package folder.
        MissingFileError
            Where it is not on this machine.
        """
        text = str(getattr(source, "source", source))
        if fault := self._fault(text):
            raise InvalidPackageError(source=self.rdf, fields={text: fault})
        if (link := self._links.get(text)) is None and rdfs.is_url(text):
            raise MissingFileError(
                what="On this machine, file",
                path=text,
                hint=f"It is on the network only: zoo add {self.source} downloads it.",
            )
        path = self.root / (link or text)
        if not path.is_file():
            raise MissingFileError(
                what=f"Model '{self.id}': file", path=path, hint="Get the whole package again."
            )
        return path

    def verify(self) -> VerifyReport:
        """Hash its files and compare: with the record where it has one, else with what the
        description declares. Never raises for a file; the report names it.
        """
        problems: list[Problem] = []
        expected = self._expected()
        hashed = 0
        for name, sha in expected.items():
            if fault := self._fault(name):
                problems.append(Problem(str(self), name, "unreadable", sha or "", fault))
                continue
            try:
                got = sha256_of(self.root / name)
            except FileNotFoundError:
                problems.append(Problem(str(self), name, "missing", sha or ""))
                continue
            except OSError as exc:
                problems.append(
                    Problem(str(self), name, "unreadable", sha or "", str(exc.strerror))
                )
                continue
            hashed += 1
            if sha is not None and got != sha:
                problems.append(Problem(str(self), name, "changed", sha, got))
        if self.record is not None:
            there = {
                name
                for name in _files_below(self.root)
                if name != RECORD and PurePosixPath(name).name not in LITTER
            }
            problems += [Problem(str(self), n, "extra") for n in sorted(there - set(expected))]
        return VerifyReport((str(self),), hashed, tuple(problems))

    def _expected(self) -> dict[str, str | None]:
        """Relative path -> sha256, None where only the presence can be checked."""
        if self.record is not None:
            return {name: f.sha256 for name, f in self.record.files.items()}
        declared = {
            r.source: r.sha256 for r in rdfs.file_refs(self.raw) if not rdfs.is_url(r.source)
        }
        return {self.rdf.name: None, **declared}

    @property
    def _links(self) -> Mapping[str, str]:
        return self.record.links if self.record is not None else {}

    def _present(self) -> dict[str, Path]:
        """Source -> path of the referenced files that are on this machine, inside the package."""
        found = {}
        for ref in rdfs.file_refs(self.raw):
            name = self._links.get(ref.source, ref.source)
            if not rdfs.is_url(name) and not self._fault(name) and (self.root / name).is_file():
                found[ref.source] = self.root / name
        return found

    def _fault(self, source: str) -> str:
        return "" if rdfs.is_url(source) else _escapes(self.root, source)


def check_files(package: ModelPackage, *, hashes: bool = True) -> None:
    """Refuse a package whose files are missing, outside its folder, or not those described.

    Raises
    ------
    InvalidPackageError
        Naming each field whose file is missing or may not be used.
    HashMismatchError
        For the first file whose sha256 is not the declared one.
    """
    fields: dict[str, str] = {}
    for ref in rdfs.file_refs(package.raw):
        if rdfs.is_url(ref.source) and ref.source not in package._links:
            continue
        name = package._links.get(ref.source, ref.source)
        if fault := _escapes(package.root, name):
            fields[ref.field] = fault
        elif not (package.root / name).is_file():
            fields[ref.field] = f"file '{name}' is missing"
    if fields:
        raise InvalidPackageError(source=package.rdf, fields=fields)
    if not hashes:
        return
    for ref in rdfs.file_refs(package.raw):
        name = package._links.get(ref.source, ref.source)
        if ref.sha256 is not None and not rdfs.is_url(name):
            try:
                got = sha256_of(package.root / name)
            except OSError as exc:
                fault = f"file '{name}' cannot be read ({exc.strerror})"
                raise InvalidPackageError(source=package.rdf, fields={ref.field: fault}) from exc
            if got != ref.sha256:
                raise HashMismatchError(file=package.root / name, expected=ref.sha256, got=got)


def is_called(package: ModelPackage, name: str) -> bool:
    """Whether a name is this package's id, with or without "bioimage-io/", or an alias of it."""
    plain = name.removeprefix("bioimage-io/")
    as_typed = plain and not re.search(r"^[.~]|[/\\]", plain)  # else it names a path
    return bool(as_typed and slug(plain) == package.id) or name in package.summary.aliases


def _escapes(root: Path, source: str) -> str:
    """Why a source may not be used, "" where it lies in the package folder."""
    if rdfs.safe_relative(source) is None:
        return f"'{source}' is no path below the package folder"
    if not (root / source).resolve().is_relative_to(root.resolve()):
        return f"'{source}' is a link out of the package folder"
    return ""


def _files_below(root: Path) -> Iterator[str]:
    """Relative paths of all files of a folder, slowest first, links not followed."""
    for folder, _, names in os.walk(root):
        for name in names:
            yield Path(folder, name).relative_to(root).as_posix()


# ------------------------------------------------------------------------------------------ lists


def builtin_packages(folder: Path | None = None) -> list[ModelPackage]:
    """The packages that come with biozoo, by id."""
    root = folder or BUILTIN
    if not root.is_dir():
        return []
    return [
        ModelPackage.from_folder(p, origin="built-in", source=p.name)
        for p in sorted(root.iterdir())
        if (p / "rdf.yaml").is_file()
    ]


def installed_packages(models: Path) -> tuple[list[ModelPackage], dict[Path, str]]:
    """The installed packages by id and version, and the folders that cannot be read with why."""
    found, broken = [], {}
    for folder in [version for name in _folders(models) for version in _folders(name)]:
        try:
            found.append(ModelPackage.from_record(folder, origin="installed"))
        except InvalidPackageError as exc:
            if folder.is_dir():  # else it was removed just now
                broken[folder] = exc.message
    return sorted(found, key=lambda p: (p.id, version_key(p.version))), broken


def _folders(parent: Path) -> list[Path]:
    """The folders in a folder, but for hidden ones; none where it is gone or may not be read."""
    try:
        with os.scandir(parent) as entries:
            return sorted(Path(e) for e in entries if not e.name.startswith(".") and e.is_dir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def version_key(version: str | None) -> tuple[tuple[int, int | str], ...]:
    """Sorts versions as people count: v2 before v10, 1.9 before 1.10, 1.0-rc1 before 1.0."""
    if not version:
        return ()
    parts = re.findall(r"[0-9]+|[^0-9._+-]+", version)
    key = ((2, int(p)) if p[0] in "0123456789" else (0, p) for p in parts)
    return (*key, (1, 0))  # the end: above a word that goes on, below a number that does
