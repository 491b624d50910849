"""The hooks through which a plugin can add things to ltx.

Each hook returns a mapping from names to the things that the plugin adds, and has no side effects. A package implements
its hooks in a module, and names the module in an entry point of the group `ltx`:

    [project.entry-points.ltx]
    my_condition = "my_package.my_module"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from ltxcore.adapters import AdapterType
    from ltxcore.columns import ColumnType
    from ltxcore.exporters import ExporterType
    from ltxcore.objective_types import ObjectiveType
    from ltxcore.protocols import (
        Condition,
        LazyCommand,
        OptimizerType,
        ReferenceFilter,
        ScheduleType,
        SigmaSampler,
        StrategyType,
        Tracker,
    )
    from ltxcore.quantizers import QuantizerType
    from ltxcore.sources import SourceType

PROJECT = "ltx"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def ltx_conditions() -> Mapping[str, type[Condition]]:  # type: ignore[empty-body]
    """Return condition types, by the names that `type` takes in an entry of `conditions`."""


@hookspec
def ltx_strategies() -> Mapping[str, type[StrategyType]]:  # type: ignore[empty-body]
    """Return training strategies, by the names that `name` takes in `[training_strategy]`."""


@hookspec
def ltx_objectives() -> Mapping[str, type[ObjectiveType]]:  # type: ignore[empty-body]
    """Return objectives, which define what is learned, by the names that `type` takes in an entry of
    `[[objectives]]`.
    """


@hookspec
def ltx_sigma_samplers() -> Mapping[str, type[SigmaSampler]]:  # type: ignore[empty-body]
    """Return sigma samplers, by the names that `timestep_sampling_mode` takes in `[flow_matching]`."""


@hookspec
def ltx_adapters() -> Mapping[str, type[AdapterType]]:  # type: ignore[empty-body]
    """Return adapters of linear modules, by the names that `type` takes in `[lora]`."""


@hookspec
def ltx_optimizers() -> Mapping[str, type[OptimizerType]]:  # type: ignore[empty-body]
    """Return optimizers, by the names that `optimizer_type` takes in `[optimization]`."""


@hookspec
def ltx_schedules() -> Mapping[str, type[ScheduleType]]:  # type: ignore[empty-body]
    """Return learning-rate schedules, by the names that `scheduler_type` takes in `[optimization]`."""


@hookspec
def ltx_quantizers() -> Mapping[str, type[QuantizerType]]:  # type: ignore[empty-body]
    """Return quantizers of frozen weights, by the names that `quantization` takes in `[acceleration]`."""


@hookspec
def ltx_sources() -> Mapping[str, type[SourceType]]:  # type: ignore[empty-body]
    """Return sources, which read datasets, by the names that `source` takes in `[preprocessing]`. Without this key, the
    source that recognizes the path of the dataset reads it.
    """


@hookspec
def ltx_exporters() -> Mapping[str, type[ExporterType]]:  # type: ignore[empty-body]
    """Return exporters of LoRAs for other programs, by the names that `ltx export --for` takes."""


@hookspec
def ltx_columns() -> Mapping[str, type[ColumnType]]:  # type: ignore[empty-body]
    """Return column types, which say what a dataset's column is encoded to, by the name of the column."""


@hookspec
def ltx_reference_filters() -> Mapping[str, ReferenceFilter | type[ReferenceFilter]]:  # type: ignore[empty-body]
    """Return functions that make a reference or a mask from a clip, or classes of such functions with keys, by the names that `--filter` of
    `ltx reference` and `ltx mask` takes.
    """


@hookspec
def ltx_trackers() -> Mapping[str, type[Tracker]]:  # type: ignore[empty-body]
    """Return trackers, by their NAME in `[trackers.NAME]`."""


@hookspec
def ltx_commands() -> Mapping[str, click.Command | LazyCommand]:  # type: ignore[empty-body]
    """Return commands of the `ltx` program, by name. A command is a click command, or a line of help with the place to
    import the command from.
    """
