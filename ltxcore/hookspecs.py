"""The hooks for everything that a plugin can add, on one page.

Each hook returns a mapping from names to what they stand for, and changes nothing. A package offers its hooks in a
module that an entry point of the group `ltx` names:

    [project.entry-points.ltx]
    my_condition = "my_package.my_module"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from ltxcore.protocols import (
        Condition,
        LazyCommand,
        ObjectiveType,
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
    """Return condition types, by the name that `type` takes."""


@hookspec
def ltx_strategies() -> Mapping[str, type[StrategyType]]:  # type: ignore[empty-body]
    """Return training strategies, by the name that `name` in `[training_strategy]` takes."""


@hookspec
def ltx_objectives() -> Mapping[str, type[ObjectiveType]]:  # type: ignore[empty-body]
    """Return objectives, which say what is learned, by the `type` in an entry of `[[objectives]]`."""


@hookspec
def ltx_sigma_samplers() -> Mapping[str, type[SigmaSampler]]:  # type: ignore[empty-body]
    """Return sigma samplers, by the name that `timestep_sampling_mode` in `[flow_matching]` takes."""


@hookspec
def ltx_optimizers() -> Mapping[str, type[OptimizerType]]:  # type: ignore[empty-body]
    """Return optimizers, by the name that `optimizer_type` in `[optimization]` takes."""


@hookspec
def ltx_schedules() -> Mapping[str, type[ScheduleType]]:  # type: ignore[empty-body]
    """Return learning-rate schedules, by the name that `scheduler_type` in `[optimization]` takes."""


@hookspec
def ltx_quantizers() -> Mapping[str, type[QuantizerType]]:  # type: ignore[empty-body]
    """Return quantizers of frozen weights, by the name that `quantization` in `[acceleration]` takes."""


@hookspec
def ltx_sources() -> Mapping[str, type[SourceType]]:  # type: ignore[empty-body]
    """Return sources, which read datasets, by the `source` in `[preprocessing]`; a path alone picks the one that recognizes it."""


@hookspec
def ltx_reference_filters() -> Mapping[str, ReferenceFilter]:  # type: ignore[empty-body]
    """Return functions that make a reference clip from a clip, by the name that `ltx reference --filter` takes."""


@hookspec
def ltx_trackers() -> Mapping[str, type[Tracker]]:  # type: ignore[empty-body]
    """Return trackers, by the NAME in `[trackers.NAME]`."""


@hookspec
def ltx_commands() -> Mapping[str, click.Command | LazyCommand]:  # type: ignore[empty-body]
    """Return commands of the `ltx` program, by name: click commands, or a line of help for each and where to import it from."""
