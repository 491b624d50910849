"""Training, held-out losses, saving, going on and drawing on the pretended device: as on the CPU, with no tensor in the wrong place and no read too many.

A sample runs always, more of it in CI; the whole, every example run file among it, with `pytest -m whole`.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers.training_runs import sound_set, tables, write_run
from ltxcore.models.offload import AT_ONCE
from pretended.asked import Check, answers

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(path.stem for path in EXAMPLES.glob("*.toml") if path.stem != "full_finetune_zero3")
WAITS: Mapping[str, Mapping[str, Any]] = tomllib.loads(Path(__file__).with_name("waits.toml").read_text())
READ, UP = "read", "copy up that waits"

PLAIN = ("acceleration.mixed_precision_mode=no",)
BF16 = ("acceleration.mixed_precision_mode=bf16",)
ACCUMULATED = ("optimization.gradient_accumulation_steps=2", "optimization.batch_size=2")
CHECKPOINTED = ("optimization.enable_gradient_checkpointing=true",)
OFFLOADED = (*CHECKPOINTED, "acceleration.offload_blocks=3")
ROUNDED = "int8, in CPU memory"
WEIGHTS: Mapping[str, tuple[str, ...]] = {
    ROUNDED: (
        *OFFLOADED,
        "acceleration.offload_activations=true",
        "acceleration.quantization=int8",
        "acceleration.offload_optimizer_during_validation=true",
        *ACCUMULATED,
    ),
    "fp8, in CPU memory": (*OFFLOADED, "acceleration.quantization=fp8"),
    "fp8 under a DoRA": (*CHECKPOINTED, "acceleration.quantization=fp8", "lora.use_dora=true", "lora.use_rslora=true"),
    "a LoRA with dropout": ("lora.dropout=0.5",),
    "all of them trained": ("model.training_mode=full",),
}


def compared(found: Mapping[str, Any], *, exactly: bool) -> None:
    """The device against the CPU: the same losses to the last bit in float32; in bf16 they do not round the same operations, so near it is.

    The norm of many gradients may be summed in another order. Where it is not, all that comes after the steps has the same bits too.
    """
    cpu, device = found["cpu"], found["cuda:0"]
    if exactly:
        assert device["losses"] == cpu["losses"]
        assert device["norms"] == pytest.approx(cpu["norms"], rel=1e-6)
    if exactly and device["norms"] == cpu["norms"]:
        for key in ("weights", "held_out", "after"):
            assert device[key] == cpu[key], key
    assert device["losses"] == pytest.approx(cpu["losses"], rel=0.02)
    assert device["held_out"].keys() == cpu["held_out"].keys()
    for each in (cpu, device):
        assert each["restored"]
        assert each["after"][0] == each["after"][1]
    assert device["state"] == ["cuda:0"]
    assert cpu["state"] == ["cpu"]


def as_listed(found: Mapping[str, Any]) -> None:
    """No read beside those of the list, and none of the list that is gone."""
    device = found["cuda:0"]
    assert device["step"] == {READ: {place: each["waits"] for place, each in WAITS["step"].items()}, UP: {}}
    assert device["forward"] == {READ: {place: each["waits"] * device["forwards"] for place, each in WAITS["forward"].items()}, UP: {}}
    assert found["cpu"]["step"] == {READ: {}, UP: {}}


def runs(folder: Path, cases: Mapping[str, tuple[str, ...]]) -> dict[str, Check]:
    """Of a small set of sounds."""
    sound_set(folder / "data")
    path = write_run(folder, tables(folder / "data", folder / "out"))
    return {name: Check("pretended.training:both", {"run_file": str(path), "settings": list(settings)}) for name, settings in cases.items()}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, libraries: Path) -> dict[str, Any]:
    """The checks that run always, in one process."""
    trained = runs(tmp_path_factory.mktemp("sample"), {"plain": (*PLAIN, *ACCUMULATED)})
    ahead = {"ahead": Check("pretended.training:read_ahead", {**trained["plain"].arguments})}
    offloaded = {f"offload {count}": Check("pretended.offloading:passes", {"offloaded": count}) for count in (2, 4)}
    connectors = {f"connectors {away}": Check("pretended.offloading:connectors", {"are_away": away}) for away in (True, False)}
    pinning = {"pinning": Check("pretended.offloading:pinning", {"offloaded": 3})}
    return answers({**trained, **ahead, **offloaded, **connectors, **pinning}, libraries)


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory, libraries: Path) -> dict[str, Any]:
    """Those that CI has beside them, in another."""
    trained = runs(tmp_path_factory.mktemp("more"), {"rounded": (*WEIGHTS[ROUNDED], *BF16)})
    tried = {"run_file": trained["rounded"].arguments["run_file"], "settings": [*WEIGHTS[ROUNDED], *BF16, "lora.dropout=0.5"]}
    others = {"tried": Check("pretended.training:tried", tried), "drawn": Check("pretended.drawing:both", {"guidance": "all"})}
    return answers({**trained, **others}, libraries)


def test_training_is_as_on_the_cpu_to_the_last_bit_and_waits_where_it_must(sample: dict[str, Any]) -> None:
    compared(sample["plain"], exactly=True)
    as_listed(sample["plain"])


def test_inputs_are_made_and_pinned_by_the_threads_that_read_and_only_what_the_device_reads_is_copied(sample: dict[str, Any]) -> None:
    found = sample["ahead"]
    assert found["threads"] == ["ltx-worker"]
    assert found["waits"] == {}
    assert found["pinned"] == found["read"] > 0
    assert found["later pinned"] == found["later"] > 0
    assert found["later by"] == ["MainThread"]


@pytest.mark.slow
def test_rounded_weights_in_host_memory_are_trained_on_in_bf16(more: dict[str, Any]) -> None:
    compared(more["rounded"], exactly=False)
    as_listed(more["rounded"])


@pytest.mark.slow
def test_the_largest_step_is_tried_on_a_gpu_and_changes_no_bit(more: dict[str, Any]) -> None:
    found = more["tried"]
    assert found["steps"][0] == found["steps"][1]
    assert found["weights"][0] == found["weights"][1]
    assert found["said"] == ""
    assert found["told"].startswith("OutOfMemory: GPU memory ran out (up to 1.0 GiB of the ")
    assert (
        " of cuda:0 were in use; 2.00 GiB more were requested) while trying a step before training, the largest of the run, on 2 samples ("
        in found["told"]
    )


def test_of_blocks_in_host_memory_no_more_than_are_counted_take_the_memory_of_a_device_that_is_behind(sample: dict[str, Any]) -> None:
    two, four = sample["offload 2"], sample["offload 4"]
    assert (two["pinned"], two["pass"]["held"]) == (2, min(2, AT_ONCE))
    assert (four["pinned"], four["pass"]["held"]) == (4, AT_ONCE)
    assert [each[name]["waits"] for each in (two, four) for name in ("pass", "step")] == [1, 4, 3, 8]  # one a block, but for the first


def test_host_memory_holds_one_matrix_twice_while_they_are_pinned(sample: dict[str, Any]) -> None:
    found = sample["pinning"]
    assert 0 < found["twice"] <= found["largest"] < found["pinned"] / 10
    assert found["left"] == 0


def test_connectors_that_few_texts_need_are_on_the_device_only_while_they_compute(sample: dict[str, Any]) -> None:
    for are_away, device in ((True, "cpu"), (False, "cuda:0")):
        found = sample[f"connectors {are_away}"]
        assert found["off"] < 1e-5
        assert (found["on"], found["weights"]) == (["cuda:0"], [device])


@pytest.mark.slow
def test_what_is_drawn_under_all_guidance_is_as_on_the_cpu(more: dict[str, Any]) -> None:
    drawn_alike(more["drawn"])


def drawn_alike(found: Mapping[str, Any]) -> None:
    assert found["cuda:0"]["drawn"] == found["cpu"]["drawn"]
    assert found["cuda:0"]["waits"] == {READ: {place: each["waits"] for place, each in WAITS["sample"].items()}, UP: {}}


# ---- the whole


@pytest.mark.whole
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_any_weights_are_trained_on_any_way(tmp_path: Path, libraries: Path, precision: str) -> None:
    exactly = precision == "float32"
    cases = {name: (*settings, *(PLAIN if exactly else BF16)) for name, settings in WEIGHTS.items()}
    for name, found in answers(runs(tmp_path, cases), libraries).items():
        all_trained = name == "all of them trained"
        compared(found, exactly=exactly and not all_trained)
        as_listed(found)
        if exactly and all_trained:
            # The embedding of the noise level is used in several places. Autograd adds their gradients in the order in which they arrive,
            # and the device has a thread of its own for them: of 111 gradients of the first step, those of its 4 tensors differ.
            cpu, device = found["cpu"], found["cuda:0"]
            assert device["losses"][0] == cpu["losses"][0]
            assert device["losses"] == pytest.approx(cpu["losses"], rel=1e-6)
            assert device["norms"] == pytest.approx(cpu["norms"], rel=1e-6)


@pytest.mark.whole
@pytest.mark.parametrize("options", [{}, {"quantization": "int8", "offload_blocks": 3}], ids=["plain", "int8, in CPU memory"])
def test_every_kind_of_guidance_draws_as_on_the_cpu(libraries: Path, options: Mapping[str, Any]) -> None:
    kinds = ("none", "cfg", "stg", "modality", "all")
    checks = {kind: Check("pretended.drawing:both", {"guidance": kind, **options}) for kind in kinds}
    for found in answers(checks, libraries).values():
        drawn_alike(found)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of six clips with everything that any mode needs."""
    folder = tmp_path_factory.mktemp("world")
    made = [sys.executable, EXAMPLES / "make_world.py", "--count", "6", "--out", folder]
    subprocess.run(made, check=True, capture_output=True)
    return folder / "clips.jsonl"


def short(world: Path, folder: Path) -> list[str]:
    sizes = ("data.held_out=2", "optimization.steps=2", "optimization.batch_size=2", "validation.inference_steps=2")
    return [f"output_dir={folder / 'out'}", f"data.dataset={world}", *sizes]


@pytest.mark.whole
@pytest.mark.parametrize("name", FILES)
def test_an_example_trains_as_on_the_cpu_and_runs_from_raw_clips_to_samples(
    name: str, world: Path, tmp_path: Path, libraries: Path
) -> None:
    path, settings = str(EXAMPLES / f"{name}.toml"), short(world, tmp_path)
    whole = [*settings, *BF16, f"output_dir={tmp_path / 'whole'}"]
    checks = {
        "float32": Check("pretended.training:both", {"run_file": path, "settings": [*settings, *PLAIN]}),
        "whole": Check("pretended.training:whole", {"run_file": path, "settings": whole}),
    }
    found = answers(checks, libraries)
    compared(found["float32"], exactly=True)
    as_listed(found["float32"])
    assert found["whole"]["finished"]
    assert found["whole"]["weights"]
    assert all(found["whole"]["drawn"])
    assert found["whole"]["after"]
