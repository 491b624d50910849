"""VAEs and vocoders in files without a configuration are those that the same tensors are with one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from helpers.official_models import TABLES, codec_tensors, original_name, write
from ltxcore.codecs.official import audio_vae, video_vae
from ltxcore.codecs.official.codec_settings import audio_arguments, video_arguments, vocoder_arguments
from ltxcore.codecs.official.modules import Part
from ltxcore.codecs.official.part_files import audio_vae as audio_part
from ltxcore.codecs.official.part_files import video_vae as video_part
from ltxcore.codecs.official.part_files import vocoder as vocoder_part
from ltxcore.codecs.official.vae_shapes import section_of_shapes
from ltxcore.errors import CheckpointError

GENERATIONS = ("2.0", "2.3", "2.5")
ARGUMENTS: Mapping[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "vae": ("video_vae", video_arguments),
    "audio_vae": ("audio_vae", audio_arguments),
    "vocoder": ("vocoder", vocoder_arguments),
}


def built(part: str, generation: str) -> Any:
    from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE

    classes = {"video_vae": AutoencoderKLLTX2Video, "audio_vae": AutoencoderKLLTX2Audio, "vocoder": LTX2VocoderWithBWE}
    cls = LTX2Vocoder if (part, generation) == ("vocoder", "2.0") else classes[part]
    with torch.device("meta"):
        return cls(**TABLES[part][generation]["diffusers_config"])


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("section", ARGUMENTS)
def test_the_shapes_of_a_released_part_tell_its_configuration(section: str, generation: str) -> None:
    part, arguments = ARGUMENTS[section]
    module = built(part, generation)
    shapes = {original_name(part, generation, own): tuple(tensor.shape) for own, tensor in module.state_dict().items()}
    told = section_of_shapes(section, shapes)
    assert told is not None
    assert arguments(told, "x") == TABLES[part][generation]["diffusers_config"]


def bare(folder: Path, generation: str, keep: Callable[[str], bool]) -> Path:
    tensors, _ = codec_tensors(generation, video_prefix="")
    path = folder / "bare.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items() if keep(name)}, path)
    return path


def whole(folder: Path, generation: str) -> Path:
    tensors, sections = codec_tensors(generation)
    return write(folder / "whole.safetensors", tensors, sections)


def is_sound(name: str) -> bool:
    return name.startswith(("audio_vae.", "vocoder."))


def same(one: Part, other: Part) -> bool:
    return dict(one.module.config) == dict(other.module.config) and one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize("generation", GENERATIONS)
def test_files_without_metadata_hold_the_same_parts(generation: str, tmp_path: Path) -> None:
    model = whole(tmp_path, generation)
    pictures = bare(tmp_path, generation, lambda name: not is_sound(name))
    assert same(video_part(model, pictures), video_part(model, None))
    video_vae.load(model, pictures)
    sound = bare(tmp_path, generation, is_sound)
    assert same(audio_part(model, sound), audio_part(model, None))
    assert same(vocoder_part(model, sound), vocoder_part(model, None))
    audio_vae.load(model, sound)


def spoiled(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    tensors = {name: tensor for name, tensor in codec_tensors("2.3", video_prefix="")[0].items() if not is_sound(name)}
    change(tensors)
    path = folder / "spoiled.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def test_a_file_that_is_no_known_vae_is_refused(tmp_path: Path) -> None:
    model = whole(tmp_path, "2.3")
    fewer = spoiled(tmp_path, lambda all: [all.pop(name) for name in list(all) if name.startswith("decoder.up_blocks.8.")])
    with pytest.raises(CheckpointError):
        video_vae.load(model, fewer)
    other = spoiled(tmp_path, lambda all: [all.pop(name) for name in list(all) if name.startswith("decoder.up_blocks.")])
    with pytest.raises(CheckpointError) as error:
        video_vae.load(model, other)
    assert str(error.value) == (
        f"{other}: this file holds no video VAE: it states no configuration, and its tensors are not those of a known one\n"
        "    Set video_vae_path under [model] to another file, such as the official one."
    )
    lacking = spoiled(tmp_path, lambda all: all.pop("encoder.conv_in.conv.bias"))
    with pytest.raises(CheckpointError, match="1 tensor of the video VAE is missing"):
        video_vae.load(model, lacking)
