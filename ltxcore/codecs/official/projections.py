"""The projections from the hidden states of all the text encoder's layers to the stored text features.

Projections are in the model's file, in the packed text encoder, or in the folder of connectors.

There are L positions, n layers (the first is the embedding), D numbers for each position and layer, and E numbers in a feature.
Source: docs/explanation/model-files.md#parts
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from ltxcore.codecs.official.gemma import Gemma
from ltxcore.codecs.official.metadata import section
from ltxcore.codecs.official.modules import Part, empty
from ltxcore.codecs.official.part_files import part_folder
from ltxcore.errors import CheckpointError, Problem
from ltxcore.headers import Slots, read_file, read_folder

_EPSILON = 1e-6
_RANGE = 8.0
"""The range that the first version scales a layer's values to."""

_PREFIX = "text_embedding_projection."
_OFFICIAL = {"both": f"{_PREFIX}aggregate_embed", "video": f"{_PREFIX}video_aggregate_embed", "audio": f"{_PREFIX}audio_aggregate_embed"}
_DIFFUSERS = {"both": "text_proj_in", "video": "video_text_proj_in", "audio": "audio_text_proj_in"}
_SECOND_VERSION: Mapping[str, bool] = {
    "caption_proj_before_connector": True,
    "caption_projection_first_linear": False,
    "caption_projection_second_linear": False,
    "caption_proj_input_norm": False,
}
"""The settings in a transformer's configuration that mean that text features have one projection for each modality."""


def by_layer(hidden: Tensor, mask: Tensor) -> Tensor:
    """Normalize hidden states as the first version does: over a sample's words, every layer is centered and scaled to a range of 8.

    Args:
        hidden: `[B, L, D, n]`.
        mask: 1 for words, 0 for padding, `[B, L]`.

    Returns:
        `[B, L, D * n]` float32, n fastest; 0 where there is padding.

    Source: docs/explanation/arithmetic.md#text-features-of-ltx-2
    """
    words = mask.bool()[:, :, None, None]
    values = hidden.to(torch.float32)
    count = mask.sum(dim=1).to(torch.float32)[:, None, None, None] * hidden.shape[2]
    mean = values.masked_fill(~words, 0.0).sum(dim=(1, 2), keepdim=True) / (count + _EPSILON)
    low = values.masked_fill(~words, math.inf).amin(dim=(1, 2), keepdim=True)
    high = values.masked_fill(~words, -math.inf).amax(dim=(1, 2), keepdim=True)
    scaled = (values - mean) / (high - low + _EPSILON) * _RANGE
    return scaled.masked_fill(~words, 0.0).flatten(2)


def by_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """Normalize hidden states as the second version does: every token of every layer is scaled to a root mean square of
    1.

    Args:
        hidden: `[B, L, D, n]`.
        mask: 1 for words, 0 for padding, `[B, L]`.

    Returns:
        `[B, L, D * n]` float32, n fastest; 0 where there is padding.

    Source: docs/explanation/arithmetic.md#text-features-since-ltx-23
    """
    values = hidden.to(torch.float32)
    scaled = values * torch.rsqrt(values.square().mean(dim=2, keepdim=True) + _EPSILON)
    return scaled.masked_fill(~mask.bool()[:, :, None, None], 0.0).flatten(2)


@attrs.frozen(eq=False)
class Projection:
    """A linear map with the weight `[E, D * n]`, and with the bias `[E]` or None."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        return torch.nn.functional.linear(values.to(self.weight.dtype), self.weight, self.bias)


@attrs.frozen(eq=False)
class FeatureExtractor:
    """Computes the text features of each modality from hidden states.

    Attributes:
        projections: one projection for each modality (second version), or one for both under the name "" (first version).
    """

    projections: Mapping[str, Projection]

    def __call__(self, hidden: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Compute the text features of each modality, `[B, L, E]`, in the projections' dtype.

        Args:
            hidden: `[B, L, D, n]`.
            mask: 1 for words, 0 for padding, `[B, L]`.

        Source: docs/explanation/arithmetic.md#text-features-of-ltx-2, #text-features-since-ltx-23
        """
        if "" in self.projections:
            both = self.projections[""](by_layer(hidden, mask))
            return {"video": both, "audio": both}
        scaled = by_token(hidden, mask)
        return {
            name: projection(scaled * math.sqrt(projection.weight.shape[0] / hidden.shape[2]))
            for name, projection in self.projections.items()
        }


def open_projections(model_path: Path, gemma: Gemma, config: Any, connectors_path: Path | None = None) -> Part:
    """Build the projections that belong to a model and its text encoder without reading their weights yet.

    Args:
        model_path: the model's file or folder.
        gemma: the model's text encoder.
        config: the language model's configuration.
        connectors_path: the separate file of the connectors and projections, if there is one.

    Raises:
        CheckpointError: the projections are missing or incomplete, or were made for a different text encoder or model.
    """
    states = int(config.num_hidden_layers) + 1
    if model_path.is_dir():
        return _part(read_folder(part_folder(model_path, "connectors")), _DIFFUSERS, int(config.hidden_size), states)
    model = read_file(model_path)
    candidates = [*([] if connectors_path is None else [read_file(connectors_path)]), model]
    source = next((each for each in candidates if any(name.startswith(_PREFIX) for name in each.slots)), gemma.weights)
    part = _part(source, _OFFICIAL, int(config.hidden_size), states)
    _check_version(model, part)
    return part


def _part(weights: Slots, names: Mapping[str, str], hidden: int, states: int) -> Part:
    """Build the projections found in `weights`: one for both modalities, or one for each."""
    split = names["both"] + ".weight" not in weights.slots
    wanted = ("video", "audio") if split else ("both",)
    widths = {}
    for name in wanted:
        slot = weights.slots.get(f"{names[name]}.weight")
        if slot is None or len(slot.shape) != 2:
            raise CheckpointError(
                f"the projection of text to features is missing: there is no tensor {names[name]}.weight",
                where=str(weights.where),
                remedy="Under [model], set model_path to the checkpoint and text_encoder_path to its own text encoder, or connectors_path to the "
                "file of the connectors and projections.",
            )
        if slot.shape[1] != hidden * states:
            raise CheckpointError(
                f"the projection {names[name]} takes {slot.shape[1]} values per token, but the text encoder makes {states} x {hidden}",
                where=str(weights.where),
                remedy="Set text_encoder_path under [model] to the text encoder that belongs to the checkpoint.",
            )
        widths[name] = slot.shape[0]
    module = empty(lambda: nn.ModuleDict({name: nn.Linear(hidden * states, width, bias=split) for name, width in widths.items()}))

    def stored(own: str) -> str:
        name, kind = own.split(".")
        return f"{names[name]}.{kind}"

    prefixes = tuple(f"{name}." for name in names.values())
    return Part.of("text projection", module, weights, stored, lambda name: name.startswith(prefixes))


def _check_version(model: Slots, part: Part) -> None:
    """Refuse projections that the configuration of the model's transformer contradicts."""
    told = (section(model, "transformer") or {}) if "config" in model.metadata else {}
    split = "both.weight" not in part.stored
    contrary = [key for key, value in _SECOND_VERSION.items() if key in told and (told[key] is value) != split]
    # A configuration of the first version may state default values of these settings, which mean something else there.
    contrary = contrary if split else [key for key in contrary if key == "caption_proj_before_connector"]
    if contrary:
        raise CheckpointError.of(
            Problem(
                f"the configuration says {key} = {str(told[key]).lower()}, which does not match a projection {'for each modality' if split else 'for both modalities'}",
                str(model.where),
                "Use a checkpoint and a text encoder of the same release.",
            )
            for key in contrary
        )
    for name in ("video", "audio") if split else ():
        _check_width(told, name, int(part.module[name].out_features), str(part.weights.where))


def _check_width(told: Mapping[str, Any], name: str, width: int, where: str) -> None:
    stem = "connector" if name == "video" else "audio_connector"
    heads = told.get(f"{stem}_num_attention_heads", told.get("connector_num_attention_heads"))
    size = told.get(f"{stem}_attention_head_dim", told.get("connector_attention_head_dim"))
    if heads is not None and size is not None and heads * size != width:
        raise CheckpointError(
            f"the projection for {name} makes {width} values per token, but the checkpoint's connectors take {heads * size}",
            where=where,
            remedy="Use a checkpoint and a text encoder of the same release.",
        )


def extractor(part: Part) -> FeatureExtractor:
    """Make a feature extractor from projections that have been filled."""
    return FeatureExtractor(
        {"" if name == "both" else name: Projection(linear.weight, linear.bias) for name, linear in part.module.items()}
    )
