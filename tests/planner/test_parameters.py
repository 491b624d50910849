"""What the weights of a run take: of the real models, and exactly what a small one is loaded with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers.golden_models import BOTH, write_golden
from helpers.layouts import folder
from helpers.quantizers import quantizer
from ltxcore.models.load_base import load_backbone
from ltxcore.planner.activations import traced
from ltxcore.planner.live import LiveBytes
from ltxcore.planner.parameters import weight_bytes
from ltxcore.registry import load
from ltxcore.safetensors_files import Tensors
from models.test_build import built

BF16 = torch.bfloat16

REAL = {
    ("2.0", "audio"): 6_531_961_088,
    ("2.0", "video"): 26_083_041_536,
    ("2.0", "joint"): 37_752_349_184,
    ("2.3", "audio"): 6_572_816_640,
    ("2.3", "video"): 26_248_632_576,
    ("2.3", "joint"): 37_977_676_288,
    ("2.5", "audio"): 6_572_816_640,
    ("2.5", "video"): 26_246_674_688,
    ("2.5", "joint"): 37_975_718_400,
}
"""Bytes in bf16 that a run reads and holds, as counted on backbones that were built for it on the meta device."""

MODALITIES = {"audio": {"audio"}, "video": {"video"}, "joint": {"video", "audio"}}


@pytest.fixture(scope="module")
def shapes():
    return {generation: built(generation, {"audio"}).blueprint.shapes for generation in ("2.0", "2.3", "2.5")}


@pytest.mark.parametrize(("generation", "run"), REAL)
def test_a_run_of_a_real_model_loads_so_many_bytes(generation, run, shapes):
    assert weight_bytes(shapes[generation], MODALITIES[run], BF16) == REAL[generation, run]


def test_a_run_of_one_modality_is_spared_the_rest(shapes):
    whole = weight_bytes(shapes["2.0"], BOTH, BF16)
    assert whole == 2 * 18_876_174_592
    assert weight_bytes(shapes["2.0"], {"audio"}, BF16) / whole == pytest.approx(0.173, abs=1e-3)
    assert weight_bytes(shapes["2.0"], {"video"}, BF16) / whole == pytest.approx(0.691, abs=1e-3)


@pytest.mark.parametrize(("kind", "share"), [("int8", 0.51), ("fp8", 0.51), ("nf4", 0.295)])
def test_rounded_weights_of_a_real_model_take_about_half_or_less_than_a_third(kind, share, shapes):
    of_kind = load().get("quantizer", kind).value()
    for generation in shapes:
        found = weight_bytes(shapes[generation], BOTH, BF16, of_kind) / weight_bytes(shapes[generation], BOTH, BF16)
        assert found == pytest.approx(share, abs=0.015)


def held(backbone):
    return sum(tensor.numel() * tensor.element_size() for tensor in [*backbone.parameters(), *backbone.transformer.buffers()])


@pytest.mark.parametrize("kind", [None, "int8", "fp8", "nf4"])
@pytest.mark.parametrize("modalities", [{"audio"}, {"video"}, {"video", "audio"}])
def test_a_loaded_model_holds_exactly_what_is_said(kind, modalities):
    of_kind = quantizer(kind)
    backbone = load_backbone("tiny-untrained", frozenset(modalities), dtype=BF16, quantizer=of_kind)
    rounded = {name for name, _ in backbone.transformer.named_buffers() if name.endswith(".scale")}
    others = sum(b.numel() * b.element_size() for name, b in backbone.transformer.named_buffers() if name not in rounded)
    assert held(backbone) - others == weight_bytes(backbone.blueprint.shapes, modalities, BF16, of_kind)


@pytest.mark.parametrize("layout", [write_golden, folder])
@pytest.mark.parametrize("modalities", [{"audio"}, {"video"}, {"video", "audio"}])
def test_no_more_is_read_from_a_file_than_is_said(layout, modalities, tmp_path, monkeypatch):
    read = []
    real = Tensors.get_tensor
    monkeypatch.setattr(Tensors, "get_tensor", lambda self, name, *dtype: (read.append(self.slots[name].size), real(self, name, *dtype))[1])
    backbone = load_backbone(str(layout("B", tmp_path)), frozenset(modalities), dtype=torch.float32)
    assert sum(read) == weight_bytes(backbone.blueprint.shapes, modalities, BF16)
    assert held(backbone) == 2 * sum(read)


# ---------------------------------------------------------------- restoring


def peak_of(layer):
    with torch.no_grad(), LiveBytes([*layer.parameters(), *layer.buffers()]) as live:
        layer.dequantize(BF16)
    return live.peak


def test_quantizers_that_restore_in_as_many_bytes_are_counted_as_one():
    named = load().of_kind("quantizer")
    assert len({repr(traced(named[name].value())) for name in ("int8", "fp8")}) == 1
    linear = nn.Linear(512, 256)
    said = traced(quantizer("int8")).restoring_bytes
    assert traced(quantizer("nf4")).restoring_bytes == 2  # bitsandbytes writes the numbers in bf16, and nothing else
    assert said * 512 * 256 == peak_of(quantizer("int8").store(linear)) == 8 * 512 * 256


def test_one_that_multiplies_in_low_precision_is_counted_by_itself():
    class Low:
        low_precision = True

    low = Low()
    assert traced(low) is low
    assert traced(None) is None
