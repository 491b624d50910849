"""Resolution buckets for clips and pictures as they are: what a user without any could start from."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from itertools import product

from ltxcore.encode.buckets import Bucket, choose, nearest

ALIKE = 0.12
"""Natural logarithms of width / height that lie no further apart are one shape: 3:2 and 4:3 are, 16:9 and 3:2 are not."""

LONGER = 1.5
"""A longer bucket of a shape has at least this many times the frames of the one before."""

MOST_LENGTHS = 3
"""Buckets of clips of one shape."""

MOST_FRAMES = 121
MOST_TOKENS = 16_384
MOST_CELLS = 2_040
"""What is proposed at most, however large the clips are: frames, latent cells of a sample, and those of one frame (1920 x 1088 pixels); LTX-2 could take more."""

CROPPED = 4.0
"""How much more what is cropped counts than what is made smaller."""


def proposed_buckets(sizes: Iterable[Bucket], scale: Sequence[int]) -> tuple[Bucket, ...]:
    """Buckets such that every clip and picture goes to one of its own shape, at about its own size, and none is enlarged.

    Clips of one shape share a width and a height, since clips choose their bucket by shape and length alone; the smallest of them decides. Very large clips
    get smaller buckets, of at most `MOST_FRAMES` frames and `MOST_TOKENS` latent cells.

    Args:
        sizes: of clips and pictures as shown, each as a bucket of its own; pictures have one frame.
        scale: pixel frames, rows and columns that a latent cell of the codec covers.
    """
    shapes = _shapes(sorted(set(sizes), key=_shape))
    while True:
        buckets = {index: _of_shape(shape, scale) for index, shape in enumerate(shapes)}
        every = [bucket for those in buckets.values() for bucket in those]
        astray = _astray(shapes, buckets, every)
        if astray is None:
            return tuple(sorted(every, key=lambda bucket: (-bucket.width * bucket.height, bucket.width, -bucket.frames)))
        one, other = sorted(astray)
        shapes = [*shapes[:one], *shapes[one + 1 : other], shapes[one] + shapes[other], *shapes[other + 1 :]]


def proposed_line(sizes: Iterable[Bucket], scale: Sequence[int]) -> str:
    """The buckets as the line of a run file."""
    return f'resolution_buckets = "{";".join(map(str, proposed_buckets(sizes, scale)))}"'


def _shape(size: Bucket) -> float:
    return math.log(size.width / size.height)


def _shapes(sizes: Sequence[Bucket]) -> list[list[Bucket]]:
    """Sizes sorted by shape, parted into those that are alike."""
    shapes: list[list[Bucket]] = []
    for size in sizes:
        if shapes and _shape(size) - _shape(shapes[-1][0]) <= ALIKE:
            shapes[-1].append(size)
        else:
            shapes.append([size])
    return shapes


def _of_shape(sizes: Sequence[Bucket], scale: Sequence[int]) -> list[Bucket]:
    """Buckets of one width and height, for the lengths that there are."""
    lengths = _lengths({min(nearest(size, scale).frames, _most_frames(scale)) for size in sizes})
    cells = min(MOST_CELLS, max(1, MOST_TOKENS // ((lengths[-1] - 1) // scale[0] + 1)))
    width, height = _width_and_height(sizes, scale, cells)
    return [Bucket(width, height, frames) for frames in lengths]


def _most_frames(scale: Sequence[int]) -> int:
    return (MOST_FRAMES - 1) // scale[0] * scale[0] + 1


def _lengths(frames: Collection[int]) -> list[int]:
    """Frame counts of buckets: the least that there is, so that every clip has one, and a few that are much longer."""
    found: list[int] = []
    for count in sorted(frames):
        if not found or found[-1] == 1 or count >= LONGER * found[-1]:
            found.append(count)
    pictures, clips = [each for each in found if each == 1], [each for each in found if each > 1]
    if len(clips) > MOST_LENGTHS:
        clips = [clips[0], clips[len(clips) // 2], clips[-1]]
    return [*pictures, *clips]


def _width_and_height(sizes: Sequence[Bucket], scale: Sequence[int], cells: int) -> tuple[int, int]:
    """The largest width and height that enlarge none of these, as near to their shape as the grid allows."""
    _, rows, columns = scale
    most_columns = max(1, min(size.width for size in sizes) // columns)
    most_rows = max(1, min(size.height for size in sizes) // rows)
    middle = sorted(map(_shape, sizes))[len(sizes) // 2]

    def worth(pair: tuple[int, int]) -> float:
        across, down = pair
        return across * down * math.exp(-CROPPED * abs(math.log(across * columns / (down * rows)) - middle))

    wide, high = min(most_columns, 4 * math.isqrt(cells)), min(most_rows, 4 * math.isqrt(cells))
    fitting = [pair for pair in product(range(1, wide + 1), range(1, high + 1)) if pair[0] * pair[1] <= cells]
    across, down = max(fitting, key=worth)
    return across * columns, down * rows


def _astray(shapes: Sequence[Sequence[Bucket]], buckets: dict[int, list[Bucket]], every: Sequence[Bucket]) -> tuple[int, int] | None:
    """Two shapes of which a clip of the one would go to the other and be enlarged, or lose more of its frames."""
    for index, sizes in enumerate(shapes):
        for size in sizes:
            is_image = size.frames == 1
            own = choose(buckets[index], size.width, size.height, size.frames, is_image)
            taken = choose(every, size.width, size.height, size.frames, is_image)
            if own is None or taken is None or taken in buckets[index]:
                continue
            if taken.width > size.width or taken.height > size.height or taken.frames < own.frames:
                return index, next(other for other, those in buckets.items() if taken in those)
    return None
