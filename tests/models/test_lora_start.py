"""Runs that start from a LoRA file: any that fits, whatever wrote it, and to the same numbers."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.golden_models import BOTH, random_input
from ltxcore.adapters import AdapterSettings
from ltxcore.errors import CheckpointError
from ltxcore.models.adapter_types import adapter_of
from ltxcore.models.adapters import adapters
from ltxcore.models.base import base_of
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters, save_lora
from ltxcore.models.lora_load import check_start
from ltxcore.models.targets import resolve_targets

MODULE = "transformer_blocks.0.audio_attn1.to_k"
TARGETS = ["audio_attn1.to_k", "audio_ff.net.2"]
BY_ROOT = adapter_of("lora", use_rslora=True).adapter
PLAIN = {"rank": 4, "alpha": 12, "dropout": 0.0, "target_modules": TARGETS}


def tiny(modalities=("audio",)):
    return load_backbone("tiny-untrained", frozenset(modalities), dtype=torch.float32)


def trained(modalities=("audio",), seed=5, **options):
    backbone = tiny(modalities)
    add_lora(backbone, **(PLAIN | options))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in lora_parameters(backbone).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return backbone


def said(backbone):
    with torch.no_grad():
        return backbone(None, random_input("audio", 5))["audio"]


def written(backbone, path):
    save_lora(backbone, path, metadata={}, dtype=torch.float32)
    return path


def started(path, modalities=("audio",), **options):
    backbone = tiny(modalities)
    added = add_lora(backbone, **(PLAIN | options), start=path)
    return backbone, added


def refusal(path, tmp_path, **options):
    with pytest.raises(CheckpointError) as error:
        started(path, **options)
    return str(error.value).replace(str(tmp_path), "TMP")


def of_ltx_trainer(tensors, path):
    """Without metadata, bf16."""
    save_file({name: value.bfloat16() for name, value in tensors.items()}, path)
    return path


def of_comfyui(tensors, path):
    """With an alpha for each module, and B not scaled by it."""
    changed = {}
    for name, value in tensors.items():
        base = name.rsplit(".lora_", 1)[0]
        changed[name.replace("lora_A", "lora_down").replace("lora_B", "lora_up")] = value / 3 if "lora_B" in name else value
        changed[f"{base}.alpha"] = torch.tensor(12.0)
    save_file(changed, path)
    return path


def without_prefix(tensors, path):
    save_file({name.removeprefix("diffusion_model."): value for name, value in tensors.items()}, path)
    return path


def of_diffusers(tensors, path):
    from diffusers.loaders.lora_pipeline import LTX2LoraLoaderMixin

    layers = {name.removeprefix("diffusion_model."): value / 3 if "lora_B" in name else value for name, value in tensors.items()}
    LTX2LoraLoaderMixin.save_lora_weights(
        path.parent, transformer_lora_layers=layers, transformer_lora_adapter_metadata={"r": 4, "lora_alpha": 12}, weight_name=path.name
    )
    return path


def by_root_of_the_rank(tensors, path):
    from diffusers.loaders.lora_pipeline import LTX2LoraLoaderMixin

    layers = {name.removeprefix("diffusion_model."): value / 6 if "lora_B" in name else value for name, value in tensors.items()}
    about = {"r": 4, "lora_alpha": 12, "use_rslora": True}
    LTX2LoraLoaderMixin.save_lora_weights(
        path.parent, transformer_lora_layers=layers, transformer_lora_adapter_metadata=about, weight_name=path.name
    )
    return path


@pytest.mark.parametrize("write", [of_ltx_trainer, of_comfyui, without_prefix, of_diffusers, by_root_of_the_rank])
def test_a_run_starts_from_a_file_of_any_layout(write, tmp_path):
    first = trained()
    path = write(load_file(written(first, tmp_path / "own.safetensors")), tmp_path / "given.safetensors")
    backbone, added = started(path)
    near = 2e-2 if write is of_ltx_trainer else 1e-5
    assert (said(backbone) - said(first)).abs().max() <= near * said(first).abs().max()
    assert set(added.targets) == set(adapters(backbone))
    assert all(parameter.requires_grad for parameter in lora_parameters(backbone).values())


@pytest.mark.parametrize("options", [{"alpha": 3}, {"rank": 9}, {"rank": 8, "alpha": 2, "adapter": BY_ROOT}, {"rank": 6, "type": "dora"}])
def test_adapters_of_another_kind_start_at_what_the_file_says(options, tmp_path):
    first = trained()
    backbone, _ = started(written(first, tmp_path / "a.safetensors"), **options)
    assert (said(backbone) - said(first)).abs().max() <= 1e-5 * said(first).abs().max()
    again = tiny()
    add_lora(again, **(PLAIN | options), start=written(backbone, tmp_path / "b.safetensors"))
    assert (said(again) - said(first)).abs().max() <= 1e-5 * said(first).abs().max()


def test_the_part_of_an_adapter_that_the_file_does_not_fill_learns_too(tmp_path):
    backbone, _ = started(written(trained(), tmp_path / "a.safetensors"), rank=6)
    said_of = backbone(None, random_input("audio", 5))["audio"]
    said_of.square().sum().backward()
    grad = adapters(backbone)[MODULE].tensors["lora_B"].grad
    assert bool((grad.abs().sum(dim=0) > 0).all())


def test_modules_of_the_file_that_no_loss_reaches_stay_in_the_model_and_in_what_is_saved(tmp_path):
    path = written(trained(), tmp_path / "a.safetensors")
    backbone = tiny()
    reachable = [name for name, _ in backbone.named_parameters() if "transformer_blocks.3." not in name]
    added = add_lora(backbone, **PLAIN, reachable=reachable, start=path)
    assert added.unreachable == ("transformer_blocks.3.audio_attn1.to_k", "transformer_blocks.3.audio_ff.net.2")
    frozen = {name for name, parameter in lora_parameters(backbone).items() if not parameter.requires_grad}
    assert {name.split(".lora_")[0] for name in frozen} == {f"transformer.{name}" for name in added.unreachable}
    assert torch.allclose(said(backbone), said(trained()), atol=1e-6)
    assert load_file(written(backbone, tmp_path / "b.safetensors")).keys() == load_file(path).keys()


def test_modules_that_no_loss_reaches_and_the_file_lacks_get_no_adapter(tmp_path):
    path = written(trained(target_modules=[f"transformer_blocks.{i}.audio_attn1.to_k" for i in range(3)]), tmp_path / "a.safetensors")
    backbone = tiny()
    reachable = [name for name, _ in backbone.named_parameters() if "transformer_blocks.3." not in name]
    add_lora(backbone, **(PLAIN | {"target_modules": ["audio_attn1.to_k"]}), reachable=reachable, start=path)
    assert list(adapters(backbone)) == [f"transformer_blocks.{i}.audio_attn1.to_k" for i in range(3)]


def test_a_wider_file_and_other_modules_are_refused_with_what_to_set(tmp_path):
    path = written(trained(), tmp_path / "a.safetensors")
    assert refusal(path, tmp_path, rank=2).endswith("\n    Set lora.rank = 4.")
    found = refusal(path, tmp_path, target_modules=["audio_attn1.to_k", "audio_attn1.to_q"])
    assert found.splitlines() == [
        "TMP/a.safetensors: 4 adapted modules are missing from this file: transformer_blocks.0.audio_attn1.to_q, transformer_blocks.1.audio_attn1.to_q, "
        "transformer_blocks.2.audio_attn1.to_q, transformer_blocks.3.audio_attn1.to_q",
        "    Set lora.target_modules to the modules in the file.",
        "TMP/a.safetensors: 4 modules in this file are not adapted in this run: transformer_blocks.0.audio_ff.net.2, transformer_blocks.1.audio_ff.net.2, "
        "transformer_blocks.2.audio_ff.net.2, transformer_blocks.3.audio_ff.net.2",
        "    Set lora.target_modules to the modules in the file.",
    ]


def test_a_dora_is_not_the_start_of_a_plain_lora(tmp_path):
    path = written(trained(type="dora"), tmp_path / "a.safetensors")
    assert refusal(path, tmp_path) == (
        'TMP/a.safetensors: the adapters in this file are of the type "dora", but this run uses the type "lora"\n    Set lora.type = "dora".'
    )


def test_a_joint_lora_is_no_start_for_a_run_of_sound_alone(tmp_path):
    path = written(trained(BOTH, target_modules=["to_k"]), tmp_path / "a.safetensors")
    assert refusal(path, tmp_path, target_modules=["to_k"]).startswith(
        "TMP/a.safetensors: 16 modules belong to a modality that this run does not have (it has audio): "
    )


def test_nothing_is_changed_where_a_start_is_refused(tmp_path):
    path = written(trained(), tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    backbone = tiny()
    with pytest.raises(CheckpointError):
        add_lora(backbone, **PLAIN, start=path)
    assert adapters(backbone) == {}


def headers(path, tmp_path, *, rank=4, modalities=("audio",), targets=TARGETS):
    """What `check_start` finds wrong with a file, from its header; "": nothing."""
    sketch = base_of("tiny-untrained").sketch(frozenset(modalities))
    try:
        found = resolve_targets(sketch, targets)
        settings = dict.fromkeys((*found.adapted, *found.unreachable), AdapterSettings(rank, None, 0.0))
        check_start(sketch, path, settings, adapter_of())
    except CheckpointError as error:
        return str(error).replace(str(tmp_path), "TMP")
    return ""


@pytest.mark.parametrize("layout", [lambda tensors, path: save_file(tensors, path) or path, of_ltx_trainer, of_comfyui, without_prefix])
def test_the_header_of_a_file_that_a_run_can_start_from_is_in_order_in_every_layout(tmp_path, layout):
    own = load_file(written(trained(), tmp_path / "own.safetensors"))
    assert headers(layout(own, tmp_path / "other.safetensors"), tmp_path) == ""


@pytest.mark.parametrize(
    "options", [{"rank": 2}, {"target_modules": TARGETS[:1]}, {"target_modules": ["audio_attn2.to_q"]}], ids=["narrower", "fewer", "others"]
)
def test_the_header_tells_what_the_run_would_be_refused_for(tmp_path, options):
    path = written(trained(), tmp_path / "own.safetensors")
    early = headers(path, tmp_path, rank=options.get("rank", 4), targets=options.get("target_modules", TARGETS))
    late = refusal(path, tmp_path, **options)
    assert early != ""
    assert early in late  # a run knows also which of its own modules the file lacks


def test_the_header_tells_modules_of_another_model_and_of_a_stream_that_is_not_there(tmp_path):
    video = written(trained(modalities=("video",), target_modules=["attn1.to_k"]), tmp_path / "video.safetensors")
    assert "modules belong to a modality that this run does not have (it has audio)" in headers(video, tmp_path)
    tensors = load_file(written(trained(), tmp_path / "own.safetensors"))
    save_file(
        {name: value[:, :3].contiguous() if "lora_A" in name else value for name, value in tensors.items()}, tmp_path / "cut.safetensors"
    )
    assert headers(tmp_path / "cut.safetensors", tmp_path).startswith("TMP/cut.safetensors: 8 modules do not fit the base")
    save_file({"transformer_blocks.0.attn1.to_k.hydra_w1": torch.zeros(2, 2)}, tmp_path / "hydra.safetensors")
    assert headers(tmp_path / "hydra.safetensors", tmp_path).startswith("TMP/hydra.safetensors: 1 tensor is not part of a LoRA")
