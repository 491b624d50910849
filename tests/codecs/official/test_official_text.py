"""The text encoder: captions to features, through Gemma 3 and Gemma 4, against transformers and diffusers used directly."""

import pytest
import torch

from helpers.official_text import (
    GEMMA3,
    GEMMA4,
    HIDDEN,
    LAYERS,
    WIDTHS,
    WORDS,
    gemma_of,
    language_model,
    projections,
    write_gemma3,
    write_model,
    write_packed,
)
from ltxcore.codecs.official import text
from ltxcore.codecs.official.text import Placement

CAPTION = "  a red disc rises and hums high\n"
EXACT = Placement(dtype=torch.float32)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Model and text encoder by generation; a folder of diffusers too."""
    root = tmp_path_factory.mktemp("text")
    gemma = write_gemma3(root / "gemma-3")
    packed = write_packed(root / "gemma4-with-proj.safetensors")
    return {
        "2.0": (write_model(root / "ltx-2.safetensors", "2.0"), gemma),
        "2.3": (write_model(root / "ltx-2.3.safetensors", "2.3"), gemma),
        "2.5": (write_model(root / "transformer.safetensors", "2.5", {}, gemma_source_checkpoint=gemma_of("gemma4-tiny-ltx-v1")), packed),
        "folder": (write_diffusers(root / "folder"), None),
    }


def connectors(version):
    """diffusers' own module, which extracts features before it connects them; its projections are those of the files."""
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors

    split = version != "2.0"
    heads = {"video": (4, 16), "audio": (4, 8)} if split else {"video": (2, 12), "audio": (2, 12)}
    made = LTX2TextConnectors(
        caption_channels=HIDDEN, text_proj_in_factor=LAYERS + 1, per_modality_projections=split, proj_bias=split, rope_type="split",
        video_hidden_dim=WIDTHS["video"], audio_hidden_dim=WIDTHS["audio"],
        **{f"{name}_connector_num_attention_heads": count for name, (count, _) in heads.items()},
        **{f"{name}_connector_attention_head_dim": size for name, (_, size) in heads.items()},
        video_connector_num_layers=1, audio_connector_num_layers=1,
    )  # fmt: skip
    for stored, tensor in projections(version).items():
        name, kind = stored.split(".")[1:]
        own = {"aggregate_embed": "text_proj_in"}.get(name, name.replace("aggregate_embed", "text_proj_in"))
        getattr(getattr(made, own), kind).data.copy_(tensor)
    return made.eval().requires_grad_(False)


def write_diffusers(folder):
    write_gemma3(folder / "text_encoder", prefix="model.language_model.")
    (folder / "tokenizer").mkdir()
    (folder / "text_encoder" / "tokenizer.json").rename(folder / "tokenizer" / "tokenizer.json")
    connectors("2.3").save_pretrained(folder / "connectors")
    return folder


def direct(version, numbers, told):
    """Features at full length, left-padded, as diffusers makes them of all hidden states."""
    ids = torch.tensor([[0] * (1024 - len(numbers)) + numbers])
    mask = (torch.arange(1024) >= 1024 - len(numbers)).long()[None]
    states = language_model(told)(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    assert len(states) == LAYERS + 1
    module, seen = connectors(version), {}
    for name in ("video", "audio"):
        getattr(module, f"{name}_connector").register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0]}))
    module(torch.stack(states, dim=-1), mask)
    return seen


def numbers_of(caption):
    return [WORDS.index(word) for word in ("<bos>", *caption.split())]


@pytest.mark.parametrize("version", ["2.0", "2.3", "2.5", "folder"])
def test_features_are_those_of_the_words_of_a_padded_caption(places, version):
    encoder = text.load(*places[version], EXACT)
    numbers = numbers_of(CAPTION)
    expected = direct({"folder": "2.3"}.get(version, version), numbers, GEMMA4 if version == "2.5" else GEMMA3)
    (found,) = encoder.encode([CAPTION])
    assert set(found) == {"video", "audio"}
    for name, features in found.items():
        assert (features.shape, features.device.type) == ((len(numbers), HIDDEN if version == "2.0" else WIDTHS[name]), "cpu")
        torch.testing.assert_close(features, expected[name][0, -len(numbers) :], rtol=1e-4, atol=2e-5)
    assert encoder.length == 1024


def test_pictures_and_sound_share_the_features_of_the_first_version(places):
    (found,) = text.load(*places["2.0"], EXACT).encode(["a disc"])
    assert torch.equal(found["video"], found["audio"])


@pytest.mark.parametrize("version", ["2.0", "2.3", "2.5"])
def test_captions_that_are_encoded_together_have_the_features_of_single_ones(places, version):
    encoder = text.load(*places[version], EXACT)
    captions = [CAPTION, "", "a disc", "red blue " * 20]
    together = encoder.encode(captions)
    assert [features["video"].shape[0] for features in together] == [8, 1, 3, 41]
    for caption, features in zip(captions, together, strict=True):
        (alone,) = encoder.encode([caption])
        for name in ("video", "audio"):
            torch.testing.assert_close(features[name], alone[name], rtol=1e-5, atol=1e-5)


def test_captions_that_are_encoded_together_are_padded_to_the_longest_of_them(places):
    encoder, lengths = text.load(*places["2.3"], EXACT), []
    encoder.encode(["a disc"])
    encoder._model.module.register_forward_pre_hook(lambda _, __, told: lengths.append(tuple(told["input_ids"].shape)), with_kwargs=True)
    encoder.encode(["a disc"])
    encoder.encode([CAPTION, "a disc"])
    assert lengths == [(1, 1024), (2, 8)]


def test_captions_that_are_encoded_together_in_bf16_are_as_near_as_rounding(places):
    encoder = text.load(*places["2.3"], Placement())
    captions = [CAPTION, "a disc", "red blue " * 20]
    for caption, features in zip(captions, encoder.encode(captions), strict=True):
        (alone,) = encoder.encode([caption])
        for name in ("video", "audio"):
            assert float((features[name].float() - alone[name].float()).norm() / alone[name].float().norm()) < 0.02


def test_a_long_caption_is_cut_at_1024_tokens_of_which_the_first_begins_it(places):
    encoder = text.load(*places["2.3"], EXACT)
    ids, mask = encoder._tokenizer("red blue " * 1000)
    assert (ids.shape, int(mask.sum()), ids[0, :3].tolist()) == ((1, 1024), 1024, [2, 5, 6])


def test_a_caption_is_stripped_led_by_its_first_token_not_ended_and_padded_on_the_left(places):
    ids, mask = text.load(*places["2.3"], EXACT)._tokenizer(CAPTION)
    assert ids[0, -8:].tolist() == numbers_of(CAPTION) == [2, 4, 5, 7, 8, 10, 11, 13]
    assert ids[0, :-8].eq(0).all()
    assert mask[0].tolist() == [0] * 1016 + [1] * 8


def test_weights_are_read_at_the_first_caption(places):
    encoder = text.load(*places["2.5"], EXACT)
    assert all(tensor.is_meta for tensor in encoder._model.module.parameters())
    encoder.encode(["a disc"])
    assert not any(tensor.is_meta for tensor in encoder._model.module.parameters())


def test_bf16_features_are_stored_as_bf16_and_are_near_the_exact_ones(places):
    (exact,), (rounded,) = (text.load(*places["2.3"], place).encode([CAPTION]) for place in (EXACT, Placement()))
    for name, features in rounded.items():
        assert features.dtype == torch.bfloat16
        assert float((features.float() - exact[name]).norm() / exact[name].norm()) < 0.05


def test_an_offloaded_encoder_gives_the_same_features_and_keeps_its_weights_where_they_were(places):
    plain, offloaded = (
        text.load(*places["2.5"], EXACT),
        text.load(*places["2.5"], Placement(dtype=torch.float32, offload=True)),
    )
    expected = plain.encode([CAPTION])[0]
    found = offloaded.encode([CAPTION])[0]
    before = [tensor.data_ptr() for tensor in offloaded._model.module.parameters()]
    again = offloaded.encode([CAPTION])[0]
    assert [tensor.data_ptr() for tensor in offloaded._model.module.parameters()] == before
    for name in expected:
        assert torch.equal(expected[name], found[name])
        assert torch.equal(found[name], again[name])


@pytest.mark.parametrize("version", ["2.0", "2.3", "2.5"])
def test_an_encoder_with_8_bit_weights_gives_nearly_the_same_features_under_a_fingerprint_of_its_own(places, version):
    plain, small = (text.load(*places[version], Placement(dtype=torch.float32, in_8_bit=in_8_bit)) for in_8_bit in (False, True))
    assert small.fingerprint == f"{plain.fingerprint}+bits=8"
    expected, found = plain.encode([CAPTION])[0], small.encode([CAPTION])[0]
    for name, features in expected.items():
        assert 0 < float((found[name] - features).norm() / features.norm()) < 0.05


def test_the_fingerprint_begins_with_the_generation_that_reads_the_features(places, tmp_path):
    prints = {version: text.load(*place, EXACT).fingerprint for version, place in places.items()}
    assert [prints[version].partition("/")[0] for version in ("2.0", "2.3", "2.5", "folder")] == [
        "ltx-2.0",
        "ltx-2.3",
        "ltx-2.5",
        "ltx-2.3",
    ]
    usual = text.load(*places["2.3"]).fingerprint
    assert prints["2.3"] == f"{usual}+dtype=float32"
    assert text.load(*places["2.3"], Placement(offload=True)).fingerprint == usual
    other = write_model(tmp_path / "tuned.safetensors", "2.3", projections("2.3", seed=6))
    assert text.load(other, places["2.3"][1], EXACT).fingerprint != prints["2.3"]
    assert text.load(write_model(tmp_path / "same.safetensors", "2.3"), places["2.3"][1], EXACT).fingerprint == prints["2.3"]


@pytest.mark.parametrize("prefix", ["", "model.", "language_model.", "model.language_model."])
def test_the_language_model_is_found_under_any_of_its_names(places, tmp_path, prefix):
    model = places["2.3"][0]
    expected = text.load(*places["2.3"], EXACT).encode(["a disc"])[0]["video"]
    assert torch.equal(text.load(model, write_gemma3(tmp_path / "gemma", prefix=prefix), EXACT).encode(["a disc"])[0]["video"], expected)


def test_the_real_text_encoders_build_without_memory():
    from transformers import AutoConfig, AutoModel

    from ltxcore.codecs.official.modules import empty

    common = {"hidden_size": 3840, "intermediate_size": 15360, "num_hidden_layers": 48, "num_attention_heads": 16, "vocab_size": 262208}
    gemma3 = {**common, "model_type": "gemma3_text", "num_key_value_heads": 8, "head_dim": 256}
    gemma4 = {
        **common, "model_type": "gemma4_unified_text", "vocab_size": 262144, "num_key_value_heads": 8, "num_global_key_value_heads": 1,
        "attention_k_eq_v": True,
    }  # fmt: skip
    for told in (gemma3, gemma4):
        module = empty(lambda told=told: AutoModel.from_config(AutoConfig.for_model(**told)))
        assert all(tensor.is_meta for tensor in module.parameters())
        assert 11.5e9 < sum(tensor.numel() for tensor in module.parameters()) < 12.5e9
