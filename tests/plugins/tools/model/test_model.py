"""`ltx model`: what is in a checkpoint or a LoRA, from its header alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from helpers.eight_bits import in_eight_bits
from helpers.golden_models import PREFIX, golden_weights, write_golden
from helpers.layouts import LAYOUTS, VERSIONS
from helpers.separate_files import separate
from ltxcore.cli.main import main
from ltxcore.model_folder import PARTS
from ltxcore.models import TINY_BASE
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters, save_lora


def said(path: Path | str, *options: str) -> str:
    result = CliRunner().invoke(main, ["model", str(path), *options])
    assert result.exit_code == 0, result.output
    return result.output


def found(path: Path | str) -> dict[str, Any]:
    return json.loads(said(path, "--json"))


def refusal(path: Path) -> str:
    result = CliRunner().invoke(main, ["model", str(path)])
    assert result.exit_code == 2
    return result.stderr.replace(str(path.parent), "TMP")


def test_the_shipped_model_is_told_in_a_table() -> None:
    lines = said("tiny").splitlines()
    assert lines[0].endswith("ltxcore/models/tiny_base.safetensors")
    assert lines[1:] == [
        "  generation    the tiny model",
        "  layout        original",
        "  use           model_path",
        "  blocks        4",
        "  video latent  a cell covers 8 frames of 32 x 32 pixels",
        "  audio latent  a step covers 4 mel frames, 25 steps a second",
        "  text encoder  that of the tiny model",
        "",
        "PART                                  PARAMETERS  SIZE    DTYPE",
        "transformer: video                    1,242,112   2.5 MB  bfloat16",
        "transformer: audio                    1,242,112   2.5 MB  bfloat16",
        "transformer: between video and audio  898,304     1.8 MB  bfloat16",
        "all                                   3,382,528   6.8 MB",
        "",
        "Metadata",
        "  codec             tiny",
        "  format            pt",
        "  generation        tiny",
        "  text_fingerprint  tiny-text-1-32x128",
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("name", "generation", "encoder"), [("A", "2.0", "Gemma 3 12B"), ("B", "2.3", "Gemma 3 12B"), ("C", "2.5", "Gemma 4")]
)
def test_every_layout_of_a_model_is_described(layout: str, name: str, generation: str, encoder: str, tmp_path: Path) -> None:
    told = found(LAYOUTS[layout](name, tmp_path))
    assert (told["kind"], told["generation"], told["num_layers"], told["text_encoder"]) == ("model", generation, 2, encoder)
    assert told["layout"] == ("original" if layout in ("unified", "split") else "diffusers")
    assert told["version"] == (VERSIONS[name] if layout == "split" else "")
    assert told["video_scale"] == [8, 32, 32]
    sizes = {part["name"].split(": ")[-1]: part for part in told["parts"] if part["name"].startswith(("transformer:", "transformer_full:"))}
    total = sum(value.numel() for value in golden_weights(name).values())
    assert sum(part["parameters"] for part in sizes.values()) == total
    assert {dtype for part in sizes.values() for dtype in part["dtypes"]} == {"BF16"}
    assert all(part["size"] == 2 * part["parameters"] for part in sizes.values())
    assert sizes.keys() == {"video", "audio", "between video and audio"}


def test_the_parts_of_a_unified_file_are_named(tmp_path: Path) -> None:
    names = [part["name"] for part in found(LAYOUTS["unified"]("B", tmp_path))["parts"]]
    assert names == [
        "transformer: video",
        "transformer: audio",
        "transformer: between video and audio",
        "text connector: video",
        "text connector: audio",
        "text projections",
        "video VAE",
        "audio VAE",
        "vocoder",
    ]


def test_a_folder_beside_its_distilled_twin_tells_both(tmp_path: Path) -> None:
    names = {part["name"].partition(":")[0] for part in found(LAYOUTS["beside a distilled one"]("C", tmp_path))["parts"]}
    assert names == {"transformer", "transformer_full"}


def test_the_file_of_a_codec_alone_is_described_too(tmp_path: Path) -> None:
    blocks = [["compress_space_res", {}], ["compress_time_res", {}], ["compress_all_res", {}], ["compress_all_res", {}]]
    config = {"vae": {"encoder_blocks": blocks, "patch_size": 4}}
    tensors = {
        "encoder.conv_in.weight": torch.zeros(4, 2),
        "decoder.conv.weight": torch.zeros(3),
        "per_channel_statistics.std-of-means": torch.ones(2),
    }
    save_file(tensors, tmp_path / "vae.safetensors", metadata={"config": json.dumps(config), "model_version": "2.5.0"})
    told = found(tmp_path / "vae.safetensors")
    assert (told["generation"], told["video_scale"], told["num_layers"], told["text_encoder"]) == ("2.5", [8, 32, 32], 0, "")
    assert [(part["name"], part["parameters"]) for part in told["parts"]] == [("video VAE", 13)]
    assert "text encoder" not in said(tmp_path / "vae.safetensors")


def test_the_text_encoder_that_a_file_names_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    metadata = {
        "config": json.dumps({"transformer": {"num_layers": 1}}),
        "gemma_source_checkpoint": json.dumps({"gemma_version": "gemma-4-e4b"}),
    }
    save_file({f"{PREFIX}transformer_blocks.0.attn1.to_q.weight": torch.zeros(2, 2)}, path, metadata=metadata)
    assert found(path)["text_encoder"] == "gemma-4-e4b"


# ---------------------------------------------------------------- LoRAs


def lora(path: Path, **options: Any) -> Path:
    backbone = load_backbone("tiny-untrained", frozenset({"video", "audio"}), dtype=torch.float32)
    add_lora(
        backbone,
        **(
            {"rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["attn1.to_k", "audio_ff.net.2", "audio_to_video_attn.to_q"]}
            | options
        ),
    )
    with torch.no_grad():
        for parameter in lora_parameters(backbone).values():
            parameter.add_(1e-2)
    save_lora(backbone, path, metadata={"trigger": "ltxworld", "reference_downscale_factor": "2"}, dtype=torch.bfloat16)
    return path


def test_a_lora_is_told_in_a_table(tmp_path: Path) -> None:
    lines = said(lora(tmp_path / "lora.safetensors")).splitlines()
    assert lines == [
        f"{tmp_path}/lora.safetensors",
        "  kind        LoRA",
        "  base        the tiny model",
        "  layout      original names",
        "  rank        4",
        "  modules     12: 4 video, 4 audio, 4 between video and audio",
        "  targets     attn1.to_k x 4, audio_ff.net.2 x 4, audio_to_video_attn.to_q x 4",
        "  parameters  18,432, 36.9 kB, bfloat16",
        "",
        "Metadata",
        "  alpha                       8",
        "  alpha_is_folded             true",
        "  base_fingerprint            tiny-untrained",
        "  base_model                  tiny-untrained",
        "  format                      pt",
        "  generation                  tiny",
        "  rank                        4",
        "  reference_downscale_factor  2",
        '  target_modules              ["attn1.to_k", "audio_ff.net.2", "audio_to_video_attn.to_q"]',
        "  timestep_rule               split",
        "  trigger                     ltxworld",
    ]


def test_a_dora_and_its_layout_are_told(tmp_path: Path) -> None:
    told = found(lora(tmp_path / "lora.safetensors", type="dora"))
    assert (told["kind"], told["is_dora"], told["layout"], told["ranks"]) == ("lora", True, "diffusers", {"4": 12})


def test_a_lora_from_elsewhere_is_told_with_its_ranks_and_alphas(tmp_path: Path) -> None:
    tensors = load_file(lora(tmp_path / "own.safetensors"))
    changed = {}
    for name, value in tensors.items():
        narrow = (value[:2] if "lora_A" in name else value[:, :2]).contiguous() if "blocks.3" in name else value
        changed[name.replace("lora_A", "lora_down").replace("lora_B", "lora_up")] = narrow
        changed[name.rsplit(".lora_", 1)[0] + ".alpha"] = torch.tensor(4.0)
    save_file(changed, tmp_path / "comfy.safetensors")
    told = found(tmp_path / "comfy.safetensors")
    assert (told["layout"], told["has_alpha"], told["ranks"], told["generation"]) == ("ComfyUI", True, {"2": 3, "4": 9}, "")
    lines = said(tmp_path / "comfy.safetensors").splitlines()
    assert lines[2:5] == [
        "  base        not said",
        "  layout      ComfyUI, with an alpha for each module",
        "  rank        2 (3 modules), 4 (9 modules)",
    ]


# ---------------------------------------------------------------- what is refused


def test_a_lora_without_some_of_its_tensors_is_refused(tmp_path: Path) -> None:
    tensors = load_file(lora(tmp_path / "own.safetensors", target_modules=["attn1.to_k"]))
    missing = "diffusion_model.transformer_blocks.0.attn1.to_k.lora_B.weight"
    save_file({name: value for name, value in tensors.items() if name != missing}, tmp_path / "x.safetensors")
    assert refusal(tmp_path / "x.safetensors") == (
        "TMP/x.safetensors: lora tensors are missing, or do not fit each other, in these modules: transformer_blocks.0.attn1.to_k\n"
    )


def test_what_is_not_there_or_not_whole_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "x.safetensors") == 'TMP/x.safetensors: there is no such file or folder\n    Check the path, or use "tiny".\n'
    path = lora(tmp_path / "lora.safetensors")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    assert (
        refusal(path)
        == f"TMP/lora.safetensors: is truncated: only {size - 1} of {size} bytes are there\n    Download or copy the file again.\n"
    )
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty") == (
        "TMP/empty: this folder holds no model: it contains neither a config.json nor a folder with a part of a model\n    Name another folder.\n"
    )


def test_a_folder_of_separate_files_names_what_can_be_described(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(TINY_BASE, folder / "own.safetensors")
    assert refusal(folder) == (
        "TMP/models: this is a folder of separate files, each of which is described alone\n    Name one of them: TMP/models/own.safetensors.\n"
    )


def test_a_lora_of_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    save_file({"lora_unet_down_blocks_0.lora_down.weight": torch.zeros(2, 2)}, tmp_path / "x.safetensors")
    assert refusal(tmp_path / "x.safetensors") == (
        "TMP/x.safetensors: 1 tensor is part of a LoRA of another model, which ltx does not read: lora_unet_down_blocks_0.lora_down.weight\n"
        "    Train or export it as a LoRA of the transformer, or use it in the program that made it.\n"
    )


def test_neither_torch_nor_diffusers_is_imported(tmp_path: Path) -> None:
    paths = [str(lora(tmp_path / "lora.safetensors")), str(LAYOUTS["parts"]("B", tmp_path / "folder")), "tiny"]
    program = (
        "import sys\nfrom ltxcore.cli.main import main\n"
        f"for path in {paths!r}:\n    main(['model', path], standalone_mode=False)\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'peft')))"
    )
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_what_a_file_can_be_used_for_and_how_its_weights_are_stored_is_told(tmp_path: Path) -> None:
    folder = separate(tmp_path)["model_path"]
    told = {
        name: found(folder / name) for name in ("a.safetensors", "b.safetensors", "e.safetensors", "vae/c.safetensors", "vae/d.safetensors")
    }
    assert [each["key"] for each in told.values()] == [*list(PARTS)[:3], "audio_vae_path", "video_vae_path"]
    assert told["a.safetensors"]["lacks"] == list(PARTS)[1:]
    assert [line for line in said(folder / "a.safetensors").splitlines() if line.startswith("  use")] == [
        "  use           model_path, beside connectors_path, text_encoder_path, video_vae_path, audio_vae_path"
    ]
    path = write_golden("B", tmp_path)
    in_eight_bits(path, "official")
    assert found(path)["quantization"] == "8-bit floating point, with scales"
    save_file({"transformer_blocks.0.attn1.to_q.weight": torch.zeros(2, 2, dtype=torch.uint8)}, path)
    assert found(path)["unread"] == ["U8"]
    assert "none: weights are stored as U8, which is not read; use a bf16, fp8 or GGUF file" in said(path)
