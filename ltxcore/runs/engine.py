"""The choice of a run's engine, and checks for settings that it does not support."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch.nn import Parameter

from ltxcore.declarations import zero_stages_of
from ltxcore.engines.process import Processes
from ltxcore.engines.single import AUTOCAST, single_engine
from ltxcore.engines.zero_config import Wanted, resolve, stage_of
from ltxcore.logs import inform
from ltxcore.protocols import Engine

if TYPE_CHECKING:
    from ltxcore.config.run_file import RunFile
    from ltxcore.models.backbone import LTXBackbone


INSTALL_DEEPSPEED = 'Install it (Linux; on Windows, within WSL), or train in one process: engine.name = "auto", without a launcher.'


def uses_zero(config: RunFile, world_size: int) -> bool:
    """Return whether the engine of the run is ZeRO."""
    return config.engine.name == "zero" or (config.engine.name == "auto" and world_size > 1)


def engine_problems(config: RunFile, world_size: int, *, is_launched: bool = True) -> Iterator[tuple[str, str, str]]:
    """Yield the settings that the run's engine does not support: the key, what is wrong, and what to do about it.

    Args:
        config: the run file.
        world_size: the number of processes.
        is_launched: whether the run will have this number of processes; false if its number is not known yet.
    """
    table = config.engine
    if is_launched and world_size % table.sequence_parallel:
        many = "1 process cannot" if world_size == 1 else f"{world_size} processes cannot"
        yield (
            "engine.sequence_parallel",
            f"{many} be divided into groups of {table.sequence_parallel}, each of which divides the tokens of a micro-batch",
            f"Start the run with `ltx launch --num-gpus {table.sequence_parallel}` or a multiple of it, or change the key.",
        )
    if not uses_zero(config, world_size):
        if world_size > 1:
            yield "engine.name", f'"single" is an engine for one process, but there are {world_size}', "Start the run without a launcher."
        for key, default in (("stage", None), ("deepspeed_config", None), ("sequence_parallel", 1)):
            if table.name == "single" and getattr(table, key) != default:
                yield (
                    f"engine.{key}",
                    'only works with several processes, but engine.name is "single"',
                    'Use "zero", or remove the key.',
                )
        if table.name == "single" and table.offload != "none":
            yield "engine.offload", 'only works with several processes, but engine.name is "single"', 'Use "zero", or remove the key.'
        return
    if stage_of(config.engine) not in zero_stages_of(config.optimization.optimizer):
        kind = config.optimization.optimizer_type
        yield (
            "optimization.optimizer_type",
            f'"{kind}" would train differently with several processes, which give it flat pieces of many weights at a time',
            'Use "adamw", or train in one process.',
        )
    yield from _of_one_process(config)
    if config.model.training_mode == "lora" and stage_of(config.engine) not in zero_stages_of(config.lora.adapter):
        yield (
            "lora.type",
            f'"{config.lora.type}" only works in one process: several processes divide matrices that it needs whole',
            'Use "lora", or train in one process.',
        )


def head_problems(config: RunFile, heads: Mapping[str, int]) -> Iterator[tuple[str, str, str]]:
    """Refuse to divide the heads of a model, given their number by stream, among a number of processes that does not divide them."""
    count = config.engine.sequence_parallel
    uneven = [f"{number} heads of {name}" for name, number in heads.items() if number % count]
    if uneven:
        dividing = [each for each in range(2, math.gcd(*heads.values()) + 1) if all(number % each == 0 for number in heads.values())]
        yield (
            "engine.sequence_parallel",
            f"{count} processes cannot share the model's {' and '.join(uneven)}, because each takes equally many",
            f"Use one of {', '.join(map(str, dividing))}." if dividing else "Remove the key.",
        )


def _of_one_process(config: RunFile) -> Iterator[tuple[str, str, str]]:
    """Refuse settings that are available in one process but not in several."""
    table = config.engine
    if config.acceleration.quantization is not None:
        yield "acceleration.quantization", "quantized weights cannot be sharded among processes", "Remove the key."
    if config.acceleration.offload_optimizer_during_validation:
        yield (
            "acceleration.offload_optimizer_during_validation",
            "only works in one process: DeepSpeed moves only the state of its own optimizer",
            "Remove the key"
            + (
                '. engine.offload = "optimizer" keeps the state in CPU memory all the time.'
                if table.offload == "none"
                else f', since engine.offload = "{table.offload}" keeps the state in CPU memory all the time.'
            ),
        )
    if config.acceleration.offload_blocks:
        yield (
            "acceleration.offload_blocks",
            "only works in one process",
            'Use engine.offload = "all".' if table.offload != "all" else "Remove the key.",
        )
    if config.acceleration.chunked_feed_forward > 1:
        yield "acceleration.chunked_feed_forward", "only works in one process", "Remove the key."
    if config.acceleration.activation_budget_gb is not None:
        yield "acceleration.activation_budget_gb", "only works in one process", "Remove the key."
    for name in ("stochastic_rounding", "step_in_backward"):
        if getattr(config.acceleration, name):
            yield (
                f"acceleration.{name}",
                "only works in one process: several processes divide weights and optimizer state among them",
                "Remove the key.",
            )
    if config.acceleration.compile:
        yield (
            "acceleration.compile",
            "only works in one process: sharded weights come and go within a block",
            "Remove the key.",
        )


def weights_dtype(config: RunFile, divided: bool) -> torch.dtype:
    """Return the dtype in which a run holds its weights, before any quantization.

    Weights that are trained whole are held in float32 and need no separate master weights, unless the run rounds them
    stochastically. An engine that divides the weights among processes keeps its own master weights.
    """
    masters = config.model.training_mode == "full" and not divided and not config.acceleration.stochastic_rounding
    return torch.float32 if masters else compute_dtype(config)


def compute_dtype(config: RunFile) -> torch.dtype:
    """Return the dtype in which a run computes matrix products and holds frozen weights."""
    return AUTOCAST[config.acceleration.mixed_precision_mode] or torch.float32


def missing_for_engine(config: RunFile, world_size: int) -> Iterator[tuple[str, str, str]]:
    """Yield what the run's engine needs and this machine lacks: the key, what is wrong, and what to do about it."""
    if uses_zero(config, world_size) and not has_deepspeed():
        why = 'engine.name = "zero"' if config.engine.name == "zero" else "training in several processes"
        yield "engine.name", f"{why} needs the package deepspeed, which is not installed", INSTALL_DEEPSPEED


def has_deepspeed() -> bool:
    """Return whether DeepSpeed, which comes with ltx on Linux, is installed."""
    return importlib.util.find_spec("deepspeed") is not None


def check_deepspeed(config: RunFile, world_size: int | None) -> None:
    """Refuse a DeepSpeed configuration that contradicts the run file.

    Args:
        config: the run file.
        world_size: the number of processes; None if it is not known yet.

    Raises:
        ConfigError: the configuration contradicts the run file; the error names every contradiction.
    """
    resolve(Wanted.of(config, world_size), config.engine.deepspeed_config)


def build_engine(
    config: RunFile,
    backbone: LTXBackbone,
    parameters: Mapping[str, Parameter],
    processes: Processes,
    device: torch.device,
) -> Engine:
    """Build the run's engine; all processes of the run must call this function.

    Raises:
        ConfigError: the optimizer is not installed, DeepSpeed does not accept the configuration, or an offload cannot be compiled
            on this machine.
    """
    if not uses_zero(config, processes.world_size):
        return single_engine(
            backbone,
            parameters,
            config.optimized,
            precision=config.acceleration.mixed_precision_mode,
            device=device,
            makes_room=config.acceleration.offload_optimizer_during_validation,
            rounding_seed=config.seed if config.acceleration.stochastic_rounding else None,
            in_backward=config.acceleration.step_in_backward,
            ema=config.ema,
        )
    from ltxcore.engines.zero_build import compiled, settled, zero_engine

    settings = processes.together(lambda: settled(config, processes.world_size, backbone))
    for what in compiled(settings):
        inform(f"{what} is compiled on first use, which takes several minutes")
    return zero_engine(backbone, parameters, config, settings, processes=processes, device=device)
