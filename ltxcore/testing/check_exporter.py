"""The test of an exporter against its protocol, with adapters of every type that it takes, on a few modules of the small model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.adapters import AdapterSettings
from ltxcore.exporters import Exporter
from ltxcore.models.adapter_types import Adapter, adapter_types
from ltxcore.models.adapters import Layer, adapters, create_adapters, weight_of
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import save_lora
from ltxcore.models.lora_export import export_lora
from ltxcore.models.parameter_names import to_original
from ltxcore.safetensors_files import open_tensors, read_header
from ltxcore.testing.check_adapter import shaken
from ltxcore.testing.keys import checking, note_all
from ltxcore.testing.trials import Looked

MODULES: Mapping[str, AdapterSettings] = {
    "audio_proj_in": AdapterSettings(2, alpha=3.0, dropout=0.0),
    "transformer_blocks.0.audio_attn1.to_out.0": AdapterSettings(4, alpha=8.0, dropout=0.0),
    "transformer_blocks.0.audio_ff.net.0.proj": AdapterSettings(3, alpha=3.0, dropout=0.0),
    "transformer_blocks.1.audio_ff.net.2": AdapterSettings(1, alpha=None, dropout=0.0),
}
"""The modules that are exported, with square, tall and wide matrices; one of the modules has a different name in the original
checkpoints.
"""

BASE = "tiny"
NEAR = 1e-4
"""The largest allowed difference between an exported and a trained matrix, as a share of the largest change."""


def check_exporter(exporter: Any, **fields: Any) -> None:
    """Check that an exporter does what the core relies on: for every type of adapters that it takes, the weights computed from the written
    file with the exporter's own arithmetic are the trained weights.

    Args:
        exporter: an object of the class that `ltx_exporters` names, or the class.
        fields: the parameters to make an object of the class with.

    Raises:
        AssertionError: there are faults; the error names all of them.
    """
    with checking("exporter", exporter, fields) as (one, findings):
        name = type(one).__name__
        types = {type: cls for type, cls in adapter_types().items() if type in one.adapters}
        if not types:
            findings.note(f"takes the types of adapters {sorted(one.adapters)}, none of which is installed")
        for type_, cls in types.items():
            required = [field for field in attrs.fields(cls) if field.init and field.default is attrs.NOTHING]
            if not required:
                note_all(findings, _faults(Exporter(name, one), Adapter(type_, cls())), f'the exporter "{name}"', type_)


def _faults(exporter: Exporter, kind: Adapter) -> Iterator[str]:
    backbone = _trained(kind)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "lora.safetensors", Path(folder) / "exported.safetensors"
        save_lora(backbone, source, metadata={}, dtype=torch.float32)
        if kind.type in getattr(exporter.exporter, "loads_saved", frozenset()):
            for fault in _gives(exporter, adapters(backbone), _read(source)):
                yield f"{fault}, without an export, which it says that it loads"
        export_lora(source, target, exporter, model=BASE)
        yield from _gives(exporter, adapters(backbone), _read(target))


def _read(path: Path) -> dict[str, Tensor]:
    header = read_header(path)
    with open_tensors(header) as file:
        return {name: file.get_tensor(name).clone() for name in header.slots}


def _trained(kind: Adapter) -> LTXBackbone:
    """Return the small model with adapters that have an effect."""
    backbone = load_backbone(BASE, frozenset({"audio"}), dtype=torch.float32)
    create_adapters(backbone, MODULES, kind, seed=0)
    return shaken(backbone)


@torch.no_grad()
def _gives(exporter: Exporter, layers: Mapping[str, Layer], file: dict[str, Tensor]) -> Iterator[str]:
    unread = set(file)
    for name, layer in layers.items():
        path, base = to_original(name), weight_of(layer.linear).float()
        looked = Looked(file)
        given = base.clone()
        found = exporter.exporter.weight(looked, path, given)
        unread -= looked.names
        if not torch.equal(given, base):
            yield "has a weight() that changes the matrix that it is given"
        expected = layer.adapter.weight(layer.module, base)
        if not float((found - expected).abs().max()) <= NEAR * float((expected - base).abs().max()):
            yield f"writes tensors that do not give the trained weights of {path}"
    for name in sorted(unread)[:1]:
        yield f"writes {name}, which weight() does not read: a program that has no use for it may refuse it"
