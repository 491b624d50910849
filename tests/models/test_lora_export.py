"""LoRA files for other programs: what each reads, loaded by diffusers' own loader, and as the others say that they load it."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.golden_models import BOTH, ask_stock, golden_weights, load_golden, random_input, stock_model, write_golden
from helpers.lora_files import export_for, load_lora
from ltxcore.errors import CheckpointError, LtxError
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters, save_lora

PATTERNS = [
    "to_k",
    "to_q",
    "to_v",
    "to_out.0",
    "ff.net.0.proj",
    "audio_ff.net.2",
    "proj_in",
    "time_embed.linear",
    "audio_time_embed.linear",
]
WIDTHS = {"A": (48, 48), "B": (64, 32), "C": (64, 32)}
"""Of the text features of each golden model: generations 2.0, 2.3 and 2.5."""

PROGRAMS = ("comfyui", "diffusers", "ltx-pipelines")
TOLERANCE = 1e-5
MODULE = "diffusion_model.transformer_blocks.0.audio_attn1.to_k"


def inputs(name: str) -> tuple[Any, Any]:
    sigma = torch.tensor([0.3, 0.8])
    return tuple(
        random_input(modality, 6, width=width, sigma=sigma) for modality, width in zip(("video", "audio"), WIDTHS[name], strict=True)
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """By the name of a golden model: a LoRA on it, with an alpha that is not its rank, and what the model says with it and without."""

    @functools.cache
    def of(name: str) -> tuple[Path, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        return make(name, tmp_path_factory.mktemp(name))

    return of


def make(name: str, folder: Path) -> tuple[Path, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    backbone = load_golden(name, folder)
    with torch.no_grad():
        without = backbone(*inputs(name))
    add_lora(backbone, rank=4, alpha=12, dropout=0.0, target_modules=PATTERNS)
    generator = torch.Generator().manual_seed(5)
    for parameter in lora_parameters(backbone).values():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    save_lora(backbone, folder / "lora.safetensors", metadata={"trigger": "ltxworld"}, dtype=torch.float32)
    with torch.no_grad():
        return folder / "lora.safetensors", backbone(*inputs(name)), without


def assert_near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for modality, value in expected.items():
        assert (found[modality] - value).abs().max() < TOLERANCE


def asked_diffusers(name: str, path: Path) -> dict[str, torch.Tensor]:
    """diffusers' own model, after its own loader has read the file."""
    from diffusers.loaders.lora_pipeline import LTX2LoraLoaderMixin

    stock = stock_model(name)
    state, metadata = LTX2LoraLoaderMixin.lora_state_dict(path, return_lora_metadata=True)
    LTX2LoraLoaderMixin.load_lora_into_transformer(state, transformer=stock, metadata=metadata)
    with torch.no_grad():
        return ask_stock(stock, *inputs(name), use_cross_timestep=True)


def folded(name: str, path: Path, folder: Path) -> dict[str, torch.Tensor]:
    """A checkpoint with the LoRA added to its weights as ComfyUI and ltx-pipelines do: by the names of the checkpoint, W + B @ A, and no alpha."""
    weights = {f"diffusion_model.{key}": value.float() for key, value in golden_weights(name).items()}
    lora = load_file(path)
    assert not [key for key in lora if key.endswith(".alpha")]
    for key, a in lora.items():
        if key.endswith(".lora_A.weight"):
            module = key.removesuffix(".lora_A.weight")
            weights[f"{module}.weight"] += lora[f"{module}.lora_B.weight"] @ a
    base = write_golden(name, folder)
    with safe_open(base, "pt") as file:
        config = file.metadata()
    merged = folder / "merged.safetensors"
    save_file({f"model.{key}": value for key, value in weights.items()}, merged, metadata=config)
    backbone = load_backbone(str(merged), frozenset(BOTH), dtype=torch.float32)
    with torch.no_grad():
        return backbone(*inputs(name))


# ---------------------------------------------------------------- what the others make of it


@pytest.mark.parametrize("name", ["A", "B", "C"])
@pytest.mark.parametrize("layout", PROGRAMS)
def test_diffusers_own_loader_reads_every_export_and_its_own_model_says_the_same(
    name: str, layout: str, trained: Any, tmp_path: Path
) -> None:
    lora, expected, without = trained(name)
    assert (without["video"] - expected["video"]).abs().max() > 0.1
    export_for(lora, tmp_path / "x.safetensors", layout)
    assert_near(asked_diffusers(name, tmp_path / "x.safetensors"), expected)


@pytest.mark.parametrize("name", ["A", "B", "C"])
@pytest.mark.parametrize("layout", ["comfyui", "ltx-pipelines"])
def test_added_to_the_weights_of_the_checkpoint_by_its_names_it_says_the_same(name: str, layout: str, trained: Any, tmp_path: Path) -> None:
    lora, expected, _ = trained(name)
    export_for(lora, tmp_path / "x.safetensors", layout)
    assert_near(folded(name, tmp_path / "x.safetensors", tmp_path), expected)


@pytest.mark.parametrize("layout", PROGRAMS)
def test_an_export_is_read_again_by_us(layout: str, trained: Any, tmp_path: Path) -> None:
    lora, expected, _ = trained("B")
    export_for(lora, tmp_path / "x.safetensors", layout)
    backbone = load_golden("B", tmp_path)
    load_lora(backbone, tmp_path / "x.safetensors")
    with torch.no_grad():
        assert_near(backbone(*inputs("B")), expected)


# ---------------------------------------------------------------- names, metadata, dtypes


def one_pair(path: Path, *, alpha: float | None = None, dtype: torch.dtype = torch.float32, metadata: dict[str, str] | None = None) -> Path:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(4, 128, generator=generator), torch.randn(128, 4, generator=generator)
    tensors = {f"{MODULE}.lora_A.weight": a.to(dtype), f"{MODULE}.lora_B.weight": b.to(dtype)}
    if alpha is not None:
        tensors[f"{MODULE}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path, metadata=metadata)
    return path


def told(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.mark.parametrize(
    ("layout", "before"),
    [
        ("comfyui", "diffusion_model.patchify_proj"),
        ("diffusers", "transformer.proj_in"),
        ("ltx-pipelines", "diffusion_model.patchify_proj"),
    ],
)
def test_names_are_those_that_the_program_has(layout: str, before: str, tmp_path: Path) -> None:
    a, b = torch.ones(4, 128), torch.ones(128, 4)
    save_file({"diffusion_model.patchify_proj.lora_A.weight": a, "diffusion_model.patchify_proj.lora_B.weight": b}, tmp_path / "x")
    export_for(tmp_path / "x", tmp_path / "y", layout)
    assert set(load_file(tmp_path / "y")) == {f"{before}.lora_A.weight", f"{before}.lora_B.weight"}


def test_an_alpha_is_folded_in_since_not_every_program_applies_it(tmp_path: Path) -> None:
    source = one_pair(tmp_path / "x", alpha=2.0)
    export_for(source, tmp_path / "y", "ltx-pipelines")
    found, was = load_file(tmp_path / "y"), load_file(source)
    assert set(found) == {f"{MODULE}.lora_A.weight", f"{MODULE}.lora_B.weight"}
    torch.testing.assert_close(found[f"{MODULE}.lora_B.weight"], was[f"{MODULE}.lora_B.weight"] / 2)


def test_what_a_file_of_diffusers_says_of_its_alpha_is_folded_in_and_no_longer_said(tmp_path: Path) -> None:
    said = {"lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": 12}), "trigger": "ltxworld"}
    source = one_pair(tmp_path / "x", metadata=said)
    export_for(source, tmp_path / "y", "diffusers")
    assert told(tmp_path / "y") == {"format": "pt", "trigger": "ltxworld"}
    ours = load_file(tmp_path / "y")["transformer.transformer_blocks.0.audio_attn1.to_k.lora_B.weight"]
    torch.testing.assert_close(ours, 3 * load_file(source)[f"{MODULE}.lora_B.weight"])


def test_reference_factors_that_ltx_pipelines_reads_stay(tmp_path: Path) -> None:
    said = {"reference_downscale_factor": "2", "reference_temporal_scale_factor": "4"}
    export_for(one_pair(tmp_path / "x", metadata=said), tmp_path / "y", "ltx-pipelines")
    assert told(tmp_path / "y") == {"format": "pt", **said}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_dtype_is_that_of_the_source_where_no_other_is_asked_for(dtype: torch.dtype, tmp_path: Path) -> None:
    source = one_pair(tmp_path / "x", dtype=dtype)
    assert export_for(source, tmp_path / "y", "comfyui").dtype == str(dtype).removeprefix("torch.")
    assert {tensor.dtype for tensor in load_file(tmp_path / "y").values()} == {dtype}
    assert load_file(tmp_path / "y").keys() == load_file(source).keys()
    export_for(source, tmp_path / "z", "comfyui", dtype=torch.float32)
    assert {tensor.dtype for tensor in load_file(tmp_path / "z").values()} == {torch.float32}


# ---------------------------------------------------------------- what is refused


def message(folder: Path, *args: Any, **options: Any) -> str:
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(LtxError) as error:
        export_for(*args, **options)
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    return str(error.value).replace(str(folder), "TMP")


def test_a_program_that_is_not_known_is_refused(tmp_path: Path) -> None:
    source = one_pair(tmp_path / "x")
    assert message(tmp_path, source, tmp_path / "y", "comfyiu") == '--for: there is no exporter "comfyiu"\n    Did you mean "comfyui"?'


def test_a_file_that_is_there_is_not_written_over_unasked_and_the_source_never(tmp_path: Path) -> None:
    source, other = one_pair(tmp_path / "x"), one_pair(tmp_path / "y")
    assert message(tmp_path, source, other, "comfyui") == "TMP/y: this file already exists\n    Name another file, or use --overwrite."
    assert (
        message(tmp_path, source, source, "comfyui", overwrite=True) == "TMP/x: this is the file to export\n    Name another file to write."
    )
    (tmp_path / "folder").mkdir()
    assert message(tmp_path, source, tmp_path / "folder", "comfyui") == "TMP/folder: this is a folder\n    Name the file to write."
    assert export_for(source, other, "diffusers", overwrite=True).modules == 1


def test_weights_that_are_not_finite_or_change_nothing_are_refused(tmp_path: Path) -> None:
    a, b = torch.ones(4, 128), torch.ones(128, 4)
    save_file({f"{MODULE}.lora_A.weight": a * float("nan"), f"{MODULE}.lora_B.weight": b}, tmp_path / "nan")
    save_file({f"{MODULE}.lora_A.weight": a, f"{MODULE}.lora_B.weight": b * 0}, tmp_path / "zero")
    name = "transformer_blocks.0.audio_attn1.to_k"
    assert message(tmp_path, tmp_path / "nan", tmp_path / "y", "comfyui") == (
        f"TMP/nan: 1 adapter has values that are not finite: {name}\n    Download or copy the file again."
    )
    assert message(tmp_path, tmp_path / "zero", tmp_path / "y", "comfyui") == "TMP/zero: no adapter in this file changes anything"


def test_values_that_overflow_the_dtype_of_the_export_are_refused(tmp_path: Path) -> None:
    save_file({f"{MODULE}.lora_A.weight": torch.ones(4, 128), f"{MODULE}.lora_B.weight": torch.full((128, 4), 1e5)}, tmp_path / "x")
    assert message(tmp_path, tmp_path / "x", tmp_path / "y", "comfyui", dtype=torch.float16) == (
        f"TMP/x: 1 tensor has values that are too large for the dtype of the written file: {MODULE}.lora_B.weight\n"
        "    Choose --dtype bfloat16 or float32."
    )
    assert export_for(tmp_path / "x", tmp_path / "y", "comfyui", dtype=torch.bfloat16).dtype == "bfloat16"


def test_a_folder_is_refused_since_its_metadata_would_be_lost(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    one_pair(tmp_path / "run" / "lora.safetensors", metadata={"trigger": "ltxworld"})
    said = message(tmp_path, tmp_path / "run", tmp_path / "y", "comfyui")
    assert said == "TMP/run: this is a folder\n    Name the LoRA in it, such as TMP/run/lora.safetensors."


def test_a_whole_model_is_no_lora(tmp_path: Path) -> None:
    model = write_golden("B", tmp_path)
    with pytest.raises(CheckpointError) as error:
        export_for(model, tmp_path / "y", "comfyui")
    assert str(error.value).startswith(f"{model}: {len(golden_weights('B'))} tensors are not part of a LoRA of this model: ")
