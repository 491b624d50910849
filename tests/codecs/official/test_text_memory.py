"""A text encoder in 8 bits."""

import torch

from helpers.official_text import GEMMA3, language_model
from ltxcore.codecs.official.text_memory import in_8_bit


def test_eight_bit_layers_give_nearly_the_same_hidden_states_and_the_rest_keeps_its_dtype():
    ids = torch.tensor([[2, 4, 5, 7, 8]])
    exact = language_model(GEMMA3)
    small = language_model(GEMMA3).to(torch.bfloat16)
    in_8_bit(small, "cpu")
    expected = exact(input_ids=ids, output_hidden_states=True).hidden_states
    found = small(input_ids=ids, output_hidden_states=True).hidden_states
    assert {str(layer.mlp.up_proj.weight.dtype) for layer in small.layers} == {"torch.int8"}
    assert small.norm.weight.dtype == small.embed_tokens.weight.dtype == torch.bfloat16
    for one, other in zip(expected, found, strict=True):
        assert float((other.float() - one).norm() / one.norm()) < 0.02
