"""The transformer over one or two streams, which turns tokens, noise levels and positions into velocities.

Modules and names are as in `diffusers.LTX2VideoTransformer3DModel`; the forward is our own. The parameters that belong to no block are used
only inside the transformer's forward, while ZeRO-3 has them gathered.

This module also implements gradient checkpointing, with a function that tells whether a block is being recomputed.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ltxcore.models.block_inputs import BlockInputs
from ltxcore.models.elementwise import Rotary, Rows, has_autocast, scaled
from ltxcore.models.grouped_attention import Groups
from ltxcore.models.kept_outputs import KeptOutputs
from ltxcore.models.parameter_names import PREFIX, is_needed
from ltxcore.models.sequence_parallel import Division, SequenceGroup, all_tokens, dropping_by_token, own_tokens
from ltxcore.models.transformer_block import BlockSwitches, DualStreamBlock, StreamContext

TimestepRule = Literal["split", "cross", "own"]
"""The rules for the noise levels that modulate the attention between the modalities. Each rule is described by the levels for scale and
shift, then the level for the gate.

- split: the levels of the stream's own tokens; the other stream's sigma. The models are trained with this rule.
- cross: the other stream's sigma; the other stream's sigma. Some older LoRAs and diffusers' pipelines use it.
- own: the levels of the stream's own tokens; the same levels.

The three rules agree if both streams have the same sigma and no token is given.
"""

_CROSS_ROPE = {"video": "cross_attn_rope", "audio": "cross_attn_audio_rope"}
_CROSS_GATE = {"video": "av_cross_attn_video_a2v_gate", "audio": "av_cross_attn_audio_v2a_gate"}


class StreamInput(NamedTuple):
    """The transformer's input for one modality.

    Attributes:
        tokens: the tokens, `[B, T, D]`.
        sigma: the noise level of each sample, `[B]` in [0, 1], float32.
        levels: the noise levels of the tokens, `[B, K]` in [0, 1], float32: one level for all tokens, one for each token, or the distinct
            levels.
        positions: the start and end of each token, `[B, P, T, 2]`, float32.
        context: the text features, `[B, L, E]`.
        context_mask: the mask of the text, `[B, L]`: 1 for words, 0 for padding.
        attention_mask: the weight with which token i attends to token j, `[B, T, T]` in [0, 1].
        marked: a mask of the tokens in latent frames that hold a single pixel frame, `[B, T]` bool; only some checkpoints read it.
        row_of: the index of each token's level among the `B * K` levels of the batch, `[B, T]`, if `levels` has the distinct levels.
        groups: the groups of tokens that attend to each other with weights, which exclude an `attention_mask`; None if there are no weights.
    """

    tokens: Tensor
    sigma: Tensor
    levels: Tensor
    positions: Tensor
    context: Tensor
    context_mask: Tensor | None = None
    attention_mask: Tensor | None = None
    marked: Tensor | None = None
    row_of: Tensor | None = None
    groups: Groups | None = None


def attention_bias(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the bias on attention scores that weights keys by `weights` in [0, 1]. The bias is log(weight), or the dtype's lowest number
    for a weight of 0.

    With minus infinity instead of the lowest number, a row in which all weights are 0 would become NaN rather than attend evenly.

    Source: docs/explanation/arithmetic.md#attention-bias-of-weights
    """
    return weights.float().log().clamp_min(torch.finfo(dtype).min).to(dtype)


class Transformer(nn.Module):
    """The transformer over the streams of `modalities`. It takes its modules from a diffusers model, which must not be used afterwards."""

    def __init__(self, model: Any, modalities: Collection[str], *, rule: TimestepRule = "split") -> None:
        super().__init__()
        self.rule: TimestepRule = rule
        self.gradient_checkpointing = False
        self.block_inputs: BlockInputs | None = None
        self.sequence_group: SequenceGroup | None = None
        self.kept_outputs: KeptOutputs | None = None
        self.timestep_scale = float(model.config.timestep_scale_multiplier)
        self.gate_scale = model.config.cross_attn_timestep_scale_multiplier / model.config.timestep_scale_multiplier
        for name, child in model.named_children():
            if name != "transformer_blocks" and is_needed(name, modalities):
                self.add_module(name, child)
        for name, parameter in model.named_parameters(recurse=False):
            if is_needed(name, modalities):
                self.register_parameter(name, parameter)
        self.transformer_blocks = nn.ModuleList(DualStreamBlock(block, modalities) for block in model.transformer_blocks)

    def forward(
        self, video: StreamInput | None, audio: StreamInput | None, switches: tuple[BlockSwitches, ...] | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the velocities `[B, T, D]` of each stream. `switches` has an entry for each block; None switches nothing off."""
        given = {name: stream for name, stream in (("video", video), ("audio", audio)) if stream is not None}
        if self.sequence_group is None:
            return self._velocities(given, {}, switches)
        divisions = {name: Division(stream.tokens.shape[1], self.sequence_group) for name, stream in given.items()}
        own = {name: own_tokens(stream, divisions[name]) for name, stream in given.items()}
        with dropping_by_token(divisions):
            picture, sound = self._velocities(own, divisions, switches)
        return (
            None if picture is None else all_tokens(picture, divisions["video"]),
            None if sound is None else all_tokens(sound, divisions["audio"]),
        )

    def _velocities(
        self, given: Mapping[str, StreamInput], divisions: Mapping[str, Division], switches: tuple[BlockSwitches, ...] | None
    ) -> tuple[Tensor | None, Tensor | None]:
        hidden = {name: self._enter(stream, name) for name, stream in given.items()}
        levels = {name: self._levels(self._part(name, "time_embed"), stream.levels, name) for name, stream in given.items()}
        contexts = {name: self._context(given, levels[name][0], name, divisions.get(name)) for name in given}
        picture, sound = hidden.get("video"), hidden.get("audio")
        if self.kept_outputs is not None:
            self.kept_outputs.begin(len(self.transformer_blocks))
        for i, block in enumerate(self.transformer_blocks):
            inputs = (picture, sound, contexts.get("video"), contexts.get("audio"), BlockSwitches() if switches is None else switches[i])
            if self.gradient_checkpointing and torch.is_grad_enabled():
                with nullcontext() if self.block_inputs is None else self.block_inputs.of_block():
                    picture, sound = computed_again(block, *inputs, kept=self.kept_outputs)
            else:
                picture, sound = block(*inputs)
        return (
            None if picture is None else self._leave(picture, levels["video"][1], given["video"].row_of, "video"),
            None if sound is None else self._leave(sound, levels["audio"][1], given["audio"].row_of, "audio"),
        )

    def chunk_feed_forward(self, chunks: int) -> None:
        """Compute the feed-forward of every block in this number of chunks of tokens."""
        for block in self.transformer_blocks:
            block.chunks = chunks  # type: ignore[assignment]

    def _part(self, modality: str, name: str) -> Any:
        return getattr(self, PREFIX[modality] + name)

    def _dtype(self, modality: str) -> torch.dtype:
        # Tables have no adapters, so their dtype is the base's.
        dtype: torch.dtype = self._part(modality, "scale_shift_table").dtype
        return dtype

    def _enter(self, given: StreamInput, modality: str) -> Tensor:
        hidden: Tensor = self._part(modality, "proj_in")(given.tokens.to(self._dtype(modality)))
        if given.marked is not None and hasattr(self, "keyframes_abs_pos_embedding") and modality == "video":
            mark: Any = self.keyframes_abs_pos_embedding
            hidden = hidden + given.marked.unsqueeze(-1).to(hidden.dtype) * mark.to(hidden.dtype)
        return hidden

    def _levels(self, embed: Any, levels: Tensor, modality: str, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        """Turn noise levels `[B, K]` into modulation `[B, K, n * C]` and embeddings `[B, K, C]` with an AdaLN module.

        Source: docs/explanation/arithmetic.md#level-as-the-model-takes-it
        """
        scaled = levels.float().flatten() * self.timestep_scale * factor
        values, embedded = embed(scaled, batch_size=levels.shape[0], hidden_dtype=self._dtype(modality))
        return values.unflatten(0, levels.shape), embedded.unflatten(0, levels.shape)

    def _context(
        self, streams: Mapping[str, StreamInput], values: Tensor, modality: str, division: Division | None = None
    ) -> StreamContext:
        given, dtype = streams[modality], self._dtype(modality)
        others = [stream for name, stream in streams.items() if name != modality]
        prompt = cross = gate = cross_rotary = None
        if hasattr(self, PREFIX[modality] + "prompt_adaln"):
            prompt, _ = self._levels(self._part(modality, "prompt_adaln"), given.sigma[:, None], modality)
        if others:
            cross, gate = self._cross_levels(given, others[0], modality)
            cross_rotary = self._rotary(getattr(self, _CROSS_ROPE[modality]), given.positions[:, :1], modality)
        return StreamContext(
            modulation=values,
            context=self._text(given, modality),
            context_bias=None if given.context_mask is None else attention_bias(given.context_mask[:, None], dtype),
            prompt_modulation=prompt,
            rotary=self._rotary(self._part(modality, "rope"), given.positions, modality),
            self_bias=None if given.attention_mask is None else attention_bias(given.attention_mask, dtype),
            cross_modulation=cross,
            cross_gate=gate,
            cross_rotary=cross_rotary,
            row_of=given.row_of,
            groups=given.groups,
            division=division,
        )

    def _rotary(self, angles: Any, positions: Tensor, modality: str) -> Rotary:
        """Return the cosines and sines for `elementwise.rotated`. They are computed in float32 or better, and rounded once to the dtype of
        queries and keys.
        """
        device = positions.device
        dtype = torch.get_autocast_dtype(device.type) if has_autocast(device.type) else self._dtype(modality)
        tables = angles(positions.float(), device)
        if angles.rope_type == "interleaved":
            tables = tuple(table[..., ::2] for table in tables)
        else:
            tables = tuple(table.transpose(1, 2) for table in tables)
        cosines, sines = (table.to(dtype).contiguous() for table in tables)
        return cosines, sines

    def _text(self, given: StreamInput, modality: str) -> Tensor:
        context = given.context.to(self._dtype(modality))
        if hasattr(self, PREFIX[modality] + "caption_projection"):
            context = self._part(modality, "caption_projection")(context)
        return context

    def _cross_levels(self, given: StreamInput, other: StreamInput, modality: str) -> tuple[Tensor, Tensor]:
        """Return the modulation and the gate of the attention to the other modality.

        Source: docs/explanation/arithmetic.md#attention-between-the-modalities
        """
        theirs = other.sigma[:, None]
        scale_shift = theirs if self.rule == "cross" else given.levels
        gate = given.levels if self.rule == "own" else theirs
        values, _ = self._levels(getattr(self, f"av_cross_attn_{modality}_scale_shift"), scale_shift, modality)
        opening, _ = self._levels(getattr(self, _CROSS_GATE[modality]), gate, modality, self.gate_scale)
        return values, opening

    def _leave(self, hidden: Tensor, embedded: Tensor, row_of: Tensor | None, modality: str) -> Tensor:
        table: Tensor = self._part(modality, "scale_shift_table")
        shift, scale = map(Rows, (table[None, None] + embedded[:, :, None]).unbind(dim=2))
        normed = scaled(self._part(modality, "norm_out")(hidden), scale, shift, row_of)
        velocity: Tensor = self._part(modality, "proj_out")(normed)
        return velocity


_THREAD = threading.local()
"""The state of each thread. On a GPU the backward pass runs in a separate thread."""


def computed_again(block: nn.Module, *inputs: Any, kept: KeptOutputs | None = None) -> Any:
    """Run `block` with gradient checkpointing: activations inside it are not kept, except for what `kept` keeps, and the backward pass
    recomputes them.
    """

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        first, again = (nullcontext(), nullcontext()) if kept is None else kept.of_block()
        return first, _again(again)

    return checkpoint(block, *inputs, use_reentrant=False, context_fn=contexts)


def is_again() -> bool:
    """Return whether a block is being recomputed for the backward pass, which goes from the last block to the first."""
    return bool(getattr(_THREAD, "again", False))


@contextmanager
def _again(context: AbstractContextManager[Any]) -> Iterator[None]:
    _THREAD.again = True
    try:
        with context:
            yield
    finally:
        _THREAD.again = False
