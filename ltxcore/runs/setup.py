"""The setting that a strategy is built with, made from the run file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ltxcore.conditions import ConditionUse
from ltxcore.config.load import LoadedRun
from ltxcore.config.parts import made_of
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.models.backbone import ModelInfo
from ltxcore.protocols import MODALITIES, Modality, Setting, Strategy
from ltxcore.registry import Registry


def setting_of(loaded: LoadedRun, info: ModelInfo) -> Setting:
    """Return the setting of a run on a model: the modalities with the factors of this checkpoint, and how sigmas are drawn."""
    modalities: dict[str, Modality] = {
        "video": VideoModality(scale=info.video_scale),
        "audio": AudioModality(mel_frames=info.audio_scale[0]),
    }
    return made_of(
        Setting,
        loaded.config.flow_matching,
        {"sigma_sampler": "sampler", "shared_sigma": "shared_sigma"},
        modalities=modalities,
        condition=condition_maker(loaded.registry),
        takes_marker=info.takes_marker,
        trains_without=loaded.config.data.missing == "train_without",
    )


def condition_maker(registry: Registry) -> Callable[..., ConditionUse]:
    """Return a function that makes a condition from its registered name, for strategies that are built from conditions."""

    def condition(type: str, *, probability: float = 1.0, sources: Mapping[str, str] | None = None, **fields: Any) -> ConditionUse:
        cls = registry.get("condition", type).value
        return ConditionUse(type, cls(**fields), probability, sources or {})

    return condition


def generated_of(strategy: Strategy) -> frozenset[str]:
    """Return the modalities that a run trains: the modalities that its strategy generates or, if the strategy does not name them,
    all modalities of the run.
    """
    found: frozenset[str] = getattr(strategy, "generated", modalities_of(strategy))
    return found


def has_references(strategy: Strategy) -> bool:
    """Return whether a run reads latents besides those of its modalities."""
    return any(source.kind == "latents" and role not in MODALITIES for role, source in strategy.sources().items())


def modalities_of(strategy: Strategy) -> frozenset[str]:
    """Return the modalities of a run, both generated and frozen."""
    return frozenset(name for name in MODALITIES if name in strategy.sources())
