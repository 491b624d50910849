"""Errors say where, what, and what to do; one error may hold several."""

from __future__ import annotations

import pickle

import pytest

from ltxcore.errors import CheckpointError, ConfigError, DataError, LtxError, PluginError, Problem, listed, suggestion


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
