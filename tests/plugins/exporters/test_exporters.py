"""The exporters of ltx: what they write, byte for byte, and that they keep to their protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from helpers.lora_files import export_for
from ltxcore.registry import load
from ltxcore.testing import check_exporter

EXPORTERS = {name: named.value for name, named in load().of_kind("exporter").items() if named.origin.distribution == "ltx"}


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_exporter_keeps_to_the_protocol(name: str) -> None:
    check_exporter(EXPORTERS[name])


# ---------------------------------------------------------------- bytes


def numbers(*shape: int) -> Tensor:
    """Numbers that every dtype holds exactly."""
    return (torch.arange(torch.Size(shape).numel()).remainder(23) - 11).float().reshape(shape) / 16


def kohya(path: Path) -> None:
    tensors = {}
    for module, rank, alpha in (("patchify_proj", 4, 2.0), ("transformer_blocks.0.audio_attn1.to_out.0", 2, 6.0)):
        before = f"diffusion_model.{module}"
        tensors |= {f"{before}.lora_down.weight": numbers(rank, 24), f"{before}.lora_up.weight": numbers(16, rank)}
        tensors[f"{before}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path, metadata={"trigger": "ltxworld"})


def of_diffusers(path: Path) -> None:
    tensors = {}
    for module in ("proj_in", "audio_time_embed.linear", "transformer_blocks.1.ff.net.2"):
        before = f"transformer.{module}"
        tensors |= {f"{before}.lora_A.weight": numbers(4, 8).bfloat16(), f"{before}.lora_B.weight": numbers(8, 4).bfloat16()}
    save_file(tensors, path, metadata={"lora_adapter_metadata": '{"transformer.r": 4, "transformer.lora_alpha": 12}', "format": "pt"})


def plain(path: Path) -> None:
    tensors = {}
    for module in ("transformer_blocks.0.attn1.to_k", "transformer_blocks.1.attn1.to_k"):
        tensors |= {f"{module}.lora_A.default.weight": numbers(3, 8).half(), f"{module}.lora_B.default.weight": numbers(8, 3).half()}
    save_file(tensors, path)


ORIGINAL = {
    kohya: ("cd9c7674f454321f", "32ee099f09486365"),
    of_diffusers: ("a6e95cea8e7071e1",) * 2,
    plain: ("0c81e24ef26ec016", "3d9da9147fdad31c"),
}
DIFFUSERS = {
    kohya: ("5e9c635358c7bf5b", "33280a9fe6a90bb3"),
    of_diffusers: ("a0bb1791299b8a7a",) * 2,
    plain: ("03efa33ac4ccd5be", "4fb0fa3d338afd20"),
}
WRITTEN = {"comfyui": ORIGINAL, "diffusers": DIFFUSERS, "ltx-pipelines": ORIGINAL}
"""The beginnings of the SHA-256 of what was written when the layouts were part of the core: in the dtype of the source, and in bfloat16."""


@pytest.mark.parametrize("make", [kohya, of_diffusers, plain])
@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_of_a_plain_lora_stays_the_same_byte_for_byte(name: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "x")
    found = []
    for number, dtype in enumerate((None, torch.bfloat16)):
        export_for(tmp_path / "x", tmp_path / f"y{number}", name, dtype=dtype)
        found.append(hashlib.sha256((tmp_path / f"y{number}").read_bytes()).hexdigest()[:16])
    assert tuple(found) == WRITTEN[name][make]
