"""The template of `ltx plugins new` for exporters: one that works, and its tests."""

from __future__ import annotations

from ltxcore.cli.beginning import Beginning

EXPORTER = Beginning(
    does="LoRAs are written with underscores in their names, and an alpha for each module",
    made="writes names with underscores, and an alpha for each module",
    use="ltx export lora.safetensors --for $name,prefix=lora_unet_ -o exported.safetensors",
    place="On the command line",
    language="bash",
    method="tensors",
    change="write the names that your program reads, and weight() to compute what it computes from them",
    module='''\
"""LoRAs with underscores in their names, and an alpha for each module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
from ltxcore.api import hookimpl
from ltxcore.api.exporters import AdaptedModule

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class $cls:
    """Names with underscores in place of dots; B @ A is multiplied by alpha / rank."""

    adapters = frozenset({"lora"})  # the types of adapters that the program can load
    use = "Copy FILE to where the program looks for LoRAs."

    prefix: str = attrs.field(default="lora_unet_", metadata={"help": "what every name begins with"})

    def tensors(self, module: AdaptedModule) -> Mapping[str, Tensor]:
        """Import heavy packages here, so that no other command waits for them."""
        import torch

        name = self.name_of(module.path)
        a, b = module.tensors["lora_A.weight"], module.tensors["lora_B.weight"]
        return {
            f"{name}.lora_down.weight": a,
            f"{name}.lora_up.weight": b,
            f"{name}.alpha": torch.tensor(float(a.shape[0])),  # the alpha of the run is in B already
        }

    def weight(self, file: Mapping[str, Tensor], path: str, base: Tensor) -> Tensor:
        """Return the matrix that the program computes from the file; the export is checked with it."""
        name = self.name_of(path)
        down, up = file[f"{name}.lora_down.weight"], file[f"{name}.lora_up.weight"]
        return base + file[f"{name}.alpha"] / down.shape[0] * up @ down

    def name_of(self, path: str) -> str:
        return self.prefix + path.replace(".", "_")


@hookimpl
def ltx_exporters() -> dict[str, type]:
    return {"$name": $cls}
''',
    test='''\
"""Test that $name follows the protocol and writes what it should."""

import pytest
import torch
from ltxcore.api.exporters import AdaptedModule
from ltxcore.testing import check_exporter, check_imports_lightly

from $module import $cls


@pytest.mark.parametrize("prefix", ["lora_unet_", ""])
def test_it_keeps_to_the_protocol(prefix: str) -> None:
    check_exporter($cls(prefix))


def test_it_costs_other_commands_nothing() -> None:
    check_imports_lightly("$module")


def test_names_have_underscores() -> None:
    pair = {"lora_A.weight": torch.ones(2, 8), "lora_B.weight": torch.ones(4, 2)}
    written = $cls().tensors(AdaptedModule("transformer_blocks.0.attn1.to_k", "lora", pair))
    name = "lora_unet_transformer_blocks_0_attn1_to_k"
    assert set(written) == {f"{name}.lora_down.weight", f"{name}.lora_up.weight", f"{name}.alpha"}
    assert written[f"{name}.alpha"].item() == 2
''',
)
