"""Finished tiles of a run, kept so that a later call of the same run computes only the others.

A `TileStore` is given to a call of `Runner`. Before a tile is computed the store is asked for it,
after that it is given to it, as it is put into the result (halo cropped, postprocessed). The key
under which tiles are kept is a digest of all that their values depend on: the model's description,
weights and code, what executes them and where, this code, the pixels of the whole inputs (as
statistics are of the whole), and the plan. So a tile of another image, model or tile size is never
found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from biozoo.errors import BackendError, BiozooError, MissingFileError
from biozoo.files import sha256_of
from biozoo.rdf import file_refs, is_url

from .images.atomic import written_beside
from .onnx_external import check_external_data

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo.package import ModelPackage

    from .base import BackendInfo
    from .tiling import TilePlan

__all__ = ["Keeper", "TileFolder", "TileStore", "model_digest"]

Blocks = dict[str, "NDArray[Any]"]
"""What one tile gives to each output, by tensor id."""


class TileStore(Protocol):
    """Where finished tiles are kept."""

    def get(self, key: str, tile: int) -> Blocks | None:
        """The tile of this number, exactly as it was put; None where it is not there or damaged."""

    def put(self, key: str, tile: int, blocks: Mapping[str, NDArray[Any]]) -> None:
        """Keep a tile; raises (`StorageError`) to stop the run.

        `key` is a hexadecimal digest, `blocks` are the arrays by tensor id.
        """


@dataclass(frozen=True)
class TileFolder:
    """A `TileStore` on disk: a file per tile, `<key>/<number>.npz`.

    Files are written beside and renamed, so that a process may be killed at any time. Each array
    carries the zip's checksum: a file that a loss of power has damaged counts as not there.
    """

    folder: Path

    def get(self, key: str, tile: int) -> Blocks | None:
        """The tile, None where it was never put or its file cannot be read."""
        try:
            path = self._path(key, tile)
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                return {str(t): kept[str(i)] for i, t in enumerate(kept["tensors"])}
        except Exception:  # damage shows in many ways; what cannot be read is computed
            return None

    def put(self, key: str, tile: int, blocks: Mapping[str, NDArray[Any]]) -> None:
        """Write the tile.

        Raises
        ------
        StorageError
            No space is left, or the folder may not be written to.
        """
        arrays = {str(i): block for i, block in enumerate(blocks.values())}
        with written_beside(self._path(key, tile)) as part, part.open("xb") as file:
            np.savez(file, tensors=np.array(list(blocks)), **arrays)  # type: ignore[arg-type]

    def __len__(self) -> int:
        """How many tiles are kept, under all keys."""
        return sum(1 for _ in self.folder.glob("*/[0-9]*.npz"))

    def _path(self, key: str, tile: int) -> Path:
        return self.folder / key / f"{tile}.npz"


@dataclass
class Keeper:
    """A store as one item of one run uses it: the key is settled, the tiles found are counted."""

    store: TileStore
    key: str
    found: int = 0

    @classmethod
    def of_run(cls, store: TileStore, model: str, info: BackendInfo) -> Keeper:
        """For a run of the model with this digest, executed as `info` says."""
        ran = repr(replace(info, notes=()))  # another processor or library has other last bits
        return cls(store, _digest(model, ran, _code()))

    def of_item(self, number: int, pixels: Mapping[str, NDArray[Any]]) -> Keeper:
        """For the item of this number with these whole inputs, by tensor id."""
        parts = [self.key, str(number)]
        for tensor, array in sorted(pixels.items()):
            digest = hashlib.sha256()
            _update(digest, array)
            parts += [tensor, array.dtype.str, str(array.shape), digest.hexdigest()]
        return Keeper(self.store, _digest(*parts))

    def of_plan(self, plan: TilePlan) -> Keeper:
        """For these tiles."""
        return Keeper(self.store, _digest(self.key, repr(plan)))

    def get(self, tile: int) -> Blocks | None:
        """A tile that need not be computed, None where it must."""
        blocks = self.store.get(self.key, tile)
        self.found += blocks is not None
        return blocks

    def put(self, tile: int, blocks: Mapping[str, NDArray[Any]]) -> None:
        """Keep a tile that was computed."""
        self.store.put(self.key, tile, blocks)


def model_digest(package: ModelPackage) -> str:
    """Sha256 of a model as it runs: its description, its weights, and its author's code.

    The files are read, not their declared hashes: what counts is what is loaded.

    Raises
    ------
    MissingFileError
        A file is not there.
    """
    links = package.record.links if package.record is not None else {}
    parts = []
    try:
        parts.append(sha256_of(package.rdf))
        for ref in sorted(file_refs(package.raw), key=lambda ref: ref.source):
            if not (ref.field.startswith("weights") or "processing" in ref.field):
                continue
            if is_url(ref.source) and ref.source not in links:
                continue  # weights of another format, never downloaded
            path = package.path(ref.source)
            parts += [ref.source, sha256_of(path)]
            if path.suffix == ".onnx":
                parts += [sha256_of(file) for file in _beside(package, path)]
    except FileNotFoundError as exc:
        if isinstance(exc, BiozooError):
            raise
        what = f"Model '{package.id}': file"
        raise MissingFileError(what=what, path=str(exc.filename), hint="Add it again.") from exc
    return _digest(*parts)


def _beside(package: ModelPackage, graph: Path) -> tuple[Path, ...]:
    """Files of tensors that an ONNX graph names; none where it could not be loaded either."""
    try:
        return check_external_data(graph, package.root, model=package.id)
    except (BackendError, ValueError):
        return ()


@cache
def _code() -> str:
    """The code that runs tiles, as a hash: another version of it may give other values."""
    digest = hashlib.sha256(np.__version__.encode())
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _update(digest: Any, array: NDArray[Any]) -> None:
    """Add an array's elements in C order, without a copy of all of a large one."""
    if array.flags.c_contiguous:
        digest.update(array.reshape(-1).view(np.uint8))
    elif array.ndim > 1 and array.nbytes > 2**24:
        for part in array:
            _update(digest, part)
    else:
        _update(digest, np.ascontiguousarray(array))
