"""An exporter is not taken at its word, nor is the base that a user names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ltxcore.errors import LtxError
from ltxcore.exporters import AdaptedModule, Exporter
from ltxcore.models.export_check import weight_with
from ltxcore.models.load_base import base_weights
from ltxcore.models.lora_export import export_lora
from ltxcore.models.lora_file import read_lora

PATHS = [f"transformer_blocks.{block}.audio_attn1.to_k" for block in range(3)]


@attrs.frozen
class Plain:
    """Adds what it finds for the path that `looked` gives."""

    adapters = frozenset({"lora"})
    use = "Copy FILE."

    looked: Any = lambda path: path

    def tensors(self, module: AdaptedModule) -> Mapping[str, Tensor]:
        return {f"{module.path}.{ending}": tensor for ending, tensor in module.tensors.items()}

    def weight(self, file: Mapping[str, Tensor], path: str, base: Tensor) -> Tensor:
        before = self.looked(path)
        found = file.get(f"{before}.lora_A.weight")
        return base if found is None else base + file[f"{before}.lora_B.weight"] @ found


@attrs.frozen
class Summed(Plain):
    """Writes the whole matrix, for which it needs the base."""

    needs_base = frozenset({"lora"})
    in_float32 = frozenset({"sum"})

    def tensors(self, module: AdaptedModule) -> Mapping[str, Tensor]:
        assert module.base is not None
        return {f"{module.path}.sum": module.base + module.tensors["lora_B.weight"] @ module.tensors["lora_A.weight"]}

    def weight(self, file: Mapping[str, Tensor], path: str, base: Tensor) -> Tensor:
        return file[f"{path}.sum"]


def lora(path: Path, *, inputs: int = 128, dtype: torch.dtype = torch.float32, **metadata: str) -> Path:
    draws = torch.Generator().manual_seed(0)
    tensors = {}
    for name in PATHS:
        tensors[f"diffusion_model.{name}.lora_A.weight"] = torch.randn(2, inputs, generator=draws).to(dtype)
        tensors[f"diffusion_model.{name}.lora_B.weight"] = torch.randn(128, 2, generator=draws).to(dtype)
    save_file(tensors, path, metadata=metadata)
    return path


def refused(folder: Path, exporter: Any, source: Path, **options: Any) -> str:
    with pytest.raises(LtxError) as error:
        export_lora(source, folder / "out", Exporter("mine", exporter), **options)
    assert not (folder / "out").exists()
    return str(error.value).replace(str(folder), "TMP")


@pytest.mark.parametrize(
    ("looked", "said"),
    [
        (
            lambda path: path.replace("blocks.2", "blocks.1"),
            f"looks for {PATHS[2]} under {PATHS[1]}.lora_A.weight, where it writes something else",
        ),
        (lambda path: path.replace("blocks.2", "blocks.9"), f"looks for {PATHS[2]} under no name, where it writes something else"),
        (lambda path: path.replace("blocks.0", "blocks.1"), f"writes tensors that do not give the trained weights of {PATHS[0]}"),
    ],
)
def test_a_module_whose_tensors_are_not_found_under_its_path_is_told(looked: Any, said: str, tmp_path: Path) -> None:
    source = lora(tmp_path / "x")
    assert refused(tmp_path, Plain(looked), source) == f'the exporter "mine" {said}\n    Report this to the plugin\'s author.'
    assert export_lora(source, tmp_path / "y", Exporter("mine", Plain())).modules == 3


def test_the_matrix_of_an_adapter_in_a_file_is_the_bases_with_its_change(tmp_path: Path) -> None:
    tensors = load_file(lora(tmp_path / "x"))
    found = read_lora(tmp_path / "x", "")
    base = torch.randn(128, 128, generator=torch.Generator().manual_seed(1))
    a, b = (tensors[f"diffusion_model.{PATHS[1]}.lora_{side}.weight"] for side in "AB")
    with torch.no_grad():
        torch.testing.assert_close(weight_with(found, found.modules[PATHS[1]], base), base + b @ a)


def test_an_exporter_that_needs_the_base_gets_the_one_that_is_named(tmp_path: Path) -> None:
    source = lora(tmp_path / "x", dtype=torch.bfloat16)
    assert refused(tmp_path, Summed(), source) == (
        'TMP/x: the exporter "mine" needs the base model for adapters of the type "lora"\n'
        "    Name the model that the LoRA was trained on: --model MODEL."
    )
    written = export_lora(source, tmp_path / "y", Exporter("mine", Summed()), model="tiny")
    assert written.dtype == "bfloat16"
    trained, own = load_file(tmp_path / "y"), load_file(source)
    with base_weights("tiny") as base:
        for name in PATHS:
            a, b = (own[f"diffusion_model.{name}.lora_{side}.weight"].float() for side in "AB")
            assert trained[f"{name}.sum"].dtype == torch.float32
            torch.testing.assert_close(trained[f"{name}.sum"], base(f"{name}.weight") + b @ a)


def test_another_base_than_that_of_the_file_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, Summed(), lora(tmp_path / "x", generation="2.3"), model="tiny") == (
        "TMP/x: the LoRA was made for a model of generation 2.3, but tiny is of generation tiny\n    Name the model that the LoRA was trained on."
    )
    assert refused(tmp_path, Summed(), lora(tmp_path / "x", inputs=64), model="tiny") == (
        f"TMP/x: {PATHS[0]} does not fit tiny: its shape is [128, 64] in the LoRA, but [128, 128] in the model\n    Name the model that the LoRA was trained on."
    )
