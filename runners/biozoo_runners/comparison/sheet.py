"""The contact sheet as one picture, for paper and slides: rows are models, columns scales."""

from __future__ import annotations

import io
import textwrap
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .drawing import drawn, outlined, shown
from .result import one_line

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageDraw import ImageDraw

    from .result import Comparison, Entry

__all__ = ["png", "sheet"]

#: Pixels: a picture's longer side, between pictures, around all, the models' names.
BOX, GAP, MARGIN, NAMES = 300, 16, 28, 190
CAPTION, LEADING = 50, 20

INK, MUTED, LINE, EMPTY, BEST = "#1b1b1b", "#5c5c5c", "#d0d0d0", "#f0f0f0", "#c2500a"
TITLE, NORMAL, SMALL = 26, 17, 14


def png(picture: Picture) -> bytes:
    """A picture as the content of a PNG file."""
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()


def sheet(comparison: Comparison) -> Picture:
    """Draw the contact sheet; dark on white, at least as wide as its words need."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    width = max(2 * MARGIN + NAMES + len(comparison.scales) * (BOX + GAP), 1200)
    tall = max(_height(e.labels, e.values) for e in comparison.entries)
    row = tall + CAPTION + GAP
    beside = _beside(comparison, width)
    top = max(_height(comparison.picture), LEADING * len(beside)) + 2 * GAP
    words = [w for s in comparison.skipped for w in _lines(f"Left out: {s}", width - 2 * MARGIN, 3)]
    height = MARGIN + 74 + top + 34 + row * len(comparison.models) + LEADING * len(words) + MARGIN
    picture = Pillow.new("RGB", (width, height), "white")
    pen = _Pen(picture, ImageDraw.Draw(picture))
    pen.text(MARGIN, MARGIN, f"Models compared on {Path(comparison.image).name}", TITLE)
    pen.text(MARGIN, MARGIN + 38, _subtitle(comparison), NORMAL, MUTED)
    y = MARGIN + 74
    x = _region(pen, comparison, y)
    for i, line in enumerate(beside):
        pen.text(x, y + LEADING * i, line, SMALL, MUTED)
    y += top
    for i, scale in enumerate(comparison.scales):
        how = "" if scale == 1 else " (enlarged)" if scale > 1 else " (shrunk)"
        pen.text(_column(i) + BOX / 2, y, f"scale {scale:g}{how}", NORMAL, MUTED, anchor="ma")
    y += 34
    for model in comparison.models:
        _row(pen, comparison, model, y, tall)
        y += row
    for line in words:
        pen.text(MARGIN, y, line, SMALL, MUTED)
        y += LEADING
    return picture


def _row(pen: _Pen, comparison: Comparison, model: str, y: int, tall: int) -> None:
    entries = comparison.of(model)
    pen.line(MARGIN, y - GAP // 2, pen.picture.width - MARGIN)
    below = pen.wrapped(MARGIN, y, one_line(model), NORMAL, width=20)
    first = entries[0]
    ran = next((e.ran for e in entries if e.ran), "")
    output = next((e.output for e in entries if e.output), "")
    for text in (f"version {first.version}" if first.version else "", ran, output):
        if text:
            below = pen.wrapped(MARGIN, below + 4, one_line(text), SMALL, MUTED, width=25)
    for entry in entries:
        x = _column(comparison.scales.index(entry.scale))
        _cell(pen, comparison, entry, x, y, tall)


def _cell(pen: _Pen, comparison: Comparison, entry: Entry, x: int, y: int, tall: int) -> None:
    best = entry in comparison.best
    assert comparison.picture is not None
    picture = drawn(entry, comparison.picture, BOX)
    if picture is None:
        pen.draw.rectangle((x, y, x + BOX - 1, y + tall - 1), fill=EMPTY)
        told = f"failed: {entry.fault}" if entry.fault else entry.note
        pen.wrapped(x + 10, y + 10, one_line(told), SMALL, MUTED, width=38, lines=tall // 20 - 1)
        return
    pen.picture.paste(picture, (x, y))
    if best:
        for i in range(1, 5):
            corners = (x - i, y - i, x + picture.width - 1 + i, y + picture.height - 1 + i)
            pen.draw.rectangle(corners, outline=BEST)
    below = y + picture.height + 7
    found = "" if entry.objects is None else f"{entry.objects} objects"
    if head := entry.score_text or found:
        pen.text(x, below, head, NORMAL, BEST if best else INK)
    else:
        short = textwrap.shorten(one_line(entry.note), 44, placeholder=" ...")
        pen.text(x, below + 2, short, SMALL, MUTED)
    if best:
        pen.text(x + BOX, below, "best", NORMAL, BEST, anchor="ra")
    took = f"{entry.seconds:.2f} s, {entry.seconds_per_megapixel:.2f} s/megapixel"
    pen.text(
        x, below + 21, f"{found}, {took}" if found and entry.score_text else took, SMALL, MUTED
    )


def _region(pen: _Pen, comparison: Comparison, y: int) -> int:
    """The region itself, and its annotation; returns where the place beside them begins."""
    assert comparison.picture is not None
    pen.wrapped(MARGIN, y, "The image", NORMAL, width=20)
    pen.picture.paste(shown(comparison.picture, BOX), (_column(0), y))
    if comparison.truth is None:
        return _column(1)
    below = pen.wrapped(MARGIN, y + 40, "and its annotation", NORMAL, width=20)
    pen.wrapped(MARGIN, below + 2, one_line(Path(comparison.labels).name), SMALL, MUTED, width=25)
    pen.picture.paste(outlined(comparison.picture, comparison.truth, BOX), (_column(1), y))
    return _column(2)


def _beside(comparison: Comparison, width: int) -> list[str]:
    """What explains the pictures, as lines for the place beside the region."""
    room = width - MARGIN - _column(1 if comparison.truth is None else 2)
    lines: list[str] = []
    for text in (*comparison.how_to_read, *comparison.explanations):
        lines += [*_lines(text, room, 8), ""]
    return lines[:-1]


def _lines(text: str, room: int, most: int) -> list[str]:
    """Text wrapped to a width in pixels."""
    return textwrap.wrap(_plain(text), max(room // 7, 20), max_lines=most, placeholder=" ...")


def _height(*pictures: Any) -> int:
    """Height of a cell with one of these pictures."""
    shapes = [p.shape for p in pictures if p is not None]
    return max((max(1, round(s[0] * BOX / max(s[:2]))) for s in shapes), default=BOX // 2)


def _column(number: int) -> int:
    return MARGIN + NAMES + number * (BOX + GAP)


def _subtitle(comparison: Comparison) -> str:
    return f"{comparison.region} ({comparison.region.how})"


@dataclass(frozen=True)
class _Pen:
    """Draws text on a picture, in Pillow's own letters: the same picture on every machine."""

    picture: Picture
    draw: ImageDraw

    def text(
        self, x: float, y: float, text: str, size: int, colour: str = INK, anchor: str = "la"
    ) -> None:
        self.draw.text((x, y), _plain(text), colour, _font(size), anchor=anchor)

    def wrapped(
        self, x: int, y: int, text: str, size: int, colour: str = INK, *, width: int, lines: int = 6
    ) -> int:
        """Lines of at most `width` letters; returns where they end."""
        for line in textwrap.wrap(text, width, max_lines=max(lines, 1), placeholder=" ..."):
            self.text(x, y, line, size, colour)
            y += size + 5
        return y

    def line(self, x: int, y: int, to: int) -> None:
        self.draw.line((x, y, to, y), fill=LINE)


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _plain(text: str) -> str:
    """Text in the letters that Pillow's own font has; the page shows it as it is."""
    flat = unicodedata.normalize("NFKD", text)
    return (
        "".join(c for c in flat if not unicodedata.combining(c)).encode("ascii", "replace").decode()
    )
