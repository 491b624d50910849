"""Convert an ltx-trainer configuration to a run file, without dropping anything silently."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import ConfigError
from ltxplugins.tools.convert.kinds import choice, many, number, path, spoken, text, truth, whole
from ltxplugins.tools.convert.media import FP16, HELD_OUT
from ltxplugins.tools.convert.reading import DEFAULTED, UNSET, Field, Log, Old, carry
from ltxplugins.tools.convert.strategy import convert_strategy
from ltxplugins.tools.convert.toml import RunText, Section
from ltxplugins.tools.convert.tree import Table, parse
from ltxplugins.tools.convert.validation import convert_validation

OLD_RANK = 64
"""The default of both rank and alpha in an ltx-trainer configuration."""

OLD_PROJECT = "ltxv-trainer"

HALF = {"fp16": ("bf16", FP16)}
"""The replacement for a value of `mixed_precision_mode`, with the reason."""

SCHEDULER_PARAMS: Mapping[str, Mapping[str, type]] = {
    "constant": {},
    "linear": {"start_factor": float, "end_factor": float, "total_iters": int},
    "cosine": {"T_max": int, "eta_min": float},
    "cosine_with_restarts": {"T_0": int, "T_mult": int, "eta_min": float},
    "polynomial": {"total_iters": int, "power": float},
    "step": {"step_size": int, "gamma": float},
}
"""The keys that `scheduler_params` may have, by `scheduler_type`."""

FIELDS: Mapping[str, tuple[Field, ...]] = {
    "model": (
        Field("model_path", path, required=True),
        Field("text_encoder_path", path, null=UNSET),
        Field("video_vae_path", path, null=UNSET),
        Field("audio_vae_path", path, null=UNSET),
        Field("training_mode", choice("lora", "full")),
        Field("load_checkpoint", path, null=UNSET),
    ),
    "lora": (
        Field("rank", whole, default=OLD_RANK),
        Field("alpha", whole, default=OLD_RANK),
        Field("dropout", number),
        Field("target_modules", many(text)),
    ),
    "optimization": (
        Field("learning_rate", number),
        Field("steps", whole),
        Field("batch_size", whole),
        Field("gradient_accumulation_steps", whole),
        Field("max_grad_norm", number),
        Field("optimizer_type", choice("adamw", "adamw8bit")),
        Field("scheduler_type", choice(*SCHEDULER_PARAMS)),
        Field("enable_gradient_checkpointing", truth),
    ),
    "acceleration": (
        Field(
            "mixed_precision_mode",
            choice("no", "fp16", "bf16"),
            null="no",
            why="It was null in the old file, which meant float32.",
            instead=HALF,
        ),
        Field("quantization", choice(*(f"{name}-quanto" for name in ("int8", "int4", "int2", "fp8", "fp8uz"))), null=UNSET),
        Field("load_text_encoder_in_8bit", truth),
        Field("offload_optimizer_during_validation", truth),
    ),
    "data": (Field("preprocessed_data_root", path, required=True), Field("num_dataloader_workers", whole)),
    "checkpoints": (
        Field("interval", whole, null=UNSET),
        Field("keep_last_n", whole),
        Field("precision", choice("bfloat16", "float32")),
        Field("no_resume", truth),
        Field("save_training_state", choice("full", "minimal", "off")),
    ),
    "flow_matching": (Field("timestep_sampling_mode", choice("uniform", "shifted_logit_normal")),),
    "hub": (Field("push_to_hub", truth), Field("hub_model_id", text, null=UNSET)),
    "wandb": (
        Field("enabled", truth),
        Field("project", text),
        Field("entity", text, null=UNSET),
        Field("tags", many(text)),
        Field("log_validation_videos", truth),
    ),
}
"""The tables whose keys are the same in both configurations."""

ACCELERATE = {"compute_environment", "distributed_type", "num_processes"}
"""Keys by which an accelerate configuration is recognized; such a file usually accompanies ltx-trainer's
configurations.
"""

SAMPLER_PARAMS: Mapping[str, Mapping[str, type]] = {
    "uniform": {"min_value": float, "max_value": float},
    "shifted_logit_normal": {"std": float, "eps": float, "uniform_prob": float},
}
"""The keys that `timestep_sampling_params` may have, by `timestep_sampling_mode`."""


More = Callable[[Old, Section, Mapping[str, Any]], None]
"""A function that writes the rest of a table, given the values of its plain keys."""


@attrs.frozen
class Converted:
    """A converted run file, with remarks for the user.

    Attributes:
        text: the run file, in TOML.
        remarks: the remarks on everything that has no counterpart or has changed; the run file has them as comments
            too.
    """

    text: str
    remarks: tuple[str, ...]


def convert(text: str, path: str, *, start: Path, folder: Path) -> Converted:
    """Convert an ltx-trainer configuration to the equivalent run file.

    Args:
        text: the text of the configuration, in YAML.
        path: the path of the configuration, for messages.
        start: the folder in which ltx-trainer was started, where relative paths of the configuration begin.
        folder: the folder of the run file, where relative paths of the run file begin.

    Raises:
        ConfigError: the configuration is not YAML, has more than plain values, lacks keys, or has values of wrong
            types. The error lists everything that is wrong.
    """
    tree = parse(text, path)
    if not isinstance(tree, Table):
        raise ConfigError(f"holds {spoken(tree)}, not the tables of a configuration", where=path)
    if not ACCELERATE.isdisjoint(tree.values):
        raise ConfigError(
            "is a configuration of accelerate, which says how processes are started",
            where=path,
            remedy="A run file has no such settings: start a run in N processes with `ltx launch --num-gpus N run.toml`.",
        )
    root = Old(tree, "", Log(path, start.absolute(), folder.absolute()))
    run = _run(root, path)
    root.log.refuse()
    return Converted(str(run), tuple(root.log.remarks))


def _run(root: Old, path: str) -> RunText:
    run = RunText()
    run.head.say(f"Made by `ltx convert` from {Path(path).name}.")
    carry(root, run.head, (Field("output_dir", text), Field("seed", whole)))
    _table(root, run, "model", required=True)
    _table(root, run, "lora", _lora)
    generated = convert_strategy(root, run)
    _table(root, run, "optimization", _scheduler_params)
    _table(root, run, "acceleration")
    _table(root, run, "data", _held_out, required=True)
    convert_validation(root, run, generated)
    _table(root, run, "checkpoints", _training_state)
    _table(root, run, "flow_matching", _sampler_params)
    _table(root, run, "hub")
    _table(root, run, "wandb", _project)
    root.finish(run.head, FIELDS)
    return run


def _table(root: Old, run: RunText, name: str, more: More | None = None, *, required: bool = False) -> None:
    """Write the keys of a table that are the same in both files, and let `more` write the rest of the table."""
    if required and not root.has(name):
        root.log.problem(root.line(name), name, "is missing")
    old = root.inner(name)
    if old is not None:
        section = run.table(name)
        values = carry(old, section, FIELDS[name])
        if more is not None:
            more(old, section, values)
        old.finish(section)


def _lora(old: Old, section: Section, values: Mapping[str, Any]) -> None:
    if values.get("rank") != values.get("alpha"):
        section.say(
            "ltx applies alpha / rank to the saved LoRA. ltx-trainer lost alpha when it saved, so that the LoRA was as strong as with alpha = rank."
        )


def _scheduler_params(old: Old, section: Section, values: Mapping[str, Any]) -> None:
    kind = values.get("scheduler_type", "linear")
    _params(old, section, "scheduler_params", SCHEDULER_PARAMS[kind], f'the schedule "{kind}" has no such parameter')


def _sampler_params(old: Old, section: Section, values: Mapping[str, Any]) -> None:
    mode = values.get("timestep_sampling_mode", "shifted_logit_normal")
    _params(old, section, "timestep_sampling_params", SAMPLER_PARAMS[mode], f'"{mode}" has no such parameter')


def _params(old: Old, section: Section, name: str, known: Mapping[str, type], reason: str) -> None:
    """Write the table with the parameters of a scheduler or sampler; all of them are numbers."""
    inner = old.inner(name)
    if inner is None:
        return
    found = {key: inner.get(key, whole if kind is int else number) for key, kind in known.items()}
    written = {key: value for key, value in found.items() if value is not UNSET}
    if written:
        section.set(name, written)
    inner.finish(section, reason=reason)


def _held_out(old: Old, section: Section, values: Mapping[str, Any]) -> None:
    section.say(HELD_OUT.format("ltx-trainer"))


def _training_state(old: Old, section: Section, values: Mapping[str, Any]) -> None:
    if "save_training_state" not in values:
        section.say('save_training_state: the default of ltx is "full", so that a run resumes exactly; that of ltx-trainer was "minimal".')


def _project(old: Old, section: Section, values: Mapping[str, Any]) -> None:
    if values.get("enabled") and "project" not in values:
        section.set("project", OLD_PROJECT, DEFAULTED.format("ltx-trainer"))
