"""The configuration of DeepSpeed, which is made from the run file and from what the user's `ds_config.json` adds to it.

DeepSpeed itself refuses "auto", or silently takes it to mean its default, and it ignores unknown keys. Therefore everything is filled in
and checked here first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.engines.zero_sizes import WeightShapes
from ltxcore.errors import ConfigError, Problem, suggestion
from ltxcore.files import text_in, why_unread

if TYPE_CHECKING:
    from ltxcore.config.run_file import EngineTable, RunFile

Config = dict[str, Any]

AUTO = "auto"

UNKNOWN = WeightShapes()
"""The shapes of a model if only its usual width is known."""

LEFT = ("stage3_gather_16bit_weights_on_model_save", "overlap_comm", "allgather_bucket_size")
"""The keys whose values DeepSpeed chooses where they are "auto"."""

FORGOTTEN_PRINTS = 1_000_000_000
"""The number of steps between DeepSpeed's progress lines. It is larger than any run, since a run reports its own progress."""

PASSED_ON = frozenset(
    {
        "aio", "comms_logger", "communication_data_type", "csv_monitor", "data_types", "disable_python_gc", "dump_state", "flops_profiler",
        "gradient_predivide_factor", "log_level", "memory_breakdown", "prescale_gradients", "steps_per_print", "tensorboard", "timers",
        "wall_clock_breakdown", "wandb", "zero_force_ds_cpu_optimizer", "zero_optimization",
    }
)  # fmt: skip
"""The keys that concern only DeepSpeed, and are passed on unchanged."""

DECIDED = frozenset(
    {
        "bf16", "fp16", "gradient_accumulation_steps", "gradient_clipping", "optimizer", "scheduler", "train_batch_size",
        "train_micro_batch_size_per_gpu", "zero_allow_untested_optimizer",
    }
)  # fmt: skip
"""The keys that the run file decides. A DeepSpeed configuration may repeat the same value, or say "auto"."""

SECTIONS = (
    ("bf16",), ("fp16",), ("optimizer",), ("optimizer", "params"), ("scheduler",), ("zero_optimization",),
    ("zero_optimization", "offload_optimizer"), ("zero_optimization", "offload_param"),
)  # fmt: skip
"""The paths of the sections that are read here."""

REFUSED: Mapping[str, str] = {
    "activation_checkpointing": "It has no effect here. Use optimization.enable_gradient_checkpointing in the run file.",
    "bfloat16": 'Write "bf16".',
    "amp": "Use acceleration.mixed_precision_mode in the run file.",
    "torch_autocast": "Use acceleration.mixed_precision_mode in the run file.",
    "checkpoint": "The run writes its own checkpoints. Use [checkpoints] in the run file.",
}


@attrs.frozen
class Wanted:
    """The values of a run file that also appear in DeepSpeed's configuration.

    Attributes:
        batch_size: the number of samples in a micro-batch; 1 if micro-batches are filled with tokens, since DeepSpeed needs a number and
            does nothing with it.
        is_by_tokens: whether micro-batches are filled with tokens.
        accumulation: the number of micro-batches per optimizer step on each process.
        world_size: the number of processes; None if it is not known yet.
        max_grad_norm: the norm that gradients are clipped to; 0 for no clipping.
        precision: `mixed_precision_mode`, "no" or "bf16".
        stage: `engine.stage`; None means the stage in the DeepSpeed configuration, or else 3.
        offload: `engine.offload`.
        learning_rate: the peak learning rate.
        optimizer: `optimizer_type`.
        optimizer_params: the optimizer's parameters.
        weight_decay: the weight decay of everything that is trained.
        schedule: `scheduler_type`.
        averages: whether the run keeps a moving average of the weights.
    """

    batch_size: int
    accumulation: int
    world_size: int | None
    max_grad_norm: float
    precision: str
    stage: int | None
    offload: str
    learning_rate: float
    optimizer: str
    optimizer_params: Mapping[str, Any]
    weight_decay: float
    schedule: str
    averages: bool = False
    is_by_tokens: bool = False

    @classmethod
    def of(cls, run: RunFile, world_size: int | None) -> Wanted:
        """Take the values from a run file for a number of processes. None means that neither this number nor the global batch size is known
        yet.
        """
        table = run.optimization
        return cls(
            batch_size=table.batch_size or 1,
            accumulation=table.gradient_accumulation_steps,
            world_size=world_size,
            max_grad_norm=table.max_grad_norm,
            precision=run.acceleration.mixed_precision_mode,
            stage=run.engine.stage,
            offload=run.engine.offload,
            learning_rate=table.learning_rate,
            optimizer=table.optimizer_type,
            optimizer_params=table.optimizer_params,
            weight_decay=table.weight_decay,
            schedule=table.scheduler_type,
            averages=run.ema.decay is not None,
            is_by_tokens=table.tokens_per_batch is not None,
        )


def read(path: Path) -> Config:
    """Read a `ds_config.json`.

    Raises:
        ConfigError: the file is not a JSON object, or has a key twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> Config:
        twice = sorted({key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1})
        if twice:
            raise ConfigError(f'sets "{twice[0]}" more than once', where=str(path), remedy="Keep one of the values.")
        return dict(pairs)

    try:
        found = json.loads(text_in(path), object_pairs_hook=once)
    except OSError as error:
        raise ConfigError(why_unread(error), where=str(path), remedy="Name a DeepSpeed configuration.") from error
    except RecursionError as error:
        raise ConfigError(
            "is not a DeepSpeed configuration: the values are nested too deeply", where=str(path), remedy="Fix the file."
        ) from error
    except ValueError as error:
        raise ConfigError(f"is not JSON: {error}", where=str(path), remedy="Fix the file.") from error
    if not isinstance(found, dict):
        raise ConfigError("is not a JSON object", where=str(path), remedy="Fix the file.")
    return found


def resolve(wanted: Wanted, user: Path | None = None, shapes: WeightShapes = UNKNOWN) -> Config:
    """Return the whole configuration, for `deepspeed.initialize`.

    Args:
        wanted: the values from the run file.
        user: the path of a `ds_config.json`, in which "auto" is filled in.
        shapes: the shapes of the model, from which buffer sizes are derived.

    Raises:
        ConfigError: keys contradict the run file, are not supported by the engine, or would be ignored by DeepSpeed; the error names all of
            them.
    """
    config: Config = {} if user is None else read(user)
    where = "" if user is None else str(user)
    if wrong := [*_no_sections(config, where)]:
        raise ConfigError.of(wrong)
    problems = [*_unknown(config, where)]
    stage = _stage(config, wanted.stage)
    for path, value, said in _decided(wanted, stage):
        found = _get(config, path)
        if found not in (None, AUTO) and not _equal(found, value):
            what = f"{'.'.join(path)} is {json.dumps(found)}, but {said}"
            problems.append(Problem(what, where, 'Make the two values equal, or write "auto" in the DeepSpeed configuration.'))
        _set(config, path, value)
    problems.extend(_other_optimizer(config, wanted, where))
    _fill_sizes(config, shapes)
    _offload(config, wanted, problems, where)
    for part in ("offload_optimizer", "offload_param") if wanted.averages else ():
        if _get(config, ("zero_optimization", part, "device")) == "nvme":
            what = f'zero_optimization.{part}.device is "nvme", where weights cannot be averaged, and ema.decay is set'
            problems.append(Problem(what, where, 'Use "cpu", or remove ema.decay.'))
    if wanted.world_size is None:
        config.pop("train_batch_size", None)
    left = [".".join(path) for path, value in _leaves(config) if value == AUTO and path != ("data_types", "keep_in_fp32_modules")]
    problems.extend(
        Problem(f'{key} is "auto", but nothing in the run file provides a value for it', where, "Write a value, or remove the key.")
        for key in left
    )
    if problems:
        raise ConfigError.of(problems)
    config.setdefault("steps_per_print", FORGOTTEN_PRINTS)
    config.setdefault("zero_force_ds_cpu_optimizer", False)
    return config


def stage_of(engine: EngineTable) -> int:
    """Return the stage of a run from the run file, or else from the DeepSpeed configuration if it can be read, or else 3."""
    config: Config = {}
    if engine.stage is None and engine.deepspeed_config is not None:
        with suppress(ConfigError):  # `resolve` reports this error
            config = read(engine.deepspeed_config)
    return _stage(config, engine.stage)


def _stage(config: Config, wanted: int | None) -> int:
    theirs = _get(config, ("zero_optimization", "stage"))
    if wanted is not None:
        return wanted
    return theirs if isinstance(theirs, int) and theirs in (1, 2, 3) else 3


def _no_sections(config: Config, where: str) -> Iterator[Problem]:
    """Yield a problem for each value that stands in place of a section, since DeepSpeed would ignore it."""
    for path in SECTIONS:
        found = _get(config, path)
        if found is not None and not isinstance(found, dict) and (found != AUTO or len(path) > 1):
            yield Problem(
                f"{'.'.join(path)} is {json.dumps(found)}, not a section", where, "Write {...} with the keys of the section, or remove it."
            )


def _unknown(config: Config, where: str) -> Iterator[Problem]:
    for key in sorted(config):
        if key in REFUSED:
            yield Problem(f"{key} is not used", where, REFUSED[key])
        elif key not in PASSED_ON | DECIDED:
            yield Problem(f"{key} is not used here", where, suggestion(key, PASSED_ON | DECIDED))
    for path in (("zero_optimization", "zenflow"), ("zero_optimization", "legacy_stage1"), ("bf16", "bf16_master_weights_and_grads")):
        if _get(config, path):
            yield Problem(f"{'.'.join(path)} is not available", where, "Remove it.")


def _decided(wanted: Wanted, stage: int) -> list[tuple[tuple[str, ...], Any, str]]:
    """Return the path and value of each decided key, and the run-file setting that decides it."""
    whole = []
    each = f"optimization.batch_size is {wanted.batch_size}"
    if wanted.is_by_tokens:
        each = "it must be 1 where optimization.tokens_per_batch fills micro-batches"
    if wanted.world_size is not None:
        product = wanted.batch_size * wanted.accumulation * wanted.world_size
        said = f"batch size x accumulation x processes is {wanted.batch_size} x {wanted.accumulation} x {wanted.world_size} = {product}"
        whole = [(("train_batch_size",), product, said)]
    mode = f'acceleration.mixed_precision_mode is "{wanted.precision}"'
    return [
        (("train_micro_batch_size_per_gpu",), wanted.batch_size, each),
        (("gradient_accumulation_steps",), wanted.accumulation, f"optimization.gradient_accumulation_steps is {wanted.accumulation}"),
        *whole,
        (("gradient_clipping",), wanted.max_grad_norm, f"optimization.max_grad_norm is {wanted.max_grad_norm}"),
        (("bf16", "enabled"), wanted.precision == "bf16", mode),
        (("fp16", "enabled"), False, mode),
        (("zero_optimization", "stage"), stage, f"engine.stage is {stage}"),
        (("zero_allow_untested_optimizer",), True, "the optimizer is the run's own"),
    ]


def _other_optimizer(config: Config, wanted: Wanted, where: str) -> Iterator[Problem]:
    """Remove the sections about the optimizer and schedule, and yield a problem for everything in them that contradicts the run file."""
    optimizer, scheduler = config.pop("optimizer", None), config.pop("scheduler", None)
    if isinstance(optimizer, dict):
        kind, params = optimizer.get("type", AUTO), optimizer.get("params") or {}
        if str(kind).lower() not in (AUTO, wanted.optimizer, *(["adam"] if wanted.optimizer == "adamw" else [])):
            what = f'optimizer.type is "{kind}", but optimization.optimizer_type is "{wanted.optimizer}"'
            yield Problem(what, where, "Make the two agree, or remove optimizer.")
        own = {"lr": wanted.learning_rate, "weight_decay": wanted.weight_decay, **wanted.optimizer_params}
        keys = {
            **{name: f"optimization.optimizer_params.{name}" for name in wanted.optimizer_params},
            "lr": "optimization.learning_rate",
            "weight_decay": "optimization.weight_decay",
        }
        for name, value in params.items():
            if name in own and value != AUTO and not _equal(value, own[name]):
                said = f"{keys[name]} is {json.dumps(own[name])}"
                yield Problem(
                    f"optimizer.params.{name} is {json.dumps(value)}, but {said}", where, 'Make the two values equal, or write "auto".'
                )
            elif name not in {*own, "torch_adam", "adam_w_mode"}:
                yield Problem(f"optimizer.params.{name} is not used", where, "Remove it.")
    if isinstance(scheduler, dict):
        kind = scheduler.get("type", AUTO)
        what = f'scheduler.type is "{kind}", but optimization.scheduler_type is "{wanted.schedule}"'
        yield Problem(what, where, "Remove scheduler: the run file sets the schedule.")


def _fill_sizes(config: Config, shapes: WeightShapes) -> None:
    """Fill in the sizes, in numbers, that follow from the shapes of the model: those that are "auto" in the configuration and, under stage 3,
    those that are not in it.
    """
    zero, width = config["zero_optimization"], shapes.width
    sizes = {
        "reduce_bucket_size": width * width,
        "stage3_prefetch_bucket_size": int(0.9 * width * width),
        "stage3_param_persistence_threshold": 10 * width,
    }
    if shapes.block and zero["stage"] == 3:
        sizes |= shapes.sizes()
        zero |= {key: AUTO for key in shapes.sizes() if key not in zero}
    for key, value in sizes.items():
        if zero.get(key) == AUTO:
            zero[key] = value
    for key in (*LEFT, *WeightShapes().sizes()):
        if zero.get(key) == AUTO:
            del zero[key]  # DeepSpeed chooses the value


def _offload(config: Config, wanted: Wanted, problems: list[Problem], where: str) -> None:
    """Apply `engine.offload`. The user's configuration may add to it, but not contradict it."""
    zero = config["zero_optimization"]
    parts = {"none": (), "optimizer": ("offload_optimizer",), "all": ("offload_optimizer", "offload_param")}[wanted.offload]
    if "offload_param" in parts and zero["stage"] < 3:
        what = f'engine.offload = "all" moves weights, which only stage 3 shards, but the stage is {zero["stage"]}'
        problems.append(Problem(what, "", 'Use "optimizer", or stage 3.'))
    for part in parts:
        device = _get(zero, (part, "device"))
        if device in (None, AUTO):
            zero[part] = {**(zero.get(part) or {}), "device": "cpu"}
        elif device == "none":
            what = f'zero_optimization.{part}.device is "none", but engine.offload is "{wanted.offload}"'
            problems.append(Problem(what, where, "Make the two agree, or remove one."))


def _equal(found: Any, value: Any) -> bool:
    if isinstance(value, bool) or isinstance(found, bool):
        return found is value
    if isinstance(value, list):
        return isinstance(found, list) and len(found) == len(value) and all(map(_equal, found, value))
    return isinstance(found, int | float) and float(found) == float(value)


def _get(config: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(config, Mapping) or key not in config:
            return None
        config = config[key]
    return config


def _set(config: Config, path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        if not isinstance(config.get(key), dict):
            config[key] = {}
        config = config[key]
    config[path[-1]] = value


def _leaves(config: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from _leaves(value, (*path, str(key)))
    else:
        yield path, config
