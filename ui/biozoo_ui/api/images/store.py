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
from pathlib import Path
from typing import Any

from biozoo.errors import BiozooError, NotFoundError, StorageError

from ...jobs.pruner import Pruner
from .description import Kind, describe
from .errors import told_as
from .keeping import Share, Shares
from .opened import OpenedImage, Said, open_as
from .paths import allowed_path, safe_name
from .planes import Planes
from .reduce import little_endian
from .source import Place
from .tiles import TileCache, packed
from .zipped import is_zipped, unpack_zarr

_IDLE = 24 * 3600.0  # seconds after which an image that nobody looks at is forgotten
_KEPT = 32 * 10**9
_FIRST = 2**28  # pixels that are reduced before anybody asks for them
_WARM = 8  # images whose decoders stay ready


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
    most_kept
        Bytes of uploads that one session may keep at a time.
    most_tiles
        Bytes of compressed tiles kept in memory.
    """

    def __init__(
        self,
        folder: Path,
        *,
        image_folders: Sequence[Path] = (),
        idle_seconds: float = _IDLE,
        most_kept: int = _KEPT,
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
        self.shares = Shares(most_kept)
        self._threads = ThreadPoolExecutor((os.cpu_count() or 1) + 2, "biozoo-tiles")
        self._pruner = Pruner(self.prune, after=idle_seconds)

    # ------------------------------------------------------------------------------------ opening

    def upload_path(self, name: str) -> tuple[Path, str]:
        """A folder of its own for an upload, made, and the name to keep the file under."""
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
        scene: int | None = None,
        owned: Path | None = None,
        share: Share | None = None,
        result: bool = False,
    ) -> OpenedImage:
        """Open an image for a session. No check is made of where it lies (see `allowed_path`).

        Parameters
        ----------
        owned
            Folder to be removed with the image, and at once where it cannot be opened.
        share
            What the file takes of what the session may keep; given back likewise.
        result
            Whether a run or a preview made it.

        Raises
        ------
        BiozooError
            As `open_source`, in terms of the image's name.
        """
        self.prune()
        share = share or self.shares.begin(owner)
        try:
            if is_zipped(path):
                owned = owned or self.upload_path("")[0]
                path = self._unpacked(path, owned, share)
                name = None
            opened = self._open(
                path,
                Said(axes, kind, scene=scene),
                image_id=secrets.token_urlsafe(12),
                owner=owner,
                name=path.name if name is None else name,
                owned=owned,
                share=share,
                result=result,
            )
        except BaseException:
            share.give_back()
            if owned is not None:
                shutil.rmtree(owned, ignore_errors=True)
            raise
        with self._lock:
            self._images[opened.id] = opened
            self._used[opened.id] = time.monotonic()
        self._begin(opened)
        return opened

    def correct(
        self,
        image_id: str,
        owner: str,
        *,
        axes: str | None = None,
        pixel_size: Mapping[str, float] | None = None,
        kind: Kind | None = None,
        scene: int | None = None,
    ) -> OpenedImage:
        """What the user knows better, or another image of the file; None leaves as it is.

        Axes, kind and scene make a new version; what was said of one scene counts for no other.
        """
        old = self.get(image_id, owner)
        size = old.pixel_size if pixel_size is None else pixel_size
        if scene is not None and scene != old.source.image.scene:
            new = self._again(old, Said(axes, kind, pixel_size, scene))
        elif axes is not None or kind is not None:
            new = self._again(old, Said(axes or old.axes, kind or old.kind, size, old.scene))
        else:
            description = describe(
                old.source,
                image_id=old.id,
                name=old.description.name,
                kind=old.description.kind,
                pixel_size=size,
                version=old.description.version,
                result=old.description.result,
            )
            new = dataclasses.replace(old, description=description, pixel_size=size)
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

    def _again(self, old: OpenedImage, said: Said) -> OpenedImage:
        return self._open(
            old.path,
            said,
            image_id=old.id,
            owner=old.owner,
            name=old.description.name,
            owned=old.owned,
            share=old.share,
            version=old.description.version + 1,
            result=old.description.result,
        )

    def _open(self, path: Path, said: Said, *, image_id: str, **facts: Any) -> OpenedImage:
        return open_as(
            path,
            said,
            image_id=image_id,
            levels=self.folder / "levels" / image_id,
            planes=self._planes,
            allowed=() if facts["owned"] else self._allowed,
            **facts,
        )

    def _unpacked(self, path: Path, owned: Path, share: Share) -> Path:
        """The Zarr of a zip; of an upload the zip itself goes."""
        packed_size = path.stat().st_size
        try:
            found = unpack_zarr(path, owned, share)
        except StorageError as exc:
            told_as(exc, owned, "the disk of the server")
            raise
        except BiozooError as exc:
            told_as(exc, path, path.name)
            raise
        if path.is_relative_to(owned):
            path.unlink()
            share.add(-min(packed_size, share.size), path.name)
        return found

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

    def _begin(self, image: OpenedImage) -> None:
        """Make what a viewer shows first while its page is still on the way."""
        sizes = image.source.sizes
        channels = min(4, sizes["channel"])
        if sizes["y"] * sizes["x"] * channels > _FIRST:
            return  # minutes of work, for someone who may want to run a model only
        for channel in reversed(range(channels)):
            place = Place(0, channel, sizes["z"] // 2)
            image.pyramid.prepare(len(image.pyramid.sizes) - 1, place)

    async def tile(
        self, image: OpenedImage, level: int, place: Place, row: int, column: int
    ) -> bytes:
        """One tile, packed. Nobody else waits while a level is being made."""
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
        return content

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
        self._pruner.close()
        self._planes.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _clean(self, image: OpenedImage) -> None:
        image.source.release()
        self._drop_levels(image)
        shutil.rmtree(self.folder / "levels" / image.id, ignore_errors=True)
        if image.owned is not None:
            shutil.rmtree(image.owned, ignore_errors=True)
        if image.share is not None:
            image.share.give_back()

    def _drop_levels(self, image: OpenedImage) -> None:
        self._planes.forget_below(image.pyramid.folder)
        shutil.rmtree(image.pyramid.folder, ignore_errors=True)
