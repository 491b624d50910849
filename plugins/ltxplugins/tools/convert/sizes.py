"""Sizes of clips that LTX-2 takes: widths and heights in steps of 32 pixels, and one frame more than a multiple of eight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ltxplugins.tools.convert.kinds import Wrong, spoken, whole
from ltxplugins.tools.convert.tree import Tree

STEP = 32
FRAMES = 8
LONGEST = 16_384
"""The longest side, in pixels, that is taken for one."""

RATIOS = (9 / 16, 2 / 3, 3 / 4, 1.0, 4 / 3, 3 / 2, 16 / 9)
"""Usual shapes of clips, as width over height, for trainers that fit the shape of every clip to an area."""


def length(tree: Tree) -> int:
    """Read the length of a side in pixels."""
    found = whole(tree)
    if not 1 <= found <= LONGEST:
        raise Wrong(f"must be from 1 to {LONGEST} pixels, not {spoken(tree)}", tree.line)
    return found


def side(size: float) -> int:
    """Return the largest side length that a clip can have, up to `size`."""
    return max(STEP, int(size) // STEP * STEP)


def frames(count: int) -> int:
    """Return the largest number of frames that a clip can have, up to `count`."""
    return max(1, (count - 1) // FRAMES * FRAMES + 1)


def shapes(area: float, ratios: Iterable[float] = RATIOS) -> list[tuple[int, int]]:
    """Return pairs of width and height with about the given area in pixels, one pair for each ratio of width to height."""
    found = [tuple(max(STEP, round(math.sqrt(area * each) / STEP) * STEP) for each in (ratio, 1 / ratio)) for ratio in ratios]
    return list(dict.fromkeys((width, height) for width, height in found))


def buckets(sizes: Iterable[Sequence[int]], counts: Iterable[int]) -> str:
    """Write resolution buckets: every size with every number of frames."""
    each = list(counts)
    return ";".join(dict.fromkeys(f"{size[0]}x{size[1]}x{count}" for size in sizes for count in each))
