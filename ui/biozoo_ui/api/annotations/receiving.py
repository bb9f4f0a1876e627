"""A file that is imported: streamed to disk, a zipped OME-Zarr unpacked, gone again afterwards."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

from biozoo.errors import ImageReadError, StorageError

from ...annotations.importing import holds_rois
from ..images.errors import UploadTooLargeError
from ..images.zipped import NoZarrError, is_zipped, unpack_zarr

if TYPE_CHECKING:
    from fastapi import Request

    from ..images import ImageStore

_BUFFER = 2**20


@asynccontextmanager
async def received(
    request: Request, images: ImageStore, *, owner: str, name: str, most: int
) -> AsyncIterator[tuple[Path, str]]:
    """The body of a request as a file or an OME-Zarr folder, and the name it has.

    Raises
    ------
    UploadTooLargeError, TooMuchKeptError
        It is larger than is taken.
    StorageError
        The disk is full.
    ImageReadError
        It is a zip of neither ROIs nor one OME-Zarr.
    """
    folder, kept = await to_thread.run_sync(images.upload_path, name)
    share = images.shares.begin(owner)
    try:
        path = folder / kept
        size, waiting = 0, bytearray()
        with path.open("wb") as file:
            async for chunk in request.stream():
                waiting += chunk
                size += len(chunk)
                if size > most:
                    raise UploadTooLargeError(name=kept, most=most)
                if len(waiting) >= _BUFFER:
                    await to_thread.run_sync(file.write, bytes(waiting))
                    waiting.clear()
            await to_thread.run_sync(file.write, bytes(waiting))

        def settled() -> Path:
            if not is_zipped(path) or holds_rois(path):
                return path
            try:
                return unpack_zarr(path, folder, share)
            except NoZarrError as exc:
                raise ImageReadError(
                    path=kept,
                    why="it is a zip with neither ImageJ ROIs (.roi) nor an OME-Zarr in it.",
                    hint="Save the ROIs anew, or give the files in it one by one.",
                ) from exc

        yield await to_thread.run_sync(settled), kept
    except OSError as exc:
        if isinstance(exc, StorageError) or not exc.errno:
            raise
        raise StorageError(path=kept, why=exc.strerror or "the disk of the server is full") from exc
    finally:
        share.give_back()
        await to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
