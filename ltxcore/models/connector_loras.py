"""LoRAs of the text connectors: frozen adapters beside the linear modules of connectors, which themselves do not change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from ltxcore.adapters import AdapterSettings
from ltxcore.errors import CheckpointError, listed, many
from ltxcore.models.adapters import Layer
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.connectors import linear_shapes
from ltxcore.models.frozen_loras import FrozenLora
from ltxcore.models.lora_file import LoraFile
from ltxcore.models.lora_load import fill_layer
from ltxcore.models.parameter_names import to_original

Shapes = Mapping[str, tuple[int, ...]]


def adapt_connectors(backbone: LTXBackbone, found: LoraFile, where: str) -> None:
    """Put the adapters of a file that are for text connectors beside the linear modules of a backbone's connectors.

    Args:
        backbone: the backbone, with its connectors.
        found: the adapters of a file, or the sum of several.
        where: the files, for messages.

    Raises:
        CheckpointError: the backbone has no connectors, or the adapters do not fit them.
    """
    if not found.connectors:
        return
    modules: Mapping[str, Any] = getattr(backbone.connectors, "modules", {})
    check_of_connectors(found, linear_shapes(modules), where)
    for path, tensors in found.connectors.items():
        connector, _, inner = path.partition(".")
        parent = modules[connector.partition("_")[0]].get_submodule(inner.rpartition(".")[0])
        name = inner.rpartition(".")[2]
        linear = getattr(parent, name)
        settings = AdapterSettings(found.shape(path).rank, alpha=None, dropout=0.0)
        with torch.random.fork_rng(devices=[]), torch.no_grad():  # a library may draw from the global generator
            layer = Layer(found.kind, settings, linear, found.kind.adapter.wrap(linear, settings))
            for tensor in layer.tensors.values():
                tensor.data = torch.empty(tensor.shape, dtype=torch.float32, device=linear.weight.device)
            fill_layer(layer, tensors)
        layer.module.requires_grad_(False).eval()
        setattr(parent, name, FrozenLora(path, layer))


def check_of_connectors(found: LoraFile, shapes: Shapes, where: str) -> None:
    """Refuse adapters of text connectors that a model does not have.

    Args:
        found: the adapters.
        shapes: the shapes of the matrices of the model's connectors, by the paths of their modules.
        where: the file, for messages.

    Raises:
        CheckpointError: the model has no connectors, or the adapters do not fit them; the error names all of these adapters.
    """
    if found.connectors and not shapes:
        what = f"the LoRA is also for text connectors, which this model does not have: {_listed(found.connectors)}"
        raise CheckpointError(what, where=where, remedy="Set connectors_path under [model] to the file that holds them.")
    wrong = [path for path in found.connectors if not found.fits(path, shapes.get(path))]
    if wrong:
        what = f"{many(len(wrong), 'adapter does not', 'adapters do not')} fit the text connectors of this model: {_listed(wrong)}"
        raise CheckpointError(what, where=where, remedy="Use the base model that the LoRA was trained on.")


def _listed(paths: Iterable[str]) -> str:
    return listed(map(to_original, paths))
