"""The conversion of a job of ai-toolkit, in YAML or JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ltxplugins.tools.convert.ai_toolkit_data import put_dataset, put_sampling
from ltxplugins.tools.convert.ai_toolkit_rules import RULES
from ltxplugins.tools.convert.kinds import number, path, plain, text, truth, whole
from ltxplugins.tools.convert.media import (
    MOST_RANK,
    put_alpha,
    put_another_model,
    put_model,
    put_objectives,
    put_precision,
    put_rank,
    put_saved_precision,
)
from ltxplugins.tools.convert.optimizing import Given, params_of, put_optimizer, put_schedule
from ltxplugins.tools.convert.reading import UNSET, Log, Old
from ltxplugins.tools.convert.settings import Settings
from ltxplugins.tools.convert.tree import Table

NAME = "ai-toolkit"

BLOCKS = 48
"""The number of blocks in LTX-2; ai-toolkit offloads a share of them."""

ADAM_EPS = 1e-6
"""The number that ai-toolkit adds to the divisor of its Adam optimizers and of Prodigy."""

ADAPTERS = {"lora": "lora", "locon": "lora", "lokr": "lokr", "loha": "loha", "dora": "dora"}

QUANTIZERS = {
    **dict.fromkeys(("qfloat8", "float8", "fp8"), "fp8"),
    **dict.fromkeys(("qint8", "int8", "uint8", "convrot8"), "int8"),
}


def convert_ai_toolkit(tree: Table, log: Log) -> Settings:
    """Convert a job of ai-toolkit."""
    to = Settings(NAME, RULES, log)
    root = Old(tree, "", log)
    to.read(root, "")
    config = to.inner(root, "config")
    to.read(config, "config")
    process = _process(to, config)
    for name in ("network", "save", "logging", "train", "model", "sample"):
        to.read(to.inner(process, name), name)
    parts = {old.key.rpartition(".")[2]: old for old in to.mappings}
    name = config.get("name", text, null=UNSET)
    name = "" if name is UNSET else name
    folder = process.get("training_folder", text, null=UNSET)
    if name or folder is not UNSET:
        to.put("output_dir", "/".join(part for part in ("output" if folder is UNSET else folder, name) if part))
    trigger = process.get("trigger_word", text, null=UNSET)
    trigger = "" if trigger is UNSET else trigger.replace("[name]", name)
    _model(to, parts["model"])
    _network(to, process, parts["network"])
    _train(to, parts["train"])
    extra = put_dataset(to, process, parts["train"], trigger)
    put_objectives(to, [*_objectives(to, parts["train"]), *extra])
    put_sampling(to, parts["sample"], parts["train"], trigger=trigger, name=name)
    _save(to, parts["save"])
    to.finish()
    return to


def _process(to: Settings, config: Old) -> Old:
    processes = config.several("process")
    if not processes:
        to.log.problem(config.line("process"), config.at("process"), "has no process", "Name a job that trains.")
        return to.inner(config, "none")
    for other in processes[1:]:
        to.log.remark(
            to.run.head,
            other.table.line,
            f"{other.key} is not kept: a run file describes one run. To convert this process too, put it in a job of its own.",
        )
    process = Old(processes[0].table, "", to.log)
    to.read(process, "process")
    return process


def _model(to: Settings, old: Old) -> None:
    name = old.get("name_or_path", path, null=UNSET)
    arch = old.get("arch", text, null=UNSET)
    ltx = re.match(r"ltx-?2|ltxav", "" if arch is UNSET else arch.lower())
    flags = {name: old.get(name, truth, null=UNSET) is True for name in old.table.values if name.startswith("is_")}
    other = next((name for name, is_set in flags.items() if is_set and not name.startswith("is_ltx")), "")
    to.without_effect(old, *(name for name in flags if name != other))
    if arch is not UNSET and not ltx:
        put_another_model(to, old, "arch")
    elif other:
        put_another_model(to, old, other)
        old.taken.add("name_or_path")
    elif name is not UNSET:
        put_model(to, old, "name_or_path", name)
    quantize = old.get("quantize", truth, null=UNSET) is True
    qtype = old.get("qtype", text, null=UNSET)
    if not quantize:
        to.without_effect(old, "qtype")
    else:
        kind, _, recovery = ("qfloat8" if qtype is UNSET else qtype).partition("|")
        ours = QUANTIZERS.get(kind.lower())
        if ours is None or recovery:
            said = f'is written as "{ours or "nf4"}": ltx has 8-bit quantizers and nf4, and no accuracy recovery adapters.'
            to.note(old, "qtype", said, "acceleration.")
        to.put("acceleration.quantization", ours or "nf4")
    text_encoder = old.get("quantize_te", truth, null=UNSET)
    kind = old.get("qtype_te", text, null=UNSET)
    if quantize if text_encoder is UNSET else text_encoder:
        to.put("acceleration.load_text_encoder_in_8bit", True)
        if kind is not UNSET and kind.lower() not in QUANTIZERS:
            to.note(old, "qtype_te", "is not kept: the text encoder is loaded in 8 bits.", "acceleration.")
    else:
        to.without_effect(old, "qtype_te")
    if old.get("layer_offloading", truth, null=UNSET) is True:
        share = old.get("layer_offloading_transformer_percent", number, null=1.0)
        to.put("acceleration.offload_blocks", round(BLOCKS * (1.0 if share is UNSET else share)))
        if old.get("layer_offloading_text_encoder_percent", number, null=1.0) not in (0, 0.0):
            to.put("acceleration.offload_text_encoder", True)
    else:
        to.without_effect(old, "layer_offloading_transformer_percent", "layer_offloading_text_encoder_percent")


def _network(to: Settings, process: Old, old: Old) -> None:
    if not process.has("network"):
        to.put("model.training_mode", "full", "The old file has no network, so that all weights are trained.")
        return
    kind = old.get("type", text, null=UNSET)
    kind = "lora" if kind is UNSET else kind.lower()
    ours = ADAPTERS.get(kind)
    if ours is None:
        to.note(old, "type", 'is not kept: ltx has no such adapter; "lora" is written instead.', "lora.")
    if ours not in (None, "lora"):
        to.put("lora.type", ours)
    rank, linear = (old.get(name, whole, null=UNSET) for name in ("rank", "linear"))
    rank = linear if rank is UNSET else rank
    alphas = [old.get(name, number, null=UNSET) for name in ("linear_alpha", "alpha")]
    alpha = next((each for each in alphas if each is not UNSET), UNSET)
    if old.get("lokr_full_rank", truth, null=UNSET) is True and ours == "lokr":
        to.put("lora.rank", MOST_RANK, "lokr_full_rank: a rank above that of every matrix.")
        to.put("lora.alpha", MOST_RANK)
    else:
        if rank is not UNSET:
            put_rank(to, rank)
        if alpha is UNSET:
            to.put_default("lora.alpha", 1)
        else:
            put_alpha(to, old, "linear_alpha" if old.has("linear_alpha") else "alpha", alpha, rank)
    factor = old.get("lokr_factor", whole, null=UNSET)
    if factor is not UNSET and ours == "lokr":
        to.put("lora.params", {"factor": factor})
    if ours != "lokr":
        to.without_effect(old, "lokr_factor", "lokr_full_rank")


def _train(to: Settings, old: Old) -> None:
    dtype = old.get("dtype", text, null=UNSET)
    if dtype is not UNSET:
        put_precision(to, old, "dtype", dtype)
    name = str(plain(old.table.values["optimizer"])).lower() if old.has("optimizer") else "adamw"
    rate = old.get("lr", number, null=UNSET)
    adaptive = name.startswith(("prodigy", "dadapt")) and rate is not UNSET and rate < 0.1
    if rate is UNSET:
        to.put_default("optimization.learning_rate", 1.0 if name.startswith("prodigy") else 1e-6)
    else:
        to.put(
            "optimization.learning_rate",
            1.0 if adaptive else rate,
            "ai-toolkit uses 1 for this optimizer when lr is below 0.1." if adaptive else "",
        )
    inner = to.inner(old, "optimizer_params")
    params = params_of(inner)
    if name.startswith(("adam", "prodigy")):
        params.setdefault("eps", ADAM_EPS)
    put_optimizer(to, old, "optimizer", Given(inner, params), default="adamw")
    accumulated = [old.get(key, whole, null=UNSET) for key in ("gradient_accumulation", "gradient_accumulation_steps")]
    steps = next((each for each in accumulated if each is not UNSET and each != 1), UNSET)
    if steps is not UNSET:
        to.put("optimization.gradient_accumulation_steps", steps)
    _schedule(to, old)
    _noise(to, old)
    ema = to.inner(old, "ema_config")
    if ema.get("use_ema", truth, null=UNSET) is True:
        decay = ema.get("ema_decay", number, null=UNSET)
        to.put("ema.decay", 0.999 if decay is UNSET else decay)
    else:
        to.without_effect(ema, "ema_decay")
    to.mappings.append(ema)


def _schedule(to: Settings, old: Old) -> None:
    inner = to.inner(old, "lr_scheduler_params")
    to.mappings.append(inner)
    warmup = inner.get("num_warmup_steps", whole, null=UNSET)
    given_steps = inner.get("total_iters", whole, null=UNSET)
    total = old.get("steps", whole, null=UNSET)
    whole_run = 1000 if total is UNSET else total
    length = whole_run if given_steps is UNSET else given_steps
    known = {
        "linear": {"start_factor": number, "end_factor": number},
        "cosine": {"eta_min": number},
        "cosine_with_restarts": {"T_mult": whole, "eta_min": number},
        "step": {"step_size": whole, "gamma": number},
        "polynomial": {"power": number},
    }
    fixed: dict[str, dict[str, Any]] = {
        "linear": {"start_factor": 1 / 3, "end_factor": 1.0, "total_iters": length},
        "cosine": {"T_max": length},
        "cosine_with_restarts": {"T_0": length, "eta_min": 0.0},
    }
    name = str(plain(old.table.values["lr_scheduler"])).lower() if old.has("lr_scheduler") else "constant"
    found = {key: inner.get(key, kind, null=UNSET) for key, kind in known.get(name, {}).items()}
    given = {key: value for key, value in found.items() if value is not UNSET}
    implied = {} if name == "cosine_with_restarts" or length != whole_run else {"total_iters": length, "T_max": length}  # the whole run
    params = {key: value for key, value in {**fixed.get(name, {}), **given}.items() if key not in implied}
    ours = put_schedule(to, old, "lr_scheduler", {name: params})
    if name == "constant_with_warmup" and warmup is UNSET:
        warmup = 1000
    if warmup is not UNSET and ours in ("constant", "cosine") and warmup:
        to.put("optimization.warmup_steps", warmup)


def _noise(to: Settings, old: Old) -> None:
    kind = old.get("timestep_type", text, null=UNSET)
    mode = "sigmoid" if kind is UNSET else kind.lower()
    if mode == "sigmoid":
        to.put("flow_matching.timestep_sampling_mode", "shifted_logit_normal")
        to.put("flow_matching.timestep_sampling_params", {"shift": 1.0, "uniform_prob": 0.0})
    elif mode in ("linear", "weighted"):
        to.put("flow_matching.timestep_sampling_mode", "uniform")
        if mode == "weighted":
            to.note(
                old,
                "timestep_type",
                'is written as "uniform": its sigmas are drawn alike, but losses are not weighted by them.',
                "flow_matching.",
            )
    else:
        to.note(
            old, "timestep_type", "is not kept: ltx draws sigmas with a shift that grows with the length of the clip.", "flow_matching."
        )


def _objectives(to: Settings, old: Old) -> Iterator[dict[str, Any]]:
    """Yield the objectives: flow matching, with its error and weights, and preservation."""
    flow: dict[str, Any] = {"type": "flow_matching"}
    kind = old.get("loss_type", text, null=UNSET)
    if kind in ("mae", "l1"):
        flow["error"] = "l1"
    elif kind not in (UNSET, "mse"):
        to.note(old, "loss_type", "is not kept: errors are squared.")
    audio = old.get("audio_loss_multiplier", number, null=UNSET)
    if audio not in (UNSET, 1, 1.0):
        flow["weight"] = {"video": 1.0, "audio": audio}
    yield flow
    for key in ("diff_output_preservation", "blank_prompt_preservation"):
        weight = old.get(f"{key}_multiplier", number, null=UNSET)
        of_class = old.get(f"{key}_class", text, null=UNSET)
        if old.get(key, truth, null=UNSET) is True:
            prompt = "empty" if of_class is UNSET or not of_class else of_class
            yield {"type": "preservation", "prompt": prompt, "weight": 1.0 if weight is UNSET else weight}
        else:
            to.without_effect(old, f"{key}_multiplier", f"{key}_class")


def _save(to: Settings, old: Old) -> None:
    dtype = old.get("dtype", text, null=UNSET)
    if dtype is not UNSET:
        put_saved_precision(to, old, "dtype", dtype)
