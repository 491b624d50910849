"""Functions that export a file of adapters for another program. The file may have any known layout. The program's exporter decides what is
written; the file's metadata are kept, except those that only diffusers reads.

An exporter is a plugin. What it writes is not taken on trust: the file is read back, and the matrices that the program will multiply by,
which the exporter computes from the file, are compared with the trained ones.

Source: docs/explanation/model-files.md#layouts-that-are-written
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ltxcore.config.loras import FROZEN, MERGED, Strength, frozen_in, said_of
from ltxcore.config.tables import plain
from ltxcore.errors import CheckpointError, ConfigError, listed
from ltxcore.exporters import AdaptedModule, Exporter, needs_base
from ltxcore.files import digest, replacing
from ltxcore.models.adapter_types import Types, adapter_types
from ltxcore.models.export_check import Differences, Read, asked, check_every_weight, check_weights, fault_of
from ltxcore.models.lora_change import adds, base_of_lora, check_range, check_target, check_values, to_file
from ltxcore.models.lora_file import LoraFile, read_lora
from ltxcore.models.lora_names import OF_DIFFUSERS
from ltxcore.models.lora_stack import summed
from ltxcore.models.lora_write import dtype_of_lora
from ltxcore.models.parameter_names import to_original, within_block
from ltxcore.quantizers import QuantizerType
from ltxcore.registry import Registry, load
from ltxcore.safetensors_files import Stored, open_tensors, read_header, write_tensors

UNSEEN = 8
"""The side that a matrix is given where neither the base nor the file shows how long it is."""


@attrs.frozen
class Exported:
    """A record of an exported file, with its path, number of modules, ranks, dtype and metadata.

    Attributes:
        differences: the largest differences from the trained weights; None if the exported tensors do not depend on the base.
        adds: whether the adapters make the same change to every base.
    """

    path: Path
    modules: int
    ranks: tuple[int, ...]
    dtype: str
    metadata: Mapping[str, str]
    differences: Differences | None = None
    adds: bool = True


def export_lora(
    source: Path,
    target: Path,
    program: Exporter,
    *,
    model: str | None = None,
    quantizer: QuantizerType | None = None,
    frozen: Sequence[Path] = (),
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    registry: Registry | None = None,
) -> Exported:
    """Write `source` in the layout of another program, completely and verified, or not at all.

    Args:
        source: a file of adapters in any layout that ltx reads.
        target: the file to write.
        program: the exporter of the program.
        model: the base model, for exporters that need it.
        quantizer: the quantizer of the base in the training, to measure the difference that it makes.
        frozen: the LoRAs that `source` was trained on top of, all of them, to write one LoRA of the sum; empty to write `source` alone.
        dtype: the dtype of the tensors; None keeps that of `source`.
        overwrite: whether to replace an existing file.
        registry: the plugins whose types of adapters are known; by default, the installed ones.

    Raises:
        ConfigError: the program cannot load adapters of this type, or the base model is needed but not given; the source is a folder; or the
            target exists already, or is the source.
        CheckpointError: the source is not a LoRA of this model, is not of this base, changes nothing, is not finite or has values that are too
            large for the dtype.
        PluginError: what the exporter wrote does not give what was trained.
    """
    if source.is_dir():  # its weights would be read, but not their metadata
        raise ConfigError("this is a folder", where=str(source), remedy=f"Name the LoRA in it, such as {source / 'lora.safetensors'}.")
    check_target(target, {source: "the file to export"}, overwrite)
    registry = registry or load()
    found = _with_frozen(source, frozen, adapter_types(registry))
    if found.kind.type not in program.exporter.adapters:
        raise _refusal(program, found, registry, str(source))
    check_values(found, str(source))
    own = dtype or dtype_of_lora(source)
    said = {key: value for key, value in found.metadata.items() if key != OF_DIFFUSERS}
    with _bases(found, program, model, str(source)) as base, torch.no_grad():
        try:
            tensors, owners = _tensors(found, program, base)
        except CheckpointError as error:
            raise error.at(str(source)) from error
        stored = {name: _stored(name, tensor, own, program) for name, tensor in tensors.items()}
        check_range(stored, str(source))
        with replacing(target) as part:
            write_tensors(part, stored, {"format": "pt", **said})
            _check_same(part, stored, str(target))
            check_weights(found, program, tensors, owners, base)
            apart = check_every_weight(found, program, tensors, base, quantizer) if needs_base(program.exporter, found.kind.type) else None
    ranks = tuple(sorted({found.shape(name).rank for name in found.modules}))
    return Exported(target, len(found.modules), ranks, str(own).removeprefix("torch."), said, apart, adds(found))


# ---------------------------------------------------------------- writing


def _tensors(found: LoraFile, program: Exporter, base: Read) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors that the exporter writes, and the path of the module to which each tensor belongs, both by the names in the file."""
    tensors: dict[str, Tensor] = {}
    owners: dict[str, str] = {}
    wanted = needs_base(program.exporter, found.kind.type)
    params = plain(found.kind.adapter)
    for name in found.modules:
        path = to_original(name)
        ours = {ending: tensor.clone() for ending, tensor in to_file(found, name).items()}
        given = AdaptedModule(path, found.kind.type, ours, params, base(name) if wanted else None)
        with asked(program, path):
            written = dict(program.exporter.tensors(given))
        if not written:
            raise fault_of(program, f"writes no tensor for {path}")
        for twice in sorted(written.keys() & tensors.keys()):
            raise fault_of(program, f"writes the name {twice} for two modules")
        for other in sorted(key for key, tensor in written.items() if not isinstance(tensor, Tensor) or not tensor.is_floating_point()):
            raise fault_of(program, f"writes {other}, which is not a tensor of real numbers")
        tensors |= written
        owners |= dict.fromkeys(written, path)
    return tensors, owners


def _stored(name: str, tensor: Tensor, dtype: torch.dtype, program: Exporter) -> Stored:
    exact: frozenset[str] = getattr(program.exporter, "in_float32", frozenset())
    own = torch.float32 if any(name.endswith(f".{ending}") for ending in exact) else dtype
    return Stored(own, tuple(tensor.shape), lambda: tensor)


def _with_frozen(source: Path, frozen: Sequence[Path], types: Types) -> LoraFile:
    """Read the adapters to export: those of a file, or the sum of these and of the frozen LoRAs that they were trained on top of.

    Raises:
        ConfigError: the frozen LoRAs are not those of the training.
        CheckpointError: a file cannot be read, or cannot be added to the others.
    """
    found = read_lora(source, str(source), types)
    if not frozen:
        return found
    said = frozen_in(Strength(source))
    if not said:
        raise ConfigError("this LoRA was not trained on top of others", where=str(source), remedy="Leave out --with-frozen.")
    files = {digest(path): path for path in frozen}
    lacking = [str(each) for each in said if each.sha256 not in files]
    strange = [str(path) for key, path in files.items() if key not in {each.sha256 for each in said}]
    if lacking or strange:
        wrong = [("not given", lacking), ("given, but not one of them", strange)]
        what = "; ".join(
            [f"was trained on top of {listed(map(str, said))}", *(f"{words}: {listed(names)}" for words, names in wrong if names)]
        )
        raise ConfigError(what, where=str(source), remedy="Give exactly these files, each with --with-frozen.")
    under = [Strength(files[each.sha256], each.strength) for each in said]
    loras = [*under, Strength(source)]
    together = summed(loras, [*(read_lora(lora.path, str(lora.path), types) for lora in under), found])
    rank = str(max(together.shape(name).rank for name in together.modules))
    kept = {key: value for key, value in found.metadata.items() if key not in (FROZEN, "use_rslora")}
    modules = json.dumps(sorted({within_block(to_original(name)) for name in together.modules}))
    return attrs.evolve(together, metadata={**kept, "rank": rank, "alpha": rank, "target_modules": modules, MERGED: said_of(loras)})


# ---------------------------------------------------------------- the base


@contextlib.contextmanager
def _bases(found: LoraFile, program: Exporter, model: str | None, where: str) -> Iterator[Read]:
    """Yield a function that returns a module's matrix in the base or, if the exporter needs no base, some matrix of the same shape."""
    if not needs_base(program.exporter, found.kind.type):
        yield lambda name: _stand_in(found, name)
        return
    if model is None:
        what = f'the exporter "{program.name}" needs the base model for adapters of the type "{found.kind.type}"'
        raise ConfigError(what, where=where, remedy="Name the model that the LoRA was trained on: --model MODEL.")
    with base_of_lora(found, model, where) as weights:
        yield weights


def _stand_in(found: LoraFile, name: str) -> Tensor:
    """Return a matrix to use where the values of the base do not matter."""
    shape = found.shape(name)
    draws = torch.Generator().manual_seed(0)
    rows, columns = (torch.rand(side or UNSEEN, generator=draws) + 0.5 for side in (shape.outputs, shape.inputs))
    return torch.outer(rows, columns * columns.numel() ** -0.5)


# ---------------------------------------------------------------- checks


def _refusal(program: Exporter, found: LoraFile, registry: Registry, where: str) -> ConfigError:
    others = [name for name, named in registry.of_kind("exporter").items() if found.kind.type in named.value.adapters]
    remedy = getattr(found.kind.adapter, "use_file", "Use the file as it is, with ltx.")
    if others:
        remedy = f"Export it for another program: {' or '.join(f'--for {name}' for name in others)}."
    return ConfigError(f'"{program.name}" cannot load adapters of the type "{found.kind.type}"', where=where, remedy=remedy)


def _check_same(path: Path, stored: Mapping[str, Stored], where: str) -> None:
    """Read the written file back, and compare it with what should be in it."""
    header = read_header(path)
    with open_tensors(header) as file:
        same = header.slots.keys() == stored.keys() and all(
            torch.equal(file.get_tensor(name), each.values().to(each.dtype)) for name, each in stored.items()
        )
    if not same:
        raise CheckpointError(
            "the written file differs when it is read back", where=where, remedy="Check the disk, and export the LoRA again."
        )
