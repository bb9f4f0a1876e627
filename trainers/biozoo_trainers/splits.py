"""Which images are held out: decided by their content, before training, and for all later rounds.

An image's place in the order of all images is the sha256 of its digest, so it does not depend on
names, folders or what else is there. It is held out where that number, as a fraction of all
possible ones, is below the share. So an image has the same side in every round with the same share,
whatever is added. With few images chance can leave one side empty, or far from the share: then the
first in the order, or the last, change sides, and are remembered by digest in the package's
lineage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from biozoo.errors import UsageError

from .pairs import Pair

__all__ = ["Split", "split"]


@dataclass(frozen=True)
class Split:
    """Both sides sorted by stem.

    Attributes
    ----------
    train, held_out
        Pairs; no image is in both.
    notes
        What was not decided by the hash and the share alone.
    """

    train: tuple[Pair, ...]
    held_out: tuple[Pair, ...]
    notes: tuple[str, ...] = ()


def split(
    pairs: Sequence[Pair],
    share: float = 0.2,
    held_out: Collection[str] = (),
    trained: Collection[str] = (),
) -> Split:
    """Divide pairs into those to train on and those to measure with.

    Parameters
    ----------
    pairs
        Two different images or more.
    share
        Part that is held out, above 0 and below 1.
    held_out, trained
        Digests that an earlier round held out (they stay so) or trained on (they are never
        measured with).

    Raises
    ------
    UsageError
        Fewer than two different images, a share outside 0 to 1, or all images stand fixed on one
        side.
    """
    if not 0 < share < 1:
        raise UsageError(f"The part that is held out is above 0 and below 1, not {share}.")
    if len({p.digest for p in pairs}) < 2:
        raise UsageError(
            "There is one image only: what is learned from it cannot be measured on another. Give "
            "two images or more."
        )
    fixed_out, fixed_in = set(held_out), set(trained) - set(held_out)
    free = [p for p in pairs if p.digest not in fixed_out | fixed_in]
    free.sort(key=lambda p: place(p.digest))
    aside = [p for p in pairs if p.digest in fixed_out]
    chosen = [p for p in free if place(p.digest) < share]
    notes = []
    if aside or len(free) < len(pairs):
        notes.append(
            f"{len(aside)} images stay held out and {len(pairs) - len(free) - len(aside)} stay for "
            "training, as in an earlier round"
        )
    least, most = _bounds(len(pairs), share)
    count = min(max(len(aside) + len(chosen), least), most) - len(aside)
    count = min(max(count, 0), len(free))
    if count != len(chosen):
        notes.append(
            f"by their content alone {len(aside) + len(chosen)} of {len(pairs)} images would be "
            f"held out; {len(aside) + count} are"
        )
    out = {p.digest for p in (*aside, *free[:count])}
    sides = (
        tuple(sorted((p for p in pairs if p.digest not in out), key=lambda p: p.stem)),
        tuple(sorted((p for p in pairs if p.digest in out), key=lambda p: p.stem)),
    )
    if not all(sides):
        what = "held out" if not sides[0] else "trained on"
        raise UsageError(
            f"All of these images were {what} in an earlier round, so none is left for the other "
            "side. Add new images."
        )
    return Split(*sides, notes=tuple(notes))


def place(digest: str) -> float:
    """Where an image stands, 0 to 1: evenly spread, and the same always.

    The digest is hashed again with a word of ours: what else sorts by it is independent of this.
    """
    made = hashlib.sha256(f"biozoo held out {digest}".encode()).digest()
    return int.from_bytes(made[:8]) / 2**64


def _bounds(count: int, share: float) -> tuple[int, int]:
    """Fewest and most images that are held out of so many."""
    wanted = share * count
    least = max(1, round(wanted * 0.8))
    most = min(count - 1, max(least, int(wanted * 1.5) + 1))
    return least, most
