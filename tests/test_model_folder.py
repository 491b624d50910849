"""What belongs together is found in a folder of separate files, by the names of tensors alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from helpers.separate_files import separate
from ltxcore.codecs.source import Codecs
from ltxcore.config.run_file import ModelTable
from ltxcore.errors import CheckpointError, ConfigError
from ltxcore.model_folder import beside, files_in, transformer_in
from ltxcore.models.save import write_sharded
from ltxcore.safetensors_files import Stored


def stored(tensor: Tensor) -> Stored:
    return Stored(tensor.dtype, tuple(tensor.shape), lambda: tensor)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return separate(tmp_path_factory.mktemp("models"))["model_path"]


def test_each_part_is_found_whatever_its_file_is_called(whole: Path, tmp_path: Path) -> None:
    found = {key: [file.relative_to(whole).as_posix() for file in files] for key, files in files_in(whole).items()}
    assert found == {
        "model_path": ["a.safetensors"],
        "connectors_path": ["b.safetensors"],
        "text_encoder_path": ["e.safetensors"],
        "audio_vae_path": ["vae/c.safetensors"],
        "video_vae_path": ["vae/d.safetensors"],
    }
    table, codecs = ModelTable(model_path=str(whole)), Codecs(str(whole), device="cpu")  # type: ignore[arg-type]
    assert transformer_in(whole) == whole / "a.safetensors"
    for key, attribute in (("connectors_path", "connectors"), ("text_encoder_path", "text_encoder"), ("video_vae_path", "video_vae")):
        assert getattr(table, key) == getattr(codecs, attribute) == whole / found[key][0]
    assert ModelTable(model_path=str(whole), video_vae_path=tmp_path).video_vae_path == tmp_path  # type: ignore[arg-type]
    assert Codecs("tiny", device="cpu").of_model(str(whole)) == codecs


def test_loras_and_unknown_files_are_left_aside_and_broken_files_are_named(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "copy")
    save_file({"diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight": torch.zeros(1, 2)}, folder / "lora.safetensors")
    save_file({"diffusion_model.transformer_blocks.0.attn1.to_q.diff": torch.zeros(1, 2)}, folder / "full.safetensors")
    save_file({"upsampler.weight": torch.zeros(1)}, folder / "upscaler.safetensors")
    (folder / "half.safetensors").write_bytes((whole / "a.safetensors").read_bytes()[:1000])
    assert {key: len(files) for key, files in files_in(folder).items()} == dict.fromkeys(files_in(whole), 1)
    with pytest.raises(CheckpointError) as error:
        transformer_in(folder)
    assert f"{folder / 'half.safetensors'}: is" in str(error.value)
    (folder / "half.safetensors").unlink()
    assert transformer_in(folder) == folder / "a.safetensors"


def test_two_transformers_are_refused_and_two_vaes_are_not_guessed_among(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "copy")
    shutil.copy(folder / "vae" / "d.safetensors", folder / "other.safetensors")
    assert beside(str(folder), "video_vae_path") is None
    shutil.copy(folder / "a.safetensors", folder / "z.safetensors")
    with pytest.raises(ConfigError) as error:
        transformer_in(folder)
    assert "this folder holds 2 files with a transformer: a.safetensors, z.safetensors" in str(error.value)


def test_an_index_stands_for_the_parts_of_a_transformer(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "copy")
    tensors = load_file(folder / "a.safetensors")
    (folder / "a.safetensors").unlink()
    index = write_sharded(folder / "m.safetensors", {name: stored(each) for name, each in tensors.items()}, {}, 10_000)
    assert len(list(folder.glob("m-*.safetensors"))) > 1
    assert files_in(folder)["model_path"] == [index] == [transformer_in(folder)]


def test_a_folder_of_diffusers_and_a_file_are_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    for path in (tmp_path, tmp_path / "absent.safetensors"):
        assert transformer_in(path) == path
        assert beside(str(path), "video_vae_path") is None
