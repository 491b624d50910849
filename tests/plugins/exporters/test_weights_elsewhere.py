"""Exports for diffusers and ltx-pipelines: what these make of the tensors, written down here once more, gives the weights that were trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import Tensor

from helpers.lora_files import export_for
from helpers.quantizers import quantizer
from ltxcore.cli.main import main
from ltxcore.models.adapters import adapters, weight_of
from ltxcore.models.lora_save import save_lora
from ltxcore.models.parameter_names import to_original
from ltxcore.models.quantized import is_quantizable, quantized
from plugins.exporters.test_comfyui import as_comfyui_has_it, trained

Compute = Callable[[Mapping[str, Tensor], str, Tensor], Tensor]


def as_ltx_core_has_it(file: Mapping[str, Tensor], module: str, base: Tensor) -> Tensor:
    """Fused into the weight: names without "diffusion_model.", and the product of the two matrices as it is, at a strength of 1."""
    renamed = {name.replace("diffusion_model.", "", 1): tensor for name, tensor in file.items()}
    path = to_original(module)
    return torch.addmm(base, renamed[f"{path}.lora_B.weight"], renamed[f"{path}.lora_A.weight"])


def as_diffusers_has_it(file: Mapping[str, Tensor], module: str, base: Tensor) -> Tensor:
    """peft's layer: its rank is that of A, its alpha the rank, and with magnitudes each row is scaled to its own length."""
    own = {
        name.removeprefix(f"transformer.{module}."): tensor for name, tensor in file.items() if name.startswith(f"transformer.{module}.")
    }
    whole = base + own["lora_B.weight"] @ own["lora_A.weight"]
    if "lora_magnitude_vector" in own:
        whole = own["lora_magnitude_vector"].view(-1, 1) * torch.nn.functional.normalize(whole, dim=1)
    return whole


@pytest.mark.parametrize(
    ("program", "compute", "kind"),
    [
        *(("ltx-pipelines", as_ltx_core_has_it, kind) for kind in ("lora", "lora by root", "pissa")),
        *(("diffusers", as_diffusers_has_it, kind) for kind in ("lora", "lora by root", "dora", "dora by root", "pissa")),
    ],
)
def test_what_a_program_computes_is_what_was_trained(program: str, compute: Compute, kind: str, tmp_path: Path) -> None:
    backbone = trained(kind)
    save_lora(backbone, tmp_path / "lora", metadata={}, dtype=torch.float32)
    export_for(tmp_path / "lora", tmp_path / "out", program)
    file = load_file(tmp_path / "out")
    for name, layer in adapters(backbone).items():
        base = weight_of(layer.linear).float()
        with torch.no_grad():
            expected = layer.adapter.weight(layer.module, base)
        assert float((compute(file, name, base) - expected).abs().max()) <= 1e-6 * float(expected.abs().max()), name
        assert float((expected - base).abs().max()) > 1e-3 * float(base.abs().max())


def test_an_export_that_needs_the_base_prints_the_largest_differences(tmp_path: Path) -> None:
    backbone = trained("dora")
    save_lora(backbone, tmp_path / "lora", metadata={}, dtype=torch.float32)
    words = ["export", str(tmp_path / "lora"), "--for", "comfyui", "--model", "tiny", "-o", str(tmp_path / "out"), "--quantization", "int8"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    file = load_file(tmp_path / "out")
    weights, exact, apart = [], [], []
    for name, layer in adapters(backbone).items():
        base = weight_of(layer.linear).float()
        over = weight_of(quantized(layer.linear, quantizer("int8"), name)) if is_quantizable(f"{name}.weight") else base
        theirs = as_comfyui_has_it(file, to_original(name), base)
        with torch.no_grad():
            for found, matrix in ((exact, base), (apart, over)):
                found.append(float((theirs - layer.adapter.weight(layer.module, matrix)).abs().max()))
        weights.append(float(base.abs().max()))
    _, first, second, *_ = result.stdout.splitlines()
    before, _, printed = first.partition("at most ")
    assert before == "The weights differ from the trained ones by "
    assert float(printed.split()[0]) < 1e-6
    assert max(exact) / max(weights) < 1e-6
    assert second.startswith("They differ from the weights of the run, whose base was quantized, by at most ")
    assert float(second.split()[-1].rstrip(".")) == pytest.approx(max(apart) / max(weights), rel=0.05)
    assert max(apart) > 100 * max(exact)
