"""Models: the backbone, its checkpoints, and the LoRA files made from it; and those that come with this package, by the names that a run file has for them."""

from __future__ import annotations

from pathlib import Path

TINY_BASE = Path(__file__).parent / "tiny_base.safetensors"
"""The tiny model: `model_path = "tiny"`."""

UNTRAINED = "tiny-untrained"
"""The tiny model before its training, from a seed."""
