"""The context of a network that takes one size only: from two windows of that size."""

from __future__ import annotations

from dataclasses import replace

from .context import Context, context_of, depths_of, ratios, resolved
from .scenes import Depths, Lab
from .size_rules import Found

__all__ = ["measure_fixed"]

#: Units tried where the size is fixed, then halved as long as tiles agree.
UNITS = (64, 48, 56, 40, 32, 24, 16, 8, 4, 2, 1)


def measure_fixed(lab: Lab, found: Found, group: str, followers: list[int], size: int) -> Context:
    """Two windows of the one size, side by side: each is an edge inside the other."""
    thin = {g.id: found.base[g.id] for g in found.groups if g.id != group}
    least = ratios(lab, group)
    scene = lab.scene(1, {**thin, group: size + size // 4}, group)
    far = lab.see(scene, {}, {**thin, group: size})

    def edges(move: int, kind: int = 1) -> dict[int, Depths]:
        s, f = scene, far
        if kind != 1:
            s = lab.scene(kind, {**thin, group: size + size // 4}, group, max(1, size * 3 // 8))
            f = lab.see(s, {}, {**thin, group: size})
        near = lab.see(s, {group: move}, {**thin, group: size})
        return {n: lab.depths(n, group, f, near) for n in followers}

    firsts = [u for u in UNITS if size % u == 0 and u <= size // 4 and u % least == 0][:2]
    if not firsts:
        return Context(0, size, False, dict.fromkeys(followers), 1.0, 1.0, size // 2)
    local = False
    for unit in firsts:
        best = edges(_odd(size, unit))
        if local := resolved(best):
            break
    for p in (2, 3, 5, 7):
        while local and unit % p == 0 and (unit // p) % least == 0:
            tried = edges(_odd(size, unit // p))
            if not resolved(tried):
                break
            unit, best = unit // p, tried
    found_edges = [best, edges(_odd(size, unit), 0), edges(_odd(size, unit), 2)]
    local = all(map(resolved, found_edges))
    context = context_of(lab, group, found_edges, unit, local, {}, size // 2)
    local = local and 2 * context.halo < size
    if not local:  # a halo would cost every image of just this size, and help little
        context = replace(context, halo=0)
    return replace(
        context,
        local=local,
        field=depths_of(lab, group, found_edges) if local else dict.fromkeys(followers),
    )


def _odd(size: int, unit: int) -> int:
    """The odd multiple of `unit` next below a quarter of `size`."""
    n = size // 4 // unit
    return (n - (n % 2 == 0)) * unit
