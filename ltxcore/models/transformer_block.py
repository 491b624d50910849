"""A block of the transformer: self-attention, attention to the text, attention to the other modality, and feed-forward.

Modules and names are as in diffusers' block. The forward is our own: either stream can be absent, and each stream has its own noise levels.
A block's inputs and outputs consist only of tensors and tuples, since ZeRO-3 and gradient checkpointing look into nothing else.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from typing import Any, NamedTuple

from torch import Tensor, nn

from ltxcore.models.attention import ours
from ltxcore.models.elementwise import Rotary, Rows, added, scaled
from ltxcore.models.feed_forward import in_chunks
from ltxcore.models.grouped_attention import Groups
from ltxcore.models.parameter_names import PREFIX, is_needed
from ltxcore.models.sequence_parallel import Division, dropping_by_token


class StreamContext(NamedTuple):
    """Everything that a stream brings to a block besides its tokens.

    K is 1 if all tokens share a noise level, the number of distinct levels if there is `row_of`, and T otherwise; C is the stream's width.

    Attributes:
        modulation: the shift, scale and gate of self-attention and feed-forward (and of the text query), `[B, K, n * C]`.
        context: text features, `[B, L, E]`.
        context_bias: the bias of the attention scores of the text, `[B, 1, L]`; None if all of the text counts.
        prompt_modulation: the shift and scale of the text, `[B, 1, 2 * E]`; None if the text is modulated by the blocks' tables alone or
            not at all.
        rotary: rotary angles of self-attention.
        self_bias: the bias of the scores of self-attention, `[B, T, T]`.
        cross_modulation: the scale and shift of the attention to and from the other modality, `[B, K or 1, 4 * C]`; None without
            another modality.
        cross_gate: the gate for what comes from the other modality, `[B, K or 1, C]`.
        cross_rotary: rotary angles of the attention between the modalities.
        row_of: the index of each token's row among the `B * K` rows of the batch, `[B, T]`; None if tokens share a row or each has its own.
        groups: the groups of tokens that attend to each other with weights in self-attention; None if there are no weights.
        division: the division of the tokens among processes, if this process has only its own tokens; None if it has all.
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
    row_of: Tensor | None
    groups: Groups | None = None
    division: Division | None = None


class BlockSwitches(NamedTuple):
    """The switches for parts of a block: whether self-attention only passes its values through, whether each modality attends to the
    other, and whether the output of this attention is multiplied by 0.

    With `apart`, the modules of the attention between the modalities run although a modality is absent, and their weights get gradients of
    exactly 0. ZeRO needs this: while other processes have both modalities, every process must run the same modules.
    """

    pass_video: bool = False
    pass_audio: bool = False
    audio_to_video: bool = True
    video_to_audio: bool = True
    apart: bool = False


def modulation(table: Tensor, values: Tensor, row_of: Tensor | None = None, rows: slice = slice(None)) -> tuple[Rows, ...]:
    """Add `rows` of a block's table `[n, C]` to the same rows of the noise levels' values `[B, K, n * C]`. If every token has its own row,
    the sum is computed only where it is used.

    Source: docs/explanation/arithmetic.md#modulation
    """
    own, given = table[rows], values.unflatten(-1, (table.shape[0], -1))[:, :, rows]
    if row_of is None and given.shape[1] > 1:
        return tuple(map(Rows, given.unbind(dim=2), own.unbind(dim=0)))
    return tuple(map(Rows, (own[None, None] + given).unbind(dim=2)))


def _both(of_queries: StreamContext, of_keys: StreamContext) -> tuple[Division, Division] | None:
    """Return the divisions of the tokens that attend and that are attended to, if they are divided."""
    return None if of_queries.division is None or of_keys.division is None else (of_queries.division, of_keys.division)


class DualStreamBlock(nn.Module):
    """A block over the streams of `modalities`. It takes its modules and tables, with their names, from a block of diffusers.

    Attributes:
        chunks: the number of chunks of tokens in which feed-forward is computed.
    """

    def __init__(self, block: nn.Module, modalities: Collection[str]) -> None:
        super().__init__()
        self.chunks = 1
        for name, child in block.named_children():
            if is_needed(f"transformer_blocks.0.{name}", modalities):
                self.add_module(name, ours(child))
        for name, parameter in block.named_parameters(recurse=False):
            if is_needed(f"transformer_blocks.0.{name}", modalities):
                self.register_parameter(name, parameter)
        # Text is modulated in both streams if either is configured for it; the query only in a stream that is.
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
        """Return each stream's tokens after this block, `[B, T, C]`; an absent stream stays absent."""
        divisions = {
            name: given.division
            for name, given in (("video", for_video), ("audio", for_audio))
            if given is not None and given.division is not None
        }
        with dropping_by_token(divisions) if divisions else nullcontext():
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

    def _rows(self, given: StreamContext, modality: str, first: int) -> tuple[Rows, ...]:
        """Return shift, scale and gate from three rows of the modulation, beginning with row `first`."""
        return modulation(self._part(modality, "scale_shift_table"), given.modulation, given.row_of, slice(first, first + 3))

    def _attend(self, hidden: Tensor, given: StreamContext, modality: str, passes: bool) -> Tensor:
        """Apply self-attention, then attention to the text."""
        shift, scale, gate = self._rows(given, modality, 0)
        normed = scaled(self._part(modality, "norm1")(hidden), scale, shift, given.row_of)
        attended = self._part(modality, "attn1")(
            normed, None, given.self_bias, given.rotary, passes=passes, groups=given.groups, divisions=_both(given, given)
        )
        hidden = added(hidden, attended, gate, given.row_of)

        query, text = self._part(modality, "norm2")(hidden), self._text(given, modality)
        if not self.query_is_modulated[modality]:
            unmodulated: Tensor = hidden + self._part(modality, "attn2")(query, text, given.context_bias)
            return unmodulated
        shift, scale, gate = self._rows(given, modality, 6)
        told = self._part(modality, "attn2")(scaled(query, scale, shift, given.row_of), text, given.context_bias)
        return added(hidden, told, gate, given.row_of)

    def _text(self, given: StreamContext, modality: str) -> Tensor:
        """Return the text as this block reads it, shifted and scaled if the model modulates it."""
        if not self.text_is_modulated:
            return given.context
        table: Tensor = self._part(modality, "prompt_scale_shift_table")
        if given.prompt_modulation is None:
            shift, scale = map(Rows, table[None, None].to(given.context.dtype).unbind(dim=2))
        else:
            shift, scale = modulation(table, given.prompt_modulation)
        return scaled(given.context, scale, shift)

    def _exchange(
        self, video: Tensor, audio: Tensor, for_video: StreamContext, for_audio: StreamContext, switches: BlockSwitches
    ) -> tuple[Tensor, Tensor]:
        """Apply attention between the modalities. Both directions read the tokens as they were before this attention."""
        if not (switches.audio_to_video or switches.video_to_audio):
            return video, audio
        part: Any = self.__getattr__
        normed_video, normed_audio = part("audio_to_video_norm")(video), part("video_to_audio_norm")(audio)
        video_rows, video_gate = self._cross_rows(for_video, "video")
        audio_rows, audio_gate = self._cross_rows(for_audio, "audio")
        if switches.audio_to_video:
            query = scaled(normed_video, video_rows[0], video_rows[1], for_video.row_of)
            source = scaled(normed_audio, audio_rows[0], audio_rows[1], for_audio.row_of)
            heard = part("audio_to_video_attn")(
                query, source, None, for_video.cross_rotary, for_audio.cross_rotary, divisions=_both(for_video, for_audio)
            )
            video = added(video, heard * 0.0 if switches.apart else heard, video_gate, for_video.row_of)
        if switches.video_to_audio:
            query = scaled(normed_audio, audio_rows[2], audio_rows[3], for_audio.row_of)
            source = scaled(normed_video, video_rows[2], video_rows[3], for_video.row_of)
            seen = part("video_to_audio_attn")(
                query, source, None, for_audio.cross_rotary, for_video.cross_rotary, divisions=_both(for_audio, for_video)
            )
            audio = added(audio, seen * 0.0 if switches.apart else seen, audio_gate, for_audio.row_of)
        return video, audio

    def _cross_rows(self, given: StreamContext, modality: str) -> tuple[tuple[Rows, ...], Rows]:
        """Return scale and shift for audio to video, then scale and shift for video to audio, and the gate."""
        table: Tensor = getattr(self, f"{modality}_a2v_cross_attn_scale_shift_table")
        if given.cross_modulation is None or given.cross_gate is None:
            raise ValueError("two streams that attend to each other need cross_modulation and cross_gate")
        return modulation(table[:4], given.cross_modulation, given.row_of), modulation(table[4:], given.cross_gate, given.row_of)[0]

    def _feed_forward(self, hidden: Tensor, given: StreamContext, modality: str) -> Tensor:
        shift, scale, gate = self._rows(given, modality, 3)
        normed = scaled(self._part(modality, "norm3")(hidden), scale, shift, given.row_of)
        return added(hidden, in_chunks(self._part(modality, "ff"), normed, self.chunks), gate, given.row_of)
