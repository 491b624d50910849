"""Configurations of other trainers, recognized by their keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENDINGS = frozenset({".yaml", ".yml", ".json", ".sh", ".bat", ".ps1"})
"""The endings of the names of other trainers' configurations, unless these are TOML files."""

OF_RUN_FILES = frozenset(
    {"acceleration", "checkpoints", "data", "flow_matching", "lora", "optimization", "training_strategy", "validation"}
)
"""Tables of run files; configurations of ltx-trainer have the same tables."""

OF_DIFFUSION_PIPE = frozenset({"adapter", "dataset", "epochs", "micro_batch_size_per_gpu", "optimizer"})

OF_MUSUBI = frozenset({"dataset_config", "ltx2_checkpoint", "network_module"})
"""Keys that identify a configuration of musubi-tuner, which has at least one of them."""

ALSO_OF_MUSUBI = OF_MUSUBI | {"dit", "learning_rate", "ltx2_mode", "ltx_version", "max_train_epochs", "max_train_steps", "network_dim"}


def trainer_of(document: Mapping[str, Any]) -> str:
    """Return the trainer whose configuration a document is: "ai-toolkit", "musubi-tuner" or "diffusion-pipe"; "" for all others."""
    config, model = document.get("config"), document.get("model")
    if "job" in document and isinstance(config, Mapping) and "process" in config:
        return "ai-toolkit"
    if not OF_RUN_FILES.isdisjoint(document):
        return ""
    if isinstance(model, Mapping) and "type" in model and not OF_DIFFUSION_PIPE.isdisjoint(document):
        return "diffusion-pipe"
    inner = {key for value in document.values() if isinstance(value, Mapping) for key in value}  # musubi-tuner ignores the names of tables
    keys = inner | set(document)
    return "musubi-tuner" if keys & OF_MUSUBI and len(keys & ALSO_OF_MUSUBI) > 1 else ""
