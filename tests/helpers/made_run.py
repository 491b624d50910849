"""The output folder of a run, made by hand: numbers that are known, media that play, names that try to break out of a page."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ltxcore.config.render import document
from ltxcore.media.probe import write_clip, write_sound
from ltxcore.protocols import Clip, Sound

HOSTILE = "</script><script>document.title = 'broken'</script><img src=x onerror=\"document.title = 'broken'\">'\"&\u2028"
"""A name, caption or word that would run as code in a page that trusts it."""

STEPS = 200


def run_file(folder: Path, **changed: Any) -> dict[str, Any]:
    tables: dict[str, Any] = {
        "seed": 42,
        "output_dir": str(folder),
        "model": {"model_path": "/models/somebody/ltx-2.3-22b-dev.safetensors", "training_mode": "lora"},
        "lora": {"rank": 4, "alpha": 4, "target_modules": ["to_k", "to_v"]},
        "training_strategy": {
            "name": "flexible",
            "video": {
                "is_generated": True,
                "latents_dir": "latents",
                "conditions": [{"type": "first_frame", "probability": 0.5}],
            },
            "audio": {"is_generated": True, "latents_dir": "audio_latents", "conditions": [{"type": "mask", "mask_dir": "audio_masks"}]},
        },
        "optimization": {
            "learning_rate": 0.001,
            "steps": STEPS,
            "batch_size": 2,
            "gradient_accumulation_steps": 2,
            "scheduler_type": "linear",
        },
        "data": {"dataset": "/home/somebody/clips/train.jsonl"},
        "preprocessing": {"lora_trigger": "ltxworld"},
        "hub": {"push_to_hub": True, "hub_model_id": "me/made"},
    }
    for name, keys in changed.items():
        merges = isinstance(keys, Mapping) and name in tables and name != "training_strategy"
        tables[name] = {**tables[name], **keys} if merges else keys
    return tables


def metrics(
    steps: int = STEPS, *, fall: float = 1.0, held_out: tuple[float, ...] = (1.0, 0.5), listens: float = 3.0
) -> list[dict[str, Any]]:
    """Lines of `metrics.jsonl`: the loss falls as exp(-3 fall step / steps) towards 0.2; held-out losses at steps evenly spaced."""
    draw = random.Random(0)
    lines: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        loss = 0.2 + math.exp(-3 * fall * step / steps)
        line: dict[str, Any] = {"step": step, "loss": 2 * loss * draw.uniform(0.9, 1.1)}
        for modality, factor in (("video", 0.9), ("audio", 1.1)):
            line[f"loss/{modality}"] = loss * factor
            for low in (0.0, 0.25, 0.5, 0.75):
                line[f"loss/{modality}/sigma_{low:.2f}-{low + 0.25:.2f}"] = loss * factor * draw.uniform(0.95, 1.05)
            for condition in ("video.cond0.first_frame", "audio.cond0.mask"):
                line[f"loss/{modality}/{condition}/{'applied' if step % 2 else 'not_applied'}"] = loss * factor
        rate = 0.001 * (1 - step / steps)
        lines.append(
            {**line, "learning_rate": rate, "grad_norm": 0.5, "step_seconds": 0.25, "tokens_per_second": 4000.0, "peak_memory_gib": 1.5}
        )
    for index, value in enumerate(held_out):
        step = round(index * steps / max(len(held_out) - 1, 1))
        lines.insert(step + index, {"step": step, **measured("own_context", value)})
    if held_out:
        lines.append({"step": steps, **measured("other_context", held_out[-1] * listens)})
    return lines


def measured(context: str, value: float) -> dict[str, float]:
    found = {f"held_out/{context}/clips": 12.0}
    for modality in ("video", "audio"):
        for sigma, factor in (("0.30", 1.2), ("0.60", 1.0), ("0.90", 0.8)):
            found[f"held_out/{context}/{modality}/sigma_{sigma}"] = value * factor
    return found


def media(folder: Path, names: tuple[str, ...] = ("a red disc",)) -> list[dict[str, Any]]:
    """Clips with sound, sounds and a picture, before and after, each beside its original."""
    lines: list[dict[str, Any]] = []
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    time = torch.arange(8000) / 16000
    for index, name in enumerate(names, 1):
        for stem, shade in (("step_000000", 40), (f"step_{STEPS:06d}", 120), ("original", 200)):
            frames = torch.full((9, 64, 64, 3), shade, dtype=torch.uint8)
            sound = Sound(torch.sin(2 * math.pi * (200 + 2 * shade) * time).expand(2, -1).contiguous() * 0.5, 16000)
            write_clip(folder / "samples" / f"{stem}_{index}.mp4", Clip(frames, 16.0), sound)
            write_sound(folder / "samples" / f"{stem}_{index}s.wav", sound)
            if stem != "original":
                step = int(stem.removeprefix("step_"))
                lines.append({"step": step, "sample": name, "path": f"samples/{stem}_{index}.mp4"})
                lines.append({"step": step, "sample": f"{name}, sound", "path": f"samples/{stem}_{index}s.wav"})
    return lines


def weights(path: Path, **metadata: str) -> Path:
    a, b = torch.ones(4, 8), torch.ones(8, 4)
    said = {
        "base_model": "ltx-2.3-22b-dev",
        "generation": "2.3",
        "rank": "4",
        "alpha": "4",
        "timestep_rule": "split",
        "trigger": "ltxworld",
    }
    module = "diffusion_model.transformer_blocks.0.attn1.to_k"
    save_file({f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}, path, metadata={"format": "pt", **said, **metadata})
    return path


def made_run(folder: Path, *, lines: list[dict[str, Any]] | None = None, status: str = "finished", **changed: Any) -> Path:
    """An output folder; `changed` replaces keys of tables of its run file, and its strategy whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.toml").write_text(document(run_file(folder, **changed)))
    sources = [
        {
            "role": "video",
            "folder": "latents",
            "samples": 40,
            "sizes": "64 x 64 pixels, 17 frames at 16 a second",
            "seconds": 42.5,
            "bytes": 123456,
        },
        {
            "role": "audio.cond0.reference",
            "folder": "reference_audio_latents",
            "samples": 40,
            "sizes": "768 x 512 pixels, 89 frames at 24 a second (30), 512 x 768 pixels, 89 frames at 24 a second (7) and 3 more",
            "seconds": 42.5,
            "bytes": 123456,
        },
    ]
    data = {"root": "/data/encoded", "train": 28, "held_out": 12, "sources": sources}
    (folder / "run.json").write_text(json.dumps({"status": status, "held_out": ["clips/a", "clips/b"], "data": data}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (metrics() if lines is None else lines)))
    if status == "finished":
        weights(folder / "lora.safetensors")
    return folder
