"""The adapters in a LoRA file, in any layout that `lora_names` knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.errors import CheckpointError, Problem, listed
from ltxcore.model_config import AGAIN, json_object
from ltxcore.models.lora_names import ALPHA, MAGNITUDE, OF_DIFFUSERS, PREFIX_OF_DIFFUSERS, SCALE_OF_OTHERS, A, B, parsed
from ltxcore.models.parameter_names import to_original
from ltxcore.safetensors_files import open_tensors, read_header

Pairs = dict[str, tuple[Tensor, Tensor]]


@attrs.frozen(eq=False)
class LoraFile:
    """The change that a LoRA file makes to a model.

    Attributes:
        pairs: A `[rank, inputs]` and B `[outputs, rank]` of every module (in diffusers' names), float32; if the file has an
            alpha, it is folded into B.
        magnitudes: the length of each row of every matrix that a DoRA adapts, `[outputs]`, float32; empty for a plain LoRA.
        metadata: the file's metadata.
    """

    pairs: Pairs
    magnitudes: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def read_lora(path: Path, where: str) -> LoraFile:
    """Read a LoRA file.

    Raises:
        CheckpointError: for all unknown names, and all modules whose tensors are incomplete or do not fit each other.
    """
    header = read_header(path)
    with open_tensors(header) as file:
        found = _whole(file.names(), lambda name: file.get_tensor(name).float(), where)
    said = _said_by_diffusers(header.metadata, where)
    magnitudes = _magnitudes(found, said, where)
    alpha = _common_alpha(said, where)
    pairs = {module: (roles[A], roles[B] * _scale(roles, alpha)) for module, roles in sorted(found.items())}
    return LoraFile(pairs, magnitudes, header.metadata)


def sketch_lora(path: Path, where: str) -> LoraFile:
    """Read only the header of a LoRA file, as names and shapes of tensors on the meta device.

    Raises:
        CheckpointError: as `read_lora`.
    """
    header = read_header(path)
    found = _whole(sorted(header.slots), lambda name: torch.empty(header.slots[name].shape, device="meta"), where)
    said = _said_by_diffusers(header.metadata, where)
    _common_alpha(said, where)
    pairs = {module: (roles[A], roles[B]) for module, roles in sorted(found.items())}
    return LoraFile(pairs, _magnitudes(found, said, where), header.metadata)


def _whole(names: Iterable[str], tensor: Callable[[str], Tensor], where: str) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of each module by their role in it."""
    found: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for name in names:
        module, role = parsed(name)
        if role:
            found.setdefault(module, {})[role] = tensor(name)
        else:
            unknown.append(name)
    problems = _problems(found, unknown, where)
    if problems:
        raise CheckpointError.of(problems)
    return found


def _magnitudes(found: Mapping[str, Mapping[str, Tensor]], said: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    magnitudes = {module: roles[MAGNITUDE].flatten() for module, roles in sorted(found.items()) if MAGNITUDE in roles}
    if said.get("use_dora") and not magnitudes:
        raise CheckpointError("it says that it is a DoRA, but has no magnitudes", where=where, remedy="Export it again.")
    return magnitudes


def read_pairs(path: Path, where: str) -> Pairs:
    """Read A and B of every module of a plain LoRA file, in the form of `LoraFile.pairs`.

    Raises:
        CheckpointError: as `read_lora`; or the file is a DoRA, which is more than pairs.
    """
    found = read_lora(path, where)
    if found.magnitudes:
        raise CheckpointError(
            "it is a DoRA: besides A and B it holds the magnitudes of the adapted rows, and the result would be different without them",
            where=where,
            remedy="Use the file as it is, with diffusers.",
        )
    return found.pairs


def _problems(found: Mapping[str, Mapping[str, Tensor]], unknown: list[str], where: str) -> list[Problem]:
    scales = [name for name in unknown if name.endswith(SCALE_OF_OTHERS)]
    others = [name for name in unknown if not name.endswith(SCALE_OF_OTHERS)]
    broken = [to_original(module) for module, roles in found.items() if not _is_pair(roles)]
    halves = [
        to_original(module) for module, roles in found.items() if any(MAGNITUDE in r for r in found.values()) and MAGNITUDE not in roles
    ]
    problems = []
    if scales:
        what = f"it is a DoRA whose magnitudes are called dora_scale, which programs interpret differently: {listed(scales)}"
        problems.append(Problem(what, where, f"Export it with {MAGNITUDE}, as diffusers does."))
    if others:
        problems.append(Problem(f"{len(others)} tensors are not part of a LoRA of this model: {listed(others)}", where))
    if broken:
        problems.append(Problem(f"A or B is missing, or they do not fit each other, for {listed(broken)}", where))
    if halves:
        problems.append(Problem(f"it is a DoRA, but magnitudes are missing for {listed(halves)}", where))
    if not found and not unknown:
        problems.append(Problem("it holds no tensors", where))
    return problems


def _is_pair(roles: Mapping[str, Tensor]) -> bool:
    a, b = roles.get(A), roles.get(B)
    if a is None or b is None or not (a.ndim == b.ndim == 2 and 0 < a.shape[0] == b.shape[1]):
        return False
    if ALPHA in roles and roles[ALPHA].numel() != 1:
        return False
    return MAGNITUDE not in roles or roles[MAGNITUDE].numel() == b.shape[0]


def _scale(roles: Mapping[str, Tensor], common: tuple[float, bool] | None) -> float:
    """Return the factor of B @ A: alpha / rank if the file has an alpha, alpha / sqrt(rank) if the file says so, 1 if it has no alpha."""
    rank = roles[A].shape[0]
    if ALPHA in roles:
        return float(roles[ALPHA]) / rank
    if common is None:
        return 1.0
    alpha, by_root = common
    return float(alpha / (rank**0.5 if by_root else rank))


def _said_by_diffusers(metadata: Mapping[str, str], where: str) -> dict[str, Any]:
    """Return the adapter settings that diffusers keeps in a file's metadata.

    Raises:
        CheckpointError: they cannot be read.
    """
    found = json_object(metadata.get(OF_DIFFUSERS, "{}"))
    if found is None:
        raise CheckpointError(f"what its metadata says under {OF_DIFFUSERS} is not a JSON object", where=where, remedy=AGAIN)
    return {key.removeprefix(PREFIX_OF_DIFFUSERS): value for key, value in found.items()}


def _common_alpha(said: Mapping[str, Any], where: str) -> tuple[float, bool] | None:
    """Return the alpha of all modules and whether it is divided by the square root of the rank; None if the metadata does not give it."""
    if said.get("alpha_pattern"):
        raise CheckpointError("the LoRA needs alpha_pattern, which is not supported", where=where, remedy="Export it as a plain LoRA.")
    alpha = said.get("lora_alpha")
    if alpha is None:
        return None
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha < 2**63:
        raise CheckpointError(f"its metadata says lora_alpha = {str(alpha)[:30]}, which is not a valid scale", where=where, remedy=AGAIN)
    return float(alpha), bool(said.get("use_rslora"))
