"""Connectors against the recorded cases and diffusers' own module, and what is stored of the text against what is not."""

import json

import pytest
import torch

from helpers.encoded_sets import TEXT, put
from helpers.golden_connectors import PREFIX, SETTINGS, connector_tensors, load_connectors, write_connectors
from helpers.golden_io import load_case
from helpers.golden_models import stock_model, write_golden
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.micro_batch import load_batch, padded_text
from ltxcore.errors import CheckpointError, ConfigError, DataError
from ltxcore.models.backbone import ModelInfo
from ltxcore.models.base import base_of
from ltxcore.models.checkpoint_files import open_checkpoint
from ltxcore.models.connectors import connector_arguments, connectors_fingerprint, to_original
from ltxcore.models.load_base import load_backbone
from ltxcore.protocols import Text
from ltxcore.runs.fits import check_text_features

BOTH = ("video", "audio")
REDO = "The text features were made for another model: run `ltx preprocess` again with this model."


@pytest.fixture
def connect(tmp_path):
    return load_connectors(write_connectors(tmp_path / "c.safetensors"), BOTH)


def features(length=1024, words=40, seed=0, samples=2):
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(length) >= length - words).float().expand(samples, -1)
    made = {
        name: torch.randn(samples, length, width, generator=generator) * mask[..., None] for name, width in (("video", 64), ("audio", 32))
    }
    return Text(made, mask)


def stock(connect):
    """diffusers' own module with the same weights in its connectors."""
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors

    told = {"num_attention_heads": 4, "num_layers": 2, "num_learnable_registers": 8}
    module = LTX2TextConnectors(
        caption_channels=8, text_proj_in_factor=1, per_modality_projections=True, video_hidden_dim=64, audio_hidden_dim=32, rope_type="split",
        video_gated_attn=True, audio_gated_attn=True, video_connector_attention_head_dim=16, audio_connector_attention_head_dim=8,
        **{f"{name}_connector_{key}": value for name in BOTH for key, value in told.items()},
    ).eval()  # fmt: skip
    for name in BOTH:
        getattr(module, f"{name}_connector").load_state_dict(connect.modules[name].state_dict())
    return module


def write_folder(connect, folder):
    stock(connect).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", BOTH)
def test_a_connector_equals_the_recorded_one(connect, name):
    case = load_case("11_connector", f"forward.{name}.right_padded")
    mask = load_case("11_connector", "mask.right_padded").inputs["mask"].float()
    found = connect._one(name, Text({name: case.inputs["hidden_states"].float()}, mask))
    torch.testing.assert_close(found, case.outputs["hidden_states"].float(), rtol=1e-4, atol=2e-5)


def test_left_padded_features_are_connected_as_recorded_and_nothing_is_padding_any_more(connect):
    case = load_case("11_connector", "create_embeddings.left_padded")
    given = Text(
        {"video": case.inputs["video_features"].float(), "audio": case.inputs["audio_features"].float()}, case.inputs["mask"].float()
    )
    found = connect(given)
    for name in BOTH:
        torch.testing.assert_close(found.features[name], case.outputs[f"{name}_embeds"].float(), rtol=1e-4, atol=2e-5)
    assert torch.equal(found.mask, torch.ones_like(given.mask))
    assert (given.is_whole, found.is_whole) == (False, True)
    assert torch.equal(found.mask, case.outputs["attention_mask"].float())


def test_context_equals_that_of_diffusers_own_module(connect):
    module = stock(connect)
    seen = {}
    for name in BOTH:
        getattr(module, f"{name}_connector").register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0]}))
    mask = torch.tensor([[0] * 5 + [1] * 11, [1] * 16])
    with torch.no_grad():
        video, audio, _ = module(torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(1)), mask)
    found = connect(Text(seen, mask.float()))
    assert torch.equal(found.features["video"], video)
    assert torch.equal(found.features["audio"], audio)


def test_stored_and_restored_features_connect_to_the_same_bits_as_those_that_never_left_memory(connect, tmp_path):
    direct, words = features(), 40
    for name, sample in (("a", 0), ("b", 1)):
        kept = {modality: values[sample, -words:].clone() for modality, values in direct.features.items()}
        put(tmp_path, "conditions", name, kept, shape=(1024,), encoder="ltx-2.3/x")
    manifest = read_manifest(tmp_path, {"text": TEXT})
    restored = padded_text(load_batch(tmp_path, {"text": TEXT}, ["a", "b"], ["text"], manifest))
    expected, found = connect(direct), connect(restored)
    for name in BOTH:
        assert found.features[name].shape[:2] == (2, 1024)
        assert torch.equal(found.features[name], expected.features[name])
    assert torch.equal(found.mask, expected.mask)


def test_what_lies_in_the_padding_does_not_matter(connect):
    given = features(length=64, words=10)
    spoiled = Text({name: values + 7 * (1 - given.mask[..., None]) for name, values in given.features.items()}, given.mask)
    for name in BOTH:
        assert torch.equal(connect(given).features[name], connect(spoiled).features[name])


def test_a_run_of_sound_alone_reads_its_own_connector(tmp_path):
    tensors = {name: tensor for name, tensor in connector_tensors().items() if "audio_" in name}
    found = load_connectors(write_connectors(tmp_path / "c.safetensors", tensors), {"audio"}, torch.bfloat16)
    context = found(features(length=16, words=3))
    assert set(context.features) == {"audio"}
    assert context.features["audio"].dtype == torch.bfloat16


def test_where_both_modalities_read_the_same_features_those_of_either_will_do(tmp_path):
    same = SETTINGS | {"caption_proj_before_connector": False}
    tensors = {name.replace("video_", "audio_"): tensor for name, tensor in connector_tensors().items() if "video_" in name}
    path = write_connectors(tmp_path / "c.safetensors", tensors)
    found = load_connectors(path, {"audio"}, settings=same | {"audio_connector_attention_head_dim": 16})
    given = features(length=16, words=3)
    both = Text({"video": given.features["video"], "audio": given.features["video"]}, given.mask)
    assert torch.equal(found(Text({"video": given.features["video"]}, given.mask)).features["audio"], found(both).features["audio"])


def test_a_folder_of_diffusers_gives_the_same_connectors(connect, tmp_path):
    write_folder(connect, tmp_path / "connectors")
    found = load_connectors(tmp_path / "connectors", BOTH)
    given = features(length=64, words=10)
    for name in BOTH:
        assert torch.equal(found(given).features[name], connect(given).features[name])
    assert set(load_connectors(tmp_path / "connectors", {"audio"}).modules) == {"audio"}


def test_a_folder_whose_configuration_lacks_a_setting_is_refused(connect, tmp_path):
    place = write_folder(connect, tmp_path / "connectors") / "config.json"
    place.write_text(json.dumps({key: value for key, value in json.loads(place.read_text()).items() if key != "rope_type"}))
    with pytest.raises(CheckpointError) as caught:
        load_connectors(place.parent, BOTH)
    assert str(caught.value) == f"{place.parent}: config.json lacks rope_type\n    Download the complete folder again."


def test_connectors_are_frozen_and_give_no_gradient(connect):
    given = features(length=16, words=3)
    given.features["video"].requires_grad_()
    assert not connect(given).features["video"].requires_grad
    assert not any(parameter.requires_grad for module in connect.modules.values() for parameter in module.parameters())


def test_features_of_another_model_are_refused(connect):
    given = features(length=16, words=3)
    with pytest.raises(DataError) as caught:
        connect(Text({"video": torch.zeros(1, 16, 48), "audio": torch.zeros(1, 16, 32)}, torch.ones(1, 16)))
    assert (
        str(caught.value)
        == f"the text features of this model must have 64 values per token for video, but these features have 48\n    {REDO}"
    )
    with pytest.raises(DataError) as caught:
        connect(Text({"video": given.features["video"]}, given.mask))
    assert str(caught.value) == f"the text features of this model must have 32 values per token for audio, but there are none\n    {REDO}"
    with pytest.raises(DataError) as caught:
        connect(features(length=20, words=3))
    assert (
        str(caught.value)
        == f"text features are padded to 20 positions, which is not a multiple of 8, the number of registers of this model\n    {REDO}"
    )


def test_tensors_that_are_not_those_of_the_settings_are_all_named(tmp_path):
    tensors = connector_tensors()
    video, audio = f"{PREFIX}video_embeddings_connector.", f"{PREFIX}audio_embeddings_connector."
    tensors.pop(video + "transformer_1d_blocks.1.ff.net.2.bias")
    tensors[audio + "transformer_1d_blocks.2.ff.net.2.bias"] = torch.zeros(1)
    tensors[audio + "learnable_registers"] = torch.zeros(4, 32)
    path = write_connectors(tmp_path / "c.safetensors", tensors)
    with pytest.raises(CheckpointError) as caught:
        load_connectors(path, BOTH)
    assert str(caught.value) == (
        f"{path}: the video connector lacks {video}transformer_1d_blocks.1.ff.net.2.bias\n"
        f"{path}: not part of the audio connector: {audio}transformer_1d_blocks.2.ff.net.2.bias\n"
        f"{path}: of the wrong shape in the audio connector: {audio}learnable_registers is [4, 32], but should be [8, 32]"
    )


def test_values_that_are_not_finite_are_refused(tmp_path):
    tensors = connector_tensors()
    name = f"{PREFIX}audio_embeddings_connector.transformer_1d_blocks.0.attn1.q_norm.weight"
    tensors[name] = tensors[name] * float("inf")
    path = write_connectors(tmp_path / "c.safetensors", tensors)
    with pytest.raises(CheckpointError) as caught:
        load_connectors(path, BOTH)
    assert str(caught.value) == (f"{path}: the connectors have NaN or infinite values in {name}\n    Download or copy the file again.")


def test_matrices_that_were_not_downloaded_are_refused(tmp_path):
    tensors = connector_tensors()
    name = f"{PREFIX}video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q.weight"
    tensors[name] = torch.zeros_like(tensors[name])
    path = write_connectors(tmp_path / "c.safetensors", tensors)
    with pytest.raises(CheckpointError) as caught:
        load_connectors(path, BOTH)
    assert str(caught.value) == (
        f"{path}: the connectors contain only zeros in {name}: the file was not downloaded completely\n    Download it again."
    )


def test_settings_that_are_not_known_are_all_named():
    with pytest.raises(CheckpointError) as caught:
        connector_arguments(SETTINGS | {"connector_ff_bias": False, "rope_type": "none"}, "video", "f")
    assert (
        str(caught.value)
        == "f: the connectors' setting connector_ff_bias = False is not known\nf: the connectors' setting rope_type = none is not known"
    )


def test_the_real_connectors_build_without_memory():
    from ltxcore.models.connectors import build_connector

    older = {"rope_type": "split", "frequencies_precision": "float64"}
    newer = older | {
        "connector_num_attention_heads": 32, "connector_attention_head_dim": 128, "audio_connector_num_attention_heads": 32,
        "audio_connector_attention_head_dim": 64, "connector_num_layers": 8, "connector_apply_gated_attention": True,
    }  # fmt: skip
    found = {
        (generation, name): sum(tensor.numel() for tensor in build_connector(connector_arguments(told, name, "f")).parameters())
        for generation, told in (("2.0", older), ("2.3", newer))
        for name in BOTH
    }
    # A block: four square maps and two to and from four times the width, biases, two norms; gates one number a head.
    expected = {
        (generation, name): layers * (12 * width**2 + 11 * width + gates * (width + 1)) + 128 * width
        for generation, name, layers, width, gates in (
            ("2.0", "video", 2, 3840, 0), ("2.0", "audio", 2, 3840, 0), ("2.3", "video", 8, 4096, 32), ("2.3", "audio", 8, 2048, 32),
        )
    }  # fmt: skip
    assert found == expected


def test_a_backbone_comes_with_the_connectors_of_its_checkpoint_which_are_no_part_of_its_parameters(connect, tmp_path):
    path = write_golden("B", tmp_path, extra=connector_tensors(), settings=SETTINGS)
    plain_folder = tmp_path / "plain"
    plain_folder.mkdir()
    backbone, plain = (load_backbone(str(place), frozenset(BOTH), dtype=torch.float32) for place in (path, write_golden("B", plain_folder)))
    given = features(length=16, words=3)
    context = backbone.connect(given)
    for name in BOTH:
        assert torch.equal(context.features[name], connect(given).features[name])
    assert set(backbone.connect(given, ["audio"]).features) == {"audio"}
    assert [name for name, _ in backbone.named_parameters()] == [name for name, _ in plain.named_parameters()]
    sound = load_backbone(str(path), frozenset({"audio"}), dtype=torch.float32)
    assert set(sound.connect(given).features) == {"audio"}


def test_a_backbone_of_a_folder_of_diffusers_comes_with_its_connectors(connect, tmp_path):
    stock_model("B").save_pretrained(tmp_path / "transformer")
    write_folder(connect, tmp_path / "connectors")
    backbone, given = load_backbone(str(tmp_path), frozenset(BOTH), dtype=torch.float32), features(length=16, words=3)
    for name in BOTH:
        assert torch.equal(backbone.connect(given).features[name], connect(given).features[name])


def test_their_parameters_are_counted_in_any_layout(connect, tmp_path):
    file = write_golden("B", tmp_path, extra=connector_tensors(), settings=SETTINGS)
    stock_model("B").save_pretrained(tmp_path / "model" / "transformer")
    write_folder(connect, tmp_path / "model" / "connectors")
    for modalities in (BOTH, ("audio",)):
        expected = sum(
            tensor.numel()
            for name, tensor in connector_tensors().items()
            if name.startswith(tuple(f"{PREFIX}{each}_" for each in modalities))
        )
        for model in (file, tmp_path / "model"):
            assert base_of(str(model)).connector_numbers(modalities) == expected


def test_their_fingerprint_is_that_of_their_weights_in_any_layout(connect, tmp_path):
    file = write_golden("B", tmp_path, extra=connector_tensors(), settings=SETTINGS)
    stock_model("B").save_pretrained(tmp_path / "model" / "transformer")
    stock(connect).to(torch.bfloat16).save_pretrained(tmp_path / "model" / "connectors")
    found = connectors_fingerprint(open_checkpoint(str(file)))
    assert found == connectors_fingerprint(open_checkpoint(str(tmp_path / "model")))
    changed = connector_tensors()
    changed[f"{PREFIX}audio_embeddings_connector.learnable_registers"][0, 0] += 1.0
    other, plain = tmp_path / "other", tmp_path / "plain"
    other.mkdir()
    plain.mkdir()
    assert found != connectors_fingerprint(open_checkpoint(str(write_golden("B", other, extra=changed, settings=SETTINGS))))
    assert connectors_fingerprint(open_checkpoint(str(write_golden("B", plain)))) == ""


def test_a_backbone_without_them_takes_connected_text_and_no_other(tmp_path):
    path = write_golden("B", tmp_path, extra=connector_tensors(), settings=SETTINGS)
    backbone = load_backbone(str(path), frozenset(BOTH), dtype=torch.float32, with_connectors=False)
    given = features(length=16, words=3)
    text = Text(given.features, given.mask, is_connected=True)
    assert backbone.connect(text) is text
    with pytest.raises(ConfigError) as caught:
        backbone.connect(given)
    assert str(caught.value) == (
        f'the base model "{path.name}" passes text through connectors, which this backbone does not have\n'
        "    Load the backbone with `load_backbone`, which reads the connectors."
    )


def test_names_in_a_checkpoint():
    assert to_original("transformer_blocks.0.attn1.norm_q.weight") == "transformer_1d_blocks.0.attn1.q_norm.weight"
    assert to_original("learnable_registers") == "learnable_registers"


@pytest.mark.parametrize("encoder", ["ltx-2.3/0123+dtype=float32", "", "another-encoder"])
def test_features_of_the_models_own_generation_or_of_an_unknown_one_are_taken(encoder):
    check_text_features(ModelInfo("ltx-2.3.safetensors", "2.3", "f", 48), encoder, "conditions")


@pytest.mark.parametrize(
    ("encoder", "told"), [("ltx-2.5/0123", "LTX-2.5"), ("ltx-2.0/0123", "LTX-2.0"), ("tiny-text-1-32x128", "the tiny model")]
)
def test_features_of_another_generation_are_refused_from_their_manifest(encoder, told):
    with pytest.raises(DataError) as caught:
        check_text_features(ModelInfo("ltx-2.3.safetensors", "2.3", "f", 48), encoder, "/data/conditions")
    assert str(caught.value) == (
        f"/data/conditions: these text features were made for {told}, but the model ltx-2.3.safetensors is LTX-2.3\n"
        "    Run `ltx preprocess` again with this model, into another folder or in place of these text features."
    )
