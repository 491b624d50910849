"""What a run file may say in place of a value that is drawn, and what is refused, at its line."""

from __future__ import annotations

from typing import Any

import pytest
import tomli

from config.run_files import Load, Mistakes
from ltxcore.conditions import ConditionUse
from ltxcore.config.jsonschema import json_schema
from ltxcore.config.load import load_run
from ltxcore.config.scalars import can_be_drawn, number_of
from ltxcore.drawn import OneOf, Range
from ltxcore.registry import load as load_plugins

STRANGER = """
from pathlib import Path
from typing import Any, Literal
import attrs
from ltxcore.api import hookimpl

@attrs.frozen
class Pulse:
    modalities = frozenset({"audio"})
    content = None
    seconds: float = attrs.field(default=1.0, validator=[attrs.validators.gt(0), attrs.validators.le(9)])
    count: int | None = None
    shape: Literal["sine", "square"] = "sine"
    loud: bool = True
    beats: list[float] = attrs.field(factory=list)
    extra: dict[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self):
        if self.count is not None and self.count * self.seconds > 40:
            raise ValueError(f"{self.count} pulses of {self.seconds} seconds are too long")

    def apply(self, state, inputs):
        return state

@hookimpl
def ltx_conditions():
    return {"pulse": Pulse}
"""


@pytest.fixture
def stranger(folder: Any, minimal: str) -> Any:
    """Return a function that writes a run file with a stranger's condition and returns its text."""
    (folder / "pulse.py").write_text(STRANGER)
    return lambda keys: with_conditions(f"plugins = ['pulse.py']\n{minimal}", f"{{ type = 'pulse', {keys} }}")


def with_conditions(text: str, *conditions: str) -> str:
    return text.replace("[data]", f"conditions = [\n{''.join(f'{each},{chr(10)}' for each in conditions)}]\n[data]")


def only(loaded: Any) -> ConditionUse:
    (found,) = loaded.config.training_strategy.audio.conditions
    return found


PREFIX = "{{ type = 'prefix', temporal_boundary = {} }}"


def test_a_number_is_drawn_between_two_or_from_several(load: Load, minimal: str) -> None:
    found = only(load(with_conditions(minimal, PREFIX.format("{ min = 2, max = 8, fit = true }"))))
    assert found.drawn == {"temporal_boundary": Range(2, 8, fit=True)}
    assert found.condition.temporal_boundary == 2
    found = only(load(with_conditions(minimal, PREFIX.format("{ one_of = [3, 5], weights = [1, 2.5] }"))))
    assert found.drawn == {"temporal_boundary": OneOf((3, 5), (1.0, 2.5))}


def test_every_kind_of_key_of_a_strangers_condition_may_be_drawn(load: Load, stranger: Any) -> None:
    text = (
        "seconds = { min = 1, max = 4, scale = 'log' }, count = { min = 1, max = 3 }, shape = { one_of = ['sine', 'square'] }, "
        "loud = { one_of = [true, false] }, beats = { one_of = [[1, 2.5], []] }, extra = { min = 1 }"
    )
    found = only(load(stranger(text)))
    assert found.drawn == {
        "seconds": Range(1.0, 4.0, scale="log"),
        "count": Range(1, 3),
        "shape": OneOf(("sine", "square")),
        "loud": OneOf((True, False)),
        "beats": OneOf(([1.0, 2.5], [])),
    }
    assert isinstance(found.drawn["seconds"].min, float)
    assert found.condition.extra == {"min": 1}


def test_the_resolved_run_file_says_what_is_drawn_and_loads_as_the_same(load: Load, stranger: Any, folder: Any) -> None:
    text = "seconds = { min = 1, max = 4, scale = 'log' }, beats = { one_of = [[1.0], [2.0, 3.0]], weights = [1, 3], fit = true }"
    loaded = load(stranger(text))
    (folder / "again.toml").write_text(loaded.resolved())
    assert load_run(folder / "again.toml").resolved() == loaded.resolved()
    assert 'seconds = { min = 1.0, max = 4.0, scale = "log" }' in loaded.resolved()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "{}",
            ": does not say what it is drawn from\n    Write a whole number, or to draw one, { min = ..., max = ... } or { one_of = [..., ...] }.",
        ),
        ("{ min = 0, max = 3 }", ".min: must be at least 1, not 0"),
        ("{ min = 1.5, max = 3 }", ".min: must be a whole number, not 1.5"),
        ("{ min = 1 }", ".max: is missing\n    Add max: a whole number, the greatest value."),
        ("{ min = 4, max = 3 }", ": has min 4, which is above max 3\n    Exchange them."),
        ("{ min = 1, max = 3, round = 2 }", ".round: there is no such key\n    Known: fit, max, min."),
        (
            "{ min = 1, max = 3, scale = 'log' }",
            ": is a whole number, which has no log scale\n    Remove scale, or list the values in one_of, with weights.",
        ),
        ("{ min = 1, one_of = [2] }", ": is drawn both between two values and from a list\n    Keep min and max, or one_of."),
        ("{ one_of = [] }", ": draws from an empty list\n    Write the values in one_of."),
        ("{ one_of = 3 }", ".one_of: must be a list of whole numbers, not 3\n    Write it in brackets: [...]."),
        ("{ one_of = [1, 'two'] }", '.one_of[1]: must be a whole number, not the text "two"'),
        ("{ one_of = [1, 0] }", ".one_of: must be at least 1, not 0"),
        ("{ one_of = [1, 2], weights = [1] }", ": has 1 weight for 2 values\n    Write one weight for each value."),
        ("{ one_of = [1, 2], weights = [1, 0] }", ".weights: must be above 0, not 0"),
        ("{ min = 1, max = 3, fit = 1 }", ".fit: must be true or false, not 1"),
    ],
)
def test_a_mistake_is_told_at_its_line(mistakes: Mistakes, minimal: str, value: str, message: str) -> None:
    said = mistakes(with_conditions(minimal, PREFIX.format(value)))
    assert said == f"run.toml:9: training_strategy.audio.conditions[0].temporal_boundary{message}"


def test_a_list_or_a_choice_has_no_range(mistakes: Mistakes, stranger: Any) -> None:
    said = mistakes(stranger("shape = { min = 1, max = 2 }"))
    assert said.endswith(
        '.shape: is "sine" or "square", which has no minimum and maximum\n    Write "sine" or "square", or to draw one, { one_of = [..., ...] }.'
    )


def test_a_log_scale_begins_above_zero(mistakes: Mistakes, minimal: str, folder: Any) -> None:
    (folder / "pulse.py").write_text(STRANGER.replace("attrs.validators.gt(0), ", ""))
    text = with_conditions(f"plugins = ['pulse.py']\n{minimal}", "{ type = 'pulse', seconds = { min = 0, max = 4, scale = 'log' } }")
    assert mistakes(text).endswith(".seconds: has min 0 on a log scale\n    Set min above 0, or remove scale.")


def test_all_that_a_class_refuses_is_told_once(mistakes: Mistakes, stranger: Any) -> None:
    assert mistakes(stranger("seconds = { min = 1, max = 9 }, count = { one_of = [1, 5, 6] }")).replace("run.toml:10: ", "") == (
        "training_strategy.audio.conditions[0]: 5 pulses of 9.0 seconds are too long\n"
        "training_strategy.audio.conditions[0]: 6 pulses of 9.0 seconds are too long"
    )


def test_a_whole_number_between_the_ends_that_the_class_refuses_is_told(mistakes: Mistakes, stranger: Any, folder: Any) -> None:
    text = stranger("count = { min = 2, max = 8 }")
    (folder / "pulse.py").write_text(STRANGER.replace("count * self.seconds > 40", "count % 2"))
    assert mistakes(text) == "run.toml:10: training_strategy.audio.conditions[0]: 3 pulses of 1.0 seconds are too long"


def test_more_combinations_than_can_be_checked_are_refused(mistakes: Mistakes, minimal: str) -> None:
    said = mistakes(with_conditions(minimal, PREFIX.format("{ min = 1, max = 2000, fit = true }")))
    assert said.startswith(
        "run.toml:9: training_strategy.audio.conditions[0]: may have 2,000 combinations of drawn values to check, more than 1,024"
    )


@pytest.mark.parametrize("key", ["probability", "mask_dir"])
def test_what_is_not_a_field_of_the_class_is_not_drawn(mistakes: Mistakes, minimal: str, key: str) -> None:
    keys = {"mask_dir": "'masks'", "probability": "0.5"} | {key: "{ one_of = [0.5] }"}
    said = mistakes(with_conditions(minimal, f"{{ type = 'mask', {', '.join(f'{name} = {value}' for name, value in keys.items())} }}"))
    assert f".{key}: must be " in said


def test_a_sample_to_generate_wants_the_value_itself(mistakes: Mistakes, minimal: str, folder: Any) -> None:
    (folder / "sound.wav").write_bytes(b"")
    asked = "{ type = 'prefix', audio = 'sound.wav', temporal_boundary = { min = 1, max = 8 } }"
    said = mistakes(f"{minimal}[[validation.samples]]\nprompt = 'x'\nconditions = [{asked}]\n")
    assert said == (
        "run.toml:12: validation.samples[0].conditions[0].temporal_boundary: is drawn, which is only possible in training\n"
        "    Here, write the value itself: a whole number."
    )


def test_types_that_may_be_drawn_are_numbers_texts_choices_and_lists_of_them() -> None:
    assert all(map(can_be_drawn, (int, float | None, bool, str, tuple[int, int], list[list[float]], int | list[int])))
    assert not any(map(can_be_drawn, (dict[str, int], list[dict[str, int]], Any, int | dict[str, int], Range)))
    assert [number_of(kind) for kind in (int, float, int | None, int | float, str, bool, list[int])] == [
        int,
        float,
        int,
        float,
        None,
        None,
        None,
    ]


def test_the_schema_has_what_is_drawn_in_training_and_not_in_a_sample() -> None:
    schema = json_schema(load_plugins())
    audio = schema["properties"]["training_strategy"]["oneOf"][0]["properties"]["audio"]
    (prefix,) = [each for each in audio["properties"]["conditions"]["items"]["oneOf"] if each["properties"]["type"]["const"] == "prefix"]
    value, between, several = prefix["properties"]["temporal_boundary"]["anyOf"]
    assert value == {"type": "integer", "minimum": 1}
    assert between["required"] == ["min", "max"]
    assert between["properties"]["max"] == {"type": "integer", "minimum": 1, "description": "the greatest value (latent frames)"}
    assert several["properties"]["one_of"] == {"type": "array", "items": value, "minItems": 1, "description": "the values (latent frames)"}
    samples = schema["properties"]["validation"]["properties"]["samples"]["items"]["properties"]["conditions"]["items"]["oneOf"]
    assert all("anyOf" not in each["properties"].get("temporal_boundary", {}) for each in samples)


def test_settings_may_draw_too(load: Load, minimal: str) -> None:
    text = with_conditions(minimal, PREFIX.format("3"))
    found = load(text, "training_strategy.audio.conditions=[{ type = 'prefix', temporal_boundary = { min = 1, max = 4 } }]")
    assert only(found).drawn == {"temporal_boundary": Range(1, 4)}
    assert tomli.loads(found.resolved())["training_strategy"]["audio"]["conditions"][0]["temporal_boundary"] == {"min": 1, "max": 4}


# ---------------------------------------------------------------- keys of one modality


def test_a_key_that_is_for_the_other_modality_is_refused_at_its_line(mistakes: Mistakes, minimal: str) -> None:
    text = with_conditions(minimal, "{ type = 'hole', length = 0.5, height = { min = 0.1, max = 0.5 } }")
    assert mistakes(text).endswith(
        "training_strategy.audio.conditions[0].height: is only for video\n    Remove it: it has no meaning on audio."
    )
