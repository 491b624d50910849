"""`ltx export`: what it writes, says and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from ltxcore.cli.export import DTYPES, PROGRAMS
from ltxcore.cli.main import main
from ltxcore.models.lora_export import LAYOUTS

MODULE = "transformer_blocks.0.attn1.to_k"


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    tensors = {f"diffusion_model.{MODULE}.lora_A.weight": torch.ones(4, 8), f"diffusion_model.{MODULE}.lora_B.weight": torch.ones(8, 4)}
    save_file(
        {name: tensor.bfloat16() for name, tensor in tensors.items()}, tmp_path / "lora.safetensors", metadata={"trigger": "ltxworld"}
    )
    return tmp_path / "lora.safetensors"


def export(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


def test_the_programs_it_names_without_torch_are_those_there_are() -> None:
    assert tuple(LAYOUTS) == PROGRAMS
    assert all(isinstance(getattr(torch, name), torch.dtype) for name in DTYPES)


@pytest.mark.parametrize(
    ("program", "place"),
    [
        ("comfyui", "Put it into ComfyUI/models/loras, and load it with the node LoraLoaderModelOnly."),
        ("diffusers", "Load it with pipeline.load_lora_weights(OUT)."),
        ("ltx-pipelines", "Name it to a pipeline: --lora OUT 1.0"),
    ],
)
def test_export_says_what_it_wrote_and_where_that_goes(lora: Path, program: str, place: str, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    result = export(lora, "--for", program, "-o", out)
    said = f'OUT: 1 modules of rank 4, bfloat16\nBegin every prompt with "ltxworld".\n{place}\n'
    assert (result.exit_code, result.output.replace(str(out), "OUT")) == (0, said)
    assert {tensor.dtype for tensor in load_file(out).values()} == {torch.bfloat16}


def test_the_dtype_is_as_asked_for(lora: Path, tmp_path: Path) -> None:
    assert export(lora, "--for", "comfyui", "-o", tmp_path / "out", "--dtype", "float32").output.splitlines()[0].endswith("rank 4, float32")
    assert {tensor.dtype for tensor in load_file(tmp_path / "out").values()} == {torch.float32}


def test_a_file_that_is_there_stays_unless_told_otherwise(lora: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    result = export(lora, "--for", "comfyui", "-o", out)
    assert (result.exit_code, result.output) == (2, f"{out}: this file already exists\n    Name another file, or use --overwrite.\n")
    assert out.read_text() == "mine"
    assert export(lora, "--for", "comfyui", "-o", out, "--overwrite").exit_code == 0


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = export(tmp_path / "none", "--for", "comfyui", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert result.output.startswith(f"{tmp_path / 'none'}: ")
