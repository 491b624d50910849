"""A small run file, and what the fixtures of this folder give."""

from __future__ import annotations

from collections.abc import Callable

from ltxcore.config.load import LoadedRun

MINIMAL = """\
[model]
model_path = "tiny"
[training_strategy]
name = "flexible"
[training_strategy.audio]
is_generated = true
latents_dir = "audio_latents"
[data]
preprocessed_data_root = "."
"""

Load = Callable[..., LoadedRun]
Mistakes = Callable[..., str]
