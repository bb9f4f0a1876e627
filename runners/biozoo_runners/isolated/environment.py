"""The variables of a child process: made from nothing, so that no secret can be among them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["child_environment"]

#: What libraries read once, when they are imported.
_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)
_LANGUAGE = ("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_NUMERIC", "TZ")
#: Which card is which number, and where containers put the driver's library.
_CARDS = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "LD_LIBRARY_PATH")
_WINDOWS = ("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "PATHEXT", "NUMBER_OF_PROCESSORS")


def child_environment(
    scratch: Path, threads: int, device: str, env: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of a child.

    Parameters
    ----------
    scratch
        Its home, temporary folder and caches.
    threads
        For OpenMP, BLAS and their like.
    device
        Where it is no NVIDIA card, none is visible.
    env
        Variables to add.
    """
    cuda = device.startswith("cuda")
    keep = ("PATH", *_LANGUAGE, *(_CARDS if cuda else ()))
    keep += _WINDOWS if sys.platform == "win32" else ()
    made = {name: os.environ[name] for name in keep if name in os.environ}
    made |= dict.fromkeys(("HOME", "TMPDIR"), str(scratch))
    if sys.platform == "win32":
        made |= dict.fromkeys(("USERPROFILE", "LOCALAPPDATA", "TEMP", "TMP"), str(scratch))
    if not cuda:
        made["CUDA_VISIBLE_DEVICES"] = "-1"
    made |= dict.fromkeys(_THREADS, str(threads))
    made["ORT_DISABLE_TELEMETRY"] = "1"
    return {**made, **env}
