"""An upload: streamed to disk, counted while it comes, opened when it is there."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from anyio import to_thread
from fastapi import Request

from biozoo.errors import StorageError

from .errors import UploadTooLargeError
from .keeping import Share
from .opened import OpenedImage
from .store import ImageStore

_BUFFER = 2**20


async def take(
    request: Request, store: ImageStore, *, owner: str, name: str, most: int
) -> OpenedImage:
    """Take a file, the body of a request, and open it.

    Parameters
    ----------
    most
        Largest file that is taken, bytes.

    Raises
    ------
    UploadTooLargeError, TooMuchKeptError
        Told by the size that the sender says before anything is read, else while counting.
    StorageError
        The disk is full.
    BiozooError
        See `ImageStore.add`.
    """
    folder, kept = await to_thread.run_sync(store.upload_path, name)
    share = store.shares.begin(owner)
    try:
        _refuse_early(request, kept, folder, most, share)
        await _write(request.stream(), folder / kept, most, share)
        return await to_thread.run_sync(
            lambda: store.add(owner, folder / kept, name=kept, owned=folder, share=share)
        )
    except BaseException:  # too large, a full disk, or the sender left
        share.give_back()
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _refuse_early(request: Request, name: str, folder: Path, most: int, share: Share) -> None:
    """Refuse by what the sender says about the size, before any of it is read."""
    said = request.headers.get("content-length", "")
    size = int(said) if said.isdecimal() else 0
    if size > most:
        raise UploadTooLargeError(name=name, most=most)
    share.fits(size, name)
    if size > shutil.disk_usage(folder).free:
        raise _no_room(name)


async def _write(chunks: AsyncIterator[bytes], path: Path, most: int, share: Share) -> None:
    """Stream to disk, counting: what the sender says about the size need not be true."""
    waiting = bytearray()
    try:
        with path.open("wb") as file:
            async for chunk in chunks:
                waiting += chunk
                if share.size + len(waiting) > most:
                    raise UploadTooLargeError(name=path.name, most=most)
                if len(waiting) >= _BUFFER:
                    share.add(len(waiting), path.name)
                    await to_thread.run_sync(file.write, bytes(waiting))
                    waiting.clear()
            share.add(len(waiting), path.name)
            await to_thread.run_sync(file.write, bytes(waiting))
    except OSError as exc:
        raise _no_room(path.name, exc.strerror or "") from exc


def _no_room(name: str, why: str = "") -> StorageError:
    return StorageError(
        path=name,
        why=why or "there is not enough room for it on the disk of this server",
        hint="Make room there, or open it by its path.",
    )
