"""Draws that were recorded, and the batches they were recorded with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import torch
from torch import Tensor

from helpers.golden_io import Case, nest
from ltxcore.conditions import ConditionUse
from ltxcore.flow.sigmas import ShiftedLogitNormal
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.modality_tables import ModalityTable
from ltxcore.protocols import Batch, ModelInput, Setting, StoredLatents, Strategy, Text
from ltxcore.registry import load
from ltxcore.strategy import Flexible, FlexibleStrategy


@attrs.frozen
class Recorded:
    """Hands out recorded numbers by name; asking for one that was not recorded is a KeyError."""

    draws: Mapping[str, Tensor]
    size: int

    def normal(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        return self._get(key, shape)

    def uniform(self, key: str, shape: Sequence[int] = ()) -> Tensor:
        return self._get(key, shape)

    def shared_uniform(self, key: str) -> float:
        return float(self.draws[key])

    def _get(self, key: str, shape: Sequence[int]) -> Tensor:
        found = self.draws[key]
        assert tuple(found.shape) == (self.size, *shape)
        return found


def strategy_of(config: dict) -> FlexibleStrategy:
    registry = load()

    def use(table: dict) -> ConditionUse:
        cls = registry.get("condition", table["type"]).value
        keys = {role.source_key: role.name for role in getattr(cls, "roles", ())}
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items() if k not in {"type", "probability", *keys}}
        return ConditionUse(table["type"], cls(**fields), table.get("probability", 1.0), {keys[k]: table[k] for k in keys})

    def modality(table: dict | None) -> ModalityTable | None:
        return table and ModalityTable(table["is_generated"], table["latents_dir"], [use(c) for c in table.get("conditions", [])])

    tables = Flexible(video=modality(config["strategy"].get("video")), audio=modality(config["strategy"].get("audio")))
    return tables.build(setting_of(config))


def setting_of(config: dict) -> Setting:
    """What a recorded strategy is built with."""
    scale = tuple(config.get("video_scale_factors", (8, 32, 32)))
    sampler = ShiftedLogitNormal(**config.get("timestep_sampler_params", {}))
    return Setting({"video": VideoModality(scale), "audio": AudioModality()}, sampler)


FOLDERS = {"latents": "video_latents"}
"""Where a recording calls a folder by another name."""


def batch_of(case: Case, strategy: Strategy, folder: Mapping[str, str] = FOLDERS) -> Batch:
    stored = nest(case.inputs)
    latents, masks = {}, {}
    for role, source in strategy.sources().items():
        entry = stored[folder.get(source.folder, source.folder)] if role != "text" else {}
        if source.kind == "latents":
            size = entry["latents"].shape[0]
            latents[role] = StoredLatents(entry["latents"], entry.get("fps", torch.full((size,), 25.0)))
        elif source.kind == "mask":
            masks[role] = entry["mask"]
    text = stored["conditions"]
    features = {"video": text["video_prompt_embeds"], "audio": text["audio_prompt_embeds"]}
    names = tuple(f"sample{i}" for i in range(features["video"].shape[0]))
    return Batch(names, latents, masks, Text(features, text["prompt_attention_mask"]))


def assert_as_recorded(case: Case, prepared: Mapping[str, ModelInput]) -> None:
    """Everything that the model sees of each modality, its targets, and which of them count."""
    close = lambda found, wanted: torch.testing.assert_close(found, wanted, check_dtype=False, **case.tolerance)  # noqa: E731
    for modality, found in prepared.items():
        target = found.clean.shape[1]
        close(found.tokens, target_last(case.outputs[f"{modality}.latent"], target, 1))
        close(found.timesteps, target_last(case.outputs[f"{modality}.timesteps"], target, 1))
        close(found.sigma, case.outputs[f"{modality}.sigma"])
        if f"{modality}.positions" in case.outputs:
            close(found.positions, target_last(case.outputs[f"{modality}.positions"], target, 2))
            close(found.context, case.outputs[f"{modality}.context"])
        if found.is_generated:
            close(found.velocity, case.outputs[f"{modality}.targets"])
            assert torch.equal(found.loss_mask, target_last(case.outputs[f"{modality}.loss_mask"], target, 1)[:, :target])


def target_last(recorded: Tensor, target: int, dim: int) -> Tensor:
    """The recordings have references before the target; we have them after it. (Deliberate difference: reference tokens.)"""
    return recorded.roll(target, dims=dim) if recorded.shape[dim] > target else recorded
