"""Loading a model takes the memory of the loaded weights and, beside them, of at most one tensor."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from helpers.gguf_made import plain, q8_0, write_gguf
from helpers.untrained import write_untrained
from ltxcore.models.load_base import load_backbone
from ltxcore.models.tiny_model import TINY
from ltxcore.planner.live import LiveBytes

AUDIO = frozenset({"audio"})
WIDE = {**TINY, "num_layers": 1, "audio_num_attention_heads": 8, "audio_attention_head_dim": 128, "audio_cross_attention_dim": 1024}
"""A model whose matrices have millions of values, since what is converted at a time is smaller."""


class Real(LiveBytes):
    """Does not count tensors on the meta device, which have no memory."""

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage.device.type != "meta":
            super()._count(storage)


def matrices(tensors: Mapping[str, Tensor]) -> list[str]:
    return [name for name, tensor in tensors.items() if name.endswith(".weight") and tensor.ndim == 2 and tensor.shape[1] % 32 == 0]


def in_bf16(path: Path) -> Path:
    return path


def in_fp8(path: Path) -> Path:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = dict(load_file(path))
    for name in matrices(tensors):
        tensors[name] = tensors[name].to(torch.float8_e4m3fn)
        tensors[name.replace(".weight", ".weight_scale")] = torch.ones(len(tensors[name]))
    save_file(tensors, path.with_name("fp8.safetensors"), metadata=metadata)
    return path.with_name("fp8.safetensors")


def in_gguf(path: Path) -> Path:
    with safe_open(path, framework="pt") as file:
        config = file.metadata()["config"]
    tensors = load_file(path)
    packed = {name: ("Q8_0", tuple(tensors[name].shape), q8_0(tensors[name])[0]) for name in matrices(tensors)}
    rest = {name: ("F32", tuple(tensor.shape), plain(tensor, "F32")) for name, tensor in tensors.items() if name not in packed}
    return write_gguf(path.with_name("a.gguf"), {**packed, **rest}, config=config)


WRITERS: Mapping[str, Callable[[Path], Path]] = {"bf16": in_bf16, "fp8": in_fp8, "GGUF": in_gguf}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wide") / "wide.safetensors"
    write_untrained(path, WIDE, torch.bfloat16)
    return path


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float32, marks=pytest.mark.slow)])
def test_beside_the_weights_there_is_at_most_one_tensor(dtype: torch.dtype, form: str, written: Path) -> None:
    path = WRITERS[form](written)
    load_backbone(str(path), AUDIO, dtype=dtype)  # imports, and what is computed once
    gc.collect()
    tracemalloc.start()
    with Real() as live:
        backbone = load_backbone(str(path), AUDIO, dtype=dtype)
    _, of_arrays = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    sizes = [parameter.nbytes for parameter in backbone.parameters()]
    assert max(sizes) > 8 * 2**20
    assert live.peak + of_arrays <= sum(sizes) + max(sizes)
