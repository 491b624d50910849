"""Write what is converted in the same way for all other trainers: the model, the streams, the dataset, and samples to generate."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ltxplugins.tools.convert.kinds import plain
from ltxplugins.tools.convert.reading import UNSET, Old
from ltxplugins.tools.convert.settings import Settings
from ltxplugins.tools.convert.sizes import frames, side

ON_THE_HUB = re.compile(r"[\w.-]+/[\w.-]+(?:/[\w.-]+)*")
"""A model on Hugging Face ("owner/name"), or a file in its repository."""

HELD_OUT = "held_out: ltx keeps 5 % of the samples, at least one and at most 32, to measure the loss on; held_out = 0 trains on all samples, as {} did."
FP16 = "fp16 is not available: many gradients are smaller than its smallest number, so it would need loss scaling"
PRECISIONS: Mapping[str, str] = {
    **dict.fromkeys(("bf16", "bfloat16", "fp16", "float16", "half"), "bf16"),
    **dict.fromkeys(("no", "fp32", "float32", "float"), "no"),
}


@attrs.frozen
class Sample:
    """A sample to generate, with the values that it does not share with the other samples.

    Attributes:
        prompt: its prompt.
        size: its width, height and frames; None for the size that all samples share.
        seed: its seed; None for the seed that all samples share.
        image: the image that it begins with, if any.
    """

    prompt: str
    size: tuple[int, int, int] | None = None
    seed: int | None = None
    image: Path | None = None


def put_model(to: Settings, old: Old, name: str, path: Path) -> None:
    """Write the path of the model; a model on Hugging Face is named as it was, with a remark."""
    if ON_THE_HUB.fullmatch(str(path)) and not (to.log.start / path).exists():
        to.note(old, name, "is on Hugging Face: download it, and write the path of the file or folder in model_path.", "model.")
        to.put("model.model_path", str(path))
    else:
        to.put("model.model_path", path)


def put_another_model(to: Settings, old: Old, name: str) -> None:
    """Remark that the file is for a model other than LTX-2."""
    said = "is a model other than LTX-2. Only settings of the dataset and of training were used; write the path of an LTX-2 model in model_path"
    to.note(old, name, f"{said}.", "model.")


@attrs.frozen
class OldSet:
    """One of the datasets of a configuration.

    Attributes:
        old: its settings.
        own: the names of the settings that the other attributes hold; the values of these settings may differ between sets.
        place: its folder or file; UNSET if the configuration does not name one.
        repeats: how often each clip is seen in a pass.
        words: what is put before every caption, without spaces around it.
    """

    old: Old
    own: Collection[str]
    place: Any
    repeats: Any = UNSET
    words: str = ""

    @property
    def count(self) -> int:
        """The number of repeats, rounded."""
        return 1 if self.repeats is UNSET else max(1, round(self.repeats))


def put_sets(to: Settings, sets: Sequence[OldSet], said: str = "") -> None:
    """Write the datasets (one as data.dataset, several as data.sets) and what is put before their captions.

    Args:
        to: the settings.
        sets: the datasets, of which the first is the one whose other settings are kept.
        said: a comment on the trigger word.
    """
    for each in sets[1:]:
        _note_others(to, sets[0], each)
    places: dict[Path, list[OldSet]] = {}
    for each in sets:
        if each.place is not UNSET:
            places.setdefault(each.place, []).append(each)
    for alike in places.values():
        for each in alike[1:]:
            if each.words != alike[0].words:
                said = f'{each.old.key}: "{each.words}" is not put before captions: the clips are those of {alike[0].old.key}.'
                each.old.log.remark(to.run.table("data"), each.old.table.line, said)
    is_shared = len({each.words for each in sets}) == 1 or len(places) == 1
    if is_shared and sets and sets[0].words:
        to.put("preprocessing.lora_trigger", sets[0].words, said)
    if len(places) == 1:
        to.put("data.dataset", next(iter(places)))
        to.idle += [each.old.at("num_repeats") for each in sets if each.old.has("num_repeats")]
        return
    for each in sets:
        if each.repeats is not UNSET and each.repeats > 0 and each.count != each.repeats:
            to.note(each.old, "num_repeats", f"is written as {each.count}: repeats are whole numbers.", "data.")
    written = [_written(to, place, alike, is_shared) for place, alike in places.items()]
    if written:
        to.put("data.sets", written)


def _written(to: Settings, place: Path, sets: Sequence[OldSet], is_shared: bool) -> dict[str, Any]:
    """Return the table for sets that have the same folder or file; these are written as one set."""
    count, words = sum(each.count for each in sets), sets[0].words
    for each in sets[1:]:
        said = f"{each.old.key} has the clips of {sets[0].old.key}: both are written as one set, with {count} repeats."
        each.old.log.remark(to.run.table("data"), each.old.table.line, said)
    return {
        "dataset": to.log.moved(place),
        **({"repeats": count} if count > 1 else {}),
        **({"caption_prefix": words} if words and not is_shared else {}),
    }


def _note_others(to: Settings, first: OldSet, other: OldSet) -> None:
    """Remark on the settings of a further set that differ from those of the first set, since those of the first hold for all sets."""
    values, firsts = other.old.table.values, first.old.table.values
    names = [*values, *(name for name in firsts if name not in values)]
    differing = [
        name
        for name in names
        if name not in other.own and (name not in values or name not in firsts or plain(values[name]) != plain(firsts[name]))
    ]
    if differing:
        said = f"{other.old.key}: {', '.join(differing)} not kept: all sets are encoded and trained on as {first.old.key} is."
        other.old.log.remark(to.run.table("data"), other.old.table.line, said)


def put_streams(
    to: Settings, *, video: bool = True, audio: bool = False, first_frame: float = 0.0, said: str = "", shared: bool = True
) -> None:
    """Write which streams are generated, and how often the first frame of the video is given."""
    to.put("training_strategy.name", "flexible")
    for stream, folder, is_generated in (("video", "latents", video), ("audio", "audio_latents", audio)):
        if is_generated:
            to.put(f"training_strategy.{stream}.is_generated", True)
            to.put(f"training_strategy.{stream}.latents_dir", folder)
    if first_frame and video:
        to.put("training_strategy.video.conditions", [{"type": "first_frame", "probability": first_frame}], said)
    if video and audio and shared:
        to.put("flow_matching.shared_sigma", True, f"{to.trainer} adds the same amount of noise to video and audio.")


MOST_RANK = 16_384
"""The largest rank that a run file accepts; it is above the rank of every matrix of LTX-2."""


def put_rank(to: Settings, rank: int) -> None:
    """Write the rank of the adapters. For LoKr with whole matrices, other trainers have ranks above that of every matrix."""
    said = f"{rank} in the old file: {MOST_RANK} is the largest rank, and above the rank of every matrix." if rank > MOST_RANK else ""
    to.put("lora.rank", min(rank, MOST_RANK), said)


def put_alpha(to: Settings, old: Old, name: str, alpha: float, rank: Any) -> None:
    """Write the alpha of the adapters. With a rank that is written as a lower one, alpha is lowered too, so that alpha / rank stays the
    same.
    """
    if rank is not UNSET and rank > MOST_RANK:
        to.put("lora.alpha", max(1, round(alpha * MOST_RANK / rank)))
    elif alpha != int(alpha):
        to.note(old, name, "is not kept: lora.alpha is a whole number.", "lora.")
    else:
        to.put("lora.alpha", int(alpha))


def put_precision(to: Settings, old: Old, name: str, value: str) -> None:
    """Write the precision of the model's arithmetic."""
    ours = PRECISIONS.get(value.lower())
    if ours is None or (ours == "bf16" and value.lower() not in ("bf16", "bfloat16")):
        to.note(old, name, f'is written as "bf16": {FP16 if ours else "ltx has no such arithmetic"}.', "acceleration.")
    to.put("acceleration.mixed_precision_mode", ours or "bf16")


def put_saved_precision(to: Settings, old: Old, name: str, value: str) -> None:
    """Write the precision of saved weights."""
    ours = "float32" if value.lower() in ("fp32", "float32", "float") else "bfloat16"
    if ours == "bfloat16" and value.lower() not in ("bf16", "bfloat16"):
        to.note(old, name, f'is written as "{ours}": weights are saved as bfloat16 or float32.', "checkpoints.")
    to.put("checkpoints.precision", ours)


def fitted(to: Settings, old: Old, name: str, size: tuple[int, int, int]) -> list[int]:
    """Return a width, height and number of frames that LTX-2 can generate, with a remark if they differ from `size`."""
    width, height, count = (side(size[0]), side(size[1]), frames(size[2]))
    if (width, height, count) != size:
        written = f"{size[0]}x{size[1]}x{size[2]} is written as {width}x{height}x{count}"
        old.log.remark(
            to.section("validation."),
            old.line(name),
            f"{written}: sides must be multiples of 32, and the number of frames a multiple of 8 plus 1.",
        )
    return [width, height, count]


def put_samples(to: Settings, old: Old, name: str, samples: Iterable[Sample]) -> None:
    """Write the samples to generate."""
    for sample in samples:
        section = to.run.sample()
        section.set("prompt", sample.prompt)
        if sample.size is not None:
            section.set("video_dims", fitted(to, old, name, sample.size))
        if sample.seed is not None:
            section.set("seed", sample.seed)
        if sample.image is not None:
            section.set("conditions", [{"type": "first_frame", "image_or_video": to.log.moved(sample.image)}])


def put_objectives(to: Settings, objectives: Iterable[Mapping[str, Any]]) -> None:
    """Write the objectives, if they are not plain flow matching."""
    written = list(objectives)
    if written and written != [{"type": "flow_matching"}]:
        to.put("objectives", written)
