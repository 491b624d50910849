"""`--set` writes over the run file."""

from __future__ import annotations

from typing import Any

import pytest

from config.run_files import Load, Mistakes
from ltxcore.config.settings import apply_settings
from ltxcore.errors import ConfigError

HOW = '\n    Write --set key=value, such as --set optimization.steps=100 or --set output_dir="out".'


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("a=1", 1),
        ("a=1.5", 1.5),
        ("a=true", True),
        ('a="true"', "true"),
        ("a=bf16", "bf16"),
        ("a=some words", "some words"),
        ("a=", ""),
        ("a=x=y", "x=y"),
        ("a=/data/my set", "/data/my set"),
        ("a=1-2", "1-2"),
        ("a=1\nb = 2", "1\nb = 2"),
        ("a=[1, 2]", [1, 2]),
        ('a={ b = "c" }', {"b": "c"}),
        (" a = 1 ", 1),
    ],
)
def test_a_value_is_toml_and_text_where_it_is_none(setting: str, value: Any) -> None:
    data: dict[str, Any] = {}
    apply_settings(data, [setting])
    assert data == {"a": value}
    assert type(data["a"]) is type(value)


@pytest.mark.parametrize("key", ["a.0.b", "a[0].b", 'a.0."b"'])
def test_a_number_counts_entries_of_a_list(key: str) -> None:
    data = {"a": [{"b": 1}, {"b": 2}]}
    assert apply_settings(data, [f"{key}=3"]) == [("a", 0, "b")]
    assert data == {"a": [{"b": 3}, {"b": 2}]}


def test_tables_that_are_not_there_are_made() -> None:
    data: dict[str, Any] = {"a": {"x": 1}}
    apply_settings(data, ["a.b.c=1", "d.0=2"])
    assert data == {"a": {"x": 1, "b": {"c": 1}}, "d": {"0": 2}}


def test_the_last_setting_of_a_key_counts() -> None:
    data: dict[str, Any] = {}
    apply_settings(data, ["a=1", "a=2"])
    assert data == {"a": 2}


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("a", "has no value"),
        ("=1", '"" is not a key'),
        ("a..b=1", '"a..b" is not a key'),
        ("a.=1", '"a." is not a key'),
        ("a b=1", '"a b" is not a key'),
        ("list.2=1", "list has 2 entries, counted from 0; there is no 2"),
        ("list.x=1", "list has 2 entries, counted from 0; there is no x"),
        ("list.0.x=1", "list[0] is 1, not a table"),
        ("text.x=1", 'text is the text "t", not a table'),
        ("a=[1,", "the value is broken TOML: Invalid value (at end of document)"),
    ],
)
def test_a_setting_that_cannot_be_written_says_why(setting: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_settings({"list": [1, 2], "text": "t"}, [setting])
    assert str(caught.value) == f"--set {setting}: {what}{HOW}"


def test_all_settings_that_cannot_be_written_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        apply_settings({}, ["a", "b=1", "c"])
    assert str(caught.value) == f"--set a: has no value{HOW}\n--set c: has no value{HOW}"


def test_a_mistake_on_the_command_line_is_placed_there(mistakes: Mistakes, minimal: str) -> None:
    settings = ("training_strategy.audio.latents_dir=3", "lora={ rank = 0 }")
    assert mistakes("sede = 1\n" + minimal, *settings) == (
        "--set: lora.rank: must be at least 1, not 0\n"
        '--set: training_strategy.audio.latents_dir: must be text, not 3\n    Write "3", in quotes.\n'
        'run.toml:1: sede: there is no such key\n    Did you mean "seed"?'
    )


def test_a_run_is_changed_by_settings(load: Load, minimal: str) -> None:
    conditions = 'training_strategy.audio.conditions=[{type="mask", mask_dir="m"}]'
    config = load(
        minimal, conditions, "training_strategy.audio.conditions.0.probability=0.5", "optimization.steps=9", "output_dir=/tmp/x"
    ).config
    assert config.training_strategy.audio.conditions[0].probability == 0.5
    assert (config.optimization.steps, str(config.output_dir)) == (9, "/tmp/x")
