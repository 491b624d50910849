"""The backbone, its checkpoints and LoRA files, and the tiny models that come with this package."""

from __future__ import annotations

from pathlib import Path

TINY_BASE = Path(__file__).parent / "tiny_base.safetensors"
"""The file of the tiny model, which a run file selects with `model_path = "tiny"`."""

UNTRAINED = "tiny-untrained"
"""The `model_path` of the tiny model with fresh weights from a seed, in its state before training."""
