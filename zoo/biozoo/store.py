"""The zoo: models installed on this machine, several versions side by side.

    <home>/models/<id>/<version>/            the package's files and its record .biozoo.json
    <home>/models/.staging-<unique>/         what is being added; a rename makes it a model
    <home>/models/.trash-<unique>/           what is being removed
    <home>/models/.replaced-<unique>/        what was there before; back in its place after a kill

A model is there when its folder is there: the folder gets its name only when every file is in it,
checked and hashed. Two processes that add the same model race to the rename; who comes second finds
the same content and keeps it; a damaged copy is replaced. The version is the collection's for a
collection id, else the description's, else "v0".
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from pathlib import Path
from typing import Literal

from . import sources
from .download import Progress
from .errors import InvalidPackageError, NotFoundError, UsageError
from .files import Staging, writing
from .filling import fill
from .package import ModelPackage, builtin_packages, installed_packages, is_called
from .records import RECORD, Problem, Record, VerifyReport
from .settings import Settings
from .summary import slug

__all__ = ["Zoo", "list_packages"]

_TRASH = ".trash-"
_REPLACED = ".replaced-"


class Zoo:
    """The installed models below one home folder.

    Parameters
    ----------
    settings
        Default: those of the environment.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.from_env()

    @property
    def models(self) -> Path:
        """Folder of the installed models."""
        return self.settings.models

    def packages(self) -> list[ModelPackage]:
        """The installed packages by id and version; reads their records only."""
        return installed_packages(self.models)[0]

    def broken(self) -> dict[Path, str]:
        """Folders where a model should be and none can be read, with the reason."""
        return installed_packages(self.models)[1]

    def get(self, id: str, version: str | None = None) -> ModelPackage:
        """The installed or built-in package of this id, the newest where no version is given.

        Raises
        ------
        NotFoundError
        """
        name, _, given = id.partition("@")
        wanted = version or given or None
        if found := sources.find_here(name, wanted, self.settings):
            return found
        raise self._unknown(name, wanted)

    def add(
        self,
        source: str | Path,
        *,
        replace: bool = False,
        progress: Progress | None = None,
    ) -> ModelPackage:
        """Install the package that `source` names, whole or not at all.

        Every declared sha256 is verified, zip members are checked before extraction, and
        bioimageio.spec validates the description and the test tensors' shapes. A built-in or
        installed id is returned as it is; "id@version" installs another version.

        Parameters
        ----------
        source
            As for `biozoo.open`.
        replace
            True: other content of the same id and version is replaced.
        progress
            Called with (file, bytes done, bytes in all or None).

        Raises
        ------
        UsageError
            Where the same id and version is installed with other content and `replace` is False.
        BiozooError
            As `biozoo.open`; nothing is left behind.
        """
        place = sources.locate(source, self.settings)
        if isinstance(place, ModelPackage):
            return place
        with Staging(self.models) as staging:
            self._clean_trash()
            record = sources.copy_cached(place, staging.path, self.settings) or fill(
                place, staging.path, self.settings, progress=progress
            )
            target = _place(self.models, record)
            if self._standing(target, record) == "same":
                return _installed(target, record)
            self._validate(record, staging.path, str(source))
            with writing(staging.path):
                (staging.path / RECORD).write_bytes(record.to_json())
            while not staging.place(target):
                standing = self._standing(target, record)
                if standing == "same":
                    break
                if standing == "other" and not replace:
                    raise UsageError(
                        f"Model '{record.id}' {record.version} is installed with other content. "
                        f"Expected a new version, or the wish to replace it: zoo add --replace "
                        f"{source}, or zoo remove {record.id}@{record.version} first."
                    )
                self._remove_folder(target, _REPLACED)
            self._clean_trash()
        return _installed(target, record)

    def remove(self, id: str, version: str | None = None) -> tuple[ModelPackage, ...]:
        """Remove an installed model: one version, or all where none is given; what was removed
        (without the folders that held no readable model).

        Raises
        ------
        NotFoundError, UsageError, StorageError
        """
        name, _, given = id.partition("@")
        wanted = version or given or None
        found = [p for p in self.packages() if is_called(p, name) and wanted in (None, p.version)]
        broken = self._broken(name, wanted)
        if not found and not broken:
            if any(p.id == name for p in builtin_packages()):
                raise UsageError(
                    f"Model '{name}' comes with biozoo and cannot be removed. "
                    "Expected an installed model: zoo list shows them."
                )
            raise self._unknown(name, wanted, installed_only=True)
        for folder in (*broken, *(p.root for p in found)):
            self._remove_folder(folder)
        return tuple(found)

    def verify(self, id: str | None = None, version: str | None = None) -> VerifyReport:
        """Hash every file of one model, or of all installed and built-in ones.

        Raises
        ------
        NotFoundError
            For an unknown id. A damaged file is in the report, it does not raise.
        """
        if id is not None:
            name, _, given = id.partition("@")
            if broken := self._broken(name, version or given or None):
                return VerifyReport.joined([_unreadable(folder) for folder in broken])
            return self.get(id, version).verify()
        reports = [p.verify() for p in (*builtin_packages(), *self.packages())]
        return VerifyReport.joined([*reports, *map(_unreadable, self.broken())])

    # ---------------------------------------------------------------------------------- helpers

    def _broken(self, name: str, version: str | None) -> list[Path]:
        """The folders of this model that cannot be read."""
        return [f for f in self.broken() if f.parent.name == name and version in (None, f.name)]

    def _validate(self, record: Record, folder: Path, source: str) -> None:
        from .validation import validate

        try:
            validate(ModelPackage.of_record(record, folder))
        except InvalidPackageError as exc:
            raise exc.renamed(source) from exc

    def _standing(self, target: Path, record: Record) -> Literal["same", "other", "damaged"]:
        """How what stands at `target` compares with what is being added."""
        try:
            package = ModelPackage.from_record(target)
        except InvalidPackageError:
            return "damaged"
        if package.record is None or package.record.files != record.files:
            return "other"
        return "same" if package.verify().ok else "damaged"

    def _remove_folder(self, folder: Path, prefix: str = _TRASH) -> None:
        """Rename away at once, delete then; what is replaced is deleted by `_clean_trash`."""
        trash = self.models / f"{prefix}{uuid.uuid4().hex}"
        with writing(self.models):
            try:
                os.rename(folder, trash)
            except FileNotFoundError:  # another process was faster
                return
        if prefix == _TRASH:
            with contextlib.suppress(OSError):
                folder.parent.rmdir()  # the last version
            shutil.rmtree(trash, ignore_errors=True)

    def _clean_trash(self) -> None:
        """Delete what was removed; put back what was to be replaced where nothing came."""
        for trash in self.models.glob(f"{_TRASH}*"):
            shutil.rmtree(trash, ignore_errors=True)
        for old in self.models.glob(f"{_REPLACED}*"):
            with contextlib.suppress(InvalidPackageError, OSError):
                record = Record.read(old)
                os.rename(old, _place(self.models, record))
            shutil.rmtree(old, ignore_errors=True)

    def _unknown(
        self, name: str, version: str | None, *, installed_only: bool = False
    ) -> NotFoundError:
        known = [*builtin_packages(), *self.packages()]
        if versions := [p.version or "" for p in known if p.id == name and version]:
            return NotFoundError(
                kind=f"version of '{name}'",
                got=version or "",
                known=versions,
                hint=f"There is {', '.join(versions)}.",
            )
        return NotFoundError(
            kind="installed model" if installed_only else "installed or built-in model",
            got=name,
            known=[p.id for p in known if not installed_only or p.origin == "installed"],
            hint="zoo list shows what is here, zoo add SOURCE installs a model.",
        )


def list_packages(settings: Settings | None = None) -> list[ModelPackage]:
    """The built-in packages, then the installed ones by id and version."""
    return [*builtin_packages(), *Zoo(settings).packages()]


def _place(models: Path, record: Record) -> Path:
    """Where a model of this record stands."""
    return models / slug(record.id) / (slug(record.version) or "v0")


def _installed(target: Path, record: Record) -> ModelPackage:
    """The package that was put there, also where another process is just replacing it."""
    try:
        return ModelPackage.from_record(target, origin="installed")
    except InvalidPackageError:
        return ModelPackage.of_record(record, target, origin="installed")


def _unreadable(folder: Path) -> VerifyReport:
    name = f"{folder.parent.name} {folder.name}"
    return VerifyReport((name,), 0, (Problem(name, RECORD, "unreadable", got="no usable record"),))
