"""Functions that build the ZeRO engine: they divide the weights, make an optimizer for them, and wrap both with DeepSpeed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from ltxcore.engines.average import WeightAverage
from ltxcore.engines.groups import indices_of, parameter_groups
from ltxcore.engines.optim import optimizer_of
from ltxcore.engines.process import Processes
from ltxcore.engines.process_group import Group, deepspeed
from ltxcore.engines.schedules import schedule_of
from ltxcore.engines.zero import ZeroEngine
from ltxcore.engines.zero_config import Config, Wanted, resolve
from ltxcore.engines.zero_sizes import WeightShapes
from ltxcore.engines.zero_state import Divided, ReplacedLinear, partition
from ltxcore.errors import ConfigError, Problem
from ltxcore.logs import unwarned
from ltxcore.models.base_alone import CopyOfBase
from ltxcore.models.sequence_parallel import divide_tokens

if TYPE_CHECKING:
    from ltxcore.config.run_file import RunFile
    from ltxcore.models.backbone import LTXBackbone


def settled(run: RunFile, world_size: int, backbone: LTXBackbone) -> Config:
    """Return the configuration of DeepSpeed for a run, after all checks that are possible beforehand.

    Raises:
        ConfigError: the configuration contradicts the run file, DeepSpeed does not accept it, or it needs something that cannot be
            compiled here.
    """
    config = resolve(Wanted.of(run, world_size), run.engine.deepspeed_config, _shapes(run, backbone))
    _check_compiled(config)
    _accepted(config, run.engine.deepspeed_config)
    return config


def zero_engine(
    backbone: LTXBackbone,
    parameters: Mapping[str, Parameter],
    run: RunFile,
    config: Config,
    *,
    processes: Processes,
    device: torch.device,
) -> ZeroEngine:
    """Make an engine across all processes; every process must call this. The backbone may be on the CPU; its weights are moved to their
    devices.

    Args:
        backbone: the model, with adapters in a LoRA run.
        parameters: the trained parameters, by name.
        run: the run file.
        config: DeepSpeed's configuration, as `settled` returns it.
        processes: the processes of this launch.
        device: the device of this process.
    """
    wanted = Wanted.of(run, processes.world_size)
    transformer = backbone.transformer
    group = Group.start(processes, device)
    dtype = torch.bfloat16 if wanted.precision == "bf16" else torch.float32
    # No copies are needed: the weights are pages of the base's file, or a small LoRA, and the transformer gets new tensors.
    first = {
        name: parameter.data for name, parameter in parameters.items() if wanted.precision == "bf16" and parameter.dtype == torch.float32
    }
    linear = ReplacedLinear()
    with linear.taken():
        if config["zero_optimization"]["stage"] == 3:
            partition(transformer, config, dtype)
        else:
            transformer.to(dtype)
        optimizer = _optimizer(config, run, parameters)
        scheduler = schedule_of(run.optimization, optimizer)
        indices = indices_of(optimizer, parameter_groups(run.optimized, parameters))  # before DeepSpeed takes over the parameters
        with unwarned():
            engine, *_ = deepspeed().initialize(
                model=transformer, model_parameters=list(parameters.values()), optimizer=optimizer, config=config
            )
    if run.engine.sequence_parallel > 1:
        among = group.divided(run.engine.sequence_parallel)
        divide_tokens(transformer, among)
        if isinstance(backbone.copy_of_base, CopyOfBase):
            divide_tokens(backbone.copy_of_base.backbone.transformer, among)
    divided = Divided(engine, parameters, dict(backbone.named_parameters()), linear)
    for name, value in first.items():
        divided.put("parameter", name, value)
    average = None if run.ema.decay is None else WeightAverage.of(run.ema, divided.parts)
    return ZeroEngine(
        backbone, parameters, divided, scheduler, group, device, wanted.accumulation, indices, average, run.engine.sequence_parallel
    )


def _shapes(run: RunFile, backbone: LTXBackbone) -> WeightShapes:
    is_adapter = run.model.training_mode == "lora"
    weights = ((name, tuple(each.shape), 1, is_adapter and each.requires_grad) for name, each in backbone.named_parameters())
    return WeightShapes.of(weights, len(backbone.transformer.transformer_blocks))


def _optimizer(config: Config, run: RunFile, parameters: Mapping[str, Parameter]) -> Optimizer:
    """Return the run's optimizer, or DeepSpeed's AdamW for host memory if the configuration asks for it.

    Raises:
        ConfigError: as in `optimizer_of`, or the configuration asks for DeepSpeed's AdamW and the run's optimizer is not AdamW.
    """
    own = optimizer_of(run.optimized, parameters)
    if not config["zero_force_ds_cpu_optimizer"]:
        return own
    if type(own) is not torch.optim.AdamW:
        what = f'zero_force_ds_cpu_optimizer requires AdamW, but optimization.optimizer_type is "{run.optimization.optimizer_type}"'
        raise ConfigError(what, where=str(run.engine.deepspeed_config), remedy="Set zero_force_ds_cpu_optimizer to false.")
    groups = [{name: group[name] for name in ("params", "lr", "betas", "eps", "weight_decay")} for group in own.param_groups]
    optimizer: Optimizer = deepspeed().ops.adam.DeepSpeedCPUAdam(groups, adamw_mode=True)
    return optimizer


def _accepted(config: Config, user: Path | None) -> None:
    """Refuse a configuration that DeepSpeed refuses, and quote DeepSpeed's reasons.

    Raises:
        ConfigError: keys are at fault; the error names all of them.
    """
    deepspeed()
    from deepspeed.runtime.zero.config import get_zero_config
    from pydantic import ValidationError

    where = str(user or "")
    try:
        get_zero_config(dict(config))
    except ValidationError as error:
        found = ((".".join(map(str, each["loc"])), each["msg"]) for each in error.errors())
        raise ConfigError.of(
            Problem(f"DeepSpeed does not accept zero_optimization{'.' if key else ''}{key}: {said}", where, "Fix or remove the value.")
            for key, said in found
        ) from error
    except (ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"DeepSpeed does not accept this configuration: {error}", where=where, remedy="Fix the file.") from error


def compiled(config: Config) -> list[str]:
    """Return in words what DeepSpeed compiles on first use, which takes minutes."""
    return [what for what, *_ in _compiled(config)]


def _compiled(config: Config) -> Iterator[tuple[str, str, str, str]]:
    """Yield each program that is compiled on first use, with DeepSpeed's builder, the key that asks for the program, and the key's value
    that avoids it."""
    zero: Any = config["zero_optimization"]
    if config["zero_force_ds_cpu_optimizer"]:
        yield "DeepSpeed's Adam for the CPU", "CPUAdamBuilder", "zero_force_ds_cpu_optimizer", "false"
    if any((zero.get(part) or {}).get("device") == "nvme" for part in ("offload_optimizer", "offload_param")):
        yield "offload to NVMe", "AsyncIOBuilder", "zero_optimization.offload_*.device", '"cpu"'


def _check_compiled(config: Config) -> None:
    """Refuse, before anything is started, a configuration that needs compiling where this is not possible.

    Raises:
        ConfigError: the compiler, ninja, or the headers of libaio are missing.
    """
    for what, builder, key, without in _compiled(config):
        missing = [f"`{tool}`" for tool in ("ninja", "c++") if shutil.which(tool) is None]
        if not missing and not getattr(deepspeed().ops.op_builder, builder)().is_compatible(verbose=False):
            missing = ["the headers of libaio" if builder == "AsyncIOBuilder" else "what its compilation needs"]
        if missing:
            raise ConfigError(
                f"{what} ({key}) is compiled on first use, but this machine lacks {' and '.join(missing)}",
                remedy=f"Install what is missing (Debian, Ubuntu: `apt-get install g++ ninja-build libaio-dev`), or set {key} to {without}.",
            )
