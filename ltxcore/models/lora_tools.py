"""Functions that compute LoRAs by singular values, one module at a time: the difference of two models, or a LoRA of a lower rank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ltxcore.config.loras import Strength
from ltxcore.devices import own_device
from ltxcore.errors import CheckpointError
from ltxcore.logs import notice
from ltxcore.models.adapter_types import Types
from ltxcore.models.base import base_of
from ltxcore.models.checkpoint_files import open_checkpoint
from ltxcore.models.load_base import base_weights, describe
from ltxcore.models.lora_change import Changes, changes_of, check_target
from ltxcore.models.lora_file import refuse_biases
from ltxcore.models.lora_merge import quantized_in
from ltxcore.models.lora_rank import Thin, spectrum_of_matrix, spectrum_of_pair, thinned
from ltxcore.models.lora_write import dtype_of_lora, pair_of, write_lora
from ltxcore.models.parameter_names import to_original
from ltxcore.progress import counted
from ltxcore.protocols import MODALITIES


@attrs.frozen
class Approximated:
    """A LoRA that was written in place of a larger change.

    Attributes:
        path: the file.
        ranks: the number of modules of each rank.
        error: the size of everything that the LoRA lacks, as a share of the size of the whole change.
        worst: the module with the largest such share, and this share.
        unchanged: the number of modules that are left out, since nothing changes them.
        others: the parameters of a model that differ but are not matrices of modules, so that no LoRA can hold their difference.
    """

    path: Path
    ranks: Mapping[int, int]
    error: float
    worst: tuple[str, float]
    unchanged: int = 0
    others: tuple[str, ...] = ()


def extract_lora(
    tuned: str,
    model: str,
    output: Path,
    *,
    rank: int,
    error: float | None = None,
    dtype: torch.dtype = torch.bfloat16,
    overwrite: bool = False,
) -> Approximated:
    """Write the difference between a fine-tuned model and its base as a LoRA.

    Args:
        tuned: the fine-tuned model.
        model: its base.
        output: the file to write.
        rank: the largest rank.
        error: the share of a module's difference that may be lacking; its rank is lowered as far as this allows. None for the same rank
            everywhere.
        dtype: the dtype of the file.
        overwrite: whether to replace an existing file.

    Raises:
        ConfigError: the output cannot be written.
        CheckpointError: the models are of different shapes, or do not differ.

    Source: docs/explanation/arithmetic.md#change-of-a-lower-rank
    """
    checkpoints = [open_checkpoint(each) for each in (tuned, model)]
    check_target(output, {path: "a file of the models" for each in checkpoints for path in each.header.files}, overwrite)
    for each in checkpoints:
        if quantized_in(each):
            notice(f"{each.where} is quantized, so its rounding errors become a part of the LoRA: use the bf16 model if you can.")
    base = base_of(model)
    blueprint = base.described(frozenset(MODALITIES)).blueprint
    if base_of(tuned).shapes != blueprint.shapes:
        raise CheckpointError(
            f"the shapes of this model differ from those of {model}", where=tuned, remedy="Name the model that it was made from."
        )
    device = torch.device(own_device())
    found: dict[str, Thin] = {}
    others, unchanged = [], 0
    with base_weights(tuned) as ours, base_weights(model) as theirs, torch.no_grad():
        for name in counted(sorted(blueprint.shapes), "tensors"):
            change = ours(name) - theirs(name)
            module = name.removesuffix(".weight")
            if not bool(change.any()):
                unchanged += module in blueprint.linears and name != module
            elif module in blueprint.linears and name != module:
                found[module] = _of_matrix(change.to(device), rank, error)
            else:
                others.append(to_original(name))
    if not found:
        raise CheckpointError(f"no matrix differs from that of {model}", where=tuned, remedy="Name the fine-tuned model first.")
    info = describe(model)
    said = {
        "base_model": info.name,
        "base_fingerprint": info.fingerprint,
        "generation": info.generation,
        "extracted_from": describe(tuned).name,
    }
    return attrs.evolve(_written(output, found, said, dtype), unchanged=unchanged, others=tuple(others))


def resize_lora(
    lora: Path,
    output: Path,
    *,
    rank: int,
    error: float | None = None,
    model: str | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    types: Types | None = None,
) -> Approximated:
    """Write the LoRA of a lower rank that is closest to a file of adapters, which may be of any type.

    Args:
        lora: the file.
        output: the file to write.
        rank: the largest rank.
        error: the share of a module's change that may be lacking; its rank is lowered as far as this allows. None for the same rank
            everywhere.
        model: the base, for types whose change depends on it.
        dtype: the dtype of the file; None for that of `lora`.
        overwrite: whether to replace an existing file.
        types: the known classes of adapters, by name; by default, those of the installed plugins.

    Raises:
        ConfigError: the output cannot be written, or the base is needed.
        CheckpointError: the file is not a LoRA of this model, changes nothing, or has values that are not finite.

    Source: docs/explanation/arithmetic.md#change-of-a-lower-rank
    """
    check_target(output, {lora: "the LoRA to resize"}, overwrite)
    with changes_of(Strength(lora), model, types) as changes, torch.no_grad():
        refuse_biases(changes.found, str(lora))
        thin = {module: approximated(changes, module, rank, error) for module in counted(changes.found.modules, "modules")}
        found = {module: each for module, each in thin.items() if each.size}
        done = _written(output, found, changes.found.metadata, dtype or dtype_of_lora(lora), types)
    return attrs.evolve(done, unchanged=len(thin) - len(found))


def approximated(changes: Changes, module: str, rank: int, error: float | None) -> Thin:
    """Return the product of thin matrices that is closest to a module's change."""
    pair = changes.pair(module)
    if pair is None:
        return _of_matrix(changes.matrix(module).to(own_device()), rank, error)
    u, s, v = spectrum_of_pair(*pair)
    return thinned(u, s, v, size=float(s.norm()), rank=rank, error=error)


def _of_matrix(change: Tensor, rank: int, error: float | None) -> Thin:
    u, s, v = spectrum_of_matrix(change, rank)
    return thinned(u, s, v, size=float(change.double().norm()), rank=rank, error=error)


def _written(
    output: Path, found: Mapping[str, Thin], metadata: Mapping[str, str], dtype: torch.dtype, types: Types | None = None
) -> Approximated:
    write_lora(output, {module: pair_of(each.b.cpu(), each.a.cpu()) for module, each in found.items()}, metadata, dtype, types=types)
    whole, left = (sum(getattr(each, field) ** 2 for each in found.values()) ** 0.5 for field in ("size", "left"))
    worst = max(found, key=lambda module: found[module].left / found[module].size)
    ranks = Counter(each.rank for each in found.values())
    return Approximated(output, dict(sorted(ranks.items())), left / whole, (to_original(worst), found[worst].left / found[worst].size))
