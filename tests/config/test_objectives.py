"""`[[objectives]]`: the keys of each objective, those that all of them have, and what is wrong with them."""

from __future__ import annotations

import pytest

from config.run_files import Load, Mistakes
from ltxcore.config.load import load_run
from ltxplugins.objectives.flow_matching import FlowMatching
from ltxplugins.objectives.weighted_region import WeightedRegion

TWO = """
[[objectives]]
type = "flow_matching"
error = "huber"
weight = { audio = 0.2 }

[[objectives]]
type = "weighted_region"
rest = 0
probability = 0.5
audio_region_dir = "words"
"""


def test_a_run_names_no_objective_unless_its_file_does(load: Load, minimal: str) -> None:
    assert load(minimal).config.objectives == []


def test_each_objective_has_its_own_keys_and_those_of_all(load: Load, minimal: str) -> None:
    run = load(minimal + TWO)
    first, second = run.config.objectives
    assert (first.type, first.objective, first.weight, first.probability) == ("flow_matching", FlowMatching("huber"), {"audio": 0.2}, 1.0)
    assert [first.weight_of(name) for name in ("video", "audio")] == [1.0, 0.2]
    assert (second.objective, second.weight, second.probability) == (WeightedRegion(rest=0.0), 1.0, 0.5)
    assert [role.name for role in second.roles] == ["audio_region"]
    resolved = run.path.with_name("resolved.toml")
    resolved.write_text(run.resolved())
    assert load_run(resolved).config == run.config


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ('type = "flow_maching"', 'objectives[0].type: there is no objective "flow_maching"\n    Did you mean "flow_matching"?'),
        ("weight = 1.0", "objectives[0].type: does not name any objective\n    Choose one: distill, flow_matching, "),
        ('type = "flow_matching", weight = 0', "objectives[0].weight: must be above 0, not 0"),
        ('type = "flow_matching", weight = { audio = 0 }', "objectives[0].weight.audio: must be above 0, not 0"),
        ('type = "flow_matching", weight = { sound = 1 }', "objectives[0].weight.sound: is not a modality"),
        ('type = "flow_matching", weight = "much"', 'objectives[0].weight: must be a number or a table, not the text "much"'),
        ('type = "flow_matching", probability = 0', "objectives[0].probability: must be above 0, not 0"),
        ('type = "flow_matching", error = "mae"', 'objectives[0].error: must be "mse" or "huber" or "l1", not the text "mae"'),
        ('type = "flow_matching", delta = 0', "objectives[0].delta: must be above 0, not 0"),
        ('type = "distill", guidance = 0.5', "objectives[0].guidance: must be from 1 to 100, not 0.5"),
        ('type = "distill", guidance = { audio = 200 }', "objectives[0].guidance: must be from 1 to 100, not 200"),
        ('type = "distill", teacher = "student"', 'objectives[0].teacher: must be "base" or "ema", not the text "student"'),
        ('type = "weighted_region"', 'objectives[0]: the objective "weighted_region" needs data of its own'),
        ('type = "weighted_region", mask_dir = "x"', "objectives[0].mask_dir: there is no such key"),
    ],
)
def test_a_mistake_in_an_objective_is_told_at_its_key(mistakes: Mistakes, minimal: str, entry: str, told: str) -> None:
    assert told in mistakes(f"objectives = [{{ {entry} }}]\n{minimal}")
