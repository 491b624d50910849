"""Functions that merge LoRAs: into a base model, one tensor at a time, or with each other, into one LoRA of their sum."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import attrs
import torch
from torch import Tensor

from ltxcore.config.loras import FROZEN, MERGED, Strength, lacking, lacking_under, said_in, said_of
from ltxcore.errors import CheckpointError, ConfigError, listed, many
from ltxcore.headers import Slot
from ltxcore.logs import notice
from ltxcore.models.adapter_types import Types
from ltxcore.models.base import base_of
from ltxcore.models.checkpoint_files import Checkpoint, check_tensors, open_checkpoint
from ltxcore.models.export_check import Read
from ltxcore.models.load_base import base_weights
from ltxcore.models.lora_change import Changes, changes_of, check_fit, check_target, check_values, merged_into, to_file
from ltxcore.models.lora_file import biases_in, read_lora
from ltxcore.models.lora_stack import summed
from ltxcore.models.lora_write import common, dtype_of_lora, write_lora
from ltxcore.models.parameter_names import is_of_connectors, to_diffusers, to_original
from ltxcore.models.save import CONFIG, WEIGHTS, rest_of_base, write_diffusers, write_sharded, written_files
from ltxcore.progress import bars
from ltxcore.safetensors_files import dtype_of, open_tensors

OTHER_MODEL = "Name the model that the LoRA was trained on."
APART = "Name a model whose file has the text connectors too, such as the official one, and write it in the original layout."

Layout = Literal["original", "diffusers"]

_OF_FOLDERS = (MERGED, FROZEN)
"""The metadata that the weights in a folder of diffusers have."""


@attrs.frozen
class Merged:
    """A merge that was written.

    Attributes:
        path: the file or, for a model in parts, the index.
        modules: the number of changed modules.
        largest: the largest number by which a weight of a model was changed.
        ranks: the ranks of a LoRA.
    """

    path: Path
    modules: int
    largest: float = 0.0
    ranks: tuple[int, ...] = ()


def merge_into_model(
    loras: Sequence[Strength],
    output: Path,
    model: str,
    *,
    layout: Layout = "original",
    largest: int | None = None,
    overwrite: bool = False,
    types: Types | None = None,
) -> Merged:
    """Write a model whose matrices have the changes of LoRAs added, in the dtype of each matrix. Everything else is copied bit for bit, and
    at most a few matrices are in memory at a time.

    Args:
        loras: the LoRAs with their strengths. Each change is computed from the unchanged model.
        output: the file to write or, in the layout of diffusers, the folder.
        model: the model.
        layout: "original" for everything that the model's file contains, "diffusers" for a folder of the transformer alone.
        largest: the maximum number of bytes of tensors in a file; a larger model is written in parts.
        overwrite: whether to replace an existing file.
        types: the known classes of adapters, by name; by default, those of the installed plugins.

    Raises:
        ConfigError: the output cannot be written.
        CheckpointError: the model is quantized, or a file is not a LoRA of this model or has values that are not finite.

    Source: docs/explanation/arithmetic.md#merged-weights
    """
    checkpoint = open_checkpoint(model)
    sources = {lora.path: "one of the LoRAs to merge" for lora in loras}
    sources |= dict.fromkeys([checkpoint.header.where, *checkpoint.header.files], "a file of the model")
    if layout == "original":
        check_target(output, sources, overwrite)
    elif output.is_file():
        raise ConfigError("this is a file", where=str(output), remedy="Name the folder to write.")
    _refuse_quantized(checkpoint)
    shapes = base_of(model).shapes
    with contextlib.ExitStack() as stack:
        read_loras = [stack.enter_context(changes_of(lora, model, types, connectors=True)) for lora in loras]
        changes = _added(read_loras)
        seen = _Largest(stack.enter_context(bars())("tensors", len(changes)))
        read = stack.enter_context(base_weights(model))
        file = stack.enter_context(open_tensors(checkpoint.header))
        tensors, prefix, said = rest_of_base(checkpoint, file, torch.bfloat16)
        if layout == "diffusers":
            tensors = {prefix + own: tensors[prefix + own] for own in checkpoint.stored}
        for parameter, own_changes in changes.items():
            name = prefix + to_original(parameter)
            if name not in tensors:
                raise _absent(parameter, own_changes[0][0], model)
            dtype = tensors[name].dtype
            _check_fits(read_loras, parameter, tensors[name].shape, model)
            tensors[name] = attrs.evolve(tensors[name], values=partial(_changed, parameter, own_changes, read, dtype, seen))
        told = _told(loras, checkpoint, said)
        if layout == "original":
            _check_targets(written_files(output, tensors, largest), sources, overwrite)
            path = write_sharded(output, tensors, told, largest, lambda part: check_tensors(open_checkpoint(str(part)), shapes))
        else:
            path, tensors = output, {to_diffusers(name.removeprefix(prefix)): each for name, each in tensors.items()}
            _check_targets([*written_files(output / WEIGHTS, tensors, largest), output / CONFIG], sources, overwrite)
            write_diffusers(output, checkpoint, tensors, {key: told[key] for key in _OF_FOLDERS if key in told}, largest)
    return Merged(path, sum(name.endswith(".weight") for name in changes), seen.number)


def _check_targets(paths: Sequence[Path], sources: Mapping[Path, str], overwrite: bool) -> None:
    for path in paths:
        check_target(path, sources, overwrite)


def _check_fits(loras: Sequence[Changes], parameter: str, shape: tuple[int, ...], model: str) -> None:
    """Refuse LoRAs whose change of a matrix differs from the matrix in shape; the change of a bias must have as many rows as the matrix."""
    module = parameter.removesuffix(".weight")
    for each in loras:
        if module in each.found.everywhere:
            check_fit(each.found, module, shape, model, str(each.lora.path))


def _absent(parameter: str, lora: Strength, model: str) -> CheckpointError:
    """Return the error for a LoRA that changes a parameter which the merged file would not hold."""
    name, where = to_original(parameter), str(lora.path)
    if is_of_connectors(parameter):
        what = f"the LoRA changes the text connectors, which the merged file would not hold: {name}"
        return CheckpointError(what, where=where, remedy=APART)
    return CheckpointError(f"the model {model} has no {name}", where=where, remedy=OTHER_MODEL)


def _told(loras: Sequence[Strength], checkpoint: Checkpoint, said: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata of a merged model, and report each LoRA that was trained on top of another one that is missing; `said` are the
    LoRAs that the model already contains."""
    before = merged_into(checkpoint)
    for lora, under in lacking_under(loras):
        if under not in [each for merged in before for each in merged.all()]:
            notice(f"{lora.path} was trained on top of {under}, which the model does not contain: merge it too.")
    frozen = said_in(said, FROZEN, checkpoint.where)
    return {**said, MERGED: said_of(loras, before), **({FROZEN: said_of([], lacking(frozen, loras))} if frozen else {})}


@attrs.define
class _Largest:
    """The largest number by which any weight was changed, and what to call after each parameter."""

    step: Callable[[], None]
    number: float = 0.0


def _added(changes: Sequence[Changes]) -> dict[str, list[tuple[Strength, Callable[[], Tensor]]]]:
    """Return, for each parameter (in diffusers' names), the LoRAs that change it, each with a function that computes the change."""
    found: dict[str, list[tuple[Strength, Callable[[], Tensor]]]] = {}
    for each in changes:
        for module in each.found.everywhere:
            found.setdefault(f"{module}.weight", []).append((each.lora, partial(each.matrix, module)))
        for module, bias in biases_in(each.found).items():
            found.setdefault(f"{module}.bias", []).append((each.lora, partial(torch.mul, bias, each.lora.strength)))
    return found


def _changed(
    parameter: str, changes: Sequence[tuple[Strength, Callable[[], Tensor]]], read: Read, dtype: torch.dtype, seen: _Largest
) -> Tensor:
    """Return a parameter with all changes added, in the dtype of the file."""
    base = read(parameter)
    merged = base + sum(change() for _, change in changes)
    written = merged.to(dtype)
    if not bool(written.isfinite().all()):
        raise CheckpointError(f"the merged {to_original(parameter)} has values that are not finite", remedy="Lower the strengths.")
    seen.number = max(seen.number, float((written.float() - base).abs().max()))
    seen.step()
    return written


def quantized_in(checkpoint: Checkpoint) -> list[Slot]:
    """Return the places of the transformer's quantized weights."""
    slots = [checkpoint.header.slots[name] for name in checkpoint.stored.values()]
    return [slot for slot in slots if slot.is_gguf or slot.scale is not None or dtype_of(slot).itemsize == 1]


def _refuse_quantized(checkpoint: Checkpoint) -> None:
    """Refuse a model with quantized weights, whose steps are larger than most changes.

    Raises:
        CheckpointError: the model has such weights.
    """
    packed = quantized_in(checkpoint)
    if packed:
        kinds = listed(sorted({slot.dtype for slot in packed}))
        what = (
            f"this model is quantized: {many(len(packed), 'tensor is', 'tensors are')} stored as {kinds}, which would round a change away"
        )
        raise CheckpointError(what, where=checkpoint.where, remedy="Name the bf16 model, and quantize the result.")


def merge_loras(
    loras: Sequence[Strength], output: Path, *, dtype: torch.dtype | None = None, overwrite: bool = False, types: Types | None = None
) -> Merged:
    """Write one LoRA that changes a model as several LoRAs together do. The result is exact, and its ranks are the sums of theirs.

    Args:
        loras: the LoRAs with their strengths.
        output: the file to write.
        dtype: the dtype of the file; None for that of the first LoRA.
        overwrite: whether to replace an existing file.
        types: the known classes of adapters, by name; by default, those of the installed plugins.

    Raises:
        ConfigError: the output cannot be written.
        CheckpointError: a LoRA cannot be added to the others, or has values that are not finite.
    """
    check_target(output, {lora.path: "one of the LoRAs to merge" for lora in loras}, overwrite)
    found = [read_lora(lora.path, str(lora.path), types, connectors=True) for lora in loras]
    for lora, each in zip(loras, found, strict=True):
        check_values(each, str(lora.path))
    together = summed(loras, found)
    modules = {name: to_file(together, name) for name in together.everywhere}
    under = list(dict.fromkeys(each for _, each in lacking_under(loras)))
    said = {**common([each.metadata for each in found]), MERGED: said_of(loras), FROZEN: said_of([], under)}
    if not under:
        del said[FROZEN]
    ranks = write_lora(output, modules, said, dtype or dtype_of_lora(loras[0].path), kind=together.kind, types=types)
    return Merged(output, len(modules), ranks=ranks)
