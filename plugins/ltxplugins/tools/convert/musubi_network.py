"""The adapters of a configuration of musubi-tuner."""

from __future__ import annotations

from typing import Any

from ltxplugins.tools.convert.kinds import number, text, whole
from ltxplugins.tools.convert.media import put_alpha, put_rank
from ltxplugins.tools.convert.optimizing import pairs
from ltxplugins.tools.convert.reading import UNSET, Old
from ltxplugins.tools.convert.settings import Settings

RANK = 4
"""The rank of musubi-tuner's adapters if network_dim is not given."""

MODULES = {"lora_ltx2": "lora", "lora": "lora", "loha": "loha", "lokr": "lokr"}
"""The adapters by the last part of network_module."""

ATTENTION = ["to_k", "to_q", "to_v", "to_out.0"]
FEED_FORWARD = ["ff.net.0.proj", "ff.net.2"]
TARGETS = {
    "t2v": ATTENTION,
    "v2v": [*ATTENTION, *FEED_FORWARD, *(f"audio_{name}" for name in FEED_FORWARD)],
    "video_sa": [f"attn1.{name}" for name in ATTENTION],
    "video_sa_ff": [*(f"attn1.{name}" for name in ATTENTION), *FEED_FORWARD],
    "video_sa_ca_ff": [*(f"attn{number_}.{name}" for number_ in (1, 2) for name in ATTENTION), *FEED_FORWARD],
    "audio": [*(f"audio_attn{number_}.{name}" for number_ in (1, 2) for name in ATTENTION), *(f"audio_{name}" for name in FEED_FORWARD)],
}
"""The modules that get adapters, by lora_target_preset."""


def put_network(to: Settings, old: Old, script: str, mode: str) -> None:
    """Write the type, rank, alpha, parameters and modules of the adapters; there are none if the script trains all weights."""
    if script == "ltx2_train":
        to.put("model.training_mode", "full", f"{script} trains all weights.")
        return
    arguments_ = old.get("network_args", pairs, null=UNSET)
    values: dict[str, Any] = {} if arguments_ is UNSET else arguments_
    module = old.get("network_module", text, null=UNSET)
    kind = "lora" if module is UNSET else MODULES.get(module.rpartition(".")[2], "")
    if module is not UNSET and module.startswith("lycoris"):
        kind = {"locon": "lora", "lora": "lora", "loha": "loha", "lokr": "lokr"}.get(str(values.pop("algo", "lora")).lower(), "")
    if not kind:
        to.note(old, "network_module", 'is not kept: ltx has no such adapter; "lora" is written instead.', "lora.")
        kind = "lora"
    if kind == "lora" and values.pop("use_dora", values.pop("dora_wd", False)) is True:
        kind = "dora"
    if kind != "lora":
        to.put("lora.type", kind)
    rank = old.get("network_dim", whole, null=UNSET)
    if rank is UNSET:
        to.put_default("lora.rank", RANK)
    else:
        put_rank(to, rank)
    alpha = old.get("network_alpha", number, null=UNSET)
    if alpha is UNSET:
        to.put_default("lora.alpha", 1)
    else:
        put_alpha(to, old, "network_alpha", alpha, rank)
    params = {name: values.pop(name) for name in ("factor",) if name in values and kind == "lokr"}
    if values.pop("use_rslora", values.pop("rs_lora", False)) is True and kind in ("lora", "dora"):
        params["use_rslora"] = True
    if params:
        to.put("lora.params", params)
    preset = values.pop("lora_target_preset", old.get("lora_target_preset", text, null=UNSET))
    _targets(to, old, mode, "audio" if preset is UNSET and mode == "audio" else preset, values)
    for name, value in values.items():
        old.log.remark(
            to.run.table("lora"),
            old.line("network_args"),
            f'network_args: {name}="{value}" is not kept: an adapter of ltx has no such parameter.',
        )


def _fitting(modules: list[str], mode: str) -> list[str]:
    """Return those of the modules that exist in a run of this mode, which generates only video, only audio, or both ("av")."""
    kept = {"video": lambda name: not name.startswith("audio_"), "audio": lambda name: name.startswith("audio_") or name in ATTENTION}
    return list(filter(kept.get(mode), modules))


def _targets(to: Settings, old: Old, mode: str, preset: Any, values: dict[str, Any]) -> None:
    patterns = values.pop("include_patterns", None)
    if patterns is not None:
        said = f"network_args: include_patterns={patterns} is not kept: name the modules in lora.target_modules"
        old.log.remark(to.run.table("lora"), old.line("network_args"), f"{said}, by the last parts of their names.")
    elif preset in TARGETS and (fitting := _fitting(TARGETS[preset], mode)):
        to.put("lora.target_modules", fitting)
    elif preset is not UNSET:
        said = f'lora_target_preset = "{preset}" is written as "auto", which chooses the modules by the modalities.'
        old.log.remark(to.run.table("lora"), old.line("lora_target_preset"), said)
        to.put("lora.target_modules", "auto")
