"""Check the groups of a run file, and the settings of LoRA+, against the rest of the run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from ltxcore.config.groups import OF_B, Group, told
from ltxcore.config.run_file import RunFile
from ltxcore.config.tables import plain

Refusal = tuple[str, str, str]
"""A refused setting: its key, what is wrong, and what to do about it."""

WIDTH = 64
"""The width of the matrix that is used to test whether an adapter has a matrix B."""

ONE_RATE = "one step size for all weights"


def group_problems(config: RunFile) -> Iterator[Refusal]:
    """Find groups, and a ratio of learning rates, that are impossible with the other settings of the run."""
    if config.model.training_mode == "full":
        yield from _of_a_lora(config)
    elif config.optimization.groups and any(group.is_rated for group in config.lora.groups):
        yield (
            "optimization.groups",
            "cannot set learning rates or weight decays if lora.groups does so too",
            "Move all of these settings into one of the two lists.",
        )
    for where, groups in (("lora.groups", config.lora.groups), ("optimization.groups", config.optimization.groups)):
        yield from _without(config, where, groups)
    optimizer, lora = config.optimization, config.lora
    is_lora = config.model.training_mode == "lora"
    if optimizer.lora_plus_ratio is not None and is_lora and OF_B not in lora.adapter.shapes(WIDTH, WIDTH, lora.settings):
        yield "optimization.lora_plus_ratio", f'the adapter "{lora.type}" has no B matrices', "Remove the key."
    if optimizer.lora_plus_ratio is not None and getattr(optimizer.optimizer, "shares_learning_rate", False):
        yield "optimization.lora_plus_ratio", f'the optimizer "{optimizer.optimizer_type}" has {ONE_RATE}', "Remove the key."


def group_lines(config: RunFile) -> Iterator[tuple[str, str]]:
    """Yield the name of each group of a run, and its settings and modules in words. The B matrices count as a group if they have their own
    learning rate.
    """
    yield from told(config.lora.groups)
    yield from told(config.optimization.groups)
    ratio = config.optimization.lora_plus_ratio
    if ratio is not None:
        yield OF_B, f"{ratio:g} times the learning rate for the B matrices (LoRA+)"


def group_metadata(config: RunFile) -> dict[str, str]:
    """Return the metadata that record the groups of a LoRA as a JSON list; no metadata if the LoRA has no groups."""
    groups = [] if config.model.training_mode == "full" else config.lora.groups
    return {"lora_groups": json.dumps(plain(groups))} if groups else {}


def _of_a_lora(config: RunFile) -> Iterator[Refusal]:
    if config.lora.groups:
        yield (
            "lora.groups",
            "apply to a LoRA, but full fine-tuning trains all weights",
            "Remove them; [[optimization.groups]] sets learning rates of single modules.",
        )
    if config.optimization.lora_plus_ratio is not None:
        yield (
            "optimization.lora_plus_ratio",
            "is for the B matrices of a LoRA, but full fine-tuning has none",
            'Remove the key, or set model.training_mode = "lora".',
        )


def _without(config: RunFile, where: str, groups: Sequence[Group]) -> Iterator[Refusal]:
    """Refuse group settings that the optimizer does not support: a weight decay, or a separate learning rate."""
    optimizer = config.optimization.optimizer
    lacks = {
        "weight_decay": "" if getattr(optimizer, "decays_weights", True) else "no weight decay",
        "learning_rate": ONE_RATE if getattr(optimizer, "shares_learning_rate", False) else "",
    }
    for index, group in enumerate(groups):
        for key, why in lacks.items():
            if why and getattr(group, key, None):
                yield f"{where}.{index}.{key}", f'the optimizer "{config.optimization.optimizer_type}" has {why}', "Remove the key."
