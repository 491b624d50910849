"""A model that is large beside what a process has apart from it: none ever holds the whole of it, and it is saved in parts that load again.

Takes about a minute and a half on two free cores.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distributed.anonymous import RETURNED
from distributed.large import wide_run, write_wide
from helpers.launches import run_jobs
from helpers.training_runs import sound_set
from ltxcore.headers import read_file
from ltxcore.models.load_base import load_backbone
from ltxcore.safetensors_files import open_tensors

pytestmark = pytest.mark.slow

BESIDE = 200 * 2**20
"""Bytes for all that is not a model's state: libraries that DeepSpeed imports late, a block that is read or gathered, buffers, activations."""

WAYS = {
    "lora in float32": ("lora", "no", 4),  # weights
    "full in bf16": (
        "full",
        "bf16",
        2 + 4 + 8 + 2 + 4,
    ),  # weights, masters, moments, gradients, and those in float32 while the optimizer steps
}
"""Mode, precision, and bytes of state for every parameter, on all processes together."""

LARGEST = 0.1
"""GiB of a file."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("large")


@pytest.fixture(scope="module")
def results(folder: Path) -> tuple[int, dict[str, list[dict[str, object]]]]:
    """Parameters of the model; what became of each way, on each of two processes."""
    count = write_wide(folder / "wide.safetensors")
    sound_set(folder / "data", 4)
    found = {}
    for way, (mode, precision, _) in WAYS.items():  # each in processes of its own, which have kept nothing of another
        size = {"max_shard_size": LARGEST} if mode == "full" else {}
        path = wide_run(folder, mode, mode, precision, checkpoints=size)
        found[way] = [result for (result,) in run_jobs(folder, [{"run": path, "measured": True}], 2, **RETURNED)]
    return count, found


@pytest.mark.parametrize("way", WAYS)
def test_a_process_has_its_share_of_a_model_and_at_no_time_the_whole_of_it(
    results: tuple[int, dict[str, list[dict[str, object]]]], way: str
) -> None:
    count, found = results
    whole = count * WAYS[way][2]
    assert whole / 2 + BESIDE < whole  # so that a copy of the whole would show
    for result in found[way]:
        assert result["finished"], result
        assert result["grown"] < whole / 2 + BESIDE, f"{result['grown'] / 2**20:.0f} MiB of {whole / 2**20:.0f} MiB"


def test_a_model_that_two_processes_saved_in_parts_is_whole_and_loads_again(
    results: tuple[int, dict[str, list[dict[str, object]]]], folder: Path
) -> None:
    index = folder / "full" / "model.safetensors.index.json"
    files = sorted((folder / "full").glob("*.safetensors"))
    assert len(files) > 2
    assert [file.name for file in files] == [f"model-{number:05d}-of-{len(files):05d}.safetensors" for number in range(1, len(files) + 1)]
    assert max(file.stat().st_size for file in files) < LARGEST * 2**30 + 2**20
    with open_tensors(read_file(index)) as saved, open_tensors(read_file(folder / "wide.safetensors")) as base:
        assert saved.names() == base.names()
        moved = [name for name in base.names() if bool((saved.get_tensor(name) != base.get_tensor(name)).any())]
    sound = [name for name in moved if "audio" in name]
    assert moved == sound  # the stream of pictures is the base's, bit for bit
    assert len(sound) > 150
    backbone = load_backbone(str(index), frozenset({"audio"}), dtype=torch.bfloat16)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == results[0]
