"""What saves memory or time, in whole runs: what it does to the loss, and what cannot be had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helpers.training_runs import loaded_run, message, sound_set, tables, write_run
from helpers.untrained import write_untrained
from ltxcore.config.load import load_run
from ltxcore.errors import LtxError
from ltxcore.models.tiny_model import TINY
from ltxcore.runs.checks import check_run
from ltxcore.train.start_run import run

STEPS = {"steps": 6, "batch_size": 4, "learning_rate": 1e-2, "enable_gradient_checkpointing": True}
BASE: dict[str, Any] = {"model": {"model_path": "tiny"}, "validation": {"inference_steps": 2, "skip_initial_validation": True}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_set(tmp_path_factory.mktemp("data") / "data")


def losses(data: Path, folder: Path, **changed: Any) -> list[float]:
    """Of a run on the shipped base, step by step."""
    folder.mkdir()
    outcome = run(load_run(write_run(folder, tables(data, folder / "out", **{"optimization": STEPS, **BASE, **changed}))))
    lines = [json.loads(line) for line in outcome.metrics.read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def plain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    found = losses(data, tmp_path_factory.mktemp("plain") / "run")
    assert len(found) == 6
    assert found[-1] < found[0]
    return found


def near(found: list[float], expected: list[float]) -> float:
    return max(abs(a - b) / b for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("kind", "part"), [("int8", 0.01), ("fp8", 0.03), ("fp8uz-quanto", 0.03), ("nf4", 0.1), ("int8-matmul", 0.03), ("fp8-matmul", 0.1)]
)
def test_a_run_on_rounded_weights_learns_nearly_the_same(kind: str, part: float, data: Path, plain: list[float], tmp_path: Path) -> None:
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    found = losses(data, tmp_path / "run", acceleration={"mixed_precision_mode": "no", "quantization": kind})
    assert 0 < near(found, plain) < part


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_run_on_rounded_weights_learns_in_bf16_too(kind: str, data: Path, plain: list[float], tmp_path: Path) -> None:
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    found = losses(data, tmp_path / "run", acceleration={"mixed_precision_mode": "bf16", "quantization": kind})
    assert near(found, plain) < 0.1


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_a_run_with_blocks_and_their_inputs_in_host_memory_is_bit_for_bit_the_one_without(
    quantization: str | None, data: Path, plain: list[float], tmp_path: Path
) -> None:
    more = {} if quantization is None else {"quantization": quantization}
    asked = {"mixed_precision_mode": "no", "offload_blocks": 3, "offload_activations": True, **more}
    found = losses(data, tmp_path / "run", acceleration=asked)
    assert found == (
        plain if quantization is None else losses(data, tmp_path / "other", acceleration={"mixed_precision_mode": "no", **more})
    )


def test_a_run_with_torchs_flash_attention_is_bit_for_bit_the_one_that_lets_torch_choose_it(
    data: Path, plain: list[float], tmp_path: Path
) -> None:
    assert losses(data, tmp_path / "run", acceleration={"mixed_precision_mode": "no", "attention": "flash"}) == plain


def test_a_run_with_selective_checkpointing_is_bit_for_bit_the_one_without_beside_block_swap(
    data: Path, plain: list[float], tmp_path: Path
) -> None:
    asked = {"mixed_precision_mode": "no", "offload_blocks": 3, "offload_activations": True, "activation_budget_gb": 0.001}
    assert losses(data, tmp_path / "run", acceleration=asked) == plain


def test_a_run_with_feed_forward_in_chunks_has_the_losses_of_the_plain_one_beside_block_swap(
    data: Path, plain: list[float], tmp_path: Path
) -> None:
    asked = {"mixed_precision_mode": "no", "offload_blocks": 3, "activation_budget_gb": 0.001, "chunked_feed_forward": 3}
    assert near(losses(data, tmp_path / "run", acceleration=asked), plain) < 1e-5


def test_a_run_that_computes_blocks_again_is_bit_for_bit_the_one_that_keeps_them(data: Path, plain: list[float], tmp_path: Path) -> None:
    assert losses(data, tmp_path / "run", optimization={**STEPS, "enable_gradient_checkpointing": False}) == plain


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::UserWarning:torch.*")
@pytest.mark.slow
def test_a_compiled_run_has_the_losses_of_the_plain_one(data: Path, tmp_path: Path) -> None:
    """On a model of one block: each takes the compiler half a minute."""
    write_untrained(tmp_path / "one.safetensors", {**TINY, "num_layers": 1}, torch.float32)
    model = {"model_path": str(tmp_path / "one.safetensors")}
    expected, found = (
        losses(data, tmp_path / f"compiled {compiled}", model=model, acceleration={"mixed_precision_mode": "no", "compile": compiled})
        for compiled in (False, True)
    )
    assert near(found, expected) < 1e-4


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::UserWarning:torch.*")
@pytest.mark.slow
def test_blocks_are_compiled_whole_and_no_more_often_beside_block_swap_and_quantization(
    data: Path, plain: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, graphs = [], []
    real = torch.compile

    def compile_quickly(forward: Any) -> Any:
        compiled.append(type(forward.__self__).__name__)
        return real(forward, backend="aot_eager", fullgraph=True)  # the same graphs without C++

    def compiled_losses(name: str, **more: Any) -> list[float]:
        torch._dynamo.reset()  # else what was compiled before counts against how often a block may be compiled again
        torch._dynamo.utils.counters.clear()
        found = losses(data, tmp_path / name, acceleration={"mixed_precision_mode": "no", "compile": True, **more})
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        return found

    quantized = losses(data, tmp_path / "quantized", acceleration={"mixed_precision_mode": "no", "quantization": "int8"})
    monkeypatch.setattr(torch, "compile", compile_quickly)
    assert near(compiled_losses("alone"), plain) < 1e-5
    away = {"offload_blocks": 3, "offload_activations": True}
    assert near(compiled_losses("away", **away), plain) < 1e-5
    assert near(compiled_losses("all", **away, quantization="int8"), quantized) < 1e-5
    assert compiled == ["DualStreamBlock"] * 3 * 4
    assert graphs[0] < 8  # the most that torch compiles of one function, by default
    assert graphs == [graphs[0]] * 3


def test_adamw_in_8_bits_learns_nearly_the_same_and_goes_on_bit_for_bit(data: Path, plain: list[float], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    asked = {**STEPS, "optimizer_type": "adamw8bit"}
    # Tensors below 4096 numbers keep 32 bits: a rank at which A and B have more.
    lora = {"rank": 64, "target_modules": ["audio_attn1.to_q", "audio_attn1.to_v"]}
    usual = losses(data, tmp_path / "usual", lora=lora)
    whole = losses(data, tmp_path / "whole", lora=lora, optimization=asked)
    assert 0 < near(whole, usual) < 0.1

    folder = tmp_path / "again"
    folder.mkdir()
    shared = {**BASE, "lora": lora, "optimization": asked, "checkpoints": {"interval": 3, "keep_last_n": -1}}
    loaded = load_run(write_run(folder, tables(data, folder / "out", **shared)))
    first = run(loaded)
    weights = load_file(first.weights)
    (first.output_dir / "run.json").write_text(json.dumps({**json.loads((first.output_dir / "run.json").read_text()), "status": "stopped"}))
    for path in first.output_dir.glob("checkpoints/*6"):
        shutil.rmtree(path)
    again = run(loaded)
    assert all(torch.equal(value, weights[name]) for name, value in load_file(again.weights).items())


def test_a_run_goes_on_from_the_lora_of_another(data: Path, plain: list[float], tmp_path: Path) -> None:
    losses(data, tmp_path / "first")
    lora = tmp_path / "first" / "out" / "lora.safetensors"
    model = {"model_path": "tiny", "load_checkpoint": str(lora)}
    found = losses(data, tmp_path / "second", model=model)
    assert found[0] < plain[0]
    wider = losses(data, tmp_path / "third", model=model, lora={"rank": 5, "target_modules": ["audio_attn1.to_q", "audio_attn1.to_v"]})
    assert wider[0] == pytest.approx(found[0], rel=1e-3)  # what is saved is bf16


@pytest.mark.parametrize(
    ("lora", "tensors"),
    [
        ({"use_dora": True}, 24),
        ({"use_rslora": True, "alpha": 4}, 16),
        ({"dropout": 0.3}, 16),
        ({"target_modules": "auto"}, 80),
        ({"type": "lokr"}, 32),
        ({"type": "loha"}, 40),
        ({"type": "pissa"}, 16),
    ],
    ids=str,
)
def test_adapters_of_every_kind_learn(lora: dict[str, Any], tensors: int, data: Path, tmp_path: Path) -> None:
    asked = {"rank": 4, "target_modules": ["audio_attn1.to_q", "audio_attn1.to_v"], **lora}
    found = losses(data, tmp_path / "run", lora=asked, optimization={**STEPS, "steps": 10})
    assert found[-1] < found[0]
    assert len(load_file(tmp_path / "run" / "out" / "lora.safetensors")) == tensors


# ---------------------------------------------------------------- what cannot be had


def refusal(folder: Path, **changed: Any) -> list[str]:
    sound_set(folder / "data", count=2)
    with pytest.raises(LtxError) as error:
        check_run(loaded_run(folder, **{"data": {"held_out": 0}, **changed}))
    return [line.partition(": ")[2] if line.startswith("TMP/run.toml:") else line for line in message(error.value, folder).splitlines()]


def test_full_mode_has_no_frozen_weights(tmp_path: Path) -> None:
    asked = {"quantization": "int8", "offload_blocks": 2}
    found = refusal(tmp_path, model={"training_mode": "full"}, acceleration=asked, optimization={"enable_gradient_checkpointing": True})
    assert found == [
        "acceleration.quantization: is for frozen weights, but full fine-tuning trains all weights",
        '    Remove the key, or set model.training_mode = "lora".',
        "acceleration.offload_blocks: is for frozen weights, but full fine-tuning trains all weights",
        '    Set it to 0, or set model.training_mode = "lora".',
    ]


def test_pissa_does_not_start_from_quantized_weights(tmp_path: Path) -> None:
    assert refusal(tmp_path, lora={"type": "pissa"}, acceleration={"quantization": "int8"}) == [
        'acceleration.quantization: cannot be combined with the adapter "pissa", which starts from the weights themselves',
        "    Choose one of the two settings.",
    ]


@pytest.mark.parametrize("name", ["int4-quanto", "int2-quanto"])
def test_weights_in_so_few_bits_that_none_can_train_on_them_are_refused(name: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, acceleration={"quantization": name}) == [
        f'acceleration.quantization: "{name}" is not available: no package can train on weights stored in so few bits',
        '    Use "nf4".',
    ]


def test_what_does_not_go_together_is_refused_in_one_go(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    found = refusal(
        tmp_path,
        acceleration={"quantization": "nf4", "offload_blocks": 2, "offload_activations": True},
        optimization={"enable_gradient_checkpointing": False},
    )
    assert found == [
        "acceleration.offload_blocks: saves nothing without gradient checkpointing, because the backward pass would keep the weights of the blocks on the device",
        "    Set optimization.enable_gradient_checkpointing = true.",
        "acceleration.offload_activations: offloads what gradient checkpointing keeps, but checkpointing is not enabled",
        "    Set optimization.enable_gradient_checkpointing = true.",
    ]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"attention": "sage"},
            [
                'acceleration.attention: "sage" passes no gradients, so it cannot train',
                '    Use "auto" here, and `ltx sample --attention sage` to generate.',
            ],
        ),
        (
            {"attention": "flash3", "mixed_precision_mode": "no"},
            [
                'acceleration.attention: "flash3" needs a GPU, and there is none',
                '    Use "auto".',
                'acceleration.attention: "flash3" needs the package flash_attn_interface, which is not installed',
                '    Install it with `pip install "git+https://github.com/Dao-AILab/flash-attention#subdirectory=hopper"`, or use "auto".',
                'acceleration.attention: "flash3" computes in 16 bits only',
                '    Set acceleration.mixed_precision_mode = "bf16", or use "auto".',
            ],
        ),
    ],
    ids=["sage", "flash3"],
)
def test_attention_that_cannot_train_here_is_refused(asked: dict[str, str], said: list[str], tmp_path: Path) -> None:
    assert refusal(tmp_path, acceleration=asked) == said


def test_selective_checkpointing_needs_blocks_whose_operations_it_sees(tmp_path: Path) -> None:
    found = refusal(
        tmp_path,
        acceleration={"activation_budget_gb": 1.0, "chunked_feed_forward": 2, "compile": True, "attention": "flex"},
        optimization={"enable_gradient_checkpointing": False},
    )
    assert found == [
        "acceleration.chunked_feed_forward: cannot be combined with compile: a compiled block is computed as a whole",
        "    Choose one of the two settings.",
        "acceleration.activation_budget_gb: is for gradient checkpointing, which is not enabled, so everything is kept",
        "    Remove the key, or set optimization.enable_gradient_checkpointing = true.",
        "acceleration.activation_budget_gb: cannot be combined with compile: what a compiled block computes cannot be seen",
        "    Choose one of the two settings.",
        'acceleration.activation_budget_gb: keeps the outputs of attention only if they are from torch, but attention = "flex"',
        '    Remove the key, or set acceleration.attention = "auto".',
    ]


def test_flex_attention_is_refused_before_a_run_on_a_cpu_which_passes_no_gradients_through_it(data: Path, tmp_path: Path) -> None:
    with pytest.raises(LtxError, match=r'"flex" cannot train on cpu in float32 with heads of width 32: FlexAttention'):
        losses(data, tmp_path / "run", acceleration={"mixed_precision_mode": "no", "attention": "flex"})


def test_a_text_encoder_in_8_bits_is_not_offloaded_as_well(tmp_path: Path) -> None:
    assert refusal(tmp_path, acceleration={"load_text_encoder_in_8bit": True, "offload_text_encoder": True}) == [
        "acceleration.load_text_encoder_in_8bit: cannot be combined with offload_text_encoder",
        "    Choose one of the two settings.",
    ]


def test_what_needs_a_package_or_a_compiler_that_is_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "bitsandbytes" else find(name, *more))
    monkeypatch.setenv("CXX", "no-such-compiler")
    found = refusal(tmp_path, acceleration={"quantization": "nf4", "compile": True}, optimization={"optimizer_type": "adamw8bit"})
    assert found == [
        'acceleration.quantization: "nf4" needs the package bitsandbytes, which is not installed',
        '    Install it with `pip install "ltx[low-memory]"`, or use "int8".',
        "acceleration.compile: needs a C++ compiler on a CPU, but there is none",
        "    Install one (apt-get install g++), name one in the environment variable CXX, or set this key to false.",
        'optimization.optimizer_type: "adamw8bit" needs the package bitsandbytes, which is not installed',
        '    Install it with `pip install "ltx[low-memory]"`, or use "adamw".',
    ]
