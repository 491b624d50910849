"""The parameter groups of an optimizer, to which the run file gives separate learning rates and weight decays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from torch.nn import Parameter
from torch.optim import Optimizer

from ltxcore.config.groups import OF_B, names_of
from ltxcore.errors import ConfigError
from ltxcore.models.groups import group_of
from ltxcore.protocols import ParameterGroup

if TYPE_CHECKING:
    from ltxcore.config.run_file import OptimizationTable

Place = tuple[int, bool]
"""The index of a group of the run file, -1 for parameters that no group names, and whether it is for B matrices with a separate learning
rate.
"""


def parameter_groups(table: OptimizationTable, parameters: Mapping[str, Parameter]) -> list[ParameterGroup]:
    """Return the groups of these parameters, beginning with the parameters that no group in the run file names. Groups without parameters
    are left out.

    Raises:
        ConfigError: the run file sets a learning rate for B matrices, but there are none.
    """
    found: dict[Place, dict[str, Parameter]] = {}
    for name, parameter in parameters.items():
        index = group_of(table.groups, name.removeprefix("transformer."))
        place = -1 if index is None else index, table.lora_plus_ratio is not None and is_b(name)
        found.setdefault(place, {})[name] = parameter
    if table.lora_plus_ratio is not None and not any(of_b for _, of_b in found):
        raise ConfigError(
            "applies to no matrix: no adapter of this run has a matrix B", where="optimization.lora_plus_ratio", remedy="Remove the key."
        )
    return [_group(table, place, found[place]) for place in sorted(found)]


def all_groups(table: OptimizationTable) -> Iterator[ParameterGroup]:
    """Yield the groups that a run may have, each without parameters."""
    for index in range(-1, len(table.groups)):
        yield _group(table, (index, False), {})
        if table.lora_plus_ratio is not None:
            yield _group(table, (index, True), {})


def _group(table: OptimizationTable, place: Place, parameters: Mapping[str, Parameter]) -> ParameterGroup:
    index, of_b = place
    own = None if index < 0 else table.groups[index]
    rate = table.learning_rate if own is None or own.learning_rate is None else own.learning_rate
    decay = table.weight_decay if own is None or own.weight_decay is None else own.weight_decay
    name = "/".join([*([] if own is None else [names_of(table.groups)[index]]), *([OF_B] if of_b else [])])
    return ParameterGroup(parameters, rate * table.lora_plus_ratio if of_b and table.lora_plus_ratio else rate, decay, name)


def is_b(name: str) -> bool:
    """Return whether a parameter is the B matrix of a LoRA; B matrices are initially 0."""
    return f".{OF_B}." in f"{name}."


def indices_of(optimizer: Optimizer, groups: list[ParameterGroup]) -> dict[str, int]:
    """Return the index in `param_groups` of each parameter group, by the group's name.

    An optimizer may divide groups and change their order. All parts of a group have the same learning rate.
    """
    index = {id(parameter): index for index, group in enumerate(optimizer.param_groups) for parameter in group["params"]}
    return {group.name: index.get(id(next(iter(group.parameters.values()))), 0) for group in groups}


def rates_of(optimizer: Optimizer, indices: Mapping[str, int]) -> dict[str, float]:
    """Return the learning rate of each parameter group in the next step, by the group's name."""
    return {name: float(optimizer.param_groups[index]["lr"]) for name, index in indices.items()}
