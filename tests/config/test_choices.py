"""Choices between lists of conditions, as a run file writes them, and what is refused, at its line."""

from __future__ import annotations

import pytest
import tomli

from config.run_files import Load, Mistakes
from ltxcore.cli.check import modality_lines
from ltxcore.config.jsonschema import json_schema
from ltxcore.config.tables import plain
from ltxcore.drawn import Range
from ltxcore.registry import load as load_plugins

CHOICES = """
[[training_strategy.audio.choices]]
one_of = [
  [{ type = "prefix", temporal_boundary = { min = 1, max = 8 } }],
  [{ type = "suffix", temporal_boundary = 2, probability = 0.5 }],
  [],
]
weights = [2, 1, 1]

[[training_strategy.audio.choices]]
one_of = [[{ type = "reference", latents_dir = "references" }], []]
"""


def test_choices_are_read_and_written_as_they_are(load: Load, minimal: str) -> None:
    loaded = load(minimal + CHOICES)
    first, second = loaded.config.training_strategy.audio.choices
    assert [[use.type for use in uses] for uses in first.one_of] == [["prefix"], ["suffix"], []]
    assert first.one_of[0][0].drawn == {"temporal_boundary": Range(1, 8)}
    assert (first.weights, first.together, second.weights) == ([2.0, 1.0, 1.0], False, None)
    assert second.one_of[0][0].sources == {"reference": "references"}
    written = plain(loaded.config.training_strategy)["audio"]
    expected = tomli.loads(CHOICES)["training_strategy"]["audio"]["choices"]
    for choice, there in zip(written["choices"], expected, strict=True):
        assert choice["one_of"] == [[{"probability": 1.0, **use} for use in uses] for uses in there["one_of"]]


def test_a_check_says_what_is_chosen_between(load: Load, minimal: str) -> None:
    ((_, said),) = modality_lines(load(minimal + CHOICES).config.training_strategy)
    assert said == ("generated, prefix (temporal_boundary 1 to 8) or suffix (probability 0.5) or no condition, reference or no condition")


def test_a_check_tells_references_apart_by_their_folders(load: Load, minimal: str) -> None:
    keys = (
        "type = 'reference'\nlatents_dir = 'edges'",
        "type = 'reference'\nlatents_dir = 'depth'",
        "type = 'prefix'\ntemporal_boundary = 1",
    )
    loaded = load(minimal + "".join(f"[[training_strategy.audio.conditions]]\n{each}\n" for each in keys))
    ((_, said),) = modality_lines(loaded.config.training_strategy)
    assert said == "generated, reference (from edges), reference (from depth), prefix"


@pytest.mark.parametrize(
    ("keys", "where", "what"),
    [
        ("one_of = [[{ type = 'prefix' }], []]", "choices[0].one_of[0][0].temporal_boundary", "is missing"),
        ("one_of = [[], [{ type = 'first_frame' }]]", "choices[0].one_of[1][0].type", "does not work on audio"),
        ("one_of = [{ type = 'prefix', temporal_boundary = 2 }]", "choices[0].one_of[0]", "must be a list of tables, not a table"),
        ("one_of = [[]]", "choices[0].one_of", "has no condition to choose"),
        (
            "one_of = [[{ type = 'prefix', temporal_boundary = 2 }], []]\nweights = [1, 0]",
            "choices[0].weights[1]",
            "must be a finite number above 0, not 0",
        ),
        ("one_of = [[{ type = 'prefix', temporal_boundary = 2 }], []]\nweights = [1]", "choices[0].weights", "has 1 weight for 2 lists"),
        ("one_of = [[{ type = 'prefix', temporal_boundary = 2 }], []]\ntogether = true", "choices[0].together", "there is none"),
        ("weight = [1]", "choices[0].weight", "there is no such key"),
    ],
)
def test_mistakes_in_a_choice_are_named_at_their_keys(mistakes: Mistakes, minimal: str, keys: str, where: str, what: str) -> None:
    said = mistakes(f"{minimal}\n[[training_strategy.audio.choices]]\n{keys}\n")
    assert f"training_strategy.audio.{where}" in said
    assert what in said


def test_nothing_is_drawn_in_a_sample_to_generate(mistakes: Mistakes, minimal: str) -> None:
    sample = "[[validation.samples]]\nprompt = 'a'\n[[validation.samples.choices]]\none_of = [[], []]\n"
    said = mistakes(minimal + sample)
    assert "validation.samples[0].choices" in said
    assert "only possible in training" in said


def test_the_schema_knows_choices(minimal: str) -> None:
    schema = json_schema(load_plugins())
    audio = next(each for each in schema["properties"]["training_strategy"]["oneOf"] if "audio" in each["properties"])
    lists = audio["properties"]["audio"]["properties"]["choices"]["items"]["properties"]["one_of"]
    assert lists["items"]["items"] == audio["properties"]["audio"]["properties"]["conditions"]["items"]
