"""LoRA on a backbone: adapters added by peft, switched off and on, saved and loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence

import attrs
from torch.nn import Parameter

from ltxcore.errors import ConfigError
from ltxcore.models.adapters import adapters, create_adapters
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.lora_file import load_lora, save_lora
from ltxcore.models.targets import resolve_targets

__all__ = ["AddedLora", "add_lora", "load_lora", "lora_parameters", "save_lora", "set_lora_enabled"]


@attrs.frozen
class AddedLora:
    """Modules that got an adapter, and those that a target names but no loss of this run can reach; paths in the transformer, sorted."""

    targets: tuple[str, ...]
    unreachable: tuple[str, ...]


def add_lora(
    backbone: LTXBackbone,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    target_modules: Sequence[str],
    reachable: Collection[str] | None = None,
    seed: int = 0,
) -> AddedLora:
    """Freeze the base and add float32 adapters, which at first change nothing.

    Args:
        backbone: without adapters.
        rank: width of each adapter.
        alpha: an adapter counts alpha / rank times.
        dropout: probability that an adapter's input is left out in training.
        target_modules: which modules; each names those whose path ends with it.
        reachable: names of parameters that a loss of this run reaches (`backbone.named_parameters()` without what
            `reach.unreached_parameters` found); modules that none reaches get no adapter. None: all are reached.
        seed: of the adapters' first weights.

    Raises:
        ConfigError: for every target that names nothing, or only what the run does not have; where no loss reaches any; where the
            backbone has adapters already.
    """
    if adapters(backbone):
        raise ConfigError("the backbone has adapters already", remedy="Load it again to add others.")
    targets = resolve_targets(backbone, target_modules, reachable)
    create_adapters(backbone, dict.fromkeys(targets.adapted, rank), alpha=alpha, dropout=dropout, seed=seed)
    return AddedLora(targets.adapted, targets.unreachable)


def lora_parameters(backbone: LTXBackbone) -> dict[str, Parameter]:
    """The adapters' parameters by their names in `backbone.named_parameters()`."""
    return {name: parameter for name, parameter in backbone.named_parameters() if ".lora_A." in name or ".lora_B." in name}


@contextlib.contextmanager
def set_lora_enabled(backbone: LTXBackbone, enabled: bool) -> Iterator[None]:
    """Within it the adapters count (`True`) or the base speaks alone (`False`); afterwards they are as they were."""
    layers = adapters(backbone).values()
    before = [not layer.disable_adapters for layer in layers]
    trained = {name: parameter.requires_grad for name, parameter in lora_parameters(backbone).items()}

    def restore_training() -> None:
        # peft freezes the adapters that it switches off.
        for name, parameter in lora_parameters(backbone).items():
            parameter.requires_grad_(trained[name])

    for layer in layers:
        layer.enable_adapters(enabled)
    restore_training()
    try:
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.enable_adapters(was)
        restore_training()
