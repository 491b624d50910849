"""The adapters that the header of a file shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ltxcore.adapters import AdapterShape
from ltxcore.errors import CheckpointError
from ltxcore.headers import read_file
from ltxcore.models.base import released
from ltxcore.models.inventory import is_lora
from ltxcore.models.lora_header import lora_header
from ltxcore.models.lora_names import unread_format

MODULE = "transformer_blocks.0.audio_attn1.to_k"
LORA = {"lora_A.weight": (2, 8), "lora_B.weight": (6, 2)}
LOKR = {"lokr_w1": (2, 2), "lokr_w2_a": (3, 1), "lokr_w2_b": (1, 4)}
LOHA = {"hada_w1_a": (6, 2), "hada_w1_b": (2, 8), "hada_w2_a": (6, 2), "hada_w2_b": (2, 8)}


def written(path: Path, shapes: dict[str, tuple[int, ...]], before: str = f"diffusion_model.{MODULE}", type: str = "") -> Path:
    metadata = {"adapter_type": type, "adapter_params": json.dumps({})} if type else None
    save_file({f"{before}.{ending}": torch.ones(shape) for ending, shape in shapes.items()}, path, metadata=metadata)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        lora_header(read_file(path), "x")
    return str(error.value)


@pytest.mark.parametrize(("type", "shapes", "rank"), [("lora", LORA, 2), ("lokr", LOKR, 1), ("loha", LOHA, 2)])
def test_the_type_the_names_and_the_shape_of_each_module_are_found(
    type: str, shapes: dict[str, tuple[int, ...]], rank: int, tmp_path: Path
) -> None:
    found = lora_header(read_file(written(tmp_path / "x", shapes)), "x")
    assert (found.kind.type, dict(found.shapes)) == (type, {MODULE: AdapterShape(6, 8, rank)})
    assert sorted(found.modules[MODULE].values()) == sorted(f"diffusion_model.{MODULE}.{ending}" for ending in shapes)


@pytest.mark.parametrize(("type", "shapes"), [("lokr", LOKR), ("loha", LOHA)])
@pytest.mark.parametrize("alpha", [(2,), (0,)], ids=["two", "none"])
def test_an_alpha_that_is_not_one_number_does_not_fit(
    type: str, shapes: dict[str, tuple[int, ...]], alpha: tuple[int, ...], tmp_path: Path
) -> None:
    said = refusal(written(tmp_path / "x", {**shapes, "alpha": alpha}))
    assert said == f"x: {type} tensors are missing, or do not fit each other, in these modules: {MODULE}"


def test_two_names_of_one_tensor_are_refused(tmp_path: Path) -> None:
    both = {
        f"{before}{MODULE}.{ending}": torch.ones(shape) for before in ("diffusion_model.", "transformer.") for ending, shape in LORA.items()
    }
    save_file(both, tmp_path / "x")
    pairs = ", ".join(f"diffusion_model.{MODULE}.{ending} and transformer.{MODULE}.{ending}" for ending in LORA)
    assert refusal(tmp_path / "x") == f"x: several names mean the same tensor: {pairs}\n    Keep one of the names."


def test_tensors_that_the_stated_type_does_not_have_are_refused(tmp_path: Path) -> None:
    assert refusal(written(tmp_path / "x", {**LOKR, **LORA}, type="lokr")) == (
        'x: the adapters are of the type "lokr" according to the metadata, but this type has no tensors named lora_A, lora_B\n'
        "    Download or copy the file again."
    )


def test_keys_of_the_stated_type_that_cannot_be_read_are_not_replaced_by_defaults(tmp_path: Path) -> None:
    made = {f"diffusion_model.{MODULE}.{ending}": torch.ones(shape) for ending, shape in LOKR.items()}
    for said in ("[1]", "{"):
        save_file(made, tmp_path / "x", metadata={"adapter_type": "lokr", "adapter_params": said})
        assert (
            refusal(tmp_path / "x")
            == 'x: the keys in this file for the type "lokr" are not a JSON object\n    Download or copy the file again.'
        )


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (f"diffusion_model.{MODULE}.oft_blocks", "OFT adapters"),
        (f"lycoris_{MODULE.replace('.', '_')}.lokr_t2", "adapters of convolutions (Tucker decomposition)"),
        (f"diffusion_model.{MODULE}.a1.weight", "GLoRA adapters"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.alpha", "a LoRA of a text encoder"),
        ("connectors.video_text_proj_in.lora_A.weight", "a LoRA of the text projection"),
        ("diffusion_model.text_embedding_projection.aggregate_embed.lora_A.weight", "a LoRA of the text projection"),
        ("lora_unet_double_blocks_0_img_attn_qkv.alpha", "a LoRA of another model"),
    ],
)
def test_a_format_that_is_not_read_is_named(name: str, what: str, tmp_path: Path) -> None:
    path = written(tmp_path / "x", LORA)
    save_file({**load_file(path), name: torch.ones(2, 2)}, path)
    assert refusal(path) == (
        f"x: 1 tensor is part of {what}, which ltx does not read: {name}\n"
        "    Train or export it as a LoRA of the transformer, or use it in the program that made it."
    )
    save_file({name: torch.ones(2, 2)}, path)
    assert is_lora(read_file(path))


def test_no_weight_of_a_model_has_the_name_of_such_a_format() -> None:
    names = [name for model in ("ltx-2-19b", "ltx-2.3-22b") for name in released(model).shapes]
    names += ["video_embeddings_connector.transformer_1d_blocks.0.attn1.to_k.weight", "text_embedding_projection.weight"]
    assert [name for name in names if unread_format(name)] == []
