"""What is a typo of a word, and what is merely like it."""

from __future__ import annotations

import pytest

from ltxcore.spelling import distance, meant, typos


@pytest.mark.parametrize(
    ("typed", "name", "count"),
    [
        ("learning_rate", "learning_rate", 0),
        ("learningRate", "learning_rate", 0),
        ("learning-rate", "learning_rate", 0),
        ("laerning_rate", "learning_rate", 1),
        ("learning_rates", "learning_rate", 1),
        ("lerning_rte", "learning_rate", 2),
        ("lra", "lora", 1),
        ("flexibel", "flexible", 1),
        ("gradient_acumulation_step", "gradient_accumulation_steps", 2),
        ("hd", "hdr", 1),
        # merely alike
        ("ema_decay", "weight_decay", None),
        ("max_value", "min_value", None),
        ("audio_masks", "audio_latents", None),
        ("constant_with_warmup", "cosine_with_restarts", None),
        ("adamw4bit", "adamw8bit", None),
        ("ltx-2.4-22b", "ltx-2.5-22b", None),
        ("clip2.mp4", "clip3.mp4", None),
        ("fp16", "bf16", None),
        ("prodigy", "polynomial", None),
        ("mask_dir", "mask", None),
        ("meks", "mask", None),
        ("p", "q", None),
    ],
)
def test_a_typo_is_a_letter_and_not_another_word_or_number(typed: str, name: str, count: int | None) -> None:
    assert typos(typed, name) == count


def test_the_names_with_the_fewest_typos_are_meant() -> None:
    assert meant("to_kk", ["to_k", "to_q", "to_out"]) == ["to_k"]
    assert meant("to_x", ["to_q", "to_k", "to_out"]) == ["to_k", "to_q"]
    assert meant("bananas", ["to_q"]) == []


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("", "", 0), ("ab", "ba", 1), ("abc", "abd", 1), ("kitten", "sitting", 3), ("abcd", "badc", 2), ("a", "abcde", 3)],
)
def test_a_distance_counts_letters_and_stops_at_its_limit(one: str, other: str, expected: int) -> None:
    assert distance(one, other, 2) == expected
