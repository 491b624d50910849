"""The configuration in an official file's metadata, and what is in it that these codecs do not know.

Source: reference-behaviour F.3, "Metadata read".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ltxcore.errors import CheckpointError, Problem
from ltxcore.headers import Slots
from ltxcore.model_config import check_sizes, json_object

Section = Mapping[str, Any]


def section(weights: Slots, name: str) -> dict[str, Any] | None:
    """A section of the configuration in a file's metadata; none where the configuration has none of this name.

    Raises:
        CheckpointError: there is no configuration, or it cannot be read.
    """
    found = configuration(weights).get(name)
    if found is not None and not isinstance(found, dict):
        raise CheckpointError(f'the section "{name}" of its configuration is no object', where=str(weights.where))
    return found


def configuration(weights: Slots) -> dict[str, Any]:
    """The configuration in a file's metadata.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    text = weights.metadata.get("config")
    if text is None:
        raise CheckpointError(
            "its metadata has no configuration, without which its weights cannot be read",
            where=str(weights.where),
            remedy='Use a file in the official layout, whose metadata has "config".',
        )
    found = json_object(text)
    if found is None:
        raise CheckpointError(
            "the configuration in its metadata is no JSON object", where=str(weights.where), remedy="Download the file again."
        )
    check_sizes(found, str(weights.where))
    return found


def part_of(value: Any) -> dict[str, Any]:
    """An object within a section; empty where there is none."""
    return dict(value) if isinstance(value, Mapping) else {}


def unknown(part: str, told: Section, can: Mapping[str, tuple[Any, ...]], where: str) -> list[Problem]:
    """A problem for each setting in `told` that has none of the values that are known for it."""
    return [
        Problem(
            f"the setting {key} = {json.dumps(told[key])} of the {part} is not known (known: {', '.join(map(json.dumps, values))})", where
        )
        for key, values in can.items()
        if key in told and told[key] not in values
    ]
