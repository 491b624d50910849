"""The smallest changes of a run file's text: comments, order and all other lines stay, or the change is refused."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from ltxcore.api import ConfigError
from ltxcore.api.config import parsed_toml
from ltxplugins.studio.run_file.editing import literal_of, with_entry, with_value, without

TEXT = """\
# Text to video.
output_dir = "outputs/t2v"

[model]
model_path = "tiny"                # the real model: "/models/ltx"

[lora]
rank = 16                          # capacity
target_modules = [
  "to_k",  # keys
  "to_q",
  "to_v",
]

[training_strategy]
name = "flexible"

[training_strategy.video]
is_generated = true
conditions = [{ type = "first_frame", probability = 0.5 }]  # half of them

[training_strategy.audio]
is_generated = true

[[validation.samples]]
prompt = "a cat"

[[validation.samples]]
prompt = "a dog"

[data]
dataset = "media"
"""


def difference(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if line[:2] not in ("--", "++", "@@")]


def same_lines(found: list[str], wanted: list[str]) -> bool:
    """Return whether the same lines changed; of lines that are there twice, either may be the one."""
    return sorted(found) == sorted(wanted)


def test_a_value_changes_alone_and_keeps_its_comment() -> None:
    assert difference(TEXT, with_value(TEXT, ("lora", "rank"), "32")) == [
        "-rank = 16                          # capacity",
        "+rank = 32                          # capacity",
    ]


@pytest.mark.parametrize(
    ("path", "literal", "wanted"),
    [
        (("lora", "alpha"), "8", ["+alpha = 8"]),
        (("optimization", "learning_rate"), "1e-4", ["+", "+[optimization]", "+learning_rate = 1e-4"]),
        (("seed",), "7", ["+seed = 7"]),
        (("training_strategy", "audio", "latents_dir"), '"sound"', ['+latents_dir = "sound"']),
        (("validation", "samples", 1, "seed"), "3", ["+seed = 3"]),
        (("preprocessing", "columns", "video_mask", "crf"), "3", ["+", "+[preprocessing.columns.video_mask]", "+crf = 3"]),
        (("data", "held_out"), "0.1", ["+held_out = 0.1"]),
    ],
)
def test_a_key_that_is_new_takes_a_line_in_its_table(path: tuple[str | int, ...], literal: str, wanted: list[str]) -> None:
    assert difference(TEXT, with_value(TEXT, path, literal)) == wanted


def test_a_key_of_a_table_in_braces_changes_there() -> None:
    made = with_value(TEXT, ("training_strategy", "video", "conditions", 0, "probability"), "0.25")
    assert '+conditions = [{ type = "first_frame", probability = 0.25 }]  # half of them' in difference(TEXT, made)
    made = with_value(TEXT, ("training_strategy", "video", "conditions", 0, "level"), "1e-2")
    assert '+conditions = [{ type = "first_frame", probability = 0.5, level = 1e-2 }]  # half of them' in difference(TEXT, made)


def test_the_entries_of_a_list_that_stay_keep_their_comments_and_lines() -> None:
    made = with_value(TEXT, ("lora", "target_modules"), '["to_k", "to_out.0", "to_v"]')
    assert difference(TEXT, made) == ['-  "to_q",', '+  "to_out.0",']
    assert difference(TEXT, with_value(TEXT, ("lora", "target_modules"), '["to_k", "to_v"]')) == ['-  "to_q",']


def test_a_key_goes_with_its_line_alone() -> None:
    assert difference(TEXT, without(TEXT, ("lora", "rank"))) == ["-rank = 16                          # capacity"]
    made = without(TEXT, ("validation", "samples", 0))
    assert same_lines(difference(TEXT, made), ["-[[validation.samples]]", '-prompt = "a cat"', "-"])


def test_the_last_entry_takes_its_list_along() -> None:
    made = without(TEXT, ("training_strategy", "video", "conditions", 0))
    assert "conditions" not in parsed_toml(made, Path("run.toml"))["training_strategy"]["video"]


def test_an_entry_is_added_in_the_notation_of_its_list() -> None:
    made = with_entry(TEXT, ("training_strategy", "video", "conditions"), {"type": "prefix"})
    assert '+conditions = [{ type = "first_frame", probability = 0.5 }, { type = "prefix" }]  # half of them' in difference(TEXT, made)
    assert same_lines(difference(TEXT, with_entry(TEXT, ("validation", "samples"), {})), ["+", "+[[validation.samples]]"])
    wanted = ["+", "+[[objectives]]", '+type = "flow_matching"']
    assert same_lines(difference(TEXT, with_entry(TEXT, ("objectives",), {"type": "flow_matching"})), wanted)
    wanted = ["+[[training_strategy.audio.conditions]]", '+type = "prefix"', "+"]
    made = with_entry(TEXT, ("training_strategy", "audio", "conditions"), {"type": "prefix"})
    assert same_lines(difference(TEXT, made), wanted)


@pytest.mark.parametrize("path", [("lora", "nothing"), ("nothing", "key"), ("validation", "samples", 5)])
def test_what_is_not_there_cannot_be_removed(path: tuple[str | int, ...]) -> None:
    with pytest.raises(ConfigError, match="the form cannot change this"):
        without(TEXT, path)


def test_a_value_does_not_take_the_place_of_a_table_that_holds_others() -> None:
    with pytest.raises(ConfigError):
        with_value(TEXT, ("output_dir", "inner"), "1")


@pytest.mark.parametrize("literal", ["1\nrank = 2", "", "a", '"\n', "{"])
def test_only_one_value_is_written(literal: str) -> None:
    with pytest.raises(ConfigError):
        with_value(TEXT, ("lora", "rank"), literal)


@pytest.mark.parametrize(
    ("control", "given", "literal"),
    [
        ("number", "16", "16"),
        ("number", " 1e-4 ", "1e-4"),
        ("number", ".5", "0.5"),
        ("scalar", "0.1", "0.1"),
        ("scalar", "held_out.txt", '"held_out.txt"'),
        ("text", 'say "hi"\\', '"say \\"hi\\"\\\\"'),
        ("lines", "to_k\n\n to_q \n", '["to_k", "to_q"]'),
        ("numbers", "0.9, 0.99", "[0.9, 0.99]"),
        ("numbers", "960 544;89", "[960, 544, 89]"),
        ("switch", "true", "true"),
        ("literal", "{ min = 0.1, max = 1 }", "{ min = 0.1, max = 1 }"),
    ],
)
def test_what_a_field_holds_is_written_as_toml(control: str, given: str, literal: str) -> None:
    assert literal_of(control, given) == literal


@pytest.mark.parametrize(
    ("control", "given"), [("number", "many"), ("number", "nan"), ("number", "1e999"), ("numbers", "1, two"), ("literal", "a b")]
)
def test_what_is_no_value_is_refused_in_words(control: str, given: str) -> None:
    with pytest.raises(ConfigError, match="is not"):
        literal_of(control, given)
