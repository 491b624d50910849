"""Buckets that are chosen for a dataset's clips (`resolution_buckets = "auto"`), and that stay the same from then on.

The buckets are recorded beside the encoded samples, together with the sizes of the clips that they were chosen for. A clip of a recorded
size keeps its bucket for good, so a resumed run or another clip in the dataset never makes encoded samples stale. Clips of new sizes go to
recorded buckets of like shape for which they are long enough. If there are none, buckets are added, unless these would attract a clip of a
recorded size.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from ltxcore.dataset.rows import Dataset
from ltxcore.encode.buckets import ALIKE, Bucket, aspect_distance, choose, proposed_buckets, shortened
from ltxcore.encode.encoding import Encoding
from ltxcore.encode.rules import grid_of, needs_buckets, sizes_of
from ltxcore.encode.sample_sizes import Looked
from ltxcore.encode.windows import BEGINNING
from ltxcore.errors import DataError, listed, many
from ltxcore.files import write_whole

RECORD = "buckets.json"
"""The file in a root that records the chosen buckets."""

TOLD = 12
"""The maximum number of clip sizes for which the cropping is listed one by one."""

Key = tuple[int, tuple[int, ...]]
"""The budget of tokens, and the grid that sizes lie on; each such pair has buckets of its own."""


@attrs.frozen
class Chosen:
    """The buckets that were chosen for a dataset.

    Attributes:
        buckets: the buckets.
        sizes: the sizes of all clips and pictures that the buckets were chosen for, now and before.
        added: the buckets that are not recorded yet.
        cropping: the part of the picture that clips of each size lose in these buckets.
    """

    buckets: tuple[Bucket, ...]
    sizes: frozenset[Bucket]
    added: tuple[Bucket, ...] = ()
    cropping: tuple[str, ...] = ()

    def told(self, root: Path) -> str:
        """Say which buckets there are, and which of them are recorded in a root."""
        how = f", as recorded in {root / RECORD}"
        if self.added:
            few = self.added != self.buckets
            how = (
                f", of which {listed([*map(str, self.added)])} {'are' if len(self.added) > 1 else 'is'} for clips of new sizes"
                if few
                else ""
            )
        return f'resolution_buckets = "auto" means "{";".join(map(str, self.buckets))}"{how}'


def buckets_for(data: Dataset, looked: Looked, encoding: Encoding) -> Chosen | None:
    """Choose buckets for the clips of a dataset; the result is None if the options do not ask for it, or if no size is needed.

    Args:
        data: the dataset, or a part of it.
        looked: the facts about its files.
        encoding: how it is encoded.

    Raises:
        DataError: the record is damaged.
    """
    tokens, video, rules = encoding.options.bucket_tokens, encoding.tools.video, encoding.rules
    if tokens is None or video is None or not encoding.is_ruled or not needs_buckets(data, rules):
        return None
    sizes = sizes_of(data, looked, rules)
    chosen = chosen_buckets(encoding.root, sizes, video.scale, grid_of(rules, video.scale), tokens)
    lost = cropping(sizes, chosen.buckets, is_cut=rules.windows == BEGINNING)
    return attrs.evolve(chosen, cropping=tuple(lost)) if chosen.buckets else None


def record_for(root: Path, chosen: Chosen, encoding: Encoding) -> bool:
    """Record the buckets that `buckets_for` chose, and return whether anything about them is new.

    Raises:
        DataError: as in `record`.
    """
    tokens, video = encoding.options.bucket_tokens, encoding.tools.video
    assert tokens is not None
    assert video is not None
    return record(root, chosen, grid_of(encoding.rules, video.scale), tokens)


def chosen_buckets(root: Path, sizes: Iterable[Bucket], scale: Sequence[int], grid: Sequence[int], tokens: int) -> Chosen:
    """Choose buckets for clips and pictures, in addition to those that the root records. Nothing is written.

    Args:
        root: the folder where the encoded samples are, or will be.
        sizes: the sizes of clips and pictures as shown, each as a bucket; pictures have one frame.
        scale: the pixel frames, rows and columns that a latent cell of the codec covers.
        grid: buckets must have multiples of these numbers of frames, rows and columns; larger than the scale if there are smaller
            references.
        tokens: the largest number of latent cells in a bucket.

    Raises:
        DataError: the record is damaged.
    """
    before = _read(root).get(_key(grid, tokens))
    if before is None:
        proposed = proposed_buckets(sizes, scale, tokens, grid)
        return Chosen(proposed, frozenset(sizes), proposed)
    new = sorted({*sizes} - before.sizes)
    buckets = before.buckets
    for bucket in proposed_buckets([size for size in new if not _is_served(size, buckets)], scale, tokens, grid):
        buckets = _with(bucket, buckets, before)
    for size in new:
        if _choice(size, buckets) is None:
            shorter = (shortened(each, size, grid) for each in sorted(buckets, key=lambda each: aspect_distance(each, size)))
            buckets = next((grown for each in shorter if (grown := _with(each, buckets, before)) != buckets), buckets)
    return Chosen(buckets, before.sizes | {*new}, tuple(each for each in buckets if each not in before.buckets))


def record(root: Path, chosen: Chosen, grid: Sequence[int], tokens: int) -> bool:
    """Record buckets, and the sizes that they were chosen for, and return whether any of this is new to the root.

    Raises:
        DataError: the record is damaged, cannot be written, or has buckets or sizes that were unknown when these buckets were chosen.
    """
    known, key = _read(root), _key(grid, tokens)
    now, before = attrs.evolve(chosen, added=(), cropping=()), known.get(key)
    if before == now:
        return False
    if before is not None and not (before.sizes <= now.sizes and {*before.buckets} <= {*now.buckets}):
        what = "another process has recorded other buckets since those of this dataset were chosen"
        raise DataError(what, where=str(root / RECORD), remedy="Run the same command again.")
    entries = [
        {"tokens": each[0], "grid": each[1], "buckets": [*map(str, of.buckets)], "sizes": [*map(str, sorted(of.sizes))]}
        for each, of in {**known, key: now}.items()
    ]
    try:
        root.mkdir(parents=True, exist_ok=True)
        write_whole(root / RECORD, (json.dumps({"auto": entries}, indent=1) + "\n").encode())
    except OSError as error:
        raise DataError(
            f"cannot be written: {error.strerror}", where=str(root / RECORD), remedy="Name another folder to write to."
        ) from error
    return True


def cropping(sizes: Iterable[Bucket], buckets: Sequence[Bucket], *, is_cut: bool) -> Iterator[str]:
    """Tell what clips and images of each size lose in their buckets, those that lose most first. Clips without a bucket are left out.

    Args:
        sizes: the sizes of all clips and pictures, as often as they occur.
        buckets: the buckets that they are fitted to.
        is_cut: whether all frames after the bucket's are lost, since no further windows of a clip are used.

    Source: docs/explanation/arithmetic.md#loss-to-cropping
    """
    groups = defaultdict[tuple[Bucket, Bucket], list[int]](list)
    for size in sizes:
        if (bucket := _choice(size, buckets)) is not None:
            groups[attrs.evolve(size, frames=0), bucket].append(size.frames - bucket.frames)
    lines = [(_lost(size, bucket), size, bucket, frames) for (size, bucket), frames in groups.items()]
    lines.sort(key=lambda each: (-each[0], each[1:3]))
    for lost, size, bucket, frames in lines[:TOLD]:
        least, most = min(frames), max(frames)
        what = many(len(frames), "clip", "clips") if most or bucket.frames > 1 else many(len(frames), "image", "images")
        last = "frame is" if least == most == 1 else f"{most} frames are" if least == most else f"{least} to {most} frames are"
        cut = f", and the last {last} not used" if is_cut and most else ""
        yield f"{size.width}x{size.height} to {bucket}: {what}, cropping takes {100 * lost:.1f} % of the picture{cut}"
    if rest := lines[TOLD:]:
        yield f"{many(len(rest), 'other size', 'other sizes')}: cropping takes at most {100 * rest[0][0]:.1f} % of the picture"


def _lost(size: Bucket, bucket: Bucket) -> float:
    ratios = sorted((size.width * bucket.height, size.height * bucket.width))
    return 1 - ratios[0] / ratios[1]


def _choice(size: Bucket, buckets: Iterable[Bucket]) -> Bucket | None:
    return choose(buckets, size.width, size.height, size.frames, size.frames == 1)


def _is_served(size: Bucket, buckets: Iterable[Bucket]) -> bool:
    """Return whether there is a bucket that a clip is long enough for and whose shape is like the clip's."""
    taken = _choice(size, buckets)
    return taken is not None and aspect_distance(taken, size) <= ALIKE


def _with(bucket: Bucket, buckets: tuple[Bucket, ...], before: Chosen) -> tuple[Bucket, ...]:
    """Return buckets with a further one, unless a clip of a recorded size would go to it."""
    is_taken = bucket in buckets or any(_choice(size, [*buckets, bucket]) == bucket for size in before.sizes)
    return buckets if is_taken else (*buckets, bucket)


def _key(grid: Sequence[int], tokens: int) -> Key:
    return tokens, tuple(grid)


def _read(root: Path) -> dict[Key, Chosen]:
    path = root / RECORD
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["auto"]
        return {
            _key(each["grid"], each["tokens"]): Chosen(tuple(map(_bucket, each["buckets"])), frozenset(map(_bucket, each["sizes"])))
            for each in entries
        }
    except (FileNotFoundError, NotADirectoryError):  # a root that is a file is refused elsewhere
        return {}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        remedy = "Remove it to have buckets chosen anew; samples whose buckets then differ are encoded again."
        raise DataError("the record of the chosen buckets cannot be read", where=str(path), remedy=remedy) from error


def _bucket(text: Any) -> Bucket:
    bucket = Bucket(*(int(number) for number in str(text).split("x")))
    if min(bucket.width, bucket.height, bucket.frames) < 1:
        raise ValueError(f"{bucket} is no size")
    return bucket
