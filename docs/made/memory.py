"""docs/reference/memory.md and the README's table of hardware, computed from the real models without their weights: `python docs/made/memory.py` writes
them, and a slow test compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from ltxcore.config.load import load_run
from ltxcore.config.run_file import RunFile
from ltxcore.encode.buckets import Bucket
from ltxcore.models.base import Base, released
from ltxcore.planner.costs import GIB, UNKNOWN
from ltxcore.planner.estimate import Estimator, Need
from ltxcore.planner.largest_batch import shapes_of
from ltxcore.registry import load
from ltxcore.runs.run_plan import draft
from pages import DOCS, _table, between

PAGE = DOCS / "reference" / "memory.md"
README = DOCS.parent / "README.md"
BEGIN, END = "<!-- made by docs/made/memory.py -->", "<!-- end -->"
EXAMPLES = DOCS.parent / "examples"
EXAMPLE = EXAMPLES / "full_finetune_zero3.toml"
SOUND = EXAMPLES / "audio_inpainting.toml"
BUCKET = "768x448x89"
GPUS = (1, 4, 8, 16)
MODELS = ("ltx-2-19b", "ltx-2.3-22b")

INTRODUCTION = f"""\
# Memory

<!-- made by docs/made/memory.py -->

Peak memory of each GPU in a step, in GiB, with the margin of `ltx plan`. The number after a plus is the CPU memory
needed in addition, if all GPUs are in one machine; PyTorch rounds pinned memory up to powers of two, which enlarges
DeepSpeed's large buffers. Video and audio are trained together, on one clip of {BUCKET} per GPU, in bf16, with
`optimization.enable_gradient_checkpointing = true`. LoRAs have rank 32 on all attention layers; their memory-saving
settings are those under `[acceleration]`. `ltx plan run.toml` computes the same for your run and your clips:
[how to use it](../how-to/multi-gpu.md#memory).

{UNKNOWN}
"""

ALONE: dict[str, dict[str, Any]] = {"model": {"training_mode": "lora"}, "engine": {"name": "single", "stage": None}}
QUANTIZERS = load().of_kind("quantizer")
INT8, NF4 = ({"quantization": name, "quantizer": QUANTIZERS[name].value()} for name in ("int8", "nf4"))

SAVINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("offload_blocks = 48", {"offload_blocks": 48}),
    ('quantization = "int8"', INT8),
    ('quantization = "nf4"', NF4),
    ('quantization = "int8", offload_blocks = 24', {**INT8, "offload_blocks": 24}),
)
"""What one GPU may do without, under `[acceleration]`."""

CARDS = (16, 24, 32, 48, 80)
"""GiB of one GPU."""

SIZES = (Bucket(512, 512, 49), Bucket(768, 448, 89), Bucket(1280, 704, 121))
GENTLY: tuple[tuple[str, dict[str, Any]], ...] = (
    ("plain bf16", {}),
    ("`int8`", INT8),
    ("`nf4`", NF4),
    ("`int8`, 24 blocks", {**INT8, "offload_blocks": 24}),
    ("`nf4`, 24 blocks", {**NF4, "offload_blocks": 24}),
    ("`nf4`, 48 blocks", {**NF4, "offload_blocks": 48}),
)
"""What a LoRA may do without, what costs least first: bits of frozen weights, then blocks that wait in CPU memory."""

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
    return "\n".join([INTRODUCTION, *map(of_model, MODELS)]).rstrip() + "\n"


def of_model(name: str) -> str:
    """What the page says of a model."""
    return f"## {name}\n\n{_table(('GPUs', *map(str, GPUS)), _rows(name))}"


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


COLUMNS: tuple[tuple[Path, Bucket | None], ...] = ((SOUND, None), *((EXAMPLE, size) for size in SIZES))
"""The run files of the table in the README, and the sizes of their clips."""


def glance() -> str:
    """What fits on one GPU, and with what set."""
    head = ("one GPU of", "audio only, 10 s", *(f"both, {size.width}x{size.height}x{size.frames}" for size in SIZES))
    return _table(head, zip((f"{card} GB" for card in CARDS), *(fits(*column) for column in COLUMNS), strict=True))


def fits(run_file: Path, size: Bucket | None) -> list[str]:
    """For each card the gentlest way that fits."""
    needs = _lora(run_file, released(MODELS[-1]), size)
    return [_gentlest(needs, card) for card in CARDS]


def _lora(run_file: Path, base: Base, size: Bucket | None) -> list[tuple[str, float]]:
    """What a LoRA takes, in GiB, by what it does without."""
    settings = (
        "lora.rank=32",
        "optimization.batch_size=1",
        "optimization.enable_gradient_checkpointing=true",
        'acceleration.mixed_precision_mode="bf16"',
    )
    loaded = load_run(run_file, settings)
    config = attrs.evolve(loaded.config, **{table: attrs.evolve(getattr(loaded.config, table), **keys) for table, keys in ALONE.items()})
    found = draft(loaded, 1, writes=False, base=base).checked()
    estimator = Estimator(found, base, shapes_of(found, base, None if size is None else str(size)))
    ways = ((way, attrs.evolve(config, acceleration=attrs.evolve(config.acceleration, **keys))) for way, keys in GENTLY)
    return [(way, estimator.need(each, 1).with_margin / GIB) for way, each in ways]


def _gentlest(needs: list[tuple[str, float]], card: int) -> str:
    return next((f"{way}: {gib:.0f}" for way, gib in needs if gib <= card), "-")


def _cell(need: Need, processes: int) -> str:
    host = need.offloaded * processes
    return f"{need.with_margin / GIB:.0f}" + (f" + {host / GIB:.0f}" if host else "")


def main() -> None:
    PAGE.write_text(page())
    README.write_text(between(README.read_text(), BEGIN, END, glance()))


if __name__ == "__main__":
    sys.exit(main())
