"""Connectors: small transformers between stored text features and the blocks, in checkpoints that have them.

They are frozen and no part of the backbone's parameters. Learnable registers take the place of padding, so that what comes out has no padding.
Sources: reference-behaviour F.5, "connector"; model-facts section 5, "Connectors".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.errors import CheckpointError, DataError, Problem, listed
from ltxcore.models.files import Header, open_tensors
from ltxcore.models.settings import Config
from ltxcore.protocols import Text

PREFIXES = {"video": "video_embeddings_connector.", "audio": "audio_embeddings_connector."}
"""What a connector's names begin with in a checkpoint, after the transformer's prefix."""

_PADDING = -10_000.0
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "connector_ff_bias": (True,),
    "connector_norm_output": (True,),
    "connector_positional_embedding_type": ("rope",),
    "rope_type": ("interleaved", "split"),
}
_BLOCKS = ("transformer_blocks", "transformer_1d_blocks")
_NORMS = {"norm_q": "q_norm", "norm_k": "k_norm"}


@attrs.frozen(eq=False)
class Connectors:
    """Text features to the context of each modality; computes where the features are, in the connectors' dtype, without gradients.

    Attributes:
        modules: by modality, of diffusers.
    """

    modules: Mapping[str, Any]

    def __call__(self, text: Text) -> Text:
        """Features left-padded to a multiple of the registers' number, `[B, L, E]`, to context `[B, L, E]` and a mask of ones.

        Raises:
            DataError: features of the wrong width or length, or none for a modality: they were made for another model.
        """
        context = {name: self._one(name, text) for name in self.modules}
        return Text(context, torch.ones_like(text.mask))

    @torch.no_grad()
    def _one(self, name: str, text: Text) -> Tensor:
        module = self.modules[name]
        features = text.features.get(name)
        count, width = module.learnable_registers.shape
        if features is None or features.shape[-1] != width:
            found = "there are none" if features is None else f"these have {features.shape[-1]}"
            raise DataError(
                f"the text features of this model have {width} numbers a token for {name}, and {found}",
                remedy="They were made for another model: run `ltx preprocess` again with this one.",
            )
        if features.shape[1] % count:
            raise DataError(
                f"text features are padded to {features.shape[1]} positions, which is no multiple of the {count} registers of this model",
                remedy="They were made for another model: run `ltx preprocess` again with this one.",
            )
        weight = next(module.parameters())
        if weight.device != features.device:
            module.to(features.device)
        padding = ((1.0 - text.mask.to(features.device, torch.float32)) * _PADDING).to(weight.dtype)[:, None, None, :]
        context: Tensor = module(features.to(weight.dtype), padding)[0]
        return context


def connector_arguments(official: Config, modality: str, where: str) -> dict[str, Any]:
    """Arguments of diffusers' connector for a transformer's configuration in official names. None is left to a default of diffusers.

    Raises:
        CheckpointError: for all settings that it cannot do.
    """
    problems = [
        Problem(f"the connectors' setting {key} = {official[key]} is not known", where)
        for key, can in _ONLY.items()
        if key in official and official[key] not in can
    ]
    if problems:
        raise CheckpointError.of(problems)

    def told(key: str, default: Any) -> Any:
        common = official.get(f"connector_{key}", default)
        return official.get(f"audio_connector_{key}", common) if modality == "audio" else common

    return {
        "num_attention_heads": told("num_attention_heads", 30),
        "attention_head_dim": told("attention_head_dim", 128),
        "num_layers": told("num_layers", 2),
        "num_learnable_registers": told("num_learnable_registers", 128),
        "rope_base_seq_len": told("positional_embedding_max_pos", [4096])[0],
        "rope_theta": official.get("positional_embedding_theta", 10000.0),
        "rope_double_precision": official.get("frequencies_precision", "float32") == "float64",
        "eps": official.get("norm_eps", 1e-6),
        "causal_temporal_positioning": False,
        "rope_type": official.get("rope_type", "interleaved"),
        "gated_attention": told("apply_gated_attention", False),
    }


def build_connector(arguments: Mapping[str, Any]) -> Any:
    """A connector on the meta device, frozen."""
    from diffusers.pipelines.ltx2.connectors import LTX2ConnectorTransformer1d

    with torch.device("meta"):
        return LTX2ConnectorTransformer1d(**arguments).eval().requires_grad_(False)


def to_original(name: str) -> str:
    """The name in a checkpoint of a connector's parameter, without prefix."""
    segments = [_NORMS.get(segment, segment) for segment in name.split(".")]
    if segments[0] == _BLOCKS[0]:
        segments[0] = _BLOCKS[1]
    return ".".join(segments)


def load_connectors(header: Header, prefix: str, official: Config, modalities: Collection[str], dtype: torch.dtype) -> Connectors:
    """The connectors of a checkpoint, for the modalities that a run has.

    Args:
        header: of the checkpoint, or of the file of its transformer.
        prefix: what the transformer's names begin with in it.
        official: the transformer's configuration.
        modalities: "video", "audio" or both.
        dtype: of all weights.

    Raises:
        CheckpointError: settings that are not known, or tensors that are missing, unexpected, of another shape, or not finite.
    """
    where = str(header.path)
    modules, stored, problems = {}, {}, []
    for name in sorted(modalities, reverse=True):
        modules[name] = build_connector(connector_arguments(official, name, where))
        start = prefix + PREFIXES[name]
        stored[name] = {own: start + to_original(own) for own in modules[name].state_dict()}
        expected = {stored[name][own]: tuple(tensor.shape) for own, tensor in modules[name].state_dict().items()}
        found = {key: shape for key, shape in header.shapes.items() if key.startswith(start)}
        problems += _differences(f"{name} connector", expected, found, where)
    if problems:
        raise CheckpointError.of(problems)
    with open_tensors(header.path) as file:
        for name, module in modules.items():
            _fill(module, {own: file.get_tensor(key).to(dtype) for own, key in stored[name].items()}, name, header.path)
    return Connectors(modules)


def _differences(part: str, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], where: str) -> list[Problem]:
    missing, foreign = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    wrong = [
        f"{name} is {list(found[name])} and should be {list(expected[name])}"
        for name in sorted(expected.keys() & found.keys())
        if expected[name] != found[name]
    ]
    problems = []
    if missing:
        problems.append(Problem(f"{len(missing)} tensors of the {part} are missing: {listed(missing)}", where))
    if foreign:
        problems.append(Problem(f"{len(foreign)} tensors are not part of the {part}: {listed(foreign)}", where))
    if wrong:
        problems.append(Problem(f"{len(wrong)} tensors of the {part} have the wrong shape: {listed(wrong)}", where))
    return problems


def _fill(module: Any, state: Mapping[str, Tensor], name: str, path: Path) -> None:
    broken = sorted(own for own, tensor in state.items() if not bool(torch.isfinite(tensor).all()))
    if broken:
        raise CheckpointError(
            f"the {name} connector has NaN or infinite values in {listed(to_original(own) for own in broken)}",
            where=str(path),
            remedy="Download or copy it again.",
        )
    module.load_state_dict(state, strict=True, assign=True)
