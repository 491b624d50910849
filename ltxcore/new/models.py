"""The models for which `ltx new` writes run files: the files to download, and the keys that name these files."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

HUB = "https://huggingface.co"
GEMMA_3 = f"all files of {HUB}/google/gemma-3-12b-it-qat-q4_0-unquantized"


@attrs.frozen
class Model:
    """A released model.

    Attributes:
        about: the name of the model for people.
        planned: the name of the model for `ltx plan --model`.
        repository: the repository with its files.
        paths: the keys of `[model]` that name the model's files, each with a placeholder and a description of the file.
    """

    about: str
    planned: str
    repository: str
    paths: tuple[tuple[str, str, str], ...]


def _in_one_file(checkpoint: str) -> tuple[tuple[str, str, str], ...]:
    """Return the paths of a model whose checkpoint holds everything but the text encoder."""
    return (
        ("model_path", f"/models/{checkpoint}", "the checkpoint: dev, not distilled"),
        ("text_encoder_path", "/models/gemma-3-12b", f"a folder with {GEMMA_3}"),
    )


TINY = "tiny"
"""The name of the model that comes with ltx, so that nothing has to be downloaded."""

MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "2.0": Model(
            "LTX-2 (19B)",
            "ltx-2-19b",
            f"{HUB}/Lightricks/LTX-2",
            _in_one_file("ltx-2-19b-dev.safetensors"),
        ),
        "2.3": Model(
            "LTX-2.3 (22B)",
            "ltx-2.3-22b",
            f"{HUB}/Lightricks/LTX-2.3",
            _in_one_file("ltx-2.3-22b-dev.safetensors"),
        ),
        "2.5": Model(
            "LTX-2.5 (22B)",
            "ltx-2.5-22b",
            f"{HUB}/Lightricks/LTX-2.5",
            (
                ("model_path", "/models/ltx-2.5-22b-dev-transformer-bf16.safetensors", "the transformer: dev, not distilled"),
                ("text_encoder_path", "/models/ltx-2.5-text-encoder.safetensors", "Gemma 4 with the projections, in bf16"),
                ("video_vae_path", "/models/ltx-2.5-video-vae-conv.safetensors", "the convolutional video VAE, not the diffusion decoder"),
                ("audio_vae_path", "/models/ltx-2.5-audio-vae.safetensors", "the audio VAE, which also holds the vocoder"),
            ),
        ),
    }
)
