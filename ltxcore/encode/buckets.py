"""Resolution buckets, which are the sizes that clips are fitted to, and the choice of a bucket for each clip.

For users who have no buckets to start with, buckets are proposed that suit their clips and pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import product

import attrs

from ltxcore.config.preprocessing import MOST_TOKENS
from ltxcore.dataset.columns import Column
from ltxcore.errors import Problem, listed

DIGITS = 10
"""A side or a length with at least this many digits is refused. No clip is that large, and Python refuses to read a number with thousands
of digits.
"""

FORM = 'Write width x height x frames, such as "960x544x49"; separate several buckets with ";".'


@attrs.frozen(order=True)
class Bucket:
    """A size of clips, in pixels and frames."""

    width: int
    height: int
    frames: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}x{self.frames}"

    def cells(self, scale: Sequence[int]) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of a clip of this size; `scale` is the codec's (frames, rows, columns)."""
        return (self.frames - 1) // scale[0] + 1, self.height // scale[1], self.width // scale[2]


def parse_buckets(text: str, scale: Sequence[int], where: str) -> tuple[tuple[Bucket, ...], tuple[Problem, ...]]:
    """Parse the buckets in a text such as `WxHxF;WxHxF`, in order, and find everything that is wrong with them.

    Args:
        text: the option's value.
        scale: the pixel frames, rows and columns that a latent cell of the codec covers.
        where: the option's place, for messages.
    """
    buckets: list[Bucket] = []
    problems: list[Problem] = []
    for part in (part.strip() for part in text.split(";")):
        if not part:
            continue
        sizes = [size.strip() for size in part.lower().split("x")]
        if len(sizes) != 3 or not all(size.isdecimal() and len(size) < DIGITS and int(size) > 0 for size in sizes):
            problems.append(Problem(f'"{part if len(part) <= 40 else f"{part[:37]}..."}" is not a bucket', where, FORM))
            continue
        bucket = Bucket(*(int(size) for size in sizes))
        wrong = tuple(misfits(bucket, scale))
        problems += [Problem(f"the bucket {bucket} has {what}", where, remedy) for what, remedy in wrong]
        if bucket in buckets:
            problems.append(Problem(f"the bucket {bucket} is listed twice", where, "List each bucket once."))
        buckets.append(bucket)
    if not buckets and not problems:
        problems.append(Problem("does not name any bucket", where, FORM))
    return tuple(buckets), tuple(problems)


def misfits(bucket: Bucket, scale: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Yield the reasons why a codec cannot take clips of this size unchanged, each with the nearby sizes that the codec takes."""
    frames, rows, columns = scale
    for size, name, step in ((bucket.width, "width", columns), (bucket.height, "height", rows)):
        if size % step:
            below, above = size // step * step, (size // step + 1) * step
            yield f"{name} {size}, which is not a multiple of {step}", f"Use {f'{below} or {above}' if below else above}."
    if bucket.frames % frames != 1 % frames:
        below = (bucket.frames - 1) // frames * frames + 1
        yield f"{bucket.frames} frames, which is not a multiple of {frames} plus 1", f"Use {below} or {below + frames}."


def choose(buckets: Iterable[Bucket], width: int, height: int, frames: int, is_image: bool = False) -> Bucket | None:
    """Choose the bucket of a clip from the buckets that the clip is long enough for; None if there is none.

    The nearest aspect ratio wins, then the most frames, then the largest area.

    Args:
        buckets: the buckets to choose from.
        width: the width of the upright clip in pixels.
        height: the height of the upright clip in pixels.
        frames: the number of frames that the clip has.
        is_image: whether the clip is an image, which fits only buckets of one frame.

    Source: docs/explanation/arithmetic.md#choice-of-a-bucket
    """
    fitting = [bucket for bucket in buckets if (bucket.frames == 1 if is_image else bucket.frames <= frames)]
    size = Bucket(width, height, frames)
    return min(fitting, key=lambda bucket: (aspect_distance(bucket, size), -bucket.frames, -bucket.width * bucket.height), default=None)


def aspect_distance(bucket: Bucket, size: Bucket) -> float:
    """Return the difference between the logarithms of the aspect ratios of two sizes."""
    # The ratio is exact, so that buckets of the same aspect ratio tie whatever their size, and the number of frames decides.
    ratio = Fraction(size.width * bucket.height, size.height * bucket.width)
    return abs(math.log(ratio))


def common_size(sizes: Collection[Bucket], scale: Sequence[int], where: str) -> tuple[Bucket | None, Problem | None]:
    """Find the bucket for a dataset whose options name none, or the reason why there is none.

    The bucket is the size of the clips, if they all have the same size and the codec takes it unchanged.

    Args:
        sizes: the sizes of the clips, each as a bucket.
        scale: the codec's pixel frames, rows and columns per latent cell.
        where: the dataset, for messages.
    """
    different = sorted(set(sizes))
    if len(different) > 1:
        found = listed([str(size) for size in different])
        what = f"the clips have {len(different)} sizes (width x height x frames): {found}"
        return None, Problem(what, where)
    wrong = [what for what, _ in misfits(different[0], scale)]
    if wrong:
        return None, Problem(f"its clips have {' and '.join(wrong)}", where)
    return different[0], None


def nearest(size: Bucket, scale: Sequence[int]) -> Bucket:
    """Return the largest size that a codec accepts and that fits within `size`, but at least one cell."""
    frames, rows, columns = scale
    return Bucket(
        max(columns, size.width // columns * columns), max(rows, size.height // rows * rows), (size.frames - 1) // frames * frames + 1
    )


@attrs.frozen
class ReferenceFactors:
    """The factors by which reference clips are smaller than their targets, one for width and height and one for frames, and the keys that set
    them.
    """

    downscale: int = 1
    temporal: int = 1
    keys: tuple[str, str] = ("reference_downscale_factor", "reference_temporal_scale_factor")

    @classmethod
    def of_column(cls, column: Column) -> ReferenceFactors:
        """Return the factors of a column's clips, which are 1 for clips that are no references."""
        return cls(column.downscale_factor, column.temporal_scale_factor, column.factor_keys)

    def of(self, target: Bucket) -> Bucket:
        """Return the size of the reference for a target of this size."""
        return Bucket(target.width // self.downscale, target.height // self.downscale, (target.frames - 1) // self.temporal + 1)

    def misfits(self, target: Bucket, scale: Sequence[int], where: Callable[[str], str]) -> Iterator[Problem]:
        """Yield the reasons why references with these factors do not fit targets of this size; `where` returns the place of a key of the
        run file.

        A reference always belongs to its target's bucket, so it does not matter whether there are several buckets.

        Source: docs/explanation/arithmetic.md#spatial-factor-of-a-reference, #temporal-factor-of-a-reference
        """
        (frames, rows, columns), (downscale, temporal) = scale, self.keys
        for size, name, step in ((target.width, "width", columns), (target.height, "height", rows)):
            if size % (self.downscale * step):
                what = (
                    f"the bucket {target} has {name} {size}, and {size} divided by {downscale} {self.downscale} is not a multiple of {step}"
                )
                yield Problem(
                    what,
                    where(f"preprocessing.{downscale}"),
                    f"Use a multiple of {self.downscale * step}, or another factor.",
                )
        if (target.frames - 1) % (self.temporal * frames):
            what = f"the bucket {target} has {target.frames} frames, and {temporal} {self.temporal} does not reduce them to a multiple of {frames} plus 1"
            yield Problem(
                what,
                where(f"preprocessing.{temporal}"),
                f"Use a multiple of {self.temporal * frames} plus 1, or another factor.",
            )


ALIKE = 0.12
"""The largest difference in the natural logarithm of width / height at which two sizes count as one shape, as 3:2 and 4:3 do, but not 16:9
and 3:2.
"""

LONGER = 1.5
"""The smallest ratio between the frame counts of a bucket and of the next shorter bucket of the same shape."""

MOST_LENGTHS = 3
"""The maximum number of buckets that are proposed for clips of one shape."""

MOST_FRAMES = 121
MOST_CELLS = 2_040
"""The limits of proposed buckets, however large the clips are: `MOST_FRAMES` frames, and `MOST_CELLS` latent cells in a frame
(1920 x 1088 pixels). LTX-2 could take more.
"""

CROPPED = 4.0
"""The weight of cropped pixels relative to scaled-down ones."""


def proposed_buckets(
    sizes: Iterable[Bucket], scale: Sequence[int], tokens: int = MOST_TOKENS, grid: Sequence[int] | None = None
) -> tuple[Bucket, ...]:
    """Propose buckets such that every clip and picture goes to a bucket of its own shape and about its own size, and none is enlarged.

    Buckets are chosen by shape and length alone, so all buckets of one shape have the same width and height, which the smallest clip of
    that shape decides. Very large clips get smaller buckets, of at most `MOST_FRAMES` frames and `tokens` latent cells.

    Args:
        sizes: the sizes of clips and pictures as shown, each as a bucket; pictures have one frame.
        scale: the pixel frames, rows and columns that a latent cell of the codec covers.
        tokens: the largest number of latent cells in a bucket.
        grid: buckets must have multiples of these numbers of frames, rows and columns, if the numbers are not the scale but multiples of
            it.

    Source: docs/explanation/arithmetic.md#proposed-buckets
    """
    shapes = _shapes(sorted(set(sizes), key=_shape))
    while True:
        buckets = {index: _of_shape(shape, scale, tokens, grid or scale) for index, shape in enumerate(shapes)}
        every = [bucket for those in buckets.values() for bucket in those]
        astray = _astray(shapes, buckets, every)
        if astray is None:
            return tuple(sorted(every, key=lambda bucket: (-bucket.width * bucket.height, bucket.width, -bucket.frames)))
        one, other = sorted(astray)
        shapes = [*shapes[:one], *shapes[one + 1 : other], shapes[one] + shapes[other], *shapes[other + 1 :]]


def shortened(bucket: Bucket, size: Bucket, grid: Sequence[int]) -> Bucket:
    """Return a bucket with as many frames as a clip of this size fills."""
    return attrs.evolve(bucket, frames=_frames(size, grid))


def proposed_line(sizes: Iterable[Bucket], scale: Sequence[int]) -> str:
    """Return the buckets that are proposed for clips of these sizes, as a line of a run file."""
    return buckets_line(proposed_buckets(sizes, scale))


def buckets_line(buckets: Iterable[Bucket]) -> str:
    """Return buckets as a line of a run file."""
    return f'resolution_buckets = "{";".join(map(str, buckets))}"'


def _shape(size: Bucket) -> float:
    return math.log(size.width / size.height)


def _shapes(sizes: Sequence[Bucket]) -> list[list[Bucket]]:
    """Divide sizes sorted by shape into groups of similar shape."""
    shapes: list[list[Bucket]] = []
    for size in sizes:
        if shapes and _shape(size) - _shape(shapes[-1][0]) <= ALIKE:
            shapes[-1].append(size)
        else:
            shapes.append([size])
    return shapes


def _of_shape(sizes: Sequence[Bucket], scale: Sequence[int], tokens: int, grid: Sequence[int]) -> list[Bucket]:
    """Make buckets of one width and height for clips of one shape, with frame counts that suit the clips."""
    cells_in_step = grid[1] * grid[2] // (scale[1] * scale[2])
    longest = (max(1, tokens // cells_in_step) - 1) * scale[0] + 1
    lengths = _lengths({_frames(size, grid, longest) for size in sizes})
    cells = min(MOST_CELLS, tokens // ((lengths[-1] - 1) // scale[0] + 1))
    width, height = _width_and_height(sizes, grid, max(1, cells // cells_in_step))
    return [Bucket(width, height, frames) for frames in lengths]


def _frames(size: Bucket, grid: Sequence[int], most: int = MOST_FRAMES) -> int:
    return (min(size.frames, most, MOST_FRAMES) - 1) // grid[0] * grid[0] + 1


def _lengths(frames: Collection[int]) -> list[int]:
    """Choose the frame counts of buckets: the smallest count, so that every clip has a bucket, and a few much larger ones."""
    found: list[int] = []
    for count in sorted(frames):
        if not found or found[-1] == 1 or count >= LONGER * found[-1]:
            found.append(count)
    pictures, clips = [each for each in found if each == 1], [each for each in found if each > 1]
    if len(clips) > MOST_LENGTHS:
        clips = [clips[0], clips[len(clips) // 2], clips[-1]]
    return [*pictures, *clips]


def _width_and_height(sizes: Sequence[Bucket], grid: Sequence[int], cells: int) -> tuple[int, int]:
    """Find the largest width and height that enlarge no clip of these sizes, in a shape as near to theirs as the grid allows."""
    _, rows, columns = grid
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
    """Find two shapes such that a clip of one shape would go to a bucket of the other shape, which would enlarge it or drop more of its
    frames than a bucket of its own shape.
    """
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
