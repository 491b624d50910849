"""The dataset of a configuration of musubi-tuner, and the dropping of captions."""

from __future__ import annotations

from typing import Any

from ltxplugins.tools.convert.kinds import number, path, text, truth, whole
from ltxplugins.tools.convert.media import HELD_OUT, OldSet, put_sets
from ltxplugins.tools.convert.reading import UNSET, Old, own_or_common
from ltxplugins.tools.convert.second_file import dataset_at
from ltxplugins.tools.convert.settings import Settings
from ltxplugins.tools.convert.sizes import buckets, frames, length, shapes, side
from ltxplugins.tools.convert.tree import Items, Tree

PLACES = ("video_directory", "video_jsonl_file", "image_directory", "image_jsonl_file", "audio_directory", "audio_jsonl_file")

STEPS = {"uniform": "frame_sample", "slide": "frame_stride"}
"""The settings with the number of parts of a clip, or with the frames between their beginnings, by the way of taking parts; 1 by default."""

SIZES = ("resolution", "target_frames", "frame_extraction", "max_frames", "enable_bucket", *STEPS.values())
"""The settings that have no effect on audio."""

WIDTH, HEIGHT, MOST_FRAMES = 960, 544, 129
"""The defaults of musubi-tuner."""


def put_dataset(to: Settings, arguments: Old, mode: str) -> None:
    """Write the datasets, the sizes of the first, its batch size, and how often captions are dropped."""
    _dropout(to, arguments, mode)
    named = arguments.get("dataset_config", path, null=UNSET)
    read = None if named is UNSET else dataset_at(to, arguments, "dataset_config", named)
    if read is None:
        return
    tree, log = read
    root = Old(tree, "", log)
    to.read(root, "dataset_config")
    general = to.inner(root, "general")
    to.read(general, "datasets")
    sets = root.several("datasets")
    first, validation = (sets[0] if sets else to.inner(root, "none")), root.several("validation_datasets")
    for other in validation[:1]:
        log.remark(
            to.run.table("data"), other.table.line, f"{other.key} is not kept: clips are held out of the dataset. See data.held_out."
        )
    to.read(first, "datasets")
    put_sets(to, [_set(general, each) for each in (sets or [first])])
    to.run.table("data").say(HELD_OUT.format(to.trainer))
    size = own_or_common(first, general, "batch_size", whole)
    to.put("optimization.batch_size", size) if size is not UNSET else to.put_default("optimization.batch_size", 1)
    if mode == "audio":
        for old in (general, first):
            old.taken.update(SIZES)
    else:
        _buckets(to, general, first)


def _set(general: Old, old: Old) -> OldSet:
    places = [old.get(key, path, null=UNSET) for key in PLACES]
    place = next((each for each in places if each is not UNSET), UNSET)
    return OldSet(old, (*PLACES, "num_repeats", "cache_directory"), place, own_or_common(old, general, "num_repeats", whole))


def _resolution(tree: Tree) -> tuple[int, int]:
    """Read a resolution: the side of a square, or a width and a height."""
    if isinstance(tree, Items) and len(tree.values) == 2:
        return length(tree.values[0]), length(tree.values[1])
    return (length(tree),) * 2


def _counts(tree: Tree) -> list[int]:
    return [whole(each) for each in tree.values] if isinstance(tree, Items) else [whole(tree)]


def _buckets(to: Settings, general: Old, old: Old) -> None:
    size = own_or_common(old, general, "resolution", _resolution)
    width, height = (WIDTH, HEIGHT) if size is UNSET else size
    extraction = old.get("frame_extraction", text, null=UNSET)
    most = old.get("max_frames", whole, null=UNSET)
    counts = old.get("target_frames", _counts, null=UNSET)
    if extraction == "full":
        counts = [MOST_FRAMES if most is UNSET else most]
        said = f"is written as {frames(counts[0])} frames: clips of a bucket have the same length. Name more buckets for shorter clips."
        to.note(old, "frame_extraction", said, "preprocessing.")
    elif extraction not in (UNSET, "head", "chunk", *STEPS):
        to.note(old, "frame_extraction", "is not kept: a clip is cut to its first frames, and is one sample.", "preprocessing.")
    counts = [1] if counts is UNSET or not counts else counts
    if len(counts) > 1:
        to.note(
            old,
            "target_frames",
            "becomes buckets: each clip, or each of its windows, goes to the longest bucket that it fills.",
            "preprocessing.",
        )
    fitted = list(dict.fromkeys(frames(each) for each in counts))
    if extraction != "full" and not {*counts} <= {*fitted}:
        to.note(old, "target_frames", f"is written as {fitted}: LTX-2 takes multiples of 8 frames plus 1.", "preprocessing.")
    bucketed = own_or_common(old, general, "enable_bucket", truth) is True
    sizes = shapes(width * height) if bucketed else [(side(width), side(height))]
    said = f"These are the usual shapes with about the area of {width}x{height}; a clip gets the nearest one." if bucketed else ""
    if not bucketed and sizes[0] != (width, height):
        said = f"{width}x{height} in the old file: sides are multiples of 32."
    to.put("preprocessing.resolution_buckets", buckets(sizes, fitted), said)
    _windows(to, old, extraction, max(fitted))


def _windows(to: Settings, old: Old, extraction: Any, frames: int) -> None:
    """Write which parts of a clip become samples. Parts that follow each other are as long as the longest bucket."""
    steps = {name: old.get(name, whole, null=UNSET) for name in STEPS.values()}
    to.without_effect(old, *(name for way, name in STEPS.items() if way != extraction))
    if extraction == "chunk":
        to.put("preprocessing.windows", f"stride:{frames}")
    elif extraction in STEPS:
        step = steps[STEPS[extraction]]
        to.put("preprocessing.windows", f"{'stride' if extraction == 'slide' else extraction}:{1 if step is UNSET else step}")


def _dropout(to: Settings, old: Old, mode: str) -> None:
    both, video, audio = (
        0.0 if rate is UNSET else rate
        for rate in (
            old.get(name, number, null=UNSET)
            for name in ("caption_dropout_rate", "video_caption_dropout_rate", "audio_caption_dropout_rate")
        )
    )
    if mode == "av" and (video or audio):
        rates = {name: round(1 - (1 - own) * (1 - both), 6) for name, own in (("video", video), ("audio", audio))}
        to.put("data.caption_dropout", rates)
    elif both:
        to.put("data.caption_dropout", both)
