"""Text encoders that are not whole, not known, or not the model's: each refused with a sentence before a weight is read."""

import json
import re
import shutil

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

from helpers.official_text import GEMMA3, gemma_of, projections, write_gemma3, write_model, write_packed
from ltxcore.codecs.official import text
from ltxcore.codecs.official.metadata import check_gemma
from ltxcore.codecs.official.text import Placement
from ltxcore.errors import CheckpointError, ConfigError

ELSEWHERE = "Set text_encoder_path under [model] to the text encoder that belongs to the checkpoint."


@pytest.fixture
def gemma(tmp_path):
    return write_gemma3(tmp_path / "gemma")


@pytest.fixture
def packed(tmp_path):
    return write_packed(tmp_path / "packed.safetensors")


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "ltx-2.3.safetensors", "2.3")


@pytest.fixture
def split(tmp_path):
    return write_model(tmp_path / "ltx-2.5.safetensors", "2.5", {}, gemma_source_checkpoint=gemma_of("gemma4-tiny-ltx-v1"))


def refusal(*arguments, error=CheckpointError):
    with pytest.raises(error) as caught:
        text.load(*arguments)
    return str(caught.value)


def rewrite(path, change):
    """Change the tensors and metadata of a file in place."""
    with safe_open(path, framework="pt") as file:
        tensors, metadata = {name: file.get_tensor(name).clone() for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    change(tensors, metadata)
    save_file(tensors, path, metadata=metadata or None)


def configure(folder, **told):
    place = folder / "config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | told))


def test_a_checkpoint_without_a_text_encoder_asks_for_one(model):
    assert refusal(model, error=ConfigError) == (
        f"{model}: the file of this checkpoint does not contain the text encoder\n"
        "    Set text_encoder_path under [model] to the folder of Gemma 3 (LTX-2 and 2.3) or to the text encoder's file (2.5)."
    )


def test_a_missing_tensor_is_named(model, gemma):
    rewrite(gemma / "model.safetensors", lambda tensors, _: tensors.pop("language_model.model.layers.1.mlp.up_proj.weight"))
    assert refusal(model, gemma) == f"{gemma}: 1 tensor of the text encoder is missing: language_model.model.layers.1.mlp.up_proj.weight"


def test_an_unexpected_tensor_is_named_but_towers_are_left_out(model, gemma):
    rewrite(
        gemma / "model.safetensors", lambda tensors, _: tensors.update({"language_model.model.layers.3.mlp.up_proj.weight": torch.zeros(1)})
    )
    assert refusal(model, gemma) == f"{gemma}: 1 tensor is not part of the text encoder: language_model.model.layers.3.mlp.up_proj.weight"


def test_another_size_than_the_configuration_says_is_refused(model, gemma):
    told = GEMMA3["text_config"] | {"num_hidden_layers": 2, "layer_types": ["sliding_attention"] * 2}
    configure(gemma, text_config=told)
    said = refusal(model, gemma)
    assert re.fullmatch(
        rf"{re.escape(str(gemma))}: 13 tensors are not part of the text encoder: (language_model\.model\.layers\.2\.\S+,? ){{5}}and 8 more",
        said,
    )


def test_a_text_encoder_that_is_no_gemma_is_refused(model, gemma):
    configure(gemma, model_type="llama")
    assert refusal(model, gemma) == f"{gemma}: this text encoder is llama; LTX-2 and 2.3 use Gemma 3, and 2.5 uses its own Gemma 4"


def test_a_gemma_that_transformers_does_not_have_asks_for_a_newer_one(split, packed, monkeypatch):
    known = {key: value for key, value in transformers.CONFIG_MAPPING.items() if not key.startswith("gemma4")}
    monkeypatch.setattr("transformers.models.auto.configuration_auto.CONFIG_MAPPING", known)
    assert refusal(split, packed) == (
        f"{packed}: this text encoder is gemma4_unified, which the installed transformers {transformers.__version__} does not support\n"
        "    Install a newer version: pip install --upgrade transformers"
    )


def test_a_folder_without_a_tokenizer_is_refused(model, gemma):
    (gemma / "tokenizer.json").unlink()
    assert refusal(model, gemma) == f"{gemma}: this text encoder has no tokenizer.json\n    Download the complete folder."


def test_what_is_no_tokenizer_is_refused(model, gemma):
    (gemma / "tokenizer.json").write_text("{}")
    assert refusal(model, gemma) == f"{gemma}: is not a tokenizer\n    Download or copy the file again."


def test_a_tokenizer_with_more_tokens_than_the_text_encoder_is_refused(model, gemma):
    told = json.loads((gemma / "tokenizer.json").read_text())
    told["model"]["vocab"] |= {f"word{number}": number for number in range(14, 40)}
    (gemma / "tokenizer.json").write_text(json.dumps(told))
    assert (
        refusal(model, gemma)
        == f"{gemma}: this tokenizer has 40 tokens, but the text encoder beside it has 16; the two do not belong together"
    )


def test_a_text_encoder_that_names_no_first_token_is_refused(model, gemma):
    configure(gemma, text_config=GEMMA3["text_config"] | {"bos_token_id": None})
    assert refusal(model, gemma) == f"{gemma}: the configuration of the text encoder does not say which token is bos_token_id"


def test_a_file_that_is_no_packed_text_encoder_is_refused(model):
    assert refusal(model, model) == (
        f'{model}: this file is not a packed text encoder: it has neither "spiece_model" nor "gemma_config" with "tokenizer_json"\n'
        "    Set text_encoder_path under [model] to the folder of Gemma 3 (LTX-2 and 2.3) or to the text encoder's file (2.5)."
    )


def test_a_split_checkpoint_with_a_folder_of_gemma_has_no_projections(tmp_path, gemma):
    model = write_model(tmp_path / "transformer.safetensors", "2.3", {})
    assert refusal(model, gemma) == (
        f"{gemma}: the projection of text to features is missing: there is no tensor text_embedding_projection.video_aggregate_embed.weight\n"
        "    Under [model], set model_path to the checkpoint and text_encoder_path to its own text encoder, or connectors_path to the file of the connectors and projections."
    )


def test_half_of_the_projections_is_refused(tmp_path, gemma):
    tensors = {name: tensor for name, tensor in projections("2.3").items() if not name.endswith("audio_aggregate_embed.bias")}
    model = write_model(tmp_path / "m.safetensors", "2.3", tensors)
    assert (
        refusal(model, gemma)
        == f"{model}: 1 tensor of the text projection is missing: text_embedding_projection.audio_aggregate_embed.bias"
    )


def test_projections_for_another_size_of_text_encoder_are_refused(tmp_path, gemma):
    tensors = {name: tensor[:, 1:].clone() if tensor.ndim == 2 else tensor for name, tensor in projections("2.3").items()}
    model = write_model(tmp_path / "m.safetensors", "2.3", tensors)
    assert refusal(model, gemma) == (
        f"{model}: the projection text_embedding_projection.video_aggregate_embed takes 95 values per token, but the text encoder makes 4 x 24\n    {ELSEWHERE}"
    )


def test_projections_that_the_connectors_do_not_take_are_refused(tmp_path, gemma):
    tensors = {name: tensor[1:] if "audio" in name else tensor for name, tensor in projections("2.3").items()}
    model = write_model(tmp_path / "m.safetensors", "2.3", tensors)
    assert refusal(model, gemma) == (
        f"{model}: the projection for audio makes 31 values per token, but the checkpoint's connectors take 32\n"
        "    Use a checkpoint and a text encoder of the same release."
    )


@pytest.mark.parametrize(
    ("version", "other", "told", "kind"), [("2.0", "2.3", "true", "for both modalities"), ("2.3", "2.0", "false", "for each modality")]
)
def test_projections_of_another_version_than_the_configuration_says_are_refused(tmp_path, gemma, version, other, told, kind):
    model = write_model(tmp_path / "m.safetensors", other, projections(version))
    assert refusal(model, gemma) == (
        f"{model}: the configuration says caption_proj_before_connector = {told}, which does not match a projection {kind}\n"
        "    Use a checkpoint and a text encoder of the same release."
    )


def test_a_checkpoint_of_gemma_3_refuses_gemma_4(model, packed):
    assert refusal(model, packed) == (
        f"{packed}: the checkpoint ltx-2.3.safetensors was trained with Gemma 3, but this text encoder is gemma4_unified\n"
        "    Set text_encoder_path under [model] to the folder of Gemma 3 12B."
    )


@pytest.mark.parametrize(
    ("version", "told"), [("gemma4-12b-ltx-v2", "says it is gemma4-12b-ltx-v2"), (None, "does not say which version it is")]
)
def test_a_checkpoint_refuses_another_text_encoder_than_the_one_it_names(split, tmp_path, version, told):
    packed = write_packed(tmp_path / "other.safetensors", gemma_version=version)
    assert refusal(split, packed) == (
        f"{packed}: the checkpoint ltx-2.5.safetensors was trained with the text encoder gemma4-tiny-ltx-v1, but this one {told}\n"
        "    Set text_encoder_path under [model] to the file of gemma4-tiny-ltx-v1."
    )


def test_a_checkpoint_since_2_4_that_names_no_text_encoder_refuses_one_that_names_itself(tmp_path, packed):
    model = write_model(tmp_path / "ltx-2.4.safetensors", "2.4", {})
    assert refusal(model, packed) == (
        f"{packed}: this text encoder is gemma4-tiny-ltx-v1, but the checkpoint ltx-2.4.safetensors of release 2.4 does not name the text encoder that it was trained with\n"
        "    Use the official checkpoint, whose metadata names the text encoder."
    )


def test_where_neither_names_itself_there_is_a_warning(tmp_path):
    model = write_model(tmp_path / "ltx-2.4.safetensors", "2.4", {})
    packed = write_packed(tmp_path / "unnamed.safetensors", gemma_version=None)
    said = f"neither the checkpoint ltx-2.4.safetensors nor the text encoder {packed} says which text encoder the checkpoint was trained with; they may not match"
    with pytest.warns(UserWarning, match=re.escape(said)):
        text.load(model, packed)


def test_a_checkpoint_without_a_release_takes_gemma_3(tmp_path, gemma):
    from ltxcore.headers import read_file

    model = write_model(tmp_path / "m.safetensors", "2.3", None, model_version="")
    check_gemma(read_file(model), GEMMA3, str(gemma))


def test_a_diffusers_folder_without_a_text_encoder_is_refused(tmp_path):
    (tmp_path / "vae").mkdir()
    assert (
        refusal(tmp_path)
        == f'{tmp_path}: this folder has neither a folder "text_encoder" nor a config.json\n    Download the complete folder.'
    )


def test_weights_in_8_bits_are_not_offloaded_as_well(model, gemma):
    assert refusal(model, gemma, Placement("cuda", in_8_bit=True, offload=True), error=ConfigError) == (
        "a text encoder with 8-bit weights cannot also be offloaded\n    Choose one of the two settings."
    )


def test_a_partly_downloaded_text_encoder_is_refused(model, gemma):
    shutil.move(gemma / "model.safetensors", gemma / "model-00001-of-00002.safetensors")
    (gemma / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})
    )
    assert refusal(model, gemma) == (
        f"{gemma}: lacks 1 of the 2 files that model.safetensors.index.json names: model-00002-of-00002.safetensors\n"
        "    Download the rest of the folder."
    )
