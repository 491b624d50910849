"""Resolution buckets: the sizes that clips are fitted to, and which clip goes to which."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from fractions import Fraction

import attrs

from ltxcore.errors import Problem, listed

DIGITS = 10
"""A side or a length of so many digits is no size of any clip, and of thousands no number that Python reads."""

FORM = 'Write width x height x frames, such as "960x544x49"; several with ";" between.'


@attrs.frozen(order=True)
class Bucket:
    """A size of clips, in pixels and frames."""

    width: int
    height: int
    frames: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}x{self.frames}"

    def cells(self, scale: Sequence[int]) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a clip of this size; `scale` is the codec's (frames, rows, columns)."""
        return (self.frames - 1) // scale[0] + 1, self.height // scale[1], self.width // scale[2]


def parse_buckets(text: str, scale: Sequence[int], where: str) -> tuple[tuple[Bucket, ...], tuple[Problem, ...]]:
    """The buckets of `WxHxF;WxHxF`, in order, and all that is wrong with them.

    Args:
        text: the option.
        scale: pixel frames, rows and columns that a latent cell of the codec covers.
        where: the option's place, for messages.
    """
    buckets: list[Bucket] = []
    problems: list[Problem] = []
    for part in (part.strip() for part in text.split(";")):
        if not part:
            continue
        sizes = [size.strip() for size in part.lower().split("x")]
        if len(sizes) != 3 or not all(size.isdecimal() and len(size) < DIGITS and int(size) > 0 for size in sizes):
            problems.append(Problem(f'"{part if len(part) <= 40 else f"{part[:37]}..."}" is no bucket', where, FORM))
            continue
        bucket = Bucket(*(int(size) for size in sizes))
        wrong = tuple(misfits(bucket, scale))
        problems += [Problem(f"the bucket {bucket} has {what}", where, remedy) for what, remedy in wrong]
        if bucket in buckets:
            problems.append(Problem(f"the bucket {bucket} is there twice", where, "Name each bucket once."))
        buckets.append(bucket)
    if not buckets and not problems:
        problems.append(Problem("names no bucket", where, FORM))
    return tuple(buckets), tuple(problems)


def misfits(bucket: Bucket, scale: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Why a codec cannot take clips of this size as they are: what, and the sizes nearby that it takes."""
    frames, rows, columns = scale
    for size, name, step in ((bucket.width, "width", columns), (bucket.height, "height", rows)):
        if size % step:
            below, above = size // step * step, (size // step + 1) * step
            yield f"{name} {size}, which is not a multiple of {step}", f"Take {f'{below} or {above}' if below else above}."
    if bucket.frames % frames != 1 % frames:
        below = (bucket.frames - 1) // frames * frames + 1
        yield f"{bucket.frames} frames, which is not a multiple of {frames} plus 1", f"Take {below} or {below + frames}."


def choose(buckets: Iterable[Bucket], width: int, height: int, frames: int, is_image: bool = False) -> Bucket | None:
    """The bucket of a clip: of those that it is long enough for the one of nearest aspect, then of most frames, then of largest area.

    Args:
        buckets: to choose from.
        width: of the clip in pixels, upright.
        height: of the clip in pixels, upright.
        frames: that the clip has.
        is_image: an image goes to buckets of one frame only.

    Source: reference-behaviour B.6, step 5.
    """
    fitting = [bucket for bucket in buckets if (bucket.frames == 1 if is_image else bucket.frames <= frames)]
    return min(
        fitting, key=lambda bucket: (_aspect_distance(bucket, width, height), -bucket.frames, -bucket.width * bucket.height), default=None
    )


def _aspect_distance(bucket: Bucket, width: int, height: int) -> float:
    # As an exact ratio, so that buckets of one aspect tie whatever their size, and more frames decide.
    ratio = Fraction(width * bucket.height, height * bucket.width)
    return abs(math.log(ratio))


def common_size(sizes: Collection[Bucket], scale: Sequence[int], where: str) -> tuple[Bucket | None, Problem | None]:
    """The bucket of a dataset that names none: the size of its clips, where all have one that the codec takes as it is.

    Args:
        sizes: of the clips, each as a bucket of its own.
        scale: of the codec.
        where: the dataset.
    """
    different = sorted(set(sizes))
    if len(different) > 1:
        found = listed([str(size) for size in different])
        what = f"its clips have {len(different)} sizes (width x height x frames): {found}"
        return None, Problem(what, where)
    wrong = [what for what, _ in misfits(different[0], scale)]
    if wrong:
        return None, Problem(f"its clips have {' and '.join(wrong)}", where)
    return different[0], None


def nearest(size: Bucket, scale: Sequence[int]) -> Bucket:
    """The largest size a codec takes that is not larger than this one, nor smaller than a cell."""
    frames, rows, columns = scale
    return Bucket(
        max(columns, size.width // columns * columns), max(rows, size.height // rows * rows), (size.frames - 1) // frames * frames + 1
    )


@attrs.frozen
class ReferenceFactors:
    """How much smaller reference clips are than their targets: in width and height, and in frames."""

    downscale: int = 1
    temporal: int = 1

    def of(self, target: Bucket) -> Bucket:
        """The size of the reference of a target of this size."""
        return Bucket(target.width // self.downscale, target.height // self.downscale, (target.frames - 1) // self.temporal + 1)

    def misfits(self, target: Bucket, scale: Sequence[int], where: Callable[[str], str]) -> Iterator[Problem]:
        """Why references of these factors do not go with targets of this size; `where` gives the place of a key of the run file.

        Every target's reference is of its own bucket, so several buckets do no harm.

        Source: reference-behaviour B.10.
        """
        frames, rows, columns = scale
        for size, name, step in ((target.width, "width", columns), (target.height, "height", rows)):
            if size % (self.downscale * step):
                what = f"the bucket {target} has {name} {size}, which reference_downscale_factor {self.downscale} does not make a multiple of {step}"
                yield Problem(
                    what,
                    where("preprocessing.reference_downscale_factor"),
                    f"Take a multiple of {self.downscale * step}, or another factor.",
                )
        if (target.frames - 1) % (self.temporal * frames):
            what = f"the bucket {target} has {target.frames} frames, of which reference_temporal_scale_factor {self.temporal} does not make a multiple of {frames} plus 1"
            yield Problem(
                what,
                where("preprocessing.reference_temporal_scale_factor"),
                f"Take a multiple of {self.temporal * frames} plus 1, or another factor.",
            )
