"""A block of the transformer: self-attention, attention to the text, attention to the other modality, and feed-forward.

The modules and their names are those of diffusers' block; the forward is our own, so that either stream may be absent
and each may be modulated by its own noise levels. A block's inputs and outputs consist of tensors and tuples only,
since ZeRO-3 and gradient checkpointing look into nothing else.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from torch import Tensor, nn

from ltxcore.models.parameter_names import PREFIX, is_needed

Rotary = tuple[Tensor, Tensor]


class StreamContext(NamedTuple):
    """Everything that one stream brings to a block besides its tokens. T' is T, or 1 if all tokens share a value; C is
    the stream's width.

    Attributes:
        modulation: the shift, scale and gate of self-attention and feed-forward (and of the text query), `[B, T', n * C]`.
        context: text features, `[B, L, E]`.
        context_bias: the bias of the attention scores of the text, `[B, 1, L]`; None if all of the text counts.
        prompt_modulation: the shift and scale of the text, `[B, 1, 2 * E]`; None if the blocks' own tables modulate it, or
            nothing does.
        rotary: rotary angles of self-attention.
        self_bias: the bias of the scores of self-attention, `[B, T, T]`.
        cross_modulation: the scale and shift of the attention to and from the other modality, `[B, T', 4 * C]`; None without
            another modality.
        cross_gate: the gate for what comes from the other modality, `[B, T', C]`.
        cross_rotary: rotary angles of the attention between the modalities.
    """

    modulation: Tensor
    context: Tensor
    context_bias: Tensor | None
    prompt_modulation: Tensor | None
    rotary: Rotary
    self_bias: Tensor | None
    cross_modulation: Tensor | None
    cross_gate: Tensor | None
    cross_rotary: Rotary | None


class BlockSwitches(NamedTuple):
    """The parts of a block that are switched off: self-attention, which then passes its values through, and the
    attention between the modalities.
    """

    pass_video: bool = False
    pass_audio: bool = False
    audio_to_video: bool = True
    video_to_audio: bool = True


def modulation(table: Tensor, values: Tensor) -> tuple[Tensor, ...]:
    """Add a block's own table `[n, C]` to the values from the noise level `[B, T', n * C]`; the result is n tensors
    `[B, T', C]`.

    Source: docs/explanation/arithmetic.md#modulation
    """
    rows = table[None, None] + values.unflatten(-1, (table.shape[0], -1))
    return rows.unbind(dim=2)


class WeightDtypeNorm(nn.RMSNorm):
    """A normalization of queries and keys that computes in its weight's dtype, whatever the input's dtype is.

    Under autocast the input is bf16 and the weight float32; torch's own module would then warn and leave its fast path.
    """

    @classmethod
    def of(cls, norm: nn.RMSNorm) -> WeightDtypeNorm:
        """Return a norm that shares the weight of another norm."""
        same = cls(norm.normalized_shape, norm.eps, device="meta")
        same.weight = norm.weight
        return same

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class DualStreamBlock(nn.Module):
    """A block over the streams of `modalities`, which takes its modules and tables, with their names, from a block of diffusers."""

    def __init__(self, block: nn.Module, modalities: Collection[str]) -> None:
        super().__init__()
        for name, child in block.named_children():
            if is_needed(f"transformer_blocks.0.{name}", modalities):
                self.add_module(name, child)
        for name, parameter in block.named_parameters(recurse=False):
            if is_needed(f"transformer_blocks.0.{name}", modalities):
                self.register_parameter(name, parameter)
        for module in list(self.modules()):
            for name, child in module.named_children():
                if type(child) is nn.RMSNorm:
                    setattr(module, name, WeightDtypeNorm.of(child))
        # Text is modulated in both streams as soon as one of them asks for it; the query only in a stream that asks.
        self.text_is_modulated: bool = bool(block.cross_attn_adaln)
        self.query_is_modulated: dict[str, bool] = {
            "video": bool(block.video_cross_attn_adaln),
            "audio": bool(block.audio_cross_attn_adaln),
        }

    def forward(
        self,
        video: Tensor | None,
        audio: Tensor | None,
        for_video: StreamContext | None,
        for_audio: StreamContext | None,
        switches: BlockSwitches,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return each stream's tokens after this block, `[B, T, C]` as before; an absent stream stays absent."""
        if video is not None and for_video is not None:
            video = self._attend(video, for_video, "video", switches.pass_video)
        if audio is not None and for_audio is not None:
            audio = self._attend(audio, for_audio, "audio", switches.pass_audio)
        if video is not None and audio is not None and for_video is not None and for_audio is not None:
            video, audio = self._exchange(video, audio, for_video, for_audio, switches)
        if video is not None and for_video is not None:
            video = self._feed_forward(video, for_video, "video")
        if audio is not None and for_audio is not None:
            audio = self._feed_forward(audio, for_audio, "audio")
        return video, audio

    def _part(self, modality: str, name: str) -> Any:
        return getattr(self, PREFIX[modality] + name)

    def _rows(self, given: StreamContext, modality: str) -> tuple[Tensor, ...]:
        return modulation(self._part(modality, "scale_shift_table"), given.modulation)

    def _attend(self, hidden: Tensor, given: StreamContext, modality: str, passes: bool) -> Tensor:
        """Apply self-attention, then attention to the text."""
        rows = self._rows(given, modality)
        shift, scale, gate = rows[:3]
        normed = self._part(modality, "norm1")(hidden) * (1 + scale) + shift
        attended = self._part(modality, "attn1")(normed, None, given.self_bias, given.rotary, all_perturbed=passes)
        hidden = hidden + attended * gate

        query = self._part(modality, "norm2")(hidden)
        if self.query_is_modulated[modality]:
            query = query * (1 + rows[7]) + rows[6]
        told = self._part(modality, "attn2")(query, self._text(given, modality), given.context_bias)
        if self.query_is_modulated[modality]:
            told = told * rows[8]
        return hidden + told

    def _text(self, given: StreamContext, modality: str) -> Tensor:
        """Return the text as this block reads it, shifted and scaled if the model modulates it."""
        if not self.text_is_modulated:
            return given.context
        table: Tensor = self._part(modality, "prompt_scale_shift_table")
        if given.prompt_modulation is None:
            shift, scale = table[None, None].to(given.context.dtype).unbind(dim=2)
        else:
            shift, scale = modulation(table, given.prompt_modulation)
        return given.context * (1 + scale) + shift

    def _exchange(
        self, video: Tensor, audio: Tensor, for_video: StreamContext, for_audio: StreamContext, switches: BlockSwitches
    ) -> tuple[Tensor, Tensor]:
        """Apply attention between the modalities. Both directions read the tokens as they were before either was applied."""
        if not (switches.audio_to_video or switches.video_to_audio):
            return video, audio
        part: Any = self.__getattr__
        normed_video, normed_audio = part("audio_to_video_norm")(video), part("video_to_audio_norm")(audio)
        video_rows, video_gate = self._cross_rows(for_video, "video")
        audio_rows, audio_gate = self._cross_rows(for_audio, "audio")
        if switches.audio_to_video:
            query = normed_video * (1 + video_rows[0]) + video_rows[1]
            source = normed_audio * (1 + audio_rows[0]) + audio_rows[1]
            heard = part("audio_to_video_attn")(query, source, None, for_video.cross_rotary, for_audio.cross_rotary)
            video = video + video_gate * heard
        if switches.video_to_audio:
            query = normed_audio * (1 + audio_rows[2]) + audio_rows[3]
            source = normed_video * (1 + video_rows[2]) + video_rows[3]
            seen = part("video_to_audio_attn")(query, source, None, for_audio.cross_rotary, for_video.cross_rotary)
            audio = audio + audio_gate * seen
        return video, audio

    def _cross_rows(self, given: StreamContext, modality: str) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return scale and shift for audio to video, the same for video to audio, and the gate."""
        table: Tensor = getattr(self, f"{modality}_a2v_cross_attn_scale_shift_table")
        if given.cross_modulation is None or given.cross_gate is None:
            raise ValueError("two streams that attend to each other need cross_modulation and cross_gate")
        return modulation(table[:4], given.cross_modulation), modulation(table[4:], given.cross_gate)[0]

    def _feed_forward(self, hidden: Tensor, given: StreamContext, modality: str) -> Tensor:
        shift, scale, gate = self._rows(given, modality)[3:6]
        normed = self._part(modality, "norm3")(hidden) * (1 + scale) + shift
        return hidden + self._part(modality, "ff")(normed) * gate
