"""LoRAs of the text connectors, beside the same model with the LoRAs added to the weights of its connectors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import Tensor

from helpers.golden_models import BOTH
from helpers.spoiled_files import rewritten
from helpers.whole_models import unified
from ltxcore.cli.main import main
from ltxcore.config.loras import Strength
from ltxcore.errors import CheckpointError
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora_merge import merge_into_model, merge_loras
from ltxcore.models.lora_stack import load_loras, put_under
from ltxcore.models.lora_tools import resize_lora
from ltxcore.protocols import Text

PREFIX = "model.diffusion_model."
OWN = {
    "video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q": (64, 64),
    "audio_embeddings_connector.transformer_1d_blocks.1.attn1.to_v": (32, 32),
    "transformer_blocks.0.attn1.to_q": (64, 64),
}
NAMES = {
    "original": lambda path: f"diffusion_model.{path}",
    "diffusers": lambda path: (
        ("connectors." if "connector" in path else "transformer.")
        + path.replace("_embeddings_connector.transformer_1d", "_connector.transformer")
    ),
    "kohya": lambda path: f"lora_unet_{path.replace('.', '_')}",
}
STRENGTH = 0.5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unified(tmp_path_factory.mktemp("model"))["model_path"]


def matrices() -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return {
        path: (torch.randn(2, columns, generator=generator), torch.randn(rows, 2, generator=generator))
        for path, (rows, columns) in OWN.items()
    }


def write(path: Path, names: str = "original") -> Path:
    ends = ("lora_down.weight", "lora_up.weight") if names == "kohya" else ("lora_A.weight", "lora_B.weight")
    pairs = {NAMES[names](own): pair for own, pair in matrices().items()}
    save_file({f"{name}.{end}": tensor for name, pair in pairs.items() for end, tensor in zip(ends, pair, strict=True)}, path)
    return path


@pytest.fixture(scope="module")
def changed(model: Path) -> Path:
    """The model with the changes in its weights, in float32."""

    def change(tensors: dict[str, Tensor]) -> None:
        for path, (a, b) in matrices().items():
            tensors[f"{PREFIX}{path}.weight"] = tensors[f"{PREFIX}{path}.weight"].float() + STRENGTH * b @ a

    path = model.with_name("changed.safetensors")
    path.write_bytes(model.read_bytes())
    rewritten(path, change)
    return path


def loaded(path: Path, dtype: torch.dtype = torch.float32) -> LTXBackbone:
    return load_backbone(str(path), BOTH, dtype=dtype).eval()


def context(backbone: LTXBackbone) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    text = {"video": torch.randn(1, 16, 64, generator=generator), "audio": torch.randn(1, 16, 32, generator=generator)}
    return dict(backbone.connect(Text(text, torch.ones(1, 16))).features)


@pytest.mark.parametrize("names", NAMES)
def test_text_is_connected_as_with_the_changes_in_the_weights(names: str, model: Path, changed: Path, tmp_path: Path) -> None:
    lora = Strength(write(tmp_path / "lora.safetensors", names), STRENGTH)
    expected, bare = context(loaded(changed)), context(loaded(model))
    for put in (load_loras, put_under):
        backbone = loaded(model)
        put(backbone, [lora])
        for name, found in context(backbone).items():
            torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=1e-4)
            assert not torch.allclose(found, bare[name], atol=1e-2)
        assert not any(parameter.requires_grad for module in backbone.connectors.modules.values() for parameter in module.parameters())


def test_a_change_is_not_lost_in_the_steps_of_bfloat16(model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "lora.safetensors")
    rewritten(path, lambda tensors: tensors.update({name: 0.01 * tensor for name, tensor in tensors.items()}))
    backbone = loaded(model, torch.bfloat16)
    connector = backbone.connectors.modules["video"]
    before = connector.transformer_blocks[0].attn1.to_q.weight.clone()
    load_loras(backbone, [Strength(path)])
    linear = connector.transformer_blocks[0].attn1.to_q
    a, b = matrices()["video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q"]
    torch.testing.assert_close(linear.dequantize() - before.float(), 1e-4 * b @ a, rtol=1e-2, atol=1e-6)
    assert context(backbone)["video"].dtype == torch.bfloat16


def test_a_model_is_merged_with_the_changes_of_its_connectors(model: Path, changed: Path, tmp_path: Path) -> None:
    lora = Strength(write(tmp_path / "lora.safetensors"), STRENGTH)
    done = merge_into_model([lora], tmp_path / "merged.safetensors", str(model))
    assert done.modules == len(OWN)
    found, expected, before = load_file(done.path), load_file(changed), load_file(model)
    assert found.keys() == before.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name].to(before[name].dtype)), name


def test_two_loras_are_merged_into_one(tmp_path: Path, model: Path, changed: Path) -> None:
    half = Strength(write(tmp_path / "lora.safetensors"), STRENGTH / 2)
    done = merge_loras([half, half], tmp_path / "both.safetensors")
    backbone = loaded(model)
    load_loras(backbone, [Strength(done.path)])
    for name, found in context(backbone).items():
        torch.testing.assert_close(found, context(loaded(changed))[name], rtol=1e-4, atol=1e-4)


def test_a_lora_of_connectors_that_the_model_does_not_have_is_refused(model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "lora.safetensors")
    backbone = load_backbone(str(model), BOTH, dtype=torch.float32, with_connectors=False)
    with pytest.raises(CheckpointError, match="also for text connectors, which this model does not have"):
        load_loras(backbone, [Strength(path)])
    rewritten(
        path,
        lambda tensors: tensors.update({name: each[:, :-1] for name, each in tensors.items() if "lora_A" in name and "connector" in name}),
    )
    with pytest.raises(CheckpointError, match="2 adapters do not fit the text connectors of this model"):
        load_loras(loaded(model), [Strength(path)])


def test_what_cannot_hold_changes_of_connectors_refuses_them(tmp_path: Path) -> None:
    path = write(tmp_path / "lora.safetensors")
    with pytest.raises(CheckpointError) as error:
        resize_lora(path, tmp_path / "small.safetensors", rank=1)
    assert str(error.value) == (
        f"{path}: 2 adapters are for the text connectors, which are neither trained nor exported: "
        "audio_embeddings_connector.transformer_1d_blocks.1.attn1.to_v, video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q\n"
        "    Use the file under model.loras, with `ltx sample --lora`, or merge it with `ltx lora merge`."
    )
    assert not (tmp_path / "small.safetensors").exists()


def test_ltx_model_shows_them(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["model", str(write(tmp_path / "lora.safetensors"))])
    assert done.exit_code == 0, done.output
    assert "video_embeddings_connector.attn1.to_q" in done.output
