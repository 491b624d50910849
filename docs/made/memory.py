"""docs/reference/memory.md, computed from the real models without their weights: `python docs/made/memory.py` writes it, and a slow test compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import attrs

from ltxcore.config.load import load_run
from ltxcore.config.run_file import RunFile
from ltxcore.models.base import released
from ltxcore.planner.costs import GIB, UNKNOWN
from ltxcore.planner.estimate import Estimator, Need
from ltxcore.planner.largest_batch import shapes_of
from ltxcore.runs.run_plan import draft
from pages import DOCS, _table

PAGE = DOCS / "reference" / "memory.md"
EXAMPLE = DOCS.parent / "examples" / "full_finetune_zero3.toml"
BUCKET = "768x448x89"
GPUS = (1, 4, 8, 16)
MODELS = ("ltx-2-19b", "ltx-2.3-22b")

INTRODUCTION = f"""\
# Memory

<!-- made by docs/made/memory.py -->

What each GPU is to hold, in GiB, at the most in a step, with the margin of `ltx plan`; and behind a plus what lies in host memory for it, if all GPUs
are in one machine: PyTorch takes pinned memory there in powers of two, which DeepSpeed's large buffers are not. Pictures and
sound are trained together, on one clip of {BUCKET} a GPU, in bf16, with
`optimization.enable_gradient_checkpointing = true`; LoRAs have rank 32 on all attention, and what makes room for
them is set under `[acceleration]`. `ltx plan run.toml` says the same of your run, with your clips: [how to use it](../how-to/multi-gpu.md).

{UNKNOWN}
"""

ALONE: dict[str, dict[str, Any]] = {"model": {"training_mode": "lora"}, "engine": {"name": "single", "stage": None}}
SAVINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("offload_blocks = 48", {"offload_blocks": 48}),
    ('quantization = "int8"', {"quantization": "int8"}),
    ('quantization = "nf4"', {"quantization": "nf4"}),
    ('quantization = "int8", offload_blocks = 24', {"quantization": "int8", "offload_blocks": 24}),
)
"""What one GPU may do without, under `[acceleration]`."""

WAYS: tuple[tuple[str, dict[str, dict[str, Any]]], ...] = (
    ("LoRA, one process", ALONE),
    *((f"LoRA, one process, `{said}`", {**ALONE, "acceleration": keys}) for said, keys in SAVINGS),
    ("LoRA, stage 2", {"model": {"training_mode": "lora"}, "engine": {"stage": 2}}),
    ("LoRA, stage 3", {"model": {"training_mode": "lora"}}),
    ("full, stage 1", {"engine": {"stage": 1}}),
    ("full, stage 2", {"engine": {"stage": 2}}),
    ("full, stage 3", {}),
    ('full, stage 3, `engine.offload = "optimizer"`', {"engine": {"offload": "optimizer"}}),
    ('full, stage 3, `engine.offload = "all"`', {"engine": {"offload": "all"}}),
)


def page() -> str:
    """The whole page."""
    blocks = [INTRODUCTION]
    for name in MODELS:
        blocks += [f"## {name}\n", _table(("GPUs", *map(str, GPUS)), _rows(name))]
    return "\n".join(blocks).rstrip() + "\n"


def _rows(name: str) -> Iterator[tuple[str, ...]]:
    loaded = load_run(EXAMPLE, ("optimization.batch_size=1",))
    base = released(name)
    found = draft(loaded, GPUS[-1], writes=False, base=base).checked()
    estimator = Estimator(found, base, shapes_of(found, base, BUCKET))
    for way, tables in WAYS:
        config: RunFile = attrs.evolve(
            loaded.config, **{table: attrs.evolve(getattr(loaded.config, table), **keys) for table, keys in tables.items()}
        )
        alone = config.engine.name == "single"
        yield (way, *(_cell(estimator.need(config, count), count) if count == 1 or not alone else "" for count in GPUS))


def _cell(need: Need, processes: int) -> str:
    host = need.states.host * processes
    return f"{need.with_margin / GIB:.0f}" + (f" + {host / GIB:.0f}" if host else "")


def main() -> None:
    PAGE.write_text(page())


if __name__ == "__main__":
    sys.exit(main())
