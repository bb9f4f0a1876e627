"""The opened images of one server: whose they are, where their files lie, their tiles."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biozoo.errors import BiozooError, NotFoundError

from .description import Description, Kind, describe
from .errors import told_as
from .paths import allowed_path, safe_name
from .planes import Planes
from .pyramid import Pyramid
from .reduce import little_endian
from .source import Place, Source, open_source
from .tiles import TileCache, packed, unpacked

_IDLE = 24 * 3600.0  # seconds after which an image that nobody looks at is forgotten
_WARM = 8  # images whose decoders stay ready


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """An image of a session.

    Attributes
    ----------
    path
        The file or folder.
    axes
        One letter per dimension where the user corrected them; a run must be told the same.
    pixel_size
        Micrometres per axis where the user corrected them.
    owned
        Folder to be removed with the image, None where the file is not the server's.
    """

    id: str
    owner: str
    path: Path
    source: Source
    pyramid: Pyramid
    description: Description
    axes: str | None = None
    kind: Kind | None = None
    pixel_size: Mapping[str, float] | None = None
    owned: Path | None = None


class ImageStore:
    """Opened images, by id and session.

    Parameters
    ----------
    folder
        The store's own: uploads, decoded pictures, coarse levels.
    image_folders
        Within which paths may be opened.
    idle_seconds
        After this time without a request an image is forgotten, and an upload's file removed.
    most_tiles
        Bytes of compressed tiles kept in memory.
    """

    def __init__(
        self,
        folder: Path,
        *,
        image_folders: Sequence[Path] = (),
        idle_seconds: float = _IDLE,
        most_tiles: int = 128 * 2**20,
    ) -> None:
        self.folder = folder
        self._allowed = tuple(Path(f).expanduser().resolve() for f in image_folders)
        self._idle = idle_seconds
        self._lock = threading.Lock()
        self._images: OrderedDict[str, OpenedImage] = OrderedDict()
        self._used: dict[str, float] = {}
        self._tiles = TileCache(most_tiles)
        self._planes = Planes()
        self._threads = ThreadPoolExecutor((os.cpu_count() or 1) + 2, "biozoo-tiles")

    # ------------------------------------------------------------------------------------ opening

    def upload_path(self, name: str) -> tuple[Path, str]:
        """A folder of its own for an upload, made, and the name to keep the file under."""
        self.prune()
        folder = self.folder / "uploads" / secrets.token_hex(8)
        folder.mkdir(parents=True)
        return folder, safe_name(name)

    def allowed_path(self, path: str) -> Path:
        """A path within the allowed folders, links resolved; a relative one is within each.

        Raises
        ------
        RefusedPathError
            For another one, whether it exists or not.
        """
        return allowed_path(path, self._allowed)

    def add(
        self,
        owner: str,
        path: Path,
        *,
        name: str | None = None,
        kind: Kind | None = None,
        axes: str | None = None,
        owned: Path | None = None,
    ) -> OpenedImage:
        """Open an image for a session. No check is made of where it lies (see `allowed_path`).

        Parameters
        ----------
        owned
            Folder to be removed with the image, and at once where it cannot be opened.

        Raises
        ------
        BiozooError
            As `open_source`, in terms of the image's name.
        """
        self.prune()
        name = path.name if name is None else name
        try:
            opened = self._open(secrets.token_urlsafe(12), owner, path, name, kind, axes, owned)
        except BaseException:
            if owned is not None:
                shutil.rmtree(owned, ignore_errors=True)
            raise
        with self._lock:
            self._images[opened.id] = opened
            self._used[opened.id] = time.monotonic()
        return opened

    def correct(
        self,
        image_id: str,
        owner: str,
        *,
        axes: str | None = None,
        pixel_size: Mapping[str, float] | None = None,
        kind: Kind | None = None,
    ) -> OpenedImage:
        """What the user knows better; None leaves as it is. Axes or kind make a new version."""
        old = self.get(image_id, owner)
        size = old.pixel_size if pixel_size is None else pixel_size
        if axes is None and kind is None:
            description = describe(
                old.source,
                image_id=old.id,
                name=old.description.name,
                kind=old.description.kind,
                pixel_size=size,
                version=old.description.version,
            )
            new = dataclasses.replace(old, description=description, pixel_size=size)
        else:
            new = self._open(
                old.id,
                owner,
                old.path,
                old.description.name,
                kind or old.kind,
                axes or old.axes,
                old.owned,
                pixel_size=size,
                version=old.description.version + 1,
            )
        with self._lock:
            current = self._images.get(old.id)
            if current is old:
                self._images[old.id] = new
        if current is not old:  # removed, or corrected by another tab in the meantime
            if new.source is not old.source:
                self._drop_levels(new)
            return self.get(image_id, owner)
        if new.source is not old.source:
            self._drop_levels(old)
        return new

    def _open(
        self,
        image_id: str,
        owner: str,
        path: Path,
        name: str,
        kind: Kind | None,
        axes: str | None,
        owned: Path | None,
        *,
        pixel_size: Mapping[str, float] | None = None,
        version: int = 1,
    ) -> OpenedImage:
        allowed = () if owned else self._allowed
        scratch = self.folder / "levels" / image_id / secrets.token_hex(4)
        try:
            source = open_source(path, scratch, axes=axes, allowed=allowed)
            description = describe(
                source,
                image_id=image_id,
                name=name,
                kind=kind,
                pixel_size=pixel_size,
                version=version,
            )
        except BaseException as exc:
            shutil.rmtree(scratch, ignore_errors=True)
            if isinstance(exc, BiozooError):
                told_as(told_as(exc, scratch / "pixels.npy", name), path, name)
            raise
        pyramid = Pyramid(
            source,
            np.dtype(description.pixels),
            labels=description.kind == "labels",
            folder=scratch,
            planes=self._planes,
        )
        return OpenedImage(
            image_id, owner, path, source, pyramid, description, axes, kind, pixel_size, owned
        )

    # ------------------------------------------------------------------------------------ looking

    def get(self, image_id: str, owner: str) -> OpenedImage:
        """The image of this id, of this session.

        Raises
        ------
        NotFoundError
            Where there is none, not any more, or it is another's: nobody learns which.
        """
        with self._lock:
            found = self._images.get(image_id)
            if found is not None and secrets.compare_digest(found.owner.encode(), owner.encode()):
                self._used[image_id] = time.monotonic()
                return found
        raise NotFoundError(
            kind="image",
            got=image_id,
            known=(),
            hint="Images are forgotten when nobody looked at them for long; open it again.",
        )

    def of(self, owner: str) -> list[OpenedImage]:
        """The images of a session, in the order they were opened."""
        with self._lock:
            return [image for image in self._images.values() if image.owner == owner]

    async def tile(
        self, image: OpenedImage, level: int, place: Place, row: int, column: int, *, gzip: bool
    ) -> bytes:
        """One tile, compressed or plain. Nobody else waits while a level is being made."""
        image.pyramid.check(level, place, row, column)
        key = (image.id, image.description.version, level, place, row, column)
        content = self._tiles.get(key)
        try:
            if content is None:
                if (made := image.pyramid.prepare(level, place)) is not None:
                    # Shielded: one who leaves must not stop what others wait for.
                    await asyncio.shield(asyncio.wrap_future(made))
                loop = asyncio.get_running_loop()
                content = await loop.run_in_executor(
                    self._threads, self._make, image, level, place, row, column
                )
                self._tiles.put(key, content)
        except BiozooError as exc:
            told_as(exc, image.path, image.description.name)
            raise
        return content if gzip else unpacked(content)

    def _make(self, image: OpenedImage, level: int, place: Place, row: int, column: int) -> bytes:
        self._warm(image)
        return packed(little_endian(image.pyramid.tile(level, place, row, column)))

    def _warm(self, image: OpenedImage) -> None:
        """Only the images last looked at keep their decoders, which may hold a decoded page."""
        with self._lock:
            ids = sorted(self._used, key=self._used.__getitem__)[:-_WARM]
            cold = [self._images[i] for i in ids if i in self._images]
        for other in cold:
            if other is not image:
                other.source.release()

    # ------------------------------------------------------------------------------------ leaving

    def remove(self, image_id: str, owner: str) -> None:
        """Forget an image; an upload's file goes too."""
        self.get(image_id, owner)
        with self._lock:
            gone = self._images.pop(image_id, None)
            self._used.pop(image_id, None)
        if gone is not None:
            self._clean(gone)

    def prune(self) -> None:
        """Forget what nobody has looked at for long."""
        before = time.monotonic() - self._idle
        with self._lock:
            stale = [i for i, used in self._used.items() if used < before]
            gone = [self._images.pop(i) for i in stale if i in self._images]
            for image_id in stale:
                del self._used[image_id]
        for image in gone:
            self._clean(image)

    def close(self) -> None:
        """Stop what is under way; the folder stays with whoever made it."""
        self._planes.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _clean(self, image: OpenedImage) -> None:
        image.source.release()
        self._drop_levels(image)
        shutil.rmtree(self.folder / "levels" / image.id, ignore_errors=True)
        if image.owned is not None:
            shutil.rmtree(image.owned, ignore_errors=True)

    def _drop_levels(self, image: OpenedImage) -> None:
        self._planes.forget_below(image.pyramid.folder)
        shutil.rmtree(image.pyramid.folder, ignore_errors=True)
