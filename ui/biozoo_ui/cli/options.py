"""Options that several verbs share, with the one text that explains each."""

from __future__ import annotations

from typing import Annotated

import typer

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
