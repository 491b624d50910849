"""The backbone, which connects the core's `ModelInput` to the transformer: `backbone(video, audio)` returns velocities."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import attrs
import torch
from torch import Tensor, nn

from ltxcore.errors import ConfigError
from ltxcore.models.blueprint import Blueprint
from ltxcore.models.grouped_attention import Groups
from ltxcore.models.parameter_names import PREFIX
from ltxcore.models.transformer import StreamInput, TimestepRule, Transformer
from ltxcore.models.transformer_block import BlockSwitches
from ltxcore.protocols import ModelInput, Text


@attrs.frozen
class ModelInfo:
    """The facts about a base model that are known without reading its weights.

    Attributes:
        name: the model's name for messages: "tiny", or the file's name.
        generation: "2.0", "2.3" or "2.5"; "tiny".
        fingerprint: a hash that changes whenever the weights do.
        num_layers: the number of blocks of the transformer.
        video_scale: the pixel frames, rows and columns that a cell of a video latent covers.
        audio_scale: the mel frames that a step of an audio latent covers.
        text_fingerprint: the fingerprint of the text encoder that the model was trained with; "" if the file does not give it.
        has_connectors: whether text features pass through connectors before the transformer.
        takes_marker: whether the model accepts marks on the video tokens that hold a single pixel frame (`ModelInput.marked`).
        marks: whether these tokens are marked in generation; false if the file says that the model was trained without marks.
        seed: the seed of fresh weights; None if the weights come from a file.
    """

    name: str
    generation: str
    fingerprint: str
    num_layers: int
    video_scale: tuple[int, int, int] = (8, 32, 32)
    audio_scale: tuple[int, int, int] = (4, 1, 1)
    text_fingerprint: str = ""
    has_connectors: bool = False
    takes_marker: bool = False
    marks: bool = True
    seed: int | None = None


@attrs.frozen
class Perturbation:
    """The parts of the model that a guidance pass leaves out. Source: docs/explanation/arithmetic.md#guidance

    Attributes:
        pass_self_attention: for each modality, the blocks in which self-attention passes its values through.
        audio_to_video: whether video tokens attend to audio tokens.
        video_to_audio: whether audio tokens attend to video tokens.
    """

    pass_self_attention: Mapping[str, frozenset[int]] = attrs.field(factory=dict)
    audio_to_video: bool = True
    video_to_audio: bool = True

    @classmethod
    def isolated(cls) -> Perturbation:
        """Return a perturbation in which neither modality attends to the other."""
        return cls(audio_to_video=False, video_to_audio=False)

    def switches(self, num_layers: int, *, apart: bool = False) -> tuple[BlockSwitches, ...]:
        """Return this perturbation as the switches of each block, for a model of `num_layers` blocks."""
        nowhere: frozenset[int] = frozenset()
        video, audio = (self.pass_self_attention.get(name, nowhere) for name in ("video", "audio"))
        return tuple(BlockSwitches(i in video, i in audio, self.audio_to_video, self.video_to_audio, apart) for i in range(num_layers))


class LTXBackbone(nn.Module):
    """The denoising model, with the streams that were loaded.

    All parameters are in `transformer`, and `ModelInput` objects are passed no deeper than this class. Wherever parameters are named, as
    LoRA targets or as unreached parameters, the names are as in `backbone.named_parameters()`.

    Attributes:
        transformer: the transformer, with the streams and their weights.
        modalities: the modalities that the backbone has weights for.
        info: the facts about the base model.
        blueprint: the shapes of the whole model; the backbone may hold only a part of it.
        fingerprint: the base model's fingerprint.
        copy_of_base: predicts like the base, with a frozen copy of its weights; None if there is no copy. It is not a module, so the
            weights of the copy are not parameters of this model.
    """

    def __init__(
        self,
        transformer: Transformer,
        *,
        modalities: frozenset[str],
        info: ModelInfo,
        blueprint: Blueprint,
        connectors: Callable[[Text, Collection[str]], Text] | None = None,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.modalities = modalities
        self.info = info
        self.blueprint = blueprint
        self.connectors = connectors
        self.copy_of_base: Callable[..., dict[str, Tensor]] | None = None

    @property
    def fingerprint(self) -> str:
        return self.info.fingerprint

    @property
    def device(self) -> torch.device:
        """The device on which the backbone computes; the matrices of offloaded blocks may be elsewhere."""
        return next(parameter for parameter in self.transformer.parameters(recurse=False)).device

    @property
    def timestep_rule(self) -> TimestepRule:
        """The rule that decides which noise levels modulate the attention between the modalities."""
        return self.transformer.rule

    def width(self, modality: str) -> int:
        """Return D, the number of values in a token of a modality."""
        return self.blueprint.shapes[f"{PREFIX[modality]}proj_in.weight"][1]

    def forward(
        self,
        video: ModelInput | None,
        audio: ModelInput | None,
        *,
        perturbation: Perturbation | None = None,
        attention_masks: Mapping[str, Tensor] | None = None,
        runner: Callable[..., tuple[Tensor | None, Tensor | None]] | None = None,
    ) -> dict[str, Tensor]:
        """Return, for each modality, the velocity of every token, `[B, T + R, D]` float32.

        Args:
            video: the video tokens; None if the run has no video.
            audio: the audio tokens; None if the run has no audio.
            perturbation: the parts of the model that this pass leaves out.
            attention_masks: for each modality, the weight with which token i attends to token j, `[B, T + R, T + R]` in [0, 1].
            runner: the engine that runs the transformer, and is called like the transformer; None runs the transformer directly.

        Raises:
            ConfigError: there is an input for a modality that the backbone has no weights for, or an attention mask beside strengths.
        """
        given = {name: stream for name, stream in (("video", video), ("audio", audio)) if stream is not None}
        absent = [name for name in given if name not in self.modalities]
        if absent or not given:
            asked, loaded = " and ".join(absent) or "neither video nor audio", " and ".join(sorted(self.modalities))
            raise ConfigError(
                f"the model is asked for {asked}, but was loaded for {loaded}",
                remedy="Load the backbone with the modalities that the run needs.",
            )
        masks = attention_masks or {}
        weighted = [name for name, stream in given.items() if stream.strengths is not None and name in masks]
        if weighted:
            raise ConfigError(
                f"the {weighted[0]} has an attention mask, and appended tokens with a strength",
                remedy="Write the strengths into the mask, or pass no mask.",
            )
        streams = {name: _stream(stream, masks.get(name)) for name, stream in given.items()}
        apart = any(stream.is_absent for stream in given.values())
        switches = (perturbation or Perturbation()).switches(self.info.num_layers, apart=apart) if perturbation or apart else None
        velocities = (runner or self.transformer)(streams.get("video"), streams.get("audio"), switches)
        return {name: v.float() for name, v in zip(("video", "audio"), velocities, strict=True) if v is not None}

    @torch.no_grad()
    def connect(self, text: Text, modalities: Collection[str] | None = None) -> Text:
        """Turn stored text features into the context that the blocks attend to.

        Without connectors, the features are used unchanged, with the mask that says which positions are words. The same holds for features
        that passed through the model's connectors before they were stored.

        Args:
            text: the text features, for at least these modalities.
            modalities: the modalities that need context; None means all modalities of the backbone.

        Raises:
            ConfigError: the checkpoint has connectors, but none were given to this backbone.
        """
        if text.is_connected:
            return text
        if self.connectors is not None:
            return self.connectors(text, self.modalities if modalities is None else modalities)
        if self.info.has_connectors:
            raise ConfigError(
                f'the base model "{self.info.name}" passes text through connectors, which this backbone does not have',
                remedy="Load the backbone with `load_backbone`, which reads the connectors.",
            )
        return text


def _stream(given: ModelInput, attention_mask: Tensor | None) -> StreamInput:
    shared = given.shared
    return StreamInput(
        given.tokens,
        given.sigma,
        given.timesteps if shared is None else given.timesteps.gather(1, shared.token),
        given.positions,
        given.context,
        given.context_mask,
        attention_mask,
        given.marked,
        None if shared is None else shared.row_of,
        None if given.strengths is None else Groups(given.groups, given.strengths),
    )
