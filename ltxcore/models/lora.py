"""LoRA on a backbone, as adapters that peft adds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import attrs
from torch.nn import Parameter

from ltxcore.adapters import AdapterSettings
from ltxcore.config.groups import LoraGroup
from ltxcore.errors import ConfigError
from ltxcore.models.adapters import adapter_parameters, adapters, create_adapters
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.groups import settings_of
from ltxcore.models.lora_load import fill_adapters, read_fitting
from ltxcore.models.lora_save import save_lora
from ltxcore.models.targets import Auto, resolve_targets

__all__ = ["AddedLora", "add_lora", "lora_parameters", "save_lora"]


@attrs.frozen
class AddedLora:
    """The modules that got an adapter, and those that a target names but that no loss of this run can reach, as sorted
    paths in the transformer.

    Attributes:
        targets: the modules that are adapted and trained.
        unreachable: the modules that no loss reaches. They get no adapter or, if the file that the run starts from adapts them,
            keep that file's adapter untrained.
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
    seed: int = 0,
    rslora: bool = False,
    dora: bool = False,
    groups: Sequence[LoraGroup] = (),
    start: Path | None = None,
) -> AddedLora:
    """Freeze the base and add float32 adapters, which at first change nothing, or only what the LoRA of a file changes.

    Args:
        backbone: the backbone, without adapters.
        rank: the rank of each adapter.
        alpha: scales an adapter by alpha / rank.
        dropout: the probability with which values of an adapter's input are dropped in training.
        target_modules: the targets, each of which names the modules whose path ends with it; "auto" means the modules suggested
            by the modalities.
        reachable: the names of the parameters that a loss of this run reaches (`backbone.named_parameters()` without what
            `reach.unreached_parameters` found); other modules get no adapter. None means that all are reached.
        modalities: the run's modalities, if the backbone has more than the run trains; None means those of the backbone.
        seed: the seed of the adapters' first weights.
        rslora: whether alpha is divided by the root of the rank.
        dora: whether the lengths of rows are learned separately from their directions.
        groups: the targets with settings of their own.
        start: a LoRA file to start from. Its modules that no loss reaches stay unchanged, in the model and in what is saved.

    Raises:
        ConfigError: a target names nothing, or only modules that the run does not have; no loss reaches any target; or the
            backbone has adapters already.
        CheckpointError: the file to start from does not fit the base or the targets.
    """
    if adapters(backbone):
        raise ConfigError("the backbone has adapters already", remedy="Load it again to add others.")
    targets = resolve_targets(backbone, target_modules, reachable, modalities)
    held = read_fitting(backbone, start) if start is not None else None
    kept = [name for name in targets.unreachable if held is not None and name in held.pairs]
    settings = settings_of([*targets.adapted, *kept], AdapterSettings(rank, alpha, dropout), groups)
    create_adapters(backbone, settings, seed=seed, rslora=rslora, dora=dora)
    if held is not None:
        fill_adapters(backbone, held, str(start))
    for name in kept:
        for parameter in adapter_parameters(adapters(backbone)[name]):
            parameter.requires_grad_(False)
    return AddedLora(targets.adapted, targets.unreachable)


def lora_parameters(backbone: LTXBackbone) -> dict[str, Parameter]:
    """Return the adapters' parameters by their names in `backbone.named_parameters()`."""
    own = {parameter for layer in adapters(backbone).values() for parameter in adapter_parameters(layer)}
    return {name: parameter for name, parameter in backbone.named_parameters() if parameter in own}
