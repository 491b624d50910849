"""Turn the samples of `[validation]` into requests with every default filled in, and check them as far as the model
alone allows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs

from ltxcore.conditions import AskedCondition, appends
from ltxcore.config.image_crf import image_crf
from ltxcore.config.parts import evolved
from ltxcore.config.reading import Unreadable
from ltxcore.config.validation_samples import FREEZING, Freeze, ValidationSample, ValidationTable
from ltxcore.encode.buckets import Bucket, misfits
from ltxcore.errors import ConfigError, Problem, collecting
from ltxcore.media.times import exact_rate
from ltxcore.models.backbone import ModelInfo
from ltxcore.protocols import MODALITIES
from ltxcore.sample.guidance import Scales

DEFAULT_STG_BLOCKS, DEFAULT_LAYERS = [28], 48
"""The default of `stg_blocks`, and the number of blocks of the models that this default is meant for."""


LONGEST, MOST_CELLS = 3600.0, 2**22
"""The maximum numbers of seconds and of latent cells in a sample. Higher values are typing errors, which would
otherwise be found only when memory runs out.
"""

TINY_SIZE: dict[str, Any] = {"video_dims": (64, 64, 17), "frame_rate": 16.0}
"""The size and frame rate that the tiny model was trained on, which differ widely from the defaults for real models."""


@attrs.frozen
class Request:
    """A request to generate one sample.

    Attributes:
        prompt: the prompt.
        negative_prompt: the negative prompt, from which guidance leads away.
        size: the size of the video; its number of frames also determines the length of the audio.
        rate: the frames per second of the video.
        seed: the seed of the noise.
        steps: the number of Euler steps.
        generated: the modalities that are generated.
        freezes: the modalities that are given entirely, and only condition the others.
        conditions: the conditions on generated modalities; conditions that append tokens may also apply to frozen
            modalities.
        scales: the guidance scales of each generated modality.
        stg_blocks: the blocks without self-attention in the perturbed pass; empty for all blocks.
        where: the sample's key in the run file.
        sigmas: the noise levels; None for those that follow from the number of steps.
        image_crf: how strongly images that are conditions are compressed; 0 not at all.
    """

    prompt: str
    negative_prompt: str
    size: Bucket
    rate: float
    seed: int
    steps: int
    generated: frozenset[str]
    freezes: tuple[Freeze, ...]
    conditions: tuple[AskedCondition, ...]
    scales: Mapping[str, Scales]
    stg_blocks: tuple[int, ...]
    where: str
    sigmas: tuple[float, ...] | None = None
    image_crf: int = 0

    @property
    def frozen(self) -> dict[str, Path]:
        """The file of each frozen modality."""
        return {freeze.modality: freeze.medium for freeze in self.freezes}

    @property
    def modalities(self) -> frozenset[str]:
        """All modalities that the model sees, both generated and frozen."""
        return self.generated.union(freeze.modality for freeze in self.freezes)

    @property
    def seconds(self) -> Fraction:
        """The length of the sample in seconds."""
        return self.size.frames / exact_rate(self.rate)

    def place(self, condition: AskedCondition | Freeze) -> str:
        """Return the key of one of the sample's conditions in the run file."""
        return f"{self.where}.conditions.{condition.index}"

    def place_of(self, frozen: str) -> str:
        """Return the key, in the run file, of the condition that freezes a modality."""
        return next(self.place(freeze) for freeze in self.freezes if freeze.modality == frozen)


def requests(table: ValidationTable, trained: Collection[str], info: ModelInfo) -> list[Request]:
    """Turn the samples of a `[validation]` table into requests.

    Args:
        table: the samples, and the defaults for keys that a sample does not set; the tiny model has its own default
            size.
        trained: the modalities that are generated unless the table says otherwise.
        info: the model that generates the samples.

    Raises:
        ConfigError: a sample has nothing to generate, a condition on a modality that the sample lacks, a size that the
            codec does not support, or a block that the model lacks. The error lists everything that is wrong.
    """
    blocks, problems = _stg_blocks(table.stg_blocks, info.num_layers)
    table = _of_a_size(table, info)
    found = []
    for index, sample in enumerate(table.samples):
        with collecting(problems):
            found.append(_request(table, index, sample, trained, blocks, image_crf(table.image_crf, info.generation)))
            problems += [*_misplaced(found[-1]), *_wrong_size(found[-1], sample, info)]
    if problems:
        raise ConfigError.of(dict.fromkeys(problems))  # a mistake that [validation] makes for all samples is reported once
    if len(found) < len(table.samples):
        raise Unreadable
    return found


def _request(
    table: ValidationTable, index: int, sample: ValidationSample, trained: Collection[str], blocks: Sequence[int], crf: int
) -> Request:
    asked = {"video": table.generate_video, "audio": table.generate_audio}
    wanted = {name for name in MODALITIES if (name in trained if asked[name] is None else asked[name])}
    return Request(
        prompt=sample.prompt,
        negative_prompt=table.negative_prompt,
        size=Bucket(*(sample.video_dims or table.video_dims)),
        rate=float(exact_rate(table.frame_rate)),
        seed=table.seed if sample.seed is None else sample.seed,
        steps=table.inference_steps,
        generated=frozenset(wanted - {freeze.modality for freeze in sample.frozen}),
        freezes=tuple(sample.frozen),
        conditions=tuple(sample.conditions),
        scales=scales_of(table),
        stg_blocks=tuple(blocks),
        where=f"validation.samples.{index}",
        sigmas=table.levels,
        image_crf=crf,
    )


def _of_a_size(table: ValidationTable, info: ModelInfo) -> ValidationTable:
    """Return the table with the tiny model's size and frame rate instead of the default ones, which the tiny model
    cannot generate.
    """
    usual = ValidationTable()
    if info.generation != "tiny" or table.video_dims != usual.video_dims:
        return table
    return evolved(table, **{name: value for name, value in TINY_SIZE.items() if getattr(table, name) == getattr(usual, name)})


def scales_of(table: ValidationTable) -> dict[str, Scales]:
    """Return the guidance scales of each modality."""
    rescale = table.guidance_rescale
    return {
        "video": Scales(table.video_cfg_scale, table.video_stg_scale, table.video_modality_guidance_scale, rescale),
        "audio": Scales(table.audio_cfg_scale, table.audio_stg_scale, table.audio_modality_guidance_scale, rescale),
    }


def _stg_blocks(asked: Sequence[int], layers: int) -> tuple[list[int], list[Problem]]:
    """Return the blocks that `stg_blocks` names, and a problem for each that the model lacks. The default names one of the usual 48 blocks;
    for a smaller model without this block, it stands for the block at the same relative depth.
    """
    if list(asked) == DEFAULT_STG_BLOCKS and layers <= DEFAULT_STG_BLOCKS[0]:
        return [block * layers // DEFAULT_LAYERS for block in DEFAULT_STG_BLOCKS], []
    absent = [block for block in asked if block >= layers]
    problems = [
        Problem(f"there is no block {block}", "validation.stg_blocks", f"The model has {layers}, numbered from 0.") for block in absent
    ]
    return list(asked), problems


def _misplaced(request: Request) -> Iterator[Problem]:
    """Find conditions on modalities that the sample lacks or that are already given entirely, and samples that generate
    nothing.
    """
    if len(request.freezes) > 1:
        both = len({freeze.modality for freeze in request.freezes}) > 1
        what = "freezes both modalities, so there is nothing to generate" if both else f"freezes the {request.freezes[0].modality} twice"
        yield Problem(what, request.where, f"Keep one of {' and '.join(FREEZING) if both else 'them'}.")
        return
    if not request.generated:
        given = next((freeze.modality for freeze in request.freezes), None)
        other = "audio" if given == "video" else "video"
        what = f"freezes the {given}, and no {other} is generated" if given else "generates neither video nor audio"
        remedy = f"Set generate_{other} = true." if given else "Set generate_video or generate_audio to true."
        yield Problem(what, request.where, remedy)
        return
    for condition in request.conditions:
        name, where = condition.modality, request.place(condition)
        if name not in request.modalities:
            what = f'the condition "{condition.type}" works on {name}, which this sample lacks'
            yield Problem(what, where, f"Set generate_{name} = true, or remove the condition.")
        elif name not in request.generated and not appends(condition.cls):
            what = f'the condition "{condition.type}" makes no sense on the frozen {name}, which is already given'
            yield Problem(what, where, f"Remove the condition, or the entry that freezes the {name}.")


def _wrong_size(request: Request, sample: ValidationSample, info: ModelInfo) -> Iterator[Problem]:
    """Find sizes that the codec does not support. A sample of audio alone may have any size, since only its number of
    frames matters: it determines the length.
    """
    where = "validation.video_dims" if sample.video_dims is None else f"{request.where}.video_dims"
    if request.size.frames / request.rate > LONGEST:
        what = f"{request.size.frames} frames at {request.rate:g} per second last more than {LONGEST:g} seconds"
        yield Problem(what, where, "Generate fewer frames.")
    if "video" not in request.modalities:
        return
    if (cells := math.prod(request.size.cells(info.video_scale))) > MOST_CELLS:
        yield Problem(f"a clip of {request.size} has {cells:,} latent cells, but no model generates more than {MOST_CELLS:,}", where)
    for what, remedy in misfits(request.size, info.video_scale):
        yield Problem(f"a clip of {request.size} has {what}", where, remedy)
