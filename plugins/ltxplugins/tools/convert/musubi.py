"""The conversion of the arguments of musubi-tuner's LTX-2 training, from TOML or a command line, and of their dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api.config import value_text
from ltxplugins.tools.convert.kinds import choice, number, path, plain, text, truth, whole
from ltxplugins.tools.convert.media import (
    put_another_model,
    put_model,
    put_objectives,
    put_precision,
    put_saved_precision,
    put_streams,
)
from ltxplugins.tools.convert.musubi_data import put_dataset
from ltxplugins.tools.convert.musubi_network import put_network
from ltxplugins.tools.convert.musubi_rules import RULES
from ltxplugins.tools.convert.musubi_samples import put_sampling
from ltxplugins.tools.convert.optimizing import Given, pairs, put_optimizer, put_schedule
from ltxplugins.tools.convert.reading import DEFAULTED, UNSET, Log, Old
from ltxplugins.tools.convert.second_file import text_at
from ltxplugins.tools.convert.settings import Settings
from ltxplugins.tools.convert.toml_tree import arguments, toml_tree
from ltxplugins.tools.convert.tree import Table, Tree

NAME = "musubi-tuner"

MODES = {"v": "video", "a": "audio", "va": "av"}
"""The short forms of ltx2_mode."""

QUANTIZED = {
    "nf4_base": "nf4",
    "int8_base": "int8",
    "int8_base_dynamic": "int8",
    "int8_convrot_base": "int8",
    "int8_convrot_dynamic": "int8",
    "fp8_base": "fp8",
    "fp8_scaled": "fp8",
}
"""The quantizers by the switches that stand for them."""

NOISE: Mapping[str, tuple[bool, tuple[str, ...]]] = {
    "sigma": (False, ("discrete_flow_shift",)),
    "uniform": (False, ("discrete_flow_shift",)),
    "sigmoid": (True, ("sigmoid_scale",)),
    "shift": (True, ("sigmoid_scale", "discrete_flow_shift")),
    "shifted_logit_normal": (True, ("shifted_logit_shift", "shifted_logit_eps", "shifted_logit_uniform_prob")),
}
"""Whether a way to draw timesteps is logit-normal, and the arguments that it takes."""

SCRIPTS = ("ltx2_train_network", "ltx2_train")


def convert_musubi(tree: Table, log: Log) -> Settings:
    """Convert the arguments of musubi-tuner in TOML, in which tables only group them."""
    return _converted(_flat(tree), log, "")


def convert_musubi_command(found: Sequence[tuple[str, list[tuple[str, int]]]], log: Log) -> Settings:
    """Convert the first training command of a text, and the TOML that it names with --config_file."""
    script, words = found[0]
    given = arguments(words, log.path)
    settings = _converted(given, log, script)
    for other, rest in found[1:]:
        log.remark(settings.run.head, rest[0][1], f"{other} is not converted: a run file describes one run.")
    return settings


def _flat(tree: Table) -> Table:
    values: dict[str, Tree] = {}
    lines: dict[str, int] = {}
    for name, value in tree.values.items():
        inner = value if isinstance(value, Table) else Table(tree.line, {name: value}, {name: tree.lines[name]})
        values.update(inner.values)
        lines.update(inner.lines)
    return Table(tree.line, values, lines, tree.doubled)


def _converted(given: Table, log: Log, script: str) -> Settings:
    to = Settings(NAME, RULES, log)
    old = _with_file(to, Old(given, "", log))
    to.read(old, "")
    _model(to, old, script)
    modes = [old.get(name, choice(*MODES, *MODES.values()), null=UNSET) for name in ("ltx2_mode", "ltx_mode")]
    mode = next((each for each in modes if each is not UNSET), UNSET)
    mode = "video" if mode is UNSET else MODES.get(mode, mode)
    put_network(to, old, script, mode)
    _optimization(to, old)
    _precision(to, old)
    first = old.get("ltx2_first_frame_conditioning_p", number, null=UNSET)
    own = old.get("independent_audio_timestep", truth, null=UNSET) is True
    said = DEFAULTED.format(NAME) if first is UNSET else ""
    first = 0.1 if first is UNSET else first
    put_streams(to, video=mode != "audio", audio=mode in ("av", "audio"), first_frame=first, said=said, shared=not own)
    _noise(to, old)
    put_objectives(to, _objectives(to, old, mode))
    put_dataset(to, old, mode)
    put_sampling(to, old)
    _saving(to, old)
    to.finish()
    return to


def _with_file(to: Settings, old: Old) -> Old:
    """Return the arguments of a command together with those of the file that it names; the command's own arguments take precedence."""
    named = old.get("config_file", path, null=UNSET)
    if named is UNSET:
        return old
    named = named if named.suffix == ".toml" else named.with_name(f"{named.name}.toml")
    read = text_at(
        to, old, "config_file", named, "only the arguments of the command were converted. Run `ltx convert` where that file is.", ""
    )
    if read is None:
        return old
    text_, log = read
    held = _flat(toml_tree(text_, log.path))
    own = old.table
    both = Table(own.line, {**held.values, **own.values}, {**held.lines, **own.lines}, own.doubled)
    merged = attrs.evolve(old.log, called=f"{Path(old.log.path).name} or {log.called}")
    return Old(both, "", merged, old.taken)


def _model(to: Settings, old: Old, script: str) -> None:
    name = old.get("ltx2_checkpoint", path, null=UNSET)
    if script and script not in SCRIPTS:
        said = f"{script} trains a model other than LTX-2. Only settings of the dataset and of training were used"
        to.log.remark(to.run.table("model"), old.table.line, f"{said}; write the path of an LTX-2 model in model_path.")
        old.taken.add("dit")
    elif name is UNSET and old.has("dit"):
        put_another_model(to, old, "dit")
        old.taken.add("dit")
    elif name is not UNSET:
        put_model(to, old, "ltx2_checkpoint", name)
        if old.has("dit"):
            old.taken.add("dit")
            to.note(old, "dit", "is not kept: ltx2_checkpoint is used.", "model.")
    for key in ("gemma_root", "gemma_safetensors"):
        encoder = old.get(key, path, null=UNSET)
        if encoder is not UNSET and "text_encoder_path" not in to.run.table("model").keys:
            to.put("model.text_encoder_path", encoder)
    if old.get("gemma_load_in_8bit", truth, null=UNSET) is True:
        to.put("acceleration.load_text_encoder_in_8bit", True)
    elif old.get("gemma_load_in_4bit", truth, null=UNSET) is True:
        to.put("acceleration.load_text_encoder_in_8bit", True)
        to.note(
            old,
            "gemma_load_in_4bit",
            "is written as load_text_encoder_in_8bit: ltx loads the text encoder in 8 bits or 16.",
            "acceleration.",
        )


def _optimization(to: Settings, old: Old) -> None:
    if old.get("gradient_checkpointing", truth, null=UNSET) is not True:
        to.without_effect(old, "gradient_checkpointing_cpu_offload")
    elif old.get("gradient_checkpointing_cpu_offload", truth, null=UNSET) is True:
        to.put("acceleration.offload_activations", True)
    if old.has("max_train_epochs"):
        old.taken.add("max_train_epochs")
        to.note(old, "max_train_epochs", "is not kept: a run is counted in steps. Write optimization.steps.", "optimization.")
    elif not old.has("max_train_steps"):
        to.put_default("optimization.steps", 1600)
    given = old.get("optimizer_args", pairs, null=UNSET)
    values = {} if given is UNSET else given
    put_optimizer(to, old, "optimizer_type", Given(old, values, "optimizer_args"), default="AdamW")
    steps = old.get("max_train_steps", whole, null=1600)
    cycles = old.get("lr_scheduler_num_cycles", whole, null=UNSET)
    power = old.get("lr_scheduler_power", number, null=UNSET)
    schedule = str(plain(old.table.values["lr_scheduler"])) if old.has("lr_scheduler") else ""
    for argument, owner in (("lr_scheduler_num_cycles", "cosine_with_restarts"), ("lr_scheduler_power", "polynomial")):
        if schedule != owner:
            to.without_effect(old, argument)
    total = 1600 if steps is UNSET else steps
    params = {
        "linear": {"end_factor": 0.0},
        "polynomial": {} if power is UNSET else {"power": power},
        "cosine_with_restarts": {"T_0": max(1, total // (1 if cycles is UNSET else max(1, cycles))), "eta_min": 0.0},
    }
    put_schedule(to, old, "lr_scheduler", params)


def _precision(to: Settings, old: Old) -> None:
    mixed = old.get("mixed_precision", text, null=UNSET)
    if mixed is not UNSET:
        put_precision(to, old, "mixed_precision", mixed)
    chosen = [key for key in QUANTIZED if old.get(key, truth, null=UNSET) is True]
    if chosen:
        to.put("acceleration.quantization", QUANTIZED[chosen[0]])
        if chosen[0] in ("int8_base", "int8_convrot_base"):
            said = "is written as a quantizer: ltx quantizes the weights of the model's own file as it loads them."
            to.note(old, chosen[0], said, "acceleration.")


def _noise(to: Settings, old: Old) -> None:
    mode = old.get("timestep_sampling", text, null="sigma")
    mode = "sigma" if mode is UNSET else mode
    low, high = (old.get(name, number, null=UNSET) for name in ("min_timestep", "max_timestep"))
    params: dict[str, Any] = {name: value / 1000 for name, value in (("min_value", low), ("max_value", high)) if value is not UNSET}
    params |= _shape_of_noise(to, old, mode)
    if mode not in NOISE:
        to.note(old, "timestep_sampling", 'is written as "uniform": ltx has no such distribution.', "flow_matching.")
    to.put("flow_matching.timestep_sampling_mode", "uniform" if mode not in NOISE or not NOISE[mode][0] else "shifted_logit_normal")
    if params:
        to.put("flow_matching.timestep_sampling_params", params)


def _shape_of_noise(to: Settings, old: Old, mode: str) -> dict[str, Any]:
    """Return the parameters of a distribution of sigmas, and record that the parameters of other distributions have no effect."""
    is_normal, used = NOISE.get(mode, (False, ()))
    names = {
        "discrete_flow_shift": "shift",
        "sigmoid_scale": "std",
        **{f"shifted_logit_{name}": name for name in ("shift", "eps", "uniform_prob")},
    }
    to.without_effect(old, *(name for name in names if name not in used))
    found = {names[name]: value for name in used if (value := old.get(name, number, null=UNSET)) is not UNSET}
    if is_normal and mode != "shifted_logit_normal":
        return {"shift": 1.0, "uniform_prob": 0.0, **found}
    return {name: value for name, value in found.items() if (name, value) != ("shift", 1.0)}


def _objectives(to: Settings, old: Old, mode: str) -> Iterator[dict[str, Any]]:
    flow: dict[str, Any] = {"type": "flow_matching"}
    kind = old.get("loss_type", text, null=UNSET)
    delta = old.get("huber_delta", number, null=UNSET)
    if kind in ("mae", "l1", "huber", "smooth_l1"):
        flow["error"] = "huber" if "huber" in kind or kind == "smooth_l1" else "l1"
    elif kind not in (UNSET, "mse", "l2"):
        to.note(old, "loss_type", "is not kept: errors are squared.")
    if flow.get("error") != "huber":
        to.without_effect(old, "huber_delta")
    elif delta is not UNSET:
        flow["delta"] = delta
    weights = {name: old.get(f"{name}_loss_weight", number, null=UNSET) for name in ("video", "audio")}
    weights = {name: 1.0 if weight is UNSET else weight for name, weight in weights.items()}
    if set(weights.values()) != {1.0}:
        flow["weight"] = weights if mode == "av" else weights.get(mode, 1.0)
    yield flow
    for key, prompt in (("dop", ""), ("blank_preservation", "empty")):
        given = old.get(f"{key}_args", pairs, null=UNSET)
        values: dict[str, Any] = {} if given is UNSET else given
        if old.get(key, truth, null=UNSET) is True:
            named, weight = values.pop("class", ""), values.pop("multiplier", 1.0)
            asked = prompt or (", ".join(map(str, named)) if isinstance(named, list) else str(named)) or "empty"
            if isinstance(weight, bool) or not isinstance(weight, int | float):
                old.log.problem(old.line(f"{key}_args"), f"{key}_args", f"multiplier must be a number, not {value_text(weight)}")
                weight = 1.0
            yield {"type": "preservation", "prompt": asked, "weight": float(weight)}
            for name in values:
                old.log.remark(to.run.head, old.line(f"{key}_args"), f"{key}_args: {name} is not kept: preservation has no such parameter.")
        else:
            to.without_effect(old, f"{key}_args")


def _saving(to: Settings, old: Old) -> None:
    precision = old.get("save_precision", text, null=UNSET)
    if precision is not UNSET:
        put_saved_precision(to, old, "save_precision", precision)
    every = old.get("save_every_n_steps", whole, null=UNSET)
    if every is not UNSET:
        to.put("checkpoints.interval", every)
    kept = old.get("save_last_n_steps", whole, null=UNSET)
    to.put("checkpoints.keep_last_n", -1 if kept is UNSET or not every or every is UNSET else max(1, kept // every + 1))
    folder, name = (old.get(key, text, null=UNSET) for key in ("output_dir", "output_name"))
    parts = [part for part in (folder, name) if part is not UNSET and part]
    if parts:
        to.put("output_dir", "/".join(parts))
    repository = old.get("huggingface_repo_id", text, null=UNSET)
    if repository is not UNSET:
        to.put("hub.push_to_hub", True)
        to.put("hub.hub_model_id", repository)
    if old.get("use_ema", truth, null=UNSET) is True:
        decay, every_ = old.get("ema_decay", number, null=UNSET), old.get("ema_update_every", whole, null=UNSET)
        to.put("ema.decay", 0.9999 if decay is UNSET else decay)
        if every_ is not UNSET:
            to.put("ema.every", every_)
        if old.get("ema_cpu_offload", truth, null=UNSET) is True:
            to.put("ema.device", "cpu")
    else:
        to.without_effect(old, "ema_decay", "ema_update_every", "ema_cpu_offload")
    logged = old.get("log_with", text, null=UNSET)
    if logged in ("wandb", "all"):
        to.put("wandb.enabled", True)
    if logged in ("tensorboard", "all"):
        to.note(old, "log_with", "for TensorBoard is not kept: write a table [trackers.tensorboard].", "wandb.")
