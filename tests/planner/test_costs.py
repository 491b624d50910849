"""What computing the cost of a run of a real model takes: everything is built and run once, however many changes are tried."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.training_runs import write_run
from ltxcore.config.load import load_run
from ltxcore.models.base import Base
from ltxcore.planner import activations
from ltxcore.planner.advice import Remedy
from ltxcore.planner.cost_in_json import machine
from ltxcore.planner.costs import Cost, advice, cost

TABLES: dict[str, Any] = {
    "model": {"model_path": "tiny-untrained", "training_mode": "lora"},
    "lora": {"rank": 32, "target_modules": ["to_k", "to_q", "to_v", "to_out.0"]},
    "training_strategy": {
        "name": "flexible",
        "video": {"is_generated": True, "latents_dir": "latents"},
        "audio": {"is_generated": True, "latents_dir": "audio_latents"},
    },
    "optimization": {"steps": 2, "batch_size": 1},
    "acceleration": {"mixed_precision_mode": "bf16"},
}


def cost_of_a_real_model(folder: Path, memory: float, bucket: str = "960x544x49") -> Cost:
    """Compute the cost of a LoRA of the 22B model on one GPU with this many GiB."""
    (folder / "media.jsonl").touch()
    run = {"output_dir": str(folder / "out"), "data": {"dataset": str(folder / "media.jsonl")}, **TABLES}
    return cost(load_run(write_run(folder, run)), 1, int(memory * 2**30), model="ltx-2.3-22b", bucket=bucket)


def counted(monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, seen: list[tuple[Any, ...]]) -> None:
    """Note the arguments of each call of a function, which does what it did before."""
    function: Callable[..., Any] = getattr(holder, name)

    def noting(*arguments: Any, **named: Any) -> Any:
        seen.append((*arguments, *named.values()))
        return function(*arguments, **named)

    monkeypatch.setattr(holder, name, noting)


def test_remedies_for_a_real_model_take_one_trace_for_each_way_to_compute_and_one_model_for_each_lora(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces: list[Any] = []
    searches: list[Any] = []
    models: list[Any] = []
    counted(monkeypatch, activations, "trace", traces)
    counted(monkeypatch, activations, "unreached", searches)
    counted(monkeypatch, Base, "sketch", models)
    found = cost_of_a_real_model(tmp_path, 24)
    assert len(found.remedies) > 2
    assert len(traces) <= 2  # in one process, and with weights that DeepSpeed divides
    assert len(searches) == 1
    assert len(models) <= 3  # to search in, with the run's LoRA, and with one of a smaller rank
    assert all(len(backbone.transformer.transformer_blocks) == activations.FEW for backbone, *_ in traces)
    assert gc.isenabled()


def test_a_few_swapped_blocks_in_4_bits_come_before_many_unquantized_ones_where_they_are_faster(tmp_path: Path) -> None:
    """For a small clip, a GPU computes for less time than it takes to swap the unquantized blocks."""
    found = cost_of_a_real_model(tmp_path, 16, "512x512x25")
    swapped = [each for each in found.remedies if any("offload_blocks" in said for said in each.said) and not each.is_other]
    quantized = next(each for each in swapped if any("nf4" in said for said in each.said))
    (alone,) = (each for each in swapped if not each.is_learned_otherwise)
    assert blocks_in(quantized) < blocks_in(alone) / 2
    assert quantized.seconds < alone.seconds
    assert found.remedies.index(quantized) < found.remedies.index(alone)
    (said,) = (line for line in advice(found) if f"offload_blocks = {blocks_in(quantized)} " in line and "nf4" in line)
    assert said.endswith("s per sample, learns other weights)")
    (said,) = (line for line in advice(found) if f"offload_blocks = {blocks_in(alone)} " in line)
    assert said.endswith("s per sample)")
    marks = {tuple(each["changes"]): each["learns_other_weights"] for each in machine(found)["would_fit"]}
    assert (marks[quantized.said], marks[alone.said]) == (True, False)


def blocks_in(remedy: Remedy) -> int:
    """Return the number of blocks that a remedy offloads."""
    (count,) = (change.tables["acceleration"]["offload_blocks"] for change in remedy.changes if "offload_blocks" in change.said)
    return int(count)
