"""Functions that compute the changes that files of adapters make to the matrices of a base model, one module at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ltxcore.adapters import AdapterSettings
from ltxcore.config.loras import FROZEN, MERGE, MERGED, Said, Strength, said_in
from ltxcore.errors import CheckpointError, ConfigError, listed, many
from ltxcore.headers import read_file
from ltxcore.models import UNTRAINED
from ltxcore.models.adapter_types import Types
from ltxcore.models.checkpoint_files import Checkpoint, open_checkpoint
from ltxcore.models.export_check import Read, weight_with
from ltxcore.models.load_base import base_weights, describe
from ltxcore.models.lora_file import LoraFile, check_finite, read_lora
from ltxcore.models.parameter_names import to_original
from ltxcore.safetensors_files import Stored

A, B = "lora_A.weight", "lora_B.weight"
"""The endings of the two tensors that a plain LoRA has for a module, where the product of the second and the first is the change."""


@attrs.frozen(eq=False)
class Changes:
    """The changes that a file of adapters makes, multiplied by its strength.

    Attributes:
        lora: the file, with its strength.
        found: the adapters in it.
        base: a function that returns a module's matrix in the base model; None if the changes do not depend on the base.
    """

    lora: Strength
    found: LoraFile
    base: Read | None

    def pair(self, module: str) -> tuple[Tensor, Tensor] | None:
        """Return B and A of a module, whose product is its change; None if the file does not hold such a pair."""
        if not self.found.kind.adds(self.found.everywhere[module]):
            return None
        written = to_file(self.found, module)
        return (written[B] * self.lora.strength, written[A]) if written.keys() == {A, B} else None

    def matrix(self, module: str) -> Tensor:
        """Return the change of a module's matrix, `[outputs, inputs]` float32."""
        pair = self.pair(module)
        if pair is not None:
            return pair[0] @ pair[1]
        if self.base is None:
            shape = self.found.shape(module)
            base = torch.zeros(shape.outputs or 1, shape.inputs or 1)  # a file of biases alone shows no inputs
        else:
            base = self.base(module)
        return (weight_with(self.found, self.found.everywhere[module], base) - base) * self.lora.strength


def to_file(found: LoraFile, module: str) -> dict[str, Tensor]:
    """Return the tensors that ltx itself writes for a module, by the endings of their names, with alpha folded in."""
    return found.kind.to_file(found.everywhere[module], AdapterSettings(found.shape(module).rank, alpha=None, dropout=0.0))


@contextlib.contextmanager
def changes_of(lora: Strength, model: str | None = None, types: Types | None = None, *, connectors: bool = False) -> Iterator[Changes]:
    """Read a file of adapters, and yield the changes that it makes.

    Args:
        lora: the file, with its strength.
        model: the base model; None if there is none.
        types: the known classes of adapters, by name; by default, those of the installed plugins.
        connectors: whether the file may change the text connectors.

    Raises:
        ConfigError: the changes depend on the base, and there is none.
        CheckpointError: the file is not a LoRA of this model, was made for another base, changes nothing, or has values that are not finite.
    """
    where = str(lora.path)
    found = read_lora(lora.path, where, types, connectors=connectors)
    check_values(found, where)
    if model is not None:
        with base_of_lora(found, model, where) as base:
            yield Changes(lora, found, base)
        return
    if not adds(found):
        what = f'the change that adapters of the type "{found.kind.type}" make depends on the base model'
        raise ConfigError(what, where=where, remedy="Name the model that the LoRA was trained on: --model MODEL.")
    yield Changes(lora, found, None)


@contextlib.contextmanager
def base_of_lora(found: LoraFile, model: str, where: str) -> Iterator[Read]:
    """Yield a function that returns the matrix of a module in the base model, float32.

    Args:
        found: the adapters.
        model: the base model.
        where: the file of the adapters, for messages.

    Raises:
        ConfigError: the adapters depend on LoRAs under them, which were not merged into the model.
        CheckpointError: the adapters were made for another generation; or, raised by the function, the model has no such matrix.
    """
    info = describe(model)
    made_for = found.metadata.get("generation", info.generation)
    if made_for != info.generation:
        what = f"the LoRA was made for a model of generation {made_for}, but {model} is of generation {info.generation}"
        raise CheckpointError(what, where=where, remedy="Name the model that the LoRA was trained on.")
    under = said_in(found.metadata, FROZEN, where)
    if under and not adds(found) and _merged_in(model) != under:
        what = f'adapters of the type "{found.kind.type}" that were trained on top of other LoRAs depend on the model with these LoRAs'
        raise ConfigError(what, where=where, remedy=f"Merge them first, in the order of model.loras, with {MERGE}, and name that model.")
    with base_weights(model) as weights:
        yield lambda name: _fitting(found, name, weights, model, where)


def adds(found: LoraFile) -> bool:
    """Return whether the adapters in a file make the same change to every base."""
    return all(map(found.kind.adds, found.everywhere.values()))


def _merged_in(model: str) -> list[Said]:
    return [] if model == UNTRAINED else merged_into(open_checkpoint(model))


def merged_into(checkpoint: Checkpoint) -> list[Said]:
    """Return the LoRAs that were merged into a model, as the metadata of its file, or of the first file of its folder, describe them."""
    header = read_file(checkpoint.header.files[0]) if checkpoint.is_folder else checkpoint.header
    return said_in(header.metadata, MERGED, checkpoint.where)


def _fitting(found: LoraFile, name: str, weights: Read, model: str, where: str) -> Tensor:
    try:
        weight = weights(f"{name}.weight")
    except KeyError:
        weight = torch.empty(0, 0)
    check_fit(found, name, tuple(weight.shape), model, where)
    return weight


def check_fit(found: LoraFile, name: str, shape: tuple[int, ...], model: str, where: str) -> None:
    """Refuse a file whose adapter of a module does not fit the module's matrix in a model.

    Raises:
        CheckpointError: the adapter does not fit a matrix of this shape.
    """
    if not found.fits(name, shape):
        own = found.shape(name)
        what = f"{to_original(name)} does not fit {model}: its shape is {[own.outputs, own.inputs]} in the LoRA, but {list(shape)} in the model"
        raise CheckpointError(what, where=where, remedy="Name the model that the LoRA was trained on.")


# ---------------------------------------------------------------- checks


def check_target(target: Path, sources: Mapping[Path, str], overwrite: bool) -> None:
    """Refuse a file that cannot be written.

    Args:
        target: the file to write.
        sources: the files that are read, each with what it is, such as "the file to export".
        overwrite: whether to replace an existing file.

    Raises:
        ConfigError: the target is a folder or one of the sources, or exists already.
    """
    if target.is_dir():
        raise ConfigError("this is a folder", where=str(target), remedy="Name the file to write.")
    own = next((what for path, what in sources.items() if target.exists() and path.exists() and target.samefile(path)), None)
    if own is not None or (target.exists() and not overwrite):
        what = f"this is {own}" if own else "this file already exists"
        raise ConfigError(
            what, where=str(target), remedy="Name another file to write." if overwrite else "Name another file, or use --overwrite."
        )


def check_values(found: LoraFile, where: str) -> None:
    """Refuse adapters with values that are not finite, and a file in which no adapter changes anything.

    Raises:
        CheckpointError: the file has such adapters.
    """
    check_finite(found, where)
    if not any(found.kind.changes(own) for own in found.everywhere.values()):
        raise CheckpointError("no adapter in this file changes anything", where=where)


def check_range(stored: Mapping[str, Stored], where: str) -> None:
    """Refuse values that are too large for the dtype in which they would be written."""
    large = [name for name, each in stored.items() if not bool(each.values().to(each.dtype).isfinite().all())]
    if large:
        what = (
            f"{many(len(large), 'tensor has', 'tensors have')} values that are too large for the dtype of the written file: {listed(large)}"
        )
        raise CheckpointError(what, where=where, remedy="Choose --dtype bfloat16 or float32.")
