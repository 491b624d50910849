"""Whole differences of matrices and biases, as programs extract them from models, with and without LoRAs beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import Tensor

from ltxcore.cli.main import main
from ltxcore.config.loras import Strength
from ltxcore.errors import CheckpointError
from ltxcore.models import TINY_BASE
from ltxcore.models.adapters import adapters
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora_file import read_lora
from ltxcore.models.lora_stack import load_loras, put_under

K = "transformer_blocks.0.audio_attn1.to_k"
V = "transformer_blocks.0.audio_attn1.to_v"
FF = "transformer_blocks.1.audio_ff.net.2"


def drawn(seed: int, *shape: int) -> Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def extracted(tmp_path: Path) -> tuple[Path, dict[str, Tensor], dict[str, Tensor]]:
    """A file, and by module what it adds to the matrix and to the bias."""
    a, b = drawn(1, 3, 128), drawn(2, 128, 3)
    whole, of_k, of_ff = drawn(3, 128, 128), drawn(4, 128), drawn(5, 128)
    before = "diffusion_model."
    tensors = {
        f"{before}{K}.lora_down.weight": a,
        f"{before}{K}.lora_up.weight": b,
        f"{before}{K}.alpha": torch.tensor(6.0),
        f"{before}{K}.diff_b": of_k,
        f"{before}{V}.diff": whole,
        f"{before}{FF}.diff_b": of_ff,
    }
    save_file(tensors, tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors", {K: 6 / 3 * b @ a, V: whole}, {K: of_k, FF: of_ff}


def test_a_model_computes_with_what_is_added_to_its_matrices_and_biases(
    extracted: tuple[Path, dict[str, Tensor], dict[str, Tensor]],
) -> None:
    path, matrices, biases = extracted
    assert read_lora(path, "").kind.type == "full"
    backbone = load_backbone("tiny", frozenset({"audio"}), dtype=torch.float32)
    plain = {name: backbone.transformer.get_submodule(name) for name in (K, V, FF)}
    wanted = {
        name: (module.weight + 0.5 * matrices.get(name, 0), module.bias + 0.5 * biases.get(name, 0)) for name, module in plain.items()
    }
    load_loras(backbone, [Strength(path, 0.5)])
    assert adapters(backbone).keys() == plain.keys()
    for name, (weight, bias) in wanted.items():
        x = drawn(9, 2, 4, weight.shape[1])
        torch.testing.assert_close(backbone.transformer.get_submodule(name)(x), torch.nn.functional.linear(x, weight, bias))


def test_a_merge_changes_matrices_and_biases(extracted: tuple[Path, dict[str, Tensor], dict[str, Tensor]], tmp_path: Path) -> None:
    path, matrices, biases = extracted
    out = tmp_path / "merged.safetensors"
    result = CliRunner().invoke(main, ["lora", "merge", f"{path}:0.5", "--model", "tiny", "-o", str(out)])
    assert result.exit_code == 0, result.output
    base, found = load_file(TINY_BASE), load_file(out)
    added = {f"{name}.weight": 0.5 * change for name, change in matrices.items()} | {
        f"{name}.bias": 0.5 * change for name, change in biases.items()
    }
    for full, tensor in base.items():
        name = full.removeprefix("model.diffusion_model.")
        wanted = (tensor.float() + added[name]).to(tensor.dtype) if name in added else tensor
        assert torch.equal(found[full], wanted), name


def test_where_only_matrices_can_change_a_bias_is_not_dropped_in_silence(
    extracted: tuple[Path, dict[str, Tensor], dict[str, Tensor]], tmp_path: Path
) -> None:
    path, *_ = extracted
    lost = f"2 modules have a changed bias, which would be lost here: {K}, {FF}"
    result = CliRunner().invoke(main, ["lora", "resize", str(path), "--rank", "4", "-o", str(tmp_path / "small.safetensors")])
    assert (result.exit_code, f"{path}: {lost}" in result.output) == (2, True)
    with pytest.raises(CheckpointError, match=lost):
        put_under(load_backbone("tiny", frozenset({"audio"}), dtype=torch.float32), [Strength(path)])


def test_the_changes_of_biases_are_measured_too(extracted: tuple[Path, dict[str, Tensor], dict[str, Tensor]]) -> None:
    path, matrices, biases = extracted
    for words in ([], ["--model", "tiny"]):
        result = CliRunner().invoke(main, ["lora", "info", str(path), *words])
        assert result.exit_code == 0, result.output
        sizes = {line.split("  ")[0]: line for line in result.stdout.splitlines()}
        for kind, change in (
            ("audio_attn1.to_v", matrices[V]),
            ("audio_attn1.to_k (bias)", biases[K]),
            ("audio_ff.net.2 (bias)", biases[FF]),
        ):
            assert f"{float(change.norm()):.4g}" in sizes[kind]
