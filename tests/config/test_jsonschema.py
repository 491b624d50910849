"""What an editor is told is what the loader does."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import tomli

from config.run_files import Load, Mistakes, run_file
from ltxcore.config.jsonschema import json_schema
from ltxcore.registry import load as load_plugins

TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
SCHEMA = json_schema(load_plugins())
KNOWN = {
    *(
        "$schema",
        "title",
        "description",
        "default",
        "type",
        "properties",
        "additionalProperties",
        "required",
        "items",
        "minItems",
        "maxItems",
        "enum",
        "const",
    ),
    *("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "anyOf", "oneOf", "allOf", "if", "then"),
}


def valid(schema: dict[str, Any], value: Any) -> bool:
    """Draft 7, as far as the schema uses it."""
    assert set(schema) <= KNOWN
    return all(check(schema, value) for check in (_kind, _range, _members, _elements, _combined))


def _kind(schema: dict[str, Any], value: Any) -> bool:
    kind = schema.get("type")
    is_bool = isinstance(value, bool)
    fits = kind is None or (isinstance(value, TYPES[kind]) and is_bool == (kind == "boolean"))
    listed = "enum" not in schema or any(value == one and isinstance(one, bool) == is_bool for one in schema["enum"])
    return fits and listed and ("const" not in schema or value == schema["const"])


def _range(schema: dict[str, Any], value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return True
    low, over = schema.get("minimum", value), schema.get("exclusiveMinimum", value - 1)
    high, under = schema.get("maximum", value), schema.get("exclusiveMaximum", value + 1)
    return bool(low <= value <= high and over < value < under)


def _members(schema: dict[str, Any], value: Any) -> bool:
    if not isinstance(value, dict):
        return True
    known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    inner = [
        valid(known[name], inner) if name in known else rest if isinstance(rest, bool) else valid(rest, inner)
        for name, inner in value.items()
    ]
    return all(inner) and all(name in value for name in schema.get("required", []))


def _elements(schema: dict[str, Any], value: Any) -> bool:
    if not isinstance(value, list) or "items" not in schema:
        return True
    if isinstance(schema["items"], list):
        return len(value) == schema["minItems"] == schema["maxItems"] and all(map(valid, schema["items"], value))
    return len(value) >= schema.get("minItems", 0) and all(valid(schema["items"], element) for element in value)


def _combined(schema: dict[str, Any], value: Any) -> bool:
    any_of = "anyOf" not in schema or any(valid(part, value) for part in schema["anyOf"])
    one_of = "oneOf" not in schema or sum(valid(part, value) for part in schema["oneOf"]) == 1
    then = "if" not in schema or not valid(schema["if"], value) or valid(schema["then"], value)
    return any_of and one_of and then and all(valid(part, value) for part in schema.get("allOf", []))


@pytest.mark.parametrize("seed", range(60))
def test_every_run_file_that_loads_fits_the_schema(inputs: Path, load: Load, seed: int) -> None:
    text = run_file(random.Random(seed))
    run = load(text)
    assert valid(SCHEMA, tomli.loads(text))
    assert valid(SCHEMA, tomli.loads(run.resolved()))


@pytest.mark.parametrize(
    "text",
    [
        "sed = 1",
        "seed = -1",
        "seed = 1.5",
        "seed = true",
        "seed = '1'",
        "lora.rank = 0",
        "lora.rnak = 1",
        "lora.dropout = 1",
        "lora.target_modules = [1]",
        "optimization.scheduler_type = 'cosin'",
        "optimization.scheduler_params = { T_max = 1 }",
        "optimization = { scheduler_type = 'constant', scheduler_params = { gamma = 1 } }",
        "optimization.betas = [0.9]",
        "optimization.betas = [0.9, 1]",
        "engine.stage = 4",
        "flow_matching.timestep_sampling_mode = 'unifrom'",
        "flow_matching.timestep_sampling_params = { least = 0 }",
        "flow_matching = { timestep_sampling_mode = 'uniform', timestep_sampling_params = { std = 1 } }",
        "trackers.jsnol = {}",
        "trackers.jsonl = { x = 1 }",
        "validation.samples = [{}]",
        "validation.samples = [{ prompt = 'x', conditions = [{ type = 'prefix' }] }]",
        "validation.samples = [{ prompt = 'x', conditions = [{ type = 'prefix', video = 'clip.mp4', image_or_video = 'clip.mp4' }] }]",
        "validation.samples = [{ prompt = 'x', conditions = [{ type = 'first_frame', audio = 'sound.wav' }] }]",
        "validation.samples = [{ prompt = 'x', conditions = [{ type = 'mask', audio = 'sound.wav' }] }]",
        "validation.samples = [{ prompt = 'x', conditions = [{ type = 'video_to_audio', audio = 'sound.wav' }] }]",
    ],
)
def test_what_the_loader_refuses_the_schema_refuses_too(inputs: Path, mistakes: Mistakes, minimal: str, text: str) -> None:
    assert mistakes(f"{text}\n{minimal}")
    assert valid(SCHEMA, tomli.loads(minimal))
    assert not valid(SCHEMA, tomli.loads(f"{text}\n{minimal}"))


@pytest.mark.parametrize(
    "conditions",
    [
        "[{}]",
        "[{ type = 'maks' }]",
        "[{ type = 'first_frame' }]",
        "[{ type = 'mask' }]",
        "[{ type = 'prefix', temporal_boundary = 0 }]",
        "[{ type = 'prefix', temporal_boundary = {} }]",
        "[{ type = 'prefix', temporal_boundary = { min = 0, max = 3 } }]",
        "[{ type = 'prefix', temporal_boundary = { min = 1 } }]",
        "[{ type = 'prefix', temporal_boundary = { min = 1, max = 3, scale = 'log' } }]",
        "[{ type = 'prefix', temporal_boundary = { one_of = [] } }]",
        "[{ type = 'prefix', temporal_boundary = { one_of = [1, 0] } }]",
        "[{ type = 'prefix', temporal_boundary = { one_of = [1], weights = [0] } }]",
        "[{ type = 'prefix', temporal_boundary = { min = 1, max = 3, one_of = [1] } }]",
        "[1]",
        "{}",
    ],
)
def test_conditions_that_the_loader_refuses_the_schema_refuses_too(mistakes: Mistakes, minimal: str, conditions: str) -> None:
    text = minimal.replace("[data]", f"conditions = {conditions}\n[data]")
    assert mistakes(text)
    assert not valid(SCHEMA, tomli.loads(text))


@pytest.mark.parametrize(
    ("columns", "fits"),
    [
        ("{ type = 'reference_video', downscale_factor = 2, column = 'd' }", True),
        ("{ type = 'video_mask' }", True),
        ("{ type = 'video_mask', downscale_factor = 2 }", False),
        ("{ type = 'reference_vid' }", False),
        ("{ column = 'd' }", False),
    ],
)
def test_a_column_like_a_registered_one_fits_the_schema_if_the_loader_takes_it(
    load: Load, mistakes: Mistakes, minimal: str, columns: str, fits: bool
) -> None:
    text = f"{minimal}\n[preprocessing.columns]\ndepth = {columns}"
    assert (load if fits else mistakes)(text)
    assert valid(SCHEMA, tomli.loads(text)) is fits


def test_a_key_carries_its_help_its_unit_and_its_default() -> None:
    assert SCHEMA["properties"]["validation"]["properties"]["frame_rate"] == {
        "type": "number",
        "minimum": 0.1,
        "maximum": 1000,
        "description": "frame rate of the generated clips (frames per second)",
        "default": 24.0,
    }


def test_a_strangers_keys_are_in_the_schema(tmp_path: Path) -> None:
    plugin = tmp_path / "stripes.py"
    plugin.write_text(
        "import attrs\nfrom ltxcore.api import hookimpl\n\n\n@attrs.frozen\nclass Stripes:\n    '''Give stripes.'''\n\n    modalities = frozenset({'video'})\n"
        "    every: int = attrs.field(default=4, validator=attrs.validators.ge(2), metadata={'help': 'how far apart', 'unit': 'cells'})\n\n"
        "    def apply(self, state, inputs):\n        return state\n\n\n@hookimpl\ndef ltx_conditions():\n    return {'stripes': Stripes}\n"
    )
    schema = json_schema(load_plugins(local=[plugin]))
    video = schema["properties"]["training_strategy"]["oneOf"][0]["properties"]["video"]
    (stripes,) = [one for one in video["properties"]["conditions"]["items"]["oneOf"] if one["properties"]["type"]["const"] == "stripes"]
    assert stripes["description"] == "Give stripes."
    every = stripes["properties"]["every"]
    assert {**every, "anyOf": every["anyOf"][:1]} == {
        "anyOf": [{"type": "integer", "minimum": 2}],
        "description": "how far apart (cells)",
        "default": 4,
    }
