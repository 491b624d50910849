"""Errors say where, what, and what to do; one error may hold several. What is a typo of a word, and what is merely like it."""

from __future__ import annotations

import pickle

import pytest

from ltxcore.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    LtxError,
    PluginError,
    Problem,
    distance,
    listed,
    meant,
    suggestion,
    typos,
)


def test_an_error_says_where_what_and_what_to_do() -> None:
    error = ConfigError("is missing", where="run.toml:3: model.model_path", remedy='Write "tiny", or a path.')
    assert str(error) == 'run.toml:3: model.model_path: is missing\n    Write "tiny", or a path.'


def test_an_error_that_knows_neither_place_nor_remedy_says_what_alone() -> None:
    assert str(DataError("the file is empty")) == "the file is empty"


@pytest.mark.parametrize("kind", [ConfigError, DataError, PluginError, CheckpointError])
def test_every_kind_is_caught_as_an_ltx_error(kind: type[LtxError]) -> None:
    with pytest.raises(LtxError) as caught:
        raise kind("no")
    assert type(caught.value) is kind


def test_several_problems_are_told_one_below_the_other() -> None:
    error = DataError.of([Problem("is empty", "a"), Problem("is cut off", "b", "Copy it again.")])
    assert type(error) is DataError
    assert str(error) == "a: is empty\nb: is cut off\n    Copy it again."


def test_an_error_without_a_problem_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match=r"^an error needs at least one problem$"):
        ConfigError.of([])


def test_a_place_is_filled_in_only_where_none_is_known() -> None:
    error = DataError.of([Problem("is empty"), Problem("is cut off", "b")]).at("a")
    assert type(error) is DataError
    assert str(error) == "a: is empty\nb: is cut off"


def test_an_error_survives_the_way_from_another_process() -> None:
    error = ConfigError.of([Problem("is empty", "a", "Fill it."), Problem("is cut off", "b")])
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - bytes of our own
    assert type(back) is ConfigError
    assert back.problems == error.problems
    assert str(back) == str(error)


def test_a_long_list_is_cut_and_says_how_many_more_there_are() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(iter("abcdefg")) == "a, b, c, d, e and 2 more"
    assert listed("abcd", limit=2) == "a, b and 2 more"


def test_a_suggestion_is_what_a_name_is_a_typo_of_or_all_there_are() -> None:
    assert suggestion("prefx", ["suffix", "prefix"]) == 'Did you mean "prefix"?'
    assert suggestion("to_kk", ["to_k", "to_q"]) == 'Did you mean "to_k"?'
    assert suggestion("to_x", ["to_k", "to_q"]) == 'Did you mean "to_k" or "to_q"?'
    assert suggestion("bananas", ["suffix", "prefix"]) == "Known: prefix, suffix."
    assert suggestion("ema_decay", ["weight_decay", "betas"]) == "Known: betas, weight_decay."
    assert suggestion("bananas", []) == "None is known."


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
