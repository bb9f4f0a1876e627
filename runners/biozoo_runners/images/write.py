"""Write an image, its format chosen by the file name's ending.

All formats are written beside and renamed at the end (`atomic`). Pixels are handed on block by
block, so that an array mapped from disk is not copied into memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from biozoo.axes import letters, parse_axes
from biozoo.errors import ImageMismatchError, StorageError, UsageError

from .atomic import written_beside
from .ome_zarr import is_zarr
from .preview import preview

if TYPE_CHECKING:
    import xarray as xr

_ENDINGS = ".ome.tif, .ome.tiff, .tif, .tiff, .ome.zarr, .zarr, .npy or .png"


def write_image(path: str | Path, data: xr.DataArray, *, overwrite: bool = True) -> Path:
    """Write `data`; missing parent folders are made.

    - `.ome.tif`, `.ome.tiff`, `.tif`, `.tiff`: OME-TIFF, axes in the order tczyx.
    - `.ome.zarr`, `.zarr`: OME-Zarr 0.5, axes in the order tczyx, with smaller levels where a side
      exceeds 1024 pixels.
    - `.npy`: the bare array in its own order of axes; everything else is lost.
    - `.png`: an 8-bit picture for the eye (see `preview`), of one plane.

    Pixel sizes, units and channel names go into OME-TIFF and OME-Zarr. There, batch and index axes
    of one position are left out.

    Parameters
    ----------
    path
        Its ending chooses the format.
    data
        Dims are axis ids; `attrs["pixel_size"]`, `attrs["unit"]` (axis id -> value), coordinate
        "channel" and `attrs["name"]` where known.
    overwrite
        Whether an existing output may be replaced.

    Raises
    ------
    UsageError
        For an ending that is not one of these.
    ImageMismatchError
        For data that the format cannot hold without loss.
    StorageError
        For no space, no permission, or an output that may not be replaced.
    """
    path = Path(path).expanduser()
    ending = path.name.lower()
    axes = parse_axes([str(d) for d in data.dims])
    if not ending.endswith((".tif", ".tiff", ".zarr", ".npy", ".png")):
        raise UsageError(f"Cannot write {path}: end its name in {_ENDINGS}.")
    if data.size == 0:
        raise ImageMismatchError(f"Cannot write {path}: the image has no pixels, {data.sizes}.")
    if path.exists() and not overwrite:
        raise StorageError(path=path, why="it exists already", hint="Choose another name.")
    if ending.endswith((".tif", ".tiff")):
        from .write_tiff import write_tiff

        write_tiff(path, data)
    elif ending.endswith(".zarr"):
        check_place(path)
        from .write_zarr import write_zarr

        write_zarr(path, data)
    elif ending.endswith(".npy"):
        with written_beside(path) as part, part.open("wb") as file:
            np.save(file, data.values, allow_pickle=False)
    else:
        flat = data.squeeze([a for a in axes if a not in ("y", "x") and data.sizes[a] == 1])
        if extra := [a for a in flat.dims if a not in ("y", "x", "channel")]:
            raise ImageMismatchError(
                f"Cannot write {path}: PNG holds one plane, the image has axes {letters(axes)}. "
                f"Choose one position along {', '.join(map(str, extra))}, or write .ome.tif."
            )
        from PIL import Image as Pillow

        with written_beside(path) as part:
            Pillow.fromarray(preview(flat, max_size=None)).save(part, format="PNG")
    return path


def check_place(path: Path) -> None:
    """Refuse to put an OME-Zarr where somebody has other files; raises `StorageError`."""
    if path.is_dir() and any(path.iterdir()) and not is_zarr_output(path):
        raise StorageError(
            path=path,
            why="a folder of that name exists and is no Zarr image",
            hint="Remove it, or choose another name.",
        )


def is_zarr_output(path: Path) -> bool:
    """Whether a folder holds Zarr metadata itself, whatever its name."""
    return is_zarr(path) and any((path / m).exists() for m in ("zarr.json", ".zgroup", ".zattrs"))
