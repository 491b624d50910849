"""LoRA on a backbone, as adapters that peft adds and that are saved and loaded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import attrs
from torch.nn import Parameter

from ltxcore.errors import ConfigError
from ltxcore.models.adapters import adapter_parameters, adapters, create_adapters
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.lora_load import fill_adapters, read_fitting
from ltxcore.models.lora_save import save_lora
from ltxcore.models.targets import Auto, resolve_targets

__all__ = ["AddedLora", "add_lora", "lora_parameters", "save_lora"]


@attrs.frozen
class AddedLora:
    """The modules that got an adapter, and those that a target names but no loss of this run can reach, as sorted paths
    in the transformer.

    Attributes:
        targets: the modules that are adapted and trained.
        unreachable: the modules that are not adapted; or, if the file that the run starts from has them, adapted as it has them and not
            trained.
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
    start: Path | None = None,
) -> AddedLora:
    """Freeze the base and add float32 adapters, which at first change nothing, or what a file's LoRA changes.

    Args:
        backbone: the backbone, without adapters.
        rank: width of each adapter.
        alpha: scales an adapter by alpha / rank.
        dropout: probability that an adapter's input is left out in training.
        target_modules: the targets, each of which names the modules whose path ends with it; "auto" means those that the modalities
            suggest.
        reachable: names of parameters that a loss of this run reaches (`backbone.named_parameters()` without what
            `reach.unreached_parameters` found); modules that none reaches get no adapter. None: all are reached.
        modalities: the run's modalities, where the backbone has more than it trains with; None means those of the backbone.
        seed: the seed of the adapters' first weights.
        rslora: whether alpha is divided by the root of the rank.
        dora: whether lengths of rows are learned apart from their directions.
        start: a LoRA file to start from. What is in it and no loss reaches stays in the model, and in what is saved, as it is.

    Raises:
        ConfigError: for every target that names nothing, or only what the run does not have; where no loss reaches any; where the
            backbone has adapters already.
        CheckpointError: a file to start from that does not fit the base or the targets.
    """
    if adapters(backbone):
        raise ConfigError("the backbone has adapters already", remedy="Load it again to add others.")
    targets = resolve_targets(backbone, target_modules, reachable, modalities)
    held = read_fitting(backbone, start) if start is not None else None
    kept = [name for name in targets.unreachable if held is not None and name in held.pairs]
    ranks = dict.fromkeys([*targets.adapted, *kept], rank)
    create_adapters(backbone, ranks, alpha=alpha, dropout=dropout, seed=seed, rslora=rslora, dora=dora)
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
