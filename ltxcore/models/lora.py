"""Functions that add a run's adapters to a backbone, and fill them from a file that the run starts from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import attrs
from torch.nn import Parameter

from ltxcore.adapters import AdapterSettings, AdapterType
from ltxcore.config.groups import LoraGroup
from ltxcore.errors import ConfigError
from ltxcore.models.adapter_types import LORA, Adapter, adapter_of
from ltxcore.models.adapters import adapters, create_adapters
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.groups import settings_of
from ltxcore.models.lora_load import fill_adapters, read_fitting
from ltxcore.models.lora_save import save_lora
from ltxcore.models.targets import Auto, resolve_targets

__all__ = ["AddedLora", "add_lora", "lora_parameters", "save_lora"]


@attrs.frozen
class AddedLora:
    """The modules that were given an adapter, and the target modules that no loss of this run can reach, as sorted paths in the
    transformer.

    Attributes:
        targets: the modules that are adapted and trained.
        unreachable: the target modules that no loss reaches. They get no adapter, unless the file that the run starts from adapts them;
            such an adapter stays untrained.
    """

    targets: tuple[str, ...]
    unreachable: tuple[str, ...]


def add_lora(
    backbone: LTXBackbone,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    target_modules: Sequence[str] | Auto,
    reachable: Collection[str] | None = None,
    modalities: frozenset[str] | None = None,
    type: str = LORA,
    adapter: AdapterType | None = None,
    seed: int = 0,
    groups: Sequence[LoraGroup] = (),
    start: Path | None = None,
) -> AddedLora:
    """Freeze the base and add float32 adapters, which at first change nothing or, with a file `start`, make the change that is in this
    file.

    Args:
        backbone: the backbone, without adapters.
        rank: the rank of each adapter.
        alpha: the factor alpha / rank scales each adapter.
        dropout: the probability with which values of an adapter's input are dropped in training.
        target_modules: the targets; each names the modules whose paths end with it. "auto" means the modules that suit the modalities.
        reachable: the names of the parameters that a loss of this run reaches (`backbone.named_parameters()` without the result of
            `reach.unreached_parameters`); other modules get no adapter. None means that all are reached.
        modalities: the run's modalities, if the backbone has more than the run trains; None means the backbone's modalities.
        type: the name of the adapters' type.
        adapter: an object of this type, which holds the values of its keys; None means the defaults of all keys.
        seed: the seed of the adapters' initial weights.
        groups: the groups of targets with separate settings.
        start: a file of adapters to start from. The adapters of modules that no loss reaches stay unchanged, in the model and in saved
            files.

    Raises:
        ConfigError: a target names no module, or only modules that the run does not have; no loss reaches any target; or the backbone
            already has adapters.
        CheckpointError: the file to start from does not fit the base or the targets.
    """
    if adapters(backbone):
        raise ConfigError("the backbone has adapters already", remedy="Load the backbone again to add other adapters.")
    targets = resolve_targets(backbone, target_modules, reachable, modalities)
    kind = adapter_of(type) if adapter is None else Adapter(type, adapter)
    held = read_fitting(backbone, start, kind) if start is not None else None
    kept = [name for name in targets.unreachable if held is not None and name in held.modules]
    settings = settings_of([*targets.adapted, *kept], AdapterSettings(rank, alpha, dropout), groups)
    create_adapters(backbone, settings, kind, seed=seed)
    if held is not None:
        fill_adapters(backbone, held, str(start))
    for name in kept:
        for parameter in adapters(backbone)[name].tensors.values():
            parameter.requires_grad_(False)
    return AddedLora(targets.adapted, targets.unreachable)


def lora_parameters(backbone: LTXBackbone) -> dict[str, Parameter]:
    """Return the adapters' parameters by their names in `backbone.named_parameters()`."""
    own = {parameter for layer in adapters(backbone).values() for parameter in layer.tensors.values()}
    return {name: parameter for name, parameter in backbone.named_parameters() if parameter in own}
