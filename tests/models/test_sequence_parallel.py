"""Tokens are divided into equal parts, and what a module sees follows from its name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers.golden_models import BOTH
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora
from ltxcore.models.sequence_parallel import Division, SequenceGroup, TokenDropout, divide_tokens, dropping_by_token, fetches_keys, seen_by


def divisions(tokens: int, size: int) -> list[Division]:
    return [Division(tokens, SequenceGroup(rank, size, None)) for rank in range(size)]


def test_every_process_has_equally_many_tokens_and_the_last_one_is_repeated() -> None:
    tokens = torch.arange(5)[None]
    assert [each.part(tokens).tolist() for each in divisions(5, 4)] == [[[0, 1]], [[2, 3]], [[4, 4]], [[4, 4]]]
    assert [each.part(tokens).tolist() for each in divisions(1, 2)] == [[[0]], [[0]]]
    assert [each.part(torch.arange(4)[None]).tolist() for each in divisions(4, 2)] == [[[0, 1]], [[2, 3]]]


def test_keys_are_fetched_where_this_takes_fewer_bytes_than_exchanging_heads() -> None:
    """The bytes of both ways, as in docs/explanation/arithmetic.md, for numbers of one byte and a width of one."""
    for queries, keys, size in [(53_680, 500, 8), (500, 53_680, 8), (12, 16, 2), (13, 13, 2), (100, 99, 2), (100, 34, 4), (100, 33, 4)]:
        exchanging, fetching = (2 * queries + 2 * keys) / size, 2 * keys
        assert fetches_keys(queries, keys, size) == (fetching < exchanging)


def test_the_tokens_that_a_module_sees_follow_from_its_name() -> None:
    names = {
        "video": ["attn1.to_q", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_out.0", "ff.net.2", "audio_to_video_attn.to_q",
                  "audio_to_video_attn.to_out.0", "video_to_audio_attn.to_k", "video_to_audio_attn.to_v"],
        "audio": ["audio_attn1.to_k", "audio_attn2.to_q", "audio_ff.net.0.proj", "video_to_audio_attn.to_q", "video_to_audio_attn.to_out.0",
                  "audio_to_video_attn.to_k", "audio_to_video_attn.to_v"],
        None: ["attn2.to_k", "attn2.to_v", "audio_attn2.to_k", "audio_attn2.to_v"],
    }  # fmt: skip
    for modality, modules in names.items():
        assert {seen_by(f"transformer_blocks.3.{name}") for name in modules} == {modality}
    assert [seen_by(name) for name in ("proj_in", "audio_proj_out", "time_embed.linear", "caption_projection.linear_1")] == [
        "video",
        "audio",
        None,
        None,
    ]


def test_every_module_of_a_block_sees_as_many_tokens_as_its_name_says() -> None:
    """Of a run of the model itself, in which pictures, sound and text differ in number."""
    from helpers.golden_models import random_input

    backbone, counts = load_backbone("tiny-untrained", BOTH, dtype=torch.float32), {"video": 13, "audio": 7, None: 16}
    seen: dict[str, int] = {}
    for name, module in backbone.transformer.named_modules():
        if isinstance(module, nn.Linear) and name.startswith(("transformer_blocks.0", "proj", "audio_proj")):
            module.register_forward_pre_hook(lambda _, args, name=name: seen.__setitem__(name, args[0].shape[1]))
    backbone(random_input("video", 13).to("cpu"), random_input("audio", 7).to("cpu"))
    assert len(seen) > 20
    assert seen == {name: counts[seen_by(name)] for name in seen}


def test_dropout_of_parts_drops_what_dropout_of_all_tokens_drops() -> None:
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    dropout = TokenDropout(0.5, "video")
    torch.manual_seed(2)
    whole, after = dropout(x), torch.rand(1)
    for division in divisions(5, 2):
        torch.manual_seed(2)
        with dropping_by_token({"video": division}):
            torch.testing.assert_close(dropout(division.part(x)), division.part(whole))
        assert torch.rand(1) == after  # and so does the next one
    with dropping_by_token({"video": divisions(5, 2)[0]}):
        with pytest.raises(ValueError, match="dropout of video was given 5 tokens, but this process has 3"):
            dropout(x)
        assert dropout.eval()(x) is x


def test_only_dropout_of_divided_tokens_is_replaced() -> None:
    backbone = load_backbone("tiny-untrained", BOTH, dtype=torch.float32)
    add_lora(backbone, rank=4, alpha=4, dropout=0.1, target_modules=["to_q", "to_k"], modalities=BOTH)
    group = SequenceGroup(0, 2, None)
    divide_tokens(backbone.transformer, group)
    assert backbone.transformer.sequence_group is group
    block = backbone.transformer.transformer_blocks[0]
    replaced = {name: module.modality for name, module in block.named_modules() if isinstance(module, TokenDropout)}
    own = {name.partition(".lora_dropout")[0]: modality for name, modality in replaced.items()}
    assert own == {name: seen_by(f"transformer_blocks.0.{name}") for name in own}
    assert {"attn1.to_q", "attn2.to_q", "audio_to_video_attn.to_k"} <= own.keys()
    assert not {"attn2.to_k", "audio_attn2.to_k"} & own.keys()
