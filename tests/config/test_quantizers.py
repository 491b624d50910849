"""The quantizer that a run file names, or an option of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from ltxcore.config.acceleration import AccelerationTable
from ltxcore.config.jsonschema import json_schema
from ltxcore.config.quantizers import quantizer_of
from ltxcore.config.reading import Unreadable
from ltxcore.config.render import document
from ltxcore.config.structure import structurer_of
from ltxcore.config.tables import plain
from ltxcore.errors import ConfigError
from ltxcore.registry import Named, Origin, Registry


@attrs.frozen
class Blocks:
    """Blocks."""

    error = 0.1
    block: int = attrs.field(default=32, validator=attrs.validators.ge(2), metadata={"help": "how many weights share a scale"})


@attrs.frozen
class Elsewhere(Blocks):
    """Blocks, of a package."""

    needs = {"fewer_bits": "pip install fewer-bits"}  # noqa: RUF012


REGISTRY = Registry(
    {"quantizer": {name: Named(name, "quantizer", cls, Origin("", "", "")) for name, cls in (("blocks", Blocks), ("elsewhere", Elsewhere))}}
)


def read(table: Mapping[str, Any]) -> tuple[Any, list[tuple[str, str]]]:
    """`[acceleration]`, and the mistakes in it."""
    structurer = structurer_of(REGISTRY, Path())
    try:
        made = structurer.converter.structure(table, AccelerationTable)
    except Unreadable:
        made = None
    return made, [(".".join(map(str, mistake.path)), mistake.what) for mistake in structurer.reading.mistakes]


@pytest.mark.parametrize(
    ("table", "quantizer"),
    [
        ({}, None),
        ({"quantization": "blocks"}, Blocks()),
        ({"quantization": "blocks", "quantization_params": {"block": 64}}, Blocks(64)),
    ],
)
def test_a_run_file_names_a_quantizer_and_its_keys_and_is_written_with_all_of_them(table: dict[str, Any], quantizer: Any) -> None:
    made, mistakes = read(table)
    assert mistakes == []
    assert made.quantizer == quantizer
    again, _ = read(plain(made))
    assert again == made
    assert ("quantization_params" in document({"acceleration": plain(made)})) == (quantizer is not None)


@pytest.mark.parametrize(
    ("table", "where", "what"),
    [
        ({"quantization": "block"}, "quantization", 'there is no quantizer "block"'),
        ({"quantization": "blocks", "quantization_params": {"size": 3}}, "quantization_params.size", "there is no such key"),
        ({"quantization": "blocks", "quantization_params": {"block": 1}}, "quantization_params.block", "must be at least 2, not 1"),
        ({"quantization_params": {"block": 64}}, "quantization_params", "has no effect without quantization"),
        (
            {"quantization": "int4-quanto"},
            "quantization",
            '"int4-quanto" is not available: no package can train on weights stored in so few bits',
        ),
    ],
)
def test_what_is_wrong_with_it_is_told_at_its_key(table: dict[str, Any], where: str, what: str) -> None:
    assert read(table)[1] == [(where, what)]


def test_an_option_names_a_quantizer_and_its_keys() -> None:
    assert quantizer_of("blocks", REGISTRY) == Blocks()
    assert quantizer_of("blocks,block=64", REGISTRY) == Blocks(64)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("block", '--quantization block: there is no quantizer "block"\n    Did you mean "blocks"?'),
        ("blocks,block=1", "--quantization blocks,block=1: block: must be at least 2, not 1"),
        ("blocks,64", '--quantization blocks,64: "64" is not key=value\n    Write it as --quantization NAME,key=value.'),
        (
            "elsewhere",
            '--quantization elsewhere: "elsewhere" needs the package fewer_bits, which is not installed\n'
            '    Install it with `pip install fewer-bits`, or use "int8".',
        ),
    ],
)
def test_what_is_wrong_with_an_option_is_told(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        quantizer_of(text, REGISTRY)
    assert str(caught.value) == said


def test_the_schema_knows_the_names_and_the_keys_of_each() -> None:
    schema = json_schema(REGISTRY)["properties"]["acceleration"]
    assert schema["properties"]["quantization"]["enum"] == ["blocks", "elsewhere"]
    of_blocks = next(rule for rule in schema["allOf"] if rule["if"]["properties"]["quantization"] == {"const": "blocks"})
    assert of_blocks["if"]["required"] == ["quantization"]
    assert of_blocks["then"]["properties"]["quantization_params"]["properties"]["block"]["minimum"] == 2
