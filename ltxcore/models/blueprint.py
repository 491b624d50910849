"""Functions that compute the names and shapes of a transformer's parameters from its configuration. The model is not built, since importing
its classes takes seconds.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from ltxcore.models.transformer_settings import Config, diffusers_arguments

if TYPE_CHECKING:
    from ltxcore.models.backbone import ModelInfo

Shape = tuple[int, ...]

_SIZES = (
    *("num_layers", "in_channels", "out_channels", "num_attention_heads", "attention_head_dim", "cross_attention_dim", "caption_channels"),
    *("audio_in_channels", "audio_out_channels", "audio_num_attention_heads", "audio_attention_head_dim", "audio_cross_attention_dim"),
)
_FLAGS = (
    *("attention_bias", "gated_attn", "cross_attn_mod", "use_prompt_embeddings", "ff_bias", "audio_ff_bias"),
    *("use_prompt_adaln_single", "use_keyframes_abs_pos_embedding"),
)
_ONLY = {"activation_fn": "gelu-approximate", "norm_elementwise_affine": False}
_SINUSOIDS = 256
"""The number of sinusoids that represent a noise level."""


@attrs.frozen
class Blueprint:
    """The names and shapes of a whole model, in diffusers' names; a backbone may hold only a part of it.

    Attributes:
        shapes: the shape of every parameter.
        linears: the modules that can carry an adapter.
    """

    shapes: Mapping[str, Shape]
    linears: frozenset[str]


class Described(Protocol):
    """A backbone, or the description of one that has not been built."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def modalities(self) -> frozenset[str]: ...

    @property
    def blueprint(self) -> Blueprint: ...


@attrs.frozen
class Description:
    """The description of a backbone that has not been built.

    Attributes:
        info: the facts about the base model.
        modalities: the modalities whose streams the backbone would hold.
        blueprint: the names and shapes of the whole model.
    """

    info: ModelInfo
    modalities: frozenset[str]
    blueprint: Blueprint


def blueprint_of_config(official: Config, where: str) -> Blueprint:
    """Return the names and shapes of the model that a configuration in official names describes.

    Args:
        official: the configuration.
        where: the place of the configuration, for messages.

    Raises:
        CheckpointError: the configuration has settings that are not supported.
    """
    return _blueprint(json.dumps(official, sort_keys=True), where)


@functools.lru_cache(maxsize=4)
def _blueprint(official: str, where: str) -> Blueprint:
    config = json.loads(official)
    given = diffusers_arguments(config, where)
    if not _is_usual(given):
        from ltxcore.models.build import blueprint_of, meta_model

        return blueprint_of(meta_model(config, where))
    layers = [*_layers(given)]
    own = dict(_tables(given))
    shapes = {**own, **{name: shape for layer in layers for name, shape in layer.parameters()}}
    return Blueprint(shapes, frozenset(layer.name for layer in layers if layer.is_linear))


def _is_usual(given: Mapping[str, Any]) -> bool:
    """Return whether this module supports all these settings. For other settings, the model itself is built, which refuses invalid ones."""
    return (
        all(type(given[key]) is int and given[key] > 0 for key in _SIZES)
        and all(type(given[key]) is bool for key in _FLAGS)
        and all(given[key] == value for key, value in _ONLY.items())
    )


@attrs.frozen
class _Layer:
    """A module that has parameters: a linear layer, a normalization, or a modulation table."""

    name: str
    shape: Shape
    bias: bool = True

    @property
    def is_linear(self) -> bool:
        return len(self.shape) == 2 and not self.name.endswith("_table")

    def parameters(self) -> Iterator[tuple[str, Shape]]:
        if self.name.endswith("_table"):
            yield self.name, self.shape
            return
        yield f"{self.name}.weight", self.shape
        if self.is_linear and self.bias:
            yield f"{self.name}.bias", self.shape[:1]


def _widths(given: Mapping[str, Any]) -> dict[str, int]:
    return {prefix: given[f"{prefix}num_attention_heads"] * given[f"{prefix}attention_head_dim"] for prefix in ("", "audio_")}


def _tables(given: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    """Yield the parameters that belong to the model itself, not to a layer."""
    widths = _widths(given)
    if given["use_keyframes_abs_pos_embedding"]:
        yield "keyframes_abs_pos_embedding", (1, widths[""])
    for prefix, width in widths.items():
        yield f"{prefix}scale_shift_table", (2, width)


def _layers(given: Mapping[str, Any]) -> Iterator[_Layer]:
    """Yield every layer below the model, in the order of its modules."""
    widths = _widths(given)
    for prefix, width in widths.items():
        yield _Layer(f"{prefix}proj_in", (width, given[f"{prefix}in_channels"]))
    if given["use_prompt_embeddings"]:
        for prefix, width in widths.items():
            yield _Layer(f"{prefix}caption_projection.linear_1", (width, given["caption_channels"]))
            yield _Layer(f"{prefix}caption_projection.linear_2", (width, width))
    video, audio = widths.values()
    numbers = 9 if given["cross_attn_mod"] else 6
    yield from _modulation("time_embed", video, numbers)
    yield from _modulation("audio_time_embed", audio, numbers)
    yield from _modulation("av_cross_attn_video_scale_shift", video, 4)
    yield from _modulation("av_cross_attn_audio_scale_shift", audio, 4)
    yield from _modulation("av_cross_attn_video_a2v_gate", video, 1)
    yield from _modulation("av_cross_attn_audio_v2a_gate", audio, 1)
    if given["cross_attn_mod"] and given["use_prompt_adaln_single"]:
        yield from _modulation("prompt_adaln", video, 2)
        yield from _modulation("audio_prompt_adaln", audio, 2)
    for number in range(given["num_layers"]):
        yield from _block(f"transformer_blocks.{number}", given, video, audio)
    for prefix, width in widths.items():
        yield _Layer(f"{prefix}proj_out", (given[f"{prefix}out_channels"], width))


def _modulation(name: str, width: int, numbers: int) -> Iterator[_Layer]:
    """Yield the layers of an AdaLN module, which turns a noise level into `numbers` vectors that scale, shift and gate."""
    yield _Layer(f"{name}.emb.timestep_embedder.linear_1", (width, _SINUSOIDS))
    yield _Layer(f"{name}.emb.timestep_embedder.linear_2", (width, width))
    yield _Layer(f"{name}.linear", (numbers * width, width))


def _block(name: str, given: Mapping[str, Any], video: int, audio: int) -> Iterator[_Layer]:
    numbers = 9 if given["cross_attn_mod"] else 6
    yield _Layer(f"{name}.scale_shift_table", (numbers, video))
    yield _Layer(f"{name}.audio_scale_shift_table", (numbers, audio))
    if given["cross_attn_mod"]:
        yield _Layer(f"{name}.prompt_scale_shift_table", (2, video))
        yield _Layer(f"{name}.audio_prompt_scale_shift_table", (2, audio))
    yield _Layer(f"{name}.video_a2v_cross_attn_scale_shift_table", (5, video))
    yield _Layer(f"{name}.audio_a2v_cross_attn_scale_shift_table", (5, audio))
    heads, audio_heads = given["num_attention_heads"], given["audio_num_attention_heads"]
    yield from _attention(f"{name}.attn1", given, video, video, video, heads)
    yield from _attention(f"{name}.audio_attn1", given, audio, audio, audio, audio_heads)
    yield from _attention(f"{name}.attn2", given, video, given["cross_attention_dim"], video, heads)
    yield from _attention(f"{name}.audio_attn2", given, audio, given["audio_cross_attention_dim"], audio, audio_heads)
    yield from _attention(f"{name}.audio_to_video_attn", given, video, audio, audio, audio_heads)
    yield from _attention(f"{name}.video_to_audio_attn", given, audio, video, audio, audio_heads)
    for prefix, width in (("", video), ("audio_", audio)):
        yield _Layer(f"{name}.{prefix}ff.net.0.proj", (4 * width, width), given[f"{prefix}ff_bias"])
        yield _Layer(f"{name}.{prefix}ff.net.2", (width, 4 * width), given[f"{prefix}ff_bias"])


def _attention(name: str, given: Mapping[str, Any], queries: int, keys: int, inner: int, heads: int) -> Iterator[_Layer]:
    """Yield the layers of an attention module of width `inner`, from tokens of width `queries` to tokens of width `keys`."""
    yield _Layer(f"{name}.norm_q", (inner,))
    yield _Layer(f"{name}.norm_k", (inner,))
    yield _Layer(f"{name}.to_q", (inner, queries), given["attention_bias"])
    yield _Layer(f"{name}.to_k", (inner, keys), given["attention_bias"])
    yield _Layer(f"{name}.to_v", (inner, keys), given["attention_bias"])
    yield _Layer(f"{name}.to_out.0", (queries, inner))
    if given["gated_attn"]:
        yield _Layer(f"{name}.to_gate_logits", (heads, queries))
