"""Functions that read the configuration in an official file's metadata, and find unknown settings and parts that do not belong together.

Source: docs/explanation/model-files.md#metadata
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

from ltxcore.errors import CheckpointError, Problem
from ltxcore.headers import Slots
from ltxcore.model_config import check_sizes, json_object, object_of

Section = Mapping[str, Any]

_GEMMA_4_SINCE = (2, 4)


def section(weights: Slots, name: str) -> dict[str, Any] | None:
    """Return the section `name` of the configuration in a file's metadata; None if there is no such section.

    Raises:
        CheckpointError: there is no configuration, or it cannot be read.
    """
    found = configuration(weights).get(name)
    if found is not None and not isinstance(found, dict):
        raise CheckpointError(f'the section "{name}" of the configuration is not an object', where=str(weights.where))
    return found


def configuration(weights: Slots) -> dict[str, Any]:
    """Read the configuration in a file's metadata.

    Raises:
        CheckpointError: there is no configuration, or it cannot be read.
    """
    text = weights.metadata.get("config")
    if text is None:
        raise CheckpointError(
            "the metadata lacks the configuration, which is needed to read the weights",
            where=str(weights.where),
            remedy='Use a file in the official layout, whose metadata has "config".',
        )
    found = json_object(text)
    if found is None:
        raise CheckpointError(
            "the configuration in the metadata is not a JSON object", where=str(weights.where), remedy="Download the file again."
        )
    check_sizes(found, str(weights.where))
    return found


def part_of(value: Any) -> dict[str, Any]:
    """Return a copy of `value`, an entry of a section, if it is a table; otherwise return an empty table."""
    return dict(value) if isinstance(value, Mapping) else {}


def unknown(part: str, told: Section, can: Mapping[str, tuple[Any, ...]], where: str) -> list[Problem]:
    """Report each setting in `told` whose value is not one of the known values."""
    return [
        Problem(
            f"the setting {key} = {json.dumps(told[key])} of the {part} is not known (known: {', '.join(map(json.dumps, values))})", where
        )
        for key, values in can.items()
        if key in told and told[key] not in values
    ]


def release_of(weights: Slots) -> tuple[int, int] | None:
    """Return the major and minor number of the release that a file states; None if it states none."""
    told = weights.metadata.get("model_version") or _config(weights).get("model_version")
    found = re.match(r"v?(\d+)\.(\d+)", str(told))
    return (int(found[1]), int(found[2])) if found else None


def check_same_release(name: str, model: Slots, part: Slots) -> None:
    """If a model and a part of it both state their release, refuse the part unless the releases are the same.

    Raises:
        CheckpointError: the releases differ.
    """
    ours, theirs = release_of(model), release_of(part)
    if ours and theirs and ours != theirs:
        raise CheckpointError(
            f"this {name} is from release {_spoken(theirs)}, but the checkpoint {model.where.name} is from release {_spoken(ours)}",
            where=str(part.where),
            remedy=f"Use the {name} of release {_spoken(ours)}.",
        )


def check_gemma(model: Slots, gemma: Mapping[str, Any], where: str) -> None:
    """Refuse a text encoder that the model was not trained with.

    Args:
        model: the file of the model, or of its transformer.
        gemma: the text encoder's configuration.
        where: the text encoder's file or folder.

    Raises:
        CheckpointError: the text encoder is a different version of Gemma, or belongs to a different family.
    """
    wanted = object_of(model.metadata.get("gemma_source_checkpoint") or _config(model).get("gemma_source_checkpoint")).get("gemma_version")
    version, family = gemma.get("gemma_version"), str(gemma.get("model_type", "of an unknown kind"))
    name = model.where.name
    if wanted is not None:
        if version != wanted:
            told = f"says it is {version}" if version else "does not say which version it is"
            raise CheckpointError(
                f"the checkpoint {name} was trained with the text encoder {wanted}, but this one {told}",
                where=where,
                remedy=f"Set text_encoder_path under [model] to the file of {wanted}.",
            )
        return
    release = release_of(model)
    if release is not None and release >= _GEMMA_4_SINCE:
        if version is not None:
            raise CheckpointError(
                f"this text encoder is {version}, but the checkpoint {name} of release {_spoken(release)} does not name the text encoder that it was trained with",
                where=where,
                remedy="Use the official checkpoint, whose metadata names the text encoder.",
            )
        warnings.warn(
            f"neither the checkpoint {name} nor the text encoder {where} says which text encoder the checkpoint was trained with; they may not match",
            stacklevel=2,
        )
    elif not family.startswith("gemma3"):
        raise CheckpointError(
            f"the checkpoint {name} was trained with Gemma 3, but this text encoder is {family}",
            where=where,
            remedy="Set text_encoder_path under [model] to the folder of Gemma 3 12B.",
        )


def _spoken(release: tuple[int, int]) -> str:
    return f"{release[0]}.{release[1]}"


def _config(weights: Slots) -> dict[str, Any]:
    return object_of(weights.metadata.get("config"))
