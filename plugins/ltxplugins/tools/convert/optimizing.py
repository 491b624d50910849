"""Convert optimizers and learning-rate schedules of other trainers to those of ltx."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from ltxplugins.tools.convert.kinds import Wrong, number, plain, text, whole
from ltxplugins.tools.convert.reading import UNSET, Old
from ltxplugins.tools.convert.settings import Settings
from ltxplugins.tools.convert.tree import Items, Scalar, Tree

NAMES: Mapping[str, str] = {
    **dict.fromkeys(("adamw", "adamw_optimi", "adam", "offload"), "adamw"),
    **dict.fromkeys(("adamw8bit", "adam8bit", "adam8", "adamw8", "adamw8bitkahan", "pagedadamw8bit"), "adamw8bit"),
    **dict.fromkeys(("adafactor", "muon", "lion", "prodigy"), ""),
    "prodigy8bit": "prodigy",
    **dict.fromkeys(("schedulefreeadamw", "adamwschedulefree", "adamwschedulefreewrapper"), "adamw_schedule_free"),
    "stableadamw": "optimi:StableAdamW",
    "lion8bit": "bitsandbytes.optim:Lion8bit",
    "ademamix8bit": "bitsandbytes.optim:AdEMAMix8bit",
    "sgd": "torch.optim:SGD",
    "adagrad": "torch.optim:Adagrad",
}
"""The optimizer of ltx that replaces one of another trainer, by the latter's name in lower case; "" if the name is the same."""

FLOAT32 = "trained weights are float32 here"
NEAR: Mapping[str, str] = {
    **dict.fromkeys(("adam", "adam8bit", "adam8"), "the weight decay is decoupled from the gradient"),
    "adamw_optimi": f"Kahan summation adds nothing, since {FLOAT32}",
    "adamw8bitkahan": f"Kahan summation adds nothing, since {FLOAT32}",
    "offload": 'its state stays on the GPU; with ZeRO, engine.offload = "optimizer" moves it to CPU memory',
    "prodigy8bit": "its state is not in 8 bits",
}
"""How the optimizer of ltx differs from the one that it replaces."""

PARAMS: Mapping[str, tuple[str, ...]] = {
    "adamw": ("betas", "eps"),
    "adamw8bit": ("betas", "eps"),
    "adafactor": ("beta2_decay", "d", "scale_parameter"),
    "muon": ("momentum", "nesterov", "ns_steps", "betas", "eps"),
    "lion": ("betas",),
    "prodigy": ("betas", "eps", "d0", "d_coef", "growth_rate", "use_bias_correction", "safeguard_warmup", "slice_p"),
    "adamw_schedule_free": ("betas", "eps", "warmup_steps", "r", "weight_lr_power"),
}
"""The parameters of the optimizers that come with ltx, besides the weight decay."""

UNDECAYED = frozenset({"adafactor", "lion", "prodigy", "adamw_schedule_free"})
"""The optimizers that decay no weights by default in other trainers."""

IMPLIED: Mapping[str, tuple[Any, ...]] = {"relative_step": (False,), "warmup_init": (False,), "stabilize": (False,), "decouple": (True,)}
"""Parameters of other trainers' optimizers, with the values that they always have in ltx."""

SCHEDULES: Mapping[str, str] = {
    **dict.fromkeys(("constant", "linear", "cosine", "cosine_with_restarts", "polynomial", "step"), ""),
    "constant_with_warmup": "constant",
    "warmup_stable_decay": "",
}


BETWEEN = re.compile(r"\s+(?=\w+=)")
"""The space between two parameters; spaces within a value, such as "betas=(0.9, 0.99)", belong to it."""


@attrs.frozen
class Given:
    """Parameters that another trainer gives to its optimizer: the values by name, and the mapping and key to name in remarks."""

    old: Old
    values: Mapping[str, Any]
    name: str = ""


def put_optimizer(to: Settings, old: Old, key: str, given: Given, *, default: str, package: str = "") -> str:
    """Write the optimizer, its weight decay and its parameters, and return the name it has in ltx.

    Args:
        to: where to write.
        old: the mapping with the optimizer's name.
        key: the key of the name.
        given: the optimizer's parameters.
        default: the other trainer's optimizer if none is named.
        package: the package in which that trainer looks for other optimizers.
    """
    named = old.get(key, text, null=UNSET)
    theirs = default if named is UNSET or not named else named
    short = theirs.rpartition(".")[2].lower()
    ours = NAMES.get(short, UNSET)
    if ours is UNSET and "." in theirs:
        ours = ":".join(theirs.rpartition(".")[::2])
    elif ours is UNSET:
        ours = f"{package}:{theirs}" if package else UNSET
    if ours is UNSET:
        to.note(
            old,
            key,
            'is not kept: ltx has no such optimizer. Choose one in optimization.optimizer_type; "adamw" is written instead',
            "optimization.",
        )
        ours = "adamw"
    ours = ours or short
    if short in NEAR and named is not UNSET:
        to.note(old, key, f'is written as "{ours}": {NEAR[short]}.', "optimization.")
    to.put("optimization.optimizer_type", ours)
    values = dict(given.values)
    decay = values.pop("weight_decay", UNSET)
    if decay is not UNSET:
        to.put("optimization.weight_decay", decay)
    elif ours in UNDECAYED:
        to.put_default("optimization.weight_decay", 0.0)
    known = PARAMS.get(ours, tuple(values))
    kept = {name: value for name, value in values.items() if name in known}
    if kept:
        to.put("optimization.optimizer_params", kept)
    for name, value in values.items():
        if name not in known and value not in IMPLIED.get(name, ()):
            reason = f'is not kept: the optimizer "{ours}" has no such parameter'
            if given.name:
                given.old.log.remark(
                    to.section("optimization."), given.old.line(given.name), f"{given.old.at(given.name)}: {name} {reason}."
                )
            else:
                to.note(given.old, name, f"{reason}.", "optimization.")
    return str(ours)


def params_of(old: Old, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a mapping of parameters as it is."""
    old.taken.update(old.table.values)
    return {name: plain(tree) for name, tree in old.table.values.items() if name not in without and plain(tree) is not None}


def pairs(tree: Tree) -> dict[str, Any]:
    """Read parameters that are strings such as "weight_decay=0.01" or "betas=0.9,0.99"."""
    items = tree.values if isinstance(tree, Items) else (tree,)
    found: dict[str, Any] = {}
    for item in items:
        for pair in filter(None, BETWEEN.split(text(item).strip())):
            name, equals, value = pair.partition("=")
            if not equals:
                raise Wrong(f'must be texts of the form "name=value", not "{pair}"', item.line)
            found[name] = _value(value.strip("'\""), item.line)
    return found


def _value(written: str, line: int) -> Any:
    if "," in written:
        return [_value(part.strip(), line) for part in written.strip("()[]").split(",") if part.strip()]
    if written.lower() in ("true", "false"):
        return written.lower() == "true"
    for kind in (whole, number):
        try:
            return kind(Scalar(line, written, written))
        except Wrong:
            continue
    return written


def put_schedule(to: Settings, old: Old, key: str, params: Mapping[str, Any]) -> str:
    """Write the schedule that a key names, or a constant one if it names none, and return the schedule's name in ltx.

    Args:
        to: where to write.
        old: the mapping with the schedule's name.
        key: the key of the name.
        params: the parameters of each schedule of ltx that needs any, by its name.
    """
    named = old.get(key, text, null=UNSET)
    name = "constant" if named is UNSET or not named else named.lower()
    if name not in SCHEDULES:
        to.note(old, key, "is not kept: ltx has no such schedule. Choose one in optimization.scheduler_type", "optimization.")
        name = "constant"
    ours = SCHEDULES[name] or name
    if named is UNSET:
        to.put_default("optimization.scheduler_type", ours)
    else:
        to.put("optimization.scheduler_type", ours)
    if params.get(ours):
        to.put("optimization.scheduler_params", params[ours])
    return ours
