"""Models in their official layouts on the pretended device: codecs whole and in tiles, text encoders whole and layer by layer, connectors, generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from helpers.whole_models import split, unified
from pretended.asked import Check, answers

MODELS: Mapping[str, Callable[[Path], dict[str, Path]]] = {"2.3": unified, "2.5": split}


def spelled(model: Mapping[str, Path]) -> dict[str, str]:
    return {key: str(path) for key, path in model.items()}


@pytest.mark.whole
@pytest.mark.parametrize("generation", MODELS)
def test_all_that_is_encoded_and_decoded_is_as_on_the_cpu(generation: str, tmp_path: Path, libraries: Path) -> None:
    found = answers({"": Check("pretended.coding:both", {"model": spelled(MODELS[generation](tmp_path))})}, libraries)[""]
    assert found["cuda:0"]["values"] == found["cpu"]["values"]
    values = found["cpu"]["values"]
    assert {f"text by layers {name}": values[f"text {name}"] for name in ("video", "audio")}.items() <= values.items()
    assert found["cuda:0"]["waits"] == {"clip": 1}


@pytest.mark.whole
@pytest.mark.parametrize("generation", MODELS)
def test_samples_are_drawn_from_files_to_files(generation: str, tmp_path: Path, libraries: Path) -> None:
    model = spelled(MODELS[generation](tmp_path))
    options = {"quantization": "int8", "offload_blocks": 2}
    checks = {
        "bf16": Check("pretended.drawing:studio", {"model": model, "folder": str(tmp_path), "precision": "bf16", **options}),
        "float32": Check("pretended.drawing:studio", {"model": model, "folder": str(tmp_path), "precision": "no"}),
    }
    for drawn in answers(checks, libraries).values():
        assert drawn == ["sample_0.mp4", "sample_1.mp4"]
