"""`ltx export`: what it writes, says and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from ltxcore.cli.export import DTYPES
from ltxcore.cli.main import main

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


def test_the_dtypes_it_names_without_torch_are_torchs() -> None:
    assert all(isinstance(getattr(torch, name), torch.dtype) for name in DTYPES)


@pytest.mark.parametrize(
    ("program", "place"),
    [
        ("comfyui", "Put the file into ComfyUI/models/loras, and load it with the node LoraLoaderModelOnly."),
        ("diffusers", 'Load the file with pipeline.load_lora_weights("OUT").'),
        ("ltx-pipelines", "Pass it to a pipeline: --lora OUT 1.0"),
    ],
)
def test_export_says_what_it_wrote_and_where_that_goes(lora: Path, program: str, place: str, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    result = export(lora, "--for", program, "-o", out)
    said = f'OUT: 1 modules of rank 4, bfloat16\nBegin every prompt with "ltxworld".\n{place}\n'
    assert (result.exit_code, result.output.replace(str(out), "OUT")) == (0, said)
    assert {tensor.dtype for tensor in load_file(out).values()} == {torch.bfloat16}


def test_references_of_different_sizes_are_told_of(lora: Path, tmp_path: Path) -> None:
    """A program that knows one factor for all of them finds none in the file."""
    both = [{"modality": "video", "latents_dir": "pose"}, {"modality": "video", "latents_dir": "depth", "reference_downscale_factor": "2"}]
    save_file(load_file(lora), lora, metadata={"references": json.dumps(both)})
    said = export(lora, "--for", "ltx-pipelines", "-o", tmp_path / "out").output.splitlines()
    assert said[1:3] == [
        'Trained with several references, one of which has modality = "video", latents_dir = "pose".',
        'Trained with several references, one of which has modality = "video", latents_dir = "depth", reference_downscale_factor = "2".',
    ]


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


OWN = '''
import attrs
from ltxcore.api import hookimpl


@attrs.frozen
class Short:
    """Short names."""

    adapters = frozenset({"lora"})
    use = "Copy FILE to the shelf."

    prefix: str = attrs.field(default="short", metadata={"help": "what names begin with"})
    turned: bool = False

    def tensors(self, module):
        a, b = module.tensors["lora_A.weight"], module.tensors["lora_B.weight"]
        return {f"{self.prefix}/{module.path}": (a.T @ b.T if self.turned else b @ a)}

    def weight(self, file, path, base):
        return base + file[f"{self.prefix}/{path}"]


@hookimpl
def ltx_exporters():
    return {"short": Short}
'''


def test_a_python_file_with_an_exporter_is_taken_with_its_keys(lora: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    out = tmp_path / "out"
    result = export(lora, "--for", "short,prefix=s", "--plugin", tmp_path / "own.py", "-o", out)
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, f"Copy {out} to the shelf.")
    assert list(load_file(out)) == [f"s/{MODULE}"]
    wrong = export(lora, "--for", "short,prefx=s", "--plugin", tmp_path / "own.py", "-o", tmp_path / "other")
    assert (wrong.exit_code, wrong.output) == (
        2,
        '--for short,prefx=s: prefx: there is no such key\n    Did you mean "prefix"?\n',
    )


def test_a_file_that_does_not_give_what_was_trained_is_not_written(lora: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    for inputs, said in (
        (8, f"writes tensors that do not give the trained weights of {MODULE}"),
        (16, f"raises RuntimeError for {MODULE}: The size of"),
    ):
        draws = torch.Generator().manual_seed(0)
        a, b = torch.randn(4, inputs, generator=draws), torch.randn(8, 4, generator=draws)
        save_file({f"diffusion_model.{MODULE}.lora_A.weight": a, f"diffusion_model.{MODULE}.lora_B.weight": b}, tmp_path / "source")
        before = {path for path in tmp_path.iterdir() if path.is_file()}
        result = export(tmp_path / "source", "--for", "short,turned=true", "--plugin", tmp_path / "own.py", "-o", tmp_path / "out")
        assert result.exit_code != 0
        assert result.output.startswith(f'the exporter "short" {said}')
        assert {path for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("lengths", "use"),
    [
        ({}, "use them together, or export again with --with-frozen"),
        ({"lora_magnitude_vector": torch.ones(8)}, "merge these into the model first, with `ltx lora merge LORA... --model MODEL -o FILE`"),
    ],
)
def test_what_lies_under_the_adapters_is_told_and_what_to_do_about_it(
    lengths: dict[str, torch.Tensor], use: str, lora: Path, tmp_path: Path
) -> None:
    said = json.dumps([{"name": "under.safetensors", "strength": 0.5, "sha256": "0"}])
    own = {f"diffusion_model.{MODULE}.{ending}": tensor.bfloat16() for ending, tensor in lengths.items()}
    save_file({**load_file(lora), **own}, lora, metadata={"frozen_loras": said})
    assert f"It was trained on top of under.safetensors:0.5: {use}.\n" in export(lora, "--for", "diffusers", "-o", tmp_path / "out").output
