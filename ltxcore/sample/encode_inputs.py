"""Encode the prompts and media of samples, each only once, and free the encoders afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.codecs.source import Codecs
from ltxcore.conditions import SampleCondition
from ltxcore.encode.latent_masks import GREY_LEVEL, PCM_STEP, audio_mask, video_mask, without_noise
from ltxcore.encode.products import LOSSLESS
from ltxcore.encode.sample_sizes import STORED_MASKS
from ltxcore.encoded.micro_batch import padded
from ltxcore.encoded.store import read_mask
from ltxcore.errors import DataError
from ltxcore.media.probe import read_clip, read_sound, shown_size
from ltxcore.memory import give_back_memory
from ltxcore.pictures import StoredPictures
from ltxcore.protocols import Clip, Codec, Sound, StoredLatents, Text, TextEncoder
from ltxcore.sample.cuts import ClipCut, Cut, blaming
from ltxcore.sample.empty_tokens import Canvas
from ltxcore.sample.media_needs import Planned, PlannedCondition
from ltxcore.sample.media_parts import PicturesCut
from ltxcore.sample.request import Request

EncodedCondition = SampleCondition[StoredLatents, Tensor]
"""A condition whose media are encoded to latents `[1, C, ...]`, and whose masks are encoded to `[1, T]`."""


@attrs.frozen(eq=False)
class Encoded:
    """A sample with everything that is needed to generate it; all tensors are on the CPU.

    Attributes:
        canvas: the sample to generate, in latent cells.
        text: the text features of the prompt, before the model's connectors.
        negative: the text features of the negative prompt, from which guidance leads away.
        conditions: the conditions, in order.
        frozen: the latents of each frozen modality.
        media: the frozen modalities as read from their files, to show with the result.
        beside: the references to show beside the result.
        comment: the text about the conditions for the metadata of the result; "" for none.
    """

    canvas: Canvas
    text: Text
    negative: Text
    conditions: tuple[EncodedCondition, ...] = ()
    frozen: Mapping[str, StoredLatents] = attrs.field(factory=dict)
    media: Mapping[str, Clip | Sound] = attrs.field(factory=dict)
    beside: tuple[Clip, ...] = ()
    comment: str = ""


def encode(planned: Sequence[Planned], model: Codecs) -> list[Encoded]:
    """Encode the texts and media of some samples. The text encoder is freed before the first codec is loaded, and the
    codecs are freed at the end.

    Raises:
        DataError: a file cannot be read or encoded; the error names the sample's condition and the file.
        ConfigError: the model lacks a text encoder or codec that is needed.
        CheckpointError: the weights of an encoder cannot be read.
    """
    texts = _texts(planned, model.text())
    give_back_memory()
    media = _Media(model)
    found = [_encoded(each, texts, media) for each in planned]
    del media
    give_back_memory()
    return found


def _texts(planned: Sequence[Planned], encoder: TextEncoder) -> dict[str, Text]:
    captions = list(dict.fromkeys(text for each in planned for text in (each.canvas.request.prompt, each.canvas.request.negative_prompt)))
    # One at a time, since the features of captions that are encoded together depend on each other by rounding.
    return {caption: padded(encoder.encode([caption])[0], encoder.length) for caption in captions}


@attrs.define(eq=False)
class _Media:
    """A reader that reads and encodes each part of a file once."""

    model: Codecs
    codecs: dict[str, Codec] = attrs.field(factory=dict)
    read: dict[Any, Clip | Sound] = attrs.field(factory=dict)
    encoded: dict[Any, Tensor] = attrs.field(factory=dict)

    def codec(self, modality: str) -> Codec:
        if modality not in self.codecs:
            self.codecs[modality] = self.model.video() if modality == "video" else self.model.audio()
        return self.codecs[modality]

    def medium(self, cut: Cut, rate: float) -> Clip | Sound:
        key = (cut, rate)
        if key not in self.read:
            self.read[key] = cut.read(rate) if isinstance(cut, ClipCut) else cut.sound
        return self.read[key]

    def latents(self, cut: Cut, modality: str, rate: float) -> StoredLatents:
        """Return the latents of a part of a file, `[1, C, ...]`.

        Raises:
            DataError: the file cannot be read, or is too short to be encoded.
        """
        if cut not in self.encoded:
            with blaming(str(cut.path)):
                found = self.codec(modality).encode(self.medium(cut, rate))
            if not bool(found.isfinite().all()):
                raise DataError(
                    "the latents of this file are not finite", where=str(cut.path), remedy="Check the file, and the weights of the VAE."
                )
            self.encoded[cut] = found[None].float()
        return StoredLatents(self.encoded[cut], torch.tensor([rate]))

    def pictures(self, found: PicturesCut, rate: float) -> StoredPictures:
        """Return the latents of pictures, `[1, K, C, 1, H, W]`, and their frames.

        Raises:
            DataError: a file cannot be read.
        """
        latents = [self.latents(cut, "video", rate).latents for cut in found.cuts]
        return StoredPictures(torch.stack(latents, dim=1), torch.tensor([found.frames], dtype=torch.float32))


def _encoded(planned: Planned, texts: Mapping[str, Text], media: _Media) -> Encoded:
    canvas, request = planned.canvas, planned.canvas.request
    frozen: dict[str, StoredLatents] = {}
    shown: dict[str, Clip | Sound] = {}
    for name, cut in planned.frozen.items():
        with blaming(request.place_of(name)):
            frozen[name] = media.latents(cut, name, canvas.rate(name))
            # The result plays the audio of the file; only for encoding is audio resampled to the codec's rate.
            shown[name] = media.medium(cut, canvas.rate(name)) if name == "video" else _heard(cut, request)
    beside: list[Clip] = []
    for each in planned.conditions:
        if each.include_in_output:
            clips = [media.medium(cut, canvas.rate_of(cut, each)) for cut in each.media.values()]
            beside += [clip for clip in clips if isinstance(clip, Clip)]
    return Encoded(
        canvas=canvas,
        text=texts[request.prompt],
        negative=texts[request.negative_prompt],
        conditions=tuple(_condition(each, canvas, media) for each in planned.conditions),
        frozen=frozen,
        media=shown,
        beside=tuple(beside),
        comment=f"image_crf={request.image_crf}" if planned.has_compressed_images else "",
    )


def _heard(cut: Cut, request: Request) -> Sound:
    return read_sound(cut.path, max_duration=float(request.seconds))


def _condition(planned: PlannedCondition, canvas: Canvas, media: _Media) -> EncodedCondition:
    name = planned.modality
    with blaming(planned.where):
        pictures = {role: media.pictures(found, canvas.rate(name)) for role, found in planned.pictures.items()}
        return attrs.evolve(planned, pictures=pictures).holding(
            None if planned.medium is None else media.latents(planned.medium, name, canvas.rate(name)),
            {role: media.latents(cut, name, canvas.rate_of(cut, planned)) for role, cut in planned.media.items()},
            {role: _mask(planned, role, canvas) for role in planned.masks},
        )


def _mask(planned: PlannedCondition, role: str, canvas: Canvas) -> Tensor:
    """Read a mask file as one value per token, `[1, T]` float32, in the same way as preprocessing does.

    Raises:
        DataError: the mask cannot be read, is shorter than the sample, or does not have one value per token.
    """
    path, name = planned.masks[role], planned.modality
    with blaming(str(path)):
        if path.suffix.lower() in STORED_MASKS:
            return _stored(read_mask(path).float(), canvas, name)
        return _video_mask(planned, role, canvas) if name == "video" else _audio_mask(planned, role, canvas)


def _stored(mask: Tensor, canvas: Canvas, name: str) -> Tensor:
    grid = canvas.target(name)
    shape = (grid.frames, grid.height, grid.width) if name == "video" else (grid.frames,)
    if tuple(mask.shape) != shape:
        found, wanted = (" x ".join(map(str, sizes)) for sizes in (mask.shape, shape))
        raise DataError(
            f"is a mask of {found} values, but the generated clip or sound has {wanted} latent cells",
            remedy="A mask must have one value per latent cell.",
        )
    return mask.flatten()[None]


def _video_mask(planned: PlannedCondition, role: str, canvas: Canvas) -> Tensor:
    path, size = planned.masks[role], canvas.request.size
    frames = read_clip(path, max_frames=size.frames, stretched=False).frames
    if 1 < frames.shape[0] < size.frames:
        remedy = "Name a longer file or a single image, or generate fewer frames with video_dims."
        raise DataError(f"has {frames.shape[0]} frames, but {size.frames} are generated", remedy=remedy)
    mask = video_mask(frames, size, canvas.scale("video"), shown_size(path))
    return (mask if path.suffix.lower() in LOSSLESS else without_noise(mask, GREY_LEVEL)).flatten()[None]


def _audio_mask(planned: PlannedCondition, role: str, canvas: Canvas) -> Tensor:
    sound, grid = read_sound(planned.masks[role]), canvas.target("audio")
    step = 1 / canvas.rate("audio")
    if sound.duration < float(canvas.request.seconds) - step:
        what = f"lasts {sound.duration:.3f} s, but {float(canvas.request.seconds):.3f} s are generated"
        raise DataError(what, remedy="Name a longer file, or generate fewer frames with video_dims.")
    return without_noise(audio_mask(sound.samples, sound.rate, grid.frames, grid.scale), 1.5 * PCM_STEP)[None]
