import json

import torch

from ltxcore.models.load_base import load_backbone
from ltxcore.models.tiny_model import TINY, fresh_tensor, tiny_metadata

BOTH = frozenset({"video", "audio"})


def weights(modalities=BOTH, seed=0, dtype=torch.float32):
    backbone = load_backbone("tiny-untrained", frozenset(modalities), dtype=dtype, seed=seed)
    return dict(backbone.transformer.named_parameters())


def test_the_tiny_model_has_three_and_a_half_million_parameters_and_fits_in_nine_megabytes_of_bf16():
    count = sum(p.numel() for p in weights().values())
    assert 3.3e6 < count < 3.5e6
    assert 2 * count < 9e6


def test_fresh_weights_depend_on_the_seed_and_on_nothing_else():
    torch.manual_seed(1)
    first = weights()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again, other = weights(), weights(seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["proj_in.weight"], other["proj_in.weight"])


def test_fresh_weights_of_one_modality_are_those_of_the_whole_model():
    whole = weights()
    for modality in BOTH:
        part = weights({modality})
        assert 0 < len(part) < len(whole)
        assert all(torch.equal(value, whole[name]) for name, value in part.items())


def test_fresh_weights_are_spread_as_those_of_diffusers():
    from diffusers import LTX2VideoTransformer3DModel

    from ltxcore.models.transformer_settings import diffusers_arguments

    torch.manual_seed(0)
    theirs = dict(LTX2VideoTransformer3DModel(**diffusers_arguments(TINY, "tiny")).named_parameters())
    ours = weights()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value.shape == theirs[name].shape
        torch.testing.assert_close(value.std(correction=0), theirs[name].std(correction=0), rtol=0.35, atol=1e-6, msg=name)


def test_norms_start_at_one_and_the_mark_of_key_frames_at_zero():
    shapes = {"keyframes_abs_pos_embedding": (1, 8), "transformer_blocks.0.attn1.norm_q.weight": (8,)}
    assert torch.equal(fresh_tensor("keyframes_abs_pos_embedding", shapes, 0), torch.zeros(1, 8))
    assert torch.equal(fresh_tensor("transformer_blocks.0.attn1.norm_q.weight", shapes, 0), torch.ones(8))


def test_its_metadata_says_its_configuration():
    assert json.loads(tiny_metadata()["config"]) == {"transformer": TINY}
    assert tiny_metadata()["generation"] == "tiny"


def test_weights_come_in_the_dtype_that_is_asked_for():
    assert {p.dtype for p in weights(dtype=torch.bfloat16).values()} == {torch.bfloat16}
