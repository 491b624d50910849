"""The adapters that come with ltx: each keeps to the protocol, computes what peft computes, and is written as other programs read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, inject_adapter_in_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Linear, ModuleDict
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.golden_models import random_input
from helpers.lora_files import export_for, read_pairs
from ltxcore.adapters import AdapterSettings
from ltxcore.config.loras import Strength
from ltxcore.errors import CheckpointError, LtxError
from ltxcore.models.adapter_types import Adapter, adapter_of
from ltxcore.models.adapters import adapters, weight_of
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters, save_lora
from ltxcore.models.lora_file import read_lora
from ltxcore.models.lora_load import check_start
from ltxcore.models.lora_stack import load_loras
from ltxcore.models.targets import resolve_targets
from ltxcore.registry import load
from ltxcore.testing import check_adapter
from ltxplugins.adapters.dora import Dora
from ltxplugins.adapters.loha import Loha
from ltxplugins.adapters.lokr import Lokr
from ltxplugins.adapters.lora import Lora
from ltxplugins.adapters.pissa import Pissa

OURS = {name: named.value for name, named in load().of_kind("adapter").items() if named.origin.distribution == "ltx"}
SIDES = ((128, 128), (512, 128), (96, 250), (7, 64))
MODULE = "transformer_blocks.0.audio_attn1.to_k"
TARGETS = ["audio_attn1.to_k", "audio_ff.net.2"]


@pytest.mark.parametrize("name", OURS)
def test_each_is_spelled_as_its_own_description_spells_it(name: str) -> None:
    assert OURS[name].__doc__.startswith(f"{OURS[name].title}: ")


@pytest.mark.parametrize("name", OURS)
def test_each_keeps_to_the_protocol(name: str) -> None:
    check_adapter(OURS[name])


@pytest.mark.parametrize(
    "asked",
    [Lora(use_rslora=True), Dora(use_rslora=True), Lokr(factor=4), Lokr(factor=-1, decompose_both=True), Pissa(iterations=2)],
    ids=str,
)
def test_some_keep_to_it_with_other_keys_too(asked: object) -> None:
    check_adapter(asked)


class LargestConverted(TorchDispatchMode):
    """A mode that remembers the most numbers that were converted to another dtype at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if func.overloadpacket.__name__ == "_to_copy":
            self.numbers = max(self.numbers, args[0].numel())
        return func(*args, **(kwargs or {}))


def beside_bf16(adapter: Any) -> Any:
    """A linear module in bf16 with an adapter in float32 whose values are drawn."""
    torch.manual_seed(0)
    layer = adapter.wrap(Linear(32, 24).bfloat16(), AdapterSettings(rank=2, alpha=4.0, dropout=0.0))
    for tensor in adapter.tensors(layer).values():
        tensor.data = torch.randn(tensor.shape)
    return layer


@pytest.mark.parametrize("adapter", [Lora(), Lokr(), Loha()], ids=str)
def test_under_autocast_no_input_is_converted_for_an_adapter(adapter: Any) -> None:
    x = torch.randn(100, 32, generator=torch.Generator().manual_seed(1)).bfloat16().requires_grad_()
    with LargestConverted() as converted, torch.autocast("cpu", dtype=torch.bfloat16):
        beside_bf16(adapter)(x).sum().backward()
    assert 0 < converted.numbers < x.numel()


def test_an_input_that_is_not_converted_gives_the_same_numbers_as_one_that_is() -> None:
    results = []
    for converts in (False, True):
        layer = beside_bf16(Lora())
        if converts:
            del layer._cast_input_dtype  # as peft has it
        x = torch.randn(50, 32, generator=torch.Generator().manual_seed(1)).bfloat16().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = layer(x)
        out.float().square().sum().backward()
        results.append([out, x.grad, *(tensor.grad for tensor in Lora().tensors(layer).values())])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


# ---------------------------------------------------------------- what peft computes


@pytest.mark.parametrize("rank", [1, 5, 40])
@pytest.mark.parametrize(("rows", "columns"), SIDES)
@pytest.mark.parametrize(
    ("adapter", "config"),
    [
        (Loha(), {}),
        (Lokr(), {}),
        (Lokr(factor=4), {"decompose_factor": 4}),
        (Lokr(factor=8, decompose_both=True), {"decompose_factor": 8, "decompose_both": True}),
    ],
    ids=["loha", "lokr", "lokr-4", "lokr-both"],
)
def test_lokr_and_loha_have_the_tensors_of_peft_and_compute_the_same(
    adapter: Any, config: dict[str, Any], rows: int, columns: int, rank: int
) -> None:
    kind = LoHaConfig if isinstance(adapter, Loha) else LoKrConfig
    holder = ModuleDict({"linear": Linear(columns, rows)})
    settings = AdapterSettings(rank, alpha=3.0, dropout=0.0)
    layer = adapter.wrap(holder["linear"], settings)
    inject_adapter_in_model(kind(r=rank, alpha=3.0, target_modules=["linear"], init_weights=False, **config), holder)
    theirs: Any = holder["linear"]
    found = {name: getattr(theirs, name)["default"] for name in theirs.adapter_layer_names if "default" in getattr(theirs, name)}
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == adapter.shapes(rows, columns, settings)
    x = torch.randn(2, 3, columns)
    with torch.no_grad():
        for name, tensor in adapter.tensors(layer).items():
            tensor.copy_(found[name])
        torch.testing.assert_close(layer(x), theirs(x), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- files


def tiny() -> LTXBackbone:
    return load_backbone("tiny", frozenset({"audio"}), dtype=torch.float32)


def trained(kind: str, adapter: Any = None, *, rank: int = 4, alpha: float = 12, seed: int = 5) -> LTXBackbone:
    backbone = tiny()
    add_lora(backbone, rank=rank, alpha=alpha, dropout=0.0, target_modules=TARGETS, type=kind, adapter=adapter)
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in lora_parameters(backbone).values():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws))
    return backbone


def written(backbone: LTXBackbone, path: Path, dtype: torch.dtype = torch.float32) -> Path:
    save_lora(backbone, path, metadata={}, dtype=dtype)
    return path


def change(backbone: LTXBackbone, module: str = MODULE) -> Tensor:
    """What an adapter adds to the matrix of a module."""
    layer = adapters(backbone)[module]
    base = weight_of(layer.linear)
    return (layer.adapter.weight(layer.module, base) - base).detach()


def said(backbone: LTXBackbone) -> Tensor:
    with torch.no_grad():
        return backbone(None, random_input("audio", 5))["audio"]


def as_comfyui_adds(tensors: Mapping[str, Tensor], module: str) -> Tensor:
    """What is added to a matrix by who reads the names of LyCORIS: alpha is divided by the rank, and left out where both factors of a LoKr are whole."""
    own = {name.rpartition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"diffusion_model.{module}.")}
    alpha = float(own["alpha"])
    if "hada_w1_a" in own:
        return (own["hada_w1_a"] @ own["hada_w1_b"]) * (own["hada_w2_a"] @ own["hada_w2_b"]) * (alpha / own["hada_w1_b"].shape[0])
    rank = None
    factors = []
    for name in ("lokr_w1", "lokr_w2"):
        if name in own:
            factors.append(own[name])
        else:
            rank = own[f"{name}_b"].shape[0]
            factors.append(own[f"{name}_a"] @ own[f"{name}_b"])
    return torch.kron(*factors) * (1.0 if rank is None else alpha / rank)


KINDS = {
    "lokr": ("lokr", Lokr(), 4),
    "lokr-whole": ("lokr", Lokr(), 100),
    "lokr-both": ("lokr", Lokr(factor=16, decompose_both=True), 3),
    "loha": ("loha", Loha(), 3),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_file_with_the_names_of_lycoris_adds_what_was_trained(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    kind, adapter, rank = KINDS[name]
    backbone = trained(kind, adapter, rank=rank)
    tensors = load_file(written(backbone, tmp_path / "x.safetensors", dtype))
    near = 1e-5 if dtype == torch.float32 else 2e-2
    whole = {key: tensor.float() for key, tensor in tensors.items()}
    for module in (MODULE, "transformer_blocks.1.audio_ff.net.2"):
        expected = change(backbone, module)
        assert float((as_comfyui_adds(whole, module) - expected).abs().max()) <= near * float(expected.abs().max())


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_lycoris_without_metadata_is_loaded_whatever_its_factors_and_alphas(name: str, tmp_path: Path) -> None:
    kind, adapter, rank = KINDS[name]
    first = trained(kind, adapter, rank=rank)
    tensors = load_file(written(first, tmp_path / "x.safetensors"))
    for key in tensors:
        if key.endswith(("lokr_w1", "lokr_w1_b", "hada_w1_a")) and name != "lokr-whole":
            tensors[key] = tensors[key] / 3
        if key.endswith(".alpha"):
            tensors[key] = tensors[key] * 3
    save_file(tensors, tmp_path / "y.safetensors")
    again = tiny()
    load_loras(again, [Strength(tmp_path / "y.safetensors")])
    assert read_lora(tmp_path / "y.safetensors", "").kind == adapter_of(kind)
    torch.testing.assert_close(said(again), said(first), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(said(again), said(tiny()), atol=1e-3)


@pytest.mark.parametrize("name", ["lokr", "loha"])
def test_a_run_starts_from_a_file_of_its_type_and_shape(name: str, tmp_path: Path) -> None:
    kind, adapter, rank = KINDS[name]
    first = trained(kind, adapter, rank=rank)
    path = written(first, tmp_path / "x.safetensors")
    again = tiny()
    add_lora(again, rank=rank, alpha=2, dropout=0.0, target_modules=TARGETS, type=kind, adapter=adapter, start=path)
    torch.testing.assert_close(said(again), said(first), rtol=1e-4, atol=1e-5)
    with pytest.raises(CheckpointError) as error:
        add_lora(tiny(), rank=rank + 1, alpha=2, dropout=0.0, target_modules=TARGETS, type=kind, adapter=adapter, start=path)
    assert str(error.value).endswith("\n    Set lora.rank and lora.params to the values that the LoRA was trained with.")
    with pytest.raises(CheckpointError) as error:
        add_lora(tiny(), rank=rank, alpha=2, dropout=0.0, target_modules=TARGETS, start=path)
    assert str(error.value) == (
        f'{path}: the adapters in this file are of the type "{kind}", but this run uses the type "lora"\n    Set lora.type = "{kind}".'
    )


def test_a_run_does_not_start_from_a_file_that_was_trained_with_other_keys_of_the_type(tmp_path: Path) -> None:
    factors = [Adapter("lokr", Lokr(factor=factor)) for factor in (8, -1)]
    path = written(trained("lokr", factors[0].adapter), tmp_path / "x.safetensors")
    message = (
        f"{path}: the LoRA was trained with other lora.params: factor was 8, but is -1 here\n"
        "    Set lora.params = { factor = 8, decompose_both = false }."
    )
    assert refused(start_early, path, factors[1]) == refused(start_late, path, factors[1]) == message
    start_early(path, factors[0])
    start_late(path, factors[0])


def start_early(path: Path, kind: Adapter) -> None:
    backbone = tiny()
    settings = dict.fromkeys(resolve_targets(backbone, TARGETS).adapted, AdapterSettings(4, alpha=2, dropout=0.0))
    check_start(backbone, path, settings, kind)


def start_late(path: Path, kind: Adapter) -> None:
    add_lora(tiny(), rank=4, alpha=2, dropout=0.0, target_modules=TARGETS, type=kind.type, adapter=kind.adapter, start=path)


def refused(call: Any, *args: Any) -> str:
    with pytest.raises(LtxError) as error:
        call(*args)
    return str(error.value)


def test_what_has_no_layout_of_another_program_is_not_exported_and_adds_to_no_other(tmp_path: Path) -> None:
    path, plain = written(trained("lokr"), tmp_path / "x.safetensors"), written(trained("lora"), tmp_path / "plain.safetensors")
    assert refused(export_for, path, tmp_path / "y.safetensors", "ltx-pipelines") == (
        f'{path}: "ltx-pipelines" cannot load adapters of the type "lokr"\n    Export it for another program: --for comfyui.'
    )
    message = (
        f'{path}: the adapters are of the type "lokr", which cannot have a strength or be combined with other LoRAs\n'
        "    Use this LoRA alone and without a strength."
    )
    assert refused(load_loras, tiny(), [Strength(path, 0.5)]) == message
    assert refused(load_loras, tiny(), [Strength(plain), Strength(path)]) == message


def test_a_file_of_a_type_that_no_plugin_adds_is_refused_by_name(tmp_path: Path) -> None:
    save_file(
        {f"diffusion_model.{MODULE}.lora_A.weight": torch.ones(1, 128)}, tmp_path / "x.safetensors", metadata={"adapter_type": "gone"}
    )
    assert refused(load_loras, tiny(), [Strength(tmp_path / "x.safetensors")]).startswith(
        f'{tmp_path}/x.safetensors: the adapters are of the type "gone", which no installed plugin provides\n    Install the plugin'
    )


# ---------------------------------------------------------------- PiSSA


def test_pissa_starts_from_the_largest_part_of_the_matrix() -> None:
    backbone = tiny()
    add_lora(backbone, rank=6, alpha=12, dropout=0.0, target_modules=TARGETS, type="pissa")
    for layer in adapters(backbone).values():
        weight, tensors = weight_of(layer.linear), layer.tensors
        values = torch.linalg.svdvals(weight)
        rest = weight - 2 * tensors["lora_B"].detach() @ tensors["lora_A"].detach()
        assert float(rest.norm()) == pytest.approx(float(values[6:].norm()), rel=1e-3)  # nothing of that rank leaves less
        assert {name for name, tensor in tensors.items() if tensor.requires_grad} == {"lora_A", "lora_B"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_file_of_pissa_is_a_plain_lora_of_twice_the_rank_that_gives_the_trained_weights_on_the_original_base(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    backbone = trained("pissa")
    pairs = read_pairs(written(backbone, tmp_path / "x.safetensors", dtype))
    for name, layer in adapters(backbone).items():
        base, (a, b) = weight_of(layer.linear), pairs[name]
        tensors = {key: tensor.detach() for key, tensor in layer.tensors.items()}
        assert a.shape[0] == 8
        # What the run computes with: the base without its largest part, and the trained pair.
        trained_weight = (base - 3 * tensors["start_B"] @ tensors["start_A"]) + 3 * tensors["lora_B"] @ tensors["lora_A"]
        off = float((base + b @ a - trained_weight).abs().max())
        if dtype == torch.float32:
            assert off <= 1e-6
        else:  # what is rounded is the difference, not the start
            assert off <= 0.02 * float((trained_weight - base).abs().max())


def test_a_pissa_run_does_not_start_from_a_file(tmp_path: Path) -> None:
    path = written(trained("lora"), tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError) as error:
        add_lora(tiny(), rank=4, alpha=12, dropout=0.0, target_modules=TARGETS, type="pissa", start=path)
    assert str(error.value).endswith('but this run uses the type "pissa"\n    Set lora.type = "lora".')
