"""Small sets and run files of every kind of mode, for engines to agree on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli
import torch

from helpers.training_runs import put, put_sound, write_run
from helpers.untrained import write_untrained
from ltxcore.models.tiny_model import TINY

STEPS = 12
SAMPLES = 14
PLUGIN = Path(__file__).parents[1] / "distributed" / "stranger.py"

EXAMPLES = Path(__file__).parents[2] / "examples"

FLEXIBLE = {"name": "flexible"}
AUDIO = {"is_generated": True, "latents_dir": "audio_latents"}
VIDEO = {"is_generated": True, "latents_dir": "latents"}
REFERENCE = {"type": "reference", "latents_dir": "reference_latents", "probability": 0.5}
FIRST_FRAME = {"type": "first_frame", "probability": 0.5}

LORA = {"model": {"training_mode": "lora"}, "lora": {"rank": 4, "target_modules": ["to_k", "to_q", "to_v", "to_out.0"], "dropout": 0.1}}
FULL = {"model": {"training_mode": "full"}}

OWN: Mapping[str, Mapping[str, Any]] = {
    "sound, prefix, full": {
        **FULL,
        "training_strategy": {
            **FLEXIBLE,
            "audio": {**AUDIO, "conditions": [{"type": "prefix", "temporal_boundary": 2, "probability": 0.5}]},
        },
    },
    "both, reference and suffix, LoRA": {
        "model": LORA["model"],
        "lora": {**LORA["lora"], "groups": [{"modules": ["to_v"], "rank": 2, "dropout": 0.0, "learning_rate": 5e-4}]},
        "optimization": {"lora_plus_ratio": 2},
        "training_strategy": {
            **FLEXIBLE,
            "video": {**VIDEO, "conditions": [REFERENCE, FIRST_FRAME]},
            "audio": {**AUDIO, "conditions": [{"type": "suffix", "temporal_boundary": 3, "probability": 0.5}]},
        },
    },
    "both, full, accumulation": {
        **FULL,
        "training_strategy": {**FLEXIBLE, "video": VIDEO, "audio": AUDIO},
        "optimization": {
            "gradient_accumulation_steps": 2,
            "groups": [{"modality": "audio", "learning_rate": 1e-3}, {"modules": ["bias", "*_table"], "weight_decay": 0.0}],
        },
    },
    "a stranger's condition, LoRA": {
        **LORA,
        "training_strategy": {**FLEXIBLE, "audio": {**AUDIO, "conditions": [{"type": "every_other", "probability": 0.5}]}},
    },
}
"""Modes that no run file of `examples/` has: conditions that only some samples meet, dropout, groups,
all weights of one stream, a stranger's condition."""


def of_run_file(name: str) -> dict[str, Any]:
    """What a run file of `examples/` trains, and how: its adapters, its strategy, its checkpointing; not its rates, and not its sizes."""
    tables = tomli.loads((EXAMPLES / f"{name}.toml").read_text())
    kept = {"model": "training_mode", "optimization": "enable_gradient_checkpointing"}
    shared = {table: {key: tables[table][key]} for table, key in kept.items() if key in tables[table]}
    return {**{table: tables[table] for table in ("lora", "training_strategy") if table in tables}, **shared}


RUN_FILES = tuple(sorted(path.stem for path in EXAMPLES.glob("*.toml") if path.stem != "full_finetune_zero3"))
"""All but the one that is `full_finetune` on another engine."""

MODES: Mapping[str, Mapping[str, Any]] = {**{name: of_run_file(name) for name in RUN_FILES if name != "full_finetune"}, **OWN}
"""What each adds to `run_tables`; the accumulation is that of two processes. `full_finetune` is there with accumulation, as one of our own."""


def plugins_of(mode: str) -> set[str]:
    """The strategy and the conditions that a mode, or a run file, is made of."""
    strategy = (MODES.get(mode) or of_run_file(mode))["training_strategy"]
    return {
        strategy["name"],
        *(each["type"] for table in strategy.values() if isinstance(table, dict) for each in table.get("conditions", ())),
    }


SMALL = {**TINY, "num_layers": 1}
"""The tiny model with one of its blocks: on several processes its time is that of its messages, and each block has its own."""

SOUND_STEPS = 16
"""More than the 13 that the run files for sound give."""


def make_set(root: Path) -> Path:
    """Clips with sound, masks over both, and references: pictures half as large, and sounds of half the length. Beside it, an untrained model."""
    for number in range(SAMPLES):
        name = put_sound(root, number, steps=SOUND_STEPS)
        generator = torch.Generator().manual_seed(number)
        latents = torch.randn(128, 3, 2, 2, generator=generator)
        sound = torch.randn(8, SOUND_STEPS // 2, 16, generator=generator)
        mask = (torch.rand(3, 2, 2, generator=generator) < 0.5).float()
        mask[0, 0, 0], mask[2, 1, 1] = 1, 0  # never all of it, nor nothing
        told = {"fingerprint": name, "origin": f"{name}.wav"}
        put(root, "latents", name, {"latents": latents}, rate=16.0, **told)
        put(root, "reference_latents", name, {"latents": latents[:, :, :1, :1].contiguous()}, rate=16.0, **told)
        put(root, "reference_audio_latents", name, {"latents": sound}, **told)
        put(root, "video_masks", name, {"mask": mask}, **told)
    write_untrained(small_model(root), SMALL, torch.float32)
    return root


def small_model(root: Path) -> Path:
    """Where `make_set` writes the model."""
    return root.with_name("small.safetensors")


def run_tables(mode: str, root: Path, output: Path, **changed: Any) -> dict[str, Any]:
    """A run file in float32 for a set of `make_set`; `changed` replaces keys of tables."""
    run: dict[str, Any] = {
        "output_dir": str(output),
        "plugins": [str(PLUGIN)],
        "model": {"model_path": str(small_model(root))},
        "optimization": {"steps": STEPS, "batch_size": 2, "learning_rate": 2e-3, "gradient_accumulation_steps": 1},
        "acceleration": {"mixed_precision_mode": "no"},
        "flow_matching": {"timestep_sampling_mode": "recorded", "timestep_sampling_params": {"to": f"{output}.draws"}},
        "validation": {"inference_steps": 2, "skip_initial_validation": True},
        "checkpoints": {"precision": "float32"},
        "trackers": {"ender": {}},
        "data": {"preprocessed_data_root": str(root), "held_out": 3, "num_dataloader_workers": 0},
    }
    for changes in (MODES[mode], changed):
        for name, keys in changes.items():
            run[name] = {**run[name], **keys} if isinstance(keys, Mapping) and name in run else keys
    return run


WHOLE = 1000
"""Numbers up to which DeepSpeed leaves a weight whole: all vectors. To gather each of them too, as with 0, would take three times as long."""


def zero(folder: Path, stage: int, *, whole: int | None = WHOLE, **more: Any) -> dict[str, Any]:
    """`[engine]` with a DeepSpeed configuration that divides what has more than `whole` numbers; None: DeepSpeed's default, 100,000, which leaves a tiny model whole."""
    path = folder / f"zero_{stage}_{whole}.json"
    threshold = {} if whole is None else {"stage3_param_persistence_threshold": whole}
    path.write_text(json.dumps({"zero_optimization": {"stage": stage, **threshold}}))
    return {"name": "zero", "deepspeed_config": str(path), **more}


def slug(mode: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in mode)


def write(folder: Path, name: str, tables: Mapping[str, Any]) -> Path:
    return write_run(folder, tables, f"{name}.toml")
