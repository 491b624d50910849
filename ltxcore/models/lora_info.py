"""Functions that measure how much a file of adapters changes, for each kind of module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import torch

from ltxcore.config.loras import Strength
from ltxcore.devices import own_device
from ltxcore.models.adapter_types import Types
from ltxcore.models.lora_change import Changes, changes_of
from ltxcore.models.lora_file import biases_in
from ltxcore.models.lora_rank import Thin, spectrum_of_matrix, spectrum_of_pair, thinned
from ltxcore.models.parameter_names import to_original, within_block
from ltxcore.progress import counted

MOST = 0.1
"""The share of a change that the effective rank leaves out."""


@attrs.frozen
class Measured:
    """The change that a file of adapters makes to all modules of one kind, such as `attn1.to_k`, or to their biases.

    Attributes:
        modules: the number of modules, one in each block.
        rank: the largest rank.
        effective: the mean rank that each module would need to keep all but a tenth of its change.
        size: the size of the change: the root of the sum of its squared numbers.
        share: the size as a share of the size of the base's matrices; None for biases, and without a base.
    """

    modules: int
    rank: int
    effective: float
    size: float
    share: float | None = None


@attrs.define
class _Sums:
    ranks: list[int] = attrs.field(factory=list)
    effective: list[int] = attrs.field(factory=list)
    change: float = 0.0
    base: float = 0.0


def _in_use(changes: Changes, module: str, rank: int) -> Thin:
    """Return the product of the smallest rank that keeps all but a tenth of a module's change. The rank that a file shows for a LoKr, a LoHa
    or a whole matrix may be far below that of its change, so it is raised until it suffices.
    """
    pair = changes.pair(module)
    if pair is not None:
        u, s, v = spectrum_of_pair(*pair)
        return thinned(u, s, v, size=float(s.norm()), rank=len(s), error=MOST)
    matrix = changes.matrix(module).to(own_device())
    size = float(matrix.double().norm())
    while True:
        u, s, v = spectrum_of_matrix(matrix, rank)
        thin = thinned(u, s, v, size=size, rank=len(s), error=MOST)
        if thin.left <= MOST * size or len(s) == min(matrix.shape):
            return thin
        rank *= 4


def measure_lora(lora: Path, model: str | None = None, types: Types | None = None) -> Mapping[str, Measured]:
    """Measure the change that a file of adapters makes, by kind of module, with the largest change first.

    Args:
        lora: the file.
        model: the base; None to leave out the shares, for types whose change does not depend on it.
        types: the known classes of adapters, by name; by default, those of the installed plugins.

    Raises:
        ConfigError: the base is needed.
        CheckpointError: the file is not a LoRA of this model, changes nothing, or has values that are not finite.
    """
    sums: dict[str, _Sums] = {}
    with changes_of(Strength(lora), model, types) as changes, torch.no_grad():
        for module in counted(changes.found.modules, "modules"):
            own = sums.setdefault(within_block(to_original(module)), _Sums())
            rank = changes.found.shape(module).rank
            thin = _in_use(changes, module, rank)
            own.ranks.append(rank)
            own.effective.append(thin.rank if thin.size else 0)
            own.change += thin.size**2
            own.base += 0.0 if changes.base is None else float(changes.base(module).double().norm()) ** 2
        for module, bias in biases_in(changes.found).items():
            own = sums.setdefault(f"{within_block(to_original(module))} (bias)", _Sums())
            own.ranks.append(1)
            own.effective.append(1)
            own.change += float(bias.double().norm()) ** 2
    found = {
        kind: Measured(
            len(own.ranks),
            max(own.ranks),
            sum(own.effective) / len(own.effective),
            own.change**0.5,
            (own.change / own.base) ** 0.5 if own.base else None,
        )
        for kind, own in sums.items()
    }
    return dict(sorted(found.items(), key=lambda each: -each[1].size))
