"""Functions that load several LoRAs with different strengths into a backbone. Their matrices are stacked, which is exact for any dtype of
the base's weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import torch

from ltxcore.config.loras import Strength, frozen_in
from ltxcore.config.tables import plain
from ltxcore.errors import CheckpointError, listed
from ltxcore.files import digest
from ltxcore.models.adapter_types import Types
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.blueprint import Described
from ltxcore.models.connector_loras import adapt_connectors
from ltxcore.models.frozen_loras import add_changes, freeze_loras
from ltxcore.models.lora_file import LoraFile, Tensors, check_finite, read_lora, refuse_biases, sketch_lora
from ltxcore.models.lora_load import check_generation, check_modules, fill_adapters
from ltxcore.models.parameter_names import is_needed, stream_of, to_original


def load_loras(backbone: LTXBackbone, loras: Sequence[Strength], types: Types | None = None) -> None:
    """Load LoRA files, in any layout that `read_lora` reads, into a backbone without adapters.

    Modules of streams that the backbone does not hold are skipped, since they would not affect its predictions. If a LoRA was trained on top
    of others that are given too, with the strengths of the training, they are put under it as in the training.

    Args:
        backbone: the backbone, without adapters.
        loras: the files; their changes are added up. A file whose changes cannot be added, such as a DoRA, must be the only one, with
            strength 1.
        types: the known classes of adapters, by name; by default, those of the installed plugins.

    Raises:
        CheckpointError: a file is not a LoRA of this model, has nothing left to load, has values that are not finite, or cannot be added to
            the others.

    Source: docs/explanation/arithmetic.md#several-loras
    """
    if not loras:
        return
    under = _under(loras)
    if under:
        put_under(backbone, under, types)
    above = [lora for lora in loras if lora not in under]
    found = found_for(backbone, above, types)
    fill_adapters(backbone, found, _files(above))
    adapt_connectors(backbone, found, _files(above))


def put_under(backbone: LTXBackbone, loras: Sequence[Strength], types: Types | None = None) -> None:
    """Put LoRAs into a backbone without adapters, and freeze them, so that other adapters can be put on top.

    Raises:
        CheckpointError: as in `load_loras`.
    """
    found = found_under(backbone, loras, types)
    freeze_loras(backbone, found, _files(loras))
    adapt_connectors(backbone, found, _files(loras))


def put_beside(
    backbone: LTXBackbone, loras: Sequence[Strength], device: torch.device, types: Types | None = None, *, connectors: bool = True
) -> None:
    """Add the changes of LoRAs to a backbone whose weights are trained, or divided among processes.

    Args:
        backbone: the backbone, without adapters.
        loras: the files; all must be plain LoRAs.
        device: the device where the backbone computes.
        types: the known classes of adapters, by name; by default, those of the installed plugins.
        connectors: whether the backbone has its text connectors, which the LoRAs may change too.

    Raises:
        CheckpointError: as in `load_loras`, or the adapters are not plain LoRAs.
    """
    found = found_under(backbone, loras, types)
    add_changes(backbone, found, _files(loras), device)
    if connectors:
        adapt_connectors(backbone, found, _files(loras))


def found_under(backbone: Described, loras: Sequence[Strength], types: Types | None = None, *, sketch: bool = False) -> LoraFile:
    """Read the sum of LoRA files as `found_for` does, for LoRAs that others are put on top of.

    Raises:
        CheckpointError: as in `load_loras`, or a file changes biases.
    """
    found = found_for(backbone, loras, types, sketch=sketch)
    refuse_biases(found, _files(loras))
    return found


def found_for(backbone: Described, loras: Sequence[Strength], types: Types | None = None, *, sketch: bool = False) -> LoraFile:
    """Read the sum of LoRA files, as far as this backbone has its modules.

    Args:
        backbone: the backbone, or its description.
        loras: the files with their strengths.
        types: the known classes of adapters, by name; by default, those of the installed plugins.
        sketch: whether to read only headers. The tensors then have shapes but no values.

    Raises:
        CheckpointError: as in `load_loras`.
    """
    return summed(loras, [_needed(backbone, lora.path, types, sketch) for lora in loras])


def _under(loras: Sequence[Strength]) -> list[Strength]:
    """Return the LoRAs that others were trained on top of, with the same strength."""
    said = {(each.sha256, each.strength) for lora in loras for each in frozen_in(lora)}
    return [lora for lora in loras if said and (digest(lora.path), lora.strength) in said]


def _files(loras: Sequence[Strength]) -> str:
    return " + ".join(str(lora.path) for lora in loras)


def summed(loras: Sequence[Strength], found: Sequence[LoraFile]) -> LoraFile:
    """Return the sum of the adapters in files, each multiplied by its strength, without metadata. A single file of strength 1 is returned
    as it is.

    Args:
        loras: the files, with their strengths.
        found: the contents of the files.

    Raises:
        CheckpointError: a file cannot be added to the others, or cannot have a strength.

    Source: docs/explanation/arithmetic.md#several-loras
    """
    if len(loras) == 1 and loras[0].strength == 1:
        return found[0]
    kind = found[0].kind
    changes: dict[str, list[tuple[Tensors, float]]] = {}
    firsts: dict[str, tuple[Strength, LoraFile]] = {}
    apart = {name for file in found for name in file.connectors}
    for lora, file in zip(loras, found, strict=True):
        joins, is_same = hasattr(file.kind.adapter, "join"), file.kind.type == kind.type
        if not joins or not is_same or plain(file.kind.adapter) != plain(kind.adapter):
            what = f'the adapters are of the type "{file.kind.type}", which cannot have a strength or be combined with other LoRAs'
            if joins and not is_same:
                what = f'the adapters are of the type "{file.kind.type}", which cannot be combined with the type "{kind.type}"'
            elif joins:
                what = (
                    f'the keys of the type "{kind.type}" have other values here than in {loras[0].path}, so the adapters cannot be combined'
                )
            raise CheckpointError(what, where=str(lora.path), remedy="Use this LoRA alone and without a strength.")
        for name, tensors in file.everywhere.items():
            _check_sides(name, lora, file, *firsts.setdefault(name, (lora, file)))
            changes.setdefault(name, []).append((tensors, lora.strength))
    joined = {name: kind.adapter.join(each) for name, each in changes.items()}  # type: ignore[attr-defined]
    return LoraFile(kind, {name: joined[name] for name in joined if name not in apart}, {}, {name: joined[name] for name in apart})


def _check_sides(name: str, lora: Strength, file: LoraFile, first: Strength, other: LoraFile) -> None:
    """Refuse a file whose adapter of a module is for a matrix of another shape than in the first file that adapts this module."""
    sides = [(shape.outputs, shape.inputs) for shape in (file.shape(name), other.shape(name))]
    if any(None not in pair and pair[0] != pair[1] for pair in zip(*sides, strict=True)):
        what = f"the adapter of {to_original(name)} is {list(sides[0])} here, but {list(sides[1])} in {first.path}"
        raise CheckpointError(what, where=str(lora.path), remedy="Use LoRAs of the same base model together.")


def _needed(backbone: Described, path: Path, types: Types | None, sketch: bool) -> LoraFile:
    """Read from a LoRA file the modules that this backbone has."""
    check_generation(backbone, path)
    file, known = (sketch_lora if sketch else read_lora)(path, str(path), types, connectors=True), backbone.blueprint.linears
    if not sketch:
        check_finite(file, str(path))
    kept = {name: own for name, own in file.modules.items() if name not in known or is_needed(name, backbone.modalities)}
    apart = {name: own for name, own in file.connectors.items() if is_needed(name, backbone.modalities)}
    if not kept and not apart:
        streams = " and ".join(sorted({stream_of(name) for name in file.everywhere} - {"cross"})) or "the attention between video and audio"
        raise CheckpointError(
            f"the LoRA has no effect: its modules belong to {streams}, but {listed(sorted(backbone.modalities))} is generated",
            where=str(path),
            remedy="Generate the modality that the LoRA was trained for.",
        )
    check_modules(backbone, file, kept, str(path))
    return attrs.evolve(file, modules=kept, connectors=apart)
