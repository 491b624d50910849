"""A LoKr and a LoHa whose file has a dora_scale, as LyCORIS writes them, give what ComfyUI makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from helpers.lora_files import export_for
from helpers.quantizers import quantizer
from ltxcore.config.loras import Strength
from ltxcore.errors import CheckpointError, ConfigError
from ltxcore.models.adapters import adapters, weight_of
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora_change import changes_of
from ltxcore.models.lora_file import read_lora
from ltxcore.models.lora_stack import load_loras
from plugins.exporters.test_comfyui import as_comfyui_has_it

FF = "transformer_blocks.1.audio_ff.net.2"
SHAPES = {
    "lokr": {"lokr_w1": (8, 16), "lokr_w2_a": (16, 3), "lokr_w2_b": (3, 32)},
    "loha": {"hada_w1_a": (128, 3), "hada_w1_b": (3, 512), "hada_w2_a": (128, 3), "hada_w2_b": (3, 512)},
}
"""Of a matrix of 128 rows and 512 columns."""


def written(path: Path, kind: str, scale: tuple[int, ...] = (128, 1)) -> Path:
    draws = torch.Generator().manual_seed(0)
    tensors = {name: 0.3 * torch.randn(shape, generator=draws) for name, shape in SHAPES[kind].items()}
    tensors |= {"alpha": torch.tensor(2.0), "dora_scale": 0.5 + torch.rand(scale, generator=draws)}
    save_file({f"diffusion_model.{FF}.{name}": tensor for name, tensor in tensors.items()}, path)
    return path


@pytest.mark.parametrize("scale", [(128, 1), (128,)])
@pytest.mark.parametrize("quantization", [None, "int8"])
@pytest.mark.parametrize("kind", SHAPES)
def test_the_model_computes_what_comfyui_does(kind: str, quantization: str | None, scale: tuple[int, ...], tmp_path: Path) -> None:
    path = written(tmp_path / "x.safetensors", kind, scale)
    backbone = load_backbone("tiny", frozenset({"audio"}), dtype=torch.float32, quantizer=quantizer(quantization))
    base = weight_of(backbone.transformer.get_submodule(FF)).float()
    load_loras(backbone, [Strength(path)])
    layer = adapters(backbone)[FF]
    assert layer.kind.type == kind
    file = load_file(path)
    wanted = as_comfyui_has_it(file | {name: each.view(-1, 1) for name, each in file.items() if name.endswith("dora_scale")}, FF, base)
    torch.testing.assert_close(layer.adapter.weight(layer.module, base), wanted, atol=1e-6, rtol=1e-5)
    x = torch.randn(2, 5, 512, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(layer.module(x), torch.nn.functional.linear(x, wanted, layer.linear.bias), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", SHAPES)
def test_an_export_keeps_the_factors_and_what_changes_depends_on_the_base(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path / "x.safetensors", kind)
    export_for(path, tmp_path / "out.safetensors", "comfyui")
    base = torch.randn(128, 512, generator=torch.Generator().manual_seed(2))
    one, other = (as_comfyui_has_it(load_file(each), FF, base) for each in (path, tmp_path / "out.safetensors"))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    with pytest.raises(ConfigError, match="depends on the base model"), changes_of(Strength(path)):
        pass
    with changes_of(Strength(path), "tiny") as changes:
        weight: Tensor = changes.base(FF)  # type: ignore[misc]
        torch.testing.assert_close(weight + changes.matrix(FF), as_comfyui_has_it(load_file(path), FF, weight), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", SHAPES)
def test_factors_of_columns_are_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="do not fit each other"):
        read_lora(written(tmp_path / "x.safetensors", kind, (1, 512)), "")
