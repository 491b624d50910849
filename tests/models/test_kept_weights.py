"""8-bit weights of a checkpoint are kept as they are stored by the quantizer "fp8", so that a run trains on exactly their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.eight_bits import SPELLINGS, in_eight_bits
from helpers.golden_models import BOTH, PREFIX, random_input, write_golden
from helpers.quantizers import quantizer
from ltxcore.errors import CheckpointError
from ltxcore.models.load_base import load_backbone
from ltxcore.models.parameter_names import to_diffusers
from ltxcore.models.quantized import QuantizedLinear, is_quantizable


def loaded(path: Path, name: str | None, **options: Any) -> Any:
    return load_backbone(str(path), BOTH, dtype=torch.float32, quantizer=None if name is None else quantizer(name), **options)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_numbers_and_scales_are_kept_bit_for_bit(spelling: str, tmp_path: Path) -> None:
    path = write_golden("B", tmp_path)
    meant = in_eight_bits(path, spelling)
    kept, plain, again = loaded(path, "fp8"), loaded(path, None), loaded(path, "int8")
    count = 0
    for stored, values in meant.items():
        name = to_diffusers(stored.removeprefix(PREFIX))
        if is_quantizable(name):
            layer = kept.transformer.get_submodule(name.removesuffix(".weight"))
            assert isinstance(layer, QuantizedLinear)
            assert torch.equal(layer.dequantize(), values)
            count += 1
    assert count > 20
    given = random_input("video", 5, width=64), random_input("audio", 5, width=32)
    with torch.no_grad():
        found = [model(*given) for model in (kept, plain, again)]
    for modality in ("video", "audio"):
        assert torch.equal(found[0][modality], found[1][modality])
        assert not torch.equal(found[2][modality], found[1][modality]), "other quantizers round the weights once more"


def test_weights_without_scales_and_blocks_in_host_memory_are_kept_too(tmp_path: Path) -> None:
    path = write_golden("B", tmp_path)
    tensors = in_eight_bits(path, "official")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    bare = {name: tensor for name, tensor in load_file(path).items() if not name.endswith(("_scale",))}
    save_file(bare, path, metadata=metadata)
    model = loaded(path, "fp8", offloaded=1)
    name = next(each for each in tensors if each.endswith("attn1.to_q.weight"))
    layer = model.transformer.get_submodule(to_diffusers(name.removeprefix(PREFIX)).removesuffix(".weight"))
    assert torch.equal(layer.dequantize(), bare[name].float())


def test_numbers_that_are_nan_are_refused(tmp_path: Path) -> None:
    path = write_golden("B", tmp_path)
    name = next(iter(in_eight_bits(path, "official")))
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors[name].view(torch.uint8)[0, 0] = 0x7F
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        loaded(path, "fp8")
