"""Read files of values for generation, and encode them as preprocessing encodes the cells of their column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltxcore.columns import Cell, Params, Target, misfit, numbers_in, read_params, spelled_params
from ltxcore.conditions import AskedCondition
from ltxcore.config.reading import Unreadable
from ltxcore.config.structurer import Structurer
from ltxcore.config.tables import plain
from ltxcore.dataset.columns import Column
from ltxcore.declarations import roles_of
from ltxcore.encode.cells import values_of
from ltxcore.errors import ConfigError, DataError, Problem
from ltxcore.registry import Registry
from ltxcore.sample.empty_tokens import Canvas

if TYPE_CHECKING:
    from torch import Tensor

    from ltxcore.config.loras import Strength

COLUMNS = "columns"
"""The key of a LoRA's metadata that holds the parameters of the columns that the run used, as JSON."""


def tensor_of(canvas: Canvas, asked: AskedCondition, role: str, params: Params) -> Tensor:
    """Return the values of a role, `[1, *shape]` float32, from its file.

    Args:
        canvas: the sample to generate, in latent cells.
        asked: the condition.
        role: the role of the condition.
        params: the parameters of columns that were used for training, by the name of the column.

    Raises:
        DataError: the file cannot be read, or its values do not have the role's shape.
        PluginError: the column breaks its protocol.
    """
    path: Path = asked.tensors[role]
    grid, shape = canvas.target(asked.modality), next(each.shape for each in roles_of(asked.cls) if each.name == role) or ()
    target = Target(asked.modality, grid, None if asked.modality == "video" and grid.frames == 1 else canvas.rate(asked.modality))
    if role in asked.encoders:
        name, default = asked.encoders[role]
        plugin = with_params(name, default, params[name]) if name in params else default
        found = values_of(Column.of_plugin(name, plugin), Cell(target, path=path), str(path))
    else:
        found = numbers_in(path)
        if not bool(found.isfinite().all()):
            raise DataError("has values that are not finite", where=str(path), remedy="Write finite numbers.")
    what = misfit(found.shape, shape, target.cells, "the condition", "what is generated")
    if what:
        raise DataError(what, where=str(path), remedy="Write values of the shape that the condition takes.")
    return found[None]


def with_params(name: str, default: Any, params: Mapping[str, Any]) -> Any:
    """Return the plugin that encodes the cells of a column, with the parameters that the training samples were encoded with.

    Raises:
        ConfigError: the plugin does not take these parameters.
    """
    structurer = Structurer(Registry({}), Path.cwd())
    with suppress(Unreadable):
        made = structurer.table(params, type(default))
        if not structurer.reading.mistakes:  # an unknown key is noted, and the rest is made
            return made
    mistakes = "; ".join(f"{'.'.join(map(str, mistake.path))}: {mistake.what}" for mistake in structurer.reading.mistakes)
    raise ConfigError(
        f'the column "{name}" does not take the parameters that the samples of training were encoded with: {mistakes}',
        remedy="Install the version of its plugin that encoded them.",
    )


def params_of(encoders: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return the parameters of the plugins that encode the cells of columns, by the name of the column; plugins without parameters are left
    out.
    """
    return {name: params for name, encoder in (encoders or {}).items() if (params := plain(encoder))}


def told_params(encoders: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the parameters of the plugins that encode the cells of columns, as metadata of trained weights."""
    text = spelled_params(params_of(encoders))
    return {COLUMNS: text} if text else {}


def params_of_loras(loras: Iterable[Strength]) -> dict[str, dict[str, Any]]:
    """Return the parameters of columns that LoRAs were trained with, by the name of the column.

    Raises:
        ConfigError: the parameters cannot be read, or two LoRAs were trained with different parameters.
    """
    found: dict[str, dict[str, Any]] = {}
    problems: list[Problem] = []
    for lora in loras:
        try:
            said = read_params(lora.metadata.get(COLUMNS, ""))
        except ValueError:
            problems.append(
                Problem(
                    f'the metadata "{COLUMNS}" of this LoRA cannot be read', str(lora.path), "Train the LoRA again, or remove that key."
                )
            )
            continue
        for name, params in said.items():
            if found.setdefault(name, params) != params:
                what = f'was trained with parameters of the column "{name}" that differ from those of another LoRA'
                problems.append(Problem(what, str(lora.path), "Values cannot be encoded in two ways at once: use only one of the LoRAs."))
    if problems:
        raise ConfigError.of(problems)
    return found
