"""The dataset and the samples of an ai-toolkit job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from ltxplugins.tools.convert.kinds import many, number, path, text, truth, whole
from ltxplugins.tools.convert.media import HELD_OUT, OldSet, Sample, fitted, put_samples, put_sets, put_streams
from ltxplugins.tools.convert.reading import DEFAULTED, UNSET, Old
from ltxplugins.tools.convert.settings import Settings
from ltxplugins.tools.convert.sizes import buckets, frames, length, shapes
from ltxplugins.tools.convert.tree import Items, Tree

RESOLUTION, WIDTH, HEIGHT, FRAMES = 512, 512, 512, 1
"""The defaults of ai-toolkit."""


def resolutions(tree: Tree) -> list[int]:
    """Read a resolution or a list of them."""
    found: list[int] = many(length)(tree) if isinstance(tree, Items) else [length(tree)]
    return found


def put_dataset(to: Settings, process: Old, train: Old, trigger: str) -> list[dict[str, Any]]:
    """Write the datasets, and the streams that the first dataset has, and return the objectives that replace regularization sets."""
    every = [(each, each.get("is_reg", truth, null=UNSET) is True) for each in process.several("datasets")]
    sets = [each for each, is_extra in every if not is_extra]
    extra = [found for each, is_extra in every if is_extra for found in _regularization(to, each, train)]
    dropout = train.get("prompt_dropout_prob", number, null=UNSET)
    old = sets[0] if sets else to.inner(process, "none")
    to.read(old, "datasets")
    put_sets(
        to,
        [_set(each, trigger) for each in (sets or [old])],
        "It is put before every caption, even if the caption already contains it; [trigger] in a caption is not replaced.",
    )
    rates = [old.get("caption_dropout_rate", number, null=UNSET), dropout]
    rate = next((each for each in rates if each not in (UNSET, 0)), UNSET)
    if rate is not UNSET:
        to.put("data.caption_dropout", rate)
    workers = old.get("num_workers", whole, null=UNSET)
    if workers is not UNSET:
        to.put("data.num_dataloader_workers", workers)
    to.run.table("data").say(HELD_OUT.format(to.trainer))
    _buckets(to, old)
    audio = old.get("do_audio", truth, null=UNSET) is True
    given = old.get("do_i2v", truth, null=UNSET)
    is_video = old.get("num_frames", whole, null=UNSET) not in (UNSET, 1)
    said = DEFAULTED.format(to.trainer) if given is UNSET else ""
    put_streams(to, audio=audio, first_frame=1.0 if is_video and given is not False else 0.0, said=said)
    return extra


def _regularization(to: Settings, old: Old, train: Old) -> Iterator[dict[str, Any]]:
    """Yield the objective that replaces a regularization set, whose clips are encoded like those of the run."""
    folder = _folder(old)
    weight = train.get("reg_weight", number, null=UNSET)
    if folder is not UNSET:
        yield {"type": "regularization", "dataset": to.log.moved(folder), **({} if weight in (UNSET, 1) else {"weight": weight})}
    other = [name for name in old.table.values if name not in ("folder_path", "dataset_path", "is_reg", "caption_ext")]
    if other:
        said = f"{old.key}: {', '.join(other)} not kept: the set is encoded like that of the run."
        to.log.remark(to.run.head, old.table.line, said)


def _set(old: Old, trigger: str) -> OldSet:
    word = old.get("trigger_word", text, null=UNSET)
    repeats = old.get("num_repeats", number, null=UNSET)
    return OldSet(old, OWN, _folder(old), repeats, word if word is not UNSET and word else trigger)


OWN = ("folder_path", "dataset_path", "num_repeats", "trigger_word", "is_reg")
"""The settings of a dataset that each set can have for itself."""


def _folder(old: Old) -> Any:
    folders = [old.get(name, path, null=UNSET) for name in ("folder_path", "dataset_path")]
    return next((each for each in folders if each is not UNSET), UNSET)


def _buckets(to: Settings, old: Old) -> None:
    """Write one bucket for each usual shape of clips, with the area of the largest resolution."""
    sides = old.get("resolution", resolutions, null=UNSET)
    count = old.get("num_frames", whole, null=UNSET)
    count = FRAMES if count is UNSET else count
    largest = RESOLUTION if sides is UNSET or not sides else max(sides)
    if sides is not UNSET and len(sides) > 1:
        to.note(old, "resolution", f"is written as {largest}: a clip is encoded once, in one size.", "preprocessing.")
    if frames(count) != count:
        to.note(old, "num_frames", f"is written as {frames(count)}: LTX-2 takes multiples of 8 frames plus 1.", "preprocessing.")
    said = f"These are the usual shapes with about {largest}x{largest} pixels. A clip gets the nearest one; ai-toolkit keeps each clip's own shape."
    to.put("preprocessing.resolution_buckets", buckets(shapes(largest**2), [frames(count)]), said)


def put_sampling(to: Settings, old: Old, train: Old, *, trigger: str, name: str) -> None:
    """Write how samples are generated, and the samples."""
    off = train.get("disable_sampling", truth, null=UNSET) is True
    skipped = train.get("skip_first_sample", truth, null=UNSET)
    if off:
        to.put("validation.interval", 0, "disable_sampling: ltx always generates samples at the end.")
    every = old.get("sample_every", whole, null=UNSET)
    if not off and every is not UNSET:
        to.put("validation.interval", every)
    if off or skipped is not UNSET:
        to.put("validation.skip_initial_validation", off or skipped)
    size = _size(old, (WIDTH, HEIGHT, FRAMES))
    to.put("validation.video_dims", fitted(to, old, "width", size))
    scale = old.get("guidance_scale", number, null=UNSET)
    if scale is not UNSET:
        to.put("validation.video_cfg_scale", scale)
        to.put("validation.audio_cfg_scale", scale)
    negative = old.get("neg", text, null=UNSET)
    to.put("validation.negative_prompt", "" if negative is UNSET or negative.lower() == "false" else negative)
    seed = old.get("seed", whole, null=UNSET)
    walks = old.get("walk_seed", truth, null=UNSET) is True
    prompts = old.get("prompts", many(text), null=UNSET)
    samples = [Sample(prompt) for prompt in ([] if prompts is UNSET else prompts)]
    for each in old.several("samples"):
        to.read(each, "samples")
        samples.append(_sample(each, size))
    for index, sample in enumerate(samples):
        first = 0 if seed is UNSET else seed
        if sample.seed is None and walks:
            samples[index] = attrs.evolve(sample, seed=first + index)
    put_samples(to, old, "samples", [_worded(sample, trigger, name) for sample in samples])


def _size(old: Old, default: tuple[int, int, int]) -> tuple[int, int, int]:
    found: list[Any] = [old.get(name, whole, null=UNSET) for name in ("width", "height", "num_frames")]
    width, height, count = (each if given is UNSET else given for given, each in zip(found, default, strict=True))
    return width, height, count


def _sample(old: Old, size: tuple[int, int, int]) -> Sample:
    prompt = old.get("prompt", text, null="", required=True)
    seed = old.get("seed", whole, null=UNSET)
    image = old.get("ctrl_img", path, null=UNSET)
    own = _size(old, size)
    return Sample(
        "" if prompt is UNSET else prompt,
        None if own == size else own,
        None if seed is UNSET else seed,
        None if image is UNSET else image,
    )


def _worded(sample: Sample, trigger: str, name: str) -> Sample:
    """Return a sample with its trigger word written out."""
    prompt = sample.prompt.replace("[name]", name).replace("[trigger]", trigger)
    return attrs.evolve(sample, prompt=prompt)
