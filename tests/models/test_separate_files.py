"""A transformer and its connectors in files of their own are the same model as in one file, whatever their headers keep of its configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.golden_models import BOTH, random_input
from helpers.separate_files import separate
from helpers.whole_models import unified
from ltxcore.codecs.official import part_files
from ltxcore.codecs.source import Codecs
from ltxcore.errors import CheckpointError, ConfigError, LtxError
from ltxcore.models.base import base_of
from ltxcore.models.blueprint import blueprint_of_config
from ltxcore.models.checkpoint_files import open_checkpoint
from ltxcore.models.load_base import load_backbone
from ltxcore.models.parameter_names import to_original
from ltxcore.models.released import RELEASED, config_of_shapes
from ltxcore.models.transformer_settings import diffusers_arguments, generation_of
from ltxcore.protocols import Text
from ltxcore.runs.fits import check_connectors


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """One file, and the folder of files that was made of it."""
    folder = tmp_path_factory.mktemp("models")
    parts = separate(folder)["model_path"]
    return str(folder / "source" / "ltx-2.3-22b-dev.safetensors"), str(parts)


def loaded(path: str, connectors: Path | None = None) -> Any:
    return load_backbone(path, BOTH, dtype=torch.float32, connectors_path=connectors).eval()


def test_separate_files_give_what_the_whole_file_gives(places: tuple[str, str]) -> None:
    one, parts = loaded(places[0]), loaded(places[1], Path(places[1], "b.safetensors"))
    generator = torch.Generator().manual_seed(3)
    text = Text(
        {"video": torch.randn(2, 16, 64, generator=generator), "audio": torch.randn(2, 16, 32, generator=generator)}, torch.ones(2, 16)
    )
    contexts = [model.connect(text) for model in (one, parts)]
    for name in ("video", "audio"):
        assert torch.equal(contexts[0].features[name], contexts[1].features[name])
    narrow = {"video": 8, "audio": 32}
    given = {name: random_input(name, 6, width=32 if name == "audio" else 64) for name in narrow}
    given = {name: attrs.evolve(each, tokens=each.tokens[..., : narrow[name]]) for name, each in given.items()}
    with torch.no_grad():
        first, second = (model(given["video"], given["audio"]) for model in (one, parts))
    for name in narrow:
        assert torch.equal(first[name], second[name])


def test_what_is_left_of_the_configuration_in_a_header_does_not_mislead(places: tuple[str, str], tmp_path: Path) -> None:
    config = {"vae": {"_class_name": "CausalVideoAutoencoder"}, "audio_vae": {}, "vocoder": {}}
    path = tmp_path / "transformer.safetensors"
    save_file(load_file(Path(places[1], "a.safetensors")), path, metadata={"config": json.dumps(config)})
    assert open_checkpoint(str(path)).generation == "2.3"
    base_of(str(path)).check_tensors()
    loads = {"video VAE": part_files.video_vae, "audio VAE": part_files.audio_vae, "vocoder": part_files.vocoder}
    for part, load in loads.items():
        key = "video_vae_path" if part == "video VAE" else "audio_vae_path"
        with pytest.raises(ConfigError) as error:
            load(path, None)
        assert f"this checkpoint holds no {part}" in str(error.value)
        assert f"Set {key} under [model]" in str(error.value)


def test_codecs_of_separate_files_are_those_of_the_whole_file(places: tuple[str, str]) -> None:
    one, parts = (Codecs(place, device="cpu") for place in places)
    assert one.video().fingerprint == parts.video().fingerprint
    assert one.audio().fingerprint == parts.audio().fingerprint


def test_text_that_needs_connectors_is_not_used_without_them(places: tuple[str, str]) -> None:
    base = base_of(places[1])
    assert not base.info.has_connectors
    with pytest.raises(LtxError) as error:
        check_connectors(base.info, None, "ltx-2.3/0123", "encoded/conditions")  # type: ignore[arg-type]
    assert "Set connectors_path under [model]" in str(error.value)


def test_a_file_without_connectors_is_no_file_of_connectors(places: tuple[str, str]) -> None:
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(places[1], Path(places[1], "vae", "d.safetensors"))
    assert "holds no text connectors" in str(error.value)


def test_connectors_of_other_sizes_or_cut_short_are_refused(places: tuple[str, str], tmp_path: Path) -> None:
    tensors = load_file(Path(places[1], "b.safetensors"))
    name = next(each for each in sorted(tensors) if each.endswith("to_q.weight"))
    for spoiled in ({key: each for key, each in tensors.items() if key != name}, {**tensors, name: tensors[name][:-1].contiguous()}):
        save_file(spoiled, tmp_path / "b.safetensors")
        with pytest.raises(CheckpointError):
            loaded(places[1], tmp_path / "b.safetensors")


@pytest.mark.parametrize("name", RELEASED)
def test_the_shapes_of_a_released_model_tell_its_configuration(name: str) -> None:
    shapes = {to_original(own): shape for own, shape in blueprint_of_config(RELEASED[name], name).shapes.items()}
    found = config_of_shapes(shapes, name)
    assert diffusers_arguments(found, name) == diffusers_arguments(RELEASED[name], name)
    assert generation_of(found) == generation_of(RELEASED[name])


def test_unified_files_are_read_as_before(tmp_path: Path) -> None:
    path = unified(tmp_path)["model_path"]
    assert open_checkpoint(str(path)).apart is None
    assert open_checkpoint(str(path)).has_connectors
