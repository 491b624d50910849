"""`ltx lora average`: the mean of checkpoints, tensor by tensor, and the refusal of files that do not go together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ltxcore.cli.main import main
from ltxcore.models.lora_file import read_lora

MODULE = "diffusion_model.transformer_blocks.0.attn1.to_k"
DORA = "transformer.transformer_blocks.0.attn1.to_k"
SAID = {"base_fingerprint": "abc", "rank": "4", "generation": "2.3"}


def tensors(seed: int, base: str = MODULE, rank: int = 4, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A checkpoint of one run: a little further than the one before."""
    start = torch.Generator().manual_seed(0)
    further = torch.Generator().manual_seed(seed + 1)
    shapes = {"lora_A": (rank, 16), "lora_B": (8, rank), **({"lora_magnitude_vector": (8,)} if base == DORA else {})}
    names = {role: f"{base}.{role}{'' if 'vector' in role else '.weight'}" for role in shapes}
    return {
        names[role]: (torch.randn(shape, generator=start) + 0.1 * torch.randn(shape, generator=further)).to(dtype)
        for role, shape in shapes.items()
    }


def written(folder: Path, *made: dict[str, Tensor], **said: str) -> list[Path]:
    paths = []
    for number, each in enumerate(made, 1):
        path = folder / f"step_{number:06d}" / "lora.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(each, path, metadata={"format": "pt", **SAID, "step": str(number), **said})
        paths.append(path)
    return paths


def asked(files: list[Path], output: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["lora", "average", *map(str, files), "-o", str(output), *options])


@pytest.mark.parametrize("base", [MODULE, DORA])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_count_the_same_in_a_lora_and_in_a_dora(base: str, dtype: torch.dtype, tmp_path: Path) -> None:
    made = [tensors(seed, base, dtype=dtype) for seed in range(3)]
    output = tmp_path / "mean.safetensors"
    result = asked(written(tmp_path, *made), output)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{output}: the average of 3 LoRAs of 1 modules\n"
    assert result.stderr == ""
    found = load_file(output)
    assert found.keys() == made[0].keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, torch.stack([each[name].double() for each in made]).mean(0).to(dtype))
    with safe_open(output, "pt") as file:
        assert file.metadata() == {"format": "pt", **SAID, "averaged_files": "3"}
    assert read_lora(output, "").modules  # every reader of LoRAs takes it


@pytest.mark.parametrize("names", [("lokr_w1", "lokr_w2_a", "lokr_w2_b"), ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")])
def test_a_lokr_and_a_loha_are_averaged_by_their_factors(names: tuple[str, ...], tmp_path: Path) -> None:
    shapes = {name: (4, 8) if name.endswith("_b") else (8, 4) for name in names}
    made = []
    for seed in range(2):
        draws = torch.Generator().manual_seed(seed)
        start = {name: torch.randn(shape, generator=torch.Generator().manual_seed(7)) for name, shape in shapes.items()}
        start[names[-1]] *= seed  # it starts at 0
        made.append({f"{MODULE}.{name}": value + 0.1 * torch.randn(value.shape, generator=draws) for name, value in start.items()})
        made[-1][f"{MODULE}.alpha"] = torch.tensor(4.0)
    output = tmp_path / "mean.safetensors"
    result = asked(written(tmp_path, *made), output)
    assert (result.exit_code, result.stderr) == (0, "")
    for name, tensor in load_file(output).items():
        torch.testing.assert_close(tensor, (made[0][name] + made[1][name]) / 2)
    assert read_lora(output, "").kind.type == ("lokr" if "lokr_w1" in names else "loha")


def test_with_a_decay_each_further_one_takes_the_rest(tmp_path: Path) -> None:
    made = [tensors(seed) for seed in range(4)]
    output = tmp_path / "mean.safetensors"
    assert asked(written(tmp_path, *made), output, "--decay", "0.75").exit_code == 0
    for name, tensor in load_file(output).items():
        expected = made[0][name].double()
        for each in made[1:]:
            expected = 0.75 * expected + 0.25 * each[name].double()
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-7)


def test_loras_of_different_runs_are_averaged_with_a_warning(tmp_path: Path) -> None:
    other = {name: torch.randn(tensor.shape, generator=torch.Generator().manual_seed(9)) for name, tensor in tensors(0).items()}
    result = asked(written(tmp_path, tensors(0), other), tmp_path / "mean.safetensors")
    assert result.exit_code == 0
    assert "differ as much as LoRAs of different runs, so their average is useless" in result.stderr


def refusal(files: list[Path], output: Path, *options: str) -> str:
    before = output.read_bytes() if output.is_file() else None
    result = asked(files, output, *options)
    assert result.exit_code == 2, result.output
    assert (output.read_bytes() if output.is_file() else None) == before
    return result.stderr


def test_files_that_do_not_go_together_are_refused_by_what_differs(tmp_path: Path) -> None:
    output = tmp_path / "mean.safetensors"
    (first,) = written(tmp_path / "one", tensors(0))
    (rank,) = written(tmp_path / "rank", tensors(1, rank=8))
    assert "the tensors differ from those of" in refusal([first, rank], output)
    (base,) = written(tmp_path / "base", tensors(1), base_fingerprint="xyz")
    assert f"base_fingerprint is xyz here, but abc in {first}" in refusal([first, base], output)
    (dora,) = written(tmp_path / "dora", tensors(1, DORA))
    assert "the tensors differ from those of" in refusal([first, dora], output)
    (broken,) = written(tmp_path / "broken", {name: tensor * torch.nan for name, tensor in tensors(1).items()})
    assert "has values that are not finite" in refusal([first, broken], output)
    alphas = [written(tmp_path / f"alpha{alpha}", {**tensors(0), f"{MODULE}.alpha": torch.tensor(alpha)})[0] for alpha in (4.0, 8.0)]
    assert f"{MODULE}.alpha differs from that of {alphas[0]}" in refusal(alphas, output)
    turned = written(tmp_path / "pissa", tensors(0), tensors(1), start="pissa")
    assert "were recomputed when it was written (pissa)" in refusal(turned, output)
    whole = tmp_path / "model.safetensors"
    save_file({"model.diffusion_model.x": torch.ones(2)}, whole)
    assert "this file is a whole model, not a LoRA" in refusal([first, whole], output)


def test_what_is_there_is_not_overwritten_and_one_file_has_no_average(tmp_path: Path) -> None:
    files, output = written(tmp_path, tensors(0), tensors(1)), tmp_path / "mean.safetensors"
    assert "an average needs two LoRAs or more" in refusal(files[:1], output)
    assert "this is a folder" in refusal(files, tmp_path)
    assert "this is one of the LoRAs to average" in refusal(files, files[1], "--overwrite")
    assert asked(files, output).exit_code == 0
    assert "this file already exists" in refusal(files, output)
    assert asked(files, output, "--overwrite").exit_code == 0
