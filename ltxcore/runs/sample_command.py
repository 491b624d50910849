"""The command that draws with what a run made, under the conditions that it was trained with."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ltxcore.conditions import length_field
from ltxcore.config.sample_tables import sample_keys
from ltxcore.config.validation_samples import FREEZING
from ltxcore.protocols import MODALITIES
from ltxcore.registry import Registry, content_of, load, roles_of
from ltxcore.runs.read_run import Record, Weights

PROMPT = "what you want to see and hear"
MEDIA = {"video": "CLIP.mp4", "audio": "SOUND.wav"}
"""What stands for a file of the user's."""

FACTORS = ("downscale_factor", "temporal_scale_factor")
"""Of a reference: keys of its table, and with "reference_" before them of the LoRA's metadata."""


def sample_command(record: Record, weights: Weights) -> str:
    """The command line of `ltx sample` with the LoRA or the whole model of a run; words in capitals stand for files of the user's."""
    whole = weights.path.name.startswith("model")
    trigger = str(record.get("preprocessing.lora_trigger", ""))
    words = ["ltx", "sample", f"{trigger} {PROMPT}".strip()]
    words += ["--model", str(weights.path if whole else record.get("model.model_path"))]
    words += [] if whole else ["--lora", str(weights.path)]
    for condition in _conditions(record, weights, load()):
        words += ["--condition", condition]
    words += [f"--no-generate-{modality}" for modality in MODALITIES if modality not in record.modalities and record.modalities]
    return shlex.join([*words, "-o", "sample.wav" if set(record.modalities) == {"audio"} else "sample.mp4"])


def _conditions(record: Record, weights: Weights, registry: Registry) -> Iterator[str]:
    """Frozen modalities and the conditions of the others, as `--condition` takes them. Of types that are not installed only the name is known."""
    freezing = {modality: kind for kind, modality in FREEZING.items()}
    known = registry.of_kind("condition")
    for modality, table in record.modalities.items():
        if not table["is_generated"]:
            yield _written({"type": freezing[modality], modality: MEDIA[modality]})
        for condition in table.get("conditions", []):
            named = known.get(str(condition.get("type")))
            if named is None:
                yield _written({"type": condition.get("type")})
            elif table["is_generated"] or content_of(named.value) is None:
                yield _written(_condition(condition, named.value, modality, weights.metadata))


def _condition(table: Mapping[str, Any], cls: Any, modality: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    keys = {key.name for key in sample_keys(cls, modality)}
    found: dict[str, Any] = {"type": table["type"]}
    length = length_field(cls)
    found |= {key: value for key, value in table.items() if key in keys and key not in ("type", *MEDIA)}
    if content_of(cls) is not None:
        still = "image_or_video" in keys and content_of(cls) == "start" and length is None
        found |= {"image_or_video": "FRAME.png"} if still else {modality: MEDIA[modality]}
    for role in roles_of(cls):
        key = role.media_key or (modality if role.kind == "latents" else role.name)
        found[key] = f"REFERENCE{Path(MEDIA[modality]).suffix}" if role.kind == "latents" else f"MASK{Path(MEDIA[modality]).suffix}"
        said = {factor: metadata[f"reference_{factor}"] for factor in FACTORS if f"reference_{factor}" in metadata}
        found |= said if role.kind == "latents" and modality == "video" else {}
    return found


def _written(table: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in table.items())
