"""Files that are not what they should be: each is refused whole, before a tensor of it is used, and says what is wrong."""

import json
import shutil
import struct

import pytest
import torch
from safetensors import safe_open

from helpers.official_models import VIDEO_BLOCKS, video_module, video_section, write
from ltxcore.codecs.official import audio_vae, video_vae
from ltxcore.errors import CheckpointError, ConfigError


def read(path):
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


def changed(source, target, change):
    """A copy of a file whose tensors and metadata `change` has changed."""
    tensors, metadata = read(source)
    change(tensors, metadata)
    config = json.loads(metadata.pop("config"))
    return write(target, tensors, config, **metadata)


def refusal(model, own=None, load=video_vae.load, error=CheckpointError):
    with pytest.raises(error) as caught:
        load(model, own)
    return str(caught.value)


@pytest.fixture
def model(models):
    return models["2.3"][0]


@pytest.fixture
def target(tmp_path):
    return tmp_path / "changed.safetensors"


def test_a_missing_tensor_is_named_as_the_file_would(model, target):
    path = changed(model, target, lambda tensors, _: tensors.pop("vae.encoder.down_blocks.3.conv.conv.bias"))
    assert refusal(path) == f"{path}: 1 tensor of the video VAE is missing: vae.encoder.down_blocks.3.conv.conv.bias"


def test_an_unexpected_tensor_is_named(model, target):
    path = changed(model, target, lambda tensors, _: tensors.update({"vae.decoder.extra": torch.zeros(1)}))
    assert refusal(path) == f"{path}: 1 tensor is not part of the video VAE: vae.decoder.extra"


def test_a_renamed_tensor_is_both_missing_and_unexpected(model, target):
    def rename(tensors, _):
        tensors["audio_vae.decoder.conv_inn.conv.bias"] = tensors.pop("audio_vae.decoder.conv_in.conv.bias")

    path = changed(model, target, rename)
    assert refusal(path, load=audio_vae.load) == (
        f"{path}: 1 tensor of the audio VAE is missing: audio_vae.decoder.conv_in.conv.bias\n"
        f"{path}: 1 tensor is not part of the audio VAE: audio_vae.decoder.conv_inn.conv.bias"
    )


def test_every_tensor_of_the_wrong_shape_is_named_with_both_shapes(model, target):
    def cut(tensors, _):
        for name in ("vocoder.vocoder.conv_pre.bias", "vocoder.bwe_generator.conv_pre.bias"):
            tensors[name] = tensors[name][1:]

    path = changed(model, target, cut)
    assert refusal(path, load=audio_vae.load) == (
        f"{path}: 2 tensors of the vocoder have the wrong shape: "
        "vocoder.bwe_generator.conv_pre.bias is [31], but should be [32], vocoder.vocoder.conv_pre.bias is [63], but should be [64]"
    )


def test_a_quantised_tensor_is_refused(model, target):
    name = "vae.encoder.conv_in.conv.weight"
    path = changed(model, target, lambda tensors, _: tensors.update({name: tensors[name].to(torch.int8)}))
    assert refusal(path) == f"{path}: 1 tensor of the video VAE is stored in fewer bits, which is not supported: {name} (I8)"


def test_values_that_are_not_finite_are_found_before_the_module_has_any(model, target):
    name = "vae.encoder.conv_in.conv.weight"

    def spoil(tensors, _):
        tensors[name].view(-1)[5] = float("nan")

    path = changed(model, target, spoil)
    codec = video_vae.load(path, dtype=torch.float32)
    with pytest.raises(CheckpointError) as caught:
        codec._fill("encoder")
    assert str(caught.value) == f"{path}: the video VAE has NaN or infinite values in {name}\n    Download or copy the file again."
    assert all(tensor.is_meta for tensor in codec._part.module.encoder.parameters())


def test_a_file_of_full_size_that_was_not_filled_to_its_end_is_refused(model, target):
    name = "vae.encoder.conv_in.conv.weight"
    path = changed(model, target, lambda tensors, _: tensors[name].zero_())
    codec = video_vae.load(path)
    with pytest.raises(CheckpointError) as caught:
        codec._fill("encoder")
    assert (
        str(caught.value)
        == f"{path}: the video VAE contains only zeros in {name}: the file was not downloaded completely\n    Download it again."
    )
    assert all(tensor.is_meta for tensor in codec._part.module.encoder.parameters())


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.0])
def test_a_truncated_file_is_refused_with_what_there_is_of_it(model, target, kept):
    whole = model.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    end = int(8 + length + (len(whole) - 8 - length) * kept)
    target.write_bytes(whole[:end])
    assert refusal(target) == f"{target}: is truncated: only {end} of {len(whole)} bytes are there\n    Download or copy the file again."


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>" + bytes(64), b"\x40" + bytes(7) + b"{" * 64])
def test_what_is_no_safetensors_file_is_refused(target, content):
    target.write_bytes(content)
    assert refusal(target) == f"{target}: is not a safetensors file, or its beginning is damaged\n    Download or copy the file again."


def test_a_pointer_of_git_lfs_is_refused_by_name(target):
    target.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert refusal(target) == f"{target}: is a pointer of Git LFS, not the file itself\n    Run `git lfs pull` in its folder."


def test_a_damaged_header_is_refused(model, target):
    whole = bytearray(model.read_bytes())
    at = whole.index(b'"data_offsets":[') + len(b'"data_offsets":[')
    whole[at : at + 1] = b"9"
    target.write_bytes(whole)
    assert refusal(target) == f"{target}: is not a safetensors file, or its beginning is damaged\n    Download or copy the file again."


def test_bytes_after_the_end_are_refused(model, target):
    target.write_bytes(model.read_bytes() + b"more")
    assert refusal(target) == f"{target}: is damaged: the tensors do not fill the file exactly\n    Download or copy the file again."


def test_a_file_that_is_not_there_is_refused(target):
    assert refusal(target) == f"{target}: there is no such file\n    Check the path, or download the file."


def test_a_file_with_a_broken_configuration_is_refused(model, target):
    tensors, _ = read(model)
    from safetensors.torch import save_file

    save_file(tensors, target, metadata={"config": "{"})
    assert refusal(target) == f"{target}: the configuration in the metadata is not a JSON object\n    Download the file again."
    save_file(tensors, target, metadata={"config": '{"vae": 1}'})
    assert refusal(target) == f'{target}: the section "vae" of the configuration is not an object'


def test_a_split_checkpoint_asks_for_the_files_of_its_codecs(models):
    model = models["2.5"][0]
    assert refusal(model, error=ConfigError) == (
        f"{model}: this checkpoint holds no video VAE, because the model consists of several files\n"
        "    Set video_vae_path under [model] to the file of the video VAE."
    )
    assert refusal(model, load=audio_vae.load, error=ConfigError) == (
        f"{model}: this checkpoint holds no audio VAE, because the model consists of several files\n"
        "    Set audio_vae_path under [model] to the file of the audio VAE."
    )


def test_the_file_of_another_part_is_refused(models):
    model, _, sound = models["2.5"]
    assert refusal(model, sound) == (
        f'{sound}: this file holds no video VAE: its configuration has no section "vae", and its tensors are not those of a known one\n'
        "    Set video_vae_path under [model] to another file, such as the official one."
    )


def test_the_codec_of_another_release_is_refused(models):
    model, own = models["2.3"][0], models["2.5"][1]
    assert (
        refusal(model, own)
        == f"{own}: this video VAE is from release 2.5, but the checkpoint ltx-2.3.safetensors is from release 2.3\n    Use the video VAE of release 2.3."
    )


def test_weights_of_one_generation_under_the_configuration_of_another_are_refused(model, target):
    def older(tensors, metadata):
        config = json.loads(metadata["config"])
        config["vae"] = video_section("2.0", 8, VIDEO_BLOCKS["2.0"])
        metadata["config"] = json.dumps(config)

    path = changed(model, target, older)
    up = "vae.decoder.up_blocks"
    assert refusal(path) == (
        f"{path}: 6 tensors are not part of the video VAE: {up}.7.conv.conv.bias, {up}.7.conv.conv.weight, "
        f"{up}.8.res_blocks.0.conv1.conv.bias, {up}.8.res_blocks.0.conv1.conv.weight, {up}.8.res_blocks.0.conv2.conv.bias and 1 more\n"
        f"{path}: 19 tensors of the video VAE have the wrong shape: {up}.3.conv.conv.bias is [256], but should be [128], "
        f"{up}.3.conv.conv.weight is [256, 32, 3, 3, 3], but should be [128, 32, 3, 3, 3], "
        f"{up}.4.res_blocks.0.conv1.conv.bias is [32], but should be [16], "
        f"{up}.4.res_blocks.0.conv1.conv.weight is [32, 32, 3, 3, 3], but should be [16, 16, 3, 3, 3], "
        f"{up}.4.res_blocks.0.conv2.conv.bias is [32], but should be [16] and 14 more"
    )


@pytest.fixture
def folder(models, tmp_path):
    return shutil.copytree(models["folder 2.3"][0], tmp_path / "folder")


def test_a_folder_without_the_part_is_refused(folder):
    shutil.rmtree(folder / "vae")
    assert refusal(folder) == f'{folder}: this folder has neither a folder "vae" nor a config.json\n    Download the complete folder.'


def test_the_folder_of_a_decoder_by_diffusion_is_refused(folder):
    place = folder / "vae" / "config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"_class_name": "LTX2VideoDiffusionDecoderModel"}))
    assert refusal(folder) == (
        f"{folder / 'vae'}: this video VAE cannot be loaded: config.json names the class LTX2VideoDiffusionDecoderModel, "
        "not AutoencoderKLLTX2Video"
    )


def test_a_folder_with_settings_that_the_class_does_not_know_is_refused(folder):
    place = folder / "vae" / "config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"use_magic": True}))
    assert refusal(folder) == (
        f"{folder / 'vae'}: config.json has settings that AutoencoderKLLTX2Video does not know: use_magic\n"
        "    A newer version of diffusers may know these settings."
    )
    place.write_text("[]")
    assert refusal(folder) == f"{place}: is not a JSON object\n    Download or copy the file again."
    place.unlink()
    assert refusal(folder) == f"{place}: there is no such file\n    Download the complete folder again."


def test_a_folder_without_its_weights_is_refused(folder):
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    shutil.copy(weights, weights.with_name("model.fp16.safetensors"))
    assert refusal(folder) == f"{folder / 'vae'}: this folder has 2 safetensors files and no index\n    Download the complete folder again."
    weights.unlink()
    weights.with_name("model.fp16.safetensors").unlink()
    assert refusal(folder) == f"{folder / 'vae'}: this folder has no safetensors file\n    Download the complete folder again."


def test_a_partly_downloaded_folder_is_refused_and_a_whole_one_in_parts_is_read(tmp_path):
    module = video_module("2.3")
    place = tmp_path / "vae"
    module.save_pretrained(place, max_shard_size="800KB")
    parts = sorted(place.glob("*.safetensors"))
    assert len(parts) > 2
    assert video_vae.load(tmp_path).encode is not None
    index = place / "diffusion_pytorch_model.safetensors.index.json"
    told = json.loads(index.read_text())
    name = next(key for key, file in told["weight_map"].items() if file == parts[0].name)
    index.write_text(json.dumps(told | {"weight_map": told["weight_map"] | {name: parts[1].name}}))
    assert (
        refusal(tmp_path)
        == f"{place}: {index.name} and the files that it names disagree about {name}\n    Download or copy the file again."
    )
    index.write_text(json.dumps(told))
    parts[1].unlink()
    assert (
        refusal(tmp_path)
        == f"{place}: lacks 1 of the {len(parts)} files that {index.name} names: {parts[1].name}\n    Download the rest of the folder."
    )
