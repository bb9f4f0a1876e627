"""Options that several verbs share, with the one text that explains each."""

from __future__ import annotations

from typing import Annotated

import typer

from biozoo.axes import SPACE
from biozoo.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print the same facts as JSON.")]
Axes = Annotated[
    str | None,
    typer.Option(
        metavar="AXES",
        help="The image's axes, slowest first, where its file does not say: letters of "
        "b (batch), t (time), c (channel), z, y, x; for example zyx.",
    ),
]
Channel = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER|NAME|gray",
        help="Which channel the model gets; several by comma; gray is the mean of an RGB image.",
    ),
]
Scene = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Which image of a file that holds several, from 0."),
]
PixelSize = Annotated[
    str | None,
    typer.Option(
        metavar="0.5|z=2,y=0.5,x=0.5",
        help="Micrometres of a pixel, where the file does not say them or says others; one number "
        "is for y and x.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda|cuda:N",
        help="Where to compute: processor (cpu) or NVIDIA card (cuda); auto takes the best.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(metavar="FORMAT", help="Which of the package's weights to use, e.g. onnx."),
]
Backend = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What executes the weights where several can, e.g. onnxruntime or openvino.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="auto|float32|bfloat16|float16|int8",
        help="What to compute in. Other than float32 is used only where the model's test tensors "
        "and a few tiles of the image agree with it; auto takes the fastest way that does.",
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        metavar="0.01",
        help="With --precision: the largest difference to accept, in units of the model's output "
        "(default: what the package allows).",
    ),
]
Threads = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="CPU threads (default: every core).")
]


def parse_tile(text: str | None) -> dict[str, int] | None:
    """`y=512,x=512` as axis id -> pixels.

    Raises
    ------
    UsageError
        If a part is not AXIS=NUMBER.
    """
    if text is None:
        return None
    tile: dict[str, int] = {}
    for part in text.split(","):
        axis, equals, number = part.strip().partition("=")
        if not (axis and equals and number.isdigit() and int(number) > 0):
            raise UsageError(
                f"--tile {text}: '{part}' is not AXIS=PIXELS. Write for example --tile y=512,x=512."
            )
        tile[axis] = int(number)
    return tile


def parse_channel(text: str | None) -> int | str | list[int | str] | None:
    """`0`, `DAPI`, `gray` or `0,2` as the runner takes it."""
    if text is None:
        return None
    parts: list[int | str] = [int(p) if p.isdigit() else p for p in map(str.strip, text.split(","))]
    return parts[0] if len(parts) == 1 else parts


def parse_pixel_size(text: str | None) -> dict[str, float] | None:
    """`0.5` or `z=2,y=0.5,x=0.5` as axis id -> micrometres.

    Raises
    ------
    UsageError
        If it is neither, or not above 0.
    """
    if text is None:
        return None
    parts = [part.strip().partition("=") for part in text.split(",")]
    named = {axis: number for axis, _, number in parts} if "=" in text else {"y": text, "x": text}
    try:
        found = {axis: float(number) for axis, number in named.items()}
    except ValueError:
        found = {}
    if len(found) != len(parts) + ("=" not in text) or not all(
        axis in SPACE and 0 < size < float("inf") for axis, size in found.items()
    ):
        raise UsageError(
            f"--pixel-size {text} cannot be understood. Give micrometres above 0, for example "
            "--pixel-size 0.5 or --pixel-size z=2,y=0.5,x=0.5."
        )
    return found
