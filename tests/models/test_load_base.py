"""Base models: read strictly, and only as far as a run needs."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.eight_bits import SPELLINGS, in_eight_bits
from helpers.golden_connectors import SETTINGS, connector_tensors
from helpers.golden_models import BOTH, PREFIX, golden_config, golden_inputs, golden_weights, load_golden, write_golden
from ltxcore.errors import CheckpointError, ConfigError
from ltxcore.models.load_base import describe, load_backbone
from ltxcore.models.parameter_names import to_original

FOREIGN = {
    "vae.encoder.conv_in.weight": torch.zeros(2),
    "audio_vae.decoder.conv.weight": torch.zeros(2),
    "vocoder.conv_pre.weight": torch.zeros(2),
    "text_embedding_projection.aggregate_embed.weight": torch.zeros(2),
    **connector_tensors(),
}


def load(path, modalities=BOTH, dtype=torch.float32):
    return load_backbone(str(path), frozenset(modalities), dtype=dtype)


def changed(path, change):
    """The same file with its tensors changed."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"config": json.dumps({"transformer": golden_config(path.stem)})})
    return path


def test_every_weight_of_the_file_is_loaded(tmp_path):
    backbone = load(write_golden("B", tmp_path))
    found = {to_original(name): value for name, value in backbone.transformer.named_parameters()}
    expected = golden_weights("B")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value.float()) for name, value in expected.items())


def test_the_other_prefix_is_read_too(tmp_path):
    path = tmp_path / "B.safetensors"
    tensors = {f"diffusion_model.{key}": value for key, value in golden_weights("B").items()}
    save_file(tensors, path, metadata={"config": json.dumps({"transformer": golden_config("B")})})
    assert torch.equal(load(path).transformer.proj_in.weight, golden_weights("B")["patchify_proj.weight"].float())


def test_a_file_that_holds_codecs_too_loads_its_transformer(tmp_path):
    given = golden_inputs("B.joint.mask")
    expected = load_golden("B", tmp_path)(given["video"], given["audio"])
    path = write_golden("B", tmp_path, extra=FOREIGN, settings=SETTINGS)
    found = load(path)(given["video"], given["audio"])
    assert torch.equal(found["video"], expected["video"])


def test_only_the_tensors_of_the_run_are_read(tmp_path, monkeypatch):
    import ltxcore.models.load_base as module

    read = []
    real = module._read
    monkeypatch.setattr(module, "_read", lambda *given: (read.append(given[1].stored[to_original(given[2])]), real(*given))[1])
    load(write_golden("B", tmp_path), {"audio"})
    assert read
    assert all(name.removeprefix(PREFIX).split(".")[2 if "transformer_blocks" in name else 0].startswith("audio_") for name in read)


def test_checkpointing_is_off_unless_asked_for():
    assert not load("tiny-untrained").transformer.gradient_checkpointing
    asked = load_backbone("tiny-untrained", BOTH, dtype=torch.float32, gradient_checkpointing=True)
    assert asked.transformer.gradient_checkpointing


def test_a_file_is_described_without_its_weights(tmp_path):
    path = write_golden("C", tmp_path)
    info = describe(str(path))
    assert (info.name, info.generation, info.num_layers, info.has_connectors) == ("C.safetensors", "2.5", 2, False)
    assert (info.video_scale, info.audio_scale, info.text_fingerprint) == ((8, 32, 32), (4, 1, 1), "")
    assert load(path).info == info
    assert load(path).fingerprint == info.fingerprint


def test_the_untrained_tiny_model_is_described_too():
    info = describe("tiny-untrained")
    assert (info.name, info.generation, info.fingerprint, info.num_layers) == ("tiny-untrained", "tiny", "tiny-untrained", 4)


def test_a_file_may_say_its_generation_and_its_text_encoder(tmp_path):
    path = write_golden("B", tmp_path)
    config = json.dumps({"transformer": golden_config("B"), "vae": {"encoder_blocks": [["compress_all", {}]], "patch_size": 4}})
    save_file(load_file(path), path, metadata={"config": config, "model_version": "2.4.1", "text_fingerprint": "abc"})
    info = describe(str(path))
    assert (info.generation, info.text_fingerprint, info.video_scale) == ("2.4", "abc", (2, 8, 8))


def test_missing_unexpected_and_wrongly_shaped_tensors_are_all_named(tmp_path):
    path = write_golden("B", tmp_path)

    def change(tensors):
        del tensors[PREFIX + "proj_out.weight"]
        del tensors[PREFIX + "audio_proj_out.weight"]
        tensors[PREFIX + "proj_in.weight"] = torch.zeros(2)
        tensors[PREFIX + "patchify_proj.bias"] = torch.zeros(3)

    with pytest.raises(CheckpointError) as error:
        load(changed(path, change))
    assert str(error.value) == (
        f"{path}: 2 tensors are missing: audio_proj_out.weight, proj_out.weight\n"
        f"{path}: 1 tensor is not part of the model: proj_in.weight\n"
        f"{path}: 1 tensor has the wrong shape: patchify_proj.bias is [3], but should be [64]"
    )


def test_a_file_that_lacks_a_tensor_of_a_stream_the_run_does_not_need_is_refused_all_the_same(tmp_path):
    path = changed(write_golden("B", tmp_path), lambda tensors: tensors.pop(PREFIX + "proj_out.weight"))
    with pytest.raises(CheckpointError) as error:
        load(path, {"audio"})
    assert str(error.value) == f"{path}: 1 tensor is missing: proj_out.weight"


def test_a_file_with_tensors_of_no_known_model_is_refused(tmp_path):
    path = write_golden("B", tmp_path, extra={"unet.conv.weight": torch.zeros(2)})
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert str(error.value) == f"{path}: this file holds tensors that do not belong to any known model: unet.conv.weight"


def test_a_file_without_a_transformer_is_refused(tmp_path):
    path = tmp_path / "vae.safetensors"
    save_file({"vae.encoder.conv_in.weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError) as error:
        describe(str(path))
    assert str(error.value) == (
        f'{path}: this file holds no transformer: no tensor\'s name begins with "model.diffusion_model."\n'
        "    Name the checkpoint of the transformer, in the official layout."
    )


@pytest.mark.parametrize("changed", [None, (4,), (4, 4, 1)])
def test_a_file_without_a_configuration_is_refused_if_its_tensors_do_not_tell_it(changed, tmp_path):
    path = write_golden("B", tmp_path)
    tensors = load_file(path)
    if changed is None:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("patchify_proj.weight")}
    else:
        tensors[f"{PREFIX}patchify_proj.weight"] = torch.zeros(changed)
    save_file(tensors, path)
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert str(error.value) == (
        f"{path}: states no configuration, and none follows from its tensors, since they are not those of a whole transformer\n"
        '    Use a file whose metadata has "config", such as the official one.'
    )


def test_a_truncated_file_never_loads_partly(tmp_path):
    path = write_golden("B", tmp_path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2])
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert str(error.value) == f"{path}: is truncated: only {size // 2} of {size} bytes are there\n    Download or copy the file again."


def test_a_path_to_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError) as error:
        describe(str(tmp_path / "model.safetensors"))
    assert (
        str(error.value)
        == f'{tmp_path}/model.safetensors: model_path names neither a file nor a folder\n    Check the path, or use "tiny".'
    )


def test_weights_that_change_in_memory_do_not_change_in_the_file(tmp_path):
    path = write_golden("B", tmp_path)
    before = path.read_bytes()
    backbone = load(path, dtype=torch.bfloat16)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.zero_()
    assert path.read_bytes() == before


def test_weights_that_are_to_be_divided_stay_as_they_lie_in_the_file_but_for_eight_bits(tmp_path):
    eight = PREFIX + "transformer_blocks.0.attn1.to_q.weight"

    def stored(tensors):
        tensors |= {name: tensor.bfloat16() for name, tensor in tensors.items()}
        tensors[eight] = tensors[eight].to(torch.float8_e4m3fn)

    path = changed(write_golden("B", tmp_path), stored)
    backbone = load_backbone(str(path), BOTH, dtype=torch.float32, as_stored=True)
    dtypes = {name: parameter.dtype for name, parameter in backbone.transformer.named_parameters()}
    assert dtypes.pop("transformer_blocks.0.attn1.to_q.weight") == torch.float32
    assert set(dtypes.values()) == {torch.bfloat16}
    whole = load_backbone(str(path), BOTH, dtype=torch.float32)
    assert all(torch.equal(p.float(), q) for p, q in zip(backbone.parameters(), whole.parameters(), strict=True))


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_in_eight_bits_are_multiplied_by_their_scales(tmp_path, spelling, dtype):
    path = write_golden("B", tmp_path)
    meant = in_eight_bits(path, spelling)
    found = {PREFIX + to_original(name): value for name, value in load(path, dtype=dtype).transformer.named_parameters()}
    assert found.keys() == {PREFIX + name for name in golden_weights("B")}
    for name, weight in golden_weights("B").items():
        expected = meant.get(PREFIX + name, weight.float()).to(dtype)
        assert torch.equal(found[PREFIX + name], expected), name
    # Three bits of mantissa are within a sixteenth of what was rounded, and the smallest steps within a part of the scale.
    worst = max(
        float((meant[PREFIX + name] - weight.float()).abs().max() / weight.float().abs().max())
        for name, weight in golden_weights("B").items()
        if PREFIX + name in meant
    )
    assert 0 < worst < 0.04


def test_a_scaled_file_whose_weights_are_divided_comes_in_the_dtype_of_the_run(tmp_path):
    path = write_golden("B", tmp_path)
    meant = in_eight_bits(path, "official")
    backbone = load_backbone(str(path), BOTH, dtype=torch.bfloat16, as_stored=True)
    name = "transformer_blocks.0.attn1.to_q.weight"
    assert torch.equal(backbone.transformer.get_parameter(name), meant[PREFIX + name].bfloat16())


def test_text_connectors_in_eight_bits_are_read_too(tmp_path):
    path = write_golden("B", tmp_path, extra=FOREIGN, settings=SETTINGS)
    meant = in_eight_bits(path, "official", among="video_embeddings_connector.")
    module = load(path).connectors.modules["video"]
    name = "video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q.weight"
    assert torch.equal(module.get_parameter("transformer_blocks.0.attn1.to_q.weight"), meant[PREFIX + name])


def test_a_scale_of_nothing_is_not_part_of_the_model(tmp_path):
    path = changed(write_golden("B", tmp_path), lambda tensors: tensors.update({PREFIX + "foo.weight_scale": torch.ones(())}))
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert str(error.value) == f"{path}: 1 tensor is not part of the model: foo.weight_scale"


def test_a_scale_that_is_no_number_is_found(tmp_path):
    path = write_golden("B", tmp_path)
    in_eight_bits(path, "official")
    name = PREFIX + "transformer_blocks.0.attn1.to_q.weight"
    changed(path, lambda tensors: tensors.update({f"{name}_scale": torch.tensor(float("nan"))}))
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert str(error.value) == f"{path}: {name} has NaN or infinite values\n    Download or copy the file again."


def test_finite_values_whose_sum_is_too_large_are_read(tmp_path):
    path = write_golden("B", tmp_path)
    name = PREFIX + "proj_out.weight"
    changed(path, lambda tensors: tensors.update({name: torch.full_like(tensors[name], 3e38)}))
    assert bool((load(path).get_parameter("transformer.proj_out.weight") > 2e38).all())
